//! The report about an output folder: what to trust, what to drop, and why. One HTML page without scripts and without
//! anything from outside, or a contact sheet.
//!
//! [`output`] reads, [`figures`], [`totals`], [`doubt`] and [`comparison`] count, [`page`] writes HTML from what they
//! found. Of the landmarks only the frames of the most doubtful clips stay in memory.

pub mod comparison;
pub mod doubt;
pub mod figures;
pub mod images;
pub mod output;
pub mod page;
mod sections;
pub mod sheet;
mod svg;
pub mod totals;

use crate::error::{CliError, Exit};
use crate::frame::SourceError;
use crate::storage::StoreError;
use crate::storage::atomic_file::file_sha256;
use crate::storage::batches::FINAL_NAME;
use crate::storage::manifest::RUN_NAME;
use crate::video::dataset_source::DatasetSource;
use crate::video::turns::DecodeTurns;
use comparison::Comparison;
use doubt::MostDoubtful;
use images::{FrameReader, StripImage};
use output::{InstanceRecord, OutputFolder};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use totals::{HandsByPosition, Totals, groups};

/// Name of the page in the output folder.
pub const PAGE_NAME: &str = "report.html";
/// Name of the contact sheet in the output folder.
pub const SHEET_NAME: &str = "sheet.png";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "most fields are what their names say")]
pub enum ReportError {
    /// The folder holds no results.
    #[error(
        "{path} is no output folder: it has neither {RUN_NAME} nor batches/; give the folder that `handloom process` or \
         `handloom camera` wrote to, not {FINAL_NAME} or a dataset"
    )]
    NotOutput { path: PathBuf },
    /// The folder holds a shard, or shards, of a job.
    #[error(
        "{path} holds shards of a job, or is one of them, and its results are only whole together: `handloom merge MERGED \
         {shards}` joins them, then give MERGED"
    )]
    Shards { path: PathBuf, shards: PathBuf },
    /// `run.json` cannot be read.
    #[error("{path} is damaged: {error}; run the job again: it writes the file again")]
    BadRun {
        path: PathBuf,
        error: serde_json::Error,
    },
    /// A line of the manifest cannot be read.
    #[error(
        "{path} is damaged in line {line}: {error}; run the job again: it writes the file again"
    )]
    BadManifest {
        path: PathBuf,
        line: usize,
        error: serde_json::Error,
    },
    /// A batch that the manifest names is not there.
    #[error(
        "{path} is missing, but the manifest names it; run the job again: it makes the file again"
    )]
    NoBatch { path: PathBuf },
    /// A row is not the one that the manifest names.
    #[error(
        "{path} has the clip {video_id:?} in row {row}, and the manifest has another one there: the files are not of one \
         job; run the job again, or give a folder whose files belong together"
    )]
    Mismatch {
        path: PathBuf,
        row: usize,
        video_id: String,
    },
    /// A file cannot be read.
    #[error("{store}{}", fix_of(store))]
    Store {
        #[from]
        store: StoreError,
    },
    /// The machine cannot decode clips.
    #[error("{0}; without a dataset the report needs no decoder")]
    Machine(#[from] SourceError),
    /// The contact sheet is too large.
    #[error("cannot write the contact sheet: {0}")]
    Image(image::ImageError),
}

/// How a damaged file is made again.
fn fix_of(error: &StoreError) -> &'static str {
    match error {
        StoreError::Broken { .. } => {
            "; run the job again: it finds the damaged batch and reads its clips again"
        }
        _ => "",
    }
}

impl From<ReportError> for CliError {
    fn from(error: ReportError) -> Self {
        let exit = match error {
            ReportError::Store { store } if fix_of(&store).is_empty() => return store.into(),
            ReportError::NotOutput { .. }
            | ReportError::Shards { .. }
            | ReportError::NoBatch { .. } => Exit::NoInput,
            ReportError::Machine(_) | ReportError::Image(_) => Exit::InOut,
            _ => Exit::BadData,
        };
        Self::new(exit, error)
    }
}

/// Everything that the page shows.
pub struct ReportData {
    /// The output folder, with the figures of its clips.
    pub folder: OutputFolder,
    /// Over all instances.
    pub totals: Totals,
    /// Hands found by position in the sequence.
    pub positions: HandsByPosition,
    /// The clips to inspect first.
    pub doubtful: MostDoubtful,
    /// For each of them, the images of the frames that are shown, as far as they can be read.
    pub images: Vec<Vec<StripImage>>,
    /// Instances whose clips are different files with equal content, in groups; `None` without the dataset.
    pub equal_files: Option<Vec<Vec<usize>>>,
    /// With the other run, if one was given.
    pub comparison: Option<Comparison>,
}

/// Reads the folder `out` and makes its page. Real frames come from `dataset`. `against` is the folder of another run.
///
/// # Errors
/// When a folder is no output folder or a file in it is damaged.
pub fn report(
    out: &Path,
    dataset: Option<&DatasetSource>,
    against: Option<&Path>,
) -> Result<String, ReportError> {
    let (folder, positions, doubtful) = read(out)?;
    let totals = Totals::of(&folder.instances, positions.0.len());
    let comparison = against.map(|other| {
        let (other, positions, _) = read(other)?;
        let before = Totals::of(&other.instances, positions.0.len());
        Ok::<_, ReportError>(Comparison::of(&other, before, &folder, &totals))
    });
    let data = ReportData {
        images: strip_images(&doubtful, dataset)?,
        equal_files: dataset.map(|dataset| equal_files(&folder.instances, dataset)),
        comparison: comparison.transpose()?,
        folder,
        totals,
        positions,
        doubtful,
    };
    Ok(page::page(&data))
}

/// Reads a folder once, batch by batch.
fn read(out: &Path) -> Result<(OutputFolder, HandsByPosition, MostDoubtful), ReportError> {
    let mut folder = OutputFolder::open(out)?;
    let mut positions = HandsByPosition::default();
    let mut doubtful = MostDoubtful::default();
    folder.read_rows(|row, record| {
        positions.add(&row.frames);
        doubtful.add(record, &row.frames, row.features.nrows());
    })?;
    Ok((folder, positions, doubtful))
}

/// The images below the bones of the doubtful clips.
fn strip_images(
    doubtful: &MostDoubtful,
    dataset: Option<&DatasetSource>,
) -> Result<Vec<Vec<StripImage>>, ReportError> {
    let Some(dataset) = dataset else {
        return Ok(Vec::new());
    };
    let turns = DecodeTurns::default();
    let mut reader = FrameReader::new(dataset, &turns)?;
    let mut all = Vec::new();
    for clip in doubtful.clips() {
        let mut found = Vec::new();
        let indices = clip.frames.iter().map(|(_, frame)| frame.frame_index);
        let read = reader.frames(clip.record.id(), indices, |frame| {
            found.extend(images::strip_image(frame));
        });
        match read {
            // Its bones are shown without images.
            Ok(()) | Err(SourceError::Clip(_)) => all.push(found),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// The instances whose clips are different files with equal content. Only files of equal size are read.
fn equal_files(instances: &[InstanceRecord], dataset: &DatasetSource) -> Vec<Vec<usize>> {
    let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (n, record) in instances.iter().enumerate() {
        if let Some(id) = record.video_id.as_deref().filter(|id| dataset.exists(id)) {
            by_id.entry(id).or_default().push(n);
        }
    }
    let mut by_size: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    for id in by_id.keys() {
        by_size.entry(dataset.clip_bytes(id)).or_default().push(id);
    }
    let mut by_content: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for id in by_size.values().filter(|ids| ids.len() > 1).flatten() {
        let hash = dataset
            .clip(id)
            .ok()
            .and_then(|file| file_sha256(file.path()).ok());
        if let Some(hash) = hash {
            by_content.entry(hash).or_default().insert(id);
        }
    }
    let equal = by_content.into_iter().filter(|(_, ids)| ids.len() > 1);
    let members = equal.map(|(hash, ids)| {
        let mut members: Vec<usize> = ids.iter().flat_map(|id| &by_id[id]).copied().collect();
        members.sort_unstable();
        (hash, members)
    });
    groups(members.collect())
}
