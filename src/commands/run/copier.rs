//! The mirror's thread: copies what is sealed to a second place, never holding up the job.

use super::daemon::Daemon;
use super::studio::Listing;
use crate::commands::job::hold;
use crate::config::TAKES;
use crate::store::StoreError;
use crate::store::folder;
use crate::store::mirror::{Mirror, MirrorError};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Looks this often whether the medium is back.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts the thread; it ends with the daemon, also in the middle of a file: the next start goes on.
pub(super) fn start(daemon: &Arc<Daemon>) -> io::Result<JoinHandle<()>> {
    let daemon = Arc::clone(daemon);
    Builder::new().name("mirror".to_owned()).spawn(move || {
        let mut told: Option<String> = None;
        loop {
            daemon.wait(PATIENCE, |tasks| tasks.is_stopping || tasks.is_sealed);
            if daemon.is_stopping() {
                return;
            }
            daemon.change_tasks(|tasks| (tasks.is_sealed, tasks.is_copying) = (false, true));
            if let Some(to) = daemon.config().output.mirror.clone() {
                let trouble = copy(&daemon, &to).err();
                if let Some(trouble) = &trouble
                    && told.as_ref() != Some(trouble)
                {
                    daemon.fault(
                        "mirror",
                        trouble.clone(),
                        "the job goes on, the camera too; what is missing is copied when the medium is back. To restore: copy the mirror's files to the output folder and check them with sha256sum -c SHA256SUMS",
                    );
                }
                if told.is_some() && trouble.is_none() {
                    tracing::info!(mirror = %to.display(), "the mirror is complete again");
                }
                told = trouble;
            }
            daemon.change_tasks(|tasks| tasks.is_copying = false);
        }
    })
}

/// What the mirror shall hold of a folder, and whether that is all; `None` while that is being changed.
type Look<'a> = dyn Fn() -> Result<Option<Listing>, StoreError> + 'a;

/// A folder with its place in the mirror.
struct Copy<'a> {
    mirror: Mirror,
    look: &'a Look<'a>,
}

/// Copies what is missing, of the job's results and of the takes.
fn copy(daemon: &Daemon, to: &Path) -> Result<(), String> {
    let config = daemon.config();
    let out = &config.output.path;
    let results = || folder::mirrored(out, &hold(&daemon.ledger)).map(Some);
    let takes = || Ok(daemon.studio.files());
    let copies = [
        Copy {
            mirror: Mirror::new(out, to),
            look: &results,
        },
        Copy {
            mirror: Mirror::within(&config.takes_path(), to, TAKES),
            look: &takes,
        },
    ];
    let waiting = || -> usize { copies.iter().map(Copy::waiting).sum() };
    daemon.set_mirror_waiting(Some(waiting()));
    // What keeps one from its place need not keep the other.
    let passes = copies.each_ref().map(|copy| copy.pass(daemon));
    daemon.set_mirror_waiting(Some(waiting()));
    passes.into_iter().collect()
}

impl Copy<'_> {
    /// Files that are not in place, as far as that is known.
    fn waiting(&self) -> usize {
        let known = (self.look)().ok().flatten();
        known.map_or(0, |(files, _)| self.mirror.waiting(&files))
    }

    fn pass(&self, daemon: &Daemon) -> Result<(), String> {
        let Some((files, is_all)) = (self.look)().map_err(|e| e.to_string())? else {
            return Ok(());
        };
        let pass = self.mirror.pass(&files, is_all, &|| daemon.is_stopping());
        let pass = match pass {
            Err(MirrorError::Source { .. } | MirrorError::Changed { .. })
                if (self.look)().is_ok_and(|now| now.is_none_or(|(now, _)| now != files)) =>
            {
                // The files were replaced under our hands; they are copied as they are now.
                daemon.change_tasks(|tasks| tasks.is_sealed = true);
                return Ok(());
            }
            pass => pass.map_err(|e| e.to_string())?,
        };
        if pass.copied > 0 {
            tracing::info!(files = pass.copied, "copied to the mirror");
        }
        Ok(())
    }
}
