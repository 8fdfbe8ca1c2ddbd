//! Runs the job on the main thread, again and again until nothing is left to do, and carries out between two runs
//! what was asked for.

use super::daemon::{CANCELLED, Daemon, Task};
use super::spec;
use crate::cli::AgainArgs;
use crate::commands::job::{ClipNews, Host, Means, Report, hold, stamp};
use crate::exit::{Exit, Failure};
use crate::pipeline::Ended;
use crate::store::StoreError;
use crate::store::folder::Opening;
use crate::store::ledger::Stamp;
use crate::telemetry::payloads::{ClipName, JobPhase};
use crate::telemetry::request::Command;
use crate::wlasl::judge::State;
use serde_json::json;
use std::time::Duration;

/// First and longest pause before a job that failed for want of its input is tried again.
const RETRY: [Duration; 2] = [Duration::from_secs(2), Duration::from_mins(1)];
/// Without news the supervisor looks around so often.
const LOOK: Duration = Duration::from_mins(10);
/// A write that found no room is tried again after this long.
const ROOM: Duration = Duration::from_secs(5);

/// How an attempt at the job ended.
enum Attempt {
    Done(Report),
    Stopped,
    /// It may go better later.
    Wait(Failure),
    /// It will not.
    Fatal(Failure),
}

/// Runs the job until a signal ends the process, or until it is done when `once`.
pub(super) fn supervise(daemon: &Daemon, again: AgainArgs, once: bool) -> Result<Exit, Failure> {
    let mut opening = again.opening();
    let mut retry = again.retry_failed;
    let mut is_first = true;
    let mut pause = RETRY[0];
    let mut outcome = Exit::Stopped;
    let mut is_wanted = true;
    loop {
        // Ahead of the look at the tasks: whoever asks for something after it stops the next run.
        daemon.control.reset();
        let (tasks, is_cancelled, is_stopping) = daemon.change_tasks(|tasks| {
            is_wanted |= std::mem::take(&mut tasks.again);
            let todo = std::mem::take(&mut tasks.todo);
            (todo, tasks.is_cancelled, tasks.is_stopping)
        });
        if is_stopping {
            // Commands without a last word get one at the next start.
            return Ok(outcome);
        }
        let (cancels, tasks): (Vec<Task>, Vec<Task>) = tasks
            .into_iter()
            .partition(|task| task.command == Command::Cancel);
        for task in cancels {
            // A resume may have come right behind it.
            let note = is_cancelled.then_some("1");
            daemon.answer(&task, Ok(None), &[(CANCELLED, note)])?;
        }
        for task in &tasks {
            is_wanted = true;
            match task.command {
                Command::Rescan => opening = Opening::Rescan,
                _ => retry = true,
            }
        }
        if is_cancelled {
            daemon.hub.phase(
                JobPhase::Idle,
                Some("cancelled by command; resume goes on".to_owned()),
            );
            refuse(daemon, &tasks, "the job is cancelled; send resume first")?;
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
        match attempt(daemon, opening, retry, &tasks, is_first) {
            Attempt::Done(report) => {
                (is_wanted, pause, outcome) = (false, RETRY[0], Exit::Done);
                (opening, retry, is_first) = (Opening::Resume, false, false);
                let accepted = report.accepted();
                daemon.hub.phase(
                    JobPhase::Idle,
                    Some(format!("the job is done: {accepted} sequences")),
                );
                if once {
                    return Ok(if accepted == 0 {
                        Exit::Nothing
                    } else {
                        Exit::Done
                    });
                }
            }
            Attempt::Stopped => {
                outcome = Exit::Stopped;
                (opening, retry, is_first) = (Opening::Resume, false, false);
            }
            Attempt::Fatal(failure) => {
                refuse(daemon, &tasks, &format!("{:#}", failure.error))?;
                return Err(failure);
            }
            Attempt::Wait(failure) => {
                outcome = Exit::Stopped;
                let reason = format!("{:#}", failure.error);
                refuse(daemon, &tasks, &reason)?;
                // A fault once, until it goes well or changes.
                if pause == RETRY[0] {
                    daemon.fault("dataset", reason.clone(), "tried again until it goes well");
                }
                daemon.hub.phase(JobPhase::Error, Some(reason));
                daemon.wait(pause, |tasks| {
                    tasks.is_stopping || tasks.again || tasks.is_cancelled || !tasks.todo.is_empty()
                });
                pause = (pause * 2).min(RETRY[1]);
            }
        }
    }
}

fn refuse(daemon: &Daemon, tasks: &[Task], reason: &str) -> Result<(), StoreError> {
    tasks
        .iter()
        .try_for_each(|task| daemon.answer(task, Err(reason.to_owned()), &[]))
}

/// Reads the dataset, takes up what was asked for, and runs the job as far as it goes.
fn attempt(
    daemon: &Daemon,
    opening: Opening,
    retry: bool,
    tasks: &[Task],
    is_first: bool,
) -> Attempt {
    let run = || -> Result<Report, Failure> {
        daemon.hub.phase(JobPhase::Scanning, None);
        let config = daemon.config();
        let spec = spec(&config);
        let scan = spec.scan()?;
        for warning in &scan.plan.warnings {
            tracing::warn!("{warning}");
        }
        let engine = spec.engine()?;
        spec.claim(&scan, &engine, &daemon.ledger, opening, &stamp())?;
        let retried = if retry {
            spec.retry_failed(&scan, &daemon.ledger)?
        } else {
            0
        };
        let kept = hold(&daemon.ledger).clips()?.len();
        for task in tasks {
            let result = match task.command {
                Command::Rescan => json!({"clips": scan.plan.jobs.len(), "done": kept}),
                _ => json!({"clips": retried}),
            };
            daemon.answer(task, Ok(Some(result)), &[])?;
        }
        daemon.hub.phase(JobPhase::Processing, None);
        daemon.change_holds(|holds| holds.is_running = true);
        let mut seat = Seat { daemon };
        let means = Means {
            ledger: &daemon.ledger,
            workers: daemon.threads,
            control: &daemon.control,
            witness: &daemon.eyes,
        };
        spec.run(&scan, &engine, &means, &mut seat)
    };
    let ended = run();
    daemon.change_holds(|holds| holds.is_running = false);
    match ended {
        Ok(report) if report.ended == Ended::Stopped => Attempt::Stopped,
        Ok(report) => {
            daemon.hub.tally(&report.tally);
            Attempt::Done(report)
        }
        Err(failure) => {
            let is_dataset = failure.error.downcast_ref::<StoreError>().is_some_and(|e| {
                matches!(
                    e,
                    StoreError::Occupied {
                        is_dataset: true,
                        ..
                    }
                )
            });
            match failure.exit {
                // The medium may come back, the disk be mended, the dataset be taken up by command.
                Exit::NoInput | Exit::InOut => Attempt::Wait(failure),
                _ if is_dataset => Attempt::Wait(failure),
                Exit::Bug => Attempt::Fatal(failure),
                _ if is_first => Attempt::Fatal(failure),
                _ => Attempt::Wait(failure),
            }
        }
    }
}

/// Where the job's thread tells what happens.
struct Seat<'a> {
    daemon: &'a Daemon,
}

impl Seat<'_> {
    /// A write went well.
    fn has_room(&self) {
        if self.daemon.has_no_room() {
            self.daemon.change_holds(|holds| holds.no_room = None);
            tracing::info!("there is room again");
        }
        self.daemon.recorded();
        self.daemon.hub.wake.notify_one();
    }
}

impl Host for Seat<'_> {
    fn stamp(&self) -> Stamp {
        stamp()
    }

    fn begin(&mut self, run: &str, total: usize, known: usize) {
        self.daemon.hub.begin(run, total, known);
    }

    fn clip(&mut self, news: &ClipNews<'_>) {
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
        }
        self.daemon.hub.clip(clip, news.tally);
        self.has_room();
    }

    fn sealed(&mut self) {
        self.daemon.change_tasks(|tasks| tasks.is_sealed = true);
        self.has_room();
    }

    fn wait_for_room(&mut self, error: &StoreError) -> bool {
        let daemon = self.daemon;
        if !daemon.has_no_room() {
            let reason = format!("disk: {error}");
            daemon.change_holds(|holds| holds.no_room = Some(reason.clone()));
            daemon.fault(
                "disk",
                reason,
                "the job is paused and tried again until there is room",
            );
        }
        // The governor knows when it is worth a try; without its word every few seconds.
        loop {
            daemon.wait(ROOM, |tasks| tasks.is_stopping || tasks.is_cancelled);
            if daemon.control.is_stopped() {
                return false;
            }
            if !daemon.is_disk_short() {
                return true;
            }
        }
    }

    fn warn(&mut self, text: &str) {
        tracing::warn!("{text}");
    }
}
