//! Decides the state of each planned clip, in plan order, by the notebook's minimum of frames and limit per gloss.

use super::clip_note::ClipNote;
use crate::sequence::{FrameTotal, Sequence};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Number of instances per state.
pub type StateCounts = BTreeMap<State, usize>;

/// The final state of an instance. Every instance of the metadata ends in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The sequence of the instance is in the output.
    Accepted,
    /// Fewer frames have a hand than the minimum.
    TooShort,
    /// The clip has no frame in the frame range of the instance.
    Empty,
    /// The clip does not exist.
    Missing,
    /// The clip or its frame numbers cannot be read.
    Unreadable,
    /// The gloss already has enough accepted clips.
    OverLimit,
    /// The selected glosses, subset or splits exclude the instance.
    NotSelected,
}

impl State {
    /// All states, in display order.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::TooShort,
        Self::Empty,
        Self::Missing,
        Self::Unreadable,
        Self::OverLimit,
        Self::NotSelected,
    ];

    /// The name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::TooShort => "too_short",
            Self::Empty => "empty",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::OverLimit => "over_limit",
            Self::NotSelected => "not_selected",
        }
    }

    /// An explanation for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Accepted => "in the npz file",
            Self::TooShort => "a hand in too few frames",
            Self::Empty => "no frame in the frame range",
            Self::Missing => "no clip on disk",
            Self::Unreadable => {
                "the clip cannot be decoded, or a frame number is not a number; see manifest.jsonl"
            }
            Self::OverLimit => "gloss has enough clips",
            Self::NotSelected => "gloss not processed",
        }
    }

    /// The state called `name`; `None` for an unknown name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

/// The result of a worker for a clip.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The clip was read.
    Read(Box<Reading>),
    /// The clip could not be read, for this reason.
    Unreadable(String),
    /// The clip was not opened, because its gloss had enough accepted clips before its turn came.
    NotOpened,
    /// An earlier run gave the clip this state and reason. Its reading is stored.
    Known(State, Option<String>),
}

/// A clip that was read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The sequence with what it was made from.
    pub sequence: Sequence,
    /// Name of the backend that ran the models.
    pub backend: Arc<str>,
    /// The element that decoded the clip; `None` when nothing had to be decoded.
    pub decoder: Option<String>,
    /// The causes for which frames or pixels may differ from the notebook's.
    pub notes: BTreeSet<ClipNote>,
    /// Why decoding stopped before the end of the file, if it did.
    pub stopped_early: Option<String>,
}

/// The decision about a clip.
#[derive(Clone, Debug)]
pub struct ClipDecision {
    /// The final state.
    pub state: State,
    /// Why the clip is not accepted.
    pub reason: Option<String>,
    /// The reading of the clip, if it was read in this run.
    pub reading: Option<Box<Reading>>,
}

/// Decides the state of clips, in plan order.
#[derive(Clone, Debug)]
pub struct ClipAcceptance {
    min_frames: usize,
    max_samples_per_gloss: Option<usize>,
    accepted: BTreeMap<Arc<str>, usize>,
}

impl ClipAcceptance {
    /// Starts without a clip. `max_samples_per_gloss` of `None` or 0 means no limit.
    #[must_use]
    pub fn new(min_frames: usize, max_samples_per_gloss: Option<usize>) -> Self {
        Self {
            min_frames,
            max_samples_per_gloss: max_samples_per_gloss.filter(|n| *n > 0),
            accepted: BTreeMap::new(),
        }
    }

    /// Whether `gloss` already has enough accepted clips, so that no later clip can be accepted.
    #[must_use]
    pub fn is_full(&self, gloss: &str) -> bool {
        self.max_samples_per_gloss
            .is_some_and(|max| self.accepted(gloss) >= max)
    }

    /// Number of accepted clips of `gloss`.
    #[must_use]
    pub fn accepted(&self, gloss: &str) -> usize {
        self.accepted.get(gloss).copied().unwrap_or(0)
    }

    /// Number of accepted clips per gloss, sorted by gloss.
    #[must_use]
    pub fn per_gloss(&self) -> &BTreeMap<Arc<str>, usize> {
        &self.accepted
    }

    /// Decides the state of the next clip of the plan, which shows `gloss`.
    pub fn decide(&mut self, gloss: &Arc<str>, outcome: Outcome) -> ClipDecision {
        let unread = |state, reason| ClipDecision {
            state,
            reason,
            reading: None,
        };
        // This check comes first: the notebook does not open a clip whose gloss is full.
        if self.is_full(gloss) {
            let accepted = self.accepted(gloss);
            let reason = format!("{gloss:?} already has {accepted} accepted clips");
            return unread(State::OverLimit, Some(reason));
        }
        let verdict = match outcome {
            Outcome::Read(reading) => {
                let (state, reason) = self.assess(&reading);
                ClipDecision {
                    state,
                    reason,
                    reading: Some(reading),
                }
            }
            Outcome::Unreadable(reason) => unread(State::Unreadable, Some(reason)),
            Outcome::Known(state, reason) => unread(state, reason),
            Outcome::NotOpened => {
                let reason = "spared although its gloss was not full; please report this";
                unread(State::Unreadable, Some(reason.to_owned()))
            }
        };
        if verdict.state == State::Accepted {
            *self.accepted.entry(Arc::clone(gloss)).or_default() += 1;
        }
        verdict
    }

    /// The state of a clip that was read, and why it is not accepted.
    fn assess(&self, reading: &Reading) -> (State, Option<String>) {
        let sequence = &reading.sequence;
        let start = sequence.window.start;
        let total = sequence.total_frames.map_or(0, FrameTotal::count);
        // After an error, a count of decoded frames is not the length of the clip.
        let is_known = matches!(sequence.total_frames, Some(FrameTotal::Declared(_)))
            || reading.stopped_early.is_none();
        let (seen, sampled) = (sequence.frames_with_hand, sequence.figures.sampled);
        let needed = self.min_frames;
        let (state, reason) = if sampled == 0 && sequence.window.is_empty() && is_known {
            let reason = format!("frame range starts at {start}, the clip has {total} frames");
            (State::Empty, reason)
        } else if sampled == 0 {
            let stopped = reading.stopped_early.as_deref();
            let why = stopped.unwrap_or("the file ends there");
            let reason = if is_known {
                format!("decoding ended before frame {start} of {total} ({why})")
            } else {
                format!("decoding ended after {total} frames, before frame {start} ({why})")
            };
            (State::Unreadable, reason)
        } else if seen < needed {
            let reason = format!("a hand in {seen} of {sampled} frames, {needed} are needed");
            (State::TooShort, reason)
        } else {
            return (State::Accepted, None);
        };
        (state, Some(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::{SequenceFigures, sampling};

    fn read(frames: usize, with_hand: usize) -> Outcome {
        read_from(0, frames, with_hand)
    }

    fn read_from(start: i64, frames: usize, with_hand: usize) -> Outcome {
        Outcome::Read(Box::new(Reading {
            backend: Arc::from("cpu"),
            sequence: Sequence {
                frames_with_hand: with_hand,
                window: sampling::window(start, 0, 40),
                total_frames: Some(FrameTotal::Declared(40)),
                figures: SequenceFigures {
                    sampled: frames,
                    ..SequenceFigures::default()
                },
                ..Sequence::default()
            },
            decoder: None,
            notes: BTreeSet::new(),
            stopped_early: None,
        }))
    }

    #[test]
    fn states_follow_the_frames() {
        let gloss: Arc<str> = "book".into();
        let mut clip_acceptance = ClipAcceptance::new(8, Some(0));
        let mut check =
            |outcome, expected| assert_eq!(clip_acceptance.decide(&gloss, outcome).state, expected);
        check(read_from(50, 0, 0), State::Empty);
        check(read_from(30, 0, 0), State::Unreadable);
        check(read(32, 7), State::TooShort);
        check(read(8, 8), State::Accepted);
        check(Outcome::Unreadable("bad".into()), State::Unreadable);
        assert_eq!(clip_acceptance.per_gloss(), &BTreeMap::from([(gloss, 1)]));
    }

    #[test]
    fn what_is_known_counts_as_it_did() {
        use State::{Accepted, OverLimit, Unreadable};
        let gloss: Arc<str> = "book".into();
        let mut clip_acceptance = ClipAcceptance::new(8, Some(2));
        let known = |state| Outcome::Known(state, None);
        let outcomes = [
            known(Accepted),
            known(Unreadable),
            read(32, 32),
            known(Accepted),
        ];
        let states: Vec<State> = outcomes
            .into_iter()
            .map(|o| clip_acceptance.decide(&gloss, o).state)
            .collect();
        // An earlier run accepted the last clip, but the clip before it has now filled the limit.
        assert_eq!(states, [Accepted, Unreadable, Accepted, OverLimit]);
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
    }

    #[test]
    fn the_limit_counts_accepted_clips_only() {
        use State::{Accepted, OverLimit, TooShort};
        let gloss: Arc<str> = "book".into();
        let mut clip_acceptance = ClipAcceptance::new(8, Some(2));
        let outcomes = [
            read(32, 32),
            read(32, 0),
            read(32, 32),
            read(32, 32),
            Outcome::NotOpened,
            Outcome::Unreadable("bad".into()),
        ];
        let states: Vec<State> = outcomes
            .into_iter()
            .map(|o| clip_acceptance.decide(&gloss, o).state)
            .collect();
        assert_eq!(
            states,
            [
                Accepted, TooShort, Accepted, OverLimit, OverLimit, OverLimit
            ]
        );
        assert!(clip_acceptance.is_full("book") && !clip_acceptance.is_full("deaf"));
    }
}
