//! The finished clips and the batches that hold them.
//!
//! The sequence of a clip is staged in the transaction that records the clip. The transaction that marks its batch sealed
//! removes it. That one comes after the batch file is durable.

use super::outbox::Message;
use super::{Ledger, params};
use crate::messages::payloads::Timestamp;
use crate::storage::StoreError;
use crate::storage::batches::SealedBatch;
use rusqlite::Transaction;
use std::collections::BTreeMap;
use std::ops::Range;

/// A finished clip or take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClipRecord {
    /// Everything beside the settings that decides its outcome. A rescan finds the clip by it.
    pub key: String,
    /// The name of its state.
    pub state: String,
    /// Why it was not accepted.
    pub reason: Option<String>,
    /// Its part of the manifest, as JSON.
    pub clip: Option<String>,
}

impl Ledger {
    /// All finished clips, by position.
    pub fn clips(&self) -> Result<BTreeMap<usize, ClipRecord>, StoreError> {
        self.read(|db| {
            let mut query =
                db.prepare("SELECT position, key, state, reason, clip FROM clip ORDER BY 1")?;
            let row = |r: &rusqlite::Row<'_>| {
                let clip = ClipRecord {
                    key: r.get(1)?,
                    state: r.get(2)?,
                    reason: r.get(3)?,
                    clip: r.get(4)?,
                };
                Ok((r.get(0)?, clip))
            };
            query.query_map([], row)?.collect()
        })
    }

    /// Records a clip with its sequence, if it was accepted, and the messages about it: one transaction.
    pub(crate) fn record(
        &mut self,
        position: usize,
        clip: &ClipRecord,
        staged: Option<&[u8]>,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        self.write_and_post(messages, stamp, |tx| {
            tx.prepare_cached("INSERT INTO clip VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    position,
                    clip.key,
                    clip.state,
                    clip.reason,
                    clip.clip
                ])?;
            staged.map_or(Ok(()), |row| stage(tx, position, row))
        })
    }

    /// Changes the state of a finished clip and removes its staged sequence.
    pub(crate) fn set_state(
        &mut self,
        position: usize,
        state: &str,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE clip SET state = ?2, reason = ?3 WHERE position = ?1",
                params![position, state, reason],
            )?;
            tx.execute("DELETE FROM staged WHERE position = ?1", [position])
                .map(|_| ())
        })
    }

    /// The staged sequences of the clips in `positions`, in order.
    pub fn staged(&self, positions: Range<usize>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT row FROM staged WHERE position >= ?1 AND position < ?2 ORDER BY position",
            )?;
            let range = [positions.start, positions.end];
            query.query_map(range, |r| r.get(0))?.collect()
        })
    }

    /// The sealed batches, by number.
    pub fn sealed(&self) -> Result<BTreeMap<usize, SealedBatch>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare("SELECT number, rows, sha256 FROM batch ORDER BY 1")?;
            let row = |r: &rusqlite::Row<'_>| {
                let sealed = SealedBatch {
                    rows: r.get(1)?,
                    sha256: r.get(2)?,
                };
                Ok((r.get(0)?, sealed))
            };
            query.query_map([], row)?.collect()
        })
    }

    /// Marks `batch` sealed and removes the staged sequences of `positions`. Its file must be durable already.
    pub(crate) fn seal(
        &mut self,
        batch: usize,
        positions: Range<usize>,
        sealed: &SealedBatch,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        self.write_and_post(messages, stamp, |tx| {
            tx.execute(
                "INSERT OR REPLACE INTO batch VALUES (?1, ?2, ?3)",
                params![batch, sealed.rows, sealed.sha256],
            )?;
            tx.execute(
                "DELETE FROM staged WHERE position >= ?1 AND position < ?2",
                [positions.start, positions.end],
            )
            .map(|_| ())
        })
    }

    /// Removes the mark of `batch` and stages its sequences again. `rows` has their positions.
    pub(crate) fn unseal(
        &mut self,
        batch: usize,
        rows: &[(usize, Vec<u8>)],
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM batch WHERE number = ?1", [batch])?;
            rows.iter()
                .try_for_each(|(position, row)| stage(tx, *position, row))
        })
    }

    /// Removes the mark of `batch`, whose file is lost, and forgets its accepted clips, which are then read again.
    pub(crate) fn discard_batch(
        &mut self,
        batch: usize,
        positions: Range<usize>,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        self.write_and_post(messages, stamp, |tx| {
            tx.execute("DELETE FROM batch WHERE number = ?1", [batch])?;
            tx.execute(
                "DELETE FROM clip WHERE state = 'accepted' AND position >= ?1 AND position < ?2",
                [positions.start, positions.end],
            )
            .map(|_| ())
        })
    }

    /// Forgets the clips in one of `states` from position `from` on and returns their number. No batch that holds one may
    /// be sealed.
    pub(crate) fn forget_clips(
        &mut self,
        states: &[&str],
        from: usize,
    ) -> Result<usize, StoreError> {
        self.write(|tx| {
            states.iter().try_fold(0, |n, state| {
                Ok(n + tx.execute(
                    "DELETE FROM clip WHERE state = ?1 AND position >= ?2",
                    params![state, from],
                )?)
            })
        })
    }

    /// Moves the clips from the keys of `moves` to its values, forgets the others, and sets the settings of the job: one
    /// transaction. No batch at or behind a moved clip may be sealed.
    pub(crate) fn renumber_clips(
        &mut self,
        moves: &BTreeMap<usize, usize>,
        settings: &serde_json::Value,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            for table in ["clip", "staged"] {
                // By way of negative numbers, so that no clip meets one that has not moved yet.
                let set = format!("UPDATE {table} SET position = -1 - ?2 WHERE position = ?1");
                for (from, to) in moves {
                    tx.prepare_cached(&set)?.execute([from, to])?;
                }
                tx.execute_batch(&format!(
                    "DELETE FROM {table} WHERE position >= 0; UPDATE {table} SET position = -1 - position"
                ))?;
            }
            super::set_metadata(tx, "settings", Some(&settings.to_string()))
        })
    }
}

fn stage(tx: &Transaction<'_>, position: usize, row: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO staged VALUES (?1, ?2)")?
        .execute(params![position, row])
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ledger::OutboxLimits;
    use serde_json::json;

    fn clip(state: &str) -> ClipRecord {
        ClipRecord {
            key: format!("key of {state}"),
            state: state.to_owned(),
            reason: (state != "accepted").then(|| "why".to_owned()),
            clip: Some("{}".to_owned()),
        }
    }

    fn sealed(rows: usize) -> SealedBatch {
        SealedBatch {
            rows,
            sha256: "ab".into(),
        }
    }

    #[test]
    fn a_batch_goes_through_its_life() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.set_outbox_limits(Some(OutboxLimits {
            messages: 10,
            age_s: 3600,
        }));
        let stamp = Timestamp::default();
        let messages = [Message::new("fault", &json!({"n": 1}))];
        for (position, state) in ["accepted", "too_short", "accepted", "unreadable"]
            .into_iter()
            .enumerate()
        {
            let row = format!("row {position}");
            let staged = (state == "accepted").then_some(row.as_bytes());
            let messages = if state == "unreadable" {
                &messages[..]
            } else {
                &[]
            };
            ledger
                .record(position, &clip(state), staged, messages, &stamp)
                .unwrap();
        }
        // A clip is recorded once.
        assert!(
            ledger
                .record(1, &clip("accepted"), None, &messages, &stamp)
                .is_err()
        );
        assert_eq!(ledger.pending_message_count().unwrap(), 1);
        let rows = |ledger: &Ledger, range| -> Vec<String> {
            let rows = ledger.staged(range).unwrap();
            rows.into_iter()
                .map(|r| String::from_utf8(r).unwrap())
                .collect()
        };
        assert_eq!(rows(&ledger, 0..4), ["row 0", "row 2"]);
        assert_eq!(rows(&ledger, 0..2), ["row 0"]);
        ledger.seal(0, 0..2, &sealed(1), &messages, &stamp).unwrap();
        assert_eq!(rows(&ledger, 0..4), ["row 2"]);
        assert_eq!(ledger.sealed().unwrap()[&0], sealed(1));
        ledger.unseal(0, &[(0, b"row 0".to_vec())]).unwrap();
        assert_eq!(rows(&ledger, 0..4), ["row 0", "row 2"]);
        assert!(ledger.sealed().unwrap().is_empty());
        ledger.set_state(2, "over_limit", Some("full")).unwrap();
        assert_eq!(rows(&ledger, 0..4), ["row 0"]);
        assert_eq!(ledger.clips().unwrap()[&2].state, "over_limit");
        assert_eq!(
            ledger
                .forget_clips(&["unreadable", "over_limit"], 2)
                .unwrap(),
            2
        );
        assert_eq!(ledger.clips().unwrap().len(), 2);
        ledger
            .renumber_clips(&BTreeMap::from([(0, 1)]), &json!({"new": 1}))
            .unwrap();
        assert_eq!(
            ledger.clips().unwrap(),
            BTreeMap::from([(1, clip("accepted"))])
        );
        assert_eq!(rows(&ledger, 1..2), ["row 0"]);
        ledger.seal(0, 0..2, &sealed(1), &[], &stamp).unwrap();
        ledger.discard_batch(0, 0..2, &messages, &stamp).unwrap();
        assert!(ledger.clips().unwrap().is_empty());
        assert_eq!(ledger.pending_message_count().unwrap(), 3);
    }
}
