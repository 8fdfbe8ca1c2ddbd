//! Runs the job on the main thread until nothing is left to do, and carries out commands between two runs.

use crate::daemon::job_failure::{action, component, is_changed_dataset, reason};
use crate::daemon::job_observer::DaemonJobObserver;
use crate::daemon::job_queue::{JobRequests, PendingCommand};
use crate::daemon::{Daemon, RunOptions};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::job::worker_pool::RunOutcome;
use crate::job::{Job, JobContext, JobReport, retry_while_full};
use crate::limits::backoff::Backoff;
use crate::messages::payloads::JobPhase;
use crate::messages::request::CommandName;
use crate::storage::ledger::CANCELLED;
use crate::storage::output_dir::OpenMode;
use crate::system::lock_ignoring_poison;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// First and longest delay before a job whose input is missing is tried again.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(1)];
/// Longest wait without a request.
const IDLE_INTERVAL: Duration = Duration::from_mins(10);

/// The state between two runs.
struct Progress {
    /// What the next run does with results in the output directory; only the first one does not resume.
    mode: OpenMode,
    /// Whether the next run processes the clips again that failed before.
    retry_failed: bool,
    /// Whether no run has begun yet.
    is_first: bool,
    /// Accepted commands without a final reply.
    commands: Vec<PendingCommand>,
    is_run_wanted: bool,
    backoff: Backoff,
    /// The failure that was reported last. It is not reported again until the job succeeds or the failure changes.
    reported: Option<String>,
    outcome: Exit,
}

impl Progress {
    fn forget_failure(&mut self) {
        self.backoff.reset();
        self.reported = None;
    }
}

impl Daemon {
    /// Runs the job until the process ends, or until it is done when `once`.
    ///
    /// # Errors
    /// Fails when the job cannot run for a lasting reason; with `once` also for a temporary one.
    pub(super) fn supervise(&self, options: &RunOptions) -> Result<Exit, CliError> {
        let [first_delay, max_delay] = RETRY_DELAYS;
        let mut progress = Progress {
            mode: options.mode,
            retry_failed: options.retry_failed,
            is_first: true,
            commands: Vec::new(),
            is_run_wanted: true,
            backoff: Backoff::new(first_delay, max_delay),
            reported: None,
            outcome: Exit::Stopped,
        };
        loop {
            let is_cancelled = self.take_requests(&mut progress);
            if self.shutdown.is_requested() {
                // The commands are answered at the next start.
                return Ok(progress.outcome);
            }
            if is_cancelled {
                self.wait_for_resume(&mut progress);
            } else if progress.is_run_wanted {
                if let Some(ended) = self.run_once(&mut progress, options.once) {
                    return ended;
                }
            } else {
                self.wait_for_requests(IDLE_INTERVAL, JobRequests::is_due);
            }
        }
    }

    /// Takes over what was requested; returns whether the job is cancelled.
    fn take_requests(&self, progress: &mut Progress) -> bool {
        let requests = self.queue.take();
        progress.commands.extend(requests.commands);
        let is_cancel = |c: &mut PendingCommand| c.command == CommandName::Cancel;
        for command in progress.commands.extract_if(.., is_cancel) {
            // A resume command may have followed at once.
            let change = (CANCELLED, requests.is_cancelled.then_some("1"));
            self.outbox.reply(&command, Ok(None), &[change]);
        }
        progress.is_run_wanted |= requests.is_run_wanted || !progress.commands.is_empty();
        requests.is_cancelled
    }

    fn wait_for_resume(&self, progress: &mut Progress) {
        let reason = "cancelled by command; send resume to continue".to_owned();
        self.telemetry.phase(JobPhase::Idle, Some(reason));
        let refusal = "the job is cancelled; send resume first";
        self.outbox.refuse(progress.commands.drain(..), refusal);
        self.wait_for_requests(IDLE_INTERVAL, |requests| {
            !requests.is_cancelled || !requests.commands.is_empty()
        });
    }

    /// Runs the job once. Returns how the daemon ends, if it does. Answered commands are removed from `progress`.
    fn run_once(&self, progress: &mut Progress, once: bool) -> Option<Result<Exit, CliError>> {
        if progress.reported.is_none() || !progress.commands.is_empty() {
            self.telemetry.phase(JobPhase::Scanning, None);
        }
        let is_first = progress.is_first;
        let mut observer = DaemonJobObserver {
            daemon: self,
            has_progressed: false,
        };
        let run = self.run(progress, &mut observer);
        progress.outcome = Exit::Stopped;
        let failure = match run {
            Ok(report) if report.outcome == RunOutcome::Done => {
                self.telemetry.counts(&report.counts);
                progress.forget_failure();
                (progress.is_run_wanted, progress.outcome) = (false, Exit::Done);
                return self.finish(report.accepted(), once).map(Ok);
            }
            Ok(_) => {
                progress.forget_failure();
                return None;
            }
            Err(failure) if failure.is_full() && self.control.is_stopped() => {
                progress.forget_failure();
                return None;
            }
            Err(failure) => failure,
        };
        let may_pass = match failure.exit {
            Exit::Bug => false,
            // Stopped while accelerators were measured.
            Exit::Stopped => return None,
            // The camera's thread has reported it.
            Exit::Unavailable if self.shutdown.is_requested() => return None,
            // The camera, even an unplugged one, needs the accelerator as well.
            Exit::Unavailable if self.camera.lock().requests.is_some() => false,
            // Disk or dataset may be available again.
            Exit::NoInput | Exit::InOut => true,
            _ => is_changed_dataset(&failure) || !is_first,
        };
        // With `once` the daemon does not wait: its caller decides when to try again.
        if !may_pass || once {
            let reason = Audience::Keys.display_chain(&failure);
            self.outbox.refuse(progress.commands.drain(..), &reason);
            if !may_pass {
                self.report_fatal(component(&failure), &failure);
            }
            return Some(Err(failure));
        }
        if observer.has_progressed {
            progress.forget_failure();
        }
        self.wait_for_retry(progress, &failure);
        None
    }

    /// Publishes that the job is done with `accepted` sequences. With `once` it returns how the daemon ends.
    fn finish(&self, accepted: usize, once: bool) -> Option<Exit> {
        let reason = format!("the job is done: {accepted} sequences");
        self.telemetry.phase(JobPhase::Idle, Some(reason));
        if !once {
            return None;
        }
        self.mirror.wait_until_idle(&self.shutdown);
        // A shard may be empty.
        let is_shard = self.config().run.shard.is_some();
        Some(if accepted == 0 && !is_shard {
            Exit::Nothing
        } else {
            Exit::Done
        })
    }

    fn wait_for_retry(&self, progress: &mut Progress, failure: &CliError) {
        let reason = reason(failure);
        self.outbox.refuse(progress.commands.drain(..), &reason);
        if progress.reported.as_ref() != Some(&reason) {
            self.outbox
                .fault(component(failure), reason.clone(), action(failure));
        }
        self.telemetry.phase(JobPhase::Error, Some(reason.clone()));
        progress.reported = Some(reason);
        self.wait_for_requests(progress.backoff.next_delay(0.0), JobRequests::is_due);
    }

    fn run(
        &self,
        progress: &mut Progress,
        observer: &mut DaemonJobObserver<'_>,
    ) -> Result<JobReport, CliError> {
        let is_requested = |command| progress.commands.iter().any(|c| c.command == command);
        let mode = match progress.mode {
            OpenMode::Resume if is_requested(CommandName::Rescan) => OpenMode::Rescan,
            mode => mode,
        };
        let is_retry = progress.retry_failed || is_requested(CommandName::RetryFailed);
        let config = self.config().job();
        let scan = config.scan()?;
        for warning in &scan.plan.warnings {
            tracing::warn!("{}", Audience::Keys.describe(warning));
        }
        config.check_decoder()?;
        let backend = self.open_backend(
            &mut |name| {
                let reason = format!("measuring whether {name} could run the models");
                self.telemetry.phase(JobPhase::Scanning, Some(reason));
            },
            &|| self.control.is_stopped(),
        )?;
        let mut job = Job::new(&config, &scan, &backend, self.ledger.clone());
        retry_while_full(observer, || job.claim(mode))?;
        let attempts = match &*lock_ignoring_poison(&self.attempt) {
            Some(attempt) => Some(attempt.sources()?),
            None => None,
        };
        if let Some(attempts) = attempts {
            let imported = retry_while_full(observer, || job.import(&attempts))?;
            tracing::info!(imported, "batches of other attempts at the shard");
        }
        // Another fresh start would discard what this run adds.
        progress.mode = OpenMode::Resume;
        self.starts_over.store(false, Ordering::Relaxed);
        let retried = if is_retry {
            retry_while_full(observer, || job.retry_failed())?
        } else {
            0
        };
        (progress.retry_failed, progress.is_first) = (false, false);
        let kept = self.ledger.lock().clips()?.len();
        for command in progress.commands.drain(..) {
            let result = match command.command {
                CommandName::Rescan => json!({"clips": scan.plan.jobs.len(), "done": kept}),
                _ => json!({"clips": retried}),
            };
            self.outbox.reply(&command, Ok(Some(result)), &[]);
        }
        self.telemetry.phase(JobPhase::Processing, None);
        let context = JobContext {
            workers: self.threads,
            control: &self.control,
            frames: &self.monitor,
        };
        self.gate.set_running(true);
        self.telemetry.shard(scan.share.name());
        let report = job.run(&context, observer);
        self.gate.set_running(false);
        drop(job);
        if matches!(&report, Ok(report) if report.outcome == RunOutcome::Done) {
            self.finish_shard()?;
        }
        report
    }

    /// Answers commands while there is no job: without a dataset the daemon runs the camera only.
    pub(super) fn stand_by(&self) -> Exit {
        let reason = "no dataset is configured".to_owned();
        self.telemetry.phase(JobPhase::Idle, Some(reason));
        while !self.shutdown.is_requested() {
            let mut commands = self.queue.take().commands;
            // The camera's thread cancels its recording.
            let is_cancel = |c: &mut PendingCommand| c.command == CommandName::Cancel;
            for command in commands.extract_if(.., is_cancel) {
                self.outbox.reply(&command, Ok(None), &[]);
            }
            let refusal = "no dataset is configured: there is no job";
            self.outbox.refuse(commands, refusal);
            self.wait_for_requests(IDLE_INTERVAL, |requests| !requests.commands.is_empty());
        }
        Exit::Done
    }
    /// Waits until a request `is_due`, until the process ends, or for `timeout`.
    pub(super) fn wait_for_requests(
        &self,
        timeout: Duration,
        is_due: impl Fn(&JobRequests) -> bool,
    ) {
        self.queue.wait(&self.shutdown, timeout, is_due);
    }
}
