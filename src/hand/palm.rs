//! Converts palm detector outputs to palms. Source: `HAND_LANDMARKER` specification, sections 2 and 4.1.

use crate::geometry::{Size, UprightBox};

/// Side of the palm model's input, pixels.
pub const INPUT_SIDE: usize = 192;
/// Rows of the palm model's outputs: 24 × 24 cells × 2 anchors and 12 × 12 × 6.
pub const ANCHORS: usize = 2016;
/// Floats per row of the box output: x, y, w, h and seven keypoints.
pub const BOX_FLOATS: usize = 18;
/// Keypoints of a palm.
pub const KEYPOINTS: usize = 7;
/// Keypoint of the wrist's center.
pub const WRIST: usize = 0;
/// Keypoint of the middle finger's knuckle (MCP joint).
pub const MIDDLE_MCP: usize = 2;

/// A palm, in the coordinates that the producing function documents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Palm {
    /// Probability, 0..=1.
    pub score: f32,
    /// The palm's box.
    pub bounds: UprightBox,
    /// Keypoints x, y; only [`WRIST`] and [`MIDDLE_MCP`] are used later.
    pub keypoints: [[f32; 2]; KEYPOINTS],
}

/// Anchor centers `[2016][x, y]` in fractions of the crop: row-major cells, a cell's anchors adjacent.
#[must_use]
pub fn anchors() -> Vec<[f32; 2]> {
    let mut out = Vec::with_capacity(ANCHORS);
    for (grid, per_cell) in [(24_u16, 2), (12, 6)] {
        for y in 0..grid {
            for x in 0..grid {
                let center = |i: u16| (f32::from(i) + 0.5) / f32::from(grid);
                out.extend(std::iter::repeat_n([center(x), center(y)], per_cell));
            }
        }
    }
    out
}

/// Palms whose score is at least `score_min`, in fractions of the crop, in row order.
///
/// `boxes`: `[2016, 18]` f32, anchor-relative input pixels; `logits`: `[2016]` f32; both from the palm model.
///
/// ```
/// use handloom::hand::palm::{ANCHORS, BOX_FLOATS, anchors, decode};
///
/// let (mut boxes, mut logits) = (vec![0.0; ANCHORS * BOX_FLOATS], vec![-20.0; ANCHORS]);
/// // Row 0: a box of 19.2 × 19.2 input pixels about its anchor, with logit 3.
/// (boxes[2], boxes[3], logits[0]) = (19.2, 19.2, 3.0);
/// let palms = decode(&boxes, &logits, &anchors(), 0.5);
/// assert_eq!(palms.len(), 1);
/// assert!((palms[0].score - 0.9526).abs() < 1e-4); // sigmoid(3)
/// assert!((palms[0].bounds.w - 0.1).abs() < 1e-6); // 19.2 / 192
/// ```
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "192")]
pub fn decode(boxes: &[f32], logits: &[f32], anchors: &[[f32; 2]], score_min: f32) -> Vec<Palm> {
    let side = INPUT_SIDE as f32;
    // Rows below this logit cannot pass; the f32 sigmoid of the others decides.
    let bounded = score_min.clamp(1e-6, 0.999);
    let logit_min = (bounded / (1.0 - bounded)).ln() - 0.01;
    let mut palms = Vec::new();
    for ((row, &logit), anchor) in boxes.chunks_exact(BOX_FLOATS).zip(logits).zip(anchors) {
        if logit < logit_min && score_min > 1e-6 {
            continue;
        }
        let score = 1.0 / (1.0 + (-logit.clamp(-100.0, 100.0)).exp());
        if score.is_nan() || score < score_min {
            continue;
        }
        let (xc, yc) = (row[0] / side + anchor[0], row[1] / side + anchor[1]);
        let (w, h) = (row[2] / side, row[3] / side);
        let (x, y) = (xc - w / 2.0, yc - h / 2.0);
        let bounds = UprightBox {
            x,
            y,
            w: (xc + w / 2.0) - x,
            h: (yc + h / 2.0) - y,
        };
        if bounds.w >= 0.0 && bounds.h >= 0.0 {
            let keypoints = std::array::from_fn(|k| {
                [
                    row[4 + 2 * k] / side + anchor[0],
                    row[5 + 2 * k] / side + anchor[1],
                ]
            });
            palms.push(Palm {
                score,
                bounds,
                keypoints,
            });
        }
    }
    palms
}

/// Crop fractions → image fractions: undoes the letterbox of a crop of side max(width, height) about the center.
#[must_use]
pub fn from_crop_to_image(palm: &Palm, size: Size) -> Palm {
    let (width, height) = (size.width_f32(), size.height_f32());
    let side = width.max(height);
    let (per_width, per_height) = (1.0 / width, 1.0 / height);
    let (scale_x, scale_y) = (side * per_width, side * per_height);
    let shift_x = (-0.5 * side + 0.5 * side * 0.0 + 0.5 * width) * per_width;
    let shift_y = (-0.5 * side - 0.5 * side * 0.0 + 0.5 * height) * per_height;
    let map = |[x, y]: [f32; 2]| [x * scale_x + shift_x, y * scale_y + shift_y];
    let b = &palm.bounds;
    let [x0, y0] = map([b.x, b.y]);
    let [x1, y1] = map([b.x + b.w, b.y + b.h]);
    let (left, top) = (x0.min(x1), y0.min(y1));
    Palm {
        score: palm.score,
        bounds: UprightBox {
            x: left,
            y: top,
            w: x0.max(x1) - left,
            h: y0.max(y1) - top,
        },
        keypoints: palm.keypoints.map(map),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_follow_the_two_grids() {
        let a = anchors();
        assert_eq!(a.len(), ANCHORS);
        assert_eq!(a[0], a[1]);
        assert_eq!(a[2], [1.5 / 24.0, 0.5 / 24.0]);
        assert_eq!(a[1152], [0.5 / 12.0, 0.5 / 12.0]);
        assert_eq!(a[1152], a[1157]);
        assert_eq!(a[2015], [11.5 / 12.0, 11.5 / 12.0]);
    }

    #[test]
    fn keeps_rows_by_score_and_shape() {
        let anchors = anchors();
        let mut boxes = vec![0.0; ANCHORS * BOX_FLOATS];
        let mut logits = vec![-20.0; ANCHORS];
        for (row, logit, w) in [
            (0, 3.0, 19.2),
            (5, 0.0, 19.2),
            (9, -0.001, 19.2),
            (11, 4.0, -19.2),
            (13, f32::NAN, 19.2),
        ] {
            logits[row] = logit;
            boxes[row * BOX_FLOATS + 2] = w;
            boxes[row * BOX_FLOATS + 3] = 19.2;
        }
        let palms = decode(&boxes, &logits, &anchors, 0.5);
        // Exactly 0.5 stays (inclusive), just below goes, a negative width goes, NaN goes.
        assert_eq!(palms.len(), 2);
        assert!((palms[0].score - 0.952_574).abs() < 1e-6);
        assert!((palms[0].bounds.w - 0.1).abs() < 1e-6);
        assert!((palms[1].score - 0.5).abs() < f32::EPSILON);
        assert_eq!(decode(&boxes, &logits, &anchors, 0.0).len(), ANCHORS - 2);
    }

    #[test]
    fn letterbox_of_a_wide_image_is_undone() {
        let palm = Palm {
            score: 1.0,
            bounds: UprightBox {
                x: 0.4,
                y: 0.4,
                w: 0.2,
                h: 0.2,
            },
            keypoints: [[0.5, 0.5]; KEYPOINTS],
        };
        let p = from_crop_to_image(
            &palm,
            Size {
                width: 640,
                height: 320,
            },
        );
        assert!((p.bounds.x - 0.4).abs() < 1e-6 && (p.bounds.w - 0.2).abs() < 1e-6);
        assert!((p.bounds.y - 0.3).abs() < 1e-6 && (p.bounds.h - 0.4).abs() < 1e-6);
        assert!((p.keypoints[0][1] - 0.5).abs() < 1e-6);
    }
}
