//! Hands between two frames in which they were seen: linear in time, in f64, as `numpy.interp` computes it.

use crate::hand::landmarks::LANDMARKS;

/// The landmarks of one hand: `[landmark][x, y, z]`.
pub(super) type HandPoints = [[f32; 3]; LANDMARKS];

/// The hand of a slot in a row of a sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SlotRow {
    /// Its landmarks; `None` where no hand was seen or filled.
    pub(super) hand: Option<HandPoints>,
    /// Whether it was not seen but filled.
    pub(super) is_filled: bool,
}

/// A row for each frame of `track`, the hands of one slot in the frames at `positions`. Gaps between two hands of at most
/// `max_gap` frames are filled.
pub(super) fn fill_gaps(
    track: &[Option<HandPoints>],
    positions: &[f64],
    max_gap: usize,
) -> Vec<SlotRow> {
    let mut seen = Observations::new(track, positions);
    let row = |at: &f64| seen.at(*at, max_gap);
    positions.iter().take(track.len()).map(row).collect()
}

/// `length` rows, evenly over `positions`, from `track`, the hands of one slot in the frames there. A row between two hands
/// with at most `max_gap` frames without one between them is filled.
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
    /// The number of the frame among those that were looked at, its time and the hand.
    hands: Vec<(usize, f64, &'a HandPoints)>,
    /// Index of the last hand that is not after the last time that was asked for.
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

    /// The hand at time `at`, which is not before the one asked for last.
    fn at(&mut self, at: f64, max_gap: usize) -> SlotRow {
        while self.hands.get(self.at + 1).is_some_and(|next| next.1 <= at) {
            self.at += 1;
        }
        let Some(&(before, from, hand)) = self.hands.get(self.at).filter(|hand| hand.1 <= at) else {
            return SlotRow::default();
        };
        let next = self.hands.get(self.at + 1);
        let between = match next {
            _ if from >= at => Some((0, *hand)),
            Some(&(after, to, next)) => {
                let value = |a: f32, b: f32| interpolate((from, a), (to, b), at);
                let point = |n: usize| {
                    std::array::from_fn(|axis| value(hand[n][axis], next[n][axis]))
                };
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
