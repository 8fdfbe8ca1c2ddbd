//! `handloom camera`: records a camera's signs as takes, in the same npz files as clips.

mod cli_session;
mod list;
mod preview_encoder;
pub mod stdin_commands;

use crate::camera::file::FileCamera;
use crate::camera::{
    Camera, CameraAddress, CameraOpener, CaptureTimeouts, DropPolicy, FormatRequest,
};
use crate::cli::camera::cli_session::{CliSession, SessionIo, report_backend};
use crate::cli::camera::preview_encoder::PreviewEncoder;
use crate::cli::camera::stdin_commands::{StdinCommand, StdinCommandError};
use crate::cli::flag_checks;
use crate::cli::progress::Live;
use crate::cli::{CameraArgs, ProgressKind};
use crate::error::{CliError, Exit};
use crate::inference::{BackendHandle, SelectionContext, SelectionError, ShutdownFlag};
use crate::recording::TakeProvenance;
pub use crate::recording::capture_settings::CaptureSettings;
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::session::RecordingSession;
use crate::recording::take_store::TakeStore;
use crate::sequence::recording_plan::{RecordRequest, RecordingPlan};
use crate::sequence::sign_recorder::SignRecorder;
use crate::system::clock;
use crate::system::{Signal, Signals};
use anyhow::anyhow;
use serde_json::json;
use std::io::BufRead;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Builder;
use std::time::Duration;

/// Number of takes without --count: the user stops the session.
const TAKES_MAX: u32 = 10_000;
/// Lines of stdin that wait to be carried out.
const LINES_MAX: usize = 16;

/// Lists the cameras, or records until the session is over.
///
/// # Errors
/// With the exit code and the message for the user.
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
        let text = format!("--at-once is for files, and {} is not one", args.device);
        return Err(usage(text));
    }
    let config = args.config();
    flag_checks::check(&config)?;
    let request = request(args).map_err(usage)?;
    let stop = ShutdownFlag::default();
    let signalled = stop.clone();
    let _signals = Signals::listen(move |signal| match signal {
        Signal::Stop => signalled.set(),
        // Every take is on disk: the process may end at any instruction.
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
    let backend = BackendHandle::open(&config.backend_request(), &config.model_paths(), context)?;
    if stop.is_set() {
        return Err(SelectionError::Stopped.into());
    }
    record(args, live, request, &backend, stop)
}

/// The request of `--gloss`, if there is one.
fn request(args: &CameraArgs) -> Result<Option<RecordRequest>, String> {
    let takes = &args.takes;
    let Some(gloss) = &takes.gloss else {
        return Ok(None);
    };
    let countdown = Duration::from_secs_f64(takes.countdown);
    let request = RecordRequest::new(gloss, takes.count.unwrap_or(TAKES_MAX), countdown);
    request.map(Some).map_err(|e| e.to_string())
}

/// Runs a session and writes what it leaves, also after a failure.
fn record(
    args: &CameraArgs,
    live: Live,
    request: Option<RecordRequest>,
    backend: &BackendHandle,
    stop: ShutdownFlag,
) -> Result<Exit, CliError> {
    let capture = args.capture_settings();
    // No other thread opens a lost device again here.
    let detector = FallbackDetector::new(backend, capture.detector, &|| None)?;
    let settings = capture.settings(backend.files(), &backend.identity());
    let store = args.out.as_deref().map(|out| {
        let takes = &args.takes;
        TakeStore::open(out, settings.clone(), &capture, takes.signer, &takes.split)
    });
    let store = store.transpose()?;
    let preview = args.preview.map(PreviewEncoder::start).transpose()?;
    let mut plan = RecordingPlan::new(request.is_none());
    if let Some(request) = request {
        plan.record(request, Duration::ZERO);
    }
    let recorder = SignRecorder::new(capture.sign_config(), plan);
    let started = clock::now_utc();
    report_start(
        &live,
        store.is_some(),
        preview.as_ref().map(PreviewEncoder::address),
    );
    report_backend(&live, &backend.choice());
    let (opener, drop_policy) = opener(args, capture.want);
    let camera = Camera::start(opener, drop_policy, CaptureTimeouts::default())?;
    let io = SessionIo {
        live,
        store,
        preview,
        commands: listen(),
        stop,
        ends_with_request: args.takes.count.is_some(),
        time_limit: args.seconds.map(Duration::from_secs_f64),
    };
    let session = RecordingSession::new(camera, detector, recorder);
    let mut session = CliSession::new(session, io, &args.device);
    let ended = session.run();
    let origin = TakeProvenance {
        settings: &settings,
        backend,
        device: &args.device,
        started: &started,
    };
    let provenance = {
        let status = session.status();
        origin.provenance(ended.is_ok().then_some((&status.counts, status.stats)))
    };
    // After a failure the takes until then are kept.
    session.close_store(&provenance)?;
    ended?;
    session.conclude()
}

/// Reports where takes and pictures go.
fn report_start(live: &Live, keeps_takes: bool, preview: Option<SocketAddr>) {
    if !keeps_takes {
        let text = "No take is kept; give --out DIR to keep them";
        live.say(text, &json!({"event": "not_kept", "reason": text}));
    }
    if let Some(address) = preview {
        let url = format!("http://{address}");
        let is_loopback = address.ip().is_loopback();
        let warning = if is_loopback {
            ""
        } else {
            " (visible to everyone in the network)"
        };
        let event = json!({"event": "preview", "url": url, "loopback": is_loopback});
        live.say(&format!("Preview: {url}{warning}"), &event);
    }
}

fn opener(args: &CameraArgs, format: FormatRequest) -> (Box<dyn CameraOpener>, DropPolicy) {
    match &args.device {
        CameraAddress::File(path) if args.at_once => {
            let file = FileCamera::new(path.clone(), args.capture.fps).at_once();
            (Box::new(file), DropPolicy::WaitForReader)
        }
        address => (address.opener(format), DropPolicy::DropOldest),
    }
}

/// Reads commands from stdin in a thread of its own, until its end.
fn listen() -> Receiver<Result<StdinCommand, StdinCommandError>> {
    let (sender, commands) = sync_channel(LINES_MAX);
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if !line.trim().is_empty() && sender.send(line.parse()).is_err() {
                return;
            }
        }
    };
    if let Err(error) = Builder::new().name("stdin".into()).spawn(read) {
        tracing::warn!(%error, "cannot start the thread that reads stdin: commands are not read");
    }
    commands
}
