//! Compares the hands that a backend detects with those of the CPU in the same images.

use serde::{Deserialize, Serialize};

/// Landmarks per hand.
const LANDMARKS: usize = 21;

/// A hand that a backend detected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectedHand {
    /// Whether it is the signer's left hand.
    pub is_left: bool,
    /// `[21]` landmarks: x, y, z in fractions of the image size.
    pub points: Vec<[f32; 3]>,
}

/// Difference between two backends over a set of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Number of images.
    #[serde(rename = "pictures")]
    pub images: usize,
    /// Images in which the number of hands differs.
    pub counts_differ: usize,
    /// Hands whose handedness differs.
    pub sides_differ: usize,
    /// Landmarks that were compared.
    pub landmarks: usize,
    /// Median absolute difference of a coordinate, fractions of the image size.
    pub median: f32,
    /// 99th percentile of the differences.
    pub p99: f32,
    /// Largest difference.
    pub max: f32,
}

impl Agreement {
    /// Compares `found` with `reference`, image by image, hand by hand in detection order.
    #[must_use]
    pub fn of(reference: &[Vec<DetectedHand>], found: &[Vec<DetectedHand>]) -> Self {
        let images = reference.len().max(found.len());
        let mut agreement = Self {
            images,
            counts_differ: images - reference.len().min(found.len()),
            ..Self::default()
        };
        let mut distances = Vec::new();
        for (reference, found) in reference.iter().zip(found) {
            if reference.len() != found.len() {
                agreement.counts_differ += 1;
                continue;
            }
            for (reference, found) in reference.iter().zip(found) {
                agreement.sides_differ += usize::from(reference.is_left != found.is_left);
                for i in 0..LANDMARKS {
                    let points = reference.points.get(i).zip(found.points.get(i));
                    // A missing or NaN landmark counts as infinitely far away.
                    distances.extend([0, 1, 2].map(|axis| {
                        let distance = points.map(|(a, b)| (a[axis] - b[axis]).abs());
                        distance.filter(|d| !d.is_nan()).unwrap_or(f32::INFINITY)
                    }));
                }
            }
        }
        distances.sort_by(f32::total_cmp);
        let last = distances.len().saturating_sub(1);
        let at = |percent: usize| distances.get(last * percent / 100).copied().unwrap_or(0.0);
        agreement.landmarks = distances.len() / 3;
        (agreement.median, agreement.p99, agreement.max) = (at(50), at(99), at(100));
        agreement
    }

    /// Why the backend may not replace the CPU; `None` when it may. `tolerance` is the largest allowed difference of a
    /// landmark, in fractions of the image size.
    #[must_use]
    pub fn mismatch(&self, tolerance: f32) -> Option<String> {
        if self.counts_differ > 0 {
            return Some(format!(
                "the number of hands differs from the CPU's in {} of {} images",
                self.counts_differ, self.images
            ));
        }
        if self.landmarks == 0 {
            return Some("no hand was detected, so agreement with the CPU is unknown".to_owned());
        }
        if self.sides_differ > 0 {
            return Some(format!(
                "handedness differs from the CPU's for {} of {} hands",
                self.sides_differ,
                self.landmarks / LANDMARKS
            ));
        }
        let max = self.max;
        (max > tolerance || max.is_nan()).then(|| {
            format!("landmarks differ from the CPU's by up to {max:.1e} of the image size, {tolerance:.1e} is allowed")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hand(x: f32) -> DetectedHand {
        DetectedHand {
            is_left: false,
            points: vec![[x, 0.5, -0.1]; LANDMARKS],
        }
    }

    fn mismatch(found: &[Vec<DetectedHand>]) -> Option<String> {
        let reference = [vec![hand(0.2), hand(0.7)], vec![], vec![hand(0.4)]];
        Agreement::of(&reference, found).mismatch(0.001)
    }

    #[test]
    fn the_mismatch_is_named() {
        let good = [vec![hand(0.2005), hand(0.7)], vec![], vec![hand(0.4)]];
        assert_eq!(mismatch(&good), None);
        let check = |change: &dyn Fn(&mut Vec<Vec<DetectedHand>>), part: &str| {
            let mut bad = good.to_vec();
            change(&mut bad);
            let reason = mismatch(&bad).unwrap();
            assert!(reason.contains(part), "{reason}");
        };
        check(&|b| b[0][1] = hand(0.702), "up to 2.0e-3");
        check(&|b| b[2].clear(), "1 of 3 images");
        check(&|b| b[1].push(hand(0.5)), "1 of 3 images");
        check(&|b| b[2][0].is_left = true, "1 of 3 hands");
        check(&|b| b[0].swap(0, 1), "landmarks");
        check(&|b| b[0][0].points[3][1] = f32::NAN, "inf");
        check(&|b| b[0][0].points.truncate(20), "inf");
        check(&|b| b.truncate(2), "1 of 3 images");
        check(&|b| b.clear(), "3 of 3 images");
        let nothing = Agreement::of(&[vec![], vec![]], &[vec![], vec![]]);
        assert!(nothing.mismatch(1.0).unwrap().contains("no hand"));
    }

    proptest! {
        #[test]
        fn whoever_is_held_against_itself_agrees(hands in proptest::collection::vec(0.0f32..1.0, 1..9)) {
            let seen = [hands.iter().map(|x| hand(*x)).collect::<Vec<_>>()];
            let agreement = Agreement::of(&seen, &seen);
            prop_assert_eq!(agreement.mismatch(0.0), None);
            prop_assert_eq!(agreement.landmarks, hands.len() * LANDMARKS);
        }

        #[test]
        fn the_largest_distance_is_found(off in 0.0f32..0.5, at in 0usize..LANDMARKS, axis in 0usize..3) {
            let mut found = hand(0.25);
            found.points[at][axis] += off;
            let agreement = Agreement::of(&[vec![hand(0.25)]], &[vec![found]]);
            prop_assert!((agreement.max - off).abs() < 1e-6);
            prop_assert!(agreement.median <= agreement.p99 && agreement.p99 <= agreement.max);
        }
    }
}
