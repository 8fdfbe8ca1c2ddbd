//! Kept frames: every frame of a clip is read and inferred once and stored in the clip's part. The sequence is made
//! from these frames, and equals one that is made without keeping them.

use super::collector::ClipResult;
use crate::dataset::acceptance::{Outcome, Reading};
use crate::dataset::plan::PlannedClip;
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crate::hand::{Detector, Model};
use crate::sequence::{
    ExtractError, FrameRecord, FrameTimes, SequenceSpec, assemble, plan_frames, reads_beyond,
};
use crate::storage::StoreError;
use crate::storage::ledger::PartRecord;
use crate::storage::part_file::{KeptClip, KeptFrame, PartReader, PartWriter, write_part};
use std::path::Path;
use std::time::Duration;

/// Why the frames of a clip were not kept.
#[derive(Debug)]
pub(super) enum KeepError {
    /// They could not be read.
    Extract(ExtractError),
    /// They could not be written.
    Store(StoreError),
}

impl From<ExtractError> for KeepError {
    fn from(error: ExtractError) -> Self {
        Self::Extract(error)
    }
}

impl From<StoreError> for KeepError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Adds all frames of `source`, from its first, to `part`. `on_frame` gets each with what was found in it and returns
/// `false` to give the clip up. Returns the reason when the clip cannot be read to its end.
///
/// # Errors
/// Fails when the machine or a model fails, `part` cannot be written or `on_frame` gives up.
pub(super) fn keep_frames<M: Model>(
    source: &mut dyn FrameSource,
    detector: &mut Detector<M>,
    part: &mut PartWriter<'_>,
    on_frame: &mut dyn FnMut(&RgbFrame, &FrameRecord) -> bool,
) -> Result<Option<String>, KeepError> {
    let mut first = None;
    for index in 0.. {
        let frame = match next_frame(source) {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(SourceError::Clip(reason)) => return Ok(Some(reason)),
            Err(error) => return Err(ExtractError::Source(error).into()),
        };
        let (frame, time) = frame;
        let hands = detector.detect(frame).map_err(ExtractError::Model)?;
        let found = FrameRecord::of(index, &hands);
        if !on_frame(frame, &found) {
            return Err(ExtractError::GivenUp.into());
        }
        first = first.or(time);
        let time_s = seconds_since(first, time);
        part.push(&KeptFrame { found, time_s })?;
    }
    Ok(None)
}

/// The next frame of `source` with its time; `None` at the end.
fn next_frame(
    source: &mut dyn FrameSource,
) -> Result<Option<(&RgbFrame, Option<Duration>)>, SourceError> {
    if !source.advance()? {
        return Ok(None);
    }
    let time = source.time();
    Ok(Some((source.frame()?, time)))
}

/// Seconds from `first` to `time`, as [`FrameTimes`] computes them.
fn seconds_since(first: Option<Duration>, time: Option<Duration>) -> f64 {
    let times = FrameTimes::new(&[first, time]);
    times.seconds().last().copied().unwrap_or(f64::NAN)
}

/// What is known of `planned` before it is opened.
pub(super) fn unopened(planned: &PlannedClip, backend: &str) -> KeptClip {
    KeptClip {
        gloss: planned.gloss.to_string(),
        video_id: planned.video_id.to_string(),
        frame_start: planned.frame_start,
        frame_end: planned.frame_end,
        backend: backend.to_owned(),
        ..KeptClip::default()
    }
}

/// Makes the result of a clip from its frames in `part`, a file of the output folder `out`.
///
/// # Errors
/// Fails when the part cannot be read.
pub(super) fn result_of_part(
    out: &Path,
    part: PartRecord,
    clip: &KeptClip,
    spec: &SequenceSpec,
) -> Result<ClipResult, StoreError> {
    let reader = PartReader::open(out, &part)?;
    let times = FrameTimes::from_seconds(reader.times()?);
    let frame = |index| reader.frame(index).map(|frame| frame.found);
    Ok(ClipResult {
        outcome: outcome(clip, &times, spec, frame)?,
        part: Some(part),
    })
}

/// Makes the result of a clip that cannot be opened for `reason`, and writes a part with that reason into `out`.
///
/// # Errors
/// Fails when the part cannot be written.
pub(super) fn unreadable(
    out: &Path,
    planned: &PlannedClip,
    reason: &str,
) -> Result<ClipResult, StoreError> {
    let clip = KeptClip {
        error: Some(reason.to_owned()),
        ..unopened(planned, "")
    };
    let (part, _) = write_part::<StoreError>(out, |_| Ok(clip))?;
    Ok(ClipResult {
        outcome: Outcome::Unreadable(reason.to_owned()),
        part: Some(part),
    })
}

/// The outcome of a clip whose kept frames have `times`. `frame` returns one of them.
///
/// # Errors
/// Fails when `frame` fails.
pub(super) fn outcome(
    clip: &KeptClip,
    times: &FrameTimes,
    spec: &SequenceSpec,
    mut frame: impl FnMut(usize) -> Result<FrameRecord, StoreError>,
) -> Result<Outcome, StoreError> {
    let (start, end, declared) = (clip.frame_start, clip.frame_end, clip.declared_frames);
    if let Some(reason) = &clip.error
        && reads_beyond(spec, start, end, declared, times)
    {
        return Ok(Outcome::Unreadable(reason.clone()));
    }
    let plan = plan_frames(spec, start, end, declared, times);
    let indexes = plan.indexes.iter();
    let frames = indexes.map(|index| frame(usize::try_from(*index).unwrap_or(usize::MAX)));
    let frames = frames.collect::<Result<_, _>>()?;
    Ok(Outcome::Read(Box::new(Reading {
        sequence: assemble(frames, &plan, clip.format, spec),
        backend: clip.backend.as_str().into(),
        decoder: clip.decoder.clone(),
        notes: clip.notes.clone(),
        stopped_early: clip.stopped_early.clone(),
    })))
}
