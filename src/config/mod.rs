//! What the daemon is told: a TOML file, over it the environment (`HANDLOOM_*`), over that the flags (`--set`).
//!
//! [`KEYS`] alone knows the keys, [`ranges`] what each may be; [`load`] reads the layers into a [`Config`], completes
//! it and holds the settings against each other. Nothing is taken on trust: an unknown key or an impossible value is a
//! [`ConfigError`] that names the place, the value and what is allowed. Paths of data are relative to the working
//! folder; those of secrets (`password_file` and the TLS files) to `$CREDENTIALS_DIRECTORY`, then to the folder of
//! the config file.

pub mod backends;
pub mod constraints;
mod errors;
mod keys;
mod loader;
mod settings;
mod sources;
mod validate;
pub mod value_parsers;
mod values;

pub use crate::config::errors::{ConfigError, FileLocation, Origin, Problem, Setting};
pub use crate::config::loader::{LoadedConfig, load};
pub use keys::{Changes, KEYS, SettingKey};
pub use settings::{
    CameraConfig, Config, DatasetConfig, DelegateConfig, DeviceConfig, LimitsConfig, LogConfig,
    ModelsConfig, MqttConfig, OutputConfig, PATIENCE_S, PlanConfig, RunConfig, SequenceConfig,
    TAKES, TOLERANCE,
};
pub use sources::{DEFAULT_FILE, Sources};
pub use values::{BrokerUrl, Secret};

use crate::camera;
use crate::camera::FormatRequest;
use crate::cli::camera::CaptureSettings;
use crate::dataset::plan::Knobs;
use crate::hand;
use crate::inference::{BackendRequest, DelegatePreference, DelegateSpec, ModelPaths};
use crate::mqtt::{Settings, Tls};
use crate::sequence::SequenceSpec;
use crate::video::clip::VideoOptions;
use std::path::PathBuf;
use std::time::Duration;

impl Config {
    /// For the planner.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        let trimmed = |gloss: &String| gloss.trim().to_owned();
        Knobs {
            min_videos_per_gloss: self.plan.min_videos_per_gloss,
            max_glosses: self.plan.max_glosses,
            selected_glosses: self.plan.selected_glosses.iter().map(trimmed).collect(),
            max_samples_per_gloss: self.plan.max_samples_per_gloss,
        }
    }

    /// For the sequences.
    #[must_use]
    pub fn shape(&self) -> SequenceSpec {
        SequenceSpec {
            length: self.sequence.sequence_length,
            stride: self.sequence.frame_stride,
            tracking: self.sequence.tracking,
        }
    }

    /// For the detector.
    #[must_use]
    pub fn detector(&self) -> hand::Options {
        hand::Options {
            num_hands: self.sequence.num_hands,
            detection_min: self.sequence.min_hand_detection_confidence,
            presence_min: self.sequence.min_hand_presence_confidence,
            tracking_iou: self.sequence.min_tracking_confidence,
        }
    }

    /// For the loader of the models.
    #[must_use]
    pub fn models(&self) -> ModelPaths {
        ModelPaths {
            models: self.models.path.clone(),
            palm: self.models.palm.clone(),
            hand: self.models.hand.clone(),
            trust: self.models.trust,
        }
    }

    /// For the choice of what runs the models.
    #[must_use]
    pub fn accelerator(&self) -> BackendRequest {
        let own = &self.delegate;
        let pairs = own.options.iter().filter_map(|o| o.split_once('='));
        BackendRequest {
            preference: self.run.accelerator.clone(),
            delegate: DelegatePreference {
                name: own.name.clone(),
                spec: DelegateSpec {
                    library: own.library.clone().unwrap_or_default(),
                    options: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
                    palm: own.palm.clone(),
                    hand: own.hand.clone(),
                },
            },
            tolerance: self.run.accelerator_tolerance,
            timeout: Duration::from_secs_f64(self.run.accelerator_timeout_s),
        }
    }

    /// What is filmed and how; `None` without a camera.
    #[must_use]
    pub fn recipe(&self) -> Option<(camera::CameraAddress, CaptureSettings)> {
        let filmed = &self.camera;
        let recipe = CaptureSettings {
            want: FormatRequest {
                width: filmed.width,
                height: filmed.height,
                rate: filmed.fps,
                format: filmed.format,
            },
            profile: self.sequence.profile,
            shape: SequenceSpec {
                tracking: true,
                ..self.shape()
            },
            min_frames: self.sequence.min_frames,
            detector: self.detector(),
            dataset_fps: filmed.dataset_fps,
            start_frames: filmed.start_frames,
            end_frames: filmed.end_frames,
            min_seconds: filmed.min_seconds,
            max_seconds: filmed.max_seconds,
            prefix: self.device.id.clone(),
            batch_size: self.output.batch_size,
        };
        Some((filmed.device.clone()?, recipe))
    }

    /// Where takes are kept.
    #[must_use]
    pub fn takes_path(&self) -> PathBuf {
        let beside = || self.output.path.join(TAKES);
        self.camera.path.clone().unwrap_or_else(beside)
    }

    /// For opening clips.
    #[must_use]
    pub fn video_options(&self) -> VideoOptions {
        VideoOptions {
            decoder: self.run.decoder.clone(),
            timeout: Duration::from_secs_f64(self.run.clip_timeout_s),
        }
    }

    /// For the line to the broker; `None` without one.
    #[must_use]
    pub fn broker(&self) -> Option<Settings> {
        let mqtt = &self.mqtt;
        let tls = Tls {
            ca_file: mqtt.ca_file.clone(),
            cert_file: mqtt.cert_file.clone(),
            key_file: mqtt.key_file.clone(),
        };
        let address = mqtt.url.as_ref()?.address().clone();
        let mut settings = Settings::at(&self.device.id, address, tls);
        settings.client_id.clone_from(&mqtt.client_id);
        settings.username = settings.username.or_else(|| mqtt.username.clone());
        let password = || mqtt.password.as_ref().map(|p| p.reveal().to_owned());
        settings.password = settings.password.or_else(password);
        settings.keep_alive = Duration::from_secs(mqtt.keep_alive_s);
        settings.reconnect_max = Duration::from_secs(mqtt.reconnect_max_s);
        settings.reconnect_min = settings.reconnect_min.min(settings.reconnect_max);
        settings.discovery = mqtt.home_assistant;
        Some(settings)
    }

    /// Clips at a time.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.run
            .workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}
