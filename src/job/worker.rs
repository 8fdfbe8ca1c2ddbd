//! What one worker thread does with one clip.

use super::{DatasetScan, JobConfig, JobContext};
use crate::dataset::acceptance::{Outcome, Reading};
use crate::dataset::plan::PlannedClip;
use crate::frame::{RgbFrame, SourceError};
use crate::inference::{BackendHandle, SelectionError, WorkerDetector};
use crate::job::error::JobError;
use crate::sequence::{ExtractError, FrameRecord, extract};
use crate::video::clip::VideoClip;
use crate::video::dataset_source::ClipFile;
use std::sync::Arc;

/// Makes the workers of a job, and holds what they share.
pub(super) struct WorkerFactory<'a> {
    pub(super) config: &'a JobConfig,
    pub(super) scan: &'a DatasetScan,
    pub(super) backend: &'a BackendHandle,
    pub(super) context: &'a JobContext<'a>,
}

impl<'a> WorkerFactory<'a> {
    /// Opens the models of worker `n`. Returns what it does with the clip at a position of the plan.
    pub(super) fn worker(
        &'a self,
        n: usize,
    ) -> Result<impl FnMut(usize) -> Result<Option<Outcome>, JobError> + 'a, JobError> {
        let tools = WorkerDetector::new(self.backend, self.config.detector);
        let mut tools = tools.map_err(JobError::Backend)?;
        Ok(move |position: usize| {
            let clip = &self.scan.plan.jobs[position];
            tracing::debug!(position, video_id = %clip.video_id, worker = n, "clip begun");
            self.context.frames.clip_started(n, clip);
            let outcome = self.read_or_fall_back(n, clip, &mut tools);
            self.context.frames.clip_finished(n);
            outcome
        })
    }

    /// Reads a clip; again on the CPU, from its start, when the accelerator is lost: a clip is the work of one backend.
    fn read_or_fall_back(
        &self,
        n: usize,
        clip: &PlannedClip,
        tools: &mut WorkerDetector<'_>,
    ) -> Result<Option<Outcome>, JobError> {
        match (self.read(n, clip, tools), tools.lost()) {
            (Err(JobError::Model(_)), _) if tools.is_abandoned() => Ok(None),
            (Err(JobError::Model(_)), Some(reason)) if self.backend.is_required() => {
                Err(JobError::Lost(SelectionError::lost(&reason)))
            }
            (Err(JobError::Model(_)), Some(_)) => {
                tools.fall_back().map_err(JobError::Backend)?;
                self.read(n, clip, tools)
            }
            (outcome, _) => outcome,
        }
    }

    /// `None` when the clip was given up because the clip ends.
    fn read(
        &self,
        n: usize,
        planned: &PlannedClip,
        tools: &mut WorkerDetector<'_>,
    ) -> Result<Option<Outcome>, JobError> {
        let (mut clip, _file) = match self.open(planned) {
            Ok(opened) => opened,
            Err(reason) => return self.unreadable(reason.0),
        };
        let mut on_frame = |frame: &RgbFrame, found: &FrameRecord| {
            self.context
                .frames
                .frame_processed(n, planned, frame, found);
            !self.context.control.is_abandoned()
        };
        let sequence = extract(
            &mut clip,
            &mut tools.detector,
            self.config.shape,
            planned.frame_start,
            planned.frame_end,
            &mut on_frame,
        );
        match sequence {
            Ok(sequence) => Ok(Some(Outcome::Read(Box::new(Reading {
                sequence,
                backend: Arc::clone(&tools.backend),
                decoder: clip.decoder(),
                is_approximate: clip.is_approximate(),
                stopped_early: clip.stopped_early().map(str::to_owned),
            })))),
            Err(ExtractError::GivenUp) => Ok(None),
            Err(ExtractError::Source(e)) => self.unreadable(e.to_string()),
            Err(ExtractError::Model(e)) => Err(JobError::Model(e)),
        }
    }

    /// The clip is unreadable, unless the whole dataset cannot be reached.
    fn unreadable(&self, reason: String) -> Result<Option<Outcome>, JobError> {
        if self.scan.dataset.is_there() {
            Ok(Some(Outcome::Unreadable(reason)))
        } else {
            Err(JobError::Gone(self.scan.dataset.videos_path()))
        }
    }

    /// Opens a clip. Its file must live as long as the clip is read.
    fn open(&self, planned: &PlannedClip) -> Result<(VideoClip, ClipFile), SourceError> {
        let file = self.scan.dataset.clip(&planned.video_id)?;
        let clip = VideoClip::open(file.path(), &self.config.video)?;
        Ok((clip, file))
    }
}
