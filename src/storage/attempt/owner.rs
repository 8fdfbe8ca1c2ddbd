//! The process that works in an attempt's folder.

use super::{note_name, read_plain};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Longest host name in the name of a folder, in characters.
const HOST_MAX: usize = 40;

/// Identifies a process to other processes on the same machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) host: String,
    /// The machine's boot id, which is new after each boot.
    pub(super) boot: String,
    /// The PID namespace of `pid`: each container has its own.
    pub(super) pid_namespace: String,
    pub(super) pid: u32,
    /// When the process began, in ticks since boot.
    pub(super) started: Option<u64>,
}

impl Owner {
    /// Identifies this process.
    pub(super) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let pid = std::process::id();
        Self {
            host: host(),
            boot: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            pid_namespace: namespace.to_string_lossy().into_owned(),
            pid,
            started: start_of(pid),
        }
    }

    /// The owner of the attempt's `folder`; `None` without a readable note.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let bytes = read_plain(&folder.join(note_name(folder))).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Whether the process is known to have ended. `false` for a process of another machine or container.
    pub(super) fn is_gone(&self) -> bool {
        let here = Self::here();
        let is_same_machine = !self.boot.is_empty()
            && !self.pid_namespace.is_empty()
            && (&self.boot, &self.pid_namespace) == (&here.boot, &here.pid_namespace);
        let is_other = |started| self.started.is_some_and(|then| then != started);
        is_same_machine && start_of(self.pid).is_none_or(is_other)
    }
}

/// When the process `pid` began, in ticks since boot; `None` when it has ended.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name before it may contain any character.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    // The 22nd field of the line; the state is the third.
    fields.nth(18)?.parse().ok().filter(|_| !is_dead)
}

/// The name of this machine for the name of a folder: at most [`HOST_MAX`] characters, ASCII letters, digits and `-`.
pub(super) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.trim().chars().map(plain).take(HOST_MAX).collect();
    if name.is_empty() {
        "host".to_owned()
    } else {
        name
    }
}
