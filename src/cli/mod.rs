//! The command line. Flags bear the notebook's names where it has one; what they mean is checked here, so that the
//! commands get settings that can be used.

#![allow(
    clippy::doc_markdown,
    reason = "the comments of arguments are their help texts"
)]

mod accelerator_args;
pub mod bench;
pub mod camera;
mod camera_args;
pub mod check;
mod daemon_args;
pub mod demo;
pub mod docs;
pub mod inspect;
mod model_args;
pub mod process;
mod process_args;
pub mod progress;
pub mod watch;
mod watch_args;

pub use accelerator_args::{AcceleratorArgs, BenchArgs};
pub use camera_args::{CameraArgs, CameraSequenceArgs, RecordingArgs, SegmentArgs};
pub use daemon_args::{CheckArgs, ConfigArgs, DaemonArgs};
pub use model_args::{HandArgs, ModelArgs, SequenceArgs};
pub use process_args::{PlanArgs, ProcessArgs, ProgressKind, ResumeArgs, RunArgs};
pub use watch_args::WatchArgs;

use crate::config::constraints;
use crate::config::value_parsers::Rule;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

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
    #[command(long_about = process_args::PROCESS_ABOUT)]
    Process(Box<ProcessArgs>),
    /// Show what is in npz files: shapes, labels, how often hands were seen
    Inspect(InspectArgs),
    /// Render moving hands, make a small dataset of them, process it, show the result
    Demo(DemoArgs),
    /// Film signs with a camera into the same npz as clips
    #[command(long_about = camera_args::CAMERA_ABOUT)]
    Camera(Box<CameraArgs>),
    /// Run as a service: the config's job, reported over MQTT, resumed where it was
    #[command(long_about = daemon_args::RUN_ABOUT)]
    Run(DaemonArgs),
    /// Watch a fleet in the terminal, from the broker alone: who works, how far, who needs help
    #[command(long_about = watch_args::WATCH_ABOUT)]
    Watch(WatchArgs),
    /// Say whether the daemon's config and the world around it are in order
    #[command(long_about = daemon_args::CHECK_ABOUT)]
    Check(CheckArgs),
    /// Measure what could run the models here, and the decoders: speed, agreement, clips per minute to expect
    #[command(long_about = accelerator_args::BENCH_ABOUT)]
    Bench(BenchArgs),
    /// Measure one backend for `bench` and for the choice of one
    #[command(hide = true)]
    ProbeAccelerator,
    /// Write man pages and shell completions, for packages
    #[command(hide = true, alias = "papers")]
    Docs(DocsArgs),
}

impl Command {
    /// Whether it may run the models.
    #[must_use]
    pub fn runs_models(&self) -> bool {
        !matches!(self, Self::Inspect(_) | Self::Watch(_) | Self::Docs(_))
    }
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

/// Arguments of `docs`.
#[derive(Debug, Args)]
pub struct DocsArgs {
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
    #[arg(long, value_name = "N", value_parser = by(constraints::WORKERS))]
    pub workers: Option<usize>,
    /// Which models
    #[command(flatten)]
    pub models: ModelArgs,
}

/// A rule as the command line's parser wants it.
fn by<R: Rule + Clone>(rule: R) -> impl Fn(&str) -> Result<R::Value, String> + Clone {
    move |text| rule.parse(text)
}

fn seconds(text: &str) -> Result<Duration, String> {
    constraints::TIMEOUT_S
        .parse(text)
        .map(Duration::from_secs_f64)
}

/// Runs the chosen subcommand.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(cli: Cli) -> Result<Exit, CliError> {
    let reader = match cli.command {
        Command::Camera(_) => Audience::TakesFlags,
        _ => Audience::Flags,
    };
    let ended = match cli.command {
        // Tells it to more than its stderr, in its own words.
        Command::Run(args) => return crate::daemon::run(&args),
        Command::Process(args) => process::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Camera(args) => camera::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::ProbeAccelerator => crate::inference::probe::main(),
        Command::Docs(args) => docs::run(&args),
    };
    ended.map_err(|failure| reader.with_hint(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::plan::Knobs;
    use crate::hand;
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
