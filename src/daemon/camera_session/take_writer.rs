//! Writes takes to the disk as soon as there is room, then notifies the mirror and the broker.
//!
//! No call blocks, so that commands are carried out and hands are tracked meanwhile.

use crate::daemon::Daemon;
use crate::daemon::ROOM_POLL_INTERVAL;
use crate::error::CliError;
use crate::error::hints::Audience;
use crate::recording::TakeProvenance;
use crate::recording::take_store::{StoredTake, TakeStore};
use crate::sequence::sign_recorder::Sign;
use crate::storage::StoreError;
use crate::storage::mirror::Listing;
use std::time::{Duration, Instant};

/// Takes are merged after this time without a new or discarded take. It is longer than the pauses within a series.
const MERGE_DELAY: Duration = Duration::from_secs(10);

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
    /// The files of full batches were written, or the takes were merged.
    Files,
    /// The files of all batches were written.
    AllBatches,
}

/// Writes the daemon's takes to disk, one step a call.
pub(in crate::daemon) struct TakeWriter<'a> {
    daemon: &'a Daemon,
    pub(super) store: TakeStore,
    origin: &'a TakeProvenance<'a>,
    /// A take that is to be stored with the next write, and the backend that found its hands.
    pub(super) waiting: Option<(Sign, String)>,
    /// Whether all batches are to be sealed, including the last one, which may not be full.
    pub(super) is_seal_due: bool,
    /// Time of the last added or discarded take that is not merged yet.
    unmerged: Option<Instant>,
    /// Whether the takes are to be merged for the last time.
    pub(super) is_close_due: bool,
    /// Why and when the last write failed, if there was no room.
    full: Option<(String, Instant)>,
    /// Whether no later attempt follows. A write is then attempted even without room, and a lack of room is an error.
    pub(super) is_last: bool,
}

impl<'a> TakeWriter<'a> {
    /// Takes over `store` and publishes the files that an earlier process left in it to the mirror.
    pub(in crate::daemon) fn new(
        daemon: &'a Daemon,
        store: TakeStore,
        origin: &'a TakeProvenance<'a>,
    ) -> Self {
        let writer = Self {
            daemon,
            unmerged: store.is_behind().then(Instant::now),
            store,
            origin,
            waiting: None,
            is_seal_due: false,
            is_close_due: false,
            full: None,
            is_last: false,
        };
        writer.publish_files(None);
        writer
    }

    /// Why takes wait: free space is below the disk's reserve, or the last write found no room.
    pub(super) fn no_room(&self) -> Option<String> {
        let full = || self.full.as_ref().map(|(reason, _)| reason.clone());
        let resources = self.daemon.resources();
        let short = resources.takes_disk_short().map(str::to_owned);
        short.or_else(full)
    }

    /// Discards the last take: the one that waits for room, which has no name yet, or else the last one in the store.
    /// Returns its name and gloss; the inner error is the reason why nothing was discarded.
    ///
    /// # Errors
    /// Fails when the store fails.
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

    /// Does the next write that is due. A merge takes longer in a larger folder and delays the camera, so it waits
    /// while `is_recording`.
    ///
    /// # Errors
    /// Fails when the store fails for another reason than a full disk.
    pub(super) fn write_next(&mut self, is_recording: bool) -> Result<Written, CliError> {
        let is_quiet = self
            .unmerged
            .is_some_and(|since| since.elapsed() >= MERGE_DELAY);
        let is_merge_due = self.is_close_due || (is_quiet && !is_recording);
        let is_batch_due = self.store.is_due();
        if self.waiting.is_none() && !is_batch_due && !self.is_seal_due && !is_merge_due {
            return Ok(Written::Nothing);
        }
        if !self.may_write() {
            return Ok(Written::NoRoom);
        }
        let written = if let Some((sign, backend)) = self.waiting.take() {
            self.write_take(sign, backend)?
        } else if is_batch_due {
            let sealed = self.write(TakeStore::seal_due)?;
            sealed.map(|()| Written::Files)
        } else if self.is_seal_due {
            let sealed = self.write(TakeStore::seal_all)?;
            if sealed.is_some() {
                self.is_seal_due = false;
                self.unmerged = Some(Instant::now());
            }
            sealed.map(|()| Written::AllBatches)
        } else {
            self.merge()?
        };
        Ok(written.unwrap_or(Written::NoRoom))
    }

    /// Whether a write is worth a try.
    fn may_write(&self) -> bool {
        let is_full_now = |(_, at): &(String, Instant)| at.elapsed() < ROOM_POLL_INTERVAL;
        self.is_last
            || (self.daemon.resources().takes_disk_short().is_none()
                && !self.full.as_ref().is_some_and(is_full_now))
    }

    fn write_take(&mut self, sign: Sign, backend: String) -> Result<Option<Written>, CliError> {
        let device = self.origin.device.to_string();
        let stored = self.write(|store| store.add(&sign, &device, &backend));
        if let Ok(Some(take)) = stored {
            let sign_end = sign.end;
            return Ok(Some(Written::Take { take, sign_end }));
        }
        // Kept after a failure too: the end of the session tries again.
        self.waiting = Some((sign, backend));
        stored.map(|_| None)
    }

    fn merge(&mut self) -> Result<Option<Written>, CliError> {
        let provenance = self.origin.provenance(None);
        match self.write(|store| store.close(&provenance)) {
            Ok(None) => return Ok(None),
            // A failed merge does not keep the next takes from being stored.
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
        Ok(Some(Written::Files))
    }

    /// Changes the store; `None` when there was no room for it.
    fn write<T>(
        &mut self,
        change: impl FnOnce(&mut TakeStore) -> Result<T, StoreError>,
    ) -> Result<Option<T>, CliError> {
        // The mirror uses no listing until the next one is published.
        let before = self.daemon.camera.lock().files.take();
        let done = change(&mut self.store);
        self.publish_files(before.as_ref());
        match done {
            Err(error) if error.is_full() && !self.is_last => {
                let reason = Audience::TakesKeys.describe(&error);
                if self.full.is_none() {
                    let action = "takes wait until there is room; the job continues";
                    self.daemon.outbox.fault("disk", reason.clone(), action);
                }
                self.full = Some((reason, Instant::now()));
                Ok(None)
            }
            done => {
                let value = done?;
                self.full = None;
                // The ledger may have a message about a batch.
                self.daemon.outbox.notify();
                Ok(Some(value))
            }
        }
    }

    /// Publishes the list of files for the mirror. Wakes the mirror's thread when the list differs from `before`.
    fn publish_files(&self, before: Option<&Listing>) {
        let files = match self.store.files() {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "takes are not mirrored until the next one is stored");
                return;
            }
        };
        let is_new = before != Some(&files);
        self.daemon.camera.lock().files = Some(files);
        if is_new {
            self.daemon.mirror.notify_sealed();
        }
    }
}
