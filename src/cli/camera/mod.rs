//! `handloom camera`: records a camera's signs as takes, in the same npz files as clips.

mod cli_session;
mod list;
mod preview_encoder;
pub mod stdin_commands;

use crate::camera::file::FileCamera;
use crate::camera::{
    Camera, CameraAddress, CameraOpener, CaptureTimeouts, DropPolicy, FormatRequest,
};
use crate::cli::BackendArgs;
use crate::cli::camera::cli_session::{CliSession, OPENING, SessionProgress, report_backend};
use crate::cli::camera::preview_encoder::PreviewEncoder;
use crate::cli::camera::stdin_commands::StdinCommand;
use crate::cli::progress::{Console, ProgressKind};
use crate::config::constraints::{camera_address, device_id, real};
use crate::config::{
    BatchConfig, CaptureConfig, Config, HandsConfig, NumbersConfig, SegmentConfig,
};
use crate::error::{CliError, Exit};
use crate::inference::{BackendHandle, ShutdownFlag};
use crate::recording::TakeProvenance;
use crate::recording::capture_settings::CaptureSettings;
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::session::RecordingSession;
use crate::recording::take_store::TakeStore;
use crate::sequence::recording_plan::{RecordRequest, RecordingPlan};
use crate::sequence::sign_recorder::SignRecorder;
use crate::storage::output_dir;
use crate::system::clock;
use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use std::io::BufRead;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Number of takes without --count: the user stops the session.
const TAKES_MAX: u32 = 10_000;
/// Lines of stdin that wait to be carried out.
const LINES_MAX: usize = 16;

pub(super) const CAMERA_ABOUT: &str = "\
Record signs with a camera into the same npz as clips.

Tracks the hands in the camera's frames, cuts signs out where hands appear and disappear, and makes
each the sequence that a clip of the dataset would give: 32 frames at the dataset's spacing in time,
whatever the camera's rate is. --frame-range and --sampling of process do not apply: a take is cut
in time already. With --out the signs are stored as takes: batches/NNNNN.npz with raw
landmarks, handedness and frame times; wlasl_landmarks.npz, manifest.jsonl and run.json at the end.
The same folder can be continued later.

With --gloss the signs are takes of that gloss, --count of them, each after --countdown seconds.
Lines on stdin are commands:
  record GLOSS [COUNT [COUNTDOWN]]    undo (the last take)    cancel    quit

When frames come faster than hands can be tracked, the oldest frame is dropped and counted. A camera
that is unplugged, busy or hangs is reopened automatically, also under another /dev/videoN. A clip
(file:CLIP.mp4), an image (file:STILL.png) or GStreamer elements (gst:libcamerasrc) can replace it.

Examples:
  handloom camera --list                                 which cameras exist
  handloom camera --preview                              what it sees: http://127.0.0.1:8088
  handloom camera --out takes/ --gloss book --count 20 --countdown 3
  handloom camera --device file:clip.mp4 --at-once --out takes/ --gloss book";

/// Arguments of `camera`.
#[derive(Debug, Args)]
pub struct CameraArgs {
    /// Show the cameras with their formats and controls, and stop
    #[arg(long)]
    pub list: bool,
    /// The camera: /dev/v4l/by-id/..., /dev/video0 or 0, file:PATH, gst:ELEMENTS
    #[arg(long, value_name = "WHICH", default_value = "0", value_parser = camera_address)]
    pub device: CameraAddress,
    /// Requested size, 16 to 8192 pixels each way
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = size)]
    pub size: (u32, u32),
    /// Rate and pixels.
    #[command(flatten)]
    pub capture: CaptureConfig,
    /// Folder for the takes; created when missing
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Serve the camera's frames, with hands drawn on them, to browsers [default address: 127.0.0.1:8088, which only
    /// this machine reaches]
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8088", value_parser = address)]
    pub preview: Option<SocketAddr>,
    /// Stop after N seconds
    #[arg(long, value_name = "N", value_parser = real::<f64>(0.1, 86_400.0))]
    pub seconds: Option<f64>,
    /// Read a file as fast as hands can be tracked, and drop no frame
    #[arg(long)]
    pub at_once: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto)]
    pub progress: ProgressKind,
    /// What is recorded.
    #[command(flatten, next_help_heading = "Takes")]
    pub takes: RecordingArgs,
    /// Size of the batch files.
    #[command(flatten)]
    pub batches: BatchConfig,
    /// Where signs begin and end.
    #[command(flatten, next_help_heading = "Where signs begin and end")]
    pub segments: SegmentConfig,
    /// The profile and its options.
    #[command(flatten, next_help_heading = "Which numbers")]
    pub numbers: NumbersConfig,
    /// The part of `[sequence]` that takes have.
    #[command(flatten)]
    pub hands: HandsConfig,
    /// The models, and what runs them.
    #[command(flatten)]
    pub backend: BackendArgs,
}

impl CameraArgs {
    /// How signs become takes.
    #[must_use]
    pub fn capture_settings(&self) -> CaptureSettings {
        self.config().capture_settings()
    }

    /// The settings as a config; the prefix of the takes' names stands for the device's id, as in the daemon.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = self.backend.config();
        config.device.id.clone_from(&self.takes.prefix);
        config.output.batches = self.batches.clone();
        config.camera.device = Some(self.device.clone());
        config.camera.path.clone_from(&self.out);
        (config.camera.width, config.camera.height) = self.size;
        config.camera.capture = self.capture.clone();
        config.camera.segments = self.segments.clone();
        config.sequence.numbers = self.numbers.clone();
        config.sequence.hands = self.hands.clone();
        config
    }
}

/// A numeric address or a name, with a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| "give HOST:PORT, such as 127.0.0.1:8088 or 0.0.0.0:8088".to_owned())
}

/// What is recorded.
#[derive(Debug, Args)]
pub struct RecordingArgs {
    /// The gloss that is signed; without it every sign is stored as "unlabelled"
    #[arg(long, value_name = "NAME")]
    pub gloss: Option<String>,
    /// Stop after N takes of --gloss [default: when interrupted]
    #[arg(long, value_name = "N", requires = "gloss")]
    pub count: Option<u32>,
    /// Seconds before each take
    #[arg(long, value_name = "N", default_value = "0", value_parser = real::<f64>(0.0, 3600.0))]
    pub countdown: f64,
    /// Number of the signer; -1 for none in particular
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub signer: i64,
    /// Part of the dataset
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub split: String,
    /// First part of the takes' names, for folders that will be joined
    #[arg(long, value_name = "NAME", default_value = "take", value_parser = device_id)]
    pub prefix: String,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.parse().ok().filter(|n| (16..=8192).contains(n));
    text.split_once('x')
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .ok_or_else(|| "give WIDTHxHEIGHT, such as 640x480, with 16 to 8192 each".to_owned())
}

/// Lists the cameras, or records until the session is over.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub fn run(args: &CameraArgs) -> Result<Exit, CliError> {
    let console = Console::new(args.progress);
    if args.list {
        return Ok(list::run(args, &console));
    }
    let usage = |text: String| CliError::new(Exit::Usage, anyhow!(text));
    if args.at_once && !args.device.is_file() {
        let text = format!("--at-once is for files, and {} is not one", args.device);
        return Err(usage(text));
    }
    let config = args.config();
    super::check_flags(&config)?;
    let request = request(args).map_err(usage)?;
    let stop = ShutdownFlag::default();
    let is_stopping = stop.clone();
    let _signals = super::on_stop(move || is_stopping.set())?;
    let known = args.out.as_deref().map(output_dir::recorded_settings);
    let known = known.transpose()?.flatten();
    let backend = super::open_backend(&config, known.as_ref(), 1, &console, &stop)?;
    record(args, console, request, &backend, stop)
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
    console: Console,
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
        &console,
        store.is_some(),
        preview.as_ref().map(PreviewEncoder::address),
    );
    report_backend(&console, &backend.choice());
    let (opener, drop_policy) = opener(args, capture.want);
    let camera = Camera::start(opener, drop_policy, CaptureTimeouts::default())?;
    let mut session = CliSession {
        session: RecordingSession::new(camera, detector, recorder),
        console,
        store,
        preview,
        commands: listen(),
        device: &args.device,
        stop,
        started: Instant::now(),
        time_limit: args.seconds.map(Duration::from_secs_f64),
        ends_with_request: args.takes.count.is_some(),
        state: OPENING,
        progress: SessionProgress::default(),
    };
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

/// Reports where takes and frames go.
fn report_start(console: &Console, keeps_takes: bool, preview: Option<SocketAddr>) {
    if !keeps_takes {
        let text = "No take is kept; give --out DIR to keep them";
        console.report(text, &json!({"event": "not_kept", "reason": text}));
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
        console.report(&format!("Preview: {url}{warning}"), &event);
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
fn listen() -> Receiver<Result<StdinCommand, String>> {
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
