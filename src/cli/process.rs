//! `handloom process`: one job to its end, with a bar or JSON lines. Ctrl-C stops it; the same command goes on.

use crate::cli::flag_checks;
use crate::cli::progress;
use crate::cli::progress::Reporter;
use crate::cli::{ProcessArgs, ProgressKind};
use crate::dataset::acceptance::State;
use crate::dataset::acceptance::StateCounts;
use crate::dataset::plan::{Plan, PlannedClip};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::frame::RgbFrame;
use crate::inference::ShutdownFlag;
use crate::inference::{BackendEvent, BackendHandle, SelectionContext, SelectionError};
use crate::job;
use crate::job::worker_pool::{RunOutcome, WorkerControl};
use crate::job::{
    ClipEvent, DatasetScan, FrameObserver, JobConfig, JobContext, JobObserver, JobReport,
    skip_reason, states, tenths,
};
use crate::sequence::FrameRecord;
use crate::storage::StoreError;
use crate::storage::batches::FINAL_NAME;
use crate::storage::ledger::Timestamp;
use crate::storage::output_dir;
use crate::storage::output_dir::ClaimOutcome;
use crate::storage::output_dir::MANIFEST_NAME;
use crate::system::{Signal, Signals};
use anyhow::anyhow;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

/// Runs the job.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(args: &ProcessArgs) -> Result<Exit, CliError> {
    let human = match args.progress {
        ProgressKind::Auto => None,
        ProgressKind::Bar => Some(true),
        ProgressKind::Json => Some(false),
    };
    let mut reporter = Reporter::new(human);
    let config = args.config();
    let spec = config.job();
    let scan = spec.scan()?;
    introduce(&reporter, &scan);
    if args.list {
        list(&reporter, &scan.plan);
        return Ok(Exit::Done);
    }
    if args.out.is_none() {
        return Err(CliError::new(Exit::Usage, anyhow!("--out DIR is needed")));
    }
    flag_checks::check(&config)?;
    spec.check_decoder()?;
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
    let backend = BackendHandle::open(&spec.accelerator, &spec.models, workers, context)?;
    if ending.is_set() {
        // Before earlier results could go.
        return Err(SelectionError::Stopped.into());
    }
    let (_lock, ledger) = output_dir::open(&spec.out, args.resume.open_mode())?;
    let ledger = Mutex::new(ledger);
    let claim = spec.claim(
        &scan,
        &backend,
        &ledger,
        args.resume.open_mode(),
        &job::stamp(),
    )?;
    if args.resume.retry_failed {
        let count = spec.retry_failed(&scan, &ledger)?;
        reporter.say(
            &format!("{count} unreadable clips are read again"),
            &json!({"event": "retry", "clips": count}),
        );
    }
    let mut host = ConsoleObserver {
        reporter: &mut reporter,
        is_resumed: claim != ClaimOutcome::New,
    };
    let means = JobContext {
        ledger: &ledger,
        workers,
        control: &control,
        witness: &NoopObserver,
    };
    let report = spec.run(&scan, &backend, &means, &mut host)?;
    reporter.end();
    if report.ended == RunOutcome::Stopped {
        let done: usize = report.tally.values().sum();
        let text = format!(
            "stopped: {} of {} planned clips are done, {done} of {} instances have their state; the same command resumes",
            reporter.done(),
            scan.plan.jobs.len(),
            scan.plan.records.len()
        );
        reporter.say(&text, &json!({"event": "stopped", "instances": done}));
        return Ok(Exit::Stopped);
    }
    conclude(&reporter, &spec, &report)
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
        // Every clip that was recorded is on disk; a job can be left at any instruction.
        Signal::StopNow => std::process::exit(Exit::Stopped as i32),
        Signal::Reload => {}
    }
}

/// The terminal, or the program that reads our stdout.
struct ConsoleObserver<'a> {
    reporter: &'a mut Reporter,
    is_resumed: bool,
}

impl JobObserver for ConsoleObserver<'_> {
    fn stamp(&self) -> Timestamp {
        job::stamp()
    }

    fn begin(&mut self, _run: &str, total: usize, known: usize) {
        if self.is_resumed && known > 0 {
            self.reporter.say(
                &format!("Resuming: {known} of {total} planned clips were done before"),
                &json!({"event": "resume", "done": known, "of": total}),
            );
        }
        self.reporter.begin(total, known);
    }

    fn clip(&mut self, news: &ClipEvent<'_>) {
        self.reporter.clip(
            news.gloss,
            news.video_id,
            news.state,
            news.reason,
            news.tally,
        );
    }

    fn sealed(&mut self) {}

    fn wait_for_room(&mut self, _error: &StoreError) -> bool {
        // Somebody is there to make room and start it again.
        false
    }

    fn has_room(&mut self) {}

    fn accelerator(&mut self, news: &BackendEvent) {
        match news {
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

/// Nobody looks on.
struct NoopObserver;

impl FrameObserver for NoopObserver {
    fn began(&self, _worker: usize, _job: &PlannedClip) {}
    fn saw(&self, _worker: usize, _job: &PlannedClip, _frame: &RgbFrame, _found: &FrameRecord) {}
    fn ended(&self, _worker: usize) {}
}

/// Says what was found, in the notebook's words.
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
    let c = &plan.counts;
    reporter.say(&plan.scan_report(), &json!({
        "event": "plan", "entries": c.entries, "instances": c.instances, "glosses_seen": c.glosses_seen,
        "glosses_kept": plan.glosses.len(), "glosses_dropped": c.glosses_dropped, "clips": plan.jobs.len(),
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

/// The closing words of a job that came to its end.
fn conclude(reporter: &Reporter, spec: &JobConfig, report: &JobReport) -> Result<Exit, CliError> {
    let accepted = report.accepted();
    let mut text = progress::closing_table(
        &report.tally,
        &report.judge,
        reporter.clips_done(),
        report.elapsed,
    );
    if report.was_complete {
        text.push_str("\nNothing was left to do; --fresh starts over\n");
    }
    if accepted > 0 {
        let path = spec.out.join(FINAL_NAME);
        text.extend([
            format!("\nSaved {accepted} samples to {}\n", path.display()),
            format!(
                "  Sequence shape: ({accepted}, {}, 126)\n",
                spec.shape.length
            ),
        ]);
    }
    let per_gloss: serde_json::Map<String, Value> = report
        .judge
        .per_gloss()
        .into_iter()
        .map(|(g, n)| (g.to_string(), json!(n)))
        .collect();
    reporter.say(
        &text,
        &json!({
            "event": "done", "accepted": accepted, "states": states(&report.tally), "per_gloss": per_gloss,
            "seconds": tenths(report.elapsed), "out": spec.out,
        }),
    );
    if accepted == 0 {
        let error = anyhow!(
            "no sequences were extracted: {}; see {}",
            why_nothing(&report.tally),
            spec.out.join(MANIFEST_NAME).display()
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
