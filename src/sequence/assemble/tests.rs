use super::*;
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crate::hand::{Detector, DetectorOptions, Model, ModelError};
use crate::sequence::normalize::features;
use crate::sequence::options::{FrameRange, Missing, NamedChoice, Profile, Slots, ZScale};
use crate::sequence::{FrameTimes, SequenceOptions, extract, plan_frames, read_frames};
use proptest::prelude::*;
use std::num::NonZeroU64;
use std::time::Duration;

const FORMAT: ClipFormat = ClipFormat {
    width: 320,
    height: 240,
    fps: Some(25.0),
};

fn spec(options: SequenceOptions, length: usize, stride: u64) -> SequenceSpec {
    SequenceSpec {
        length,
        stride: NonZeroU64::new(stride).unwrap(),
        tracking: false,
        options,
    }
}

/// Frame `n` with hands of these sides, all different.
fn record(n: u64, sides: &[i8]) -> FrameRecord {
    let mut record = FrameRecord::of(n, &[]);
    for (slot, side) in sides.iter().enumerate() {
        let seed = n as f32 * 0.01 + f32::from(*side) * 0.4;
        record.hand_count += 1;
        record.handedness[slot] = *side;
        record.handedness_score[slot] = 0.9 - slot as f32 * 0.1;
        record.landmarks[slot] = std::array::from_fn(|i| {
            let i = i as f32;
            [
                seed + (i * 0.7).sin() * 0.1,
                0.5 + (i * 1.3).cos() * 0.1,
                i * 0.01 - 0.1,
            ]
        });
    }
    record
}

fn options() -> impl Strategy<Value = SequenceOptions> {
    fn any_of<T: NamedChoice + std::fmt::Debug>() -> impl Strategy<Value = T> {
        prop::sample::select(T::NAMED).prop_map(|(value, _)| value)
    }
    let numbers = (
        any_of::<Slots>(),
        any_of::<Missing>(),
        1..6_usize,
        any::<bool>(),
        any_of::<ZScale>(),
        any_of::<Mirroring>(),
    );
    (any_of::<FrameRange>(), any_of::<Sampling>(), numbers).prop_map(
        |(frame_range, sampling, numbers)| {
            let (slots, missing, max_gap, aspect, z, mirror) = numbers;
            SequenceOptions {
                frame_range,
                sampling,
                slots,
                missing,
                max_gap,
                aspect,
                z,
                mirror,
            }
        },
    )
}

/// The sides of the hands of each frame of a clip.
fn clip() -> impl Strategy<Value = Vec<Vec<i8>>> {
    let hands = prop::collection::vec(0..2_i8, 0..3);
    prop::collection::vec(hands, 1..50)
}

fn made(clip: &[Vec<i8>], spec: &SequenceSpec) -> Sequence {
    let times = FrameTimes::from_seconds((0..clip.len()).map(|n| n as f64 * 0.04).collect());
    let plan = plan_frames(spec, 1, -1, Some(clip.len() as u64), &times);
    let frame = |index: &u64| record(*index, &clip[usize::try_from(*index).unwrap()]);
    let frames = plan.indexes.iter().map(frame).collect();
    assemble(frames, &plan, FORMAT, spec)
}

#[test]
fn a_sign_is_made_by_sides_with_its_gaps_filled() {
    let clip = [vec![1], vec![0, 1], vec![1], vec![1, 0], vec![], vec![1, 1]];
    let spec = spec(Profile::Corrected.options(), 8, 2);
    let sequence = made(&clip, &spec);
    let marks: Vec<String> = sequence
        .mask
        .iter()
        .zip(&sequence.filled)
        .map(|(mask, filled)| {
            let mark = |slot: usize| match (mask[slot], filled[slot]) {
                (true, true) => '+',
                (true, false) => '#',
                _ => '.',
            };
            [mark(0), mark(1)].iter().collect()
        })
        .collect();
    // The second right hand of the last frame takes the free slot.
    assert_eq!(marks, [".#", "##", "+#", "##", "++", "##", "..", ".."]);
    assert_eq!(
        sequence.figures,
        SequenceFigures {
            in_range: Some(6),
            truncated: Some(0),
            sampled: 6,
            with_two_hands: 3,
            same_side_twice: 1,
            longest_gap: 1,
            two_hand_pairs: 0,
            slot_swaps: 0,
            filled: 2,
            mirrored: false,
        }
    );
    assert_eq!((sequence.frames.len(), sequence.frames_with_hand), (6, 5));
    let fields = sequence.manifest_fields();
    assert_eq!(
        (&fields["sampled"], &fields["fps"]),
        (&json!(6), &json!(25.0))
    );
    let back: SequenceFigures = serde_json::from_value(fields).unwrap();
    assert_eq!(back, sequence.figures);
}

#[test]
fn what_the_stride_does_not_reach_is_truncated() {
    let clip = vec![vec![1]; 40];
    let notebook = Profile::Notebook.options();
    let sequence = made(&clip, &spec(notebook, 8, 2));
    // The notebook uses the 1-based start as an index.
    assert_eq!(
        (sequence.figures.in_range, sequence.figures.truncated),
        (Some(39), Some(23))
    );
    let uniform = made(&clip, &spec(Profile::Corrected.options(), 8, 2));
    assert_eq!(
        (uniform.figures.in_range, uniform.figures.truncated),
        (Some(40), Some(0))
    );
}

#[test]
fn a_left_handed_signer_is_mirrored_and_the_detection_is_kept() {
    let options = SequenceOptions {
        slots: Slots::Sides,
        mirror: Mirroring::Dominant,
        ..SequenceOptions::default()
    };
    let clip = vec![vec![0]; 10];
    let sequence = made(&clip, &spec(options, 8, 1));
    assert!(sequence.figures.mirrored);
    assert!(sequence.mask.iter().all(|mask| *mask == [false, true]));
    let frame = &sequence.frames[0];
    assert_eq!(
        (frame.handedness[0], frame.landmarks[0]),
        (0, record(1, &[0]).landmarks[0])
    );
    let raw = slots::mirrored(&frame.landmarks[0]);
    let expected = normalize(raw, HandScale::NOTEBOOK);
    assert_eq!(
        sequence.features.row(0).to_vec()[63..],
        *expected.as_flattened()
    );
    assert!(
        !made(&[vec![1], vec![1]], &spec(options, 8, 1))
            .figures
            .mirrored
    );
}

proptest! {
    #[test]
    fn the_notebooks_numbers_are_kept_bit_by_bit(clip in clip(), length in 1..40_usize, stride in 1..4_u64) {
        let sequence = made(&clip, &spec(Profile::Notebook.options(), length, stride));
        for (n, row) in sequence.features.rows().into_iter().enumerate() {
            let expected = sequence.frames.get(n).map_or([0.0; FEATURES], |frame| {
                features(&frame.landmarks[..usize::from(frame.hand_count)])
            });
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&row.to_vec()), bits(&expected));
            let hands = sequence.frames.get(n).map_or(0, |frame| frame.hand_count);
            prop_assert_eq!(sequence.mask[n], [hands > 0, hands > 1]);
        }
        let with_hand = sequence.frames.iter().filter(|f| f.hand_count > 0).count();
        prop_assert_eq!(sequence.frames_with_hand, with_hand);
    }

    #[test]
    fn mask_and_numbers_agree(clip in clip(), options in options(), length in 2..40_usize) {
        let sequence = made(&clip, &spec(options, length, 2));
        prop_assert_eq!(sequence.features.dim(), (length, FEATURES));
        prop_assert_eq!((sequence.mask.len(), sequence.filled.len()), (length, length));
        prop_assert!(sequence.frames.len() <= length);
        for (n, row) in sequence.features.rows().into_iter().enumerate() {
            let row = row.to_vec();
            for (slot, hand) in row.chunks(FEATURES / SLOTS).enumerate() {
                let is_there = sequence.mask[n][slot];
                prop_assert!(is_there || !sequence.filled[n][slot], "filled is masked");
                if is_there {
                    prop_assert!(hand.iter().all(|v| v.is_finite()) && has_hand(hand));
                } else if options.missing.placeholder().is_nan() {
                    prop_assert!(hand.iter().all(|v| v.is_nan()));
                } else {
                    prop_assert!(hand.iter().all(|v| *v == 0.0));
                }
            }
        }
        if !options.missing.interpolates() {
            prop_assert!(sequence.filled.iter().all(|row| *row == [false; 2]));
        }
        if options.sampling != Sampling::Interpolate {
            // Every hand that was detected is in the sequence.
            let hands: usize = sequence.frames.iter().map(|f| usize::from(f.hand_count)).sum();
            let seen = sequence.mask.iter().flatten().filter(|m| **m).count();
            let filled = sequence.filled.iter().flatten().filter(|m| **m).count();
            prop_assert_eq!(seen - filled, hands);
        }
    }

    #[test]
    fn position_size_and_shape_of_the_frame_do_not_matter(
        dx in -0.5_f32..0.5, dy in -0.5_f32..0.5, size in 0.3_f32..3.0,
        width in 100..2000_u32, height in 100..2000_u32,
    ) {
        let options = SequenceOptions { aspect: true, z: ZScale::Scaled, ..SequenceOptions::default() };
        let hand = record(3, &[1]).landmarks[0];
        let numbers = |hand, width, height| {
            let format = ClipFormat { width, height, fps: None };
            normalize(hand, HandScale::new(&options, format))
        };
        // In a square picture of 1000 pixels, and moved and scaled in one of another shape.
        let moved = hand.map(|[x, y, z]| {
            let pixels = [(x + dx) * size, (y + dy) * size, z * size].map(|v| v * 1000.0);
            [pixels[0] / width as f32, pixels[1] / height as f32, pixels[2] / width as f32]
        });
        let (plain, moved) = (numbers(hand, 1000, 1000), numbers(moved, width, height));
        for (a, b) in plain.iter().flatten().zip(moved.iter().flatten()) {
            prop_assert!((a - b).abs() < 2e-3, "{} {}", a, b);
        }
    }

    #[test]
    fn one_pass_gives_what_the_plan_gives(
        frame_start in -2..40_i64, frame_end in -2..40_i64, declared in prop::option::of(1..40_u64),
        decoded in 1..40_usize, length in 1..20_usize, stride in 1..5_u64,
    ) {
        let spec = spec(SequenceOptions::default(), length, stride);
        let models = || Detector::new(Blind::default(), Blind::default(), DetectorOptions::default());
        let mut go_on = |_: &RgbFrame, _: &FrameRecord| true;
        let single = extract(
            &mut TestFrames::new(decoded, declared), &mut models(), &spec, frame_start, frame_end, &mut go_on,
        ).unwrap();
        let mut test_frames = TestFrames::new(decoded, declared);
        let times = FrameTimes::new(&test_frames.read_times().unwrap());
        prop_assert_eq!(times.len(), decoded);
        let plan = plan_frames(&spec, frame_start, frame_end, declared, &times);
        let mut test_frames = TestFrames::new(decoded, declared);
        let frames = read_frames(&mut test_frames, &mut models(), &spec, &plan.indexes, &mut go_on).unwrap();
        prop_assert_eq!(assemble(frames, &plan, test_frames.format(), &spec), single);
    }
}

/// A model that finds nothing.
#[derive(Debug, Default)]
struct Blind(Vec<f32>);

impl Model for Blind {
    fn input(&mut self) -> &mut [f32] {
        self.0.resize(224 * 224 * 3, 0.0);
        &mut self.0[..192 * 192 * 3]
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        Ok(())
    }

    fn output(&self, _: usize, out: &mut [f32]) -> Result<(), ModelError> {
        out.fill(-100.0);
        Ok(())
    }
}

/// Black pictures, 25 per second.
struct TestFrames {
    frames: usize,
    shown: usize,
    declared: Option<u64>,
    blank: RgbFrame,
}

impl TestFrames {
    fn new(frames: usize, declared: Option<u64>) -> Self {
        Self {
            frames,
            shown: 0,
            declared,
            blank: RgbFrame::new(4, 4),
        }
    }
}

impl FrameSource for TestFrames {
    fn advance(&mut self) -> Result<bool, SourceError> {
        let is_left = self.shown < self.frames;
        self.shown += usize::from(is_left);
        Ok(is_left)
    }

    fn frame(&mut self) -> Result<&RgbFrame, SourceError> {
        Ok(&self.blank)
    }

    fn declared_frames(&self) -> Option<u64> {
        self.declared
    }

    fn time(&self) -> Option<Duration> {
        Some(Duration::from_millis(40) * u32::try_from(self.shown).ok()?)
    }

    fn format(&self) -> ClipFormat {
        FORMAT
    }
}
