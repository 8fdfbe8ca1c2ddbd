//! The takes of one output folder. A take is in the ledger when [`TakeStore::add`] returns and in a batch file when its
//! batch is full or the session ends. Until then and after it can be discarded.

use crate::messages::payloads::Timestamp;
use crate::recording::capture_settings::CaptureSettings;
use crate::selection::CPU;
use crate::sequence::sign_recorder::Sign;
use crate::storage::batches::BatchRow;
use crate::storage::ledger::{ClipRecord, JobIdentity};
use crate::storage::lock::FolderLock;
use crate::storage::manifest::ManifestLine;
use crate::storage::mirror::Listing;
use crate::storage::output_dir::{self, ClaimOutcome, OpenMode};
use crate::storage::{Ledger, Recorder, SharedLedger, StoreError};
use crate::system::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// State of a take that is in the output.
pub const ACCEPTED: &str = "accepted";
/// State of a take with a hand in too few frames.
pub const TOO_SHORT: &str = "too_short";
/// State of a take that was discarded by hand.
pub const DISCARDED: &str = "discarded";

/// Metadata of the ledger: takes came or went since the last join.
const BEHIND: &str = "behind";

/// What all takes of a session have in common.
#[derive(Clone, Debug)]
pub struct TakeOptions {
    /// First part of the takes' names.
    pub prefix: String,
    /// Who signs; -1 when unknown.
    pub signer_id: i64,
    /// Part of the dataset: `train`, `val` or `test`.
    pub split: String,
    /// Takes in a batch file.
    pub batch_size: usize,
    /// Frames in a sequence.
    pub length: usize,
    /// Takes with a hand in fewer frames are too short.
    pub min_frames: usize,
}

impl TakeOptions {
    /// The part of `settings` that concerns takes.
    #[must_use]
    pub fn of(settings: &CaptureSettings, signer_id: i64, split: &str) -> Self {
        Self {
            prefix: settings.prefix.clone(),
            signer_id,
            split: split.to_owned(),
            batch_size: settings.batch_size,
            length: settings.shape.length,
            min_frames: settings.min_frames,
        }
    }
}

/// A take after it was stored or discarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTake {
    /// Its name.
    pub id: String,
    /// Its label.
    pub gloss: String,
    /// [`ACCEPTED`], [`TOO_SHORT`] or [`DISCARDED`].
    pub state: &'static str,
    /// Why it was not accepted.
    pub reason: Option<String>,
}

/// What the ledger keeps of a take beside its numbers, as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
struct TakeRecord {
    id: String,
    gloss: String,
    split: String,
    signer_id: i64,
    /// For the manifest.
    clip: Value,
}

impl TakeRecord {
    fn of(clip: &ClipRecord) -> Self {
        serde_json::from_str(clip.clip.as_deref().unwrap_or_default()).unwrap_or_default()
    }
}

/// The takes of one output folder.
pub struct TakeStore {
    out: PathBuf,
    options: TakeOptions,
    recorder: Recorder,
    _lock: FolderLock,
    /// Position of the next take.
    next: usize,
    glosses: Vec<Arc<str>>,
    accepted: usize,
    /// Batches whose files must be written: full ones, and those that lost a take.
    due: BTreeSet<usize>,
    /// Takes came or went since the last join; set in the ledger before they do.
    is_behind: bool,
}

impl TakeStore {
    /// Opens `out` for takes made with `settings`, which all takes of a folder share.
    ///
    /// # Errors
    /// When it cannot be written, another process uses it or it holds something else.
    pub fn open(
        out: &Path,
        settings: Value,
        options: TakeOptions,
    ) -> Result<(Self, ClaimOutcome), StoreError> {
        let (lock, mut ledger) = output_dir::open(out, OpenMode::Resume)?;
        // Takes cannot be made again: none is replaced, whatever its settings.
        output_dir::refuse_unknown(out, Some(&ledger))?;
        add_missing_accelerator(&mut ledger, &settings)?;
        let job = JobIdentity {
            settings,
            run: "camera".to_owned(),
        };
        let claim = output_dir::claim(out, &mut ledger, &job, OpenMode::Resume)?;
        let clips = ledger.clips()?;
        let is_behind = ledger.metadata(BEHIND)?.is_some();
        let ledger = SharedLedger::new(ledger);
        let recorder = Recorder::new(out, ledger, options.batch_size, options.length).open_ended();
        let mut store = Self {
            out: out.to_path_buf(),
            options,
            recorder,
            _lock: lock,
            next: clips.last_key_value().map_or(0, |(last, _)| last + 1),
            glosses: Vec::new(),
            accepted: 0,
            due: BTreeSet::new(),
            is_behind,
        };
        for clip in clips.values().filter(|c| c.state == ACCEPTED) {
            store.accepted += 1;
            store.add_gloss(&TakeRecord::of(clip).gloss.into());
        }
        Ok((store, claim))
    }

    /// From now on the message of each sealed batch goes into the outbox of `outbox`. So do those that a previous version
    /// left in the ledger of the takes.
    pub fn publish_to(&mut self, outbox: SharedLedger) {
        let moved = self
            .recorder
            .ledger()
            .move_batch_messages(&outbox, &clock::timestamp());
        if let Err(error) = moved {
            tracing::warn!(%error, "earlier batches of takes are announced by the next session");
        }
        self.recorder.publish_to(outbox);
    }

    /// Takes that are in the output.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted
    }

    /// Stores a sign as the next take. `device` is its camera, `backend` ran the models.
    ///
    /// The take is in the ledger when this returns. [`TakeStore::seal_due`] or [`TakeStore::close`] writes its file. What
    /// failed has changed nothing and can be repeated.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub fn add(
        &mut self,
        sign: &Sign,
        device: &str,
        backend: &str,
    ) -> Result<StoredTake, StoreError> {
        let position = self.next;
        self.set_behind()?;
        // A batch that was closed half full grows.
        self.recorder
            .unseal(self.recorder.batch_of(position), position)?;
        let id = format!("{}-{position:05}", self.options.prefix);
        let sequence = &sign.sequence;
        let (seen, looked) = (sequence.frames_with_hand, sequence.frames.len());
        let min = self.options.min_frames;
        let is_accepted = seen >= min;
        let reason = (!is_accepted)
            .then(|| format!("a hand in {seen} of {looked} frames, {min} are needed"));
        let state = if is_accepted { ACCEPTED } else { TOO_SHORT };
        let record = TakeRecord {
            id: id.clone(),
            gloss: sign.gloss.to_string(),
            split: self.options.split.clone(),
            signer_id: self.options.signer_id,
            clip: describe(sign, device, backend),
        };
        let row = is_accepted.then(|| BatchRow {
            gloss: Arc::clone(&sign.gloss),
            video_id: id.as_str().into(),
            split: record.split.clone(),
            signer_id: record.signer_id,
            features: sequence.features.clone(),
            frames: sequence.frames.clone(),
            frame_times: sign.frame_times.iter().map(Duration::as_secs_f32).collect(),
        });
        let clip = ClipRecord {
            key: id.clone(),
            state: state.to_owned(),
            reason: reason.clone(),
            clip: Some(json!(record).to_string()),
        };
        self.recorder
            .record(position, &clip, row.as_ref(), &[], &clock::timestamp())?;
        self.next += 1;
        if is_accepted {
            self.accepted += 1;
            self.add_gloss(&sign.gloss);
        }
        if self.next.is_multiple_of(self.options.batch_size) {
            self.due.insert(self.recorder.batch_of(position));
        }
        Ok(StoredTake {
            id,
            gloss: record.gloss,
            state,
            reason,
        })
    }

    /// Discards the last take that is in the output; `None` when there is none. Its batch file has it until
    /// [`TakeStore::seal_due`] or [`TakeStore::close`]. What failed has discarded nothing and can be repeated.
    ///
    /// # Errors
    /// When the ledger cannot be changed.
    pub fn undo(&mut self) -> Result<Option<StoredTake>, StoreError> {
        let clips = self.recorder.ledger().clips()?;
        let last = clips.iter().rev().find(|(_, c)| c.state == ACCEPTED);
        let Some((&position, clip)) = last else {
            return Ok(None);
        };
        let batch = self.recorder.batch_of(position);
        self.set_behind()?;
        if self.recorder.unseal(batch, self.next)? {
            self.due.insert(batch);
        }
        let reason = "discarded by hand".to_owned();
        self.recorder
            .ledger()
            .set_state(position, DISCARDED, Some(&reason))?;
        self.accepted -= 1;
        let TakeRecord { id, gloss, .. } = TakeRecord::of(clip);
        Ok(Some(StoredTake {
            id,
            gloss,
            state: DISCARDED,
            reason: Some(reason),
        }))
    }

    /// Whether batch files must be written.
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether takes came or went since the last [`TakeStore::close`], in this process or a previous one.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Writes the files of the batches that are full or lost a take. Can be repeated.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn seal_due(&mut self) -> Result<(), StoreError> {
        while let Some(&batch) = self.due.first() {
            self.seal(batch)?;
        }
        Ok(())
    }

    /// Writes the files of all batches that have none, also of the last one, which keeps growing. Can be repeated.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn seal_all(&mut self) -> Result<(), StoreError> {
        let sealed = self.recorder.ledger().sealed()?;
        for batch in (0..self.recorder.batches(self.next)).filter(|b| !sealed.contains_key(b)) {
            self.seal(batch)?;
        }
        Ok(())
    }

    fn seal(&mut self, batch: usize) -> Result<(), StoreError> {
        let at = clock::timestamp();
        self.recorder.seal(batch, self.next, &self.glosses, &at)?;
        self.due.remove(&batch);
        Ok(())
    }

    /// Writes what a session leaves: the last batch, the joined file, manifest and provenance. The time it takes grows with
    /// the number of takes. Can be repeated; the next session continues.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn close(&mut self, provenance: &Value) -> Result<(), StoreError> {
        self.seal_all()?;
        // Also where nothing came: a power cut before the end of this must be known.
        self.set_behind()?;
        let clips = self.recorder.ledger().clips()?;
        if self.accepted > 0 {
            // A label whose takes were all discarded is none.
            let accepted = clips.values().filter(|c| c.state == ACCEPTED);
            let used: BTreeSet<String> = accepted.map(|c| TakeRecord::of(c).gloss).collect();
            self.glosses.retain(|gloss| used.contains(&**gloss));
        }
        let batches = self.recorder.batches(self.next);
        self.recorder
            .close(batches, &self.glosses, &self.manifest(&clips), provenance)?;
        self.recorder.ledger().set_metadata(BEHIND, None)?;
        self.is_behind = false;
        Ok(())
    }

    fn manifest(&self, clips: &BTreeMap<usize, ClipRecord>) -> Vec<ManifestLine> {
        let mut rows = self.recorder.row_counter();
        let line = |(&position, clip): (&usize, &ClipRecord)| {
            let states = [ACCEPTED, TOO_SHORT, DISCARDED];
            let state = states.into_iter().find(|state| *state == clip.state);
            let record = TakeRecord::of(clip);
            ManifestLine {
                gloss: record.gloss,
                video_id: Some(record.id),
                instance: position,
                state: state.unwrap_or(DISCARDED),
                reason: clip.reason.clone(),
                split: record.split,
                signer_id: record.signer_id,
                clip: Some(record.clip),
                stored: (state == Some(ACCEPTED)).then(|| rows.place(position)),
                ..ManifestLine::default()
            }
        };
        clips.iter().map(line).collect()
    }

    /// What a mirror shall hold. That is not everything while takes are in the ledger alone or not joined.
    ///
    /// # Errors
    /// When the ledger fails or a file cannot be read.
    pub fn files(&self) -> Result<Listing, StoreError> {
        let ledger = self.recorder.ledger();
        let mut listing = output_dir::mirrored(&self.out, &ledger)?;
        let batches = self.recorder.batches(self.next);
        listing.is_all &= ledger.sealed()?.len() == batches && !self.is_behind;
        Ok(listing)
    }

    /// Notes in the ledger that takes come or go, which are not joined yet.
    fn set_behind(&mut self) -> Result<(), StoreError> {
        if !self.is_behind {
            self.recorder.ledger().set_metadata(BEHIND, Some("yes"))?;
            self.is_behind = true;
        }
        Ok(())
    }

    fn add_gloss(&mut self, gloss: &Arc<str>) {
        if !self.glosses.contains(gloss) {
            self.glosses.push(Arc::clone(gloss));
        }
    }
}

/// What the manifest says of a take.
fn describe(sign: &Sign, device: &str, backend: &str) -> Value {
    let sequence = &sign.sequence;
    let millis = |time: &Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    let times: Vec<f64> = sign.frame_times.iter().map(millis).collect();
    let Timestamp {
        ts, clock_synced, ..
    } = clock::timestamp();
    json!({
        "source": "camera",
        "device": device,
        "backend": backend,
        "taken": ts,
        "clock_synced": clock_synced,
        "begin_ms": millis(&sign.begin),
        "end_ms": millis(&sign.end),
        "ended_by": sign.end_reason.name(),
        "seen": sign.seen,
        "declared_frames": sequence.declared_frames,
        "sampled": sequence.frames.len(),
        "with_hand": sequence.frames_with_hand,
        "with_two_hands": sequence.frames.iter().filter(|f| f.hand_count == 2).count(),
        "frame_times_ms": times,
    })
}

/// Adds the accelerator to the settings of takes from versions that had the CPU alone. Takes of the CPU are as good as
/// those of any accelerator that agrees with it, so they get its name; the name of another one they do not get.
fn add_missing_accelerator(ledger: &mut Ledger, settings: &Value) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests;
