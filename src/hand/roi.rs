//! From a palm, or from the landmarks of the frame before, to the rotated square that is the hand model's input.
//! Source: `HAND_LANDMARKER` specification, sections 4.2, 4.3 and 7.

use super::palm::{MIDDLE_MCP, Palm, WRIST};
use crate::geometry::{ImageRect, Size, wrap_angle};

/// MediaPipe Tasks rotates palms to 90 *radians*: its graph fills the radians field with degrees. This is kept, so
/// that the landmarks equal MediaPipe's: with pi/2 they move by up to 0.09.
const PALM_TARGET_RAD: f32 = 90.0;
/// A tracked hand is rotated to point straight up.
const TRACK_TARGET_RAD: f32 = std::f32::consts::FRAC_PI_2;

/// Wrist, thumb and the lower finger joints: the points that bound a tracked hand.
const TRACKED: [usize; 12] = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18];

/// The hand model's square for a palm in image fractions.
#[must_use]
pub fn from_palm(palm: &Palm, size: Size) -> ImageRect {
    let (width, height) = (size.width_f32(), size.height_f32());
    let b = &palm.bounds;
    let (from, to) = (palm.keypoints[WRIST], palm.keypoints[MIDDLE_MCP]);
    let dy = to[1] * height - from[1] * height;
    let dx = to[0] * width - from[0] * width;
    let rect = ImageRect {
        cx: b.x + b.w / 2.0,
        cy: b.y + b.h / 2.0,
        w: b.w,
        h: b.h,
        rotation_rad: wrap_angle(PALM_TARGET_RAD - (-dy).atan2(dx)),
    };
    enlarge(&rect, size, 2.6, -0.5)
}

/// The hand model's square for the next frame, from this frame's landmarks (image fractions).
#[must_use]
pub fn from_landmarks(landmarks: &[[f32; 3]; 21], size: Size) -> ImageRect {
    let (width, height) = (size.width_f32(), size.height_f32());
    let lm = landmarks;
    let (x0, y0) = (lm[0][0] * width, lm[0][1] * height);
    let knuckles =
        |axis: usize| f32::midpoint(f32::midpoint(lm[5][axis], lm[13][axis]), lm[9][axis]);
    let (x1, y1) = (knuckles(0) * width, knuckles(1) * height);
    let rotation_rad = wrap_angle(TRACK_TARGET_RAD - (-(y1 - y0)).atan2(x1 - x0));

    let points = TRACKED.map(|i| [lm[i][0], lm[i][1]]);
    let [left, top, right, bottom] = bounds(&points);
    let (ax, ay) = (f32::midpoint(right, left), f32::midpoint(bottom, top));
    let back = wrap_angle(-rotation_rad);
    let (c, s) = (back.cos(), back.sin());
    let upright = points.map(|[x, y]| {
        let (ox, oy) = ((x - ax) * width, (y - ay) * height);
        [ox * c - oy * s, ox * s + oy * c]
    });
    let [left, top, right, bottom] = bounds(&upright);
    let (px, py) = (f32::midpoint(right, left), f32::midpoint(bottom, top));
    let (c, s) = (rotation_rad.cos(), rotation_rad.sin());
    let rect = ImageRect {
        cx: (px * c - py * s + width * ax) / width,
        cy: (px * s + py * c + height * ay) / height,
        w: (right - left) / width,
        h: (bottom - top) / height,
        rotation_rad,
    };
    enlarge(&rect, size, 2.0, -0.1)
}

/// Left, top, right, bottom. The maxima start at the smallest positive f32, as MediaPipe's do.
fn bounds(points: &[[f32; 2]; 12]) -> [f32; 4] {
    let mut b = [f32::MAX, f32::MAX, f32::MIN_POSITIVE, f32::MIN_POSITIVE];
    for &[x, y] in points {
        b = [b[0].min(x), b[1].min(y), b[2].max(x), b[3].max(y)];
    }
    b
}

/// Shifts along the rectangle's own y axis, then makes it a square of `scale` times its long side.
fn enlarge(rect: &ImageRect, size: Size, scale: f32, shift_y: f32) -> ImageRect {
    let (width, height) = (size.width_f32(), size.height_f32());
    let ImageRect {
        mut cx,
        mut cy,
        w,
        h,
        rotation_rad,
    } = *rect;
    if rotation_rad == 0.0 {
        cy += h * shift_y;
    } else {
        let (c, s) = (rotation_rad.cos(), rotation_rad.sin());
        let (along_x, along_y) = (width * w * 0.0, height * h * shift_y);
        cx += (along_x * c - along_y * s) / width;
        cy += (along_x * s + along_y * c) / height;
    }
    let long = (w * width).max(h * height);
    ImageRect {
        cx,
        cy,
        w: long / width * scale,
        h: long / height * scale,
        rotation_rad,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::UprightBox;

    #[test]
    fn a_palms_square_is_square_in_pixels_and_26_degrees_off() {
        let mut keypoints = [[0.5, 0.5]; 7];
        keypoints[WRIST] = [0.5, 0.7];
        keypoints[MIDDLE_MCP] = [0.5, 0.5];
        let palm = Palm {
            score: 1.0,
            bounds: UprightBox {
                x: 0.4,
                y: 0.5,
                w: 0.2,
                h: 0.2,
            },
            keypoints,
        };
        let size = Size {
            width: 640,
            height: 480,
        };
        let r = from_palm(&palm, size);
        assert!((r.w * 640.0 - r.h * 480.0).abs() < 1e-3);
        assert!((r.w * 640.0 - 0.2 * 640.0 * 2.6).abs() < 1e-3);
        // An upright hand would be 0 with pi/2; 90 radians turn it by 26.62 degrees.
        assert!(
            (r.rotation_rad.to_degrees() - 26.62).abs() < 0.01,
            "{}",
            r.rotation_rad.to_degrees()
        );
    }

    #[test]
    fn an_upright_tracked_hand_is_not_turned() {
        let mut lm = [[0.5_f32, 0.5, 0.0]; 21];
        lm[0] = [0.5, 0.8, 0.0];
        for (i, x) in [(5, 0.45), (9, 0.5), (13, 0.55), (17, 0.6)] {
            lm[i] = [x, 0.5, 0.0];
        }
        let r = from_landmarks(
            &lm,
            Size {
                width: 400,
                height: 400,
            },
        );
        assert!(r.rotation_rad.abs() < 1e-3, "{}", r.rotation_rad);
        assert!(
            (r.w - r.h).abs() < 1e-6 && (r.w - 0.6).abs() < 1e-5,
            "{r:?}"
        );
    }
}
