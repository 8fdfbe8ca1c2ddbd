//! The manifest of a dataset job: one line for every instance of the metadata.

use super::share::Share;
use super::skip_reason;
use crate::dataset::acceptance::{Reading, State};
use crate::dataset::clip_note::ClipNote;
use crate::dataset::plan::{OtherComparison, Plan, PlanRecord};
use crate::selection::with_precision;
use crate::sequence::{FrameTotal, SequenceFigures};
use crate::storage::ledger::{ClipRecord, LEDGER_NAME};
use crate::storage::manifest::ManifestLine;
use crate::storage::{Recorder, StoreError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A line for every instance of `share`, from the plan and the ledger's records.
///
/// # Errors
/// Fails when the ledger lacks a clip or holds one that cannot be read.
pub(super) fn manifest(
    plan: &Plan,
    share: &Share,
    recorder: &Recorder,
    out: &Path,
) -> Result<Vec<ManifestLine>, StoreError> {
    let broken = |reason: String| StoreError::BadLedger {
        path: out.join(LEDGER_NAME),
        reason,
    };
    let mut clips = recorder.ledger().clips()?;
    let mut place = recorder.row_counter();
    let mut position = 0;
    let frames_only = plan.jobs.iter().filter(|job| job.is_frames_only);
    let frames_only: BTreeMap<usize, usize> =
        frames_only.map(|job| (job.record, job.position)).collect();
    let mut lines = Vec::with_capacity(plan.records.len());
    for (number, record) in plan.records.iter().enumerate() {
        if !share.has_record(number) {
            position += usize::from(skip_reason(record).is_none());
            continue;
        }
        if let Some((state, reason)) = skip_reason(record) {
            let mut line = line(record, state, Some(reason));
            if let Some(position) = frames_only.get(&number) {
                line.otherwise = Some(json!({"position": position}));
            }
            lines.push(line);
            continue;
        }
        let ClipRecord {
            state,
            reason,
            clip,
            ..
        } = clips.remove(&position).ok_or_else(|| StoreError::Lost {
            path: out.join(LEDGER_NAME),
            positions: vec![position],
        })?;
        let state = State::from_name(&state)
            .ok_or_else(|| broken(format!("clip {position} has the state {state:?}")))?;
        let mut line = line(record, state, reason);
        line.position = Some(position);
        let clip = clip.map(|json| serde_json::from_str(&json)).transpose();
        line.clip = clip.map_err(|e| broken(e.to_string()))?;
        line.stored = (state == State::Accepted).then(|| place(position));
        lines.push(line);
        position += 1;
    }
    Ok(lines)
}

fn line(record: &PlanRecord, state: State, reason: Option<String>) -> ManifestLine {
    ManifestLine {
        gloss: record.gloss.to_string(),
        video_id: record.video_id.as_deref().map(str::to_owned),
        path: record.path.as_deref().map(str::to_owned),
        instance: record.instance,
        state: state.name(),
        reason,
        split: record.split.clone(),
        signer_id: record.signer_id,
        frame_start: record.frame_start.clone().ok(),
        frame_end: record.frame_end.clone().ok(),
        columns: record
            .columns
            .as_ref()
            .map(|columns| columns.iter().collect()),
        position: None,
        otherwise: match &record.otherwise {
            Some(OtherComparison::Skipped(state, reason)) => {
                Some(json!({"state": state.name(), "reason": reason}))
            }
            _ => None,
        },
        clip: None,
        stored: None,
    }
}

/// What the ledger keeps of a clip that was read, as JSON, for the manifest.
pub(super) fn clip_json(reading: &Reading) -> String {
    let sequence = &reading.sequence;
    let mut clip = sequence.manifest_fields();
    clip["backend"] = json!(*reading.backend);
    let mut clip = with_precision(clip, &reading.backend);
    clip["decoder"] = json!(reading.decoder);
    // Approximate where pixels are not proven equal to the notebook's.
    let is_approximate = reading.notes.iter().any(|note| note.is_approximate());
    clip["colour"] = json!(if is_approximate {
        "approximate"
    } else {
        "exact"
    });
    // Where the container declares no count, OpenCV guesses it. Here the clip is read to its end.
    let mut notes = reading.notes.clone();
    let frame_count = match sequence.total_frames {
        Some(FrameTotal::Declared(_)) => None,
        Some(FrameTotal::Counted(_)) => Some("counted"),
        None => Some("unknown"),
    };
    if let Some(frame_count) = frame_count {
        clip["frame_count"] = json!(frame_count);
        notes.insert(ClipNote::NoFrameCount);
    }
    // Why frames or pixels may differ from the notebook's.
    if !notes.is_empty() {
        let notes: BTreeMap<_, _> = notes
            .iter()
            .map(|note| (note.name(), note.text()))
            .collect();
        clip["notes"] = json!(notes);
    }
    // Why decoding stopped before the end of the file.
    if let Some(reason) = &reading.stopped_early {
        clip["stopped_early"] = json!(reason);
    }
    clip.to_string()
}

/// Totals over all clips that were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceTotals {
    /// Number of clips whose sign has frames behind the part that the stride reaches.
    pub truncated_clips: usize,
    /// Number of pairs of consecutive sampled frames with two hands each.
    pub two_hand_pairs: usize,
    /// Number of these pairs between which the hands change slots.
    pub slot_swaps: usize,
}

/// Adds up the totals of `clips`, from the ledger's records.
pub(super) fn totals<'a>(clips: impl IntoIterator<Item = &'a ClipRecord>) -> SequenceTotals {
    let figures = |clip: &ClipRecord| serde_json::from_str(clip.clip.as_deref()?).ok();
    let mut totals = SequenceTotals::default();
    for figures in clips.into_iter().filter_map(figures) {
        let figures: SequenceFigures = figures;
        totals.truncated_clips += usize::from(figures.truncated > Some(0));
        totals.two_hand_pairs += figures.two_hand_pairs;
        totals.slot_swaps += figures.slot_swaps;
    }
    totals
}

/// How many clips each backend has read.
pub(super) fn backends(manifest: &[ManifestLine]) -> Value {
    let clips = manifest.iter().filter_map(|line| line.clip.as_ref());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in clips.filter_map(|clip| clip["backend"].as_str()) {
        *counts.entry(name).or_default() += 1;
    }
    json!(counts)
}
