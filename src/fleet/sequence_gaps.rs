//! The numbers of a channel's messages: which messages are new, which are repeated, how many are missing.

use std::collections::VecDeque;

/// Maximum number of gaps that are remembered, so that a late message can fill one; older ones stay counted.
const GAPS_MAX: usize = 32;
/// Number of messages whose repetition is recognised, on channels whose numbering restarts with the daemon.
const RECENT: usize = 32;

/// How a channel numbers its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// Continues over restarts; every message arrives at least once.
    Durable,
    /// Starts again with the daemon; lost messages are not repeated.
    PerStart,
}

/// How a message relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SequenceStatus {
    /// It is new.
    New,
    /// It is a repetition, or older than the first message.
    Old,
}

/// The numbers of one channel of one device.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SequenceGaps {
    numbering: Numbering,
    /// Lowest and highest number, and the time of the highest.
    span: Option<(u64, u64, String)>,
    /// First and last number of each gap, both included.
    kept_gaps: VecDeque<(u64, u64)>,
    recent: VecDeque<(u64, String)>,
    /// Whether the connection was lost: messages missed meanwhile are no gap.
    rejoins: bool,
    /// Number of messages that never arrived.
    pub(super) missing: u64,
    /// Number of restarts of the numbering: a replaced ledger begins a new one.
    pub(super) generation: u32,
}

impl SequenceGaps {
    pub(super) fn new(numbering: Numbering) -> Self {
        Self {
            numbering,
            span: None,
            kept_gaps: VecDeque::new(),
            recent: VecDeque::new(),
            rejoins: false,
            missing: 0,
            generation: 0,
        }
    }

    /// Notes that the lost connection is back.
    pub(super) fn rejoin(&mut self) {
        self.rejoins = self.span.is_some();
    }

    /// Notes a message with this number and time, and returns whether it is new.
    pub(super) fn note(&mut self, seq: u64, ts: &str) -> SequenceStatus {
        match self.numbering {
            Numbering::Durable => self.note_durable(seq, ts),
            Numbering::PerStart => self.note_per_start(seq, ts),
        }
    }

    fn note_durable(&mut self, seq: u64, ts: &str) -> SequenceStatus {
        let Some((first, last, last_ts)) = self.span.clone() else {
            self.span = Some((seq, seq, ts.to_owned()));
            return SequenceStatus::New;
        };
        if seq > last {
            self.record_gap(last, seq);
            self.span = Some((first, seq, ts.to_owned()));
            SequenceStatus::New
        } else if seq == 1 && ts > last_ts.as_str() {
            // The first number with a later time: the ledger was replaced.
            self.generation = self.generation.saturating_add(1);
            self.kept_gaps.clear();
            self.span = Some((1, 1, ts.to_owned()));
            SequenceStatus::New
        } else {
            self.fill(seq)
        }
    }

    fn note_per_start(&mut self, seq: u64, ts: &str) -> SequenceStatus {
        if self.recent.iter().any(|(s, t)| *s == seq && t == ts) {
            return SequenceStatus::Old;
        }
        self.recent.push_front((seq, ts.to_owned()));
        self.recent.truncate(RECENT);
        match self.span.take() {
            Some((first, last, _)) if seq > last => {
                self.record_gap(last, seq);
                self.span = Some((first, seq, ts.to_owned()));
            }
            // The first message, or the first after a restart.
            _ => self.span = Some((seq, seq, ts.to_owned())),
        }
        // These channels repeat no message, so no gap is ever filled.
        self.kept_gaps.clear();
        SequenceStatus::New
    }

    /// Counts the numbers between `last` and the higher number `seq` as missing.
    fn record_gap(&mut self, last: u64, seq: u64) {
        if !std::mem::take(&mut self.rejoins) && seq - last > 1 {
            self.missing = self.missing.saturating_add(seq - last - 1);
            self.kept_gaps.push_front((last + 1, seq - 1));
            self.kept_gaps.truncate(GAPS_MAX);
        }
    }

    /// A number within or below the span: it may fill a gap.
    fn fill(&mut self, seq: u64) -> SequenceStatus {
        let hole = self
            .kept_gaps
            .iter()
            .position(|(from, to)| (*from..=*to).contains(&seq));
        let Some((from, to)) = hole.and_then(|at| self.kept_gaps.remove(at)) else {
            return SequenceStatus::Old;
        };
        for rest in [(from, seq - 1), (seq + 1, to)] {
            if rest.0 <= rest.1 {
                self.kept_gaps.push_front(rest);
            }
        }
        self.kept_gaps.truncate(GAPS_MAX);
        self.missing = self.missing.saturating_sub(1);
        SequenceStatus::New
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Applies `number@time` words and `rejoin`; checks which are new (`n`) or old (`o`) and how many are missing.
    fn check(numbering: Numbering, words: &str, arrivals: &str, missing: u64) {
        let mut gaps = SequenceGaps::new(numbering);
        let mut seen = String::new();
        for word in words.split_whitespace() {
            match word.split_once('@') {
                Some((seq, ts)) => seen.push(match gaps.note(seq.parse().unwrap(), ts) {
                    SequenceStatus::New => 'n',
                    SequenceStatus::Old => 'o',
                }),
                None => gaps.rejoin(),
            }
        }
        assert_eq!(
            (seen.as_str(), gaps.missing),
            (arrivals, missing),
            "{words}"
        );
    }

    #[test]
    fn gaps_are_counted_and_repetitions_and_restarts_are_not() {
        use Numbering::{Durable, PerStart};
        for numbering in [Durable, PerStart] {
            check(numbering, "7@a 8@b 9@c", "nnn", 0);
            check(numbering, "7@a 10@b", "nn", 2);
            check(numbering, "7@a 7@a 8@b 7@a 8@b", "nonoo", 0);
            check(numbering, "7@a rejoin 20@b 22@c", "nnn", 1);
            check(numbering, "7@a rejoin 7@a 20@b", "non", 0);
            check(numbering, "rejoin 3@a 5@b", "nn", 1);
            check(numbering, "0@a 18446744073709551615@b", "nn", u64::MAX - 1);
        }
        // A restarted daemon, also when its first message was not received.
        check(PerStart, "7@a 8@b 1@c 2@d", "nnnn", 0);
        check(PerStart, "7@a 8@b 3@c 4@d", "nnnn", 0);
        check(PerStart, "1@a 1@b 2@c 2@d", "nnnn", 0);
        // Late messages from the outbox fill their gap.
        check(Durable, "1@a 5@e 3@c 3@c 2@b 4@d", "nnnonn", 0);
        check(Durable, "9@a 4@b", "no", 0);
        // Another ledger begins at 1, with a later time; the old 1 may come again.
        check(Durable, "1@a 2@b 3@c 1@d 2@e", "nnnnn", 0);
        check(Durable, "1@a 2@b 3@c 1@a 4@d", "nnnon", 0);
    }

    proptest! {
        #[test]
        fn whatever_the_order_missing_is_what_never_came(
            order in Just((2_u64..30).collect::<Vec<_>>()).prop_shuffle(),
            taken in 1_usize..28,
        ) {
            let mut gaps = SequenceGaps::new(Numbering::Durable);
            gaps.note(1, "t");
            for seq in order[..taken].iter().chain(&order[..taken]) {
                gaps.note(*seq, "t");
            }
            let highest = *order[..taken].iter().max().unwrap();
            prop_assert_eq!(gaps.missing, highest - 1 - taken as u64);
        }
    }
}
