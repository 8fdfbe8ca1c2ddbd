//! The detector's result for one frame.

use super::normalize::SLOTS;
use crate::hand::landmarks::LANDMARKS;
use crate::hand::{Hand, Handedness};

/// The detector's result for one sampled frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameRecord {
    /// Index in the clip, from 0.
    pub frame_index: i32,
    /// Hands found, at most [`SLOTS`].
    pub hand_count: u8,
    /// `[slot][landmark][x, y, z]` as detected; empty slots are zero.
    pub landmarks: [[[f32; 3]; LANDMARKS]; SLOTS],
    /// 0 left, 1 right, -1 none.
    pub handedness: [i8; SLOTS],
    /// Probability of this side; 0 for empty slots.
    pub handedness_score: [f32; SLOTS],
    /// `[slot][landmark][x, y, z]` in metres about the hand's center, axes of the image; empty slots are zero.
    pub world: [[[f32; 3]; LANDMARKS]; SLOTS],
}

impl FrameRecord {
    /// The record of frame `index`: the first [`SLOTS`] of `hands`, in their order.
    #[must_use]
    pub fn of(index: u64, hands: &[Hand]) -> Self {
        let mut out = Self {
            frame_index: i32::try_from(index).unwrap_or(i32::MAX),
            hand_count: 0,
            landmarks: [[[0.0; 3]; LANDMARKS]; SLOTS],
            handedness: [-1; SLOTS],
            handedness_score: [0.0; SLOTS],
            world: [[[0.0; 3]; LANDMARKS]; SLOTS],
        };
        for (slot, hand) in hands.iter().take(SLOTS).enumerate() {
            out.hand_count += 1;
            out.landmarks[slot] = hand.landmarks;
            out.world[slot] = hand.world;
            out.handedness[slot] = i8::from(hand.handedness == Handedness::Right);
            out.handedness_score[slot] = hand.handedness_score;
        }
        out
    }
}

/// The number of frames of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameTotal {
    /// The number that the container declares.
    Declared(u64),
    /// The number counted up to the clip's end, because the container declares none.
    Counted(u64),
}

impl FrameTotal {
    /// Number of frames.
    #[must_use]
    pub fn count(self) -> u64 {
        match self {
            Self::Declared(count) | Self::Counted(count) => count,
        }
    }
}
