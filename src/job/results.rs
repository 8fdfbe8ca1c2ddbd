//! The results of a job: its plan, and the recorder that writes them, however its clips are read.

use super::observer::{JobObserver, retry_while_full};
use super::provenance::SHARD_SETTING;
use super::share::Share;
use super::{JobReport, manifest, moment, states, tenths};
use crate::dataset::class_list::JobClasses;
use crate::dataset::plan::Plan;
use crate::digest::sha256_hex;
use crate::sequence::Profile;
use crate::shard::record::{FORMAT, OwnedBatch, ShardRecord};
use crate::storage::batches::SealedBatch;
use crate::storage::ledger::{ClipRecord, JobIdentity, LEDGER_NAME};
use crate::storage::output_dir::{self, ClaimOutcome, OpenMode};
use crate::storage::{Recorder, StoreError};
use crate::system::clock::timestamp;
use crate::system::processor;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Everything that the results of a job are written from.
pub(super) struct JobResults<'a> {
    /// The plan, with the clips in order.
    pub(super) plan: &'a Plan,
    /// The part of the plan that this process makes.
    pub(super) share: &'a Share,
    /// The output folder.
    pub(super) out: &'a Path,
    /// Decides the keys of the joined file.
    pub(super) profile: Profile,
    /// Clips with a hand in fewer frames are too short.
    pub(super) min_frames: usize,
    /// Everything beside the settings that decides the row of the clip at a position.
    pub(super) clip_key: Box<dyn Fn(usize) -> String + 'a>,
    /// Writes the results.
    pub(super) recorder: Recorder,
}

/// What earlier processes have recorded of a job.
pub(super) struct RecordedResults {
    /// The finished clips, by position.
    pub(super) clips: BTreeMap<usize, ClipRecord>,
    /// The sealed batches, by number.
    pub(super) batches: BTreeMap<usize, SealedBatch>,
    /// Whether nothing is left to do.
    pub(super) is_complete: bool,
}

impl JobResults<'_> {
    /// Makes the output folder belong to the job of `settings`.
    ///
    /// # Errors
    /// Fails when it holds the results of another job or cannot be written.
    pub(super) fn claim(
        &self,
        settings: &Value,
        mode: OpenMode,
    ) -> Result<ClaimOutcome, StoreError> {
        let now = timestamp();
        let run = sha256_hex(format!("{settings} {now:?} {}", std::process::id()).as_bytes());
        let job = JobIdentity {
            settings: settings.clone(),
            run: run[..8].to_owned(),
        };
        let mut ledger = self.recorder.ledger();
        let claim = output_dir::claim(self.out, &mut ledger, &job, mode)?;
        // Also where an earlier attempt ended right after the claim.
        if ledger.metadata("started")?.is_none() {
            ledger.set_metadata("started", Some(&moment(&now).to_string()))?;
        }
        Ok(claim)
    }

    /// The name of the job in messages.
    pub(super) fn run(&self) -> Result<String, StoreError> {
        let job = self.recorder.ledger().job()?;
        Ok(job.map(|job| job.run).unwrap_or_default())
    }

    /// When the job began, for its provenance.
    pub(super) fn started(&self) -> Result<Value, StoreError> {
        let started = self.recorder.ledger().metadata("started")?;
        let started = started.and_then(|json| serde_json::from_str(&json).ok());
        Ok(started.unwrap_or_default())
    }

    /// What earlier processes have recorded.
    pub(super) fn recorded(&self) -> Result<RecordedResults, StoreError> {
        let (clips, batches) = {
            let ledger = self.recorder.ledger();
            (ledger.clips()?, ledger.sealed()?)
        };
        let is_complete = clips.len() == self.share.positions.len()
            && batches.len() == self.share.batches.len()
            && self.recorder.is_closed()?;
        Ok(RecordedResults {
            clips,
            batches,
            is_complete,
        })
    }

    /// Writes what a finished job leaves: manifest, joined file and `record`, the provenance, with what is known at the end.
    /// Returns `false` when results were lost meanwhile, so that their clips must be read again. Can be repeated.
    ///
    /// # Errors
    /// Fails when a file or the ledger cannot be written.
    pub(super) fn close(
        &self,
        record: &mut Value,
        observer: &mut dyn JobObserver,
    ) -> Result<bool, StoreError> {
        let plan = self.plan;
        let mut close = || {
            let manifest = manifest::manifest(plan, self.share, &self.recorder, self.out)?;
            let batches = &self.share.batches;
            record["finished"]["batches"] = json!(batches.len());
            record["finished"]["backends"] = manifest::backends(&manifest);
            match self.shard_record(record) {
                Some(shard) => self.recorder.close_shard(shard, &manifest, record),
                None => self.recorder.close(
                    batches.len(),
                    classes(plan),
                    self.profile,
                    &manifest,
                    record,
                ),
            }
        };
        match retry_while_full(observer, &mut close) {
            Err(StoreError::Lost { path, positions }) => {
                self.forget_clips(&positions, &path, observer)?;
                return Ok(false);
            }
            // The next pass finds out which batch it is.
            Err(StoreError::Broken { path, reason }) => {
                observer.warn(&format!("{}: {reason}", path.display()));
                return Ok(false);
            }
            closed => closed?,
        }
        observer.file_written();
        Ok(true)
    }

    /// The record of the shard, without what is known of its files; `None` when all of the job is made.
    fn shard_record(&self, run: &Value) -> Option<ShardRecord> {
        let shard = self.share.shard?;
        let mut settings = run["settings"].clone();
        if let Value::Object(settings) = &mut settings {
            settings.shift_remove(SHARD_SETTING);
        }
        let lines = self.share.record_counts();
        // Without clips the records belong to no batch: the first shard gets them as batch 0, even if there are none.
        let empty = (self.plan.jobs.is_empty() && shard.index() == 0).then_some(&0);
        let batches = lines.keys().chain(&self.share.batches).chain(empty);
        let batches: BTreeSet<usize> = batches.copied().collect();
        let owned = batches.into_iter().map(|batch| OwnedBatch {
            batch,
            rows: 0,
            sha256: None,
            frames_sha256: None,
            lines: lines.get(&batch).copied().unwrap_or(0),
        });
        let plan = self.plan;
        Some(ShardRecord {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            shard,
            plan_sha256: self.share.plan_sha256.clone(),
            settings,
            instances: plan.records.len(),
            clips: plan.jobs.len(),
            batches: self.recorder.batches(plan.jobs.len()),
            absent: plan.absent.len(),
            glosses: plan.glosses.iter().map(ToString::to_string).collect(),
            class_order: plan.class_order.as_ref().map(Into::into),
            processor: processor(),
            owned: owned.collect(),
            manifest_sha256: String::new(),
            run_sha256: String::new(),
        })
    }

    /// The error when the results are lost again after each attempt to write them.
    pub(super) fn unstable(&self) -> StoreError {
        StoreError::BadLedger {
            path: self.out.join(LEDGER_NAME),
            reason: "its rows or the batch files change again and again after they were written; check disk and memory"
                .to_owned(),
        }
    }
}

/// The classes of a job with `plan`.
pub(super) fn classes(plan: &Plan) -> JobClasses<'_> {
    JobClasses {
        glosses: &plan.glosses,
        order: plan.class_order.as_ref(),
    }
}

/// The entry of `run.json` about the end of a job.
pub(super) fn finished(report: &JobReport) -> Value {
    let mut finished = moment(&timestamp());
    finished["seconds"] = json!(tenths(report.elapsed));
    finished["states"] = states(&report.counts);
    finished
}
