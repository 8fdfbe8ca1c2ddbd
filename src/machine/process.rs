//! What a process asks of the system about itself.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::io;

/// Ends this process when the one that started it ends, whatever it is doing then.
///
/// # Errors
/// When the system refuses, or the parent is gone already.
pub fn end_with_parent() -> io::Result<()> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::other("whoever started this is gone"))
    }
}
