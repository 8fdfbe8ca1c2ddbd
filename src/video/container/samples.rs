//! The samples of a track in decoding order, from the tables of its index.

use super::boxes::{be32, child, rows};

/// Maximum number of samples that are listed: 11 hours at 25 frames a second.
pub(super) const SAMPLES_MAX: usize = 1 << 20;

/// Largest step of the time-to-sample table; FFmpeg reads a larger one as a negative correction.
const STEP_MAX: u32 = u32::MAX - 480_000;

/// Largest composition offset; with a larger one FFmpeg ignores the table.
const OFFSET_MAX: u32 = 1 << 28;

/// The samples of a track.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Decoding time of each, in ticks of the media.
    pub(super) times: Vec<i64>,
    /// Whether decoding can begin with it.
    pub(super) keys: Vec<bool>,
    /// Composition offset of each sample, in ticks: added to the decoding time, it gives the time at which the sample
    /// is shown. `None` without such a table. A shorter list means that the other samples have none.
    pub(super) offsets: Option<Vec<i64>>,
    /// Largest time by which a sample is shown before it is decoded.
    pub(super) lead: i64,
}

impl Samples {
    /// Reads the tables of `stbl`; `None` when it lists more than [`SAMPLES_MAX`] samples.
    pub(super) fn read(stbl: &[u8]) -> Option<Self> {
        let count = child(stbl, b"stsz").map_or_else(
            || child(stbl, b"stz2").and_then(|stz2| be32(stz2, 8)),
            |stsz| be32(stsz, 8),
        );
        let count = count.unwrap_or(0) as usize;
        if count > SAMPLES_MAX {
            return None;
        }
        let (offsets, lead) = child(stbl, b"ctts").map_or((None, 0), |ctts| offsets(ctts, count));
        Some(Self {
            times: times(child(stbl, b"stts").unwrap_or(&[]), count, lead),
            keys: keys(stbl, count),
            offsets,
            lead,
        })
    }

    /// Time at which sample `index` is shown.
    pub(super) fn shown_at(&self, index: usize) -> i64 {
        let added = self.lead + self.offset(index).unwrap_or(0);
        self.times[index].saturating_add(added)
    }

    /// Composition offset of sample `index`, in ticks; `None` where the table does not reach it.
    pub(super) fn offset(&self, index: usize) -> Option<i64> {
        self.offsets.as_ref()?.get(index).copied()
    }
}

/// Decoding times from `-lead` on. FFmpeg repairs steps that are far too large in the same way.
fn times(stts: &[u8], count: usize, lead: i64) -> Vec<i64> {
    let mut steps = Vec::new();
    let (mut time, mut corrected) = (0_i64, 0_i64);
    for row in rows(stts, 8) {
        let (repeats, step) = (be32(row, 0).unwrap_or(0), be32(row, 4).unwrap_or(0));
        let repeats_64 = i64::from(repeats);
        let mut used = i64::from(step);
        let wanted = if step > STEP_MAX {
            used = 1;
            i64::from(step.cast_signed().min(1))
        } else {
            used
        };
        corrected = corrected.wrapping_add(wanted.wrapping_mul(repeats_64));
        time = time.wrapping_add(used.wrapping_mul(repeats_64));
        if time > corrected {
            let drift = time.wrapping_sub(corrected) / repeats_64.max(1);
            // In 32 bits, as there: a step of 0 becomes the largest correction.
            let correction = if used > drift {
                drift
            } else {
                (used - 1).rem_euclid(1 << 32)
            };
            time = time.wrapping_sub(correction.wrapping_mul(repeats_64));
            used = used.wrapping_sub(correction).rem_euclid(1 << 32);
        }
        steps.push((repeats, used));
    }
    let mut out = Vec::with_capacity(count);
    let (mut row, mut done, mut time) = (0, 0, -lead);
    for _ in 0..count {
        out.push(time);
        let Some(&(repeats, step)) = steps.get(row) else {
            continue;
        };
        time = time.saturating_add(step);
        done += 1;
        // The last row holds for all samples that are left.
        if row + 1 < steps.len() && done == repeats {
            (row, done) = (row + 1, 0);
        }
    }
    out
}

/// Composition offsets of up to `count` samples, and the lead.
fn offsets(ctts: &[u8], count: usize) -> (Option<Vec<i64>>, i64) {
    let entries = be32(ctts, 4).unwrap_or(0) as usize;
    if entries == 0 {
        return (None, 0);
    }
    let mut out = Vec::new();
    let mut lead = 0;
    for (index, row) in rows(ctts, 8).enumerate() {
        let repeats = be32(row, 0).unwrap_or(0).cast_signed();
        let offset = be32(row, 4).unwrap_or(0).cast_signed();
        let Ok(repeats) = usize::try_from(repeats) else {
            continue;
        };
        if repeats == 0 {
            continue;
        }
        // As in FFmpeg, the last two rows neither change the lead nor are checked against `OFFSET_MAX`.
        if index + 2 < entries {
            if offset.unsigned_abs() > OFFSET_MAX {
                return (None, lead);
            }
            lead = lead.max(-i64::from(offset));
        }
        let room = count - out.len();
        out.extend(std::iter::repeat_n(i64::from(offset), repeats.min(room)));
    }
    (Some(out), lead)
}

/// Which of `count` samples are key frames: those that the tables name, all without a table.
fn keys(stbl: &[u8], count: usize) -> Vec<bool> {
    let listed = |kind: &[u8]| -> Vec<u32> {
        let table = child(stbl, kind).unwrap_or(&[]);
        rows(table, 4).filter_map(|row| be32(row, 0)).collect()
    };
    let (full, partial) = (listed(b"stss"), listed(b"stps"));
    // A table that exists and is empty names the first sample only.
    let is_empty = child(stbl, b"stss").is_some_and(|table| be32(table, 4) == Some(0));
    let begins_at_1 = [&full, &partial]
        .iter()
        .any(|list| list.first().is_some_and(|n| *n > 0));
    let (mut next, mut next_partial) = (0, 0);
    (0..count)
        .map(|index| {
            let number = u32::try_from(index).unwrap_or(u32::MAX) + u32::from(begins_at_1);
            // A number out of order ends the search: no later one is reached.
            let found = |list: &[u32], next: &mut usize| {
                let is_named = list.get(*next) == Some(&number);
                if is_named && *next + 1 < list.len() {
                    *next += 1;
                }
                is_named
            };
            if !is_empty && full.is_empty() {
                return true;
            }
            found(&full, &mut next)
                || found(&partial, &mut next_partial)
                || (is_empty && partial.is_empty() && index == 0)
        })
        .collect()
}
