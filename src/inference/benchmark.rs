//! Benchmarks one backend in this process: the speed of both models, and the hands in synthetic images.

use super::vulkan;
use super::{
    BackendSpec, DelegateCoverage, LiteRtTarget, LoadedModels, ModelFiles, ModelPaths,
    SharedDevice, ShutdownFlag,
};
use crate::draw::scene::signing_scene;
use crate::frame::RgbFrame;
use crate::hand::{Detector, DetectorOptions, Handedness, Model, ModelError};
use crate::selection::DetectedHand;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum number of workers: one device serves no more in parallel.
const WORKERS_MAX: usize = 16;
/// The images: the seed of each synthetic scene with one or two hands, and the frame of it.
const SCENES: [(u64, usize); 8] = [
    (0, 10),
    (1, 20),
    (2, 30),
    (3, 40),
    (4, 15),
    (5, 25),
    (6, 35),
    (7, 45),
];
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

/// A backend to benchmark.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BenchmarkTask {
    pub(super) backend: BackendSpec,
    pub(super) options: BenchmarkOptions,
}

/// What a benchmark measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchmarkReport {
    /// The hands in each of the synthetic images.
    pub hands: Vec<Vec<DetectedHand>>,
    /// Median run time of the palm model with one worker, milliseconds.
    pub palm_ms: f64,
    /// Median run time of the hand model with one worker, milliseconds.
    pub hand_ms: f64,
    /// Images per second with all workers.
    pub images_per_s: f64,
    /// Number of workers.
    pub workers: usize,
    /// How much of the models a delegate runs; `None` for backends that run all of them.
    pub coverage: Option<DelegateCoverage>,
}

/// Where workers get their models.
enum ModelSource<'a> {
    Own(&'a LoadedModels<'a>),
    Shared(&'a Arc<SharedDevice>),
}

type TimedDetector<'a> = Detector<TimedModel<Box<dyn Model + Send + 'a>>>;

impl<'a> ModelSource<'a> {
    /// A detector, and the run times of its palm and hand model.
    fn detector(&self) -> Result<(TimedDetector<'a>, [RunTimes; 2]), String> {
        let [palm, hand]: [Box<dyn Model + Send + 'a>; 2] = match self {
            Self::Own(models) => {
                let pair = models.open().map_err(|error| error.to_string())?;
                pair.into_models()
            }
            Self::Shared(device) => device
                .models()
                .map(|m| Box::new(m) as Box<dyn Model + Send>),
        };
        let (palm, hand) = (TimedModel::new(palm), TimedModel::new(hand));
        let times = [Arc::clone(&palm.times), Arc::clone(&hand.times)];
        Ok((Detector::new(palm, hand, DetectorOptions::default()), times))
    }
}

/// Benchmarks the backend of `task`.
///
/// # Errors
/// A human-readable reason, when it does not work.
pub(super) fn run(task: &BenchmarkTask) -> Result<BenchmarkReport, String> {
    let BenchmarkTask { backend, options } = task;
    let files = ModelFiles::load(&options.models).map_err(|error| error.to_string())?;
    let files = Arc::new(files);
    if *backend == BackendSpec::LiteRt(LiteRtTarget::Gpu) && !options.allow_software {
        let (devices, is_hardware) = vulkan::device_names()?;
        if !is_hardware {
            return Err(format!("there is no GPU, only {}", devices.join(", ")));
        }
    }
    if !backend.is_shared() {
        let models = LoadedModels::load(backend, &files).map_err(|error| error.to_string())?;
        return measure(options, &ModelSource::Own(&models));
    }
    let timeout = Duration::from_secs_f64(options.timeout_s);
    // The parent kills this process when it no longer waits.
    let shutdown = ShutdownFlag::default();
    let device = SharedDevice::open(backend, &files, options.workers, timeout, &shutdown)?;
    let device = Arc::new(device);
    let coverage = device.coverage().cloned();
    if coverage.as_ref().is_some_and(|coverage| coverage.is_empty) {
        return Err("it runs none of the models' nodes: the CPU would run all".to_owned());
    }
    let report = measure(options, &ModelSource::Shared(&device))?;
    if let (times @ 1.., failure) = device.reopened() {
        return Err(format!("it failed {times} times within seconds: {failure}"));
    }
    Ok(BenchmarkReport { coverage, ..report })
}

fn measure(
    options: &BenchmarkOptions,
    source: &ModelSource<'_>,
) -> Result<BenchmarkReport, String> {
    let failed = |error: ModelError| error.to_string();
    let images: Vec<RgbFrame> = SCENES
        .iter()
        .map(|(seed, frame)| signing_scene(*seed, *frame, SIZE.0, SIZE.1))
        .collect();
    let (mut detector, times) = source.detector()?;
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
    let alone = images_per_s(&mut detector, &images, duration).map_err(failed)?;
    let [palm_ms, hand_ms] = times.map(|times| median_ms(&mut lock(&times)));
    let workers = options.workers.min(WORKERS_MAX);
    let images_per_s = if workers > 1 {
        images_per_s_of(workers, source, detector, &images, duration)?
    } else {
        alone
    };
    Ok(BenchmarkReport {
        hands,
        palm_ms,
        hand_ms,
        images_per_s,
        workers,
        coverage: None,
    })
}

/// Images per second of one detector.
fn images_per_s(
    detector: &mut TimedDetector<'_>,
    images: &[RgbFrame],
    duration: Duration,
) -> Result<f64, ModelError> {
    let since = Instant::now();
    let mut count = 0.0;
    loop {
        // Whole rounds only: the images differ in their number of hands.
        for image in images {
            detector.detect(image)?;
            count += 1.0;
        }
        if since.elapsed() >= duration {
            return Ok(count / since.elapsed().as_secs_f64());
        }
    }
}

/// Images per second of `workers` detectors in parallel, of which `first` is one.
fn images_per_s_of<'a>(
    workers: usize,
    source: &ModelSource<'a>,
    first: TimedDetector<'a>,
    images: &[RgbFrame],
    duration: Duration,
) -> Result<f64, String> {
    let mut detectors = vec![first];
    for _ in 1..workers {
        detectors.push(source.detector()?.0);
    }
    let since = Instant::now();
    // Each starts at another image, and all stop by the clock, so that no time is spent waiting for the others.
    let work = |n: usize, mut detector: TimedDetector<'a>| {
        let mut count = 0.0;
        for image in images.iter().cycle().skip(n) {
            detector.detect(image)?;
            count += 1.0;
            if since.elapsed() >= duration {
                break;
            }
        }
        Ok::<f64, ModelError>(count)
    };
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = detectors
            .into_iter()
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

fn lock(times: &RunTimes) -> MutexGuard<'_, Vec<Duration>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// A model that records its run times.
struct TimedModel<M> {
    model: M,
    times: RunTimes,
}

impl<M> TimedModel<M> {
    fn new(model: M) -> Self {
        Self {
            model,
            times: RunTimes::default(),
        }
    }
}

impl<M: Model> Model for TimedModel<M> {
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
