//! What there is to tell of sealed batches, until somebody takes it over.

use super::{TakeStore, stamp};
use crate::messages::topics;
use crate::storage::StoreError;
use crate::storage::ledger::{Message, OutboxLimits, Timestamp};
use serde_json::Value;

/// Messages that are looked at in one go.
const UNTOLD_MAX: usize = 64;

/// A message that was written with a batch and is nobody else's yet.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingEvent {
    /// For [`TakeStore::told`].
    pub id: i64,
    /// It.
    pub message: Message,
    /// When the batch was sealed.
    pub stamp: Timestamp,
}

impl TakeStore {
    /// From now on a message is written with each sealed batch, to be had from [`Shelf::untold`]; `None` for none.
    pub fn set_outbox_limits(&mut self, limits: Option<OutboxLimits>) {
        self.ledger.set_outbox_limits(limits);
    }

    /// The oldest messages that nobody has taken over, also those of an earlier process.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn pending_events(&self) -> Result<Vec<PendingEvent>, StoreError> {
        let waiting = self.ledger.pending_messages(0, UNTOLD_MAX)?;
        let pending_events = waiting.into_iter().map(|waiting| {
            let payload = serde_json::from_slice(&waiting.payload);
            let mut body: Value = payload.unwrap_or_default();
            let stamp = Timestamp {
                ts: body["ts"].as_str().unwrap_or_default().to_owned(),
                clock_synced: body["clock_synced"] == true,
                unix_s: stamp().unix_s,
            };
            if let Some(fields) = body.as_object_mut() {
                // The envelope is made anew by whoever sends it, with a number of its own.
                fields.retain(|key, _| !["v", "ts", "clock_synced", "seq"].contains(&key.as_str()));
            }
            PendingEvent {
                id: waiting.id,
                message: Message {
                    channel: topics::BATCH,
                    body,
                },
                stamp,
            }
        });
        Ok(pending_events.collect())
    }

    /// Somebody else sees to this message now.
    ///
    /// # Errors
    /// When the ledger cannot be written; it is then given again.
    pub fn told(&mut self, id: i64) -> Result<(), StoreError> {
        self.ledger.delivered(&[id])
    }
}
