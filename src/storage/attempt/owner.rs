//! The process that works in an attempt's folder.

use super::{note_name, read_plain};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// Longest part of a folder's name that is a host's.
const HOST_MAX: usize = 40;

/// A process, as another on the same machine can recognize it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) host: String,
    /// Differs after each start of the machine.
    pub(super) boot: String,
    /// The name space of its number: each container has its own.
    pub(super) pid_namespace: String,
    pub(super) pid: u32,
    /// When it began, in ticks since the start of the machine.
    pub(super) started: Option<u64>,
}

impl Owner {
    /// This process.
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

    /// The owner of the attempt's `folder`.
    pub(super) fn of(folder: &Path) -> Option<Self> {
        let bytes = read_plain(&folder.join(note_name(folder))).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Whether the process has ended for sure.
    pub(super) fn is_gone(&self) -> bool {
        let here = Self::here();
        let is_same_machine = !self.boot.is_empty()
            && !self.pid_namespace.is_empty()
            && (&self.boot, &self.pid_namespace) == (&here.boot, &here.pid_namespace);
        let is_other = |started| self.started.is_some_and(|then| then != started);
        is_same_machine && start_of(self.pid).is_none_or(is_other)
    }
}

/// When the process `pid` began; `None` when it has ended.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    // The 22nd field of the line; the state is the third.
    fields.nth(18)?.parse().ok().filter(|_| !is_dead)
}

/// The name of this machine, as far as it fits into the name of a folder.
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
