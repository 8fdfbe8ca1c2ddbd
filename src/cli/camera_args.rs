//! The command line of `camera`.

use super::ProgressKind;
use crate::config::constraints::{camera_address, device_id, real};
use crate::config::{
    AcceleratorConfig, BatchConfig, CameraConfig, CaptureConfig, Config, DelegateConfig,
    DeviceConfig, HandsConfig, ModelsConfig, OutputConfig, RunConfig, SegmentConfig,
    SequenceConfig,
};
use crate::frame::CameraAddress;
use crate::recording::capture_settings::CaptureSettings;
use clap::Args;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

pub(super) const CAMERA_ABOUT: &str = "\
Record signs with a camera into the same npz as clips.

Tracks the hands in the camera's frames, cuts signs out where hands appear and disappear, and makes
each the sequence that a clip of the dataset would give: 32 frames at the dataset's spacing in time,
whatever the camera's rate is. With --out the signs are stored as takes: batches/NNNNN.npz with raw
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
    /// The part of `[sequence]` that takes have.
    #[command(flatten, next_help_heading = "Which numbers")]
    pub hands: HandsConfig,
    /// `[models]`
    #[command(flatten, next_help_heading = "Which models")]
    pub models: ModelsConfig,
    /// The part of `[run]` that says what runs the models.
    #[command(flatten, next_help_heading = "What runs the models")]
    pub accelerator: AcceleratorConfig,
    /// `[delegate]`
    #[command(flatten)]
    pub delegate: DelegateConfig,
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
        let defaults = Config::default();
        Config {
            device: DeviceConfig {
                id: self.takes.prefix.clone(),
            },
            output: OutputConfig {
                batches: self.batches.clone(),
                ..defaults.output
            },
            camera: CameraConfig {
                device: Some(self.device.clone()),
                path: self.out.clone(),
                width: self.size.0,
                height: self.size.1,
                capture: self.capture.clone(),
                segments: self.segments.clone(),
                ..defaults.camera
            },
            sequence: SequenceConfig {
                hands: self.hands.clone(),
                ..defaults.sequence
            },
            models: self.models.clone(),
            run: RunConfig {
                accelerator: self.accelerator.clone(),
                ..defaults.run
            },
            delegate: self.delegate.clone(),
            ..defaults
        }
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
