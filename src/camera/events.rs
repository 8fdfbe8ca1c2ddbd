//! Events of a camera. A fault is reported once until capture was normal for a while.

use super::{CameraError, OpenedCamera};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Events that wait to be read; beyond this number the oldest is dropped.
const EVENTS_MAX: usize = 64;

/// An event of a camera.
#[derive(Clone, Debug, PartialEq)]
pub enum CameraEvent {
    /// It captures, for the first time or again.
    Opened(OpenedCamera),
    /// It does not capture. It is opened again until it does.
    Fault(CameraError),
    /// It does not capture. This fault was reported before, and capture was not normal for a while since.
    Relapse(CameraError),
    /// A file is over.
    Ended,
}

/// The state of the last event.
#[derive(Debug, Default, PartialEq, Eq)]
enum ReportedState {
    #[default]
    Opening,
    Capturing,
    /// With the fault of this name.
    Down(&'static str),
}

#[derive(Debug, Default)]
struct DeduperState {
    state: ReportedState,
    /// Names of the faults since capture was last normal.
    faults: Vec<&'static str>,
    unread: VecDeque<CameraEvent>,
}

/// Turns what the camera's thread and its reader notice into events, each fault once.
#[derive(Debug, Default)]
pub(super) struct EventDeduper(Mutex<DeduperState>);

impl EventDeduper {
    /// A panic elsewhere leaves the state whole: each change is a single one.
    fn lock(&self) -> MutexGuard<'_, DeduperState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came. Returns whether capture begins with it.
    pub(super) fn note_capture(&self, opened: &OpenedCamera) -> bool {
        let mut inner = self.lock();
        let is_new = inner.state != ReportedState::Capturing;
        if is_new {
            inner.state = ReportedState::Capturing;
            inner.push(CameraEvent::Opened(opened.clone()));
        }
        is_new
    }

    /// Capture was normal for a while: the next fault is reported again.
    pub(super) fn note_healthy(&self) {
        self.lock().faults.clear();
    }

    /// The camera failed.
    pub(super) fn note_fault(&self, error: CameraError) {
        let mut inner = self.lock();
        let name = error.name();
        let was = std::mem::replace(&mut inner.state, ReportedState::Down(name));
        if !inner.faults.contains(&name) {
            inner.faults.push(name);
            inner.push(CameraEvent::Fault(error));
        } else if was != ReportedState::Down(name) {
            inner.push(CameraEvent::Relapse(error));
        }
    }

    /// A file is over.
    pub(super) fn note_end(&self) {
        self.lock().push(CameraEvent::Ended);
    }

    /// Removes and returns the events that wait.
    pub(super) fn drain(&self) -> VecDeque<CameraEvent> {
        std::mem::take(&mut self.lock().unread)
    }
}

impl DeduperState {
    fn push(&mut self, event: CameraEvent) {
        if self.unread.len() >= EVENTS_MAX
            && let Some(event) = self.unread.pop_front()
        {
            tracing::warn!(?event, "a camera event was not read and is dropped");
        }
        self.unread.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use super::super::PixelFormat;
    use super::*;

    fn opened() -> OpenedCamera {
        OpenedCamera {
            name: "a camera".into(),
            path: "/dev/video0".into(),
            format: PixelFormat::Yuyv,
            width: 640,
            height: 480,
            rate: None,
        }
    }

    fn busy() -> CameraError {
        let device = "/dev/video0".into();
        CameraError::Busy { device }
    }

    #[test]
    fn events_that_are_not_read_are_dropped_from_the_oldest() {
        let deduper = EventDeduper::default();
        for _ in 0..EVENTS_MAX {
            deduper.note_fault(busy());
            deduper.note_capture(&opened());
        }
        let read = deduper.drain();
        assert_eq!(read.len(), EVENTS_MAX);
        // The first was the fault; how it stands now is the last.
        assert_eq!(read.front(), Some(&CameraEvent::Relapse(busy())));
        assert_eq!(read.back(), Some(&CameraEvent::Opened(opened())));
        assert!(deduper.drain().is_empty());
    }
}
