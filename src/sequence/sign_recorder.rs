//! Turns a camera's frames, with the hands found in them, into labelled signs with the notebook's numbers.

use super::assemble::{Sequence, assemble};
use super::frame_plan::FramePlan;
use super::frame_record::{FrameRecord, FrameTotal};
use super::options::SequenceSpec;
use super::resample::ResampleGrid;
use super::sampling::Window;
use super::segmenter::{EndReason, Segment, SegmentRules, Segmenter};
use crate::frame::ClipFormat;
use crate::hand::Hand;
use crate::sequence::recording_plan::{RecordRequest, RecordingPlan};
use std::sync::Arc;
use std::time::Duration;

/// How signs are segmented and how their sequences are made.
#[derive(Clone, Copy, Debug)]
pub struct SignConfig {
    /// When a sign begins and ends.
    pub rules: SegmentRules,
    /// Length, stride and options of a sequence; the stride counts frames at the rate of `rules`. Range and sampling
    /// are those of [`super::options::SequenceOptions::of_takes`].
    pub spec: SequenceSpec,
}

/// A finished sign.
#[derive(Clone, Debug, PartialEq)]
pub struct Sign {
    /// The label.
    pub gloss: Arc<str>,
    /// The sequence that a clip at the dataset's rate would give; frame numbers count from the sign's first frame.
    pub sequence: Sequence,
    /// Times of the frames of `sequence`, since the sign's first frame.
    pub frame_times: Vec<Duration>,
    /// Time of the first frame.
    pub begin: Duration,
    /// Time of the last frame.
    pub end: Duration,
    /// Number of the camera's frames from first to last.
    pub seen: usize,
    /// Why the sign ended.
    pub end_reason: EndReason,
}

/// Segments one camera's frames into signs and labels them by a [`RecordingPlan`].
#[derive(Clone, Debug)]
pub struct SignRecorder {
    config: SignConfig,
    segmenter: Segmenter<(ClipFormat, FrameRecord)>,
    plan: RecordingPlan,
    was_listening: bool,
    count: u64,
}

impl SignRecorder {
    /// A recorder that has seen no frame.
    #[must_use]
    pub fn new(config: SignConfig, plan: RecordingPlan) -> Self {
        Self {
            segmenter: Segmenter::new(config.rules),
            config,
            plan,
            was_listening: false,
            count: 0,
        }
    }

    /// The plan, which decides what is recorded.
    #[must_use]
    pub fn plan(&self) -> &RecordingPlan {
        &self.plan
    }

    /// The plan, to cancel a request or to retry one of its takes. [`SignRecorder::record`] starts a request.
    pub fn plan_mut(&mut self) -> &mut RecordingPlan {
        &mut self.plan
    }

    /// Replaces any request by `request` at time `at`. Drops the current sign, which began before the request.
    pub fn record(&mut self, request: RecordRequest, at: Duration) {
        self.segmenter.finish();
        self.plan.record(request, at);
    }

    /// Whether a sign has begun and not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.segmenter.is_open()
    }

    /// Number of signs that were dropped because they were too short.
    #[must_use]
    pub fn too_short(&self) -> u64 {
        self.segmenter.too_short()
    }

    /// Adds the frame taken at `at` with its `hands`. Returns the sign that ends with it. Only the size in `format`
    /// counts.
    pub fn push(&mut self, at: Duration, format: ClipFormat, hands: &[Hand]) -> Option<Sign> {
        let record = FrameRecord::of(self.count, hands);
        self.count += 1;
        let was_listening = std::mem::replace(&mut self.was_listening, self.plan.is_listening(at));
        if !self.was_listening {
            // A sign that began before a countdown belongs to no take.
            if was_listening {
                self.segmenter.finish();
            }
            return None;
        }
        let segment = self
            .segmenter
            .push(at, !hands.is_empty(), (format, record))?;
        self.label(&segment, at)
    }

    /// Ends the stream at `at`. Returns the current sign, if it was long enough.
    pub fn finish(&mut self, at: Duration) -> Option<Sign> {
        let segment = self.segmenter.finish()?;
        self.label(&segment, at)
    }

    fn label(
        &mut self,
        segment: &Segment<(ClipFormat, FrameRecord)>,
        now: Duration,
    ) -> Option<Sign> {
        let gloss = self.plan.claim(now)?;
        to_sign(&self.config, segment, gloss)
    }
}

fn to_sign(
    config: &SignConfig,
    segment: &Segment<(ClipFormat, FrameRecord)>,
    gloss: Arc<str>,
) -> Option<Sign> {
    let mut spec = config.spec;
    spec.options = spec.options.of_takes();
    let grid = ResampleGrid {
        frame: config.rules.frame,
        stride: spec.stride,
    };
    let times: Vec<Duration> = segment.frames.iter().map(|f| f.0).collect();
    let (&begin, &end) = (times.first()?, times.last()?);
    let (mut indexes, mut frames, mut frame_times) = (Vec::new(), Vec::new(), Vec::new());
    let mut due = begin;
    for point in grid.points(&times, spec.length) {
        let (at, mut record) = match point.nearest.and_then(|n| segment.frames.get(n)) {
            Some((at, (_, record))) => (*at, record.clone()),
            None => (due, FrameRecord::of(0, &[])),
        };
        record.frame_index = i32::try_from(point.number).unwrap_or(i32::MAX);
        indexes.push(point.number);
        frames.push(record);
        frame_times.push(at.saturating_sub(begin));
        due = due.saturating_add(grid.step());
    }
    let total = grid.frames(&times);
    let window = Window {
        start: 0,
        end: total,
    };
    let (_, (format, _)) = segment.frames.first()?;
    let format = ClipFormat {
        // That of the frame numbers.
        fps: Some(config.rules.frame.as_secs_f32().recip()),
        ..*format
    };
    let declared = Some(FrameTotal::Declared(total));
    let plan = FramePlan::by_number(window, declared, Some(total), indexes);
    Some(Sign {
        gloss,
        sequence: assemble(frames, &plan, format, &spec),
        frame_times,
        begin,
        end,
        seen: segment.frames.len(),
        end_reason: segment.end_reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::ImageRect;
    use crate::hand::Handedness;
    use crate::sequence::SequenceOptions;
    use crate::sequence::normalize::features;
    use crate::sequence::recording_plan::UNLABELLED;
    use std::num::NonZeroU64;

    const FRAME: Duration = Duration::from_millis(40);
    const FORMAT: ClipFormat = ClipFormat {
        width: 640,
        height: 480,
        fps: None,
    };

    fn sign_config() -> SignConfig {
        SignConfig {
            rules: SegmentRules {
                frame: FRAME,
                start_frames: 3,
                end_frames: 8,
                min: FRAME * 8,
                max: FRAME * 250,
            },
            spec: SequenceSpec {
                length: 32,
                stride: NonZeroU64::MIN.saturating_add(1),
                tracking: true,
                options: SequenceOptions::default(),
            },
        }
    }

    /// A hand whose middle knuckle encodes `n`.
    fn hand(n: u32) -> Vec<Hand> {
        let at = |i: usize| [i as f32 * 0.01, n as f32 * 0.001, 0.1];
        let rect = ImageRect {
            cx: 0.5,
            cy: 0.5,
            w: 0.2,
            h: 0.2,
            rotation_rad: 0.0,
        };
        vec![Hand {
            landmarks: std::array::from_fn(at),
            world: [[0.0; 3]; 21],
            handedness: Handedness::Right,
            handedness_score: 0.9,
            presence: 0.9,
            rect,
        }]
    }

    /// Frames on time, `#` with a hand.
    fn run(recorder: &mut SignRecorder, text: &str) -> Vec<Sign> {
        let frames = (0..).zip(text.chars());
        let push = |(n, c)| {
            let hands = if c == '#' { hand(n) } else { Vec::new() };
            recorder.push(FRAME * n, FORMAT, &hands)
        };
        frames.filter_map(push).collect()
    }

    #[test]
    fn a_sign_becomes_the_sequence_of_a_clip() {
        let text = format!("....{}..{}........", "#".repeat(10), "#".repeat(60));
        let signs = run(
            &mut SignRecorder::new(sign_config(), RecordingPlan::new(true)),
            &text,
        );
        let [sign] = signs.as_slice() else {
            panic!("{signs:?}")
        };
        assert_eq!(
            (&*sign.gloss, sign.end_reason),
            (UNLABELLED, EndReason::Pause)
        );
        assert_eq!(
            (sign.begin, sign.end, sign.seen),
            (FRAME * 4, FRAME * 75, 72)
        );
        let sequence = &sign.sequence;
        assert_eq!(sequence.total_frames, Some(FrameTotal::Declared(72)));
        assert_eq!((sequence.frames.len(), sequence.frames_with_hand), (32, 31));
        assert_eq!(
            (sequence.format.height, sequence.format.fps),
            (480, Some(25.0))
        );
        for (nth, frame) in (0..).zip(&sequence.frames) {
            assert_eq!(frame.frame_index, nth * 2);
            assert_eq!(sign.frame_times[nth as usize], FRAME * 2 * nth as u32);
            let n = frame.frame_index + 4;
            let expected = if nth == 5 { 0.0 } else { n as f32 * 0.001 };
            assert_eq!(frame.landmarks[0][9][1], expected);
            let row = features(&frame.landmarks[..usize::from(frame.hand_count)]);
            assert_eq!(sequence.features.row(nth as usize).to_vec(), row);
        }
    }

    #[test]
    fn takes_are_named_and_what_came_before_is_not_theirs() {
        let mut takes = RecordingPlan::new(false);
        takes.record(
            RecordRequest::new("book", 1, FRAME * 20).unwrap(),
            Duration::ZERO,
        );
        let mut recorder = SignRecorder::new(sign_config(), takes);
        // Hands are there before the countdown is over; another sign follows without a request.
        let text = format!("{}........{}........", "#".repeat(35), "#".repeat(20));
        let signs = run(&mut recorder, &text);
        let found: Vec<_> = signs.iter().map(|s| (&*s.gloss, s.begin, s.end)).collect();
        assert_eq!(found, [("book", FRAME * 20, FRAME * 34)]);
        assert_eq!(recorder.finish(FRAME * 70), None);
    }

    #[test]
    fn a_sign_that_is_under_way_does_not_get_a_new_name() {
        let order = |gloss: &str| RecordRequest::new(gloss, 1, Duration::ZERO).unwrap();
        for keeps_all in [true, false] {
            let mut recorder = SignRecorder::new(sign_config(), RecordingPlan::new(keeps_all));
            if !keeps_all {
                recorder.record(order("deaf"), Duration::ZERO);
            }
            let begun = "#".repeat(12);
            assert!(run(&mut recorder, &begun).is_empty() && recorder.is_open());
            recorder.record(order("book"), FRAME * 11);
            assert!(!recorder.is_open());
            let rest = format!("{}{}........", ".".repeat(14), "#".repeat(20));
            let signs = run(&mut recorder, &rest);
            let found: Vec<_> = signs.iter().map(|s| (&*s.gloss, s.begin)).collect();
            assert_eq!(found, [("book", FRAME * 14)]);
        }
    }

    #[test]
    fn an_end_of_the_stream_ends_a_sign() {
        let mut recorder = SignRecorder::new(sign_config(), RecordingPlan::new(true));
        assert!(run(&mut recorder, "..#########").is_empty() && recorder.is_open());
        let sign = recorder.finish(FRAME * 11).unwrap();
        assert_eq!((sign.seen, sign.end_reason), (9, EndReason::Stopped));
        assert_eq!(sign.sequence.frames.len(), 5);
    }
}
