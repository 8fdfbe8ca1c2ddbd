//! The kept frames of a batch in one npz file: every frame of each clip that was opened, flat, with offsets. Clips
//! are copied from their parts array by array, so that memory does not grow with their length.

use super::batches::write_npz;
use super::ledger::PartRecord;
use super::npz::{Element, NpzReader, NpzWriter};
use super::part_file::{FRAMES_FOLDER, KeptClip, KeptFrame, PartReader};
use crate::hand::landmarks::LANDMARKS;
use crate::sequence::FrameRecord;
use crate::sequence::normalize::SLOTS;
use crate::storage::StoreError;
use npyz::AutoSerialize;
use std::collections::BTreeSet;
use std::io::{self, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of landmark values of a frame.
const HANDS: usize = SLOTS * LANDMARKS * 3;

/// Path of the file with the kept frames of batch `number`, relative to the output folder.
pub(crate) fn frames_name(number: usize) -> String {
    format!("{FRAMES_FOLDER}/{number:05}.npz")
}

/// Path of the file with the kept frames of batch `number`.
pub(crate) fn frames_path(out: &Path, number: usize) -> PathBuf {
    out.join(frames_name(number))
}

/// Writes the kept frames of batch `number` from the `parts` of its clips, each with the position of its clip, and
/// returns the SHA-256 of the file.
///
/// Of n clips with T frames in all: `video_ids`, `labels` strings `[n]`; `positions` i64 `[n]` in the plan; `offsets`
/// i64 `[n + 1]`, clip i has the frames `offsets[i]..offsets[i + 1]`; `width`, `height` i32 `[n]` in pixels; `fps`
/// f32 `[n]`, NaN when unknown; `declared_frames` i64 `[n]`, -1 when the container declares none; `frame_start`,
/// `frame_end` i64 `[n]` as in the metadata; `facts` strings `[n]`, a [`KeptClip`] as JSON; `glosses` strings, those
/// of the job. Of each frame: `landmarks` f32 `[T, 2, 21, 3]` as detected, `world_landmarks` f32 `[T, 2, 21, 3]` in
/// metres, `handedness` i8 and `handedness_score` f32 `[T, 2]`, `hand_count` u8, `frame_index` i32 and `time_s` f64
/// `[T]`, seconds since the first frame, NaN when unknown.
///
/// # Errors
/// Fails when a part cannot be read or the file cannot be written.
pub(crate) fn write_frames(
    out: &Path,
    number: usize,
    parts: &[(usize, PartRecord)],
    glosses: &[Arc<str>],
) -> Result<String, StoreError> {
    let clips = parts.iter().map(|(position, part)| {
        let clip = PartReader::open(out, part)?.clip()?;
        Ok((*position, part.frames, clip))
    });
    let clips = clips.collect::<Result<Vec<_>, StoreError>>()?;
    write_npz(out, &frames_name(number), |file| {
        let mut npz = NpzWriter::new(file);
        put_clips(&mut npz, &clips)?;
        npz.strings("glosses", glosses)?;
        let parts: Vec<&PartRecord> = parts.iter().map(|(_, part)| part).collect();
        put_frames(&mut npz, out, &parts)?;
        npz.finish().map(|_| ())
    })
}

/// Writes the kept frames of batch `number` from the file at `from`, without the clips whose positions are in
/// `dropped`. The file equals that of [`write_frames`] for the other clips. Returns the SHA-256 of the file.
///
/// # Errors
/// Fails when `from` cannot be read or the file cannot be written.
pub(crate) fn copy_frames(
    from: &Path,
    out: &Path,
    number: usize,
    dropped: &BTreeSet<usize>,
) -> Result<String, StoreError> {
    let mut file = FramesFile::open(from)?;
    let glosses = file.glosses()?;
    let (mut clips, mut ranges) = (Vec::new(), Vec::new());
    for ((position, clip), offsets) in file.clips.iter().zip(file.offsets.windows(2)) {
        if !dropped.contains(position) {
            clips.push((*position, offsets[1] - offsets[0], clip.clone()));
            ranges.push(offsets[0]..offsets[1]);
        }
    }
    write_npz(out, &frames_name(number), |to| {
        let mut npz = NpzWriter::new(to);
        put_clips(&mut npz, &clips)?;
        npz.strings("glosses", &glosses)?;
        let (to, ranges) = (&mut npz, &ranges);
        file.copy::<f32, _>(to, "landmarks", &[SLOTS, LANDMARKS, 3], ranges)?;
        file.copy::<f32, _>(to, "world_landmarks", &[SLOTS, LANDMARKS, 3], ranges)?;
        file.copy::<i8, _>(to, "handedness", &[SLOTS], ranges)?;
        file.copy::<f32, _>(to, "handedness_score", &[SLOTS], ranges)?;
        file.copy::<u8, _>(to, "hand_count", &[], ranges)?;
        file.copy::<i32, _>(to, "frame_index", &[], ranges)?;
        file.copy::<f64, _>(to, "time_s", &[], ranges)?;
        npz.finish().map(|_| ())
    })
}

/// Adds the arrays with one value per clip. `clips` holds each clip's position and number of frames.
fn put_clips<W: Write + Seek>(
    npz: &mut NpzWriter<W>,
    clips: &[(usize, usize, KeptClip)],
) -> io::Result<()> {
    let n = clips.len();
    let all = || clips.iter().map(|(.., clip)| clip);
    let column = |of: fn(&KeptClip) -> &str| all().map(of).collect::<Vec<_>>();
    npz.strings("video_ids", &column(|clip| &clip.video_id))?;
    npz.strings("labels", &column(|clip| &clip.gloss))?;
    let positions = clips.iter().map(|(position, ..)| whole(*position));
    npz.numbers("positions", &[n], positions)?;
    let mut end = 0;
    let ends = clips.iter().map(|(_, frames, _)| {
        end += frames;
        whole(end)
    });
    npz.numbers("offsets", &[n + 1], [0].into_iter().chain(ends))?;
    let formats = || all().map(|clip| clip.format);
    let pixels = |size: u32| i32::try_from(size).unwrap_or(i32::MAX);
    npz.numbers("width", &[n], formats().map(|format| pixels(format.width)))?;
    npz.numbers(
        "height",
        &[n],
        formats().map(|format| pixels(format.height)),
    )?;
    npz.numbers("fps", &[n], formats().map(|f| f.fps.unwrap_or(f32::NAN)))?;
    let declared = |clip: &KeptClip| {
        let frames = clip.declared_frames;
        frames.map_or(-1, |frames| i64::try_from(frames).unwrap_or(i64::MAX))
    };
    npz.numbers("declared_frames", &[n], all().map(declared))?;
    npz.numbers("frame_start", &[n], all().map(|c| c.frame_start))?;
    npz.numbers("frame_end", &[n], all().map(|c| c.frame_end))?;
    let facts = all().map(serde_json::to_string);
    npz.strings("facts", &facts.collect::<Result<Vec<_>, _>>()?)
}

fn put_frames<W: Write + Seek>(
    npz: &mut NpzWriter<W>,
    out: &Path,
    parts: &[&PartRecord],
) -> io::Result<()> {
    let parts = (out, parts);
    let flat = |hands: [[[f32; 3]; LANDMARKS]; SLOTS]| hands.into_iter().flatten().flatten();
    let hands = [SLOTS, LANDMARKS, 3];
    put(npz, "landmarks", &hands, parts, |f| flat(f.found.landmarks))?;
    put(npz, "world_landmarks", &hands, parts, |f| {
        flat(f.found.world)
    })?;
    put(npz, "handedness", &[SLOTS], parts, |f| f.found.handedness)?;
    put(npz, "handedness_score", &[SLOTS], parts, |f| {
        f.found.handedness_score
    })?;
    put(npz, "hand_count", &[], parts, |f| [f.found.hand_count])?;
    put(npz, "frame_index", &[], parts, |f| [f.found.frame_index])?;
    put(npz, "time_s", &[], parts, |f| [f.time_s])
}

/// Adds the array `name`: the values that `of` returns for each frame, which have the shape `inner`.
fn put<W: Write + Seek, T: AutoSerialize, V: IntoIterator<Item = T>>(
    npz: &mut NpzWriter<W>,
    name: &str,
    inner: &[usize],
    (out, parts): (&Path, &[&PartRecord]),
    of: impl Fn(KeptFrame) -> V,
) -> io::Result<()> {
    let frames = parts.iter().map(|part| part.frames).sum();
    let shape = [&[frames], inner].concat();
    let mut array = npz.array::<T>(name, T::default_dtype(), &shape)?;
    // One file is open at a time, however many clips a batch has.
    for part in parts {
        let reader = PartReader::open(out, part).map_err(io::Error::other)?;
        reader.each(&part.sha256, |frame| array.extend(of(frame)))?;
    }
    array.finish()
}

fn whole(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A file of kept frames, for reading. It is read without its checksums: compare the hash of the file first.
pub(crate) struct FramesFile {
    npz: NpzReader,
    /// Its clips with their positions in the plan.
    clips: Vec<(usize, KeptClip)>,
    offsets: Vec<usize>,
}

impl FramesFile {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// Fails when the file cannot be read or holds no kept frames.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut npz = NpzReader::open(path)?;
        let mut numbers = |name: &str| -> Result<Vec<usize>, StoreError> {
            let values = npz.numbers::<i64>(name)?.0.into_iter();
            let values = values.map(usize::try_from).collect::<Result<Vec<_>, _>>();
            values.map_err(|e| npz.broken(&format!("array {name}: {e}")))
        };
        let (positions, offsets) = (numbers("positions")?, numbers("offsets")?);
        let facts = npz.strings("facts")?;
        if facts.len() != positions.len()
            || offsets.len() != facts.len() + 1
            || !offsets.is_sorted()
        {
            return Err(npz.broken(&"its arrays do not belong together"));
        }
        let clips = facts.iter().map(|json| serde_json::from_str(json));
        let clips = clips.collect::<Result<Vec<_>, _>>();
        let clips = clips.map_err(|e| npz.broken(&format!("array facts: {e}")))?;
        Ok(Self {
            npz,
            clips: positions.into_iter().zip(clips).collect(),
            offsets,
        })
    }

    /// Its clips with their positions in the plan, in order.
    pub(crate) fn clips(&self) -> &[(usize, KeptClip)] {
        &self.clips
    }

    /// The glosses of the job.
    pub(crate) fn glosses(&mut self) -> Result<Vec<String>, StoreError> {
        self.npz.strings("glosses")
    }

    /// The frames of the clip `index` of the file.
    ///
    /// # Errors
    /// Fails when they cannot be read.
    pub(crate) fn frames(&mut self, index: usize) -> Result<Vec<KeptFrame>, StoreError> {
        let range = self.offsets[index]..self.offsets[index + 1];
        let landmarks = self.rows::<f32>("landmarks", &range, HANDS)?;
        let world = self.rows::<f32>("world_landmarks", &range, HANDS)?;
        let sides = self.rows::<i8>("handedness", &range, SLOTS)?;
        let scores = self.rows::<f32>("handedness_score", &range, SLOTS)?;
        let counts = self.rows::<u8>("hand_count", &range, 1)?;
        let indexes = self.rows::<i32>("frame_index", &range, 1)?;
        let times = self.rows::<f64>("time_s", &range, 1)?;
        let hands = |values: &[f32], at: usize| {
            std::array::from_fn(|slot| {
                std::array::from_fn(|point| {
                    let from = at * HANDS + (slot * LANDMARKS + point) * 3;
                    [values[from], values[from + 1], values[from + 2]]
                })
            })
        };
        let frame = |at: usize| KeptFrame {
            found: FrameRecord {
                frame_index: indexes[at],
                hand_count: counts[at],
                landmarks: hands(&landmarks, at),
                world: hands(&world, at),
                handedness: std::array::from_fn(|slot| sides[at * SLOTS + slot]),
                handedness_score: std::array::from_fn(|slot| scores[at * SLOTS + slot]),
            },
            time_s: times[at],
        };
        Ok((0..range.len()).map(frame).collect())
    }

    /// Copies the rows `ranges` of the array `name`, whose rows have the shape `inner`.
    fn copy<T: Element + AutoSerialize, W: Write + Seek>(
        &mut self,
        npz: &mut NpzWriter<W>,
        name: &str,
        inner: &[usize],
        ranges: &[Range<usize>],
    ) -> io::Result<()> {
        let frames = ranges.iter().map(ExactSizeIterator::len).sum();
        let mut array = npz.array::<T>(name, T::default_dtype(), &[&[frames], inner].concat())?;
        for range in ranges {
            let rows = self.rows::<T>(name, range, inner.iter().product());
            array.extend(rows.map_err(io::Error::other)?)?;
        }
        array.finish()
    }

    /// The rows `range` of the array `name`, whose rows have `width` values.
    fn rows<T: Element>(
        &mut self,
        name: &str,
        range: &Range<usize>,
        width: usize,
    ) -> Result<Vec<T>, StoreError> {
        let values = self.npz.rows(name, range.clone())?;
        if values.len() != range.len() * width {
            return Err(self.npz.broken(&format!("array {name} has another shape")));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::atomic_file::make_folder;
    use crate::storage::part_file::{PARTS_FOLDER, is_intact_part, write_part};
    use std::fs;

    fn frame(index: i32, seed: u64) -> KeptFrame {
        let mut numbers = fastrand::Rng::with_seed(seed);
        let mut hands = || {
            let mut hands = [[[0.0; 3]; LANDMARKS]; SLOTS];
            for value in hands.as_flattened_mut().as_flattened_mut() {
                *value = numbers.f32() - 0.5;
            }
            hands
        };
        KeptFrame {
            found: FrameRecord {
                frame_index: index,
                hand_count: 2,
                landmarks: hands(),
                world: hands(),
                handedness: [1, -1],
                handedness_score: [0.75, -0.0],
            },
            time_s: f64::from(index) / 30.0,
        }
    }

    #[test]
    fn frames_come_back_as_they_went() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        make_folder(&out.join(PARTS_FOLDER)).unwrap();
        let clips: Vec<(usize, Vec<KeptFrame>, KeptClip)> = [(4, 3), (5, 0), (7, 200)]
            .into_iter()
            .map(|(position, frames)| {
                let frames = (0..frames).map(|n| frame(n, position as u64 + n as u64));
                let mut clip = KeptClip {
                    gloss: "café".to_owned(),
                    video_id: position.to_string(),
                    frame_start: -1,
                    declared_frames: (position != 5).then_some(9),
                    error: (position == 5).then(|| "no video".to_owned()),
                    ..KeptClip::default()
                };
                clip.format.fps = Some(29.97);
                (position, frames.collect(), clip)
            })
            .collect();
        let parts: Vec<(usize, PartRecord)> = clips
            .iter()
            .map(|(position, frames, clip)| {
                let (part, _) = write_part::<StoreError>(out, |part| {
                    frames.iter().try_for_each(|frame| part.push(frame))?;
                    Ok(clip.clone())
                })
                .unwrap();
                assert!(is_intact_part(out, &part));
                let reader = PartReader::open(out, &part).unwrap();
                assert_eq!(reader.clip().unwrap(), *clip);
                let times: Vec<f64> = frames.iter().map(|frame| frame.time_s).collect();
                assert_eq!(reader.times().unwrap(), times);
                for (index, frame) in frames.iter().enumerate() {
                    assert_eq!(reader.frame(index).unwrap(), *frame);
                }
                (*position, part)
            })
            .collect();
        let sha256 = write_frames(out, 1, &parts, &["café".into()]).unwrap();
        let path = frames_path(out, 1);
        let mut file = FramesFile::open(&path).unwrap();
        assert_eq!(file.glosses().unwrap(), ["café"]);
        let found: Vec<usize> = file.clips().iter().map(|(position, _)| *position).collect();
        assert_eq!(found, [4, 5, 7]);
        for (index, (_, frames, clip)) in clips.iter().enumerate().rev() {
            assert_eq!(file.clips()[index].1, *clip);
            assert_eq!(file.frames(index).unwrap(), *frames);
        }
        let mut npz = NpzReader::open(&path).unwrap();
        assert_eq!(npz.numbers::<i64>("offsets").unwrap().0, [0, 3, 3, 203]);
        assert_eq!(npz.numbers::<i64>("declared_frames").unwrap().0, [9, -1, 9]);
        assert!(npz.rows::<u8>("hand_count", 203..204).is_err());
        // Without one clip, the file equals one that is written from the other parts.
        let others = [parts[0].clone(), parts[2].clone()];
        let without = write_frames(out, 2, &others, &["café".into()]).unwrap();
        let copied = copy_frames(&path, out, 2, &BTreeSet::from([5])).unwrap();
        assert_eq!(copied, without);
        assert_ne!(copied, sha256);
        // A second write gives the same file, and a truncated part is detected.
        assert_eq!(
            write_frames(out, 1, &parts, &["café".into()]).unwrap(),
            sha256
        );
        let path = out.join(PARTS_FOLDER).join(&parts[2].1.name);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(!is_intact_part(out, &parts[2].1));
    }
}
