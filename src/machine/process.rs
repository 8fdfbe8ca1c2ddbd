//! What a process asks of the system about itself and about those that it started.

use rustix::process::{Pid, Signal, getppid, kill_process_group, set_parent_process_death_signal};
use std::io;

/// Ends this process when `parent`, which started it, ends, whatever it is doing then.
///
/// # Errors
/// When the system refuses, or the parent is gone already.
pub fn end_with_parent(parent: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) {
        Ok(())
    } else {
        Err(io::Error::other("whoever started this is gone"))
    }
}

/// Ends the process group that `leader` leads.
///
/// # Errors
/// When there is none any more.
pub fn end_group(leader: u32) -> io::Result<()> {
    let pid = i32::try_from(leader).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no such process"))?;
    Ok(kill_process_group(pid, Signal::KILL)?)
}
