//! The machine and the service manager: sensors, disk, clock, signals, readiness, watchdog, liveness.
//!
//! These modules read and report. They decide nothing.

pub mod clock;
pub mod disk;
pub mod journal;
pub mod liveness;
pub mod malloc;
pub mod notify;
pub mod process;
mod processor;
pub mod sensors;
pub mod signals;
mod throttle;
pub mod watchdog;

pub use liveness::{Liveness, Stage};
pub use processor::processor;
pub use sensors::Sensors;
pub use signals::{Signal, Signals};
pub use watchdog::Watchdog;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Locks `mutex`, also after a thread has panicked while it held the lock. For values that are whole between any two
/// statements of their holders, such as the ledger, whose changes are transactions.
pub fn lock_ignoring_poison<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that ends with this value.
pub struct OwnedThread<E> {
    thread: Option<JoinHandle<()>>,
    /// Ends the thread by being dropped.
    end: Option<E>,
}

impl<E> OwnedThread<E> {
    /// Owns `thread`, which ends when `end` is dropped.
    pub fn new(thread: JoinHandle<()>, end: E) -> Self {
        Self {
            thread: Some(thread),
            end: Some(end),
        }
    }

    /// What the thread waits for.
    #[must_use]
    pub fn end(&self) -> Option<&E> {
        self.end.as_ref()
    }
}

impl<E> Drop for OwnedThread<E> {
    fn drop(&mut self) {
        drop(self.end.take());
        let Some(thread) = self.thread.take() else {
            return;
        };
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if thread.join().is_err() {
            tracing::error!("the thread \"{name}\" has panicked");
        }
    }
}

/// Runs a test in a process of its own, for what belongs to a whole process: its environment, its signals.
#[cfg(test)]
mod child {
    use std::process::{Child, Command, Stdio};

    /// Set in the process of its own.
    const MARK: &str = "HANDLOOM_TEST_CHILD";

    /// Ends the process with the test.
    pub(super) struct Guard(pub(super) Child);

    impl Drop for Guard {
        fn drop(&mut self) {
            // It may have ended by itself.
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    /// Whether this is that process.
    pub(super) fn is_here() -> bool {
        std::env::var_os(MARK).is_some()
    }

    /// The test of this name, its output in pipes.
    pub(super) fn command(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
        command.env(MARK, "1").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}
