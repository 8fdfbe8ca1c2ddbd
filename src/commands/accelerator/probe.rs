//! Measures one backend in a process of its own: a driver that crashes takes only that process with it, one that hangs
//! is ended. What it is to do comes on the process's stdin, what it found goes to its stdout, behind a mark, for
//! drivers write there, too.

use crate::exit::{Exit, Failure};
use crate::frame::RgbFrame;
use crate::hand::{Detector, Handedness, Model, ModelError, Options};
use crate::inference::vulkan::{self, DeviceKind};
use crate::inference::{BackendSpec, Bundle, Claim, Graphs, Selection, SharedDevice, Target};
use crate::machine::process::end_with_parent;
use crate::render::scene::signing_scene;
use crate::report;
use crate::selection::Seen;
use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
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

/// Measures in another process.
///
/// # Errors
/// In words: its own, or how it ended.
pub fn run(task: &Task, patience: Duration) -> Result<Found, String> {
    let text = serde_json::to_string(task).map_err(|e| e.to_string())?;
    // This very program, also when its file has been replaced meanwhile.
    let mut child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the process that measures it did not start: {error}"))?;
    // Closed at once, so that it sees the end; if it is gone already, that is told below.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).ok();
    }
    let report = listen(child.stdout.take(), |line| {
        line.strip_prefix(MARK).map(str::to_owned)
    });
    let words = listen(child.stderr.take(), |line| {
        tracing::debug!(line, "probe");
        Some(line.to_owned())
    });
    let limit = patience + Duration::from_secs_f64(2.0 * task.seconds) + Duration::from_secs(30);
    let report = match report.recv_timeout(limit) {
        Ok(report) => report,
        Err(RecvTimeoutError::Timeout) => {
            end(&mut child);
            return Err(format!(
                "it hung: no answer within {} s, ended",
                limit.as_secs()
            ));
        }
        Err(RecvTimeoutError::Disconnected) => None,
    };
    let ended = end(&mut child);
    if let Some(report) = report {
        return serde_json::from_str::<Result<Found, String>>(&report)
            .unwrap_or_else(|error| Err(format!("its report is not understood: {error}")));
    }
    let words = words.recv_timeout(END_LIMIT).ok().flatten();
    let words = words.map_or_else(String::new, |words| format!("; its last words: {words}"));
    Err(format!("{}{words}", how(ended)))
}

/// Reads lines until there are no more, on a thread of its own, and gives the last one that `pick` takes.
fn listen(
    from: Option<impl Read + Send + 'static>,
    pick: impl Fn(&str) -> Option<String> + Send + 'static,
) -> Receiver<Option<String>> {
    let (tell, told) = sync_channel(1);
    let read = move || {
        let mut last = None;
        let mut from = from.map(BufReader::new);
        while let Some(from) = &mut from {
            let mut line = Vec::new();
            match from.by_ref().take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => {
                    let line = String::from_utf8_lossy(&line);
                    let line = line.trim();
                    last = pick(line).filter(|line| !line.is_empty()).or(last);
                }
            }
        }
        // Whoever waited may have given up.
        tell.send(last).ok();
    };
    // Without a thread the channel closes, and the process counts as one that said nothing.
    if let Err(error) = thread::Builder::new().name("probe".to_owned()).spawn(read) {
        tracing::warn!(%error, "cannot listen to the process that measures");
    }
    told
}

/// Waits for a process that should end by itself, then makes it. One that hangs in the kernel is left.
fn end(child: &mut Child) -> Option<ExitStatus> {
    let since = Instant::now();
    let mut is_killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status).filter(|_| !is_killed),
            Ok(None) if is_killed && since.elapsed() > 2 * END_LIMIT => return None,
            Ok(None) if !is_killed && since.elapsed() > END_LIMIT => {
                // It may have ended just now.
                child.kill().ok();
                is_killed = true;
            }
            Ok(None) => thread::sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
}

fn how(ended: Option<ExitStatus>) -> String {
    match ended {
        Some(status) => match (status.signal(), status.code()) {
            (Some(signal), _) => format!("it crashed (signal {signal})"),
            (_, Some(code)) => format!("it ended the process with code {code}"),
            _ => "it ended the process".to_owned(),
        },
        None => "it hung when it should have ended".to_owned(),
    }
}

/// The process that measures.
///
/// # Errors
/// When nobody can be told what was found.
pub fn main() -> Result<Exit, Failure> {
    let io = |error: io::Error| Failure::new(Exit::InOut, error);
    end_with_parent().map_err(io)?;
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(io)?;
    let task: Task = serde_json::from_str(&text).map_err(|error| {
        Failure::new(
            Exit::Usage,
            anyhow!("this is for handloom itself, not for people; see `handloom bench`: {error}"),
        )
    })?;
    let found = find(&task);
    let json = serde_json::to_string(&found).map_err(|error| Failure::new(Exit::Bug, error))?;
    // A driver may have left half a line.
    report::line(&format!("\n{MARK}{json}"));
    // Drivers have been known to crash at their end: what was found counts.
    std::process::exit(Exit::Done as i32)
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
        let devices = vulkan::devices().map_err(|error| error.to_string())?;
        if let Some(device) = devices.first()
            && device.kind == DeviceKind::Software
        {
            return Err(format!("the only Vulkan device is {device}"));
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
                    points: hand.landmarks.iter().map(|p| [p[0], p[1]]).collect(),
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
    let pictures_per_s = if task.workers > 1 {
        together(task.workers, opener, detector, &pictures, limit)?
    } else {
        alone
    };
    Ok(Found {
        seen,
        palm_ms,
        hand_ms,
        pictures_per_s,
        workers: task.workers,
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
    thread::scope(|scope| {
        let threads: Vec<_> = detectors
            .into_iter()
            .map(|mut detector| scope.spawn(move || pace(&mut detector, pictures, limit)))
            .collect();
        let mut sum = 0.0;
        for thread in threads {
            let pace = thread.join().map_err(|_| "a thread died".to_owned())?;
            sum += pace.map_err(|error| error.to_string())?;
        }
        Ok(sum)
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
