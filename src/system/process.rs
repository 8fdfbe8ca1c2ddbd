//! Process control: end with the parent, end before others, redirect stderr.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::stdio::dup2_stderr;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;

/// Has this process killed when `parent`, which started it, ends.
///
/// # Errors
/// When the system refuses, or the parent is gone already.
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
/// When the system refuses.
pub fn end_first_without_memory() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "1000")
}

/// Calls `chatter` with stderr redirected to /dev/null. Only for the start: what other threads write meanwhile is lost,
/// too.
///
/// # Errors
/// When stderr cannot be redirected, and nothing was called, or not restored.
pub fn without_stderr(chatter: impl FnOnce()) -> io::Result<()> {
    let away = OpenOptions::new().write(true).open("/dev/null")?;
    let kept = io::stderr().as_fd().try_clone_to_owned()?;
    dup2_stderr(&away)?;
    chatter();
    Ok(dup2_stderr(&kept)?)
}
