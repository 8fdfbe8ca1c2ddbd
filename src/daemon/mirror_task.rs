//! The mirror's thread: copies sealed files to a second directory. The job never waits for it.

use crate::config::TAKES;
use crate::daemon::shutdown::{Shutdown, WakeSignal};
use crate::daemon::{Daemon, spawn};
use crate::error::CliError;
use crate::storage::StoreError;
use crate::storage::mirror::{Listing, Mirror, MirrorError};
use crate::storage::output_dir;
use crate::system::lock_ignoring_poison;
use crossbeam_channel::select;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Interval between checks for a missing mirror.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);
/// Action text of the fault about an incomplete mirror.
const RETRIED: &str = "job and camera continue; what is missing is copied when the mirror is back. To restore: copy the mirror's files to the output directory and check them with sha256sum -c SHA256SUMS";
/// Action text of the fault about a mirror that belongs to another output directory.
const NOT_RETRIED: &str =
    "job and camera continue without a copy; nothing in the mirror is changed";

/// Action text of the fault about copies that have changed.
const COPIED_AGAIN: &str = "they are copied again; check the medium, which may be failing";

/// Shared by the mirror's thread and the others.
#[derive(Default)]
pub(super) struct MirrorHandle {
    status: Mutex<MirrorStatus>,
    work: WakeSignal,
    idle: WakeSignal,
}

#[derive(Default)]
struct MirrorStatus {
    /// Whether files were sealed that no pass has seen.
    is_pending: bool,
    is_copying: bool,
    /// Number of files that the mirror lacks; `None` while unknown.
    waiting: Option<usize>,
}

impl MirrorHandle {
    /// A handle with a pending pass, because a previous process may have sealed files.
    pub(super) fn new() -> Self {
        let handle = Self::default();
        handle.notify_sealed();
        handle
    }

    /// Requests a pass, because a file was sealed or replaced.
    pub(super) fn notify_sealed(&self) {
        lock_ignoring_poison(&self.status).is_pending = true;
        self.work.notify();
    }

    /// Number of files that the mirror lacks; `None` while unknown.
    pub(super) fn waiting(&self) -> Option<usize> {
        lock_ignoring_poison(&self.status).waiting
    }

    /// Waits until no pass is pending or under way, or until the process ends.
    pub(super) fn wait_until_idle(&self, shutdown: &Shutdown) {
        let is_busy = || {
            let status = lock_ignoring_poison(&self.status);
            status.is_pending || status.is_copying
        };
        while is_busy() {
            select! {
                recv(self.idle.channel()) -> _ => {}
                recv(shutdown.channel()) -> _ => return,
            }
        }
    }
}

/// Why a mirror is incomplete, and the action text of the fault.
#[derive(Clone, PartialEq)]
struct MirrorFault {
    reason: String,
    action: &'static str,
}

/// Starts the thread. It ends with the daemon, even in the middle of a file: the next start continues there.
pub(super) fn start(daemon: &Arc<Daemon>) -> Result<JoinHandle<()>, CliError> {
    let daemon = Arc::clone(daemon);
    spawn("mirror", move || daemon.run_mirror())
}

impl Daemon {
    fn run_mirror(&self) {
        let mut reported: Vec<MirrorFault> = Vec::new();
        let mut verified = Verified::default();
        loop {
            select! {
                recv(self.mirror.work.channel()) -> _ => {}
                recv(self.shutdown.channel()) -> _ => return,
                default(RETRY_INTERVAL) => {}
            }
            if self.shutdown.is_requested() {
                return;
            }
            let mut status = lock_ignoring_poison(&self.mirror.status);
            (status.is_pending, status.is_copying) = (false, true);
            drop(status);
            if let Some(to) = self.config().output.mirror.clone() {
                let faults = self.copy_to_mirror(&to, &mut verified);
                for MirrorFault { reason, action } in
                    faults.iter().filter(|fault| !reported.contains(fault))
                {
                    self.outbox.fault("mirror", reason.clone(), action);
                }
                if !reported.is_empty() && faults.is_empty() {
                    tracing::info!(mirror = %to.display(), "the mirror is complete again");
                }
                reported = faults;
            }
            lock_ignoring_poison(&self.mirror.status).is_copying = false;
            self.mirror.idle.notify();
        }
    }

    /// Copies missing files of the job's results and of the takes. Returns each fault once.
    fn copy_to_mirror(&self, to: &Path, verified: &mut Verified) -> Vec<MirrorFault> {
        let config = self.config();
        let out = &config.output.path;
        let results = || output_dir::mirrored(&self.ledger.lock()).map(Some);
        let takes = || Ok(self.camera.lock().files.clone());
        let targets = [
            MirrorTarget {
                mirror: Mirror::new(out, to),
                list: &results,
            },
            MirrorTarget {
                mirror: Mirror::within(&config.takes_path(), to, TAKES),
                list: &takes,
            },
        ];
        let count_waiting = || {
            let waiting = targets.iter().map(MirrorTarget::waiting).sum();
            lock_ignoring_poison(&self.mirror.status).waiting = Some(waiting);
        };
        count_waiting();
        let mut faults: Vec<MirrorFault> = Vec::new();
        for target in &targets {
            // One target may fail and the other succeed, but a mirror of another output gets no file at all.
            if faults.iter().any(|fault| fault.action == NOT_RETRIED) {
                break;
            }
            match self.verify_mirror(target, verified) {
                Ok(()) => {}
                Err(fault) => {
                    faults.push(fault);
                    continue;
                }
            }
            match target.copy(&self.shutdown) {
                Ok(is_outdated) if is_outdated => self.mirror.notify_sealed(),
                Ok(_) => {}
                Err(fault) => faults.push(fault),
            }
        }
        count_waiting();
        faults.dedup();
        faults
    }

    /// Checks the copies of `target` at the start of the process and when its last file is finished.
    fn verify_mirror(
        &self,
        target: &MirrorTarget<'_>,
        verified: &mut Verified,
    ) -> Result<(), MirrorFault> {
        let fault = |error: &dyn Display| MirrorFault {
            reason: error.to_string(),
            action: RETRIED,
        };
        let Some(listing) = (target.list)().map_err(|error| fault(&error))? else {
            return Ok(());
        };
        if verified.get(&listing.identity) == Some(&listing.is_all) {
            return Ok(());
        }
        let stop = || self.shutdown.is_requested();
        let changed = target
            .mirror
            .verify(&listing, &stop)
            .map_err(|error| fault(&error))?;
        if !changed.is_empty() {
            let names = changed.join(", ");
            let reason = format!("copies in the mirror have changed since they were made: {names}");
            self.outbox.fault("mirror", reason, COPIED_AGAIN);
        }
        verified.insert(listing.identity, listing.is_all);
        Ok(())
    }
}

/// The output folders whose copies were read in this process, and whether they were complete then.
type Verified = BTreeMap<String, bool>;

/// Lists what the mirror should hold of a directory; `None` while its files are being written.
type ListFiles<'a> = dyn Fn() -> Result<Option<Listing>, StoreError> + 'a;

/// A directory with its place in the mirror.
struct MirrorTarget<'a> {
    mirror: Mirror,
    list: &'a ListFiles<'a>,
}

impl MirrorTarget<'_> {
    /// Number of files that the mirror lacks; 0 while unknown.
    fn waiting(&self) -> usize {
        let known = (self.list)().ok().flatten();
        known.map_or(0, |listing| self.mirror.waiting(&listing))
    }

    /// Returns whether files were replaced during the pass, so that another one is due.
    fn copy(&self, shutdown: &Shutdown) -> Result<bool, MirrorFault> {
        let fault = |error: &dyn Display, action| MirrorFault {
            reason: error.to_string(),
            action,
        };
        let Some(listing) = (self.list)().map_err(|error| fault(&error, RETRIED))? else {
            return Ok(false);
        };
        let report = match self.mirror.pass(&listing, &|| shutdown.is_requested()) {
            Err(MirrorError::Source { .. } | MirrorError::Changed { .. })
                if (self.list)()
                    .is_ok_and(|now| now.is_none_or(|now| now.files != listing.files)) =>
            {
                return Ok(true);
            }
            Err(error @ MirrorError::Foreign { .. }) => return Err(fault(&error, NOT_RETRIED)),
            report => report.map_err(|error| fault(&error, RETRIED))?,
        };
        if report.copied > 0 {
            tracing::info!(files = report.copied, "copied to the mirror");
        }
        Ok(false)
    }
}
