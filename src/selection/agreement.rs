//! Compares the hands that a backend detects with those of the CPU in the same images.

use super::precision::EQUAL_MIN_PERCENT;
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
    /// 95th percentile of the differences of x and y alone.
    pub xy_p95: f32,
    /// 99th percentile of the differences.
    pub p99: f32,
    /// Largest difference.
    pub max: f32,
}

/// Largest differences at which a backend may replace the CPU, fractions of the image size. They limit quantiles: in
/// images with ambiguous hands, the largest difference says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// For 99 % of the coordinates of a backend that computes in 32 bits.
    pub exact: f32,
    /// For 95 % of x and y of a backend of reduced precision.
    pub fast: f32,
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
        let (mut distances, mut xy) = (Vec::new(), Vec::new());
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
                    let [x, y, z] = [0, 1, 2].map(|axis| {
                        let distance = points.map(|(a, b)| (a[axis] - b[axis]).abs());
                        distance.filter(|d| !d.is_nan()).unwrap_or(f32::INFINITY)
                    });
                    distances.extend([x, y, z]);
                    xy.extend([x, y]);
                }
            }
        }
        agreement.landmarks = distances.len() / 3;
        [agreement.median, agreement.p99, agreement.max] = quantiles(&mut distances, [50, 99, 100]);
        [agreement.xy_p95] = quantiles(&mut xy, [95]);
        agreement
    }

    /// Why the backend may not replace the CPU; `None` when it may. With `is_reduced`, the limits are those of reduced
    /// precision.
    #[must_use]
    pub fn mismatch(&self, tolerance: Tolerance, is_reduced: bool) -> Option<String> {
        let is_too_much = |differ: usize, of: usize| {
            let equal_min = if is_reduced { EQUAL_MIN_PERCENT } else { 100.0 };
            percent(of.saturating_sub(differ), of) < equal_min
        };
        if is_too_much(self.counts_differ, self.images) {
            return Some(format!(
                "the number of hands differs from the CPU's in {} of {} images",
                self.counts_differ, self.images
            ));
        }
        if self.landmarks == 0 {
            return Some("no hand was detected, so agreement with the CPU is unknown".to_owned());
        }
        if is_too_much(self.sides_differ, self.landmarks / LANDMARKS) {
            return Some(format!(
                "handedness differs from the CPU's for {} of {} hands",
                self.sides_differ,
                self.landmarks / LANDMARKS
            ));
        }
        if !self.max.is_finite() {
            return Some("a landmark is missing or is not a number".to_owned());
        }
        let (share, found, allowed) = if is_reduced {
            // A user who allows a larger difference of every backend allows it of these too.
            (
                "95 % of x and y",
                self.xy_p95,
                tolerance.fast.max(tolerance.exact),
            )
        } else {
            ("99 % of the coordinates", self.p99, tolerance.exact)
        };
        (found > allowed).then(|| {
            format!("{share} of the landmarks differ from the CPU's by up to {found:.1e} of the image size, {allowed:.1e} is allowed")
        })
    }
}

/// For each of `percents`, the value that this percentage of `values` does not exceed; 0 without values.
pub(super) fn quantiles<const N: usize>(values: &mut [f32], percents: [usize; N]) -> [f32; N] {
    values.sort_by(f32::total_cmp);
    let last = values.len().saturating_sub(1);
    percents.map(|percent| values.get(last * percent / 100).copied().unwrap_or(0.0))
}

/// The share of `part` in `of`, percent.
#[expect(clippy::cast_precision_loss, reason = "numbers of images and hands")]
pub(super) fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
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

    const TOLERANCE: Tolerance = Tolerance {
        exact: 0.001,
        fast: 0.0023,
    };

    fn mismatch(found: &[Vec<DetectedHand>]) -> Option<String> {
        let reference = [vec![hand(0.2), hand(0.7)], vec![], vec![hand(0.4)]];
        Agreement::of(&reference, found).mismatch(TOLERANCE, false)
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
        check(&|b| b[0][0].points[3][1] = f32::NAN, "not a number");
        check(&|b| b[0][0].points.truncate(20), "missing");
        check(&|b| b.truncate(2), "1 of 3 images");
        check(&|b| b.clear(), "3 of 3 images");
        let nothing = Agreement::of(&[vec![], vec![]], &[vec![], vec![]]);
        assert!(
            nothing
                .mismatch(TOLERANCE, false)
                .unwrap()
                .contains("no hand")
        );
    }

    #[test]
    fn reduced_precision_is_judged_by_its_own_quantile() {
        let reference = vec![vec![hand(0.3); 2]; 10];
        let check = |off: f32, points: usize, [is_exact, is_fast]: [bool; 2]| {
            let mut found = reference.clone();
            let hands = found.iter_mut().flatten();
            for point in hands.flat_map(|hand| &mut hand.points).take(points) {
                point[0] += off;
            }
            let agreement = Agreement::of(&reference, &found);
            let agrees = |is_reduced| agreement.mismatch(TOLERANCE, is_reduced).is_none();
            assert_eq!(
                [agrees(false), agrees(true)],
                [is_exact, is_fast],
                "{off} {points}"
            );
        };
        check(0.0009, 420, [true, true]);
        check(0.002, 420, [false, true]);
        check(0.01, 420, [false, false]);
        // 420 landmarks have 1260 coordinates, of which 12 are less than 1 %, and 840 of x and y, of which 40 are less
        // than 5 %.
        check(0.1, 12, [true, true]);
        check(0.1, 40, [false, true]);
        check(0.1, 45, [false, false]);
    }

    #[test]
    fn half_a_percent_of_other_counts_is_no_mismatch_of_reduced_precision() {
        let reference = vec![vec![hand(0.3)]; 400];
        let mismatch = |others: usize, is_reduced| {
            let mut found = reference.clone();
            found.iter_mut().take(others).for_each(Vec::clear);
            let agreement = Agreement::of(&reference, &found);
            agreement.mismatch(TOLERANCE, is_reduced).is_some()
        };
        assert!(mismatch(1, false) && !mismatch(2, true) && mismatch(3, true));
    }

    proptest! {
        #[test]
        fn whoever_is_held_against_itself_agrees(hands in proptest::collection::vec(0.0f32..1.0, 1..9)) {
            let seen = [hands.iter().map(|x| hand(*x)).collect::<Vec<_>>()];
            let agreement = Agreement::of(&seen, &seen);
            let nothing = Tolerance { exact: 0.0, fast: 0.0 };
            prop_assert_eq!(agreement.mismatch(nothing, false), None);
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
