//! What drivers do that they should not: clocks that jump, pictures that are none, panics, calls that do not return.
//! Each is told, and the session goes on by itself.

use crate::scripted::{CameraScript, ScriptStep};
use crate::stage::sign_config;
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

/// A camera is back within this time, once it can be.
const BACK: Duration = Duration::from_secs(2);
/// A busy machine may stop a thread for a good part of a second.
const PATIENCE: Duration = Duration::from_secs(1);
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

/// Sees no hands.
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

/// What happened to the camera, and when; the times of the frames.
#[derive(Default)]
struct Log {
    events: Vec<(Instant, CameraEvent)>,
    times: Vec<Duration>,
}

impl Log {
    /// What was told, by name.
    fn names(&self) -> Vec<&'static str> {
        let name = |(_, news): &(Instant, CameraEvent)| match news {
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
    let recorder = SignRecorder::new(sign_config(), RecordingPlan::new(true));
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

/// Plays `acts` between three frames and six; what must be told, and how many frames are no good.
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
    let script = CameraScript::new(script, Some(100.0), PATIENCE);
    let since = Instant::now();
    let hangs = acts.iter().any(|act| matches!(act, ScriptStep::Stall(_)));
    let waits = if hangs { SHORT } else { WAITS };
    let (log, counts) = run(Box::new(script), pace, waits);
    let (took, counts) = (since.elapsed(), counts.unwrap());
    assert_eq!(log.names(), expected, "{acts:?}");
    assert!(damaged.contains(&counts.damaged), "{acts:?}: {counts:?}");
    // What was looked at last came after all that, in the order of its time, and none of it in the future.
    assert!(log.times.windows(2).all(|w| w[0] < w[1]), "{:?}", log.times);
    assert!(log.times.last().unwrap() <= &took, "{:?}", log.times);
    let mut down = None;
    for (at, news) in &log.events {
        match news {
            CameraEvent::Fault(error) => {
                // A driver that hangs is told of while it does.
                let hangs = matches!(error, CameraError::Hangs { .. });
                down = Some(*at + if hangs { STALL } else { Duration::ZERO });
                assert!(error.to_string().contains(';'), "no advice in {error}");
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
    // A wrong time in the future is none that the right ones would have to wait for.
    let acts = [
        ScriptStep::Jump(86_400),
        ScriptStep::Frames(3),
        ScriptStep::Jump(-86_400),
    ];
    check(&acts, DropPolicy::DropOldest, &["opened", "ended"], 0..=0);
}

#[test]
fn pictures_that_cannot_be_developed_are_a_fault() {
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
fn a_driver_that_hangs_is_told_of_and_goes_on_when_it_answers() {
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
    // Nor does the end wait for it.
    let script = CameraScript::new([ScriptStep::Stall(Duration::from_mins(2))], None, PATIENCE);
    let camera = Camera::start(Box::new(script), DropPolicy::DropOldest, SHORT).unwrap();
    let since = Instant::now();
    while !matches!(
        camera.events().next(),
        Some(CameraEvent::Fault(CameraError::Hangs { .. }))
    ) {
        assert!(since.elapsed() < SHORT.driver_timeout + BACK);
        std::thread::sleep(Duration::from_millis(5));
    }
    let since = Instant::now();
    drop(camera);
    assert!(since.elapsed() < BACK);
}

#[test]
fn a_loose_cable_is_told_of_once_until_it_was_well() {
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
        let script = CameraScript::new(acts, Some(100.0), PATIENCE);
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
        // How it stands is told each time.
        assert_eq!(count("opened"), 6);
        (count("gone"), count("relapse"))
    };
    assert_eq!(play(Duration::from_mins(1)), (1, 4));
    assert_eq!(play(Duration::from_millis(20)), (5, 0));
}

/// Panics with something that panics as well when it is dropped, which no guard holds.
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
