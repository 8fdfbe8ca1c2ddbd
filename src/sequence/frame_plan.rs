//! Chooses the frames of a clip to sample, once the times of all its frames are known. Pure arithmetic.

use super::frame_record::FrameTotal;
use super::options::{FrameRange, Sampling, SequenceSpec};
use super::sampling::{Window, sampled, window};
use std::time::Duration;

/// Presentation times of all decoded frames of a clip, in display order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameTimes(Vec<f64>);

/// The sampled frames of a clip, and when they are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct FramePlan {
    /// The part of the clip that is its sign. It may end after the last decoded frame.
    pub window: Window,
    /// Number of frames of the clip; `None` when neither its container nor its end gave it.
    pub total: Option<FrameTotal>,
    /// Number of frames in `window`; `None` when its end is not known.
    pub in_range: Option<u64>,
    /// Indexes of the sampled frames, ascending, 0-based.
    pub indexes: Vec<u64>,
    /// When each of `indexes` is shown: its index in a clip of constant rate, seconds in one of variable rate.
    pub positions: Vec<f64>,
}

impl FramePlan {
    /// The plan of a clip whose frames are placed in time by their index.
    pub(super) fn by_number(
        window: Window,
        total: Option<FrameTotal>,
        in_range: Option<u64>,
        indexes: Vec<u64>,
    ) -> Self {
        Self {
            window,
            total,
            in_range,
            positions: indexes.iter().copied().map(to_f64).collect(),
            indexes,
        }
    }
}

impl FrameTimes {
    /// The times of a clip's frames, as its container gives them.
    #[must_use]
    pub fn new(times: &[Option<Duration>]) -> Self {
        let first = times.iter().flatten().next().copied().unwrap_or_default();
        let seconds = |time: &Option<Duration>| {
            time.map_or(f64::NAN, |time| time.saturating_sub(first).as_secs_f64())
        };
        Self(times.iter().map(seconds).collect())
    }

    /// Times in seconds since the first frame whose time is known; NaN where unknown.
    #[must_use]
    pub fn from_seconds(seconds: Vec<f64>) -> Self {
        Self(seconds)
    }

    /// Seconds since the first frame whose time is known; NaN where unknown.
    #[must_use]
    pub fn seconds(&self) -> &[f64] {
        &self.0
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl SequenceSpec {
    /// Whether the choice of frames or their places in time depend on the times of all frames of a clip. If not, a
    /// clip is read once.
    #[must_use]
    pub fn needs_times(&self) -> bool {
        let options = &self.options;
        options.frame_range != FrameRange::AsWritten
            || options.sampling != Sampling::Stride
            || options.missing.interpolates()
    }
}

/// Chooses the frames of a clip whose decoded frames have `times`. `frame_start` and `frame_end` are as in the
/// metadata, `declared` is the number of frames that the container declares.
#[must_use]
pub fn plan_frames(
    spec: &SequenceSpec,
    frame_start: i64,
    frame_end: i64,
    declared: Option<u64>,
    times: &FrameTimes,
) -> FramePlan {
    let decoded = times.len() as u64;
    let stride = |window| sampled(window, spec.stride, spec.length);
    let mut total = Some(declared.map_or(FrameTotal::Counted(decoded), FrameTotal::Declared));
    if declared.is_none() && !spec.needs_times() {
        // A single pass counts the frames only when it reaches the end of the clip.
        let open = window(frame_start, frame_end, u64::MAX);
        total = total.filter(|_| stride(open).any(|index| index >= decoded));
    }
    let count = total.map_or(u64::MAX, FrameTotal::count);
    let window = match spec.options.frame_range {
        FrameRange::AsWritten => window(frame_start, frame_end, count),
        FrameRange::Auto => trimmed_window(frame_start, frame_end, count, decoded),
        FrameRange::Whole => Window {
            start: 0,
            end: decoded,
        },
    };
    let last = window.end.min(decoded);
    let first = window.start.min(last);
    let range = &times.seconds()[to_usize(first)..to_usize(last)];
    let by_time = is_variable(range);
    let indexes: Vec<u64> = match spec.options.sampling {
        Sampling::Stride => stride(window).take_while(|i| *i < decoded).collect(),
        Sampling::Uniform if by_time => even_in_time(range, spec.length),
        Sampling::Uniform => even(range.len(), spec.length),
        Sampling::Interpolate => (0..last - first).collect(),
    };
    let indexes: Vec<u64> = match spec.options.sampling {
        Sampling::Stride => indexes,
        _ => indexes.into_iter().map(|index| first + index).collect(),
    };
    let position = |index: &u64| {
        if by_time {
            times.seconds()[to_usize(*index)]
        } else {
            to_f64(*index)
        }
    };
    FramePlan {
        in_range: in_range(spec, window, total, decoded),
        positions: indexes.iter().map(position).collect(),
        window,
        total,
        indexes,
    }
}

/// Whether the frames of a sequence require reading beyond the decoded frames, which have `times`. The other
/// parameters are those of [`plan_frames`].
#[must_use]
pub fn reads_beyond(
    spec: &SequenceSpec,
    frame_start: i64,
    frame_end: i64,
    declared: Option<u64>,
    times: &FrameTimes,
) -> bool {
    let window = window(frame_start, frame_end, declared.unwrap_or(u64::MAX));
    let mut indexes = sampled(window, spec.stride, spec.length);
    spec.needs_times() || indexes.any(|index| index >= times.len() as u64)
}

/// Number of frames in `window`; `None` when its end is not known.
pub(super) fn in_range(
    spec: &SequenceSpec,
    window: Window,
    total: Option<FrameTotal>,
    decoded: u64,
) -> Option<u64> {
    let end = if spec.needs_times() {
        window.end.min(decoded)
    } else if total.is_none() && window.end == u64::MAX {
        return None;
    } else {
        window.end
    };
    Some(end.saturating_sub(window.start))
}

/// The metadata's frames `frame_start..=frame_end`, 1-based, of a clip of `total` frames, `decoded` of which can be
/// read. An end of 0 or below is the end of the clip. A range that does not fit the clip belongs to the film that the
/// clip was cut from: the whole clip is then the sign.
fn trimmed_window(frame_start: i64, frame_end: i64, total: u64, decoded: u64) -> Window {
    let start = u64::try_from(frame_start.saturating_sub(1)).unwrap_or(0);
    let end = u64::try_from(frame_end).ok().filter(|end| *end > 0);
    let fits = match end {
        Some(end) => end <= total && start < end,
        None => start < total,
    };
    if fits {
        let end = end.unwrap_or(decoded);
        Window { start, end }
    } else {
        Window {
            start: 0,
            end: decoded,
        }
    }
}

/// Whether the times of a range have a variable rate: all are known and ascend, and some frame is more than half a
/// mean interval away from its place on an even grid.
fn is_variable(seconds: &[f64]) -> bool {
    let (Some(&first), Some(&last)) = (seconds.first(), seconds.last()) else {
        return false;
    };
    // A comparison with NaN is false.
    let ascends = seconds.windows(2).all(|pair| pair[0] < pair[1]);
    let mean = (last - first) / to_f64(seconds.len() as u64 - 1);
    let is_off =
        |(index, time): (u64, &f64)| (time - (first + to_f64(index) * mean)).abs() > mean / 2.0;
    ascends && (0..).zip(seconds).any(is_off)
}

/// At most `length` of `count` frames, evenly spaced, with the first and the last.
fn even(count: usize, length: usize) -> Vec<u64> {
    let (count, length) = (count as u64, length as u64);
    if count <= length {
        return (0..count).collect();
    }
    if length < 2 {
        return (0..length).collect();
    }
    let (last, steps) = (u128::from(count - 1), u128::from(length - 1));
    // Rounded to the nearest, halves up.
    let nearest = |step: u64| (2 * u128::from(step) * last + steps) / (2 * steps);
    let index = |step| u64::try_from(nearest(step)).unwrap_or(u64::MAX);
    (0..length).map(index).collect()
}

/// At most `length` frames, each the nearest to its place on an even grid in time, with the first and the last. Of
/// two equally near frames the earlier is taken. No frame is taken twice.
fn even_in_time(seconds: &[f64], length: usize) -> Vec<u64> {
    let count = seconds.len();
    if count <= length || length < 2 {
        return even(count, length);
    }
    let (first, last) = (seconds[0], seconds[count - 1]);
    let step = (last - first) / to_f64(length as u64 - 1);
    let mut at = 0;
    let mut indexes = Vec::with_capacity(length);
    for row in 0..length {
        let due = to_f64(row as u64) * step + first;
        while at + 1 < count && (seconds[at + 1] - due).abs() < (seconds[at] - due).abs() {
            at += 1;
        }
        // Enough frames must remain for the following rows.
        at = at.min(count - (length - row));
        indexes.push(at as u64);
        at += 1;
    }
    indexes
}

fn to_usize(index: u64) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "frame numbers are far below 2^53"
)]
fn to_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests;
