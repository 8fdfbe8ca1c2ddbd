//! A running decoder process, seen from the process that started it.

use super::COMMAND;
use super::protocol::{Channel, ChannelError, DecoderReply, DecoderRequest};
use crate::frame::SourceError;
use crossbeam_channel::{Receiver, bounded};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum wait for the end of a killed process. One that hangs in the kernel is left behind.
const EXIT_TIMEOUT: Duration = Duration::from_secs(3);
/// Interval of the checks whether the process has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Maximum length of a line of its messages, in bytes.
const LINE_BYTES_MAX: u64 = 500;
/// Maximum number of lines that are logged in a second.
const LINES_MAX: u32 = 20;

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ChildError {
    /// The process has ended, for this reason; the clip need not be the cause.
    Ended(String),
    /// The process has ended, because it exceeded its memory limit. The clip or an earlier one may be the cause.
    TooMuchMemory,
    /// No reply came until the deadline; the process is killed.
    TimedOut,
}

/// A decoder process; it is killed when dropped.
pub(super) struct RunningChild {
    process: Child,
    channel: Channel,
    is_out_of_memory: Arc<AtomicBool>,
    /// Closed when all its messages are read.
    messages_end: Receiver<()>,
}

impl RunningChild {
    /// Starts a process of this program.
    pub(super) fn spawn() -> Result<Self, SourceError> {
        let machine = |error: std::io::Error| {
            SourceError::Machine(format!("cannot start a decoder process: {error}"))
        };
        let (channel, socket) = Channel::pair().map_err(machine)?;
        // `/proc/self/exe` is this program even after its file was replaced. In a process group of its own the child
        // does not receive Ctrl-C: its parent decides when clips end.
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
        let (read_all, messages_end) = bounded(0);
        let child = Self {
            process,
            channel,
            is_out_of_memory: Arc::clone(&is_out_of_memory),
            messages_end,
        };
        if let Some(messages) = messages {
            let read = move || {
                log_messages(messages, &is_out_of_memory);
                drop(read_all);
            };
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
        request: &DecoderRequest,
        file: Option<&File>,
        deadline: Instant,
    ) -> Result<DecoderReply, ChildError> {
        let mut reply = self
            .channel
            .send(request, file.map(AsFd::as_fd))
            .and_then(|()| self.channel.receive(Some(deadline)));
        if matches!(reply, Err(ChannelError::Closed)) {
            // The process may have ended between two requests; its last message gives the reason.
            reply = self.channel.receive(Some(deadline));
        }
        match reply {
            Ok((DecoderReply::TooMuchMemory, _)) => {
                self.kill();
                Err(ChildError::TooMuchMemory)
            }
            Ok((reply, _)) => Ok(reply),
            Err(ChannelError::Timeout) => {
                self.kill();
                Err(ChildError::TimedOut)
            }
            Err(ChannelError::Closed) => {
                let status = self.wait();
                Err(self.end(status))
            }
            Err(error) => {
                self.kill();
                Err(ChildError::Ended(format!(
                    "the decoder process failed: {error}"
                )))
            }
        }
    }

    /// Why the process ended by itself.
    fn end(&self, status: Option<ExitStatus>) -> ChildError {
        // Its last messages are read first. Nothing is ever sent on this channel: it closes.
        self.messages_end.recv_timeout(EXIT_TIMEOUT).ok();
        if self.is_out_of_memory.load(Ordering::Acquire) {
            return ChildError::TooMuchMemory;
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
        ChildError::Ended(format!("the decoder {ended} in this clip"))
    }

    /// Waits until the process has ended; kills it when it does not.
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
        // It may have ended a moment ago.
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

/// Logs what decoders write to stderr, up to [`LINES_MAX`] lines a second, until the process ends. Records in
/// `is_out_of_memory` that an allocation failed: the process then ends by a signal.
fn log_messages(messages: ChildStderr, is_out_of_memory: &AtomicBool) {
    // Messages of GLib and of Rust's standard library.
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
                is_out_of_memory: Arc::default(),
                messages_end: bounded(0).1,
            };
            let deadline = Instant::now() + Duration::from_mins(1);
            let error = child
                .call(&DecoderRequest::Facts, None, deadline)
                .unwrap_err();
            assert_eq!(error, ChildError::Ended(expected.to_owned()), "{script}");
            child.is_out_of_memory.store(true, Ordering::Release);
            assert_eq!(child.end(None), ChildError::TooMuchMemory);
        };
        let (channel, theirs) = Channel::pair().unwrap();
        let theirs = Channel::new(theirs);
        theirs.send(&DecoderReply::TooMuchMemory, None).unwrap();
        drop(theirs);
        let mut child = RunningChild {
            process: program("kill -9 $$"),
            channel,
            is_out_of_memory: Arc::default(),
            messages_end: bounded(0).1,
        };
        let error = child.call(&DecoderRequest::Facts, None, Instant::now());
        assert_eq!(error.unwrap_err(), ChildError::TooMuchMemory);
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
