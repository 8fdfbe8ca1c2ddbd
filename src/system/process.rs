//! Process control: end with the parent, end before others, filter stderr.

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::stdio::dup2_stderr;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};

/// Has this process killed when `parent`, which started it, ends.
///
/// # Errors
/// Fails when the system refuses, or the parent is gone already.
pub fn end_with_parent(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other(
            "the process that started this one has ended",
        ))
    }
}

/// Has the kernel end this process before others when there is no memory left.
///
/// # Errors
/// Fails when the system refuses.
pub fn end_first_without_memory() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "1000")
}

/// Calls `chatter` and leaves out the lines of stderr for which `is_noise` is true. The other lines, of all threads, are
/// written after it; a crash of the process or a failing write loses them. Nothing is left out when stderr cannot be redirected.
pub fn without_lines<T>(is_noise: fn(&str) -> bool, chatter: impl FnOnce() -> T) -> T {
    let _held = HeldStderr::begin(is_noise);
    chatter()
}

/// What is written to stderr, kept in memory until this is dropped.
struct HeldStderr {
    lines: File,
    stderr: OwnedFd,
    is_noise: fn(&str) -> bool,
}

impl HeldStderr {
    fn begin(is_noise: fn(&str) -> bool) -> io::Result<Self> {
        let lines = File::from(memfd_create("stderr", MemfdFlags::CLOEXEC)?);
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        dup2_stderr(&lines)?;
        Ok(Self {
            lines,
            stderr,
            is_noise,
        })
    }

    fn end(&mut self) -> io::Result<()> {
        dup2_stderr(&self.stderr)?;
        let mut bytes = Vec::new();
        self.lines.rewind()?;
        self.lines.read_to_end(&mut bytes)?;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            if !(self.is_noise)(&String::from_utf8_lossy(line)) {
                io::stderr().write_all(line)?;
            }
        }
        Ok(())
    }
}

impl Drop for HeldStderr {
    fn drop(&mut self) {
        // There is nowhere to report a failure of stderr.
        self.end().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs itself in a child: stderr belongs to the process.
    #[test]
    fn lines_are_left_out_and_the_others_are_kept() {
        const CHILD: &str = "HANDLOOM_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            let write = |text: &str| io::stderr().write_all(text.as_bytes()).unwrap();
            without_lines(
                |line| line.starts_with("noise"),
                || write("noise 1\nkept 1\nnoise 2\nkept 2"),
            );
            write("\nnoise afterwards\n");
            return;
        }
        let name = "system::process::tests::lines_are_left_out_and_the_others_are_kept";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, "kept 1\nkept 2\nnoise afterwards\n");
    }
}
