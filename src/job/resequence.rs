//! Makes the sequences of a finished job again from its kept frames, with another profile or other options: nothing is
//! decoded and no model runs. The clips pass through the same acceptance rules, recorder and files as those that
//! workers read.

use super::collector::{ClipResult, ResultCollector};
use super::observer::JobObserver;
use super::provenance::{FORMAT, SELECTION_SETTINGS};
use super::results::{self, JobResults};
use super::share::Share;
use super::worker_pool::{ResultSink, RunOutcome};
use super::{JobReport, PASSES_MAX, keep, provenance};
use crate::dataset::acceptance::State;
use crate::dataset::instance::ExtraColumns;
use crate::dataset::plan::{Plan, PlanOptions, PlanRecord, PlannedClip};
use crate::error::CliError;
use crate::sequence::options::NamedChoice;
use crate::sequence::{FrameTimes, Profile, SequenceSpec};
use crate::storage::kept_results::{KeptResults, KeptResultsError};
use crate::storage::manifest::{MANIFEST_NAME, write_run};
use crate::storage::output_dir::{self, OpenMode};
use crate::storage::{Recorder, SharedLedger};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Everything that defines how sequences are made again.
#[derive(Clone, Debug)]
pub struct ResequenceConfig {
    /// The output folder of a finished job that kept its frames.
    pub from: PathBuf,
    /// The output folder for the new sequences.
    pub out: PathBuf,
    /// Defaults of the options.
    pub profile: Profile,
    /// How sequences are made.
    pub shape: SequenceSpec,
    /// Clips with a hand in fewer frames are too short.
    pub min_frames: usize,
}

/// Makes the sequences of `config` and returns how that ended. Continues what an earlier process left unfinished.
///
/// # Errors
/// Fails when frames are missing or have changed, or the output folder cannot be used.
pub(crate) fn resequence(
    config: &ResequenceConfig,
    mode: OpenMode,
    observer: &mut dyn JobObserver,
) -> Result<JobReport, CliError> {
    let began = Instant::now();
    let mut kept = KeptResults::open(&config.from)?;
    kept.refuse_same(&config.out)?;
    let known = &kept.run()["settings"];
    let is_other = compares_otherwise(known, config.profile);
    let settings = provenance::resequenced(
        config.profile,
        &config.shape,
        config.min_frames,
        known,
        is_other,
    );
    let knows_others = known.get(provenance::OTHER_CLIPS).is_some();
    let (plan, kept_positions) = plan(&mut kept, is_other)?;
    if is_other && !knows_others {
        check_glosses(&plan, config.profile)?;
    }
    let batch_size = kept.batch_size()?;
    let (_lock, ledger) = output_dir::open(&config.out, mode)?;
    let ledger = SharedLedger::new(ledger);
    let share = Share::whole(&plan, batch_size);
    let mut results = JobResults {
        plan: &plan,
        share: &share,
        out: &config.out,
        profile: config.profile,
        min_frames: config.min_frames,
        // A rescan of the new folder reads all clips again.
        clip_key: Box::new(|_| String::new()),
        recorder: Recorder::new(&config.out, ledger, batch_size, config.shape.length),
    };
    results.claim(&settings, mode)?;
    let run = results.run()?;
    for _ in 0..PASSES_MAX {
        results.forget_damaged(observer)?;
        let recorded = results.recorded()?;
        let was_complete = recorded.is_complete;
        observer.job_started(&run, plan.jobs.len(), recorded.clips.len());
        let mut record = kept.run().clone();
        record["handloom"] = json!(env!("CARGO_PKG_VERSION"));
        (record["run"], record["settings"]) = (json!(run), settings.clone());
        (record["started"], record["finished"]) = (results.started()?, Value::Null);
        record["resequenced_from"] =
            json!({"path": config.from.to_string_lossy(), "run": kept.run()["run"]});
        if !was_complete {
            write_run(&config.out, &record)?;
        }
        let mut collector =
            ResultCollector::new(&mut results, None, observer, run.clone(), recorded);
        for clip in &plan.jobs {
            let result = match collector.cached_result(clip.position) {
                Some(known) => known,
                None => result(&mut kept, clip, &kept_positions, batch_size, &config.shape)?,
            };
            collector.deliver(clip.position, result)?;
        }
        let has_lost = collector.has_lost;
        let report = collector.report(RunOutcome::Done, was_complete, began)?;
        record["finished"] = results::finished(&report);
        if !has_lost && (was_complete || results.close(&mut record, observer)?) {
            return Ok(report);
        }
    }
    Err(results.unstable().into())
}

/// The result of `clip` from its frames; `positions` are those at which the frames of the clips are kept.
fn result(
    kept: &mut KeptResults,
    clip: &PlannedClip,
    positions: &[usize],
    batch_size: usize,
    spec: &SequenceSpec,
) -> Result<ClipResult, KeptResultsError> {
    let at = positions[clip.position];
    let file = kept.frames(at / batch_size)?;
    let clips = file.clips();
    let index = clips.binary_search_by_key(&at, |(position, _)| *position);
    let index = index.map_err(|_| KeptResultsError::OverLimit {
        gloss: clip.gloss.to_string(),
        video_id: clip.video_id.to_string(),
    })?;
    let facts = clips[index].1.clone();
    let frames = file.frames(index)?;
    let times = FrameTimes::from_seconds(frames.iter().map(|frame| frame.time_s).collect());
    let frame = |index: usize| Ok(frames[index].found.clone());
    Ok(keep::outcome(&facts, &times, spec, frame)?.into())
}

/// Whether `profile` compares glosses in another way than the job with the settings `known`.
fn compares_otherwise(known: &Value, profile: Profile) -> bool {
    // Under a subset or a splits file, and of other formats than WLASL, glosses are always compared as spelt.
    let [subset, splits] = SELECTION_SETTINGS;
    if [subset, splits, FORMAT]
        .iter()
        .any(|key| known.get(key).is_some())
    {
        return false;
    }
    let before = known["profile"].as_str().and_then(Profile::from_name);
    before.is_some_and(|before| before.folds_case() != profile.folds_case())
}

/// Refuses a profile that processes other instances than those whose frames an earlier version kept.
fn check_glosses(plan: &Plan, profile: Profile) -> Result<(), KeptResultsError> {
    let is_kept = |gloss: &str| plan.glosses.iter().any(|kept| **kept == *gloss);
    let mut glosses = plan.records.iter().map(|record| &record.gloss);
    let other = glosses.find(|gloss| is_kept(gloss) != is_kept(&gloss.to_lowercase()));
    other.map_or(Ok(()), |gloss| {
        Err(KeptResultsError::OtherPlan {
            profile: profile.name(),
            gloss: gloss.to_string(),
        })
    })
}

/// The plan of the job, from its manifest, its settings and its kept frames, and where the frames of each clip are kept.
/// `is_other`: glosses are compared in another way.
fn plan(kept: &mut KeptResults, is_other: bool) -> Result<(Plan, Vec<usize>), KeptResultsError> {
    let (mut records, mut jobs, mut positions) = (Vec::new(), Vec::new(), Vec::new());
    let mut has_frames = false;
    for line in kept.manifest()? {
        let otherwise = &line["otherwise"];
        has_frames |= line["position"].is_u64() || otherwise["position"].is_u64();
        let outcome = if is_other && otherwise.is_object() {
            otherwise
        } else {
            &line
        };
        let record = record(&line, outcome).ok_or_else(|| kept.changed(MANIFEST_NAME))?;
        let position = outcome["position"].as_u64();
        positions.extend(position.and_then(|position| usize::try_from(position).ok()));
        let video_id = record.video_id.clone().filter(|_| record.skipped.is_none());
        if let Some(video_id) = video_id {
            let frame = |number: &Result<i64, String>| number.as_ref().copied().unwrap_or_default();
            jobs.push(PlannedClip {
                position: jobs.len(),
                record: records.len(),
                gloss: Arc::clone(&record.gloss),
                video_id,
                frame_start: frame(&record.frame_start),
                frame_end: frame(&record.frame_end),
                is_frames_only: false,
            });
        }
        records.push(record);
    }
    let glosses = if has_frames {
        kept.frames(0)?.glosses()?
    } else {
        Vec::new()
    };
    let class_order = kept.class_order()?;
    let limit = &kept.run()["settings"]["max_samples_per_gloss"];
    let plan = Plan {
        records,
        jobs,
        glosses: glosses.into_iter().map(Arc::from).collect(),
        gloss_file_counts: Vec::new(),
        entries: 0,
        glosses_with_enough: 0,
        class_order,
        absent: Vec::new(),
        warnings: Vec::new(),
        plan_options: PlanOptions {
            max_samples_per_gloss: limit.as_u64().and_then(|limit| usize::try_from(limit).ok()),
            ..PlanOptions::default()
        },
    };
    Ok((plan, positions))
}

/// The record of an instance from its line of the manifest; `outcome` is that line, or what the other comparison makes of it.
fn record(line: &Value, outcome: &Value) -> Option<PlanRecord> {
    let text = |name: &str| line[name].as_str().map(str::to_owned);
    let frame = |name: &str| line[name].as_i64().ok_or_else(String::new);
    let reason = || outcome["reason"].as_str().unwrap_or_default().to_owned();
    let state = State::from_name(outcome["state"].as_str().unwrap_or_default());
    let is_planned = outcome["position"].is_u64();
    let skipped = if is_planned {
        None
    } else {
        Some((state?, reason()))
    };
    Some(PlanRecord {
        instance: usize::try_from(line["instance"].as_u64()?).ok()?,
        gloss: text("gloss")?.into(),
        video_id: text("video_id").map(Arc::from),
        path: text("path").map(Arc::from),
        frame_start: frame("frame_start"),
        frame_end: frame("frame_end"),
        split: text("split")?,
        signer_id: line["signer_id"].as_i64()?,
        columns: line["columns"].as_object().map(|columns| {
            let names = columns.keys().map(|name| name.as_str().into()).collect();
            let values = columns.values().filter_map(Value::as_str);
            Arc::new(ExtraColumns::new(names, values))
        }),
        skipped,
        otherwise: None,
    })
}
