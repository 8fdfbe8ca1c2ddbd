//! Cuts a rotated square out of an image, bit-equal to OpenCV 4.10's `warpPerspective` with bilinear
//! interpolation as MediaPipe calls it: positions in 1/32 pixel, integer weights, result rounded to 8 bits.
//! Source: `HAND_LANDMARKER` specification, sections 1.3 to 1.6.
//!
//! Each row is done in three passes: positions in f64, a copy of the four neighbors of every pixel, an integer blend.
//! The compiler vectorizes the first and the last (AVX2 where the processor has it, NEON on aarch64).

#![expect(
    clippy::inline_always,
    reason = "inner functions must take on the instruction set of their caller"
)]

use super::homography::{Matrix3, crop_to_image};
use crate::frame::RgbFrame;
use crate::geometry::PixelRect;

/// Largest side of a crop; the hand model's 224 is the largest in use.
pub const SIDE_MAX: usize = 224;

/// OpenCV restarts its position arithmetic at every 64th column.
const BLOCK: usize = 64;

/// Adding 1.5 × 2^52 leaves the integer nearest to an f64, halves to even, in its low bits.
const ROUND_MAGIC: f64 = 6_755_399_441_055_744.0;

/// The pixels outside of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Border {
    /// Black: the palm detector's crop.
    Zero,
    /// The nearest edge pixel: the hand model's crop.
    Replicate,
}

/// Cuts crops. It holds the working row: positions, and the four neighbors of every pixel.
#[derive(Debug)]
pub struct Warp {
    x: [i32; SIDE_MAX],
    y: [i32; SIDE_MAX],
    /// R, G and B in the low bytes.
    neighbors: [[u32; SIDE_MAX]; 4],
}

impl Default for Warp {
    fn default() -> Self {
        Self {
            x: [0; SIDE_MAX],
            y: [0; SIDE_MAX],
            neighbors: [[0; SIDE_MAX]; 4],
        }
    }
}

impl Warp {
    /// Fills `tensor`, `[side, side, 3]` f32 in 0..=1, with the part of `frame` under `rect`.
    ///
    /// ```
    /// use handloom::{frame::RgbFrame, geometry::PixelRect, hand::warp::{Border, Warp}};
    ///
    /// let frame = RgbFrame::from_pixels(4, 4, vec![51; 4 * 4 * 3]).expect("48 bytes");
    /// let whole = PixelRect { cx: 2.0, cy: 2.0, w: 4.0, h: 4.0, rotation_rad: 0.0 };
    /// let mut tensor = vec![0.0; 8 * 8 * 3];
    /// Warp::default().crop(&frame, &whole, 8, Border::Replicate, &mut tensor);
    /// assert!(tensor.iter().all(|v| (v - 0.2).abs() < 1e-6)); // 51 / 255
    /// ```
    ///
    /// # Panics
    /// When `side` is above [`SIDE_MAX`] or `tensor` has another length: a bug of the caller.
    pub fn crop(
        &mut self,
        frame: &RgbFrame,
        rect: &PixelRect,
        side: usize,
        border: Border,
        tensor: &mut [f32],
    ) {
        assert!(
            side <= SIDE_MAX && tensor.len() == side * side * 3,
            "crop of side {side} into {}",
            tensor.len()
        );
        let q = crop_to_image(rect, side);
        // Safe run-time choice of AVX2; on aarch64 the baseline already has NEON.
        pulp::Arch::new().dispatch(Rows {
            row: self,
            frame,
            q: &q,
            side,
            border,
            tensor,
        });
    }
}

/// All rows of a crop as one call that `pulp` compiles for each instruction set; a closure would not be inlined
/// into it and stay with the baseline's.
struct Rows<'a> {
    row: &'a mut Warp,
    frame: &'a RgbFrame,
    q: &'a Matrix3,
    side: usize,
    border: Border,
    tensor: &'a mut [f32],
}

impl pulp::NullaryFnOnce for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for (y, out) in self.tensor.chunks_exact_mut(self.side * 3).enumerate() {
            positions(self.row, self.q, self.side, y);
            gather(self.row, self.frame, self.side, self.border);
            blend(self.row, out);
        }
    }
}

/// Sampling positions of row `y` in 1/32 pixel.
#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "crop coordinates are below 224")]
fn positions(row: &mut Warp, q: &Matrix3, side: usize, y: usize) {
    let y = y as f64;
    for start in (0..side).step_by(BLOCK) {
        let end = (start + BLOCK).min(side);
        let xb = start as f64;
        let x0 = q[0] * xb + q[1] * y + q[2];
        let y0 = q[3] * xb + q[4] * y + q[5];
        let w0 = q[6] * xb + q[7] * y + q[8];
        let (xs, ys) = (&mut row.x[start..end], &mut row.y[start..end]);
        for (i, (px, py)) in xs.iter_mut().zip(ys.iter_mut()).enumerate() {
            let x1 = i as f64;
            let w = w0 + q[6] * x1;
            let t = if w == 0.0 { 0.0 } else { 32.0 / w };
            *px = round_half_even((x0 + q[0] * x1) * t);
            *py = round_half_even((y0 + q[3] * x1) * t);
        }
    }
}

/// Nearest integer, halves to even, saturating; NaN becomes some integer.
#[inline(always)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half holds the integer"
)]
fn round_half_even(v: f64) -> i32 {
    let v = v.clamp(f64::from(i32::MIN), f64::from(i32::MAX));
    (v + ROUND_MAGIC).to_bits() as i32
}

/// Copies the four neighbors of each pixel of the row.
#[inline(always)]
#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "signs are checked first, images are below 2^31 pixels a side"
)]
fn gather(row: &mut Warp, frame: &RgbFrame, side: usize, border: Border) {
    let (width, height) = (frame.width(), frame.height());
    let pixels = frame.pixels();
    let stride = width * 3;
    let (last_x, last_y) = ((width as i32 - 1).max(0), (height as i32 - 1).max(0));
    let [p00, p01, p10, p11] = &mut row.neighbors;
    let targets = p00.iter_mut().zip(p01).zip(p10).zip(p11);
    let positions = row.x.iter().zip(&row.y).take(side);
    for ((&x, &y), (((p00, p01), p10), p11)) in positions.zip(targets) {
        let (ix, iy) = (x >> 5, y >> 5);
        // Negative positions wrap to large numbers, so one comparison a side is enough.
        if (ix as u32) < last_x as u32 && (iy as u32) < last_y as u32 {
            let at = iy as usize * stride + ix as usize * 3;
            // Two neighbors are six bytes; eight exist but for the very last pixels of the image.
            if let Some(both) = pixels.get(at..at + stride + 8) {
                let (top, bottom) = (eight(both), eight(&both[stride..]));
                (*p00, *p01) = (top as u32, (top >> 24) as u32);
                (*p10, *p11) = (bottom as u32, (bottom >> 24) as u32);
                continue;
            }
        }
        // All four are outside, as in the letterbox of the palm's crop, which this makes a fifth faster.
        let beside = ix < -1 || ix > last_x || iy < -1 || iy > last_y;
        if border == Border::Zero && beside {
            (*p00, *p01, *p10, *p11) = (0, 0, 0, 0);
            continue;
        }
        let (right, below) = (ix.saturating_add(1), iy.saturating_add(1));
        let is_black =
            |x: i32, y: i32| border == Border::Zero && (x < 0 || x > last_x || y < 0 || y > last_y);
        for (p, x, y) in [
            (p00, ix, iy),
            (p01, right, iy),
            (p10, ix, below),
            (p11, right, below),
        ] {
            let at = y.clamp(0, last_y) as usize * stride + x.clamp(0, last_x) as usize * 3;
            *p = match pixels.get(at..at + 3) {
                Some(pixel) if !is_black(x, y) => {
                    u32::from_le_bytes([pixel[0], pixel[1], pixel[2], 0])
                }
                _ => 0,
            };
        }
    }
}

/// The first eight bytes of `bytes`, as a number; 0 where there are fewer.
#[inline(always)]
fn eight(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |b| u64::from_le_bytes(*b))
}

/// `(S + 512) >> 10` with `S` the weighted sum of the neighbors, times f32(1/255).
#[inline(always)]
#[expect(clippy::cast_sign_loss, reason = "fractions are 5 bits wide")]
fn blend(row: &Warp, out: &mut [f32]) {
    let [p00, p01, p10, p11] = &row.neighbors;
    let top = p00.iter().zip(p01);
    let bottom = p10.iter().zip(p11);
    let positions = row.x.iter().zip(&row.y);
    let (out, _) = out.as_chunks_mut::<3>();
    for (out, ((&x, &y), ((&p00, &p01), (&p10, &p11)))) in
        out.iter_mut().zip(positions.zip(top.zip(bottom)))
    {
        let (fx, fy) = ((x & 31) as u32, (y & 31) as u32);
        // `a * (32 - f) + b * f`. Of two channels at once: the sum fits 16 bits each, whatever the difference
        // borrows.
        let between =
            |a: u32, b: u32, f: u32| (a << 5).wrapping_add(b.wrapping_sub(a).wrapping_mul(f));
        let red_blue = |p: u32| p & 0x00ff_00ff;
        let green = |p: u32| (p >> 8) & 0xff;
        let top = between(red_blue(p00), red_blue(p01), fx);
        let bottom = between(red_blue(p10), red_blue(p11), fx);
        *out = [
            level(between(top & 0xffff, bottom & 0xffff, fy)),
            level(between(
                between(green(p00), green(p01), fx),
                between(green(p10), green(p11), fx),
                fy,
            )),
            level(between(top >> 16, bottom >> 16, fy)),
        ];
    }
}

/// The tensor's value for a weighted sum.
#[inline(always)]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "0..=255"
)]
fn level(sum: u32) -> f32 {
    const UNIT: f32 = 1.0 / 255.0;
    // A signed number: only those have a vector instruction for the conversion.
    ((sum + 512) >> 10) as i32 as f32 * UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize, seed: u32) -> RgbFrame {
        let mut frame = RgbFrame::new(width, height);
        let mut s = seed | 1;
        for p in frame.pixels_mut() {
            s ^= s << 13;
            s ^= s >> 17;
            s ^= s << 5;
            *p = (s >> 24) as u8;
        }
        frame
    }

    /// Sections 1.4 and 1.5, implemented again one pixel at a time, with the library's own rounding.
    fn reference(frame: &RgbFrame, rect: &PixelRect, side: usize, border: Border) -> Vec<f32> {
        let q = crop_to_image(rect, side);
        let mut out = Vec::new();
        for y in 0..side {
            for x in 0..side {
                let xb = (x / 64 * 64) as f64;
                let x1 = x as f64 - xb;
                let yf = y as f64;
                let w = (q[6] * xb + q[7] * yf + q[8]) + q[6] * x1;
                let t = if w == 0.0 { 0.0 } else { 32.0 / w };
                let px =
                    (((q[0] * xb + q[1] * yf + q[2]) + q[0] * x1) * t).round_ties_even() as i64;
                let py =
                    (((q[3] * xb + q[4] * yf + q[5]) + q[3] * x1) * t).round_ties_even() as i64;
                let (ix, iy, fx, fy) = (px >> 5, py >> 5, px & 31, py & 31);
                for c in 0..3 {
                    let at = |x: i64, y: i64| {
                        let inside = x >= 0
                            && y >= 0
                            && x < frame.width() as i64
                            && y < frame.height() as i64;
                        if border == Border::Zero && !inside {
                            return 0;
                        }
                        let x = x.clamp(0, frame.width() as i64 - 1) as usize;
                        let y = y.clamp(0, frame.height() as i64 - 1) as usize;
                        i64::from(frame.pixels()[(y * frame.width() + x) * 3 + c])
                    };
                    let s = (32 - fx) * (32 - fy) * at(ix, iy)
                        + fx * (32 - fy) * at(ix + 1, iy)
                        + (32 - fx) * fy * at(ix, iy + 1)
                        + fx * fy * at(ix + 1, iy + 1);
                    out.push(((s + 512) >> 10) as f32 * (1.0_f32 / 255.0));
                }
            }
        }
        out
    }

    #[test]
    fn equals_the_plain_form_everywhere() {
        let mut warp = Warp::default();
        let mut cases = 0;
        for (width, height) in [(320, 240), (97, 61), (33, 200), (1, 1), (2, 3), (641, 479)] {
            let frame = noise(width, height, (width * 7 + height) as u32);
            for (dx, dy, size, rotation_rad) in [
                (0.5, 0.5, 1.0, 0.0),
                (0.1, 0.9, 0.7, 0.4),
                (1.1, -0.2, 0.9, 2.0),
                (0.5, 0.5, 3.0, -1.0),
                (9.0, 9.0, 0.3, 3.0),
            ] {
                let long = width.max(height) as f32;
                let rect = PixelRect {
                    cx: width as f32 * dx,
                    cy: height as f32 * dy,
                    w: long * size,
                    h: long * size,
                    rotation_rad,
                };
                for (side, border) in [(192, Border::Zero), (224, Border::Replicate)] {
                    let mut tensor = vec![0.0; side * side * 3];
                    warp.crop(&frame, &rect, side, border, &mut tensor);
                    assert!(
                        tensor == reference(&frame, &rect, side, border),
                        "{width}x{height} {rect:?} {border:?}"
                    );
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 60);
    }

    #[test]
    fn a_crop_of_its_own_size_is_the_image() {
        let frame = noise(192, 192, 5);
        let rect = PixelRect {
            cx: 96.0,
            cy: 96.0,
            w: 192.0,
            h: 192.0,
            rotation_rad: 0.0,
        };
        let mut tensor = vec![0.0; 192 * 192 * 3];
        Warp::default().crop(&frame, &rect, 192, Border::Zero, &mut tensor);
        for (t, p) in tensor.iter().zip(frame.pixels()) {
            assert_eq!((t * 255.0).round() as u8, *p);
        }
    }

    #[test]
    fn degenerate_rectangles_do_not_panic() {
        let frame = noise(64, 48, 9);
        let mut tensor = vec![0.0; 224 * 224 * 3];
        for v in [0.0, f32::NAN, f32::INFINITY, 1e30, -1.0] {
            let rect = PixelRect {
                cx: v,
                cy: v,
                w: v,
                h: v,
                rotation_rad: v,
            };
            Warp::default().crop(&frame, &rect, 224, Border::Replicate, &mut tensor);
        }
    }

    #[test]
    fn rounds_halves_to_even() {
        for (v, expected) in [
            (0.5, 0),
            (1.5, 2),
            (2.5, 2),
            (-0.5, 0),
            (-1.5, -2),
            (1e18, i32::MAX),
            (-1e18, i32::MIN),
        ] {
            assert_eq!(round_half_even(v), expected, "{v}");
        }
    }
}
