//! What one worker thread does with one clip.

use super::{DatasetScan, JobConfig, JobContext};
use crate::dataset::acceptance::{Outcome, Reading};
use crate::dataset::plan::PlannedClip;
use crate::error::{CliError, Exit};
use crate::frame::{RgbFrame, SourceError};
use crate::inference::{BackendHandle, SelectionError, WorkerDetector};
use crate::sequence::{ExtractError, FrameRecord, extract};
use crate::video::clip::{VideoClip, stuck_decoders};
use crate::video::dataset_source::ClipFile;
use anyhow::anyhow;
use std::sync::Arc;

/// Decoders that hang, at most, before the job ends: each of them keeps a thread and its memory.
const STUCK_DECODERS_MAX: usize = 8;

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
    ) -> Result<impl FnMut(usize) -> Result<Option<Outcome>, CliError> + 'a, CliError> {
        let mut tools = WorkerDetector::new(self.backend, self.config.detector)?;
        Ok(move |position: usize| {
            let clip = &self.scan.plan.jobs[position];
            tracing::debug!(position, video_id = %clip.video_id, worker = n, "clip begun");
            self.context.frames.clip_started(n, clip);
            let outcome = self.read(n, clip, &mut tools);
            self.context.frames.clip_finished(n);
            outcome
        })
    }

    /// Reads a clip; again on the CPU, from its start, when the accelerator is lost: a clip is the work of one backend.
    /// `None` when the clip was abandoned because the process ends.
    fn read(
        &self,
        n: usize,
        planned: &PlannedClip,
        tools: &mut WorkerDetector<'_>,
    ) -> Result<Option<Outcome>, CliError> {
        let stuck = stuck_decoders();
        if stuck >= STUCK_DECODERS_MAX {
            let hang = anyhow!(
                "{stuck} decoders hang and do not stop; the manifest names their clips. Run the command again: the job \
                 resumes, with free memory"
            );
            return Err(CliError::new(Exit::Bug, hang));
        }
        let (mut clip, file) = match self.open(planned) {
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
            Err(ExtractError::Model(_)) if tools.is_abandoned() => Ok(None),
            Err(ExtractError::Model(error)) => match tools.lost() {
                None => Err(error.into()),
                Some(reason) if self.backend.is_required() => {
                    Err(SelectionError::lost(&reason).into())
                }
                Some(_) => {
                    drop((clip, file));
                    tools.fall_back()?;
                    self.read(n, planned, tools)
                }
            },
        }
    }

    /// The clip is unreadable, unless the whole dataset cannot be reached.
    fn unreadable(&self, reason: String) -> Result<Option<Outcome>, CliError> {
        if self.scan.dataset.is_there() {
            Ok(Some(Outcome::Unreadable(reason)))
        } else {
            let gone = anyhow!(
                "the clips of the dataset in {} can no longer be reached. Check that the medium is mounted and run the \
                 command again: the job resumes",
                self.scan.dataset.videos_path().display()
            );
            Err(CliError::new(Exit::NoInput, gone))
        }
    }

    /// Opens a clip. Its file must live as long as the clip is read.
    fn open(&self, planned: &PlannedClip) -> Result<(VideoClip, ClipFile), SourceError> {
        let file = self.scan.dataset.clip(&planned.video_id)?;
        let clip = VideoClip::open(file.path(), &self.config.video)?;
        Ok((clip, file))
    }
}
