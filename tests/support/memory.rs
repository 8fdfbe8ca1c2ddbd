//! Memory of the processes that tests start.

use crate::binary;
use std::fs;

/// Whether a started process runs the program. Until it has replaced its image, the kernel reports its parent's memory.
pub fn runs_program(pid: u32) -> bool {
    let program = fs::canonicalize(binary()).unwrap();
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|image| image == program)
}

/// Peak memory of a process of the program, in KiB; `None` before it runs the program and after it has ended.
pub fn peak_kib(pid: u32) -> Option<u64> {
    if !runs_program(pid) {
        return None;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
