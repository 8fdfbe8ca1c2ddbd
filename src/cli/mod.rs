//! The command line: one file a subcommand, with its arguments and its `run`. Settings that the config file also has are
//! declared in [`crate::config`]; a command flattens the sections that it needs and builds a `Config` of them.

#![allow(
    clippy::doc_markdown,
    reason = "the comments of arguments are their help texts"
)]

pub mod bench;
pub mod camera;
pub mod check;
mod decode;
pub mod demo;
pub mod docs;
pub mod export;
pub mod inspect;
pub mod merge;
mod probe;
pub mod process;
pub mod progress;
pub mod report;
pub mod resequence;
pub mod run;
pub mod watch;

use crate::cli::progress::Console;
use crate::config::{AcceleratorConfig, Config, DelegateConfig, ModelsConfig};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::{BackendHandle, SelectionContext, SelectionError, ShutdownFlag};
use crate::shard::environment::SHARD;
use crate::system::{Signal, Signals};
use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::{Value, json};

/// Turns sign-language video into training sequences at the edge.
#[derive(Debug, Parser)]
#[command(name = "handloom", version, about, long_about = LONG_ABOUT, max_term_width = 110)]
pub struct Cli {
    /// The subcommand
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "\
Turns sign-language video into training sequences at the edge.

Runs MediaPipe's two hand models over the clips of a WLASL dataset and writes each clip as a
normalised sequence of 32 frames x 126 numbers, equal to what the Colab notebook with MediaPipe
0.10.21 gives.

Start with:
  handloom demo                          drawn hands, processed and shown
  handloom process DATASET --out DIR     a whole dataset
  handloom merge DIR SHARDS              the results of several machines as one
  handloom resequence OUT --out DIR      other sequences from kept frames
  handloom camera --preview              what a camera sees
  handloom inspect DIR                   the results in numbers
  handloom report DIR                    a page about the results: what to trust, what to drop
  handloom export DIR --to parquet --dest HUB    the results for other tools
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
    #[command(long_about = process::PROCESS_ABOUT)]
    Process(Box<process::ProcessArgs>),
    /// Make other sequences from the kept frames of a finished job, without decoding
    #[command(long_about = resequence::RESEQUENCE_ABOUT)]
    Resequence(Box<resequence::ResequenceArgs>),
    /// Join the shards of one job into the results that one process would have written
    #[command(long_about = merge::MERGE_ABOUT)]
    Merge(merge::MergeArgs),
    /// Show the content of output folders and npz files: states, shapes, labels, hands
    #[command(long_about = inspect::INSPECT_ABOUT)]
    Inspect(inspect::InspectArgs),
    /// Write a page about an output folder: what to trust, what to drop, and why
    #[command(long_about = report::REPORT_ABOUT)]
    Report(report::ReportArgs),
    /// Write the landmarks for other tools: pose, parquet, asl-signs, webdataset, npy
    #[command(long_about = export::EXPORT_ABOUT)]
    Export(export::ExportArgs),
    /// Draw moving hands, make a small dataset of them, process it and show the result
    #[command(long_about = demo::DEMO_ABOUT)]
    Demo(demo::DemoArgs),
    /// Record signs with a camera into the same npz as clips
    #[command(long_about = camera::CAMERA_ABOUT)]
    Camera(Box<camera::CameraArgs>),
    /// Run as a service: process the config's dataset or record with its camera, and report over MQTT
    #[command(long_about = run::RUN_ABOUT)]
    Run(run::DaemonArgs),
    /// Watch a fleet of devices in the terminal, through the MQTT broker
    #[command(long_about = watch::WATCH_ABOUT)]
    Watch(watch::WatchArgs),
    /// Check the daemon's config and everything that it names
    #[command(long_about = check::CHECK_ABOUT)]
    Check(check::CheckArgs),
    /// Measure the backends that could run the models here, and the decoders
    #[command(long_about = bench::BENCH_ABOUT)]
    Bench(bench::BenchArgs),
    /// Measure one backend, in a process of its own
    #[command(hide = true)]
    ProbeAccelerator,
    /// Decode clips on behalf of another handloom process
    #[command(hide = true)]
    DecodeClips(decode::DecodeArgs),
    /// Write man pages and shell completions, for packages
    #[command(hide = true, alias = "papers")]
    Docs(docs::DocsArgs),
}

/// The models, and what runs them, for commands that take both from flags.
#[derive(Debug, Args)]
pub struct BackendArgs {
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

impl BackendArgs {
    /// A config with these settings.
    fn config(&self) -> Config {
        let mut config = Config {
            models: self.models.clone(),
            delegate: self.delegate.clone(),
            ..Config::default()
        };
        config.run.accelerator = self.accelerator.clone();
        config
    }
}

impl Command {
    /// Whether it may run the models.
    #[must_use]
    pub fn runs_models(&self) -> bool {
        !matches!(
            self,
            Self::Resequence(_)
                | Self::Merge(_)
                | Self::Inspect(_)
                | Self::Report(_)
                | Self::Export(_)
                | Self::Watch(_)
                | Self::DecodeClips(_)
                | Self::Docs(_)
        )
    }
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
/// Fails when it is wrong, or asks for help or the version.
pub fn parse() -> Result<Cli, clap::Error> {
    let mut command = Cli::command();
    // As in the daemon, a variable without a value is unset.
    if std::env::var_os(SHARD).is_some_and(|value| value.is_empty()) {
        command = command.mut_subcommand("process", |process| {
            process.mut_arg("run.shard", |arg| arg.env(None::<&str>))
        });
    }
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let cli = matches.and_then(|matches| {
        Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    });
    cli.map_err(with_hint)
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

/// Runs the chosen subcommand.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub fn run(cli: Cli) -> Result<Exit, CliError> {
    let audience = match cli.command {
        Command::Camera(_) => Audience::TakesFlags,
        _ => Audience::Flags,
    };
    let outcome = match cli.command {
        // The daemon reports its errors over MQTT too, and adds the hints itself.
        Command::Run(args) => return run::run(&args),
        Command::Process(args) => process::run(&args),
        Command::Resequence(args) => resequence::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Camera(args) => camera::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::ProbeAccelerator => probe::run(),
        Command::DecodeClips(args) => decode::run(&args),
        Command::Docs(args) => docs::run(&args),
    };
    outcome.map_err(|error| audience.with_hint(error))
}

/// Checks the flags that depend on each other.
///
/// # Errors
/// Fails when two flags exclude each other; names both.
fn check_flags(config: &Config) -> Result<(), CliError> {
    let conflict = config.flag_conflict();
    conflict.map_or(Ok(()), |conflict| {
        Err(CliError::new(Exit::Usage, anyhow!(conflict)))
    })
}

/// Calls `stop` on the first SIGINT or SIGTERM. The second ends the process.
///
/// # Errors
/// Fails when the system provides no signal handler.
fn on_stop(mut stop: impl FnMut() + Send + 'static) -> Result<Signals, CliError> {
    let listening = Signals::listen(move |signal| match signal {
        Signal::Stop => stop(),
        // Every recorded clip and take is on disk, so the process may end at any instruction.
        Signal::StopNow => std::process::exit(Exit::Stopped as i32),
        Signal::Reload => {}
    });
    listening.map_err(|e| CliError::new(Exit::InOut, anyhow!("cannot listen for Ctrl-C: {e}")))
}

/// Opens the backend of `config` for `workers` detectors, and reports each accelerator that is measured. `known` are
/// the settings of the results to which more will be added.
///
/// # Errors
/// Fails when a model or a required accelerator cannot be used, or `stop` is set.
fn open_backend(
    config: &Config,
    known: Option<&Value>,
    workers: usize,
    console: &Console,
    stop: &ShutdownFlag,
) -> Result<BackendHandle, CliError> {
    let context = &mut SelectionContext {
        workers,
        on_probe: &mut |name| {
            let event = json!({"event": "measure", "backend": name});
            console.report(&format!("Measuring {name} ..."), &event);
        },
        is_stopped: &|| stop.is_set(),
        shutdown: stop,
    };
    let request = config.backend_request().resuming(known);
    let models = config.model_paths();
    let backend = BackendHandle::open(&request, &models, context)?;
    if stop.is_set() {
        return Err(SelectionError::Stopped.into());
    }
    Ok(backend)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::plan::PlanOptions;
    use crate::hand;

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
    fn flags_that_exclude_each_other_are_named() {
        let check = |flags: &[&str], expected: &str| {
            let line = ["handloom", "process", "d", "--out", "o"];
            let cli = Cli::try_parse_from(line.iter().chain(flags)).unwrap();
            let Command::Process(args) = cli.command else {
                panic!("process")
            };
            let error = check_flags(&args.config()).unwrap_err();
            assert_eq!(error.exit, Exit::Usage);
            assert_eq!(error.error.to_string(), expected);
        };
        check(
            &["--min-frames", "33"],
            "--min-frames 33 and --sequence-length 32: the first must not exceed the second, or no clip would be accepted",
        );
        check(
            &["--accelerator", "require:custom"],
            "--accelerator \"require:custom\" and --delegate-library: a delegate needs its library; set the second",
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
        for (flag, value, expected) in [
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
            assert!(error.contains(expected), "{flag} {value}: {error}");
        }
    }
}
