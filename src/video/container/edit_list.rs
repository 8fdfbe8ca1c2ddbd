//! Which samples an edit list sends to the decoder, and which of their pictures are shown, as FFmpeg 5.1 does it for
//! OpenCV.
//!
//! Each edit begins with the last key frame that is shown at or before its start, and ends with the first key frame
//! behind its end, or the second where pictures are reordered. Pictures outside of it are decoded and not shown. A
//! gap that does not lead the list is an edit from time −1 on, which shows the beginning of the track. Both effects
//! are kept, because the notebook has them.

use super::boxes::{be32, be64};
use super::samples::{SAMPLES_MAX, Samples};

/// Maximum number of edits of a list.
const EDITS_MAX: usize = 1000;

/// One packet for the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number of the sample in the file, in decoding order from 0.
    pub sample: u32,
    /// Whether its picture is shown.
    pub is_shown: bool,
}

/// A part of the track: a start and a length in ticks of the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edit {
    start: i64,
    length: i64,
}

/// The packets of a track; `None` when each sample is decoded and shown once, in order.
///
/// `Err` when the list has more edits, or shows more samples, than the maximum.
pub(super) fn packets(
    elst: &[u8],
    stbl: &[u8],
    timescales: (u32, u32),
) -> Result<Option<Vec<Packet>>, TooLong> {
    let edits = edits(elst, timescales)?;
    let samples = Samples::read(stbl).ok_or(TooLong)?;
    let Some(edits) = edits.filter(|_| !samples.times.is_empty()) else {
        return Ok(None);
    };
    let mut out = Vec::new();
    for edit in edits {
        part(&samples, edit, &mut out)?;
    }
    let plain =
        |(number, packet): (usize, &Packet)| packet.is_shown && packet.sample as usize == number;
    let is_plain = out.len() == samples.times.len() && out.iter().enumerate().all(plain);
    Ok((!is_plain).then_some(out))
}

/// Whether a list has more than one edit that is not a leading gap.
pub(super) fn is_several(elst: &[u8]) -> bool {
    matches!(edits(elst, (1, 1)), Ok(Some(edits)) if edits.len() > 1)
}

/// The list has more edits, or shows more samples, than the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// The edits without leading gaps; `None` for an empty list. `timescales`: ticks per second of the movie, in which
/// lengths are given, and of the media.
fn edits(elst: &[u8], (movie, media): (u32, u32)) -> Result<Option<Vec<Edit>>, TooLong> {
    let width = if elst.first() == Some(&1) { 20 } else { 12 };
    // FFmpeg trusts the size of the box more than the number of rows in it.
    let all = elst.get(8..).unwrap_or(&[]).chunks_exact(width);
    if all.len() > EDITS_MAX {
        return Err(TooLong);
    }
    if all.len() == 0 {
        return Ok(None);
    }
    let mut out = Vec::new();
    for row in all {
        let (length, start) = if width == 20 {
            (
                be64(row, 0).unwrap_or(0).cast_signed(),
                be64(row, 8).unwrap_or(0).cast_signed(),
            )
        } else {
            let start = be32(row, 4).unwrap_or(0).cast_signed();
            (i64::from(be32(row, 0).unwrap_or(0)), i64::from(start))
        };
        if length < 0 {
            break;
        }
        let (movie, media) = (i128::from(movie), i128::from(media));
        let ticks = (i128::from(length) * media + movie / 2) / movie;
        let end = ticks + i128::from(start);
        let length = i64::try_from(ticks)
            .ok()
            .filter(|_| (0..=i128::from(i64::MAX)).contains(&end));
        let is_gap = start == -1;
        if !(is_gap && out.is_empty()) {
            out.push(Edit {
                start,
                length: length.unwrap_or(0),
            });
        }
    }
    Ok(Some(out))
}

/// Appends the packets of one edit.
fn part(samples: &Samples, edit: Edit, out: &mut Vec<Packet>) -> Result<(), TooLong> {
    let end = edit.start.saturating_add(edit.length);
    let first = key_before(samples, edit.start, true)
        .or_else(|| key_before(samples, edit.start, false))
        .unwrap_or(0);
    let (mut is_behind, mut leads) = (false, false);
    for (index, &time) in samples.times.iter().enumerate().skip(first) {
        let next = samples.times.get(index + 1);
        let duration = next.map_or(edit.length, |next| next.saturating_sub(time));
        let shown_at = samples.shown_at(index);
        if out.len() >= SAMPLES_MAX {
            return Err(TooLong);
        }
        let is_shown = shown_at >= edit.start && shown_at < end;
        // Pictures that are shown before the edit's first key frame may come right behind it. Their references are
        // missing, so such a picture is left out unless the edit shows it.
        leads = index == first || (leads && shown_at < samples.shown_at(first));
        if is_shown || index == first || !leads {
            let sample = u32::try_from(index).map_err(|_| TooLong)?;
            out.push(Packet { sample, is_shown });
        }
        if shown_at.saturating_add(duration) >= end && samples.keys[index] {
            // Pictures that come before this key frame may follow it in decoding order.
            if samples.offsets.is_none() || is_behind {
                break;
            }
            is_behind = true;
        }
    }
    Ok(())
}

/// The last key frame that is shown at or before `time`; without `keys_only` the search by decoding time takes any sample.
fn key_before(samples: &Samples, time: i64, keys_only: bool) -> Option<usize> {
    let time = time.saturating_sub(samples.lead);
    let (times, keys) = (&samples.times, &samples.keys);
    let mut found = last_at(times, time)?;
    if keys_only {
        found = (0..=found).rev().find(|index| keys[*index])?;
    }
    let equal = (1..=found)
        .rev()
        .take_while(|index| times[*index] == times[index - 1]);
    for index in equal.collect::<Vec<_>>() {
        if !keys_only || keys[index - 1] {
            found = index - 1;
        }
    }
    while let Some(offset) = samples.offset(found) {
        if keys[found] && times[found].saturating_add(offset) <= time {
            break;
        }
        found = found.checked_sub(1)?;
    }
    Some(found)
}

/// Index of the last time at or before `time`, by the same bisection as FFmpeg's: the times may not ascend.
fn last_at(times: &[i64], time: i64) -> Option<usize> {
    // One more than the index, so that 0 means no index.
    let (mut low, mut high) = (0, times.len() + 1);
    if times.last().is_some_and(|last| *last < time) {
        low = times.len();
    }
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        let here = times[middle - 1];
        if here >= time {
            high = middle;
        }
        if here <= time {
            low = middle;
        }
    }
    low.checked_sub(1)
}

#[cfg(test)]
mod tests;
