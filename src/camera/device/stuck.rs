//! Streams that their driver does not stop. Closing one would panic. While it is open, this process keeps the device
//! busy, so the stream is kept and stopped before the device is opened again.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// A stream that must be stopped before it is dropped.
pub(super) trait Stoppable {
    /// Stops the stream; `false` when it continues.
    fn stop(&mut self) -> bool;
}

/// Streams that could not be stopped. They are leaked when this is dropped: closing them would panic.
pub(super) struct StuckStreams<T>(Mutex<Vec<T>>);

impl<T> Drop for StuckStreams<T> {
    fn drop(&mut self) {
        std::mem::forget(self.take());
    }
}

impl<T> StuckStreams<T> {
    fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T: Stoppable> StuckStreams<T> {
    /// Closes the stream, or keeps it when it does not stop.
    pub(super) fn close(&self, mut running: T, device: &str) {
        if !running.stop() {
            tracing::warn!(device, "a camera's stream does not stop");
            let mut stuck = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            stuck.push(running);
            return;
        }
        let close = AssertUnwindSafe(move || drop(running));
        if catch_unwind(close).is_err() {
            tracing::warn!(device, "a camera's stream was not closed cleanly");
        }
    }

    /// Stops and closes the kept streams again; those that still continue stay.
    pub(super) fn retry(&self, device: &str) {
        for running in self.take() {
            self.close(running, device);
        }
    }
}

impl<T> Default for StuckStreams<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for StuckStreams<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StuckStreams")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    static STOPS: AtomicBool = AtomicBool::new(false);
    static CLOSED: AtomicU32 = AtomicU32::new(0);

    struct Stream;

    impl Stoppable for Stream {
        fn stop(&mut self) -> bool {
            STOPS.load(Ordering::Relaxed)
        }
    }

    impl Drop for Stream {
        fn drop(&mut self) {
            assert!(STOPS.load(Ordering::Relaxed), "closed while it runs");
            CLOSED.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_stream_that_does_not_stop_is_kept_until_it_does() {
        let closed = || CLOSED.load(Ordering::Relaxed);
        let stuck = StuckStreams::default();
        stuck.close(Stream, "a camera");
        stuck.close(Stream, "a camera");
        stuck.retry("a camera");
        assert_eq!(closed(), 0);
        STOPS.store(true, Ordering::Relaxed);
        stuck.retry("a camera");
        assert_eq!(closed(), 2);
        stuck.close(Stream, "a camera");
        assert_eq!(closed(), 3);
        // A stream that never stops is leaked with the camera.
        STOPS.store(false, Ordering::Relaxed);
        stuck.close(Stream, "a camera");
        drop(stuck);
        assert_eq!(closed(), 3);
    }
}
