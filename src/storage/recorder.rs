//! Writes the results of one output folder, for the clips of a dataset and the takes of a camera alike: row staged in
//! the ledger → batch file → joined file, manifest and provenance. Kept frames go beside the rows: part of a clip →
//! file of a batch.
//!
//! Each step is durable before the next one relies on it, so power may fail at any instruction. What failed can be
//! repeated.

use super::batches::{self, BatchRow, SealedBatch};
use super::frames_file::frames_path;
use super::ledger::{CLOSED, ClipRecord, Ledger, Message};
use super::manifest::{
    LABEL_MAP_NAME, MANIFEST_NAME, ManifestLine, ManifestPlace, RUN_NAME, write_manifest, write_run,
};
use super::output_dir;
use crate::dataset::class_list::JobClasses;
use crate::messages::payloads::{Batch, ShardName, Timestamp, plan_name};
use crate::messages::topics;
use crate::sequence::Profile;
use crate::storage::StoreError;
use crate::storage::atomic_file::file_sha256;
use serde_json::{Value, json};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(super) mod batch_record;
mod frames;

/// State of the clips and takes that have a row.
const ACCEPTED: &str = "accepted";

/// A ledger that several threads write to.
#[derive(Clone, Debug)]
pub struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    /// Shares `ledger`.
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// Locks the ledger. A panic in another thread leaves it consistent, because its changes are transactions.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the results of one output folder. Its methods fail when the ledger fails.
#[derive(Debug)]
pub struct Recorder {
    out: PathBuf,
    batch_size: usize,
    length: usize,
    ledger: SharedLedger,
    /// The ledger for the messages of batches; `None` for `ledger`.
    outbox: Option<SharedLedger>,
    /// The message in `outbox` whose batch is not marked sealed yet.
    announced: Option<Batch>,
    is_open_ended: bool,
    keeps_frames: bool,
    /// Whether a file about each sealed batch is written, for other attempts at a shard.
    keeps_records: bool,
}

impl Recorder {
    /// A recorder for the output folder `out` with its `ledger`. A batch covers `batch_size` positions, a sequence
    /// has `length` frames.
    pub(crate) fn new(out: &Path, ledger: SharedLedger, batch_size: usize, length: usize) -> Self {
        Self {
            out: out.to_path_buf(),
            batch_size,
            length,
            ledger,
            outbox: None,
            announced: None,
            is_open_ended: false,
            keeps_frames: false,
            keeps_records: false,
        }
    }

    /// Allows for more positions at any time: no batch is the last one, and the rows of a batch stay staged until it
    /// is full.
    pub(crate) fn open_ended(mut self) -> Self {
        self.is_open_ended = true;
        self
    }

    /// From now on, writes the messages of sealed batches to `outbox`.
    pub(crate) fn publish_to(&mut self, outbox: SharedLedger) {
        self.outbox = Some(outbox);
    }

    /// Locks the ledger.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// Number of the batch that holds `position`.
    pub(crate) fn batch_of(&self, position: usize) -> usize {
        position / self.batch_size
    }

    /// Number of batches for `count` positions; the last one may be partly filled.
    pub(crate) fn batches(&self, count: usize) -> usize {
        count.div_ceil(self.batch_size)
    }

    /// The positions of `batch` when there are `count` positions in all.
    pub(crate) fn positions(&self, batch: usize, count: usize) -> Range<usize> {
        let start = (batch * self.batch_size).min(count);
        start..(start + self.batch_size).min(count)
    }

    /// Returns a function that gives the place of the accepted clip at a position. Call it for all accepted
    /// positions, in order.
    pub(crate) fn row_counter(&self) -> impl FnMut(usize) -> ManifestPlace + use<> {
        let batch_size = self.batch_size;
        let mut next = ManifestPlace { batch: 0, row: 0 };
        move |position| {
            let batch = position / batch_size;
            if batch != next.batch {
                next = ManifestPlace { batch, row: 0 };
            }
            let place = next;
            next.row += 1;
            place
        }
    }

    /// Records a clip or take with its row, if it was accepted, and the messages about it: one transaction.
    ///
    /// # Errors
    /// Fails when the ledger cannot be written; nothing is then recorded.
    pub(crate) fn record(
        &self,
        position: usize,
        clip: &ClipRecord,
        row: Option<&BatchRow>,
        messages: &[Message],
        at: &Timestamp,
    ) -> Result<(), StoreError> {
        let row = row.map(|row| batches::row_bytes(row, self.length));
        let row = row.transpose()?;
        self.ledger()
            .record(position, clip, row.as_deref(), messages, at)
    }

    /// Writes the file of `batch` from its staged rows, announces it and marks it sealed. `count` positions are
    /// known.
    ///
    /// With two ledgers, the message is in the outbox before the mark is set: a power cut in between announces the
    /// batch again and never loses its message.
    ///
    /// # Errors
    /// [`StoreError::Lost`] when the ledger has lost clips of the batch. Also fails when the file or a ledger cannot
    /// be written. The batch is then not sealed.
    pub(crate) fn seal<'a>(
        &mut self,
        batch: usize,
        count: usize,
        classes: impl Into<JobClasses<'a>>,
        at: &Timestamp,
    ) -> Result<(), StoreError> {
        let classes = classes.into();
        let range = self.positions(batch, count);
        let job = self.ledger().job()?;
        let rows = self.staged_rows(range.clone())?;
        let frames = self.write_frames(batch, range.clone(), classes.glosses)?;
        let glosses = classes.numbered();
        let mut sealed = batches::write_batch(&self.out, batch, &rows, glosses, self.length)?;
        sealed.frames_sha256 = frames.as_ref().map(|frames| frames.sha256.clone());
        let shard = job.as_ref().and_then(|job| shard_of(&job.settings));
        let event = Batch {
            run: job.map(|job| job.run).unwrap_or_default(),
            batch,
            path: batches::batch_name(batch),
            rows: sealed.rows,
            sha256: sealed.sha256.clone(),
            clips: [range.start, range.end.max(1) - 1],
            last: !self.is_open_ended && range.end == count,
            shard,
        };
        let mut messages = vec![Message::new(topics::BATCH, &event)];
        if let Some(outbox) = &self.outbox {
            // A repeated attempt does not announce it again.
            if self.announced.as_ref() != Some(&event) {
                outbox.lock().post(&messages, at)?;
                self.announced = Some(event);
            }
            messages.clear();
        }
        let stays_staged = self.is_open_ended && range.len() < self.batch_size;
        let unstaged = if stays_staged { 0..0 } else { range };
        self.ledger()
            .seal(batch, unstaged, &sealed, &messages, at)?;
        self.announced = None;
        self.note_sealed(batch, count, &sealed);
        if let Some(frames) = frames {
            self.remove_parts(&frames.parts);
        }
        Ok(())
    }

    /// The staged rows of the accepted clips in `range`, all of which are known.
    fn staged_rows(&self, range: Range<usize>) -> Result<Vec<BatchRow>, StoreError> {
        let ledger = self.ledger();
        // In this order, so that a record that the first read drops is missing in the second.
        let mut staged = ledger.staged(range.clone())?;
        let clips = ledger.clips_in(range.clone())?;
        let (mut rows, mut lost) = (Vec::new(), Vec::new());
        for position in range {
            match (clips.get(&position), staged.remove(&position)) {
                (Some(clip), Some(bytes)) if clip.state == ACCEPTED => {
                    rows.push(batches::row_from_bytes(&bytes)?);
                }
                (Some(clip), _) if clip.state != ACCEPTED => {}
                // A take that was dropped cannot be made again; its place stays empty.
                (None, _) if self.is_open_ended => {}
                _ => lost.push(position),
            }
        }
        if lost.is_empty() {
            return Ok(rows);
        }
        let path = ledger.path().to_path_buf();
        Err(StoreError::Lost {
            path,
            positions: lost,
        })
    }

    /// The damage of `batches`, among `count` positions. Of a batch that is not sealed, the ledger has lost the
    /// numbers or frames of a clip. Of a sealed batch, a file is missing or has changed, or the ledger has lost a
    /// clip.
    pub(crate) fn damage(
        &self,
        batches: &[usize],
        count: usize,
    ) -> Result<Vec<Damage>, StoreError> {
        let ledger = self.ledger();
        let (clips, sealed) = (ledger.clips()?, ledger.sealed()?);
        let staged = ledger.staged_positions()?;
        drop(ledger);
        let mut damage = Vec::new();
        for batch in batches.iter().copied() {
            let range = self.positions(batch, count);
            let accepted = clips.range(range.clone());
            let accepted = accepted.filter(|(_, clip)| clip.state == ACCEPTED);
            if let Some(file) = sealed.get(&batch) {
                let path = batches::batch_path(&self.out, batch);
                if !batches::is_intact(&self.out, batch, &file.sha256) {
                    let reason = format!("{} is missing or was changed", path.display());
                    damage.push(Damage::Batch { batch, reason });
                } else if !self.has_intact_frames(batch, file) {
                    let path = frames_path(&self.out, batch);
                    let reason = format!("{} is missing or was changed", path.display());
                    damage.push(Damage::Batch { batch, reason });
                } else if accepted.count() != file.rows
                    || !range.clone().all(|p| clips.contains_key(&p))
                {
                    let reason = format!("the ledger has lost a clip of {}", path.display());
                    damage.push(Damage::Batch { batch, reason });
                }
            } else {
                let is_lost = |(position, clip): &(&usize, &ClipRecord)| {
                    (clip.state == ACCEPTED && !staged.contains(*position))
                        || (self.keeps_frames && frames::has_frames(clip) && clip.part.is_none())
                };
                let lost = clips.range(range).filter(is_lost);
                damage.extend(lost.map(|(position, _)| Damage::Clip(*position)));
            }
        }
        Ok(damage)
    }

    /// Marks `batch` as not sealed, stages its rows and puts its kept frames into parts again. Returns `false` when
    /// it was not sealed.
    ///
    /// # Errors
    /// [`StoreError::Read`] or [`StoreError::Broken`] when the rows are in its file alone and cannot be read from
    /// there. Also fails when the ledger fails.
    pub(crate) fn unseal(&self, batch: usize, count: usize) -> Result<bool, StoreError> {
        let range = self.positions(batch, count);
        let Some(sealed) = self.ledger().sealed()?.remove(&batch) else {
            return Ok(false);
        };
        let rows = if self.ledger().staged(range.clone())?.len() == sealed.rows {
            Vec::new()
        } else {
            self.rows_of_file(batch, range, &sealed)?
        };
        let parts = self.parts_of_file(batch, &sealed)?;
        self.ledger().unseal(batch, &rows, &parts)?;
        Ok(true)
    }

    /// The rows in the file of `batch`, each with its position.
    fn rows_of_file(
        &self,
        batch: usize,
        range: Range<usize>,
        sealed: &SealedBatch,
    ) -> Result<Vec<(usize, Vec<u8>)>, StoreError> {
        let clips = self.ledger().clips()?;
        let accepted = clips.range(range).filter(|(_, c)| c.state == ACCEPTED);
        let accepted: Vec<usize> = accepted.map(|(position, _)| *position).collect();
        let broken = |reason| StoreError::Broken {
            path: batches::batch_path(&self.out, batch),
            reason,
        };
        if !batches::is_intact(&self.out, batch, &sealed.sha256) {
            return Err(broken("it has changed since it was sealed".to_owned()));
        }
        let rows = batches::read_batch(&self.out, batch)?;
        if rows.len() != accepted.len() {
            let reason = format!("it has {} rows, not {}", rows.len(), accepted.len());
            return Err(broken(reason));
        }
        let rows = accepted.into_iter().zip(&rows);
        rows.map(|(position, row)| Ok((position, batches::row_bytes(row, self.length)?)))
            .collect()
    }

    /// Marks `batch`, a file of which is lost, as not sealed and forgets its accepted clips, which are then read
    /// again. When frames are kept, it forgets all clips.
    pub(crate) fn discard_batch(
        &self,
        batch: usize,
        count: usize,
        messages: &[Message],
        at: &Timestamp,
    ) -> Result<(), StoreError> {
        self.reopen()?;
        let range = self.positions(batch, count);
        let all = self.keeps_frames;
        self.ledger().discard_batch(batch, range, all, messages, at)
    }

    /// Notes that results may change: the joined file is out of date until the next [`Recorder::close`].
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        let mut ledger = self.ledger();
        if ledger.metadata(CLOSED)?.is_some() {
            ledger.set_metadata(CLOSED, None)?;
        }
        Ok(())
    }

    /// Writes manifest, joined file (with the keys of `profile`), label map and provenance from `batches` sealed
    /// batches, and removes files of an earlier job over more clips.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when a batch file or a file of kept frames has changed since it was sealed. Also fails
    /// when a file or the ledger cannot be written.
    pub(crate) fn close<'a>(
        &self,
        batches: usize,
        classes: impl Into<JobClasses<'a>>,
        profile: Profile,
        manifest: &[ManifestLine],
        run: &Value,
    ) -> Result<(), StoreError> {
        let classes = classes.into();
        // From here to the end the files are not those of the last close.
        self.reopen()?;
        let sealed = self.ledger().sealed()?;
        let joined: Vec<usize> = sealed.keys().copied().take(batches).collect();
        for (batch, file) in sealed.iter().take(batches) {
            if !self.has_intact_frames(*batch, file) {
                return Err(frames::frames_changed(&self.out, *batch));
            }
            if !batches::is_intact(&self.out, *batch, &file.sha256) {
                return Err(StoreError::Broken {
                    path: batches::batch_path(&self.out, *batch),
                    reason: "it has changed since it was sealed".to_owned(),
                });
            }
        }
        let manifest_sha256 = write_manifest(&self.out, manifest)?;
        let has_final = manifest.iter().any(|line| line.stored.is_some());
        let mut files = batches::joined_files(
            &self.out,
            if has_final { &joined } else { &[] },
            classes,
            self.length,
            profile,
        )?;
        let label_map_sha256 = files.get(LABEL_MAP_NAME).cloned();
        let mut note = |name: &str, sha256| files.insert(name.to_owned(), sha256);
        note(MANIFEST_NAME, manifest_sha256.clone());
        let mut frames = self.frames_files()?;
        output_dir::prune(&self.out, 0..batches, has_final, frames.keys().cloned())?;
        let mut run = run.clone();
        // A later reader compares the files with these hashes.
        frames.extend(label_map_sha256.map(|sha256| (LABEL_MAP_NAME.to_owned(), sha256)));
        if self.keeps_frames {
            frames.insert(MANIFEST_NAME.to_owned(), manifest_sha256);
        }
        if run["finished"].is_object() {
            run["finished"]["files"] = json!(frames);
        }
        note(RUN_NAME, write_run(&self.out, &run)?);
        self.ledger().set_closed(&files)
    }

    /// Whether the results were closed and their files have not changed since.
    pub(crate) fn is_closed(&self) -> Result<bool, StoreError> {
        let files = self.ledger().closed()?;
        let is_intact = |(name, sha256): (String, String)| {
            file_sha256(&self.out.join(name)).is_ok_and(|found| found == sha256)
        };
        Ok(files.is_some_and(|files| files.into_iter().all(is_intact)))
    }
}

/// The shard in the settings of a job; `None` for a job without shards.
fn shard_of(settings: &Value) -> Option<ShardName> {
    let shard = settings.get("shard")?;
    let number = |key: &str| usize::try_from(shard[key].as_u64()?).ok();
    Some(ShardName {
        index: number("index")?,
        count: number("count")?,
        plan: plan_name(shard["plan_sha256"].as_str()?),
    })
}

/// A loss in the results of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Clips of a sealed batch are lost.
    Batch {
        /// Number of the batch.
        batch: usize,
        /// What is wrong, as text for users.
        reason: String,
    },
    /// The numbers or kept frames of the clip at this position are lost.
    Clip(usize),
}

#[cfg(test)]
mod tests;
