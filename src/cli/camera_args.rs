//! Arguments of `camera`.

use super::{AcceleratorArgs, HandArgs, ModelArgs, ProgressKind, by};
use crate::camera::{CameraAddress, FormatRequest, PixelFormat};
use crate::cli::camera::CaptureSettings;
use crate::config::constraints;
use crate::sequence::{Profile, SequenceSpec};
use clap::Args;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::path::PathBuf;

pub(super) const CAMERA_ABOUT: &str = "\
Film signs with a camera into the same npz as clips.

Follows the hands in what the camera sees, cuts signs out where hands come and go, and makes each
the sequence that a clip of the dataset would give: the same 32 frames at the same distance in
time, whatever the camera's rate. With --out they are kept as takes: batches/NNNNN.npz with raw
landmarks, handedness and frame times, wlasl_landmarks.npz, manifest.jsonl and run.json at the
end. The same folder goes on next time.

With --gloss the signs are takes of it, --count of them, each after --countdown seconds. While it
runs, lines on stdin are commands:
  record GLOSS [COUNT [COUNTDOWN]]    undo (the last take)    cancel    quit

When frames come faster than hands can be followed the oldest is dropped and counted. A camera
that is unplugged, busy or hangs is opened again by itself, also under another /dev/videoN. A clip
(file:CLIP.mp4), a still (file:STILL.png) or GStreamer elements (gst:libcamerasrc) can stand in.

Examples:
  handloom camera --list                                 which cameras are there
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
    #[arg(long, value_name = "WHICH", default_value = "0")]
    pub device: CameraAddress,
    /// Wanted size
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = size)]
    pub size: (u32, u32),
    /// Wanted frames a second
    #[arg(long, value_name = "FPS", default_value = "30", value_parser = by(constraints::FPS))]
    pub fps: f64,
    /// Wanted pixels: YUYV, NV12, YU12, RGB3 or MJPG [default: what gives the rate with the least work]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<PixelFormat>,
    /// Folder for the takes; made when missing
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Serve what the camera sees, hands drawn on, to browsers; beyond this machine only where an address says so
    #[arg(long, value_name = "HOST:PORT", num_args = 0..=1, default_missing_value = "127.0.0.1:8088", value_parser = address)]
    pub preview: Option<SocketAddr>,
    /// End after so many seconds
    #[arg(long, value_name = "N", value_parser = by(constraints::TIMEOUT_S))]
    pub seconds: Option<f64>,
    /// For a file: as fast as hands can be followed, no frame dropped
    #[arg(long)]
    pub at_once: bool,
    /// How to show what happens
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto)]
    pub progress: ProgressKind,
    /// What is recorded
    #[command(flatten)]
    pub takes: RecordingArgs,
    /// Where signs begin and end
    #[command(flatten)]
    pub cut: SegmentArgs,
    /// Which numbers
    #[command(flatten)]
    pub numbers: CameraSequenceArgs,
    /// Which models
    #[command(flatten)]
    pub models: ModelArgs,
    /// What runs them
    #[command(flatten)]
    pub accelerator: AcceleratorArgs,
}

/// A numeric address or a name, with a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| "give HOST:PORT, such as 127.0.0.1:8088 or 0.0.0.0:8088".to_owned())
}

/// What is recorded.
#[derive(Debug, Args)]
#[command(next_help_heading = "Takes")]
pub struct RecordingArgs {
    /// What is signed; without it every sign is kept as "unlabelled"
    #[arg(long, value_name = "NAME")]
    pub gloss: Option<String>,
    /// End after so many takes of --gloss [default: when stopped]
    #[arg(long, value_name = "N", requires = "gloss")]
    pub count: Option<u32>,
    /// Seconds before each take
    #[arg(long, value_name = "N", default_value = "0", value_parser = by(constraints::PAUSE_S))]
    pub countdown: f64,
    /// Who signs, as a number; -1 for nobody in particular
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub signer: i64,
    /// Part of the dataset
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub split: String,
    /// First part of the takes' names, for folders that will be joined
    #[arg(long, value_name = "NAME", default_value = "take", value_parser = by(constraints::DeviceId))]
    pub prefix: String,
    /// Takes in a batch file
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = by(constraints::BATCH_SIZE))]
    pub batch_size: usize,
}

/// Where signs begin and end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Where signs begin and end")]
pub struct SegmentArgs {
    /// Frames a second of the dataset, which all numbers of frames count in
    #[arg(long, value_name = "FPS", default_value = "25", value_parser = by(constraints::FPS))]
    pub dataset_fps: f64,
    /// Frames with hands that begin a sign
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = by(constraints::FRAMES))]
    pub start_frames: u32,
    /// Frames without hands that end it
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = by(constraints::FRAMES))]
    pub end_frames: u32,
    /// Shorter signs are dropped, seconds
    #[arg(long, value_name = "N", default_value = "0.3", value_parser = by(constraints::PAUSE_S))]
    pub min_seconds: f64,
    /// Longer ones are cut there, seconds
    #[arg(long, value_name = "N", default_value = "10", value_parser = by(constraints::SIGN_S))]
    pub max_seconds: f64,
}

/// What the numbers are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which numbers")]
pub struct CameraSequenceArgs {
    /// Frames in a sequence; shorter signs are padded with zeros
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = by(constraints::LENGTH))]
    pub sequence_length: usize,
    /// A sequence has every Nth frame at the dataset's rate
    #[arg(long, value_name = "N", default_value_t = NonZeroU64::MIN.saturating_add(1), value_parser = by(constraints::STRIDE))]
    pub frame_stride: NonZeroU64,
    /// Signs with a hand in fewer frames of the sequence are left out
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = by(constraints::COUNT))]
    pub min_frames: usize,
    /// Which hands
    #[command(flatten)]
    pub hands: HandArgs,
}

impl CameraArgs {
    /// What decides the numbers.
    #[must_use]
    pub fn recipe(&self) -> CaptureSettings {
        let (numbers, cut) = (&self.numbers, &self.cut);
        CaptureSettings {
            want: FormatRequest {
                width: self.size.0,
                height: self.size.1,
                rate: self.fps,
                format: self.format,
            },
            profile: Profile::Notebook,
            shape: SequenceSpec {
                length: numbers.sequence_length,
                stride: numbers.frame_stride,
                tracking: true,
            },
            min_frames: numbers.min_frames,
            detector: numbers.hands.options(),
            dataset_fps: cut.dataset_fps,
            start_frames: cut.start_frames,
            end_frames: cut.end_frames,
            min_seconds: cut.min_seconds,
            max_seconds: cut.max_seconds,
            prefix: self.takes.prefix.clone(),
            batch_size: self.takes.batch_size,
        }
    }
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let side = |text: &str| text.parse().ok().filter(|n| (16..=8192).contains(n));
    text.split_once('x')
        .and_then(|(width, height)| Some((side(width)?, side(height)?)))
        .ok_or_else(|| "give WIDTHxHEIGHT, as 640x480, 16 to 8192 each".to_owned())
}
