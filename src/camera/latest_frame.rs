//! Holds the newest frame for its reader. A frame that is replaced before it is read is counted as dropped.

use super::RawFrame;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Frames whose memory is kept for reuse.
const SPARES: usize = 2;

/// Result of a wait for the newest frame.
#[derive(Debug)]
pub enum NextFrame {
    /// A frame; return it with [`LatestFrame::release`].
    Frame(RawFrame),
    /// No frame came within the time.
    Timeout,
    /// No further frame comes.
    Closed,
}

#[derive(Debug, Default)]
struct FrameBuffers {
    newest: Option<RawFrame>,
    spares: Vec<RawFrame>,
    dropped: u64,
    is_closed: bool,
}

/// The newest frame, between the camera's thread and its reader.
#[derive(Debug, Default)]
pub(super) struct LatestFrame {
    content: Mutex<FrameBuffers>,
    changed: Condvar,
}

impl LatestFrame {
    /// A panic elsewhere leaves the content whole: a frame or none.
    fn lock(&self) -> MutexGuard<'_, FrameBuffers> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for a frame.
    pub(super) fn spare(&self) -> RawFrame {
        self.lock().spares.pop().unwrap_or_default()
    }

    /// Keeps the memory of a frame that was read.
    pub(super) fn release(&self, frame: RawFrame) {
        let mut content = self.lock();
        if content.spares.len() < SPARES {
            content.spares.push(frame);
        }
    }

    /// Replaces the newest frame. After [`LatestFrame::close`] nobody reads: the frame is discarded and not counted.
    pub(super) fn put(&self, frame: RawFrame) {
        let mut content = self.lock();
        if content.is_closed {
            return;
        }
        if let Some(old) = content.newest.replace(frame) {
            content.dropped += 1;
            if content.spares.len() < SPARES {
                content.spares.push(old);
            }
        }
        self.changed.notify_all();
    }

    /// Waits until the frame is read; `false` when it is not within `timeout`.
    pub(super) fn wait_empty(&self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        let mut content = self.lock();
        while content.newest.is_some() && !content.is_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(content, left);
            content = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Takes the newest frame, or the next one within `timeout`.
    pub(super) fn take(&self, timeout: Duration) -> NextFrame {
        let until = Instant::now() + timeout;
        let mut content = self.lock();
        loop {
            if let Some(frame) = content.newest.take() {
                self.changed.notify_all();
                return NextFrame::Frame(frame);
            }
            let left = until.saturating_duration_since(Instant::now());
            if content.is_closed {
                return NextFrame::Closed;
            }
            if left.is_zero() {
                return NextFrame::Timeout;
            }
            let waited = self.changed.wait_timeout(content, left);
            content = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No frame follows; one that waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Frames that were replaced before they were read.
    pub(super) fn dropped(&self) -> u64 {
        self.lock().dropped
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
        let latest = LatestFrame::default();
        assert!(matches!(latest.take(SOON), NextFrame::Timeout));
        for n in 1..=5 {
            latest.put(frame(n));
        }
        assert_eq!(latest.dropped(), 4);
        assert!(!latest.wait_empty(SOON));
        latest.close();
        let NextFrame::Frame(last) = latest.take(SOON) else {
            panic!("a frame waits")
        };
        assert_eq!(last.at, Duration::from_secs(5));
        latest.release(last);
        assert!(matches!(latest.take(SOON), NextFrame::Closed));
        assert!(latest.wait_empty(SOON));
        assert!(latest.lock().spares.len() <= SPARES);
    }
}
