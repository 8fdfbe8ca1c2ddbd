use super::*;
use crate::sequence::SequenceOptions;
use crate::sequence::options::Missing;
use proptest::prelude::*;
use std::num::NonZeroU64;

fn spec(frame_range: FrameRange, sampling: Sampling, length: usize) -> SequenceSpec {
    SequenceSpec {
        length,
        stride: NonZeroU64::MIN.saturating_add(1),
        tracking: false,
        options: SequenceOptions {
            frame_range,
            sampling,
            ..SequenceOptions::default()
        },
    }
}

/// The times of `count` frames of constant rate.
fn even_times(count: usize) -> FrameTimes {
    FrameTimes::from_seconds((0..count).map(|n| n as f64 / 25.0).collect())
}

/// Times with steps of 1, 2, … milliseconds.
fn times(steps: &[u16]) -> FrameTimes {
    let mut at = 0;
    let times = steps.iter().map(|step| {
        at += u64::from(*step);
        Some(Duration::from_millis(at))
    });
    FrameTimes::new(&times.collect::<Vec<_>>())
}

#[test]
fn a_range_that_does_not_fit_means_a_trimmed_clip() {
    let check = |frame_start, frame_end, declared, decoded, expected: (u64, u64)| {
        let spec = spec(FrameRange::Auto, Sampling::Uniform, 4);
        let plan = plan_frames(
            &spec,
            frame_start,
            frame_end,
            declared,
            &even_times(decoded),
        );
        let found = (plan.window.start, plan.window.end);
        assert_eq!(
            found, expected,
            "{frame_start} {frame_end} {declared:?} {decoded}"
        );
        let (first, last) = (expected.0, expected.1.min(decoded as u64) - 1);
        assert_eq!(plan.indexes.first(), Some(&first));
        assert_eq!(plan.indexes.last(), Some(&last));
        assert_eq!(plan.in_range, Some(last + 1 - first));
    };
    // 1-based, the last frame included.
    check(1, 10, Some(50), 50, (0, 10));
    check(11, 50, Some(50), 50, (10, 50));
    check(11, 11, Some(50), 50, (10, 11));
    check(1, -1, Some(50), 50, (0, 50));
    check(11, 0, Some(50), 50, (10, 50));
    check(-3, 5, Some(50), 50, (0, 5));
    // The clip is shorter than its range, or the range is empty.
    check(11, 51, Some(50), 50, (0, 50));
    check(51, -1, Some(50), 50, (0, 50));
    check(900, 960, Some(50), 50, (0, 50));
    check(20, 10, Some(50), 50, (0, 50));
    check(i64::MAX, i64::MIN, Some(50), 50, (0, 50));
    // The declared number is used; without one, the decoded number.
    check(11, 50, Some(50), 48, (10, 50));
    check(11, 50, None, 48, (0, 48));
    check(1, -1, Some(50), 51, (0, 51));
}

#[test]
fn the_notebooks_range_may_be_empty() {
    let spec = spec(FrameRange::AsWritten, Sampling::Uniform, 4);
    let plan = plan_frames(&spec, 60, -1, Some(50), &even_times(50));
    assert!(plan.window.is_empty() && plan.indexes.is_empty());
    assert_eq!((plan.window.start, plan.in_range), (60, Some(0)));
    let plan = plan_frames(&spec, 10, 20, Some(50), &even_times(50));
    assert_eq!(plan.indexes, [10, 13, 16, 19]);
}

#[test]
fn a_variable_rate_is_sampled_by_time() {
    // A long pause in the middle: half of the time is in one interval.
    let mut steps = vec![40; 10];
    steps[5] = 400;
    let spec = spec(FrameRange::Whole, Sampling::Uniform, 4);
    let plan = plan_frames(&spec, 1, -1, None, &times(&steps));
    assert_eq!(plan.indexes, [0, 4, 5, 9]);
    assert!(
        (plan.positions[3] - 0.72).abs() < 1e-9,
        "{:?}",
        plan.positions
    );
    // Rounded times are those of a constant rate.
    let rounded: Vec<u16> = (0..30).map(|n| if n % 3 == 0 { 34 } else { 33 }).collect();
    let plan = plan_frames(&spec, 1, -1, None, &times(&rounded));
    assert_eq!(plan.positions, [0.0, 10.0, 19.0, 29.0]);
    // So are times that are not all known, or do not ascend.
    let unknown = FrameTimes::new(&[Some(Duration::ZERO), None, Some(Duration::from_secs(9))]);
    assert!(!is_variable(unknown.seconds()));
    assert!(!is_variable(&[0.0, 5.0, 4.0, 4.0, 9.0]) && !is_variable(&[]) && !is_variable(&[1.0]));
}

#[test]
fn each_option_that_places_frames_in_time_needs_the_times() {
    let needs = |options| {
        SequenceSpec {
            options,
            ..spec(FrameRange::AsWritten, Sampling::Stride, 4)
        }
        .needs_times()
    };
    let own = SequenceOptions::default();
    assert!(!needs(own));
    let missing = Missing::Interpolate;
    assert!(needs(SequenceOptions { missing, ..own }));
    let sampling = Sampling::Interpolate;
    assert!(needs(SequenceOptions { sampling, ..own }));
    let frame_range = FrameRange::Whole;
    assert!(needs(SequenceOptions { frame_range, ..own }));
}

proptest! {
    #[test]
    fn uniform_takes_first_and_last_and_ascends(
        steps in prop::collection::vec(prop_oneof![1..100_u16, Just(40_u16)], 1..200),
        length in 2..70_usize,
    ) {
        let spec = spec(FrameRange::Whole, Sampling::Uniform, length);
        for times in [times(&steps), even_times(steps.len())] {
            let plan = plan_frames(&spec, 0, 0, None, &times);
            prop_assert_eq!(plan.indexes.len(), length.min(steps.len()));
            prop_assert!(plan.indexes.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(plan.positions.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(plan.indexes[0], 0);
            prop_assert_eq!(plan.indexes.last().copied(), Some(steps.len() as u64 - 1));
        }
        // Of a constant rate each frame is at most half a frame away from its place.
        let plan = plan_frames(&spec, 0, 0, None, &even_times(steps.len()));
        let step = (steps.len() as f64 - 1.0) / (length as f64 - 1.0);
        if steps.len() > length {
            for (row, index) in plan.indexes.iter().enumerate() {
                prop_assert!((*index as f64 - row as f64 * step).abs() <= 0.5 + 1e-9);
            }
        }
    }

    #[test]
    fn the_plan_stays_in_the_clip(
        frame_start in -2..70_i64,
        frame_end in -2..70_i64,
        declared in prop::option::of(1..60_u64),
        decoded in 1..60_usize,
        length in 1..40_usize,
        range in prop::sample::select(&[FrameRange::AsWritten, FrameRange::Auto, FrameRange::Whole][..]),
        sampling in prop::sample::select(&[Sampling::Stride, Sampling::Uniform, Sampling::Interpolate][..]),
    ) {
        let spec = spec(range, sampling, length);
        let plan = plan_frames(&spec, frame_start, frame_end, declared, &even_times(decoded));
        prop_assert_eq!(plan.indexes.len(), plan.positions.len());
        prop_assert!(plan.indexes.windows(2).all(|pair| pair[0] < pair[1]));
        for index in &plan.indexes {
            prop_assert!((plan.window.start..plan.window.end).contains(index) && *index < decoded as u64);
        }
        if range != FrameRange::AsWritten && declared.is_none_or(|count| count <= decoded as u64) {
            prop_assert!(!plan.indexes.is_empty());
        }
        if sampling == Sampling::Interpolate {
            prop_assert_eq!(plan.in_range, Some(plan.indexes.len() as u64));
        }
    }
}
