//! Which hand of a frame has which slot, how often slots swap, and which hand is the dominant one.

use super::extract::FrameRecord;
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
pub(super) struct SlotAssignment {
    /// For each slot the index of its hand in the order of detection.
    pub(super) hands: [Option<usize>; SLOTS],
    /// Whether both hands are said to be of one side.
    pub(super) is_same_side: bool,
}

/// Gives each hand of `frame` a slot of its own.
pub(super) fn assign(frame: &FrameRecord, slots: Slots) -> SlotAssignment {
    let count = usize::from(frame.hand_count).min(SLOTS);
    let side = |hand: usize| usize::try_from(frame.handedness[hand]).ok().filter(|s| *s < SLOTS);
    let is_same_side = count == SLOTS && side(0).is_some() && side(0) == side(1);
    let mut hands = [None; SLOTS];
    if slots == Slots::Detected {
        for hand in 0..count {
            hands[hand] = Some(hand);
        }
    } else if count > 0 {
        let score = frame.handedness_score;
        // Of two hands on one side the better one chooses; of equally good ones the first detected.
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

/// Consecutive frames with two hands each, and among them those between which the hands change slots: where both wrists
/// together come closer when the slots of one frame are swapped. `tracks` holds the hands of each slot.
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

/// Whether the left hand is the dominant one: seen in more frames, or in as many with the longer path of its wrist.
pub(super) fn is_left_dominant(tracks: &[Vec<Option<HandPoints>>; SLOTS]) -> bool {
    let [left, right] = [LEFT, RIGHT].map(|slot| {
        let seen: Vec<&HandPoints> = tracks[slot].iter().flatten().collect();
        let path: f64 = seen.windows(2).map(|pair| distance(pair[0], pair[1])).sum();
        (seen.len(), path)
    });
    left > right
}

/// `hand` as in a mirror.
pub(super) fn mirrored(hand: &HandPoints) -> HandPoints {
    hand.map(|[x, y, z]| [1.0 - x, y, z])
}

/// Distance of the wrists, fractions of the image, without depth.
fn distance(a: &HandPoints, b: &HandPoints) -> f64 {
    let [dx, dy] = [0, 1].map(|axis| f64::from(a[WRIST][axis]) - f64::from(b[WRIST][axis]));
    (dx * dx + dy * dy).sqrt()
}
