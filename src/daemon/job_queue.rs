//! What the job's thread does next: commands between two runs, a new run, or nothing.

use crate::daemon::shutdown::{Shutdown, WakeSignal};
use crate::job::worker_pool::WorkerControl;
use crate::messages::request::CommandName;
use crate::system::lock_ignoring_poison;
use crossbeam_channel::{after, select};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A command that was accepted and has no final reply yet.
#[derive(Clone, Debug)]
pub(super) struct PendingCommand {
    pub(super) id: String,
    pub(super) command: CommandName,
}

/// Filled by the command handler, emptied by the supervisor.
pub(super) struct JobQueue {
    requests: Mutex<JobRequests>,
    changed: WakeSignal,
    control: Arc<WorkerControl>,
}

/// Requests that the supervisor has not taken yet.
#[derive(Debug, Default)]
pub(super) struct JobRequests {
    /// An operator wants no job until further notice.
    pub(super) is_cancelled: bool,
    /// The job is to run again although it is done or has failed.
    pub(super) is_run_wanted: bool,
    /// To be carried out between two runs.
    pub(super) commands: Vec<PendingCommand>,
}

impl JobRequests {
    /// Whether an idle supervisor has something to do.
    pub(super) fn is_due(&self) -> bool {
        self.is_run_wanted || self.is_cancelled || !self.commands.is_empty()
    }
}

impl JobQueue {
    pub(super) fn new(control: Arc<WorkerControl>, is_cancelled: bool) -> Self {
        Self {
            requests: Mutex::new(JobRequests {
                is_cancelled,
                ..JobRequests::default()
            }),
            changed: WakeSignal::default(),
            control,
        }
    }

    /// Queues `command`, which is carried out between two runs; the current run ends at its next clip.
    pub(super) fn submit(&self, command: PendingCommand) {
        self.change(|requests| requests.commands.push(command));
        self.control.stop();
    }

    /// Ends the job and abandons the clips in progress.
    pub(super) fn cancel(&self, command: PendingCommand) {
        self.change(|requests| {
            requests.is_cancelled = true;
            requests.commands.push(command);
        });
        self.control.abandon();
    }

    /// Revokes a cancellation.
    pub(super) fn resume(&self) {
        self.change(|requests| {
            requests.is_run_wanted |= std::mem::take(&mut requests.is_cancelled);
        });
    }

    /// Takes the pending requests. A later request stops the next run.
    pub(super) fn take(&self) -> JobRequests {
        self.control.reset();
        let mut requests = lock_ignoring_poison(&self.requests);
        JobRequests {
            is_cancelled: requests.is_cancelled,
            is_run_wanted: std::mem::take(&mut requests.is_run_wanted),
            commands: std::mem::take(&mut requests.commands),
        }
    }

    /// Waits until `is_due`, until the process ends, or for `timeout`.
    pub(super) fn wait(
        &self,
        shutdown: &Shutdown,
        timeout: Duration,
        is_due: impl Fn(&JobRequests) -> bool,
    ) {
        let timer = after(timeout);
        while !is_due(&lock_ignoring_poison(&self.requests)) {
            select! {
                recv(self.changed.channel()) -> _ => {}
                recv(shutdown.channel()) -> _ => return,
                recv(timer) -> _ => return,
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut JobRequests)) {
        change(&mut lock_ignoring_poison(&self.requests));
        self.changed.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> (Arc<JobQueue>, Arc<WorkerControl>) {
        let control = Arc::new(WorkerControl::new(1));
        let queue = JobQueue::new(Arc::clone(&control), false);
        (Arc::new(queue), control)
    }

    fn command(command: CommandName) -> PendingCommand {
        PendingCommand {
            id: command.name().to_owned(),
            command,
        }
    }

    #[test]
    fn commands_stop_the_run_and_wait_for_its_end() {
        let (queue, control) = queue();
        queue.submit(command(CommandName::Rescan));
        assert!(control.is_stopped() && !control.is_abandoned());
        queue.cancel(command(CommandName::Cancel));
        assert!(control.is_abandoned());
        let requests = queue.take();
        assert!(!control.is_stopped(), "the next run is free to go");
        assert_eq!(requests.commands.len(), 2);
        assert!(requests.is_cancelled && !requests.is_run_wanted);
        queue.resume();
        let requests = queue.take();
        assert!(requests.commands.is_empty());
        assert!(!requests.is_cancelled && requests.is_run_wanted);
        queue.resume();
        assert!(!queue.take().is_due(), "there was nothing to take back");
    }

    #[test]
    fn a_command_ends_the_wait_and_a_timeout_too() {
        let (queue, control) = queue();
        let shutdown = Shutdown::new(control);
        queue.wait(&shutdown, Duration::from_millis(1), JobRequests::is_due);
        let theirs = Arc::clone(&queue);
        let thread = std::thread::spawn(move || theirs.submit(command(CommandName::Rescan)));
        queue.wait(&shutdown, Duration::MAX, JobRequests::is_due);
        assert_eq!(queue.take().commands.len(), 1);
        thread.join().unwrap();
    }
}
