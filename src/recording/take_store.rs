//! Where takes are kept: each is in the ledger when its turn is over, in a batch file when that is full or the session
//! ends, and can be discarded until somebody takes the files away.

mod entry;
mod merge;
mod pending_events;

use crate::messages::payloads::Batch;
use crate::messages::topics;
use crate::recording::capture_settings::CaptureSettings;
use crate::recording::take_store::merge::BEHIND;
pub use crate::recording::take_store::pending_events::PendingEvent;
use crate::selection::CPU;
use crate::sequence::sign_recorder::Sign;
use crate::storage::batches;
use crate::storage::batches::BatchRow;
use crate::storage::ledger::{ClipRecord, JobIdentity, Message, SealedBatch, Timestamp};
use crate::storage::lock::FolderLock;
use crate::storage::mirror::Listing;
use crate::storage::output_dir;
use crate::storage::output_dir::{ClaimOutcome, OpenMode};
use crate::storage::{Ledger, StoreError};
use entry::{TakeRecord, describe_take};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A take that is in the output.
pub const ACCEPTED: &str = "accepted";
/// A take with a hand in too few frames.
pub const TOO_SHORT: &str = "too_short";
/// A take that somebody did not want.
pub const DISCARDED: &str = "discarded";

/// What all takes of a session have in common.
#[derive(Clone, Debug)]
pub struct TakeOptions {
    /// First part of the takes' names.
    pub prefix: String,
    /// Who signs.
    pub signer_id: i64,
    /// Part of the dataset.
    pub split: String,
    /// Takes in a batch file.
    pub batch_size: usize,
    /// Frames in a sequence.
    pub length: usize,
    /// Takes with a hand in fewer frames are no takes.
    pub min_frames: usize,
}

impl TakeOptions {
    /// By `recipe`.
    #[must_use]
    pub fn of(recipe: &CaptureSettings, signer_id: i64, split: &str) -> Self {
        Self {
            prefix: recipe.prefix.clone(),
            signer_id,
            split: split.to_owned(),
            batch_size: recipe.batch_size,
            length: recipe.shape.length,
            min_frames: recipe.min_frames,
        }
    }
}

/// What became of a sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTake {
    /// Its name.
    pub id: String,
    /// Its label.
    pub gloss: String,
    /// [`ACCEPTED`], [`TOO_SHORT`] or [`DISCARDED`].
    pub state: &'static str,
    /// Why not accepted.
    pub reason: Option<String>,
}

/// The takes of one output folder.
pub struct TakeStore {
    out: PathBuf,
    common: TakeOptions,
    ledger: Ledger,
    _lock: FolderLock,
    /// Position of the next take.
    next: usize,
    glosses: Vec<Arc<str>>,
    accepted: usize,
    /// Batches whose files are to be made: full ones, and those that a take was taken out of.
    due: BTreeSet<usize>,
    /// Takes came or went since they were joined; noted in the ledger before they do.
    is_behind: bool,
}

impl TakeStore {
    /// Opens `out` for takes made with `settings`, which all takes of a folder must share.
    ///
    /// # Errors
    /// When it cannot be written, another process uses it or it holds something else.
    pub fn open(
        out: &Path,
        settings: Value,
        common: TakeOptions,
    ) -> Result<(Self, ClaimOutcome), StoreError> {
        let (lock, mut ledger) = output_dir::open(out, OpenMode::Resume)?;
        // Takes cannot be made again: none is replaced, whatever its settings.
        output_dir::refuse_unknown(out, Some(&ledger))?;
        complete(&mut ledger, &settings)?;
        let job = JobIdentity {
            settings,
            run: "camera".to_owned(),
        };
        let claim = output_dir::claim(out, &mut ledger, &job, OpenMode::Resume)?;
        let clips = ledger.clips()?;
        let mut store = Self {
            out: out.to_path_buf(),
            common,
            ledger,
            _lock: lock,
            next: clips.last_key_value().map_or(0, |(last, _)| last + 1),
            glosses: Vec::new(),
            accepted: 0,
            due: BTreeSet::new(),
            is_behind: false,
        };
        store.is_behind = store.ledger.metadata(BEHIND)?.is_some();
        for clip in clips.values().filter(|c| c.state == ACCEPTED) {
            store.accepted += 1;
            store.learn(&TakeRecord::of(clip).gloss.into());
        }
        Ok((store, claim))
    }

    /// Takes that are in the output.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Keeps a sign that `device` has seen and `backend` has looked at as the next take. In the ledger
    /// when this returns; its file is made by [`TakeStore::seal_what_is_due`] or [`TakeStore::close`]. What fails has changed nothing
    /// and can be repeated.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn put(
        &mut self,
        sign: &Sign,
        device: &str,
        backend: &str,
    ) -> Result<StoredTake, StoreError> {
        let (position, length) = (self.next, self.common.length);
        self.fall_behind()?;
        // One that was closed half full goes on.
        self.unseal(position / self.common.batch_size)?;
        let id = format!("{}-{position:05}", self.common.prefix);
        let sequence = &sign.sequence;
        let (seen, sampled) = (sequence.frames_with_hand, sequence.frames.len());
        let is_good = seen >= self.common.min_frames;
        let reason = (!is_good).then(|| {
            let min = self.common.min_frames;
            format!("a hand in {seen} of {sampled} frames, {min} are needed")
        });
        let state = if is_good { ACCEPTED } else { TOO_SHORT };
        let entry = TakeRecord {
            id: id.clone(),
            gloss: sign.gloss.to_string(),
            split: self.common.split.clone(),
            signer_id: self.common.signer_id,
            clip: describe_take(sign, device, backend),
        };
        let clip = ClipRecord {
            key: id.clone(),
            state: state.to_owned(),
            reason: reason.clone(),
            clip: Some(entry.to_json().to_string()),
        };
        let row = is_good.then(|| BatchRow {
            gloss: Arc::clone(&sign.gloss),
            video_id: id.as_str().into(),
            split: entry.split.clone(),
            signer_id: entry.signer_id,
            features: sequence.features.clone(),
            frames: sequence.frames.clone(),
            frame_times: sign
                .frame_times
                .iter()
                .map(std::time::Duration::as_secs_f32)
                .collect(),
        });
        let row = row
            .map(|row| batches::row_bytes(&row, length))
            .transpose()?;
        self.ledger
            .record(position, &clip, row.as_deref(), &[], &stamp())?;
        self.next += 1;
        if is_good {
            self.accepted += 1;
            self.learn(&sign.gloss);
        }
        if self.next.is_multiple_of(self.common.batch_size) {
            self.due.insert(position / self.common.batch_size);
        }
        Ok(StoredTake {
            id,
            gloss: sign.gloss.to_string(),
            state,
            reason,
        })
    }

    /// Discards the last take that is in the output; `None` when there is none. Its file goes on to have it until
    /// [`TakeStore::seal_what_is_due`] or [`TakeStore::close`]. What fails has discarded nothing and can be repeated.
    ///
    /// # Errors
    /// When the ledger cannot be changed.
    pub fn undo(&mut self) -> Result<Option<StoredTake>, StoreError> {
        let clips = self.ledger.clips()?;
        let last = clips.iter().rev().find(|(_, c)| c.state == ACCEPTED);
        let Some((&position, clip)) = last else {
            return Ok(None);
        };
        let batch = position / self.common.batch_size;
        self.fall_behind()?;
        if self.unseal(batch)? {
            self.due.insert(batch);
        }
        let reason = "discarded by hand".to_owned();
        self.ledger.revise(position, DISCARDED, Some(&reason))?;
        self.accepted -= 1;
        let entry = TakeRecord::of(clip);
        Ok(Some(StoredTake {
            id: entry.id,
            gloss: entry.gloss,
            state: DISCARDED,
            reason: Some(reason),
        }))
    }

    /// Whether files of batches are due.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether takes came or went since the last [`TakeStore::close`], in this life or an earlier one.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Makes the files of batches that are full, or that a take was taken out of. Safe to repeat.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn seal_what_is_due(&mut self) -> Result<(), StoreError> {
        while let Some(&batch) = self.due.first() {
            self.seal(batch)?;
        }
        Ok(())
    }

    /// Makes the files of all batches that have none, also of the last, which goes on. Safe to repeat.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn seal_all(&mut self) -> Result<(), StoreError> {
        let batches = self.next.div_ceil(self.common.batch_size);
        let sealed = self.ledger.sealed()?;
        for batch in (0..batches).filter(|batch| !sealed.contains_key(batch)) {
            self.seal(batch)?;
        }
        Ok(())
    }

    /// Writes what a session leaves: the last batch, the joined file, manifest and provenance, which takes longer the more
    /// takes there are. Safe to repeat; the next session goes on.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn close(&mut self, provenance: &Value) -> Result<(), StoreError> {
        self.seal_all()?;
        self.join(provenance)
    }

    /// What a mirror shall hold. That is not all there is while takes of a batch that is not full are in the ledger alone,
    /// or takes are not joined.
    ///
    /// # Errors
    /// When the ledger fails or a file cannot be read.
    pub fn files(&self) -> Result<Listing, StoreError> {
        let mut listing = output_dir::mirrored(&self.out, &self.ledger)?;
        let batches = self.next.div_ceil(self.common.batch_size);
        listing.is_all &= self.ledger.sealed()?.len() == batches && !self.is_behind;
        Ok(listing)
    }

    fn learn(&mut self, gloss: &Arc<str>) {
        if !self.glosses.contains(gloss) {
            self.glosses.push(Arc::clone(gloss));
        }
    }

    fn positions(&self, batch: usize) -> Range<usize> {
        let size = self.common.batch_size;
        batch * size..(batch + 1) * size
    }

    fn seal(&mut self, batch: usize) -> Result<(), StoreError> {
        let range = self.positions(batch);
        let staged = self.ledger.staged(range.clone())?;
        let rows = staged
            .iter()
            .map(|bytes| batches::row_from_bytes(bytes))
            .collect::<Result<Vec<BatchRow>, _>>()?;
        let length = self.common.length;
        let file = batches::write_batch(&self.out, batch, &rows, &self.glosses, length)?;
        let sealed = SealedBatch {
            rows: file.rows,
            sha256: file.sha256,
        };
        let news = Batch {
            run: "camera".to_owned(),
            batch,
            path: batches::batch_name(batch),
            rows: sealed.rows,
            sha256: sealed.sha256.clone(),
            clips: [range.start, range.end.min(self.next).max(1) - 1],
            last: false,
        };
        let messages = [Message::new(topics::BATCH, &news)];
        // One that goes on keeps its rows staged: the next take does not stage them all again.
        let is_full = range.end <= self.next;
        let done = if is_full { range } else { 0..0 };
        self.ledger
            .seal(batch, done, &sealed, &messages, &stamp())?;
        self.due.remove(&batch);
        Ok(())
    }

    /// Takes a batch apart that is sealed: its rows go back to the ledger. Whether it was sealed.
    fn unseal(&mut self, batch: usize) -> Result<bool, StoreError> {
        let Some(sealed) = self.ledger.sealed()?.remove(&batch) else {
            return Ok(false);
        };
        if self.ledger.staged_count(self.positions(batch))? == sealed.rows {
            self.ledger.unseal(batch, &[])?;
            return Ok(true);
        }
        let clips = self.ledger.clips()?;
        let accepted = clips
            .range(self.positions(batch))
            .filter(|(_, c)| c.state == ACCEPTED)
            .map(|(position, _)| *position);
        let accepted: Vec<usize> = accepted.collect();
        let rows = batches::read_batch(&self.out, batch)?;
        if rows.len() != accepted.len() {
            return Err(StoreError::Broken {
                path: batches::batch_path(&self.out, batch),
                reason: format!(
                    "{} takes are missing from it",
                    accepted.len().abs_diff(rows.len())
                ),
            });
        }
        let rows = accepted
            .into_iter()
            .zip(&rows)
            .map(|(p, row)| Ok((p, batches::row_bytes(row, self.common.length)?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        self.ledger.unseal(batch, &rows)?;
        Ok(true)
    }
}

/// Takes from before other things than the CPU could run the models are the CPU's: as good as any that agrees with it,
/// and another one's are not.
fn complete(ledger: &mut Ledger, settings: &Value) -> Result<(), StoreError> {
    const KEY: &str = "accelerator";
    let (Some(job), Some(wanted)) = (ledger.job()?, settings.get(KEY)) else {
        return Ok(());
    };
    if job.settings.get(KEY).is_some() || job.settings.get("source") != settings.get("source") {
        return Ok(());
    }
    let with = |value: Value| {
        let mut settings = job.settings.clone();
        settings[KEY] = value;
        settings
    };
    let admitted = with(wanted.clone());
    if wanted.is_string() && admitted == *settings {
        ledger.set_settings(&admitted)
    } else {
        ledger.set_settings(&with(CPU.into()))
    }
}

fn stamp() -> Timestamp {
    crate::job::stamp()
}

#[cfg(test)]
mod tests;
