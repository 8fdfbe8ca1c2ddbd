//! The mirror's thread: copies what is sealed to a second place, never holding up the job.

use crate::config::TAKES;
use crate::daemon::state::Daemon;
use crate::storage::StoreError;
use crate::storage::mirror::{Listing, Mirror, MirrorError};
use crate::storage::output_dir;
use crate::system::lock_ignoring_poison;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Looks this often whether the medium is back.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is done about a mirror that lacks something.
const LATER: &str = "the job goes on, the camera too; what is missing is copied when the medium is back. To restore: copy the mirror's files to the output folder and check them with sha256sum -c SHA256SUMS";
/// What is done about a mirror that is not ours.
const NEVER: &str =
    "the job goes on, the camera too, without a copy; nothing in the mirror is changed";

/// Why a mirror is not complete, and what is done about it.
#[derive(Clone, PartialEq)]
struct MirrorFault {
    reason: String,
    action: &'static str,
}

/// Starts the thread; it ends with the daemon, also in the middle of a file: the next start goes on.
pub(super) fn start(daemon: &Arc<Daemon>) -> io::Result<JoinHandle<()>> {
    let daemon = Arc::clone(daemon);
    Builder::new().name("mirror".to_owned()).spawn(move || {
        let mut told: Vec<MirrorFault> = Vec::new();
        loop {
            daemon.wait(PATIENCE, |tasks| tasks.is_stopping || tasks.is_sealed);
            if daemon.is_stopping() {
                return;
            }
            daemon.change_tasks(|tasks| (tasks.is_sealed, tasks.is_copying) = (false, true));
            if let Some(to) = daemon.config().output.mirror.clone() {
                let troubles = copy(&daemon, &to);
                for MirrorFault { reason, action } in troubles.iter().filter(|t| !told.contains(t))
                {
                    daemon.fault("mirror", reason.clone(), action);
                }
                if !told.is_empty() && troubles.is_empty() {
                    tracing::info!(mirror = %to.display(), "the mirror is complete again");
                }
                told = troubles;
            }
            daemon.change_tasks(|tasks| tasks.is_copying = false);
        }
    })
}

/// What the mirror shall hold of a folder; `None` while that is being changed.
type ListingFn<'a> = dyn Fn() -> Result<Option<Listing>, StoreError> + 'a;

/// A folder with its place in the mirror.
struct MirrorTarget<'a> {
    mirror: Mirror,
    look: &'a ListingFn<'a>,
}

/// Copies what is missing, of the job's results and of the takes. Returns what kept it from that, each once.
fn copy(daemon: &Daemon, to: &Path) -> Vec<MirrorFault> {
    let config = daemon.config();
    let out = &config.output.path;
    let results = || output_dir::mirrored(out, &lock_ignoring_poison(&daemon.ledger)).map(Some);
    let takes = || Ok(daemon.camera.files());
    let copies = [
        MirrorTarget {
            mirror: Mirror::new(out, to),
            look: &results,
        },
        MirrorTarget {
            mirror: Mirror::within(&config.takes_path(), to, TAKES),
            look: &takes,
        },
    ];
    let waiting = || -> usize { copies.iter().map(MirrorTarget::waiting).sum() };
    daemon.set_mirror_waiting(Some(waiting()));
    let mut troubles: Vec<MirrorFault> = Vec::new();
    for copy in &copies {
        // What keeps one from its place need not keep the other; but nothing is made in what is another folder's.
        if troubles.iter().any(|trouble| trouble.action == NEVER) {
            break;
        }
        troubles.extend(copy.pass(daemon).err());
    }
    daemon.set_mirror_waiting(Some(waiting()));
    troubles.dedup();
    troubles
}

impl MirrorTarget<'_> {
    /// Files that are not in place, as far as that is known.
    fn waiting(&self) -> usize {
        let known = (self.look)().ok().flatten();
        known.map_or(0, |listing| self.mirror.waiting(&listing))
    }

    fn pass(&self, daemon: &Daemon) -> Result<(), MirrorFault> {
        let trouble = |error: &dyn Display, action| MirrorFault {
            reason: error.to_string(),
            action,
        };
        let Some(listing) = (self.look)().map_err(|error| trouble(&error, LATER))? else {
            return Ok(());
        };
        let pass = self.mirror.pass(&listing, &|| daemon.is_stopping());
        let pass = match pass {
            Err(MirrorError::Source { .. } | MirrorError::Changed { .. })
                if (self.look)()
                    .is_ok_and(|now| now.is_none_or(|now| now.files != listing.files)) =>
            {
                // The files were replaced under our hands; they are copied as they are now.
                daemon.change_tasks(|tasks| tasks.is_sealed = true);
                return Ok(());
            }
            Err(error @ MirrorError::Foreign { .. }) => return Err(trouble(&error, NEVER)),
            pass => pass.map_err(|error| trouble(&error, LATER))?,
        };
        if pass.copied > 0 {
            tracing::info!(files = pass.copied, "copied to the mirror");
        }
        Ok(())
    }
}
