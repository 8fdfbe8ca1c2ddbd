//! The settings, one struct a section. A field declares all of a setting: the doc comment is its help text, `id` its key
//! in the config file, `long` its flag on the command lines that take the section, then its default and its constraint.

#![allow(
    clippy::doc_markdown,
    reason = "the comments of arguments are their help texts"
)]

use super::constraints::{
    backend, broker_url, camera_address, choice, decoder, delegate_name, device_id, key_value,
    line, log_level, one_of, path, path_or_unset, pixel_format, real, secret, shard, whole,
};
use super::sequence_settings::SequenceConfig;
use super::values::{BrokerUrl, Secret};
use crate::dataset::class_list::Subset;
use crate::dataset::format::FormatName;
use crate::frame::{CameraAddress, DecoderChoice, PixelFormat};
use crate::messages::request::CommandName;
use crate::selection::BackendPreference;
use crate::shard::ShardRequest;
use clap::{Args, Parser};
use serde::Serialize;
use std::path::PathBuf;

/// The folder of takes: in the output folder unless `camera.path` is set, and in the mirror.
pub const TAKES: &str = "camera";

/// All settings. Each is possible by itself and together with the others.
#[derive(Clone, Debug, PartialEq, Parser, Serialize)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Config {
    /// `[device]`
    #[command(flatten)]
    pub device: DeviceConfig,
    /// `[dataset]`
    #[command(flatten)]
    pub dataset: DatasetConfig,
    /// `[output]`
    #[command(flatten)]
    pub output: OutputConfig,
    /// `[camera]`
    #[command(flatten)]
    pub camera: CameraConfig,
    /// `[mqtt]`
    #[command(flatten)]
    pub mqtt: MqttConfig,
    /// `[plan]`
    #[command(flatten)]
    pub plan: PlanConfig,
    /// `[sequence]`
    #[command(flatten)]
    pub sequence: SequenceConfig,
    /// `[models]`
    #[command(flatten)]
    pub models: ModelsConfig,
    /// `[run]`
    #[command(flatten)]
    pub run: RunConfig,
    /// `[delegate]`
    #[command(flatten)]
    pub delegate: DelegateConfig,
    /// `[limits]`
    #[command(flatten)]
    pub limits: LimitsConfig,
    /// `[log]`
    #[command(flatten)]
    pub log: LogConfig,
}

/// `[device]`: who this device is.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct DeviceConfig {
    /// Name of the device in MQTT topics [default: the host name]
    #[arg(id = "device.id", default_value = "handloom", value_parser = device_id)]
    pub id: String,
}

/// `[dataset]`: what is read.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct DatasetConfig {
    /// Folder of a dataset, a zip archive of it, or a table of clips; empty when unset
    #[arg(id = "dataset.path", default_value = "", value_parser = path_or_unset())]
    #[serde(skip_serializing_if = "is_unset")]
    pub path: PathBuf,
    /// Files that lie elsewhere.
    #[command(flatten)]
    #[serde(flatten)]
    pub files: DatasetFiles,
}

/// Help of the format.
const FORMATS: &str = "\
Format of the dataset [default: found out by what is there]

wlasl        WLASL_v0.3.json and videos/ID.mp4
folders      GLOSS/1.mp4, or train/GLOSS/1.mp4 with train, val and test. labels.txt may
             list the classes in their order; with lines as `0 book`, folders may be
             numbers. Clips may be mp4, m4v, mov, avi, webm, mkv, flv, mpg or mpeg
csv          list.csv: first the names of the columns, `path,gloss,split,signer`, then a
             line for each clip, `clips/1.mp4,book,train,7`. path and gloss are needed,
             id, start_frame and end_frame are read too, others go to manifest.jsonl.
             Paths start at the table's folder. DATASET may be the table
asl-citizen  splits/train.csv, val.csv and test.csv, and videos/
autsl        train_labels.csv with lines as signer0_sample1,41 and
             train/signer0_sample1_color.mp4; also val, validation and test
msasl        MSASL_train.json, MSASL_val.json, MSASL_test.json, and in any folder clips
             named YTID_START_END.mp4 (cut out, frames as in the JSON), train_0.mp4
             (index in the JSON) or YTID.mp4 (the whole video)";

/// The part of `[dataset]` that has flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize)]
pub struct DatasetFiles {
    /// Format of the dataset [default: found out by what is there]
    #[arg(id = "dataset.format", long = "format", value_name = "FORMAT", value_parser = choice::<FormatName>(), long_help = FORMATS)]
    pub format: Option<FormatName>,
    /// Metadata file, when it is not DATASET/WLASL_v0.3.json
    #[arg(id = "dataset.json", long = "metadata", alias = "json", value_name = "FILE", value_parser = path())]
    pub json: Option<PathBuf>,
    /// Folder of the clips, when it is not DATASET/videos
    #[arg(id = "dataset.videos", long = "videos", value_name = "DIR", value_parser = path())]
    pub videos: Option<PathBuf>,
}

/// `[output]`: what is written.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct OutputConfig {
    /// Folder for the results, created when missing; empty when unset
    #[arg(id = "output.path", default_value = "", value_parser = path_or_unset())]
    #[serde(skip_serializing_if = "is_unset")]
    pub path: PathBuf,
    /// Size of the batch files.
    #[command(flatten)]
    #[serde(flatten)]
    pub batches: BatchConfig,
    /// Whether frames are kept.
    #[command(flatten)]
    #[serde(flatten)]
    pub frames: KeepConfig,
    /// Folder that gets a copy of every finished file
    #[arg(id = "output.mirror", value_parser = path())]
    pub mirror: Option<PathBuf>,
}

/// The part of `[output]` that has flags.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct BatchConfig {
    /// Planned clips, or takes, in a batch file
    #[arg(id = "output.batch_size", long = "batch-size", value_name = "N", default_value = "256", value_parser = whole::<usize>(1, 65_536))]
    pub batch_size: usize,
}

/// The part of `[output]` that says whether the frames of clips are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize)]
pub struct KeepConfig {
    /// Read every frame of each clip and keep what is found in it, in frames/NNNNN.npz: `handloom resequence` then makes
    /// other sequences without decoding
    #[arg(id = "output.keep_frames", long = "keep-frames")]
    pub keep_frames: bool,
}

/// `[camera]`: what is recorded.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct CameraConfig {
    /// The camera; nothing is recorded when unset
    #[arg(id = "camera.device", value_parser = camera_address)]
    pub device: Option<CameraAddress>,
    /// Folder for the takes; `camera` in the output folder when unset
    #[arg(id = "camera.path", value_parser = path())]
    pub path: Option<PathBuf>,
    /// Requested width, pixels
    #[arg(id = "camera.width", default_value = "640", value_parser = whole::<u32>(16, 8192))]
    pub width: u32,
    /// Requested height, pixels
    #[arg(id = "camera.height", default_value = "480", value_parser = whole::<u32>(16, 8192))]
    pub height: u32,
    /// Rate and pixels.
    #[command(flatten)]
    #[serde(flatten)]
    pub capture: CaptureConfig,
    /// Where signs begin and end.
    #[command(flatten)]
    #[serde(flatten)]
    pub segments: SegmentConfig,
    /// Keep signs that no `record` command asked for
    #[arg(id = "camera.keep_unlabelled")]
    pub keep_unlabelled: bool,
}

/// The part of `[camera]` that says how the camera captures.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct CaptureConfig {
    /// Requested frames per second
    #[arg(id = "camera.fps", long = "fps", value_name = "FPS", default_value = "30", value_parser = real::<f64>(1.0, 240.0))]
    pub fps: f64,
    /// Requested pixel format: YUYV, NV12, YU12, RGB3 or MJPG [default: the one that reaches the rate with the least
    /// work]
    #[arg(id = "camera.format", long = "format", value_name = "FORMAT", value_parser = pixel_format)]
    pub format: Option<PixelFormat>,
}

/// The part of `[camera]` that says where signs begin and end.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct SegmentConfig {
    /// Frame rate of the dataset, in which all numbers of frames count
    #[arg(id = "camera.dataset_fps", long = "dataset-fps", value_name = "FPS", default_value = "25", value_parser = real::<f64>(1.0, 240.0))]
    pub dataset_fps: f64,
    /// Frames with hands that begin a sign
    #[arg(id = "camera.start_frames", long = "start-frames", value_name = "N", default_value = "3", value_parser = whole::<u32>(1, 1000))]
    pub start_frames: u32,
    /// Frames without hands that end a sign
    #[arg(id = "camera.end_frames", long = "end-frames", value_name = "N", default_value = "8", value_parser = whole::<u32>(1, 1000))]
    pub end_frames: u32,
    /// Shorter signs are dropped, seconds
    #[arg(id = "camera.min_seconds", long = "min-seconds", value_name = "N", default_value = "0.3", value_parser = real::<f64>(0.0, 3600.0))]
    pub min_seconds: f64,
    /// Longer signs are cut at this length, seconds
    #[arg(id = "camera.max_seconds", long = "max-seconds", value_name = "N", default_value = "10", value_parser = real::<f64>(0.1, 60.0))]
    pub max_seconds: f64,
}

/// `[mqtt]`: the broker that the daemon reports to.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct MqttConfig {
    /// URL of the broker; nothing is published when unset
    #[arg(id = "mqtt.url", value_parser = broker_url)]
    pub url: Option<BrokerUrl>,
    /// User name, when the URL has none
    #[arg(id = "mqtt.username", value_parser = line)]
    pub username: Option<String>,
    /// Password, when the URL has none: from here, `password_file` or the service's credentials
    #[arg(id = "mqtt.password", value_parser = secret)]
    pub password: Option<Secret>,
    /// File with the password; after loading, the path at which it was found
    #[arg(id = "mqtt.password_file", value_parser = path())]
    pub password_file: Option<PathBuf>,
    /// Name of the session at the broker [default: handloom-ID]
    #[arg(id = "mqtt.client_id", default_value = "handloom", value_parser = line)]
    pub client_id: String,
    /// Certificates to trust instead of the system's, PEM; after loading, the path at which they were found
    #[arg(id = "mqtt.ca_file", value_parser = path())]
    pub ca_file: Option<PathBuf>,
    /// Certificate of this client, PEM; after loading, the path at which it was found
    #[arg(id = "mqtt.cert_file", value_parser = path())]
    pub cert_file: Option<PathBuf>,
    /// Key of this client, PEM; after loading, the path at which it was found
    #[arg(id = "mqtt.key_file", value_parser = path())]
    pub key_file: Option<PathBuf>,
    /// MQTT keep-alive interval, seconds
    #[arg(id = "mqtt.keep_alive_s", default_value = "30", value_parser = whole::<u64>(5, 3600))]
    pub keep_alive_s: u64,
    /// Longest delay between two attempts to connect, seconds
    #[arg(id = "mqtt.reconnect_max_s", default_value = "60", value_parser = whole::<u64>(1, 3600))]
    pub reconnect_max_s: u64,
    /// Commands that the daemon obeys [default: all but snapshot]
    #[arg(id = "mqtt.commands", value_parser = one_of(&CommandName::NAMES))]
    pub commands: Vec<String>,
    /// Announce the device to Home Assistant
    #[arg(id = "mqtt.home_assistant")]
    pub home_assistant: bool,
    /// Messages that may wait for the broker
    #[arg(id = "mqtt.outbox_max_messages", default_value = "10000", value_parser = whole::<u64>(1, 1_000_000))]
    pub outbox_max_messages: u64,
    /// Longest time that a message may wait, hours
    #[arg(id = "mqtt.outbox_max_age_h", default_value = "168", value_parser = whole::<u64>(1, 8760))]
    pub outbox_max_age_h: u64,
}

/// `[plan]`: which clips are processed.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct PlanConfig {
    /// Only the classes of an official subset of WLASL, with their official numbers
    #[arg(id = "plan.subset", long = "subset", value_name = "NAME", value_parser = choice::<Subset>())]
    pub subset: Option<Subset>,
    /// Only the clips of this file, with its splits: nslt_*.json, or a csv with the columns video_id and split. A path, or
    /// a name beside the metadata
    #[arg(id = "plan.splits", long = "splits", value_name = "FILE", value_parser = path())]
    pub splits: Option<PathBuf>,
    /// Only the clips of this split: train, val or test [default: all]
    #[arg(id = "plan.only_split", long = "only-split", value_name = "SPLIT", value_parser = one_of(&["train", "val", "test"]))]
    pub only_split: Option<String>,
    /// Leave out glosses with fewer clips on disk [default: 5; with a subset or splits file 1]
    #[arg(id = "plan.min_videos_per_gloss", long = "min-videos-per-gloss", value_name = "N", value_parser = whole::<usize>(0, 1_000_000_000))]
    pub min_videos_per_gloss: Option<usize>,
    /// Only the N glosses with the most instances in the metadata [default: all]
    #[arg(id = "plan.max_glosses", long = "max-glosses", value_name = "N", value_parser = whole::<usize>(1, 1_000_000_000))]
    pub max_glosses: Option<usize>,
    /// Only these glosses, separated by commas, as spelt in the metadata [default: all]
    #[arg(id = "plan.selected_glosses", long = "selected-glosses", value_name = "GLOSS,...", value_delimiter = ',', value_parser = line)]
    pub selected_glosses: Vec<String>,
    /// At most N accepted clips of a gloss, the first in plan order [default: all]
    #[arg(id = "plan.max_samples_per_gloss", long = "max-samples-per-gloss", value_name = "N", value_parser = whole::<usize>(1, 1_000_000_000))]
    pub max_samples_per_gloss: Option<usize>,
}

/// `[models]`: which models run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args, Serialize)]
pub struct ModelsConfig {
    /// Folder with both .tflite files, or a hand_landmarker.task bundle [default: as installed, or as fetched by
    /// `make setup`]
    #[arg(id = "models.path", long = "models", value_name = "PATH", env = "HANDLOOM_MODELS", hide_env_values = true, value_parser = path())]
    pub path: Option<PathBuf>,
    /// Palm model, .tflite or .task
    #[arg(id = "models.palm", long = "palm-model", value_name = "FILE", value_parser = path())]
    pub palm: Option<PathBuf>,
    /// Hand model, .tflite or .task
    #[arg(id = "models.hand", long = "hand-model", value_name = "FILE", value_parser = path())]
    pub hand: Option<PathBuf>,
    /// Accept model files whose SHA-256 is not the pinned one
    #[arg(id = "models.trust", long = "trust-models")]
    pub trust: bool,
}

/// `[run]`: how a job runs.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct RunConfig {
    /// Clips processed at the same time [default: the number of cores]
    #[arg(id = "run.workers", long = "workers", value_name = "N", value_parser = whole::<usize>(1, 256))]
    pub workers: Option<usize>,
    /// Process the clips of one shard, INDEX/COUNT from 0/COUNT, into OUT/shard-INDEX-of-COUNT; `handloom merge` joins
    /// the shards. auto: the shard that Slurm, Kubernetes or the like names; mpi: that of the rank
    #[arg(id = "run.shard", long = "shard", value_name = "I/N", env = "HANDLOOM_SHARD", hide_env_values = true, value_parser = shard)]
    pub shard: Option<ShardRequest>,
    /// software, hardware (software where none fits) or a GStreamer element; only software is proven exact
    #[arg(id = "run.decoder", long = "decoder", value_name = "WHICH", default_value = "software", value_parser = decoder)]
    pub decoder: DecoderChoice,
    /// Longest total time to wait for the decoder in one clip, seconds
    #[arg(id = "run.clip_timeout_s", long = "clip-timeout", value_name = "SECONDS", default_value = "60", value_parser = real::<f64>(0.1, 86_400.0))]
    pub clip_timeout_s: f64,
    /// Most pixels of a frame, width times height; a clip with larger frames is not decoded
    #[arg(id = "run.max_pixels", long = "max-pixels", value_name = "N", default_value = "9437184", value_parser = whole::<u64>(1, 268_435_456))]
    pub max_pixels: u64,
    /// Most memory that decoding a clip may take, MiB; above 192, no other clip is decoded meanwhile
    #[arg(id = "run.decoder_memory_mib", long = "decoder-memory", value_name = "MIB", default_value = "320", value_parser = whole::<u64>(64, 65_536))]
    pub decoder_memory_mib: u64,
    /// Decode clips in Handloom's own process: no sandbox, no limit of memory, and a clip that crashes its decoder ends
    /// Handloom
    #[arg(id = "run.decode_in_process", long = "decode-in-process")]
    pub decode_in_process: bool,
    /// What runs the models.
    #[command(flatten, next_help_heading = "What runs the models")]
    #[serde(flatten)]
    pub accelerator: AcceleratorConfig,
}

/// The part of `[run]` that says what runs the models.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct AcceleratorConfig {
    /// auto: litert:cpu where LiteRT is installed, else cpu; cpu: TensorFlow Lite; fastest: the fastest that agrees
    /// with the CPU, measured once; fast: also in reduced precision, with an error below that of camera noise;
    /// require:NAME or prefer:NAME. `handloom check` lists the names and what each one needs
    #[arg(id = "run.accelerator", long = "accelerator", overrides_with = "run.accelerator", value_name = "WHICH", default_value = "auto", env = "HANDLOOM_RUN_ACCELERATOR", hide_env_values = true, value_parser = backend)]
    #[serde(rename = "accelerator")]
    pub preference: BackendPreference,
    /// Largest distance of 99 % of the landmarks from the CPU's, fractions of the image
    // As far as the notebook's own landmarks are apart on two kinds of processors.
    #[arg(id = "run.accelerator_tolerance", long = "accelerator-tolerance", value_name = "X", default_value = "0.0005", value_parser = real::<f32>(0.0, 0.1))]
    #[serde(rename = "accelerator_tolerance")]
    pub tolerance: f32,
    /// The same of 95 % of the landmarks, for reduced precision: fp16, int8, and a delegate's own models
    // As far as landmarks move when each pixel changes by one grey level.
    #[arg(id = "run.fast_tolerance", long = "fast-tolerance", value_name = "X", default_value = "0.0023", value_parser = real::<f32>(0.0, 0.1))]
    pub fast_tolerance: f32,
    /// Longest time that an accelerator may take to start, seconds; some compile the models
    #[arg(id = "run.accelerator_timeout_s", long = "accelerator-timeout", value_name = "SECONDS", default_value = "120", value_parser = real::<f64>(0.1, 86_400.0))]
    #[serde(rename = "accelerator_timeout_s")]
    pub timeout_s: f64,
}

/// `[delegate]`: the plugin of an accelerator.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct DelegateConfig {
    /// The delegate that the following settings describe: custom is the only one
    #[arg(id = "delegate.name", long = "delegate", value_name = "NAME", default_value = "custom", value_parser = delegate_name)]
    pub name: String,
    /// Library of the plugin: a file, or a name that the system's loader finds
    #[arg(id = "delegate.library", long = "delegate-library", value_name = "FILE", value_parser = path())]
    pub library: Option<PathBuf>,
    /// An option of the plugin; can be repeated
    #[arg(id = "delegate.options", long = "delegate-option", value_name = "KEY=VALUE", value_parser = key_value)]
    pub options: Vec<String>,
    /// Palm model for the plugin, for example int8
    #[arg(id = "delegate.palm", long = "delegate-palm", value_name = "FILE", value_parser = path())]
    pub palm: Option<PathBuf>,
    /// Hand model for the plugin
    #[arg(id = "delegate.hand", long = "delegate-hand", value_name = "FILE", value_parser = path())]
    pub hand: Option<PathBuf>,
}

/// `[limits]`: when the machine is spared. A resume mark that is unset follows from its limit.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct LimitsConfig {
    /// Fewer workers from this temperature, °C
    #[arg(id = "limits.temperature_max_c", default_value = "80", value_parser = real::<f64>(20.0, 125.0))]
    pub temperature_max_c: f64,
    /// More workers again below this temperature, °C
    #[arg(id = "limits.temperature_resume_c", default_value = "72", value_parser = real::<f64>(20.0, 125.0))]
    pub temperature_resume_c: f64,
    /// Fewer workers with less available memory, MiB; 0 is no limit
    #[arg(id = "limits.memory_min_mib", default_value = "200", value_parser = whole::<u64>(0, 1_048_576))]
    pub memory_min_mib: u64,
    /// More workers again with more available memory, MiB
    #[arg(id = "limits.memory_resume_mib", default_value = "300", value_parser = whole::<u64>(1, 1_048_576))]
    pub memory_resume_mib: u64,
    /// Pause with less free disk for the output, MiB; 0 is no limit
    #[arg(id = "limits.disk_reserve_mib", default_value = "256", value_parser = whole::<u64>(0, 1_048_576))]
    pub disk_reserve_mib: u64,
    /// Resume with more free disk, MiB
    #[arg(id = "limits.disk_resume_mib", default_value = "384", value_parser = whole::<u64>(1, 1_048_576))]
    pub disk_resume_mib: u64,
    /// Interval of the checks, seconds
    #[arg(id = "limits.interval_s", default_value = "5", value_parser = real::<f64>(0.1, 3600.0))]
    pub interval_s: f64,
}

/// `[log]`: what is logged.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize)]
pub struct LogConfig {
    /// error, warn, info, debug or trace
    #[arg(id = "log.level", default_value = "info", value_parser = log_level)]
    pub level: String,
}

#[allow(clippy::ptr_arg, reason = "serde passes the field")]
fn is_unset(path: &PathBuf) -> bool {
    path.as_os_str().is_empty()
}

impl Config {
    /// Where takes are stored.
    #[must_use]
    pub fn takes_path(&self) -> PathBuf {
        let beside = || self.output.path.join(TAKES);
        self.camera.path.clone().unwrap_or_else(beside)
    }
}
