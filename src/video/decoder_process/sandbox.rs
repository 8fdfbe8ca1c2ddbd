//! Restricts a decoder process to the system's libraries and the files that it is given. Landlock closes the file
//! system; seccomp closes the network, other processes and other programs. Each applies as far as the kernel supports
//! it.
//!
//! Both apply to the calling thread and to the threads that it starts: the sandbox is entered before there are
//! others.

use gstreamer as gst;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::getpid;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::path::PathBuf;

/// The newest version of Landlock's kernel interface that this program uses.
const LANDLOCK: ABI = ABI::V6;

/// Paths that decoders read: libraries, and the processor's features.
const READABLE: [&str; 15] = [
    "/usr",
    "/lib",
    "/lib64",
    "/opt",
    "/nix/store",
    "/etc/ld.so.cache",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm",
    "/sys/devices/system/cpu",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
];

/// Further paths that the drivers of hardware decoders read.
const READABLE_BY_DRIVERS: [&str; 3] = ["/etc", "/run/udev", "/sys"];

/// How far the kernel restricts the decoder process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxReport {
    /// Whether decoders may open devices and talk to local services.
    pub has_devices: bool,
    /// Why Landlock does not enforce all rules; `None` when it enforces all.
    pub landlock_gap: Option<String>,
    /// Why seccomp restricts nothing; `None` when it is active.
    pub seccomp_gap: Option<String>,
}

impl Display for SandboxReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gaps = [&self.landlock_gap, &self.seccomp_gap];
        let gaps: Vec<&str> = gaps.into_iter().flatten().map(String::as_str).collect();
        if gaps.is_empty() {
            return f.write_str(if self.has_devices {
                "without network, with devices"
            } else {
                "without network and files"
            });
        }
        write!(f, "that the kernel restricts in part ({})", gaps.join("; "))
    }
}

/// Restricts the calling thread and all that it starts. With `needs_devices`, decoders may open device files and talk
/// to local services.
pub(super) fn enter(needs_devices: bool) -> SandboxReport {
    let landlock_gap = match restrict_files(needs_devices) {
        Ok(RulesetStatus::FullyEnforced) => None,
        Ok(RulesetStatus::PartiallyEnforced) => Some("an old Landlock".to_owned()),
        Ok(RulesetStatus::NotEnforced) => Some("no Landlock".to_owned()),
        Err(error) => Some(format!("Landlock: {error}")),
    };
    let seccomp = restrict_calls(needs_devices);
    SandboxReport {
        has_devices: needs_devices,
        landlock_gap,
        seccomp_gap: seccomp.err().map(|error| format!("seccomp: {error}")),
    }
}

fn restrict_files(needs_devices: bool) -> Result<RulesetStatus, RulesetError> {
    let mut readable: BTreeSet<PathBuf> = READABLE.map(PathBuf::from).into();
    let plugins = gst::Registry::get().plugins();
    let plugins = plugins.iter().filter_map(gst::Plugin::filename);
    readable.extend(plugins.filter_map(|file| file.parent().map(PathBuf::from)));
    let libraries = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    readable.extend(std::env::split_paths(&libraries).filter(|path| path.is_absolute()));
    let mut devices: &[&str] = &[];
    if needs_devices {
        readable.extend(READABLE_BY_DRIVERS.map(PathBuf::from));
        devices = &["/dev"];
    }
    let (read, write) = (
        AccessFs::ReadFile | AccessFs::ReadDir,
        AccessFs::WriteFile | AccessFs::IoctlDev,
    );
    let rights: BitFlags<AccessFs> = AccessFs::from_all(LANDLOCK);
    let status = Ruleset::default()
        .handle_access(rights)?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(devices, read | write))?
        .restrict_self()?;
    Ok(status.ruleset)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn restrict_calls(needs_devices: bool) -> Result<(), seccompiler::Error> {
    // The C library then starts threads by `clone`, whose flags a filter can read.
    let missing: Rules = [(libc::SYS_clone3, Vec::new())].into();
    apply(missing, libc::ENOSYS)?;
    apply(denied_calls(needs_devices)?, libc::EPERM)
}

fn apply(rules: Rules, error: i32) -> Result<(), seccompiler::Error> {
    let action = SeccompAction::Errno(error.unsigned_abs());
    let target = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, target)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}

/// The system calls that fail: each where its arguments match a rule, or always when it has no rules.
fn denied_calls(needs_devices: bool) -> Result<Rules, seccompiler::Error> {
    let mut denied: Rules = ALWAYS_DENIED
        .iter()
        .map(|call| (*call, Vec::new()))
        .collect();
    #[cfg(target_arch = "x86_64")]
    denied.extend([libc::SYS_fork, libc::SYS_vfork].map(|call| (call, Vec::new())));
    let when = |argument, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            operator,
            value,
        )?])
    };
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let process = when(0, SeccompCmpOp::MaskedEq(thread), 0)?;
    denied.insert(libc::SYS_clone, vec![process]);
    let own = u64::from(getpid().as_raw_nonzero().get().unsigned_abs());
    for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_sigqueueinfo] {
        denied.insert(call, vec![when(0, SeccompCmpOp::Ne, own)?]);
    }
    let sets = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    denied.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![sets])?]);
    if needs_devices {
        // Drivers listen to udev and talk to local services.
        let is_not = |family: libc::c_int| {
            SeccompCondition::new(
                0,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Ne,
                u64::from(family.unsigned_abs()),
            )
        };
        let other = vec![is_not(libc::AF_UNIX)?, is_not(libc::AF_NETLINK)?];
        denied.insert(libc::SYS_socket, vec![SeccompRule::new(other)?]);
    } else {
        let calls = [libc::SYS_socket, libc::SYS_connect, libc::SYS_bind];
        denied.extend(calls.map(|call| (call, Vec::new())));
    }
    Ok(denied)
}

/// Other programs and processes, other ways to the network, and what only administrators use.
const ALWAYS_DENIED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_tkill,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_fanotify_init,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_can_be_compiled() {
        for needs_devices in [false, true] {
            let rules = denied_calls(needs_devices).unwrap();
            assert!(rules.contains_key(&libc::SYS_socket) && rules.contains_key(&libc::SYS_clone));
        }
    }

    #[test]
    fn a_gap_is_named() {
        let mut report = SandboxReport {
            has_devices: false,
            landlock_gap: None,
            seccomp_gap: None,
        };
        assert_eq!(report.to_string(), "without network and files");
        report.landlock_gap = Some("no Landlock".into());
        assert!(report.to_string().contains("(no Landlock)"));
    }
}
