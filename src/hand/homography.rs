//! The projective map from crop coordinates back to the image, with the rounding of OpenCV's `RotatedRect`,
//! `getPerspectiveTransform` and 3×3 inverse: the order of every operation below decides the last bits.
//! Source: `HAND_LANDMARKER` specification, sections 1.2 and 1.3.

use crate::geometry::PixelRect;

/// Row-major 3×3 matrix, f64: crop pixel (x, y, 1) → image (X, Y, W), pixel centers at integers.
pub type Matrix3 = [f64; 9];

/// Corners of the rotated rectangle in pixels, in the order bottom-left, top-left, top-right, bottom-right.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "OpenCV rounds to f32 at just these places"
)]
pub fn corners(rect: &PixelRect) -> [[f32; 2]; 4] {
    use std::f64::consts::PI;
    let degrees = (f64::from(rect.rotation_rad * 180.0) / PI) as f32;
    let angle = f64::from(degrees) * PI / 180.0;
    let b = angle.cos() as f32 * 0.5;
    let a = angle.sin() as f32 * 0.5;
    let PixelRect { cx, cy, w, h, .. } = *rect;
    let p0 = [cx - a * h - b * w, cy + b * h - a * w];
    let p1 = [cx + a * h - b * w, cy - b * h - a * w];
    let p2 = [2.0 * cx - p0[0], 2.0 * cy - p0[1]];
    let p3 = [2.0 * cx - p1[0], 2.0 * cy - p1[1]];
    [p0, p1, p2, p3]
}

/// The map that takes crop pixels of a `side × side` crop to image pixels, so that the rectangle's corners are the
/// crop coordinates 0 and `side`. There is no half-pixel shift.
#[must_use]
pub fn crop_to_image(rect: &PixelRect, side: usize) -> Matrix3 {
    #[expect(clippy::cast_precision_loss, reason = "a crop's side is 192 or 224")]
    let n = side as f32;
    let source = corners(rect);
    let target = [[0.0, n], [0.0, 0.0], [n, 0.0], [n, n]];
    let mut a = [[0.0_f64; 8]; 8];
    let mut b = [0.0_f64; 8];
    for k in 0..4 {
        let ([x, y], [u, v]) = (source[k], target[k]);
        a[k] = [x, y, 1.0, 0.0, 0.0, 0.0, -x * u, -y * u].map(f64::from);
        a[k + 4] = [0.0, 0.0, 0.0, x, y, 1.0, -x * v, -y * v].map(f64::from);
        (b[k], b[k + 4]) = (f64::from(u), f64::from(v));
    }
    solve(&mut a, &mut b);
    invert(&[b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], 1.0])
}

/// LU with partial pivoting in place; the solution replaces `b`. A singular system gives NaN or infinity, which
/// the sampler turns into border pixels.
#[expect(
    clippy::needless_range_loop,
    reason = "the index form mirrors the specified order of operations"
)]
fn solve(a: &mut [[f64; 8]; 8], b: &mut [f64; 8]) {
    for i in 0..8 {
        let mut pivot = i;
        for r in i + 1..8 {
            if a[r][i].abs() > a[pivot][i].abs() {
                pivot = r;
            }
        }
        a.swap(i, pivot);
        b.swap(i, pivot);
        let d = -1.0 / a[i][i];
        for r in i + 1..8 {
            let alpha = a[r][i] * d;
            for c in i + 1..8 {
                a[r][c] += alpha * a[i][c];
            }
            b[r] += alpha * b[i];
        }
    }
    for i in (0..8).rev() {
        let mut s = b[i];
        for k in i + 1..8 {
            s -= a[i][k] * b[k];
        }
        b[i] = s / a[i][i];
    }
}

/// Inverse by cofactors.
fn invert(m: &Matrix3) -> Matrix3 {
    let det = m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6])
        + m[2] * (m[3] * m[7] - m[4] * m[6]);
    let d = 1.0 / det;
    [
        (m[4] * m[8] - m[5] * m[7]) * d,
        (m[2] * m[7] - m[1] * m[8]) * d,
        (m[1] * m[5] - m[2] * m[4]) * d,
        (m[5] * m[6] - m[3] * m[8]) * d,
        (m[0] * m[8] - m[2] * m[6]) * d,
        (m[2] * m[3] - m[0] * m[5]) * d,
        (m[3] * m[7] - m[4] * m[6]) * d,
        (m[1] * m[6] - m[0] * m[7]) * d,
        (m[0] * m[4] - m[1] * m[3]) * d,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(q: &Matrix3, x: f64, y: f64) -> (f64, f64) {
        let w = q[6] * x + q[7] * y + q[8];
        (
            (q[0] * x + q[1] * y + q[2]) / w,
            (q[3] * x + q[4] * y + q[5]) / w,
        )
    }

    #[test]
    fn crop_corners_are_the_rectangles_corners() {
        for rotation_rad in [0.0, 0.3, -2.0, 3.1] {
            let rect = PixelRect {
                cx: 301.5,
                cy: 97.25,
                w: 180.0,
                h: 181.0,
                rotation_rad,
            };
            let q = crop_to_image(&rect, 224);
            let at = [(0.0, 224.0), (0.0, 0.0), (224.0, 0.0), (224.0, 224.0)];
            for (corner, (x, y)) in corners(&rect).iter().zip(at) {
                let (px, py) = apply(&q, x, y);
                assert!((px - f64::from(corner[0])).abs() < 1e-6, "{px} {corner:?}");
                assert!((py - f64::from(corner[1])).abs() < 1e-6, "{py} {corner:?}");
            }
        }
    }

    #[test]
    fn inverse_undoes() {
        let m = [2.0, 0.5, -3.0, 0.25, 1.5, 4.0, 0.001, -0.002, 1.0];
        let q = invert(&m);
        let (x, y) = apply(&m, 7.0, -2.0);
        let (bx, by) = apply(&q, x, y);
        assert!((bx - 7.0).abs() < 1e-9 && (by + 2.0).abs() < 1e-9);
    }
}
