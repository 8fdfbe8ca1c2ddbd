//! `handloom run`: the daemon. `check` shares its config arguments.

use crate::cli::process::ResumeArgs;
use crate::config::{ConfigError, Sources};
use crate::daemon::{self, RunOptions};
use crate::error::{CliError, Exit};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const RUN_ABOUT: &str = "\
Run as a service: process the config's dataset, or record with its camera, and report over MQTT.

* Resumes after a power cut at the clip where it stopped.
* Works without a broker, and publishes everything when the broker is back.
* Pauses before the disk is full, and uses fewer workers when the device is hot.
* Obeys commands over MQTT: pause, resume, cancel, rescan, retry-failed; with a camera record and
  undo; snapshot where the config allows it.
* SIGTERM stops it within ten seconds (exit 75 when work is left, 0 when not). SIGHUP reads the
  config again.
* When the job is done it waits for commands, unless --once is given.

The config needs a dataset or a camera, and an output folder. Without [mqtt], nothing is published:

  [dataset]
  path = \"/data/wlasl\"
  [output]
  path = \"/var/lib/handloom/out\"
  [mqtt]
  url = \"mqtt://broker.local\"

The example config lists every key: /etc/handloom/handloom.toml where the package is installed,
systemd/handloom.toml in the sources.

Examples:
  handloom check --config handloom.toml                  is everything in order?
  handloom run --config handloom.toml
  handloom run --config handloom.toml --once --set mqtt.url=
  mosquitto_sub -h broker.local -t 'handloom/#' -v       what it publishes";

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// The config.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Stop when the job is done, with its exit code
    #[arg(long)]
    pub once: bool,
    /// Stop after this time, such as 8h or 90min, as on SIGTERM
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub span: Option<Duration>,
    /// What happens to earlier results.
    #[command(flatten, next_help_heading = "Earlier results")]
    pub resume: ResumeArgs,
}

/// The config.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// Config file [default: /etc/handloom/handloom.toml, if it exists]
    #[arg(
        long,
        value_name = "FILE",
        env = "HANDLOOM_CONFIG",
        hide_env_values = true
    )]
    pub config: Option<PathBuf>,
    /// A setting that overrides file and environment, such as run.workers=2; can be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// The sources of the settings.
    pub(super) fn sources(&self) -> Result<Sources, ConfigError> {
        Sources::of_process(self.config.clone(), self.set.clone())
    }
}

/// Runs the daemon until it ends.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub fn run(args: &DaemonArgs) -> Result<Exit, CliError> {
    daemon::run(&RunOptions {
        sources: args.config.sources()?,
        mode: args.resume.open_mode(),
        retry_failed: args.resume.retry_failed,
        once: args.once,
        time_limit: args.span,
    })
}

/// A time with its unit, such as `8h` or `1h 30min`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match text.trim().parse::<f64>() {
        Ok(_) => {
            let number = text.trim();
            format!("the unit is missing: write {number}h, {number}min or {number}s")
        }
        Err(_) => format!("{error}; write a time such as 8h, 90min or 1h 30min"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_a_unit() {
        assert_eq!(duration("90min"), Ok(Duration::from_mins(90)));
        let refused = duration("8").unwrap_err();
        assert!(refused.contains("write 8h, 8min or 8s"), "{refused}");
        assert!(duration("soon").unwrap_err().contains("such as 8h"));
    }
}
