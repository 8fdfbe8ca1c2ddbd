//! One camera's way from frames to signs, whoever looks on: newest frame → RGB → hands → signs.

use super::meter::Meter;
use crate::frame::RgbFrame;
use crate::hand::{Detector, Hand, Model, ModelError, Tracker};
use crate::sequence::live::{Sign, Weaver};
use crate::source::camera::{Camera, Counts, Developer, News, Taken};
use std::time::Duration;

/// The host is asked at least so often whether to go on.
const TURN: Duration = Duration::from_millis(100);

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
    type Error: From<ModelError>;

    /// Something happened to the camera.
    ///
    /// # Errors
    /// To end the session.
    fn news(&mut self, news: &News) -> Result<(), Self::Error>;

    /// A frame was looked at.
    fn look(&mut self, look: &Look<'_>);

    /// A sign was cut. `weaver` is there to be told whether it was a good one.
    ///
    /// # Errors
    /// To end the session.
    fn sign(&mut self, sign: Sign, weaver: &mut Weaver) -> Result<(), Self::Error>;

    /// Called several times a second; `false` ends the session.
    ///
    /// # Errors
    /// To end the session.
    fn turn(&mut self, standing: &Standing<'_>, weaver: &mut Weaver) -> Result<bool, Self::Error>;
}

/// Follows the hands in what `camera` sees until it ends or `host` has enough. Returns how it stood at the end.
///
/// # Errors
/// When a model fails or the host gives up.
pub fn run<M: Model, H: Host>(
    camera: &Camera,
    detector: &mut Detector<M>,
    weaver: &mut Weaver,
    host: &mut H,
) -> Result<(Counts, Meter), H::Error> {
    let mut tracker = Tracker::default();
    let mut developer = Developer::default();
    let mut picture = RgbFrame::default();
    let mut meter = Meter::default();
    let (mut hands, mut at) = (0, Duration::ZERO);
    loop {
        let taken = camera.take(TURN);
        for news in camera.news() {
            if matches!(news, News::Opened(_)) {
                // Another picture may follow: nothing is where it was.
                tracker = Tracker::default();
            }
            host.news(&news)?;
        }
        let is_over = match taken {
            Taken::Frame(frame) => {
                at = frame.at;
                match developer.to_rgb(&frame, &mut picture) {
                    Ok(()) => {
                        let found = detector.track(&mut tracker, &picture)?;
                        meter.note(at, frame.taken.elapsed());
                        hands = found.len();
                        host.look(&Look {
                            at,
                            picture: &picture,
                            hands: &found,
                        });
                        if let Some(sign) = weaver.push(at, &found) {
                            host.sign(sign, weaver)?;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a damaged frame");
                        camera.count_damaged();
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
            break;
        }
    }
    for news in camera.news() {
        host.news(&news)?;
    }
    if let Some(sign) = weaver.finish(at) {
        host.sign(sign, weaver)?;
    }
    Ok((camera.counts(), meter))
}
