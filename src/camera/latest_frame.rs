//! Where the newest frame waits. An older one that nobody took makes room for it and is counted.

use super::RawFrame;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Frames whose memory is kept for the next ones.
const SPARES: usize = 2;

/// What was in the slot.
#[derive(Debug)]
pub enum NextFrame {
    /// A frame; give it back with [`LatestFrame::give_back`].
    Frame(RawFrame),
    /// None within the time.
    Nothing,
    /// None, and none will come.
    Closed,
}

#[derive(Debug, Default)]
struct FrameBuffers {
    newest: Option<RawFrame>,
    spares: Vec<RawFrame>,
    dropped: u64,
    is_closed: bool,
}

/// The slot between the camera's thread and the one that looks.
#[derive(Debug, Default)]
pub(super) struct LatestFrame {
    content: Mutex<FrameBuffers>,
    changed: Condvar,
}

impl LatestFrame {
    /// A panic elsewhere leaves the content whole: it is a frame or none.
    fn lock(&self) -> MutexGuard<'_, FrameBuffers> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Memory for a frame.
    pub(super) fn spare(&self) -> RawFrame {
        self.lock().spares.pop().unwrap_or_default()
    }

    /// Keeps the memory of a frame that was looked at.
    pub(super) fn give_back(&self, frame: RawFrame) {
        let mut content = self.lock();
        if content.spares.len() < SPARES {
            content.spares.push(frame);
        }
    }

    /// Puts the newest frame in.
    pub(super) fn put(&self, frame: RawFrame) {
        let mut content = self.lock();
        if let Some(old) = content.newest.replace(frame) {
            content.dropped += 1;
            if content.spares.len() < SPARES {
                content.spares.push(old);
            }
        }
        self.changed.notify_all();
    }

    /// Waits until the slot is empty, for files that need not drop; `false` when nobody looks within `patience`.
    pub(super) fn wait_empty(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
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

    /// Takes the newest frame, or waits for one.
    pub(super) fn take(&self, patience: Duration) -> NextFrame {
        let until = Instant::now() + patience;
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
                return NextFrame::Nothing;
            }
            let waited = self.changed.wait_timeout(content, left);
            content = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No frame will follow; one that waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Frames that made room for newer ones.
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
    fn the_newest_frame_waits_and_older_ones_are_counted() {
        let slot = LatestFrame::default();
        assert!(matches!(slot.take(SOON), NextFrame::Nothing));
        for n in 1..=5 {
            slot.put(frame(n));
        }
        assert_eq!(slot.dropped(), 4);
        assert!(!slot.wait_empty(SOON));
        slot.close();
        let NextFrame::Frame(last) = slot.take(SOON) else {
            panic!("a frame waits")
        };
        assert_eq!(last.at, Duration::from_secs(5));
        slot.give_back(last);
        assert!(matches!(slot.take(SOON), NextFrame::Closed));
        assert!(slot.wait_empty(SOON));
        assert!(slot.lock().spares.len() <= SPARES);
    }
}
