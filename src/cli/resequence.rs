//! `handloom resequence`: makes other sequences from the kept frames of a finished job.

use super::process::{ConsoleObserver, conclude};
use crate::cli::progress::{Console, ProgressKind};
use crate::config::{Config, FramesConfig, NumbersConfig, RowsConfig};
use crate::error::{CliError, Exit};
use crate::job::{ResequenceConfig, resequence};
use crate::storage::output_dir::OpenMode;
use clap::Args;
use std::path::PathBuf;

pub(super) const RESEQUENCE_ABOUT: &str = "\
Make other sequences from the kept frames of a finished job.

OUT is the output folder of `handloom process --keep-frames`, which has every frame of each clip.
Nothing is decoded and no model runs. --out gets what `handloom process` with the same options
gives, byte for byte: wlasl_landmarks.npz, batches/NNNNN.npz, manifest.jsonl and run.json. The
files of OUT are compared with their hashes in its run.json first. OUT is not changed.

Clips over --max-samples-per-gloss were not read, so their frames are not there: keep frames
without that limit. After an interruption the same command continues.

Examples:
  handloom resequence out/ --out corrected/ --profile corrected
  handloom resequence out/ --out long/ --sequence-length 64 --frame-stride 1
  handloom resequence out/ --out sides/ --slots sides    one option, else the notebook's numbers";

/// Arguments of `resequence`.
#[derive(Debug, Args)]
pub struct ResequenceArgs {
    /// Output folder of a finished job that kept its frames
    #[arg(value_name = "OUT")]
    pub from: PathBuf,
    /// Folder for the new results; created when missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Start over; this also replaces the results of another job in DIR
    #[arg(long)]
    pub fresh: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto)]
    pub progress: ProgressKind,
    /// The profile and the options that takes have too.
    #[command(flatten, next_help_heading = "Which numbers")]
    pub numbers: NumbersConfig,
    /// Which frames of a clip are used.
    #[command(flatten, next_help_heading = "Which numbers")]
    pub frames: FramesConfig,
    /// How long a sequence is.
    #[command(flatten, next_help_heading = "Which numbers")]
    pub rows: RowsConfig,
}

impl ResequenceArgs {
    /// The settings as a config.
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.dataset.path.clone_from(&self.from);
        config.output.path.clone_from(&self.out);
        config.sequence.numbers = self.numbers.clone();
        config.sequence.frames = self.frames.clone();
        config.sequence.hands.rows = self.rows.clone();
        config
    }
}

/// Makes the sequences.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub fn run(args: &ResequenceArgs) -> Result<Exit, CliError> {
    let config = args.config();
    super::check_flags(&config)?;
    let resequence_config = ResequenceConfig {
        from: args.from.clone(),
        out: args.out.clone(),
        profile: config.sequence.numbers.profile,
        shape: config.sequence_spec(),
        min_frames: config.sequence.hands.rows.min_frames,
    };
    let mode = if args.fresh {
        OpenMode::Fresh
    } else {
        OpenMode::Resume
    };
    let mut observer = ConsoleObserver::new(Console::new(args.progress), true);
    let report = resequence(&resequence_config, mode, &mut observer)?;
    observer.finish();
    conclude(&observer, &args.out, &resequence_config.shape, &report)
}
