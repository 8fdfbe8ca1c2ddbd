//! Messages that are larger than the broker accepts. MQTT 3.1.1 has no code for that: the broker closes the
//! connection. A message is suspected when the connection is closed while it is the only unacknowledged one that is
//! larger than all acknowledged ones. After the second time it is set aside, with all messages of at least its size.

use std::collections::{BTreeMap, BTreeSet};

/// Closed connections after which a suspected message is set aside.
const CLOSES_MAX: u32 = 2;
/// Maximum number of bytes that a packet has beside topic and payload.
const HEADER_BYTES: usize = 9;

/// Topic of a message, and size of its packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PacketSize {
    pub(super) topic: String,
    pub(super) bytes: usize,
}

impl PacketSize {
    pub(super) fn of(topic: &str, payload: &[u8]) -> Self {
        Self {
            topic: topic.to_owned(),
            bytes: topic.len() + payload.len() + HEADER_BYTES,
        }
    }
}

/// What is known of the broker's limit, from one connection to the next.
#[derive(Debug, Default)]
pub(super) struct PacketLimit {
    /// Size of the largest message that the broker has acknowledged.
    taken: usize,
    /// Messages of this size and above are set aside.
    refused: Option<usize>,
    /// Topics of suspected messages: how many connections they closed, and the smallest size.
    suspects: BTreeMap<String, (u32, usize)>,
    /// Whether one message is sent at a time, because several could have closed the last connection.
    is_careful: bool,
    /// Topics of messages that were reported as set aside.
    reported: BTreeSet<String>,
    /// The last outbox message that was counted as set aside.
    last_counted: Option<i64>,
}

impl PacketLimit {
    /// Whether a message of this size is set aside.
    pub(super) fn refuses(&self, bytes: usize) -> bool {
        self.refused.is_some_and(|refused| bytes >= refused)
    }

    /// The smallest size that is set aside.
    pub(super) fn refused(&self) -> Option<usize> {
        self.refused
    }

    /// Whether a message is sent only after the one before is acknowledged.
    pub(super) fn is_careful(&self) -> bool {
        self.is_careful
    }

    /// Ends sending one message at a time: all that waited was acknowledged.
    pub(super) fn end_care(&mut self) {
        self.is_careful = false;
    }

    /// Notes that the broker has acknowledged a message of this size.
    pub(super) fn note_taken(&mut self, bytes: usize) {
        if bytes > self.taken {
            self.taken = bytes;
            self.suspects.retain(|_, (_, size)| *size > bytes);
        }
    }

    /// Notes that the broker has closed the connection while the messages `pending` were not acknowledged.
    pub(super) fn note_closed<'a>(&mut self, pending: impl IntoIterator<Item = &'a PacketSize>) {
        let is_suspect = |size: &&PacketSize| size.bytes > self.taken;
        let suspects: Vec<_> = pending.into_iter().filter(is_suspect).collect();
        self.is_careful |= !suspects.is_empty();
        let [PacketSize { topic, bytes }] = suspects.as_slice() else {
            return;
        };
        let (closes, smallest) = self.suspects.entry(topic.clone()).or_insert((0, *bytes));
        *closes += 1;
        *smallest = (*smallest).min(*bytes);
        if *closes >= CLOSES_MAX {
            self.refused = Some(self.refused.map_or(*smallest, |r| r.min(*smallest)));
            self.suspects.remove(topic);
        }
    }

    /// Whether a message of this topic is set aside for the first time.
    pub(super) fn is_first_of(&mut self, topic: &str) -> bool {
        self.reported.insert(topic.to_owned())
    }

    /// Whether this outbox message was not counted yet; they come in ascending order, again in every connection.
    pub(super) fn is_uncounted(&mut self, id: i64) -> bool {
        let is_new = self.last_counted.is_none_or(|last| id > last);
        if is_new {
            self.last_counted = Some(id);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(topic: &str, bytes: usize) -> PacketSize {
        let topic = topic.to_owned();
        PacketSize { topic, bytes }
    }

    #[test]
    fn the_message_that_closes_connections_is_set_aside() {
        let mut limit = PacketLimit::default();
        let (config, state) = (size("config", 2000), size("state", 400));
        limit.note_closed([&config, &state]);
        assert!(
            limit.is_careful() && limit.refused().is_none(),
            "either of them"
        );
        limit.note_taken(200);
        limit.note_closed([&config]);
        limit.note_closed([&config]);
        assert_eq!(limit.refused(), Some(2000));
        assert!(limit.refuses(2001) && !limit.refuses(1999));
        limit.note_taken(400);
        limit.end_care();
        assert!(!limit.is_careful());
    }

    #[test]
    fn a_connection_that_breaks_for_another_reason_sets_nothing_aside() {
        let mut limit = PacketLimit::default();
        limit.note_taken(500);
        for _ in 0..10 {
            limit.note_closed([]);
            limit.note_closed([&size("batch", 500), &size("fault", 300)]);
        }
        assert!(!limit.is_careful());
        limit.note_closed([&size("batch", 900)]);
        limit.note_taken(900);
        limit.note_closed([&size("batch", 901)]);
        assert_eq!(limit.refused(), None, "once each");
    }

    #[test]
    fn what_is_set_aside_is_counted_once() {
        let mut limit = PacketLimit::default();
        assert!(limit.is_uncounted(3) && limit.is_uncounted(5));
        assert!(!limit.is_uncounted(3) && !limit.is_uncounted(5));
        assert!(limit.is_first_of("a") && limit.is_first_of("b") && !limit.is_first_of("a"));
    }
}
