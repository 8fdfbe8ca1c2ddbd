//! A stream of frames → signs: one begins when hands are seen for a while, and ends when they are gone for a while.
//!
//! Driven by the frames' own times alone, so a slow device cuts where a fast one does. Knows no camera and no model:
//! what a frame holds is the caller's.

use std::time::Duration;

/// More frames are never held, whatever their rate: a camera that counts time wrongly must not take the memory.
const FRAMES_MAX: usize = 10_000;
/// A hole at least this long between two frames ends a sign: the camera was away.
const FRAME_GAP_MIN: Duration = Duration::from_millis(500);

/// When a sign begins and ends. Counts are frames at the dataset's rate, whatever the camera's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRules {
    /// Time from frame to frame at the dataset's rate; above zero.
    pub frame: Duration,
    /// So many frames with a hand, one after the other, begin a sign; at least 1.
    pub start_frames: u32,
    /// So many frames without one end it; at least 1.
    pub end_frames: u32,
    /// Shorter signs are dropped and counted.
    pub min: Duration,
    /// Longer ones are cut here, and the next begins at once.
    pub max: Duration,
}

impl SegmentRules {
    /// Hands seen from a first frame until this much later are a sign. Half a frame less than the count says, because
    /// a camera's frames are never quite on time.
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

    /// How long frames from `begin` to `last` are shown, the last one included.
    fn length(&self, begin: Duration, last: Duration) -> Duration {
        last.saturating_sub(begin).saturating_add(self.frame)
    }
}

/// Why a sign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The hands were gone.
    Pause,
    /// It was as long as a sign may be.
    Maximum,
    /// No frame came for a while, or time did not go on.
    FrameGap,
    /// The stream ended, or nobody listened any longer.
    Stopped,
}

impl EndReason {
    /// The name in messages.
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

/// A run of frames that was cut out: all of them from the first with a hand to the last with one.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment<T> {
    /// Times and contents, in order; at least one.
    pub frames: Vec<(Duration, T)>,
    /// Why it ended.
    pub end_reason: EndReason,
}

/// Holds the frames of the sign that may be under way.
#[derive(Clone, Debug)]
pub struct Segmenter<T> {
    rules: SegmentRules,
    /// From the first frame with a hand on; empty between signs.
    held: Vec<(Duration, T)>,
    /// How many of them belong to the sign: up to the last with a hand.
    claimed: usize,
    is_confirmed: bool,
    last: Option<Duration>,
    too_short: u64,
}

impl<T> Segmenter<T> {
    /// One that has seen nothing.
    #[must_use]
    pub fn new(rules: SegmentRules) -> Self {
        Self {
            rules,
            held: Vec::new(),
            claimed: 0,
            is_confirmed: false,
            last: None,
            too_short: 0,
        }
    }

    /// Whether a sign is under way.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_confirmed
    }

    /// Signs that were dropped because they were too short.
    #[must_use]
    pub fn too_short(&self) -> u64 {
        self.too_short
    }

    /// Takes the next frame, seen at `at`; gives the sign that ends with it, which may be without it.
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
    /// // Hands in frames 1 to 4 of 8.
    /// let segments = segmenter.extend((0..8).map(|n| (frame * n, (1..=4).contains(&n), n)));
    /// assert_eq!(segments.len(), 1);
    /// assert_eq!(segments[0].end_reason, EndReason::Pause);
    /// assert_eq!(segments[0].frames.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1, 2, 3, 4]);
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
            self.hold(at, frame);
        } else if self.is_confirmed {
            self.held.push((at, frame));
            if self.is_over(at) {
                segment = self.close(EndReason::Pause);
            }
        } else {
            // A glimpse: too few frames in a row.
            self.clear();
        }
        segment
    }

    /// Takes many frames; the same as one by one.
    pub fn extend(
        &mut self,
        frames: impl IntoIterator<Item = (Duration, bool, T)>,
    ) -> Vec<Segment<T>> {
        let push = |(at, has_hand, frame)| self.push(at, has_hand, frame);
        frames.into_iter().filter_map(push).collect()
    }

    /// Ends the sign that is under way, and forgets what was seen.
    pub fn finish(&mut self) -> Option<Segment<T>> {
        self.last = None;
        self.close(EndReason::Stopped)
    }

    fn hold(&mut self, at: Duration, frame: T) {
        self.held.push((at, frame));
        self.claimed = self.held.len();
        let begin = self.held.first().map_or(at, |first| first.0);
        self.is_confirmed |= at.saturating_sub(begin) >= self.rules.confirmed_after();
    }

    /// Whether a frame at `at` would make the sign too long.
    fn is_full(&self, at: Duration) -> bool {
        let first = self.held.first();
        first.is_some_and(|(begin, _)| self.rules.length(*begin, at) > self.rules.max)
            || self.held.len() >= FRAMES_MAX
    }

    /// Whether the hands are gone for long enough.
    fn is_over(&self, at: Duration) -> bool {
        let last_hand = self.claimed.checked_sub(1).and_then(|n| self.held.get(n));
        last_hand.is_some_and(|(seen, _)| at.saturating_sub(*seen) >= self.rules.pause())
            || self.held.len() >= FRAMES_MAX
    }

    fn clear(&mut self) {
        self.held.clear();
        (self.claimed, self.is_confirmed) = (0, false);
    }

    fn close(&mut self, end_reason: EndReason) -> Option<Segment<T>> {
        let is_sign = self.is_confirmed;
        let mut frames = std::mem::take(&mut self.held);
        frames.truncate(self.claimed);
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

    fn rules() -> SegmentRules {
        SegmentRules {
            frame: FRAME,
            start_frames: 3,
            end_frames: 5,
            min: FRAME * 6,
            max: FRAME * 20,
        }
    }

    /// Frames on time from a text: `#` with a hand, `.` without, `_` no frame at all. Gives `first..=last end_reason`.
    fn check(text: &str, expected: &[(usize, usize, EndReason)], too_short: u64) {
        let mut segmenter = Segmenter::new(rules());
        let frames = text.chars().enumerate().filter(|(_, c)| *c != '_');
        let at = |n: usize| FRAME * u32::try_from(n).unwrap();
        let mut segments = segmenter.extend(frames.map(|(n, c)| (at(n), c == '#', n)));
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
        // A short loss is within the sign, a glimpse is none.
        check("..####....####.....", &[(2, 13, Pause)], 0);
        check("##.##.##.##.........", &[], 0);
        check("..###.....", &[], 1);
        check(
            "..########.....########.....",
            &[(2, 9, Pause), (15, 22, Pause)],
            0,
        );
        // A frame that is missing changes nothing, a hole ends the sign.
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
    fn time_that_does_not_go_on_ends_a_sign() {
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
        let segments = segmenter.extend(frames);
        // None of these is even as long as the shortest sign.
        assert_eq!((segments.len(), segmenter.too_short()), (0, 0));
        assert!(segmenter.held.len() <= FRAMES_MAX);
        let frames = (0..25_000).map(|n| (Duration::from_micros(n * 50), true, n));
        let segments = Segmenter::new(rules()).extend(frames);
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
            let segments =
                segmenter.extend(times.map(|ms| (Duration::from_millis(ms), seen(ms), ())));
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
            let mut segments = segmenter.extend(frames.clone());
            segments.extend(segmenter.finish());
            let mut free = 0;
            for segment in &segments {
                let (first, last) = (segment.frames[0].1, segment.frames[segment.frames.len() - 1].1);
                // Never overlaps.
                prop_assert!(first >= free);
                free = last + 1;
                // Never loses a frame that it claims.
                let claimed: Vec<_> = frames[first..=last].iter().map(|(at, _, n)| (*at, *n)).collect();
                prop_assert_eq!(&claimed, &segment.frames);
                prop_assert!(frames[first].1 && frames[last].1);
                let length = rules().length(segment.frames[0].0, segment.frames[segment.frames.len() - 1].0);
                prop_assert!(length >= rules().min && length <= rules().max, "{:?}", length);
                // No hole and no pause within.
                for pair in segment.frames.windows(2) {
                    prop_assert!(pair[1].0.saturating_sub(pair[0].0) <= rules().frame_gap());
                }
            }
        }

        #[test]
        fn any_chunking_gives_the_same(stream in stream(), sizes in proptest::collection::vec(1_usize..40, 1..20)) {
            let frames = frames(&stream);
            let mut whole = Segmenter::new(rules());
            let mut expected = whole.extend(frames.clone());
            expected.extend(whole.finish());
            let mut parts = Segmenter::new(rules());
            let mut found = Vec::new();
            let mut rest = frames.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at((*size).min(rest.len()));
                found.extend(parts.extend(chunk.to_vec()));
                rest = tail;
            }
            found.extend(parts.finish());
            prop_assert_eq!(found, expected);
            prop_assert_eq!(parts.too_short(), whole.too_short());
        }
    }
}
