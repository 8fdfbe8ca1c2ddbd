//! The sequences on disk: a batch file for each range of positions, and the notebook's file joined from them.

mod joined;

pub(crate) use joined::joined_files;
#[cfg(test)]
use joined::write_final;

use super::npz::{NpzReader, NpzWriter};
use crate::frame::ClipFormat;
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::normalize::{FEATURES, SLOTS};
use crate::sequence::{FrameRecord, Sequence};
use crate::storage::StoreError;
use crate::storage::atomic_file::{file_sha256, sha256, write_checked};
use ndarray::Array2;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the notebook's file in the output folder.
pub const FINAL_NAME: &str = "wlasl_landmarks.npz";
/// Folder of the batches in the output folder.
pub const BATCH_FOLDER: &str = "batches";

/// Key of the frame times, which only batches of a camera have.
const FRAME_TIME: &str = "frame_time";

/// An accepted clip or take in a batch file.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchRow {
    /// The label, as spelled.
    pub gloss: Arc<str>,
    /// Id of the clip or take.
    pub video_id: Arc<str>,
    /// `train`, `val`, `test`.
    pub split: String,
    /// Number of the signer; -1 when unknown.
    pub signer_id: i64,
    /// Normalized landmarks: `[length, 126]` f32.
    pub features: Array2<f32>,
    /// `[length][slot]`: whether the row holds a hand, seen or filled.
    pub mask: Vec<[bool; SLOTS]>,
    /// `[length][slot]`: whether that hand was filled.
    pub filled: Vec<[bool; SLOTS]>,
    /// The frame of each row as detected, at most `length`.
    pub frames: Vec<FrameRecord>,
    /// Times of `frames` by the camera, in seconds since the first. Empty for a clip, which has frame numbers.
    pub frame_times: Vec<f32>,
    /// Size and rate of the clip.
    pub format: ClipFormat,
}

impl BatchRow {
    /// A row for the `sequence` of a clip; see the fields for the other parameters.
    #[must_use]
    pub fn new(
        gloss: Arc<str>,
        video_id: Arc<str>,
        split: String,
        signer_id: i64,
        sequence: Sequence,
    ) -> Self {
        Self {
            gloss,
            video_id,
            split,
            signer_id,
            features: sequence.features,
            mask: sequence.mask,
            filled: sequence.filled,
            frames: sequence.frames,
            frame_times: Vec::new(),
            format: sequence.format,
        }
    }
}

/// A batch file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// Number of sequences.
    pub rows: usize,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    /// SHA-256 of the file with the kept frames of its clips; `None` when frames are not kept.
    pub frames_sha256: Option<String>,
}

/// Path of the file of batch `number`, relative to the output folder.
pub(crate) fn batch_name(number: usize) -> String {
    format!("{BATCH_FOLDER}/{number:05}.npz")
}

/// Path of the file of batch `number`.
#[must_use]
pub fn batch_path(out: &Path, number: usize) -> PathBuf {
    out.join(batch_name(number))
}

/// Writes batch `number`: the notebook's keys for `rows`, and for each frame the results of the detector.
///
/// | key | type and shape | meaning |
/// |---|---|---|
/// | `sequences` | f32 `[n, length, 126]` | the numbers |
/// | `labels`, `video_ids`, `split` | strings `[n]` | as in the metadata |
/// | `glosses` | strings | the classes; all in the order of their numbers when it is known |
/// | `landmarks` | f32 `[n, length, 2, 21, 3]` | as detected, in the order of detection |
/// | `handedness` | i8 `[n, length, 2]` | 0 left, 1 right, -1 none |
/// | `handedness_score` | f32 `[n, length, 2]` | probability of that side |
/// | `hand_count` | u8 `[n, length]` | hands in the frame |
/// | `frame_index` | i32 `[n, length]` | number of the frame, -1 for padding |
/// | `signer_id` | i64 `[n]` | -1 when unknown |
/// | `frame_time` | f32 `[n, length]` | from a camera only: seconds, -1 for padding |
/// | `world_landmarks` | f32 `[n, length, 2, 21, 3]` | metres, in the order of detection |
/// | `mask` | bool `[n, length, 2]` | whether the slot of `sequences` holds a hand, seen or filled |
/// | `filled` | bool `[n, length, 2]` | whether that hand was filled between two frames |
/// | `label_id` | i64 `[n]` | index in `glosses`, -1 when it is not there |
/// | `width`, `height` | i32 `[n]` | pixels of the clip's first frame; 0 when unknown |
/// | `fps` | f32 `[n]` | frames per second; NaN when unknown |
///
/// # Errors
/// Fails when the file cannot be written.
pub fn write_batch(
    out: &Path,
    number: usize,
    rows: &[BatchRow],
    glosses: &[Arc<str>],
    length: usize,
) -> Result<SealedBatch, StoreError> {
    let sha256 = write_npz(out, &batch_name(number), |file| {
        put(file, rows, glosses, length)
    })?;
    Ok(SealedBatch {
        rows: rows.len(),
        sha256,
        frames_sha256: None,
    })
}

/// Writes the npz file `name` of the output folder `out`, reads it back and returns its SHA-256. The archive's
/// checksums are computed before the values are written, so that an error of the disk is found.
pub(super) fn write_npz(
    out: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<String, StoreError> {
    let path = out.join(name);
    let check = |file: &mut File| {
        let sha256 = sha256(&mut *file)?;
        file.rewind()?;
        let npz = NpzReader::new(&path, BufReader::new(file)).map_err(io::Error::other)?;
        npz.verify().map_err(io::Error::other)?;
        Ok(sha256)
    };
    write_checked(out, name, fill, check).map_err(StoreError::write(&path))
}

/// Encodes one row as a batch file: the ledger keeps it in this form until its batch is sealed.
///
/// # Errors
/// Fails when `row` does not hold `length` frames of numbers, which is a bug.
pub(crate) fn row_bytes(row: &BatchRow, length: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Cursor::new(Vec::new());
    put(&mut bytes, std::slice::from_ref(row), &[], length)
        .map_err(StoreError::write(Path::new("a row in memory")))?;
    Ok(bytes.into_inner())
}

/// Decodes the result of [`row_bytes`].
///
/// # Errors
/// Fails when `bytes` do not encode exactly one row.
pub fn row_from_bytes(bytes: &[u8]) -> Result<BatchRow, StoreError> {
    let origin = Path::new("a row in the ledger");
    let mut npz = NpzReader::new(origin, Cursor::new(bytes))?;
    let mut rows = take(&mut npz)?;
    match (rows.pop(), rows.pop()) {
        (Some(row), None) => Ok(row),
        _ => Err(StoreError::Broken {
            path: origin.to_path_buf(),
            reason: "not exactly one row".to_owned(),
        }),
    }
}

/// Reads the rows of batch `number`.
///
/// # Errors
/// Fails when the file cannot be read or is no batch file.
pub fn read_batch(out: &Path, number: usize) -> Result<Vec<BatchRow>, StoreError> {
    take(&mut NpzReader::open(&batch_path(out, number))?)
}

/// Whether the file of batch `number` exists and has the hash `sha256`.
#[must_use]
pub fn is_intact(out: &Path, number: usize, sha256: &str) -> bool {
    file_sha256(&batch_path(out, number)).is_ok_and(|found| found == sha256)
}

fn put<W: Write + Seek>(
    to: W,
    rows: &[BatchRow],
    glosses: &[Arc<str>],
    length: usize,
) -> io::Result<()> {
    let n = rows.len();
    let mut npz = NpzWriter::new(to);
    npz.numbers(
        "sequences",
        &[n, length, FEATURES],
        rows.iter().flat_map(|r| r.features.iter().copied()),
    )?;
    let column = |of: fn(&BatchRow) -> &str| rows.iter().map(of).collect::<Vec<_>>();
    npz.strings("labels", &column(|r| &r.gloss))?;
    npz.strings("video_ids", &column(|r| &r.video_id))?;
    npz.strings("glosses", glosses)?;
    put_points(&mut npz, "landmarks", rows, length, |f| f.landmarks)?;
    npz.numbers(
        "handedness",
        &[n, length, SLOTS],
        padded(rows, length, [-1_i8; SLOTS], |f| f.handedness).flatten(),
    )?;
    npz.numbers(
        "handedness_score",
        &[n, length, SLOTS],
        padded(rows, length, [0.0_f32; SLOTS], |f| f.handedness_score).flatten(),
    )?;
    npz.numbers(
        "hand_count",
        &[n, length],
        padded(rows, length, 0_u8, |f| f.hand_count),
    )?;
    npz.numbers(
        "frame_index",
        &[n, length],
        padded(rows, length, -1_i32, |f| f.frame_index),
    )?;
    npz.strings("split", &column(|r| &r.split))?;
    npz.numbers("signer_id", &[n], rows.iter().map(|r| r.signer_id))?;
    if rows.iter().any(|r| !r.frame_times.is_empty()) {
        let padding = std::iter::repeat(&-1.0_f32);
        let times = rows
            .iter()
            .flat_map(|r| r.frame_times.iter().chain(padding.clone()).take(length));
        npz.numbers(FRAME_TIME, &[n, length], times.copied())?;
    }
    put_points(&mut npz, "world_landmarks", rows, length, |f| f.world)?;
    let flags = |of: fn(&BatchRow) -> &Vec<[bool; SLOTS]>| {
        rows.iter()
            .flat_map(move |r| of(r).as_flattened().iter().copied())
    };
    npz.numbers("mask", &[n, length, SLOTS], flags(|r| &r.mask))?;
    npz.numbers("filled", &[n, length, SLOTS], flags(|r| &r.filled))?;
    let ids = LabelIds::new(glosses);
    npz.numbers("label_id", &[n], rows.iter().map(|r| ids.of(&r.gloss)))?;
    let side = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
    npz.numbers("width", &[n], rows.iter().map(|r| side(r.format.width)))?;
    npz.numbers("height", &[n], rows.iter().map(|r| side(r.format.height)))?;
    let rate = |r: &BatchRow| r.format.fps.unwrap_or(f32::NAN);
    npz.numbers("fps", &[n], rows.iter().map(rate))?;
    npz.finish().map(|_| ())
}

type Points = [[[f32; 3]; LANDMARKS]; SLOTS];

/// Writes the array `name`: the points that `of` returns for each frame, zeros for padding.
fn put_points<W: Write + Seek>(
    npz: &mut NpzWriter<W>,
    name: &str,
    rows: &[BatchRow],
    length: usize,
    of: fn(&FrameRecord) -> Points,
) -> io::Result<()> {
    let points = padded(rows, length, [[[0.0; 3]; LANDMARKS]; SLOTS], of);
    let shape = [rows.len(), length, SLOTS, LANDMARKS, 3];
    npz.numbers(
        name,
        &shape,
        points.flat_map(|p| p.into_iter().flatten().flatten()),
    )
}

/// Maps each label to its number.
struct LabelIds<'a>(HashMap<&'a str, i64>);

impl<'a> LabelIds<'a> {
    /// A label's number is its first index in `glosses`.
    fn new<S: AsRef<str>>(glosses: &'a [S]) -> Self {
        let mut ids = HashMap::new();
        for (id, gloss) in (0..).zip(glosses) {
            ids.entry(gloss.as_ref()).or_insert(id);
        }
        Self(ids)
    }

    /// The number of `gloss`; -1 when it is unknown.
    fn of(&self, gloss: &str) -> i64 {
        self.0.get(gloss).copied().unwrap_or(-1)
    }
}

/// The rows of a batch file; the inverse of [`put`].
fn take<R: Read + Seek>(npz: &mut NpzReader<R>) -> Result<Vec<BatchRow>, StoreError> {
    let (features, shape) = npz.numbers::<f32>("sequences")?;
    let &[n, length, FEATURES] = shape.as_slice() else {
        return Err(npz.broken(&format!("sequences have the shape {shape:?}")));
    };
    let names = npz.names();
    if !names.iter().any(|name| name == "mask") {
        return Err(npz.broken(
            &"it has no mask: an earlier, unreleased version wrote it; use another output folder",
        ));
    }
    let glosses = npz.strings("labels")?;
    let ids = npz.strings("video_ids")?;
    let splits = npz.strings("split")?;
    let signers = npz.numbers::<i64>("signer_id")?.0;
    let landmarks = npz.numbers::<f32>("landmarks")?.0;
    let worlds = npz.numbers::<f32>("world_landmarks")?.0;
    let sides = npz.numbers::<i8>("handedness")?.0;
    let scores = npz.numbers::<f32>("handedness_score")?.0;
    let counts = npz.numbers::<u8>("hand_count")?.0;
    let indexes = npz.numbers::<i32>("frame_index")?.0;
    let masks = npz.numbers::<bool>("mask")?.0;
    let filled = npz.numbers::<bool>("filled")?.0;
    let sizes = [npz.numbers::<i32>("width")?.0, npz.numbers("height")?.0];
    let rates = npz.numbers::<f32>("fps")?.0;
    let times = if names.iter().any(|name| name == FRAME_TIME) {
        npz.numbers::<f32>(FRAME_TIME)?.0
    } else {
        vec![-1.0; n * length]
    };
    let per_row = [
        glosses.len(),
        ids.len(),
        splits.len(),
        signers.len(),
        sizes[0].len(),
        sizes[1].len(),
        rates.len(),
    ];
    let per_frame = [
        landmarks.len() / (SLOTS * LANDMARKS * 3),
        worlds.len() / (SLOTS * LANDMARKS * 3),
        sides.len() / SLOTS,
        scores.len() / SLOTS,
        masks.len() / SLOTS,
        filled.len() / SLOTS,
        counts.len(),
        indexes.len(),
        times.len(),
    ];
    if per_row.iter().any(|len| *len != n) || per_frame.iter().any(|len| *len != n * length) {
        return Err(npz.broken(&"its arrays do not belong together"));
    }
    let frame = |at: usize| FrameRecord {
        frame_index: indexes[at],
        hand_count: counts[at],
        landmarks: points(&landmarks, at),
        handedness: std::array::from_fn(|slot| sides[at * SLOTS + slot]),
        handedness_score: std::array::from_fn(|slot| scores[at * SLOTS + slot]),
        world: points(&worlds, at),
    };
    let flags = |of: &[bool], row: usize| {
        let of = &of[row * length * SLOTS..][..length * SLOTS];
        of.chunks_exact(SLOTS)
            .map(|pair| [pair[0], pair[1]])
            .collect()
    };
    (0..n)
        .map(|row| {
            let values = features[row * length * FEATURES..][..length * FEATURES].to_vec();
            Ok(BatchRow {
                gloss: glosses[row].as_str().into(),
                video_id: ids[row].as_str().into(),
                split: splits[row].clone(),
                signer_id: signers[row],
                features: Array2::from_shape_vec((length, FEATURES), values)
                    .map_err(|e| npz.broken(&e))?,
                mask: flags(&masks, row),
                filled: flags(&filled, row),
                // Only padding has no frame number.
                frames: (row * length..(row + 1) * length)
                    .filter(|at| indexes[*at] >= 0)
                    .map(frame)
                    .collect(),
                frame_times: (row * length..(row + 1) * length)
                    .map(|at| times[at])
                    .filter(|time| *time >= 0.0)
                    .collect(),
                format: ClipFormat {
                    width: u32::try_from(sizes[0][row]).unwrap_or(0),
                    height: u32::try_from(sizes[1][row]).unwrap_or(0),
                    fps: Some(rates[row]).filter(|rate| !rate.is_nan()),
                },
            })
        })
        .collect()
}

/// The points of frame `at` in a flat array.
fn points(values: &[f32], at: usize) -> Points {
    std::array::from_fn(|slot| {
        std::array::from_fn(|point| {
            let from = ((at * SLOTS + slot) * LANDMARKS + point) * 3;
            [values[from], values[from + 1], values[from + 2]]
        })
    })
}

/// A value for each of `length` frames of each row; `pad` where a clip has fewer.
fn padded<'a, T: Clone + 'a>(
    rows: &'a [BatchRow],
    length: usize,
    pad: T,
    of: impl Fn(&'a FrameRecord) -> T + Copy + 'a,
) -> impl Iterator<Item = T> + 'a {
    rows.iter().flat_map(move |row| {
        let frames = &row.frames;
        let missing = length.saturating_sub(frames.len());
        frames
            .iter()
            .map(of)
            .chain(std::iter::repeat_n(pad.clone(), missing))
    })
}

#[cfg(test)]
mod tests;
