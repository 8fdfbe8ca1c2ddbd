//! The command line. Flags bear the notebook's names where it has one; what they mean is checked here, so that the
//! commands get settings that can be used.

#![allow(
    clippy::doc_markdown,
    reason = "the comments of arguments are their help texts"
)]

mod camera;

pub use camera::{CameraArgs, CutArgs, NumberArgs, TakeArgs};

use crate::config::ranges;
use crate::config::rules::Rule;
use crate::hand;
use crate::inference::Selection;
use crate::sequence::Shape;
use crate::source::decoder::Choice;
use crate::store::folder::Opening;
use crate::telemetry::topics::is_device_id;
use crate::wlasl::plan::Knobs;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::IsTerminal;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

mod accelerator;

pub use accelerator::{AcceleratorArgs, BenchArgs};

/// Weaves sign-language video into training sequences at the edge.
#[derive(Debug, Parser)]
#[command(name = "handloom", version, about, long_about = LONG_ABOUT, max_term_width = 110)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
Weaves sign-language video into training sequences at the edge.

Runs MediaPipe's two hand models over the clips of a WLASL dataset and writes each as a
normalised sequence of 32 frames x 126 numbers, equal to what the Colab notebook with MediaPipe
0.10.21 gives.

Start with:  handloom demo                          moving hands, drawn and processed
             handloom process DATASET --out DIR     a whole dataset
             handloom camera --preview              what a camera sees
             handloom inspect DIR/*.npz             what came out
             handloom watch --broker URL            how the devices are doing
             handloom bench                         how fast this machine is, and on what

Exit codes: 0 done, 1 nothing extracted, 64 usage, 65 bad data or model file, 66 input missing,
69 broker, camera or required accelerator unavailable, 70 bug, 73 output cannot be used,
74 reading or writing failed, 75 stopped, the same command goes on, 78 bad config. Log level:
HANDLOOM_LOG=debug (default: warn), on stderr.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Turn a WLASL dataset into wlasl_landmarks.npz
    #[command(long_about = PROCESS_ABOUT)]
    Process(Box<ProcessArgs>),
    /// Show what is in npz files: shapes, labels, how often hands were seen
    Inspect(InspectArgs),
    /// Render moving hands, make a small dataset of them, process it, show the result
    Demo(DemoArgs),
    /// Film signs with a camera into the same npz as clips
    #[command(long_about = camera::CAMERA_ABOUT)]
    Camera(Box<CameraArgs>),
    /// Run as a service: the config's job, reported over MQTT, resumed where it was
    #[command(long_about = RUN_ABOUT)]
    Run(DaemonArgs),
    /// Watch a fleet in the terminal, from the broker alone: who works, how far, who needs help
    #[command(long_about = WATCH_ABOUT)]
    Watch(WatchArgs),
    /// Say whether the daemon's config and the world around it are in order
    #[command(long_about = CHECK_ABOUT)]
    Check(CheckArgs),
    /// Measure what could run the models here, and the decoders: speed, agreement, clips per minute to expect
    #[command(long_about = accelerator::BENCH_ABOUT)]
    Bench(BenchArgs),
    /// Measure one backend for `bench` and for the choice of one
    #[command(hide = true)]
    ProbeAccelerator,
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Papers(PapersArgs),
}

impl Command {
    /// Whether it may run the models.
    #[must_use]
    pub fn runs_models(&self) -> bool {
        !matches!(self, Self::Inspect(_) | Self::Watch(_) | Self::Papers(_))
    }
}

const WATCH_ABOUT: &str = "\
Watch a fleet in the terminal, from the broker alone: who works, how far, who needs help.

Shows every device that publishes below handloom/, the ones in trouble marked with !! (needs help)
or ! (wants a look) and named in the second line. Where stdout is no terminal, or with --once, it
listens for some seconds, prints one table and the faults it heard, and ends. Faults and batches
are not kept by the broker: only those since the start are seen.

A device that is no longer there is forgotten when its retained messages are taken away:
  mosquitto_pub -r -n -t handloom/ID/status    and the same for state and progress

Examples:
  handloom watch --broker mqtt://broker.local
  handloom watch --broker mqtts://broker.local --username viewer --password-file pw --ca-file ca.pem
  handloom watch --broker mqtt://broker.local --once --seconds 12 | grep -w help";

const PROCESS_ABOUT: &str = "\
Turn a WLASL dataset into wlasl_landmarks.npz.

DATASET is a folder with WLASL_v0.3.json and videos/ID.mp4, or a zip archive of one (read in
place). --out gets wlasl_landmarks.npz (sequences, labels, video_ids, glosses),
batches/NNNNN.npz (the same with raw landmarks, handedness and frame numbers), manifest.jsonl
(one line for every instance of the metadata: state and reason) and run.json (settings, models,
versions). Equal input and settings give equal bytes, whatever --workers.

A clip that cannot be used is recorded and the job goes on. A job that was interrupted (Ctrl-C,
power cut, full disk) goes on where it was when the same command is given again. Progress is a bar on a terminal and
JSON lines on stdout elsewhere.

Examples:
  handloom process wlasl/ --list                         what would be done
  handloom process wlasl/ --out out/                     all glosses with at least 5 clips
  handloom process archive.zip --out out/ --selected-glosses book,drink,computer
  handloom process wlasl/ --out out/ --max-samples-per-gloss 20 --workers 2";

const RUN_ABOUT: &str = "\
Run as a service: the config's job, reported over MQTT, resumed where it was.

Goes on after power cuts at the clip where it was, works without a broker and tells it everything
when it is back, pauses before the disk is full, slows down when the device is hot. Commands come
over MQTT: pause, resume, cancel, rescan, retry-failed, with a camera record and undo, and snapshot
where the config allows it.
SIGTERM stops it within ten seconds (exit 75 when work is left, 0 when not), SIGHUP reads the
config again. When the job is done it stays and waits for commands, unless --once is given.

Every key of the config has its line in the example, /etc/handloom/handloom.toml where the package
is installed, systemd/handloom.toml in the sources. It needs a dataset or a camera and an output;
without [mqtt] it tells nobody:

  [dataset]
  path = \"/data/wlasl\"
  [output]
  path = \"/var/lib/handloom/out\"
  [mqtt]
  url = \"mqtt://broker.local\"

Examples:
  handloom check --config handloom.toml                  is everything in order?
  handloom run --config handloom.toml
  handloom run --config handloom.toml --once --set mqtt.url=
  mosquitto_sub -h broker.local -t 'handloom/#' -v       what it says";

const CHECK_ABOUT: &str = "\
Say whether the daemon's config and the world around it are in order.

Lines for config, device, dataset, camera, models, runtime, accelerators, decoder, output, mirror
and broker: ok (also for a mirror or broker that the config does not name), - (an accelerator that
is not here and need not be), warn or FAIL, what was found and the way out. A dataset or camera that
the config does not name has no line. Nothing is changed, but a small file is written and removed
again where results go, the camera is opened for one frame, and the broker is logged in to, under a
name that takes no daemon's place. --print shows all settings and where each comes from.

It sees what its user may: run it as the service's, `sudo -u handloom handloom check`. What the
service's sandbox forbids, and the password that systemd gives to the service alone, it cannot see.

Settings come from the file, over it the environment (HANDLOOM_SECTION_KEY, as in
HANDLOOM_MQTT_URL; HANDLOOM_LOG and HANDLOOM_MODELS for log.level and models.path), over that
--set. Empty text there unsets what may be unset. Every key with its default and meaning is in the
example handloom.toml.

Examples:
  handloom check                                         the config of the service
  handloom check --config my.toml --set mqtt.url=        as if no broker were set
  handloom check --print > effective.toml                secrets are hidden

Exit codes: 0 all in order, 78 bad config, 69 a required accelerator or only the broker fails, else
by the first that fails.";

/// Arguments of `process`.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// Folder with WLASL_v0.3.json and videos/, or a zip archive of it
    pub dataset: PathBuf,
    /// Folder for the results; made when missing
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    pub out: Option<PathBuf>,
    /// Print the plan and stop: what would be processed, what not and why
    #[arg(long)]
    pub list: bool,
    /// How to take up what --out holds
    #[command(flatten)]
    pub again: AgainArgs,
    /// Metadata file, when it is not `DATASET/WLASL_v0.3.json`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folder of clips, when it is not DATASET/videos
    #[arg(long, value_name = "DIR")]
    pub videos: Option<PathBuf>,
    /// Which clips
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Which numbers
    #[command(flatten)]
    pub sequence: SequenceArgs,
    /// Which models
    #[command(flatten)]
    pub models: ModelArgs,
    /// What runs them
    #[command(flatten)]
    pub accelerator: AcceleratorArgs,
    /// How to run
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do with results that are there already.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Going on")]
pub struct AgainArgs {
    /// Start over; replaces the results of another job too
    #[arg(long, conflicts_with_all = ["rescan", "retry_failed"])]
    pub fresh: bool,
    /// Take up a dataset whose clips or metadata have changed; what is still right is kept
    #[arg(long)]
    pub rescan: bool,
    /// Read the clips again that were unreadable
    #[arg(long)]
    pub retry_failed: bool,
}

impl AgainArgs {
    /// For the output folder.
    #[must_use]
    pub fn opening(self) -> Opening {
        match self {
            Self { fresh: true, .. } => Opening::Fresh,
            Self { rescan: true, .. } => Opening::Rescan,
            _ => Opening::Resume,
        }
    }
}

/// Which clips are processed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which clips")]
pub struct PlanArgs {
    /// Glosses with fewer clips on disk are left out
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = by(ranges::COUNT))]
    pub min_videos_per_gloss: usize,
    /// Only the N glosses with the most instances in the metadata [default: all]
    #[arg(long, value_name = "N", value_parser = by(ranges::AT_LEAST_ONE))]
    pub max_glosses: Option<usize>,
    /// Only these glosses, separated by commas, as spelt in the metadata [default: all]
    #[arg(long, value_name = "GLOSS,...", value_delimiter = ',')]
    pub selected_glosses: Vec<String>,
    /// At most N accepted clips of a gloss, first come first kept [default: all]
    #[arg(long, value_name = "N", value_parser = by(ranges::AT_LEAST_ONE))]
    pub max_samples_per_gloss: Option<usize>,
}

/// What the numbers are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which numbers")]
pub struct SequenceArgs {
    /// notebook: reproduce the notebook exactly, its quirks included
    #[arg(long, value_enum, default_value_t = Profile::Notebook)]
    pub profile: Profile,
    /// Frames in a sequence; shorter clips are padded with zeros
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = by(ranges::LENGTH))]
    pub sequence_length: usize,
    /// Look at every Nth frame
    #[arg(long, value_name = "N", default_value_t = NonZeroU64::MIN.saturating_add(1), value_parser = by(ranges::STRIDE))]
    pub frame_stride: NonZeroU64,
    /// Clips with a hand in fewer frames are left out
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = by(ranges::COUNT))]
    pub min_frames: usize,
    /// Which hands
    #[command(flatten)]
    pub hands: HandArgs,
    /// Follow hands from frame to frame (MediaPipe's VIDEO mode): faster, other numbers than the notebook's
    #[arg(long)]
    pub tracking: bool,
}

/// What is a hand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which numbers")]
pub struct HandArgs {
    /// Hands to look for in a frame; the sequence has room for two
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = by(ranges::HANDS))]
    pub num_hands: usize,
    /// MediaPipe's threshold for palms
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = by(ranges::PROBABILITY))]
    pub min_hand_detection_confidence: f32,
    /// MediaPipe's threshold for hands
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = by(ranges::PROBABILITY))]
    pub min_hand_presence_confidence: f32,
    /// MediaPipe's overlap of a palm with a hand that is followed; only where hands are followed
    #[arg(long, value_name = "P", default_value_t = 0.5, value_parser = by(ranges::PROBABILITY))]
    pub min_tracking_confidence: f32,
}

/// Reproduce or mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// The notebook's numbers.
    Notebook,
}

impl Profile {
    /// The name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Notebook => "notebook",
        }
    }
}

/// Which models run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which models")]
pub struct ModelArgs {
    /// Folder with both .tflite files, or a hand_landmarker.task bundle [default: as installed, or as fetched by
    /// `make setup`]
    #[arg(
        long,
        value_name = "PATH",
        env = "HANDLOOM_MODELS",
        hide_env_values = true
    )]
    pub models: Option<PathBuf>,
    /// Palm model, .tflite or .task
    #[arg(long, value_name = "FILE")]
    pub palm_model: Option<PathBuf>,
    /// Hand model, .tflite or .task
    #[arg(long, value_name = "FILE")]
    pub hand_model: Option<PathBuf>,
    /// Take model files whose SHA-256 is not the pinned one
    #[arg(long)]
    pub trust_models: bool,
}

impl ModelArgs {
    /// For the loader.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection {
            models: self.models.clone(),
            palm: self.palm_model.clone(),
            hand: self.hand_model.clone(),
            trust: self.trust_models,
        }
    }
}

/// How the job runs; none of these changes a number in an npz file but the decoder and the batch size.
#[derive(Debug, Args)]
#[command(next_help_heading = "How to run")]
pub struct RunArgs {
    /// Clips at a time [default: as many as cores]
    #[arg(long, value_name = "N", value_parser = by(ranges::WORKERS))]
    pub workers: Option<usize>,
    /// Planned clips in a batch file
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = by(ranges::BATCH_SIZE))]
    pub batch_size: usize,
    /// software, hardware (software where none fits) or a GStreamer element; only software is proven exact
    #[arg(long, value_name = "WHICH", default_value = "software", value_parser = by(ranges::DecoderName))]
    pub decoder: Choice,
    /// Seconds to wait for the decoder in one clip, all waits together
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub clip_timeout: Duration,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto)]
    pub progress: ProgressKind,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// A bar on a terminal, JSON lines elsewhere.
    Auto,
    /// A bar and a closing table.
    Bar,
    /// One JSON object a line on stdout.
    Json,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Which config
    #[command(flatten)]
    pub config: ConfigArgs,
    /// End when the job is done, with its exit code
    #[arg(long)]
    pub once: bool,
    /// End after this time, such as 8h or 90min, as on SIGTERM
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub span: Option<Duration>,
    /// How to take up what the output folder holds
    #[command(flatten)]
    pub again: AgainArgs,
}

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// npz files: wlasl_landmarks.npz or batches
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// One JSON object a file
    #[arg(long)]
    pub json: bool,
}

/// Which config.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Config file [default: /etc/handloom/handloom.toml, if it is there]
    #[arg(
        long,
        value_name = "FILE",
        env = "HANDLOOM_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// A setting over file and environment, as run.workers=2; can be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Which config
    #[command(flatten)]
    pub config: ConfigArgs,
    /// One JSON object a line
    #[arg(long, conflicts_with = "print")]
    pub json: bool,
    /// Print all settings as a config file and stop
    #[arg(long)]
    pub print: bool,
}

/// Arguments of `papers`.
#[derive(Debug, Args)]
pub struct PapersArgs {
    /// Folder for them; made when missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the dataset, the results and the picture
    #[arg(long, value_name = "DIR", default_value = "handloom-demo")]
    pub out: PathBuf,
    /// Clips at a time [default: as many as cores]
    #[arg(long, value_name = "N", value_parser = by(ranges::WORKERS))]
    pub workers: Option<usize>,
    /// Which models
    #[command(flatten)]
    pub models: ModelArgs,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The broker: mqtt://[user[:password]@]host[:port], or mqtts:// for TLS
    #[arg(long, value_name = "URL", default_value = "mqtt://localhost:1883")]
    pub broker: String,
    /// Only this device [default: all]
    #[arg(long, value_name = "ID", value_parser = device_id)]
    pub device: Option<String>,
    /// Print one table and end
    #[arg(long)]
    pub once: bool,
    /// How long to listen before the table is printed; a device speaks at least every 10 s
    #[arg(long, value_name = "N", default_value = "2", value_parser = seconds)]
    pub seconds: Duration,
    /// User name at the broker
    #[arg(long, value_name = "U")]
    pub username: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's, PEM
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate to show to the broker, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM, PKCS#8, not encrypted
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
}

impl WatchArgs {
    /// Whether the terminal is taken for a live view.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.once && std::io::stdout().is_terminal()
    }
}

impl PlanArgs {
    /// For the planner.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        Knobs {
            min_videos_per_gloss: self.min_videos_per_gloss,
            max_glosses: self.max_glosses,
            selected_glosses: self
                .selected_glosses
                .iter()
                .map(|g| g.trim().to_owned())
                .collect(),
            max_samples_per_gloss: self.max_samples_per_gloss,
        }
    }
}

impl SequenceArgs {
    /// For the sequences.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape {
            length: self.sequence_length,
            stride: self.frame_stride,
            tracking: self.tracking,
        }
    }
}

impl HandArgs {
    /// For the detector.
    #[must_use]
    pub fn options(&self) -> hand::Options {
        hand::Options {
            num_hands: self.num_hands,
            detection_min: self.min_hand_detection_confidence,
            presence_min: self.min_hand_presence_confidence,
            tracking_iou: self.min_tracking_confidence,
        }
    }
}

fn device_id(text: &str) -> Result<String, String> {
    if is_device_id(text) {
        Ok(text.to_owned())
    } else {
        Err("allowed are 1 to 64 of A-Z a-z 0-9 . _ -".to_owned())
    }
}

/// A rule as the command line's parser wants it.
fn by<R: Rule + Clone>(rule: R) -> impl Fn(&str) -> Result<R::Value, String> + Clone {
    move |text| rule.parse(text)
}

fn seconds(text: &str) -> Result<Duration, String> {
    ranges::TIMEOUT_S.parse(text).map(Duration::from_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_notebooks() {
        let cli = Cli::try_parse_from(["handloom", "process", "d", "--out", "o"]).unwrap();
        let Command::Process(args) = cli.command else {
            panic!("process")
        };
        assert_eq!(args.plan.knobs(), Knobs::default());
        assert_eq!(args.sequence.hands.options(), hand::Options::default());
        let shape = args.sequence.shape();
        assert_eq!(
            (shape.length, shape.stride.get(), args.sequence.min_frames),
            (32, 2, 8)
        );
    }

    #[test]
    fn impossible_values_are_refused_with_what_is_allowed() {
        for (flag, value, says) in [
            ("--num-hands", "3", "1 to 2"),
            ("--frame-stride", "0", "frame-stride"),
            ("--min-hand-presence-confidence", "1.5", "0 to 1"),
            ("--min-hand-presence-confidence", "NaN", "0 to 1"),
            ("--clip-timeout", "0", "0.1 to 86400"),
            ("--sequence-length", "0", "1 to 10000"),
            ("--workers", "x", "whole numbers from 1 to 256"),
            ("--min-frames", "1e3", "0 to 1000000000"),
            ("--decoder", "a b", "software, hardware"),
        ] {
            let error =
                Cli::try_parse_from(["handloom", "process", "d", "--out", "o", flag, value])
                    .unwrap_err()
                    .to_string();
            assert!(error.contains(says), "{flag} {value}: {error}");
        }
    }
}
