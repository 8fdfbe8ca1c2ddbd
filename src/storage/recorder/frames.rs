//! The kept frames of clips: from their parts into the file of their batch, and back when the batch is unsealed.

use super::{ClipRecord, Recorder};
use crate::storage::StoreError;
use crate::storage::atomic_file::{file_sha256, make_folder, refuse_link};
use crate::storage::batches::SealedBatch;
use crate::storage::frames_file::{FramesFile, frames_name, frames_path, write_frames};
use crate::storage::ledger::PartRecord;
use crate::storage::part_file::{
    FRAMES_FOLDER, PARTS_FOLDER, is_intact_part, remove_parts, write_part,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// State of clips whose frames are not kept: whether such a clip is decoded depends on the timing of the workers.
const OVER_LIMIT: &str = "over_limit";

/// The kept frames of a batch that were just written.
pub(super) struct WrittenFrames {
    /// SHA-256 of their file, lower-case hex.
    pub(super) sha256: String,
    /// Their parts, to be removed once the batch is marked sealed.
    pub(super) parts: Vec<PartRecord>,
}

/// The error for a file with the kept frames of `batch` that has changed since it was sealed.
pub(super) fn frames_changed(out: &Path, batch: usize) -> StoreError {
    StoreError::Broken {
        path: frames_path(out, batch),
        reason: "it has changed since it was sealed".to_owned(),
    }
}

/// Whether the frames of a clip with this record are kept, where frames are kept.
pub(super) fn has_frames(clip: &ClipRecord) -> bool {
    clip.state != OVER_LIMIT
}

impl Recorder {
    /// Keeps the frames of all clips from now on.
    ///
    /// # Errors
    /// Fails when their folders cannot be made.
    pub(crate) fn keep_frames(&mut self) -> Result<(), StoreError> {
        refuse_link(&self.out.join(FRAMES_FOLDER))?;
        refuse_link(&self.out.join(PARTS_FOLDER))?;
        make_folder(&self.out.join(PARTS_FOLDER))?;
        self.keeps_frames = true;
        Ok(())
    }

    /// The intact parts of the clips in `range`, all of which are known. `None` when frames are not kept.
    fn intact_parts(
        &self,
        range: Range<usize>,
    ) -> Result<Option<Vec<(usize, PartRecord)>>, StoreError> {
        if !self.keeps_frames {
            return Ok(None);
        }
        let clips = self.ledger().clips_in(range)?;
        let clips = clips.into_iter().filter(|(_, clip)| has_frames(clip));
        let (mut parts, mut lost) = (Vec::new(), Vec::new());
        for (position, clip) in clips {
            match clip.part {
                Some(part) if is_intact_part(&self.out, &part) => parts.push((position, part)),
                _ => lost.push(position),
            }
        }
        if lost.is_empty() {
            return Ok(Some(parts));
        }
        Err(StoreError::Lost {
            path: self.out.join(PARTS_FOLDER),
            positions: lost,
        })
    }

    /// Writes the kept frames of `batch`, whose clips are those in `range`. `None` when frames are not kept.
    pub(super) fn write_frames(
        &self,
        batch: usize,
        range: Range<usize>,
        glosses: &[Arc<str>],
    ) -> Result<Option<WrittenFrames>, StoreError> {
        let Some(parts) = self.intact_parts(range)? else {
            return Ok(None);
        };
        let sha256 = write_frames(&self.out, batch, &parts, glosses)?;
        let parts = parts.into_iter().map(|(_, part)| part).collect();
        Ok(Some(WrittenFrames { sha256, parts }))
    }

    /// Removes `parts`, which no record names.
    pub(crate) fn remove_parts(&self, parts: &[PartRecord]) {
        remove_parts(&self.out, parts.iter().map(|part| part.name.as_str()));
    }

    /// Whether the kept frames of a sealed batch have the hash that they were sealed with. `true` when frames are not
    /// kept.
    pub(super) fn has_intact_frames(&self, batch: usize, sealed: &SealedBatch) -> bool {
        let found = || file_sha256(&frames_path(&self.out, batch)).ok();
        !self.keeps_frames || (sealed.frames_sha256.is_some() && found() == sealed.frames_sha256)
    }

    /// Copies the kept frames of a sealed batch into parts again.
    ///
    /// # Errors
    /// [`StoreError::Read`] or [`StoreError::Broken`] when its file cannot be read. Also fails when a part cannot be
    /// written.
    pub(super) fn parts_of_file(
        &self,
        batch: usize,
        sealed: &SealedBatch,
    ) -> Result<Vec<(usize, PartRecord)>, StoreError> {
        if !self.keeps_frames {
            return Ok(Vec::new());
        }
        if !self.has_intact_frames(batch, sealed) {
            return Err(frames_changed(&self.out, batch));
        }
        let mut file = FramesFile::open(&frames_path(&self.out, batch))?;
        let clips = file.clips().to_vec();
        let mut parts = Vec::with_capacity(clips.len());
        for (index, (position, clip)) in clips.into_iter().enumerate() {
            let frames = file.frames(index)?;
            let (part, _) = write_part::<StoreError>(&self.out, |part| {
                frames.iter().try_for_each(|frame| part.push(frame))?;
                Ok(clip)
            })?;
            parts.push((position, part));
        }
        Ok(parts)
    }

    /// SHA-256 of the files of kept frames, by name.
    pub(crate) fn frames_files(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let sealed = self.ledger().sealed()?.into_iter();
        let files =
            sealed.filter_map(|(batch, sealed)| Some((frames_name(batch), sealed.frames_sha256?)));
        Ok(files.collect())
    }
}
