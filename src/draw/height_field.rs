//! A height field: capsules merge into one surface, which is then lit and painted.
//!
//! Drawn one over the other, capsules look like a wooden doll; as one surface their joints disappear.

use super::capsule::{Capsule, blend};
use crate::frame::RgbFrame;

/// Towards the light, a unit vector: x right, y down, z towards the viewer. It shines from the upper left.
const LIGHT: [f32; 3] = [-0.40, -0.52, 0.755];

/// Brightness of what the light does not reach.
const AMBIENT: f32 = 0.50;

/// What the light adds where it falls straight on the surface.
const DIFFUSE: f32 = 0.56;

/// Steps in height are lit like slopes of at most this, or an edge in front of the palm would be black.
const SLOPE_MAX: f32 = 1.6;

/// Shadows on skin are warm: what a full shadow adds to R, G and B.
const SHADOW_TINT: [f32; 3] = [14.0, 0.0, -8.0];

/// The surface above each pixel of an image.
pub(super) struct HeightField {
    width: usize,
    height: usize,
    /// `[height, width]`, row-major.
    cells: Vec<Cell>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    /// Pixels above the image plane; meaningless while `coverage` is 0.
    level: f32,
    /// How much of the pixel is covered, 0..=1.
    coverage: f32,
    /// What folds take away from its brightness, 0..=1.
    fold: f32,
}

impl HeightField {
    /// An empty field over an image of `width × height` pixels.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            cells: vec![Cell::default(); width * height],
        }
    }

    /// Adds a round body.
    ///
    /// `lifts`: height of the axis at both ends, pixels. `soft`: levels that differ by less merge, pixels.
    pub(super) fn add(&mut self, capsule: &Capsule, lifts: [f32; 2], soft: f32) {
        let cells = &mut self.cells;
        capsule.visit(self.width, self.height, |index, sample| {
            let round = (sample.radius * sample.radius - sample.squared)
                .max(0.0)
                .sqrt();
            let level = round + lifts[0] + (lifts[1] - lifts[0]) * sample.along;
            let cell = &mut cells[index];
            let hidden = level + soft <= cell.level;
            if !hidden {
                // A new body in front hides the folds of what lies behind.
                cell.fold *= if level > cell.level + soft { 0.0 } else { 1.0 };
                cell.level = if cell.coverage > 0.0 {
                    smooth_max(cell.level, level, soft)
                } else {
                    level
                };
            }
            cell.coverage = cell.coverage.max(sample.coverage);
        });
    }

    /// Draws a fold onto the surface: `depth` 0..=1 of the brightness is lost in the middle of the capsule.
    pub(super) fn darken(&mut self, capsule: &Capsule, depth: f32) {
        let cells = &mut self.cells;
        capsule.visit(self.width, self.height, |index, sample| {
            let cell = &mut cells[index];
            cell.fold = cell.fold.max(depth * sample.coverage);
        });
    }

    /// Lights the surface and paints it over the image it was made for; `skin` R G B, 0..=255.
    pub(super) fn paint(&self, frame: &mut RgbFrame, skin: [f32; 3]) {
        let pixels = frame.pixels_mut().chunks_exact_mut(3);
        for ((index, cell), pixel) in self.cells.iter().enumerate().zip(pixels) {
            if cell.coverage <= 0.0 {
                continue;
            }
            let x = index % self.width;
            let across = self.slope(
                cell,
                (x > 0).then(|| index - 1),
                (x + 1 < self.width).then_some(index + 1),
            );
            let down = self.slope(
                cell,
                index.checked_sub(self.width),
                Some(index + self.width),
            );
            let shade = brightness(across, down) * (1.0 - cell.fold);
            let shadow = (1.0 - shade).max(0.0);
            let color = [0, 1, 2].map(|c| skin[c] * shade + SHADOW_TINT[c] * shadow);
            blend(pixel, color, cell.coverage);
        }
    }

    /// Rise per pixel from the cell `before` to the cell `after`; what is not covered lies in the image plane.
    fn slope(&self, here: &Cell, before: Option<usize>, after: Option<usize>) -> f32 {
        // Beyond the image's edge the surface stays level.
        let level = |neighbor: Option<usize>| {
            let cell = neighbor.and_then(|index| self.cells.get(index));
            cell.unwrap_or(here).level
        };
        ((level(after) - level(before)) / 2.0).clamp(-SLOPE_MAX, SLOPE_MAX)
    }
}

/// Lambert's law for a surface that rises by `across` to the right and by `down` downwards, pixels a pixel.
fn brightness(across: f32, down: f32) -> f32 {
    let facing = LIGHT[2] - across * LIGHT[0] - down * LIGHT[1];
    let norm = (across * across + down * down + 1.0).sqrt();
    AMBIENT + DIFFUSE * (facing / norm).max(0.0)
}

/// The larger of two levels, rounded off where they differ by less than `soft` (Quilez' polynomial minimum).
fn smooth_max(a: f32, b: f32, soft: f32) -> f32 {
    if soft <= 0.0 {
        return a.max(b);
    }
    let near = (soft - (a - b).abs()).max(0.0) / soft;
    a.max(b) + near * near * soft * 0.25
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ball(x: f32, radius: f32) -> Capsule {
        Capsule {
            a: [x, 20.0],
            b: [x, 20.0],
            radius_a: radius,
            radius_b: radius,
        }
    }

    #[test]
    fn a_ball_is_bright_towards_the_light() {
        let mut field = HeightField::new(40, 40);
        field.add(&ball(20.0, 15.0), [0.0; 2], 0.0);
        let mut frame = RgbFrame::new(40, 40);
        field.paint(&mut frame, [200.0; 3]);
        let at = |x: usize, y: usize| frame.pixels()[(y * 40 + x) * 3 + 1];
        assert!(at(14, 14) > at(20, 20) && at(20, 20) > at(27, 27));
        assert_eq!(at(1, 1), 0);
    }

    #[test]
    fn what_is_higher_hides_what_is_lower_in_any_order() {
        let levels = |low_first: bool| {
            let mut field = HeightField::new(40, 40);
            for low in [low_first, !low_first] {
                let lift = if low { 0.0 } else { 30.0 };
                field.add(&ball(20.0, 10.0), [lift; 2], 2.0);
            }
            field.cells.iter().map(|c| c.level).collect::<Vec<_>>()
        };
        assert_eq!(levels(true), levels(false));
    }

    #[test]
    fn a_smooth_maximum_is_never_below_the_maximum() {
        for (a, b) in [(1.0, 1.0), (0.0, 3.0), (5.0, -2.0), (1.0, 1.5)] {
            let merged = smooth_max(a, b, 2.0);
            assert!(merged >= a.max(b) && merged <= a.max(b) + 0.5);
        }
    }
}
