//! The command line of `process`: which dataset, which clips, how to run. Which numbers, by which models, is in
//! [`crate::cli::model_args`].

use super::{AcceleratorArgs, by, seconds};
use crate::cli::model_args::{ModelArgs, SequenceArgs};
use crate::config::constraints;
use crate::dataset::plan::Knobs;
use crate::frame::DecoderChoice;
use crate::storage::output_dir::OpenMode;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

pub(super) const PROCESS_ABOUT: &str = "\
Turn a WLASL dataset into wlasl_landmarks.npz.

DATASET is a folder with WLASL_v0.3.json and videos/ID.mp4, or a zip archive of one (read in
place). --out gets wlasl_landmarks.npz (sequences, labels, video_ids, glosses),
batches/NNNNN.npz (the same with raw landmarks, handedness and frame numbers), manifest.jsonl
(one line for every instance of the metadata: state and reason) and run.json (settings, models,
versions). Equal input and settings give equal bytes, whatever --workers.

A clip that cannot be used is recorded and the job goes on. A job that was interrupted (Ctrl-C,
power cut, full disk) goes on where it was when the same command is given again. Progress is a bar on a terminal and
JSON lines on stdout elsewhere.

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
    /// Folder for the results; made when missing
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    pub out: Option<PathBuf>,
    /// Print the plan and stop: what would be processed, what not and why
    #[arg(long)]
    pub list: bool,
    /// How to take up what --out holds
    #[command(flatten)]
    pub resume: ResumeArgs,
    /// Metadata file, when it is not `DATASET/WLASL_v0.3.json`
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Folder of clips, when it is not DATASET/videos
    #[arg(long, value_name = "DIR")]
    pub videos: Option<PathBuf>,
    /// Which clips
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Which numbers
    #[command(flatten)]
    pub sequence: SequenceArgs,
    /// Which models
    #[command(flatten)]
    pub models: ModelArgs,
    /// What runs them
    #[command(flatten)]
    pub accelerator: AcceleratorArgs,
    /// How to run
    #[command(flatten)]
    pub run: RunArgs,
}

/// What to do with results that are there already.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Going on")]
pub struct ResumeArgs {
    /// Start over; replaces the results of another job too
    #[arg(long, conflicts_with_all = ["rescan", "retry_failed"])]
    pub fresh: bool,
    /// Take up a dataset whose clips or metadata have changed; what is still right is kept
    #[arg(long)]
    pub rescan: bool,
    /// Read the clips again that were unreadable
    #[arg(long)]
    pub retry_failed: bool,
}

impl ResumeArgs {
    /// For the output folder.
    #[must_use]
    pub fn open_mode(self) -> OpenMode {
        match self {
            Self { fresh: true, .. } => OpenMode::Fresh,
            Self { rescan: true, .. } => OpenMode::Rescan,
            _ => OpenMode::Resume,
        }
    }
}

/// Which clips are processed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which clips")]
pub struct PlanArgs {
    /// Glosses with fewer clips on disk are left out
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = by(constraints::COUNT))]
    pub min_videos_per_gloss: usize,
    /// Only the N glosses with the most instances in the metadata [default: all]
    #[arg(long, value_name = "N", value_parser = by(constraints::AT_LEAST_ONE))]
    pub max_glosses: Option<usize>,
    /// Only these glosses, separated by commas, as spelt in the metadata [default: all]
    #[arg(long, value_name = "GLOSS,...", value_delimiter = ',')]
    pub selected_glosses: Vec<String>,
    /// At most N accepted clips of a gloss, first come first kept [default: all]
    #[arg(long, value_name = "N", value_parser = by(constraints::AT_LEAST_ONE))]
    pub max_samples_per_gloss: Option<usize>,
}

impl PlanArgs {
    /// For the planner.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        Knobs {
            min_videos_per_gloss: self.min_videos_per_gloss,
            max_glosses: self.max_glosses,
            selected_glosses: self
                .selected_glosses
                .iter()
                .map(|g| g.trim().to_owned())
                .collect(),
            max_samples_per_gloss: self.max_samples_per_gloss,
        }
    }
}

/// How the job runs; none of these changes a number in an npz file but the decoder and the batch size.
#[derive(Debug, Args)]
#[command(next_help_heading = "How to run")]
pub struct RunArgs {
    /// Clips at a time [default: as many as cores]
    #[arg(long, value_name = "N", value_parser = by(constraints::WORKERS))]
    pub workers: Option<usize>,
    /// Planned clips in a batch file
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = by(constraints::BATCH_SIZE))]
    pub batch_size: usize,
    /// software, hardware (software where none fits) or a GStreamer element; only software is proven exact
    #[arg(long, value_name = "WHICH", default_value = "software", value_parser = by(constraints::DecoderName))]
    pub decoder: DecoderChoice,
    /// Seconds to wait for the decoder in one clip, all waits together
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub clip_timeout: Duration,
    /// How to show progress
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto)]
    pub progress: ProgressKind,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// A bar on a terminal, JSON lines elsewhere.
    Auto,
    /// A bar and a closing table.
    Bar,
    /// One JSON object a line on stdout.
    Json,
}
