//! The takes of one output folder. A take is in the ledger when [`TakeStore::add`] returns, and in a batch file when its
//! batch is full or the session ends. It can be discarded before and after that.

use crate::messages::payloads::Timestamp;
use crate::recording::capture_settings::CaptureSettings;
use crate::selection::with_precision;
use crate::sequence::sign_recorder::Sign;
use crate::storage::batches::{self, BatchRow};
use crate::storage::ledger::{ClipRecord, JobIdentity};
use crate::storage::lock::FolderLock;
use crate::storage::manifest::ManifestLine;
use crate::storage::mirror::Listing;
use crate::storage::output_dir::{self, OpenMode};
use crate::storage::{Recorder, SharedLedger, StoreError};
use crate::system::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// State of a take that is in the output.
pub const ACCEPTED: &str = "accepted";
/// State of a take with a hand in too few frames.
pub const TOO_SHORT: &str = "too_short";
/// State of a take that was discarded by hand.
pub const DISCARDED: &str = "discarded";

/// Why a take was discarded whose numbers are lost.
const LOST: &str = "its numbers in the ledger had changed on the disk";

/// Metadata of the ledger: set when takes were added or discarded since the last join.
const BEHIND: &str = "behind";

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
    /// The take's entry in the manifest.
    clip: Value,
}

impl TakeRecord {
    fn of(clip: &ClipRecord) -> Self {
        serde_json::from_str(clip.clip.as_deref().unwrap_or_default()).unwrap_or_default()
    }
}

/// The takes of one output folder.
pub struct TakeStore {
    capture: CaptureSettings,
    signer_id: i64,
    split: String,
    recorder: Recorder,
    _lock: FolderLock,
    /// Position of the next take.
    next: usize,
    glosses: Vec<Arc<str>>,
    accepted: usize,
    /// Batches whose files must be written: full ones, and those that lost a take.
    due: BTreeSet<usize>,
    /// Whether takes were added or discarded since the last join; set in the ledger before they are.
    is_behind: bool,
}

impl TakeStore {
    /// Opens `out` for takes made with `settings`, the value of [`CaptureSettings::settings`], which all takes of a folder
    /// share. `signer_id` is -1 when unknown; `split` is the part of the dataset: `train`, `val` or `test`.
    ///
    /// # Errors
    /// Fails when it cannot be written, another process uses it or it holds something else.
    pub(crate) fn open(
        out: &Path,
        settings: Value,
        capture: &CaptureSettings,
        signer_id: i64,
        split: &str,
    ) -> Result<Self, StoreError> {
        let (lock, mut ledger) = output_dir::open(out, OpenMode::Resume)?;
        // Takes cannot be made again: none is replaced, whatever its settings.
        output_dir::refuse_unknown(out, Some(&ledger))?;
        let job = JobIdentity {
            settings,
            run: "camera".to_owned(),
        };
        output_dir::claim(out, &mut ledger, &job, OpenMode::Resume)?;
        let is_behind = ledger.metadata(BEHIND)?.is_some();
        let ledger = SharedLedger::new(ledger);
        let length = capture.shape.length;
        let recorder = Recorder::new(out, ledger, capture.batch_size, length).open_ended();
        record_again(out, &recorder)?;
        let clips = recorder.ledger().clips()?;
        let mut store = Self {
            capture: capture.clone(),
            signer_id,
            split: split.to_owned(),
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
        Ok(store)
    }

    /// From now on the message of each sealed batch goes into the outbox of `outbox`. The faults of the ledger are
    /// posted there at once.
    ///
    /// # Errors
    /// Fails when `outbox` cannot be written.
    pub(crate) fn publish_to(&mut self, outbox: SharedLedger) -> Result<(), StoreError> {
        let faults = self.recorder.ledger().take_faults();
        outbox.lock().post(&faults, &clock::timestamp())?;
        self.recorder.publish_to(outbox);
        Ok(())
    }

    /// Takes that are in the output.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted
    }

    /// Stores a sign as the next take. `device` names its camera, `backend` what ran the models.
    ///
    /// The take is in the ledger when this returns. [`TakeStore::seal_due`] or [`TakeStore::close`] writes its file. What
    /// failed has changed nothing and can be repeated.
    pub(crate) fn add(
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
        let id = format!("{}-{position:05}", self.capture.prefix);
        let sequence = &sign.sequence;
        let (with_hand, frames) = (sequence.frames_with_hand, sequence.frames.len());
        let min = self.capture.min_frames;
        let reason = (with_hand < min)
            .then(|| format!("a hand in {with_hand} of {frames} frames, {min} are needed"));
        let is_accepted = reason.is_none();
        let state = if is_accepted { ACCEPTED } else { TOO_SHORT };
        let record = TakeRecord {
            id: id.clone(),
            gloss: sign.gloss.to_string(),
            split: self.split.clone(),
            signer_id: self.signer_id,
            clip: describe(sign, device, backend),
        };
        let row = is_accepted.then(|| {
            let (gloss, split) = (Arc::clone(&sign.gloss), record.split.clone());
            let id = id.as_str().into();
            BatchRow {
                frame_times: sign.frame_times.iter().map(Duration::as_secs_f32).collect(),
                ..BatchRow::new(gloss, id, split, self.signer_id, sequence.clone())
            }
        });
        let clip = ClipRecord {
            key: id.clone(),
            state: state.to_owned(),
            reason: reason.clone(),
            clip: Some(json!(record).to_string()),
            part: None,
        };
        self.recorder
            .record(position, &clip, row.as_ref(), &[], &clock::timestamp())?;
        self.next += 1;
        if is_accepted {
            self.accepted += 1;
            self.add_gloss(&sign.gloss);
        }
        if self.next.is_multiple_of(self.capture.batch_size) {
            self.due.insert(self.recorder.batch_of(position));
        }
        Ok(StoredTake {
            id,
            gloss: record.gloss,
            state,
            reason,
        })
    }

    /// Discards the last take that is in the output; `None` when there is none. Its batch file keeps it until
    /// [`TakeStore::seal_due`] or [`TakeStore::close`]. What failed has discarded nothing and can be repeated.
    pub(crate) fn undo(&mut self) -> Result<Option<StoredTake>, StoreError> {
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
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Whether takes were added or discarded since the last [`TakeStore::close`], in this process or a previous one.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Writes the files of the batches that are full or lost a take. Can be repeated.
    pub(crate) fn seal_due(&mut self) -> Result<(), StoreError> {
        while let Some(&batch) = self.due.first() {
            self.seal(batch)?;
        }
        Ok(())
    }

    /// Writes the files of all batches that have none, also of the last one, which keeps growing. Can be repeated.
    pub(crate) fn seal_all(&mut self) -> Result<(), StoreError> {
        let sealed = self.recorder.ledger().sealed()?;
        for batch in (0..self.recorder.batches(self.next)).filter(|b| !sealed.contains_key(b)) {
            self.seal(batch)?;
        }
        Ok(())
    }

    fn seal(&mut self, batch: usize) -> Result<(), StoreError> {
        let at = clock::timestamp();
        let seal = |store: &mut Self| store.recorder.seal(batch, store.next, &store.glosses, &at);
        match seal(self) {
            Err(StoreError::Lost { positions, .. }) => {
                self.discard_lost(&positions)?;
                seal(self)?;
            }
            sealed => sealed?,
        }
        self.due.remove(&batch);
        Ok(())
    }

    /// Discards the takes at `positions`, whose numbers the ledger has lost: they cannot be made again.
    fn discard_lost(&mut self, positions: &[usize]) -> Result<(), StoreError> {
        for &position in positions {
            tracing::warn!(position, LOST, "a take is lost");
            let mut ledger = self.recorder.ledger();
            ledger.set_state(position, DISCARDED, Some(LOST))?;
            self.accepted = self.accepted.saturating_sub(1);
        }
        Ok(())
    }

    /// Writes what a session leaves: the last batch, the joined file, manifest and provenance. The time it takes grows with
    /// the number of takes. Can be repeated; the next session continues.
    pub(crate) fn close(&mut self, provenance: &Value) -> Result<(), StoreError> {
        self.seal_all()?;
        // Set even without new takes, so that a power cut before the end of this function is known.
        self.set_behind()?;
        let clips = self.recorder.ledger().clips()?;
        if self.accepted > 0 {
            // A label whose takes were all discarded is left out.
            let accepted = clips.values().filter(|c| c.state == ACCEPTED);
            let used: BTreeSet<String> = accepted.map(|c| TakeRecord::of(c).gloss).collect();
            self.glosses.retain(|gloss| used.contains(&**gloss));
        }
        let batches = self.recorder.batches(self.next);
        let manifest = self.manifest(&clips);
        let profile = self.capture.profile;
        self.recorder
            .close(batches, &self.glosses, profile, &manifest, provenance)?;
        self.recorder.ledger().set_metadata(BEHIND, None)?;
        self.is_behind = false;
        Ok(())
    }

    fn manifest(&self, clips: &BTreeMap<usize, ClipRecord>) -> Vec<ManifestLine> {
        let mut place = self.recorder.row_counter();
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
                stored: (state == Some(ACCEPTED)).then(|| place(position)),
                ..ManifestLine::default()
            }
        };
        clips.iter().map(line).collect()
    }

    /// The files for a mirror. The list is not complete while takes are only in the ledger or not joined.
    pub(crate) fn files(&self) -> Result<Listing, StoreError> {
        let ledger = self.recorder.ledger();
        let mut listing = output_dir::mirrored(&ledger)?;
        let batches = self.recorder.batches(self.next);
        listing.is_all &= ledger.sealed()?.len() == batches && !self.is_behind;
        Ok(listing)
    }

    /// Notes in the ledger that takes are added or discarded that are not joined yet.
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

/// Records the takes again that the ledger of `out` has lost and that a batch file holds: a ledger whose log was damaged has
/// forgotten what was recorded last, and the next takes would get the same names and replace the file.
fn record_again(out: &Path, recorder: &Recorder) -> Result<(), StoreError> {
    let (clips, sealed) = {
        let ledger = recorder.ledger();
        (ledger.clips()?, ledger.sealed()?)
    };
    for batch in output_dir::batch_numbers(out)? {
        let range = recorder.positions(batch, usize::MAX);
        let known = clips.range(range.clone());
        let accepted = known.filter(|(_, clip)| clip.state == ACCEPTED).count();
        let file = sealed.get(&batch);
        if file.is_some_and(|file| file.rows == accepted) {
            continue;
        }
        let rows = match batches::read_batch(out, batch) {
            Ok(rows) => rows,
            Err(error) => {
                tracing::warn!(%error, "takes in a batch file that the ledger does not know cannot be read");
                continue;
            }
        };
        for row in rows {
            // A take is named after its position.
            let position = row
                .video_id
                .rsplit_once('-')
                .map(|(_, number)| number.parse());
            let Some(Ok(position)) = position else {
                continue;
            };
            if !range.contains(&position) || clips.contains_key(&position) {
                continue;
            }
            tracing::warn!(take = %row.video_id, batch, "the ledger has lost a take: it is kept from its batch file");
            let hands = |min| row.frames.iter().filter(|f| f.hand_count >= min).count();
            let record = TakeRecord {
                id: row.video_id.to_string(),
                gloss: row.gloss.to_string(),
                split: row.split.clone(),
                signer_id: row.signer_id,
                clip: json!({
                    "source": "camera",
                    "kept_from": format!("{batch:05}.npz"),
                    "sampled": row.frames.len(),
                    "with_hand": hands(1),
                    "with_two_hands": hands(2),
                }),
            };
            let clip = ClipRecord {
                key: record.id.clone(),
                state: ACCEPTED.to_owned(),
                reason: None,
                clip: Some(json!(record).to_string()),
                part: None,
            };
            // The rows of a sealed batch are in its file.
            let staged = file.is_none().then_some(&row);
            recorder.record(position, &clip, staged, &[], &clock::timestamp())?;
        }
    }
    Ok(())
}

/// The part of the manifest about a take.
fn describe(sign: &Sign, device: &str, backend: &str) -> Value {
    let sequence = &sign.sequence;
    let millis = |time: &Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
    let times: Vec<f64> = sign.frame_times.iter().map(millis).collect();
    let Timestamp {
        ts, clock_synced, ..
    } = clock::timestamp();
    let mut clip = with_precision(sequence.manifest_fields(), backend);
    let of_take = json!({
        "source": "camera",
        "device": device,
        "backend": backend,
        "taken": ts,
        "clock_synced": clock_synced,
        "begin_ms": millis(&sign.begin),
        "end_ms": millis(&sign.end),
        "ended_by": sign.end_reason.name(),
        "seen": sign.seen,
        "frame_times_ms": times,
    });
    if let (Value::Object(clip), Value::Object(of_take)) = (&mut clip, of_take) {
        clip.extend(of_take);
    }
    clip
}

#[cfg(test)]
mod tests;
