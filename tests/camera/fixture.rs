//! Shared by the camera tests: models, clips of signs and pauses, a session that logs its events.

use handloom::camera::{
    Camera, CameraCounts, CameraEvent, CameraOpener, CaptureTimeouts, DropPolicy,
};
use handloom::draw::scene::signing_scene;
use handloom::frame::RgbFrame;
use handloom::hand::landmarks::LANDMARKS;
use handloom::hand::{Detector, DetectorOptions, Hand, Model, ModelError, Tracker};
use handloom::inference::{BackendSpec, BoxedModel, LoadedModels, ModelFiles, ModelPaths};
use handloom::recording::latency_stats::LatencyStats;
use handloom::recording::session::{HandSource, RecordingSession, SessionEvent};
use handloom::sequence::recording_plan::RecordingPlan;
use handloom::sequence::segmenter::SegmentRules;
use handloom::sequence::sign_recorder::{Sign, SignConfig, SignRecorder};
use handloom::sequence::{SequenceOptions, SequenceSpec};
use handloom::video::encode::{Codec, encode_mp4};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;
use test_support::models;

pub(crate) const SIZE: (usize, usize) = (320, 240);
/// The frame interval of WLASL.
pub(crate) const FRAME: Duration = Duration::from_millis(40);

/// All landmarks of one hand.
pub(crate) type Points = [[f32; 3]; LANDMARKS];

/// A model whose runs take `delay` longer.
pub(crate) struct Slow<M> {
    pub(crate) model: M,
    pub(crate) delay: Duration,
}

impl<M: Model> Model for Slow<M> {
    fn input(&mut self) -> &mut [f32] {
        self.model.input()
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        std::thread::sleep(self.delay);
        self.model.invoke()
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.model.output(index, out)
    }
}

/// Calls `work` with a detector; each run of the hand model takes `delay` longer.
pub(crate) fn with_detector<T>(
    num_hands: usize,
    delay: Duration,
    work: impl FnOnce(&mut Detector<Slow<BoxedModel>>) -> T,
) -> T {
    let selection = ModelPaths {
        models: Some(models()),
        ..ModelPaths::default()
    };
    let bundle = ModelFiles::load(&selection).unwrap();
    let models = LoadedModels::load(&BackendSpec::Cpu, &bundle).unwrap();
    let [palm, hand] = models.open().unwrap().models;
    let slow = |model, delay| Slow { model, delay };
    let options = DetectorOptions {
        num_hands,
        ..DetectorOptions::default()
    };
    let (palm, hand) = (slow(palm, Duration::ZERO), slow(hand, delay));
    work(&mut Detector::new(palm, hand, options))
}

/// A part of a clip.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Frames of a scene.
    Sign(u64, usize),
    /// Frames without hands.
    Pause(usize),
}

/// Encodes the parts one after the other.
pub(crate) fn encode_parts(path: &Path, parts: &[Part], fps: u32) {
    let frames = parts.iter().flat_map(|part| {
        let (scene, count) = match *part {
            Part::Sign(seed, count) => (Some(seed), count),
            Part::Pause(count) => (None, count),
        };
        (0..count).map(move |i| match scene {
            Some(seed) => signing_scene(seed, i, SIZE.0, SIZE.1),
            None => RgbFrame::new(SIZE.0, SIZE.1),
        })
    });
    encode_mp4(path, frames, fps, Codec::H264).unwrap();
}

/// The defaults of `handloom camera`, with all times scaled from [`FRAME`] to the frame interval `frame`.
pub(crate) fn sign_config(frame: Duration) -> SignConfig {
    SignConfig {
        rules: SegmentRules {
            frame,
            start_frames: 3,
            end_frames: 8,
            min: frame * 15 / 2,
            max: frame * 250,
        },
        spec: SequenceSpec {
            length: 32,
            stride: NonZeroU64::MIN.saturating_add(1),
            tracking: true,
            options: SequenceOptions::default(),
        },
    }
}

/// Finds hands with a plain detector.
struct Plain<'a, M>(&'a mut Detector<M>);

impl<M: Model> HandSource for Plain<'_, M> {
    type Error = anyhow::Error;

    fn find_hands(&mut self, tracker: &mut Tracker, image: &RgbFrame) -> anyhow::Result<Vec<Hand>> {
        Ok(self.0.track(tracker, image)?)
    }

    fn backend(&self) -> &'static str {
        "cpu"
    }
}

/// What happened in a session.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) views: Vec<(Duration, Vec<Points>)>,
    pub(crate) signs: Vec<Sign>,
    pub(crate) camera: Vec<CameraEvent>,
}

/// Records every sign until the camera ends.
pub(crate) fn record_signs<M: Model>(
    opener: Box<dyn CameraOpener>,
    drop_policy: DropPolicy,
    detector: &mut Detector<M>,
) -> (Log, CameraCounts, LatencyStats) {
    record_signs_at(FRAME, opener, drop_policy, detector)
}

/// [`record_signs`] with the [`sign_config`] of `frame`.
pub(crate) fn record_signs_at<M: Model>(
    frame: Duration,
    opener: Box<dyn CameraOpener>,
    drop_policy: DropPolicy,
    detector: &mut Detector<M>,
) -> (Log, CameraCounts, LatencyStats) {
    let camera = Camera::start(opener, drop_policy, CaptureTimeouts::default()).unwrap();
    let recorder = SignRecorder::new(sign_config(frame), RecordingPlan::new(true));
    let mut session = RecordingSession::new(camera, Plain(detector), recorder);
    let mut log = Log::default();
    loop {
        match session.next_event().unwrap() {
            SessionEvent::Camera(event) => log.camera.push(event),
            SessionEvent::Frame => {
                let view = session.view();
                let points = view.hands.iter().map(|h| h.landmarks).collect();
                log.views.push((view.at, points));
            }
            SessionEvent::Sign { sign, .. } => log.signs.push(*sign),
            SessionEvent::Backend(_) | SessionEvent::Tick => {}
            SessionEvent::Ended => {
                let status = session.status();
                return (log, status.counts, status.stats.clone());
            }
        }
    }
}
