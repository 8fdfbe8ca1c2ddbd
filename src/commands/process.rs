//! `handloom process`: dataset → plan → workers → batches → the notebook's file.

use crate::cli::{ProcessArgs, ProgressKind};
use crate::exit::{Exit, Failure};
use crate::hand::Detector;
use crate::inference::{Bundle, BundleError, CpuGraph, CpuModel, bundle};
use crate::pipeline::{self, Collect, PipelineError};
use crate::report::{self, Reporter, Tally};
use crate::sequence::{ExtractError, extract};
use crate::source::dataset::Dataset;
use crate::source::video::{self, VideoClip, VideoOptions};
use crate::store::StoreError;
use crate::store::batches::{self, FINAL_NAME, Row};
use crate::store::folder::{self, ManifestClip, ManifestLine, ManifestPlace};
use crate::wlasl::judge::{Judge, Outcome, Reading, State, Verdict};
use crate::wlasl::metadata;
use crate::wlasl::plan::{Fate, Job, Plan, Record, plan};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    let bundle = Bundle::load(&args.models.selection())?;
    let (palm, hand) = (CpuGraph::new(&bundle.palm)?, CpuGraph::new(&bundle.hand)?);
    video::init().map_err(|e| Failure::new(Exit::Bug, e))?;
    let settings = settings(args, &bundle, json_sha256);
    folder::prepare(out, &settings, args.fresh)?;
    let mut run = provenance(args, dataset, settings);
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
                Ok((mut clip, file)) => match extract(
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
                    Err(ExtractError::Model(e)) => {
                        drop(file);
                        return Err(Stop::Model(e));
                    }
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
    let (lines, judge, tally, batch_count) = collector.finish()?;
    reporter.end();

    folder::write_manifest(out, &lines)?;
    let accepted = tally.get(&State::Accepted).copied().unwrap_or(0);
    if accepted > 0 {
        batches::write_final(out, batch_count, &plan.glosses, shape.length)?;
    }
    let elapsed = began.elapsed();
    run["finished"] = json!({
        "at_unix": unix_now(), "seconds": (elapsed.as_secs_f64() * 10.0).round() / 10.0, "workers": workers,
        "states": states(&tally), "batches": batch_count,
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

/// Judges results in plan order and seals batches. The place where a ledger will sit.
struct Collector<'a> {
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
    fn new(args: &ProcessArgs, plan: &'a Plan, out: &'a Path, reporter: &'a mut Reporter) -> Self {
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

    fn finish(mut self) -> Result<(Vec<ManifestLine>, Judge, Tally, usize), Failure> {
        self.pass_records(self.plan.records.len());
        if self.plan.jobs.len() % self.batch_size != 0 {
            self.seal().map_err(|e| stop(PipelineError::Consumer(e)))?;
        }
        Ok((self.lines, self.judge, self.tally, self.batch))
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
        if (position + 1) % self.batch_size == 0 {
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

/// All that decides the bytes of the npz files.
fn settings(args: &ProcessArgs, bundle: &Bundle, json_sha256: &str) -> Value {
    let (s, p) = (&args.sequence, &args.plan);
    json!({
        "profile": s.profile.name(),
        "metadata_sha256": json_sha256,
        "min_videos_per_gloss": p.min_videos_per_gloss,
        "max_glosses": p.max_glosses,
        "selected_glosses": p.selected_glosses,
        "max_samples_per_gloss": p.max_samples_per_gloss,
        "sequence_length": s.sequence_length,
        "frame_stride": s.frame_stride,
        "min_frames": s.min_frames,
        "num_hands": s.num_hands,
        "min_hand_detection_confidence": f64::from(s.min_hand_detection_confidence),
        "min_hand_presence_confidence": f64::from(s.min_hand_presence_confidence),
        "min_tracking_confidence": f64::from(s.min_tracking_confidence),
        "tracking": s.tracking,
        "batch_size": args.run.batch_size,
        "decoder": args.run.decoder.to_string(),
        "palm_model_sha256": bundle.palm.sha256,
        "hand_model_sha256": bundle.hand.sha256,
    })
}

fn provenance(args: &ProcessArgs, dataset: &Dataset, settings: Value) -> Value {
    let runtime = bundle::loaded_runtime();
    let pinned = bundle::pinned_runtimes().unwrap_or_default();
    let is_pinned = runtime
        .as_ref()
        .is_some_and(|(_, sha)| pinned.contains(sha));
    if !is_pinned {
        tracing::warn!(
            ?runtime,
            "the TFLite library is not the pinned one; landmarks may differ in the last digits"
        );
    }
    json!({
        "handloom": env!("CARGO_PKG_VERSION"),
        "settings": settings,
        "dataset": {"path": args.dataset, "json": dataset.json_path(), "videos": dataset.videos_path(), "video_files": dataset.video_count()},
        "backend": {"name": "cpu", "runtime": "TensorFlow Lite C, XNNPACK, 1 thread", "library_sha256": runtime.map(|r| r.1), "library_is_pinned": is_pinned},
        "gstreamer": gstreamer_version(),
        "platform": {"arch": std::env::consts::ARCH, "os": std::env::consts::OS},
        "started": {"at_unix": unix_now()},
        "finished": null,
    })
}

fn gstreamer_version() -> String {
    video::version()
}

fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

fn states(tally: &Tally) -> Value {
    State::ALL
        .iter()
        .map(|s| {
            (
                s.name().to_owned(),
                json!(tally.get(s).copied().unwrap_or(0)),
            )
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
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
        text.push_str(&format!(
            "\nSaved {accepted} samples to {}\n  Sequence shape: ({accepted}, {length}, 126)\n",
            path.display()
        ));
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
