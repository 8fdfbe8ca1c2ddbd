//! Judges the results of the workers in plan order, records each, seals the batches.

use super::observer::{ClipEvent, JobObserver, retry_while_full};
use super::results::{JobResults, RecordedResults, classes};
use super::{JobReport, manifest, skip_reason};
use crate::dataset::acceptance::{
    ClipAcceptance, ClipDecision, Outcome, Reading, State, StateCounts,
};
use crate::error::CliError;
use crate::inference::BackendHandle;
use crate::job::worker_pool::{ResultSink, RunOutcome};
use crate::messages::payloads::{ClipName, Fault};
use crate::messages::topics;
use crate::storage::StoreError;
use crate::storage::batches::{BatchRow, SealedBatch};
use crate::storage::ledger::{ClipRecord, Message, PartRecord};
use crate::system::clock::timestamp;
use std::collections::BTreeMap;
use std::time::Instant;

/// Reason for a clip that is read for its frames only.
const FRAMES_ONLY: &str = "read for its frames alone, which the other profile uses";

/// The result of one clip.
pub(super) struct ClipResult {
    /// Its outcome.
    pub(super) outcome: Outcome,
    /// The file with its kept frames, if they are kept.
    pub(super) part: Option<PartRecord>,
}

impl From<Outcome> for ClipResult {
    fn from(outcome: Outcome) -> Self {
        let part = None;
        Self { outcome, part }
    }
}

/// Judges results in plan order and records them.
pub(super) struct ResultCollector<'a, 'j> {
    results: &'a mut JobResults<'j>,
    /// The backend that runs the models; `None` when no model runs.
    backend: Option<&'a BackendHandle>,
    observer: &'a mut dyn JobObserver,
    run: String,
    /// Decides the state of each clip, and counts the accepted ones per gloss.
    clip_acceptance: ClipAcceptance,
    /// Instances per state so far.
    counts: StateCounts,
    /// Clips that a previous process recorded and that were not delivered yet, by position.
    known: BTreeMap<usize, ClipRecord>,
    sealed: BTreeMap<usize, SealedBatch>,
    next_record: usize,
    /// Whether results were lost, so that another pass must read their clips again.
    pub(super) has_lost: bool,
}

impl<'a, 'j> ResultCollector<'a, 'j> {
    /// Continues the run named `run`, whose results so far are `recorded`.
    pub(super) fn new(
        results: &'a mut JobResults<'j>,
        backend: Option<&'a BackendHandle>,
        observer: &'a mut dyn JobObserver,
        run: String,
        recorded: RecordedResults,
    ) -> Self {
        let limit = results.plan.plan_options.max_samples_per_gloss;
        Self {
            clip_acceptance: ClipAcceptance::new(results.min_frames, limit),
            results,
            backend,
            observer,
            run,
            counts: StateCounts::new(),
            known: recorded.clips,
            sealed: recorded.batches,
            next_record: 0,
            has_lost: false,
        }
    }

    /// Makes the report of the run that began at `began`.
    pub(super) fn report(
        mut self,
        outcome: RunOutcome,
        was_complete: bool,
        began: Instant,
    ) -> Result<JobReport, StoreError> {
        self.count_skipped(self.results.plan.records.len());
        let recorded = self.results.recorder.ledger().clips()?;
        Ok(JobReport {
            outcome,
            was_complete,
            counts: self.counts,
            absent: self.results.plan.absent.len(),
            clip_acceptance: self.clip_acceptance,
            totals: manifest::totals(recorded.values()),
            elapsed: began.elapsed(),
        })
    }

    /// Counts the skipped records of this share before `end`.
    fn count_skipped(&mut self, end: usize) {
        for number in self.next_record..end {
            let skipped = skip_reason(&self.results.plan.records[number]);
            if let Some((state, _)) = skipped
                && self.results.share.has_record(number)
            {
                *self.counts.entry(state).or_default() += 1;
            }
        }
        self.next_record = end;
    }

    /// Writes the batch of `position` and marks it sealed.
    fn seal(&mut self, position: usize) -> Result<(), CliError> {
        let plan = self.results.plan;
        let recorder = &mut self.results.recorder;
        let batch = recorder.batch_of(position);
        if self.sealed.contains_key(&batch) {
            return Ok(());
        }
        let seal = || recorder.seal(batch, plan.jobs.len(), classes(plan), &timestamp());
        match retry_while_full(self.observer, seal) {
            Err(StoreError::Lost { path, positions }) => {
                self.has_lost = true;
                self.results
                    .forget_clips(&positions, &path, self.observer)?;
                return Ok(());
            }
            // The file differs from what was written; its rows are still staged.
            Err(error @ StoreError::Broken { .. }) => {
                self.has_lost = true;
                self.observer.warn(&format!("{error}; it is written again"));
                return Ok(());
            }
            sealed => sealed?,
        }
        self.observer.file_written();
        Ok(())
    }

    /// Records a clip that was just read.
    fn record(
        &mut self,
        position: usize,
        state: State,
        reason: Option<&str>,
        reading: Option<Reading>,
        part: Option<PartRecord>,
    ) -> Result<(), CliError> {
        let plan = self.results.plan;
        let job = &plan.jobs[position];
        let record = &plan.records[job.record];
        let clip = ClipRecord {
            key: (self.results.clip_key)(position),
            state: state.name().to_owned(),
            reason: reason.map(str::to_owned),
            clip: reading.as_ref().map(manifest::clip_json),
            part,
        };
        let reading = reading.filter(|_| state == State::Accepted);
        let row = reading.map(|reading| {
            let (gloss, id) = (job.gloss.clone(), job.video_id.clone());
            let (split, signer) = (record.split.clone(), record.signer_id);
            BatchRow::new(gloss, id, split, signer, reading.sequence)
        });
        let fault = (state == State::Unreadable).then(|| {
            let fault = Fault {
                run: Some(self.run.clone()),
                component: "clip".to_owned(),
                clip: Some(ClipName {
                    gloss: job.gloss.to_string(),
                    video_id: job.video_id.to_string(),
                }),
                reason: reason.unwrap_or_default().to_owned(),
                action: "recorded as unreadable, the job goes on; retry-failed reads it again"
                    .to_owned(),
            };
            Message::new(topics::FAULT, &fault)
        });
        let (recorder, messages) = (&self.results.recorder, fault.as_slice());
        let write = || recorder.record(position, &clip, row.as_ref(), messages, &timestamp());
        retry_while_full(self.observer, write)?;
        tracing::debug!(position, video_id = %job.video_id, state = state.name(), reason, "clip recorded");
        Ok(())
    }
}

impl ResultSink<ClipResult, CliError> for ResultCollector<'_, '_> {
    /// `n` is the number of the clip within this share.
    fn cached_result(&mut self, n: usize) -> Option<ClipResult> {
        let position = self.results.share.positions[n];
        if let Some(clip) = self.known.get(&position) {
            let state = State::from_name(&clip.state)?;
            return Some(Outcome::Known(state, clip.reason.clone()).into());
        }
        let job = &self.results.plan.jobs[position];
        (!job.is_frames_only && self.clip_acceptance.is_full(&job.gloss))
            .then(|| Outcome::NotOpened.into())
    }

    fn deliver(&mut self, n: usize, result: ClipResult) -> Result<(), CliError> {
        let position = self.results.share.positions[n];
        for event in self.backend.into_iter().flat_map(BackendHandle::events) {
            self.observer.backend_event(&event);
        }
        let plan = self.results.plan;
        let ClipResult { outcome, mut part } = result;
        let job = &plan.jobs[position];
        let ClipDecision {
            state,
            reason,
            reading,
        } = if job.is_frames_only {
            // Its record is counted with those that are not processed.
            ClipDecision {
                state: State::NotSelected,
                reason: Some(FRAMES_ONLY.to_owned()),
                reading: None,
            }
        } else {
            self.count_skipped(job.record);
            self.next_record = job.record + 1;
            let verdict = self.clip_acceptance.decide(&job.gloss, outcome);
            *self.counts.entry(verdict.state).or_default() += 1;
            verdict
        };
        let reason = reason.as_deref();
        let batch = self.results.recorder.batch_of(position);
        match self.known.remove(&position) {
            // A clip ahead of it was read again, which changed its state.
            Some(before) if before.state != state.name() => {
                let recorder = &self.results.recorder;
                let write = || recorder.ledger().set_state(position, state.name(), reason);
                retry_while_full(self.observer, write)?;
                // The file of its batch is outdated.
                self.has_lost |= self.sealed.contains_key(&batch);
            }
            Some(_) => {}
            None => {
                // Whether such a clip was read depends on the workers.
                if let Some(part) = part.take_if(|_| state == State::OverLimit) {
                    self.results.recorder.remove_parts(&[part]);
                }
                self.record(position, state, reason, reading.map(|r| *r), part)?;
                self.observer.clip_recorded(&ClipEvent {
                    position,
                    gloss: &job.gloss,
                    video_id: &job.video_id,
                    state,
                    reason,
                    counts: &self.counts,
                });
            }
        }
        let end = position + 1;
        if end == self.results.recorder.positions(batch, plan.jobs.len()).end {
            self.seal(position)?;
        }
        Ok(())
    }
}
