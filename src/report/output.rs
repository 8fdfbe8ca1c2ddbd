//! Reads an output folder: `run.json`, `manifest.jsonl`, and the batches one after the other.
//!
//! A job that has not finished has no valid manifest yet: its ledger knows the clips that are done.

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

/// The name of an accepted instance's state.
pub(super) const ACCEPTED: &str = "accepted";

/// What is known of one instance of the metadata, or of one take.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InstanceRecord {
    /// The label, as spelled.
    pub gloss: String,
    /// `None` when the metadata gives none.
    pub video_id: Option<String>,
    /// Final state.
    pub state: String,
    /// Why it was not accepted.
    pub reason: Option<String>,
    /// `train`, `val` or `test`, as in the metadata.
    pub split: String,
    /// Who signs; -1 when unknown.
    pub signer_id: i64,
    /// First frame of the sign, as in the metadata.
    pub frame_start: Option<i64>,
    /// Last frame of the sign, as in the metadata.
    pub frame_end: Option<i64>,
    /// Its position among the processed instances; `None` for a take.
    pub position: Option<usize>,
    /// What was read of its clip.
    pub clip: ClipNumbers,
    /// Where its sequence is.
    pub stored: Option<StoredAt>,
    /// From its row of a batch.
    #[serde(skip)]
    pub frames: Option<FrameFigures>,
    /// The first bytes of a hash of its landmarks; equal for equal sequences.
    #[serde(skip)]
    pub content: Option<i64>,
}

/// What the manifest says of a clip that was read. Each key may be missing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ClipNumbers {
    /// Frames of the clip.
    pub declared_frames: Option<u64>,
    /// `approximate` where pixels are not proven equal to the notebook's.
    #[serde(rename = "colour")]
    pub color: Option<String>,
    /// Why decoding stopped before the end of the file.
    pub stopped_early: Option<String>,
    /// Frames of the sign. This and what follows is recorded since sequences have options.
    pub in_range: Option<u64>,
    /// Frames of the sign that the sequence does not cover.
    pub truncated: Option<u64>,
    /// Rows with a hand that was filled.
    pub filled: Option<usize>,
    /// Steps between two frames that both have two hands.
    pub two_hand_pairs: Option<usize>,
    /// Of these, steps in which the hands change slots of the sequence.
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
    /// Row in it.
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

/// An output folder.
#[derive(Debug)]
pub struct OutputFolder {
    /// Where it is.
    pub path: PathBuf,
    /// `run.json`; null when there is none.
    pub run: Value,
    /// Whether its job has come to its end.
    pub is_finished: bool,
    /// All instances of a finished job; the clips that are done of another.
    pub instances: Vec<InstanceRecord>,
    /// Numbers of its batch files.
    pub batches: BTreeSet<usize>,
}

impl OutputFolder {
    /// Opens the folder at `path` and reads its manifest, or its ledger when the job has not finished.
    ///
    /// # Errors
    /// When it is no output folder, or a file of it cannot be read or is damaged.
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

    /// Shards that are missing in results that were joined from shards.
    #[must_use]
    pub fn missing_shards(&self) -> Vec<&str> {
        let missing = self.run[MERGED]["missing"].as_array();
        let missing = missing.into_iter().flatten();
        missing.filter_map(Value::as_str).collect()
    }

    /// Reads the batches one after the other. Notes in each accepted instance what its row holds, then calls `visit` with
    /// the row and its instance.
    ///
    /// # Errors
    /// When a batch cannot be read, or is not the one that the manifest names.
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
                    // Landmarks in batches are in the order of detection; these count in the slots of the sequence.
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

/// `run.json`, or null when there is none.
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

/// The clips that are done, from the ledger; none when there is no ledger.
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

/// A row of the ledger. Its key is a list for a clip; what it keeps of a take has gloss and name.
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

/// The first bytes of a hash of what was found in a clip; `None` when that is nothing.
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
