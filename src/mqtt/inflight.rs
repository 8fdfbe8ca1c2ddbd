//! Messages in flight in one connection: from the hand-over to the library to the broker's PUBACK.
//!
//! The library gives a message its packet id when it writes it. It writes messages in the order of their hand-over.

use std::collections::{HashMap, VecDeque};

/// What a message in flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// `online`, or the discovery message for Home Assistant; nothing depends on its PUBACK.
    Announcement,
    /// `stopped`.
    Stopped,
    /// The latest value of the retained channel at this position.
    Channel(usize),
    /// The outbox message with this id.
    OutboxMessage(i64),
    /// Published once and not repeated.
    TransientMessage,
}

/// All messages in flight.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Handed over and not written yet, oldest first.
    queued: VecDeque<MessageKind>,
    /// Written, and not acknowledged yet, by packet id.
    awaiting_puback: HashMap<u16, MessageKind>,
}

impl InFlight {
    /// A message is handed over.
    pub(super) fn queue(&mut self, kind: MessageKind) {
        self.queued.push_back(kind);
    }

    /// The oldest message is written; packet id 0 means that no PUBACK follows. Returns whether one does.
    pub(super) fn written(&mut self, packet: u16) -> bool {
        match self.queued.pop_front() {
            Some(kind) if packet != 0 => {
                self.awaiting_puback.insert(packet, kind);
                true
            }
            _ => false,
        }
    }

    /// A PUBACK was received. Returns what it acknowledges.
    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<MessageKind> {
        self.awaiting_puback.remove(&packet)
    }

    /// Outbox messages in flight.
    pub(super) fn outbox_messages(&self) -> usize {
        self.count(|kind| matches!(kind, MessageKind::OutboxMessage(_)))
    }

    /// Transient messages in flight.
    pub(super) fn transient(&self) -> usize {
        self.count(|kind| *kind == MessageKind::TransientMessage)
    }

    fn count(&self, is_counted: impl Fn(&MessageKind) -> bool) -> usize {
        let all = self.queued.iter().chain(self.awaiting_puback.values());
        all.filter(|kind| is_counted(kind)).count()
    }

    /// Whether a PUBACK is due.
    pub(super) fn is_puback_due(&self) -> bool {
        !self.awaiting_puback.is_empty()
    }

    /// Whether nothing is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.awaiting_puback.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_ids_find_their_messages() {
        let mut in_flight = InFlight::default();
        for kind in [
            MessageKind::OutboxMessage(7),
            MessageKind::TransientMessage,
            MessageKind::Channel(1),
            MessageKind::OutboxMessage(8),
        ] {
            in_flight.queue(kind);
        }
        assert_eq!((in_flight.outbox_messages(), in_flight.transient()), (2, 1));
        assert!(in_flight.written(3));
        assert!(!in_flight.written(0), "a transient one at QoS 0");
        assert_eq!((in_flight.outbox_messages(), in_flight.transient()), (2, 0));
        assert!(in_flight.written(4) && in_flight.written(1));
        // Acknowledged in another order than sent.
        assert_eq!(
            in_flight.acknowledged(1),
            Some(MessageKind::OutboxMessage(8))
        );
        assert_eq!(in_flight.acknowledged(1), None);
        assert_eq!(in_flight.acknowledged(4), Some(MessageKind::Channel(1)));
        assert!(in_flight.is_puback_due() && !in_flight.is_empty());
        assert_eq!(
            in_flight.acknowledged(3),
            Some(MessageKind::OutboxMessage(7))
        );
        assert!(in_flight.is_empty() && in_flight.outbox_messages() == 0);
        assert!(!in_flight.written(5), "more written than handed over");
    }
}
