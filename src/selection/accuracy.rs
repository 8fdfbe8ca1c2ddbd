//! Error of a backend over many images: its hands against the CPU's, matched by their place.

use super::DetectedHand;
use super::agreement::{percent, quantiles};
use crate::sequence::normalize::normalize_hand;
use serde::Serialize;

/// Landmarks whose distance is the size of a hand: the wrist and the middle finger's knuckle.
const SIZE_LANDMARKS: [usize; 2] = [0, 9];
/// Hands whose landmarks are on average further apart are not the same, in sizes of the hand.
const MATCH_MAX: f64 = 1.0;

/// The hands of one image that both backends found.
#[derive(Default)]
struct Matches {
    /// Places of the same hand in both lists, in the order of the reference.
    pairs: Vec<[usize; 2]>,
}

/// Collects the differences.
#[derive(Debug, Default)]
pub struct Accuracy {
    images: usize,
    counts_equal: usize,
    hands: usize,
    matched: usize,
    extra: usize,
    sides_equal: usize,
    swapped: usize,
    xy: Vec<f32>,
    relative: Vec<f32>,
    normalized: Vec<f32>,
}

/// Quantiles of absolute differences.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// Half are not larger.
    pub median: f32,
    /// 95 % are not larger.
    pub p95: f32,
    /// 99 % are not larger.
    pub p99: f32,
    /// The largest. Ambiguous hands make it large, with noise as with any backend.
    pub max: f32,
}

/// Summary of the differences in all images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AccuracyFigures {
    /// Number of images.
    pub images: usize,
    /// Images with as many hands as the CPU finds, percent.
    pub counts_equal_percent: f64,
    /// Hands of the CPU.
    pub hands: usize,
    /// Hands of the CPU that were not found.
    pub missed: usize,
    /// Hands that the CPU does not find.
    pub extra: usize,
    /// Matched hands with the CPU's handedness, percent.
    pub sides_equal_percent: f64,
    /// Images in which the same hands come in another order. Slots in the order of detection change with it.
    pub swapped: usize,
    /// x and y of all landmarks, fractions of the image.
    pub xy: Quantiles,
    /// Distances of landmarks in pixels, fractions of the hand's size.
    pub relative: Quantiles,
    /// The numbers of a sequence: about the wrist, in sizes of the hand.
    pub normalized: Quantiles,
}

impl Accuracy {
    /// Adds an image of this width and height, pixels.
    pub fn add(&mut self, size: [f32; 2], reference: &[DetectedHand], found: &[DetectedHand]) {
        let matches = Matches::of(size, reference, found);
        self.images += 1;
        self.counts_equal += usize::from(reference.len() == found.len());
        self.hands += reference.len();
        self.matched += matches.pairs.len();
        self.extra += found.len() - matches.pairs.len();
        self.swapped += usize::from(!matches.pairs.is_sorted_by_key(|[_, j]| *j));
        for [i, j] in matches.pairs {
            let (a, b) = (&reference[i], &found[j]);
            self.sides_equal += usize::from(a.is_left == b.is_left);
            let (unit, distances) = pixel_distances(size, a, b);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "differences, for quantiles"
            )]
            let relative = distances.map(|distance| (distance / unit) as f32);
            self.relative.extend(relative);
            let points = a.points.iter().zip(&b.points);
            self.xy
                .extend(points.flat_map(|(a, b)| [0, 1].map(|axis| (a[axis] - b[axis]).abs())));
            if let [Some(mut a), Some(mut b)] =
                [a, b].map(|hand| hand.points.first_chunk().copied())
            {
                normalize_hand(&mut a);
                normalize_hand(&mut b);
                let numbers = a.as_flattened().iter().zip(b.as_flattened());
                self.normalized.extend(numbers.map(|(a, b)| (a - b).abs()));
            }
        }
    }

    /// Summarizes the differences.
    #[must_use]
    pub fn figures(mut self) -> AccuracyFigures {
        AccuracyFigures {
            images: self.images,
            counts_equal_percent: percent(self.counts_equal, self.images),
            hands: self.hands,
            missed: self.hands - self.matched,
            extra: self.extra,
            sides_equal_percent: percent(self.sides_equal, self.matched),
            swapped: self.swapped,
            xy: Quantiles::of(&mut self.xy),
            relative: Quantiles::of(&mut self.relative),
            normalized: Quantiles::of(&mut self.normalized),
        }
    }
}

impl Matches {
    /// Matches hands, the nearest first.
    fn of(size: [f32; 2], reference: &[DetectedHand], found: &[DetectedHand]) -> Self {
        let mut candidates = Vec::new();
        for (i, a) in reference.iter().enumerate() {
            for (j, b) in found.iter().enumerate() {
                let (unit, distances) = pixel_distances(size, a, b);
                let (mut sum, mut count) = (0.0, 0.0);
                for distance in distances {
                    sum += distance;
                    count += 1.0;
                }
                candidates.push((sum / (count * unit), [i, j]));
            }
        }
        candidates.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let mut matches = Self::default();
        for (distance, [i, j]) in candidates {
            let is_free = matches.pairs.iter().all(|[a, b]| *a != i && *b != j);
            if is_free && distance <= MATCH_MAX {
                matches.pairs.push([i, j]);
            }
        }
        matches.pairs.sort_unstable();
        matches
    }
}

/// The size of hand `a`, and the distances of its landmarks to those of `b`, pixels.
fn pixel_distances<'a>(
    size: [f32; 2],
    a: &'a DetectedHand,
    b: &'a DetectedHand,
) -> (f64, impl Iterator<Item = f64> + 'a) {
    let [width, height] = size.map(f64::from);
    let distance = move |a: &[f32; 3], b: &[f32; 3]| {
        let [dx, dy] = [0, 1].map(|axis| f64::from(a[axis]) - f64::from(b[axis]));
        // Not `hypot`: it needs glibc 2.35.
        ((dx * width).powi(2) + (dy * height).powi(2)).sqrt()
    };
    let [wrist, knuckle] = SIZE_LANDMARKS.map(|i| a.points.get(i).copied().unwrap_or_default());
    let unit = distance(&wrist, &knuckle).max(1e-6);
    let points = a.points.iter().zip(&b.points);
    (unit, points.map(move |(a, b)| distance(a, b)))
}

impl Quantiles {
    fn of(values: &mut [f32]) -> Self {
        let [median, p95, p99, max] = quantiles(values, [50, 95, 99, 100]);
        Self {
            median,
            p95,
            p99,
            max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hand about `x` whose size is a tenth of the image's height.
    fn hand(x: f32, is_left: bool) -> DetectedHand {
        let mut points = vec![[x, 0.5, 0.0]; 21];
        points[9][1] = 0.4;
        DetectedHand { is_left, points }
    }

    #[test]
    fn hands_are_matched_by_place_and_counted() {
        let reference = [hand(0.2, true), hand(0.8, false)];
        let mut accuracy = Accuracy::default();
        let mut add = |found: &[DetectedHand]| accuracy.add([200.0, 100.0], &reference, found);
        add(&reference);
        // In another order; the first with another side.
        add(&[hand(0.8, false), hand(0.2, false)]);
        // One is missed, and one is elsewhere.
        add(&[hand(0.5, true), hand(0.8, false)]);
        add(&[hand(0.8, false)]);
        let figures = accuracy.figures();
        assert_eq!((figures.images, figures.hands), (4, 8));
        assert_eq!((figures.missed, figures.extra), (2, 1));
        // The second alone is first without a swap.
        assert_eq!(figures.swapped, 1);
        assert!((figures.counts_equal_percent - 75.0).abs() < 1e-9);
        assert!((figures.sides_equal_percent - 100.0 * 5.0 / 6.0).abs() < 1e-9);
        assert_eq!(figures.xy.max, 0.0);
    }

    #[test]
    fn differences_have_their_units() {
        let mut found = hand(0.2, true);
        for point in &mut found.points {
            point[0] += 0.01;
        }
        // The knuckle alone moves against the wrist.
        found.points[9][0] += 0.01;
        let mut accuracy = Accuracy::default();
        accuracy.add([200.0, 100.0], &[hand(0.2, true)], &[found]);
        let AccuracyFigures {
            xy,
            relative,
            normalized,
            ..
        } = accuracy.figures();
        let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
        // Half of the coordinates are y, which is equal.
        assert!(
            near(xy.median, 0.0) && near(xy.p95, 0.01) && near(xy.max, 0.02),
            "{xy:?}"
        );
        // 2 and 4 of 200 pixels; the hand's size is 10.
        assert!(
            near(relative.median, 0.2) && near(relative.max, 0.4),
            "{relative:?}"
        );
        // 0.01 of a size of about 0.1.
        assert!(
            near(normalized.median, 0.0) && normalized.max > 0.09,
            "{normalized:?}"
        );
    }

    #[test]
    fn nothing_has_no_difference() {
        let figures = Accuracy::default().figures();
        assert_eq!((figures.images, figures.missed), (0, 0));
        assert_eq!(figures.xy.max, 0.0);
    }
}
