//! The kept frames of one clip, in a file of their own until its batch is sealed: a record of fixed size for each
//! frame, then what is known of the clip, as JSON. It is written frame by frame, so that memory does not grow with
//! the clip.
//!
//! A part has a random name, which the ledger records: a rescan changes the positions of clips, and a rename cannot
//! be atomic with the ledger's transaction.

use super::StoreError;
use super::atomic_file::{file_sha256, open_plain, write_checked};
use super::ledger::PartRecord;
use crate::dataset::clip_note::ClipNote;
use crate::digest::Hasher;
use crate::frame::ClipFormat;
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::FrameRecord;
use crate::sequence::normalize::SLOTS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Folder of the kept frames in the output folder.
pub const FRAMES_FOLDER: &str = "frames";
/// Folder of the parts in the output folder.
pub(crate) const PARTS_FOLDER: &str = "frames/parts";
/// Length of the name of a part, in hex digits.
const NAME_DIGITS: usize = 16;

/// Bytes of the landmarks of a frame.
const HANDS_BYTES: usize = SLOTS * LANDMARKS * 3 * 4;
/// Bytes of a frame: time, index, scores, landmarks, world landmarks, sides, number of hands, one byte of padding.
const FRAME_BYTES: usize = 8 + 4 + SLOTS * 4 + 2 * HANDS_BYTES + SLOTS + 2;

/// The landmarks of a frame: `[slot][landmark][x, y, z]`.
type Hands = [[[f32; 3]; LANDMARKS]; SLOTS];

/// A frame of a clip with what the detector found in it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptFrame {
    /// What the detector found.
    pub found: FrameRecord,
    /// Presentation time in seconds since the first frame; NaN when the container does not give it.
    pub time_s: f64,
}

/// What is known of a clip whose frames are kept: everything that its sequence and its line of the manifest need.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptClip {
    /// The label, as spelled.
    pub gloss: String,
    /// Id of the clip.
    pub video_id: String,
    /// First frame of the sign, as in the metadata.
    pub frame_start: i64,
    /// Last frame of the sign, as in the metadata.
    pub frame_end: i64,
    /// Size and rate.
    pub format: ClipFormat,
    /// Number of frames that its container declares.
    pub declared_frames: Option<u64>,
    /// Description of what ran the models.
    pub backend: String,
    /// The GStreamer element that decoded it.
    pub decoder: Option<String>,
    /// Reasons why its frames may differ from the notebook's.
    pub notes: BTreeSet<ClipNote>,
    /// Why decoding stopped before the end of the file, if it did.
    pub stopped_early: Option<String>,
    /// Why the clip could not be read beyond its kept frames; `None` without an error.
    pub error: Option<String>,
}

/// Writes the frames of a part.
pub struct PartWriter<'a> {
    path: &'a Path,
    to: &'a mut BufWriter<File>,
    hasher: Hasher,
    frames: usize,
}

impl PartWriter<'_> {
    /// Adds the next frame.
    ///
    /// # Errors
    /// Fails when writing fails.
    pub(crate) fn push(&mut self, frame: &KeptFrame) -> Result<(), StoreError> {
        self.frames += 1;
        self.write(&encode(frame))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        let written = self.to.write_all(bytes);
        written.map_err(StoreError::write(self.path))
    }
}

/// Why a part was not written.
enum PartFailure<E> {
    /// The closure `fill` failed.
    Fill(E),
    /// The file could not be made or made durable.
    System(io::Error),
}

impl<E> From<io::Error> for PartFailure<E> {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Writes a part of the output folder `out`: the frames that `fill` pushes, then the clip that it returns. The part
/// is durable when this returns; it is dropped when `fill` fails.
///
/// # Errors
/// Returns the errors of `fill` and of the system.
pub(crate) fn write_part<E: From<StoreError>>(
    out: &Path,
    fill: impl FnOnce(&mut PartWriter<'_>) -> Result<KeptClip, E>,
) -> Result<(PartRecord, KeptClip), E> {
    let name = format!("{:0NAME_DIGITS$x}", fastrand::Rng::new().u64(..));
    let path = out.join(PARTS_FOLDER).join(&name);
    let mut made = None;
    let write = |to: &mut BufWriter<File>| {
        let mut part = PartWriter {
            path: &path,
            to,
            hasher: Hasher::default(),
            frames: 0,
        };
        let clip = fill(&mut part).map_err(PartFailure::Fill)?;
        let json = serde_json::to_vec(&clip).map_err(io::Error::from)?;
        (part.write(&json)).map_err(|error| PartFailure::Fill(error.into()))?;
        made = Some((part.frames, part.hasher.hex(), clip));
        Ok(())
    };
    let written = write_checked(out, &format!("{PARTS_FOLDER}/{name}"), write, |_| Ok(()));
    match (written, made) {
        (Ok(()), Some((frames, sha256, clip))) => {
            let part = PartRecord {
                name,
                frames,
                sha256,
            };
            Ok((part, clip))
        }
        (Err(PartFailure::Fill(error)), _) => Err(error),
        (Err(PartFailure::System(error)), _) => Err(StoreError::write(&path)(error).into()),
        (Ok(()), None) => Err(StoreError::write(&path)(ErrorKind::Other.into()).into()),
    }
}

/// Whether `name` is the file name of a part.
pub(super) fn is_part_name(name: &str) -> bool {
    name.len() == NAME_DIGITS && name.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Removes the parts `names` of `out`. A part that cannot be removed is removed when the job is next begun or closed.
pub(crate) fn remove_parts<'a>(out: &Path, names: impl IntoIterator<Item = &'a str>) {
    for name in names {
        let path = out.join(PARTS_FOLDER).join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(file = %path.display(), %error, "cannot remove a file");
            }
            _ => {}
        }
    }
}

/// A part, for reading.
pub(crate) struct PartReader {
    path: PathBuf,
    file: File,
    frames: usize,
}

impl PartReader {
    /// Opens `part` of the output folder `out`.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub(crate) fn open(out: &Path, part: &PartRecord) -> Result<Self, StoreError> {
        let path = out.join(PARTS_FOLDER).join(&part.name);
        let file = open_plain(&path).map_err(StoreError::read(&path))?;
        Ok(Self {
            path,
            file,
            frames: part.frames,
        })
    }

    /// Presentation times of all frames, in seconds since the first.
    pub(crate) fn times(&self) -> Result<Vec<f64>, StoreError> {
        let time = |index| {
            let mut bytes = [0; 8];
            self.read_at(&mut bytes, index)?;
            Ok(f64::from_le_bytes(bytes))
        };
        (0..self.frames).map(time).collect()
    }

    /// The frame `index`.
    pub(crate) fn frame(&self, index: usize) -> Result<KeptFrame, StoreError> {
        let mut bytes = [0; FRAME_BYTES];
        self.read_at(&mut bytes, index)?;
        Ok(decode(&bytes))
    }

    fn read_at(&self, bytes: &mut [u8], index: usize) -> Result<(), StoreError> {
        let at = (index * FRAME_BYTES) as u64;
        let read = self.file.read_exact_at(bytes, at);
        read.map_err(StoreError::read(&self.path))
    }

    /// Passes all frames to `each`, in order.
    ///
    /// # Errors
    /// Returns the errors of `each`, and [`StoreError::Broken`] when the file does not have the hash `sha256`.
    pub(crate) fn each(
        self,
        sha256: &str,
        mut each: impl FnMut(KeptFrame) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut from = BufReader::with_capacity(64 * FRAME_BYTES, self.file);
        let mut hasher = Hasher::default();
        let mut bytes = [0; FRAME_BYTES];
        for _ in 0..self.frames {
            from.read_exact(&mut bytes)?;
            hasher.update(&bytes);
            each(decode(&bytes))?;
        }
        let mut rest = Vec::new();
        from.read_to_end(&mut rest)?;
        hasher.update(&rest);
        if hasher.hex() == sha256 {
            return Ok(());
        }
        Err(io::Error::other(StoreError::Broken {
            path: self.path,
            reason: "it has changed since it was written".to_owned(),
        }))
    }

    /// Reads what is known of the clip, which follows the frames.
    pub(crate) fn clip(&self) -> Result<KeptClip, StoreError> {
        let read = || {
            let at = self.frames * FRAME_BYTES;
            let length = self.file.metadata()?.len().saturating_sub(at as u64);
            let mut json = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            self.file.read_exact_at(&mut json, at as u64)?;
            serde_json::from_slice(&json).map_err(io::Error::other)
        };
        read().map_err(StoreError::read(&self.path))
    }
}

/// Whether the file of `part` in the output folder `out` has the recorded hash.
pub(crate) fn is_intact_part(out: &Path, part: &PartRecord) -> bool {
    file_sha256(&out.join(PARTS_FOLDER).join(&part.name)).is_ok_and(|found| found == part.sha256)
}

/// Encodes a frame for a part.
fn encode(frame: &KeptFrame) -> [u8; FRAME_BYTES] {
    let found = &frame.found;
    let mut bytes = [0; FRAME_BYTES];
    let mut at = 0;
    let mut put = |value: &[u8]| {
        bytes[at..at + value.len()].copy_from_slice(value);
        at += value.len();
    };
    put(&frame.time_s.to_le_bytes());
    put(&found.frame_index.to_le_bytes());
    let hands = [&found.landmarks, &found.world];
    let values = hands
        .into_iter()
        .flat_map(|h| h.as_flattened().as_flattened());
    for value in found.handedness_score.iter().chain(values) {
        put(&value.to_le_bytes());
    }
    for side in found.handedness {
        put(&side.to_le_bytes());
    }
    put(&[found.hand_count]);
    bytes
}

/// Decodes a frame; the inverse of [`encode`].
fn decode(bytes: &[u8; FRAME_BYTES]) -> KeptFrame {
    let mut from = bytes.as_slice();
    let time_s = f64::from_le_bytes(take(&mut from));
    let frame_index = i32::from_le_bytes(take(&mut from));
    let handedness_score = std::array::from_fn(|_| f32::from_le_bytes(take(&mut from)));
    let mut hands = || -> Hands {
        std::array::from_fn(|_| {
            std::array::from_fn(|_| std::array::from_fn(|_| f32::from_le_bytes(take(&mut from))))
        })
    };
    let (landmarks, world) = (hands(), hands());
    let handedness = std::array::from_fn(|_| i8::from_le_bytes(take(&mut from)));
    let [hand_count] = take(&mut from);
    KeptFrame {
        found: FrameRecord {
            frame_index,
            hand_count,
            landmarks,
            handedness,
            handedness_score,
            world,
        },
        time_s,
    }
}

/// The next `N` bytes; zeros behind the end, which [`decode`] does not reach.
fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let Some((value, rest)) = from.split_first_chunk::<N>() else {
        return [0; N];
    };
    *from = rest;
    *value
}
