//! Events of a camera. A fault is reported once, until capture was normal for a while.

use super::{CameraError, OpenedCamera};
use std::collections::VecDeque;

/// Maximum number of unread events; beyond it the oldest is dropped.
const EVENTS_MAX: usize = 64;

/// An event of a camera.
#[derive(Clone, Debug, PartialEq)]
pub enum CameraEvent {
    /// The camera captures, for the first time or again.
    Opened(OpenedCamera),
    /// The camera does not capture. It is opened again until it does.
    Fault(CameraError),
    /// The camera does not capture. This fault was reported before, and capture was not normal for long enough since.
    Relapse(CameraError),
    /// The file has ended.
    Ended,
}

/// The last reported state.
#[derive(Debug, Default, PartialEq, Eq)]
enum ReportedState {
    #[default]
    Opening,
    Capturing,
    /// The camera has the fault of this name.
    Down(&'static str),
}

/// Turns reports of the camera's thread and its reader into events, each fault once.
#[derive(Debug, Default)]
pub(super) struct EventDeduper {
    state: ReportedState,
    /// Names of the faults since capture was last normal.
    faults: Vec<&'static str>,
    unread: VecDeque<CameraEvent>,
}

impl EventDeduper {
    /// Records a frame. Returns whether capture begins with it.
    pub(super) fn note_capture(&mut self, opened: &OpenedCamera) -> bool {
        let is_new = self.state != ReportedState::Capturing;
        if is_new {
            self.state = ReportedState::Capturing;
            self.push(CameraEvent::Opened(opened.clone()));
        }
        is_new
    }

    /// Records that capture was normal for a while, so that the next fault is reported again.
    pub(super) fn note_healthy(&mut self) {
        self.faults.clear();
    }

    /// Records a fault of the camera.
    pub(super) fn note_fault(&mut self, error: CameraError) {
        let name = error.name();
        let was = std::mem::replace(&mut self.state, ReportedState::Down(name));
        if !self.faults.contains(&name) {
            self.faults.push(name);
            self.push(CameraEvent::Fault(error));
        } else if was != ReportedState::Down(name) {
            self.push(CameraEvent::Relapse(error));
        }
    }

    /// Records the end of a file.
    pub(super) fn note_end(&mut self) {
        self.push(CameraEvent::Ended);
    }

    /// Removes and returns the events that wait.
    pub(super) fn drain(&mut self) -> VecDeque<CameraEvent> {
        std::mem::take(&mut self.unread)
    }

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
        CameraError::Busy(device)
    }

    #[test]
    fn events_that_are_not_read_are_dropped_from_the_oldest() {
        let mut deduper = EventDeduper::default();
        for _ in 0..EVENTS_MAX {
            deduper.note_fault(busy());
            deduper.note_capture(&opened());
        }
        let read = deduper.drain();
        assert_eq!(read.len(), EVENTS_MAX);
        // The first event, the fault, was dropped; the last event shows the present state.
        assert_eq!(read.front(), Some(&CameraEvent::Relapse(busy())));
        assert_eq!(read.back(), Some(&CameraEvent::Opened(opened())));
        assert!(deduper.drain().is_empty());
    }
}
