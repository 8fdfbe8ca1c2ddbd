//! Measures one backend: how fast it runs the two models, and what it sees in the built-in pictures.

use crate::draw::scene::signing_scene;
use crate::frame::RgbFrame;
use crate::hand::{Detector, DetectorOptions, Handedness, Model, ModelError};
use crate::inference::vulkan::{self, VulkanDeviceKind};
use crate::inference::{
    BackendSpec, DelegateCoverage, LiteRtTarget, LoadedModels, ModelFiles, ModelPaths,
    SharedDevice, ShutdownFlag,
};
use crate::selection::DetectedHand;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// More workers than this are not measured: one device serves no more at once.
const WORKERS_MAX: usize = 16;
/// The pictures: seeds of scenes with one or two hands, and a frame of each.
const PICTURES: [(u64, usize); 8] = [
    (0, 10),
    (1, 20),
    (2, 30),
    (3, 40),
    (4, 15),
    (5, 25),
    (6, 35),
    (7, 45),
];
/// Their size, pixels.
const SIZE: (usize, usize) = (480, 360);

/// What is to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchmarkTask {
    /// Of what.
    pub backend: BackendSpec,
    /// On which models.
    pub models: ModelPaths,
    /// Clips at a time.
    pub workers: usize,
    /// For how long, each of two times.
    pub seconds: f64,
    /// How long it may take to get ready.
    pub patience_s: f64,
    /// Whether a Vulkan device may be a program.
    pub software: bool,
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BenchmarkReport {
    /// The hands in each of the built-in pictures.
    pub seen: Vec<Vec<DetectedHand>>,
    /// Median of the palm model's runs, one worker.
    pub palm_ms: f64,
    /// Median of the hand model's runs, one worker.
    pub hand_ms: f64,
    /// With all workers.
    pub pictures_per_s: f64,
    /// How many those are.
    pub workers: usize,
    /// How much of the models it runs; `None` where there is no saying.
    pub coverage: Option<DelegateCoverage>,
}

/// The names of the Vulkan devices, best first, and whether the first is no program.
pub(super) fn devices() -> Result<(Vec<String>, bool), String> {
    let devices = vulkan::devices().map_err(|error| error.to_string())?;
    let is_gpu = devices
        .first()
        .is_some_and(|device| device.kind != VulkanDeviceKind::Software);
    Ok((devices.iter().map(ToString::to_string).collect(), is_gpu))
}

/// What opens detectors, one a worker.
enum DetectorSource<'a> {
    Own(&'a LoadedModels<'a>),
    Shared(&'a Arc<SharedDevice>),
}

type TimedDetector<'a> = Detector<TimedModel<Box<dyn Model + Send + 'a>>>;

impl<'a> DetectorSource<'a> {
    /// A detector, and where the times of its two models go.
    fn detector(&self) -> Result<(TimedDetector<'a>, [Times; 2]), String> {
        let [palm, hand]: [Box<dyn Model + Send + 'a>; 2] = match self {
            Self::Own(graphs) => {
                let pair = graphs.open().map_err(|error| error.to_string())?;
                [pair.palm.model, pair.hand.model]
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

/// Measures what the task says.
pub(super) fn find(task: &BenchmarkTask) -> Result<BenchmarkReport, String> {
    let bundle = ModelFiles::load(&task.models).map_err(|error| error.to_string())?;
    let bundle = Arc::new(bundle);
    if task.backend == BackendSpec::LiteRt(LiteRtTarget::Gpu) && !task.software {
        let (devices, is_gpu) = devices()?;
        if !is_gpu {
            return Err(format!("there is no GPU, only {}", devices.join(", ")));
        }
    }
    if task.backend.is_shared() {
        let patience = Duration::from_secs_f64(task.patience_s);
        // Whoever stops this process ends it from outside.
        let ending = ShutdownFlag::default();
        let device = SharedDevice::open(&task.backend, &bundle, task.workers, patience, &ending)?;
        let device = Arc::new(device);
        let coverage = device.coverage().cloned();
        if coverage.as_ref().is_some_and(|coverage| coverage.is_empty) {
            return Err(
                "it takes none of the models' nodes: the CPU would do all the work".to_owned(),
            );
        }
        let mut found = measure(task, &DetectorSource::Shared(&device))?;
        if let (times @ 1.., failure) = device.reopened() {
            return Err(format!("it failed {times} times within seconds: {failure}"));
        }
        found.coverage = coverage;
        Ok(found)
    } else {
        let graphs =
            LoadedModels::load(&task.backend, &bundle).map_err(|error| error.to_string())?;
        measure(task, &DetectorSource::Own(&graphs))
    }
}

fn measure(task: &BenchmarkTask, opener: &DetectorSource<'_>) -> Result<BenchmarkReport, String> {
    let failed = |error: ModelError| error.to_string();
    let pictures: Vec<RgbFrame> = PICTURES
        .iter()
        .map(|(seed, frame)| signing_scene(*seed, *frame, SIZE.0, SIZE.1))
        .collect();
    let (mut detector, times) = opener.detector()?;
    let mut seen = Vec::new();
    for picture in &pictures {
        let hands = detector.detect(picture).map_err(failed)?;
        seen.push(
            hands
                .iter()
                .map(|hand| DetectedHand {
                    is_left: hand.handedness == Handedness::Left,
                    points: hand.landmarks.to_vec(),
                })
                .collect(),
        );
    }
    // The first runs warmed up.
    for times in &times {
        held(times).clear();
    }
    let limit = Duration::from_secs_f64(task.seconds);
    let alone = pace(&mut detector, &pictures, limit).map_err(failed)?;
    let [palm_ms, hand_ms] = times.map(|times| median_ms(&mut held(&times)));
    let workers = task.workers.min(WORKERS_MAX);
    let pictures_per_s = if workers > 1 {
        together(workers, opener, detector, &pictures, limit)?
    } else {
        alone
    };
    Ok(BenchmarkReport {
        seen,
        palm_ms,
        hand_ms,
        pictures_per_s,
        workers,
        coverage: None,
    })
}

/// Pictures per second of one detector.
fn pace(
    detector: &mut TimedDetector<'_>,
    pictures: &[RgbFrame],
    limit: Duration,
) -> Result<f64, ModelError> {
    let since = Instant::now();
    let mut count = 0.0;
    loop {
        // Whole rounds: the pictures differ in their number of hands.
        for picture in pictures {
            detector.detect(picture)?;
            count += 1.0;
        }
        if since.elapsed() >= limit {
            return Ok(count / since.elapsed().as_secs_f64());
        }
    }
}

/// Pictures per second of `workers` detectors, one of which is there.
fn together<'a>(
    workers: usize,
    opener: &DetectorSource<'a>,
    first: TimedDetector<'a>,
    pictures: &[RgbFrame],
    limit: Duration,
) -> Result<f64, String> {
    let mut detectors = vec![first];
    for _ in 1..workers {
        detectors.push(opener.detector()?.0);
    }
    let since = Instant::now();
    // Each begins with another picture, and all stop by the clock: one that must wait for the others does not count.
    let work = |n: usize, mut detector: TimedDetector<'a>| {
        let mut count = 0.0;
        for picture in pictures.iter().cycle().skip(n) {
            detector.detect(picture)?;
            count += 1.0;
            if since.elapsed() >= limit {
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
            let count = thread.join().map_err(|_| "a thread died".to_owned())?;
            sum += count.map_err(|error| error.to_string())?;
        }
        Ok(sum / since.elapsed().as_secs_f64())
    })
}

/// Times of runs.
type Times = Arc<Mutex<Vec<Duration>>>;

fn held(times: &Times) -> MutexGuard<'_, Vec<Duration>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// A model with a watch on it.
struct TimedModel<M> {
    model: M,
    times: Times,
}

impl<M> TimedModel<M> {
    fn new(model: M) -> Self {
        Self {
            model,
            times: Times::default(),
        }
    }
}

impl<M: Model> Model for TimedModel<M> {
    fn input(&mut self) -> &mut [f32] {
        self.model.input()
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let since = Instant::now();
        let ran = self.model.invoke();
        held(&self.times).push(since.elapsed());
        ran
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.model.output(index, out)
    }
}
