//! The end of the daemon: one flag that every thread watches, and the failure that caused it, if one did.

use crate::error::CliError;
use crate::inference::ShutdownFlag;
use crate::job;
use crate::job::worker_pool::WorkerControl;
use crate::system::{lock_ignoring_poison, notify};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The flag and the failure.
pub(super) struct Shutdown {
    /// The request drops it, which disconnects every receiver at once.
    open: Mutex<Option<Sender<Infallible>>>,
    closed: Receiver<Infallible>,
    control: Arc<WorkerControl>,
    /// For threads that wait for a device.
    devices: ShutdownFlag,
    error: Mutex<Option<CliError>>,
    is_reason_reported: AtomicBool,
}

impl Shutdown {
    /// A request for shutdown winds down the run of the job that `control` controls.
    pub(super) fn new(control: Arc<WorkerControl>) -> Self {
        let (open, closed) = bounded(0);
        Self {
            open: Mutex::new(Some(open)),
            closed,
            control,
            devices: ShutdownFlag::default(),
            error: Mutex::default(),
            is_reason_reported: AtomicBool::new(false),
        }
    }

    /// Shuts the process down: first the job, then every thread.
    pub(super) fn request(&self) {
        if lock_ignoring_poison(&self.open).take().is_some() {
            notify::stopping();
            tracing::info!("stopping");
            job::shutdown_with_deadline(&self.control);
            self.devices.set();
        }
    }

    /// Like [`Self::request`], but the process ends with `error`.
    pub(super) fn request_after(&self, error: CliError) {
        *lock_ignoring_poison(&self.error) = Some(error);
        self.request();
    }

    /// The error of [`Self::request_after`].
    pub(super) fn take_error(&self) -> Option<CliError> {
        lock_ignoring_poison(&self.error).take()
    }

    /// Whether the process ends.
    pub(super) fn is_requested(&self) -> bool {
        self.closed.try_recv() == Err(TryRecvError::Disconnected)
    }

    /// Returns `true` for the first caller only, so that the reason is published once.
    pub(super) fn claim_reason(&self) -> bool {
        !self.is_reason_reported.swap(true, Ordering::AcqRel)
    }

    /// Waits for `timeout`, or until the process ends; returns whether it does.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        self.closed.recv_timeout(timeout) == Err(RecvTimeoutError::Disconnected)
    }

    /// A channel that never carries a message and is disconnected when the process ends.
    pub(super) fn channel(&self) -> &Receiver<Infallible> {
        &self.closed
    }

    /// The same flag, for threads that wait for a device.
    pub(super) fn device_flag(&self) -> &ShutdownFlag {
        &self.devices
    }
}

/// Wakes one waiting thread, or the next one that waits. A notification is kept; several count as one.
pub(super) struct WakeSignal {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Default for WakeSignal {
    fn default() -> Self {
        let (sender, receiver) = bounded(1);
        Self { sender, receiver }
    }
}

impl WakeSignal {
    pub(super) fn notify(&self) {
        // A full channel carries a notification already.
        self.sender.try_send(()).ok();
    }

    /// The channel that carries the notifications.
    pub(super) fn channel(&self) -> &Receiver<()> {
        &self.receiver
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_request_wakes_all_who_wait_and_stays() {
        let shutdown = Shutdown::new(Arc::new(WorkerControl::new(0)));
        assert!(!shutdown.is_requested() && !shutdown.wait(Duration::ZERO));
        assert!(shutdown.claim_reason() && !shutdown.claim_reason());
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| shutdown.wait(Duration::MAX)))
                .collect();
            // As `request` does, without the deadline that would end the tests' process.
            drop(lock_ignoring_poison(&shutdown.open).take());
            assert!(waiting.into_iter().all(|thread| thread.join().unwrap()));
        });
        assert!(shutdown.is_requested() && shutdown.wait(Duration::MAX));
    }

    #[test]
    fn notifications_are_kept_and_merged() {
        let signal = WakeSignal::default();
        signal.notify();
        signal.notify();
        assert!(signal.channel().try_recv().is_ok());
        assert!(signal.channel().try_recv().is_err());
    }
}
