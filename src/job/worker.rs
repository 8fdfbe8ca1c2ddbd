//! What one worker thread does with one clip.

use super::{DatasetScan, JobConfig, JobError};
use crate::dataset::acceptance::{Outcome, Reading};
use crate::dataset::plan::PlannedClip;
use crate::frame::RgbFrame;
use crate::inference::{BackendHandle, LoadedModels, SelectionError, WorkerDetector};
use crate::job::worker_pool::WorkerControl;
use crate::sequence::{ExtractError, FrameRecord, extract};
use crate::video::clip::VideoClip;
use crate::video::dataset_source::ClipFile;
use std::sync::Arc;

/// Looks over the workers' shoulders, from their threads.
pub trait FrameObserver: Sync {
    /// Worker `worker` takes up a clip.
    fn began(&self, worker: usize, job: &PlannedClip);
    /// It looked at a picture and found this.
    fn saw(&self, worker: usize, job: &PlannedClip, frame: &RgbFrame, found: &FrameRecord);
    /// It is done with its clip, whatever came of it.
    fn ended(&self, worker: usize);
}

/// What all workers share.
pub(super) struct WorkerFactory<'a> {
    pub(super) spec: &'a JobConfig,
    pub(super) scan: &'a DatasetScan,
    pub(super) backend: &'a BackendHandle,
    /// Its own.
    pub(super) graphs: &'a LoadedModels<'a>,
    pub(super) control: &'a WorkerControl,
    pub(super) witness: &'a dyn FrameObserver,
}

impl<'a> WorkerFactory<'a> {
    /// Worker `n`: its models, and what it does with the clip at a position of the plan.
    pub(super) fn worker(
        &'a self,
        n: usize,
    ) -> Result<impl FnMut(usize) -> Result<Option<Outcome>, JobError> + 'a, JobError> {
        let tools = WorkerDetector::new(self.backend, self.graphs, self.spec.detector);
        let mut tools = tools.map_err(JobError::Backend)?;
        Ok(move |position: usize| {
            let job = &self.scan.plan.jobs[position];
            tracing::debug!(position, video_id = %job.video_id, worker = n, "clip begun");
            self.witness.began(n, job);
            let outcome = self.read(n, job, &mut tools);
            let outcome = match (outcome, tools.lost()) {
                (Err(JobError::Model(_)), _) if tools.is_abandoned() => Ok(None),
                (Err(JobError::Model(_)), Some(reason)) if self.backend.is_required() => {
                    Err(JobError::Lost(SelectionError::lost(&reason)))
                }
                // From its start: a clip is one backend's work.
                (Err(JobError::Model(_)), Some(_)) => match tools.fall_back() {
                    Ok(()) => self.read(n, job, &mut tools),
                    Err(error) => Err(JobError::Backend(error)),
                },
                (outcome, _) => outcome,
            };
            self.witness.ended(n);
            outcome
        })
    }

    /// `None` when the clip was given up because the job ends.
    fn read(
        &self,
        n: usize,
        job: &PlannedClip,
        tools: &mut WorkerDetector<'_>,
    ) -> Result<Option<Outcome>, JobError> {
        let (mut clip, _file) = match self.open(job) {
            Ok(opened) => opened,
            Err(reason) => return self.unreadable(reason),
        };
        let mut look = |frame: &RgbFrame, found: &FrameRecord| {
            self.witness.saw(n, job, frame, found);
            !self.control.is_abandoned()
        };
        let sequence = extract(
            &mut clip,
            &mut tools.detector,
            self.spec.shape,
            job.frame_start,
            job.frame_end,
            &mut look,
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

    /// A clip is unreadable, unless it is the whole dataset that went away.
    fn unreadable(&self, reason: String) -> Result<Option<Outcome>, JobError> {
        if self.scan.dataset.is_there() {
            Ok(Some(Outcome::Unreadable(reason)))
        } else {
            Err(JobError::Gone(self.scan.dataset.videos_path()))
        }
    }

    /// Opens a clip; the file must live as long as the clip is read.
    fn open(&self, job: &PlannedClip) -> Result<(VideoClip, ClipFile), String> {
        let file = self
            .scan
            .dataset
            .clip(&job.video_id)
            .map_err(|e| e.to_string())?;
        let clip = VideoClip::open(file.path(), &self.spec.video).map_err(|e| e.to_string())?;
        Ok((clip, file))
    }
}
