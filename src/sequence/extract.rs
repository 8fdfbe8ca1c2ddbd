//! A clip's images → one sequence: which frames are sampled, the hands in them, the notebook's numbers.

use super::sampling::{Window, sampled, window};
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crate::hand::landmarks::LANDMARKS;
use crate::hand::{Detector, Hand, Handedness, Model, ModelError, Tracker};
use crate::sequence::normalize::{FEATURES, SLOTS, features, has_hand};
use ndarray::{Array2, aview1};
use std::num::NonZeroU64;

/// Length and sampling of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceSpec {
    /// Frames in a sequence.
    pub length: usize,
    /// One frame of this many is sampled.
    pub stride: NonZeroU64,
    /// VIDEO mode: hands are tracked from sampled frame to sampled frame.
    pub tracking: bool,
}

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
    /// Probability of that side; 0 for empty slots.
    pub handedness_score: [f32; SLOTS],
}

impl FrameRecord {
    /// The result for frame `index`: the first [`SLOTS`] of `hands`, in their order.
    #[must_use]
    pub fn of(index: u64, hands: &[Hand]) -> Self {
        let mut out = Self {
            frame_index: i32::try_from(index).unwrap_or(i32::MAX),
            hand_count: 0,
            landmarks: [[[0.0; 3]; LANDMARKS]; SLOTS],
            handedness: [-1; SLOTS],
            handedness_score: [0.0; SLOTS],
        };
        for (slot, hand) in hands.iter().take(SLOTS).enumerate() {
            out.hand_count += 1;
            out.landmarks[slot] = hand.landmarks;
            out.handedness[slot] = i8::from(hand.handedness == Handedness::Right);
            out.handedness_score[slot] = hand.handedness_score;
        }
        out
    }
}

/// A sequence, with the frames that it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sequence {
    /// `[length, 126]` f32, padded with zero rows at the end.
    pub features: Array2<f32>,
    /// The sampled frames, at most `length`.
    pub frames: Vec<FrameRecord>,
    /// Number of frames with a hand, as the notebook counts them.
    pub frames_with_hand: usize,
    /// The part of the clip that was sampled.
    pub window: Window,
    /// Number of frames of the clip; `None` where neither its container nor its end told it.
    pub total_frames: Option<FrameTotal>,
}

/// The number of frames of a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameTotal {
    /// As its container declares.
    Declared(u64),
    /// As counted to its end, because the container does not declare it.
    Counted(u64),
}

impl FrameTotal {
    /// The number.
    #[must_use]
    pub fn count(self) -> u64 {
        match self {
            Self::Declared(count) | Self::Counted(count) => count,
        }
    }
}

impl Sequence {
    /// The sequence of `length` rows that `frames` make, which are at most as many.
    pub(super) fn new(
        frames: Vec<FrameRecord>,
        length: usize,
        window: Window,
        total_frames: Option<FrameTotal>,
    ) -> Self {
        let mut rows = Array2::zeros((length, FEATURES));
        let mut frames_with_hand = 0;
        for (mut row, frame) in rows.rows_mut().into_iter().zip(&frames) {
            let numbers = features(&frame.landmarks[..usize::from(frame.hand_count)]);
            frames_with_hand += usize::from(has_hand(&numbers));
            row.assign(&aview1(&numbers));
        }
        Self {
            features: rows,
            frames,
            frames_with_hand,
            window,
            total_frames,
        }
    }
}

/// Gets each sampled image with the hands found in it; `false` gives the clip up.
pub type FrameCallback<'a> = dyn FnMut(&RgbFrame, &FrameRecord) -> bool + 'a;

/// Why a clip gave no sequence.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The callback stopped it.
    #[error("given up")]
    GivenUp,
    /// The clip cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A model failed, as it would for every clip.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Reads `source` from its first frame and makes the sequence of its frames `frame_start..frame_end` (as in the
/// metadata: 0-based here, 0 and below meaning "from the start" and "to the end"). A source that does not declare its
/// number of frames is read to its end or to the last sampled frame.
///
/// # Errors
/// When the first image cannot be had, a model fails or `on_frame` gives up. A source that ends early is no error.
pub fn extract<M: Model>(
    source: &mut dyn FrameSource,
    detector: &mut Detector<M>,
    shape: SequenceSpec,
    frame_start: i64,
    frame_end: i64,
    on_frame: &mut FrameCallback<'_>,
) -> Result<Sequence, ExtractError> {
    let mut total = source.declared_frames().map(FrameTotal::Declared);
    let mut range = window(
        frame_start,
        frame_end,
        total.map_or(u64::MAX, FrameTotal::count),
    );
    let mut tracker = Tracker::default();
    let mut frames = Vec::new();
    let mut read = 0;
    for index in sampled(range, shape.stride, shape.length) {
        read += source.advance_by(index + 1 - read)?;
        if read <= index {
            if total.is_none() {
                total = Some(FrameTotal::Counted(read));
                range = window(frame_start, frame_end, read);
            }
            break;
        }
        let frame = source.frame()?;
        let hands = if shape.tracking {
            detector.track(&mut tracker, frame)?
        } else {
            detector.detect(frame)?
        };
        let record = FrameRecord::of(index, &hands);
        if !on_frame(frame, &record) {
            return Err(ExtractError::GivenUp);
        }
        frames.push(record);
    }
    Ok(Sequence::new(frames, shape.length, range, total))
}
