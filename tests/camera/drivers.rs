//! Driver faults: clocks that jump, invalid frames, panics, calls that do not return. Each is reported, and the
//! session continues by itself.

use crate::fixture::{FRAME, sign_config};
use crate::scripted::{CameraScript, ScriptStep};
use handloom::camera::{
    Camera, CameraCounts, CameraError, CameraEvent, CameraOpener, Capture, CaptureTimeouts,
    DropPolicy,
};
use handloom::frame::RgbFrame;
use handloom::hand::{Hand, Tracker};
use handloom::recording::session::{HandSource, RecordingSession, SessionEvent};
use handloom::sequence::recording_plan::RecordingPlan;
use handloom::sequence::sign_recorder::SignRecorder;
use std::time::{Duration, Instant};

/// Longest wait for a camera that becomes available. The two seconds that are promised are measured by the tests of
/// kernel cameras, which run alone.
const BACK: Duration = Duration::from_mins(1);
/// Time without a frame after which a camera that hangs counts as frozen.
const HANG_TIMEOUT: Duration = Duration::from_secs(1);
const WAITS: CaptureTimeouts = CaptureTimeouts {
    retry_min: Duration::from_millis(10),
    retry_max: Duration::from_millis(50),
    healthy_after: Duration::from_mins(1),
    driver_timeout: Duration::from_mins(1),
};
/// For drivers that hang.
const SHORT: CaptureTimeouts = CaptureTimeouts {
    driver_timeout: Duration::from_secs(1),
    ..WAITS
};
/// Longer than the frame timeout and the driver timeout together.
const STALL: Duration = Duration::from_secs(4);
/// Longer than any wait of a stop.
const LONG_STALL: Duration = Duration::from_mins(2);

/// Finds no hands.
struct Blind;

impl HandSource for Blind {
    type Error = CameraError;

    fn find_hands(&mut self, _: &mut Tracker, _: &RgbFrame) -> Result<Vec<Hand>, CameraError> {
        Ok(Vec::new())
    }

    fn backend(&self) -> &'static str {
        "none"
    }
}

/// The camera events with their time, and the times of the frames.
#[derive(Default)]
struct Log {
    events: Vec<(Instant, CameraEvent)>,
    times: Vec<Duration>,
}

impl Log {
    /// The names of the events.
    fn names(&self) -> Vec<&'static str> {
        let name = |(_, camera_event): &(Instant, CameraEvent)| match camera_event {
            CameraEvent::Opened(_) => "opened",
            CameraEvent::Fault(error) => error.name(),
            CameraEvent::Relapse(_) => "relapse",
            CameraEvent::Ended => "ended",
        };
        self.events.iter().map(name).collect()
    }
}

fn run(
    opener: Box<dyn CameraOpener>,
    drop_policy: DropPolicy,
    timeouts: CaptureTimeouts,
) -> (Log, Result<CameraCounts, CameraError>) {
    let camera = Camera::start(opener, drop_policy, timeouts).unwrap();
    let recorder = SignRecorder::new(sign_config(FRAME), RecordingPlan::new(true));
    let mut session = RecordingSession::new(camera, Blind, recorder);
    let mut log = Log::default();
    loop {
        match session.next_event() {
            Ok(SessionEvent::Camera(event)) => log.events.push((Instant::now(), event)),
            Ok(SessionEvent::Frame) => log.times.push(session.view().at),
            Ok(SessionEvent::Ended) => return (log, Ok(session.status().counts)),
            Ok(_) => {}
            Err(error) => return (log, Err(error)),
        }
    }
}

/// Plays `acts` between three frames and six. Checks the events and the number of damaged frames.
fn check(
    acts: &[ScriptStep],
    pace: DropPolicy,
    expected: &[&str],
    damaged: std::ops::RangeInclusive<u64>,
) {
    let script = [
        &[ScriptStep::Frames(3)],
        acts,
        &[ScriptStep::Frames(6), ScriptStep::End],
    ]
    .concat();
    let hangs = acts.iter().any(|act| matches!(act, ScriptStep::Stall(_)));
    let (waits, frame_timeout) = if hangs {
        (SHORT, HANG_TIMEOUT)
    } else {
        (WAITS, BACK)
    };
    let script = CameraScript::new(script, Some(100.0), frame_timeout);
    let since = Instant::now();
    let (log, counts) = run(Box::new(script), pace, waits);
    let (took, counts) = (since.elapsed(), counts.unwrap());
    assert_eq!(log.names(), expected, "{acts:?}");
    assert!(damaged.contains(&counts.damaged), "{acts:?}: {counts:?}");
    // The processed frames are in time order, and none is in the future.
    assert!(log.times.windows(2).all(|w| w[0] < w[1]), "{:?}", log.times);
    assert!(log.times.last().unwrap() <= &took, "{:?}", log.times);
    let mut down = None;
    for (at, camera_event) in &log.events {
        match camera_event {
            CameraEvent::Fault(error) => {
                // A hanging driver is reported while it hangs.
                let hangs = matches!(error, CameraError::Hangs { .. });
                down = Some(*at + if hangs { STALL } else { Duration::ZERO });
                assert!(error.to_string().contains(';'), "no hint in {error}");
            }
            CameraEvent::Opened(_) => {
                let back = down.take().map(|down| at.saturating_duration_since(down));
                assert!(back.unwrap_or_default() < BACK, "{acts:?}: {back:?}");
            }
            _ => {}
        }
    }
}

#[test]
fn a_clock_that_jumps_stops_no_camera() {
    let back = ["opened", "damaged", "opened", "ended"];
    check(
        &[ScriptStep::Jump(3600)],
        DropPolicy::DropOldest,
        &["opened", "ended"],
        0..=0,
    );
    let acts = [ScriptStep::Jump(-3600), ScriptStep::Frames(30)];
    check(&acts, DropPolicy::DropOldest, &back, 30..=30);
    // After a wrong time in the future, frames with correct times do not wait for it.
    let acts = [
        ScriptStep::Jump(86_400),
        ScriptStep::Frames(3),
        ScriptStep::Jump(-86_400),
    ];
    check(&acts, DropPolicy::DropOldest, &["opened", "ended"], 0..=0);
}

#[test]
fn frames_that_cannot_be_converted_are_a_fault() {
    let acts = [ScriptStep::Unreadable(29)];
    check(
        &acts,
        DropPolicy::WaitForReader,
        &["opened", "ended"],
        29..=29,
    );
    let acts = [ScriptStep::Unreadable(40)];
    let back = ["opened", "damaged", "opened", "ended"];
    check(&acts, DropPolicy::WaitForReader, &back, 40..=40);
}

#[test]
fn a_library_that_panics_is_a_fault_and_no_end() {
    let back = ["opened", "failed", "opened", "ended"];
    check(
        &[ScriptStep::Panic],
        DropPolicy::WaitForReader,
        &back,
        0..=0,
    );
    check(
        &[ScriptStep::Panic, ScriptStep::Panic],
        DropPolicy::WaitForReader,
        &back,
        0..=0,
    );
}

#[test]
fn a_hanging_driver_is_reported_and_continues_when_it_answers() {
    let back = ["opened", "hangs", "opened", "ended"];
    check(
        &[ScriptStep::Stall(STALL)],
        DropPolicy::DropOldest,
        &back,
        0..=0,
    );
    let gone = CameraError::Gone {
        device: "/dev/video0".into(),
        reason: "unplugged".into(),
    };
    let acts = [ScriptStep::Fail(gone), ScriptStep::Stall(STALL)];
    let back = ["opened", "gone", "hangs", "opened", "ended"];
    check(&acts, DropPolicy::DropOldest, &back, 0..=0);
    // A stop does not wait for a hanging driver, either.
    let script = CameraScript::new([ScriptStep::Stall(LONG_STALL)], None, HANG_TIMEOUT);
    let camera = Camera::start(Box::new(script), DropPolicy::DropOldest, SHORT).unwrap();
    let since = Instant::now();
    while !matches!(
        camera.events().next(),
        Some(CameraEvent::Fault(CameraError::Hangs { .. }))
    ) {
        assert!(since.elapsed() < LONG_STALL / 2);
        std::thread::sleep(Duration::from_millis(5));
    }
    let since = Instant::now();
    drop(camera);
    assert!(since.elapsed() < LONG_STALL / 2);
}

#[test]
fn a_bad_cable_is_reported_once_until_capture_recovers() {
    let gone = CameraError::Gone {
        device: "/dev/video0".into(),
        reason: "unplugged".into(),
    };
    let play = |healthy_after| {
        let mut acts = Vec::new();
        for _ in 0..5 {
            acts.extend([ScriptStep::Frames(5), ScriptStep::Fail(gone.clone())]);
        }
        acts.extend([ScriptStep::Frames(1), ScriptStep::End]);
        let script = CameraScript::new(acts, Some(100.0), BACK);
        let (log, _) = run(
            Box::new(script),
            DropPolicy::WaitForReader,
            CaptureTimeouts {
                healthy_after,
                ..WAITS
            },
        );
        let names = log.names();
        let count = |wanted| names.iter().filter(|name| **name == wanted).count();
        // Each opening is reported.
        assert_eq!(count("opened"), 6);
        (count("gone"), count("relapse"))
    };
    assert_eq!(play(Duration::from_mins(1)), (1, 4));
    assert_eq!(play(Duration::from_millis(20)), (5, 0));
}

/// Panics with a payload that panics again when dropped, which no guard catches.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a panic of a panic");
    }
}

impl CameraOpener for Bomb {
    fn name(&self) -> String {
        "bomb".to_owned()
    }

    fn open(&mut self, _: Instant) -> Result<Box<dyn Capture>, CameraError> {
        std::panic::panic_any(Self)
    }
}

#[test]
fn a_session_whose_camera_is_lost_ends_with_an_error() {
    let (_, ended) = run(Box::new(Bomb), DropPolicy::DropOldest, WAITS);
    assert_eq!(ended, Err(CameraError::Lost));
}
