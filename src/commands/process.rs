//! `handloom process`: dataset → plan → workers → batches → the notebook's file.

mod collector;
mod provenance;

use crate::cli::{ProcessArgs, ProgressKind};
use crate::exit::{Exit, Failure};
use crate::hand::Detector;
use crate::inference::{Bundle, BundleError, CpuGraph, CpuModel, bundle};
use crate::pipeline::{self, PipelineError};
use crate::report::{self, Reporter, Tally};
use crate::sequence::{ExtractError, extract};
use crate::source::dataset::Dataset;
use crate::source::decoder;
use crate::source::video::{self, VideoClip, VideoOptions};
use crate::store::batches::FINAL_NAME;
use crate::store::{self, StoreError, folder};
use crate::wlasl::judge::{Judge, Outcome, Reading, State};
use crate::wlasl::metadata;
use crate::wlasl::plan::{Fate, Job, Plan, Record, plan};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

use collector::{Collected, Collector};
use provenance::{provenance, settings, states, unix_now};

/// Runs the job.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(args: &ProcessArgs) -> Result<Exit, Failure> {
    let human = match args.run.progress {
        ProgressKind::Auto => None,
        ProgressKind::Bar => Some(true),
        ProgressKind::Json => Some(false),
    };
    let mut reporter = Reporter::new(human);
    let dataset = Dataset::open(&args.dataset, args.json.as_deref(), args.videos.as_deref())?;
    reporter.say(
        &dataset.report(),
        &json!({
            "event": "dataset", "json": dataset.json_path(), "json_bytes": dataset.json_bytes(),
            "videos": dataset.videos_path(), "video_files": dataset.video_count(),
        }),
    );
    let json_bytes = dataset.metadata_bytes()?;
    let entries = metadata::parse(&json_bytes).map_err(|e| {
        Failure::new(
            Exit::BadData,
            anyhow!(e).context(format!("{}", dataset.json_path().display())),
        )
    })?;
    let plan = plan(&entries, &args.plan.knobs(), &|id| dataset.exists(id));
    drop(entries);
    for warning in &plan.warnings {
        reporter.warn(&warning.to_string());
    }
    let c = &plan.counts;
    reporter.say(&plan.scan_report(), &json!({
        "event": "plan", "entries": c.entries, "instances": c.instances, "glosses_seen": c.glosses_seen,
        "glosses_kept": plan.glosses.len(), "glosses_dropped": c.glosses_dropped, "clips": plan.jobs.len(),
    }));
    if args.list {
        list(&reporter, &plan);
        return Ok(Exit::Done);
    }
    let out = args
        .out
        .as_deref()
        .ok_or_else(|| Failure::new(Exit::Usage, anyhow!("--out DIR is needed")))?;
    process(
        args,
        &dataset,
        &plan,
        &bundle::sha256_hex(&json_bytes),
        out,
        &mut reporter,
    )
}

fn list(reporter: &Reporter, plan: &Plan) {
    let text = report::plan_table(plan, |r| {
        fate(r).unwrap_or((State::Accepted, String::new()))
    });
    let records: Vec<Value> = plan.records.iter().map(|r| {
        let (state, reason) = fate(r).map_or(("process", None), |(s, reason)| (s.name(), Some(reason)));
        json!({"gloss": &*r.gloss, "video_id": r.video_id.as_deref(), "instance": r.instance, "state": state, "reason": reason})
    }).collect();
    reporter.say(&text, &json!({"event": "list", "records": records}));
}

/// The state of a record that is not processed.
fn fate(record: &Record) -> Option<(State, String)> {
    match &record.fate {
        Fate::Process { .. } => None,
        Fate::NotSelected { reason } => Some((State::NotSelected, reason.clone())),
        Fate::Missing { reason } => Some((State::Missing, reason.clone())),
        Fate::Unreadable { reason } => Some((State::Unreadable, reason.clone())),
    }
}

fn process(
    args: &ProcessArgs,
    dataset: &Dataset,
    plan: &Plan,
    json_sha256: &str,
    out: &Path,
    reporter: &mut Reporter,
) -> Result<Exit, Failure> {
    let (min, length) = (args.sequence.min_frames, args.sequence.sequence_length);
    if min > length {
        let error = anyhow!(
            "--min-frames {min} is more than the {length} frames of a sequence: no clip could be accepted; lower it"
        );
        return Err(Failure::new(Exit::Usage, error));
    }
    let bundle = Bundle::load(&args.models.selection())?;
    let (palm, hand) = (CpuGraph::new(&bundle.palm)?, CpuGraph::new(&bundle.hand)?);
    // Everything that would stop the job is asked before earlier results go.
    drop((CpuModel::new(&palm)?, CpuModel::new(&hand)?));
    video::init().map_err(|e| Failure::new(Exit::Bug, e))?;
    decoder::check(&args.run.decoder).map_err(|e| Failure::new(Exit::Usage, anyhow!(e)))?;
    let settings = settings(args, plan, &bundle, json_sha256);
    folder::prepare(out, &settings, args.fresh)?;
    let mut run = provenance(args, dataset, &settings);
    folder::write_run(out, &run)?;

    let options = VideoOptions {
        decoder: args.run.decoder.clone(),
        timeout: args.run.clip_timeout,
    };
    let (shape, detector) = (args.sequence.shape(), args.sequence.detector());
    let workers = args
        .run
        .workers
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let start = || -> Result<_, Stop> {
        let mut detector = Detector::new(CpuModel::new(&palm)?, CpuModel::new(&hand)?, detector);
        let options = &options;
        Ok(move |position: usize| {
            let job = &plan.jobs[position];
            let outcome = match open(dataset, job, options) {
                Ok((mut clip, _file)) => match extract(
                    &mut clip,
                    &mut detector,
                    shape,
                    job.frame_start,
                    job.frame_end,
                ) {
                    Ok(sequence) => Outcome::Read(Box::new(Reading {
                        sequence,
                        decoder: clip.decoder(),
                        is_approximate: clip.is_approximate(),
                        stopped_early: clip.stopped_early().map(str::to_owned),
                    })),
                    Err(ExtractError::Source(e)) => Outcome::Unreadable(e.to_string()),
                    Err(ExtractError::Model(e)) => return Err(Stop::Model(e)),
                },
                Err(reason) => Outcome::Unreadable(reason),
            };
            Ok(outcome)
        })
    };
    reporter.begin(plan.jobs.len());
    let began = Instant::now();
    let mut collector = Collector::new(args, plan, out, reporter);
    pipeline::run(plan.jobs.len(), workers, start, &mut collector).map_err(stop)?;
    let Collected {
        lines,
        judge,
        tally,
        batches,
    } = collector
        .finish()
        .map_err(|e| stop(PipelineError::Consumer(e)))?;
    reporter.end();

    folder::write_manifest(out, &lines)?;
    let accepted = tally.get(&State::Accepted).copied().unwrap_or(0);
    if accepted > 0 {
        store::batches::write_final(out, batches, &plan.glosses, shape.length)?;
    }
    let elapsed = began.elapsed();
    run["finished"] = json!({
        "at_unix": unix_now(), "seconds": (elapsed.as_secs_f64() * 10.0).round() / 10.0, "workers": workers,
        "states": states(&tally), "batches": batches,
    });
    folder::write_run(out, &run)?;
    summary(
        reporter,
        &tally,
        &judge,
        elapsed,
        out,
        accepted,
        shape.length,
    );
    if accepted == 0 {
        let error = anyhow!(
            "no sequences were extracted: {}; see {}",
            why_nothing(&tally),
            out.join(folder::MANIFEST_NAME).display()
        );
        return Err(Failure::new(Exit::Nothing, error));
    }
    Ok(Exit::Done)
}

/// Opens a job's clip; the file must live as long as the clip is read.
fn open(
    dataset: &Dataset,
    job: &Job,
    options: &VideoOptions,
) -> Result<(VideoClip, crate::source::dataset::ClipFile), String> {
    let file = dataset.clip(&job.video_id).map_err(|e| e.to_string())?;
    let clip = VideoClip::open(file.path(), options).map_err(|e| e.to_string())?;
    Ok((clip, file))
}

/// What ends a job early.
enum Stop {
    Bundle(BundleError),
    Model(crate::hand::ModelError),
    Store(StoreError),
}

impl From<BundleError> for Stop {
    fn from(error: BundleError) -> Self {
        Self::Bundle(error)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bundle(e) => e.fmt(f),
            Self::Model(e) => e.fmt(f),
            Self::Store(e) => e.fmt(f),
        }
    }
}

fn stop(error: PipelineError<Stop>) -> Failure {
    match error {
        PipelineError::Worker(Stop::Bundle(e)) | PipelineError::Consumer(Stop::Bundle(e)) => {
            e.into()
        }
        PipelineError::Worker(Stop::Model(e)) | PipelineError::Consumer(Stop::Model(e)) => {
            Failure::new(Exit::Bug, e)
        }
        PipelineError::Worker(Stop::Store(e)) | PipelineError::Consumer(Stop::Store(e)) => e.into(),
        PipelineError::Died => Failure::new(
            Exit::Bug,
            anyhow!("a worker thread died; please report this with the message above"),
        ),
        PipelineError::Spawn(e) => Failure::new(
            Exit::InOut,
            anyhow!("cannot start a worker thread: {e}; try fewer --workers"),
        ),
    }
}

fn summary(
    reporter: &Reporter,
    tally: &Tally,
    judge: &Judge,
    elapsed: Duration,
    out: &Path,
    accepted: usize,
    length: usize,
) {
    let mut text = report::closing_table(tally, judge, elapsed);
    if accepted > 0 {
        let path = out.join(FINAL_NAME);
        text.extend([
            format!("\nSaved {accepted} samples to {}\n", path.display()),
            format!("  Sequence shape: ({accepted}, {length}, 126)\n"),
        ]);
    }
    let per_gloss: serde_json::Map<String, Value> = judge
        .per_gloss()
        .into_iter()
        .map(|(g, n)| (g.to_string(), json!(n)))
        .collect();
    reporter.say(
        &text,
        &json!({
            "event": "done", "accepted": accepted, "states": states(tally), "per_gloss": per_gloss,
            "seconds": (elapsed.as_secs_f64() * 10.0).round() / 10.0, "out": out,
        }),
    );
}

fn why_nothing(tally: &Tally) -> String {
    let parts: Vec<String> = tally
        .iter()
        .map(|(s, n)| format!("{n} {}", s.name()))
        .collect();
    if parts.is_empty() {
        "the metadata lists no instance".to_owned()
    } else {
        parts.join(", ")
    }
}
