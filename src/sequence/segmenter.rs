//! Cuts a stream of frames into signs: one begins when hands are seen for a while, and ends when they are gone for a
//! while.
//!
//! Only the times of the frames count, so a slow device cuts at the same times as a fast one. The content of a frame
//! is the caller's.

use std::time::Duration;

/// Maximum number of frames of a sign, at any rate: a camera with wrong times must not exhaust the memory.
const FRAMES_MAX: usize = 10_000;
/// Shorter gaps between two frames never end a sign. A longer gap means that the camera gave no frames.
const FRAME_GAP_MIN: Duration = Duration::from_millis(500);

/// When a sign begins and ends. Counts are frames at the dataset's rate, whatever the camera's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRules {
    /// Time between frames at the dataset's rate; above zero.
    pub frame: Duration,
    /// Consecutive frames with a hand that begin a sign; at least 1.
    pub start_frames: u32,
    /// Consecutive frames without a hand that end it; at least 1.
    pub end_frames: u32,
    /// Minimum length of a sign; shorter ones are dropped and counted.
    pub min: Duration,
    /// Maximum length of a sign; a longer one is cut here, and the next begins at once.
    pub max: Duration,
}

impl SegmentRules {
    /// Hands seen for this long are a sign. It is half a frame less than the count, because a camera's frames are
    /// never exactly on time.
    fn confirmed_after(&self) -> Duration {
        (self.frame * self.start_frames.saturating_sub(1)).saturating_sub(self.frame / 2)
    }

    /// No hand for this long ends a sign.
    fn pause(&self) -> Duration {
        (self.frame * self.end_frames.max(1)).saturating_sub(self.frame / 2)
    }

    /// No frame for longer than this ends a sign.
    fn frame_gap(&self) -> Duration {
        self.pause().max(FRAME_GAP_MIN)
    }

    /// Time for which the frames from `begin` to `last` are shown, the last one included.
    fn length(&self, begin: Duration, last: Duration) -> Duration {
        last.saturating_sub(begin).saturating_add(self.frame)
    }
}

/// Why a sign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The hands were no longer seen.
    Pause,
    /// The sign reached the maximum length.
    Maximum,
    /// No frame came for a while, or the time of a frame is not after that of the last one.
    FrameGap,
    /// The stream ended, or recording stopped.
    Stopped,
}

impl EndReason {
    /// Name of the reason in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Maximum => "maximum",
            Self::FrameGap => "hole",
            Self::Stopped => "stopped",
        }
    }
}

/// A run of frames that was cut out: all frames from the first with a hand to the last with one.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment<T> {
    /// Times and contents, in order; at least one.
    pub frames: Vec<(Duration, T)>,
    /// Why the sign ended.
    pub end_reason: EndReason,
}

/// Cuts a stream of frames into signs.
#[derive(Clone, Debug)]
pub struct Segmenter<T> {
    rules: SegmentRules,
    /// Frames since the first with a hand; empty between signs.
    frames: Vec<(Duration, T)>,
    /// Number of frames that belong to the sign: up to the last with a hand.
    sign_length: usize,
    is_confirmed: bool,
    last: Option<Duration>,
    too_short: u64,
}

impl<T> Segmenter<T> {
    /// A segmenter that has seen no frame.
    #[must_use]
    pub fn new(rules: SegmentRules) -> Self {
        Self {
            rules,
            frames: Vec::new(),
            sign_length: 0,
            is_confirmed: false,
            last: None,
            too_short: 0,
        }
    }

    /// Whether a sign has begun and not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_confirmed
    }

    /// Number of signs that were dropped because they were too short.
    #[must_use]
    pub fn too_short(&self) -> u64 {
        self.too_short
    }

    /// Adds the next frame, taken at `at`; returns the sign that ends with it or before it.
    ///
    /// ```
    /// use handloom::sequence::segmenter::{EndReason, SegmentRules, Segmenter};
    /// use std::time::Duration;
    ///
    /// let frame = Duration::from_millis(40);
    /// let mut segmenter = Segmenter::new(SegmentRules {
    ///     frame,
    ///     start_frames: 2,
    ///     end_frames: 3,
    ///     min: Duration::ZERO,
    ///     max: Duration::from_secs(5),
    /// });
    /// // Hands in frames 1 to 4; the third frame without any is the 7th.
    /// let mut push = |n| segmenter.push(frame * n, (1..=4).contains(&n), n);
    /// assert!((0..7).all(|n| push(n).is_none()));
    /// let segment = push(7).expect("a sign");
    /// assert_eq!(segment.end_reason, EndReason::Pause);
    /// assert_eq!(segment.frames.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3, 4]);
    /// ```
    pub fn push(&mut self, at: Duration, has_hand: bool, frame: T) -> Option<Segment<T>> {
        let is_frame_gap = self.last.is_some_and(|last| {
            at.checked_sub(last)
                .is_none_or(|gap| gap.is_zero() || gap > self.rules.frame_gap())
        });
        self.last = Some(at);
        let mut segment = None;
        if is_frame_gap {
            segment = self.close(EndReason::FrameGap);
        } else if has_hand && self.is_full(at) {
            segment = self.close(EndReason::Maximum);
        }
        if has_hand {
            self.push_hand(at, frame);
        } else if self.is_confirmed {
            self.frames.push((at, frame));
            if self.is_over(at) {
                segment = self.close(EndReason::Pause);
            }
        } else {
            // Too few frames with a hand in a row.
            self.clear();
        }
        segment
    }

    /// Ends the current sign and resets the segmenter.
    pub fn finish(&mut self) -> Option<Segment<T>> {
        self.last = None;
        self.close(EndReason::Stopped)
    }

    fn push_hand(&mut self, at: Duration, frame: T) {
        self.frames.push((at, frame));
        self.sign_length = self.frames.len();
        let begin = self.frames.first().map_or(at, |first| first.0);
        self.is_confirmed |= at.saturating_sub(begin) >= self.rules.confirmed_after();
    }

    /// Whether a frame at `at` would make the sign too long.
    fn is_full(&self, at: Duration) -> bool {
        let first = self.frames.first();
        first.is_some_and(|(begin, _)| self.rules.length(*begin, at) > self.rules.max)
            || self.frames.len() >= FRAMES_MAX
    }

    /// Whether the hands have been gone for long enough.
    fn is_over(&self, at: Duration) -> bool {
        let last_hand = self
            .sign_length
            .checked_sub(1)
            .and_then(|n| self.frames.get(n));
        last_hand.is_some_and(|(seen, _)| at.saturating_sub(*seen) >= self.rules.pause())
            || self.frames.len() >= FRAMES_MAX
    }

    fn clear(&mut self) {
        self.frames.clear();
        (self.sign_length, self.is_confirmed) = (0, false);
    }

    fn close(&mut self, end_reason: EndReason) -> Option<Segment<T>> {
        let is_sign = self.is_confirmed;
        let mut frames = std::mem::take(&mut self.frames);
        frames.truncate(self.sign_length);
        self.clear();
        let (first, last) = (frames.first()?.0, frames.last()?.0);
        if !is_sign {
            return None;
        }
        if self.rules.length(first, last) < self.rules.min {
            self.too_short += 1;
            return None;
        }
        Some(Segment { frames, end_reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: Duration = Duration::from_millis(40);

    /// Pushes each of `frames`: time, whether it shows a hand, content.
    fn push_all<T>(
        segmenter: &mut Segmenter<T>,
        frames: impl IntoIterator<Item = (Duration, bool, T)>,
    ) -> Vec<Segment<T>> {
        let push = |(at, has_hand, frame)| segmenter.push(at, has_hand, frame);
        frames.into_iter().filter_map(push).collect()
    }

    fn rules() -> SegmentRules {
        SegmentRules {
            frame: FRAME,
            start_frames: 3,
            end_frames: 5,
            min: FRAME * 6,
            max: FRAME * 20,
        }
    }

    /// Frames on time from a text: `#` with a hand, `.` without, `_` no frame at all. Gives `first..=last
    /// end_reason`.
    fn check(text: &str, expected: &[(usize, usize, EndReason)], too_short: u64) {
        let mut segmenter = Segmenter::new(rules());
        let frames = text.chars().enumerate().filter(|(_, c)| *c != '_');
        let at = |n: usize| FRAME * u32::try_from(n).unwrap();
        let mut segments = push_all(&mut segmenter, frames.map(|(n, c)| (at(n), c == '#', n)));
        segments.extend(segmenter.finish());
        let found: Vec<_> = segments
            .iter()
            .map(|c| (c.frames[0].1, c.frames[c.frames.len() - 1].1, c.end_reason))
            .collect();
        assert_eq!(found, expected, "{text}");
        assert_eq!(segmenter.too_short(), too_short, "{text}");
        assert!(!segmenter.is_open(), "{text}");
    }

    #[test]
    fn signs_are_cut_where_hands_come_and_go() {
        use EndReason::{FrameGap, Maximum, Pause, Stopped};
        check("", &[], 0);
        check("..........", &[], 0);
        check("..########.....", &[(2, 9, Pause)], 0);
        check("..########....", &[(2, 9, Stopped)], 0);
        // A short loss stays within the sign; a few frames with a hand are no sign.
        check("..####....####.....", &[(2, 13, Pause)], 0);
        check("##.##.##.##.........", &[], 0);
        check("..###.....", &[], 1);
        check(
            "..########.....########.....",
            &[(2, 9, Pause), (15, 22, Pause)],
            0,
        );
        // A missing frame changes nothing; a gap ends the sign.
        check("..#_##_#_##._...", &[(2, 10, Pause)], 0);
        let frame_gap = "_".repeat(14);
        check(
            &format!("########{frame_gap}########....."),
            &[(0, 7, FrameGap), (22, 29, Pause)],
            0,
        );
        let long = "#".repeat(45);
        check(
            &format!("{long}....."),
            &[(0, 19, Maximum), (20, 39, Maximum)],
            1,
        );
    }

    #[test]
    fn time_that_does_not_advance_ends_a_sign() {
        for back in [Duration::ZERO, FRAME * 9, FRAME * 10] {
            let mut segmenter = Segmenter::new(rules());
            for n in 10..20 {
                assert_eq!(segmenter.push(FRAME * n, true, n), None);
            }
            let segment = segmenter
                .push((FRAME * 19).saturating_sub(back), true, 99)
                .unwrap();
            assert_eq!(
                (segment.frames.len(), segment.end_reason),
                (10, EndReason::FrameGap)
            );
        }
    }

    #[test]
    fn a_camera_that_counts_time_wrongly_does_not_take_the_memory() {
        let mut segmenter = Segmenter::new(SegmentRules {
            max: Duration::from_hours(1),
            ..rules()
        });
        let frames = (0..25_000).map(|n| (Duration::from_micros(n), true, n));
        let segments = push_all(&mut segmenter, frames);
        // None of these is even as long as the shortest sign.
        assert_eq!((segments.len(), segmenter.too_short()), (0, 0));
        assert!(segmenter.frames.len() <= FRAMES_MAX);
        let frames = (0..25_000).map(|n| (Duration::from_micros(n * 50), true, n));
        let segments = push_all(&mut Segmenter::new(rules()), frames);
        let lengths: Vec<usize> = segments
            .iter()
            .map(|segment| segment.frames.len())
            .collect();
        assert_eq!(lengths, [FRAMES_MAX, FRAMES_MAX]);
    }

    #[test]
    fn the_rate_of_the_camera_does_not_move_the_cuts() {
        // Hands from 1 s to 2.2 s, gone, back from 2.6 s to 3.4 s.
        let seen = |ms: u64| (1000..2200).contains(&ms) || (2600..3400).contains(&ms);
        for step_ms in [10, 17, 33, 40, 66, 80] {
            let mut segmenter = Segmenter::new(rules());
            let times = (0..5000).step_by(step_ms);
            let segments = push_all(
                &mut segmenter,
                times.map(|ms| (Duration::from_millis(ms), seen(ms), ())),
            );
            let bounds = |c: &Segment<()>| (c.frames[0].0, c.frames[c.frames.len() - 1].0);
            // The first is longer than the maximum of 800 ms.
            assert_eq!(segments.len(), 3, "{step_ms} ms");
            for (segment, (begin, end)) in
                segments
                    .iter()
                    .zip([(1000, 1800), (1800, 2200), (2600, 3400)])
            {
                let off = |at: Duration, ms: u64| at.abs_diff(Duration::from_millis(ms));
                let (first, last) = bounds(segment);
                assert!(off(first, begin) <= FRAME * 3, "{step_ms} ms: {first:?}");
                assert!(off(last, end) <= FRAME * 3, "{step_ms} ms: {last:?}");
            }
        }
    }

    /// Steps in ms and whether a hand is seen.
    fn stream() -> impl Strategy<Value = Vec<(u64, bool)>> {
        let step = prop_oneof![20 => 1_u64..90, 1 => 400_u64..2000];
        let run = (
            1_usize..30,
            any::<bool>(),
            proptest::collection::vec(step, 30),
        );
        let runs = proptest::collection::vec(run, 0..20);
        runs.prop_map(|runs| {
            let frames = |(n, hand, steps): (usize, bool, Vec<u64>)| {
                steps.into_iter().take(n).map(move |step| (step, hand))
            };
            runs.into_iter().flat_map(frames).collect()
        })
    }

    fn frames(stream: &[(u64, bool)]) -> Vec<(Duration, bool, usize)> {
        let mut at = Duration::ZERO;
        let mut next = |(n, (step, hand)): (usize, &(u64, bool))| {
            at += Duration::from_millis(*step);
            (at, *hand, n)
        };
        stream.iter().enumerate().map(&mut next).collect()
    }

    proptest! {
        #[test]
        fn cuts_are_whole_apart_and_as_long_as_allowed(stream in stream()) {
            let frames = frames(&stream);
            let mut segmenter = Segmenter::new(rules());
            let mut segments = push_all(&mut segmenter, frames.clone());
            segments.extend(segmenter.finish());
            let mut free = 0;
            for segment in &segments {
                let (first, last) = (segment.frames[0].1, segment.frames[segment.frames.len() - 1].1);
                // Never overlaps.
                prop_assert!(first >= free);
                free = last + 1;
                // Never loses a frame.
                let claimed: Vec<_> = frames[first..=last].iter().map(|(at, _, n)| (*at, *n)).collect();
                prop_assert_eq!(&claimed, &segment.frames);
                prop_assert!(frames[first].1 && frames[last].1);
                let length = rules().length(segment.frames[0].0, segment.frames[segment.frames.len() - 1].0);
                prop_assert!(length >= rules().min && length <= rules().max, "{:?}", length);
                // No gap and no pause within.
                for pair in segment.frames.windows(2) {
                    prop_assert!(pair[1].0.saturating_sub(pair[0].0) <= rules().frame_gap());
                }
            }
        }

        #[test]
        fn any_chunking_gives_the_same(stream in stream(), sizes in proptest::collection::vec(1_usize..40, 1..20)) {
            let frames = frames(&stream);
            let mut whole = Segmenter::new(rules());
            let mut expected = push_all(&mut whole, frames.clone());
            expected.extend(whole.finish());
            let mut parts = Segmenter::new(rules());
            let mut found = Vec::new();
            let mut rest = frames.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at((*size).min(rest.len()));
                found.extend(push_all(&mut parts, chunk.to_vec()));
                rest = tail;
            }
            found.extend(parts.finish());
            prop_assert_eq!(found, expected);
            prop_assert_eq!(parts.too_short(), whole.too_short());
        }
    }
}
