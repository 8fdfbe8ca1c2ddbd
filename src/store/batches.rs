//! The sequences on disk: a batch file for each run of plan positions, and the notebook's file joined from them.

use super::durable::{StoreError, write_file};
use super::npz::{NpzReader, NpzWriter};
use crate::sequence::normalise::FEATURES;
use crate::sequence::{FrameRecord, Sequence};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Name of the notebook's file in the output folder.
pub const FINAL_NAME: &str = "wlasl_landmarks.npz";
/// Folder of the batches in the output folder.
pub const BATCH_FOLDER: &str = "batches";

/// An accepted clip.
#[derive(Clone, Debug)]
pub struct Row {
    /// The label, as spelt.
    pub gloss: Arc<str>,
    /// Names the clip.
    pub video_id: Arc<str>,
    /// `train`, `val`, `test`.
    pub split: String,
    /// Who signs, -1 when unknown.
    pub signer_id: i64,
    /// What was seen.
    pub sequence: Sequence,
}

/// Where batch `number` lies.
#[must_use]
pub fn batch_path(out: &Path, number: usize) -> PathBuf {
    out.join(BATCH_FOLDER).join(format!("{number:05}.npz"))
}

/// Writes batch `number`: the notebook's keys for `rows`, and per frame what the detector said.
///
/// `sequences` f32 `[n, length, 126]`; `labels`, `video_ids`, `glosses`, `split` strings; `landmarks` f32
/// `[n, length, 2, 21, 3]` as detected; `handedness` i8 and `handedness_score` f32 `[n, length, 2]`; `hand_count` u8
/// and `frame_index` i32 `[n, length]`, -1 for padding; `signer_id` i64 `[n]`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_batch(
    out: &Path,
    number: usize,
    rows: &[Row],
    glosses: &[Arc<str>],
    length: usize,
) -> Result<(), StoreError> {
    let n = rows.len();
    write_file(&batch_path(out, number), |file| {
        let mut npz = NpzWriter::new(file);
        npz.numbers(
            "sequences",
            &[n, length, FEATURES],
            rows.iter()
                .flat_map(|r| r.sequence.features.iter().copied()),
        )?;
        npz.strings("labels", &rows.iter().map(|r| &r.gloss).collect::<Vec<_>>())?;
        npz.strings(
            "video_ids",
            &rows.iter().map(|r| &r.video_id).collect::<Vec<_>>(),
        )?;
        npz.strings("glosses", glosses)?;
        let landmarks = padded(rows, length, [[[0.0; 3]; 21]; 2], |f| f.landmarks);
        npz.numbers(
            "landmarks",
            &[n, length, 2, 21, 3],
            landmarks.flat_map(|l: [[[f32; 3]; 21]; 2]| l.into_iter().flatten().flatten()),
        )?;
        npz.numbers(
            "handedness",
            &[n, length, 2],
            padded(rows, length, [-1_i8; 2], |f| f.handedness).flatten(),
        )?;
        npz.numbers(
            "handedness_score",
            &[n, length, 2],
            padded(rows, length, [0.0_f32; 2], |f| f.handedness_score).flatten(),
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
        npz.strings("split", &rows.iter().map(|r| &r.split).collect::<Vec<_>>())?;
        npz.numbers("signer_id", &[n], rows.iter().map(|r| r.signer_id))?;
        npz.finish().map(|_| ())
    })
}

/// A value for each of `length` frames of each row, `pad` where a clip had fewer.
fn padded<'a, T: Clone + 'a>(
    rows: &'a [Row],
    length: usize,
    pad: T,
    of: impl Fn(&'a FrameRecord) -> T + Copy + 'a,
) -> impl Iterator<Item = T> + 'a {
    rows.iter().flat_map(move |row| {
        let frames = &row.sequence.frames;
        let missing = length.saturating_sub(frames.len());
        frames
            .iter()
            .map(of)
            .chain(std::iter::repeat_n(pad.clone(), missing))
    })
}

/// Writes the notebook's file from batches `0..batches`: `sequences`, `labels`, `video_ids`, `glosses`. The sequences
/// are copied from file to file, so memory does not grow with the dataset. Returns the number of sequences.
///
/// # Errors
/// When a batch cannot be read or the file cannot be written.
pub fn write_final(
    out: &Path,
    batches: usize,
    glosses: &[Arc<str>],
    length: usize,
) -> Result<usize, StoreError> {
    let (mut labels, mut video_ids) = (Vec::new(), Vec::new());
    for number in 0..batches {
        let mut batch = NpzReader::open(&batch_path(out, number))?;
        labels.extend(batch.strings("labels")?);
        video_ids.extend(batch.strings("video_ids")?);
    }
    let n = labels.len();
    write_file(&out.join(FINAL_NAME), |file| {
        let mut npz = NpzWriter::new(file);
        npz.raw("sequences", "<f4", &[n, length, FEATURES], |to| {
            let mut copied = 0;
            for number in 0..batches {
                let mut batch =
                    NpzReader::open(&batch_path(out, number)).map_err(std::io::Error::other)?;
                copied += batch
                    .copy_data("sequences", to)
                    .map_err(std::io::Error::other)?;
            }
            let expected = (n * length * FEATURES * size_of::<f32>()) as u64;
            if copied == expected {
                Ok(())
            } else {
                Err(std::io::Error::other(format!(
                    "batches hold {copied} bytes of sequences, expected {expected}"
                )))
            }
        })?;
        npz.strings("labels", &labels)?;
        npz.strings("video_ids", &video_ids)?;
        npz.strings("glosses", glosses)?;
        npz.finish().map(|_| ())
    })?;
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::{FrameRecord, sampling};
    use ndarray::Array2;

    fn row(id: &str, frames: usize) -> Row {
        let frame = |i: i32| FrameRecord {
            frame_index: i * 2,
            hand_count: 1,
            landmarks: [[[0.25; 3]; 21]; 2],
            handedness: [1, -1],
            handedness_score: [0.9, 0.0],
        };
        Row {
            gloss: "book".into(),
            video_id: id.into(),
            split: "train".into(),
            signer_id: 7,
            sequence: Sequence {
                features: Array2::from_elem((32, 126), 0.5),
                frames: (0..).take(frames).map(frame).collect(),
                frames_with_hand: frames,
                window: sampling::window(0, 0, 64),
                declared_frames: 64,
            },
        }
    }

    #[test]
    fn the_final_file_joins_the_batches() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BATCH_FOLDER)).unwrap();
        let glosses: Vec<Arc<str>> = vec!["book".into(), "deaf".into()];
        write_batch(dir.path(), 0, &[row("1", 32), row("2", 9)], &glosses, 32).unwrap();
        write_batch(dir.path(), 1, &[], &glosses, 32).unwrap();
        write_batch(dir.path(), 2, &[row("00003", 8)], &glosses, 32).unwrap();
        assert_eq!(write_final(dir.path(), 3, &glosses, 32).unwrap(), 3);

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
