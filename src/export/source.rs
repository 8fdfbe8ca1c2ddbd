//! Reads the accepted clips of an output folder, one at a time, with the left and the right hand of each frame.

use super::{ExportError, ExportFrames};
use crate::frame::ClipFormat;
use crate::hand::landmarks::LANDMARKS;
use crate::report::ReportError;
use crate::report::output::{InstanceRecord, OutputFolder, StoredAt};
use crate::sequence::FrameRecord;
use crate::sequence::normalize::SLOTS;
use crate::sequence::options::Slots;
use crate::sequence::slots::assign;
use crate::storage::StoreError;
use crate::storage::atomic_file::{file_sha256, open_plain};
use crate::storage::batches::{BatchRow, batch_name, batch_path, read_batch};
use crate::storage::frames_file::{FramesFile, frames_name};
use crate::storage::kept_results::CLASS_ORDER;
use crate::storage::manifest::{LABEL_MAP_NAME, MANIFEST_NAME};
use crate::storage::npz::NpzReader;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, ErrorKind};
use std::path::Path;

/// Longest file name that is made of a video id, in characters.
const KEY_CHARS_MAX: usize = 80;
/// The split of clips that have none.
const DEFAULT_SPLIT: &str = "train";

/// The part of `label_map.json` that is read.
#[derive(Deserialize)]
struct LabelMap {
    classes: BTreeMap<String, i64>,
}

/// An accepted clip.
#[derive(Clone, Debug)]
pub(super) struct ExportClip {
    /// Unique name without a dot, of letters, digits, `-` and `_`.
    pub(super) key: String,
    pub(super) video_id: String,
    pub(super) gloss: String,
    /// Number of the gloss; -1 when `label_map.json` does not have it.
    pub(super) label_id: i64,
    /// Name with the same characters as `key`, except `-`; unique among splits.
    pub(super) split: String,
    /// Number of the signer; -1 when unknown.
    pub(super) signer_id: i64,
    /// First and last frame of the sign, as the metadata gives them.
    pub(super) range: [Option<i64>; 2],
    stored: StoredAt,
    /// Position in the plan of the job; `None` for a take.
    position: Option<usize>,
}

/// The hands of one frame by side.
#[derive(Clone, Debug)]
pub(super) struct FrameHands {
    /// Index of the frame in the clip, from 0.
    pub(super) frame_index: i32,
    /// Seconds since the first frame; `None` when times were not recorded.
    pub(super) time_s: Option<f64>,
    /// Left and right hand: x, y in fractions of the image, z in image widths.
    pub(super) hands: [Option<[[f32; 3]; LANDMARKS]>; SLOTS],
    /// Probability of the detected side; 0 where there is no hand.
    pub(super) scores: [f32; SLOTS],
    /// Whether the detector assigned both hands to the same side.
    pub(super) is_same_side: bool,
}

impl FrameHands {
    fn of(found: &FrameRecord, time_s: Option<f64>) -> Self {
        let slots = assign(found, Slots::Sides);
        Self {
            frame_index: found.frame_index,
            time_s,
            hands: slots.hands.map(|hand| Some(found.landmarks[hand?])),
            scores: slots
                .hands
                .map(|hand| hand.map_or(0.0, |hand| found.handedness_score[hand])),
            is_same_side: slots.is_same_side,
        }
    }

    /// x, y, z of 42 landmarks, left hand first, NaN where there is no hand.
    pub(super) fn values(&self) -> impl Iterator<Item = f32> {
        let hands = self.hands.iter();
        hands.flat_map(|hand| {
            hand.unwrap_or([[f32::NAN; 3]; LANDMARKS])
                .into_iter()
                .flatten()
        })
    }
}

/// The hands that were found in the exported frames of a clip.
#[derive(Clone, Debug)]
pub(super) struct ClipHands {
    pub(super) frames: Vec<FrameHands>,
    /// Width of the image in pixels; 0 when unknown.
    pub(super) width: u32,
    /// Height of the image in pixels; 0 when unknown.
    pub(super) height: u32,
    /// Exported frames per second on average; `None` when unknown.
    pub(super) fps: Option<f32>,
}

impl ClipHands {
    fn of(frames: Vec<FrameHands>, format: ClipFormat) -> Self {
        Self {
            fps: rate(&frames, format.fps),
            frames,
            width: format.width,
            height: format.height,
        }
    }
}

/// The rate of `frames`, which are part of a clip with the rate `fps`. Without `fps` it follows from the times of the
/// frames.
#[expect(clippy::cast_possible_truncation, reason = "a rate is written as f32")]
fn rate(frames: &[FrameHands], fps: Option<f32>) -> Option<f32> {
    let (first, last) = (frames.first()?, frames.last()?);
    let steps = f64::from(u32::try_from(frames.len() - 1).ok()?);
    let span = f64::from(last.frame_index) - f64::from(first.frame_index);
    let of_clip = fps.filter(|fps| *fps > 0.0).map(|fps| match span {
        span if span > 0.0 => (f64::from(fps) * steps / span) as f32,
        _ => fps,
    });
    of_clip.or_else(|| {
        let seconds = last.time_s? - first.time_s?;
        (seconds > 0.0).then(|| (steps / seconds) as f32)
    })
}

/// The results in an output folder.
pub(super) struct ExportSource {
    folder: OutputFolder,
    frames: ExportFrames,
    labels: Vec<(String, i64)>,
    /// SHA-256 of the files that are read, by name.
    hashes: BTreeMap<String, String>,
    /// Number and rows of the batch that was read last.
    rows: Option<(usize, Vec<BatchRow>)>,
    /// Number and kept frames of the batch that was read last.
    kept: Option<(usize, FramesFile)>,
}

impl ExportSource {
    /// Opens the finished results in `out` and hashes their files. Also returns the accepted clips, in the order of
    /// the plan.
    ///
    /// # Errors
    /// Fails when no clip is accepted, the job is unfinished, or a file is missing or differs from what the job
    /// wrote.
    pub(super) fn open(
        out: &Path,
        frames: Option<ExportFrames>,
    ) -> Result<(Self, Vec<ExportClip>), ExportError> {
        let mut folder = OutputFolder::open(out)?;
        let path = out.to_path_buf();
        if !folder.is_finished {
            return Err(ExportError::NotFinished { path });
        }
        let has_frames = folder.run["settings"]["keep_frames"] == true;
        let frames = match frames {
            None if has_frames => ExportFrames::Kept,
            Some(ExportFrames::Kept) if !has_frames => return Err(ExportError::NotKept { path }),
            frames => frames.unwrap_or(ExportFrames::Sequences),
        };
        let mut instances = std::mem::take(&mut folder.instances);
        instances.retain(|record| record.is_accepted() && record.stored.is_some());
        instances.sort_by_key(|record| record.stored.map(|at| (at.batch, at.row)));
        if instances.is_empty() {
            return Err(ExportError::Empty { path });
        }
        let mut source = Self {
            folder,
            frames,
            labels: Vec::new(),
            hashes: BTreeMap::new(),
            rows: None,
            kept: None,
        };
        source.hash(MANIFEST_NAME.to_owned())?;
        let stored = instances.iter().filter_map(|record| record.stored);
        let batches: BTreeSet<usize> = stored.map(|at| at.batch).collect();
        for batch in &batches {
            source.hash(match frames {
                ExportFrames::Sequences => batch_name(*batch),
                ExportFrames::Kept => frames_name(*batch),
            })?;
        }
        source.labels = source.read_labels(&batches, &instances)?;
        let clips = clips(&instances, &source.labels);
        Ok((source, clips))
    }

    /// Which frames are read.
    pub(super) fn frames(&self) -> ExportFrames {
        self.frames
    }

    /// The labels with their numbers, sorted by number.
    pub(super) fn labels(&self) -> &[(String, i64)] {
        &self.labels
    }

    /// The contents of `run.json`.
    pub(super) fn run(&self) -> &Value {
        &self.folder.run
    }

    /// SHA-256 of the files that are read, by name.
    pub(super) fn hashes(&self) -> &BTreeMap<String, String> {
        &self.hashes
    }

    /// Hashes the file `name`. Fails when `run.json` has another hash for it.
    fn hash(&mut self, name: String) -> Result<(), ExportError> {
        let path = self.folder.path.join(&name);
        let sha256 = match file_sha256(&path) {
            Err(StoreError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return Err(ExportError::Changed { path });
            }
            hashed => hashed?,
        };
        let wanted = self.folder.run["finished"]["files"][&name].as_str();
        if wanted.is_some_and(|wanted| wanted != sha256) {
            return Err(ExportError::Changed { path });
        }
        self.hashes.insert(name, sha256);
        Ok(())
    }

    /// The labels of `label_map.json`. Earlier versions wrote no such file: then the glosses of the batches in order,
    /// followed by the glosses that the batches do not list.
    fn read_labels(
        &mut self,
        batches: &BTreeSet<usize>,
        instances: &[InstanceRecord],
    ) -> Result<Vec<(String, i64)>, ExportError> {
        let path = self.folder.path.join(LABEL_MAP_NAME);
        let run = &self.folder.run;
        let is_named = run["finished"]["files"].get(LABEL_MAP_NAME).is_some()
            || run["settings"].get(CLASS_ORDER).is_some();
        if is_named || path.symlink_metadata().is_ok() {
            self.hash(LABEL_MAP_NAME.to_owned())?;
            let file = open_plain(&path).map_err(StoreError::read(&path))?;
            let map = serde_json::from_reader::<_, LabelMap>(BufReader::new(file));
            let map = map.map_err(|error| ExportError::BadLabelMap { path, error })?;
            let mut labels: Vec<_> = map.classes.into_iter().collect();
            labels.sort_by_key(|(_, id)| *id);
            return Ok(labels);
        }
        let mut glosses = Vec::new();
        for batch in batches {
            let path = match self.frames {
                ExportFrames::Sequences => batch_path(&self.folder.path, *batch),
                ExportFrames::Kept => self.folder.path.join(frames_name(*batch)),
            };
            glosses.extend(NpzReader::open(&path)?.strings("glosses")?);
        }
        glosses.extend(instances.iter().map(|record| record.gloss.clone()));
        let mut seen = BTreeSet::new();
        glosses.retain(|gloss| seen.insert(gloss.clone()));
        Ok(glosses.into_iter().zip(0..).collect())
    }

    /// The hands in the exported frames of `clip`.
    ///
    /// # Errors
    /// Fails when the clip cannot be read, or the files hold another clip in its place.
    pub(super) fn hands(&mut self, clip: &ExportClip) -> Result<ClipHands, ExportError> {
        match self.frames {
            ExportFrames::Sequences => self.sampled(clip),
            ExportFrames::Kept => self.kept(clip),
        }
    }

    fn sampled(&mut self, clip: &ExportClip) -> Result<ClipHands, ExportError> {
        let mismatch = self.mismatch(clip);
        let StoredAt { batch, row } = clip.stored;
        if self.rows.as_ref().is_none_or(|(open, _)| *open != batch) {
            // Free the last batch before reading the next one.
            self.rows = None;
            self.rows = Some((batch, read_batch(&self.folder.path, batch)?));
        }
        let row = self.rows.as_ref().and_then(|(_, rows)| rows.get(row));
        let row = row
            .filter(|row| clip.is(&row.gloss, &row.video_id))
            .ok_or(mismatch)?;
        let mut times = row.frame_times.iter().map(|time| f64::from(*time));
        let frames = row.frames.iter();
        let frames = frames
            .map(|found| FrameHands::of(found, times.next()))
            .collect();
        Ok(ClipHands::of(frames, row.format))
    }

    fn kept(&mut self, clip: &ExportClip) -> Result<ClipHands, ExportError> {
        let mismatch = self.mismatch(clip);
        let batch = clip.stored.batch;
        let file = match self.kept.take() {
            Some((open, file)) if open == batch => file,
            _ => FramesFile::open(&self.folder.path.join(frames_name(batch)))?,
        };
        let file = &mut self.kept.insert((batch, file)).1;
        let index = file.clips().iter().position(|(position, found)| {
            Some(*position) == clip.position && clip.is(&found.gloss, &found.video_id)
        });
        let index = index.ok_or(mismatch)?;
        let format = file.clips()[index].1.format;
        let frames = file.frames(index)?;
        let frames = frames.iter().map(|frame| {
            let time = Some(frame.time_s).filter(|time| time.is_finite());
            FrameHands::of(&frame.found, time)
        });
        Ok(ClipHands::of(frames.collect(), format))
    }

    /// The error for another clip in the place that the manifest gives for `clip`.
    fn mismatch(&self, clip: &ExportClip) -> ExportError {
        let name = match self.frames {
            ExportFrames::Sequences => batch_name(clip.stored.batch),
            ExportFrames::Kept => frames_name(clip.stored.batch),
        };
        ReportError::Mismatch {
            path: self.folder.path.join(name),
            row: clip.stored.row,
            video_id: clip.video_id.clone(),
        }
        .into()
    }
}

impl ExportClip {
    fn is(&self, gloss: &str, video_id: &str) -> bool {
        self.gloss == gloss && self.video_id == video_id
    }
}

/// The export clips of `instances`, which are sorted by batch and row.
fn clips(instances: &[InstanceRecord], labels: &[(String, i64)]) -> Vec<ExportClip> {
    let ids: BTreeMap<&str, i64> = labels.iter().map(|(gloss, id)| (&**gloss, *id)).collect();
    let (mut keys, mut split_names) = (BTreeSet::new(), BTreeSet::new());
    let mut splits: BTreeMap<&str, String> = BTreeMap::new();
    let mut clips = Vec::with_capacity(instances.len());
    for record in instances {
        let Some(stored) = record.stored else {
            continue;
        };
        let split = match &*record.split {
            "" => DEFAULT_SPLIT,
            split => split,
        };
        // Hugging Face allows no `-` in the name of a split: `train-*` is its pattern of file names.
        let split = splits
            .entry(split)
            .or_insert_with_key(|split| unique_name(&split.replace('-', "_"), &mut split_names));
        clips.push(ExportClip {
            key: unique_name(record.id(), &mut keys),
            video_id: record.id().to_owned(),
            gloss: record.gloss.clone(),
            label_id: ids.get(&*record.gloss).copied().unwrap_or(-1),
            split: split.clone(),
            signer_id: record.signer_id,
            range: [record.frame_start, record.frame_end],
            stored,
            position: record.position,
        });
    }
    clips
}

/// Whether `name` is a reserved device name on Windows, which no file can have there.
fn is_device(name: &str) -> bool {
    let name = name.to_lowercase();
    let ports = ["com", "lpt"].iter();
    let mut numbers = ports.filter_map(|port| name.strip_prefix(port));
    ["con", "prn", "aux", "nul"].contains(&&*name)
        || numbers.any(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Makes `text` a file name that is valid on any system and, ignoring case, not yet in `names`.
fn unique_name(text: &str, names: &mut BTreeSet<String>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let plain = text.chars().take(KEY_CHARS_MAX);
    let plain: String = plain.map(|c| if is_plain(c) { c } else { '_' }).collect();
    let mut name = plain.clone();
    let mut number = 1;
    while name.is_empty() || is_device(&name) || !names.insert(name.to_lowercase()) {
        number += 1;
        name = format!("{plain}_{number}");
    }
    name
}

#[cfg(test)]
mod tests;
