//! The mirror's thread: copies what is sealed to a second place, never holding up the job.

use super::daemon::Daemon;
use crate::commands::job::hold;
use crate::store::batches::{FINAL_NAME, batch_name};
use crate::store::durable::file_sha256;
use crate::store::folder::{MANIFEST_NAME, RUN_NAME};
use crate::store::mirror::{Mirror, MirrorError};
use crate::store::{Ledger, StoreError};
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
                let trouble = pass(&daemon, &to).err();
                if let Some(trouble) = &trouble
                    && told.as_ref() != Some(trouble)
                {
                    daemon.fault(
                        "mirror",
                        trouble.clone(),
                        "the job goes on; what is missing is copied when the medium is back. To restore: copy the mirror's files to the output folder and check them with sha256sum -c SHA256SUMS",
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

/// Copies what is missing.
fn pass(daemon: &Daemon, to: &Path) -> Result<(), String> {
    let config = daemon.config();
    let out = &config.output.path;
    let look = || files(out, &hold(&daemon.ledger));
    let (files, is_all) = look().map_err(|e| e.to_string())?;
    let mirror = Mirror::new(out, to);
    daemon.set_mirror_waiting(Some(mirror.waiting(&files)));
    let pass = mirror.pass(&files, is_all, &|| daemon.is_stopping());
    daemon.set_mirror_waiting(Some(mirror.waiting(&files)));
    let pass = match pass {
        Err(MirrorError::Source { .. } | MirrorError::Changed { .. })
            if look().is_ok_and(|(now, _)| now != files) =>
        {
            // The job has replaced files under our hands; they are copied as they are now.
            daemon.change_tasks(|tasks| tasks.is_sealed = true);
            return Ok(());
        }
        pass => pass.map_err(|e| e.to_string())?,
    };
    if pass.copied > 0 {
        tracing::info!(files = pass.copied, mirror = %to.display(), "copied to the mirror");
    }
    Ok(())
}

/// Name and SHA-256.
type Listed = (String, String);

/// What a mirror shall hold: the sealed batches, and of a finished job the rest. Whether it is finished.
fn files(out: &Path, ledger: &Ledger) -> Result<(Vec<Listed>, bool), StoreError> {
    let sealed = ledger.sealed()?.into_iter();
    let mut files: Vec<Listed> = sealed
        .map(|(number, sealed)| (batch_name(number), sealed.sha256))
        .collect();
    let last = ledger.note("final")?;
    let is_all = last.is_some();
    if let Some(sha256) = last {
        if !sha256.is_empty() {
            files.push((FINAL_NAME.to_owned(), sha256));
        }
        for name in [MANIFEST_NAME, RUN_NAME] {
            files.push((name.to_owned(), file_sha256(&out.join(name))?));
        }
    }
    Ok((files, is_all))
}
