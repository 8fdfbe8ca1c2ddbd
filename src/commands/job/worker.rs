//! What one worker thread does with one clip.

use super::{Scan, Spec, Stop};
use crate::frame::RgbFrame;
use crate::hand::Detector;
use crate::inference::{CpuGraph, CpuModel};
use crate::pipeline::Control;
use crate::sequence::{ExtractError, FrameRecord, extract};
use crate::source::dataset::ClipFile;
use crate::source::video::VideoClip;
use crate::wlasl::judge::{Outcome, Reading};
use crate::wlasl::plan::Job;

/// Looks over the workers' shoulders, from their threads.
pub trait Witness: Sync {
    /// Worker `worker` takes up a clip.
    fn began(&self, worker: usize, job: &Job);
    /// It looked at a picture and found this.
    fn saw(&self, worker: usize, job: &Job, frame: &RgbFrame, found: &FrameRecord);
    /// It is done with its clip, whatever came of it.
    fn ended(&self, worker: usize);
}

/// What all workers share.
pub(super) struct Crew<'a> {
    pub(super) spec: &'a Spec,
    pub(super) scan: &'a Scan,
    pub(super) palm: &'a CpuGraph<'a>,
    pub(super) hand: &'a CpuGraph<'a>,
    pub(super) control: &'a Control,
    pub(super) witness: &'a dyn Witness,
}

impl<'a> Crew<'a> {
    /// Worker `n`: its interpreters, and what it does with the clip at a position of the plan.
    pub(super) fn worker(
        &'a self,
        n: usize,
    ) -> Result<impl FnMut(usize) -> Result<Option<Outcome>, Stop> + 'a, Stop> {
        let model = |graph| CpuModel::new(graph).map_err(Stop::Bundle);
        let mut detector = Detector::new(model(self.palm)?, model(self.hand)?, self.spec.detector);
        Ok(move |position: usize| {
            let job = &self.scan.plan.jobs[position];
            tracing::debug!(position, video_id = %job.video_id, worker = n, "clip begun");
            self.witness.began(n, job);
            let outcome = self.read(n, job, &mut detector);
            self.witness.ended(n);
            outcome
        })
    }

    /// `None` when the clip was given up because the job ends.
    fn read(
        &self,
        n: usize,
        job: &Job,
        detector: &mut Detector<CpuModel<'_>>,
    ) -> Result<Option<Outcome>, Stop> {
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
            detector,
            self.spec.shape,
            job.frame_start,
            job.frame_end,
            &mut look,
        );
        match sequence {
            Ok(sequence) => Ok(Some(Outcome::Read(Box::new(Reading {
                sequence,
                decoder: clip.decoder(),
                is_approximate: clip.is_approximate(),
                stopped_early: clip.stopped_early().map(str::to_owned),
            })))),
            Err(ExtractError::GivenUp) => Ok(None),
            Err(ExtractError::Source(e)) => self.unreadable(e.to_string()),
            Err(ExtractError::Model(e)) => Err(Stop::Model(e)),
        }
    }

    /// A clip is unreadable, unless it is the whole dataset that went away.
    fn unreadable(&self, reason: String) -> Result<Option<Outcome>, Stop> {
        if self.scan.dataset.is_there() {
            Ok(Some(Outcome::Unreadable(reason)))
        } else {
            Err(Stop::Gone(self.scan.dataset.videos_path()))
        }
    }

    /// Opens a clip; the file must live as long as the clip is read.
    fn open(&self, job: &Job) -> Result<(VideoClip, ClipFile), String> {
        let file = self
            .scan
            .dataset
            .clip(&job.video_id)
            .map_err(|e| e.to_string())?;
        let clip = VideoClip::open(file.path(), &self.spec.video).map_err(|e| e.to_string())?;
        Ok((clip, file))
    }
}
