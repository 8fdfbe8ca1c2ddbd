//! `handloom camera`: a camera's signs into the same npz as clips, by hand.

mod cli_session;
mod list;
mod preview_encoder;
pub mod stdin_commands;

use crate::camera::file::FileCamera;
use crate::camera::{
    Camera, CameraAddress, CameraOpener, CaptureTimeouts, DropPolicy, FormatRequest,
};
use crate::cli::camera::cli_session::CliSession;
use crate::cli::camera::preview_encoder::PreviewEncoder;
use crate::cli::camera::stdin_commands::{StdinCommand, StdinCommandError};
use crate::cli::flag_checks;
use crate::cli::progress::Live;
use crate::cli::{CameraArgs, ProgressKind};
use crate::error::{CliError, Exit};
use crate::inference::ShutdownFlag;
use crate::inference::{BackendHandle, SelectionContext, SelectionError};
use crate::recording::TakeProvenance;
pub use crate::recording::capture_settings::CaptureSettings;
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::session::SessionHost;
use crate::recording::take_store::{TakeOptions, TakeStore};
use crate::sequence::recording_plan::{RecordRequest, RecordingPlan};
use crate::sequence::sign_recorder::SignRecorder;
use crate::system::clock;
use crate::system::{Signal, Signals};
use anyhow::anyhow;
use serde_json::json;
use std::io::BufRead;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Builder;
use std::time::Duration;

/// Takes when nobody says how many: until somebody stops them.
const TAKES_MAX: u32 = 10_000;
/// Lines of stdin that wait.
const LINES: usize = 16;

/// Films until it is over.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(args: &CameraArgs) -> Result<Exit, CliError> {
    let live = Live::new(match args.progress {
        ProgressKind::Auto => None,
        ProgressKind::Bar => Some(true),
        ProgressKind::Json => Some(false),
    });
    if args.list {
        return Ok(list::run(args, &live));
    }
    let usage = |text: String| CliError::new(Exit::Usage, anyhow!(text));
    if args.at_once && !args.device.is_file() {
        let text = format!("--at-once is for files, and {} is none", args.device);
        return Err(usage(text));
    }
    let config = args.config();
    flag_checks::check(&config)?;
    let order = order(args).map_err(usage)?;
    let stop = ShutdownFlag::default();
    let theirs = stop.clone();
    let _signals = Signals::listen(move |signal| match signal {
        Signal::Stop => theirs.set(),
        // Every take is on disk; a session can be left at any instruction.
        Signal::StopNow => std::process::exit(Exit::Stopped as i32),
        Signal::Reload => {}
    })
    .map_err(|e| CliError::new(Exit::InOut, anyhow!("cannot listen for Ctrl-C: {e}")))?;
    let context = &mut SelectionContext {
        workers: 1,
        on_probe: &mut |name| {
            let event = json!({"event": "measure", "backend": name});
            live.say(&format!("Measuring {name} ..."), &event);
        },
        is_stopped: &|| stop.is_set(),
        shutdown: &stop,
    };
    let backend =
        BackendHandle::open(&config.backend_request(), &config.model_paths(), 1, context)?;
    if stop.is_set() {
        return Err(SelectionError::Stopped.into());
    }
    film(args, live, order, &backend, stop)
}

fn order(args: &CameraArgs) -> Result<Option<RecordRequest>, String> {
    let takes = &args.takes;
    let Some(gloss) = &takes.gloss else {
        return Ok(None);
    };
    let countdown = Duration::from_secs_f64(takes.countdown);
    let order = RecordRequest::new(gloss, takes.count.unwrap_or(TAKES_MAX), countdown);
    order.map(Some).map_err(|e| e.to_string())
}

fn film(
    args: &CameraArgs,
    live: Live,
    order: Option<RecordRequest>,
    backend: &BackendHandle,
    stop: ShutdownFlag,
) -> Result<Exit, CliError> {
    let recipe = args.capture_settings();
    let graphs = backend.loaded_models()?;
    // Nobody else opens anything here.
    let mut eye = FallbackDetector::new(backend, &graphs, recipe.detector, &|| None)?;
    let settings = recipe.settings(backend);
    let store = args.out.as_deref().map(|out| {
        let common = TakeOptions::of(&recipe, args.takes.signer, &args.takes.split);
        TakeStore::open(out, settings.clone(), common)
    });
    let store = store.transpose()?;
    let (store, _claim) = store.unzip();
    let viewer = args.preview.map(PreviewEncoder::start).transpose()?;
    let mut takes = RecordingPlan::new(order.is_none());
    let ends_with_order = args.takes.count.is_some();
    if let Some(order) = order {
        takes.record(order, Duration::ZERO);
    }
    let mut recorder = SignRecorder::new(recipe.sign_config(), takes);
    let started = clock::now_utc();
    let (opener, pace) = opener(args, recipe.want);
    let mut desk = CliSession::new(live, store, viewer, listen(), stop);
    desk.ends_with_order = ends_with_order;
    desk.seconds = args.seconds.map(Duration::from_secs_f64);
    desk.introduce(&args.device);
    desk.accelerator(&backend.choice());
    let camera = Camera::start(opener, pace, CaptureTimeouts::default())?;
    let filmed = crate::recording::session::run(&camera, &mut eye, &mut recorder, &mut desk);
    drop(camera);
    let origin = TakeProvenance {
        settings: &settings,
        backend,
        device: &args.device,
        started: &started,
    };
    let (counts, stats) = match filmed {
        Ok(measured) => measured,
        Err(failure) => {
            // What was taken until then is kept.
            desk.close(&origin.provenance(None))?;
            return Err(failure);
        }
    };
    desk.close(&origin.provenance(Some((&counts, &stats))))?;
    desk.conclude(&counts, &stats, &recorder)
}

fn opener(args: &CameraArgs, want: FormatRequest) -> (Box<dyn CameraOpener>, DropPolicy) {
    match &args.device {
        CameraAddress::File(path) if args.at_once => {
            let stand = FileCamera::new(path.clone(), args.capture.fps).at_once();
            (Box::new(stand), DropPolicy::WaitForReader)
        }
        place => (place.opener(want), DropPolicy::DropOldest),
    }
}

/// Reads commands from stdin for as long as there are any.
fn listen() -> Receiver<Result<StdinCommand, StdinCommandError>> {
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
