//! One camera's way from frames to signs, whoever looks on: newest frame → RGB → hands → signs.

use super::meter::Meter;
use crate::commands::accelerator::AcceleratorNews;
use crate::frame::RgbFrame;
use crate::hand::{Detector, Hand, Model, ModelError, Tracker};
use crate::selection::CPU;
use crate::sequence::live::{Sign, Weaver};
use crate::source::camera::{Camera, CameraError, Counts, Developer, News, Taken};
use std::time::Duration;

/// The host is asked at least so often whether to go on.
const TURN: Duration = Duration::from_millis(100);

/// Follows hands from picture to picture.
pub trait Sight {
    /// Why it cannot.
    type Error;

    /// The hands in the next picture; `tracker` knows where they were in the last one.
    ///
    /// # Errors
    /// When a model fails for good.
    fn follow(
        &mut self,
        tracker: &mut Tracker,
        picture: &RgbFrame,
    ) -> Result<Vec<Hand>, Self::Error>;

    /// Whether the last picture failed only because the process ends, and nobody waits for what runs the models.
    fn is_left(&self) -> bool {
        false
    }

    /// The name of what ran the models.
    fn backend(&self) -> &str;

    /// Tells what happened to that since the last picture.
    fn news(&mut self, tell: &mut dyn FnMut(&AcceleratorNews<'_>));
}

/// Models that are taken as they are: the CPU's, of which there is no news.
impl<M: Model> Sight for Detector<M> {
    type Error = ModelError;

    fn follow(
        &mut self,
        tracker: &mut Tracker,
        picture: &RgbFrame,
    ) -> Result<Vec<Hand>, ModelError> {
        self.track(tracker, picture)
    }

    fn backend(&self) -> &str {
        CPU
    }

    fn news(&mut self, _tell: &mut dyn FnMut(&AcceleratorNews<'_>)) {}
}

/// A frame that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// When the camera saw it, since the session's start.
    pub at: Duration,
    /// The picture.
    pub picture: &'a RgbFrame,
    /// What was found in it, as detected.
    pub hands: &'a [Hand],
}

/// How the session stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// The camera's frames and faults.
    pub counts: Counts,
    /// Rates and latencies.
    pub meter: &'a Meter,
    /// Hands in the last frame.
    pub hands: usize,
    /// Time of the last frame.
    pub at: Duration,
}

/// Whoever runs a session.
pub trait Host {
    /// What ends a session early.
    type Error;

    /// Something happened to the camera.
    ///
    /// # Errors
    /// To end the session.
    fn news(&mut self, news: &News) -> Result<(), Self::Error>;

    /// Something happened to what runs the models.
    fn accelerator(&mut self, news: &AcceleratorNews<'_>);

    /// A frame was looked at.
    fn look(&mut self, look: &Look<'_>);

    /// A sign was cut, in frames that `backend` has looked at. `weaver` is there to be told whether it was a good one.
    ///
    /// # Errors
    /// To end the session.
    fn sign(&mut self, sign: Sign, backend: &str, weaver: &mut Weaver) -> Result<(), Self::Error>;

    /// Called several times a second; `false` ends the session.
    ///
    /// # Errors
    /// To end the session.
    fn turn(&mut self, standing: &Standing<'_>, weaver: &mut Weaver) -> Result<bool, Self::Error>;
}

/// Follows the hands in what `camera` sees until it ends or `host` has enough. Returns how it stood at the end.
///
/// # Errors
/// When a model fails, the host gives up, or the camera's thread is lost.
pub fn run<S: Sight, H: Host>(
    camera: &Camera,
    sight: &mut S,
    weaver: &mut Weaver,
    host: &mut H,
) -> Result<(Counts, Meter), H::Error>
where
    H::Error: From<S::Error> + From<CameraError>,
{
    let mut tracker = Tracker::default();
    let mut developer = Developer::default();
    let mut picture = RgbFrame::default();
    let mut meter = Meter::default();
    let (mut hands, mut at) = (0, Duration::ZERO);
    let mut watch = Watch::new(sight.backend());
    let mut has_ended = false;
    let is_lost = loop {
        let taken = camera.take(TURN);
        for news in camera.news() {
            if matches!(news, News::Opened(_)) {
                // Another picture may follow: nothing is where it was.
                tracker = Tracker::default();
            }
            has_ended |= news == News::Ended;
            host.news(&news)?;
        }
        let is_over = match taken {
            Taken::Frame(frame) => {
                at = frame.at;
                match developer.to_rgb(&frame, &mut picture) {
                    Ok(()) => {
                        camera.note_good();
                        let found = sight.follow(&mut tracker, &picture);
                        sight.news(&mut |news| host.accelerator(news));
                        let found = match found {
                            Err(_) if sight.is_left() => None,
                            found => Some(found?),
                        };
                        if let Some(found) = found {
                            watch.note(sight.backend(), at);
                            meter.note(at, frame.taken.elapsed());
                            hands = found.len();
                            host.look(&Look {
                                at,
                                picture: &picture,
                                hands: &found,
                            });
                            if let Some(sign) = weaver.push(at, &found) {
                                let backend = watch.of(&sign);
                                host.sign(sign, &backend, weaver)?;
                            }
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a damaged frame");
                        camera.note_damaged(error.to_string());
                    }
                }
                camera.give_back(frame);
                false
            }
            Taken::Nothing => false,
            Taken::Closed => true,
        };
        let standing = Standing {
            counts: camera.counts(),
            meter: &meter,
            hands,
            at,
        };
        if !host.turn(&standing, weaver)? || is_over {
            // The thread ends by itself in this way alone.
            break is_over && !has_ended;
        }
    };
    for news in camera.news() {
        host.news(&news)?;
    }
    if let Some(sign) = weaver.finish(at) {
        let backend = watch.of(&sign);
        host.sign(sign, &backend, weaver)?;
    }
    if is_lost {
        return Err(CameraError::Lost.into());
    }
    Ok((camera.counts(), meter))
}

/// Which backend looked at which frames.
struct Watch {
    now: String,
    /// From this frame on; and who did before.
    since: Duration,
    before: Option<String>,
}

impl Watch {
    fn new(backend: &str) -> Self {
        Self {
            now: backend.to_owned(),
            since: Duration::ZERO,
            before: None,
        }
    }

    /// `backend` has looked at the frame seen at `at`.
    fn note(&mut self, backend: &str, at: Duration) {
        if self.now != backend {
            self.before = Some(std::mem::replace(&mut self.now, backend.to_owned()));
            self.since = at;
        }
    }

    /// The backend of a sign; of one that two have looked at both, in their order.
    fn of(&self, sign: &Sign) -> String {
        match &self.before {
            Some(before) if sign.end < self.since => before.clone(),
            Some(before) if sign.begin < self.since => format!("{before}, {}", self.now),
            _ => self.now.clone(),
        }
    }
}
