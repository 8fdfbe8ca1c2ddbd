//! Runs the job on the main thread, again and again until nothing is left to do, and carries out between two runs
//! what was asked for.

use crate::cli::ResumeArgs;
use crate::daemon::state::{Daemon, ENDS, PendingCommand};
use crate::dataset::acceptance::State;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::BackendEvent;
use crate::inference::ModelFileError;
use crate::job::worker_pool::RunOutcome;
use crate::job::{ClipEvent, JobContext, JobObserver, JobReport, persist, stamp};
use crate::messages::payloads::{ClipName, JobPhase};
use crate::messages::request::CommandName;
use crate::storage::StoreError;
use crate::storage::ledger::{CANCELLED, Timestamp};
use crate::storage::output_dir::OpenMode;
use crate::system::lock_ignoring_poison;
use serde_json::json;
use std::time::Duration;

/// First and longest pause before a job that failed for want of its input is tried again.
const RETRY: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(1)];
/// Without news the supervisor looks around so often.
const LOOK: Duration = Duration::from_mins(10);

/// How an attempt at the job ended.
enum Attempt {
    Done(JobReport),
    Stopped,
    /// The same before the job could begin: what was in its way may still be.
    Interrupted,
    /// It may go better later.
    Wait {
        failure: CliError,
        /// Whether a clip was recorded before.
        has_progressed: bool,
    },
    /// It will not.
    Fatal(CliError),
}

/// What the command line asks of the first run; of those after it nothing.
struct Start {
    mode: OpenMode,
    retry: bool,
    is_first: bool,
}

/// Runs the job until a signal ends the process, or until it is done when `once`.
#[expect(
    clippy::too_many_lines,
    reason = "split with the struct that all share"
)]
pub(super) fn supervise(daemon: &Daemon, again: ResumeArgs, once: bool) -> Result<Exit, CliError> {
    let mut start = Start {
        mode: again.open_mode(),
        retry: again.retry_failed,
        is_first: true,
    };
    // Accepted, and without a last word.
    let mut tasks: Vec<PendingCommand> = Vec::new();
    let mut pause = RETRY[0];
    // What stands in the way, as told.
    let mut trouble: Option<String> = None;
    let mut outcome = Exit::Stopped;
    let mut is_wanted = true;
    loop {
        // Ahead of the look at the tasks: whoever asks for something after it stops the next run.
        daemon.control.reset();
        let (is_cancelled, is_stopping) = daemon.change_tasks(|shared| {
            is_wanted |= std::mem::take(&mut shared.again);
            tasks.append(&mut shared.todo);
            (shared.is_cancelled, shared.is_stopping)
        });
        for task in tasks.extract_if(.., |task| task.command == CommandName::Cancel) {
            // A resume may have come right behind it.
            let note = is_cancelled.then_some("1");
            daemon.answer(&task, Ok(None), &[(CANCELLED, note)]);
        }
        if is_stopping {
            // Commands without a last word get one at the next start.
            return Ok(outcome);
        }
        is_wanted |= !tasks.is_empty();
        if is_cancelled {
            daemon.telemetry.phase(
                JobPhase::Idle,
                Some("cancelled by command; resume goes on".to_owned()),
            );
            refuse(
                daemon,
                &mut tasks,
                "the job is cancelled; send resume first",
            );
            daemon.wait(LOOK, |tasks| {
                tasks.is_stopping || !tasks.is_cancelled || !tasks.todo.is_empty()
            });
            continue;
        }
        if !is_wanted {
            daemon.wait(LOOK, |tasks| {
                tasks.is_stopping || tasks.again || tasks.is_cancelled || !tasks.todo.is_empty()
            });
            continue;
        }
        if trouble.is_none() || !tasks.is_empty() {
            daemon.telemetry.phase(JobPhase::Scanning, None);
        }
        match attempt(daemon, &mut start, &mut tasks) {
            Attempt::Done(report) => {
                (is_wanted, pause, outcome, trouble) = (false, RETRY[0], Exit::Done, None);
                let accepted = report.accepted();
                daemon.telemetry.phase(
                    JobPhase::Idle,
                    Some(format!("the job is done: {accepted} sequences")),
                );
                if once {
                    wait_for_mirror(daemon);
                    return Ok(if accepted == 0 {
                        Exit::Nothing
                    } else {
                        Exit::Done
                    });
                }
            }
            Attempt::Stopped => (pause, outcome, trouble) = (RETRY[0], Exit::Stopped, None),
            Attempt::Interrupted => outcome = Exit::Stopped,
            Attempt::Fatal(failure) => {
                give_up(daemon, &mut tasks, &failure);
                return Err(failure);
            }
            Attempt::Wait {
                failure,
                has_progressed,
            } => {
                if once {
                    // Whoever started it knows better when to try again.
                    refuse(daemon, &mut tasks, &Audience::Keys.story(&failure));
                    return Err(failure);
                }
                outcome = Exit::Stopped;
                if has_progressed {
                    (pause, trouble) = (RETRY[0], None);
                }
                let reason = story(&failure);
                refuse(daemon, &mut tasks, &reason);
                // A fault once, until it goes well or changes.
                if trouble.as_ref() != Some(&reason) {
                    let (component, action) = cure(&failure);
                    daemon.fault(component, reason.clone(), action);
                }
                daemon
                    .telemetry
                    .phase(JobPhase::Error, Some(reason.clone()));
                trouble = Some(reason);
                daemon.wait(pause, |tasks| {
                    tasks.is_stopping || tasks.again || tasks.is_cancelled || !tasks.todo.is_empty()
                });
                pause = (pause * 2).min(RETRY[1]);
            }
        }
    }
}

/// What the mirror can have, it gets.
fn wait_for_mirror(daemon: &Daemon) {
    daemon.wait(Duration::MAX, |tasks| {
        tasks.is_stopping || !(tasks.is_sealed || tasks.is_copying)
    });
}

/// Without a dataset there is a camera, or the config would not have been taken; here is nothing to do but to say so.
pub(super) fn stand_by(daemon: &Daemon) -> Exit {
    let reason = "no dataset is configured";
    daemon
        .telemetry
        .phase(JobPhase::Idle, Some(reason.to_owned()));
    while !daemon.is_stopping() {
        let mut tasks = daemon.change_tasks(|shared| {
            (shared.again, shared.is_cancelled) = (false, false);
            std::mem::take(&mut shared.todo)
        });
        // Takes are cancelled by the camera.
        for task in tasks.extract_if(.., |task| task.command == CommandName::Cancel) {
            daemon.answer(&task, Ok(None), &[]);
        }
        refuse(
            daemon,
            &mut tasks,
            "no dataset is configured: there is no job",
        );
        daemon.wait(LOOK, |tasks| tasks.is_stopping || !tasks.todo.is_empty());
    }
    Exit::Done
}

/// Their last word is no.
fn refuse(daemon: &Daemon, tasks: &mut Vec<PendingCommand>, reason: &str) {
    for task in tasks.drain(..) {
        daemon.answer(&task, Err(reason.to_owned()), &[]);
    }
}

/// Whether the output folder holds the same job over another state of the dataset.
fn is_changed_dataset(failure: &CliError) -> bool {
    matches!(
        failure.error.downcast_ref(),
        Some(StoreError::Occupied {
            is_dataset: true,
            ..
        })
    )
}

/// Says why the daemon ends.
fn give_up(daemon: &Daemon, tasks: &mut Vec<PendingCommand>, failure: &CliError) {
    let story = Audience::Keys.story(failure);
    refuse(daemon, tasks, &story);
    if daemon.has_last_word() {
        daemon.fault(cure(failure).0, story, ENDS);
    }
}

/// What stands in the way, with the way out of a daemon's user.
fn story(failure: &CliError) -> String {
    match failure.error.downcast_ref() {
        Some(StoreError::Occupied {
            difference,
            is_dataset: true,
            ..
        }) => format!(
            "the dataset is not as it was when the job began ({difference}): send the command rescan, or put it back"
        ),
        _ => Audience::Keys.story(failure),
    }
}

/// What a failure that may pass is about, and what is done about it.
fn cure(failure: &CliError) -> (&'static str, &'static str) {
    if is_changed_dataset(failure) {
        return (
            "dataset",
            "nothing is read until a rescan: send the command rescan, which keeps what is still right, or put the dataset back as it was",
        );
    }
    if failure.exit == Exit::Unavailable {
        return ("accelerator", "measured and tried again until it works");
    }
    let component = if matches!(
        failure.error.downcast_ref(),
        Some(StoreError::Occupied { .. })
    ) {
        "job"
    } else if failure.error.is::<StoreError>() {
        "disk"
    } else if failure.error.is::<ModelFileError>() {
        "job"
    } else {
        "dataset"
    };
    (component, "tried again until it goes well")
}

/// Reads the dataset, takes up what was asked for, and runs the job as far as it goes. Tasks that got their answer
/// leave `tasks`.
fn attempt(daemon: &Daemon, start: &mut Start, tasks: &mut Vec<PendingCommand>) -> Attempt {
    let is_first = start.is_first;
    let mut observer = DaemonJobObserver {
        daemon,
        has_progressed: false,
    };
    match run(daemon, start, tasks, &mut observer) {
        Ok(report) if report.ended == RunOutcome::Stopped => Attempt::Stopped,
        Ok(report) => {
            daemon.telemetry.tally(&report.tally);
            Attempt::Done(report)
        }
        // Told to end while it waited for room.
        Err(failure) if failure.is_full() && daemon.control.is_stopped() => Attempt::Stopped,
        Err(failure) => match failure.exit {
            Exit::Bug => Attempt::Fatal(failure),
            // While accelerators were measured.
            Exit::Stopped => Attempt::Interrupted,
            // The camera has said so.
            Exit::Unavailable if daemon.is_stopping() => Attempt::Interrupted,
            // The camera cannot go on without it, either.
            Exit::Unavailable if daemon.camera.is_open() => Attempt::Fatal(failure),
            // The medium may come back, the disk be mended, the dataset be taken up by command.
            Exit::NoInput | Exit::InOut => observer.waits_for(failure),
            _ if is_changed_dataset(&failure) || !is_first => observer.waits_for(failure),
            _ => Attempt::Fatal(failure),
        },
    }
}

fn run(
    daemon: &Daemon,
    start: &mut Start,
    tasks: &mut Vec<PendingCommand>,
    observer: &mut DaemonJobObserver<'_>,
) -> Result<JobReport, CliError> {
    let asked = |command| tasks.iter().any(|task| task.command == command);
    let mode = match start.mode {
        OpenMode::Resume if asked(CommandName::Rescan) => OpenMode::Rescan,
        mode => mode,
    };
    let config = daemon.config();
    let spec = config.job();
    let scan = spec.scan()?;
    for warning in &scan.plan.warnings {
        tracing::warn!("{}", Audience::Keys.describe(warning));
    }
    spec.check_decoder()?;
    let tell = &mut |name: &str| {
        let reason = format!("measuring whether {name} could run the models");
        daemon.telemetry.phase(JobPhase::Scanning, Some(reason));
    };
    let backend = daemon.backend(tell, &|| daemon.control.is_stopped())?;
    let retry = start.retry || asked(CommandName::RetryFailed);
    persist(observer, |_| {
        spec.claim(&scan, &backend, &daemon.ledger, mode, &stamp())
    })?;
    // Wished for again, it would throw away what comes now.
    start.mode = OpenMode::Resume;
    let retried = if retry {
        persist(observer, |_| spec.retry_failed(&scan, &daemon.ledger))?
    } else {
        0
    };
    // Whatever comes of it now, the next run goes on with this one.
    *start = Start {
        mode: OpenMode::Resume,
        retry: false,
        is_first: false,
    };
    let kept = lock_ignoring_poison(&daemon.ledger).clips()?.len();
    for task in tasks.drain(..) {
        let result = match task.command {
            CommandName::Rescan => json!({"clips": scan.plan.jobs.len(), "done": kept}),
            _ => json!({"clips": retried}),
        };
        daemon.answer(&task, Ok(Some(result)), &[]);
    }
    daemon.telemetry.phase(JobPhase::Processing, None);
    let means = JobContext {
        ledger: &daemon.ledger,
        workers: daemon.threads,
        control: &daemon.control,
        witness: &daemon.worker_monitor,
    };
    daemon.change_holds(|holds| holds.is_running = true);
    let ended = spec.run(&scan, &backend, &means, observer);
    daemon.change_holds(|holds| holds.is_running = false);
    ended
}

/// Where the job's thread tells what happens.
struct DaemonJobObserver<'a> {
    daemon: &'a Daemon,
    /// A clip was recorded.
    has_progressed: bool,
}

impl DaemonJobObserver<'_> {
    fn waits_for(&self, failure: CliError) -> Attempt {
        Attempt::Wait {
            failure,
            has_progressed: self.has_progressed,
        }
    }
}

impl JobObserver for DaemonJobObserver<'_> {
    fn stamp(&self) -> Timestamp {
        stamp()
    }

    fn begin(&mut self, run: &str, total: usize, known: usize) {
        self.daemon.telemetry.begin(run, total, known);
    }

    fn clip(&mut self, news: &ClipEvent<'_>) {
        let clip = ClipName {
            gloss: news.gloss.to_owned(),
            video_id: news.video_id.to_owned(),
        };
        if news.state == State::Unreadable {
            // Its message on `fault` was written with its record.
            tracing::warn!(
                gloss = clip.gloss,
                video_id = clip.video_id,
                reason = news.reason,
                "clip unreadable"
            );
            self.daemon.telemetry.wake.notify_one();
        }
        self.daemon.telemetry.clip(clip, news.tally);
        self.daemon.recorded();
        self.has_progressed = true;
    }

    fn sealed(&mut self) {
        self.daemon.change_tasks(|tasks| tasks.is_sealed = true);
        self.daemon.recorded();
        self.daemon.telemetry.wake.notify_one();
    }

    fn wait_for_room(&mut self, error: &StoreError) -> bool {
        self.daemon.wait_for_room(error)
    }

    fn has_room(&mut self) {
        self.daemon.has_room();
    }

    fn accelerator(&mut self, news: &BackendEvent<'_>) {
        self.daemon.accelerator(news);
    }

    fn warn(&mut self, text: &str) {
        tracing::warn!("{text}");
    }
}
