//! Faults and replies on their way to the broker: written into the ledger's outbox, from which the connection takes
//! them. Where the disk has no room they wait in memory.

use crate::daemon::deferred_writes::{DeferredWrite, DeferredWrites, MetadataChange};
use crate::daemon::job_queue::PendingCommand;
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::messages::payloads::{Fault, Reply, ReplyState};
use crate::messages::request::CommandName;
use crate::messages::topics;
use crate::mqtt::{Outbox, OutboxMessage};
use crate::storage::SharedLedger;
use crate::storage::StoreError;
use crate::storage::ledger::{Message, OutboxLimits};
use crate::system::clock::timestamp;
use serde_json::Value;
use std::sync::Arc;

/// Shared by every thread that has something to report.
pub(super) struct OutboxWriter {
    ledger: SharedLedger,
    deferred: DeferredWrites,
    telemetry: Arc<TelemetryPublisher>,
}

impl OutboxWriter {
    pub(super) fn new(ledger: SharedLedger, telemetry: Arc<TelemetryPublisher>) -> Self {
        Self {
            ledger,
            deferred: DeferredWrites::default(),
            telemetry,
        }
    }

    /// How many messages the ledger's outbox may hold; none without a broker.
    pub(super) fn set_limits(&self, limits: Option<OutboxLimits>) {
        self.ledger.lock().set_outbox_limits(limits);
    }

    /// Logs and publishes what is wrong.
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

    /// The final reply to a command, and in the same transaction the metadata that it changes.
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
    /// When the ledger fails.
    pub(super) fn refuse_interrupted(&self) -> Result<(), StoreError> {
        let open = self.ledger.lock().open_commands()?;
        for (id, name) in open {
            let Some(command) = CommandName::from_name(&name) else {
                continue;
            };
            let reason = match command {
                // Takes are kept by another ledger, which may have been faster.
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

    /// Writes what waits for a disk with room.
    pub(super) fn flush(&self) {
        if self.deferred.write(&self.ledger) {
            self.notify();
        }
    }

    /// The ledger's outbox has something new for the connection.
    pub(super) fn notify(&self) {
        self.telemetry.wake.notify_one();
    }

    fn write(&self, write: DeferredWrite) {
        if !self.deferred.push(write) {
            self.telemetry.count_dropped();
        }
        self.flush();
    }
}

/// The ledger's messages, as the connection takes them.
pub(super) struct LedgerOutbox(pub(super) SharedLedger);

impl Outbox for LedgerOutbox {
    fn after(&self, id: i64, limit: usize) -> Result<Vec<OutboxMessage>, String> {
        let waiting = self.0.lock().pending_messages(id, limit);
        let messages = waiting.map_err(|e| e.to_string())?.into_iter();
        Ok(messages
            .map(|w| OutboxMessage {
                id: w.id,
                channel: w.channel,
                payload: w.payload,
            })
            .collect())
    }

    fn delivered(&self, ids: &[i64]) -> Result<(), String> {
        let deleted = self.0.lock().mark_delivered(ids);
        deleted.map_err(|e| e.to_string())
    }
}
