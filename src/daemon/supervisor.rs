//! Runs the job on the main thread, again and again until nothing is left to do, and carries out between two runs
//! what was requested.

use crate::daemon::backend::Backends;
use crate::daemon::camera_task::CameraHandle;
use crate::daemon::job_failure::{FATAL_ACTION, action, component, is_changed_dataset, reason};
use crate::daemon::job_gate::JobGate;
use crate::daemon::job_observer::DaemonJobObserver;
use crate::daemon::job_queue::{JobQueue, JobRequests, PendingCommand};
use crate::daemon::live_config::LiveConfig;
use crate::daemon::mirror_task::MirrorHandle;
use crate::daemon::outbox_writer::OutboxWriter;
use crate::daemon::resource_monitor::ResourceStatus;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::daemon::worker_monitor::WorkerMonitor;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::job::worker_pool::{RunOutcome, WorkerControl};
use crate::job::{Job, JobContext, JobReport, retry_while_full};
use crate::limits::backoff::Backoff;
use crate::messages::payloads::JobPhase;
use crate::messages::request::CommandName;
use crate::storage::SharedLedger;
use crate::storage::ledger::CANCELLED;
use crate::storage::output_dir::OpenMode;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// First and longest delay before a job that failed for want of its input is tried again.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(1)];
/// Longest wait without a request.
const IDLE_INTERVAL: Duration = Duration::from_mins(10);

/// What the job's thread works with.
pub(super) struct Supervisor {
    pub(super) config: LiveConfig,
    pub(super) ledger: SharedLedger,
    /// Worker threads that a job has at most.
    pub(super) threads: usize,
    pub(super) control: Arc<WorkerControl>,
    pub(super) gate: Arc<JobGate>,
    pub(super) queue: Arc<JobQueue>,
    pub(super) backends: Arc<Backends>,
    pub(super) monitor: Arc<WorkerMonitor>,
    pub(super) camera: Arc<CameraHandle>,
    pub(super) mirror: Arc<MirrorHandle>,
    pub(super) resources: Arc<ResourceStatus>,
    pub(super) telemetry: Arc<TelemetryPublisher>,
    pub(super) outbox: Arc<OutboxWriter>,
    pub(super) shutdown: Shutdown,
}

/// How an attempt at the job ended.
enum Attempt {
    Done(JobReport),
    Stopped,
    /// Stopped before the job began: what prevented it may still do so.
    Interrupted,
    /// It may succeed later.
    Retry {
        failure: CliError,
        /// Whether a clip was recorded before.
        has_progressed: bool,
    },
    /// It will not.
    Fatal(CliError),
}

/// What the first run is asked to do; later runs resume.
#[derive(Clone, Copy)]
pub(super) struct FirstRun {
    pub(super) mode: OpenMode,
    pub(super) retry_failed: bool,
}

/// The state between two runs.
struct Progress {
    first_run: Option<FirstRun>,
    /// Accepted commands without a final reply.
    commands: Vec<PendingCommand>,
    is_run_wanted: bool,
    backoff: Backoff,
    /// The failure that was reported last: it is one fault until the job succeeds or the failure changes.
    reported: Option<String>,
    outcome: Exit,
}

impl Progress {
    fn forget_failure(&mut self) {
        self.backoff.reset();
        self.reported = None;
    }
}

impl Supervisor {
    /// Runs the job until the process ends, or until it is done when `once`.
    ///
    /// # Errors
    /// When the job cannot run and will not later; with `once` also when it might.
    pub(super) fn supervise(&self, first_run: FirstRun, once: bool) -> Result<Exit, CliError> {
        let [first_delay, max_delay] = RETRY_DELAYS;
        let mut progress = Progress {
            first_run: Some(first_run),
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
                if let Some(ended) = self.run_once(&mut progress, once) {
                    return ended;
                }
            } else {
                self.queue.wait(IDLE_INTERVAL, JobRequests::is_due);
            }
        }
    }

    /// Takes over what was requested; returns whether the job is cancelled.
    fn take_requests(&self, progress: &mut Progress) -> bool {
        let requests = self.queue.take();
        progress.commands.extend(requests.commands);
        let is_cancel = |c: &mut PendingCommand| c.command == CommandName::Cancel;
        for command in progress.commands.extract_if(.., is_cancel) {
            // A resume may have followed it at once.
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
        self.queue.wait(IDLE_INTERVAL, |requests| {
            !requests.is_cancelled || !requests.commands.is_empty()
        });
    }

    /// One attempt and what follows from it; how the daemon ends, when it does.
    fn run_once(&self, progress: &mut Progress, once: bool) -> Option<Result<Exit, CliError>> {
        if progress.reported.is_none() || !progress.commands.is_empty() {
            self.telemetry.phase(JobPhase::Scanning, None);
        }
        match self.attempt(progress) {
            Attempt::Done(report) => {
                progress.forget_failure();
                (progress.is_run_wanted, progress.outcome) = (false, Exit::Done);
                let accepted = report.accepted();
                let reason = format!("the job is done: {accepted} sequences");
                self.telemetry.phase(JobPhase::Idle, Some(reason));
                if once {
                    self.mirror.wait_until_idle(&self.shutdown);
                    return Some(Ok(if accepted == 0 {
                        Exit::Nothing
                    } else {
                        Exit::Done
                    }));
                }
            }
            Attempt::Stopped => {
                progress.forget_failure();
                progress.outcome = Exit::Stopped;
            }
            Attempt::Interrupted => progress.outcome = Exit::Stopped,
            Attempt::Fatal(failure) => {
                let reason = Audience::Keys.display_chain(&failure);
                self.outbox.refuse(progress.commands.drain(..), &reason);
                if self.shutdown.claim_reason() {
                    self.outbox.fault(component(&failure), reason, FATAL_ACTION);
                }
                return Some(Err(failure));
            }
            // Whoever started it knows better when to try again.
            Attempt::Retry { failure, .. } if once => {
                let reason = Audience::Keys.display_chain(&failure);
                self.outbox.refuse(progress.commands.drain(..), &reason);
                return Some(Err(failure));
            }
            Attempt::Retry {
                failure,
                has_progressed,
            } => {
                if has_progressed {
                    progress.forget_failure();
                }
                progress.outcome = Exit::Stopped;
                self.wait_for_retry(progress, &failure);
            }
        }
        None
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
        self.queue
            .wait(progress.backoff.next_delay(0.0), JobRequests::is_due);
    }

    /// Runs the job as far as it goes. Commands that got their reply leave `progress`.
    fn attempt(&self, progress: &mut Progress) -> Attempt {
        let is_first = progress.first_run.is_some();
        let mut observer = DaemonJobObserver::new(self);
        let failure = match self.run(progress, &mut observer) {
            Ok(report) if report.outcome == RunOutcome::Stopped => return Attempt::Stopped,
            Ok(report) => {
                self.telemetry.counts(&report.counts);
                return Attempt::Done(report);
            }
            Err(failure) => failure,
        };
        if failure.is_full() && self.control.is_stopped() {
            return Attempt::Stopped;
        }
        let is_retried = match failure.exit {
            Exit::Bug => false,
            // While accelerators were measured.
            Exit::Stopped => return Attempt::Interrupted,
            // The camera's thread has reported it.
            Exit::Unavailable if self.shutdown.is_requested() => return Attempt::Interrupted,
            // The camera needs the accelerator as well.
            Exit::Unavailable if self.camera.is_open() => false,
            // The disk may come back, or the dataset.
            Exit::NoInput | Exit::InOut => true,
            _ => is_changed_dataset(&failure) || !is_first,
        };
        if is_retried {
            Attempt::Retry {
                failure,
                has_progressed: observer.has_progressed,
            }
        } else {
            Attempt::Fatal(failure)
        }
    }

    fn run(
        &self,
        progress: &mut Progress,
        observer: &mut DaemonJobObserver<'_>,
    ) -> Result<JobReport, CliError> {
        let is_requested = |command| progress.commands.iter().any(|c| c.command == command);
        let mode = match progress.first_run.map(|first| first.mode) {
            None | Some(OpenMode::Resume) if is_requested(CommandName::Rescan) => OpenMode::Rescan,
            mode => mode.unwrap_or(OpenMode::Resume),
        };
        let is_retry = progress.first_run.is_some_and(|first| first.retry_failed)
            || is_requested(CommandName::RetryFailed);
        let config = self.config.get().job();
        let scan = config.scan()?;
        for warning in &scan.plan.warnings {
            tracing::warn!("{}", Audience::Keys.describe(warning));
        }
        config.check_decoder()?;
        let backend = self.backends.open(
            &mut |name| {
                let reason = format!("measuring whether {name} could run the models");
                self.telemetry.phase(JobPhase::Scanning, Some(reason));
            },
            &|| self.control.is_stopped(),
        )?;
        let mut job = Job::new(&config, &scan, &backend, self.ledger.clone());
        retry_while_full(observer, || job.claim(mode))?;
        if let Some(first) = &mut progress.first_run {
            // A second time it would discard what comes now.
            first.mode = OpenMode::Resume;
        }
        let retried = if is_retry {
            retry_while_full(observer, || job.retry_failed())?
        } else {
            0
        };
        progress.first_run = None;
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
            frames: &*self.monitor,
        };
        self.gate.set_running(true);
        let report = job.run(&context, observer);
        self.gate.set_running(false);
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
            self.queue
                .wait(IDLE_INTERVAL, |requests| !requests.commands.is_empty());
        }
        Exit::Done
    }
}
