//! Opening an output folder: its ledger, and the lock that keeps other processes away.

use super::{OpenMode, refuse_merged};
use crate::storage::StoreError;
use crate::storage::atomic_file::{make_folder, refuse_link, sync_folder};
use crate::storage::batches::{BATCH_FOLDER, batch_name};
use crate::storage::file_system;
use crate::storage::ledger::{Journal, LEDGER_ENDINGS, LEDGER_NAME, Ledger};
use crate::storage::lock::FolderLock;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

/// Opens `out` for this process alone and creates it when it is missing.
///
/// # Errors
/// Fails when it cannot be made, another process works in it or its ledger cannot be used. A damaged ledger is
/// replaced when `mode` is [`OpenMode::Fresh`].
pub(crate) fn open(out: &Path, mode: OpenMode) -> Result<(FolderLock, Ledger), StoreError> {
    if mode != OpenMode::Fresh && !out.join(LEDGER_NAME).exists() {
        refuse_merged(out)?;
    }
    make(out)?;
    let lock = FolderLock::take(out)?;
    let ledger = match Ledger::open(out) {
        Err(StoreError::BadLedger { .. }) if mode == OpenMode::Fresh => {
            for ending in LEDGER_ENDINGS {
                let path = out.join(format!("{LEDGER_NAME}{ending}"));
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(StoreError::write(&path)(error));
                    }
                    _ => {}
                }
            }
            Ledger::open(out)?
        }
        opened => opened?,
    };
    Ok((lock, begin(out, ledger)?))
}

/// Like [`open`] with [`OpenMode::Resume`], for a folder whose name no other process uses. It works without locks,
/// which network file systems may lack or keep when a machine dies. On a local disk it takes the lock all the same.
///
/// # Errors
/// Fails as [`open`] does.
fn open_unshared(out: &Path) -> Result<(Option<FolderLock>, Ledger), StoreError> {
    make(out)?;
    let lock = match file_system::network(out) {
        Some(_) => None,
        None => match FolderLock::take(out) {
            Err(StoreError::NoLocks { .. }) => None,
            lock => Some(lock?),
        },
    };
    let ledger = match &lock {
        Some(_) => Ledger::open(out)?,
        None => Ledger::open_with(out, Journal::Unlocked)?,
    };
    Ok((lock, begin(out, ledger)?))
}

/// Like [`open_unshared`] for the folder of an attempt at a shard, else like [`open`].
///
/// # Errors
/// Fails as these do.
pub(crate) fn open_any(
    out: &Path,
    mode: OpenMode,
    is_attempt: bool,
) -> Result<(Option<FolderLock>, Ledger), StoreError> {
    if is_attempt {
        return open_unshared(out);
    }
    open(out, mode).map(|(lock, ledger)| (Some(lock), ledger))
}

/// Makes the folder `out` and its folder of batches.
fn make(out: &Path) -> Result<(), StoreError> {
    refuse_link(&out.join(BATCH_FOLDER))?;
    make_folder(&out.join(BATCH_FOLDER)).map_err(|error| match error {
        StoreError::Create { source, .. } => StoreError::Create {
            path: out.to_path_buf(),
            source,
        },
        error => error,
    })
}

/// Makes sure that the ledger of `out` has an identity.
fn begin(out: &Path, mut ledger: Ledger) -> Result<Ledger, StoreError> {
    ledger.ensure_identity()?;
    // A killed process may have renamed or removed files without a sync: from now on this counts.
    for name in [LEDGER_NAME.to_owned(), batch_name(0)] {
        sync_folder(&out.join(name)).map_err(StoreError::write(out))?;
    }
    Ok(ledger)
}
