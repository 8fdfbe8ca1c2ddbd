//! What was asked of the daemon: written down before it is answered, so that none is carried out twice and none is
//! left without a last word, also over a restart.

use super::outbox::{Message, Timestamp, post};
use super::{Ledger, params};
use crate::messages::payloads::{Reply, ReplyState};
use crate::messages::topics;
use crate::storage::StoreError;
use rusqlite::OptionalExtension;

/// Answers are remembered for the last so many commands.
const REMEMBERED: i64 = 1000;

/// What is known of a command that came in.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandReceipt {
    /// It is new, and written down as accepted.
    New,
    /// It came before and is under way.
    UnderWay,
    /// It came before and was answered; the answer was sent again.
    Answered,
}

impl Ledger {
    /// A command came in: writes it down and answers `accepted`, or repeats the answer that it got before.
    ///
    /// # Errors
    /// When SQLite fails; nothing was then written down.
    pub fn arrive(
        &mut self,
        id: &str,
        name: &str,
        stamp: &Timestamp,
    ) -> Result<CommandReceipt, StoreError> {
        let limits = self.limits;
        self.write(|tx| {
            let known: Option<Option<String>> = tx
                .query_row("SELECT reply FROM command WHERE id = ?1", [id], |r| {
                    r.get(0)
                })
                .optional()?;
            let (arrival, body) = match known {
                None => {
                    tx.execute(
                        "INSERT INTO command VALUES (?1, ?2, (SELECT ifnull(max(arrived), 0) + 1 FROM command), NULL)",
                        [id, name],
                    )?;
                    tx.execute(
                        "DELETE FROM command WHERE reply IS NOT NULL
                         AND arrived <= (SELECT max(arrived) FROM command) - ?1",
                        [REMEMBERED],
                    )?;
                    (CommandReceipt::New, accepted(id, name))
                }
                Some(None) => (CommandReceipt::UnderWay, accepted(id, name)),
                Some(Some(reply)) => {
                    let body = serde_json::from_str(&reply)
                        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
                    (CommandReceipt::Answered, body)
                }
            };
            post(tx, limits, &[Message::new(topics::REPLY, &body)], stamp)?;
            Ok(arrival)
        })
    }

    /// Whether a command came before.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn has_arrived(&self, id: &str) -> Result<bool, StoreError> {
        self.read(|db| {
            db.prepare_cached("SELECT 1 FROM command WHERE id = ?1")?
                .exists([id])
        })
    }

    /// The last word on a command, with the notes that change in the same transaction.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn answer(
        &mut self,
        reply: &Reply,
        metadata: &[(&str, Option<&str>)],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        let limits = self.limits;
        let message = Message::new(topics::REPLY, reply);
        self.write(|tx| {
            if let Some(id) = &reply.id {
                tx.execute(
                    "UPDATE command SET reply = ?2 WHERE id = ?1",
                    params![id, message.body.to_string()],
                )?;
            }
            for (key, value) in metadata {
                super::put_metadata(tx, key, *value)?;
            }
            post(tx, limits, &[message], stamp)
        })
    }

    /// Commands without a last word: id and name, in order of arrival.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn open_commands(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(|db| {
            let mut query =
                db.prepare("SELECT id, name FROM command WHERE reply IS NULL ORDER BY arrived")?;
            query
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?
                .collect()
        })
    }
}

fn accepted(id: &str, name: &str) -> Reply {
    Reply {
        id: Some(id.to_owned()),
        command: name.to_owned(),
        state: ReplyState::Accepted,
        reason: None,
        result: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ledger::OutboxLimits;

    #[test]
    fn a_command_is_answered_once_and_repeated_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let stamp = Timestamp::default();
        let open = || {
            let mut ledger = Ledger::open(dir.path()).unwrap();
            ledger.set_outbox_limits(Some(OutboxLimits {
                messages: 1,
                age_s: 1,
            }));
            ledger
        };
        let mut ledger = open();
        assert!(!ledger.has_arrived("a").unwrap());
        assert_eq!(
            ledger.arrive("a", "pause", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert!(ledger.has_arrived("a").unwrap());
        assert_eq!(
            ledger.arrive("b", "rescan", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert_eq!(
            ledger.arrive("a", "pause", &stamp).unwrap(),
            CommandReceipt::UnderWay
        );
        drop(ledger);
        let mut ledger = open();
        let pair = |id: &str, name: &str| (id.to_owned(), name.to_owned());
        assert_eq!(
            ledger.open_commands().unwrap(),
            [pair("a", "pause"), pair("b", "rescan")]
        );
        let reply = Reply {
            state: ReplyState::Succeeded,
            ..accepted("a", "pause")
        };
        ledger
            .answer(&reply, &[("paused", Some("1"))], &stamp)
            .unwrap();
        assert_eq!(ledger.metadata("paused").unwrap().as_deref(), Some("1"));
        assert_eq!(
            ledger.arrive("a", "pause", &stamp).unwrap(),
            CommandReceipt::Answered
        );
        assert_eq!(ledger.open_commands().unwrap(), [pair("b", "rescan")]);
        let states: Vec<String> = ledger
            .pending_messages(0, 100)
            .unwrap()
            .iter()
            .map(|w| {
                let v: serde_json::Value = serde_json::from_slice(&w.payload).unwrap();
                format!(
                    "{} {}",
                    v["id"].as_str().unwrap(),
                    v["state"].as_str().unwrap()
                )
            })
            .collect();
        assert_eq!(
            states,
            [
                "a accepted",
                "b accepted",
                "a accepted",
                "a succeeded",
                "a succeeded"
            ]
        );
        for n in 0..REMEMBERED + 10 {
            let id = format!("n{n}");
            ledger.arrive(&id, "pause", &stamp).unwrap();
            let reply = Reply {
                state: ReplyState::Failed,
                ..accepted(&id, "pause")
            };
            ledger.answer(&reply, &[], &stamp).unwrap();
        }
        assert_eq!(
            ledger.arrive("a", "pause", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert_eq!(
            ledger.arrive("n9", "pause", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert_eq!(
            ledger.arrive("n500", "pause", &stamp).unwrap(),
            CommandReceipt::Answered
        );
        // What is not answered is never forgotten.
        assert_eq!(ledger.open_commands().unwrap()[0], pair("b", "rescan"));
    }
}
