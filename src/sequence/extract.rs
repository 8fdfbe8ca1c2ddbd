//! Makes a sequence from a clip's images: samples frames, finds the hands in them and computes the notebook's
//! numbers.

use super::assemble::{Sequence, assemble};
use super::frame_plan::{FramePlan, in_range};
use super::frame_record::{FrameRecord, FrameTotal};
use super::options::SequenceSpec;
use super::sampling::{sampled, window};
use crate::frame::{FrameSource, RgbFrame, SourceError};
use crate::hand::{Detector, Model, ModelError, Tracker};

/// Receives each sampled image with the hands found in it. Returns `false` to stop reading the clip.
pub type FrameCallback<'a> = dyn FnMut(&RgbFrame, &FrameRecord) -> bool + 'a;

/// Why a clip gave no sequence.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// The callback returned `false`.
    #[error("given up")]
    GivenUp,
    /// The clip cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A model failed. It would also fail for other clips.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Reads `source` from its first frame and makes the sequence of its frames `frame_start..frame_end` (as in the
/// metadata: 0-based here, 0 and below meaning "from the start" and "to the end"), for a `spec` that needs no times
/// ([`SequenceSpec::needs_times`]). A source that does not declare its number of frames is read to its end or to the
/// last sampled frame.
///
/// # Errors
/// Fails when the first image cannot be read, a model fails or `on_frame` returns `false`. A source that ends early
/// is no error.
pub fn extract<M: Model>(
    source: &mut dyn FrameSource,
    detector: &mut Detector<M>,
    spec: &SequenceSpec,
    frame_start: i64,
    frame_end: i64,
    on_frame: &mut FrameCallback<'_>,
) -> Result<Sequence, ExtractError> {
    let format = source.format();
    let mut total = source.declared_frames().map(FrameTotal::Declared);
    let mut range = window(
        frame_start,
        frame_end,
        total.map_or(u64::MAX, FrameTotal::count),
    );
    let indexes = sampled(range, spec.stride, spec.length);
    let (frames, ended_at) = find_hands(source, detector, spec, indexes, on_frame)?;
    if let (Some(read), None) = (ended_at, total) {
        total = Some(FrameTotal::Counted(read));
        range = window(frame_start, frame_end, read);
    }
    let indexes = sampled(range, spec.stride, spec.length);
    let indexes: Vec<u64> = indexes.take(frames.len()).collect();
    let plan = FramePlan::by_number(range, total, in_range(spec, range, total, 0), indexes);
    Ok(assemble(frames, &plan, format, spec))
}

/// Finds the hands in the frames `indexes` of `source`, which must be at its start. Returns fewer frames when the
/// source ends early.
///
/// # Errors
/// Fails when an image cannot be read, a model fails or `on_frame` returns `false`.
pub fn read_frames<M: Model>(
    source: &mut dyn FrameSource,
    detector: &mut Detector<M>,
    spec: &SequenceSpec,
    indexes: &[u64],
    on_frame: &mut FrameCallback<'_>,
) -> Result<Vec<FrameRecord>, ExtractError> {
    let indexes = indexes.iter().copied();
    find_hands(source, detector, spec, indexes, on_frame).map(|(frames, _)| frames)
}

/// The hands in the frames `indexes` of `source`, and its number of frames if it ended before the last of them.
fn find_hands<M: Model>(
    source: &mut dyn FrameSource,
    detector: &mut Detector<M>,
    spec: &SequenceSpec,
    indexes: impl Iterator<Item = u64>,
    on_frame: &mut FrameCallback<'_>,
) -> Result<(Vec<FrameRecord>, Option<u64>), ExtractError> {
    let mut tracker = Tracker::default();
    let mut frames = Vec::new();
    let mut read = 0;
    for index in indexes {
        read += source.advance_by(index + 1 - read)?;
        if read <= index {
            return Ok((frames, Some(read)));
        }
        let frame = source.frame()?;
        let hands = if spec.tracking {
            detector.track(&mut tracker, frame)?
        } else {
            detector.detect(frame)?
        };
        let record = FrameRecord::of(index, &hands);
        if !on_frame(frame, &record) {
            return Err(ExtractError::GivenUp);
        }
        frames.push(record);
    }
    Ok((frames, None))
}
