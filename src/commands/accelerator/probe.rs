//! Measures one backend in a process of its own: a driver that crashes takes only that process with it, one that hangs
//! is ended. What it is to do comes on the process's stdin, what it found goes to its stdout, behind a mark, for
//! drivers write there, too.

use crate::exit::{Exit, Failure};
use crate::frame::RgbFrame;
use crate::hand::{Detector, Handedness, Model, ModelError, Options};
use crate::inference::vulkan::{self, DeviceKind};
use crate::inference::{BackendSpec, Bundle, Claim, Graphs, Selection, SharedDevice, Target};
use crate::machine::process::{end_group, end_with_parent};
use crate::render::scene::signing_scene;
use crate::report;
use crate::selection::Seen;
use anyhow::anyhow;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The hidden subcommand.
pub const COMMAND: &str = "probe-accelerator";
/// Stands before what was found.
const MARK: &str = "handloom-probe ";
/// Longer than any report.
const LINE_MAX: u64 = 1 << 20;
/// A process that has said all ends within this.
const END_LIMIT: Duration = Duration::from_secs(3);
/// All Vulkan drivers are loaded within this.
const VULKAN_LIMIT: Duration = Duration::from_secs(20);
/// Who waits looks around so often.
const LOOK: Duration = Duration::from_millis(100);
/// Characters of a driver's last words.
const WORDS_MAX: usize = 500;
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

/// What the process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Question {
    /// Who asks: without it there is nobody to tell.
    parent: u32,
    what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum What {
    /// How a backend does.
    Measure(Box<Task>),
    /// Which Vulkan devices there are.
    Vulkan,
}

/// What is to be measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    /// Of what.
    pub backend: BackendSpec,
    /// On which models.
    pub models: Selection,
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
pub struct Found {
    /// The hands in each of the built-in pictures.
    pub seen: Vec<Vec<Seen>>,
    /// Median of the palm model's runs, one worker.
    pub palm_ms: f64,
    /// Median of the hand model's runs, one worker.
    pub hand_ms: f64,
    /// With all workers.
    pub pictures_per_s: f64,
    /// How many those are.
    pub workers: usize,
    /// How much of the models it runs; `None` where there is no saying.
    pub claim: Option<Claim>,
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words.
    pub reason: String,
    /// Whether it is the backend's, so that another try would end alike.
    pub is_lasting: bool,
}

impl Trouble {
    /// The backend's.
    fn lasting(reason: String) -> Self {
        Self {
            reason,
            is_lasting: true,
        }
    }

    /// Of other causes.
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_lasting: false,
        }
    }
}

/// Measures in another process, until `is_stopped`.
///
/// # Errors
/// With its own words, or how it ended.
pub fn run(task: &Task, is_stopped: &dyn Fn() -> bool) -> Result<Found, Trouble> {
    let limit = task.patience_s + 2.0 * task.seconds + 30.0;
    let what = What::Measure(Box::new(task.clone()));
    ask(what, Duration::from_secs_f64(limit), is_stopped)
}

/// The names of the Vulkan devices, best first, and whether the first is no program. Drivers are loaded for that, so
/// another process does it.
///
/// # Errors
/// With its own words, or how it ended.
pub fn vulkan_devices() -> Result<(Vec<String>, bool), Trouble> {
    ask(What::Vulkan, VULKAN_LIMIT, &|| false)
}

fn ask<T: DeserializeOwned>(
    what: What,
    limit: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Result<T, Trouble> {
    let parent = std::process::id();
    let text = serde_json::to_string(&Question { parent, what })
        .map_err(|error| Trouble::passing(error.to_string()))?;
    // This very program, also when its file has been replaced meanwhile. A group of its own: Ctrl-C is not meant for
    // it, and whatever it starts can be ended with it.
    let mut child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            Trouble::passing(format!("the process that measures did not start: {error}"))
        })?;
    // Closed at once, so that it sees the end; if it is gone already, that is told below.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).ok();
    }
    let report = listen(child.stdout.take(), Some(MARK));
    let words = listen(child.stderr.take(), None);
    let report = match wait(&report, limit, is_stopped) {
        Ok(report) => report,
        Err(trouble) => {
            end(&mut child, Duration::ZERO);
            return Err(trouble);
        }
    };
    let ended = end(&mut child, END_LIMIT);
    if let Some(report) = report {
        let report: Result<T, String> = serde_json::from_str(&report)
            .map_err(|error| Trouble::lasting(format!("its report is not understood: {error}")))?;
        return report.map_err(Trouble::lasting);
    }
    let words = words.recv_timeout(END_LIMIT).ok().flatten();
    let words = words.map_or_else(String::new, |words| format!("; its last words: {words}"));
    Err(how(ended, &words))
}

/// Waits for a report; `None` when there will be none.
fn wait(
    report: &Receiver<Option<String>>,
    limit: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Option<String>, Trouble> {
    let since = Instant::now();
    loop {
        match report.recv_timeout(LOOK) {
            Ok(report) => return Ok(report),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if is_stopped() => {
                return Err(Trouble::passing("stopped while it was measured"));
            }
            Err(RecvTimeoutError::Timeout) if since.elapsed() >= limit => {
                let limit = limit.as_secs();
                return Err(Trouble::lasting(format!(
                    "it hung: no answer within {limit} s, ended"
                )));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Reads lines on a thread of its own. Gives what stands behind `mark` as soon as it comes, or without a mark the last
/// line that is not empty once there are no more.
fn listen(
    from: Option<impl Read + Send + 'static>,
    mark: Option<&'static str>,
) -> Receiver<Option<String>> {
    let (tell, told) = sync_channel(2);
    let read = move || {
        let mut last = None;
        let mut from = from.map(BufReader::new);
        while let Some(from) = &mut from {
            let mut line = Vec::new();
            match from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim();
            match mark {
                Some(mark) => {
                    if let Some(report) = line.strip_prefix(mark) {
                        // The first counts; whoever waited may have given up.
                        tell.try_send(Some(report.to_owned())).ok();
                    }
                }
                None if line.is_empty() => {}
                None => {
                    tracing::debug!(line, "probe");
                    last = Some(brief(line));
                }
            }
        }
        tell.try_send(last).ok();
    };
    // Without a thread the channel closes, and the process counts as one that said nothing.
    if let Err(error) = thread::Builder::new().name("probe".to_owned()).spawn(read) {
        tracing::warn!(%error, "cannot listen to the process that measures");
    }
    told
}

/// A line of a driver's as it may be shown and kept.
fn brief(line: &str) -> String {
    let plain = line.chars().filter(|c| !c.is_control());
    plain.take(WORDS_MAX).collect()
}

/// Waits for a process that should end by itself, then makes it. One that hangs in the kernel is left.
fn end(child: &mut Child, patience: Duration) -> Option<ExitStatus> {
    let since = Instant::now();
    let mut is_killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status).filter(|_| !is_killed),
            Ok(None) if is_killed && since.elapsed() > patience + END_LIMIT => return None,
            Ok(None) if !is_killed && since.elapsed() >= patience => {
                // It may have ended just now.
                end_group(child.id()).ok();
                is_killed = true;
            }
            Ok(None) => thread::sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
}

fn how(ended: Option<ExitStatus>, words: &str) -> Trouble {
    // Somebody else's doing: the user's, the service manager's, the kernel's for want of memory.
    const OTHERS: [i32; 4] = [1, 2, 9, 15];
    match ended.map(|status| (status.signal(), status.code())) {
        Some((Some(signal), _)) if OTHERS.contains(&signal) => Trouble::passing(format!(
            "it was ended from outside (signal {signal}){words}"
        )),
        Some((Some(signal), _)) => Trouble::lasting(format!("it crashed (signal {signal}){words}")),
        Some((_, Some(code))) => {
            Trouble::lasting(format!("it ended the process with code {code}{words}"))
        }
        _ => Trouble::lasting(format!("it hung when it should have ended{words}")),
    }
}

/// The process that measures.
///
/// # Errors
/// When nobody can be told what was found.
pub fn main() -> Result<Exit, Failure> {
    let io = |error: io::Error| Failure::new(Exit::InOut, error);
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(io)?;
    let question: Question = serde_json::from_str(&text).map_err(|error| {
        Failure::new(
            Exit::Usage,
            anyhow!("this is for handloom itself, not for people; see `handloom bench`: {error}"),
        )
    })?;
    end_with_parent(question.parent).map_err(io)?;
    let json = match question.what {
        What::Measure(task) => serde_json::to_string(&find(&task)),
        What::Vulkan => serde_json::to_string(&devices()),
    };
    let json = json.map_err(|error| Failure::new(Exit::Bug, error))?;
    // A driver may have left half a line.
    report::line(&format!("\n{MARK}{json}"));
    // Drivers have been known to crash at their end: what was found counts.
    std::process::exit(Exit::Done as i32)
}

fn devices() -> Result<(Vec<String>, bool), String> {
    let devices = vulkan::devices().map_err(|error| error.to_string())?;
    let is_gpu = devices
        .first()
        .is_some_and(|device| device.kind != DeviceKind::Software);
    Ok((devices.iter().map(ToString::to_string).collect(), is_gpu))
}

/// What opens detectors, one a worker.
enum Opener<'a> {
    Own(&'a Graphs<'a>),
    Shared(&'a Arc<SharedDevice>),
}

type Watched<'a> = Detector<Timed<Box<dyn Model + Send + 'a>>>;

impl<'a> Opener<'a> {
    /// A detector, and where the times of its two models go.
    fn detector(&self) -> Result<(Watched<'a>, [Times; 2]), String> {
        let [palm, hand]: [Box<dyn Model + Send + 'a>; 2] = match self {
            Self::Own(graphs) => {
                let pair = graphs.open().map_err(|error| error.to_string())?;
                [pair.palm.model, pair.hand.model]
            }
            Self::Shared(device) => device
                .models()
                .map(|m| Box::new(m) as Box<dyn Model + Send>),
        };
        let (palm, hand) = (Timed::new(palm), Timed::new(hand));
        let times = [Arc::clone(&palm.times), Arc::clone(&hand.times)];
        Ok((Detector::new(palm, hand, Options::default()), times))
    }
}

fn find(task: &Task) -> Result<Found, String> {
    let bundle = Bundle::load(&task.models).map_err(|error| error.to_string())?;
    let bundle = Arc::new(bundle);
    if task.backend == BackendSpec::LiteRt(Target::Gpu) && !task.software {
        let (devices, is_gpu) = devices()?;
        if !is_gpu {
            return Err(format!("there is no GPU, only {}", devices.join(", ")));
        }
    }
    if task.backend.is_shared() {
        let patience = Duration::from_secs_f64(task.patience_s);
        let device = SharedDevice::open(&task.backend, &bundle, task.workers, patience)?;
        let device = Arc::new(device);
        let claim = device.claim().cloned();
        if claim.as_ref().is_some_and(|claim| claim.is_empty) {
            return Err(
                "it takes none of the models' nodes: the CPU would do all the work".to_owned(),
            );
        }
        let mut found = measure(task, &Opener::Shared(&device))?;
        if let (times @ 1.., failure) = device.reopened() {
            return Err(format!("it failed {times} times within seconds: {failure}"));
        }
        found.claim = claim;
        Ok(found)
    } else {
        let graphs = Graphs::load(&task.backend, &bundle).map_err(|error| error.to_string())?;
        measure(task, &Opener::Own(&graphs))
    }
}

fn measure(task: &Task, opener: &Opener<'_>) -> Result<Found, String> {
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
                .map(|hand| Seen {
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
    Ok(Found {
        seen,
        palm_ms,
        hand_ms,
        pictures_per_s,
        workers,
        claim: None,
    })
}

/// Pictures per second of one detector.
fn pace(
    detector: &mut Watched<'_>,
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
    opener: &Opener<'a>,
    first: Watched<'a>,
    pictures: &[RgbFrame],
    limit: Duration,
) -> Result<f64, String> {
    let mut detectors = vec![first];
    for _ in 1..workers {
        detectors.push(opener.detector()?.0);
    }
    let since = Instant::now();
    // Each begins with another picture, and all stop by the clock: one that must wait for the others does not count.
    let work = |n: usize, mut detector: Watched<'a>| {
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

fn held(times: &Times) -> std::sync::MutexGuard<'_, Vec<Duration>> {
    times.lock().unwrap_or_else(PoisonError::into_inner)
}

fn median_ms(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// A model with a watch on it.
struct Timed<M> {
    model: M,
    times: Times,
}

impl<M> Timed<M> {
    fn new(model: M) -> Self {
        Self {
            model,
            times: Times::default(),
        }
    }
}

impl<M: Model> Model for Timed<M> {
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
