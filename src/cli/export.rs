//! `handloom export`: writes the data of an output folder in the layouts of other tools.

use crate::cli::progress::{Console, ProgressKind};
use crate::config::constraints::choice;
use crate::error::{CliError, Exit};
use crate::export::{
    CLIPS_PER_SHARD, ExportConfig, ExportFormat, ExportFrames, ExportOutcome, ExportProgress,
    export,
};
use crate::inference::ShutdownFlag;
use crate::sequence::options::NamedChoice;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;

pub(super) const EXPORT_ABOUT: &str = "\
Write the landmarks of an output folder in the layout of another tool.

  pose        SPLIT/KEY.pose, index.csv                       pose-format 0.2, in pixels
  parquet     data/SPLIT-00000-of-00001.parquet, README.md    Hugging Face datasets: one row a clip
  asl-signs   train_landmark_files/, train.csv                Kaggle's layout: 543 rows a frame
  webdataset  SPLIT-000000.tar                                KEY.landmarks.npy and KEY.json
  npy         SPLIT/KEY.npy, index.csv, label_map.json        f32 [T, 42, 3]

What is exported is what the detector found: left hand, then right hand, neither normalised nor
filled; NaN, or confidence 0, where there is no hand. The frames are all kept frames (`handloom
process --keep-frames`) where there are any, otherwise those that the sequences were made of.

OUT is not changed, and DIR lies outside it. DIR also gets README.md, which describes the files,
and last dataset.json with the settings and all hashes: a folder that has it is whole. After an
interruption the same command continues. Equal results give equal bytes. asl-signs numbers at most
32767 frames: clips with more are left out, and dataset.json names them.

Examples:
  handloom export out/ --to parquet --dest hub/             then: load_dataset(\"hub/\")
  handloom export out/ --to pose --dest poses/
  handloom export out/ --to npy --dest arrays/ --from sequences
  handloom export out/ --to webdataset --dest shards/ --clips-per-shard 500";

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Folder with the results of `process` or `camera`
    #[arg(value_name = "OUT")]
    pub results: PathBuf,
    /// The layout
    #[arg(long, value_name = "FORMAT", value_parser = choice::<ExportFormat>())]
    pub to: ExportFormat,
    /// Folder for the files: new or empty, or that of the same export; created when missing
    #[arg(long, value_name = "DIR")]
    pub dest: PathBuf,
    /// Frames that the sequences were made of, or all kept frames [default: frames, where they were kept]
    #[arg(long, value_name = "FRAMES", value_parser = choice::<ExportFrames>())]
    pub from: Option<ExportFrames>,
    /// Clips in one file of parquet and webdataset
    #[arg(long, value_name = "N", default_value_t = CLIPS_PER_SHARD as u64, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub clips_per_shard: u64,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto)]
    pub progress: ProgressKind,
}

impl ExportArgs {
    fn config(&self) -> ExportConfig {
        ExportConfig {
            out: self.results.clone(),
            destination: self.dest.clone(),
            format: self.to,
            frames: self.from,
            clips_per_shard: usize::try_from(self.clips_per_shard).unwrap_or(usize::MAX),
        }
    }
}

/// Exports.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub fn run(args: &ExportArgs) -> Result<Exit, CliError> {
    let config = args.config();
    let mut console = Console::new(args.progress);
    let stop = ShutdownFlag::default();
    let stopping = stop.clone();
    let _signals = super::on_stop(move || stopping.set())?;
    let begun = Instant::now();
    let mut clips = 0;
    let outcome = export(&config, &|| stop.is_set(), &mut |progress| {
        clips = progress.clips;
        report(&mut console, &config, progress);
    })?;
    console.clear();
    let folder = config.destination.display();
    let dest = config.destination.to_string_lossy();
    match outcome {
        ExportOutcome::Finished { files, left_out } => console.report(
            &format!("Exported {} clips to {folder}: {files} files, and dataset.json with their hashes", clips - left_out),
            &json!({"event": "done", "clips": clips - left_out, "left_out": left_out, "files": files, "seconds": begun.elapsed().as_secs_f64(), "dest": dest}),
        ),
        ExportOutcome::WasFinished => console.report(
            &format!("{folder} holds this export already, whole: nothing was left to do"),
            &json!({"event": "was_done", "dest": dest}),
        ),
        ExportOutcome::Stopped => {
            console.report(
                "stopped; the same command continues",
                &json!({"event": "stopped", "dest": dest}),
            );
            return Ok(Exit::Stopped);
        }
    }
    Ok(Exit::Done)
}

fn report(console: &mut Console, config: &ExportConfig, progress: ExportProgress<'_>) {
    let ExportProgress {
        frames,
        file,
        left_out,
        done,
        clips,
    } = progress;
    if let Some((video_id, frames)) = left_out {
        return console.warn(&format!(
            "the clip {video_id:?} has {frames} frames, and asl-signs numbers at most 32767: it is left out, and \
             dataset.json names it; --to npy, pose, parquet or webdataset takes it"
        ));
    }
    if let Some(file) = file {
        if console.is_human() {
            return console.update_bar(done, file);
        }
        return console.report(
            "",
            &json!({"event": "file", "file": file, "done": done, "of": clips}),
        );
    }
    let which = match frames {
        ExportFrames::Sequences => "the frames of its sequences",
        ExportFrames::Kept => "all its kept frames",
    };
    let (format, out) = (config.format.name(), config.out.display());
    let known = match done {
        0 => String::new(),
        done => format!("; {done} were exported before"),
    };
    console.report(
        &format!("{clips} clips of {out} as {format}: {which}{known}"),
        &json!({"event": "export", "format": format, "from": frames.name(), "clips": clips, "done": done}),
    );
    console.start_bar(clips, done);
}
