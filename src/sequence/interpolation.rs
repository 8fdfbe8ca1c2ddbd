//! Interpolates hands between two frames that show them: linear in time, in f64, like `numpy.interp`.

use crate::hand::landmarks::LANDMARKS;

/// The landmarks of one hand: `[landmark][x, y, z]`.
pub(super) type HandPoints = [[f32; 3]; LANDMARKS];

/// The hand of a slot in a row of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SlotRow {
    /// Its landmarks; `None` when no hand was seen or filled.
    pub(super) hand: Option<HandPoints>,
    /// Whether it was filled and not seen.
    pub(super) is_filled: bool,
}

/// Returns a row for each frame of `track`, the hands of one slot in the frames at `positions`. Gaps of at most
/// `max_gap` frames between two hands are filled.
pub(super) fn fill_gaps(
    track: &[Option<HandPoints>],
    positions: &[f64],
    max_gap: usize,
) -> Vec<SlotRow> {
    let mut seen = Observations::new(track, positions);
    let row = |at: &f64| seen.at(*at, max_gap);
    positions.iter().take(track.len()).map(row).collect()
}

/// Returns `length` rows, evenly over `positions`, from `track`, the hands of one slot in the frames at these
/// positions. A row between two hands is filled when at most `max_gap` frames without a hand are between them.
pub(super) fn resample(
    track: &[Option<HandPoints>],
    positions: &[f64],
    length: usize,
    max_gap: usize,
) -> Vec<SlotRow> {
    let mut seen = Observations::new(track, positions);
    let times = even_times(positions, length);
    let mut rows: Vec<SlotRow> = times.map(|at| seen.at(at, max_gap)).collect();
    rows.resize(length, SlotRow::default());
    rows
}

/// The times of `length` rows, evenly from the first to the last of `positions`: numpy's `linspace`.
pub(super) fn even_times(positions: &[f64], length: usize) -> impl Iterator<Item = f64> + use<> {
    let ends = positions.first().copied().zip(positions.last().copied());
    ends.into_iter().flat_map(move |(first, last)| {
        let last_row = length.saturating_sub(1);
        let step = (last - first) / to_f64(last_row.max(1));
        (0..length).map(move |row| {
            if row > 0 && row == last_row {
                last
            } else {
                to_f64(row) * step + first
            }
        })
    })
}

/// The hands of one slot that were seen.
struct Observations<'a> {
    /// For each hand: the index among the sampled frames, its time and its landmarks.
    hands: Vec<(usize, f64, &'a HandPoints)>,
    /// Index of the last hand that is not after the last requested time.
    at: usize,
}

impl<'a> Observations<'a> {
    fn new(track: &'a [Option<HandPoints>], positions: &[f64]) -> Self {
        let frames = track.iter().zip(positions).enumerate();
        let seen = |(frame, (hand, position)): (usize, (&'a Option<HandPoints>, &f64))| {
            Some((frame, *position, hand.as_ref()?))
        };
        Self {
            hands: frames.filter_map(seen).collect(),
            at: 0,
        }
    }

    /// The hand at time `at`, which must not be before the last requested time.
    fn at(&mut self, at: f64, max_gap: usize) -> SlotRow {
        while self.hands.get(self.at + 1).is_some_and(|next| next.1 <= at) {
            self.at += 1;
        }
        let Some(&(before, from, hand)) = self.hands.get(self.at).filter(|hand| hand.1 <= at)
        else {
            return SlotRow::default();
        };
        let next = self.hands.get(self.at + 1);
        let between = match next {
            _ if from >= at => Some((0, *hand)),
            Some(&(after, to, next)) => {
                let value = |a: f32, b: f32| interpolate((from, a), (to, b), at);
                let point =
                    |n: usize| std::array::from_fn(|axis| value(hand[n][axis], next[n][axis]));
                Some((after - before - 1, std::array::from_fn(point)))
            }
            None => None,
        };
        match between {
            Some((gap, hand)) if gap <= max_gap => SlotRow {
                hand: Some(hand),
                is_filled: gap > 0,
            },
            _ => SlotRow::default(),
        }
    }
}

/// The value at `at` on the line through two points.
#[expect(clippy::cast_possible_truncation, reason = "landmarks are f32")]
fn interpolate((x0, y0): (f64, f32), (x1, y1): (f64, f32), at: f64) -> f32 {
    let slope = (f64::from(y1) - f64::from(y0)) / (x1 - x0);
    (slope * (at - x0) + f64::from(y0)) as f32
}

#[expect(clippy::cast_precision_loss, reason = "rows are far below 2^53")]
fn to_f64(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A hand whose landmarks differ from each other and from those of other `n`.
    fn hand(n: u16) -> HandPoints {
        let value = |i: usize| f32::from(n.wrapping_mul(37) % 101) * 0.01 + i as f32 * 0.001;
        std::array::from_fn(|i| [value(i), value(i + 7) * 0.5, value(i) - 0.3])
    }

    fn track(seen: &[bool]) -> Vec<Option<HandPoints>> {
        (0..)
            .zip(seen)
            .map(|(n, seen)| seen.then(|| hand(n)))
            .collect()
    }

    /// `numpy.interp`, by its documentation and source: clamped outside, the slope in f64.
    fn numpy_interp(x: f64, xp: &[f64], fp: &[f64]) -> f64 {
        let last = xp.len() - 1;
        if x >= xp[last] {
            return fp[last];
        }
        let Some(j) = xp.iter().rposition(|known| *known <= x) else {
            return fp[0];
        };
        let slope = (fp[j + 1] - fp[j]) / (xp[j + 1] - xp[j]);
        slope * (x - xp[j]) + fp[j]
    }

    #[test]
    fn only_short_gaps_are_filled_and_each_is_marked() {
        let seen: Vec<bool> = ".#.#..#...#.".chars().map(|c| c == '#').collect();
        let positions: Vec<f64> = (0..12).map(f64::from).collect();
        let shown = |max_gap| -> String {
            let mark = |row: &SlotRow| match (row.hand, row.is_filled) {
                (Some(_), true) => '+',
                (Some(_), false) => '#',
                (None, false) => '.',
                (None, true) => '!',
            };
            let rows = fill_gaps(&track(&seen), &positions, max_gap);
            rows.iter().map(mark).collect()
        };
        assert_eq!(shown(0), ".#.#..#...#.");
        assert_eq!(shown(1), ".#+#..#...#.");
        assert_eq!(shown(2), ".#+#++#...#.");
        assert_eq!(shown(3), ".#+#++#+++#.");
        let rows = fill_gaps(&track(&seen), &positions, 2);
        // A third of the way from frame 3 to frame 6.
        let expected = hand(3)[4][0] + (hand(6)[4][0] - hand(3)[4][0]) / 3.0;
        assert!((rows[4].hand.unwrap()[4][0] - expected).abs() < 1e-6);
        assert_eq!(rows[6].hand, Some(hand(6)));
    }

    #[test]
    fn rows_are_never_missing_and_may_be_alone() {
        assert_eq!(resample(&[], &[], 3, 9), [SlotRow::default(); 3]);
        let one = resample(&track(&[true]), &[5.0], 3, 0);
        assert!(
            one.iter()
                .all(|row| row.hand == Some(hand(0)) && !row.is_filled)
        );
        let rows = resample(&track(&[true, true]), &[0.0, 1.0], 1, 0);
        assert_eq!(rows.len(), 1);
    }

    proptest! {
        #[test]
        fn a_row_is_numpys_interpolation_on_the_observed_times(
            frames in prop::collection::vec((any::<bool>(), 1..90_u16), 1..60),
            length in 2..40_usize,
            max_gap in 0..6_usize,
        ) {
            let seen: Vec<bool> = frames.iter().map(|(seen, _)| *seen).collect();
            let mut at = 0;
            let positions: Vec<f64> = frames
                .iter()
                .map(|(_, step)| {
                    at += u32::from(*step);
                    f64::from(at) / 1000.0
                })
                .collect();
            let track = track(&seen);
            let rows = resample(&track, &positions, length, max_gap);
            prop_assert_eq!(rows.len(), length);
            let observed: Vec<usize> = (0..seen.len()).filter(|n| seen[*n]).collect();
            let xp: Vec<f64> = observed.iter().map(|n| positions[*n]).collect();
            let step = (positions[seen.len() - 1] - positions[0]) / (length as f64 - 1.0);
            for (k, row) in rows.iter().enumerate() {
                let x = if k + 1 == length {
                    positions[seen.len() - 1]
                } else {
                    k as f64 * step + positions[0]
                };
                let before = observed.iter().rev().find(|n| positions[**n] <= x);
                let after = observed.iter().find(|n| positions[**n] >= x);
                let gap = before.zip(after).map(|(a, b)| (b - a).saturating_sub(1));
                let expected = gap.is_some_and(|gap| gap <= max_gap);
                prop_assert_eq!(row.hand.is_some(), expected, "row {}", k);
                prop_assert_eq!(row.is_filled, expected && gap > Some(0));
                let Some(found) = row.hand else { continue };
                for (n, found) in found.as_flattened().iter().enumerate() {
                    let value = |frame: &usize| track[*frame].unwrap().as_flattened()[n];
                    let fp: Vec<f64> = observed.iter().map(|f| f64::from(value(f))).collect();
                    let expected = numpy_interp(x, &xp, &fp) as f32;
                    prop_assert_eq!(found.to_bits(), expected.to_bits());
                }
            }
        }

        #[test]
        fn what_was_seen_stays_and_what_is_filled_is_marked(
            seen in prop::collection::vec(any::<bool>(), 0..60),
            max_gap in 0..6_usize,
        ) {
            let positions: Vec<f64> = (0..seen.len()).map(|n| n as f64).collect();
            let track = track(&seen);
            let rows = fill_gaps(&track, &positions, max_gap);
            prop_assert_eq!(rows.len(), seen.len());
            for (row, hand) in rows.iter().zip(&track) {
                prop_assert_eq!(row.is_filled, row.hand.is_some() && hand.is_none());
                prop_assert!(hand.is_none() || row.hand == *hand);
            }
        }
    }
}
