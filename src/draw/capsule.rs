//! A capsule: all points within a radius of a line segment, the radius changing evenly from end to end.
//!
//! Discs and lines are capsules too. Drawing visits the bounding box alone, blends edges over one pixel and
//! clips to the image; a shape that is wholly outside, not finite or absurdly far away draws nothing.

use super::{to_byte, to_f32, to_index};
use crate::frame::RgbFrame;

/// Largest coordinate that is drawn, pixels. Beyond it, squares in f32 are less precise than a pixel.
const REACH_MAX_PX: f32 = 1.0e6;

/// A segment with a radius at each end, in image pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Capsule {
    /// First end, `[x, y]`.
    pub(super) a: [f32; 2],
    /// Second end, `[x, y]`; may equal `a`.
    pub(super) b: [f32; 2],
    pub(super) radius_a: f32,
    pub(super) radius_b: f32,
}

/// One pixel as seen from a capsule.
#[derive(Clone, Copy, Debug)]
pub(super) struct CapsuleSample {
    /// How much of the pixel lies inside, 0..=1.
    pub(super) coverage: f32,
    /// Where the nearest point of the axis lies: 0 at `a`, 1 at `b`.
    pub(super) along: f32,
    /// The square of the distance from the axis, pixels squared.
    pub(super) squared: f32,
    /// The capsule's radius there, pixels.
    pub(super) radius: f32,
}

/// Draws a line with round ends, `width` pixels wide; a disc where both ends are one point.
///
/// `opacity` 0..=1 scales how much of the background it hides.
pub(super) fn fill_line(
    frame: &mut RgbFrame,
    [a, b]: [[f32; 2]; 2],
    width: f32,
    color: [u8; 3],
    opacity: f32,
) {
    let capsule = Capsule {
        a,
        b,
        radius_a: width / 2.0,
        radius_b: width / 2.0,
    };
    let (columns, rows) = (frame.width(), frame.height());
    let color = color.map(f32::from);
    let pixels = frame.pixels_mut();
    capsule.visit(columns, rows, |index, sample| {
        let pixel = &mut pixels[index * 3..index * 3 + 3];
        blend(pixel, color, sample.coverage * opacity);
    });
}

impl Capsule {
    /// Calls `ink` with the index `y * width + x` of each pixel of a `width × height` image that the capsule touches,
    /// and with the capsule's sample there.
    pub(super) fn visit(
        &self,
        width: usize,
        height: usize,
        mut ink: impl FnMut(usize, CapsuleSample),
    ) {
        let (a, b) = (self.a, self.b);
        let Some([left, top, right, bottom]) = self.bounds(width, height) else {
            return;
        };
        let axis = [b[0] - a[0], b[1] - a[1]];
        // A disc has no axis; any positive number keeps the division finite and the nearest point at `a`.
        let axis_squared = (axis[0] * axis[0] + axis[1] * axis[1]).max(1.0e-9);
        for row in top..bottom {
            let y = to_f32(row) + 0.5 - a[1];
            for column in left..right {
                let x = to_f32(column) + 0.5 - a[0];
                let along = ((x * axis[0] + y * axis[1]) / axis_squared).clamp(0.0, 1.0);
                let off = [x - along * axis[0], y - along * axis[1]];
                let squared = off[0] * off[0] + off[1] * off[1];
                let radius = self.radius_a + (self.radius_b - self.radius_a) * along;
                let outer = radius + 0.5;
                if outer <= 0.0 || squared >= outer * outer {
                    continue;
                }
                // A capsule thinner than a pixel cannot cover all of it.
                let most = (2.0 * radius).clamp(0.0, 1.0);
                let sample = CapsuleSample {
                    coverage: (outer - squared.sqrt()).min(most),
                    along,
                    squared,
                    radius,
                };
                ink(row * width + column, sample);
            }
        }
    }

    /// Left, top, right and bottom (the latter two exclusive) of the pixels it can touch; `None` if it cannot be
    /// drawn or lies outside.
    fn bounds(&self, width: usize, height: usize) -> Option<[usize; 4]> {
        let (a, b) = (self.a, self.b);
        let (radius_a, radius_b) = (self.radius_a, self.radius_b);
        let numbers = [a[0], a[1], b[0], b[1], radius_a, radius_b];
        // NaN fails this comparison too.
        let drawable = numbers.iter().all(|n| n.abs() <= REACH_MAX_PX);
        if !drawable || radius_a.max(radius_b) <= 0.0 {
            return None;
        }
        let span = |a: f32, b: f32, limit: usize| {
            let low = (a - radius_a).min(b - radius_b) - 1.0;
            let high = (a + radius_a).max(b + radius_b) + 2.0;
            (to_index(low), to_index(high).min(limit))
        };
        let (left, right) = span(a[0], b[0], width);
        let (top, bottom) = span(a[1], b[1], height);
        (left < right && top < bottom).then_some([left, top, right, bottom])
    }
}

/// Moves a pixel (R G B) towards `color` (0..=255) by `opacity` (0..=1).
pub(super) fn blend(pixel: &mut [u8], color: [f32; 3], opacity: f32) {
    for (channel, value) in pixel.iter_mut().zip(color) {
        let behind = f32::from(*channel);
        *channel = to_byte(behind + (value - behind) * opacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_disc(
        frame: &mut RgbFrame,
        center: [f32; 2],
        radius: f32,
        color: [u8; 3],
        opacity: f32,
    ) {
        fill_line(frame, [center; 2], 2.0 * radius, color, opacity);
    }

    /// The summed coverage of everything drawn in white on black, in pixels.
    fn area(frame: &RgbFrame) -> f32 {
        frame
            .pixels()
            .chunks_exact(3)
            .map(|p| f32::from(p[0]) / 255.0)
            .sum()
    }

    #[test]
    fn a_disc_has_its_area() {
        for (center, radius) in [
            ([32.0, 32.0], 20.0_f32),
            ([30.3, 33.8], 7.5),
            ([31.5, 32.5], 2.0),
        ] {
            let mut frame = RgbFrame::new(64, 64);
            fill_disc(&mut frame, center, radius, [255; 3], 1.0);
            let expected = std::f32::consts::PI * radius * radius;
            assert!(
                (area(&frame) / expected - 1.0).abs() < 0.05,
                "{radius}: {} / {expected}",
                area(&frame)
            );
        }
    }

    #[test]
    fn a_line_has_its_area_at_any_angle() {
        for end in [[70.0, 40.0], [60.0, 60.0], [40.0, 12.0]] {
            let mut frame = RgbFrame::new(80, 80);
            fill_line(&mut frame, [[40.0, 40.0], end], 4.0, [255; 3], 1.0);
            let length = f32::hypot(end[0] - 40.0, end[1] - 40.0);
            let expected = length * 4.0 + std::f32::consts::PI * 4.0;
            assert!((area(&frame) / expected - 1.0).abs() < 0.03);
        }
    }

    #[test]
    fn a_disc_over_the_border_keeps_the_half_inside() {
        let mut frame = RgbFrame::new(64, 64);
        fill_disc(&mut frame, [0.0, 32.0], 20.0, [255; 3], 1.0);
        let expected = std::f32::consts::PI * 200.0;
        assert!((area(&frame) / expected - 1.0).abs() < 0.03);
    }

    #[test]
    fn nothing_panics_and_what_is_outside_draws_nothing() {
        let odd = [
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::MAX,
            -1.0e5,
            1.0e5,
            -300.0,
        ];
        for (width, height) in [(0, 0), (1, 1), (0, 5), (5, 0), (16, 9)] {
            let mut frame = RgbFrame::new(width, height);
            for x in odd {
                for y in odd {
                    fill_disc(&mut frame, [x, y], 5.0, [255; 3], 1.0);
                    fill_disc(&mut frame, [4.0, 4.0], -y.abs(), [255; 3], 1.0);
                }
            }
            assert!(frame.pixels().iter().all(|&v| v == 0));
            fill_line(
                &mut frame,
                [[-1.0e5, -1.0e5], [1.0e5, 1.0e5]],
                3.0,
                [255; 3],
                1.0,
            );
            fill_line(
                &mut frame,
                [[3.0, 3.0], [f32::NAN, 0.0]],
                3.0,
                [255; 3],
                1.0,
            );
        }
    }

    #[test]
    fn opacity_mixes() {
        let mut frame = RgbFrame::new(8, 8);
        fill_disc(&mut frame, [4.0, 4.0], 20.0, [200, 100, 50], 0.5);
        assert_eq!(frame.pixels()[..3], [100, 50, 25]);
    }
}
