//! State that a camera's thread and its reader share: the newest frame, counters, events and the thread's heartbeat.

use super::RawFrame;
use crate::camera::events::EventDeduper;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum number of unused frames whose memory is kept.
const SPARES_MAX: usize = 2;

/// Result of a wait for the newest frame.
#[derive(Debug)]
pub enum NextFrame {
    /// A frame; return it with [`super::Camera::release`].
    Frame(RawFrame),
    /// No frame came within the timeout.
    Timeout,
    /// No frame follows.
    Closed,
}

/// Counters since the camera was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CameraCounts {
    /// Frames captured.
    pub frames: u64,
    /// Frames that a newer one replaced before they were read.
    pub dropped: u64,
    /// Damaged frames.
    pub damaged: u64,
    /// Number of times that the camera was opened.
    pub opened: u64,
    /// Failed attempts to open it.
    pub refused: u64,
}

/// The content of [`SharedCapture`].
#[derive(Debug, Default)]
pub(super) struct CaptureState {
    newest: Option<RawFrame>,
    spares: Vec<RawFrame>,
    /// Whether capture is over: the thread ends or has ended.
    pub(super) is_closed: bool,
    pub(super) counts: CameraCounts,
    pub(super) events: EventDeduper,
    /// Frames in a row that the reader could not convert.
    pub(super) bad_frames: u32,
    /// Why the last of these frames could not be converted.
    pub(super) bad_frame_reason: String,
    /// Time of the thread's last heartbeat and the maximum time to the next; `None` when the thread has ended.
    pub(super) heartbeat: Option<(Instant, Duration)>,
}

impl CaptureState {
    /// Keeps the memory of a frame that is no longer needed.
    pub(super) fn release(&mut self, frame: RawFrame) {
        if self.spares.len() < SPARES_MAX {
            self.spares.push(frame);
        }
    }

    /// Replaces the newest frame. Returns memory for the next one. When capture is over the frame is discarded and
    /// not counted.
    pub(super) fn put(&mut self, frame: RawFrame) -> RawFrame {
        if !self.is_closed
            && let Some(old) = self.newest.replace(frame)
        {
            self.counts.dropped += 1;
            self.release(old);
        }
        self.spares.pop().unwrap_or_default()
    }
}

/// A lock on the state and its condition variable.
#[derive(Debug, Default)]
pub(super) struct SharedCapture {
    state: Mutex<CaptureState>,
    changed: Condvar,
}

impl SharedCapture {
    /// Locks the state. A panic in another thread leaves it consistent, because each change is a single one.
    pub(super) fn lock(&self) -> MutexGuard<'_, CaptureState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `condition` holds and capture is not over, at most `timeout`.
    fn wait_while(
        &self,
        timeout: Duration,
        condition: impl Fn(&CaptureState) -> bool,
    ) -> MutexGuard<'_, CaptureState> {
        let waits = |state: &mut CaptureState| !state.is_closed && condition(state);
        let waited = self.changed.wait_timeout_while(self.lock(), timeout, waits);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Gives the reader a frame. Returns memory for the next one.
    pub(super) fn put(&self, frame: RawFrame) -> RawFrame {
        let spare = self.lock().put(frame);
        self.changed.notify_all();
        spare
    }

    /// Takes the newest frame, or the next one within `timeout`.
    pub(super) fn take(&self, timeout: Duration) -> NextFrame {
        let mut state = self.wait_while(timeout, |state| state.newest.is_none());
        match state.newest.take() {
            Some(frame) => {
                self.changed.notify_all();
                NextFrame::Frame(frame)
            }
            None if state.is_closed => NextFrame::Closed,
            None => NextFrame::Timeout,
        }
    }

    /// Waits until the frame is read or capture is over; `false` when neither happens within `timeout`.
    pub(super) fn wait_until_read(&self, timeout: Duration) -> bool {
        let state = self.wait_while(timeout, |state| state.newest.is_some());
        state.newest.is_none() || state.is_closed
    }

    /// Waits for `time` or until capture is over.
    pub(super) fn pause(&self, time: Duration) {
        drop(self.wait_while(time, |_| true));
    }

    /// Closes the capture: no frame follows. A frame that waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    fn frame(n: u64) -> RawFrame {
        RawFrame {
            at: Duration::from_secs(n),
            ..RawFrame::default()
        }
    }

    #[test]
    fn the_newest_frame_is_kept_and_older_ones_are_counted() {
        let shared = SharedCapture::default();
        assert!(matches!(shared.take(SOON), NextFrame::Timeout));
        for n in 1..=5 {
            shared.put(frame(n));
        }
        assert_eq!(shared.lock().counts.dropped, 4);
        assert!(!shared.wait_until_read(SOON));
        shared.close();
        let NextFrame::Frame(last) = shared.take(SOON) else {
            panic!("a frame waits")
        };
        assert_eq!(last.at, Duration::from_secs(5));
        shared.lock().release(last);
        assert!(matches!(shared.take(SOON), NextFrame::Closed));
        assert!(shared.wait_until_read(SOON));
        assert!(shared.lock().spares.len() <= SPARES_MAX);
    }
}
