//! The commands that the daemon received. Each is recorded before it is answered, so that none is executed twice and
//! each gets a final reply, also after a restart.

use super::checksum::COMMAND;
use super::outbox::{Message, insert_messages};
use super::{Ledger, params};
use crate::messages::payloads::{Reply, ReplyState, Timestamp};
use crate::messages::topics;
use crate::storage::StoreError;

/// Number of commands whose replies are kept.
const REMEMBERED: i64 = 1000;

/// What the ledger knows about a command that arrives.
#[derive(Clone, Debug, PartialEq)]
pub enum CommandReceipt {
    /// It is new and now recorded as accepted.
    New,
    /// It arrived before and has no final reply yet.
    UnderWay,
    /// It arrived before and has a final reply, which is sent again.
    Answered,
}

impl Ledger {
    /// Records a command that arrives and replies `accepted`, or repeats the reply that it got before.
    pub(crate) fn record_command(
        &mut self,
        id: &str,
        name: &str,
        stamp: &Timestamp,
    ) -> Result<CommandReceipt, StoreError> {
        let limits = self.limits;
        self.write(|tx| {
            let known: Option<Option<String>> = COMMAND
                .select(tx, "WHERE id = ?1", [id], |r| r.get(3))?
                .pop();
            let accepted = Reply {
                id: Some(id.to_owned()),
                command: name.to_owned(),
                state: ReplyState::Accepted,
                reason: None,
                result: None,
            };
            let (arrival, body) = match known {
                None => {
                    let last: Option<i64> = COMMAND
                        .select(tx, "ORDER BY arrived DESC LIMIT 1", [], |r| r.get(2))?
                        .pop();
                    let arrived = last.unwrap_or(0) + 1;
                    tx.execute(&COMMAND.insert(), params![id, name, arrived, None::<&str>])?;
                    tx.execute(
                        "DELETE FROM command WHERE reply IS NOT NULL AND arrived <= ?1",
                        [arrived - REMEMBERED],
                    )?;
                    (CommandReceipt::New, accepted)
                }
                Some(None) => (CommandReceipt::UnderWay, accepted),
                Some(Some(reply)) => {
                    let body = serde_json::from_str(&reply)
                        .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
                    (CommandReceipt::Answered, body)
                }
            };
            insert_messages(tx, limits, &[Message::new(topics::REPLY, &body)], stamp)?;
            Ok(arrival)
        })
    }

    /// Whether the command `id` arrived before.
    pub(crate) fn knows_command(&self, id: &str) -> Result<bool, StoreError> {
        self.read(|db| {
            let known = COMMAND.select(db, "WHERE id = ?1", [id], |_| Ok(()))?;
            Ok(!known.is_empty())
        })
    }

    /// Stores the final reply to a command. The `metadata` changes in the same transaction; `None` removes a value.
    pub(crate) fn answer_command(
        &mut self,
        reply: &Reply,
        metadata: &[(&str, Option<&str>)],
        stamp: &Timestamp,
    ) -> Result<(), StoreError> {
        let message = Message::new(topics::REPLY, reply);
        let body = message.body.to_string();
        self.write_and_post(&[message], stamp, |tx| {
            if let Some(id) = &reply.id {
                let known = COMMAND.select(tx, "WHERE id = ?1", [id], |r| {
                    Ok((r.get::<_, String>(1)?, r.get::<_, i64>(2)?))
                })?;
                for (name, arrived) in known {
                    tx.execute(&COMMAND.replace(), params![id, name, arrived, body])?;
                }
            }
            let mut metadata = metadata.iter();
            metadata.try_for_each(|(key, value)| super::set_metadata(tx, key, *value))
        })
    }

    /// Commands without a final reply: id and name, in order of arrival.
    pub(crate) fn open_commands(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.read(|db| {
            let open = "WHERE reply IS NULL ORDER BY arrived";
            COMMAND.select(db, open, [], |r| Ok((r.get(0)?, r.get(1)?)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ledger::OutboxLimits;

    fn accepted(id: &str, name: &str) -> Reply {
        Reply {
            id: Some(id.to_owned()),
            command: name.to_owned(),
            state: ReplyState::Accepted,
            reason: None,
            result: None,
        }
    }

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
        assert!(!ledger.knows_command("a").unwrap());
        assert_eq!(
            ledger.record_command("a", "pause", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert!(ledger.knows_command("a").unwrap());
        assert_eq!(
            ledger.record_command("b", "rescan", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert_eq!(
            ledger.record_command("a", "pause", &stamp).unwrap(),
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
            .answer_command(&reply, &[("paused", Some("1"))], &stamp)
            .unwrap();
        assert_eq!(ledger.metadata("paused").unwrap().as_deref(), Some("1"));
        assert_eq!(
            ledger.record_command("a", "pause", &stamp).unwrap(),
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
            ledger.record_command(&id, "pause", &stamp).unwrap();
            let reply = Reply {
                state: ReplyState::Failed,
                ..accepted(&id, "pause")
            };
            ledger.answer_command(&reply, &[], &stamp).unwrap();
        }
        assert_eq!(
            ledger.record_command("a", "pause", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert_eq!(
            ledger.record_command("n9", "pause", &stamp).unwrap(),
            CommandReceipt::New
        );
        assert_eq!(
            ledger.record_command("n500", "pause", &stamp).unwrap(),
            CommandReceipt::Answered
        );
        // A command without a final reply is never forgotten.
        assert_eq!(ledger.open_commands().unwrap()[0], pair("b", "rescan"));
    }
}
