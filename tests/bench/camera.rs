//! From a camera's frame to its landmarks: latency at 30 fps and the sustained rate, with one hand and with two.
//! `make bench-camera` runs it on one core and then on two. The camera replays drawn hands in YUYV, 640 x 480, so
//! that its driver costs nothing.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, works with small numbers and stops where it cannot run"
)]

use handloom::camera::{
    Camera, CameraCounts, CameraError, CameraOpener, Capture, CaptureStep, CaptureTimeouts,
    DropPolicy, OpenedCamera, PixelFormat, RawFrame,
};
use handloom::draw::scene::signing_scene;
use handloom::frame::RgbFrame;
use handloom::hand::{Detector, DetectorOptions, Hand, Tracker};
use handloom::inference::{BackendSpec, BoxedModel, LoadedModels, ModelFiles, ModelPaths};
use handloom::recording::latency_stats::LatencyStats;
use handloom::recording::session::{HandSource, RecordingSession, SessionEvent};
use handloom::sequence::recording_plan::RecordingPlan;
use handloom::sequence::segmenter::SegmentRules;
use handloom::sequence::sign_recorder::{SignConfig, SignRecorder};
use handloom::sequence::{SequenceOptions, SequenceSpec};
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZE: (usize, usize) = (640, 480);
const FRAMES: u32 = 300;
const INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);

/// Gives its frames in order, at 30 fps or as fast as they are read.
#[derive(Clone)]
struct ReplayCamera {
    frames: Arc<Vec<Vec<u8>>>,
    is_paced: bool,
    count: u32,
    start: Instant,
    opened: OpenedCamera,
}

impl ReplayCamera {
    fn new(seed: u64, is_paced: bool) -> Self {
        let frame = |n| yuyv(&signing_scene(seed, n, SIZE.0, SIZE.1));
        Self {
            frames: Arc::new((0..60).map(frame).collect()),
            is_paced,
            count: 0,
            start: Instant::now(),
            opened: OpenedCamera {
                name: "replay".to_owned(),
                path: "replay".to_owned(),
                format: PixelFormat::Yuyv,
                width: SIZE.0,
                height: SIZE.1,
                rate: Some(30.0),
            },
        }
    }
}

fn yuyv(rgb: &RgbFrame) -> Vec<u8> {
    let yuv = |p: &[u8]| {
        let [r, g, b] = [p[0], p[1], p[2]].map(f32::from);
        let y = 16.0 + 0.257 * r + 0.504 * g + 0.098 * b;
        let u = 128.0 - 0.148 * r - 0.291 * g + 0.439 * b;
        let v = 128.0 + 0.439 * r - 0.368 * g - 0.071 * b;
        [y as u8, u as u8, v as u8]
    };
    let pair = |pair: &[u8]| {
        let (a, b) = (yuv(&pair[..3]), yuv(&pair[3..]));
        [a[0], a[1], b[0], a[2]]
    };
    rgb.pixels().chunks_exact(6).flat_map(pair).collect()
}

impl CameraOpener for ReplayCamera {
    fn name(&self) -> String {
        "replay".to_owned()
    }

    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError> {
        self.start = start;
        Ok(Box::new(self.clone()))
    }
}

impl Capture for ReplayCamera {
    fn opened(&self) -> &OpenedCamera {
        &self.opened
    }

    fn frame_timeout(&self) -> Duration {
        Duration::from_mins(1)
    }

    fn next(
        &mut self,
        _timeout: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError> {
        if self.count == FRAMES {
            return Ok(CaptureStep::End);
        }
        // Plays forwards and then backwards, so that no hand jumps.
        let n = self.count as usize % (2 * self.frames.len());
        let n = n.min(2 * self.frames.len() - 1 - n);
        self.count += 1;
        frame.at = INTERVAL * self.count;
        if self.is_paced {
            std::thread::sleep(frame.at.saturating_sub(self.start.elapsed()));
        }
        frame.taken = Instant::now();
        (frame.width, frame.height, frame.stride) = (SIZE.0, SIZE.1, SIZE.0 * 2);
        frame.format = PixelFormat::Yuyv;
        frame.bytes.clone_from(&self.frames[n]);
        Ok(CaptureStep::Frame)
    }
}

/// Finds hands with a plain detector.
struct Plain<'a>(&'a mut Detector<BoxedModel>);

impl HandSource for Plain<'_> {
    type Error = anyhow::Error;

    fn find_hands(&mut self, tracker: &mut Tracker, image: &RgbFrame) -> anyhow::Result<Vec<Hand>> {
        Ok(self.0.track(tracker, image)?)
    }

    fn backend(&self) -> &'static str {
        "cpu"
    }
}

fn run_session(
    replay: ReplayCamera,
    pace: DropPolicy,
    detector: &mut Detector<BoxedModel>,
) -> (CameraCounts, LatencyStats, Duration) {
    let rules = SegmentRules {
        frame: Duration::from_millis(40),
        start_frames: 3,
        end_frames: 8,
        min: Duration::from_millis(300),
        max: Duration::from_secs(10),
    };
    let spec = SequenceSpec {
        length: 32,
        stride: NonZeroU64::MIN.saturating_add(1),
        tracking: true,
        options: SequenceOptions::default(),
    };
    let recorder = SignRecorder::new(SignConfig { rules, spec }, RecordingPlan::new(true));
    let start = Instant::now();
    let camera =
        Camera::start(Box::new(replay), pace, CaptureTimeouts::default()).expect("a thread");
    let mut session = RecordingSession::new(camera, Plain(detector), recorder);
    while session.next_event().expect("a run of the models") != SessionEvent::Ended {}
    let status = session.status();
    (status.counts, status.stats.clone(), start.elapsed())
}

fn main() {
    let models = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fetched"));
    let selection = ModelPaths {
        models,
        ..ModelPaths::default()
    };
    let bundle = ModelFiles::load(&selection).expect("the models, as `make setup` fetches them");
    let models = LoadedModels::load(&BackendSpec::Cpu, &bundle).expect("both models");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (hands, seed) in [(1, 2), (2, 1)] {
        let [palm, hand] = models.open().expect("both models").models;
        let options = DetectorOptions {
            num_hands: hands,
            ..DetectorOptions::default()
        };
        let mut detector = Detector::new(palm, hand, options);
        let (_, _, time) = run_session(
            ReplayCamera::new(seed, false),
            DropPolicy::WaitForReader,
            &mut detector,
        );
        let sustained = f64::from(FRAMES) / time.as_secs_f64();
        let (counts, stats, _) = run_session(
            ReplayCamera::new(seed, true),
            DropPolicy::DropOldest,
            &mut detector,
        );
        let ms = |percent| stats.latency(percent).as_secs_f64() * 1e3;
        println!(
            "{cores} cores, {hands} hands: sustained {sustained:5.1} fps; at 30 fps latency p50 {:5.1} ms, p95 {:5.1} ms, \
             dropped {} of {}",
            ms(50),
            ms(95),
            counts.dropped,
            counts.frames
        );
    }
}
