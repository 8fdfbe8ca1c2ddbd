//! `handloom process`: runs one job to its end, with a bar or JSON lines. Ctrl-C stops it, the same command resumes it.

use crate::cli::flag_checks;
use crate::cli::progress;
use crate::cli::progress::Reporter;
use crate::cli::{ProcessArgs, ProgressKind};
use crate::dataset::acceptance::{State, StateCounts};
use crate::dataset::plan::Plan;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::ShutdownFlag;
use crate::inference::{BackendEvent, BackendHandle, SelectionContext, SelectionError};
use crate::job;
use crate::job::worker_pool::{RunOutcome, WorkerControl};
use crate::job::{
    ClipEvent, DatasetScan, Job, JobConfig, JobContext, JobObserver, JobReport, skip_reason,
    states, tenths,
};
use crate::storage::SharedLedger;
use crate::storage::batches::FINAL_NAME;
use crate::storage::manifest::MANIFEST_NAME;
use crate::storage::output_dir::{self, ClaimOutcome};
use crate::system::{Signal, Signals};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::sync::Arc;

/// Runs the job.
///
/// # Errors
/// The message for the user, with the exit code.
pub fn run(args: &ProcessArgs) -> Result<Exit, CliError> {
    let human = match args.progress {
        ProgressKind::Auto => None,
        ProgressKind::Bar => Some(true),
        ProgressKind::Json => Some(false),
    };
    let mut reporter = Reporter::new(human);
    let config = args.config();
    let job_config = config.job();
    let scan = job_config.scan()?;
    introduce(&reporter, &scan);
    if args.list {
        list(&reporter, &scan.plan);
        return Ok(Exit::Done);
    }
    if args.out.is_none() {
        return Err(CliError::new(Exit::Usage, anyhow!("--out DIR is needed")));
    }
    flag_checks::check(&config)?;
    job_config.check_decoder()?;
    let workers = config.workers();
    let (control, ending) = (
        Arc::new(WorkerControl::new(workers)),
        ShutdownFlag::default(),
    );
    let _signals = Signals::listen(on_signal(Arc::clone(&control), ending.clone()))
        .map_err(|e| CliError::new(Exit::InOut, anyhow!("cannot listen for Ctrl-C: {e}")))?;
    let context = &mut SelectionContext {
        workers,
        on_probe: &mut |name| {
            reporter.say(
                &format!("Measuring {name} ..."),
                &json!({"event": "measure", "backend": name}),
            );
        },
        is_stopped: &|| ending.is_set(),
        shutdown: &ending,
    };
    let backend = BackendHandle::open(&job_config.accelerator, &job_config.models, context)?;
    if ending.is_set() {
        // Before earlier results could be removed.
        return Err(SelectionError::Stopped.into());
    }
    let mode = args.resume.open_mode();
    let (_lock, ledger) = output_dir::open(&job_config.out, mode)?;
    let mut job = Job::new(&job_config, &scan, &backend, SharedLedger::new(ledger));
    let claim = job.claim(mode)?;
    if args.resume.retry_failed {
        let count = job.retry_failed()?;
        reporter.say(
            &format!("{count} unreadable clips are read again"),
            &json!({"event": "retry", "clips": count}),
        );
    }
    let mut observer = ConsoleObserver {
        reporter: &mut reporter,
        is_resumed: claim != ClaimOutcome::New,
    };
    let context = JobContext {
        workers,
        control: &control,
        frames: &(),
    };
    let report = job.run(&context, &mut observer)?;
    reporter.end();
    if report.outcome == RunOutcome::Stopped {
        let done: usize = report.counts.values().sum();
        let text = format!(
            "stopped: {} of {} planned clips are done, {done} of {} instances have their state; the same command resumes",
            reporter.done(),
            scan.plan.jobs.len(),
            scan.plan.records.len()
        );
        reporter.say(&text, &json!({"event": "stopped", "instances": done}));
        return Ok(Exit::Stopped);
    }
    conclude(&reporter, &job_config, &report)
}

/// Stops the job at the first signal and the process at the second, or when the job takes too long to stop.
fn on_signal(
    control: Arc<WorkerControl>,
    ending: ShutdownFlag,
) -> impl FnMut(Signal) + Send + 'static {
    move |signal| match signal {
        Signal::Stop => {
            job::shutdown_with_deadline(&control);
            ending.set();
        }
        // Every recorded clip is on disk, so the process may end at any instruction.
        Signal::StopNow => std::process::exit(Exit::Stopped as i32),
        Signal::Reload => {}
    }
}

/// Reports the job on the terminal, or as JSON lines on stdout.
struct ConsoleObserver<'a> {
    reporter: &'a mut Reporter,
    is_resumed: bool,
}

impl JobObserver for ConsoleObserver<'_> {
    fn job_started(&mut self, _run: &str, total: usize, known: usize) {
        if self.is_resumed && known > 0 {
            self.reporter.say(
                &format!("Resuming: {known} of {total} planned clips were done before"),
                &json!({"event": "resume", "done": known, "of": total}),
            );
        }
        self.reporter.begin(total, known);
    }

    fn clip_recorded(&mut self, event: &ClipEvent<'_>) {
        self.reporter.clip(
            event.gloss,
            event.video_id,
            event.state,
            event.reason,
            event.counts,
        );
    }

    fn backend_event(&mut self, event: &BackendEvent) {
        match event {
            BackendEvent::Chosen {
                name,
                reason,
                is_second_best,
            } => {
                self.reporter.say(
                    &format!("Running the models on {name}: {reason}"),
                    &json!({"event": "backend", "name": name, "reason": reason}),
                );
                if *is_second_best {
                    self.reporter.warn(&format!("{reason}; {name} runs instead"));
                }
            }
            BackendEvent::Reopened {
                name,
                times,
                reason,
            } => self.reporter.warn(&format!(
                "{name} failed and was opened again, {times} times so far; nothing is lost: {reason}"
            )),
            BackendEvent::Lost { name, reason } => self.reporter.warn(&format!(
                "{name} is given up: {reason}; the CPU goes on, and the manifest says which clips are its"
            )),
        }
    }

    fn warn(&mut self, text: &str) {
        self.reporter.warn(text);
    }
}

/// Prints what the dataset contains, in the wording of the notebook.
fn introduce(reporter: &Reporter, scan: &DatasetScan) {
    let (dataset, plan) = (&scan.dataset, &scan.plan);
    reporter.say(
        &dataset.report(),
        &json!({
            "event": "dataset", "json": dataset.json_path(), "json_bytes": dataset.json_bytes(),
            "videos": dataset.videos_path(), "video_files": dataset.video_count(),
        }),
    );
    for warning in &plan.warnings {
        reporter.warn(&Audience::Flags.describe(warning));
    }
    reporter.say(&plan.scan_report(), &json!({
        "event": "plan", "entries": plan.entries, "instances": plan.records.len(), "glosses_seen": plan.gloss_file_counts.len(),
        "glosses_kept": plan.glosses.len(), "glosses_dropped": plan.glosses_dropped(), "clips": plan.jobs.len(),
    }));
}

/// Lists the plan: a table for people, one line an instance for programs.
fn list(reporter: &Reporter, plan: &Plan) {
    if reporter.is_human() {
        progress::line(&progress::plan_table(plan, |record| {
            skip_reason(record).unwrap_or((State::Accepted, String::new()))
        }));
        return;
    }
    for record in &plan.records {
        let (state, reason) = skip_reason(record).map_or(("process", None), |(state, reason)| {
            (state.name(), Some(reason))
        });
        let event = json!({
            "event": "list", "gloss": &*record.gloss, "video_id": record.video_id.as_deref(),
            "instance": record.instance, "state": state, "reason": reason,
        });
        progress::line(&event.to_string());
    }
}

/// Prints the results of a finished job.
fn conclude(
    reporter: &Reporter,
    job_config: &JobConfig,
    report: &JobReport,
) -> Result<Exit, CliError> {
    let accepted = report.accepted();
    let mut text = progress::closing_table(
        &report.counts,
        &report.judge,
        reporter.clips_done(),
        report.elapsed,
    );
    if report.was_complete {
        text.push_str("\nNothing was left to do; --fresh starts over\n");
    }
    if accepted > 0 {
        let path = job_config.out.join(FINAL_NAME);
        text.extend([
            format!("\nSaved {accepted} samples to {}\n", path.display()),
            format!(
                "  Sequence shape: ({accepted}, {}, 126)\n",
                job_config.shape.length
            ),
        ]);
    }
    let per_gloss: serde_json::Map<String, Value> = report
        .judge
        .per_gloss()
        .iter()
        .map(|(g, n)| (g.to_string(), json!(n)))
        .collect();
    reporter.say(
        &text,
        &json!({
            "event": "done", "accepted": accepted, "states": states(&report.counts), "per_gloss": per_gloss,
            "seconds": tenths(report.elapsed), "out": job_config.out,
        }),
    );
    if accepted == 0 {
        let error = anyhow!(
            "no sequences were extracted: {}; see {}",
            why_nothing(&report.counts),
            job_config.out.join(MANIFEST_NAME).display()
        );
        return Err(CliError::new(Exit::Nothing, error));
    }
    Ok(Exit::Done)
}

fn why_nothing(tally: &StateCounts) -> String {
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
