//! What is told of a camera: whether it films, and each fault once until it was well again.

use super::{CameraError, Opened};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// News that nobody hears are forgotten beyond so many, the oldest first.
const NEWS_MAX: usize = 64;

/// What happened to the camera.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// It films, from now on or again.
    Opened(Opened),
    /// It does not. It is tried again until it does.
    Fault(CameraError),
    /// It does not, as before: this fault was told already, and it did not film well for a while since.
    Relapse(CameraError),
    /// A file is over.
    Ended,
}

/// How the camera stands, as far as it was told.
#[derive(Debug, Default, PartialEq, Eq)]
enum Now {
    #[default]
    Opening,
    Filming,
    /// With the fault of this name.
    Down(&'static str),
}

#[derive(Debug, Default)]
struct Told {
    now: Now,
    /// Names of the faults since it was last well.
    faults: Vec<&'static str>,
    unheard: VecDeque<News>,
}

/// Between those who know something of the camera and the one who listens.
#[derive(Debug, Default)]
pub(super) struct Teller(Mutex<Told>);

impl Teller {
    /// A panic elsewhere leaves it whole: each change is a single one.
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came. Whether that is news.
    pub(super) fn films(&self, opened: &Opened) -> bool {
        let mut told = self.lock();
        let is_news = told.now != Now::Filming;
        if is_news {
            told.now = Now::Filming;
            told.say(News::Opened(opened.clone()));
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
        let was = std::mem::replace(&mut told.now, Now::Down(name));
        if !told.faults.contains(&name) {
            told.faults.push(name);
            told.say(News::Fault(error));
        } else if was != Now::Down(name) {
            told.say(News::Relapse(error));
        }
    }

    /// A file is over.
    pub(super) fn ends(&self) {
        self.lock().say(News::Ended);
    }

    /// What was told since it was last asked for.
    pub(super) fn heard(&self) -> VecDeque<News> {
        std::mem::take(&mut self.lock().unheard)
    }
}

impl Told {
    fn say(&mut self, news: News) {
        if self.unheard.len() >= NEWS_MAX
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

    fn opened() -> Opened {
        Opened {
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
        let teller = Teller::default();
        for _ in 0..NEWS_MAX {
            teller.fails(busy());
            teller.films(&opened());
        }
        let heard = teller.heard();
        assert_eq!(heard.len(), NEWS_MAX);
        // The first was the fault; how it stands now is the last.
        assert_eq!(heard.front(), Some(&News::Relapse(busy())));
        assert_eq!(heard.back(), Some(&News::Opened(opened())));
        assert!(teller.heard().is_empty());
    }
}
