//! The command line: one file of arguments and one `run` a subcommand. Settings that the config file has too are
//! declared in [`crate::config`]; a command takes the sections that it needs and makes a `Config` of them.

#![allow(
    clippy::doc_markdown,
    reason = "the comments of arguments are their help texts"
)]

pub mod bench;
mod bench_args;
pub mod camera;
mod camera_args;
pub mod check;
mod daemon_args;
pub mod demo;
pub mod docs;
mod flag_checks;
pub mod inspect;
mod probe;
pub mod process;
mod process_args;
pub mod progress;
pub mod watch;
mod watch_args;

pub use bench_args::BenchArgs;
pub use camera_args::{CameraArgs, RecordingArgs};
pub use daemon_args::{CheckArgs, ConfigArgs, DaemonArgs};
pub use process_args::{ProcessArgs, ProgressKind, ResumeArgs};
pub use watch_args::WatchArgs;

use crate::config::constraints::whole;
use crate::config::{ModelsConfig, Sources};
use crate::daemon::{self, RunOptions};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Weaves sign-language video into training sequences at the edge.
#[derive(Debug, Parser)]
#[command(name = "handloom", version, about, long_about = LONG_ABOUT, max_term_width = 110)]
pub struct Cli {
    /// The subcommand
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
Weaves sign-language video into training sequences at the edge.

Runs MediaPipe's two hand models over the clips of a WLASL dataset and writes each clip as a
normalised sequence of 32 frames x 126 numbers, equal to what the Colab notebook with MediaPipe
0.10.21 gives.

Start with:
  handloom demo                          drawn hands, processed and shown
  handloom process DATASET --out DIR     a whole dataset
  handloom camera --preview              what a camera sees
  handloom inspect DIR/*.npz             the results
  handloom watch --broker URL            the state of all devices
  handloom bench                         the speed of this machine and its accelerators

Exit codes: 0 done, 1 nothing extracted, 64 usage, 65 bad data or model file, 66 input missing,
69 broker, camera or required accelerator unavailable, 70 bug, 73 output cannot be used,
74 reading or writing failed, 75 stopped: the same command resumes, 78 bad config.
Log level: HANDLOOM_LOG=debug (default: warn), on stderr.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Turn a WLASL dataset into wlasl_landmarks.npz
    #[command(long_about = process_args::PROCESS_ABOUT)]
    Process(Box<ProcessArgs>),
    /// Show the content of npz files: shapes, labels, how often hands were found
    #[command(long_about = INSPECT_ABOUT)]
    Inspect(InspectArgs),
    /// Draw moving hands, make a small dataset of them, process it and show the result
    #[command(long_about = DEMO_ABOUT)]
    Demo(DemoArgs),
    /// Record signs with a camera into the same npz as clips
    #[command(long_about = camera_args::CAMERA_ABOUT)]
    Camera(Box<CameraArgs>),
    /// Run as a service: process the config's dataset or record with its camera, and report over MQTT
    #[command(long_about = daemon_args::RUN_ABOUT)]
    Run(DaemonArgs),
    /// Watch a fleet of devices in the terminal, through the MQTT broker
    #[command(long_about = watch_args::WATCH_ABOUT)]
    Watch(WatchArgs),
    /// Check the daemon's config and everything that it names
    #[command(long_about = daemon_args::CHECK_ABOUT)]
    Check(CheckArgs),
    /// Measure the backends that could run the models here, and the decoders
    #[command(long_about = bench_args::BENCH_ABOUT)]
    Bench(BenchArgs),
    /// Measure one backend, in a process of its own
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

const INSPECT_ABOUT: &str = "\
Show the content of npz files: shapes, labels, how often hands were found.

Examples:
  handloom inspect out/wlasl_landmarks.npz
  handloom inspect out/batches/*.npz --json              one JSON object a file";

const DEMO_ABOUT: &str = "\
Draw moving hands, make a small dataset of them, process it and show the result.

Needs neither a dataset nor a camera. --out gets dataset/, result/ and contact-sheet.png.

Examples:
  handloom demo
  handloom demo --out /tmp/demo --workers 2";

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// npz files: wlasl_landmarks.npz or batches
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON object a file
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `docs`.
#[derive(Debug, Args)]
pub struct DocsArgs {
    /// Folder for the pages and completions; created when missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Folder for the dataset, the results and the contact sheet
    #[arg(long, value_name = "DIR", default_value = "handloom-demo")]
    pub out: PathBuf,
    /// Clips processed at the same time [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 256))]
    pub workers: Option<usize>,
    /// `[models]`
    #[command(flatten, next_help_heading = "Which models")]
    pub models: ModelsConfig,
}

/// Flags that other programs have, and what to write instead.
const SYNONYMS: [(&str, &str); 7] = [
    ("--gpu", "--accelerator require:litert:gpu"),
    ("--cuda", "--accelerator require:litert:gpu"),
    ("--device", "--accelerator require:NAME"),
    ("--threads", "--workers N"),
    ("--jobs", "--workers N"),
    ("--glosses", "--selected-glosses GLOSS,..."),
    ("--output", "--out DIR"),
];

/// Parses the command line of this process.
///
/// # Errors
/// When it is wrong, or asks for help or the version.
pub fn parse() -> Result<Cli, clap::Error> {
    Cli::try_parse().map_err(with_hint)
}

/// `error`, with the right flag where an unknown one has a synonym.
fn with_hint(mut error: clap::Error) -> clap::Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let synonym = SYNONYMS.iter().find(|(wrong, _)| wrong == flag);
    if error.kind() == ErrorKind::UnknownArgument
        && let Some((_, right)) = synonym
    {
        let hint = format!("write '{right}'");
        error.remove(ContextKind::SuggestedArg);
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![hint.into()]),
        );
    }
    error
}

/// `handloom run`.
fn run_daemon(args: DaemonArgs) -> Result<Exit, CliError> {
    daemon::run(&RunOptions {
        sources: Sources::of_process(args.config.config, args.config.set)?,
        mode: args.resume.open_mode(),
        retry_failed: args.resume.retry_failed,
        once: args.once,
        time_limit: args.span,
    })
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
        Command::Run(args) => return run_daemon(args),
        Command::Process(args) => process::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Camera(args) => camera::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::ProbeAccelerator => probe::run(),
        Command::Docs(args) => docs::run(&args),
    };
    ended.map_err(|failure| reader.with_hint(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::plan::PlanOptions;
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
        let job = args.config().job();
        assert_eq!(job.plan_options, PlanOptions::default());
        assert_eq!(job.detector, hand::DetectorOptions::default());
        let shape = job.shape;
        assert_eq!(
            (shape.length, shape.stride.get(), job.min_frames),
            (32, 2, 8)
        );
    }

    #[test]
    fn flags_of_other_programs_get_the_right_one() {
        let check = |flags: &[&str], hint: &str| {
            let line = ["handloom", "process", "d", "--out", "o"];
            let line = line.iter().chain(flags);
            let error = with_hint(Cli::try_parse_from(line).unwrap_err()).to_string();
            assert!(error.contains(hint), "{flags:?}: {error}");
        };
        check(&["--gpu"], "--accelerator require:litert:gpu");
        check(&["--device", "cuda"], "--accelerator require:NAME");
        check(&["--accelerator", "cuda"], "require:litert:gpu?");
        check(&["--worker", "2"], "--workers");
        let camera = Cli::try_parse_from(["handloom", "camera", "--device", "cuda"]);
        let refused = camera.unwrap_err().to_string();
        assert!(refused.contains("--accelerator"), "{refused}");
    }

    #[test]
    fn the_metadata_file_has_an_old_flag() {
        for flag in ["--metadata", "--json"] {
            let cli = Cli::try_parse_from(["handloom", "process", "d", "--list", flag, "m"]);
            let Command::Process(args) = cli.unwrap().command else {
                panic!("process")
            };
            assert_eq!(args.config().dataset.files.json, Some("m".into()));
        }
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
