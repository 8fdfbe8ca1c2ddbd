//! The report about an output folder: which results to trust, which to drop, and why. It is one HTML page without
//! scripts and external resources, or a contact sheet.
//!
//! [`output`] reads the folder; [`figures`], [`totals`], [`doubt`] and [`comparison`] compute statistics; [`page`]
//! writes them as HTML. Of the landmarks only the frames of the most doubtful clips stay in memory.

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

/// File name of the page in the output folder.
pub const PAGE_NAME: &str = "report.html";
/// File name of the contact sheet in the output folder.
pub const SHEET_NAME: &str = "sheet.png";

/// Why a report cannot be made.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "most fields are what their names say")]
pub enum ReportError {
    /// The folder holds no results.
    #[error(
        "{path} is no output folder: it has neither {RUN_NAME} nor batches/; give the folder that `handloom process` or \
         `handloom camera` wrote to, not {FINAL_NAME} or a dataset"
    )]
    NotOutput { path: PathBuf },
    /// The folder holds one or more shards of a job.
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
    /// A batch file that the manifest names does not exist.
    #[error(
        "{path} is missing, but the manifest names it; run the job again: it makes the file again"
    )]
    NoBatch { path: PathBuf },
    /// A row of a batch is not the clip that the manifest names.
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
    /// The machine cannot decode clips, for example because it lacks memory.
    #[error("{0}; without a dataset the report needs no decoder")]
    Machine(#[from] SourceError),
    /// The contact sheet is too large.
    #[error("cannot write the contact sheet: {0}")]
    Image(image::ImageError),
}

/// The advice for a damaged file.
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

/// The data that the page shows.
pub struct ReportData {
    /// The output folder, with the statistics of its clips.
    pub folder: OutputFolder,
    /// Totals over all instances.
    pub totals: Totals,
    /// Numbers of hands by position in the sequence.
    pub positions: HandsByPosition,
    /// The clips to inspect first.
    pub doubtful: MostDoubtful,
    /// For each doubtful clip, the images of its shown frames, as far as they can be read.
    pub images: Vec<Vec<StripImage>>,
    /// Groups of instances whose clips are different files with equal content; `None` without the dataset.
    pub equal_files: Option<Vec<Vec<usize>>>,
    /// The comparison with the other run, if one was given.
    pub comparison: Option<Comparison>,
}

/// Reads the folder `out` and returns its HTML page. `dataset` provides the images of frames. `against` is the folder
/// of another run.
///
/// # Errors
/// Fails when a folder is not an output folder, a file in it is damaged, or the machine cannot decode clips.
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
            // The bones of a clip that cannot be decoded are shown without images.
            Ok(()) | Err(SourceError::Clip(_)) => all.push(found),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(all)
}

/// Groups of instances whose clips are different files with equal content. Only files of equal size are read.
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
