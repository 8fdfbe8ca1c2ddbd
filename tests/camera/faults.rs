//! Scripted camera faults: each is reported once, and the camera captures again by itself.

use crate::scripted::{CameraScript, ScriptStep};
use handloom::camera::{
    Camera, CameraCounts, CameraError, CameraEvent, CaptureTimeouts, DropPolicy, FormatRequest,
    NextFrame,
};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use test_support::print_note;

const DEVICE: &str = "/dev/video0";
/// Time without a frame after which a camera that hangs counts as frozen.
const HANG_TIMEOUT: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_mins(1);

fn gone() -> CameraError {
    CameraError::Gone {
        device: DEVICE.into(),
        reason: "unplugged".into(),
    }
}

fn device() -> String {
    DEVICE.into()
}

/// Captures to the end of the script. Returns the events with their times, the counts, and the number of frames read.
fn play(
    script: CameraScript,
    pace: DropPolicy,
    waits: CaptureTimeouts,
) -> (Vec<(Instant, CameraEvent)>, CameraCounts, u64) {
    let camera = Camera::start(Box::new(script), pace, waits).unwrap();
    let (mut timed_events, mut frame_count, since) = (Vec::new(), 0, Instant::now());
    loop {
        let taken = camera.next_frame(Duration::from_millis(20));
        timed_events.extend(camera.events().map(|n| (Instant::now(), n)));
        match taken {
            NextFrame::Frame(frame) => {
                frame_count += 1;
                camera.release(frame);
            }
            NextFrame::Timeout => assert!(since.elapsed() < LIMIT, "{timed_events:?}"),
            NextFrame::Closed => break,
        }
    }
    timed_events.extend(camera.events().map(|n| (Instant::now(), n)));
    (timed_events, camera.counts(), frame_count)
}

/// Plays `acts` between six frames. Checks the names of the reported faults and the camera's last path.
fn check(acts: Vec<ScriptStep>, expected: &[&str], last_path: &str) {
    let name = format!("{acts:?}");
    let mut script = vec![ScriptStep::Frames(3)];
    script.extend(acts);
    script.extend([ScriptStep::Frames(3), ScriptStep::End]);
    let hangs = script.contains(&ScriptStep::Hang);
    let timeout = if hangs { HANG_TIMEOUT } else { LIMIT };
    let script = CameraScript::new(script, Some(100.0), timeout);
    let (timed_events, counts, frame_count) = play(
        script,
        DropPolicy::WaitForReader,
        CaptureTimeouts::default(),
    );
    assert_eq!(
        (counts.frames, frame_count, counts.dropped),
        (6, 6, 0),
        "{name}"
    );
    let mut faults = Vec::new();
    let mut path = String::new();
    for (_, event) in &timed_events {
        match event {
            CameraEvent::Opened(opened) => {
                path.clone_from(&opened.path);
            }
            CameraEvent::Fault(error) => {
                faults.push(error.name());
                let words = error.to_string();
                assert!(words.contains(';'), "no hint in {words}");
            }
            CameraEvent::Relapse(error) => panic!("{error} was reported again"),
            CameraEvent::Ended => {}
        }
    }
    assert_eq!(faults, expected, "{name}");
    assert_eq!(path, last_path, "{name}");
    assert_eq!(
        timed_events.last().map(|t| &t.1),
        Some(&CameraEvent::Ended),
        "{name}"
    );
}

/// The tests of kernel cameras measure the two seconds within which a camera is back.
#[test]
fn the_pause_between_attempts_is_at_most_a_second() {
    assert!(CaptureTimeouts::default().retry_max <= Duration::from_secs(1));
}

#[test]
fn a_camera_captures_again_after_each_fault() {
    let (busy, denied, missing) = (
        CameraError::Busy(device()),
        CameraError::Denied(device()),
        CameraError::NotFound(device()),
    );
    let changed = CameraError::Changed {
        device: device(),
        what: "YUYV 640x480 to MJPG 1280x720".into(),
    };
    let usb = CameraError::Failed {
        device: device(),
        reason: "Protocol error (os error 71)".into(),
    };
    // Unplugged, and plugged in again here or elsewhere.
    check(vec![ScriptStep::Fail(gone())], &["gone"], DEVICE);
    check(
        vec![
            ScriptStep::Fail(gone()),
            ScriptStep::Refuse(missing.clone()),
            ScriptStep::Refuse(missing.clone()),
            ScriptStep::Move("/dev/video3".into()),
        ],
        &["gone", "not_found"],
        "/dev/video3",
    );
    check(
        vec![
            ScriptStep::Fail(gone()),
            ScriptStep::Refuse(busy.clone()),
            ScriptStep::Refuse(busy),
        ],
        &["gone", "busy"],
        DEVICE,
    );
    check(
        vec![ScriptStep::Fail(gone()), ScriptStep::Refuse(denied)],
        &["gone", "denied"],
        DEVICE,
    );
    check(vec![ScriptStep::Fail(changed)], &["changed"], DEVICE);
    check(vec![ScriptStep::Fail(usb)], &["failed"], DEVICE);
    check(vec![ScriptStep::Hang], &["frozen"], DEVICE);
    check(vec![ScriptStep::Damaged(29)], &[], DEVICE);
    check(vec![ScriptStep::Damaged(30)], &["damaged"], DEVICE);
}

#[test]
fn a_missing_camera_is_reported_once_and_tried_again() {
    let missing = CameraError::NotFound(device());
    let acts = [
        vec![ScriptStep::Refuse(missing); 4],
        vec![ScriptStep::Frames(1), ScriptStep::End],
    ]
    .concat();
    let waits = CaptureTimeouts {
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(5),
        ..CaptureTimeouts::default()
    };
    let script = CameraScript::new(acts, None, Duration::from_secs(5));
    let (timed_events, counts, frame_count) = play(script, DropPolicy::WaitForReader, waits);
    let timed_events: Vec<_> = timed_events.into_iter().map(|t| t.1).collect();
    assert!(matches!(
        timed_events.as_slice(),
        [
            CameraEvent::Fault(CameraError::NotFound(_)),
            CameraEvent::Opened(_),
            CameraEvent::Ended
        ]
    ));
    assert_eq!((counts.refused, counts.opened, frame_count), (4, 1, 1));
}

#[test]
fn unread_frames_are_dropped_and_counted() {
    let script = CameraScript::new(
        [ScriptStep::Frames(200)],
        Some(1000.0),
        Duration::from_secs(5),
    );
    let camera = Camera::start(
        Box::new(script.clone()),
        DropPolicy::DropOldest,
        CaptureTimeouts::default(),
    )
    .unwrap();
    let since = Instant::now();
    while camera.counts().frames < 200 {
        assert!(since.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(5));
    }
    let NextFrame::Frame(last) = camera.next_frame(LIMIT) else {
        panic!("the newest frame is missing")
    };
    assert!(last.taken.elapsed() < since.elapsed());
    assert_eq!(
        (camera.counts().frames, camera.counts().dropped),
        (200, 199)
    );
    // A stop does not wait for the next frame, and so needs no part of its grace of 5 s.
    let stopped = Instant::now();
    drop(camera);
    assert!(stopped.elapsed() < Duration::from_secs(5));
}

/// Open files and threads of this process.
fn open_resources() -> (usize, usize) {
    let count = |path| std::fs::read_dir(path).unwrap().count();
    (count("/proc/self/fd"), count("/proc/self/task"))
}

/// Set in the child process.
const MARK: &str = "HANDLOOM_TEST_LEAKS";

#[test]
fn nothing_is_left_after_five_hundred_unplugs() {
    const NAME: &str = "faults::nothing_is_left_after_five_hundred_unplugs";
    if std::env::var_os(MARK).is_none() {
        // Files and threads are counted in a child process without other tests.
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env(MARK, "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let words = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{words}");
        assert!(words.contains("500 unplugs"), "{words}");
        return;
    }
    let waits = CaptureTimeouts {
        retry_min: Duration::from_millis(1),
        retry_max: Duration::from_millis(1),
        ..CaptureTimeouts::default()
    };
    let mut acts = Vec::new();
    for n in 0..500 {
        acts.extend([ScriptStep::Frames(1), ScriptStep::Fail(gone())]);
        if n % 5 == 0 {
            acts.push(ScriptStep::Refuse(CameraError::NotFound(device())));
            acts.push(ScriptStep::Move(format!("/dev/video{}", n % 7)));
        }
    }
    acts.extend([ScriptStep::Frames(1), ScriptStep::End]);
    let before = open_resources();
    let script = CameraScript::new(acts, None, Duration::from_secs(5));
    let (_, counts, frame_count) = play(script, DropPolicy::WaitForReader, waits);
    assert_eq!(
        (counts.opened, counts.refused, frame_count),
        (501, 100, 501)
    );
    assert_eq!(open_resources(), before);
    // Real pipelines as well: GStreamer keeps its own pool of threads and files after the first.
    let run_pipeline = || {
        let launch = "gst:videotestsrc num-buffers=3 ! video/x-raw,width=64,height=48";
        let place = handloom::camera::CameraAddress::parse(launch).unwrap();
        let camera = Camera::start(
            place.opener(FormatRequest::default()),
            DropPolicy::WaitForReader,
            waits,
        )
        .unwrap();
        let mut frame_count = 0;
        loop {
            match camera.next_frame(LIMIT) {
                NextFrame::Frame(frame) => {
                    frame_count += 1;
                    camera.release(frame);
                }
                NextFrame::Timeout => panic!("{:?}", camera.events().collect::<Vec<_>>()),
                NextFrame::Closed => return frame_count,
            }
        }
    };
    assert!(run_pipeline() > 0);
    let before = open_resources();
    for _ in 0..30 {
        assert!(run_pipeline() > 0);
    }
    let after = open_resources();
    assert!(
        after.0 <= before.0 + 2 && after.1 <= before.1 + 4,
        "{before:?}, {after:?}"
    );
    print_note("500 unplugs and 30 pipelines leaked nothing");
}
