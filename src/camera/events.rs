//! What is told of a camera: whether it films, and each fault once until it was well again.

use super::{CameraError, OpenedCamera};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// News that nobody hears are forgotten beyond so many, the oldest first.
const EVENTS_MAX: usize = 64;

/// What happened to the camera.
#[derive(Clone, Debug, PartialEq)]
pub enum CameraEvent {
    /// It films, from now on or again.
    Opened(OpenedCamera),
    /// It does not. It is tried again until it does.
    Fault(CameraError),
    /// It does not, as before: this fault was told already, and it did not film well for a while since.
    Relapse(CameraError),
    /// A file is over.
    Ended,
}

/// How the camera stands, as far as it was told.
#[derive(Debug, Default, PartialEq, Eq)]
enum ReportedState {
    #[default]
    Opening,
    Filming,
    /// With the fault of this name.
    Down(&'static str),
}

#[derive(Debug, Default)]
struct DeduperState {
    now: ReportedState,
    /// Names of the faults since it was last well.
    faults: Vec<&'static str>,
    unheard: VecDeque<CameraEvent>,
}

/// Between those who know something of the camera and the one who listens.
#[derive(Debug, Default)]
pub(super) struct EventDeduper(Mutex<DeduperState>);

impl EventDeduper {
    /// A panic elsewhere leaves it whole: each change is a single one.
    fn lock(&self) -> MutexGuard<'_, DeduperState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came. Whether that is news.
    pub(super) fn films(&self, opened: &OpenedCamera) -> bool {
        let mut told = self.lock();
        let is_news = told.now != ReportedState::Filming;
        if is_news {
            told.now = ReportedState::Filming;
            told.say(CameraEvent::Opened(opened.clone()));
        }
        is_news
    }

    /// It has filmed for a while: its next fault is the first again.
    pub(super) fn is_well(&self) {
        self.lock().faults.clear();
    }

    /// It does not film.
    pub(super) fn fails(&self, error: CameraError) {
        let mut told = self.lock();
        let name = error.name();
        let was = std::mem::replace(&mut told.now, ReportedState::Down(name));
        if !told.faults.contains(&name) {
            told.faults.push(name);
            told.say(CameraEvent::Fault(error));
        } else if was != ReportedState::Down(name) {
            told.say(CameraEvent::Relapse(error));
        }
    }

    /// A file is over.
    pub(super) fn ends(&self) {
        self.lock().say(CameraEvent::Ended);
    }

    /// What was told since it was last asked for.
    pub(super) fn heard(&self) -> VecDeque<CameraEvent> {
        std::mem::take(&mut self.lock().unheard)
    }
}

impl DeduperState {
    fn say(&mut self, news: CameraEvent) {
        if self.unheard.len() >= EVENTS_MAX
            && let Some(news) = self.unheard.pop_front()
        {
            tracing::warn!(?news, "nobody heard what happened to the camera");
        }
        self.unheard.push_back(news);
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
    fn what_nobody_hears_is_forgotten_from_its_beginning() {
        let events = EventDeduper::default();
        for _ in 0..EVENTS_MAX {
            events.fails(busy());
            events.films(&opened());
        }
        let heard = events.heard();
        assert_eq!(heard.len(), EVENTS_MAX);
        // The first was the fault; how it stands now is the last.
        assert_eq!(heard.front(), Some(&CameraEvent::Relapse(busy())));
        assert_eq!(heard.back(), Some(&CameraEvent::Opened(opened())));
        assert!(events.heard().is_empty());
    }
}
