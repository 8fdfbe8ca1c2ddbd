//! Assembles a sequence from the hands found in a clip's frames: slots, gaps, rows, numbers. Pure.

use super::frame_plan::FramePlan;
use super::frame_record::{FrameRecord, FrameTotal};
use super::interpolation::{HandPoints, SlotRow, even_times, fill_gaps, resample};
use super::normalize::{FEATURES, HandScale, SLOTS, has_hand, normalize};
use super::options::{Mirroring, Sampling, SequenceSpec};
use super::sampling::Window;
use super::slots::{self, SlotAssignment};
use crate::frame::ClipFormat;
use crate::hand::landmarks::LANDMARKS;
use ndarray::{Array2, ArrayViewMut1};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A sequence and the frames that it was made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sequence {
    /// `[length, 126]` f32. Rows at the end are padding where there were fewer frames.
    pub features: Array2<f32>,
    /// `[length][slot]`: whether the row holds a hand, seen or filled.
    pub mask: Vec<[bool; SLOTS]>,
    /// `[length][slot]`: whether that hand was filled between two frames that show it.
    pub filled: Vec<[bool; SLOTS]>,
    /// The frame of each row as detected, at most `length`; for interpolated rows the frame nearest in time.
    pub frames: Vec<FrameRecord>,
    /// Number of sampled frames that show a hand, as the notebook counts them.
    pub frames_with_hand: usize,
    /// The part of the clip that is its sign.
    pub window: Window,
    /// Number of frames of the clip; `None` when neither its container nor its end gave it.
    pub total_frames: Option<FrameTotal>,
    /// Size and rate of the clip.
    pub format: ClipFormat,
    /// Counts of the clip's frames and rows.
    pub figures: SequenceFigures,
}

/// Counts of a clip's frames and rows on the way into a sequence. The manifest has each under its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SequenceFigures {
    /// Number of frames of the sign; `None` when its end is not known.
    pub in_range: Option<u64>,
    /// Number of frames of the sign beyond the part that the stride reaches; `None` when its end is not known.
    pub truncated: Option<u64>,
    /// Number of sampled frames.
    pub sampled: usize,
    /// Number of sampled frames with two hands.
    pub with_two_hands: usize,
    /// Number of sampled frames whose two hands are detected as the same side.
    pub same_side_twice: usize,
    /// Longest run of sampled frames without a hand, between two with a hand.
    pub longest_gap: usize,
    /// Number of pairs of consecutive sampled frames that both have two hands.
    pub two_hand_pairs: usize,
    /// Number of these pairs in which the hands change slots.
    pub slot_swaps: usize,
    /// Number of rows with a filled hand.
    pub filled: usize,
    /// Whether the clip was mirrored.
    pub mirrored: bool,
}

impl Sequence {
    /// The sequence's fields in the manifest, as a JSON object.
    #[must_use]
    pub fn manifest_fields(&self) -> Value {
        let ClipFormat { width, height, fps } = self.format;
        let mut fields = json!({
            // Frames of the clip; null when neither its container nor its end gave them.
            "declared_frames": self.total_frames.map(FrameTotal::count),
            "with_hand": self.frames_with_hand,
            "width": width,
            "height": height,
            "fps": fps.map(|fps| (f64::from(fps) * 1e3).round() / 1e3),
        });
        if let (Value::Object(fields), Ok(Value::Object(figures))) =
            (&mut fields, serde_json::to_value(self.figures))
        {
            fields.extend(figures);
        }
        fields
    }
}

/// Assembles the sequence of `frames`, the detector's results for the frames of `plan`, in their order. There may be
/// fewer than planned. `format` is that of the clip.
#[must_use]
pub fn assemble(
    frames: Vec<FrameRecord>,
    plan: &FramePlan,
    format: ClipFormat,
    spec: &SequenceSpec,
) -> Sequence {
    let options = &spec.options;
    let scale = HandScale::new(options, format);
    let positions = &plan.positions[..frames.len().min(plan.positions.len())];
    let assignments: Vec<SlotAssignment> = frames
        .iter()
        .map(|frame| slots::assign(frame, options.slots))
        .collect();
    let mut tracks: [Vec<Option<HandPoints>>; SLOTS] = std::array::from_fn(|slot| {
        let hand = |(frame, assigned): (&FrameRecord, &SlotAssignment)| {
            assigned.hands[slot].map(|hand| frame.landmarks[hand])
        };
        frames.iter().zip(&assignments).map(hand).collect()
    });
    let mirrored = options.mirror == Mirroring::Dominant && slots::is_left_dominant(&tracks);
    if mirrored {
        tracks.reverse();
        for hand in tracks.iter_mut().flatten().flatten() {
            *hand = slots::mirrored(hand);
        }
    }
    let max_gap = if options.missing.interpolates() {
        options.max_gap
    } else {
        0
    };
    let is_resampled = options.sampling == Sampling::Interpolate;
    let rows: [Vec<SlotRow>; SLOTS] = std::array::from_fn(|slot| {
        if is_resampled {
            resample(&tracks[slot], positions, spec.length, max_gap)
        } else {
            fill_gaps(&tracks[slot], positions, max_gap)
        }
    });
    let mut features = Array2::from_elem((spec.length, FEATURES), options.missing.placeholder());
    let mut mask = vec![[false; SLOTS]; spec.length];
    let mut filled = mask.clone();
    for (n, mut numbers) in features.rows_mut().into_iter().enumerate() {
        for slot in 0..SLOTS {
            let Some(row) = rows[slot].get(n) else {
                continue;
            };
            mask[n][slot] = write_hand(row, slot, scale, &mut numbers);
            filled[n][slot] = row.is_filled;
        }
    }
    let is_seen = |frame: usize| {
        let hands = tracks.iter().filter_map(|track| track[frame].as_ref());
        hands
            .map(|hand| normalize(*hand, scale))
            .any(|hand| has_hand(hand.as_flattened()))
    };
    let seen: Vec<bool> = (0..frames.len()).map(is_seen).collect();
    let (two_hand_pairs, slot_swaps) = slots::count_swaps(&tracks);
    let figures = SequenceFigures {
        in_range: plan.in_range,
        truncated: truncated(plan, spec),
        sampled: frames.len(),
        with_two_hands: frames.iter().filter(|f| f.hand_count == 2).count(),
        same_side_twice: assignments.iter().filter(|a| a.is_same_side).count(),
        longest_gap: longest_gap(&seen),
        two_hand_pairs,
        slot_swaps,
        filled: filled.iter().filter(|row| row.contains(&true)).count(),
        mirrored,
    };
    Sequence {
        features,
        mask,
        filled,
        frames_with_hand: seen.iter().filter(|seen| **seen).count(),
        frames: if is_resampled {
            nearest(&frames, positions, spec.length)
        } else {
            frames
        },
        window: plan.window,
        total_frames: plan.total,
        format,
        figures,
    }
}

/// Writes the numbers of the hand in `row` into its slot. Returns whether they show a hand.
fn write_hand(
    row: &SlotRow,
    slot: usize,
    scale: HandScale,
    numbers: &mut ArrayViewMut1<'_, f32>,
) -> bool {
    let Some(hand) = row.hand else {
        return false;
    };
    let hand = normalize(hand, scale);
    let values = hand.as_flattened();
    for (number, value) in numbers.iter_mut().skip(slot * LANDMARKS * 3).zip(values) {
        *number = *value;
    }
    has_hand(values)
}

/// Number of frames of the sign beyond the part that the stride reaches with all rows.
fn truncated(plan: &FramePlan, spec: &SequenceSpec) -> Option<u64> {
    if spec.options.sampling != Sampling::Stride {
        return plan.in_range.map(|_| 0);
    }
    let reach = spec.stride.get().saturating_mul(spec.length as u64);
    plan.in_range.map(|count| count.saturating_sub(reach))
}

/// Length of the longest run of `false` between two `true`.
fn longest_gap(seen: &[bool]) -> usize {
    let frames = seen.iter().enumerate().filter(|(_, seen)| **seen);
    let frames: Vec<usize> = frames.map(|(frame, _)| frame).collect();
    let gaps = frames.windows(2).map(|pair| pair[1] - pair[0] - 1);
    gaps.max().unwrap_or(0)
}

/// The nearest of `frames` for each of `length` rows, evenly over `positions`. There is a frame for each position.
fn nearest(frames: &[FrameRecord], positions: &[f64], length: usize) -> Vec<FrameRecord> {
    let mut at = 0;
    let rows = even_times(positions, length).filter_map(|due| {
        while positions
            .get(at + 1)
            .is_some_and(|next| (next - due).abs() < (positions[at] - due).abs())
        {
            at += 1;
        }
        frames.get(at).cloned()
    });
    rows.collect()
}

#[cfg(test)]
mod tests;
