//! One output row of the general scaler: chroma filtered vertically, then through a matrix.

use super::super::coefficients::{Matrix, PortableMatrix};
use super::super::unscaled::{add_chroma, add_luma, multiply_high};

/// Chroma without color in 15 bits.
const NEUTRAL: i16 = 128 << 7;
/// Weight of a vertical tap that counts alone, and half of it.
pub(super) const WHOLE: i16 = 1 << 12;
const HALF: i16 = WHOLE / 2;

/// Which of swscale's three row functions makes an output row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Chroma per pair of pixels, 16-bit arithmetic with truncated products: the assembly code.
    PairedFast,
    /// Chroma per pair of pixels, rounded once: the portable code, for the last two rows.
    PairedPortable,
    /// Chroma per pixel, 22 fractional bits.
    Full,
}

/// How source chroma rows make one output row's chroma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blend {
    /// One row as it is.
    Nearest,
    /// The mean of two.
    Mean,
    /// Weighted taps.
    Weighted,
}

/// A chroma plane of 15-bit samples, row-major without padding.
#[derive(Debug, Default)]
pub(super) struct ChromaPlane {
    pub(super) samples: Vec<i16>,
    width: usize,
    pub(super) rows: usize,
}

impl ChromaPlane {
    pub(super) fn resize(&mut self, width: usize, rows: usize) {
        (self.width, self.rows) = (width, rows);
        self.samples.resize(width * rows, 0);
    }

    /// Makes this one row without color.
    pub(super) fn fill_neutral(&mut self, width: usize) {
        self.resize(width, 1);
        self.samples.fill(NEUTRAL);
    }

    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[i16] {
        let start = row * self.width;
        &self.samples[start..start + self.width]
    }
}

/// One row's luma and chroma, and the channels made of them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// 15-bit luma, to be set before a row.
    pub(super) luma: Vec<i16>,
    /// Eighths of a level that [`Way::PairedFast`] adds to luma.
    luma_rounding: i16,
    /// Vertically filtered U, V: eighths of a level ([`Way::PairedFast`]), levels
    /// ([`Way::PairedPortable`]) or 1/512 levels from neutral ([`Way::Full`]).
    chroma: [Vec<i32>; 2],
    /// What chroma adds to each pixel on [`Way::PairedFast`]: R, G, B; an even number of pixels.
    added: [Vec<i16>; 3],
    /// R, G, B levels after [`Rows::color`].
    pub(super) channels: [Vec<u8>; 3],
}

impl Rows {
    pub(super) fn resize(&mut self, width: usize, chroma_width: usize) {
        self.luma.resize(width, 0);
        for chroma in &mut self.chroma {
            chroma.resize(chroma_width, 0);
        }
        for added in &mut self.added {
            added.resize(width.next_multiple_of(2), 0);
        }
        for channel in &mut self.channels {
            channel.resize(width, 0);
        }
    }

    /// Filters both chroma planes vertically, source rows `first` and on, into the unit of `way`.
    #[inline(always)]
    pub(super) fn blend_chroma(
        &mut self,
        planes: &[ChromaPlane; 2],
        first: usize,
        weights: &[i16],
        blend: Blend,
        way: Way,
    ) {
        // The assembly rounds only when it weighs, and then luma too.
        self.luma_rounding = if blend == Blend::Weighted { 4 } else { 0 };
        let start = match way {
            Way::PairedFast => i32::from(self.luma_rounding),
            Way::PairedPortable => 1 << 18,
            Way::Full => (1 << 9) - (128 << 19),
        };
        for (plane, sums) in planes.iter().zip(&mut self.chroma) {
            if way == Way::PairedFast && blend == Blend::Mean {
                let rows = plane.row(first).iter().zip(plane.row(first + 1));
                for (sum, (&a, &b)) in sums.iter_mut().zip(rows) {
                    *sum = (i32::from(a) + i32::from(b)) >> 5;
                }
                continue;
            }
            sums.fill(start);
            for (tap, &weight) in weights.iter().enumerate() {
                let row = plane.row(first + tap);
                if way == Way::PairedFast {
                    for (sum, &sample) in sums.iter_mut().zip(row) {
                        *sum += i32::from(multiply_high(sample, weight));
                    }
                } else {
                    for (sum, &sample) in sums.iter_mut().zip(row) {
                        *sum += i32::from(sample) * i32::from(weight);
                    }
                }
            }
            match way {
                Way::PairedFast => {}
                Way::PairedPortable => sums.iter_mut().for_each(|sum| *sum >>= 19),
                Way::Full => sums.iter_mut().for_each(|sum| *sum >>= 10),
            }
        }
    }

    /// Mixes luma and the filtered chroma into `channels`.
    #[inline(always)]
    pub(super) fn color(&mut self, way: Way, full_range: bool) {
        let [red, green, blue] = &mut self.channels;
        let [u, v] = &self.chroma;
        match way {
            Way::PairedFast => {
                let matrix = Matrix::of(full_range);
                let centered = u.iter().zip(v).map(
                    #[inline(always)]
                    |(&u, &v)| (eighths_from_neutral(u), eighths_from_neutral(v)),
                );
                add_chroma(centered, matrix, &mut self.added);
                let above_black = self.luma_rounding - matrix.black * 8;
                let luma = self.luma.iter().map(
                    #[inline(always)]
                    |&luma| (luma >> 4) + above_black,
                );
                let [to_red, to_green, to_blue] = &self.added;
                add_luma(luma.clone(), to_red, matrix, red);
                add_luma(luma.clone(), to_green, matrix, green);
                add_luma(luma, to_blue, matrix, blue);
            }
            Way::PairedPortable => {
                let matrix = PortableMatrix::of(full_range);
                for (x, &luma) in self.luma.iter().enumerate() {
                    let (u, v) = (u[x / 2], v[x / 2]);
                    let luma = (i32::from(luma) + 64) >> 7;
                    let to_green = matrix.u_to_g.steps(u) + matrix.v_to_g.steps(v);
                    red[x] = matrix.level(luma + matrix.v_to_r.steps(v));
                    green[x] = matrix.level(luma + to_green);
                    blue[x] = matrix.level(luma + matrix.u_to_b.steps(u));
                }
            }
            Way::Full => {
                let matrix = Matrix::of(full_range);
                let channels = red.iter_mut().zip(green).zip(blue);
                let samples = self.luma.iter().zip(u).zip(v);
                for (((red, green), blue), ((&luma, &u), &v)) in channels.zip(samples) {
                    [*red, *green, *blue] = full(luma, u, v, matrix);
                }
            }
        }
    }
}

/// The blend that swscale picks for a row of vertical weights, and the weights it then really applies.
#[inline(always)]
pub(super) fn blend(weights: &[i16]) -> (Blend, &[i16]) {
    match *weights {
        [_] => (Blend::Nearest, &[WHOLE]),
        // Two weights that cannot overflow are rounded to "the first" or "the mean", as a bilinear scaler may.
        [a, b] if b >= 0 && i32::from(a) + i32::from(b) == i32::from(WHOLE) => {
            if b < HALF {
                (Blend::Nearest, &[WHOLE])
            } else {
                (Blend::Mean, &[HALF, HALF])
            }
        }
        _ => (Blend::Weighted, weights),
    }
}

/// Chroma in eighths of a level, centerd on 0.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "15-bit samples through weights that sum to 1 stay below 2^12 eighths"
)]
fn eighths_from_neutral(chroma: i32) -> i16 {
    (chroma - 1024) as i16
}

/// One pixel of the full-chroma way: 15-bit luma, chroma in 1/512 levels from neutral.
#[inline(always)]
fn full(luma: i16, u: i32, v: i32, matrix: &Matrix) -> [u8; 3] {
    let y = (i32::from(luma) * 4 - (i32::from(matrix.black) << 9)) * i32::from(matrix.luma);
    let y = y.wrapping_add(1 << 21);
    let product = |chroma: i32, weight: i16| chroma.wrapping_mul(i32::from(weight));
    [
        y.wrapping_add(product(v, matrix.v_to_r)),
        y.wrapping_add(product(v, matrix.v_to_g))
            .wrapping_add(product(u, matrix.u_to_g)),
        y.wrapping_add(product(u, matrix.u_to_b)),
    ]
    // swscale's 32-bit sums wrap for the wildest colors, which then turn black: kept.
    .map(|sum| to_byte(sum >> 22))
}

#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255"
)]
fn to_byte(level: i32) -> u8 {
    level.clamp(0, 255) as u8
}
