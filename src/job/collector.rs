//! Judges the results of the workers in plan order, records each, seals the batches.

use super::observer::{ClipEvent, JobObserver, retry_while_full};
use super::{Job, manifest, skip_reason};
use crate::dataset::acceptance::{Judge, Outcome, Reading, State, StateCounts, Verdict};
use crate::error::CliError;
use crate::job::worker_pool::ResultSink;
use crate::messages::payloads::{ClipName, Fault};
use crate::messages::topics;
use crate::storage::StoreError;
use crate::storage::batches::{BatchRow, SealedBatch};
use crate::storage::ledger::{ClipRecord, Message};
use crate::system::clock::timestamp;
use std::collections::BTreeMap;

/// Judges results in plan order and records them.
pub(super) struct ResultCollector<'a, 'j> {
    job: &'a mut Job<'j>,
    observer: &'a mut dyn JobObserver,
    run: String,
    /// Knows the accepted clips per gloss.
    pub(super) judge: Judge,
    /// Instances per state so far.
    pub(super) counts: StateCounts,
    /// Recorded by a previous process and not passed yet.
    known: BTreeMap<usize, ClipRecord>,
    sealed: BTreeMap<usize, SealedBatch>,
    next_record: usize,
    /// Whether results were lost, so that another pass must read their clips again.
    pub(super) has_lost: bool,
}

impl<'a, 'j> ResultCollector<'a, 'j> {
    /// Continues the run named `run`, of which the clips `known` are recorded and the batches `sealed` are written.
    pub(super) fn new(
        job: &'a mut Job<'j>,
        observer: &'a mut dyn JobObserver,
        run: String,
        known: BTreeMap<usize, ClipRecord>,
        sealed: BTreeMap<usize, SealedBatch>,
    ) -> Self {
        let (min_frames, limit) = (
            job.config.min_frames,
            job.config.plan_options.max_samples_per_gloss,
        );
        Self {
            job,
            observer,
            run,
            judge: Judge::new(min_frames, limit),
            counts: StateCounts::new(),
            known,
            sealed,
            next_record: 0,
            has_lost: false,
        }
    }

    /// Counts the records before `end`, none of which is processed.
    pub(super) fn count_skipped(&mut self, end: usize) {
        for record in &self.job.scan.plan.records[self.next_record..end] {
            if let Some((state, _)) = skip_reason(record) {
                *self.counts.entry(state).or_default() += 1;
            }
        }
        self.next_record = end;
    }

    /// Writes the batch of `position` and marks it sealed.
    fn seal(&mut self, position: usize) -> Result<(), CliError> {
        let scan = self.job.scan;
        let plan = &scan.plan;
        let recorder = &mut self.job.recorder;
        let batch = recorder.batch_of(position);
        if self.sealed.contains_key(&batch) {
            return Ok(());
        }
        let seal = || recorder.seal(batch, plan.jobs.len(), &plan.glosses, &timestamp());
        match retry_while_full(self.observer, seal) {
            Err(StoreError::Lost { positions, .. }) => {
                self.has_lost = true;
                self.job.forget_clips(&positions, self.observer)?;
                return Ok(());
            }
            // The file was not what was written; its rows are still staged.
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
    ) -> Result<(), CliError> {
        let scan = self.job.scan;
        let job = &scan.plan.jobs[position];
        let record = &scan.plan.records[job.record];
        let clip = ClipRecord {
            key: scan.clip_key(position),
            state: state.name().to_owned(),
            reason: reason.map(str::to_owned),
            clip: reading.as_ref().map(manifest::clip_json),
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
        let (recorder, messages) = (&self.job.recorder, fault.as_slice());
        let write = || recorder.record(position, &clip, row.as_ref(), messages, &timestamp());
        retry_while_full(self.observer, write)?;
        tracing::debug!(position, video_id = %job.video_id, state = state.name(), reason, "clip recorded");
        Ok(())
    }
}

impl ResultSink<Outcome, CliError> for ResultCollector<'_, '_> {
    fn cached_result(&mut self, position: usize) -> Option<Outcome> {
        if let Some(clip) = self.known.get(&position) {
            let state = State::from_name(&clip.state)?;
            return Some(Outcome::Known(state, clip.reason.clone()));
        }
        self.judge
            .is_full(&self.job.scan.plan.jobs[position].gloss)
            .then_some(Outcome::Spared)
    }

    fn deliver(&mut self, position: usize, outcome: Outcome) -> Result<(), CliError> {
        let (scan, backend) = (self.job.scan, self.job.backend);
        for event in backend.events() {
            self.observer.backend_event(&event);
        }
        let plan = &scan.plan;
        let job = &plan.jobs[position];
        self.count_skipped(job.record);
        self.next_record += 1;
        let Verdict {
            state,
            reason,
            reading,
        } = self.judge.judge(&job.gloss, outcome);
        let reason = reason.as_deref();
        *self.counts.entry(state).or_default() += 1;
        match self.known.remove(&position) {
            // A clip ahead of it was read again and took its place.
            Some(before) if before.state != state.name() => {
                let recorder = &self.job.recorder;
                let write = || recorder.ledger().set_state(position, state.name(), reason);
                retry_while_full(self.observer, write)?;
            }
            Some(_) => {}
            None => {
                self.record(position, state, reason, reading.map(|r| *r))?;
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
        if end.is_multiple_of(self.job.config.batch_size) || end == plan.jobs.len() {
            self.seal(position)?;
        }
        Ok(())
    }
}
