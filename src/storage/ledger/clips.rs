//! The finished clips and the batches that hold them.
//!
//! The sequence of a clip is staged in the transaction that records the clip. The transaction that marks its batch sealed
//! removes it. That one comes after the batch file is durable.

use super::outbox::{Message, insert_messages};
use super::{Ledger, params};
use crate::messages::payloads::Timestamp;
use crate::storage::StoreError;
use crate::storage::batches::SealedBatch;
use rusqlite::{OptionalExtension, Transaction};
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
    /// What the manifest says of it, as JSON.
    pub clip: Option<String>,
}

/// A position for SQLite. Plans are far smaller than its range.
fn number(position: usize) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// A position or count that [`number`] wrote, from column `at`.
fn position(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<usize> {
    let n: i64 = row.get(at)?;
    usize::try_from(n).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, n))
}

impl Ledger {
    /// All finished clips, by position.
    ///
    /// # Errors
    /// When SQLite fails.
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
                Ok((position(r, 0)?, clip))
            };
            query.query_map([], row)?.collect()
        })
    }

    /// Records a clip with its sequence, if it was accepted, and the messages about it: one transaction.
    ///
    /// # Errors
    /// When SQLite fails; nothing is then recorded.
    pub fn record(
        &mut self,
        position: usize,
        clip: &ClipRecord,
        staged: Option<&[u8]>,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        let limits = self.limits;
        self.write(|tx| {
            tx.prepare_cached("INSERT INTO clip VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![
                    number(position),
                    clip.key,
                    clip.state,
                    clip.reason,
                    clip.clip
                ])?;
            if let Some(row) = staged {
                stage(tx, position, row)?;
            }
            insert_messages(tx, limits, messages, stamp)
        })
    }

    /// Changes the state of a finished clip and removes its staged sequence.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn set_state(
        &mut self,
        position: usize,
        state: &str,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "UPDATE clip SET state = ?2, reason = ?3 WHERE position = ?1",
                params![number(position), state, reason],
            )?;
            tx.execute("DELETE FROM staged WHERE position = ?1", [number(position)])
                .map(|_| ())
        })
    }

    /// The staged sequences of the clips in `positions`, in order.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn staged(&self, positions: Range<usize>) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached(
                "SELECT row FROM staged WHERE position >= ?1 AND position < ?2 ORDER BY position",
            )?;
            let range = [number(positions.start), number(positions.end)];
            query.query_map(range, |r| r.get(0))?.collect()
        })
    }

    /// Number of clips in `positions` that have a staged sequence.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn staged_count(&self, positions: Range<usize>) -> Result<usize, StoreError> {
        self.read(|db| {
            let range = [number(positions.start), number(positions.end)];
            db.query_row(
                "SELECT count(*) FROM staged WHERE position >= ?1 AND position < ?2",
                range,
                |r| position(r, 0),
            )
        })
    }

    /// The sealed batches, by number.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn sealed(&self) -> Result<BTreeMap<usize, SealedBatch>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare("SELECT number, rows, sha256 FROM batch ORDER BY 1")?;
            let row = |r: &rusqlite::Row<'_>| {
                let sealed = SealedBatch {
                    rows: position(r, 1)?,
                    sha256: r.get(2)?,
                };
                Ok((position(r, 0)?, sealed))
            };
            query.query_map([], row)?.collect()
        })
    }

    /// Marks `batch` sealed and removes the staged sequences of `positions`. Its file must be durable already.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn seal(
        &mut self,
        batch: usize,
        positions: Range<usize>,
        sealed: &SealedBatch,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        let limits = self.limits;
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO batch VALUES (?1, ?2, ?3)",
                params![number(batch), number(sealed.rows), sealed.sha256],
            )?;
            tx.execute(
                "DELETE FROM staged WHERE position >= ?1 AND position < ?2",
                [number(positions.start), number(positions.end)],
            )?;
            insert_messages(tx, limits, messages, stamp)
        })
    }

    /// Removes the mark of `batch` and stages its sequences again. `rows` has their positions.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn unseal(&mut self, batch: usize, rows: &[(usize, Vec<u8>)]) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM batch WHERE number = ?1", [number(batch)])?;
            rows.iter()
                .try_for_each(|(position, row)| stage(tx, *position, row))
        })
    }

    /// Removes the mark of `batch`, whose file is lost, and forgets its accepted clips, which are then read again.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn discard_batch(
        &mut self,
        batch: usize,
        positions: Range<usize>,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        let limits = self.limits;
        self.write(|tx| {
            tx.execute("DELETE FROM batch WHERE number = ?1", [number(batch)])?;
            tx.execute(
                "DELETE FROM clip WHERE state = 'accepted' AND position >= ?1 AND position < ?2",
                [number(positions.start), number(positions.end)],
            )?;
            insert_messages(tx, limits, messages, stamp)
        })
    }

    /// Forgets the clips in one of `states` from position `from` on and returns their number. No batch that holds one may
    /// be sealed.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn forget_clips(&mut self, states: &[&str], from: usize) -> Result<usize, StoreError> {
        self.write(|tx| {
            states.iter().try_fold(0, |n, state| {
                Ok(n + tx.execute(
                    "DELETE FROM clip WHERE state = ?1 AND position >= ?2",
                    params![state, number(from)],
                )?)
            })
        })
    }

    /// Moves the clips from the keys of `moves` to its values, forgets the others, and sets the settings of the job: one
    /// transaction. No batch at or behind a moved clip may be sealed.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn renumber_clips(
        &mut self,
        moves: &BTreeMap<usize, usize>,
        settings: &serde_json::Value,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute_batch(
                "CREATE TEMP TABLE old_clip AS SELECT * FROM clip; CREATE TEMP TABLE old_staged AS SELECT * FROM staged;
                 DELETE FROM clip; DELETE FROM staged;",
            )?;
            for (from, to) in moves {
                let moved = [number(*from), number(*to)];
                tx.prepare_cached(
                    "INSERT INTO clip SELECT ?2, key, state, reason, clip FROM old_clip WHERE position = ?1",
                )?
                .execute(moved)?;
                tx.prepare_cached(
                    "INSERT INTO staged SELECT ?2, row FROM old_staged WHERE position = ?1",
                )?
                .execute(moved)?;
            }
            tx.execute_batch("DROP TABLE old_clip; DROP TABLE old_staged;")?;
            super::set_metadata(tx, "settings", &settings.to_string())
        })
    }

    /// The state of the clip at `position`, if it is finished.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn state_of(&self, position: usize) -> Result<Option<String>, StoreError> {
        self.read(|db| {
            db.prepare_cached("SELECT state FROM clip WHERE position = ?1")?
                .query_row([number(position)], |r| r.get(0))
                .optional()
        })
    }
}

fn stage(tx: &Transaction<'_>, position: usize, row: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO staged VALUES (?1, ?2)")?
        .execute(params![number(position), row])
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
        let said = [Message::new("fault", &json!({"n": 1}))];
        for (position, state) in ["accepted", "too_short", "accepted", "unreadable"]
            .into_iter()
            .enumerate()
        {
            let row = format!("row {position}");
            let staged = (state == "accepted").then_some(row.as_bytes());
            let said = if state == "unreadable" {
                &said[..]
            } else {
                &[]
            };
            ledger
                .record(position, &clip(state), staged, said, &stamp)
                .unwrap();
        }
        // A clip is recorded once.
        assert!(
            ledger
                .record(1, &clip("accepted"), None, &said, &stamp)
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
        ledger.seal(0, 0..2, &sealed(1), &said, &stamp).unwrap();
        assert_eq!(rows(&ledger, 0..4), ["row 2"]);
        assert_eq!(ledger.sealed().unwrap()[&0], sealed(1));
        ledger.unseal(0, &[(0, b"row 0".to_vec())]).unwrap();
        assert_eq!(rows(&ledger, 0..4), ["row 0", "row 2"]);
        assert!(ledger.sealed().unwrap().is_empty());
        ledger.set_state(2, "over_limit", Some("full")).unwrap();
        assert_eq!(rows(&ledger, 0..4), ["row 0"]);
        assert_eq!(ledger.state_of(2).unwrap().as_deref(), Some("over_limit"));
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
        ledger.discard_batch(0, 0..2, &said, &stamp).unwrap();
        assert!(ledger.clips().unwrap().is_empty());
        assert_eq!(ledger.pending_message_count().unwrap(), 3);
    }
}
