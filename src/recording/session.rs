//! One camera's way from frames to signs, whoever looks on: newest frame → RGB → hands → signs.

use crate::camera::{Camera, CameraCounts, CameraError, CameraEvent, NextFrame, PixelConverter};
use crate::frame::RgbFrame;
use crate::hand::{Detector, Hand, Model, ModelError, Tracker};
use crate::inference::BackendEvent;
use crate::recording::latency_stats::LatencyStats;
use crate::selection::CPU;
use crate::sequence::sign_recorder::{Sign, SignRecorder};
use std::time::Duration;

/// The host is asked at least so often whether to go on.
const TURN: Duration = Duration::from_millis(100);

/// Follows hands from picture to picture.
pub trait HandSource {
    /// Why it cannot.
    type Error;

    /// The hands in the next picture; `tracker` knows where they were in the last one.
    ///
    /// # Errors
    /// When a model fails for good.
    fn find_hands(
        &mut self,
        tracker: &mut Tracker,
        picture: &RgbFrame,
    ) -> Result<Vec<Hand>, Self::Error>;

    /// Whether the last picture failed only because the process ends, and nobody waits for what runs the models.
    fn is_abandoned(&self) -> bool {
        false
    }

    /// The name of what ran the models.
    fn backend(&self) -> &str;

    /// Tells what happened to that since the last picture.
    fn backend_events(&mut self, report: &mut dyn FnMut(&BackendEvent<'_>));
}

/// Models that are taken as they are: the CPU's, of which there is no news.
impl<M: Model> HandSource for Detector<M> {
    type Error = ModelError;

    fn find_hands(
        &mut self,
        tracker: &mut Tracker,
        picture: &RgbFrame,
    ) -> Result<Vec<Hand>, ModelError> {
        self.track(tracker, picture)
    }

    fn backend(&self) -> &str {
        CPU
    }

    fn backend_events(&mut self, _report: &mut dyn FnMut(&BackendEvent<'_>)) {}
}

/// A frame that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// When the camera saw it, since the session's start.
    pub at: Duration,
    /// The picture.
    pub picture: &'a RgbFrame,
    /// What was found in it, as detected.
    pub hands: &'a [Hand],
}

/// How the session stands.
#[derive(Clone, Copy, Debug)]
pub struct SessionStatus<'a> {
    /// The camera's frames and faults.
    pub counts: CameraCounts,
    /// Rates and latencies.
    pub stats: &'a LatencyStats,
    /// Hands in the last frame.
    pub hands: usize,
    /// Time of the last frame.
    pub at: Duration,
}

/// Whoever runs a session.
pub trait SessionHost {
    /// What ends a session early.
    type Error;

    /// Something happened to the camera.
    ///
    /// # Errors
    /// To end the session.
    fn news(&mut self, news: &CameraEvent) -> Result<(), Self::Error>;

    /// Something happened to what runs the models.
    fn accelerator(&mut self, news: &BackendEvent<'_>);

    /// A frame was looked at.
    fn look(&mut self, look: &FrameView<'_>);

    /// A sign was cut, in frames that `backend` has looked at. `recorder` is there to be told whether it was a good one.
    ///
    /// # Errors
    /// To end the session.
    fn sign(
        &mut self,
        sign: Sign,
        backend: &str,
        recorder: &mut SignRecorder,
    ) -> Result<(), Self::Error>;

    /// Called several times a second; `false` ends the session.
    ///
    /// # Errors
    /// To end the session.
    fn turn(
        &mut self,
        standing: &SessionStatus<'_>,
        recorder: &mut SignRecorder,
    ) -> Result<bool, Self::Error>;
}

/// Follows the hands in what `camera` sees until it ends or `host` has enough. Returns how it stood at the end.
///
/// # Errors
/// When a model fails, the host gives up, or the camera's thread is lost.
pub fn run<S: HandSource, H: SessionHost>(
    camera: &Camera,
    source: &mut S,
    recorder: &mut SignRecorder,
    host: &mut H,
) -> Result<(CameraCounts, LatencyStats), H::Error>
where
    H::Error: From<S::Error> + From<CameraError>,
{
    let mut tracker = Tracker::default();
    let mut developer = PixelConverter::default();
    let mut picture = RgbFrame::default();
    let mut stats = LatencyStats::default();
    let (mut hands, mut at) = (0, Duration::ZERO);
    let mut watch = BackendHistory::new(source.backend());
    let mut has_ended = false;
    let is_lost = loop {
        let taken = camera.take(TURN);
        for news in camera.news() {
            if matches!(news, CameraEvent::Opened(_)) {
                // Another picture may follow: nothing is where it was.
                tracker = Tracker::default();
            }
            has_ended |= news == CameraEvent::Ended;
            host.news(&news)?;
        }
        let is_over = match taken {
            NextFrame::Frame(frame) => {
                at = frame.at;
                match developer.to_rgb(&frame, &mut picture) {
                    Ok(()) => {
                        camera.note_good();
                        let found = source.find_hands(&mut tracker, &picture);
                        source.backend_events(&mut |news| host.accelerator(news));
                        let found = match found {
                            Err(_) if source.is_abandoned() => None,
                            found => Some(found?),
                        };
                        if let Some(found) = found {
                            watch.note(source.backend(), at);
                            stats.note(at, frame.taken.elapsed());
                            hands = found.len();
                            host.look(&FrameView {
                                at,
                                picture: &picture,
                                hands: &found,
                            });
                            if let Some(sign) = recorder.push(at, &found) {
                                let backend = watch.of(sign.begin, sign.end);
                                host.sign(sign, &backend, recorder)?;
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
            NextFrame::Nothing => false,
            NextFrame::Closed => true,
        };
        let standing = SessionStatus {
            counts: camera.counts(),
            stats: &stats,
            hands,
            at,
        };
        if !host.turn(&standing, recorder)? || is_over {
            // The thread ends by itself in this way alone.
            break is_over && !has_ended;
        }
    };
    for news in camera.news() {
        host.news(&news)?;
    }
    if let Some(sign) = recorder.finish(at) {
        let backend = watch.of(sign.begin, sign.end);
        host.sign(sign, &backend, recorder)?;
    }
    if is_lost {
        return Err(CameraError::Lost.into());
    }
    Ok((camera.counts(), stats))
}

/// Changes of the backend that are remembered: far more than a sign may see.
const CHANGES_MAX: usize = 16;

/// Which backend looked at which frames.
struct BackendHistory {
    /// Each from the frame at this time on, the last one now.
    backends: Vec<(Duration, String)>,
}

impl BackendHistory {
    fn new(backend: &str) -> Self {
        Self {
            backends: vec![(Duration::ZERO, backend.to_owned())],
        }
    }

    /// `backend` has looked at the frame seen at `at`.
    fn note(&mut self, backend: &str, at: Duration) {
        if self.backends.last().is_none_or(|(_, now)| now != backend) {
            if self.backends.len() >= CHANGES_MAX {
                self.backends.remove(0);
            }
            self.backends.push((at, backend.to_owned()));
        }
    }

    /// The backend of a sign from `begin` to `end`; of one that several have looked at all of them, in their order.
    fn of(&self, begin: Duration, end: Duration) -> String {
        let ends = self.backends.iter().skip(1).map(|(since, _)| Some(*since));
        let spans = self.backends.iter().zip(ends.chain([None]));
        let looked = spans
            .filter(|((since, _), until)| *since <= end && until.is_none_or(|until| until > begin));
        let names: Vec<&str> = looked.map(|((_, name), _)| name.as_str()).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_has_all_that_looked_at_it() {
        let at = Duration::from_secs;
        let mut watch = BackendHistory::new("npu");
        assert_eq!(watch.of(at(0), at(1)), "npu");
        for (second, backend) in [(1, "npu"), (2, "cpu"), (3, "cpu"), (4, "npu")] {
            watch.note(backend, at(second));
        }
        assert_eq!(watch.of(at(0), at(1)), "npu");
        assert_eq!(watch.of(at(1), at(2)), "npu, cpu");
        assert_eq!(watch.of(at(2), at(3)), "cpu");
        assert_eq!(watch.of(at(1), at(4)), "npu, cpu, npu");
        assert_eq!(watch.of(at(4), at(9)), "npu");
        for second in 5..100 {
            watch.note(["cpu", "npu"][second % 2], at(second as u64));
        }
        assert_eq!(watch.backends.len(), CHANGES_MAX);
        assert_eq!(watch.of(at(98), at(99)), "cpu, npu");
    }
}
