//! The lock of an output folder: one process at a time works in it.

use super::StoreError;
use crate::storage::atomic_file::Folder;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The lock file in a folder. It means nothing while no process holds it. Only its holder may remove it.
pub const LOCK_NAME: &str = ".lock";

/// Maximum number of attempts, when another process removes the lock file before it is locked here.
const ATTEMPTS: usize = 16;
/// Maximum bytes that are read of a process id.
const PID_BYTES_MAX: u64 = 16;

/// The lock of an output folder, until it is dropped. The system releases it however the process ends.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Locks the folder `out`, which must exist.
    ///
    /// # Errors
    /// Fails when another process holds it, the file cannot be made or is a link, or the file system has no locks.
    pub fn take(out: &Path) -> Result<Self, StoreError> {
        for _ in 0..ATTEMPTS {
            let lock = Self::lock(out)?;
            // The last holder may have removed the file after it was opened here.
            if lock.is_in_place() {
                lock.note_process();
                return Ok(lock);
            }
        }
        Err(StoreError::Locked {
            path: out.to_path_buf(),
            holder: String::new(),
        })
    }

    /// Removes the lock file and releases the lock. Another process may then take it.
    ///
    /// # Errors
    /// Fails when the file cannot be removed.
    pub(crate) fn remove(self) -> Result<(), StoreError> {
        if self.is_in_place() {
            fs::remove_file(&self.path).map_err(StoreError::write(&self.path))?;
        }
        Ok(())
    }

    /// Opens and locks the lock file in `out`.
    fn lock(out: &Path) -> Result<Self, StoreError> {
        let path = out.join(LOCK_NAME);
        let open = || Folder::open(out, "")?.open_own(LOCK_NAME);
        let file = open().map_err(StoreError::write(&path))?;
        if let Err(error) = file.try_lock() {
            return Err(match error {
                TryLockError::Error(source) => cannot_lock(&path, source),
                TryLockError::WouldBlock => {
                    // The process id is only for the error message.
                    let mut pid = String::new();
                    let pid = file
                        .take(PID_BYTES_MAX)
                        .read_to_string(&mut pid)
                        .map(|_| pid);
                    let pid = pid.unwrap_or_default().trim().parse::<u32>();
                    StoreError::Locked {
                        path: out.to_path_buf(),
                        holder: pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
                    }
                }
            });
        }
        Ok(Self { file, path })
    }

    /// Whether the locked file is still at its path.
    fn is_in_place(&self) -> bool {
        let place = |found: &Metadata| (found.dev(), found.ino());
        let (locked, found) = (self.file.metadata(), self.path.symlink_metadata());
        matches!((locked, found), (Ok(locked), Ok(found)) if place(&locked) == place(&found))
    }

    /// Writes the process id into the file, as information for users.
    fn note_process(&self) {
        let note = (|| {
            // A file with a second name may belong to someone else.
            if self.file.metadata()?.nlink() > 1 {
                return Ok(());
            }
            self.file.set_len(0)?;
            writeln!(&self.file, "{}", std::process::id())
        })();
        if let Err(error) = note {
            // A full disk must not keep a job from being resumed.
            tracing::debug!(%error, "cannot write the process id into the lock file");
        }
    }
}

fn cannot_lock(path: &Path, source: io::Error) -> StoreError {
    match source.raw_os_error() {
        Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::ENOSYS) => StoreError::NoLocks {
            path: path.to_path_buf(),
            source,
        },
        _ => StoreError::write(path)(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_file_system_without_locks_is_named() {
        let no_locks = io::Error::from_raw_os_error(libc::ENOLCK);
        let error = cannot_lock(Path::new("out/.lock"), no_locks).to_string();
        assert!(
            error.contains("offers no locks") && error.contains("local disk"),
            "{error}"
        );
    }

    #[test]
    fn a_file_of_someone_else_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (out, other) = (dir.path().join("out"), dir.path().join("other"));
        fs::create_dir(&out).unwrap();
        fs::write(&other, "theirs").unwrap();
        fs::hard_link(&other, out.join(LOCK_NAME)).unwrap();
        drop(FolderLock::take(&out).unwrap());
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        fs::remove_file(out.join(LOCK_NAME)).unwrap();
        std::os::unix::fs::symlink(&other, out.join(LOCK_NAME)).unwrap();
        let error = FolderLock::take(&out).unwrap_err();
        assert!(matches!(error, StoreError::Link { .. }), "{error}");
        assert_eq!(fs::read(&other).unwrap(), b"theirs");
        // A pipe that nobody reads is refused and not waited for.
        fs::remove_file(out.join(LOCK_NAME)).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(out.join(LOCK_NAME))
            .status();
        assert!(made.unwrap().success());
        let error = FolderLock::take(&out).unwrap_err();
        assert!(matches!(error, StoreError::Link { .. }), "{error}");
    }

    #[test]
    fn a_second_process_learns_who_holds_the_lock() {
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

    #[test]
    fn a_file_that_its_holders_remove_has_one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let is_held = AtomicBool::new(false);
        let take = || {
            let mut taken = 0;
            while taken < 300 {
                let Ok(lock) = FolderLock::take(dir.path()) else {
                    continue;
                };
                assert!(!is_held.swap(true, Ordering::SeqCst), "two holders");
                std::thread::yield_now();
                is_held.store(false, Ordering::SeqCst);
                lock.remove().unwrap();
                taken += 1;
            }
        };
        std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(take));
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}
