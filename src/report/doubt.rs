//! Which clips to inspect first: a score and its reasons, and the clips with the highest. Pure.

use super::figures::JUMP_MIN;
use super::output::InstanceRecord;
use super::totals::beyond_end;
use crate::sequence::FrameRecord;

/// Largest number of clips that are shown.
pub const CLIPS_MAX: usize = 50;
/// Largest number of frames that are shown per clip.
pub const FRAMES_SHOWN: usize = 8;

/// A larger share of frames without a hand is a reason for doubt.
const EMPTY_MIN: f64 = 0.25;
/// A longer gap, in frames, is a reason for doubt.
const GAP_MIN: usize = 3;
/// A larger share of frames after the end of the sequence is a reason for doubt.
const BEYOND_MIN: f64 = 0.2;

/// An accepted clip with reasons to doubt its sequence.
#[derive(Clone, Debug)]
pub struct DoubtfulClip {
    /// The sum of the weights of all reasons.
    pub score: f64,
    /// Reasons for people, the one with the largest weight first.
    pub reasons: Vec<String>,
    /// The record of the clip's instance.
    pub record: InstanceRecord,
    /// The sampled frames that are shown: position in the sequence, and frame.
    pub frames: Vec<(usize, FrameRecord)>,
}

/// The most doubtful of the added clips, at most [`CLIPS_MAX`], by falling score, then in the order in which they
/// were added.
#[derive(Clone, Debug, Default)]
pub struct MostDoubtful(Vec<DoubtfulClip>);

impl MostDoubtful {
    /// Adds a clip with its sampled `frames` if there is a reason for doubt. A full sequence has `length` frames.
    pub fn add(&mut self, record: &InstanceRecord, frames: &[FrameRecord], length: usize) {
        let (score, reasons) = doubts(record, length);
        let at = self.0.partition_point(|clip| clip.score >= score);
        if reasons.is_empty() || at >= CLIPS_MAX {
            return;
        }
        let worst = record.frames.as_ref().and_then(|figures| figures.worst_at);
        let shown = shown_positions(frames.len(), worst).into_iter();
        let clip = DoubtfulClip {
            score,
            reasons,
            record: record.clone(),
            frames: shown.map(|at| (at, frames[at].clone())).collect(),
        };
        self.0.insert(at, clip);
        self.0.truncate(CLIPS_MAX);
    }

    /// The clips, the most doubtful first.
    #[must_use]
    pub fn clips(&self) -> &[DoubtfulClip] {
        &self.0
    }
}

/// The score of a clip and its reasons, the one with the largest weight first.
fn doubts(record: &InstanceRecord, length: usize) -> (f64, Vec<String>) {
    let Some(figures) = &record.frames else {
        return (0.0, Vec::new());
    };
    let frames = figures.frames();
    let mut doubts: Vec<(f64, String)> = Vec::new();
    let mut doubt = |weight: f64, reason: String| doubts.push((weight, reason));
    let empty = share(figures.by_hands[0], frames);
    if empty > EMPTY_MIN {
        let none = figures.by_hands[0];
        doubt(empty, format!("no hand in {none} of {frames} frames"));
    }
    if figures.longest_gap > GAP_MIN {
        let gap = figures.longest_gap;
        doubt(
            share(gap, frames),
            format!("a gap of {gap} frames within the sign"),
        );
    }
    if figures.jumps > 0 {
        let weight = 0.2 * share(figures.jumps.min(5), 1);
        let times = times(figures.jumps);
        doubt(
            weight,
            format!(
                "a wrist jumps by more than {:.0} % of the image {times}",
                JUMP_MIN * 100.0
            ),
        );
    }
    if figures.swaps > 0 {
        let (swaps, pairs) = (figures.swaps, figures.pairs);
        doubt(
            0.1 + share(swaps, pairs),
            format!("the hands change slots in {swaps} of {pairs} steps"),
        );
    }
    if figures.same_side > 0 {
        let (same, two) = (figures.same_side, figures.by_hands[2]);
        doubt(
            0.5 * share(same, two),
            format!("both hands have the same side in {same} of {two} frames"),
        );
    }
    if let Some([in_range, beyond]) = beyond_end(record, length) {
        #[expect(clippy::cast_precision_loss, reason = "counts of frames")]
        let lost = beyond as f64 / in_range.max(1) as f64;
        if lost > BEYOND_MIN {
            doubt(
                0.5 * lost,
                format!("the last {beyond} of {in_range} frames are cut off"),
            );
        }
    }
    if let Some(reason) = &record.clip.stopped_early {
        doubt(0.3, format!("decoding stopped early: {reason}"));
    }
    if record.clip.color.as_deref() == Some("approximate") {
        doubt(0.1, "pixels may differ from the notebook's".to_owned());
    }
    doubts.sort_by(|a, b| b.0.total_cmp(&a.0));
    let score = doubts.iter().map(|(weight, _)| weight).sum();
    (
        score,
        doubts.into_iter().map(|(_, reason)| reason).collect(),
    )
}

fn times(count: usize) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// The share of `part` in `whole`; 0 when both are 0.
#[expect(clippy::cast_precision_loss, reason = "counts of frames and clips")]
#[must_use]
pub fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// The positions of the shown frames: evenly spread, including `worst` and the position before it.
fn shown_positions(frames: usize, worst: Option<usize>) -> Vec<usize> {
    let count = frames.min(FRAMES_SHOWN);
    let mut positions: Vec<usize> = (0..count)
        .map(|n| (2 * n + 1) * frames / (2 * count))
        .collect();
    if let Some(worst) = worst.filter(|worst| (1..frames).contains(worst)) {
        for wanted in [worst - 1, worst] {
            if positions.contains(&wanted) {
                continue;
            }
            // Replace the nearest position, but not the other one of the two.
            let others = positions.iter_mut().filter(|at| **at + 1 != wanted);
            if let Some(nearest) = others.min_by_key(|at| at.abs_diff(wanted)) {
                *nearest = wanted;
            }
        }
        positions.sort_unstable();
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::figures::FrameFigures;

    fn clip(by_hands: [usize; 3], swaps: usize) -> InstanceRecord {
        InstanceRecord {
            frames: Some(FrameFigures {
                by_hands,
                swaps,
                pairs: 10,
                ..FrameFigures::default()
            }),
            ..InstanceRecord::default()
        }
    }

    #[test]
    fn the_most_doubtful_come_first_and_others_are_dropped() {
        let frames = vec![FrameRecord::of(0, &[]); 32];
        let mut most = MostDoubtful::default();
        most.add(&clip([0, 12, 20], 0), &frames, 32);
        assert!(most.clips().is_empty(), "nothing speaks against it");
        for n in 0..CLIPS_MAX + 9 {
            most.add(&clip([0, 12, 20], 1 + n % 3), &frames, 32);
        }
        most.add(&clip([16, 6, 10], 9), &frames, 32);
        assert_eq!(most.clips().len(), CLIPS_MAX);
        let first = &most.clips()[0];
        let reasons = [
            "the hands change slots in 9 of 10 steps",
            "no hand in 16 of 32 frames",
        ];
        assert_eq!(first.reasons, reasons);
        assert!(most.clips().is_sorted_by(|a, b| a.score >= b.score));
    }

    #[test]
    fn shown_frames_are_spread_and_include_the_worst() {
        assert_eq!(shown_positions(32, None), [2, 6, 10, 14, 18, 22, 26, 30]);
        assert_eq!(shown_positions(3, None), [0, 1, 2]);
        assert_eq!(shown_positions(0, Some(1)), [0; 0]);
        for frames in 1..40 {
            for worst in 1..frames {
                let shown = shown_positions(frames, Some(worst));
                assert!(shown.contains(&worst), "{worst} of {frames}: {shown:?}");
                assert!(
                    frames < 2 || shown.contains(&(worst - 1)),
                    "{worst} of {frames}: {shown:?}"
                );
                assert!(shown.is_sorted_by(|a, b| a < b) && shown.last() < Some(&frames));
                assert_eq!(shown.len(), frames.min(FRAMES_SHOWN));
            }
        }
    }
}
