//! The command line of `process`.

use crate::config::{
    BatchConfig, Config, DatasetConfig, DatasetFiles, DelegateConfig, ModelsConfig, OutputConfig,
    PlanConfig, RunConfig, SequenceConfig,
};
use crate::storage::output_dir::OpenMode;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

pub(super) const PROCESS_ABOUT: &str = "\
Turn a WLASL dataset into wlasl_landmarks.npz.

DATASET is a folder with WLASL_v0.3.json and videos/ID.mp4, or a zip archive of one, which is read
in place. --out gets:
  wlasl_landmarks.npz    sequences, labels, video_ids, glosses
  batches/NNNNN.npz      the same with raw landmarks, handedness and frame numbers
  manifest.jsonl         a line for every instance of the metadata: state and reason
  run.json               settings, models, versions
Equal input and settings give equal bytes, whatever --workers is.

A clip that cannot be used is recorded, and the job continues. After an interruption (Ctrl-C, power
cut, full disk) the same command resumes the job. Progress is a bar on a terminal and JSON lines on
stdout elsewhere.

Examples:
  handloom process wlasl/ --list                         what would be done
  handloom process wlasl/ --out out/                     all glosses with at least 5 clips
  handloom process archive.zip --out out/ --selected-glosses book,drink,computer
  handloom process wlasl/ --out out/ --max-samples-per-gloss 20 --workers 2";

/// Arguments of `process`.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// Folder with WLASL_v0.3.json and videos/, or a zip archive of it
    pub dataset: PathBuf,
    /// Folder for the results; created when missing
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    pub out: Option<PathBuf>,
    /// Print the plan and stop: what would be processed, what would not, and why
    #[arg(long)]
    pub list: bool,
    /// Files that lie elsewhere.
    #[command(flatten)]
    pub files: DatasetFiles,
    /// What happens to earlier results.
    #[command(flatten, next_help_heading = "Earlier results")]
    pub resume: ResumeArgs,
    /// `[plan]`
    #[command(flatten, next_help_heading = "Which clips")]
    pub plan: PlanConfig,
    /// `[sequence]`
    #[command(flatten, next_help_heading = "Which numbers")]
    pub sequence: SequenceConfig,
    /// `[models]`
    #[command(flatten, next_help_heading = "Which models")]
    pub models: ModelsConfig,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto, help_heading = RUN_HEADING)]
    pub progress: ProgressKind,
    /// Size of the batch files.
    #[command(flatten, next_help_heading = RUN_HEADING)]
    pub batches: BatchConfig,
    /// `[run]`, which ends with what runs the models.
    #[command(flatten)]
    pub run: RunConfig,
    /// `[delegate]`
    #[command(flatten)]
    pub delegate: DelegateConfig,
}

const RUN_HEADING: &str = "How to run";

impl ProcessArgs {
    /// The settings as a config.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            dataset: DatasetConfig {
                path: self.dataset.clone(),
                files: self.files.clone(),
            },
            output: OutputConfig {
                path: self.out.clone().unwrap_or_default(),
                batches: self.batches.clone(),
                mirror: None,
            },
            plan: self.plan.clone(),
            sequence: self.sequence.clone(),
            models: self.models.clone(),
            run: self.run.clone(),
            delegate: self.delegate.clone(),
            ..Config::default()
        }
    }
}

/// What happens to earlier results.
#[derive(Clone, Copy, Debug, Args)]
pub struct ResumeArgs {
    /// Start over; this also replaces the results of another job
    #[arg(long, conflicts_with_all = ["rescan", "retry_failed"])]
    pub fresh: bool,
    /// Accept a dataset whose clips or metadata have changed; results that are still valid are kept
    #[arg(long)]
    pub rescan: bool,
    /// Process unreadable clips again
    #[arg(long)]
    pub retry_failed: bool,
}

impl ResumeArgs {
    /// How the output folder is opened.
    #[must_use]
    pub fn open_mode(self) -> OpenMode {
        match self {
            Self { fresh: true, .. } => OpenMode::Fresh,
            Self { rescan: true, .. } => OpenMode::Rescan,
            _ => OpenMode::Resume,
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// A bar on a terminal, JSON lines elsewhere
    Auto,
    /// A bar and a closing table
    Bar,
    /// One JSON object a line on stdout
    Json,
}
