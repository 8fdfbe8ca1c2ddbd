//! Judges results in plan order, records each in the ledger, seals batches.

use super::{DatasetScan, JobConfig, JobError, JobObserver, provenance, skip_reason};
use crate::dataset::acceptance::StateCounts;
use crate::dataset::acceptance::{Judge, Outcome, Reading, State, Verdict};
use crate::dataset::plan::{Plan, PlanRecord};
use crate::inference::BackendHandle;
use crate::job::worker_pool::ResultSink;
use crate::messages::payloads;
use crate::messages::payloads::ClipName;
use crate::messages::topics;
use crate::storage::batches;
use crate::storage::batches::BatchRow;
use crate::storage::ledger::{ClipRecord, Message, SealedBatch};
use crate::storage::output_dir::{ManifestClip, ManifestLine, ManifestPlace};
use crate::storage::{Ledger, StoreError};
use crate::system::lock_ignoring_poison;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;

/// What a job gave.
pub(super) struct Collected {
    /// Knows the accepted clips per gloss.
    pub(super) judge: Judge,
    /// Instances per state.
    pub(super) tally: StateCounts,
    /// Batch files.
    pub(super) batches: usize,
}

/// A clip that was just recorded.
pub struct ClipEvent<'a> {
    /// Place in the plan.
    pub position: usize,
    /// The label, as spelt.
    pub gloss: &'a str,
    /// Names the clip.
    pub video_id: &'a str,
    /// What became of it.
    pub state: State,
    /// Why not accepted.
    pub reason: Option<&'a str>,
    /// Instances per state so far.
    pub tally: &'a StateCounts,
}

/// Judges results in plan order and records them.
pub(super) struct ResultCollector<'a> {
    spec: &'a JobConfig,
    scan: &'a DatasetScan,
    ledger: &'a Mutex<Ledger>,
    host: &'a mut dyn JobObserver,
    run: String,
    judge: Judge,
    tally: StateCounts,
    /// Done by an earlier process, and not yet passed.
    known: BTreeMap<usize, ClipRecord>,
    sealed: BTreeMap<usize, SealedBatch>,
    next_record: usize,
    is_complete: bool,
    backend: &'a BackendHandle,
}

/// The positions of batch `batch`.
pub(super) fn positions(spec: &JobConfig, jobs: usize, batch: usize) -> Range<usize> {
    let start = (batch * spec.batch_size).min(jobs);
    start..(start + spec.batch_size).min(jobs)
}

/// Holds the sealed batches against their files; a batch whose file is lost or damaged is read again.
pub(super) fn verify(
    spec: &JobConfig,
    scan: &DatasetScan,
    ledger: &Mutex<Ledger>,
    host: &mut dyn JobObserver,
) -> Result<(), StoreError> {
    let sealed = lock_ignoring_poison(ledger).sealed()?;
    for (batch, file) in sealed {
        if batches::is_intact(&spec.out, batch, &file.sha256) {
            continue;
        }
        let path = batches::batch_path(&spec.out, batch);
        let reason = format!("{} is missing or was changed", path.display());
        let action = "its clips are read again".to_owned();
        host.warn(&format!("{reason}; {action}"));
        let fault = payloads::Fault {
            run: None,
            component: "job".to_owned(),
            clip: None,
            reason,
            action,
        };
        let messages = [Message::new(topics::FAULT, &fault)];
        let range = positions(spec, scan.plan.jobs.len(), batch);
        super::persist(host, |host| {
            let mut ledger = lock_ignoring_poison(ledger);
            ledger.set_metadata("final", None)?;
            ledger.lose(batch, range.clone(), &messages, &host.stamp())
        })?;
    }
    Ok(())
}

impl<'a> ResultCollector<'a> {
    /// Knows what earlier processes recorded.
    pub(super) fn new(
        spec: &'a JobConfig,
        scan: &'a DatasetScan,
        backend: &'a BackendHandle,
        ledger: &'a Mutex<Ledger>,
        host: &'a mut dyn JobObserver,
    ) -> Result<Self, StoreError> {
        let (run, known, sealed) = {
            let ledger = lock_ignoring_poison(ledger);
            let run = ledger.job()?.map(|j| j.run).unwrap_or_default();
            (run, ledger.clips()?, ledger.sealed()?)
        };
        let jobs = scan.plan.jobs.len();
        let is_complete = known.len() == jobs && sealed.len() == jobs.div_ceil(spec.batch_size);
        host.begin(&run, jobs, known.len());
        Ok(Self {
            spec,
            scan,
            ledger,
            host,
            run,
            judge: Judge::new(spec.min_frames, spec.plan_options.max_samples_per_gloss),
            tally: StateCounts::new(),
            known,
            sealed,
            next_record: 0,
            is_complete,
            backend,
        })
    }

    /// Who is told.
    pub(super) fn host(&mut self) -> &mut dyn JobObserver {
        self.host
    }

    /// Whether no clip is left to read and no batch to seal.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Counts the records before `end`, none of which is processed.
    fn pass_records(&mut self, end: usize) {
        for record in &self.scan.plan.records[self.next_record..end] {
            if let Some((state, _)) = skip_reason(record) {
                *self.tally.entry(state).or_default() += 1;
            }
        }
        self.next_record = end;
    }

    /// Makes a change as soon as there is room for it.
    fn persist<T>(
        &mut self,
        change: impl Fn(&mut Ledger, &mut dyn JobObserver) -> Result<T, StoreError>,
    ) -> Result<T, JobError> {
        let ledger = self.ledger;
        // The ledger is let go of before the host waits: others write messages meanwhile.
        super::persist(self.host, |host| {
            change(&mut lock_ignoring_poison(ledger), host)
        })
        .map_err(JobError::Store)
    }

    /// Writes the batch that ends before `end` and marks it sealed.
    fn seal(&mut self, end: usize) -> Result<(), JobError> {
        let (spec, plan) = (self.spec, &self.scan.plan);
        let batch = (end - 1) / spec.batch_size;
        if self.sealed.contains_key(&batch) {
            return Ok(());
        }
        let range = positions(spec, plan.jobs.len(), batch);
        let run = self.run.clone();
        let sealed = self.persist(|ledger, host| {
            let staged = ledger.staged(range.clone())?;
            let rows = staged
                .iter()
                .map(|bytes| batches::row_from_bytes(bytes))
                .collect::<Result<Vec<BatchRow>, _>>()?;
            let file =
                batches::write_batch(&spec.out, batch, &rows, &plan.glosses, spec.shape.length)?;
            let sealed = SealedBatch {
                rows: file.rows,
                sha256: file.sha256,
            };
            let news = payloads::Batch {
                run: run.clone(),
                batch,
                path: batches::batch_name(batch),
                rows: sealed.rows,
                sha256: sealed.sha256.clone(),
                clips: [range.start, range.end - 1],
                last: range.end == plan.jobs.len(),
            };
            let messages = [Message::new(topics::BATCH, &news)];
            ledger.seal(batch, range.clone(), &sealed, &messages, &host.stamp())?;
            Ok(sealed)
        })?;
        self.sealed.insert(batch, sealed);
        self.host.sealed();
        Ok(())
    }

    /// Records a clip that was just read.
    fn record(
        &mut self,
        position: usize,
        state: State,
        reason: Option<&str>,
        reading: Option<Reading>,
    ) -> Result<(), JobError> {
        let job = &self.scan.plan.jobs[position];
        let record = &self.scan.plan.records[job.record];
        let clip = ClipRecord {
            key: provenance::clip_key(record, self.scan.dataset.clip_bytes(&job.video_id)),
            state: state.name().to_owned(),
            reason: reason.map(str::to_owned),
            clip: reading.as_ref().map(clip_json).transpose()?,
        };
        let staged = match (state, reading) {
            (State::Accepted, Some(reading)) => {
                let row = BatchRow {
                    gloss: job.gloss.clone(),
                    video_id: job.video_id.clone(),
                    split: record.split.clone(),
                    signer_id: record.signer_id,
                    features: reading.sequence.features,
                    frames: reading.sequence.frames,
                    frame_times: Vec::new(),
                };
                let bytes = batches::row_bytes(&row, self.spec.shape.length);
                Some(bytes.map_err(JobError::Store)?)
            }
            _ => None,
        };
        let fault = (state == State::Unreadable).then(|| {
            Message::new(
                topics::FAULT,
                &payloads::Fault {
                    run: Some(self.run.clone()),
                    component: "clip".to_owned(),
                    clip: Some(ClipName {
                        gloss: job.gloss.to_string(),
                        video_id: job.video_id.to_string(),
                    }),
                    reason: reason.unwrap_or_default().to_owned(),
                    action: "recorded as unreadable, the job goes on; retry-failed reads it again"
                        .to_owned(),
                },
            )
        });
        let messages: Vec<Message> = fault.into_iter().collect();
        self.persist(|ledger, host| {
            ledger.record(position, &clip, staged.as_deref(), &messages, &host.stamp())
        })?;
        tracing::debug!(position, video_id = %job.video_id, state = state.name(), reason, "clip recorded");
        Ok(())
    }

    /// Counts what is left and gives the counts back.
    pub(super) fn finish(mut self) -> Collected {
        self.pass_records(self.scan.plan.records.len());
        Collected {
            judge: self.judge,
            tally: self.tally,
            batches: self.sealed.len(),
        }
    }
}

impl ResultSink<Outcome, JobError> for ResultCollector<'_> {
    fn cached_result(&mut self, position: usize) -> Option<Outcome> {
        if let Some(clip) = self.known.get(&position) {
            let state = State::from_name(&clip.state)?;
            return Some(Outcome::Known(state, clip.reason.clone()));
        }
        self.judge
            .is_full(&self.scan.plan.jobs[position].gloss)
            .then_some(Outcome::Spared)
    }

    fn deliver(&mut self, position: usize, outcome: Outcome) -> Result<(), JobError> {
        let host = &mut *self.host;
        for event in self.backend.events() {
            host.accelerator(&event);
        }
        let job = &self.scan.plan.jobs[position];
        self.pass_records(job.record);
        self.next_record += 1;
        let before = self.known.remove(&position);
        let Verdict {
            state,
            reason,
            reading,
        } = self.judge.judge(&job.gloss, outcome);
        *self.tally.entry(state).or_default() += 1;
        match before {
            // A clip ahead of it was read again and took its place.
            Some(before) if before.state != state.name() => {
                self.persist(|ledger, _| ledger.revise(position, state.name(), reason.as_deref()))?;
            }
            Some(_) => {}
            None => {
                self.record(position, state, reason.as_deref(), reading.map(|r| *r))?;
                self.host.clip(&ClipEvent {
                    position,
                    gloss: &job.gloss,
                    video_id: &job.video_id,
                    state,
                    reason: reason.as_deref(),
                    tally: &self.tally,
                });
            }
        }
        let end = position + 1;
        if end.is_multiple_of(self.spec.batch_size) || end == self.scan.plan.jobs.len() {
            self.seal(end)?;
        }
        Ok(())
    }
}

fn clip_json(reading: &Reading) -> Result<String, JobError> {
    let sequence = &reading.sequence;
    let clip = ManifestClip {
        declared_frames: sequence.declared_frames,
        sampled: sequence.frames.len(),
        with_hand: sequence.frames_with_hand,
        with_two_hands: sequence.frames.iter().filter(|f| f.hand_count == 2).count(),
        backend: reading.backend.to_string(),
        decoder: reading.decoder.clone(),
        colour: if reading.is_approximate {
            "approximate"
        } else {
            "exact"
        },
        stopped_early: reading.stopped_early.clone(),
    };
    serde_json::to_string(&clip).map_err(|e| {
        JobError::Store(StoreError::Write {
            path: "the ledger".into(),
            source: e.into(),
        })
    })
}

/// How many clips each backend has read.
pub(super) fn backends(manifest: &[ManifestLine]) -> Value {
    let clips = manifest.iter().filter_map(|line| line.clip.as_ref());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in clips.filter_map(|clip| clip["backend"].as_str()) {
        *counts.entry(name).or_default() += 1;
    }
    json!(counts)
}

/// A line for every instance of the metadata, from the plan and what the ledger says of its clips.
pub(super) fn manifest(
    spec: &JobConfig,
    plan: &Plan,
    clips: &BTreeMap<usize, ClipRecord>,
) -> Result<Vec<ManifestLine>, StoreError> {
    let mut position = 0;
    let mut row = 0;
    let mut lines = Vec::with_capacity(plan.records.len());
    for record in &plan.records {
        if let Some((state, reason)) = skip_reason(record) {
            lines.push(line(record, state, Some(reason)));
            continue;
        }
        let broken = |what: String| StoreError::BadLedger {
            path: spec.out.join(crate::storage::ledger::LEDGER_NAME),
            reason: what,
        };
        let clip = clips
            .get(&position)
            .ok_or_else(|| broken(format!("clip {position} is not in it")))?;
        let state = State::from_name(&clip.state)
            .ok_or_else(|| broken(format!("clip {position} has the state {:?}", clip.state)))?;
        let mut line = line(record, state, clip.reason.clone());
        line.clip = match &clip.clip {
            Some(json) => Some(serde_json::from_str(json).map_err(|e| broken(e.to_string()))?),
            None => None,
        };
        if position.is_multiple_of(spec.batch_size) {
            row = 0;
        }
        if state == State::Accepted {
            line.stored = Some(ManifestPlace {
                batch: position / spec.batch_size,
                row,
            });
            row += 1;
        }
        lines.push(line);
        position += 1;
    }
    Ok(lines)
}

fn line(record: &PlanRecord, state: State, reason: Option<String>) -> ManifestLine {
    ManifestLine {
        gloss: record.gloss.to_string(),
        video_id: record.video_id.as_deref().map(str::to_owned),
        instance: record.instance,
        state: state.name(),
        reason,
        split: record.split.clone(),
        signer_id: record.signer_id,
        frame_start: record.frame_start.clone().ok(),
        frame_end: record.frame_end.clone().ok(),
        clip: None,
        stored: None,
    }
}
