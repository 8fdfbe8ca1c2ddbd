//! What drivers do that they should not: clocks that jump, pictures that are none, panics, calls that do not return.
//! Each is told, and the session goes on by itself.

use crate::stage::loom;
use handloom::camera::scripted::{Act, Script};
use handloom::camera::{Camera, CameraError, Capture, Counts, News, Opener, Pace, Waits};
use handloom::frame::RgbFrame;
use handloom::hand::{Hand, ModelError, Tracker};
use handloom::inference::probing::AcceleratorNews;
use handloom::recording::session;
use handloom::recording::session::{Host, Look, Sight, Standing};
use handloom::sequence::recording_plan::Takes;
use handloom::sequence::sign_recorder::{Sign, Weaver};
use std::time::{Duration, Instant};

/// A camera is back within this time, once it can be.
const BACK: Duration = Duration::from_secs(2);
/// A busy machine may stop a thread for a good part of a second.
const PATIENCE: Duration = Duration::from_secs(1);
const WAITS: Waits = Waits {
    min: Duration::from_millis(10),
    max: Duration::from_millis(50),
    well: Duration::from_mins(1),
    silence: Duration::from_mins(1),
};
/// For drivers that hang.
const SHORT: Waits = Waits {
    silence: Duration::from_secs(1),
    ..WAITS
};
/// Longer than patience and silence together.
const STALL: Duration = Duration::from_secs(4);

/// Sees no hands.
struct Blind;

impl Sight for Blind {
    type Error = ModelError;

    fn follow(&mut self, _: &mut Tracker, _: &RgbFrame) -> Result<Vec<Hand>, ModelError> {
        Ok(Vec::new())
    }

    fn backend(&self) -> &'static str {
        "none"
    }

    fn news(&mut self, _: &mut dyn FnMut(&AcceleratorNews<'_>)) {}
}

/// Hears what happens, and when.
#[derive(Default)]
struct Ear {
    news: Vec<(Instant, News)>,
    times: Vec<Duration>,
}

impl Host for Ear {
    type Error = anyhow::Error;

    fn news(&mut self, news: &News) -> anyhow::Result<()> {
        self.news.push((Instant::now(), news.clone()));
        Ok(())
    }

    fn accelerator(&mut self, _: &AcceleratorNews<'_>) {}

    fn look(&mut self, look: &Look<'_>) {
        self.times.push(look.at);
    }

    fn sign(&mut self, _: Sign, _: &str, _: &mut Weaver) -> anyhow::Result<()> {
        Ok(())
    }

    fn turn(&mut self, _: &Standing<'_>, _: &mut Weaver) -> anyhow::Result<bool> {
        Ok(true)
    }
}

impl Ear {
    /// What was told, by name.
    fn names(&self) -> Vec<&'static str> {
        let name = |(_, news): &(Instant, News)| match news {
            News::Opened(_) => "opened",
            News::Fault(error) => error.name(),
            News::Relapse(_) => "relapse",
            News::Ended => "ended",
        };
        self.news.iter().map(name).collect()
    }
}

fn run(opener: Box<dyn Opener>, pace: Pace, waits: Waits) -> (Ear, anyhow::Result<Counts>) {
    let camera = Camera::start(opener, pace, waits).unwrap();
    let mut weaver = Weaver::new(loom(), Takes::new(true));
    let mut ear = Ear::default();
    let ended = session::run(&camera, &mut Blind, &mut weaver, &mut ear);
    (ear, ended.map(|(counts, _)| counts))
}

/// Plays `acts` between three frames and six; what must be told, and how many frames are no good.
fn check(acts: &[Act], pace: Pace, expected: &[&str], damaged: std::ops::RangeInclusive<u64>) {
    let script = [&[Act::Film(3)], acts, &[Act::Film(6), Act::End]].concat();
    let script = Script::new(script, Some(100.0), PATIENCE);
    let since = Instant::now();
    let hangs = acts.iter().any(|act| matches!(act, Act::Stall(_)));
    let waits = if hangs { SHORT } else { WAITS };
    let (ear, counts) = run(Box::new(script), pace, waits);
    let (took, counts) = (since.elapsed(), counts.unwrap());
    assert_eq!(ear.names(), expected, "{acts:?}");
    assert!(damaged.contains(&counts.damaged), "{acts:?}: {counts:?}");
    // What was looked at last came after all that, in the order of its time, and none of it in the future.
    assert!(ear.times.windows(2).all(|w| w[0] < w[1]), "{:?}", ear.times);
    assert!(ear.times.last().unwrap() <= &took, "{:?}", ear.times);
    let mut down = None;
    for (at, news) in &ear.news {
        match news {
            News::Fault(error) => {
                // A driver that hangs is told of while it does.
                let hangs = matches!(error, CameraError::Hangs { .. });
                down = Some(*at + if hangs { STALL } else { Duration::ZERO });
                assert!(error.to_string().contains(';'), "no way out in {error}");
            }
            News::Opened(_) => {
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
    check(&[Act::Jump(3600)], Pace::Live, &["opened", "ended"], 0..=0);
    let acts = [Act::Jump(-3600), Act::Film(30)];
    check(&acts, Pace::Live, &back, 30..=30);
    // A wrong time in the future is none that the right ones would have to wait for.
    let acts = [Act::Jump(86_400), Act::Film(3), Act::Jump(-86_400)];
    check(&acts, Pace::Live, &["opened", "ended"], 0..=0);
}

#[test]
fn pictures_that_cannot_be_developed_are_a_fault() {
    let acts = [Act::Spoil(29)];
    check(&acts, Pace::Patient, &["opened", "ended"], 29..=29);
    let acts = [Act::Spoil(40)];
    let back = ["opened", "damaged", "opened", "ended"];
    check(&acts, Pace::Patient, &back, 40..=40);
}

#[test]
fn a_library_that_panics_is_a_fault_and_no_end() {
    let back = ["opened", "failed", "opened", "ended"];
    check(&[Act::Panic], Pace::Patient, &back, 0..=0);
    check(&[Act::Panic, Act::Panic], Pace::Patient, &back, 0..=0);
}

#[test]
fn a_driver_that_hangs_is_told_of_and_goes_on_when_it_answers() {
    let back = ["opened", "hangs", "opened", "ended"];
    check(&[Act::Stall(STALL)], Pace::Live, &back, 0..=0);
    let gone = CameraError::Gone {
        device: "/dev/video0".into(),
        reason: "unplugged".into(),
    };
    let acts = [Act::Fail(gone), Act::Stall(STALL)];
    let back = ["opened", "gone", "hangs", "opened", "ended"];
    check(&acts, Pace::Live, &back, 0..=0);
    // Nor does the end wait for it.
    let script = Script::new([Act::Stall(Duration::from_mins(2))], None, PATIENCE);
    let camera = Camera::start(Box::new(script), Pace::Live, SHORT).unwrap();
    let since = Instant::now();
    while !matches!(
        camera.news().next(),
        Some(News::Fault(CameraError::Hangs { .. }))
    ) {
        assert!(since.elapsed() < SHORT.silence + BACK);
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
    let play = |well| {
        let mut acts = Vec::new();
        for _ in 0..5 {
            acts.extend([Act::Film(5), Act::Fail(gone.clone())]);
        }
        acts.extend([Act::Film(1), Act::End]);
        let script = Script::new(acts, Some(100.0), PATIENCE);
        let (ear, _) = run(Box::new(script), Pace::Patient, Waits { well, ..WAITS });
        let names = ear.names();
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

impl Opener for Bomb {
    fn name(&self) -> String {
        "bomb".to_owned()
    }

    fn open(&mut self, _: Instant) -> Result<Box<dyn Capture>, CameraError> {
        std::panic::panic_any(Self)
    }
}

#[test]
fn a_session_whose_camera_is_lost_ends_with_an_error() {
    let (_, ended) = run(Box::new(Bomb), Pace::Live, WAITS);
    let error = ended.unwrap_err();
    assert_eq!(
        error.downcast_ref::<CameraError>(),
        Some(&CameraError::Lost),
        "{error}"
    );
}
