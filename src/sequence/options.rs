//! The user's choices for the numbers of a sequence, and the two profiles: named sets of defaults.

use std::num::NonZeroU64;

/// A choice among values that have names in files, flags and messages.
pub trait NamedChoice: Copy + PartialEq + Send + Sync + Sized + 'static {
    /// All values with their names.
    const NAMED: &'static [(Self, &'static str)];

    /// The name in files and messages.
    #[must_use]
    fn name(self) -> &'static str {
        let named = Self::NAMED.iter().find(|(value, _)| *value == self);
        named.map_or("", |(_, name)| name)
    }

    /// The value with this name; `None` for an unknown name.
    #[must_use]
    fn from_name(name: &str) -> Option<Self> {
        let named = Self::NAMED.iter().find(|(_, known)| *known == name);
        named.map(|(value, _)| *value)
    }
}

/// How the numbers of a sequence are made by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The notebook's numbers, quirks included.
    Notebook,
    /// Numbers that lose less: the whole sign, hands by side, gaps filled, hands in their shape.
    Corrected,
}

/// Which frames of a clip are its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRange {
    /// The notebook's reading of the metadata: `frame_start` is used 0-based, and a clip that ends before it is
    /// empty.
    AsWritten,
    /// The metadata's frames, 1-based, the last one included. A clip that is shorter than its range is a trimmed clip
    /// and is read whole.
    Auto,
    /// All frames of the clip, whatever the metadata states.
    Whole,
}

/// Which frames or times become the rows of a sequence of L rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Every Nth frame, the first L of them.
    Stride,
    /// At most L frames, evenly over the range, its first and last frame included. No frame is repeated.
    Uniform,
    /// Always L rows, evenly in time over the range, between whose frames the landmarks are interpolated linearly.
    Interpolate,
}

/// Which hand of a frame gets which slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slots {
    /// In the order of detection.
    Detected,
    /// The signer's left hand in slot 0, the right one in slot 1. Of two hands on one side the better score keeps it.
    Sides,
}

/// The value in place of a hand that was not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Zeros.
    Zero,
    /// NaN, in padding too: a number is finite exactly where the mask is true.
    Nan,
    /// A gap of at most [`SequenceOptions::max_gap`] frames is filled linearly in time; zeros elsewhere.
    Interpolate,
    /// A gap of at most [`SequenceOptions::max_gap`] frames is filled linearly in time; NaN elsewhere.
    InterpolateNan,
}

/// The unit of z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZScale {
    /// As detected, in units of the image's width.
    Raw,
    /// In the unit of x and y, the distance from wrist to middle knuckle.
    Scaled,
    /// All z are zero.
    Drop,
}

/// Which clips are mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirroring {
    /// No clip is mirrored.
    None,
    /// Clips whose dominant hand is the left one, so that the dominant hand is always in slot 1.
    Dominant,
}

/// How the numbers of a sequence are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceOptions {
    /// Which frames of a clip are its sign.
    pub frame_range: FrameRange,
    /// Which frames or times become the rows.
    pub sampling: Sampling,
    /// Which hand of a frame gets which slot.
    pub slots: Slots,
    /// The value in place of a hand that was not seen.
    pub missing: Missing,
    /// Longest gap that is filled: sampled frames without this hand, between two with it.
    pub max_gap: usize,
    /// Whether y is multiplied by height / width before normalizing, so that a hand keeps its shape.
    pub aspect: bool,
    /// The unit of z.
    pub z: ZScale,
    /// Which clips are mirrored.
    pub mirror: Mirroring,
}

/// The parameters of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceSpec {
    /// Number of frames in a sequence.
    pub length: usize,
    /// Every `stride`-th frame is sampled.
    pub stride: NonZeroU64,
    /// VIDEO mode: hands are tracked from sampled frame to sampled frame.
    pub tracking: bool,
    /// How its numbers are made.
    pub options: SequenceOptions,
}

/// The default of [`SequenceOptions::max_gap`]. In 41 public clips of WLASL, with every second frame sampled and
/// hands placed by sides, none of the 11 gaps is longer. A straight line over 4 frames in which the hand was seen
/// misses it by 0.17 of the distance from wrist to knuckle in the median, one over 8 frames by 0.29.
pub const MAX_GAP: usize = 4;

impl Profile {
    /// Whether glosses are compared in lower case, as the notebook does, when clips are chosen.
    #[must_use]
    pub fn folds_case(self) -> bool {
        self == Self::Notebook
    }

    /// The defaults of the options.
    #[must_use]
    pub fn options(self) -> SequenceOptions {
        match self {
            Self::Notebook => SequenceOptions {
                frame_range: FrameRange::AsWritten,
                sampling: Sampling::Stride,
                slots: Slots::Detected,
                missing: Missing::Zero,
                max_gap: MAX_GAP,
                aspect: false,
                z: ZScale::Raw,
                mirror: Mirroring::None,
            },
            Self::Corrected => SequenceOptions {
                frame_range: FrameRange::Auto,
                sampling: Sampling::Uniform,
                slots: Slots::Sides,
                missing: Missing::Interpolate,
                max_gap: MAX_GAP,
                aspect: true,
                z: ZScale::Scaled,
                mirror: Mirroring::None,
            },
        }
    }
}

impl Default for SequenceOptions {
    /// The options of the notebook profile.
    fn default() -> Self {
        Profile::Notebook.options()
    }
}

impl SequenceOptions {
    /// These options for a camera's takes. A take has no frame range, and its frames are picked by the dataset's
    /// rate.
    #[must_use]
    pub fn of_takes(self) -> Self {
        Self {
            frame_range: FrameRange::AsWritten,
            sampling: Sampling::Stride,
            ..self
        }
    }
}

impl Missing {
    /// Whether short gaps are filled.
    #[must_use]
    pub fn interpolates(self) -> bool {
        matches!(self, Self::Interpolate | Self::InterpolateNan)
    }

    /// The value in place of a hand that was neither seen nor filled.
    #[must_use]
    pub fn placeholder(self) -> f32 {
        match self {
            Self::Zero | Self::Interpolate => 0.0,
            Self::Nan | Self::InterpolateNan => f32::NAN,
        }
    }
}

impl NamedChoice for Profile {
    const NAMED: &'static [(Self, &'static str)] =
        &[(Self::Notebook, "notebook"), (Self::Corrected, "corrected")];
}

impl NamedChoice for FrameRange {
    const NAMED: &'static [(Self, &'static str)] = &[
        (Self::AsWritten, "as_written"),
        (Self::Auto, "auto"),
        (Self::Whole, "whole"),
    ];
}

impl NamedChoice for Sampling {
    const NAMED: &'static [(Self, &'static str)] = &[
        (Self::Stride, "stride"),
        (Self::Uniform, "uniform"),
        (Self::Interpolate, "interpolate"),
    ];
}

impl NamedChoice for Slots {
    const NAMED: &'static [(Self, &'static str)] =
        &[(Self::Detected, "detected"), (Self::Sides, "sides")];
}

impl NamedChoice for Missing {
    const NAMED: &'static [(Self, &'static str)] = &[
        (Self::Zero, "zero"),
        (Self::Nan, "nan"),
        (Self::Interpolate, "interpolate"),
        (Self::InterpolateNan, "interpolate_nan"),
    ];
}

impl NamedChoice for ZScale {
    const NAMED: &'static [(Self, &'static str)] = &[
        (Self::Raw, "raw"),
        (Self::Scaled, "scaled"),
        (Self::Drop, "drop"),
    ];
}

impl NamedChoice for Mirroring {
    const NAMED: &'static [(Self, &'static str)] =
        &[(Self::None, "none"), (Self::Dominant, "dominant")];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_values() {
        fn check<T: NamedChoice + std::fmt::Debug>() {
            for (value, name) in T::NAMED {
                assert_eq!(value.name(), *name);
                assert_eq!(T::from_name(name), Some(*value));
            }
            assert_eq!(T::from_name(""), None);
        }
        check::<Profile>();
        check::<FrameRange>();
        check::<Sampling>();
        check::<Slots>();
        check::<Missing>();
        check::<ZScale>();
        check::<Mirroring>();
    }
}
