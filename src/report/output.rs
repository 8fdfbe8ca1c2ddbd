//! Reads an output folder: `run.json`, `manifest.jsonl`, and the batches one after the other.
//!
//! A job that has not finished has no valid manifest yet. Its ledger lists the clips that are done.

use super::ReportError;
use super::figures::FrameFigures;
use crate::storage::StoreError;
use crate::storage::atomic_file::open_plain;
use crate::storage::batches::{BatchRow, batch_path, read_batch};
use crate::storage::ledger::{ClipRecord, Ledger};
use crate::storage::manifest::{MANIFEST_NAME, RUN_NAME};
use crate::storage::output_dir::{MERGED, batch_numbers, shards_in};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Take};
use std::path::{Path, PathBuf};

/// Longest line of a manifest in bytes.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// The state of an accepted instance, as it is written in files.
pub(super) const ACCEPTED: &str = "accepted";

/// The record of one instance of the metadata, or of one take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InstanceRecord {
    /// The label, as spelled in the metadata.
    pub gloss: String,
    /// Names the clip; `None` when the metadata gives no id.
    pub video_id: Option<String>,
    /// Name of the final state.
    pub state: String,
    /// Why it was not accepted.
    pub reason: Option<String>,
    /// `train`, `val` or `test`, as in the metadata.
    pub split: String,
    /// Number of the signer; -1 when unknown.
    pub signer_id: i64,
    /// First frame of the sign, as in the metadata.
    pub frame_start: Option<i64>,
    /// Last frame of the sign, as in the metadata.
    pub frame_end: Option<i64>,
    /// Position among the processed instances; `None` for a take.
    pub position: Option<usize>,
    /// The values that were read from its clip.
    pub clip: ClipNumbers,
    /// The row that holds its sequence.
    pub stored: Option<StoredAt>,
    /// Statistics of its row in a batch file; `None` until the row is read.
    #[serde(skip)]
    pub frames: Option<FrameFigures>,
    /// The first 8 bytes of a hash of its landmarks: equal for equal sequences. `None` until its row is read, and
    /// without a hand.
    #[serde(skip)]
    pub content: Option<i64>,
}

/// The manifest's values for a clip that was read. Each key may be missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClipNumbers {
    /// Number of frames of the clip, as its file declares.
    pub declared_frames: Option<u64>,
    /// `approximate` when pixels are not proven equal to the notebook's.
    #[serde(rename = "colour")]
    pub color: Option<String>,
    /// Why decoding stopped before the end of the file.
    pub stopped_early: Option<String>,
    /// Number of frames of the sign. Versions before sequence options do not record this and the following fields.
    pub in_range: Option<u64>,
    /// Number of frames of the sign that the sequence does not cover.
    pub truncated: Option<u64>,
    /// Number of rows with a filled hand.
    pub filled: Option<usize>,
    /// Number of steps between two frames that both have two hands.
    pub two_hand_pairs: Option<usize>,
    /// Number of these steps in which the hands change slots of the sequence.
    pub slot_swaps: Option<usize>,
    /// Width of the image in pixels.
    pub width: Option<usize>,
    /// Height of the image in pixels.
    pub height: Option<usize>,
    /// Frames per second.
    pub fps: Option<f64>,
}

/// A row of a batch file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct StoredAt {
    /// Number of the batch file.
    pub batch: usize,
    /// Index of the row in the batch file.
    pub row: usize,
}

impl InstanceRecord {
    /// Whether its sequence is in the output.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.state == ACCEPTED
    }

    /// The name of its clip; `-` when the metadata gives none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.video_id.as_deref().unwrap_or("-")
    }
}

/// The contents of an output folder.
#[derive(Debug)]
pub struct OutputFolder {
    /// Path of the folder.
    pub path: PathBuf,
    /// The contents of `run.json`; null when there is none.
    pub run: Value,
    /// Whether the job has finished.
    pub is_finished: bool,
    /// All instances of a finished job; the finished clips of an unfinished job.
    pub instances: Vec<InstanceRecord>,
    /// Numbers of the batch files.
    pub batches: BTreeSet<usize>,
}

impl OutputFolder {
    /// Opens the folder at `path` and reads its manifest, or the ledger of an unfinished job.
    ///
    /// # Errors
    /// Fails when the folder is not an output folder, or a file in it cannot be read or is damaged.
    pub fn open(path: &Path) -> Result<Self, ReportError> {
        let batches = batch_numbers(path)?;
        let run = read_run(path)?;
        let has_none = run.is_null() && batches.is_empty();
        if let Some(shards) = shards_in(path).filter(|shards| has_none || shards != path) {
            let path = path.to_path_buf();
            return Err(ReportError::Shards { path, shards });
        }
        if has_none {
            return Err(ReportError::NotOutput {
                path: path.to_path_buf(),
            });
        }
        let manifest = path.join(MANIFEST_NAME);
        let is_finished = !run["finished"].is_null() && manifest.exists();
        let instances = if is_finished {
            read_manifest(&manifest)?
        } else {
            read_ledger(path, &run)?
        };
        Ok(Self {
            path: path.to_path_buf(),
            run,
            is_finished,
            instances,
            batches,
        })
    }

    /// The missing shards of a partial merge; empty for other results.
    #[must_use]
    pub fn missing_shards(&self) -> Vec<&str> {
        let missing = self.run[MERGED]["missing"].as_array();
        let missing = missing.into_iter().flatten();
        missing.filter_map(Value::as_str).collect()
    }

    /// Reads the batches one by one. Fills the `frames` and `content` of each accepted instance, then calls `visit`
    /// with the row and its instance.
    ///
    /// # Errors
    /// Fails when a batch cannot be read, or is not the one that the manifest names.
    pub fn read_rows(
        &mut self,
        mut visit: impl FnMut(&BatchRow, &InstanceRecord),
    ) -> Result<(), ReportError> {
        let stored = self.instances.iter().zip(0..);
        let stored: HashMap<StoredAt, usize> = stored
            .filter_map(|(record, n)| Some((record.stored?, n)))
            .collect();
        let mut left: BTreeSet<(usize, usize)> =
            stored.keys().map(|at| (at.batch, at.row)).collect();
        for &batch in &self.batches {
            let rows = read_batch(&self.path, batch)?;
            for (row, values) in rows.iter().enumerate() {
                let record = match stored.get(&StoredAt { batch, row }) {
                    Some(n) => &mut self.instances[*n],
                    // The job has not finished, and its ledger is lost or behind.
                    None if !self.is_finished => {
                        self.instances.push(of_row(values));
                        let last = self.instances.len() - 1;
                        &mut self.instances[last]
                    }
                    None => return Err(mismatch(&self.path, batch, row, values)),
                };
                if record.gloss != *values.gloss || record.id() != &*values.video_id {
                    return Err(mismatch(&self.path, batch, row, values));
                }
                left.remove(&(batch, row));
                let mut frames = FrameFigures::of(&values.frames);
                if let (Some(pairs), Some(swaps)) =
                    (record.clip.two_hand_pairs, record.clip.slot_swaps)
                {
                    // Batches hold hands in the order of detection. These numbers count swaps in the slots of the
                    // sequence.
                    (frames.pairs, frames.swaps) = (pairs, swaps);
                }
                record.frames = Some(frames);
                record.content = content(values);
                visit(values, record);
            }
        }
        match left.first() {
            Some((batch, _)) if self.is_finished => Err(ReportError::NoBatch {
                path: batch_path(&self.path, *batch),
            }),
            _ => Ok(()),
        }
    }
}

fn mismatch(out: &Path, batch: usize, row: usize, values: &BatchRow) -> ReportError {
    ReportError::Mismatch {
        path: batch_path(out, batch),
        row,
        video_id: values.video_id.to_string(),
    }
}

/// The contents of `run.json`; null when there is none.
fn read_run(out: &Path) -> Result<Value, ReportError> {
    let path = out.join(RUN_NAME);
    if !path.exists() {
        return Ok(Value::Null);
    }
    let file = open_plain(&path).map_err(StoreError::read(&path))?;
    let run = serde_json::from_reader(BufReader::new(file));
    run.map_err(|error| ReportError::BadRun { path, error })
}

fn read_manifest(path: &Path) -> Result<Vec<InstanceRecord>, ReportError> {
    let file = open_plain(path).map_err(StoreError::read(path))?;
    let mut lines: Take<BufReader<_>> = BufReader::new(file).take(0);
    let mut records = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        lines.set_limit(LINE_BYTES_MAX);
        if lines
            .read_until(b'\n', &mut line)
            .map_err(StoreError::read(path))?
            == 0
        {
            return Ok(records);
        }
        let record = serde_json::from_slice(&line).map_err(|error| ReportError::BadManifest {
            path: path.to_path_buf(),
            line: records.len() + 1,
            error,
        })?;
        records.push(record);
    }
}

/// The finished clips of the ledger; empty when there is no ledger.
fn read_ledger(out: &Path, run: &Value) -> Result<Vec<InstanceRecord>, ReportError> {
    let Some(ledger) = Ledger::open_read_only(out)? else {
        return Ok(Vec::new());
    };
    let batch_size = run["settings"]["batch_size"].as_u64();
    let batch_size = batch_size.and_then(|size| usize::try_from(size).ok());
    let mut rows: BTreeMap<usize, usize> = BTreeMap::new();
    let clips = ledger.clips()?.into_iter();
    let record = |(position, clip): (usize, ClipRecord)| {
        let mut record = of_clip(&clip);
        if let (true, Some(size @ 1..)) = (record.is_accepted(), batch_size) {
            let batch = position / size;
            let row = rows.entry(batch).or_default();
            record.stored = Some(StoredAt { batch, row: *row });
            *row += 1;
        }
        record
    };
    Ok(clips.map(record).collect())
}

/// The record of a ledger row. The key of a clip is a JSON list; a take's gloss is in the `clip` column.
fn of_clip(clip: &ClipRecord) -> InstanceRecord {
    type Key = (
        String,
        Option<String>,
        u64,
        Option<i64>,
        Option<i64>,
        String,
        i64,
    );
    let numbers = clip.clip.as_deref().unwrap_or("null");
    let key = serde_json::from_str::<Key>(&clip.key);
    let mut record = if let Ok((gloss, video_id, _, frame_start, frame_end, split, signer_id)) = key
    {
        InstanceRecord {
            gloss,
            video_id,
            frame_start,
            frame_end,
            split,
            signer_id,
            clip: serde_json::from_str(numbers).unwrap_or_default(),
            ..InstanceRecord::default()
        }
    } else {
        let take = serde_json::from_str::<InstanceRecord>(numbers).unwrap_or_default();
        InstanceRecord {
            video_id: Some(clip.key.clone()),
            ..take
        }
    };
    record.state.clone_from(&clip.state);
    record.reason.clone_from(&clip.reason);
    record
}

fn of_row(row: &BatchRow) -> InstanceRecord {
    InstanceRecord {
        gloss: row.gloss.to_string(),
        video_id: Some(row.video_id.to_string()),
        state: ACCEPTED.to_owned(),
        split: row.split.clone(),
        signer_id: row.signer_id,
        ..InstanceRecord::default()
    }
}

/// The first 8 bytes of a hash of the clip's hands and landmarks; `None` when no frame has a hand.
fn content(row: &BatchRow) -> Option<i64> {
    let mut hasher = crate::digest::Hasher::default();
    let mut has_hand = false;
    for frame in &row.frames {
        hasher.update(&frame.handedness.map(i8::cast_unsigned));
        has_hand |= frame.hand_count > 0;
        for value in frame.landmarks.as_flattened().as_flattened() {
            hasher.update(&value.to_le_bytes());
        }
    }
    has_hand.then(|| hasher.first_8_bytes())
}
