//! `handloom process`: runs one job to its end, with a bar or JSON lines. Ctrl-C stops it, the same command resumes it.

mod tables;

use crate::cli::progress::{Console, ProgressKind, print_line};
use crate::config::{
    BatchConfig, Config, DatasetConfig, DatasetFiles, DelegateConfig, KeepConfig, ModelsConfig,
    OutputConfig, PlanConfig, RunConfig, SequenceConfig,
};
use crate::dataset::plan::Plan;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::{BackendEvent, ShutdownFlag};
use crate::job::worker_pool::{RunOutcome, WorkerControl};
use crate::job::{
    self, ClipEvent, DatasetScan, Job, JobContext, JobObserver, JobReport, skip_reason, states,
    tenths,
};
use crate::selection::with_precision;
use crate::sequence::SequenceSpec;
use crate::sequence::options::NamedChoice;
use crate::storage::SharedLedger;
use crate::storage::batches::FINAL_NAME;
use crate::storage::manifest::MANIFEST_NAME;
use crate::storage::output_dir::{self, ClaimOutcome, OpenMode};
use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

pub(super) const PROCESS_ABOUT: &str = "\
Turn a dataset of signs into wlasl_landmarks.npz.

DATASET is a folder with WLASL_v0.3.json and videos/ID.mp4, or a zip archive of one, which is read
in place; or class folders, a table of clips, or another corpus: see --format. --out gets:
  wlasl_landmarks.npz    sequences, labels, video_ids, glosses
  batches/NNNNN.npz      the same with raw landmarks, handedness and frame numbers
  frames/NNNNN.npz       with --keep-frames: what is found in every frame of each clip
  manifest.jsonl         a line for every instance of the metadata: state and reason
  label_map.json         the number of each class, and what gives the order
  run.json               settings, models, versions
Equal input and settings give equal bytes, whatever --workers is.

A clip that cannot be used is recorded, and the job continues. After an interruption (Ctrl-C, power
cut, full disk) the same command resumes the job. Progress is a bar on a terminal and JSON lines on
stdout elsewhere.

Examples:
  handloom process wlasl/ --list                         what would be done
  handloom process wlasl/ --out out/                     all glosses with at least 5 clips
  handloom process archive.zip --out out/ --selected-glosses book,drink,computer
  handloom process signs/ --out out/ --min-videos-per-gloss 1    signs/book/1.mp4 and so on
  handloom process wlasl/ --out out/ --max-samples-per-gloss 20 --workers 2
  handloom process wlasl/ --out out/ --subset wlasl100 --splits nslt_100.json
  handloom process wlasl/ --out out/ --keep-frames       then other sequences without decoding:
  handloom resequence out/ --out corrected/ --profile corrected";

/// Arguments of `process`.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// Folder of a dataset, a zip archive of it, or a table of clips; see --format
    pub dataset: PathBuf,
    /// Folder for the results; created when missing
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    pub out: Option<PathBuf>,
    /// Print the plan and stop: what would be processed, what would not, and why
    #[arg(long)]
    pub list: bool,
    /// Files that lie elsewhere.
    #[command(flatten)]
    pub files: DatasetFiles,
    /// What happens to earlier results.
    #[command(flatten, next_help_heading = "Earlier results")]
    pub resume: ResumeArgs,
    /// `[plan]`
    #[command(flatten, next_help_heading = "Which clips")]
    pub plan: PlanConfig,
    /// `[sequence]`
    #[command(flatten, next_help_heading = "Which numbers")]
    pub sequence: SequenceConfig,
    /// `[models]`
    #[command(flatten, next_help_heading = "Which models")]
    pub models: ModelsConfig,
    /// How progress is shown
    #[arg(long, value_enum, default_value_t = ProgressKind::Auto, help_heading = RUN_HEADING)]
    pub progress: ProgressKind,
    /// Size of the batch files.
    #[command(flatten, next_help_heading = RUN_HEADING)]
    pub batches: BatchConfig,
    /// Whether frames are kept.
    #[command(flatten, next_help_heading = RUN_HEADING)]
    pub frames: KeepConfig,
    /// `[run]`, which ends with what runs the models.
    #[command(flatten)]
    pub run: RunConfig,
    /// `[delegate]`
    #[command(flatten)]
    pub delegate: DelegateConfig,
}

const RUN_HEADING: &str = "How to run";

impl ProcessArgs {
    /// The settings as a config.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            dataset: DatasetConfig {
                path: self.dataset.clone(),
                files: self.files.clone(),
            },
            output: OutputConfig {
                path: self.out.clone().unwrap_or_default(),
                batches: self.batches.clone(),
                frames: self.frames.clone(),
                mirror: None,
            },
            plan: self.plan.clone(),
            sequence: self.sequence.clone(),
            models: self.models.clone(),
            run: self.run.clone(),
            delegate: self.delegate.clone(),
            ..Config::default()
        }
    }
}

/// What happens to earlier results.
#[derive(Clone, Copy, Debug, Args)]
pub struct ResumeArgs {
    /// Start over; this also replaces the results of another job
    #[arg(long, conflicts_with_all = ["rescan", "retry_failed"])]
    pub fresh: bool,
    /// Accept a dataset whose clips or metadata have changed; results that are still valid are kept
    #[arg(long)]
    pub rescan: bool,
    /// Process unreadable clips again
    #[arg(long)]
    pub retry_failed: bool,
}

impl ResumeArgs {
    /// How the output folder is opened.
    #[must_use]
    pub fn open_mode(self) -> OpenMode {
        match self {
            Self { fresh: true, .. } => OpenMode::Fresh,
            Self { rescan: true, .. } => OpenMode::Rescan,
            _ => OpenMode::Resume,
        }
    }
}

/// Runs the job, or lists its plan.
///
/// # Errors
/// With the exit code and the message for the user.
pub fn run(args: &ProcessArgs) -> Result<Exit, CliError> {
    let console = Console::new(args.progress);
    let config = args.config();
    if !args.list {
        return run_job(&config, console, args.resume);
    }
    let scan = config.job().scan()?;
    introduce(&console, &scan);
    list(&console, &scan.plan);
    Ok(Exit::Done)
}

/// Runs the job of `config` to its end.
///
/// # Errors
/// With the exit code and the message for the user.
pub(super) fn run_job(
    config: &Config,
    console: Console,
    resume: ResumeArgs,
) -> Result<Exit, CliError> {
    let job_config = config.job();
    let scan = job_config.scan()?;
    introduce(&console, &scan);
    super::check_flags(config)?;
    job_config.check_decoder()?;
    let workers = config.workers();
    let control = Arc::new(WorkerControl::new(workers));
    let stop = ShutdownFlag::default();
    let (to_stop, is_stopping) = (Arc::clone(&control), stop.clone());
    let _signals = super::on_stop(move || {
        job::shutdown_with_deadline(&to_stop);
        is_stopping.set();
    })?;
    let mode = resume.open_mode();
    let known = match mode {
        OpenMode::Fresh => None,
        OpenMode::Resume | OpenMode::Rescan => output_dir::recorded_settings(&job_config.out)?,
    };
    // A stop until here ends the command before earlier results could be removed.
    let backend = super::open_backend(config, known.as_ref(), workers, &console, &stop)?;
    let (_lock, ledger) = output_dir::open(&job_config.out, mode)?;
    let mut job = Job::new(&job_config, &scan, &backend, SharedLedger::new(ledger));
    let claim = job.claim(mode)?;
    if resume.retry_failed {
        let count = job.retry_failed()?;
        console.report(
            &format!("{count} unreadable clips are read again"),
            &json!({"event": "retry", "clips": count}),
        );
    }
    let mut observer = ConsoleObserver::new(console, claim != ClaimOutcome::New);
    let context = JobContext {
        workers,
        control: &control,
        frames: &(),
    };
    let report = job.run(&context, &mut observer)?;
    observer.finish();
    if report.outcome == RunOutcome::Stopped {
        let done: usize = report.counts.values().sum();
        let text = format!(
            "stopped: {} of {} planned clips are done, {done} of {} instances have their state; the same command resumes",
            observer.done,
            scan.plan.jobs.len(),
            scan.plan.records.len()
        );
        let event = json!({"event": "stopped", "instances": done});
        observer.console.report(&text, &event);
        return Ok(Exit::Stopped);
    }
    conclude(&observer, &job_config.out, &job_config.shape, &report)
}

/// Reports the job on the terminal, or as JSON lines on stdout.
pub(super) struct ConsoleObserver {
    console: Console,
    is_resumed: bool,
    started: Instant,
    /// Planned clips.
    total: usize,
    /// Planned clips with a result of an earlier process.
    known: usize,
    /// Planned clips with a result, the known ones included.
    done: usize,
}

impl ConsoleObserver {
    /// Reports to `console`. `is_resumed`: an earlier process may have recorded clips.
    pub(super) fn new(console: Console, is_resumed: bool) -> Self {
        Self {
            console,
            is_resumed,
            started: Instant::now(),
            total: 0,
            known: 0,
            done: 0,
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&mut self) {
        self.console.clear();
    }

    /// Clips that this process has processed.
    fn processed(&self) -> usize {
        self.done - self.known
    }
}

impl JobObserver for ConsoleObserver {
    fn job_started(&mut self, _run: &str, total: usize, known: usize) {
        if self.is_resumed && known > 0 {
            self.console.report(
                &format!("Resuming: {known} of {total} planned clips were done before"),
                &json!({"event": "resume", "done": known, "of": total}),
            );
        }
        (self.total, self.known, self.done) = (total, known, known);
        self.started = Instant::now();
        self.console.start_bar(total, known);
    }

    fn clip_recorded(&mut self, event: &ClipEvent<'_>) {
        self.done += 1;
        if self.console.is_human() {
            let counts = tables::counts_text(event.counts);
            return self.console.update_bar(self.done, &counts);
        }
        let rate = tables::clips_per_min(self.processed(), self.started.elapsed());
        #[expect(clippy::cast_precision_loss, reason = "counts of clips")]
        let left = self.total.saturating_sub(self.done) as f64;
        let round = |v: f64| (v * 10.0).round() / 10.0;
        let event = json!({
            "event": "clip", "gloss": event.gloss, "video_id": event.video_id, "state": event.state.name(),
            "reason": event.reason, "done": self.done, "of": self.total,
            "clips_per_min": rate.map(round), "eta_s": rate.map(|rate| round(left / rate * 60.0)),
        });
        print_line(&event.to_string());
    }

    fn backend_event(&mut self, event: &BackendEvent) {
        let BackendEvent::Chosen {
            name,
            reason,
            is_second_best,
        } = event
        else {
            return self.console.warn(&format!("{event}; {}", event.action()));
        };
        let json = json!({"event": "backend", "name": name, "reason": reason});
        let json = with_precision(json, name);
        self.console.report(&event.to_string(), &json);
        if *is_second_best {
            self.console.warn(&format!("{reason}; {name} runs instead"));
        }
    }

    fn warn(&mut self, text: &str) {
        self.console.warn(text);
    }
}

/// Prints what the dataset contains, in the wording of the notebook.
fn introduce(console: &Console, scan: &DatasetScan) {
    let (dataset, plan) = (&scan.dataset, &scan.plan);
    let (format, why) = (dataset.format().name(), dataset.why());
    console.report(
        &format!("Dataset format: {format} ({why})\n\n{}", dataset.report()),
        &json!({
            "event": "dataset", "format": format, "why": why, "json": dataset.json_path().to_string_lossy(), "json_bytes": dataset.json_bytes(),
            "videos": dataset.videos_path().to_string_lossy(), "video_files": dataset.video_count(),
        }),
    );
    for warning in &plan.warnings {
        console.warn(&Audience::Flags.describe(warning));
    }
    console.report(&plan.scan_report(), &json!({
        "event": "plan", "entries": plan.entries, "instances": plan.records.len(), "glosses_seen": plan.gloss_file_counts.len(),
        "glosses_kept": plan.glosses.len(), "glosses_dropped": plan.glosses_dropped(), "clips": plan.jobs.len(),
    }));
}

/// Lists the plan: a table for people, one line an instance for programs.
fn list(console: &Console, plan: &Plan) {
    if console.is_human() {
        return print_line(&tables::plan_table(plan));
    }
    for record in &plan.records {
        let (state, reason) = skip_reason(record).map_or(("process", None), |(state, reason)| {
            (state.name(), Some(reason))
        });
        let event = json!({
            "event": "list", "gloss": &*record.gloss, "video_id": record.video_id.as_deref(),
            "instance": record.instance, "state": state, "reason": reason,
        });
        print_line(&event.to_string());
    }
    for clip in &plan.absent {
        let event = json!({
            "event": "absent", "video_id": clip.video_id, "gloss": clip.gloss.as_deref(), "split": clip.split,
        });
        print_line(&event.to_string());
    }
}

/// Prints the results of a finished job in the output folder `out`.
pub(super) fn conclude(
    observer: &ConsoleObserver,
    out: &Path,
    spec: &SequenceSpec,
    report: &JobReport,
) -> Result<Exit, CliError> {
    let accepted = report.accepted();
    let mut text = tables::closing_table(report, observer.processed());
    let notices = tables::notices(report.totals, spec);
    text.extend(notices.iter().map(|notice| format!("\nNote: {notice}\n")));
    if report.was_complete {
        text.push_str("\nNothing was left to do; --fresh starts over\n");
    }
    if accepted > 0 {
        let (path, length) = (out.join(FINAL_NAME), spec.length);
        text.extend([
            format!("\nSaved {accepted} samples to {}\n", path.display()),
            format!("  Sequence shape: ({accepted}, {length}, 126)\n"),
        ]);
    }
    let per_gloss = report.judge.per_gloss().iter();
    let per_gloss: Map<String, Value> = per_gloss.map(|(g, n)| (g.to_string(), json!(n))).collect();
    let event = json!({
        "event": "done", "accepted": accepted, "states": states(&report.counts), "per_gloss": per_gloss,
        "truncated_clips": report.totals.truncated_clips, "slot_swaps": report.totals.slot_swaps,
        "two_hand_pairs": report.totals.two_hand_pairs, "notices": notices,
        "seconds": tenths(report.elapsed), "out": out.to_string_lossy(),
    });
    observer.console.report(&text, &event);
    if accepted > 0 {
        return Ok(Exit::Done);
    }
    let why = if report.counts.is_empty() {
        "the metadata lists no instance".to_owned()
    } else {
        tables::counts_text(&report.counts)
    };
    let manifest = out.join(MANIFEST_NAME);
    let text = format!(
        "no sequences were extracted: {why}; see {}",
        manifest.display()
    );
    Err(CliError::new(Exit::Nothing, anyhow!(text)))
}
