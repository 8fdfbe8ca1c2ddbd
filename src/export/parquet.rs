//! Parquet in Hugging Face's layout: one row per clip, the landmarks as lists with fixed inner sizes.

use super::ExportError;
use super::source::{ClipHands, ExportClip, FrameHands};
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::normalize::SLOTS;
use arrow_array::{
    Array, ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, Float64Array, Int32Array,
    Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{ArrowError, Field};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, GzipLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use std::io::{self, Write};
use std::sync::Arc;

/// Number of clips per row group.
const CLIPS_PER_GROUP: usize = 64;

type Clip<'a> = (&'a ExportClip, ClipHands);

/// Writes the Parquet file of one shard.
pub(super) fn write<'a>(
    to: &mut (impl Write + Send),
    clips: impl Iterator<Item = Result<Clip<'a>, ExportError>>,
) -> Result<(), ExportError> {
    let properties = properties().map_err(io_error)?;
    let schema = table(&[]).map_err(io_error)?.schema();
    let mut file = ArrowWriter::try_new(to, schema, Some(properties)).map_err(io_error)?;
    let mut group = Vec::new();
    let mut clips = clips.peekable();
    while let Some(clip) = clips.next() {
        group.push(clip?);
        if group.len() == CLIPS_PER_GROUP || clips.peek().is_none() {
            let rows = table(&group).map_err(io_error)?;
            file.write(&rows)
                .and_then(|()| file.flush())
                .map_err(io_error)?;
            group.clear();
        }
    }
    file.close().map_err(io_error)?;
    Ok(())
}

/// The writer settings of all Parquet files.
pub(super) fn properties() -> Result<WriterProperties, ParquetError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::GZIP(GzipLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true);
    Ok(properties.build())
}

/// Converts `error` into an I/O error. A system error keeps its own kind.
pub(super) fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(cause) => io::Error::other(cause),
        },
        error => io::Error::other(error),
    }
}

/// The record batch with one row for each of `clips`.
fn table(clips: &[Clip<'_>]) -> Result<RecordBatch, ParquetError> {
    let texts = |of: fn(&ExportClip) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(
            clips.iter().map(|(clip, _)| of(clip)),
        ))
    };
    let numbers = |of: fn(&ExportClip) -> Option<i64>| -> ArrayRef {
        Arc::new(
            clips
                .iter()
                .map(|(clip, _)| of(clip))
                .collect::<Int64Array>(),
        )
    };
    let pixels = |of: fn(&ClipHands) -> u32| -> ArrayRef {
        let pixels = clips
            .iter()
            .map(|(_, hands)| i32::try_from(of(hands)).unwrap_or(i32::MAX));
        Arc::new(Int32Array::from_iter_values(pixels))
    };
    let rates = clips.iter().map(|(_, hands)| hands.fps);
    let frames = || clips.iter().flat_map(|(_, hands)| &hands.frames);
    let landmarks = Float32Array::from_iter_values(frames().flat_map(FrameHands::values));
    let landmarks = [3, LANDMARKS, SLOTS]
        .iter()
        .try_fold(Arc::new(landmarks) as ArrayRef, |values, size| {
            fixed(values, *size)
        })?;
    let scores = Float32Array::from_iter_values(frames().flat_map(|frame| frame.scores));
    let indexes = Int32Array::from_iter_values(frames().map(|frame| frame.frame_index));
    let times: Float64Array = frames().map(|frame| frame.time_s).collect();
    let sides: BooleanArray = frames().map(|frame| Some(frame.is_same_side)).collect();
    let per_frame = |values: ArrayRef| list(values, clips);
    let columns = [
        ("video_id", texts(|clip| &clip.video_id)),
        ("label", texts(|clip| &clip.gloss)),
        ("label_id", numbers(|clip| Some(clip.label_id))),
        ("signer_id", numbers(|clip| Some(clip.signer_id))),
        ("frame_start", numbers(|clip| clip.range[0])),
        ("frame_end", numbers(|clip| clip.range[1])),
        ("fps", Arc::new(rates.collect::<Float32Array>())),
        ("width", pixels(|hands| hands.width)),
        ("height", pixels(|hands| hands.height)),
        ("frame_index", per_frame(Arc::new(indexes))?),
        ("time_s", per_frame(Arc::new(times))?),
        ("same_side", per_frame(Arc::new(sides))?),
        ("scores", per_frame(fixed(Arc::new(scores), SLOTS)?)?),
        ("landmarks", per_frame(landmarks)?),
    ];
    let columns = columns
        .into_iter()
        .map(|(name, values)| (name, values, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Groups `values` into lists of `size` values.
fn fixed(values: ArrayRef, size: usize) -> Result<ArrayRef, ArrowError> {
    let size = i32::try_from(size).map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
    let array = FixedSizeListArray::try_new(item(&values), size, values, None)?;
    Ok(Arc::new(array))
}

/// Groups the values of all frames into one list per clip.
fn list(values: ArrayRef, clips: &[Clip<'_>]) -> Result<ArrayRef, ArrowError> {
    let lengths = clips.iter().map(|(_, hands)| hands.frames.len());
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(ListArray::try_new(
        item(&values),
        offsets,
        values,
        None,
    )?))
}

fn item(values: &ArrayRef) -> Arc<Field> {
    Arc::new(Field::new_list_field(values.data_type().clone(), true))
}
