//! The settings of `[sequence]`: which numbers are made of clips and takes. [`super::settings`] says what a field declares.

#![allow(
    clippy::doc_markdown,
    reason = "the comments of arguments are their help texts"
)]

use super::constraints::{choice, real, whole};
use crate::sequence::options::{
    FrameRange, Mirroring, Missing, Profile, Sampling, SequenceOptions, Slots, ZScale,
};
use clap::Args;
use serde::Serialize;
use std::num::NonZeroU64;

/// `[sequence]`: which numbers are made of a clip.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct SequenceConfig {
    /// The profile and the options that clips and takes share.
    #[command(flatten)]
    #[serde(flatten)]
    pub numbers: NumbersConfig,
    /// Which frames of a clip are used.
    #[command(flatten)]
    #[serde(flatten)]
    pub frames: FramesConfig,
    /// What clips and takes share.
    #[command(flatten)]
    #[serde(flatten)]
    pub hands: HandsConfig,
    /// Track hands from frame to frame (MediaPipe's VIDEO mode): faster, but not the notebook's numbers
    #[arg(id = "sequence.tracking", long = "tracking")]
    pub tracking: bool,
}

/// The part of `[sequence]` that names the numbers of clips and takes. An option that is unset is the profile's.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct NumbersConfig {
    /// notebook: reproduce the notebook exactly, including its quirks; corrected: the whole sign, hands by side, short
    /// gaps filled, hands in their shape. An option that is unset is the profile's
    #[arg(id = "sequence.profile", long = "profile", value_name = "NAME", default_value = "notebook", value_parser = choice::<Profile>())]
    pub profile: Profile,
    /// detected: hands in the order of detection; sides: the signer's left hand in slot 0, the right one in slot 1
    /// [notebook: detected; corrected: sides]
    #[arg(id = "sequence.slots", long = "slots", value_name = "HOW", value_parser = choice::<Slots>())]
    pub slots: Option<Slots>,
    /// What stands for a hand that was not seen: zero, nan; interpolate and interpolate_nan fill gaps up to max_gap
    /// [notebook: zero; corrected: interpolate]
    #[arg(id = "sequence.missing", long = "missing", value_name = "HOW", value_parser = choice::<Missing>())]
    pub missing: Option<Missing>,
    /// Longest gap that is filled, in processed frames [default: 4]
    #[arg(id = "sequence.max_gap", long = "max-gap", value_name = "N", value_parser = whole::<usize>(1, 10_000))]
    pub max_gap: Option<usize>,
    /// Multiply y by height / width, so that a hand keeps its shape in a picture that is not square
    /// [notebook: false; corrected: true]
    #[arg(id = "sequence.aspect", long = "aspect", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub aspect: Option<bool>,
    /// raw: z as detected; scaled: in the unit of x and y; drop: zero [notebook: raw; corrected: scaled]
    #[arg(id = "sequence.z", long = "z", value_name = "HOW", value_parser = choice::<ZScale>())]
    pub z: Option<ZScale>,
    /// dominant: mirror clips whose dominant hand is the left one; needs slots by sides [default: none]
    #[arg(id = "sequence.mirror", long = "mirror", value_name = "HOW", value_parser = choice::<Mirroring>())]
    pub mirror: Option<Mirroring>,
}

/// The part of `[sequence]` that chooses the frames of a clip. A camera's takes have no frame range, and their frames are
/// picked by the dataset's rate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize)]
pub struct FramesConfig {
    /// as_written: the metadata's frames as the notebook reads them; auto: 1-based, and a clip that is shorter than its
    /// range is read whole; whole: all frames. Not for a camera [notebook: as_written; corrected: auto]
    #[arg(id = "sequence.frame_range", long = "frame-range", value_name = "HOW", value_parser = choice::<FrameRange>())]
    pub frame_range: Option<FrameRange>,
    /// stride: every Nth frame, at most the sequence's length; uniform: as many frames, evenly over the sign;
    /// interpolate: all frames, resampled in time to the sequence's length. Not for a camera
    /// [notebook: stride; corrected: uniform]
    #[arg(id = "sequence.sampling", long = "sampling", value_name = "HOW", value_parser = choice::<Sampling>())]
    pub sampling: Option<Sampling>,
}

/// The part of `[sequence]` that says how long the sequences of clips and takes are.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct RowsConfig {
    /// Frames in a sequence; shorter clips and signs are padded with zeros
    #[arg(id = "sequence.sequence_length", long = "sequence-length", value_name = "N", default_value = "32", value_parser = whole::<usize>(1, 10_000))]
    pub sequence_length: usize,
    /// Use every Nth frame, at the frame rate of the dataset; for sampling by stride and for a camera
    #[arg(id = "sequence.frame_stride", long = "frame-stride", value_name = "N", default_value = "2", value_parser = whole(NonZeroU64::MIN, NonZeroU64::MIN.saturating_add(999_999)))]
    pub frame_stride: NonZeroU64,
    /// Leave out clips and signs with a hand in fewer frames of the sequence
    #[arg(id = "sequence.min_frames", long = "min-frames", value_name = "N", default_value = "8", value_parser = whole::<usize>(0, 1_000_000_000))]
    pub min_frames: usize,
}

/// The part of `[sequence]` that clips and takes share.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct HandsConfig {
    /// How long a sequence is.
    #[command(flatten)]
    #[serde(flatten)]
    pub rows: RowsConfig,
    /// Hands to detect in a frame; a sequence has room for two
    #[arg(id = "sequence.num_hands", long = "num-hands", value_name = "N", default_value = "2", value_parser = whole::<usize>(1, 2))]
    pub num_hands: usize,
    /// MediaPipe's threshold for palm detection
    #[arg(id = "sequence.min_hand_detection_confidence", long = "min-hand-detection-confidence", value_name = "P", default_value = "0.5", value_parser = real::<f32>(0.0, 1.0))]
    pub min_hand_detection_confidence: f32,
    /// MediaPipe's threshold for the presence of a hand
    #[arg(id = "sequence.min_hand_presence_confidence", long = "min-hand-presence-confidence", value_name = "P", default_value = "0.5", value_parser = real::<f32>(0.0, 1.0))]
    pub min_hand_presence_confidence: f32,
    /// MediaPipe's least overlap of a palm with a tracked hand; used only when hands are tracked
    #[arg(id = "sequence.min_tracking_confidence", long = "min-tracking-confidence", value_name = "P", default_value = "0.5", value_parser = real::<f32>(0.0, 1.0))]
    pub min_tracking_confidence: f32,
}

impl SequenceConfig {
    /// The options: the profile's, each replaced where it is set.
    #[must_use]
    pub fn options(&self) -> SequenceOptions {
        let (numbers, frames) = (&self.numbers, &self.frames);
        let defaults = numbers.profile.options();
        SequenceOptions {
            frame_range: frames.frame_range.unwrap_or(defaults.frame_range),
            sampling: frames.sampling.unwrap_or(defaults.sampling),
            slots: numbers.slots.unwrap_or(defaults.slots),
            missing: numbers.missing.unwrap_or(defaults.missing),
            max_gap: numbers.max_gap.unwrap_or(defaults.max_gap),
            aspect: numbers.aspect.unwrap_or(defaults.aspect),
            z: numbers.z.unwrap_or(defaults.z),
            mirror: numbers.mirror.unwrap_or(defaults.mirror),
        }
    }
}
