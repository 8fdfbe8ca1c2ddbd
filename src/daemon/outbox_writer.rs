//! Writes faults and replies into the ledger's outbox, from which the connection publishes them. Without room on the
//! disk they wait in memory, in order. A power cut loses the waiting ones; the commands are then answered at the next
//! start.

use crate::daemon::Daemon;
use crate::daemon::job_queue::PendingCommand;
use crate::daemon::telemetry::TelemetryPublisher;
use crate::messages::payloads::{Fault, Reply, ReplyState, Timestamp};
use crate::messages::request::CommandName;
use crate::messages::topics;
use crate::mqtt::{ConnectionNotice, Outbox, PendingMessage};
use crate::storage::ledger::Message;
use crate::storage::{SharedLedger, StoreError};
use crate::system::clock::timestamp;
use crate::system::lock_ignoring_poison;
use serde_json::Value;
use std::collections::VecDeque;
use std::slice;
use std::sync::{Arc, Mutex};

/// Maximum number of waiting faults; more are dropped. Replies need no limit: each answers a command in the ledger,
/// and without room in the ledger no command is accepted.
const FAULTS_MAX: usize = 100;

/// A key of the ledger's metadata and its new value; `None` removes it.
type MetadataChange = (&'static str, Option<&'static str>);

/// A message that waits for the ledger.
enum DeferredWrite {
    /// A fault, and when it was reported.
    Fault(Message, Timestamp),
    /// The final reply to a command, and the metadata that it changes.
    Reply(Reply, Vec<MetadataChange>),
}

/// Shared by every thread that has something to report.
pub(super) struct OutboxWriter {
    ledger: SharedLedger,
    deferred: Mutex<VecDeque<DeferredWrite>>,
    telemetry: Arc<TelemetryPublisher>,
}

impl OutboxWriter {
    pub(super) fn new(ledger: SharedLedger, telemetry: Arc<TelemetryPublisher>) -> Self {
        Self {
            ledger,
            deferred: Mutex::default(),
            telemetry,
        }
    }

    /// Logs and publishes a fault.
    pub(super) fn fault(&self, component: &str, reason: String, action: &str) {
        tracing::warn!(component, reason, action, "fault");
        let fault = Fault {
            run: self.telemetry.run(),
            component: component.to_owned(),
            clip: None,
            reason,
            action: action.to_owned(),
        };
        let message = Message::new(topics::FAULT, &fault);
        self.write(DeferredWrite::Fault(message, timestamp()));
    }

    /// Writes the final reply to a command and, in the same transaction, the metadata that it changes.
    pub(super) fn reply(
        &self,
        command: &PendingCommand,
        result: Result<Option<Value>, String>,
        changes: &[MetadataChange],
    ) {
        let (state, reason, result) = match result {
            Ok(result) => (ReplyState::Succeeded, None, result),
            Err(reason) => (ReplyState::Failed, Some(reason), None),
        };
        let PendingCommand { id, command } = command;
        let command = command.name();
        tracing::info!(id, command, ?state, reason, "command");
        let reply = Reply {
            id: Some(id.clone()),
            command: command.to_owned(),
            state,
            reason,
            result,
        };
        self.write(DeferredWrite::Reply(reply, changes.to_vec()));
    }

    /// Gives every command of `commands` the same negative reply.
    pub(super) fn refuse(&self, commands: impl IntoIterator<Item = PendingCommand>, reason: &str) {
        for command in commands {
            self.reply(&command, Err(reason.to_owned()), &[]);
        }
    }

    /// Gives the commands of a previous process their final reply.
    ///
    /// # Errors
    /// Fails when the ledger fails.
    pub(super) fn refuse_interrupted(&self) -> Result<(), StoreError> {
        let open = self.ledger.lock().open_commands()?;
        for (id, name) in open {
            let Some(command) = CommandName::from_name(&name) else {
                continue;
            };
            let reason = match command {
                // The takes are in another ledger, which may already have them.
                CommandName::Record | CommandName::Undo => {
                    "the daemon was restarted before the command was done; a part of it may be done: check the takes before you send it again with another id"
                }
                _ => {
                    "the daemon was restarted before the command was done; send it again with another id"
                }
            };
            self.refuse([PendingCommand { id, command }], reason);
        }
        Ok(())
    }

    /// Writes the waiting messages in order, until the ledger cannot be written.
    pub(super) fn flush(&self) {
        // Locked throughout: two writers would write the same messages.
        let mut deferred = lock_ignoring_poison(&self.deferred);
        while let Some(next) = deferred.front() {
            let mut ledger = self.ledger.lock();
            let written = match next {
                DeferredWrite::Fault(fault, made) => ledger.post(slice::from_ref(fault), made),
                DeferredWrite::Reply(reply, changes) => {
                    ledger.answer_command(reply, changes, &timestamp())
                }
            };
            drop(ledger);
            if let Err(error) = written {
                let waiting = deferred.len();
                tracing::debug!(%error, waiting, "the ledger cannot be written; faults and replies wait");
                break;
            }
            deferred.pop_front();
            self.notify();
        }
    }

    /// Wakes the connection: the ledger's outbox has a new message.
    pub(super) fn notify(&self) {
        self.telemetry.wake.notify_one();
    }

    fn write(&self, write: DeferredWrite) {
        if !self.push(write) {
            self.telemetry.count_dropped();
        }
        self.flush();
    }

    /// Appends `write`; returns `false` when too many faults wait.
    fn push(&self, write: DeferredWrite) -> bool {
        let mut deferred = lock_ignoring_poison(&self.deferred);
        let is_fault = |write: &&DeferredWrite| matches!(write, DeferredWrite::Fault(..));
        let has_room = !is_fault(&&write) || deferred.iter().filter(is_fault).count() < FAULTS_MAX;
        if has_room {
            deferred.push_back(write);
        }
        has_room
    }
}

impl Outbox for Daemon {
    fn after(&self, id: i64, limit: usize) -> Result<Vec<PendingMessage>, String> {
        let messages = self.ledger.lock().pending_messages(id, limit);
        messages.map_err(|e| e.to_string())
    }

    fn delivered(&self, ids: &[i64]) -> Result<(), String> {
        let deleted = self.ledger.lock().mark_delivered(ids);
        deleted.map_err(|e| e.to_string())
    }

    fn report(&self, notice: ConnectionNotice) {
        match notice {
            ConnectionNotice::Problem { reason, action } => {
                self.outbox.fault("mqtt", reason, &action);
            }
            ConnectionNotice::CommandsOff(reason) => {
                let reason = format!("no command is received: {reason}");
                let action = "the subscription to commands is tried again every 10 minutes; all else is published";
                self.outbox.fault("mqtt", reason.clone(), action);
                self.telemetry.broker(Some(reason));
            }
            ConnectionNotice::CommandsOn => self.telemetry.broker(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Ledger;
    use crate::storage::ledger::OutboxLimits;
    use serde_json::json;

    #[test]
    fn what_waits_is_bounded_and_written_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path()).unwrap();
        ledger.set_outbox_limits(Some(OutboxLimits {
            messages: 1000,
            age_s: 1,
        }));
        let ledger = SharedLedger::new(ledger);
        let (telemetry, _) = TelemetryPublisher::new(Arc::default());
        let outbox = OutboxWriter::new(ledger.clone(), telemetry);
        let fault = |n: usize| {
            let message = Message::new(topics::FAULT, &json!({"n": n}));
            DeferredWrite::Fault(message, Timestamp::default())
        };
        let reply = Reply {
            id: Some("a".into()),
            command: "pause".into(),
            state: ReplyState::Succeeded,
            reason: None,
            result: None,
        };
        for n in 0..FAULTS_MAX {
            assert!(outbox.push(fault(n)));
        }
        assert!(!outbox.push(fault(FAULTS_MAX)), "one too many");
        assert!(outbox.push(DeferredWrite::Reply(reply, vec![("paused", Some("1"))])));
        outbox.flush();
        assert!(outbox.push(fault(0)), "room again");
        let waiting = ledger.lock().pending_messages(0, 1000).unwrap();
        let channels: Vec<&str> = waiting.iter().map(|w| &*w.channel).collect();
        assert_eq!(channels.len(), FAULTS_MAX + 1);
        assert_eq!(channels[FAULTS_MAX], topics::REPLY);
        assert_eq!(
            ledger.lock().metadata("paused").unwrap().as_deref(),
            Some("1"),
            "the note of the answer"
        );
    }
}
