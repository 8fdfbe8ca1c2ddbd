//! The command line of `bench`.

use crate::config::constraints::{seconds, whole};
use crate::config::{AcceleratorConfig, Config, DelegateConfig, ModelsConfig, RunConfig};
use clap::Args;
use std::time::Duration;

pub(super) const BENCH_ABOUT: &str = "\
Measure the backends that could run the models here, and the decoders.

Every usable backend runs both models on built-in images in a process of its own, first with one
worker, then with all. Its landmarks are compared with the CPU's; `auto` never chooses a backend
that disagrees. Backends that cannot be used are listed; `handloom check` says how to fix them.
Let nothing else run meanwhile, and let the device be as warm as it will be at work.

Examples:
  handloom bench                                         some seconds for each backend
  handloom bench --seconds 30 --json                     for a record
  handloom bench --delegate-library /opt/npu/libnpu_delegate.so --delegate-palm palm_int8.tflite";

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Seconds that each backend runs with one worker, and again with all
    #[arg(long, value_name = "N", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// Clips processed at the same time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 256))]
    pub workers: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
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

impl BenchArgs {
    /// The settings as a config.
    #[must_use]
    pub fn config(&self) -> Config {
        let defaults = Config::default();
        Config {
            models: self.models.clone(),
            run: RunConfig {
                workers: self.workers,
                accelerator: self.accelerator.clone(),
                ..defaults.run
            },
            delegate: self.delegate.clone(),
            ..defaults
        }
    }
}
