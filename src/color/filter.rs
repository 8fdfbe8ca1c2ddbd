//! swscale's bicubic resampling filter in its own fixed-point arithmetic.
//!
//! The weights must be swscale's to the last unit, hence 54 fractional bits, truncations and the order of steps.

/// Weights sum to this in the vertical filter.
pub(super) const VERTICAL_ONE: i64 = 1 << 12;
/// Weights sum to this in the horizontal filter.
pub(super) const HORIZONTAL_ONE: i64 = 1 << 14;

/// Taps of a bicubic filter that enlarges, before trimming.
const TAPS_MAX: usize = 5;
/// 0.6 in 24 bits: swscale's bicubic (B = 0, C = 0.6).
const SHARPNESS: i64 = 10_066_329;
/// Outer weights that together stay within 0.002 are dropped; in 54 fractional bits.
const NEGLIGIBLE: i64 = 36_028_797_018_963;

/// One row of weights per target sample, applied to the source from `position` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    taps: usize,
    positions: Vec<usize>,
    weights: Vec<i16>,
}

impl Filter {
    /// The filter that takes `source` samples to `target` samples, `source <= target`, weights summing to `one`.
    pub(super) fn new(source: usize, target: usize, one: i64) -> Self {
        let mut wide = WideFilter::bicubic(source, target);
        wide.trim();
        wide.fold_borders();
        wide.round(one)
    }

    /// First source sample and weights for target sample `index`.
    pub(super) fn row(&self, index: usize) -> (usize, &[i16]) {
        let start = index * self.taps;
        (
            self.positions[index],
            &self.weights[start..start + self.taps],
        )
    }
}

/// A filter before rounding: weights in 54 fractional bits, positions that may lie outside the source.
struct WideFilter {
    /// Samples in a row of the source.
    source: i64,
    taps: usize,
    positions: Vec<i64>,
    weights: Vec<i64>,
}

impl WideFilter {
    #[allow(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sizes are at most 2^15; taps are 1 to 5"
    )]
    fn bicubic(source: usize, target: usize) -> Self {
        let (source, target) = (source as i64, target as i64);
        let step = ((source << 16) + (target >> 1)) / target;
        let taps = (TAPS_MAX as i64).min(source - 2).max(1);
        let mut center = step - (1 << 16);
        let mut positions = Vec::with_capacity(target as usize);
        let mut weights = Vec::with_capacity((target * taps) as usize);
        for _ in 0..target {
            let first = (center - (taps - 2) * (1 << 16)) / (1 << 17);
            positions.push(first);
            for tap in 0..taps {
                let distance = ((first + tap) * (1 << 17) - center).abs() << 13;
                weights.push(cubic(distance));
            }
            center += 2 * step;
        }
        Self {
            source,
            taps: taps as usize,
            positions,
            weights,
        }
    }

    /// Shifts negligible weights out on the left, then drops the columns that are negligible in every row.
    fn trim(&mut self) {
        let mut needed = 0;
        let mut next_position = None;
        let rows = self.weights.chunks_exact_mut(self.taps);
        for (row, position) in rows.zip(&mut self.positions).rev() {
            let mut dropped = 0;
            for _ in 0..row.len() {
                dropped += row[0].abs();
                if dropped > NEGLIGIBLE || next_position.is_some_and(|next| *position >= next) {
                    break;
                }
                row[0] = 0;
                row.rotate_left(1);
                *position += 1;
            }
            next_position = Some(*position);

            let mut dropped = 0;
            let negligible = row[1..]
                .iter()
                .rev()
                .take_while(|weight| {
                    dropped += weight.abs();
                    dropped <= NEGLIGIBLE
                })
                .count();
            needed = needed.max(row.len() - negligible);
        }
        self.weights = self
            .weights
            .chunks_exact(self.taps)
            .flat_map(|row| &row[..needed])
            .copied()
            .collect();
        self.taps = needed;
    }

    /// Moves the weights of samples outside the source onto its first or last sample.
    #[allow(
        clippy::cast_possible_wrap,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positions and taps are small and made non-negative before use as an index"
    )]
    fn fold_borders(&mut self) {
        let taps = self.taps as i64;
        let rows = self.weights.chunks_exact_mut(self.taps);
        for (row, position) in rows.zip(&mut self.positions) {
            if *position < 0 {
                for tap in 1..row.len() {
                    let left = (tap as i64 + *position).max(0) as usize;
                    let weight = std::mem::take(&mut row[tap]);
                    row[left] += weight;
                }
                *position = 0;
            }
            if *position + taps > self.source {
                let inside = (self.source - *position).clamp(0, taps) as usize;
                let outside: i64 = row[inside..].iter().sum();
                row[inside..].fill(0);
                let shift = (*position + (taps - self.source).min(0)).clamp(0, taps) as usize;
                row.rotate_right(shift);
                row[..shift].fill(0);
                *position -= shift as i64;
                let last = (self.source - 1 - *position).clamp(0, taps - 1) as usize;
                row[last] += outside;
            }
        }
    }

    /// Rounds to `one`, carrying each weight's rounding error to the next.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no weight exceeds 1.2 * one; positions are inside the source by now"
    )]
    fn round(self, one: i64) -> Filter {
        let mut weights = Vec::with_capacity(self.weights.len());
        for row in self.weights.chunks_exact(self.taps) {
            let sum = row.iter().sum::<i64>();
            let unit = ((sum + one / 2) / one).max(1);
            let mut error = 0;
            for weight in row {
                let exact = weight + error;
                let half = if exact < 0 { -(unit >> 1) } else { unit >> 1 };
                let rounded = (exact + half) / unit;
                error = exact - rounded * unit;
                weights.push(rounded as i16);
            }
        }
        Filter {
            taps: self.taps,
            positions: self.positions.iter().map(|&p| p.max(0) as usize).collect(),
            weights,
        }
    }
}

/// The cubic's value, 54 fractional bits, at a distance of `distance` / 2^30 source samples.
fn cubic(distance: i64) -> i64 {
    if distance >= 1 << 31 {
        return 0;
    }
    let square = (distance * distance) >> 30;
    let cube = (square * distance) >> 30;
    if distance < 1 << 30 {
        ((12 << 24) - 6 * SHARPNESS) * cube
            + ((-18 << 24) + 6 * SHARPNESS) * square
            + (6 << 24) * (1 << 30)
    } else {
        -6 * SHARPNESS * cube + 30 * SHARPNESS * square - 48 * SHARPNESS * distance
            + 24 * SHARPNESS * (1 << 30)
    }
}

#[cfg(test)]
mod tests;
