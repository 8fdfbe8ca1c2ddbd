//! Converts hand model outputs to landmarks in the image, and removes hands that were found twice.
//! Source: `HAND_LANDMARKER` specification, sections 5 and 6.

use crate::geometry::{ImageRect, Size};

/// Side of the hand model's input, pixels.
pub const INPUT_SIDE: usize = 224;
/// Joints of a hand, wrist first; thumb, index, middle, ring, pinky, each from palm to tip.
pub const LANDMARKS: usize = 21;
/// Landmark of the wrist.
pub const WRIST: usize = 0;
/// Landmark of the middle finger's knuckle.
pub const MIDDLE_MCP: usize = 9;

/// Depth is regressed at this fraction of the crop's side.
const Z_SCALE: f32 = 0.4;
/// Two hands are one when this many of their landmarks are close together …
const CLOSE_MIN: usize = 10;
/// … within this part of the palm's longest base line …
const CLOSE_RATIO: f64 = 0.2;
/// … and their boxes overlap by more than this.
const DUPLICATE_IOU: f64 = 0.2;

/// Side of the signer, for an image that is not mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handedness {
    /// The signer's left hand.
    Left,
    /// The signer's right hand.
    Right,
}

/// One hand in one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Hand {
    /// x, y in fractions of the image, not clamped; z in the unit of x, negative towards the camera.
    pub landmarks: [[f32; 3]; LANDMARKS],
    /// Metres about the hand's center, axes of the image.
    pub world: [[f32; 3]; LANDMARKS],
    /// The more likely side.
    pub handedness: Handedness,
    /// Probability of that side, 0.5..=1.
    pub handedness_score: f32,
    /// Probability that the crop held a hand.
    pub presence: f32,
    /// The square that was the hand model's input.
    pub rect: ImageRect,
}

/// The outputs of one run of the hand model.
#[derive(Clone, Copy, Debug, Default)]
pub struct HandOutputs {
    /// x, y, z in crop pixels.
    pub landmarks: [[f32; 3]; LANDMARKS],
    /// Presence, 0..=1.
    pub presence: f32,
    /// Probability of a right hand, 0..=1.
    pub right: f32,
    /// x, y, z in metres, axes of the crop.
    pub world: [[f32; 3]; LANDMARKS],
}

/// The hand under `rect`, or `None` when its presence is not above `presence_min`.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "MediaPipe rounds 1 - p to f32 just so"
)]
pub fn decode(outputs: &HandOutputs, rect: &ImageRect, presence_min: f32) -> Option<Hand> {
    if outputs.presence.is_nan() || outputs.presence <= presence_min {
        return None;
    }
    let left = (1.0 - f64::from(outputs.right)) as f32;
    let (handedness, handedness_score) = if outputs.right > left {
        (Handedness::Right, outputs.right)
    } else {
        (Handedness::Left, left)
    };
    Some(Hand {
        landmarks: project(outputs.landmarks, rect),
        world: turn(outputs.world, rect.rotation_rad),
        handedness,
        handedness_score,
        presence: outputs.presence,
        rect: *rect,
    })
}

/// Crop pixels → image fractions.
#[expect(clippy::cast_precision_loss, reason = "224")]
fn project(raw: [[f32; 3]; LANDMARKS], rect: &ImageRect) -> [[f32; 3]; LANDMARKS] {
    let side = INPUT_SIDE as f32;
    let (c, s) = (rect.rotation_rad.cos(), rect.rotation_rad.sin());
    raw.map(|[x, y, z]| {
        let (u, v, z) = (x / side - 0.5, y / side - 0.5, z / side / Z_SCALE);
        [
            (c * u - s * v) * rect.w + rect.cx,
            (s * u + c * v) * rect.h + rect.cy,
            z * rect.w,
        ]
    })
}

/// Turns world landmarks from the crop's axes to the image's.
fn turn(raw: [[f32; 3]; LANDMARKS], rotation_rad: f32) -> [[f32; 3]; LANDMARKS] {
    let (c, s) = (rotation_rad.cos(), rotation_rad.sin());
    raw.map(|[x, y, z]| [c * x - s * y, s * x + c * y, z])
}

/// Drops every hand that repeats an earlier one; the order stays.
pub fn deduplicate(hands: &mut Vec<Hand>, size: Size) {
    let mut kept: Vec<Hand> = Vec::with_capacity(hands.len());
    for hand in hands.drain(..) {
        if !kept.iter().any(|k| is_same(&hand, k, size)) {
            kept.push(hand);
        }
    }
    *hands = kept;
}

fn is_same(a: &Hand, b: &Hand, size: Size) -> bool {
    let close = CLOSE_RATIO * base_line(a, size).max(base_line(b, size));
    let count = (0..LANDMARKS)
        .filter(|&i| distance(a.landmarks[i], b.landmarks[i], size) < close)
        .count();
    count >= CLOSE_MIN && overlap(a, b) > DUPLICATE_IOU
}

/// Longest side of the triangle wrist, index knuckle, pinky knuckle; pixels.
fn base_line(hand: &Hand, size: Size) -> f64 {
    let d = |i: usize, j: usize| distance(hand.landmarks[i], hand.landmarks[j], size);
    d(0, 5).max(d(5, 17)).max(d(17, 0))
}

/// Distance in pixels, without depth.
fn distance(a: [f32; 3], b: [f32; 3], size: Size) -> f64 {
    let dx = (f64::from(a[0]) - f64::from(b[0])) * f64::from(size.width_f32());
    let dy = (f64::from(a[1]) - f64::from(b[1])) * f64::from(size.height_f32());
    (dx * dx + dy * dy).sqrt()
}

/// Intersection over union of the boxes about all landmarks, image fractions.
fn overlap(a: &Hand, b: &Hand) -> f64 {
    let bounds = |hand: &Hand| {
        hand.landmarks
            .iter()
            .fold([f64::MAX, f64::MAX, f64::MIN, f64::MIN], |m, p| {
                let (x, y) = (f64::from(p[0]), f64::from(p[1]));
                [m[0].min(x), m[1].min(y), m[2].max(x), m[3].max(y)]
            })
    };
    let (a, b) = (bounds(a), bounds(b));
    let inter =
        (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    let area = |r: [f64; 4]| (r[2] - r[0]) * (r[3] - r[1]);
    inter / (area(a) + area(b) - inter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECT: ImageRect = ImageRect {
        cx: 0.5,
        cy: 0.5,
        w: 0.5,
        h: 0.5,
        rotation_rad: 0.0,
    };

    fn raw(shift: f32) -> [[f32; 3]; LANDMARKS] {
        std::array::from_fn(|i| [i as f32 * 10.0 + shift, (i % 5) as f32 * 40.0, 22.4])
    }

    fn hand(shift: f32) -> Hand {
        let landmarks = raw(shift);
        decode(
            &HandOutputs {
                landmarks,
                presence: 0.9,
                right: 0.8,
                world: landmarks,
            },
            &RECT,
            0.5,
        )
        .expect("present")
    }

    #[test]
    fn presence_is_exclusive_and_the_side_follows_the_probability() {
        let check = |presence, right, expected: Option<(Handedness, f32)>| {
            let got = decode(
                &HandOutputs {
                    presence,
                    right,
                    ..HandOutputs::default()
                },
                &RECT,
                0.5,
            );
            assert_eq!(got.map(|h| (h.handedness, h.handedness_score)), expected);
        };
        check(0.5, 0.9, None);
        check(f32::NAN, 0.9, None);
        check(0.51, 0.75, Some((Handedness::Right, 0.75)));
        check(0.51, 0.25, Some((Handedness::Left, 0.75)));
        check(0.51, 0.5, Some((Handedness::Left, 0.5)));
    }

    #[test]
    fn crop_corners_land_on_the_rect() {
        let h = hand(0.0);
        assert!((h.landmarks[0][0] - 0.25).abs() < 1e-6 && (h.landmarks[0][1] - 0.25).abs() < 1e-6);
        assert!((h.landmarks[0][2] - 0.1 / 0.4 * 0.5).abs() < 1e-6);
    }

    #[test]
    fn the_second_sight_of_a_hand_goes() {
        let size = Size {
            width: 640,
            height: 480,
        };
        for (shift, left) in [(0.0, 1), (5.0, 1), (150.0, 2)] {
            let mut hands = vec![hand(0.0), hand(shift)];
            deduplicate(&mut hands, size);
            assert_eq!(hands.len(), left, "shift {shift}");
        }
    }
}
