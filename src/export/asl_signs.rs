//! Kaggle's asl-signs: one Parquet file per clip with 543 rows per frame, the landmarks of MediaPipe's holistic model
//! in its order. Face and pose are never detected, so their rows have no coordinates.

use super::ExportError;
use super::parquet::{io_error, properties};
use super::source::{ClipHands, ExportClip, FrameHands};
use crate::storage::atomic_file::HashingWriter;
use arrow_array::{ArrayRef, Float64Array, Int16Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use std::io::{self, Write};
use std::sync::Arc;

/// Landmark types of a frame, in order: name, number of landmarks, and the slot of the hand.
const TYPES: [(&str, i16, Option<usize>); 4] = [
    ("face", 468, None),
    ("left_hand", 21, Some(0)),
    ("pose", 33, None),
    ("right_hand", 21, Some(1)),
];

/// Number of frames that are written at once.
const FRAMES_PER_WRITE: usize = 64;

/// One landmark of a frame: type, index within the type, coordinates.
type Row = (&'static str, i16, Option<[f32; 3]>);

/// The file name of `clip`, which is the clip `n` of the plan.
pub(super) fn path(n: usize, clip: &ExportClip) -> String {
    format!("train_landmark_files/{}/{n}.parquet", clip.signer_id)
}

/// Whether all frames of a clip can be numbered in 16 bits.
pub(super) fn can_hold(hands: &ClipHands) -> bool {
    numbers(&hands.frames).is_some()
}

/// Writes the file of a clip for which [`can_hold`] is true.
///
/// # Errors
/// Fails when the clip has too many frames or the file cannot be written.
pub(super) fn write(to: &mut (impl Write + Send), hands: &ClipHands) -> io::Result<()> {
    let numbers = numbers(&hands.frames).ok_or_else(|| io::Error::other("too many frames"))?;
    encode(to, &hands.frames, &numbers).map_err(io_error)
}

/// The number of each frame in 16 bits: its index in the clip or, when one of these is too large, its index among the
/// frames.
fn numbers(frames: &[FrameHands]) -> Option<Vec<i16>> {
    let in_clip = frames
        .iter()
        .map(|frame| i16::try_from(frame.frame_index).ok());
    in_clip.collect::<Option<Vec<_>>>().or_else(|| {
        let last = i16::try_from(frames.len()).ok()?;
        Some((0..last).collect())
    })
}

fn encode(
    to: &mut (impl Write + Send),
    frames: &[FrameHands],
    numbers: &[i16],
) -> Result<(), ParquetError> {
    let schema = table(&[], &[])?.schema();
    let mut file = ArrowWriter::try_new(to, schema, Some(properties()?))?;
    let numbers = numbers.chunks(FRAMES_PER_WRITE);
    for (frames, numbers) in frames.chunks(FRAMES_PER_WRITE).zip(numbers) {
        file.write(&table(frames, numbers)?)?;
    }
    file.close().map(|_| ())
}

fn table(frames: &[FrameHands], numbers: &[i16]) -> Result<RecordBatch, ParquetError> {
    let rows: Vec<(i16, Row)> = frames
        .iter()
        .zip(numbers)
        .flat_map(|(frame, number)| rows_of(frame).map(move |row| (*number, row)))
        .collect();
    let ids = rows
        .iter()
        .map(|(frame, (of, index, _))| format!("{frame}-{of}-{index}"));
    let axis = |axis: usize| -> ArrayRef {
        let values = rows
            .iter()
            .map(|(_, (_, _, point))| point.map(|point| f64::from(point[axis])));
        Arc::new(values.collect::<Float64Array>())
    };
    let columns: [(&str, ArrayRef); 7] = [
        (
            "frame",
            Arc::new(Int16Array::from_iter_values(rows.iter().map(|row| row.0))),
        ),
        ("row_id", Arc::new(StringArray::from_iter_values(ids))),
        (
            "type",
            Arc::new(StringArray::from_iter_values(
                rows.iter().map(|row| row.1.0),
            )),
        ),
        (
            "landmark_index",
            Arc::new(Int16Array::from_iter_values(rows.iter().map(|row| row.1.1))),
        ),
        ("x", axis(0)),
        ("y", axis(1)),
        ("z", axis(2)),
    ];
    let columns = columns
        .into_iter()
        .map(|(name, values)| (name, values, true));
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// The 543 rows of a frame.
fn rows_of(frame: &FrameHands) -> impl Iterator<Item = Row> {
    TYPES.into_iter().flat_map(|(name, count, slot)| {
        let hand = slot.and_then(|slot| frame.hands[slot]);
        (0..count).map(move |index| {
            (
                name,
                index,
                hand.zip(usize::try_from(index).ok())
                    .map(|(hand, index)| hand[index]),
            )
        })
    })
}

/// Writes `train.csv` for `clips`, each with its index in the plan: Kaggle's columns, then the two that Kaggle's
/// layout lacks.
pub(super) fn write_table<'a>(
    to: &mut HashingWriter<'_>,
    clips: impl Iterator<Item = (usize, &'a ExportClip)>,
) -> Result<(), ExportError> {
    let mut table = csv::Writer::from_writer(to);
    let columns = [
        "path",
        "participant_id",
        "sequence_id",
        "sign",
        "video_id",
        "split",
    ];
    table.write_record(columns).map_err(io::Error::from)?;
    for (n, clip) in clips {
        let (path, signer, sequence) = (path(n, clip), clip.signer_id.to_string(), n.to_string());
        let line = [
            &path,
            &signer,
            &sequence,
            &clip.gloss,
            &clip.video_id,
            &clip.split,
        ];
        table.write_record(line).map_err(io::Error::from)?;
    }
    Ok(table.flush()?)
}
