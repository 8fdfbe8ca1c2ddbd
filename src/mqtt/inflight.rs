//! Messages in flight in one connection: from the hand-over to the library to the broker's PUBACK.
//!
//! The library gives a message its packet id when it writes it. It writes messages in the order of their hand-over.

use super::packet_limit::PacketSize;
use std::collections::{HashMap, VecDeque};

/// What a message in flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageKind {
    /// `online`; nothing depends on its PUBACK.
    Online,
    /// The discovery message for Home Assistant; nothing depends on its PUBACK.
    Discovery,
    /// `stopped`.
    Stopped,
    /// The latest value of the retained channel at this position.
    Channel(usize),
    /// The outbox message with this id.
    OutboxMessage(i64),
    /// Published once and not repeated.
    TransientMessage,
}

/// A message that the broker has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unacknowledged {
    pub(super) kind: MessageKind,
    pub(super) size: PacketSize,
    /// Its place in the order of writing.
    number: u64,
}

/// All messages in flight.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// Handed over and not written yet, oldest first.
    queued: VecDeque<(MessageKind, PacketSize)>,
    /// Written, and not acknowledged yet, by packet id.
    awaiting_puback: HashMap<u16, Unacknowledged>,
    /// Written without a packet id, and no later message is acknowledged yet.
    unproven: Vec<Unacknowledged>,
    written: u64,
}

impl InFlight {
    /// Notes that a message is handed over.
    pub(super) fn queue(&mut self, kind: MessageKind, size: PacketSize) {
        self.queued.push_back((kind, size));
    }

    /// Notes that the oldest message is written; packet id 0 means that no PUBACK follows. Returns whether one does.
    pub(super) fn written(&mut self, packet: u16) -> bool {
        let Some((kind, size)) = self.queued.pop_front() else {
            return false;
        };
        self.written += 1;
        let number = self.written;
        let message = Unacknowledged { kind, size, number };
        if packet == 0 {
            self.unproven.push(message);
            return false;
        }
        self.awaiting_puback.insert(packet, message);
        true
    }

    /// Notes a PUBACK. Returns the message that it acknowledges.
    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<Unacknowledged> {
        let message = self.awaiting_puback.remove(&packet)?;
        // The broker reads in order.
        self.unproven.retain(|other| other.number > message.number);
        Some(message)
    }

    /// Outbox messages in flight.
    pub(super) fn outbox_messages(&self) -> usize {
        self.count(|kind| matches!(kind, MessageKind::OutboxMessage(_)))
    }

    /// Transient messages in flight.
    pub(super) fn transient(&self) -> usize {
        self.count(|kind| kind == MessageKind::TransientMessage)
    }

    fn count(&self, is_counted: impl Fn(MessageKind) -> bool) -> usize {
        let written = self.awaiting_puback.values().map(|message| message.kind);
        let all = self.queued.iter().map(|(kind, _)| *kind).chain(written);
        all.filter(|kind| is_counted(*kind)).count()
    }

    /// The sizes of all that the broker may have read last; one whose writing failed is not known as written.
    pub(super) fn sizes(&self) -> impl Iterator<Item = &PacketSize> {
        let written = self.awaiting_puback.values().chain(&self.unproven);
        let queued = self.queued.iter().map(|(_, size)| size);
        written.map(|message| &message.size).chain(queued)
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
            in_flight.queue(kind, PacketSize::of("a", b""));
        }
        let acknowledged =
            |in_flight: &mut InFlight, packet| in_flight.acknowledged(packet).map(|m| m.kind);
        assert_eq!((in_flight.outbox_messages(), in_flight.transient()), (2, 1));
        assert!(in_flight.written(3));
        assert!(!in_flight.written(0), "a transient one at QoS 0");
        assert_eq!((in_flight.outbox_messages(), in_flight.transient()), (2, 0));
        assert_eq!(in_flight.sizes().count(), 4, "two are queued");
        assert!(in_flight.written(4) && in_flight.written(1));
        // Acknowledged in another order than sent.
        assert_eq!(
            acknowledged(&mut in_flight, 1),
            Some(MessageKind::OutboxMessage(8))
        );
        assert_eq!(
            in_flight.sizes().count(),
            2,
            "the transient one came through"
        );
        assert_eq!(acknowledged(&mut in_flight, 1), None);
        assert_eq!(
            acknowledged(&mut in_flight, 4),
            Some(MessageKind::Channel(1))
        );
        assert!(in_flight.is_puback_due() && !in_flight.is_empty());
        assert_eq!(
            acknowledged(&mut in_flight, 3),
            Some(MessageKind::OutboxMessage(7))
        );
        assert!(in_flight.is_empty() && in_flight.outbox_messages() == 0);
        assert!(!in_flight.written(5), "more written than handed over");
    }
}
