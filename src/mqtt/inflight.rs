//! What is under way in one connection, from our publishing to the broker's PUBACK.
//!
//! The library gives a message its packet id when it writes it, in the order in which they were handed over.

use std::collections::{HashMap, VecDeque};

/// What a message is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `online`, or the introduction to Home Assistant: nobody waits for its PUBACK.
    Announcement,
    /// `stopped`.
    Farewell,
    /// The latest of the retained channel at this position.
    Channel(usize),
    /// The letter with this id.
    Letter(i64),
    /// Sent once, gone if lost.
    Loose,
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Handed over and not written yet, oldest first.
    queued: VecDeque<Kind>,
    /// Written, and not acknowledged yet, by packet id.
    flying: HashMap<u16, Kind>,
    letters: usize,
    loose: usize,
}

impl Flight {
    /// A message is handed over.
    pub(super) fn queue(&mut self, kind: Kind) {
        *self.count(kind) += usize::from(Self::is_counted(kind));
        self.queued.push_back(kind);
    }

    /// The oldest of them is written. Packet id 0: nobody will acknowledge it. Whether a PUBACK is now due.
    pub(super) fn written(&mut self, packet: u16) -> bool {
        let Some(kind) = self.queued.pop_front() else {
            return false;
        };
        if packet == 0 {
            self.arrived(kind);
            return false;
        }
        self.flying.insert(packet, kind);
        true
    }

    /// A PUBACK came; what it was for.
    pub(super) fn acknowledged(&mut self, packet: u16) -> Option<Kind> {
        let kind = self.flying.remove(&packet)?;
        self.arrived(kind);
        Some(kind)
    }

    /// Letters under way.
    pub(super) fn letters(&self) -> usize {
        self.letters
    }

    /// Loose messages under way.
    pub(super) fn loose(&self) -> usize {
        self.loose
    }

    /// Whether the broker owes a PUBACK.
    pub(super) fn is_owed(&self) -> bool {
        !self.flying.is_empty()
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.flying.is_empty()
    }

    fn arrived(&mut self, kind: Kind) {
        *self.count(kind) -= usize::from(Self::is_counted(kind));
    }

    fn is_counted(kind: Kind) -> bool {
        matches!(kind, Kind::Letter(_) | Kind::Loose)
    }

    fn count(&mut self, kind: Kind) -> &mut usize {
        match kind {
            Kind::Letter(_) => &mut self.letters,
            _ => &mut self.loose,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn packet_ids_find_their_messages() {
        let mut flight = Flight::default();
        for kind in [
            Kind::Letter(7),
            Kind::Loose,
            Kind::Channel(1),
            Kind::Letter(8),
        ] {
            flight.queue(kind);
        }
        assert_eq!((flight.letters(), flight.loose()), (2, 1));
        assert!(flight.written(3));
        assert!(!flight.written(0), "a loose one at QoS 0");
        assert_eq!((flight.letters(), flight.loose()), (2, 0));
        assert!(flight.written(4) && flight.written(1));
        // Acknowledged in another order than sent.
        assert_eq!(flight.acknowledged(1), Some(Kind::Letter(8)));
        assert_eq!(flight.acknowledged(1), None);
        assert_eq!(flight.acknowledged(4), Some(Kind::Channel(1)));
        assert!(flight.is_owed() && !flight.is_empty());
        assert_eq!(flight.acknowledged(3), Some(Kind::Letter(7)));
        assert!(flight.is_empty() && flight.letters() == 0);
        assert!(!flight.written(5), "more written than handed over");
    }

    proptest! {
        #[test]
        fn counts_agree_with_what_is_under_way(steps in prop::collection::vec((0..3_u8, 0..6_u16), 0..200)) {
            let mut flight = Flight::default();
            let mut free: Vec<u16> = (1..100).collect();
            for (step, n) in steps {
                match step {
                    0 => flight.queue([Kind::Letter(1), Kind::Loose, Kind::Channel(0)][usize::from(n) % 3]),
                    1 => { flight.written(if n == 0 { 0 } else { free.pop().unwrap_or(0) }); }
                    _ => { flight.acknowledged(100 - n); }
                }
                let all = || flight.queued.iter().chain(flight.flying.values());
                prop_assert_eq!(flight.letters(), all().filter(|k| matches!(k, Kind::Letter(_))).count());
                prop_assert_eq!(flight.loose(), all().filter(|k| matches!(k, Kind::Loose)).count());
            }
        }
    }
}
