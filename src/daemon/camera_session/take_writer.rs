//! How takes get to the disk: at once where there is room, else when there is; then the mirror and the broker are told.
//! Nothing here waits, so commands are heard and hands are followed meanwhile.

use super::CameraSession;
use crate::daemon::ROOM_POLL_INTERVAL;
use crate::error::CliError;
use crate::error::hints::Audience;
use crate::recording::take_store::{StoredTake, TOO_SHORT, TakeStore};
use crate::sequence::recording_plan::RecordingPhase;
use crate::sequence::sign_recorder::{Sign, SignRecorder};
use crate::storage::StoreError;
use crate::storage::mirror::Listing;
use crate::system::clock::uptime;
use std::time::{Duration, Instant};

/// Takes are joined when none came or went for so long: longer than between the recordings of a series.
const QUIET: Duration = Duration::from_secs(10);

/// A write that found no room.
pub(super) struct DiskFull {
    reason: String,
    at: Instant,
}

impl CameraSession<'_> {
    /// Why takes wait, while they would: the disk's reserve is touched, or there was no room at all.
    pub(super) fn no_room(&self) -> Option<String> {
        let full = || self.full.as_ref().map(|full| full.reason.clone());
        self.daemon.resources.takes_disk_short().or_else(full)
    }

    /// Whether a write is worth a try. At the end it is in any case.
    fn may_write(&self) -> bool {
        let was_full_now = || {
            let full = self.full.as_ref();
            full.is_some_and(|full| full.at.elapsed() < ROOM_POLL_INTERVAL)
        };
        self.is_last || (self.daemon.resources.takes_disk_short().is_none() && !was_full_now())
    }

    /// Whether the takes are to be joined now. Not while somebody signs: it grows with the folder, and the camera waits.
    fn is_to_join(&self) -> bool {
        let is_quiet = self.unjoined.is_some_and(|since| since.elapsed() >= QUIET);
        self.is_unclosed || (is_quiet && self.running.is_none())
    }

    /// Takes up a sign that is to be a take. While one waits for room no second one is taken, it is asked for again.
    pub(super) fn take(
        &mut self,
        sign: Sign,
        backend: &str,
        recorder: &mut SignRecorder,
    ) -> Result<(), CliError> {
        self.flush(recorder)?;
        if self.waiting.is_some() {
            tracing::warn!(
                gloss = &*sign.gloss,
                "not taken: another take waits for room"
            );
            recorder.takes_mut().again(&sign.gloss, sign.end);
            return Ok(());
        }
        self.waiting = Some((sign, backend.to_owned()));
        self.flush(recorder)?;
        if let (Some((sign, _)), Some(reason)) = (&self.waiting, self.no_room()) {
            tracing::warn!(gloss = &*sign.gloss, reason, "a take waits for room");
        }
        Ok(())
    }

    /// Writes what waits, as far as there is room; whether all is on disk. The last word on a `record` comes when its batches
    /// are.
    pub(super) fn flush(&mut self, recorder: &mut SignRecorder) -> Result<bool, CliError> {
        if self.waiting.is_none() && !self.store.is_due() && !self.is_unsealed && !self.is_to_join()
        {
            return Ok(true);
        }
        if !self.may_write() {
            return Ok(false);
        }
        if let Some((sign, backend)) = self.waiting.take() {
            let device = self.device.clone();
            match self.write(|store| store.add(&sign, &device, &backend)) {
                Ok(Some(stored)) => self.kept(stored, &sign, recorder),
                // Also of another failure: the end of the session tries it again.
                unwritten => {
                    self.waiting = Some((sign, backend));
                    return unwritten.map(|_| false);
                }
            }
        }
        if self.store.is_due() && self.write(TakeStore::seal_due)?.is_none() {
            return Ok(false);
        }
        if self.is_unsealed {
            if self.write(TakeStore::seal_all)?.is_none() {
                return Ok(false);
            }
            self.is_unsealed = false;
            self.unjoined = Some(Instant::now());
            if self.running.is_some() && is_complete(recorder) {
                self.settle(Ok(()));
            }
        }
        if self.is_to_join() {
            let provenance = self.origin.provenance(None);
            match self.write(|store| store.close(&provenance)) {
                Ok(None) => return Ok(false),
                // The next takes are kept all the same.
                Err(failure) if !self.is_unclosed => {
                    let action = "the takes are in batches/; joined again after the next record";
                    let story = Audience::TakesKeys.story(&failure);
                    self.daemon.outbox.fault("disk", story, action);
                }
                joined => {
                    joined?;
                    self.is_unclosed = false;
                }
            }
            self.unjoined = None;
        }
        Ok(true)
    }

    /// A sign is on the shelf.
    fn kept(&mut self, stored: StoredTake, sign: &Sign, recorder: &mut SignRecorder) {
        tracing::info!(
            id = stored.id,
            gloss = stored.gloss,
            state = stored.state,
            reason = stored.reason,
            "take"
        );
        if stored.state == TOO_SHORT {
            // Of one that waited for room the end is long past.
            let at = self.at.max(sign.end);
            recorder.takes_mut().again(&stored.gloss, at);
        } else if self.running.is_some() {
            self.taken.push(stored.id);
        }
        self.is_unsealed |= self.running.is_some() && is_complete(recorder);
    }

    /// Makes a change; `None` when there was no room for it.
    pub(super) fn write<T>(
        &mut self,
        change: impl FnOnce(&mut TakeStore) -> Result<T, StoreError>,
    ) -> Result<Option<T>, CliError> {
        // Until it is published again the mirror believes no list.
        let before = self.daemon.camera.set_files(None);
        let done = change(&mut self.store);
        self.publish(before.as_ref());
        match done {
            Err(error) if error.is_full() && !self.is_last => {
                let reason = Audience::TakesKeys.describe(&error);
                if self.full.is_none() {
                    let action = "takes wait until there is room; the job goes on";
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

    /// Writes what is left of a session, and has the last word on its `record`. With `may_wait` that has time until the
    /// process ends, which leaves the last word to the next one.
    pub(in super::super) fn finish(
        &mut self,
        recorder: &mut SignRecorder,
        may_wait: bool,
    ) -> Result<(), CliError> {
        self.is_unsealed = true;
        self.is_unclosed = true;
        let written = self.write_rest(recorder, may_wait);
        if !self.daemon.shutdown.is_requested() {
            match &written {
                Ok(()) => self.settle(Err("the camera films no more; see state")),
                Err(failure) => self.settle(Err(&Audience::TakesKeys.story(failure))),
            }
        }
        written
    }

    fn write_rest(&mut self, recorder: &mut SignRecorder, may_wait: bool) -> Result<(), CliError> {
        loop {
            self.is_last = !may_wait || self.daemon.shutdown.is_requested();
            self.hear(recorder, Duration::ZERO)?;
            if self.flush(recorder)? {
                return Ok(());
            }
            self.tell();
            self.stage.heartbeat(uptime());
            self.daemon.shutdown.wait(ROOM_POLL_INTERVAL);
        }
    }

    /// Tells the mirror what there is, unless that is as it was `before`.
    pub(super) fn publish(&self, before: Option<&Listing>) {
        let files = match self.store.files() {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!(%error, "takes are not mirrored until the next one");
                return;
            }
        };
        let is_new = before != Some(&files);
        self.daemon.camera.set_files(Some(files));
        if is_new {
            self.daemon.mirror.notify_sealed();
        }
    }
}

/// Whether the order has all its takes. No take of it is under way then, whatever the time.
fn is_complete(recorder: &SignRecorder) -> bool {
    recorder.takes().phase(Duration::ZERO) == RecordingPhase::Idle
}
