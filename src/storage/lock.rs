//! One process at a time in an output folder.

use super::StoreError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
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
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::write(&path))?;
        if let Err(error) = file.try_lock() {
            return Err(match error {
                TryLockError::Error(source) => StoreError::write(&path)(source),
                TryLockError::WouldBlock => {
                    // The process id helps people only.
                    let pid = fs::read_to_string(&path).unwrap_or_default();
                    let pid = Some(pid.trim()).filter(|pid| !pid.is_empty());
                    StoreError::Locked {
                        path: out.to_path_buf(),
                        holder: pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
                    }
                }
            });
        }
        let note = (|| {
            file.set_len(0)?;
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
