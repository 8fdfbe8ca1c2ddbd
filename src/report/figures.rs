//! The statistics of one clip, from the detections in its sampled frames. Pure arithmetic.

use crate::hand::landmarks::WRIST;
use crate::sequence::FrameRecord;
use crate::sequence::normalize::SLOTS;

/// A wrist jumps when it moves by more than this share of the image from one sampled frame to the next.
pub const JUMP_MIN: f32 = 0.2;
/// Sampled frames that are further apart in the clip, in frames, do not count as a jump.
const NEIGHBOR_FRAMES_MAX: i32 = 4;

/// Statistics of the sampled frames of an accepted clip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameFigures {
    /// Number of frames with no hand, with one hand and with two hands.
    pub by_hands: [usize; SLOTS + 1],
    /// Length of the longest run of frames without a hand between two frames with a hand.
    pub longest_gap: usize,
    /// Number of steps from one sampled frame to the next in which a wrist jumps.
    pub jumps: usize,
    /// Number of steps between two frames that both have two hands.
    pub pairs: usize,
    /// Number of these steps in which the hands change slots.
    pub swaps: usize,
    /// Number of these steps in which a hand is assigned to the other side.
    pub side_changes: usize,
    /// Number of frames with two hands that both have the same side.
    pub same_side: usize,
    /// Index in the sampled frames of the worst fault: the first jump, else the first swap, else the longest gap.
    pub worst_at: Option<usize>,
    /// Index of the first sampled frame in the clip.
    pub first: u64,
    /// Index in the clip of the first frame after the last sampled frame and the frames that its step covers.
    pub end: u64,
}

/// Wrist positions by slot, `[x, y]` in fractions of the image.
type Wrists = [Option<[f32; 2]>; SLOTS];

/// Whether `slot` of a frame holds a hand.
#[must_use]
pub fn has_hand(frame: &FrameRecord, slot: usize) -> bool {
    frame.handedness[slot] >= 0
}

impl FrameFigures {
    /// Computes the statistics of a clip's sampled `frames`.
    #[must_use]
    pub fn of(frames: &[FrameRecord]) -> Self {
        let mut figures = Self::default();
        let (mut gap, mut gap_at, mut jump_at, mut swap_at) = (0, None, None, None);
        let mut has_begun = false;
        for (at, frame) in frames.iter().enumerate() {
            let hands = (0..SLOTS).filter(|slot| has_hand(frame, *slot)).count();
            figures.by_hands[hands] += 1;
            figures.same_side +=
                usize::from(hands == SLOTS && frame.handedness[0] == frame.handedness[1]);
            if hands == 0 {
                gap += usize::from(has_begun);
            } else {
                if gap > figures.longest_gap {
                    figures.longest_gap = gap;
                    gap_at = Some(at - gap);
                }
                (gap, has_begun) = (0, true);
            }
            let Some(next) = frames.get(at + 1) else {
                continue;
            };
            let step = Step::between(frame, next);
            let apart = next.frame_index.saturating_sub(frame.frame_index);
            if step.moved > JUMP_MIN && apart <= NEIGHBOR_FRAMES_MAX {
                figures.jumps += 1;
                jump_at.get_or_insert(at + 1);
            }
            figures.pairs += usize::from(step.is_pair);
            figures.side_changes += usize::from(step.changes_side);
            if step.is_swapped {
                figures.swaps += 1;
                swap_at.get_or_insert(at + 1);
            }
        }
        figures.worst_at = jump_at.or(swap_at).or(gap_at);
        let index = |frame: &FrameRecord| u64::try_from(frame.frame_index).unwrap_or(0);
        if let (Some(first), Some(last)) = (frames.first(), frames.last()) {
            let before = frames.len().checked_sub(2).map(|at| index(&frames[at]));
            let step = before.map_or(1, |before| index(last).saturating_sub(before));
            (figures.first, figures.end) = (index(first), index(last) + step);
        }
        figures
    }

    /// Number of sampled frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.by_hands.iter().sum()
    }

    /// Number of sampled frames with at least one hand.
    #[must_use]
    pub fn with_hand(&self) -> usize {
        self.frames() - self.by_hands[0]
    }
}

/// The motion of the hands from one sampled frame to the next.
#[derive(Default)]
struct Step {
    /// The larger distance that a wrist moves, in shares of the image.
    moved: f32,
    is_pair: bool,
    is_swapped: bool,
    changes_side: bool,
}

impl Step {
    fn between(from: &FrameRecord, to: &FrameRecord) -> Self {
        let (a, b) = (wrists(from), wrists(to));
        let is_same_side =
            |slots: (usize, usize)| from.handedness[slots.0] == to.handedness[slots.1];
        if let ([Some(a0), Some(a1)], [Some(b0), Some(b1)]) = (a, b) {
            // Hands are swapped when the total movement is smaller with exchanged slots.
            let straight = [distance(a0, b0), distance(a1, b1)];
            let crossed = [distance(a0, b1), distance(a1, b0)];
            let is_swapped = crossed[0] + crossed[1] < straight[0] + straight[1];
            let moves = if is_swapped { crossed } else { straight };
            let is_kept =
                |slot: usize| is_same_side((slot, if is_swapped { 1 - slot } else { slot }));
            return Self {
                moved: moves[0].max(moves[1]),
                is_pair: true,
                is_swapped,
                changes_side: !(is_kept(0) && is_kept(1)),
            };
        }
        // A single hand is matched to the nearest hand of the other frame. With one hand in each frame, hands of
        // different sides are different hands.
        let is_single = a.iter().flatten().count() + b.iter().flatten().count() == SLOTS;
        let mut moved: Option<f32> = None;
        for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            if let (Some(a), Some(b)) = (a[i], b[j])
                && (!is_single || is_same_side((i, j)))
            {
                let distance = distance(a, b);
                moved = Some(moved.map_or(distance, |least| least.min(distance)));
            }
        }
        Self {
            moved: moved.unwrap_or(0.0),
            ..Self::default()
        }
    }
}

fn wrists(frame: &FrameRecord) -> Wrists {
    std::array::from_fn(|slot| {
        let [x, y, _] = frame.landmarks[slot][WRIST];
        has_hand(frame, slot).then_some([x, y])
    })
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    // `f32::hypot` needs glibc 2.35.
    let (dx, dy) = (a[0] - b[0], a[1] - b[1]);
    (dx * dx + dy * dy).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with the given hands `(side, x)`, all at y 0.5.
    fn frame(index: i32, hands: &[(i8, f32)]) -> FrameRecord {
        let mut frame = FrameRecord::of(0, &[]);
        frame.frame_index = index;
        for (slot, (side, x)) in hands.iter().enumerate() {
            frame.hand_count += 1;
            frame.handedness[slot] = *side;
            frame.landmarks[slot] = [[*x, 0.5, 0.0]; 21];
        }
        frame
    }

    fn figures(frames: &[&[(i8, f32)]]) -> FrameFigures {
        let frames: Vec<FrameRecord> = (0..)
            .zip(frames)
            .map(|(n, hands)| frame(n * 2 + 10, hands))
            .collect();
        FrameFigures::of(&frames)
    }

    #[test]
    fn hands_and_gaps_are_counted() {
        let one: &[(i8, f32)] = &[(1, 0.5)];
        let two: &[(i8, f32)] = &[(1, 0.5), (0, 0.2)];
        // Frames without a hand before the first hand and after the last one are not a gap.
        let found = figures(&[
            &[],
            &[],
            &[],
            one,
            &[],
            two,
            &[],
            &[],
            one,
            &[],
            &[],
            &[],
            &[],
        ]);
        assert_eq!(found.by_hands, [10, 2, 1]);
        assert_eq!((found.longest_gap, found.worst_at), (2, Some(6)));
        assert_eq!((found.first, found.end), (10, 36));
        assert_eq!((found.frames(), found.with_hand()), (13, 3));
        assert_eq!(FrameFigures::of(&[]), FrameFigures::default());
        assert_eq!(figures(&[one]).end, 11);
    }

    #[test]
    fn swaps_jumps_and_sides_are_distinguished() {
        let swap = figures(&[&[(1, 0.3), (0, 0.7)], &[(0, 0.7), (1, 0.3)]]);
        assert_eq!(
            (swap.pairs, swap.swaps, swap.side_changes, swap.jumps),
            (1, 1, 0, 0)
        );
        let side = figures(&[&[(1, 0.3), (0, 0.7)], &[(1, 0.3), (1, 0.7)]]);
        assert_eq!(
            (side.pairs, side.swaps, side.side_changes, side.same_side),
            (1, 0, 1, 1)
        );
        let jump = figures(&[&[(1, 0.3), (0, 0.7)], &[(1, 0.55), (0, 0.7)]]);
        assert_eq!((jump.swaps, jump.jumps, jump.worst_at), (0, 1, Some(1)));
        let small = figures(&[&[(1, 0.3)], &[(1, 0.49)]]);
        assert_eq!(small.jumps, 0);
    }

    #[test]
    fn one_hand_is_the_nearest_of_two_and_another_side_is_another_hand() {
        assert_eq!(figures(&[&[(1, 0.3), (0, 0.7)], &[(0, 0.7)]]).jumps, 0);
        assert_eq!(figures(&[&[(1, 0.3)], &[(0, 0.8)]]).jumps, 0);
        assert_eq!(figures(&[&[(1, 0.3)], &[(1, 0.8)]]).jumps, 1);
        // Between frames that are far apart a large movement is not a jump.
        let far = [frame(0, &[(1, 0.3)]), frame(5, &[(1, 0.8)])];
        assert_eq!(FrameFigures::of(&far).jumps, 0);
    }
}
