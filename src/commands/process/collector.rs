//! Judges results in plan order, seals batches, keeps the manifest. The place where a ledger will sit.

use super::{Stop, fate};
use crate::cli::ProcessArgs;
use crate::pipeline::Collect;
use crate::report::{Reporter, Tally};
use crate::store::batches::{self, Row};
use crate::store::folder::{ManifestClip, ManifestLine, ManifestPlace};
use crate::wlasl::judge::{Judge, Outcome, Reading, State, Verdict};
use crate::wlasl::plan::{Plan, Record};
use std::path::Path;

/// What a job gave.
pub(super) struct Collected {
    /// One for each instance, in metadata order.
    pub(super) lines: Vec<ManifestLine>,
    /// Knows the accepted clips per gloss.
    pub(super) judge: Judge,
    /// Instances per state.
    pub(super) tally: Tally,
    /// Batch files written.
    pub(super) batches: usize,
}

/// Judges results in plan order and seals batches. The place where a ledger will sit.
pub(super) struct Collector<'a> {
    plan: &'a Plan,
    out: &'a Path,
    reporter: &'a mut Reporter,
    judge: Judge,
    tally: Tally,
    lines: Vec<ManifestLine>,
    next_record: usize,
    rows: Vec<Row>,
    batch: usize,
    batch_size: usize,
    length: usize,
}

impl<'a> Collector<'a> {
    /// Nothing judged yet.
    pub(super) fn new(
        args: &ProcessArgs,
        plan: &'a Plan,
        out: &'a Path,
        reporter: &'a mut Reporter,
    ) -> Self {
        Self {
            plan,
            out,
            reporter,
            judge: Judge::new(args.sequence.min_frames, args.plan.max_samples_per_gloss),
            tally: Tally::new(),
            lines: Vec::with_capacity(plan.records.len()),
            next_record: 0,
            rows: Vec::new(),
            batch: 0,
            batch_size: args.run.batch_size,
            length: args.sequence.sequence_length,
        }
    }

    /// Writes down the records before `end`, none of which is processed.
    fn pass_records(&mut self, end: usize) {
        for record in &self.plan.records[self.next_record..end] {
            if let Some((state, reason)) = fate(record) {
                *self.tally.entry(state).or_default() += 1;
                self.lines.push(line(record, state, Some(reason)));
            }
        }
        self.next_record = end;
    }

    fn seal(&mut self) -> Result<(), Stop> {
        batches::write_batch(
            self.out,
            self.batch,
            &self.rows,
            &self.plan.glosses,
            self.length,
        )
        .map_err(Stop::Store)?;
        self.rows.clear();
        self.batch += 1;
        Ok(())
    }

    /// Writes down what is left and seals the last batch.
    pub(super) fn finish(mut self) -> Result<Collected, Stop> {
        self.pass_records(self.plan.records.len());
        if !self.plan.jobs.len().is_multiple_of(self.batch_size) {
            self.seal()?;
        }
        Ok(Collected {
            lines: self.lines,
            judge: self.judge,
            tally: self.tally,
            batches: self.batch,
        })
    }
}

impl Collect<Outcome, Stop> for Collector<'_> {
    fn spare(&mut self, position: usize) -> Option<Outcome> {
        self.judge
            .is_full(&self.plan.jobs[position].gloss)
            .then_some(Outcome::Spared)
    }

    fn deliver(&mut self, position: usize, outcome: Outcome) -> Result<(), Stop> {
        let job = &self.plan.jobs[position];
        self.pass_records(job.record);
        self.next_record += 1;
        let record = &self.plan.records[job.record];
        let Verdict {
            state,
            reason,
            reading,
        } = self.judge.judge(&job.gloss, outcome);
        tracing::debug!(video_id = %job.video_id, state = state.name(), reason, "clip done");
        *self.tally.entry(state).or_default() += 1;
        self.reporter.clip(
            &job.gloss,
            &job.video_id,
            state,
            reason.as_deref(),
            &self.tally,
        );
        let mut line = line(record, state, reason);
        line.clip = reading.as_deref().map(clip_line);
        if let (State::Accepted, Some(reading)) = (state, reading) {
            line.stored = Some(ManifestPlace {
                batch: self.batch,
                row: self.rows.len(),
            });
            self.rows.push(Row {
                gloss: job.gloss.clone(),
                video_id: job.video_id.clone(),
                split: record.split.clone(),
                signer_id: record.signer_id,
                sequence: reading.sequence,
            });
        }
        self.lines.push(line);
        if (position + 1).is_multiple_of(self.batch_size) {
            self.seal()?;
        }
        Ok(())
    }
}

fn line(record: &Record, state: State, reason: Option<String>) -> ManifestLine {
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

fn clip_line(reading: &Reading) -> ManifestClip {
    let sequence = &reading.sequence;
    ManifestClip {
        declared_frames: sequence.declared_frames,
        sampled: sequence.frames.len(),
        with_hand: sequence.frames_with_hand,
        with_two_hands: sequence.frames.iter().filter(|f| f.hand_count == 2).count(),
        decoder: reading.decoder.clone(),
        colour: if reading.is_approximate {
            "approximate"
        } else {
            "exact"
        },
        stopped_early: reading.stopped_early.clone(),
    }
}
