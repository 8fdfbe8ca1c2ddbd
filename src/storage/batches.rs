//! The sequences on disk: a batch file for each range of positions, and the notebook's file joined from them.

use super::npz::{NpzReader, NpzWriter};
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::FrameRecord;
use crate::sequence::normalize::{FEATURES, SLOTS};
use crate::storage::StoreError;
use crate::storage::atomic_file::{file_sha256, sha256, write_checked};
use ndarray::Array2;
use npyz::AutoSerialize;
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
    /// Names the clip.
    pub video_id: Arc<str>,
    /// `train`, `val`, `test`.
    pub split: String,
    /// Who signs, -1 when unknown.
    pub signer_id: i64,
    /// `[length, 126]` f32.
    pub features: Array2<f32>,
    /// The sampled frames, at most `length`.
    pub frames: Vec<FrameRecord>,
    /// Times of `frames` by the camera, in seconds since the first. Empty for a clip, which has frame numbers.
    pub frame_times: Vec<f32>,
}

/// A batch file on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBatch {
    /// Sequences in it.
    pub rows: usize,
    /// Of the whole file, lower-case hex.
    pub sha256: String,
}

/// Where batch `number` lies, relative to the output folder.
pub(crate) fn batch_name(number: usize) -> String {
    format!("{BATCH_FOLDER}/{number:05}.npz")
}

/// Where batch `number` lies.
#[must_use]
pub fn batch_path(out: &Path, number: usize) -> PathBuf {
    out.join(batch_name(number))
}

/// Writes batch `number`: the notebook's keys for `rows`, and for each frame the results of the detector.
///
/// `sequences` f32 `[n, length, 126]`; `labels`, `video_ids`, `glosses`, `split` strings; `landmarks` f32
/// `[n, length, 2, 21, 3]` as detected; `handedness` i8 and `handedness_score` f32 `[n, length, 2]`; `hand_count` u8
/// and `frame_index` i32 `[n, length]`, -1 for padding; `signer_id` i64 `[n]`; from a camera `frame_time` f32
/// `[n, length]`, -1 for padding.
///
/// # Errors
/// When the file cannot be written.
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
    })
}

/// Writes the npz file `name` of the output folder `out`, reads it back and returns its SHA-256. The checksums in the
/// archive are those of the values before they were written, so that a file with other values is not called written.
fn write_npz(
    out: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<String, StoreError> {
    let path = out.join(name);
    let check = |file: &mut File| {
        let sha256 = sha256(&mut *file)?;
        file.rewind()?;
        let mut npz = NpzReader::new(&path, BufReader::new(file)).map_err(io::Error::other)?;
        npz.verify().map_err(io::Error::other)?;
        Ok(sha256)
    };
    write_checked(out, name, fill, check).map_err(StoreError::write(&path))
}

/// One row in the form of a batch file: how the ledger keeps it until its batch is sealed.
///
/// # Errors
/// When `row` does not hold `length` frames of numbers: a bug.
pub(crate) fn row_bytes(row: &BatchRow, length: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Cursor::new(Vec::new());
    put(&mut bytes, std::slice::from_ref(row), &[], length)
        .map_err(StoreError::write(Path::new("a row in memory")))?;
    Ok(bytes.into_inner())
}

/// The row of [`row_bytes`].
///
/// # Errors
/// When `bytes` are no such row.
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

/// The rows of batch `number`.
///
/// # Errors
/// When it cannot be read or is no batch file.
pub fn read_batch(out: &Path, number: usize) -> Result<Vec<BatchRow>, StoreError> {
    take(&mut NpzReader::open(&batch_path(out, number))?)
}

/// Whether batch `number` is on disk, whole, with the hash that it was sealed with.
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
    let landmarks = padded(rows, length, [[[0.0; 3]; LANDMARKS]; SLOTS], |f| {
        f.landmarks
    });
    npz.numbers(
        "landmarks",
        &[n, length, SLOTS, LANDMARKS, 3],
        landmarks.flat_map(|l: [[[f32; 3]; LANDMARKS]; SLOTS]| l.into_iter().flatten().flatten()),
    )?;
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
    npz.finish().map(|_| ())
}

/// The rows of a batch file; the inverse of [`put`].
fn take<R: Read + Seek>(npz: &mut NpzReader<R>) -> Result<Vec<BatchRow>, StoreError> {
    let (features, shape) = npz.numbers::<f32>("sequences")?;
    let &[n, length, FEATURES] = shape.as_slice() else {
        return Err(npz.broken(&format!("sequences have the shape {shape:?}")));
    };
    let glosses = npz.strings("labels")?;
    let ids = npz.strings("video_ids")?;
    let splits = npz.strings("split")?;
    let signers = npz.numbers::<i64>("signer_id")?.0;
    let landmarks = npz.numbers::<f32>("landmarks")?.0;
    let sides = npz.numbers::<i8>("handedness")?.0;
    let scores = npz.numbers::<f32>("handedness_score")?.0;
    let counts = npz.numbers::<u8>("hand_count")?.0;
    let indexes = npz.numbers::<i32>("frame_index")?.0;
    let times = if npz.names().iter().any(|name| name == FRAME_TIME) {
        npz.numbers::<f32>(FRAME_TIME)?.0
    } else {
        vec![-1.0; n * length]
    };
    let per_row = [glosses.len(), ids.len(), splits.len(), signers.len()];
    let per_frame = [
        landmarks.len() / (SLOTS * LANDMARKS * 3),
        sides.len() / SLOTS,
        scores.len() / SLOTS,
        counts.len(),
        indexes.len(),
        times.len(),
    ];
    if per_row != [n; 4] || per_frame != [n * length; 6] {
        return Err(npz.broken(&"its arrays do not belong together"));
    }
    let frame = |at: usize| FrameRecord {
        frame_index: indexes[at],
        hand_count: counts[at],
        landmarks: std::array::from_fn(|slot| {
            std::array::from_fn(|point| {
                let from = ((at * SLOTS + slot) * LANDMARKS + point) * 3;
                [landmarks[from], landmarks[from + 1], landmarks[from + 2]]
            })
        }),
        handedness: std::array::from_fn(|slot| sides[at * SLOTS + slot]),
        handedness_score: std::array::from_fn(|slot| scores[at * SLOTS + slot]),
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
                // Padding, and nothing else, has no frame number.
                frames: (row * length..(row + 1) * length)
                    .filter(|at| indexes[*at] >= 0)
                    .map(frame)
                    .collect(),
                frame_times: (row * length..(row + 1) * length)
                    .map(|at| times[at])
                    .filter(|time| *time >= 0.0)
                    .collect(),
            })
        })
        .collect()
}

/// A value for each of `length` frames of each row, `pad` where a clip had fewer.
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

/// Writes the notebook's file from batches `0..batches`: `sequences`, `labels`, `video_ids`, `glosses`. The sequences
/// are copied batch by batch, so memory does not grow with the dataset. Returns the SHA-256 of the file.
///
/// # Errors
/// [`StoreError::Broken`] when a batch file has changed since it was sealed; when the file cannot be written.
pub(crate) fn write_final(
    out: &Path,
    batches: &[SealedBatch],
    glosses: &[Arc<str>],
    length: usize,
) -> Result<String, StoreError> {
    let (mut labels, mut video_ids) = (Vec::new(), Vec::new());
    for (number, sealed) in batches.iter().enumerate() {
        if !is_intact(out, number, &sealed.sha256) {
            return Err(StoreError::Broken {
                path: batch_path(out, number),
                reason: "it has changed since it was sealed".to_owned(),
            });
        }
        let mut batch = NpzReader::open(&batch_path(out, number))?;
        labels.extend(batch.strings("labels")?);
        video_ids.extend(batch.strings("video_ids")?);
    }
    let n = labels.len();
    write_npz(out, FINAL_NAME, |file| {
        let mut npz = NpzWriter::new(file);
        let shape = [n, length, FEATURES];
        let mut sequences = npz.array::<f32>("sequences", f32::default_dtype(), &shape)?;
        for number in 0..batches.len() {
            let batch = NpzReader::open(&batch_path(out, number));
            let values = batch.and_then(|mut batch| batch.numbers("sequences"));
            sequences.extend(values.map_err(io::Error::other)?.0)?;
        }
        sequences.finish()?;
        npz.strings("labels", &labels)?;
        npz.strings("video_ids", &video_ids)?;
        npz.strings("glosses", glosses)?;
        npz.finish().map(|_| ())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, frames: usize) -> BatchRow {
        let frame = |i: i32| FrameRecord {
            frame_index: i * 2,
            hand_count: 1,
            landmarks: [[[0.25; 3]; 21]; 2],
            handedness: [1, -1],
            handedness_score: [0.9, 0.0],
        };
        BatchRow {
            gloss: "book".into(),
            video_id: id.into(),
            split: "train".into(),
            signer_id: 7,
            features: Array2::from_elem((32, 126), 0.5),
            frames: (0..).take(frames).map(frame).collect(),
            frame_times: Vec::new(),
        }
    }

    #[test]
    fn rows_come_back_as_they_went() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BATCH_FOLDER)).unwrap();
        let mut rows = vec![row("1", 32), row("café", 9), row("3", 0)];
        rows[1].features[[3, 5]] = -0.0;
        rows[1].frames[8].landmarks[1][20][2] = f32::MIN_POSITIVE;
        let mut live = row("take-1", 2);
        live.frame_times = vec![0.0, 0.08];
        for row in rows.iter().chain([&live]) {
            let back = row_from_bytes(&row_bytes(row, 32).unwrap()).unwrap();
            assert_eq!(back, *row);
            assert_eq!(row_bytes(&back, 32).unwrap(), row_bytes(row, 32).unwrap());
        }
        let glosses: Vec<Arc<str>> = vec!["book".into()];
        let file = write_batch(dir.path(), 4, &rows, &glosses, 32).unwrap();
        assert_eq!(file.rows, 3);
        assert!(is_intact(dir.path(), 4, &file.sha256));
        let back = read_batch(dir.path(), 4).unwrap();
        assert_eq!(back, rows);
        let again = write_batch(dir.path(), 4, &back, &glosses, 32).unwrap();
        assert_eq!(again, file);
        assert!(row_from_bytes(b"PK").is_err());
        assert!(!is_intact(dir.path(), 5, &file.sha256));
    }

    #[test]
    fn the_final_file_joins_the_batches() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BATCH_FOLDER)).unwrap();
        let glosses: Vec<Arc<str>> = vec!["book".into(), "deaf".into()];
        let all = [
            vec![row("1", 32), row("2", 9)],
            vec![],
            vec![row("00003", 8)],
        ];
        let sealed: Vec<SealedBatch> = (0..)
            .zip(&all)
            .map(|(number, rows)| write_batch(dir.path(), number, rows, &glosses, 32).unwrap())
            .collect();
        let sha256 = write_final(dir.path(), &sealed, &glosses, 32).unwrap();
        assert_eq!(sha256, file_sha256(&dir.path().join(FINAL_NAME)).unwrap());

        let mut batch = NpzReader::open(&batch_path(dir.path(), 0)).unwrap();
        let (index, shape) = batch.numbers::<i32>("frame_index").unwrap();
        assert_eq!(shape, [2, 32]);
        assert_eq!((index[31], index[32 + 8], index[32 + 9]), (62, 16, -1));
        assert_eq!(
            batch.numbers::<f32>("landmarks").unwrap().1,
            [2, 32, 2, 21, 3]
        );
        assert_eq!(
            batch.numbers::<i8>("handedness").unwrap().0[2 * (32 + 9)..][..2],
            [-1, -1]
        );

        let mut whole = NpzReader::open(&dir.path().join(FINAL_NAME)).unwrap();
        assert_eq!(
            whole.names(),
            ["sequences", "labels", "video_ids", "glosses"]
        );
        assert_eq!(
            whole.header("sequences").unwrap(),
            ("<f4".to_owned(), vec![3, 32, 126])
        );
        assert_eq!(whole.strings("video_ids").unwrap(), ["1", "2", "00003"]);
        assert_eq!(whole.strings("glosses").unwrap(), ["book", "deaf"]);
        assert_eq!(
            whole.numbers::<f32>("sequences").unwrap().0.len(),
            3 * 32 * 126
        );
    }
}
