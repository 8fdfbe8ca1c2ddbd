//! Normalization: each hand about its wrist, scaled by wrist → middle knuckle. f32 throughout, no fused multiply-add,
//! so that the notebook's numbers are numpy's bit for bit.

use super::options::{SequenceOptions, ZScale};
use crate::frame::ClipFormat;
use crate::hand::landmarks::{LANDMARKS, MIDDLE_MCP, WRIST};

/// Maximum number of hands of a frame in a sequence.
pub const SLOTS: usize = 2;
/// Numbers per frame: 2 hands × 21 landmarks × (x, y, z).
pub const FEATURES: usize = SLOTS * LANDMARKS * 3;

/// Tolerance of numpy's `allclose(hand, 0)`: a hand with only such values counts as no hand.
const ZERO_MAX: f32 = 1e-8;
/// Hands smaller than this are shifted but not scaled.
const SCALE_MIN: f64 = 1e-6;

/// The units in which a hand is normalized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandScale {
    /// Factor that y is multiplied by first.
    pub aspect: f32,
    /// The unit of z.
    pub z: ZScale,
}

impl HandScale {
    /// The notebook's units.
    pub const NOTEBOOK: Self = Self {
        aspect: 1.0,
        z: ZScale::Raw,
    };

    /// The units that `options` select for a clip of `format`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the ratio of two sides, rounded to f32 once"
    )]
    pub fn new(options: &SequenceOptions, format: ClipFormat) -> Self {
        let has_shape = options.aspect && format.width > 0 && format.height > 0;
        Self {
            aspect: if has_shape {
                (f64::from(format.height) / f64::from(format.width)) as f32
            } else {
                1.0
            },
            z: options.z,
        }
    }
}

/// Normalizes one hand: x and y relative to the wrist and in units of the wrist → middle knuckle distance; z in the
/// unit of `scale`. A hand smaller than 1e-6 is shifted, not scaled.
#[must_use]
pub fn normalize(mut hand: [[f32; 3]; LANDMARKS], scale: HandScale) -> [[f32; 3]; LANDMARKS] {
    if hand.iter().flatten().all(|v| v.abs() <= ZERO_MAX) {
        return hand;
    }
    for p in &mut hand {
        // A factor of 1 keeps every bit.
        p[1] *= scale.aspect;
    }
    let [wrist_x, wrist_y, _] = hand[WRIST];
    for p in &mut hand {
        p[0] -= wrist_x;
        p[1] -= wrist_y;
    }
    let [x, y, _] = hand[MIDDLE_MCP];
    let length = (x * x + y * y).sqrt();
    let is_scaled = f64::from(length) > SCALE_MIN;
    for p in &mut hand {
        if is_scaled {
            p[0] /= length;
            p[1] /= length;
        }
        match scale.z {
            ZScale::Scaled if is_scaled => p[2] /= length,
            ZScale::Raw | ZScale::Scaled => {}
            ZScale::Drop => p[2] = 0.0,
        }
    }
    hand
}

/// Normalizes one hand in place as the notebook does: z stays as detected.
pub fn normalize_hand(hand: &mut [[f32; 3]; LANDMARKS]) {
    *hand = normalize(*hand, HandScale::NOTEBOOK);
}

/// A frame's features from its hands in slot order; empty slots are zero.
///
/// Index of a number: `slot * 63 + landmark * 3 + axis`, axis 0, 1, 2 for x, y, z.
///
/// ```
/// use handloom::sequence::normalize::features;
///
/// let mut hand = [[0.5, 0.5, 0.1]; 21];
/// hand[9] = [0.5, 0.25, 0.1]; // The middle knuckle, a quarter of the image above the wrist.
/// let row = features(&[hand]);
/// assert_eq!(row[..3], [0.0, 0.0, 0.1]); // Wrist: x and y are zero, z is as detected.
/// assert_eq!(row[9 * 3..][..3], [0.0, -1.0, 0.1]); // The knuckle is one unit away.
/// assert!(row[63..].iter().all(|v| *v == 0.0)); // There is no second hand.
/// ```
#[must_use]
pub fn features(hands: &[[[f32; 3]; LANDMARKS]]) -> [f32; FEATURES] {
    let mut out = [0.0; FEATURES];
    for (slot, hand) in out.chunks_exact_mut(LANDMARKS * 3).zip(hands) {
        let mut hand = *hand;
        normalize_hand(&mut hand);
        slot.copy_from_slice(hand.as_flattened());
    }
    out
}

/// The notebook's test for "a hand was seen": the frame's norm in f32 is not zero.
#[must_use]
pub fn has_hand(features: &[f32]) -> bool {
    features.iter().map(|v| v * v).sum::<f32>() != 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hand(f: impl Fn(usize) -> [f32; 3]) -> [[f32; 3]; LANDMARKS] {
        std::array::from_fn(f)
    }

    #[test]
    fn known_hand() {
        let mut h = hand(|i| [0.5 + i as f32 * 0.125, 0.25, 0.1]);
        normalize_hand(&mut h);
        assert_eq!(h[0], [0.0, 0.0, 0.1]);
        assert_eq!(h[9], [1.0, 0.0, 0.1]);
        assert_eq!(h[18], [2.0, 0.0, 0.1]);
    }

    #[test]
    fn nothing_stays_nothing_and_a_point_is_only_shifted() {
        let mut none = hand(|_| [1e-8, -1e-8, 0.0]);
        let before = none;
        normalize_hand(&mut none);
        assert_eq!(none, before);
        let mut point = hand(|_| [0.5, 0.5, 0.2]);
        normalize_hand(&mut point);
        assert_eq!(point[20], [0.0, 0.0, 0.2]);
        assert!(has_hand(point.as_flattened()) && !has_hand(&[0.0; FEATURES]));
    }

    #[test]
    fn hands_fill_slots_in_order() {
        let a = hand(|i| [i as f32, 1.0, 0.5]);
        let f = features(&[a]);
        assert!(has_hand(&f[..63]) && !has_hand(&f[63..]));
        assert_eq!(features(&[a, a])[..63], features(&[a, a])[63..]);
    }

    proptest! {
        #[test]
        fn ignores_place_and_size(seed in 0_u32..1000, dx in -1.0_f32..1.0, dy in -1.0_f32..1.0, s in 0.2_f32..4.0) {
            let base = hand(|i| {
                let v = |k: u32| f32::from(u16::try_from((seed * 31 + i as u32 * 17 + k * 7) % 97).unwrap()) / 97.0;
                [v(1), v(2), v(3)]
            });
            let moved = base.map(|[x, y, z]| [x * s + dx, y * s + dy, z]);
            let (a, b) = (features(&[base]), features(&[moved]));
            // A knuckle on the wrist gives no scale.
            let d = ((base[9][0] - base[0][0]).powi(2) + (base[9][1] - base[0][1]).powi(2)).sqrt();
            prop_assume!(d > 0.05);
            for (x, y) in a.iter().zip(&b) {
                prop_assert!((x - y).abs() < 1e-3, "{} {}", x, y);
            }
        }
    }
}
