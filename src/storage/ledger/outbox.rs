//! Messages that must reach the broker: written in the transaction of what they report, kept until they are
//! acknowledged, bounded by number and age with the drops counted.

use super::checksum::{OUTBOX, SEQUENCE};
use super::{Ledger, params};
pub use crate::messages::payloads::PendingMessage;
use crate::messages::payloads::{Envelope, Timestamp, VERSION};
use crate::messages::topics;
use crate::storage::StoreError;
use rusqlite::Transaction;
use serde::Serialize;
use serde_json::Value;

/// Metadata key: number of messages that the bounds have dropped.
const OUTBOX_DROPPED: &str = "outbox_dropped";

/// Maximum number of waiting replies, and of their bytes together; the oldest are dropped first. Replies have bounds
/// of their own, so that neither a flood of commands drops batches and faults nor the other way round.
const REPLIES_MAX: u32 = 1000;
const REPLIES_BYTES_MAX: u32 = 4 << 20;

/// How many messages may wait. Replies to commands do not count here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Maximum number of waiting messages.
    pub messages: usize,
    /// Maximum age in seconds, by a synchronized clock.
    pub age_s: u64,
}

/// A message for a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Name of the channel, from [`topics`].
    pub channel: &'static str,
    /// The channel's own fields.
    pub body: Value,
}

impl Message {
    /// A message with `body` on `channel`.
    pub fn new(channel: &'static str, body: &impl Serialize) -> Self {
        // The payloads are plain structs. Should one not serialize, an empty message still counts in `seq`.
        let body = serde_json::to_value(body).unwrap_or(Value::Null);
        Self { channel, body }
    }
}

/// Adds `messages` with the next numbers of their channels, then drops the oldest beyond the bounds.
pub(super) fn insert_messages(
    tx: &Transaction<'_>,
    limits: Option<OutboxLimits>,
    messages: &[Message],
    stamp: &Timestamp,
) -> rusqlite::Result<()> {
    let (Some(limits), false) = (limits, messages.is_empty()) else {
        return Ok(());
    };
    for message in messages {
        let channel = message.channel;
        let last: Option<u64> = SEQUENCE
            .select(tx, "WHERE channel = ?1", [channel], |r| r.get(1))?
            .pop();
        let seq = last.unwrap_or(0) + 1;
        tx.prepare_cached(&SEQUENCE.replace())?
            .execute(params![channel, seq])?;
        let envelope = Envelope {
            v: VERSION,
            ts: stamp.ts.clone(),
            clock_synced: stamp.clock_synced,
            seq,
            body: &message.body,
        };
        let payload = serde_json::to_vec(&envelope)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        // Only a synchronized clock gives an age.
        let unix_s = stamp.clock_synced.then_some(stamp.unix_s);
        tx.prepare_cached(&OUTBOX.insert())?
            .execute(params![channel, unix_s, payload])?;
    }
    let mut dropped = tx
        .prepare_cached(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE channel <> ?1 ORDER BY id DESC LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![topics::REPLY, limits.messages])?;
    if stamp.clock_synced {
        let oldest = stamp.unix_s.saturating_sub(limits.age_s);
        dropped += tx
            .prepare_cached("DELETE FROM outbox WHERE channel <> ?1 AND unix_s < ?2")?
            .execute(params![topics::REPLY, oldest])?;
    }
    if messages.iter().any(|m| m.channel == topics::REPLY) {
        dropped += tx
            .prepare_cached(
                "DELETE FROM outbox WHERE id IN (SELECT id FROM (
                 SELECT id, row_number() OVER newest AS number, sum(length(payload)) OVER newest AS bytes
                 FROM outbox WHERE channel = ?1 WINDOW newest AS (ORDER BY id DESC)) WHERE number > ?2 OR bytes > ?3)",
            )?
            .execute(params![topics::REPLY, REPLIES_MAX, REPLIES_BYTES_MAX])?;
    }
    if dropped > 0 {
        let before = super::metadata(tx, OUTBOX_DROPPED)?.and_then(|n| n.parse().ok());
        let all = before.unwrap_or(0_usize) + dropped;
        super::set_metadata(tx, OUTBOX_DROPPED, Some(&all.to_string()))?;
    }
    Ok(())
}

impl Ledger {
    /// Adds messages in a transaction of their own.
    pub(crate) fn post(
        &mut self,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        self.write_and_post(messages, stamp, |_| Ok(()))
    }

    /// Up to `limit` messages after the one with `id`, oldest first.
    pub(crate) fn pending_messages(
        &self,
        id: i64,
        limit: usize,
    ) -> Result<Vec<PendingMessage>, StoreError> {
        self.read(|db| {
            let row = |r: &rusqlite::Row<'_>| {
                Ok(PendingMessage {
                    id: r.get(0)?,
                    channel: r.get(1)?,
                    payload: r.get(3)?,
                })
            };
            let after = "WHERE id > ?1 ORDER BY id LIMIT ?2";
            OUTBOX.select(db, after, params![id, limit], row)
        })
    }

    /// Removes messages that the broker has acknowledged.
    pub(crate) fn mark_delivered(&mut self, ids: &[i64]) -> Result<(), StoreError> {
        self.write(|tx| {
            ids.iter().try_for_each(|id| {
                tx.prepare_cached("DELETE FROM outbox WHERE id = ?1")?
                    .execute([id])
                    .map(|_| ())
            })
        })
    }

    /// Number of waiting messages.
    pub(crate) fn pending_message_count(&self) -> Result<u64, StoreError> {
        self.read(|db| {
            db.prepare_cached("SELECT count(*) FROM outbox")?
                .query_row([], |r| r.get(0))
        })
    }

    /// Number of messages that the bounds have dropped since the job began.
    pub(crate) fn dropped_count(&self) -> Result<u64, StoreError> {
        Ok(self
            .metadata(OUTBOX_DROPPED)?
            .and_then(|n| n.parse().ok())
            .unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stamp(unix_s: u64) -> Timestamp {
        Timestamp {
            ts: "2026-01-31T12:00:00.000Z".into(),
            clock_synced: unix_s > 0,
            unix_s,
        }
    }

    fn seqs(ledger: &Ledger) -> Vec<String> {
        let waiting = ledger.pending_messages(0, 100).unwrap();
        waiting
            .iter()
            .map(|w| {
                let value: Value = serde_json::from_slice(&w.payload).unwrap();
                format!("{} {}", w.channel, value["seq"])
            })
            .collect()
    }

    #[test]
    fn numbers_go_on_and_bounds_hold() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        let put = |ledger: &mut Ledger, channel, at| {
            ledger
                .post(&[Message::new(channel, &json!({"x": 1}))], &stamp(at))
                .unwrap();
        };
        // Without a broker nothing is kept and no number is used up.
        put(&mut ledger, "fault", 0);
        assert!(seqs(&ledger).is_empty());
        ledger.set_outbox_limits(Some(OutboxLimits {
            messages: 3,
            age_s: 100,
        }));
        put(&mut ledger, "batch", 0);
        put(&mut ledger, "reply", 1000);
        put(&mut ledger, "fault", 1000);
        let first = ledger.pending_messages(0, 1).unwrap();
        let text = String::from_utf8(first[0].payload.clone()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"ts":"2026-01-31T12:00:00.000Z","clock_synced":false,"seq":1,"x":1}"#
        );
        ledger.mark_delivered(&[first[0].id]).unwrap();
        assert_eq!(seqs(&ledger), ["reply 1", "fault 1"]);
        drop(ledger);
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.set_outbox_limits(Some(OutboxLimits {
            messages: 3,
            age_s: 100,
        }));
        put(&mut ledger, "batch", 0);
        put(&mut ledger, "batch", 1050);
        put(&mut ledger, "batch", 1050);
        // One too many: the oldest that is no reply goes, and is counted.
        assert_eq!(seqs(&ledger), ["reply 1", "batch 2", "batch 3", "batch 4"]);
        assert_eq!(ledger.dropped_count().unwrap(), 1);
        put(&mut ledger, "fault", 1151);
        // Too old by a clock that was synchronized both times; `batch 2` has no known age.
        assert_eq!(seqs(&ledger), ["reply 1", "fault 2"]);
        assert_eq!(ledger.dropped_count().unwrap(), 4);
        assert_eq!(ledger.pending_message_count().unwrap(), 2);
    }

    #[test]
    fn a_flood_of_commands_does_not_grow_the_outbox() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.set_outbox_limits(Some(OutboxLimits {
            messages: 3,
            age_s: 100,
        }));
        ledger
            .post(&[Message::new("batch", &json!({}))], &stamp(0))
            .unwrap();
        let flood = |count: u32, bytes: usize| -> Vec<Message> {
            let reason = "x".repeat(bytes);
            (0..count)
                .map(|_| Message::new("reply", &json!({"reason": reason})))
                .collect()
        };
        ledger
            .post(&flood(REPLIES_MAX + 500, 10), &stamp(0))
            .unwrap();
        let waiting = ledger.pending_messages(0, usize::MAX >> 1).unwrap();
        assert_eq!(
            waiting.len(),
            REPLIES_MAX as usize + 1,
            "the batch and the newest replies"
        );
        assert_eq!(waiting[0].channel, "batch");
        assert_eq!(ledger.dropped_count().unwrap(), 500);
        ledger.post(&flood(100, 60_000), &stamp(0)).unwrap();
        let waiting = ledger.pending_messages(0, usize::MAX >> 1).unwrap();
        let bytes: usize = waiting.iter().map(|m| m.payload.len()).sum();
        assert!(
            (4_000_000..REPLIES_BYTES_MAX as usize).contains(&bytes),
            "{bytes}"
        );
        assert!(
            waiting.last().unwrap().payload.len() > 60_000,
            "the newest stay"
        );
    }
}
