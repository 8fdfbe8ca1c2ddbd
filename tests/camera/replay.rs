//! A clip as a camera: at its own rate it gives the results of the file; when that is too fast, frames are dropped.

use super::fixture::{
    FRAME, Part, Points, encode_parts, record_signs, record_signs_at, with_detector,
};
use handloom::camera::file::FileCamera;
use handloom::camera::{CameraEvent, DropPolicy};
use handloom::frame::FrameSource;
use handloom::hand::{Detector, Model, Tracker};
use handloom::video::clip::{VideoClip, VideoOptions};
use std::path::Path;
use std::time::Duration;
use test_support::{print_note, scratch};

/// VIDEO mode on every frame of the file.
fn tracked<M: Model>(path: &Path, detector: &mut Detector<M>) -> Vec<Vec<Points>> {
    let options = VideoOptions {
        timeout: Duration::from_mins(1),
        ..VideoOptions::default()
    };
    let mut clip = VideoClip::open_path(path, &options).unwrap();
    let mut tracker = Tracker::default();
    let mut found = Vec::new();
    while clip.advance().unwrap() {
        let hands = detector.track(&mut tracker, clip.frame().unwrap()).unwrap();
        found.push(hands.iter().map(|h| h.landmarks).collect());
    }
    found
}

#[test]
fn at_its_own_rate_a_clip_gives_what_its_file_gives() {
    let dir = scratch();
    let path = dir.path().join("clip.mp4");
    with_detector(2, Duration::ZERO, |detector| {
        // Slow enough for two hands; each retry is slower, for a busy machine.
        for fps in [8, 4, 2, 1] {
            let parts = [Part::Sign(1, 16), Part::Pause(4), Part::Sign(2, 12)];
            encode_parts(&path, &parts, fps);
            let expected = tracked(&path, detector);
            assert!(expected.iter().filter(|hands| hands.len() == 2).count() >= 12);
            let file_camera = FileCamera::new(path.clone(), 25.0);
            let (log, counts, stats) =
                record_signs(Box::new(file_camera), DropPolicy::DropOldest, detector);
            assert_eq!(counts.frames, 32);
            assert_eq!(counts.dropped + stats.seen, 32);
            if counts.dropped > 0 && fps > 1 {
                print_note(&format!(
                    "the machine was too busy, {} frames were dropped: retrying",
                    counts.dropped
                ));
                continue;
            }
            assert_eq!(counts.dropped, 0);
            let rates = log.camera.iter().filter_map(|event| match event {
                CameraEvent::Opened(opened) => opened.rate,
                _ => None,
            });
            assert_eq!(rates.collect::<Vec<_>>(), [f64::from(fps)]);
            let found: Vec<_> = log.views.iter().map(|l| l.1.clone()).collect();
            assert_eq!(found, expected);
            let interval = Duration::from_secs(1) / fps;
            for (n, pair) in log.views.windows(2).enumerate() {
                let gap = pair[1].0.saturating_sub(pair[0].0);
                assert!(
                    gap.abs_diff(interval) < Duration::from_millis(1),
                    "frame {n}: {gap:?}"
                );
            }
            assert!(matches!(log.camera.first(), Some(CameraEvent::Opened(_))));
            assert_eq!(log.camera.last(), Some(&CameraEvent::Ended));
            break;
        }
    });
}

#[test]
fn at_once_no_frame_of_a_file_is_dropped() {
    let dir = scratch();
    let path = dir.path().join("clip.mp4");
    encode_parts(
        &path,
        &[Part::Sign(3, 40), Part::Pause(20), Part::Sign(5, 30)],
        25,
    );
    with_detector(2, Duration::ZERO, |detector| {
        let expected = tracked(&path, detector);
        let file_camera = FileCamera::new(path.clone(), 25.0).at_once();
        let (log, counts, _) =
            record_signs(Box::new(file_camera), DropPolicy::WaitForReader, detector);
        assert_eq!((counts.frames, counts.dropped), (90, 0));
        let found: Vec<_> = log.views.iter().map(|l| l.1.clone()).collect();
        assert_eq!(found, expected);
        // The end of the file ends the second sign.
        let spans: Vec<_> = log.signs.iter().map(|s| (s.begin, s.end)).collect();
        assert_eq!(
            spans,
            [(Duration::ZERO, FRAME * 39), (FRAME * 60, FRAME * 89)]
        );
        // A sign's sequence equals that of its own clip: the frames that the notebook samples.
        for (sign, first) in log.signs.iter().zip([0, 60]) {
            for (nth, frame) in sign.sequence.frames.iter().enumerate() {
                let hands = &expected[first + nth * 2];
                assert_eq!(usize::from(frame.hand_count), hands.len());
                assert_eq!(&frame.landmarks[..hands.len()], hands.as_slice());
            }
        }
    });
}

#[test]
fn at_twice_the_load_frames_are_dropped_and_time_stays_right() {
    // Each retry is slower, for a busy machine.
    assert!([25, 10, 5, 2].into_iter().any(replay_at_twice_the_load));
}

/// Replays a clip of `fps` frames per second while a frame with a hand takes twice the frame interval. Returns
/// `false` when the machine was too busy to process frames at this rate; at 2 frames per second this is a failure.
fn replay_at_twice_the_load(fps: u32) -> bool {
    let interval = Duration::from_secs(1) / fps;
    let dir = scratch();
    let path = dir.path().join("clip.mp4");
    encode_parts(&path, &[Part::Sign(0, 90), Part::Pause(15)], fps);
    let whole = with_detector(1, Duration::ZERO, |detector| {
        let file_camera = Box::new(FileCamera::new(path.clone(), 25.0).at_once());
        record_signs_at(interval, file_camera, DropPolicy::WaitForReader, detector).0
    });
    let (half, counts, stats) = with_detector(1, interval * 2, |detector| {
        let file_camera = Box::new(FileCamera::new(path.clone(), 25.0));
        record_signs_at(interval, file_camera, DropPolicy::DropOldest, detector)
    });
    assert_eq!(counts.frames, 105);
    assert_eq!(counts.dropped + stats.seen, 105);
    assert!(counts.dropped >= 35, "{counts:?}");
    // An idle machine processes every second or third frame.
    let pairs = half.views.windows(2);
    let gaps = pairs.map(|pair| pair[1].0.saturating_sub(pair[0].0));
    let longest_gap = gaps.max().unwrap_or_default();
    if fps > 2 && longest_gap > interval * 4 {
        print_note(&format!(
            "the machine was too busy, no frame was processed for {longest_gap:?}: retrying"
        ));
        return false;
    }
    let median = stats.latency(50);
    assert!(
        median < interval * 8,
        "{median:?} at {fps} frames per second"
    );
    let ([whole], [half]) = (whole.signs.as_slice(), half.signs.as_slice()) else {
        panic!("{} and {} signs", whole.signs.len(), half.signs.len())
    };
    assert!(half.seen < whole.seen * 2 / 3);
    // The same moments, from frames that were processed near them.
    let gap = interval * 6;
    assert_eq!(whole.sequence.frames.len(), 32);
    assert_eq!(half.sequence.frames.len(), 32);
    assert!(half.begin.abs_diff(whole.begin) <= gap);
    let mut late = Vec::new();
    for (nth, frame) in (0..32_u32).zip(&half.sequence.frames) {
        assert_eq!(frame.frame_index, i32::try_from(nth * 2).unwrap());
        let off = half.frame_times[nth as usize].abs_diff(interval * 2 * nth);
        assert!(off <= gap / 2, "moment {nth} is off by {off:?}");
        late.push(off);
        // The hand's position at that time in the complete recording, if it has this moment.
        let then = (half.begin + half.frame_times[nth as usize]).saturating_sub(whole.begin);
        let index = (then + interval).as_nanos() / (interval * 2).as_nanos();
        let Some(full) = whole.sequence.frames.get(usize::try_from(index).unwrap()) else {
            continue;
        };
        if frame.hand_count == 1 && full.hand_count == 1 {
            let (a, b) = (frame.landmarks[0][0], full.landmarks[0][0]);
            let far = (a[0] - b[0]).hypot(a[1] - b[1]);
            assert!(far < 0.08, "moment {nth}: the wrist is off by {far}");
        }
    }
    late.sort();
    assert!(
        late[16] <= interval,
        "half of the moments are off by {:?}",
        late[16]
    );
    true
}
