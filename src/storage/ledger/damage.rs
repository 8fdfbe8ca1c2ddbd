//! Damaged rows, which have changed since they were written: they are dropped and reported.

use super::checksum::{META, TABLES, is_damage};
use super::outbox::Message;
use super::{Ledger, bad};
use crate::messages::payloads::Fault;
use crate::messages::topics;
use crate::storage::StoreError;

/// Text of messages: what is done about a damaged row.
const DROPPED: &str =
    "it is dropped: a job reads its clip again, a take is lost; check disk and memory";

/// Text of messages: what is lost when SQLite stops reading the log early.
const LOG: &str = "the end of the log";

/// Metadata without which a job cannot be resumed. It is not dropped: the ledger is refused.
const REQUIRED: [&str; 2] = ["settings", "run"];

impl Ledger {
    /// Whether `error` reports a damaged row. Damaged rows are then dropped, so that another attempt may succeed.
    pub(super) fn drops(&self, error: &rusqlite::Error) -> Result<bool, StoreError> {
        let is_damage = is_damage(error) && !self.db.is_readonly("main").unwrap_or(true);
        if is_damage {
            self.drop_damaged()?;
        }
        Ok(is_damage)
    }

    /// The fault message about a dropped row.
    pub(super) fn damage_fault(&self, what: &str) -> Message {
        let path = self.path.display();
        let fault = Fault {
            run: None,
            component: "ledger".to_owned(),
            clip: None,
            reason: format!("{what} in the ledger {path} has changed since it was written"),
            action: DROPPED.to_owned(),
        };
        Message::new(topics::FAULT, &fault)
    }

    /// Removes all rows that have changed since they were written, and logs them. The next transaction with messages
    /// adds a fault about each.
    pub(super) fn drop_damaged(&self) -> Result<(), StoreError> {
        let dropped = (|| {
            let tx = self.db.unchecked_transaction()?;
            let mut dropped = Vec::new();
            for table in &TABLES {
                dropped.extend(table.drop_damaged(&tx)?);
            }
            let required = REQUIRED.map(|key| format!("{} {key}", META.content));
            if dropped.iter().any(|what| required.contains(what)) {
                tx.rollback()?;
                return Ok(None);
            }
            tx.commit()?;
            Ok(Some(dropped))
        })();
        let Some(dropped) = dropped.map_err(|source| self.error(source))? else {
            return Err(bad(
                &self.path,
                &"the settings of its job have changed since they were written",
            ));
        };
        for what in &dropped {
            let path = self.path.display();
            tracing::warn!(
                "{what} in the ledger {path} has changed since it was written: {DROPPED}"
            );
        }
        self.dropped.borrow_mut().extend(dropped);
        Ok(())
    }

    /// Reports that SQLite drops the end of the log.
    pub(super) fn report_lost_log(&self) {
        let path = self.path.display();
        tracing::warn!("{LOG} in the ledger {path} has changed since it was written: {DROPPED}");
        self.dropped.borrow_mut().push(LOG.to_owned());
    }

    /// Returns the faults about dropped rows, for the outbox of another ledger. Each is returned once.
    pub(crate) fn take_faults(&mut self) -> Vec<Message> {
        let dropped = self.dropped.take();
        dropped.iter().map(|what| self.damage_fault(what)).collect()
    }

    /// Removes the record of a clip, as if it were damaged.
    #[cfg(test)]
    pub(crate) fn lose_clip(&self, position: usize) {
        let sql = "DELETE FROM clip WHERE position = ?1";
        self.db.execute(sql, [position]).unwrap();
    }

    /// Whether a row was dropped that no fault reports yet.
    #[cfg(test)]
    pub(crate) fn has_dropped(&self) -> bool {
        !self.dropped.borrow().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::payloads::Timestamp;
    use crate::storage::batches::SealedBatch;
    use crate::storage::ledger::{ClipRecord, JobIdentity, LEDGER_NAME, OutboxLimits, PartRecord};
    use rusqlite::Connection;
    use serde_json::json;
    use tempfile::TempDir;

    /// A ledger with a row in each table.
    fn filled() -> (TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.set_outbox_limits(Some(OutboxLimits {
            messages: 10,
            age_s: 1,
        }));
        let job = JobIdentity {
            settings: json!({}),
            run: "r".to_owned(),
        };
        ledger.begin_job(&job).unwrap();
        ledger.set_metadata("started", Some("1")).unwrap();
        let at = Timestamp::default();
        let clip = ClipRecord {
            state: "accepted".to_owned(),
            ..ClipRecord::default()
        };
        let message = [Message::new(topics::BATCH, &json!({"n": 1}))];
        ledger
            .record(0, &clip, Some(b"row"), &message, &at)
            .unwrap();
        let part = PartRecord {
            name: "0123456789abcdef".to_owned(),
            frames: 7,
            sha256: "ab".to_owned(),
        };
        let clip = ClipRecord {
            part: Some(part),
            ..clip
        };
        ledger.record(1, &clip, Some(b"row"), &[], &at).unwrap();
        let sealed = SealedBatch {
            rows: 1,
            sha256: "ab".to_owned(),
            frames_sha256: Some("cd".to_owned()),
        };
        ledger.seal(3, 9..9, &sealed, &[], &at).unwrap();
        ledger.record_command("a", "pause", &at).unwrap();
        (dir, ledger)
    }

    fn change(dir: &TempDir, sql: &str) {
        let db = Connection::open(dir.path().join(LEDGER_NAME)).unwrap();
        assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
    }

    fn payloads(ledger: &Ledger) -> Vec<String> {
        let messages = ledger.pending_messages(0, 100).unwrap();
        let text = |m: crate::storage::ledger::PendingMessage| String::from_utf8(m.payload);
        messages.into_iter().map(|m| text(m).unwrap()).collect()
    }

    #[test]
    fn a_changed_row_is_dropped_and_reported_whatever_its_table() {
        /// Returns whether the row is gone.
        type IsGone = fn(&mut Ledger) -> bool;
        let changes: [(&str, &str, IsGone); 11] = [
            (
                "UPDATE meta SET value = '3' WHERE key = 'started'",
                "the value of started",
                |l| l.metadata("started").unwrap().is_none(),
            ),
            (
                "UPDATE clip SET state = 'acceptee' WHERE position = 1",
                "clip 1",
                |l| l.clips().unwrap().len() == 1,
            ),
            (
                "UPDATE clip SET position = 5 WHERE position = 1",
                "clip 5",
                |l| l.clips().unwrap().len() == 1,
            ),
            (
                "UPDATE staged SET row = x'726f76' WHERE position = 0",
                "clip 0",
                |l| l.staged(0..9).unwrap().into_keys().eq([1]),
            ),
            (
                "UPDATE staged SET sum = sum + 1 WHERE position = 0",
                "clip 0",
                |l| l.staged(0..9).unwrap().into_keys().eq([1]),
            ),
            (
                "UPDATE part SET frames = 8",
                "the kept frames of clip 1",
                |l| l.clips().unwrap()[&1].part.is_none(),
            ),
            (
                "UPDATE frames_file SET sha256 = 'ce'",
                "the kept frames of batch 3",
                |l| l.sealed().unwrap()[&3].frames_sha256.is_none(),
            ),
            ("UPDATE batch SET rows = 3", "batch 3", |l| {
                l.sealed().unwrap().is_empty()
            }),
            (
                "UPDATE outbox SET payload = x'7b7d' WHERE channel = 'batch'",
                "message on batch",
                |l| {
                    payloads(l)
                        .iter()
                        .all(|p| !p.contains("\"n\"") && p.len() > 2)
                },
            ),
            ("UPDATE command SET name = 'pausf'", "command a", |l| {
                !l.knows_command("a").unwrap()
            }),
            (
                "UPDATE sequence SET last = 9 WHERE channel = 'batch'",
                "number of batch",
                |l| {
                    let message = [Message::new(topics::BATCH, &json!({"n": 2}))];
                    l.post(&message, &Timestamp::default()).unwrap();
                    payloads(l).iter().any(|p| p.contains("\"seq\":1,\"n\":2"))
                },
            ),
        ];
        for (sql, what, is_gone) in changes {
            let (dir, mut ledger) = filled();
            change(&dir, sql);
            assert!(is_gone(&mut ledger), "{sql}");
            let dropped = ledger.dropped.borrow().clone();
            // A message that was written meanwhile has reported it.
            let is_reported = dropped.iter().any(|d| d.ends_with(what));
            let post = ledger.post(&[], &Timestamp::default());
            post.unwrap();
            assert!(ledger.dropped.borrow().is_empty());
            let all = payloads(&ledger).concat();
            let fault = format!("{what} in the ledger ");
            assert!(all.contains(&fault) || is_reported, "{sql}: {all}");
            assert!(all.contains("\"component\":\"ledger\""), "{sql}: {all}");
            // The same at the next start.
            let (dir, ledger) = filled();
            drop(ledger);
            change(&dir, sql);
            let mut ledger = Ledger::open(dir.path()).unwrap();
            assert!(ledger.has_dropped(), "{sql}");
            ledger.set_outbox_limits(Some(OutboxLimits {
                messages: 10,
                age_s: 1,
            }));
            assert!(is_gone(&mut ledger), "{sql}");
        }
    }

    #[test]
    fn a_job_without_its_settings_is_refused() {
        let (dir, ledger) = filled();
        drop(ledger);
        change(
            &dir,
            "UPDATE meta SET value = '{\"a\":1}' WHERE key = 'settings'",
        );
        let error = Ledger::open(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::BadLedger { .. }), "{error}");
        assert!(error.to_string().contains("settings of its job"), "{error}");
    }

    #[test]
    fn a_ledger_without_checksums_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(Ledger::open(dir.path()).unwrap());
        let db = Connection::open(dir.path().join(LEDGER_NAME)).unwrap();
        db.execute_batch("PRAGMA user_version = 1").unwrap();
        drop(db);
        let error = Ledger::open(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("version 1") && error.contains("began it"),
            "{error}"
        );
    }
}
