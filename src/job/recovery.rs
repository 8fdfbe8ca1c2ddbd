//! Reads lost results again: clips whose rows in the ledger or whose batch file have changed on the disk.

use super::observer::{JobObserver, retry_while_full};
use super::results::JobResults;
use crate::messages::payloads::Fault;
use crate::messages::topics;
use crate::storage::StoreError;
use crate::storage::ledger::{LEDGER_NAME, Message};
use crate::storage::recorder::Damage;
use crate::system::clock::timestamp;
use std::path::Path;

/// Action text of the fault about lost clips.
const READ_AGAIN: &str = "its clips are read again";

impl JobResults<'_> {
    /// Makes the ledger forget the clips that are in no file any more, so that they are read again.
    pub(super) fn forget_damaged(&self, observer: &mut dyn JobObserver) -> Result<(), StoreError> {
        let count = self.plan.jobs.len();
        let mut clips = Vec::new();
        for damage in self.recorder.damage(&self.share.batches, count)? {
            match damage {
                Damage::Batch { batch, reason } => {
                    let messages = [report(observer, reason)];
                    let discard =
                        || (self.recorder).discard_batch(batch, count, &messages, &timestamp());
                    retry_while_full(observer, discard)?;
                }
                Damage::Clip(position) => clips.push(position),
            }
        }
        if clips.is_empty() {
            return Ok(());
        }
        self.forget_clips(&clips, &self.out.join(LEDGER_NAME), observer)
    }

    /// Makes the ledger forget the clips at `positions`, whose numbers or frames the file or folder `path` has lost.
    pub(super) fn forget_clips(
        &self,
        positions: &[usize],
        path: &Path,
        observer: &mut dyn JobObserver,
    ) -> Result<(), StoreError> {
        let ids: Vec<&str> = positions
            .iter()
            .filter_map(|position| self.plan.jobs.get(*position))
            .map(|clip| &*clip.video_id)
            .collect();
        let reason = format!("{} has lost the clips {}", path.display(), ids.join(", "));
        let messages = [report(observer, reason)];
        self.recorder.reopen()?;
        let forget = || {
            let mut ledger = self.recorder.ledger();
            ledger.forget_positions(positions, &messages, &timestamp())
        };
        retry_while_full(observer, forget)
    }
}

/// Warns of `reason` and returns the fault about it.
fn report(observer: &mut dyn JobObserver, reason: String) -> Message {
    observer.warn(&format!("{reason}; {READ_AGAIN}"));
    let fault = Fault {
        run: None,
        component: "job".to_owned(),
        clip: None,
        reason,
        action: READ_AGAIN.to_owned(),
    };
    Message::new(topics::FAULT, &fault)
}
