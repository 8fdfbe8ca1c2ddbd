//! What the user can say of accelerators.

use super::{ModelArgs, by, seconds};
use crate::config::{PATIENCE_S, TOLERANCE, backends, constraints};
use crate::inference::{BackendRequest, DelegatePreference, DelegateSpec};
use crate::selection::{BackendPreference, CUSTOM};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const BENCH_ABOUT: &str = "\
Measure what could run the models here, and the decoders: speed, agreement, clips per minute to expect.

Every backend that can be used runs both models on built-in pictures, in a process of its own, first
with one worker, then with all. Its landmarks are held against the CPU's; what does not agree,
`auto` does not take. What cannot be used is listed; `handloom check` says how to mend it. Let nothing else run meanwhile, and the device be as warm as it will be at work.

Examples:
  handloom bench                                         some seconds for each backend
  handloom bench --seconds 30 --json                     for a record
  handloom bench --delegate coral --delegate-palm palm_int8.tflite --delegate-hand hand_int8.tflite";

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// How long each backend runs with one worker, and again with all
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// Clips at a time [default: as many as cores]
    #[arg(long, value_name = "N", value_parser = by(constraints::WORKERS))]
    pub workers: Option<usize>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
    /// Which models
    #[command(flatten)]
    pub models: ModelArgs,
    /// Which delegates
    #[command(flatten)]
    pub accelerator: AcceleratorArgs,
}

/// What runs the models.
#[derive(Debug, Args)]
#[command(next_help_heading = "What runs the models")]
pub struct AcceleratorArgs {
    /// auto: the fastest that agrees with the CPU, measured once; cpu: the notebook's numbers; or require:NAME, prefer:NAME.
    /// `handloom check` lists the names and what each lacks
    #[arg(long, overrides_with = "accelerator", value_name = "WISH", default_value = "auto", env = "HANDLOOM_RUN_ACCELERATOR", hide_env_values = true, value_parser = by(backends::AcceleratorWish))]
    pub accelerator: BackendPreference,
    /// How far a landmark may be from where the CPU sees it, fractions of the picture; int8 models need more
    #[arg(long, value_name = "X", default_value_t = TOLERANCE, value_parser = by(constraints::TOLERANCE))]
    pub accelerator_tolerance: f32,
    /// Seconds that an accelerator may take to get ready
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE_S, value_parser = by(constraints::TIMEOUT_S))]
    pub accelerator_timeout: f64,
    /// The known delegate that the following flags change; without it they make one of your own
    #[arg(long, value_name = "NAME", default_value = CUSTOM, value_parser = by(backends::DelegateName))]
    pub delegate: String,
    /// Its plugin: a file, or a name that the system's loader finds
    #[arg(long, value_name = "FILE")]
    pub delegate_library: Option<PathBuf>,
    /// An option of the plugin; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = by(backends::DelegateOption))]
    pub delegate_option: Vec<String>,
    /// A palm model for it, int8 for instance
    #[arg(long, value_name = "FILE")]
    pub delegate_palm: Option<PathBuf>,
    /// A hand model for it
    #[arg(long, value_name = "FILE")]
    pub delegate_hand: Option<PathBuf>,
}

impl AcceleratorArgs {
    /// For the choice.
    #[must_use]
    pub fn wanted(&self) -> BackendRequest {
        let pairs = self
            .delegate_option
            .iter()
            .filter_map(|o| o.split_once('='));
        BackendRequest {
            preference: self.accelerator.clone(),
            delegate: DelegatePreference {
                name: self.delegate.clone(),
                spec: DelegateSpec {
                    library: self.delegate_library.clone().unwrap_or_default(),
                    options: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
                    palm: self.delegate_palm.clone(),
                    hand: self.delegate_hand.clone(),
                },
            },
            tolerance: self.accelerator_tolerance,
            timeout: Duration::from_secs_f64(self.accelerator_timeout),
        }
    }
}
