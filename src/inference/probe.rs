//! Has a backend measured in a process of its own: a driver that crashes takes only that process with it, one that hangs
//! is ended. What it is to do comes on the process's stdin, what it found goes to its stdout, behind a mark, for
//! drivers write there, too.

use crate::cli::progress;
use crate::error::{CliError, Exit};
use crate::inference::benchmark;
use crate::inference::benchmark::{BenchmarkReport, BenchmarkTask};
use crate::system::process::{end_group, end_with_parent};
use anyhow::anyhow;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
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
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Characters of a driver's last words.
const WORDS_MAX: usize = 500;

/// What the process is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ProbeRequest {
    /// Who asks: without it there is nobody to tell.
    parent: u32,
    what: ProbeKind,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum ProbeKind {
    /// How a backend does.
    Measure(Box<BenchmarkTask>),
    /// Which Vulkan devices there are.
    Vulkan,
}

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeError {
    /// In words.
    pub reason: String,
    /// Whether it is the backend's, so that another try would end alike.
    pub is_lasting: bool,
}

impl ProbeError {
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
pub fn run(
    task: &BenchmarkTask,
    is_stopped: &dyn Fn() -> bool,
) -> Result<BenchmarkReport, ProbeError> {
    let limit = task.patience_s + 2.0 * task.seconds + 30.0;
    let what = ProbeKind::Measure(Box::new(task.clone()));
    ask(what, Duration::from_secs_f64(limit), is_stopped)
}

/// The names of the Vulkan devices, best first, and whether the first is no program. Drivers are loaded for that, so
/// another process does it.
///
/// # Errors
/// With its own words, or how it ended.
pub fn vulkan_devices() -> Result<(Vec<String>, bool), ProbeError> {
    ask(ProbeKind::Vulkan, VULKAN_LIMIT, &|| false)
}

fn ask<T: DeserializeOwned>(
    what: ProbeKind,
    limit: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Result<T, ProbeError> {
    let parent = std::process::id();
    let text = serde_json::to_string(&ProbeRequest { parent, what })
        .map_err(|error| ProbeError::passing(error.to_string()))?;
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
            ProbeError::passing(format!("the process that measures did not start: {error}"))
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
        let report: Result<T, String> = serde_json::from_str(&report).map_err(|error| {
            ProbeError::lasting(format!("its report is not understood: {error}"))
        })?;
        return report.map_err(ProbeError::lasting);
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
) -> Result<Option<String>, ProbeError> {
    let since = Instant::now();
    loop {
        match report.recv_timeout(POLL_INTERVAL) {
            Ok(report) => return Ok(report),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if is_stopped() => {
                return Err(ProbeError::passing("stopped while it was measured"));
            }
            Err(RecvTimeoutError::Timeout) if since.elapsed() >= limit => {
                let limit = limit.as_secs();
                return Err(ProbeError::lasting(format!(
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

fn how(ended: Option<ExitStatus>, words: &str) -> ProbeError {
    // Somebody else's doing: the user's, the service manager's, the kernel's for want of memory.
    const OTHERS: [i32; 4] = [1, 2, 9, 15];
    match ended.map(|status| (status.signal(), status.code())) {
        Some((Some(signal), _)) if OTHERS.contains(&signal) => ProbeError::passing(format!(
            "it was ended from outside (signal {signal}){words}"
        )),
        Some((Some(signal), _)) => {
            ProbeError::lasting(format!("it crashed (signal {signal}){words}"))
        }
        Some((_, Some(code))) => {
            ProbeError::lasting(format!("it ended the process with code {code}{words}"))
        }
        _ => ProbeError::lasting(format!("it hung when it should have ended{words}")),
    }
}

/// The process that measures.
///
/// # Errors
/// When nobody can be told what was found.
pub fn main() -> Result<Exit, CliError> {
    let io = |error: io::Error| CliError::new(Exit::InOut, error);
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(io)?;
    let question: ProbeRequest = serde_json::from_str(&text).map_err(|error| {
        CliError::new(
            Exit::Usage,
            anyhow!("this is for handloom itself, not for people; see `handloom bench`: {error}"),
        )
    })?;
    end_with_parent(question.parent).map_err(io)?;
    let json = match question.what {
        ProbeKind::Measure(task) => serde_json::to_string(&benchmark::find(&task)),
        ProbeKind::Vulkan => serde_json::to_string(&benchmark::devices()),
    };
    let json = json.map_err(|error| CliError::new(Exit::Bug, error))?;
    // A driver may have left half a line.
    progress::line(&format!("\n{MARK}{json}"));
    // Drivers have been known to crash at their end: what was found counts.
    std::process::exit(Exit::Done as i32)
}
