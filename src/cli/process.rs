//! `handloom process`: runs one job to its end, with a bar or JSON lines. Ctrl-C stops it, the same command resumes it.

mod observer;
mod shard;
mod tables;

pub(super) use tables::counts_text;

use crate::cli::progress::{Console, ProgressKind, print_line};
use crate::config::{
    BatchConfig, Config, DatasetConfig, DatasetFiles, DelegateConfig, KeepConfig, ModelsConfig,
    OutputConfig, PlanConfig, RunConfig, SequenceConfig,
};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::ShutdownFlag;
use crate::job::worker_pool::{RunOutcome, WorkerControl};
use crate::job::{
    self, DatasetScan, Job, JobConfig, JobContext, JobReport, skip_reason, states, tenths,
};
use crate::sequence::SequenceSpec;
use crate::sequence::options::NamedChoice;
use crate::storage::SharedLedger;
use crate::storage::attempt::Attempt;
use crate::storage::batches::FINAL_NAME;
use crate::storage::manifest::MANIFEST_NAME;
use crate::storage::output_dir::{self, ClaimOutcome, OpenMode};
use anyhow::anyhow;
use clap::Args;
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) use observer::ConsoleObserver;

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

With --shard I/N only the clips of one shard are processed, into DIR/shard-I-of-N, which appears
when it is whole. Run it on N machines with one DIR, then join the shards with `handloom merge`.

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
  handloom resequence out/ --out corrected/ --profile corrected
  handloom process wlasl/ --out shared/ --shard 0/4      the first of four machines";

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
    /// End with 65 when the engine has started this shard more often, by SLURM_RESTART_COUNT, AWS_BATCH_JOB_ATTEMPT,
    /// CLOUD_RUN_TASK_ATTEMPT or SHARD_ATTEMPT (0 for the first)
    #[arg(long, value_name = "N", requires = "run.shard", help_heading = RUN_HEADING)]
    pub max_attempts: Option<NonZeroUsize>,
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
/// Returns the exit code and the message for the user.
pub fn run(args: &ProcessArgs) -> Result<Exit, CliError> {
    let console = Console::new(args.progress);
    let mut config = args.config();
    if let Some(detected) = config.resolve_shard()? {
        let event = json!({
            "event": "shard_source", "shard": detected.shard, "engine": detected.engine,
            "variables": detected.variables,
        });
        console.report(&format!("Shard {detected}"), &event);
    }
    if let Err(error) = Config::check_attempts(args.max_attempts)
        && !shard::is_whole(&config)
    {
        return Err(error);
    }
    if !args.list {
        return run_job(&config, &console, args.resume);
    }
    let scan = config.job().scan()?;
    introduce(&console, &scan);
    list(&console, &scan);
    Ok(Exit::Done)
}

/// Runs the job of `config` to its end.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub(super) fn run_job(
    config: &Config,
    console: &Console,
    resume: ResumeArgs,
) -> Result<Exit, CliError> {
    let job_config = config.job();
    shard::refuse_folder_of_shard(&job_config.out)?;
    if let Some(shard) = job_config.shard {
        return shard::run(config, &job_config, shard, console, resume);
    }
    let scan = job_config.scan()?;
    introduce(console, &scan);
    super::check_flags(config)?;
    job_config.check_decoder()?;
    let (report, observer) = run_in_folder(config, &job_config, &scan, console, resume, None)?;
    if report.outcome == RunOutcome::Stopped {
        return Ok(conclude_stopped(&observer, &scan, &report));
    }
    conclude(&observer, &job_config.out, &job_config.shape, &report)
}

/// Runs the job over `scan` in the output folder of `job_config`, until it is done or a signal stops it. For a shard,
/// this is the folder of `attempt`, and the sealed batches of other attempts are taken over. Nothing in the folder is
/// open when this returns.
///
/// # Errors
/// Returns the exit code and the message for the user.
fn run_in_folder(
    config: &Config,
    job_config: &JobConfig,
    scan: &DatasetScan,
    console: &Console,
    resume: ResumeArgs,
    attempt: Option<&Attempt>,
) -> Result<(JobReport, ConsoleObserver), CliError> {
    let workers = config.workers();
    let control = Arc::new(WorkerControl::new(workers));
    let stop = ShutdownFlag::default();
    let (to_stop, is_stopping) = (Arc::clone(&control), stop.clone());
    let _signals = super::on_stop(move || {
        job::shutdown_with_deadline(&to_stop);
        is_stopping.set();
    })?;
    let mode = resume.open_mode();
    let out = &job_config.out;
    // An attempt's folder is this process's own, and what it holds stays.
    let own = attempt.map(|_| output_dir::open_any(out, mode, true));
    let own = own.transpose()?;
    let known = match (mode, &own) {
        (OpenMode::Fresh, _) => None,
        (_, Some((_, ledger))) => ledger.job()?.map(|job| job.settings),
        (_, None) => output_dir::recorded_settings(out)?,
    };
    // A stop until here ends the command before earlier results could be removed.
    let backend = super::open_backend(config, known.as_ref(), workers, console, &stop)?;
    let opened = own.map_or_else(|| output_dir::open_any(out, mode, false), Ok);
    let (_lock, ledger) = opened?;
    let mut job = Job::new(job_config, scan, &backend, SharedLedger::new(ledger));
    let claim = job.claim(mode)?;
    let mut is_resumed = claim != ClaimOutcome::New;
    if let Some(attempt) = attempt {
        let imported = job.import(&attempt.sources()?)?;
        if imported > 0 {
            is_resumed = true;
            let text = format!("{imported} batches of another attempt are taken over");
            console.report(&text, &json!({"event": "imported", "batches": imported}));
        }
    }
    if resume.retry_failed {
        let count = job.retry_failed()?;
        console.report(
            &format!("{count} unreadable clips are read again"),
            &json!({"event": "retry", "clips": count}),
        );
    }
    let mut observer = ConsoleObserver::new(console.clone(), is_resumed);
    let context = JobContext {
        workers,
        control: &control,
        frames: &(),
    };
    let report = job.run(&context, &mut observer)?;
    observer.finish();
    Ok((report, observer))
}

/// Reports a job that was stopped.
fn conclude_stopped(observer: &ConsoleObserver, scan: &DatasetScan, report: &JobReport) -> Exit {
    let done: usize = report.counts.values().sum();
    let place = match scan.share.name() {
        Some(_) => ", on any machine that sees this folder",
        None => "",
    };
    let text = format!(
        "stopped: {} of {} planned clips are done, {done} of {} instances have their state; the same command resumes{place}",
        observer.done,
        observer.total,
        scan.share.record_counts().values().sum::<usize>(),
    );
    let event = json!({"event": "stopped", "instances": done});
    observer.console.report(&text, &event);
    Exit::Stopped
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

/// Lists the plan, or that of a shard: a table for people, one line an instance for programs.
fn list(console: &Console, scan: &DatasetScan) {
    let plan = &scan.plan;
    let records = plan.records.iter().enumerate();
    let own = records.filter(|(number, _)| scan.share.has_record(*number));
    let own = own.map(|(_, record)| record);
    if console.is_human() {
        return print_line(&tables::plan_table(own, &plan.absent));
    }
    for record in own {
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
    let saved = (accepted > 0).then(|| out.join(FINAL_NAME));
    report_results(observer, out, saved.as_deref(), spec, report);
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

/// Prints the results in the output folder `out`, whose sequences are in the file or folder `saved`.
fn report_results(
    observer: &ConsoleObserver,
    out: &Path,
    saved: Option<&Path>,
    spec: &SequenceSpec,
    report: &JobReport,
) {
    let accepted = report.accepted();
    let mut text = tables::closing_table(report, observer.processed());
    let notices = tables::notices(report.totals, spec);
    text.extend(notices.iter().map(|notice| format!("\nNote: {notice}\n")));
    if report.was_complete {
        text.push_str("\nNothing was left to do; --fresh starts over\n");
    }
    if let Some(path) = saved {
        let length = spec.length;
        text.extend([
            format!("\nSaved {accepted} samples to {}\n", path.display()),
            format!("  Sequence shape: ({accepted}, {length}, 126)\n"),
        ]);
    }
    let per_gloss = report.clip_acceptance.per_gloss().iter();
    let per_gloss: Map<String, Value> = per_gloss.map(|(g, n)| (g.to_string(), json!(n))).collect();
    let event = json!({
        "event": "done", "accepted": accepted, "states": states(&report.counts), "per_gloss": per_gloss,
        "truncated_clips": report.totals.truncated_clips, "slot_swaps": report.totals.slot_swaps,
        "two_hand_pairs": report.totals.two_hand_pairs, "notices": notices,
        "seconds": tenths(report.elapsed), "out": out.to_string_lossy(),
    });
    observer.console.report(&text, &event);
}
