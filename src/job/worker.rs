//! What one worker thread does with one clip.

use super::begun::{BegunClip, BegunClips, ENDED_TWICE};
use super::collector::ClipResult;
use super::keep::{self, KeepError};
use super::{DatasetScan, JobConfig, JobContext};
use crate::dataset::acceptance::{Outcome, Reading};
use crate::dataset::plan::PlannedClip;
use crate::error::{CliError, Exit};
use crate::frame::{RgbFrame, SourceError};
use crate::inference::{BackendHandle, SelectionError, WorkerDetector};
use crate::sequence::{
    ExtractError, FrameRecord, FrameTimes, Sequence, assemble, extract, plan_frames, read_frames,
};
use crate::storage::part_file::write_part;
use crate::video::clip::ClipFacts;
use crate::video::clip_decoder::ClipDecoder;
use crate::video::clip_file::open_file;
use crate::video::gst_pipeline::stuck_decoders;
use crate::video::turns::DecodeTurns;
use anyhow::anyhow;
use std::path::Path;
use std::sync::Arc;

/// Number of hung decoders at which the job ends: each keeps a thread and its memory in this process.
const STUCK_DECODERS_MAX: usize = 8;

/// What one worker owns: its detector and its decoder.
struct WorkerTools<'a> {
    detector: WorkerDetector<'a>,
    decoder: ClipDecoder<'a>,
}

/// Makes the workers of a job, and holds what they share.
pub(super) struct WorkerFactory<'a> {
    pub(super) config: &'a JobConfig,
    pub(super) scan: &'a DatasetScan,
    pub(super) backend: &'a BackendHandle,
    pub(super) context: &'a JobContext<'a>,
    /// Records each clip before it is decoded, where that can end the process.
    pub(super) begun: Option<BegunClips>,
    /// Which worker may decode.
    pub(super) turns: DecodeTurns,
}

impl<'a> WorkerFactory<'a> {
    /// Opens the models of worker `n`. Returns what it does with a clip, counted within the share.
    pub(super) fn worker(
        &'a self,
        n: usize,
    ) -> Result<impl FnMut(usize) -> Result<Option<ClipResult>, CliError> + 'a, CliError> {
        let decoder = ClipDecoder::new(&self.config.video, self.config.decode_place, &self.turns);
        let mut tools = WorkerTools {
            decoder: decoder.map_err(|error| machine_fault(&error))?,
            detector: WorkerDetector::new(self.backend, self.config.detector)?,
        };
        Ok(move |number: usize| {
            let position = self.scan.share.positions[number];
            let clip = &self.scan.plan.jobs[position];
            tracing::debug!(position, video_id = %clip.video_id, worker = n, "clip begun");
            self.context.frames.clip_started(n, clip);
            let result = self.read_recorded(n, clip, &mut tools);
            self.context.frames.clip_finished(n);
            match result? {
                // With kept frames, a part records that the clip has none.
                Some(ClipResult {
                    outcome: Outcome::Unreadable(reason),
                    part: None,
                }) if self.config.keep_frames => {
                    Ok(Some(keep::unreadable(&self.config.out, clip, &reason)?))
                }
                result => Ok(result),
            }
        })
    }

    /// Reads a clip and closes it, unless it has ended the process too often.
    fn read_recorded(
        &self,
        n: usize,
        planned: &PlannedClip,
        tools: &mut WorkerTools<'_>,
    ) -> Result<Option<ClipResult>, CliError> {
        let begun = match &self.begun {
            None => None,
            Some(clips) => match clips.begin(&planned.video_id)? {
                None => return Ok(Some(Outcome::Unreadable(ENDED_TWICE.to_owned()).into())),
                begun => begun,
            },
        };
        let result = self.read(n, planned, tools);
        tools.decoder.close();
        begun.map_or(Ok(()), BegunClip::end)?;
        result
    }

    /// Reads a clip. When the accelerator is lost, reads it from its start on the CPU: one backend makes each clip.
    /// `None` when the clip was abandoned because the process ends.
    fn read(
        &self,
        n: usize,
        planned: &PlannedClip,
        tools: &mut WorkerTools<'_>,
    ) -> Result<Option<ClipResult>, CliError> {
        let stuck = stuck_decoders();
        if stuck >= STUCK_DECODERS_MAX {
            let hang = anyhow!(
                "{stuck} decoders hang and do not stop; the manifest names their clips. Run the command again: the job \
                 resumes, with free memory"
            );
            return Err(CliError::new(Exit::Bug, hang));
        }
        if self.config.keep_frames {
            return match self.keep(n, planned, tools) {
                Ok(result) => Ok(Some(result)),
                Err(KeepError::Store(error)) => Err(error.into()),
                Err(KeepError::Extract(error)) => self.recover(n, planned, tools, error),
            };
        }
        let file = match self.scan.dataset.clip(&planned.video_id) {
            Ok(file) => file,
            Err(error) => return self.unreadable(error),
        };
        let sequence = self.sequence(n, planned, file.path(), tools);
        let WorkerTools { detector, decoder } = tools;
        let sequence = match sequence {
            Ok(sequence) => sequence,
            Err(error) => return self.recover(n, planned, tools, error),
        };
        let facts = match decoder.facts() {
            Ok(facts) => facts,
            Err(error) => return self.unreadable(error),
        };
        let reading = Box::new(Reading {
            sequence,
            backend: Arc::clone(&detector.backend),
            decoder: facts.decoder,
            notes: facts.notes,
            stopped_early: facts.stopped_early,
        });
        Ok(Some(Outcome::Read(reading).into()))
    }

    /// Reads all frames of a clip, keeps them and makes its result from them.
    fn keep(
        &self,
        n: usize,
        planned: &PlannedClip,
        tools: &mut WorkerTools<'_>,
    ) -> Result<ClipResult, KeepError> {
        let WorkerTools { detector, decoder } = tools;
        let out = &self.config.out;
        let mut on_frame = |frame: &RgbFrame, found: &FrameRecord| {
            self.context
                .frames
                .frame_processed(n, planned, frame, found);
            !self.context.control.is_abandoned()
        };
        let (part, clip) = write_part(out, |part| {
            let file = self.scan.dataset.clip(&planned.video_id);
            let file = file.and_then(|file| open_file(file.path()));
            let source = file.and_then(|file| decoder.open(file));
            let source = source.map_err(ExtractError::Source)?;
            let mut clip = keep::unopened(planned, &detector.backend);
            (clip.format, clip.declared_frames) = (source.format(), source.declared_frames());
            clip.error = keep::keep_frames(source, &mut detector.detector, part, &mut on_frame)?;
            if let Some(reason) = &clip.error
                && !self.scan.dataset.is_there()
            {
                let gone = SourceError::Clip(reason.clone());
                return Err(ExtractError::Source(gone).into());
            }
            let facts = match decoder.facts() {
                // The decoder ended while it read the clip, so that its facts are lost.
                Err(SourceError::Clip(_)) if clip.error.is_some() => ClipFacts::default(),
                facts => facts.map_err(ExtractError::Source)?,
            };
            (clip.decoder, clip.notes) = (facts.decoder, facts.notes);
            clip.stopped_early = facts.stopped_early;
            Ok::<_, KeepError>(clip)
        })?;
        Ok(keep::result_of_part(out, part, &clip, &self.config.shape)?)
    }

    /// Handles a clip that gave no sequence. It is read again on the CPU when the accelerator was lost.
    fn recover(
        &self,
        n: usize,
        planned: &PlannedClip,
        tools: &mut WorkerTools<'_>,
        error: ExtractError,
    ) -> Result<Option<ClipResult>, CliError> {
        let WorkerTools { detector, decoder } = tools;
        match error {
            ExtractError::GivenUp => Ok(None),
            ExtractError::Source(error) => self.unreadable(error),
            ExtractError::Model(_) if detector.is_abandoned() => Ok(None),
            ExtractError::Model(error) => match detector.lost() {
                None => Err(error.into()),
                Some(reason) if self.backend.is_required() => {
                    Err(SelectionError::lost(&reason).into())
                }
                Some(_) => {
                    decoder.close();
                    detector.fall_back()?;
                    self.read(n, planned, tools)
                }
            },
        }
    }

    /// Makes the sequence of the clip at `path`. Where the choice of frames needs the times of all frames, a first pass reads
    /// these alone.
    fn sequence(
        &self,
        n: usize,
        planned: &PlannedClip,
        path: &Path,
        tools: &mut WorkerTools<'_>,
    ) -> Result<Sequence, ExtractError> {
        let detector = &mut tools.detector.detector;
        let spec = &self.config.shape;
        let (start, end) = (planned.frame_start, planned.frame_end);
        let (observer, control) = (self.context.frames, self.context.control);
        let mut on_frame = |frame: &RgbFrame, found: &FrameRecord| {
            observer.frame_processed(n, planned, frame, found);
            !control.is_abandoned()
        };
        let clip = tools.decoder.open(open_file(path)?)?;
        if !spec.needs_times() {
            return extract(clip, detector, spec, start, end, &mut on_frame);
        }
        let declared = clip.declared_frames();
        let times = FrameTimes::new(&clip.read_times()?);
        if control.is_abandoned() {
            return Err(ExtractError::GivenUp);
        }
        let plan = plan_frames(spec, start, end, declared, &times);
        let clip = tools.decoder.open(open_file(path)?)?;
        let format = clip.format();
        let frames = read_frames(clip, detector, spec, &plan.indexes, &mut on_frame)?;
        Ok(assemble(frames, &plan, format, spec))
    }

    /// The clip is unreadable, unless the machine is at fault or the whole dataset cannot be reached.
    fn unreadable(&self, error: SourceError) -> Result<Option<ClipResult>, CliError> {
        let SourceError::Clip(reason) = error else {
            return Err(machine_fault(&error));
        };
        if self.scan.dataset.is_there() {
            Ok(Some(Outcome::Unreadable(reason).into()))
        } else {
            let gone = anyhow!(
                "the clips of the dataset in {} can no longer be reached. Check that the medium is mounted and run the \
                 command again: the job resumes",
                self.scan.dataset.videos_path().display()
            );
            Err(CliError::new(Exit::NoInput, gone))
        }
    }
}

/// The error that stops the job, because each of the following clips would fail for the same reason.
fn machine_fault(error: &SourceError) -> CliError {
    let text = "the job stops, no clip is recorded for it; run the command again: the job resumes";
    CliError::new(Exit::InOut, anyhow!("{error}; {text}"))
}
