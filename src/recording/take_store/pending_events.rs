//! What there is to tell of sealed batches, until somebody takes it over.

use super::{Shelf, stamp};
use crate::messages::topics;
use crate::storage::StoreError;
use crate::storage::ledger::{Bounds, Message, Stamp};
use serde_json::Value;

/// Messages that are looked at in one go.
const UNTOLD_MAX: usize = 64;

/// A message that was written with a batch and is nobody else's yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    /// For [`Shelf::told`].
    pub id: i64,
    /// It.
    pub message: Message,
    /// When the batch was sealed.
    pub stamp: Stamp,
}

impl Shelf {
    /// From now on a message is written with each sealed batch, to be had from [`Shelf::untold`]; `None` for none.
    pub fn keep_messages(&mut self, bounds: Option<Bounds>) {
        self.ledger.keep_messages(bounds);
    }

    /// The oldest messages that nobody has taken over, also those of an earlier process.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn untold(&self) -> Result<Vec<Untold>, StoreError> {
        let waiting = self.ledger.waiting_after(0, UNTOLD_MAX)?;
        let untold = waiting.into_iter().map(|waiting| {
            let payload = serde_json::from_slice(&waiting.payload);
            let mut body: Value = payload.unwrap_or_default();
            let stamp = Stamp {
                ts: body["ts"].as_str().unwrap_or_default().to_owned(),
                clock_synced: body["clock_synced"] == true,
                unix_s: stamp().unix_s,
            };
            if let Some(fields) = body.as_object_mut() {
                // The envelope is made anew by whoever sends it, with a number of its own.
                fields.retain(|key, _| !["v", "ts", "clock_synced", "seq"].contains(&key.as_str()));
            }
            Untold {
                id: waiting.id,
                message: Message {
                    channel: topics::BATCH,
                    body,
                },
                stamp,
            }
        });
        Ok(untold.collect())
    }

    /// Somebody else sees to this message now.
    ///
    /// # Errors
    /// When the ledger cannot be written; it is then given again.
    pub fn told(&mut self, id: i64) -> Result<(), StoreError> {
        self.ledger.delivered(&[id])
    }
}
