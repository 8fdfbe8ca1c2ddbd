//! A camera session: newest frame → RGB → hands → signs.
//!
//! A [`RecordingSession`] owns its camera, its hand source and its recorder. Its caller fetches the next [`SessionEvent`] in
//! a loop and requests recordings through its methods.

use crate::camera::{
    Camera, CameraCounts, CameraError, CameraEvent, NextFrame, PixelConverter, RawFrame,
};
use crate::frame::{ClipFormat, RgbFrame};
use crate::hand::{Hand, Tracker};
use crate::inference::BackendEvent;
use crate::recording::latency_stats::LatencyStats;
use crate::sequence::recording_plan::RecordRequest;
use crate::sequence::sign_recorder::{Sign, SignRecorder};
use std::collections::VecDeque;
use std::time::Duration;

/// Longest time from one [`SessionEvent::Tick`] to the next while no frame comes.
const TICK: Duration = Duration::from_millis(100);

/// Finds the hands of a stream of pictures.
pub trait HandSource {
    /// Why it fails.
    type Error;

    /// The hands in the next frame; `tracker` holds their positions in the frame before.
    ///
    /// # Errors
    /// Fails when a model fails for good.
    fn find_hands(
        &mut self,
        tracker: &mut Tracker,
        image: &RgbFrame,
    ) -> Result<Vec<Hand>, Self::Error>;

    /// Whether the last frame failed only because the process ends and does not wait for the backend.
    fn is_abandoned(&self) -> bool {
        false
    }

    /// Name of the backend that processed the last frame.
    fn backend(&self) -> &str;

    /// What happened to the backend since the last call.
    fn backend_events(&mut self) -> Vec<BackendEvent> {
        Vec::new()
    }
}

/// What happened in a session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    /// Something happened to the camera.
    Camera(CameraEvent),
    /// Something happened to the backend.
    Backend(BackendEvent),
    /// The hands of a frame were found; [`RecordingSession::view`] shows them.
    Frame,
    /// A sign ended.
    Sign {
        /// What was signed.
        sign: Box<Sign>,
        /// Names of the backends that processed its frames, in their order, separated by commas.
        backend: String,
    },
    /// Comes after each frame, and several times a second without one: time to carry out requests.
    Tick,
    /// No further event comes.
    Ended,
}

/// A frame whose hands were found.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    /// When the camera took it, since the session's start.
    pub at: Duration,
    /// The picture.
    pub image: &'a RgbFrame,
    /// Its hands, as detected.
    pub hands: &'a [Hand],
}

/// Counters and rates of a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionStatus<'a> {
    /// The camera's frames and faults.
    pub counts: CameraCounts,
    /// Rate and latency of the last frames.
    pub stats: &'a LatencyStats,
    /// Hands in the last frame.
    pub hands: usize,
    /// Time of the last frame, since the session's start.
    pub at: Duration,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// The remaining events are returned. `is_lost` when the camera's thread ended by itself.
    Closing {
        is_lost: bool,
    },
    Ended,
}

/// A camera, what finds its hands, and what makes signs of them.
#[derive(Debug)]
pub struct RecordingSession<S: HandSource> {
    camera: Camera,
    hand_source: S,
    recorder: SignRecorder,
    tracker: Tracker,
    converter: PixelConverter,
    /// A frame from the camera that is not processed yet.
    waiting: Option<RawFrame>,
    pending: VecDeque<Result<SessionEvent, S::Error>>,
    stage: Stage,
    has_camera_ended: bool,
    at: Duration,
    image: RgbFrame,
    hands: Vec<Hand>,
    stats: LatencyStats,
    backends: BackendHistory,
}

impl<S: HandSource> RecordingSession<S>
where
    S::Error: From<CameraError>,
{
    /// Makes a session that takes frames from `camera`.
    #[must_use]
    pub fn new(camera: Camera, hand_source: S, recorder: SignRecorder) -> Self {
        let backends = BackendHistory::new(hand_source.backend());
        Self {
            camera,
            hand_source,
            recorder,
            tracker: Tracker::default(),
            converter: PixelConverter::default(),
            waiting: None,
            pending: VecDeque::new(),
            stage: Stage::Running,
            has_camera_ended: false,
            at: Duration::ZERO,
            image: RgbFrame::default(),
            hands: Vec::new(),
            stats: LatencyStats::default(),
            backends,
        }
    }

    /// Waits for the next event. After an error no useful event follows.
    ///
    /// # Errors
    /// Fails when a model fails or the camera's thread is lost.
    pub fn next_event(&mut self) -> Result<SessionEvent, S::Error> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            match (self.stage, self.waiting.take()) {
                (Stage::Running, Some(frame)) => self.process(frame),
                (Stage::Running, None) => self.wait(),
                (Stage::Closing { is_lost }, _) => self.finish(is_lost),
                (Stage::Ended, _) => return Ok(SessionEvent::Ended),
            }
        }
    }

    /// Ends the session: the events that are left, the sign that is under way and [`SessionEvent::Ended`] follow.
    pub fn stop(&mut self) {
        if self.stage == Stage::Running {
            self.stage = Stage::Closing { is_lost: false };
        }
    }

    /// Stops capture and waits for the camera's thread.
    pub fn close_camera(&mut self) {
        self.camera.stop();
    }

    /// Carries out `request`, which replaces any earlier request.
    pub fn record(&mut self, request: RecordRequest) {
        self.recorder.record(request, self.at);
    }

    /// Drops the request.
    pub fn cancel(&mut self) {
        self.recorder.plan_mut().cancel();
    }

    /// Records a take of `gloss` again if the request wants that gloss: the last one was discarded or too short. The
    /// countdown begins at `since`.
    pub fn retry(&mut self, gloss: &str, since: Duration) {
        self.recorder.plan_mut().retry(gloss, since);
    }

    /// The sign recorder: what is requested, and what was recorded so far.
    #[must_use]
    pub fn recorder(&self) -> &SignRecorder {
        &self.recorder
    }

    /// The last frame whose hands were found.
    #[must_use]
    pub fn view(&self) -> FrameView<'_> {
        FrameView {
            at: self.at,
            image: &self.image,
            hands: &self.hands,
        }
    }

    /// Counters and rates up to now.
    #[must_use]
    pub fn status(&self) -> SessionStatus<'_> {
        SessionStatus {
            counts: self.camera.counts(),
            stats: &self.stats,
            hands: self.hands.len(),
            at: self.at,
        }
    }

    fn emit(&mut self, event: SessionEvent) {
        self.pending.push_back(Ok(event));
    }

    /// Waits for a frame; the camera's events until then are returned before the frame is processed.
    fn wait(&mut self) {
        let next = self.camera.next_frame(TICK);
        self.emit_camera_events();
        match next {
            NextFrame::Frame(frame) => self.waiting = Some(frame),
            NextFrame::Timeout => self.emit(SessionEvent::Tick),
            NextFrame::Closed => {
                self.emit(SessionEvent::Tick);
                // Only the end of a file ends the thread in good order.
                let is_lost = !self.has_camera_ended;
                self.stage = Stage::Closing { is_lost };
            }
        }
    }

    fn emit_camera_events(&mut self) {
        for event in self.camera.events() {
            if matches!(event, CameraEvent::Opened(_)) {
                // The picture may have changed, so tracked positions are not valid any more.
                self.tracker = Tracker::default();
            }
            self.has_camera_ended |= event == CameraEvent::Ended;
            self.pending.push_back(Ok(SessionEvent::Camera(event)));
        }
    }

    fn process(&mut self, frame: RawFrame) {
        self.at = frame.at;
        match self.converter.to_rgb(&frame, &mut self.image) {
            Ok(()) => {
                self.camera.note_good();
                let found = self.hand_source.find_hands(&mut self.tracker, &self.image);
                for event in self.hand_source.backend_events() {
                    self.emit(SessionEvent::Backend(event));
                }
                match found {
                    Ok(hands) => {
                        self.hands = hands;
                        self.stats.note(frame.at, frame.taken.elapsed());
                        self.backends.note(self.hand_source.backend(), self.at);
                        self.emit(SessionEvent::Frame);
                        let format = ClipFormat::of(&self.image);
                        if let Some(sign) = self.recorder.push(self.at, format, &self.hands) {
                            self.emit_sign(sign);
                        }
                    }
                    Err(_) if self.hand_source.is_abandoned() => {}
                    Err(error) => self.pending.push_back(Err(error)),
                }
            }
            Err(error) => {
                tracing::debug!(%error, "damaged frame");
                self.camera.note_damaged(error);
            }
        }
        self.camera.release(frame);
        self.emit(SessionEvent::Tick);
    }

    fn emit_sign(&mut self, sign: Sign) {
        let backend = self.backends.between(sign.begin, sign.end);
        let sign = Box::new(sign);
        self.emit(SessionEvent::Sign { sign, backend });
    }

    fn finish(&mut self, is_lost: bool) {
        self.emit_camera_events();
        if let Some(sign) = self.recorder.finish(self.at) {
            self.emit_sign(sign);
        }
        self.stage = Stage::Ended;
        if is_lost {
            self.pending.push_back(Err(CameraError::Lost.into()));
        }
    }
}

/// Changes of the backend that are remembered: far more than one sign spans.
const CHANGES_MAX: usize = 16;

/// Which backend processed which frames.
#[derive(Debug)]
struct BackendHistory {
    /// Time of its first frame and name of each backend; the last one is in use.
    backends: Vec<(Duration, String)>,
}

impl BackendHistory {
    fn new(backend: &str) -> Self {
        Self {
            backends: vec![(Duration::ZERO, backend.to_owned())],
        }
    }

    /// Notes that `backend` processed the frame at `at`.
    fn note(&mut self, backend: &str, at: Duration) {
        if self.backends.last().is_none_or(|(_, now)| now != backend) {
            if self.backends.len() >= CHANGES_MAX {
                self.backends.remove(0);
            }
            self.backends.push((at, backend.to_owned()));
        }
    }

    /// Names of all backends that processed frames from `begin` to `end`, in their order, separated by commas.
    fn between(&self, begin: Duration, end: Duration) -> String {
        let starts_before = |(since, _): &(Duration, String)| *since <= begin;
        let first = self.backends.partition_point(starts_before);
        let backends = self.backends[first.saturating_sub(1)..].iter();
        let backends = backends.take_while(|(since, _)| *since <= end);
        let names: Vec<&str> = backends.map(|(_, name)| name.as_str()).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_names_all_backends_that_processed_it() {
        let at = Duration::from_secs;
        let mut history = BackendHistory::new("npu");
        assert_eq!(history.between(at(0), at(1)), "npu");
        for (second, backend) in [(1, "npu"), (2, "cpu"), (3, "cpu"), (4, "npu")] {
            history.note(backend, at(second));
        }
        assert_eq!(history.between(at(0), at(1)), "npu");
        assert_eq!(history.between(at(1), at(2)), "npu, cpu");
        assert_eq!(history.between(at(2), at(3)), "cpu");
        assert_eq!(history.between(at(1), at(4)), "npu, cpu, npu");
        assert_eq!(history.between(at(4), at(9)), "npu");
        for second in 5..100 {
            history.note(["cpu", "npu"][second % 2], at(second as u64));
        }
        assert_eq!(history.backends.len(), CHANGES_MAX);
        assert_eq!(history.between(at(98), at(99)), "cpu, npu");
    }
}
