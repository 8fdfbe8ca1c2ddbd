//! What can be set, section by section, and what holds when nothing is said.

use crate::camera;
use crate::camera::PixelFormat;
use crate::dataset::plan::Knobs;
use crate::frame::DecoderChoice;
use crate::hand;
use crate::messages::request::CommandName;
use crate::selection::BackendPreference;
use crate::selection::CUSTOM;
use crate::sequence::Profile;
use std::num::NonZeroU64;
use std::path::PathBuf;

use super::{BrokerUrl, Secret};

/// How far a landmark may be from the CPU's unless the user says otherwise: as far as the notebook's own on two kinds of
/// processors, fractions of the picture.
pub const TOLERANCE: f32 = 5e-4;
/// The folder of takes, in the output folder unless it is named, and in the mirror.
pub const TAKES: &str = "camera";
/// Seconds that an accelerator may take to get ready: some compile the models.
pub const PATIENCE_S: f64 = 120.0;

/// All settings, each possible by itself and with the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who this is.
    pub device: DeviceConfig,
    /// What is read.
    pub dataset: DatasetConfig,
    /// Which clips.
    pub plan: PlanConfig,
    /// Which numbers.
    pub sequence: SequenceConfig,
    /// Which models.
    pub models: ModelsConfig,
    /// What is written.
    pub output: OutputConfig,
    /// What is filmed.
    pub camera: CameraConfig,
    /// How the job runs.
    pub run: RunConfig,
    /// An accelerator's plugin.
    pub delegate: DelegateConfig,
    /// Whom it reports to.
    pub mqtt: MqttConfig,
    /// When the machine is spared.
    pub limits: LimitsConfig,
    /// What is logged.
    pub log: LogConfig,
}

/// `[device]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Names the device in topics.
    pub id: String,
}

/// `[dataset]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetConfig {
    /// Folder or zip archive.
    pub path: PathBuf,
    /// The metadata file, if elsewhere.
    pub json: Option<PathBuf>,
    /// The folder of clips, if elsewhere.
    pub videos: Option<PathBuf>,
}

/// `[plan]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanConfig {
    /// Glosses with fewer clips are left out.
    pub min_videos_per_gloss: usize,
    /// The glosses with the most instances, so many.
    pub max_glosses: Option<usize>,
    /// These glosses; all when empty.
    pub selected_glosses: Vec<String>,
    /// Accepted clips of a gloss.
    pub max_samples_per_gloss: Option<usize>,
}

/// `[sequence]`
#[derive(Clone, Debug, PartialEq)]
pub struct SequenceConfig {
    /// Reproduce or mend.
    pub profile: Profile,
    /// Frames in a sequence.
    pub sequence_length: usize,
    /// Look at every Nth frame.
    pub frame_stride: NonZeroU64,
    /// Clips with a hand in fewer frames are left out.
    pub min_frames: usize,
    /// Hands in a frame.
    pub num_hands: usize,
    /// MediaPipe's threshold for palms.
    pub min_hand_detection_confidence: f32,
    /// MediaPipe's threshold for hands.
    pub min_hand_presence_confidence: f32,
    /// MediaPipe's overlap of a palm with a hand that is followed.
    pub min_tracking_confidence: f32,
    /// Follow hands from frame to frame.
    pub tracking: bool,
}

/// `[models]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelsConfig {
    /// Folder with both models, or a bundle.
    pub path: Option<PathBuf>,
    /// The palm model alone.
    pub palm: Option<PathBuf>,
    /// The hand model alone.
    pub hand: Option<PathBuf>,
    /// Take files whose hash is not pinned.
    pub trust: bool,
}

/// `[output]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputConfig {
    /// Folder of the results.
    pub path: PathBuf,
    /// Planned clips in a batch file.
    pub batch_size: usize,
    /// Folder that gets a copy of every sealed file.
    pub mirror: Option<PathBuf>,
}

/// `[camera]`
#[derive(Clone, Debug, PartialEq)]
pub struct CameraConfig {
    /// The camera; without one nothing is filmed.
    pub device: Option<camera::CameraAddress>,
    /// Folder of the takes; beside the results of the dataset when unset.
    pub path: Option<PathBuf>,
    /// Wanted size, pixels.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// Wanted frames a second.
    pub fps: f64,
    /// Wanted pixels.
    pub format: Option<PixelFormat>,
    /// Frames a second of the dataset, which all numbers of frames count in.
    pub dataset_fps: f64,
    /// Frames with hands that begin a sign.
    pub start_frames: u32,
    /// Frames without hands that end it.
    pub end_frames: u32,
    /// Shorter signs are dropped.
    pub min_seconds: f64,
    /// Longer ones are cut.
    pub max_seconds: f64,
    /// Keep signs that no `record` asked for.
    pub keep_unlabelled: bool,
}

/// `[run]`
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Clips at a time; as many as cores when unset.
    pub workers: Option<usize>,
    /// What runs the models.
    pub accelerator: BackendPreference,
    /// How far a landmark may be from the CPU's, fractions of the picture.
    pub accelerator_tolerance: f32,
    /// Seconds that an accelerator may take to get ready.
    pub accelerator_timeout_s: f64,
    /// Who decodes.
    pub decoder: DecoderChoice,
    /// Seconds to wait for the decoder in one clip.
    pub clip_timeout_s: f64,
}

/// `[delegate]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegateConfig {
    /// Which preset the others change, or `custom`.
    pub name: String,
    /// The plugin.
    pub library: Option<PathBuf>,
    /// What it is told, each `KEY=VALUE`.
    pub options: Vec<String>,
    /// A palm model of its own.
    pub palm: Option<PathBuf>,
    /// A hand model of its own.
    pub hand: Option<PathBuf>,
}

/// `[mqtt]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MqttConfig {
    /// The broker; without one the daemon works the same.
    pub url: Option<BrokerUrl>,
    /// User name, when the URL has none.
    pub username: Option<String>,
    /// Password from the file, `password_file` or the service's credentials, when the URL has none.
    pub password: Option<Secret>,
    /// Where the password was read, as found.
    pub password_file: Option<PathBuf>,
    /// Names the session at the broker.
    pub client_id: String,
    /// Certificates to trust, PEM, as found.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate, PEM, as found.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM, as found.
    pub key_file: Option<PathBuf>,
    /// Seconds between two signs of life.
    pub keep_alive_s: u64,
    /// Longest pause between two attempts to connect, seconds.
    pub reconnect_max_s: u64,
    /// Commands that are obeyed.
    pub commands: Vec<String>,
    /// Announce the device to Home Assistant.
    pub home_assistant: bool,
    /// Messages that may wait for the broker.
    pub outbox_max_messages: u64,
    /// Hours that one may wait.
    pub outbox_max_age_h: u64,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq)]
pub struct LimitsConfig {
    /// Fewer workers from here on, °C.
    pub temperature_max_c: f64,
    /// More again from here down, °C.
    pub temperature_resume_c: f64,
    /// Fewer workers below, MiB; 0 is no limit.
    pub memory_min_mib: u64,
    /// More again above, MiB.
    pub memory_resume_mib: u64,
    /// Pause below, MiB free on the file system of the output; 0 is no limit.
    pub disk_reserve_mib: u64,
    /// Go on above, MiB.
    pub disk_resume_mib: u64,
    /// Seconds between two looks.
    pub interval_s: f64,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `error` to `trace`.
    pub level: String,
}

impl Default for Config {
    /// The defaults of all keys. What the user must say, and what follows from other keys or the machine, is empty.
    fn default() -> Self {
        let plan = Knobs::default();
        let hands = hand::Options::default();
        // A snapshot shows people: only on the user's word.
        let commands = CommandName::ALL
            .into_iter()
            .filter(|c| *c != CommandName::Snapshot);
        Self {
            device: DeviceConfig { id: String::new() },
            dataset: DatasetConfig {
                path: PathBuf::new(),
                json: None,
                videos: None,
            },
            plan: PlanConfig {
                min_videos_per_gloss: plan.min_videos_per_gloss,
                max_glosses: plan.max_glosses,
                selected_glosses: plan.selected_glosses,
                max_samples_per_gloss: plan.max_samples_per_gloss,
            },
            sequence: SequenceConfig {
                profile: Profile::Notebook,
                sequence_length: 32,
                frame_stride: NonZeroU64::MIN.saturating_add(1),
                min_frames: 8,
                num_hands: hands.num_hands,
                min_hand_detection_confidence: hands.detection_min,
                min_hand_presence_confidence: hands.presence_min,
                min_tracking_confidence: hands.tracking_iou,
                tracking: false,
            },
            models: ModelsConfig {
                path: None,
                palm: None,
                hand: None,
                trust: false,
            },
            output: OutputConfig {
                path: PathBuf::new(),
                batch_size: 256,
                mirror: None,
            },
            camera: CameraConfig {
                device: None,
                path: None,
                width: 640,
                height: 480,
                fps: 30.0,
                format: None,
                dataset_fps: 25.0,
                start_frames: 3,
                end_frames: 8,
                min_seconds: 0.3,
                max_seconds: 10.0,
                keep_unlabelled: false,
            },
            run: RunConfig {
                workers: None,
                accelerator: BackendPreference::Auto,
                accelerator_tolerance: TOLERANCE,
                accelerator_timeout_s: PATIENCE_S,
                decoder: DecoderChoice::Software,
                clip_timeout_s: 60.0,
            },
            delegate: DelegateConfig {
                name: CUSTOM.to_owned(),
                library: None,
                options: Vec::new(),
                palm: None,
                hand: None,
            },
            mqtt: MqttConfig {
                url: None,
                username: None,
                password: None,
                password_file: None,
                client_id: String::new(),
                ca_file: None,
                cert_file: None,
                key_file: None,
                keep_alive_s: 30,
                reconnect_max_s: 60,
                commands: commands.map(|c| c.name().to_owned()).collect(),
                home_assistant: false,
                outbox_max_messages: 10_000,
                outbox_max_age_h: 168,
            },
            limits: LimitsConfig {
                temperature_max_c: 80.0,
                temperature_resume_c: 72.0,
                memory_min_mib: 200,
                memory_resume_mib: 300,
                disk_reserve_mib: 256,
                disk_resume_mib: 384,
                interval_s: 5.0,
            },
            log: LogConfig {
                level: "info".to_owned(),
            },
        }
    }
}
