//! The short way: 8-bit 4:2:0 and 4:2:2 of even height, nearest chroma, 16-bit arithmetic.
//!
//! Written so that the compiler vectorises it: 16-bit lanes, one multiply-high per product, chroma computed
//! once per chroma sample and widened, then planar rows that are interleaved.

use super::coefficients::Matrix;
use super::{ChromaLayout, YuvFrame};
use crate::frame::RgbFrame;

/// Working rows, kept from image to image.
#[derive(Debug, Default)]
pub(super) struct Unscaled {
    /// What chroma adds to each pixel of a row: R, G, B; an even number of pixels.
    added: [Vec<i16>; 3],
    /// One row of R, G, B.
    row: [Vec<u8>; 3],
}

impl Unscaled {
    /// Converts a validated 8-bit 4:2:0 or 4:2:2 image; `out` has its size.
    pub(super) fn convert(&mut self, frame: &YuvFrame<'_>, out: &mut RgbFrame) {
        let padded = frame.width.next_multiple_of(2);
        for added in &mut self.added {
            added.resize(padded, 0);
        }
        for row in &mut self.row {
            row.resize(frame.width, 0);
        }
        // Safe run-time choice of AVX2; on aarch64 the baseline already has NEON.
        pulp::Arch::new().dispatch(AllRows {
            scratch: self,
            frame,
            out,
        });
    }

    #[inline(always)]
    fn convert_rows(&mut self, frame: &YuvFrame<'_>, out: &mut RgbFrame) {
        let matrix = Matrix::of(frame.full_range);
        let rows_per_chroma = if frame.layout == ChromaLayout::Yuv420 {
            2
        } else {
            1
        };
        let pairs = out
            .pixels_mut()
            .chunks_mut(frame.width * 3 * rows_per_chroma);
        for (chroma, targets) in pairs.enumerate() {
            let samples = frame.row(1, chroma).iter().zip(frame.row(2, chroma));
            let centered = samples.map(
                #[inline(always)]
                |(&u, &v)| (i16::from(u) * 8 - 1024, i16::from(v) * 8 - 1024),
            );
            add_chroma(centered, matrix, &mut self.added);
            for (below, target) in targets.chunks_exact_mut(frame.width * 3).enumerate() {
                let samples = frame.row(0, chroma * rows_per_chroma + below).iter();
                let luma = samples.map(
                    #[inline(always)]
                    |&luma| (i16::from(luma) - matrix.black) * 8,
                );
                let [red, green, blue] = &mut self.row;
                let [to_red, to_green, to_blue] = &self.added;
                add_luma(luma.clone(), to_red, matrix, red);
                add_luma(luma.clone(), to_green, matrix, green);
                add_luma(luma, to_blue, matrix, blue);
                interleave(red, green, blue, target);
            }
        }
    }
}

/// One image's work; a type of its own because a closure's call is not always inlined into the AVX2 code.
struct AllRows<'a> {
    scratch: &'a mut Unscaled,
    frame: &'a YuvFrame<'a>,
    out: &'a mut RgbFrame,
}

impl pulp::NullaryFnOnce for AllRows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.scratch.convert_rows(self.frame, self.out);
    }
}

/// High half of a 16 × 16 bit product, truncated downwards: x86 `pmulhw`.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the high half of a 32-bit product fits"
)]
pub(super) fn multiply_high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// Fills `added` with two pixels per chroma sample; `chroma` yields U and V in eighths of a level from neutral.
#[inline(always)]
pub(super) fn add_chroma(
    chroma: impl Iterator<Item = (i16, i16)>,
    matrix: &Matrix,
    added: &mut [Vec<i16>; 3],
) {
    let [red, green, blue] = added;
    let pairs = red
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .zip(green.as_chunks_mut::<2>().0)
        .zip(blue.as_chunks_mut::<2>().0);
    for (((red, green), blue), (u, v)) in pairs.zip(chroma) {
        *red = [multiply_high(v, matrix.v_to_r); 2];
        *green = [multiply_high(u, matrix.u_to_g) + multiply_high(v, matrix.v_to_g); 2];
        *blue = [multiply_high(u, matrix.u_to_b); 2];
    }
}

/// One channel of one row: luma plus what chroma adds, clamped to bytes; `luma` in eighths of a level above black.
#[inline(always)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0..=255"
)]
pub(super) fn add_luma(
    luma: impl Iterator<Item = i16>,
    added: &[i16],
    matrix: &Matrix,
    channel: &mut [u8],
) {
    for ((level, luma), &added) in channel.iter_mut().zip(luma).zip(added) {
        let y = multiply_high(luma, matrix.luma);
        *level = (y + added).clamp(0, 255) as u8;
    }
}

/// Planar rows into `target`, `[width, 3]` u8.
#[inline(always)]
pub(super) fn interleave(red: &[u8], green: &[u8], blue: &[u8], target: &mut [u8]) {
    let channels = red.iter().zip(green).zip(blue);
    for (pixel, ((&r, &g), &b)) in target.as_chunks_mut::<3>().0.iter_mut().zip(channels) {
        *pixel = [r, g, b];
    }
}
