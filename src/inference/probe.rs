//! Benchmarks a backend in a child process: a driver that crashes ends only that process, one that hangs is killed.
//!
//! The child is this program with the hidden subcommand [`COMMAND`]. It reads a [`ProbeRequest`] as JSON from stdin and
//! writes the report as one line to stdout, behind a mark, because drivers write to stdout too.

use super::benchmark::{self, BenchmarkOptions, BenchmarkReport};
use super::{BackendSpec, vulkan};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// The hidden subcommand.
pub const COMMAND: &str = "probe-accelerator";
/// Prefix of the line with the report.
const MARK: &str = "handloom-probe ";
/// Maximum length of a line, bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// A child that has reported ends within this time.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for listing the Vulkan devices, which loads all drivers.
const VULKAN_TIMEOUT: Duration = Duration::from_secs(20);
/// Time limit of a benchmark beyond opening the device and measuring, seconds.
const BENCHMARK_MARGIN_S: f64 = 30.0;
/// How often a waiting caller checks whether it is stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of characters of a driver's message.
const MESSAGE_CHARS_MAX: usize = 500;

/// The task of the child process, which reads it as JSON from stdin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// Process ID of the parent: the child ends with it.
    pub parent: u32,
    kind: ProbeKind,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum ProbeKind {
    Benchmark(Box<(BackendSpec, BenchmarkOptions)>),
    VulkanDevices,
}

impl ProbeRequest {
    /// Does the work in this process and returns the line to print to stdout.
    ///
    /// # Errors
    /// Fails when the report cannot be serialized.
    pub fn run(&self) -> serde_json::Result<String> {
        let json = match &self.kind {
            ProbeKind::Benchmark(task) => {
                let (backend, options) = &**task;
                serde_json::to_string(&benchmark::run(backend, options))
            }
            ProbeKind::VulkanDevices => serde_json::to_string(&vulkan::device_names()),
        }?;
        // A driver may have left an unfinished line.
        Ok(format!("\n{MARK}{json}"))
    }
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeError {
    /// Human-readable reason.
    pub reason: String,
    /// Whether the backend is at fault, so that a repetition would fail too.
    pub is_lasting: bool,
}

impl ProbeError {
    fn lasting(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_lasting: true,
        }
    }

    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            is_lasting: false,
        }
    }
}

/// Benchmarks `backend` in a child process, until `is_stopped`.
///
/// # Errors
/// Returns the child's reason, or how it ended.
pub(super) fn benchmark(
    backend: &BackendSpec,
    options: &BenchmarkOptions,
    is_stopped: &dyn Fn() -> bool,
) -> Result<BenchmarkReport, ProbeError> {
    let timeout_s = options.timeout_s + 2.0 * options.seconds + BENCHMARK_MARGIN_S;
    let kind = ProbeKind::Benchmark(Box::new((backend.clone(), options.clone())));
    request(kind, Duration::from_secs_f64(timeout_s), is_stopped)
}

/// Names of the Vulkan devices, best first, and whether the first is hardware. A child process lists them, because that
/// loads all drivers.
///
/// # Errors
/// Returns the child's reason, or how it ended.
pub fn vulkan_devices() -> Result<(Vec<String>, bool), ProbeError> {
    request(ProbeKind::VulkanDevices, VULKAN_TIMEOUT, &|| false)
}

fn request<T: DeserializeOwned>(
    kind: ProbeKind,
    timeout: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Result<T, ProbeError> {
    let parent = std::process::id();
    let text = serde_json::to_string(&ProbeRequest { parent, kind })
        .map_err(|error| ProbeError::passing(error.to_string()))?;
    // `/proc/self/exe` is this program even after its file was replaced. The process group lets the child ignore Ctrl-C
    // and lets us kill it with everything that it starts.
    let mut child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| ProbeError::passing(format!("cannot start the probe: {error}")))?;
    // Dropped at once, so that the child sees the end. A child that is gone already is noticed below.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).ok();
    }
    let report = read_lines(child.stdout.take(), Some(MARK));
    let messages = read_lines(child.stderr.take(), None);
    let report = match wait(&report, timeout, is_stopped) {
        Ok(report) => report,
        Err(error) => {
            reap(&mut child, Duration::ZERO);
            return Err(error);
        }
    };
    let status = reap(&mut child, EXIT_TIMEOUT);
    if let Some(report) = report {
        let report: Result<T, String> = serde_json::from_str(&report)
            .map_err(|error| ProbeError::lasting(format!("cannot parse its report: {error}")))?;
        return report.map_err(ProbeError::lasting);
    }
    let message = messages.recv_timeout(EXIT_TIMEOUT).ok().flatten();
    let message = message.map_or_else(String::new, |text| format!("; its last message: {text}"));
    Err(exit_error(status, &message))
}

/// Waits for the report; `None` when the child ends without one.
fn wait(
    report: &Receiver<Option<String>>,
    timeout: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> Result<Option<String>, ProbeError> {
    let since = Instant::now();
    loop {
        match report.recv_timeout(POLL_INTERVAL) {
            Ok(report) => return Ok(report),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if is_stopped() => {
                return Err(ProbeError::passing("stopped during the benchmark"));
            }
            Err(RecvTimeoutError::Timeout) if since.elapsed() >= timeout => {
                let timeout = timeout.as_secs();
                return Err(ProbeError::lasting(format!(
                    "it hung: no answer within {timeout} s, killed"
                )));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Reads lines on a thread of its own. Sends the text behind `mark` as soon as it arrives; without a mark, the last
/// line that is not empty.
fn read_lines(
    from: Option<impl Read + Send + 'static>,
    mark: Option<&'static str>,
) -> Receiver<Option<String>> {
    let (sender, receiver) = sync_channel(2);
    let read = move || {
        let mut from = BufReader::new(from?);
        let (mut last, mut line) = (None, Vec::new());
        while let Ok(1..) = (&mut from)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
        {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim();
            match mark.map(|mark| text.strip_prefix(mark)) {
                // The first report counts; the receiver may be gone.
                Some(Some(report)) => _ = sender.try_send(Some(report.to_owned())),
                None if !text.is_empty() => {
                    tracing::debug!(line = text, "probe");
                    let printable = text.chars().filter(|c| !c.is_control());
                    last = Some(printable.take(MESSAGE_CHARS_MAX).collect());
                }
                _ => {}
            }
            line.clear();
        }
        sender.try_send(last).ok()
    };
    // Without a thread the channel closes, and the child counts as one that reported nothing.
    if let Err(error) = thread::Builder::new().name("probe".to_owned()).spawn(read) {
        tracing::warn!(%error, "cannot read the output of the probe");
    }
    receiver
}

/// Waits until the child ends by itself; after `timeout` kills its group. A child that hangs in the kernel is left.
fn reap(child: &mut Child, timeout: Duration) -> Option<ExitStatus> {
    let since = Instant::now();
    let mut is_killed = false;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status).filter(|_| !is_killed),
            Ok(None) if is_killed && since.elapsed() > timeout + EXIT_TIMEOUT => return None,
            Ok(None) if !is_killed && since.elapsed() >= timeout => {
                let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                // The group may have ended just now.
                leader.map(|leader| kill_process_group(leader, Signal::KILL).ok());
                is_killed = true;
            }
            Ok(None) => thread::sleep(Duration::from_millis(5)),
            Err(_) => return None,
        }
    }
}

fn exit_error(status: Option<ExitStatus>, message: &str) -> ProbeError {
    // HUP, INT, KILL and TERM come from the user, the service manager or the kernel's out-of-memory killer.
    const FROM_OUTSIDE: [i32; 4] = [1, 2, 9, 15];
    let (is_lasting, text) = match status.map(|status| (status.signal(), status.code())) {
        Some((Some(signal), _)) if FROM_OUTSIDE.contains(&signal) => (
            false,
            format!("it was killed from outside (signal {signal})"),
        ),
        Some((Some(signal), _)) => (true, format!("it crashed (signal {signal})")),
        Some((_, Some(code))) => (true, format!("it ended the process with code {code}")),
        _ => (true, "it hung at its exit".to_owned()),
    };
    ProbeError {
        reason: text + message,
        is_lasting,
    }
}
