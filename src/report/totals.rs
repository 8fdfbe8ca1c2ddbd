//! Statistics over all instances of an output folder. Pure arithmetic.

use super::figures::{FrameFigures, has_hand};
use super::output::InstanceRecord;
use crate::dataset::acceptance::State;
use crate::sequence::normalize::SLOTS;
use crate::sequence::{FrameRecord, sampling};
use std::collections::{BTreeMap, BTreeSet};

/// How often each number of hands was found, by position of the frame in the sequence: `[position][hands]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandsByPosition(pub Vec<[usize; SLOTS + 1]>);

impl HandsByPosition {
    /// Adds the sampled frames of a clip.
    pub fn add(&mut self, frames: &[FrameRecord]) {
        let length = self.0.len().max(frames.len());
        self.0.resize(length, [0; SLOTS + 1]);
        for (counts, frame) in self.0.iter_mut().zip(frames) {
            counts[(0..SLOTS).filter(|slot| has_hand(frame, *slot)).count()] += 1;
        }
    }
}

/// The instances of one state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateFigures {
    /// Number of instances.
    pub count: usize,
    /// Reasons with `…` for numbers and names, each with its number of instances and its first clip.
    pub reasons: BTreeMap<String, (usize, String)>,
}

/// Statistics of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassFigures {
    /// Number of its instances in the metadata.
    pub instances: usize,
    /// Number of accepted clips.
    pub accepted: usize,
    /// Number of accepted clips by split.
    pub splits: BTreeMap<String, usize>,
    /// Known signers of the accepted clips.
    pub signers: BTreeSet<i64>,
    /// Number of sampled frames of the accepted clips.
    pub frames: usize,
    /// Number of these frames with a hand.
    pub with_hand: usize,
}

/// The numbers that the report shows of a whole output folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Instances by state, in the order in which states are shown.
    pub states: Vec<(String, StateFigures)>,
    /// The sums over all accepted clips; `longest_gap` is the maximum.
    pub frames: FrameFigures,
    /// Number of accepted clips.
    pub accepted: usize,
    /// Number of accepted clips whose batch was read.
    pub with_frames: usize,
    /// Number of frames of the accepted signs, and of those that their sequences cover, over the clips where both are
    /// known.
    pub coverage: [u64; 2],
    /// Accepted clips that a sequence does not cover: index of the instance, frames of the sign, frames after the end
    /// of the sequence. The clip with the most such frames comes first.
    pub truncated: Vec<(usize, u64, u64)>,
    /// Statistics of the classes, by gloss.
    pub classes: BTreeMap<String, ClassFigures>,
    /// Number of accepted clips by signer, without unknown signers.
    pub signers: BTreeMap<i64, usize>,
    /// Number of signers with accepted clips in more than one split.
    pub signers_in_splits: usize,
    /// Number of accepted clips by split.
    pub splits: BTreeMap<String, usize>,
    /// Number of accepted clips by width and height in pixels, where these are known.
    pub sizes: BTreeMap<(usize, usize), usize>,
    /// Number of accepted clips by frame rate in tenths of a frame per second, where it is known.
    pub rates: BTreeMap<i64, usize>,
    /// Groups of accepted instances with equal landmarks, as indices.
    pub duplicates: Vec<Vec<usize>>,
    /// Number of rows with a filled hand.
    pub filled: usize,
}

impl Totals {
    /// Computes the totals of `instances`. A full sequence has `length` frames.
    #[must_use]
    pub fn of(instances: &[InstanceRecord], length: usize) -> Self {
        let mut totals = Self::default();
        let mut states: BTreeMap<&str, StateFigures> = BTreeMap::new();
        let mut contents: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut signer_splits: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
        for (n, record) in instances.iter().enumerate() {
            let state = states.entry(&record.state).or_default();
            state.count += 1;
            if let Some(reason) = &record.reason {
                let kind = state.reasons.entry(reason_kind(reason));
                kind.or_insert_with(|| (0, record.id().to_owned())).0 += 1;
            }
            let class = totals.classes.entry(record.gloss.clone()).or_default();
            class.instances += 1;
            if !record.is_accepted() {
                continue;
            }
            totals.accepted += 1;
            class.accepted += 1;
            *class.splits.entry(record.split.clone()).or_default() += 1;
            *totals.splits.entry(record.split.clone()).or_default() += 1;
            if record.signer_id >= 0 {
                class.signers.insert(record.signer_id);
                *totals.signers.entry(record.signer_id).or_default() += 1;
                let splits = signer_splits.entry(record.signer_id).or_default();
                splits.insert(&record.split);
            }
            let clip = &record.clip;
            totals.filled += clip.filled.unwrap_or(0);
            if let (Some(width), Some(height)) = (clip.width, clip.height) {
                *totals.sizes.entry((width, height)).or_default() += 1;
            }
            if let Some(fps) = clip.fps {
                #[expect(clippy::cast_possible_truncation, reason = "saturation is harmless")]
                let tenths = (fps * 10.0).round() as i64;
                *totals.rates.entry(tenths).or_default() += 1;
            }
            if let Some(content) = record.content {
                contents.entry(content).or_default().push(n);
            }
            let Some(frames) = &record.frames else {
                continue;
            };
            totals.with_frames += 1;
            class.frames += frames.frames();
            class.with_hand += frames.with_hand();
            add(&mut totals.frames, frames);
            if let Some([in_range, beyond]) = beyond_end(record, length) {
                totals.coverage[0] += in_range;
                totals.coverage[1] += in_range.saturating_sub(beyond);
                if beyond > 0 {
                    totals.truncated.push((n, in_range, beyond));
                }
            }
        }
        totals
            .truncated
            .sort_by_key(|(n, _, beyond)| (std::cmp::Reverse(*beyond), *n));
        totals.states = in_order(states);
        totals.duplicates = groups(contents);
        totals.signers_in_splits = signer_splits.values().filter(|s| s.len() > 1).count();
        totals
    }

    /// The classes that have an accepted clip, but none in `split`.
    pub fn without_split<'a>(&'a self, split: &'a str) -> impl Iterator<Item = &'a str> {
        let classes = self.classes.iter().filter(|(_, class)| class.accepted > 0);
        let without = classes.filter(move |(_, class)| !class.splits.contains_key(split));
        without.map(|(gloss, _)| gloss.as_str())
    }

    /// Number of instances with `state`.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        let found = self.states.iter().find(|(name, _)| name == state.name());
        found.map_or(0, |(_, figures)| figures.count)
    }
}

/// The groups with at least two members, in the order of their first members.
pub(super) fn groups<K: Ord>(members: BTreeMap<K, Vec<usize>>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = members.into_values().filter(|g| g.len() > 1).collect();
    groups.sort();
    groups
}

/// The known states in their order, then the others.
fn in_order(mut states: BTreeMap<&str, StateFigures>) -> Vec<(String, StateFigures)> {
    let known = State::ALL.map(|state| {
        let figures = states.remove(state.name()).unwrap_or_default();
        (state.name().to_owned(), figures)
    });
    let others = states
        .into_iter()
        .map(|(name, figures)| (name.to_owned(), figures));
    known.into_iter().chain(others).collect()
}

fn add(total: &mut FrameFigures, clip: &FrameFigures) {
    for (sum, n) in total.by_hands.iter_mut().zip(clip.by_hands) {
        *sum += n;
    }
    total.longest_gap = total.longest_gap.max(clip.longest_gap);
    total.jumps += clip.jumps;
    total.pairs += clip.pairs;
    total.swaps += clip.swaps;
    total.side_changes += clip.side_changes;
    total.same_side += clip.same_side;
}

/// Number of frames of the sign, and of those after the end of a full sequence of `length` frames. `None` when the
/// clip's length is unknown, and for a take.
#[must_use]
pub(super) fn beyond_end(record: &InstanceRecord, length: usize) -> Option<[u64; 2]> {
    let frames = record.frames.as_ref()?;
    if let (Some(in_range), Some(beyond)) = (record.clip.in_range, record.clip.truncated) {
        return Some([in_range, beyond.min(in_range)]);
    }
    let total = record.clip.declared_frames.filter(|frames| *frames > 0)?;
    let window = sampling::window(record.frame_start?, record.frame_end?, total);
    let in_range = window.end.saturating_sub(window.start);
    let is_full = frames.frames() >= length && record.clip.stopped_early.is_none();
    let beyond = window.end.saturating_sub(frames.end);
    Some([in_range, if is_full { beyond.min(in_range) } else { 0 }])
}

/// Replaces each number and each quoted text in a reason by `…`, so that similar reasons are equal.
fn reason_kind(reason: &str) -> String {
    let mut kind = String::new();
    let mut is_quoted = false;
    for c in reason.chars() {
        let is_quote = c == '"';
        is_quoted ^= is_quote;
        if c.is_ascii_digit() || is_quote || is_quoted {
            if !kind.ends_with('…') {
                kind.push('…');
            }
        } else {
            kind.push(c);
        }
    }
    kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::output::{ACCEPTED, ClipNumbers};

    fn accepted(gloss: &str, split: &str, signer_id: i64, content: i64) -> InstanceRecord {
        InstanceRecord {
            gloss: gloss.to_owned(),
            state: ACCEPTED.to_owned(),
            split: split.to_owned(),
            signer_id,
            frame_start: Some(1),
            frame_end: Some(-1),
            content: Some(content),
            clip: ClipNumbers {
                declared_frames: Some(101),
                ..ClipNumbers::default()
            },
            frames: Some(FrameFigures {
                by_hands: [2, 10, 20],
                first: 1,
                end: 65,
                pairs: 19,
                swaps: 3,
                longest_gap: 2,
                ..FrameFigures::default()
            }),
            ..InstanceRecord::default()
        }
    }

    #[test]
    fn totals_of_a_small_folder_are_known() {
        let mut short = accepted("deaf", "train", 8, 3);
        short.clip.declared_frames = Some(50);
        let refused = InstanceRecord {
            gloss: "deaf".to_owned(),
            video_id: Some("7".to_owned()),
            state: "too_short".to_owned(),
            reason: Some("a hand in 3 of 32 frames, 8 are needed".to_owned()),
            ..InstanceRecord::default()
        };
        let mut again = refused.clone();
        again.reason = Some("a hand in 0 of 9 frames, 8 are needed".to_owned());
        let records = [
            accepted("book", "train", 8, 1),
            refused,
            accepted("book", "test", 8, 1),
            again,
            accepted("book", "test", -1, 2),
            short,
        ];
        let totals = Totals::of(&records, 32);
        assert_eq!((totals.accepted, totals.count(State::TooShort)), (4, 2));
        let (_, too_short) = &totals.states[1];
        let kind = "a hand in … of … frames, … are needed".to_owned();
        assert_eq!(
            too_short.reasons,
            BTreeMap::from([(kind, (2, "7".to_owned()))])
        );
        assert_eq!(totals.frames.by_hands, [8, 40, 80]);
        assert_eq!(
            (
                totals.frames.pairs,
                totals.frames.swaps,
                totals.frames.longest_gap
            ),
            (76, 12, 2)
        );
        // Three signs have 100 frames from frame 1 on, of which 64 are covered. The short one is covered completely.
        assert_eq!(totals.truncated, [(0, 100, 36), (2, 100, 36), (4, 100, 36)]);
        assert_eq!(totals.coverage, [349, 241]);
        assert_eq!(totals.duplicates, [vec![0, 2]]);
        assert_eq!(totals.signers, BTreeMap::from([(8, 3)]));
        assert_eq!(totals.signers_in_splits, 1);
        assert_eq!(totals.without_split("test").collect::<Vec<_>>(), ["deaf"]);
        assert_eq!(
            totals.without_split("val").collect::<Vec<_>>(),
            ["book", "deaf"]
        );
        let book = &totals.classes["book"];
        assert_eq!(
            (book.instances, book.accepted, book.frames, book.with_hand),
            (3, 3, 96, 90)
        );
    }

    #[test]
    fn a_recorded_number_of_truncated_frames_counts_first() {
        let mut record = accepted("book", "", -1, 1);
        (record.clip.in_range, record.clip.truncated) = (Some(99), Some(0));
        assert_eq!(beyond_end(&record, 32), Some([99, 0]));
        record.clip.truncated = None;
        assert_eq!(
            beyond_end(&record, 33),
            Some([100, 0]),
            "a sequence that is not full"
        );
        record.frame_start = None;
        assert_eq!(beyond_end(&record, 32), None, "a take");
    }

    #[test]
    fn positions_count_hands() {
        let mut positions = HandsByPosition::default();
        let mut frame = FrameRecord::of(0, &[]);
        positions.add(&[frame.clone()]);
        frame.handedness = [-1, 1];
        positions.add(&[frame.clone(), frame]);
        assert_eq!(positions.0, [[1, 1, 0], [0, 1, 0]]);
    }
}
