//! Writes takes to the disk: at once where there is room, else when there is. Then the mirror and the broker are notified.
//!
//! No call waits, so that commands are carried out and hands are followed meanwhile.

use crate::daemon::ROOM_POLL_INTERVAL;
use crate::daemon::camera_task::CameraContext;
use crate::error::CliError;
use crate::error::hints::Audience;
use crate::recording::TakeProvenance;
use crate::recording::take_store::{StoredTake, TakeStore};
use crate::sequence::sign_recorder::Sign;
use crate::storage::StoreError;
use crate::storage::mirror::Listing;
use std::time::{Duration, Instant};

/// Takes are merged when none came or went for this time: longer than between the recordings of a series.
const MERGE_DELAY: Duration = Duration::from_secs(10);

/// A write that found no room.
struct DiskFull {
    reason: String,
    at: Instant,
}

/// What [`TakeWriter::write_next`] did.
pub(super) enum Written {
    /// Everything is on disk.
    Nothing,
    /// Something waits for room.
    NoRoom,
    /// A take was stored.
    Take {
        take: StoredTake,
        /// Time of its last frame.
        sign_end: Duration,
    },
    /// The files of full batches were written.
    FullBatches,
    /// The files of all batches were written.
    AllBatches,
    /// The takes were merged into the final file.
    Merged,
}

/// The daemon's takes on their way to the disk.
pub(in crate::daemon) struct TakeWriter<'a> {
    daemon: &'a CameraContext,
    store: TakeStore,
    origin: &'a TakeProvenance<'a>,
    device: String,
    /// A take that is not stored yet, and its backend.
    waiting: Option<(Sign, String)>,
    /// Whether all batches are to be sealed, also the last.
    is_seal_due: bool,
    /// When takes came or went that are not merged yet.
    unmerged: Option<Instant>,
    /// Whether the takes are to be merged for the last time.
    is_close_due: bool,
    /// The last write found no room.
    full: Option<DiskFull>,
    /// Whether there will be no later try.
    is_last: bool,
}

impl<'a> TakeWriter<'a> {
    /// Takes over `store`, and publishes what an earlier process left in it.
    pub(in crate::daemon) fn new(
        daemon: &'a CameraContext,
        store: TakeStore,
        origin: &'a TakeProvenance<'a>,
    ) -> Self {
        let writer = Self {
            daemon,
            unmerged: store.is_behind().then(Instant::now),
            store,
            origin,
            device: origin.device.to_string(),
            waiting: None,
            is_seal_due: false,
            is_close_due: false,
            full: None,
            is_last: false,
        };
        writer.announce();
        writer.publish_files(None);
        writer
    }

    /// Number of takes in the output.
    pub(super) fn accepted(&self) -> usize {
        self.store.accepted()
    }

    /// Why takes wait: the disk's reserve is touched, or the last write found no room.
    pub(super) fn no_room(&self) -> Option<String> {
        let full = || self.full.as_ref().map(|full| full.reason.clone());
        self.daemon.resources.takes_disk_short().or_else(full)
    }

    /// Whether a take waits for room.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Has `sign` stored with the next write; `backend` looked at its frames. None may wait.
    pub(super) fn put(&mut self, sign: Sign, backend: String) {
        self.waiting = Some((sign, backend));
    }

    /// Discards the last take: the one that waits for room, which has no name yet, or the last one in the store, for which
    /// there mostly is room enough. Gives its name and gloss; the inner error says why there is nothing discarded.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn undo(&mut self) -> Result<Result<(Option<String>, String), String>, CliError> {
        if let Some((sign, _)) = self.waiting.take() {
            return Ok(Ok((None, sign.gloss.to_string())));
        }
        Ok(match self.write(TakeStore::undo)? {
            Some(Some(take)) => {
                self.is_seal_due = true;
                Ok((Some(take.id), take.gloss))
            }
            Some(None) => Err("there is no take to discard".to_owned()),
            None => {
                let reason = self.no_room().unwrap_or_default();
                Err(format!(
                    "there is no room to discard it: {reason}; make room and send it again with another id"
                ))
            }
        })
    }

    /// Has all batches sealed with the next writes.
    pub(super) fn seal_all(&mut self) {
        self.is_seal_due = true;
    }

    /// Has all batches sealed and all takes merged with the next writes: the session is over.
    pub(super) fn close_when_written(&mut self) {
        self.is_seal_due = true;
        self.is_close_due = true;
    }

    /// With `is_last` writes are tried whether there is room or not, and one that finds none is an error.
    pub(super) fn set_last(&mut self, is_last: bool) {
        self.is_last = is_last;
    }

    /// Does the next write that is due. A merge grows with the folder and holds up the camera: it waits while
    /// `is_recording`.
    ///
    /// # Errors
    /// When the store fails for another reason than room.
    pub(super) fn write_next(&mut self, is_recording: bool) -> Result<Written, CliError> {
        let is_quiet = self
            .unmerged
            .is_some_and(|since| since.elapsed() >= MERGE_DELAY);
        let is_merge_due = self.is_close_due || (is_quiet && !is_recording);
        let is_due =
            self.waiting.is_some() || self.store.is_due() || self.is_seal_due || is_merge_due;
        if !is_due {
            return Ok(Written::Nothing);
        }
        if !self.may_write() {
            return Ok(Written::NoRoom);
        }
        let written = if let Some((sign, backend)) = self.waiting.take() {
            self.write_take(sign, backend)?
        } else if self.store.is_due() {
            self.write_full_batches()?
        } else if self.is_seal_due {
            self.write_all_batches()?
        } else {
            self.merge()?
        };
        Ok(written.unwrap_or(Written::NoRoom))
    }

    /// Whether a write is worth a try.
    fn may_write(&self) -> bool {
        let is_full_now = |full: &DiskFull| full.at.elapsed() < ROOM_POLL_INTERVAL;
        self.is_last
            || (self.daemon.resources.takes_disk_short().is_none()
                && !self.full.as_ref().is_some_and(is_full_now))
    }

    fn write_take(&mut self, sign: Sign, backend: String) -> Result<Option<Written>, CliError> {
        let device = self.device.clone();
        let stored = self.write(|store| store.add(&sign, &device, &backend));
        if let Ok(Some(take)) = stored {
            let sign_end = sign.end;
            return Ok(Some(Written::Take { take, sign_end }));
        }
        // The end of the session tries it again, also after a failure.
        self.waiting = Some((sign, backend));
        stored.map(|_| None)
    }

    fn write_full_batches(&mut self) -> Result<Option<Written>, CliError> {
        if self.write(TakeStore::seal_due)?.is_none() {
            return Ok(None);
        }
        self.announce();
        Ok(Some(Written::FullBatches))
    }

    fn write_all_batches(&mut self) -> Result<Option<Written>, CliError> {
        if self.write(TakeStore::seal_all)?.is_none() {
            return Ok(None);
        }
        self.is_seal_due = false;
        self.unmerged = Some(Instant::now());
        self.announce();
        Ok(Some(Written::AllBatches))
    }

    fn merge(&mut self) -> Result<Option<Written>, CliError> {
        let provenance = self.origin.provenance(None);
        match self.write(|store| store.close(&provenance)) {
            Ok(None) => return Ok(None),
            // The next takes are stored all the same.
            Err(failure) if !self.is_close_due => {
                let action = "the takes are in batches/; they are merged after the next record";
                let reason = Audience::TakesKeys.display_chain(&failure);
                self.daemon.outbox.fault("disk", reason, action);
            }
            merged => {
                merged?;
                self.is_close_due = false;
            }
        }
        self.unmerged = None;
        self.announce();
        Ok(Some(Written::Merged))
    }

    /// Changes the store; `None` when there was no room for it.
    fn write<T>(
        &mut self,
        change: impl FnOnce(&mut TakeStore) -> Result<T, StoreError>,
    ) -> Result<Option<T>, CliError> {
        // The mirror uses no listing until the next one is published.
        let before = self.daemon.camera.set_files(None);
        let done = change(&mut self.store);
        self.publish_files(before.as_ref());
        match done {
            Err(error) if error.is_full() && !self.is_last => {
                let reason = Audience::TakesKeys.describe(&error);
                if self.full.is_none() {
                    let action = "takes wait until there is room; the job continues";
                    self.daemon.outbox.fault("disk", reason.clone(), action);
                }
                let at = Instant::now();
                self.full = Some(DiskFull { reason, at });
                Ok(None)
            }
            done => {
                let value = done?;
                self.full = None;
                // A batch may have been announced.
                self.daemon.outbox.notify();
                Ok(Some(value))
            }
        }
    }

    /// Publishes the files that the mirror shall hold; wakes it unless they are the same as `before`.
    fn publish_files(&self, before: Option<&Listing>) {
        let files = match self.store.files() {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "takes are not mirrored until the next one is stored");
                return;
            }
        };
        let is_new = before != Some(&files);
        self.daemon.camera.set_files(Some(files));
        if is_new {
            self.daemon.mirror.notify_sealed();
        }
    }

    /// Has the outbox published what the store wrote into it.
    fn announce(&self) {
        self.daemon.outbox.notify();
    }
}
