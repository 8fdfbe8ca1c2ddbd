//! The command lines of `run` and `check`, which share the config's arguments.

use super::ResumeArgs;
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

pub(super) const CHECK_ABOUT: &str = "\
Check the daemon's config and everything that it names.

Prints a line for each of: config, device, dataset, camera, models, runtime, accelerators, decoder,
output, mirror and broker. A dataset or camera that the config does not name has no line. Each line
has a status, what was found and the fix:
  ok      in order, or not used by the config
  -       an accelerator that is not here and not required
  warn    usable, but probably not as intended
  FAIL    not usable

Nothing is changed. But a small file is written to the output folders and removed again, the camera
is opened for one frame, and check logs in to the broker under a name of its own.

Check sees what its user may see: run it as the service's user, `sudo -u handloom handloom check`.
It cannot see what the service's sandbox forbids, nor a password that only systemd gives to the
service.

Settings come from the file, then from the environment (HANDLOOM_SECTION_KEY, as in
HANDLOOM_MQTT_URL; also HANDLOOM_LOG for log.level and HANDLOOM_MODELS for models.path), then from
--set. The last one wins. Empty text unsets an optional setting. The example handloom.toml has every
key with its meaning and default.

Examples:
  handloom check                                         the config of the service
  handloom check --config my.toml --set mqtt.url=        as if no broker were set
  handloom check --print > effective.toml                secrets are hidden

Exit codes: 0 all in order, 78 bad config, 69 a required accelerator or only the broker fails, else
the code of the first failure.";

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The config.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "print")]
    pub json: bool,
    /// Print all settings as a config file, with the origin of each, and stop
    #[arg(long)]
    pub print: bool,
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
