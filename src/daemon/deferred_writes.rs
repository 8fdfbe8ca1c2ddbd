//! Faults and replies that the ledger could not take yet: they wait in memory, in order, for a disk with room. A power
//! cut loses them; the commands are then answered at the next start.

use crate::messages::payloads::{Reply, Timestamp};
use crate::storage::ledger::Message;
use crate::storage::{Ledger, SharedLedger, StoreError};
use crate::system::clock::timestamp;
use crate::system::lock_ignoring_poison;
use std::collections::VecDeque;
use std::sync::Mutex;

/// Faults that wait at most; more are dropped. Replies have no limit of their own: each answers a command in the ledger.
const FAULTS_MAX: usize = 100;

/// A key of the ledger's metadata and its new value; `None` removes it.
pub(super) type MetadataChange = (&'static str, Option<&'static str>);

/// Something to be written.
pub(super) enum DeferredWrite {
    /// A message, and when it was made.
    Fault(Message, Timestamp),
    /// The final reply to a command, and what it changed.
    Reply(Reply, Vec<MetadataChange>),
}

/// The queue.
#[derive(Default)]
pub(super) struct DeferredWrites(Mutex<VecDeque<DeferredWrite>>);

impl DeferredWrites {
    /// Appends; `false` when there are too many.
    pub(super) fn push(&self, next: DeferredWrite) -> bool {
        let mut queue = lock_ignoring_poison(&self.0);
        let is_fault = |next: &&DeferredWrite| matches!(next, DeferredWrite::Fault(..));
        let has_room = !is_fault(&&next) || queue.iter().filter(is_fault).count() < FAULTS_MAX;
        if has_room {
            queue.push_back(next);
        }
        has_room
    }

    /// Writes what the ledger takes, in order; returns whether it took anything.
    pub(super) fn write(&self, ledger: &SharedLedger) -> bool {
        // Held throughout: two writers would write the same.
        let mut queue = lock_ignoring_poison(&self.0);
        let mut is_written = false;
        while let Some(next) = queue.front() {
            if let Err(error) = write(next, &mut ledger.lock()) {
                tracing::debug!(%error, waiting = queue.len(), "the ledger cannot be written; faults and replies wait");
                break;
            }
            queue.pop_front();
            is_written = true;
        }
        is_written
    }
}

fn write(next: &DeferredWrite, ledger: &mut Ledger) -> Result<(), StoreError> {
    match next {
        DeferredWrite::Fault(message, stamp) => ledger.post(std::slice::from_ref(message), stamp),
        DeferredWrite::Reply(reply, changes) => ledger.answer_command(reply, changes, &timestamp()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::payloads::ReplyState;
    use crate::messages::topics;
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
        let deferred_writes = DeferredWrites::default();
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
            assert!(deferred_writes.push(fault(n)));
        }
        assert!(!deferred_writes.push(fault(FAULTS_MAX)), "one too many");
        assert!(deferred_writes.push(DeferredWrite::Reply(reply, vec![("paused", Some("1"))])));
        assert!(deferred_writes.write(&ledger));
        assert!(!deferred_writes.write(&ledger), "all gone");
        assert!(deferred_writes.push(fault(0)), "room again");
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
