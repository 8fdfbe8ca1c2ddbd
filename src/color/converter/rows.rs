//! One output row of the converter: chroma filtered vertically, then mixed with luma by a matrix.

use super::super::coefficients::{Matrix, PortableMatrix};

/// Weight of a vertical tap that counts alone, and half of it.
const WHOLE: i16 = 1 << 12;
const HALF: i16 = WHOLE / 2;
/// The weights of one chroma row taken as it is, and of the mean of two.
pub(super) const NEAREST: &[i16] = &[WHOLE];
const MEAN: &[i16] = &[HALF, HALF];

/// Which of swscale's three row functions makes an output row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// Chroma per pair of pixels, 16-bit arithmetic with truncated products: the assembly code.
    PairedFast,
    /// Chroma per pair of pixels, rounded once: the portable code, for the last two rows.
    PairedPortable,
    /// Chroma per pixel, 22 fractional bits.
    Full,
}

/// One row's luma and chroma, and the channels made of them.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// 15-bit luma, to be set before a row.
    pub(super) luma: Vec<i16>,
    /// Vertically filtered U, V: eighths of a level ([`Method::PairedFast`]), levels
    /// ([`Method::PairedPortable`]) or 1/512 levels from neutral ([`Method::Full`]).
    chroma: [Vec<i32>; 2],
    /// What chroma adds to each pixel by [`Method::PairedFast`]: R, G, B; an even number of pixels.
    added: [Vec<i16>; 3],
    /// Eighths of a level that [`Method::PairedFast`] adds to luma.
    rounding: i16,
    /// R, G, B levels after [`Rows::mix`].
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

    /// Filters the chroma `planes` with `weights`, rows `first` and on, for the rows of `method` that follow.
    #[inline(always)]
    pub(super) fn load_chroma(
        &mut self,
        planes: &[Vec<i16>; 2],
        first: usize,
        weights: &[i16],
        method: Method,
        matrix: &Matrix,
    ) {
        self.rounding = 0;
        match method {
            Method::PairedFast if weights == MEAN => {
                self.filter(
                    planes,
                    first,
                    weights,
                    [0, 5],
                    #[inline(always)]
                    |sample, _| sample.into(),
                );
                self.add_chroma(matrix);
            }
            Method::PairedFast => {
                // The assembly code rounds only when it applies weights, and then rounds luma too.
                self.rounding = if weights == NEAREST { 0 } else { 4 };
                self.filter(
                    planes,
                    first,
                    weights,
                    [self.rounding.into(), 0],
                    #[inline(always)]
                    |sample, weight| multiply_high(sample, weight).into(),
                );
                self.add_chroma(matrix);
            }
            Method::PairedPortable => self.filter(planes, first, weights, [1 << 18, 19], product),
            Method::Full => {
                let start = (1 << 9) - (128 << 19);
                self.filter(planes, first, weights, [start, 10], product);
            }
        }
    }

    /// Mixes luma with the chroma of [`Rows::load_chroma`] into `channels`.
    #[inline(always)]
    pub(super) fn mix(&mut self, method: Method, full_range: bool) {
        let matrix = Matrix::of(full_range);
        match method {
            Method::PairedFast => self.mix_fast(matrix),
            Method::PairedPortable => self.mix_portable(PortableMatrix::of(full_range)),
            Method::Full => self.mix_full(matrix),
        }
    }

    /// Fills `chroma`: the sum of all taps' products and `start`, shifted right by `shift`.
    #[inline(always)]
    fn filter(
        &mut self,
        planes: &[Vec<i16>; 2],
        first: usize,
        weights: &[i16],
        [start, shift]: [i32; 2],
        product: impl Fn(i16, i16) -> i32,
    ) {
        for (plane, sums) in planes.iter().zip(&mut self.chroma) {
            sums.fill(start);
            let rows = plane.chunks_exact(sums.len()).skip(first);
            for (row, &weight) in rows.zip(weights) {
                for (sum, &sample) in sums.iter_mut().zip(row) {
                    *sum += product(sample, weight);
                }
            }
            if shift > 0 {
                for sum in sums {
                    *sum >>= shift;
                }
            }
        }
    }

    /// Fills `added`.
    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        reason = "15-bit samples through weights that sum to 1 stay below 2^12 eighths"
    )]
    fn add_chroma(&mut self, matrix: &Matrix) {
        let [red, green, blue] = &mut self.added;
        let pairs = red.as_chunks_mut::<2>().0.iter_mut();
        let pairs = pairs
            .zip(green.as_chunks_mut::<2>().0)
            .zip(blue.as_chunks_mut::<2>().0);
        let [u, v] = &self.chroma;
        for (((red, green), blue), (&u, &v)) in pairs.zip(u.iter().zip(v)) {
            let (u, v) = ((u - 1024) as i16, (v - 1024) as i16);
            *red = [multiply_high(v, matrix.v_to_r); 2];
            *green = [multiply_high(u, matrix.u_to_g) + multiply_high(v, matrix.v_to_g); 2];
            *blue = [multiply_high(u, matrix.u_to_b); 2];
        }
    }

    #[inline(always)]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "levels are clamped to 0..=255"
    )]
    fn mix_fast(&mut self, matrix: &Matrix) {
        let above_black = self.rounding - matrix.black * 8;
        for (channel, added) in self.channels.iter_mut().zip(&self.added) {
            for ((level, &luma), &added) in channel.iter_mut().zip(&self.luma).zip(added) {
                let y = multiply_high((luma >> 4) + above_black, matrix.luma);
                *level = (y + added).clamp(0, 255) as u8;
            }
        }
    }

    #[inline(always)]
    fn mix_portable(&mut self, matrix: &PortableMatrix) {
        let [red, green, blue] = &mut self.channels;
        let [u, v] = &self.chroma;
        for (x, &luma) in self.luma.iter().enumerate() {
            let (u, v) = (u[x / 2], v[x / 2]);
            let luma = (i32::from(luma) + 64) >> 7;
            let to_green = matrix.u_to_g.steps(u) + matrix.v_to_g.steps(v);
            red[x] = matrix.level(luma + matrix.v_to_r.steps(v));
            green[x] = matrix.level(luma + to_green);
            blue[x] = matrix.level(luma + matrix.u_to_b.steps(u));
        }
    }

    #[inline(always)]
    fn mix_full(&mut self, matrix: &Matrix) {
        let [red, green, blue] = &mut self.channels;
        let [u, v] = &self.chroma;
        let channels = red.iter_mut().zip(green).zip(blue);
        let samples = self.luma.iter().zip(u).zip(v);
        for (((red, green), blue), ((&luma, &u), &v)) in channels.zip(samples) {
            [*red, *green, *blue] = full(luma, u, v, matrix);
        }
    }
}

/// The weights that swscale applies for a row of vertical `weights`.
#[inline(always)]
pub(super) fn applied_weights(weights: &[i16]) -> &[i16] {
    match *weights {
        [_] => NEAREST,
        // Two weights that cannot overflow are rounded to "the first" or "the mean", as a bilinear scaler may.
        [a, b] if b >= 0 && i32::from(a) + i32::from(b) == i32::from(WHOLE) => {
            if b < HALF {
                NEAREST
            } else {
                MEAN
            }
        }
        _ => weights,
    }
}

#[inline(always)]
fn product(a: i16, b: i16) -> i32 {
    i32::from(a) * i32::from(b)
}

/// High half of a 16 × 16 bit product, truncated downwards: x86 `pmulhw`.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the high half of a 32-bit product fits"
)]
fn multiply_high(a: i16, b: i16) -> i16 {
    (product(a, b) >> 16) as i16
}

/// One pixel by [`Method::Full`]: 15-bit luma, chroma in 1/512 levels from neutral.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255"
)]
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
    // swscale's 32-bit sums overflow for extreme colors, which then turn black. This is kept.
    .map(|sum| (sum >> 22).clamp(0, 255) as u8)
}
