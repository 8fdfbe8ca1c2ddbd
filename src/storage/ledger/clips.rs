//! The finished clips and the batches that hold them.
//!
//! The sequence of a clip is staged in the transaction that records the clip. The transaction that marks its batch
//! sealed removes it, after the batch file is durable. Files with kept frames are recorded in the same way: see
//! [`super::parts`].

use super::checksum::{BATCH, CLIP, PART, STAGED};
use super::outbox::Message;
use super::parts::{DROP_ORPHANS, frames_files, mark_frames_file, parts_in, put_part};
use super::{Ledger, PartRecord, params};
use crate::messages::payloads::Timestamp;
use crate::storage::StoreError;
use crate::storage::batches::SealedBatch;
use rusqlite::Transaction;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// A finished clip or take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClipRecord {
    /// Everything that decides its outcome, except the settings. A rescan finds the clip by it.
    pub key: String,
    /// The name of its state, for example `accepted`.
    pub state: String,
    /// Why it was not accepted.
    pub reason: Option<String>,
    /// Its part of the manifest, as JSON.
    pub clip: Option<String>,
    /// The file with its kept frames, until its batch is sealed.
    pub part: Option<PartRecord>,
}

impl Ledger {
    /// All finished clips, by position.
    pub fn clips(&self) -> Result<BTreeMap<usize, ClipRecord>, StoreError> {
        self.clips_in(0..usize::MAX)
    }

    /// The finished clips in `positions`.
    pub(crate) fn clips_in(
        &self,
        positions: Range<usize>,
    ) -> Result<BTreeMap<usize, ClipRecord>, StoreError> {
        self.read(|db| {
            let mut parts = parts_in(db, &positions)?;
            let row = |r: &rusqlite::Row<'_>| {
                let position = r.get(0)?;
                let clip = ClipRecord {
                    key: r.get(1)?,
                    state: r.get(2)?,
                    reason: r.get(3)?,
                    clip: r.get(4)?,
                    part: parts.remove(&position),
                };
                Ok((position, clip))
            };
            let clips = CLIP.select(db, IN_RANGE, limits(&positions), row)?;
            Ok(clips.into_iter().collect())
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
            put(tx, &CLIP.insert(), position, clip)?;
            staged.map_or(Ok(()), |row| stage(tx, position, row))
        })
    }

    /// Changes the state of a finished clip; removes its staged sequence and its part.
    pub(crate) fn set_state(
        &mut self,
        position: usize,
        state: &str,
        reason: Option<&str>,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            let clip = CLIP.select(tx, "WHERE position = ?1", [position], |r| {
                Ok(ClipRecord {
                    key: r.get(1)?,
                    state: state.to_owned(),
                    reason: reason.map(str::to_owned),
                    clip: r.get(4)?,
                    part: None,
                })
            })?;
            for clip in &clip {
                put(tx, &CLIP.replace(), position, clip)?;
            }
            tx.execute("DELETE FROM part WHERE position = ?1", [position])?;
            tx.execute("DELETE FROM staged WHERE position = ?1", [position])
                .map(|_| ())
        })
    }

    /// The staged sequences of the clips in `positions`.
    pub fn staged(&self, positions: Range<usize>) -> Result<BTreeMap<usize, Vec<u8>>, StoreError> {
        self.read(|db| {
            let row = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?));
            let rows = STAGED.select(db, IN_RANGE, limits(&positions), row)?;
            Ok(rows.into_iter().collect())
        })
    }

    /// The positions of all staged sequences.
    pub(crate) fn staged_positions(&self) -> Result<BTreeSet<usize>, StoreError> {
        self.read(|db| {
            let mut query = db.prepare_cached("SELECT position FROM staged")?;
            query.query_map([], |r| r.get(0))?.collect()
        })
    }

    /// The sealed batches, by number.
    pub fn sealed(&self) -> Result<BTreeMap<usize, SealedBatch>, StoreError> {
        self.read(|db| {
            let mut frames = frames_files(db)?;
            let row = |r: &rusqlite::Row<'_>| {
                let number = r.get(0)?;
                let sealed = SealedBatch {
                    rows: r.get(1)?,
                    sha256: r.get(2)?,
                    frames_sha256: frames.remove(&number),
                };
                Ok((number, sealed))
            };
            Ok(BATCH.select(db, "", [], row)?.into_iter().collect())
        })
    }

    /// Marks `batch` sealed and removes the staged sequences of `positions`, and their parts when their frames are in
    /// the file of the batch. Its files must be durable already.
    pub(crate) fn seal(
        &mut self,
        batch: usize,
        positions: Range<usize>,
        sealed: &SealedBatch,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        self.write_and_post(messages, stamp, |tx| {
            tx.prepare_cached(&BATCH.replace())?.execute(params![
                batch,
                sealed.rows,
                sealed.sha256
            ])?;
            mark_frames_file(tx, batch, sealed.frames_sha256.as_deref())?;
            ["staged", "part"].iter().try_for_each(|table| {
                tx.execute(
                    &format!("DELETE FROM {table} WHERE position >= ?1 AND position < ?2"),
                    [positions.start, positions.end],
                )
                .map(|_| ())
            })
        })
    }

    /// Marks `batch` sealed with its `clips`, which replace all records of its `positions`. Its files must be durable
    /// already.
    pub(crate) fn adopt_batch(
        &mut self,
        batch: usize,
        positions: Range<usize>,
        clips: &BTreeMap<usize, ClipRecord>,
        sealed: &SealedBatch,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            ["clip", "staged", "part"].iter().try_for_each(|table| {
                let delete = format!("DELETE FROM {table} WHERE position >= ?1 AND position < ?2");
                tx.execute(&delete, limits(&positions)).map(|_| ())
            })?;
            (clips.iter())
                .try_for_each(|(position, clip)| put(tx, &CLIP.insert(), *position, clip))?;
            tx.prepare_cached(&BATCH.replace())?.execute(params![
                batch,
                sealed.rows,
                sealed.sha256
            ])?;
            mark_frames_file(tx, batch, sealed.frames_sha256.as_deref())
        })
    }

    /// Marks `batch` as not sealed, stages its sequences again and records the parts that its frames are in again.
    /// `rows` and `parts` have their positions.
    pub(crate) fn unseal(
        &mut self,
        batch: usize,
        rows: &[(usize, Vec<u8>)],
        parts: &[(usize, PartRecord)],
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute("DELETE FROM batch WHERE number = ?1", [batch])?;
            mark_frames_file(tx, batch, None)?;
            (parts.iter()).try_for_each(|(position, part)| put_part(tx, *position, part))?;
            rows.iter()
                .try_for_each(|(position, row)| stage(tx, *position, row))
        })
    }

    /// Marks `batch`, a file of which is lost, as not sealed and forgets its accepted clips, or `all` of its clips:
    /// they are then read again.
    pub(crate) fn discard_batch(
        &mut self,
        batch: usize,
        positions: Range<usize>,
        all: bool,
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        self.write_and_post(messages, stamp, |tx| {
            tx.execute("DELETE FROM batch WHERE number = ?1", [batch])?;
            mark_frames_file(tx, batch, None)?;
            tx.execute(
                "DELETE FROM clip WHERE (?3 OR state = 'accepted') AND position >= ?1 AND position < ?2",
                params![positions.start, positions.end, all],
            )?;
            tx.execute(DROP_ORPHANS, []).map(|_| ())
        })
    }

    /// Forgets the clips at `positions`, which are then read again.
    pub(crate) fn forget_positions(
        &mut self,
        positions: &[usize],
        messages: &[Message],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        self.write_and_post(messages, stamp, |tx| {
            positions.iter().try_for_each(|position| {
                tx.execute("DELETE FROM clip WHERE position = ?1", [position])?;
                tx.execute("DELETE FROM staged WHERE position = ?1", [position])
                    .map(|_| ())
            })?;
            tx.execute(DROP_ORPHANS, []).map(|_| ())
        })
    }

    /// Forgets the clips in one of `states` from position `from` on and returns their number. No batch that holds one
    /// may be sealed.
    pub(crate) fn forget_clips(
        &mut self,
        states: &[&str],
        from: usize,
    ) -> Result<usize, StoreError> {
        self.write(|tx| {
            let forgotten = states.iter().try_fold(0, |n, state| {
                Ok::<_, rusqlite::Error>(
                    n + tx.execute(
                        "DELETE FROM clip WHERE state = ?1 AND position >= ?2",
                        params![state, from],
                    )?,
                )
            })?;
            tx.execute(DROP_ORPHANS, [])?;
            Ok(forgotten)
        })
    }

    /// Moves the clips from the keys of `moves` to its values, forgets the others, and sets the settings of the job:
    /// one transaction. No batch with a moved clip, or after one, may be sealed.
    pub(crate) fn renumber_clips(
        &mut self,
        moves: &BTreeMap<usize, usize>,
        settings: &serde_json::Value,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            for (name, table) in [("clip", &CLIP), ("staged", &STAGED), ("part", &PART)] {
                // The moves go through negative numbers, so that no clip collides with one that has not moved yet.
                let away = table.move_rows("-1 - ?2", "position = ?1");
                for (from, to) in moves {
                    tx.prepare_cached(&away)?.execute([from, to])?;
                }
                let forget = format!("DELETE FROM {name} WHERE position >= 0");
                tx.execute(&forget, [])?;
                tx.execute(&table.move_rows("-1 - position", "position < 0"), [])?;
            }
            super::set_metadata(tx, "settings", Some(&settings.to_string()))
        })
    }
}

/// SQL clause that selects a range of positions.
pub(super) const IN_RANGE: &str = "WHERE position >= ?1 AND position < ?2 ORDER BY position";

/// The parameters of [`IN_RANGE`].
pub(super) fn limits(positions: &Range<usize>) -> [i64; 2] {
    let limit = |position: usize| i64::try_from(position).unwrap_or(i64::MAX);
    [limit(positions.start), limit(positions.end)]
}

fn put(
    tx: &Transaction<'_>,
    sql: &str,
    position: usize,
    clip: &ClipRecord,
) -> rusqlite::Result<()> {
    let ClipRecord {
        key,
        state,
        reason,
        clip,
        part,
    } = clip;
    tx.prepare_cached(sql)?
        .execute(params![position, key, state, reason, clip])?;
    part.as_ref()
        .map_or(Ok(()), |part| put_part(tx, position, part))
}

fn stage(tx: &Transaction<'_>, position: usize, row: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached(&STAGED.replace())?
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
            part: None,
        }
    }

    fn sealed(rows: usize) -> SealedBatch {
        SealedBatch {
            rows,
            sha256: "ab".into(),
            frames_sha256: None,
        }
    }

    #[test]
    fn a_batch_goes_through_its_states() {
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
            rows.into_values()
                .map(|r| String::from_utf8(r).unwrap())
                .collect()
        };
        assert_eq!(rows(&ledger, 0..4), ["row 0", "row 2"]);
        assert_eq!(rows(&ledger, 0..2), ["row 0"]);
        ledger.seal(0, 0..2, &sealed(1), &messages, &stamp).unwrap();
        assert_eq!(rows(&ledger, 0..4), ["row 2"]);
        assert_eq!(ledger.sealed().unwrap()[&0], sealed(1));
        ledger.unseal(0, &[(0, b"row 0".to_vec())], &[]).unwrap();
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
        ledger
            .discard_batch(0, 0..2, false, &messages, &stamp)
            .unwrap();
        assert!(ledger.clips().unwrap().is_empty());
        assert_eq!(ledger.pending_message_count().unwrap(), 3);
    }
}
