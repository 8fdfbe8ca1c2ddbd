//! Exports the data of an output folder for other tools. Each format has a module: [`pose`], [`parquet`],
//! [`asl_signs`], [`webdataset`] and [`npy`].
//!
//! [`source`] reads the accepted clips and assigns each hand to a side. [`destination`] writes files that are
//! complete or absent and keeps a journal, so that an interrupted export continues. Memory holds one batch or one
//! clip with kept frames.
//!
//! Equal results give equal bytes: files are in the order of the plan, and no file contains a time.

mod asl_signs;
mod card;
mod destination;
mod npy;
mod parquet;
mod pose;
mod source;
mod webdataset;

use crate::error::{CliError, Exit};
use crate::report::ReportError;
use crate::sequence::options::NamedChoice;
use crate::storage::StoreError;
use crate::storage::atomic_file::HashingWriter;
use crate::storage::manifest::LABEL_MAP_NAME;
use crate::storage::output_dir::overlap;
use destination::{Destination, LeftOutClip};
use serde_json::{Value, json};
use source::{ClipHands, ExportClip, ExportSource};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

/// Default number of clips per file, for formats that have several clips in a file.
pub const CLIPS_PER_SHARD: usize = 1000;

/// File that describes the export for people.
const CARD_NAME: &str = "README.md";
/// Table of the clips, for formats with one file per clip.
const INDEX_TABLE: &str = "index.csv";
/// Table of the clips in Kaggle's layout.
const TRAIN_TABLE: &str = "train.csv";

/// A layout that other tools read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// One `.pose` file per clip, of pose-format 0.2.
    Pose,
    /// Parquet files in Hugging Face's layout, one row per clip.
    Parquet,
    /// Kaggle's asl-signs: one Parquet file per clip, 543 rows per frame.
    AslSigns,
    /// Tar shards for `webdataset`.
    Webdataset,
    /// One `.npy` file per clip.
    Npy,
}

impl NamedChoice for ExportFormat {
    const NAMED: &'static [(Self, &'static str)] = &[
        (Self::Pose, "pose"),
        (Self::Parquet, "parquet"),
        (Self::AslSigns, "asl-signs"),
        (Self::Webdataset, "webdataset"),
        (Self::Npy, "npy"),
    ];
}

/// Which frames are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFrames {
    /// The frames that the sequences were made of, at most the sequence length.
    Sequences,
    /// All kept frames of each accepted clip.
    Kept,
}

impl NamedChoice for ExportFrames {
    const NAMED: &'static [(Self, &'static str)] =
        &[(Self::Sequences, "sequences"), (Self::Kept, "frames")];
}

/// Everything that defines an export.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// The output folder of a finished job, or one of camera takes.
    pub out: PathBuf,
    /// The folder for the exported files: new, empty, or from the same export.
    pub destination: PathBuf,
    /// The layout of the exported files.
    pub format: ExportFormat,
    /// Which frames are exported; `None` exports kept frames when the job has them, else those of the sequences.
    pub frames: Option<ExportFrames>,
    /// Number of clips per file, for formats that have several clips in a file. At least 1.
    pub clips_per_shard: usize,
}

/// The progress of an export.
#[derive(Clone, Copy, Debug)]
pub struct ExportProgress<'a> {
    /// Which frames are exported.
    pub frames: ExportFrames,
    /// The file that was written last; `None` before the first file.
    pub file: Option<&'a str>,
    /// Video id and number of frames of a clip that was just left out, because the format cannot hold it.
    pub left_out: Option<(&'a str, usize)>,
    /// Number of clips that are written or left out.
    pub done: usize,
    /// Number of all clips.
    pub clips: usize,
}

/// How an export ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportOutcome {
    /// This process has written the last file.
    Finished {
        /// Number of files in the folder, without `dataset.json`.
        files: usize,
        /// Number of clips that are left out, because the format cannot hold them.
        left_out: usize,
    },
    /// An earlier process had finished the export, and its files are unchanged.
    WasFinished,
    /// The export was stopped between two files. The same call continues it.
    Stopped,
}

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "most fields are what their names say")]
pub enum ExportError {
    /// The output folder cannot be read.
    #[error(transparent)]
    Folder(#[from] ReportError),
    /// The job of the output folder has not ended.
    #[error(
        "the job of {path} has not ended; run it again: it resumes, and what is exported is whole"
    )]
    NotFinished { path: PathBuf },
    /// The output folder has no kept frames.
    #[error(
        "the frames of {path} were not kept: export its sequences, or run the job again and keep the frames"
    )]
    NotKept { path: PathBuf },
    /// The output folder has no accepted clip.
    #[error(
        "{path} has no accepted clip, so there is nothing to export; its manifest.jsonl has the reasons"
    )]
    Empty { path: PathBuf },
    /// A file of the output folder is missing or differs from what the job wrote.
    #[error(
        "{path} is missing or has changed since the job wrote it; run the job again: it makes the file again"
    )]
    Changed { path: PathBuf },
    /// `label_map.json` cannot be read.
    #[error("{path} is damaged: {error}; run the job again: it writes the file again")]
    BadLabelMap {
        path: PathBuf,
        error: serde_json::Error,
    },
    /// The destination folder holds something else.
    #[error("{path} holds {holds}; nothing in it is changed: choose another folder, or remove it")]
    Occupied { path: PathBuf, holds: String },
    /// A file of the finished export is missing or has changed.
    #[error(
        "{path} is missing or has changed since it was exported; remove the folder and export again"
    )]
    Damaged { path: PathBuf },
    /// The destination folder is the output folder, or lies in it or around it.
    #[error(
        "{path} is the output folder {out}, or lies in it or around it, and {out} stays unchanged: choose a folder \
         elsewhere"
    )]
    Overlap { path: PathBuf, out: PathBuf },
    /// A file cannot be written. The text of the cause names the fix.
    #[error("{0}, or export to another folder")]
    Write(StoreError),
    /// Writing to an open file failed; becomes [`ExportError::Write`].
    #[error("{0}")]
    File(#[from] io::Error),
}

impl From<StoreError> for ExportError {
    fn from(error: StoreError) -> Self {
        Self::Folder(error.into())
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> Self {
        let exit = match error {
            ExportError::Folder(error) => return error.into(),
            ExportError::NotFinished { .. } | ExportError::NotKept { .. } => Exit::NoInput,
            ExportError::Empty { .. } => Exit::Nothing,
            ExportError::Write(StoreError::Write { .. }) | ExportError::File(_) => Exit::InOut,
            ExportError::Write(_) | ExportError::Occupied { .. } => Exit::CannotCreate,
            ExportError::Changed { .. }
            | ExportError::BadLabelMap { .. }
            | ExportError::Damaged { .. } => Exit::BadData,
            ExportError::Overlap { .. } => Exit::Usage,
        };
        Self::new(exit, error)
    }
}

/// A file of an export, with the indices of its clips in the plan.
struct ExportFile {
    name: String,
    clips: Vec<usize>,
}

/// Exports the results of `config`. `report` is called with the progress. The export stops between two files when
/// `is_stopped` returns true. Files that an earlier process wrote for the same export are kept.
///
/// # Errors
/// Fails when the results are unfinished or cannot be read, or when the folder holds something else or cannot be
/// written.
pub fn export(
    config: &ExportConfig,
    is_stopped: &dyn Fn() -> bool,
    report: &mut dyn FnMut(ExportProgress<'_>),
) -> Result<ExportOutcome, ExportError> {
    let (mut source, clips) = ExportSource::open(&config.out, config.frames)?;
    let (path, out) = (&config.destination, &config.out);
    if overlap(path, out) {
        let (path, out) = (path.clone(), out.clone());
        return Err(ExportError::Overlap { path, out });
    }
    let format = config.format;
    let files = files(config, &clips);
    let names = files.iter().map(|file| file.name.clone());
    let tables = format.tables().map(str::to_owned);
    let names = names.chain(tables).collect();
    let identity = identity(config, &source, &clips);
    let Some(mut destination) = Destination::open(path, identity, names)? else {
        return Ok(ExportOutcome::WasFinished);
    };
    let mut progress = ExportProgress {
        frames: source.frames(),
        file: None,
        left_out: None,
        done: 0,
        clips: clips.len(),
    };
    let (known, missing): (Vec<_>, Vec<_>) =
        (files.iter()).partition(|file| destination.has(&file.name));
    progress.done = known.iter().map(|file| file.clips.len()).sum();
    report(progress);
    let mut left_out = BTreeMap::new();
    for file in missing {
        if is_stopped() {
            return Ok(ExportOutcome::Stopped);
        }
        progress.done += file.clips.len();
        let n = file.clips[0];
        let mut facts = Vec::new();
        if format.is_sharded() {
            let members = file.clips.iter().map(|n| &clips[*n]);
            let hands = members.map(|clip| Ok((clip, source.hands(clip)?)));
            destination.write(&file.name, |to| match format {
                ExportFormat::Parquet => parquet::write(to, hands),
                _ => webdataset::write(to, hands),
            })?;
        } else {
            let hands = source.hands(&clips[n])?;
            if format == ExportFormat::AslSigns && !asl_signs::can_hold(&hands) {
                let clip = LeftOutClip {
                    file: file.name.clone(),
                    video_id: clips[n].video_id.clone(),
                    frames: hands.frames.len(),
                };
                report(ExportProgress {
                    left_out: Some((&clip.video_id, clip.frames)),
                    ..progress
                });
                left_out.insert(n, clip);
                continue;
            }
            destination.write(&file.name, |to| Ok(write_clip(format, to, &hands)?))?;
            facts = npy::facts(&hands);
        }
        destination.record(&file.name, facts)?;
        report(ExportProgress {
            file: Some(&file.name),
            ..progress
        });
    }
    let labels = source.labels();
    let classes = labels.iter().map(|(gloss, id)| (gloss.clone(), json!(id)));
    let classes = Value::Object(classes.collect());
    destination.write(format.label_map(), |to| write_json(to, &classes))?;
    let exported = clips.iter().enumerate();
    let exported = exported.filter(|(n, _)| !left_out.contains_key(n));
    if format == ExportFormat::AslSigns {
        let rows = exported.clone();
        destination.write(TRAIN_TABLE, |to| asl_signs::write_table(to, rows))?;
    } else if !format.is_sharded() {
        let rows = files
            .iter()
            .map(|file| (&*file.name, &clips[file.clips[0]]));
        let table = npy::index(rows, |name| destination.facts(name))?;
        destination.write(INDEX_TABLE, |to| Ok(to.write_all(&table)?))?;
    }
    let exported: Vec<_> = exported.map(|(_, clip)| clip.clone()).collect();
    let card = card::card(format, source.frames(), &exported, labels.len());
    destination.write(CARD_NAME, |to| Ok(to.write_all(card.as_bytes())?))?;
    let left_out: Vec<_> = left_out.into_values().collect();
    let files = destination.finish(&left_out)?;
    Ok(ExportOutcome::Finished {
        files,
        left_out: left_out.len(),
    })
}

/// Writes the file of one clip.
fn write_clip(
    format: ExportFormat,
    to: &mut HashingWriter<'_>,
    hands: &ClipHands,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    match format {
        ExportFormat::AslSigns => return asl_signs::write(to, hands),
        ExportFormat::Pose => pose::write(&mut bytes, hands)?,
        _ => npy::write(&mut bytes, hands)?,
    }
    to.write_all(&bytes)
}

impl ExportFormat {
    /// Whether a file of this format has several clips.
    fn is_sharded(self) -> bool {
        matches!(self, Self::Parquet | Self::Webdataset)
    }

    /// The name of the file that maps each label to its number.
    fn label_map(self) -> &'static str {
        match self {
            Self::AslSigns => "sign_to_prediction_index_map.json",
            _ => LABEL_MAP_NAME,
        }
    }

    /// The names of the files without clips.
    fn tables(self) -> impl Iterator<Item = &'static str> {
        let table = match self {
            Self::AslSigns => Some(TRAIN_TABLE),
            _ => (!self.is_sharded()).then_some(INDEX_TABLE),
        };
        [self.label_map(), CARD_NAME].into_iter().chain(table)
    }

    /// The file name of `clip`, which is the clip `n` of the plan.
    fn clip_file(self, n: usize, clip: &ExportClip) -> String {
        let ExportClip { split, key, .. } = clip;
        match self {
            Self::AslSigns => asl_signs::path(n, clip),
            Self::Pose => format!("{split}/{key}.pose"),
            _ => format!("{split}/{key}.npy"),
        }
    }

    /// The file name of shard `n` of `count`.
    fn shard(self, split: &str, n: usize, count: usize) -> String {
        match self {
            Self::Webdataset => format!("{split}-{n:06}.tar"),
            _ => format!("data/{split}-{n:05}-of-{count:05}.parquet"),
        }
    }
}

/// The files with clips, in the order in which they are written.
fn files(config: &ExportConfig, clips: &[ExportClip]) -> Vec<ExportFile> {
    if !config.format.is_sharded() {
        let file = |(n, clip)| ExportFile {
            name: config.format.clip_file(n, clip),
            clips: vec![n],
        };
        return clips.iter().enumerate().map(file).collect();
    }
    let mut files = Vec::new();
    for (split, members) in by_split(clips) {
        let shards = members.chunks(config.clips_per_shard);
        let count = shards.len();
        files.extend(shards.enumerate().map(|(n, members)| ExportFile {
            name: config.format.shard(split, n, count),
            clips: members.to_vec(),
        }));
    }
    files
}

/// Indices of the clips of each split.
fn by_split(clips: &[ExportClip]) -> BTreeMap<&str, Vec<usize>> {
    let mut splits: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (n, clip) in clips.iter().enumerate() {
        splits.entry(&clip.split).or_default().push(n);
    }
    splits
}

/// All values that the bytes of an export depend on.
fn identity(config: &ExportConfig, source: &ExportSource, clips: &[ExportClip]) -> Value {
    let splits = by_split(clips).into_iter();
    let splits: BTreeMap<_, _> = splits.map(|(split, clips)| (split, clips.len())).collect();
    let shard = config.format.is_sharded().then_some(config.clips_per_shard);
    json!({
        "handloom": env!("CARGO_PKG_VERSION"),
        "format": config.format.name(),
        "from": source.frames().name(),
        "clips_per_shard": shard,
        "clips": clips.len(),
        "splits": splits,
        "classes": source.labels().len(),
        "settings": source.run()["settings"],
        "source": source.hashes(),
    })
}

fn write_json(to: &mut HashingWriter<'_>, value: &Value) -> Result<(), ExportError> {
    serde_json::to_writer_pretty(&mut *to, value).map_err(io::Error::from)?;
    Ok(to.write_all(b"\n")?)
}
