//! A decoder process while it runs, from the side of the process that started it.

use super::COMMAND;
use super::protocol::{Channel, ChannelError, Reply, Request};
use crate::frame::SourceError;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A process that is killed ends within this time, or hangs in the kernel and is left.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of the checks whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Longest line of its messages, bytes.
const LINE_BYTES_MAX: u64 = 500;
/// Lines that are logged in a second.
const LINES_MAX: u32 = 20;

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallError {
    /// The process has ended, for this reason; the clip may be the cause or not.
    Ended(String),
    /// There was no reply until the deadline; the process is killed.
    TimedOut,
}

/// A decoder process; it is killed when dropped.
pub(super) struct RunningChild {
    process: Child,
    channel: Channel,
    memory_bytes: u64,
    is_out_of_memory: Arc<AtomicBool>,
}

impl RunningChild {
    /// Starts a process of this program.
    pub(super) fn spawn(memory_bytes: u64) -> Result<Self, SourceError> {
        let machine = |error: std::io::Error| {
            SourceError::Machine(format!("cannot start a decoder process: {error}"))
        };
        let (channel, socket) = Channel::pair().map_err(machine)?;
        // `/proc/self/exe` is this program even after its file was replaced. In a process group of its own the child does
        // not receive Ctrl-C: its parent decides when clips end.
        let mut process = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .arg(std::process::id().to_string())
            .process_group(0)
            .stdin(socket)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(machine)?;
        let is_out_of_memory = Arc::new(AtomicBool::new(false));
        let messages = process.stderr.take();
        let child = Self {
            process,
            channel,
            memory_bytes,
            is_out_of_memory: Arc::clone(&is_out_of_memory),
        };
        if let Some(messages) = messages {
            let read = move || log_messages(messages, &is_out_of_memory);
            let thread = thread::Builder::new().name("decoder-log".into());
            thread.spawn(read).map_err(machine)?;
        }
        Ok(child)
    }

    /// Its process ID.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends `request`, with `file`, and waits for the reply until `deadline`.
    pub(super) fn call(
        &mut self,
        request: &Request,
        file: Option<&File>,
        deadline: Instant,
    ) -> Result<Reply, CallError> {
        let reply = self
            .channel
            .send(request, file.map(AsFd::as_fd))
            .and_then(|()| self.channel.receive(Some(deadline)));
        match reply {
            Ok((Reply::TooMuchMemory, _)) => {
                self.kill();
                Err(CallError::Ended(self.too_much_memory()))
            }
            Ok((reply, _)) => Ok(reply),
            Err(ChannelError::Timeout) => {
                self.kill();
                Err(CallError::TimedOut)
            }
            Err(ChannelError::Closed) => {
                let status = self.wait();
                Err(CallError::Ended(self.reason(status)))
            }
            Err(error) => {
                self.kill();
                Err(CallError::Ended(format!(
                    "the decoder process failed: {error}"
                )))
            }
        }
    }

    fn too_much_memory(&self) -> String {
        let mib = self.memory_bytes >> 20;
        format!("decoding this clip needs more than {mib} MiB of memory")
    }

    /// Why the process ended by itself.
    fn reason(&self, status: Option<ExitStatus>) -> String {
        if self.is_out_of_memory.load(Ordering::Acquire) {
            return self.too_much_memory();
        }
        let ended = match status.map(|status| (status.signal(), status.code())) {
            Some((
                Some(signal @ (libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP)),
                _,
            )) => {
                format!("was ended from outside ({})", signal_name(signal))
            }
            Some((Some(signal), _)) => format!("crashed ({})", signal_name(signal)),
            Some((_, Some(code))) => format!("ended its process (exit code {code})"),
            _ => "hung at its end".to_owned(),
        };
        format!("the decoder {ended} in this clip")
    }

    /// Waits until the process has ended; kills one that does not.
    fn wait(&mut self) -> Option<ExitStatus> {
        self.wait_until(Instant::now() + EXIT_TIMEOUT).or_else(|| {
            self.kill();
            None
        })
    }

    fn wait_until(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(POLL_INTERVAL),
                _ => return None,
            }
        }
    }

    fn kill(&mut self) {
        // It may have ended just now.
        self.process.kill().ok();
        if self.wait_until(Instant::now() + EXIT_TIMEOUT).is_none() {
            tracing::warn!(
                pid = self.id(),
                "a decoder process does not end and is left behind"
            );
        }
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            self.kill();
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGHUP => "SIGHUP",
        libc::SIGILL => "SIGILL",
        libc::SIGINT => "SIGINT",
        libc::SIGKILL => "SIGKILL",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGSYS => "SIGSYS",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        other => return format!("signal {other}"),
    };
    name.to_owned()
}

/// Logs what decoders write to stderr, a limited number of lines a second, until the process ends. Notes that an allocation
/// failed: the process ends by a signal then.
fn log_messages(messages: ChildStderr, is_out_of_memory: &AtomicBool) {
    // By GLib and by Rust's standard library.
    const FAILED_ALLOCATIONS: [&str; 2] = ["failed to allocate", "memory allocation of"];
    let mut messages = BufReader::new(messages);
    let (mut since, mut lines, mut line) = (Instant::now(), 0, Vec::new());
    while let Ok(1..) = (&mut messages)
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)
    {
        let text = String::from_utf8_lossy(&line);
        if FAILED_ALLOCATIONS.iter().any(|words| text.contains(words)) {
            is_out_of_memory.store(true, Ordering::Release);
        }
        if since.elapsed() >= Duration::from_secs(1) {
            (since, lines) = (Instant::now(), 0);
        }
        lines += 1;
        if lines <= LINES_MAX {
            let text: String = text.chars().filter(|c| !c.is_control()).collect();
            tracing::debug!(text, "decoder process");
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_named() {
        let program = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).spawn().unwrap()
        };
        let check = |script: &str, expected: &str| {
            let mut child = RunningChild {
                process: program(script),
                channel: Channel::pair().unwrap().0,
                memory_bytes: 3 << 20,
                is_out_of_memory: Arc::default(),
            };
            let deadline = Instant::now() + Duration::from_mins(1);
            let error = child.call(&Request::Facts, None, deadline).unwrap_err();
            assert_eq!(error, CallError::Ended(expected.to_owned()), "{script}");
            child.is_out_of_memory.store(true, Ordering::Release);
            let text = "decoding this clip needs more than 3 MiB of memory";
            assert_eq!(child.reason(None), text);
        };
        check(
            "kill -SEGV $$",
            "the decoder crashed (SIGSEGV) in this clip",
        );
        check(
            "kill -9 $$",
            "the decoder was ended from outside (SIGKILL) in this clip",
        );
        check(
            "exit 3",
            "the decoder ended its process (exit code 3) in this clip",
        );
    }
}
