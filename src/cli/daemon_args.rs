//! The command lines of `run` and `check`, which share a config.

use super::ResumeArgs;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

pub(super) const RUN_ABOUT: &str = "\
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
    pub resume: ResumeArgs,
}

pub(super) const CHECK_ABOUT: &str = "\
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
