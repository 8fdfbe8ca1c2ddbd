//! What is to be written into the ledger and could not be yet: faults and answers wait in memory, in order, for a disk
//! that has room again. A cut takes them along; a command is then answered at the next start.

use crate::daemon::state::held;
use crate::job::stamp;
use crate::messages::payloads::Reply;
use crate::storage::ledger::{Message, Timestamp};
use crate::storage::{Ledger, StoreError};
use crate::system::lock_ignoring_poison;
use std::collections::VecDeque;
use std::sync::Mutex;

/// Faults that wait; more are dropped. Answers are no more than the commands that the ledger has taken.
const FAULTS_MAX: usize = 100;

/// A note and its value; `None` removes it.
pub(super) type Note = (&'static str, Option<&'static str>);

/// Something to be written.
pub(super) enum DeferredWrite {
    /// A message, and when it was said.
    Fault(Message, Timestamp),
    /// The last word on a command, with what it changed.
    Answer(Reply, Vec<Note>),
}

/// The line of what waits.
#[derive(Default)]
pub(super) struct DeferredWrites(Mutex<VecDeque<DeferredWrite>>);

impl DeferredWrites {
    /// Appends; `false` when there are too many.
    pub(super) fn push(&self, late: DeferredWrite) -> bool {
        let mut line = held(&self.0);
        let is_fault = |late: &&DeferredWrite| matches!(late, DeferredWrite::Fault(..));
        let has_place = !is_fault(&&late) || line.iter().filter(is_fault).count() < FAULTS_MAX;
        if has_place {
            line.push_back(late);
        }
        has_place
    }

    /// Writes what can be written, in order; whether anything was.
    pub(super) fn write(&self, ledger: &Mutex<Ledger>) -> bool {
        // Held throughout: two writers would write the same.
        let mut line = held(&self.0);
        let mut is_written = false;
        while let Some(late) = line.front() {
            if let Err(error) = write(late, &mut lock_ignoring_poison(ledger)) {
                tracing::debug!(%error, waiting = line.len(), "the ledger takes nothing now");
                break;
            }
            line.pop_front();
            is_written = true;
        }
        is_written
    }
}

fn write(late: &DeferredWrite, ledger: &mut Ledger) -> Result<(), StoreError> {
    match late {
        DeferredWrite::Fault(message, stamp) => ledger.say(std::slice::from_ref(message), stamp),
        DeferredWrite::Answer(reply, notes) => ledger.answer(reply, notes, &stamp()),
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
        let ledger = Mutex::new(ledger);
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
        assert!(deferred_writes.push(DeferredWrite::Answer(reply, vec![("paused", Some("1"))])));
        assert!(deferred_writes.write(&ledger));
        assert!(!deferred_writes.write(&ledger), "all gone");
        assert!(deferred_writes.push(fault(0)), "room again");
        let waiting = lock_ignoring_poison(&ledger)
            .pending_messages(0, 1000)
            .unwrap();
        let channels: Vec<&str> = waiting.iter().map(|w| &*w.channel).collect();
        assert_eq!(channels.len(), FAULTS_MAX + 1);
        assert_eq!(channels[FAULTS_MAX], topics::REPLY);
        assert_eq!(
            lock_ignoring_poison(&ledger)
                .metadata("paused")
                .unwrap()
                .as_deref(),
            Some("1"),
            "the note of the answer"
        );
    }
}
