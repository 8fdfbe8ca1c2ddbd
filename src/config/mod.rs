//! What a user can set: a TOML file, over it the environment (`HANDLOOM_*`), over that the flags (`--set`).
//!
//! [`Config`] declares each setting once: key, flag, help, default and constraint. [`load`] reads the layers by that
//! declaration, completes the config and validates the settings together. A command line fills the same sections from
//! its flags. An unknown key or an impossible value is a [`ConfigError`] that names the place, the value and what is
//! allowed. Paths of data are relative to the working folder; those of secrets (`password_file` and the TLS files) to
//! `$CREDENTIALS_DIRECTORY`, then to the folder of the config file.

mod advice;
mod complete;
pub(crate) mod constraints;
mod errors;
mod keys;
mod loader;
mod sequence_settings;
mod settings;
mod sources;
mod validate;
mod values;

pub use errors::{ConfigError, FileLocation, Origin, Problem};
pub use keys::{ConfigChanges, KEYS, SettingKey};
pub use loader::{LoadedConfig, load};
pub use sequence_settings::{FramesConfig, HandsConfig, NumbersConfig, RowsConfig, SequenceConfig};
pub use settings::{
    AcceleratorConfig, BatchConfig, CameraConfig, CaptureConfig, Config, DatasetConfig,
    DatasetFiles, DelegateConfig, DeviceConfig, KeepConfig, LimitsConfig, LogConfig, ModelsConfig,
    MqttConfig, OutputConfig, PlanConfig, RunConfig, SegmentConfig, TAKES,
};
pub use sources::{DEFAULT_FILE, Sources};
pub use values::{BrokerUrl, Secret};
