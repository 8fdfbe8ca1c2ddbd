//! Points, sizes and rotated rectangles. The y axis points down; angles are radians, positive turns clockwise on
//! the screen. A space is a type: [`ImageRect`] is in fractions of the image, [`PixelRect`] in pixels.

use crate::frame::RgbFrame;

/// Width and height of an image in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Size {
    /// The size of `frame`.
    #[must_use]
    pub fn of(frame: &RgbFrame) -> Self {
        Self {
            width: frame.width(),
            height: frame.height(),
        }
    }

    /// Width as the f32 that all of MediaPipe's geometry is done in.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "image sides are far below 2^24")]
    pub fn width_f32(self) -> f32 {
        self.width as f32
    }

    /// Height as f32.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "image sides are far below 2^24")]
    pub fn height_f32(self) -> f32 {
        self.height as f32
    }
}

/// A rotated rectangle in fractions of the image: `cx` and `w` in image widths, `cy` and `h` in image heights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ImageRect {
    /// Center, fraction of the image's width.
    pub cx: f32,
    /// Center, fraction of the image's height.
    pub cy: f32,
    /// Width before rotation, fraction of the image's width.
    pub w: f32,
    /// Height before rotation, fraction of the image's height.
    pub h: f32,
    /// Radians, clockwise.
    pub rotation_rad: f32,
}

impl ImageRect {
    /// The same rectangle in pixels of an image of `size`.
    #[must_use]
    pub fn to_pixels(self, size: Size) -> PixelRect {
        let (width, height) = (size.width_f32(), size.height_f32());
        PixelRect {
            cx: self.cx * width,
            cy: self.cy * height,
            w: self.w * width,
            h: self.h * height,
            rotation_rad: self.rotation_rad,
        }
    }
}

/// A rotated rectangle in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelRect {
    /// Center, pixels from the left.
    pub cx: f32,
    /// Center, pixels from the top.
    pub cy: f32,
    /// Width before rotation, pixels.
    pub w: f32,
    /// Height before rotation, pixels.
    pub h: f32,
    /// Radians, clockwise.
    pub rotation_rad: f32,
}

/// An upright box: minimum corner and size, in whatever space its maker says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UprightBox {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub w: f32,
    /// Height.
    pub h: f32,
}

impl UprightBox {
    /// Intersection over union in f32, 0 where the boxes do not touch or have no area.
    ///
    /// ```
    /// use handloom::geometry::UprightBox;
    ///
    /// let unit = UprightBox { x: 0.0, y: 0.0, w: 1.0, h: 1.0 };
    /// let half = UprightBox { x: 0.5, ..unit };
    /// assert!((unit.iou(&half) - 1.0 / 3.0).abs() < 1e-6); // 0.5 / (1 + 1 − 0.5)
    /// ```
    #[must_use]
    pub fn iou(&self, other: &Self) -> f32 {
        let (ax, ay) = (self.x + self.w, self.y + self.h);
        let (bx, by) = (other.x + other.w, other.y + other.h);
        if bx < self.x || ax < other.x || by < self.y || ay < other.y {
            return 0.0;
        }
        let inter = (ax.min(bx) - self.x.max(other.x)) * (ay.min(by) - self.y.max(other.y));
        let union = (ax - self.x) * (ay - self.y) + (bx - other.x) * (by - other.y) - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }
}

/// Brings an angle into [-pi, pi): evaluated in f64, stored in f32, as MediaPipe does.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the rounding to f32 is part of the definition"
)]
pub fn wrap_angle(angle_rad: f32) -> f32 {
    use std::f64::consts::PI;
    let a = f64::from(angle_rad);
    (a - 2.0 * PI * ((a + PI) / (2.0 * PI)).floor()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_known_boxes() {
        let unit = UprightBox {
            x: 0.0,
            y: 0.0,
            w: 1.0,
            h: 1.0,
        };
        let check = |x: f32, y: f32, w: f32, h: f32, expected: f32| {
            let got = unit.iou(&UprightBox { x, y, w, h });
            assert!((got - expected).abs() < 1e-6, "{x} {y} {w} {h}: {got}");
        };
        check(0.0, 0.0, 1.0, 1.0, 1.0);
        check(0.5, 0.0, 1.0, 1.0, 1.0 / 3.0);
        check(2.0, 0.0, 1.0, 1.0, 0.0);
        check(1.0, 1.0, 1.0, 1.0, 0.0);
        check(0.25, 0.25, 0.5, 0.5, 0.25);
    }

    #[test]
    fn a_box_without_area_meets_nothing() {
        let empty = UprightBox {
            x: 0.5,
            y: 0.5,
            w: 0.0,
            h: 0.0,
        };
        assert!(empty.iou(&empty).abs() < f32::EPSILON);
    }

    #[test]
    fn angles_wrap() {
        use std::f32::consts::PI;
        for (angle, expected) in [
            (0.0, 0.0),
            (PI, -PI),
            (3.0 * PI, -PI),
            (-0.5, -0.5),
            (7.0, 7.0 - 2.0 * PI),
        ] {
            assert!((wrap_angle(angle) - expected).abs() < 1e-5, "{angle}");
        }
        // Tasks' own constant: 90 radians, see hand::roi.
        assert!((wrap_angle(90.0) - 2.035_406).abs() < 1e-5);
    }
}
