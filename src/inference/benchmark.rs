//! Benchmarks one backend in this process: the speed of both models, and the hands in synthetic images.

use super::vulkan;
use super::{
    BackendSpec, BoxedModel, LiteRtTarget, LoadedModels, ModelFiles, ModelPaths, SharedDevice,
    ShutdownFlag, lock,
};
use crate::draw::scene::signing_scene;
use crate::frame::RgbFrame;
use crate::hand::{Detector, DetectorOptions, Handedness, Model, ModelError};
use crate::selection::{Agreement, BackendMetrics, DetectedHand};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum number of workers: one device serves no more in parallel.
const WORKERS_MAX: usize = 16;
/// The images: for each synthetic scene with one or two hands, whose seed is the index, the number of a frame.
const SCENE_FRAMES: [usize; 8] = [10, 20, 30, 40, 15, 25, 35, 45];
/// Width and height of the images, pixels.
const SIZE: (usize, usize) = (480, 360);

/// How backends are benchmarked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchmarkOptions {
    /// The models.
    pub models: ModelPaths,
    /// Number of clips that are processed in parallel.
    pub workers: usize,
    /// Duration of each of the two measurements: one worker, then all.
    pub seconds: f64,
    /// How long opening the backend may take, seconds.
    pub timeout_s: f64,
    /// Whether the Vulkan device may be emulated by the CPU.
    pub allow_software: bool,
}

/// What a benchmark measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BenchmarkReport {
    /// The hands in each of the synthetic images.
    pub(super) hands: Vec<Vec<DetectedHand>>,
    /// The results. Their agreement is that of no image: the caller has the hands of the CPU.
    pub(super) metrics: BackendMetrics,
}

/// Opens the palm and the hand model for one more worker.
type OpenModels<'a> = &'a dyn Fn() -> Result<[BoxedModel; 2], String>;

type TimedDetector = Detector<TimedModel>;

/// A detector, and the run times of its palm and hand model.
fn timed_detector(open: OpenModels<'_>) -> Result<(TimedDetector, [RunTimes; 2]), String> {
    let [palm, hand] = open()?.map(|model| TimedModel {
        model,
        times: RunTimes::default(),
    });
    let times = [Arc::clone(&palm.times), Arc::clone(&hand.times)];
    Ok((Detector::new(palm, hand, DetectorOptions::default()), times))
}

/// Benchmarks `backend`.
///
/// # Errors
/// Returns a human-readable reason when it does not work.
pub(super) fn run(
    backend: &BackendSpec,
    options: &BenchmarkOptions,
) -> Result<BenchmarkReport, String> {
    let files = ModelFiles::load(&options.models).map_err(|error| error.to_string())?;
    if *backend == BackendSpec::LiteRt(LiteRtTarget::Gpu) && !options.allow_software {
        let (devices, is_hardware) = vulkan::device_names()?;
        if !is_hardware {
            return Err(format!("there is no GPU, only {}", devices.join(", ")));
        }
    }
    let timeout = Duration::from_secs_f64(options.timeout_s);
    let opened = OpenBackend::new(backend, &files, options.workers, timeout)?;
    let mut report = measure(options, &|| opened.models())?;
    report.metrics.is_reduced = backend.is_reduced();
    if let Opened::Shared(device) = &opened.0 {
        if let (times @ 1.., failure) = device.reopened() {
            return Err(format!("it failed {times} times within seconds: {failure}"));
        }
        let coverage = device.coverage.as_ref();
        report.metrics.is_partial = coverage.is_some_and(|coverage| coverage.is_partial);
        report.metrics.nodes = coverage.map(|coverage| coverage.text.clone());
    }
    Ok(report)
}

/// A backend that is open in this process, without agreement check and fallback.
pub struct OpenBackend(Opened);

enum Opened {
    /// The models, of which each detector opens its own.
    Own(LoadedModels),
    /// A device that all detectors share.
    Shared(Arc<SharedDevice>),
}

impl OpenBackend {
    /// Opens `backend` for `workers` detectors, a device within `timeout`.
    ///
    /// # Errors
    /// Returns a human-readable reason when it does not work.
    pub fn new(
        backend: &BackendSpec,
        files: &ModelFiles,
        workers: usize,
        timeout: Duration,
    ) -> Result<Self, String> {
        if !backend.is_shared() {
            let models = LoadedModels::load(backend, files);
            let models = models.map_err(|error| error.to_string())?;
            return Ok(Self(Opened::Own(models)));
        }
        // Never set: nothing stops the wait for the device before this process ends.
        let shutdown = ShutdownFlag::default();
        let device = SharedDevice::open(backend, files, workers, timeout, &shutdown)?;
        if device.coverage.as_ref().is_some_and(|c| c.is_empty) {
            return Err("it runs none of the models' nodes: the CPU would run all".to_owned());
        }
        Ok(Self(Opened::Shared(Arc::new(device))))
    }

    /// Opens the palm and the hand model for one more detector.
    ///
    /// # Errors
    /// Returns a human-readable reason when an interpreter cannot be made.
    pub fn models(&self) -> Result<[BoxedModel; 2], String> {
        let models = match &self.0 {
            Opened::Own(models) => models.open().map(|pair| pair.models),
            Opened::Shared(device) => device.models(),
        };
        models.map_err(|error| error.to_string())
    }
}

fn measure(options: &BenchmarkOptions, open: OpenModels<'_>) -> Result<BenchmarkReport, String> {
    let failed = |error: ModelError| error.to_string();
    let scenes = (0..).zip(SCENE_FRAMES);
    let images: Vec<RgbFrame> = scenes
        .map(|(seed, frame)| signing_scene(seed, frame, SIZE.0, SIZE.1))
        .collect();
    let (mut detector, times) = timed_detector(open)?;
    let mut hands = Vec::new();
    for image in &images {
        let detected = detector.detect(image).map_err(failed)?;
        let detected = detected.iter().map(|hand| DetectedHand {
            is_left: hand.handedness == Handedness::Left,
            points: hand.landmarks.to_vec(),
        });
        hands.push(detected.collect());
    }
    // Those runs were the warm-up.
    for times in &times {
        lock(times).clear();
    }
    let duration = Duration::from_secs_f64(options.seconds);
    let mut detectors = vec![detector];
    let alone = images_per_s(&mut detectors, &images, duration)?;
    let [palm_ms, hand_ms] = times.map(|times| median_ms(&mut lock(&times)));
    let workers = options.workers.min(WORKERS_MAX);
    for _ in 1..workers {
        detectors.push(timed_detector(open)?.0);
    }
    let images_per_s = if workers > 1 {
        images_per_s(&mut detectors, &images, duration)?
    } else {
        alone
    };
    Ok(BenchmarkReport {
        hands,
        metrics: BackendMetrics {
            palm_ms,
            hand_ms,
            images_per_s,
            workers,
            nodes: None,
            is_partial: false,
            is_reduced: false,
            agreement: Agreement::default(),
        },
    })
}

/// Images per second of `detectors` in parallel.
fn images_per_s(
    detectors: &mut [TimedDetector],
    images: &[RgbFrame],
    duration: Duration,
) -> Result<f64, String> {
    // One detector runs whole rounds, because the images differ in their number of hands. Of several, each starts at
    // another image, and all stop by the clock, so that no time is spent waiting for the others.
    let round = if detectors.len() == 1 {
        images.len()
    } else {
        1
    };
    let since = Instant::now();
    let work = |n: usize, detector: &mut TimedDetector| {
        let mut images = images.iter().cycle().skip(n);
        let mut count = 0.0;
        loop {
            for image in images.by_ref().take(round) {
                detector.detect(image)?;
                count += 1.0;
            }
            if since.elapsed() >= duration {
                return Ok::<f64, ModelError>(count);
            }
        }
    };
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = detectors
            .iter_mut()
            .enumerate()
            .map(|(n, detector)| scope.spawn(move || work(n, detector)))
            .collect();
        let mut sum = 0.0;
        for thread in threads {
            let count = thread.join().map_err(|_| "a thread panicked".to_owned())?;
            sum += count.map_err(|error| error.to_string())?;
        }
        Ok(sum / since.elapsed().as_secs_f64())
    })
}

/// Run times of one model.
type RunTimes = Arc<Mutex<Vec<Duration>>>;

fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// A model that records its run times.
struct TimedModel {
    model: BoxedModel,
    times: RunTimes,
}

impl Model for TimedModel {
    fn input(&mut self) -> &mut [f32] {
        self.model.input()
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let since = Instant::now();
        let result = self.model.invoke();
        lock(&self.times).push(since.elapsed());
        result
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.model.output(index, out)
    }
}
