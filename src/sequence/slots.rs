//! Assigns a frame's hands to slots, counts slot swaps and finds the dominant hand.

use super::frame_record::FrameRecord;
use super::interpolation::HandPoints;
use super::normalize::SLOTS;
use super::options::Slots;
use crate::hand::landmarks::WRIST;

/// Slot of the signer's left hand.
const LEFT: usize = 0;
/// Slot of the signer's right hand.
const RIGHT: usize = 1;

/// The hands of a frame by slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotAssignment {
    /// For each slot, the index of its hand in the order of detection.
    pub(crate) hands: [Option<usize>; SLOTS],
    /// Whether both hands were detected as the same side.
    pub(crate) is_same_side: bool,
}

/// Gives each hand of `frame` a slot of its own.
pub(crate) fn assign(frame: &FrameRecord, slots: Slots) -> SlotAssignment {
    let count = usize::from(frame.hand_count).min(SLOTS);
    let side = |hand: usize| {
        usize::try_from(frame.handedness[hand])
            .ok()
            .filter(|s| *s < SLOTS)
    };
    let is_same_side = count == SLOTS && side(0).is_some() && side(0) == side(1);
    let mut hands = [None; SLOTS];
    if slots == Slots::Detected {
        hands = std::array::from_fn(|slot| (slot < count).then_some(slot));
    } else if count > 0 {
        let score = frame.handedness_score;
        // Of two hands on one side, the one with the better score chooses; with equal scores, the first detected.
        let chooser = usize::from(count == SLOTS && is_same_side && score[1] > score[0]);
        let slot = side(chooser).unwrap_or(chooser);
        hands[slot] = Some(chooser);
        if count == SLOTS {
            hands[1 - slot] = Some(1 - chooser);
        }
    }
    SlotAssignment {
        hands,
        is_same_side,
    }
}

/// Returns the number of pairs of consecutive frames with two hands each, and how many of them swap slots: both
/// wrists together come closer when the slots of one frame are exchanged. `tracks` holds the hands of each slot.
pub(super) fn count_swaps(tracks: &[Vec<Option<HandPoints>>; SLOTS]) -> (usize, usize) {
    let both: Vec<Option<[&HandPoints; SLOTS]>> = tracks[LEFT]
        .iter()
        .zip(&tracks[RIGHT])
        .map(|(left, right)| Some([left.as_ref()?, right.as_ref()?]))
        .collect();
    let pairs = both.windows(2).filter_map(|pair| pair[0].zip(pair[1]));
    let swaps = pairs.clone().filter(|(a, b)| {
        let straight = distance(a[0], b[0]) + distance(a[1], b[1]);
        distance(a[0], b[1]) + distance(a[1], b[0]) < straight
    });
    (pairs.clone().count(), swaps.count())
}

/// Whether the left hand is dominant: it is seen in more frames, or in as many with a longer path of its wrist.
pub(super) fn is_left_dominant(tracks: &[Vec<Option<HandPoints>>; SLOTS]) -> bool {
    let [left, right] = [LEFT, RIGHT].map(|slot| {
        let seen: Vec<&HandPoints> = tracks[slot].iter().flatten().collect();
        let path: f64 = seen.windows(2).map(|pair| distance(pair[0], pair[1])).sum();
        (seen.len(), path)
    });
    left > right
}

/// Mirrors `hand`.
pub(super) fn mirrored(hand: &HandPoints) -> HandPoints {
    hand.map(|[x, y, z]| [1.0 - x, y, z])
}

/// Distance of the wrists in fractions of the image, without depth.
fn distance(a: &HandPoints, b: &HandPoints) -> f64 {
    let [dx, dy] = [0, 1].map(|axis| f64::from(a[WRIST][axis]) - f64::from(b[WRIST][axis]));
    (dx * dx + dy * dy).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(hands: &[(i8, f32)]) -> FrameRecord {
        let mut frame = FrameRecord::of(0, &[]);
        for (slot, (side, score)) in hands.iter().enumerate() {
            frame.hand_count += 1;
            frame.handedness[slot] = *side;
            frame.handedness_score[slot] = *score;
        }
        frame
    }

    /// A hand whose wrist is at `x`.
    fn hand(x: f32) -> HandPoints {
        std::array::from_fn(|i| [x + i as f32 * 0.01, 0.5, 0.0])
    }

    #[test]
    fn sides_decide_and_the_better_score_keeps_its_side() {
        let check = |hands: &[(i8, f32)], expected: [Option<usize>; 2], same_side: bool| {
            let found = assign(&frame(hands), Slots::Sides);
            assert_eq!(found.hands, expected, "{hands:?}");
            assert_eq!(found.is_same_side, same_side, "{hands:?}");
        };
        check(&[], [None, None], false);
        check(&[(0, 0.9)], [Some(0), None], false);
        check(&[(1, 0.9)], [None, Some(0)], false);
        check(&[(0, 0.6), (1, 0.9)], [Some(0), Some(1)], false);
        check(&[(1, 0.6), (0, 0.9)], [Some(1), Some(0)], false);
        check(&[(1, 0.6), (1, 0.9)], [Some(0), Some(1)], true);
        check(&[(1, 0.9), (1, 0.6)], [Some(1), Some(0)], true);
        check(&[(0, 0.9), (0, 0.9)], [Some(0), Some(1)], true);
        let detected = assign(&frame(&[(1, 0.6), (0, 0.9)]), Slots::Detected);
        assert_eq!(detected.hands, [Some(0), Some(1)]);
    }

    #[test]
    fn a_swap_is_where_exchanged_hands_are_nearer() {
        let both = |left, right| (Some(hand(left)), Some(hand(right)));
        let frames = [
            both(0.2, 0.8),
            both(0.25, 0.75),
            both(0.78, 0.22),
            (Some(hand(0.5)), None),
            both(0.2, 0.8),
        ];
        let tracks = [
            frames.iter().map(|f| f.0).collect(),
            frames.iter().map(|f| f.1).collect(),
        ];
        assert_eq!(count_swaps(&tracks), (2, 1));
        assert_eq!(count_swaps(&[Vec::new(), Vec::new()]), (0, 0));
    }

    #[test]
    fn the_hand_of_more_frames_is_dominant_then_that_of_the_longer_path() {
        let left = |left: &[Option<f32>], right: &[Option<f32>]| {
            let track = |xs: &[Option<f32>]| xs.iter().map(|x| x.map(hand)).collect();
            is_left_dominant(&[track(left), track(right)])
        };
        assert!(left(&[Some(0.1), Some(0.1)], &[None, Some(0.9)]));
        assert!(!left(&[Some(0.1), None], &[Some(0.2), Some(0.9)]));
        assert!(left(&[Some(0.1), Some(0.3)], &[Some(0.8), Some(0.9)]));
        assert!(!left(&[Some(0.1), Some(0.1)], &[Some(0.1), Some(0.1)]));
        assert_eq!(mirrored(&hand(0.25))[0], [0.75, 0.5, 0.0]);
    }

    proptest! {
        #[test]
        fn no_hand_is_lost_or_doubled(
            hands in prop::collection::vec((-1..2_i8, 0.0..1.0_f32), 0..3),
            is_sided in any::<bool>(),
        ) {
            let slots = if is_sided { Slots::Sides } else { Slots::Detected };
            let found = assign(&frame(&hands), slots);
            let mut placed: Vec<usize> = found.hands.iter().flatten().copied().collect();
            placed.sort_unstable();
            prop_assert_eq!(placed, (0..hands.len()).collect::<Vec<_>>());
            // A hand is in its own slot; both are when their sides differ.
            if is_sided && hands.iter().all(|(side, _)| *side >= 0) {
                let own = (0..2).filter(|slot| {
                    found.hands[*slot].is_some_and(|hand| hands[hand].0 == i8::try_from(*slot).unwrap())
                });
                let expected = if found.is_same_side { 1 } else { hands.len() };
                prop_assert_eq!(own.count(), expected);
            }
        }
    }
}
