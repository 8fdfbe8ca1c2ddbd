//! Which frames of a clip the notebook samples.
//!
//! Pure arithmetic on frame indexes, all of them 0-based, without decoders or images.

use std::num::NonZeroU64;

/// Frames `start..end`; empty when `start >= end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Index of the first frame.
    pub start: u64,
    /// Index after the last frame.
    pub end: u64,
}

impl Window {
    /// Whether it has no frames.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

/// The notebook's frame range for `frame_start` and `frame_end` of the metadata in a clip of `total` frames. For a
/// clip whose `total` is not known, `u64::MAX` means the end of the clip.
///
/// * An end of 0, a negative end and an end that is not after the start mean the end of the clip.
/// * The metadata's 1-based start is used as a 0-based index.
/// * A start at or after `total` gives an empty window.
#[must_use]
pub fn window(frame_start: i64, frame_end: i64, total: u64) -> Window {
    let start = u64::try_from(frame_start).unwrap_or(0);
    let end = match u64::try_from(frame_end) {
        Ok(end) if end > 0 => end.min(total),
        // A negative end is below every start, which means the end of the clip just as 0 does.
        _ => total,
    };
    Window {
        start,
        end: if end <= start { total } else { end },
    }
}

/// Indexes of the frames that the notebook samples from `window`: every `stride`-th, the first `length` of them.
///
/// ```
/// use handloom::sequence::sampling::{sampled, window};
/// use std::num::NonZeroU64;
///
/// // A clip of 50 frames whose metadata say "from frame 10 to the end".
/// let window = window(10, -1, 50);
/// let samples = sampled(window, NonZeroU64::new(2).expect("not zero"), 4);
/// assert_eq!(samples.collect::<Vec<_>>(), [10, 12, 14, 16]);
/// ```
pub fn sampled(
    window: Window,
    stride: NonZeroU64,
    length: usize,
) -> impl Iterator<Item = u64> + use<> {
    let step = usize::try_from(stride.get()).unwrap_or(usize::MAX);
    (window.start..window.end).step_by(step).take(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `process_video`'s lines on plain integers, with a clip that decodes all its frames.
    fn notebook(
        frame_start: i64,
        frame_end: i64,
        total: i64,
        stride: i64,
        length: usize,
    ) -> (i64, i64, Vec<u64>) {
        let start = frame_start.max(0);
        let mut end = if frame_end == 0 { total } else { frame_end };
        end = end.min(total);
        if end <= start {
            end = total;
        }
        let mut sampled = Vec::new();
        let mut index = start;
        while index < end {
            if (index - start) % stride == 0 {
                sampled.push(index.cast_unsigned());
            }
            index += 1;
            if sampled.len() >= length {
                break;
            }
        }
        (start, end, sampled)
    }

    #[test]
    fn agrees_with_the_notebook_on_every_small_case() {
        for total in 0..12_i64 {
            for frame_start in -3..15_i64 {
                for frame_end in -3..15_i64 {
                    let window = window(frame_start, frame_end, total.cast_unsigned());
                    for (stride, length) in [(1, 3), (2, 4), (2, 32), (3, 1), (7, 32)] {
                        let (start, end, indexes) =
                            notebook(frame_start, frame_end, total, stride, length);
                        assert_eq!(
                            (window.start, window.end),
                            (start.cast_unsigned(), end.cast_unsigned())
                        );
                        let stride = NonZeroU64::new(stride.cast_unsigned()).unwrap();
                        let samples = sampled(window, stride, length);
                        assert_eq!(samples.collect::<Vec<_>>(), indexes);
                        assert_eq!(window.is_empty(), indexes.is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        for frame_start in [i64::MIN, -1, 0, i64::MAX] {
            for frame_end in [i64::MIN, -1, 0, i64::MAX] {
                for total in [0, 1, u64::MAX] {
                    for stride in [1, 2, u64::MAX] {
                        let window = window(frame_start, frame_end, total);
                        let samples = sampled(window, NonZeroU64::new(stride).unwrap(), 32);
                        let samples: Vec<u64> = samples.collect();
                        let expected = (0..32)
                            .map_while(|n| window.start.checked_add(stride.checked_mul(n)?))
                            .take_while(|index| *index < window.end);
                        assert!(samples.iter().copied().eq(expected));
                    }
                }
            }
        }
        let nothing = sampled(Window { start: 0, end: 9 }, NonZeroU64::MIN, 0);
        assert_eq!(nothing.count(), 0);
    }
}
