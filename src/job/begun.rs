//! The clips that are being decoded in this process, in the ledger: a clip that has ended the process twice is not read a
//! third time.

use crate::storage::{SharedLedger, StoreError};
use crate::video::turns::{DecodeTurn, DecodeTurns};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Metadata: how often each clip was begun and not finished, as JSON, by its video id.
const BEGUN: &str = "begun";
/// Number of unfinished attempts after which a clip is not read again.
const ATTEMPTS_MAX: u32 = 2;
/// The reason that is recorded for such a clip.
pub(super) const ENDED_TWICE: &str = "the process ended twice while it decoded this clip";

/// Clips that were begun and not finished, with the number of attempts.
pub(super) struct BegunClips {
    ledger: SharedLedger,
    attempts: Mutex<BTreeMap<String, u32>>,
    /// A clip that was begun by a process that ended is decoded alone, so that no other clip is blamed for it.
    turns: DecodeTurns,
}

/// A clip that is being decoded.
pub(super) struct BegunClip<'a> {
    clips: &'a BegunClips,
    video_id: &'a str,
    _turn: DecodeTurn<'a>,
}

impl BegunClips {
    /// The clips that earlier processes have begun and not finished.
    pub(super) fn load(ledger: SharedLedger) -> Result<Self, StoreError> {
        let stored = ledger.lock().metadata(BEGUN)?;
        // Attempts that cannot be parsed count as none, which only costs another attempt.
        let attempts = stored.and_then(|json| serde_json::from_str(&json).ok());
        Ok(Self {
            ledger,
            attempts: Mutex::new(attempts.unwrap_or_default()),
            turns: DecodeTurns::default(),
        })
    }

    /// Durably records that a clip begins. Returns `None` when the clip has ended the process too often; its attempts
    /// are then forgotten.
    pub(super) fn begin<'a>(
        &'a self,
        video_id: &'a str,
    ) -> Result<Option<BegunClip<'a>>, StoreError> {
        let before = self.lock().get(video_id).copied().unwrap_or(0);
        if before >= ATTEMPTS_MAX {
            self.store(video_id, None)?;
            return Ok(None);
        }
        let turn = if before == 0 {
            self.turns.shared()
        } else {
            self.turns.alone()
        };
        self.store(video_id, Some(before + 1))?;
        Ok(Some(BegunClip {
            clips: self,
            video_id,
            _turn: turn,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, video_id: &str, attempts: Option<u32>) -> Result<(), StoreError> {
        let mut all = self.lock();
        match attempts {
            Some(attempts) => all.insert(video_id.to_owned(), attempts),
            None => all.remove(video_id),
        };
        let json = serde_json::json!(*all).to_string();
        self.ledger.lock().set_metadata(BEGUN, Some(&json))
    }
}

impl BegunClip<'_> {
    /// Records that decoding the clip has not ended the process.
    pub(super) fn end(self) -> Result<(), StoreError> {
        self.clips.store(self.video_id, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Ledger;

    #[test]
    fn a_clip_is_begun_twice_at_most() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = SharedLedger::new(Ledger::open(dir.path()).unwrap());
        let load = || BegunClips::load(ledger.clone()).unwrap();
        let clips = load();
        clips.begin("good").unwrap().unwrap().end().unwrap();
        // A process that ends leaves its clips begun.
        drop(clips.begin("bad").unwrap().unwrap());
        drop(clips.begin("beside").unwrap().unwrap());
        let clips = load();
        let suspect = clips.begin("bad").unwrap().unwrap();
        assert!(clips.turns.is_taken(), "it is decoded alone");
        drop(suspect);
        let clips = load();
        assert!(clips.begin("bad").unwrap().is_none());
        clips.begin("beside").unwrap().unwrap().end().unwrap();
        clips.begin("good").unwrap().unwrap().end().unwrap();
        // Requested again, it is read again.
        assert!(load().begin("bad").unwrap().is_some());
    }
}
