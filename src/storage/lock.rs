//! One process at a time in an output folder.

use super::StoreError;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// The lock file in the output folder. It stays there and means nothing while no process holds it.
pub const LOCK_NAME: &str = ".lock";

/// The lock of an output folder, until it is dropped. The system releases it however the process ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Locks the folder `out`, which must exist.
    ///
    /// # Errors
    /// When another process holds it or the file cannot be made.
    pub fn take(out: &Path) -> Result<Self, StoreError> {
        let path = out.join(LOCK_NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::write(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The process id helps people only.
                let known = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
                return Err(StoreError::Locked {
                    path: out.to_path_buf(),
                    holder: if known {
                        format!(" (pid {})", pid.trim())
                    } else {
                        String::new()
                    },
                });
            }
            Err(TryLockError::Error(source)) => return Err(StoreError::write(&path)(source)),
        }
        let note = (|| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        })();
        if let Err(error) = note {
            // A full disk must not keep a job from being resumed.
            tracing::debug!(%error, "cannot write the process id into the lock file");
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = FolderLock::take(dir.path()).unwrap();
        let error = FolderLock::take(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(pid {})", std::process::id())),
            "{error}"
        );
        drop(first);
        FolderLock::take(dir.path()).unwrap();
    }
}
