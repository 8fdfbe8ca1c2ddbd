//! `handloom camera`: a camera's signs into the same npz as clips, by hand.

mod desk;
mod list;
pub mod meter;
mod recipe;
pub mod session;
pub mod shelf;
mod viewer;
pub mod words;

use crate::cli::{CameraArgs, ProgressKind};
use crate::digest::sha256_hex;
use crate::exit::{Exit, Failure};
use crate::hand::{Detector, Model, Options};
use crate::inference::{Bundle, CpuGraph, CpuModel};
use crate::machine::clock;
use crate::report::Live;
use crate::sequence::live::Weaver;
use crate::sequence::takes::{Order, Takes};
use crate::service::{Signal, Signals};
use crate::source::camera::file::Stand;
use crate::source::camera::{Camera, Counts, Opener, Pace, Place, Waits, Want};
use crate::source::video;
use anyhow::anyhow;
use desk::Desk;
use meter::Meter;
pub use recipe::Recipe;
use serde_json::{Value, json};
use shelf::{Common, Shelf};
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Builder;
use std::time::Duration;
use viewer::Viewer;
use words::{Word, WordError};

/// Takes when nobody says how many: until somebody stops them.
const TAKES_MAX: u32 = 10_000;
/// Lines of stdin that wait.
const LINES: usize = 16;

/// Films until it is over.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(args: &CameraArgs) -> Result<Exit, Failure> {
    let live = Live::new(match args.progress {
        ProgressKind::Auto => None,
        ProgressKind::Bar => Some(true),
        ProgressKind::Json => Some(false),
    });
    if args.list {
        return Ok(list::run(args, &live));
    }
    let usage = |text: String| Failure::new(Exit::Usage, anyhow!(text));
    if args.at_once && !args.device.is_file() {
        let text = format!("--at-once is for files, and {} is none", args.device);
        return Err(usage(text));
    }
    let (min, length) = (args.numbers.min_frames, args.numbers.sequence_length);
    super::job::check_lengths(min, length).map_err(usage)?;
    if args.cut.min_seconds > args.cut.max_seconds {
        let (min, max) = (args.cut.min_seconds, args.cut.max_seconds);
        return Err(usage(format!(
            "no sign is {min} s long at least and {max} s at most"
        )));
    }
    let order = order(args).map_err(usage)?;
    let bundle = Bundle::load(&args.models.selection())?;
    let recipe = args.recipe();
    with_detector(&bundle, recipe.detector, |detector| {
        let settings = recipe.settings(&bundle);
        film(args, &recipe, live, order, &settings, detector)
    })
}

/// The place where it is decided what runs the models.
pub(super) fn with_detector<T>(
    bundle: &Bundle,
    options: Options,
    work: impl FnOnce(&mut Detector<CpuModel<'_>>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let (palm, hand) = (CpuGraph::new(&bundle.palm)?, CpuGraph::new(&bundle.hand)?);
    let (palm, hand) = (CpuModel::new(&palm)?, CpuModel::new(&hand)?);
    work(&mut Detector::new(palm, hand, options))
}

fn order(args: &CameraArgs) -> Result<Option<Order>, String> {
    let takes = &args.takes;
    let Some(gloss) = &takes.gloss else {
        return Ok(None);
    };
    let countdown = Duration::from_secs_f64(takes.countdown);
    let order = Order::new(gloss, takes.count.unwrap_or(TAKES_MAX), countdown);
    order.map(Some).map_err(|e| e.to_string())
}

fn film<M: Model>(
    args: &CameraArgs,
    recipe: &Recipe,
    live: Live,
    order: Option<Order>,
    settings: &Value,
    detector: &mut Detector<M>,
) -> Result<Exit, Failure> {
    let shelf = args.out.as_deref().map(|out| {
        let common = Common::of(recipe, args.takes.signer, &args.takes.split);
        Shelf::open(out, settings.clone(), common)
    });
    let (shelf, _claim) = shelf.transpose()?.unzip();
    let viewer = args.preview.map(Viewer::start).transpose()?;
    let stop = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&stop);
    let _signals = Signals::listen(move |signal| match signal {
        Signal::Stop => theirs.store(true, Ordering::Release),
        // Every take is on disk; a session can be left at any instruction.
        Signal::StopNow => std::process::exit(Exit::Stopped as i32),
        Signal::Reload => {}
    })
    .map_err(|e| Failure::new(Exit::InOut, anyhow!("cannot listen for Ctrl-C: {e}")))?;

    let mut takes = Takes::new(order.is_none());
    let ends_with_order = args.takes.count.is_some();
    if let Some(order) = order {
        takes.record(order, Duration::ZERO);
    }
    let mut weaver = Weaver::new(recipe.loom(), takes);
    let started = clock::now_utc();
    let (opener, pace) = opener(args, recipe.want);
    let mut desk = Desk::new(live, shelf, viewer, listen(), stop);
    desk.ends_with_order = ends_with_order;
    desk.seconds = args.seconds.map(Duration::from_secs_f64);
    desk.introduce(&args.device);
    let camera = Camera::start(opener, pace, Waits::default())?;
    let filmed = session::run(&camera, detector, &mut weaver, &mut desk);
    drop(camera);
    let (counts, meter) = match filmed {
        Ok(measured) => measured,
        Err(failure) => {
            // What was taken until then is kept.
            desk.close(&provenance(settings, &args.device, &started, None))?;
            return Err(failure);
        }
    };
    desk.close(&provenance(
        settings,
        &args.device,
        &started,
        Some((&counts, &meter)),
    ))?;
    desk.conclude(&counts, &meter, weaver.too_short())
}

fn opener(args: &CameraArgs, want: Want) -> (Box<dyn Opener>, Pace) {
    match &args.device {
        Place::File(path) if args.at_once => {
            let stand = Stand::new(path.clone(), args.fps).at_once();
            (Box::new(stand), Pace::Patient)
        }
        place => (place.opener(want), Pace::Live),
    }
}

/// Reads commands from stdin for as long as there are any.
fn listen() -> Receiver<Result<Word, WordError>> {
    let (tell, words) = sync_channel(LINES);
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if !line.trim().is_empty() && tell.send(line.parse()).is_err() {
                return;
            }
        }
    };
    if let Err(error) = Builder::new().name("stdin".into()).spawn(read) {
        tracing::warn!(%error, "no thread for stdin: commands are not heard");
    }
    words
}

pub(super) fn provenance(
    settings: &Value,
    device: &Place,
    started: &str,
    measured: Option<(&Counts, &Meter)>,
) -> Value {
    let run = sha256_hex(format!("{settings} {started} {}", std::process::id()).as_bytes());
    let finished = measured.map(|(counts, meter)| {
        json!({
            "at": clock::now_utc(), "clock_synced": clock::clock_synced(),
            "frames": counts.frames, "dropped": counts.dropped, "damaged": counts.damaged,
            "looked_at": meter.seen, "opened": counts.opened,
        })
    });
    json!({
        "handloom": env!("CARGO_PKG_VERSION"),
        "run": &run[..8],
        "settings": settings,
        "device": device.to_string(),
        "backend": {"name": "cpu", "runtime": "TensorFlow Lite C, XNNPACK, 1 thread"},
        "gstreamer": video::version(),
        "platform": {"arch": std::env::consts::ARCH, "os": std::env::consts::OS},
        "started": started,
        "finished": finished,
    })
}
