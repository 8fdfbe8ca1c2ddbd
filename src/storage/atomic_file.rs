//! Files that are either complete or absent: written beside their place, synced, renamed, then the folder is synced.

use crate::digest::Hasher;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Something could not be written or read back.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "most fields are what their names say")]
pub enum StoreError {
    /// A file or folder cannot be written.
    #[error("cannot write {path}: {source}; check free space (`df -h`) and permissions")]
    Write { path: PathBuf, source: io::Error },
    /// The output folder cannot be made.
    #[error("cannot make the folder {path}: {source}")]
    Create { path: PathBuf, source: io::Error },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// A file has other contents than it should.
    #[error("{path} is not a readable npz file: {reason}")]
    Broken { path: PathBuf, reason: String },
    /// The output folder holds the results of another job.
    #[error(
        "{path} holds the results of another job ({}{difference})",
        .is_dataset.then_some("the dataset has changed: ").unwrap_or_default()
    )]
    Occupied {
        path: PathBuf,
        /// What differs, for people.
        difference: String,
        /// Whether only the content of the dataset differs.
        is_dataset: bool,
    },
    /// The output folder holds results that cannot be made again and that its ledger does not know.
    #[error(
        "{path} holds results that its ledger does not know, as a copy of a mirror does; nothing in it is changed: move \
         them to a folder of their own"
    )]
    Unknown { path: PathBuf },
    /// Another process works in the output folder.
    #[error("another handloom{holder} works in {path}; stop it first")]
    Locked {
        path: PathBuf,
        /// ` (pid N)` where it is known.
        holder: String,
    },
    /// SQLite failed.
    #[error(
        "the ledger {path}: {source}; check the disk (`df -h`, `dmesg`), then run again: the job resumes"
    )]
    Ledger {
        path: PathBuf,
        source: rusqlite::Error,
    },
    /// The database is damaged or no ledger.
    #[error("the ledger {path} cannot be used: {reason}")]
    BadLedger { path: PathBuf, reason: String },
}

impl StoreError {
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write { path, source }
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    /// Whether there was no room. The same write may succeed later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        use rusqlite::ErrorCode::DiskFull;
        match self {
            Self::Write { source, .. } | Self::Create { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Ledger { source, .. } => {
                source.sqlite_error_code() == Some(DiskFull)
                    // Its shared-memory file could not grow.
                    || source.sqlite_error().is_some_and(|e| {
                        e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
                    })
            }
            _ => false,
        }
    }
}

/// Replaces the contents of `path` with what `fill` writes, or leaves them as they were.
///
/// # Errors
/// When a step fails; the partial file is then removed.
pub(crate) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    write_checked(&partial_path(path), path, fill, |_| Ok(())).map_err(StoreError::write(path))
}

/// As [`write_file`], for a file that several processes may write. The last one to finish wins.
pub(crate) fn write_shared(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let partial = path.with_file_name(format!(".{name}.{process}-{count}.part"));
    write_checked(&partial, path, fill, |_| Ok(())).map_err(StoreError::write(path))
}

/// As [`write_file`], by way of the file `partial`. `check` reads it, synced, before it is renamed.
///
/// # Errors
/// Those of the closures, and the system's; the partial file is then removed.
pub(super) fn write_checked<E: From<io::Error>>(
    partial: &Path,
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
    check: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let written = (|| {
        let mut out = BufWriter::new(File::create(partial)?);
        fill(&mut out)?;
        out.flush()?;
        out.get_ref().sync_all()?;
        drop(out);
        check(partial)?;
        fs::rename(partial, path)?;
        Ok(sync_folder(path)?)
    })();
    if written.is_err()
        && let Err(error) = fs::remove_file(partial)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %partial.display(), %error, "cannot remove a partial file");
    }
    written
}

/// The path to which a file is written before it is renamed.
pub(super) fn partial_path(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

/// SHA-256 of the file at `path`, lower-case hex.
pub(crate) fn file_sha256(path: &Path) -> Result<String, StoreError> {
    let mut file = File::open(path).map_err(StoreError::read(path))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(StoreError::read(path))? {
            0 => return Ok(hasher.hex()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Creates the folder `path` and its missing parents durably.
pub(crate) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let create = |source| StoreError::Create {
        path: path.to_path_buf(),
        source,
    };
    if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_folder(above)?;
    }
    if path.is_dir() {
        // A process that made it may have been killed before its name was synced.
        if let Err(error) = sync_folder(path) {
            // Not ours, then: we may enter the folder above without being allowed to read it.
            tracing::debug!(folder = %path.display(), %error, "cannot sync the name of a folder");
        }
        return Ok(());
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(create(error))
        }
        _ => sync_folder(path).map_err(create),
    }
}

/// Makes the names in the folder of `path` durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        // A file system without such a call for folders, as some network ones are.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_where_they_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_folder(&deep).unwrap();
        make_folder(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        for bad in ["file", "file/below"] {
            let error = make_folder(&dir.path().join(bad)).unwrap_err();
            assert!(matches!(error, StoreError::Create { .. }), "{error}");
        }
    }

    #[test]
    fn who_shares_a_file_writes_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared.json");
        std::thread::scope(|scope| {
            for byte in b'a'..=b'd' {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        write_shared(path, |out| out.write_all(&[byte; 5000])).unwrap();
                        let found = fs::read(path).unwrap();
                        assert!(found.len() == 5000 && found.iter().all(|b| *b == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        write_file(&path, |out| out.write_all(b"old")).unwrap();
        let failed = write_file(&path, |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("power"))
        });
        assert!(failed.unwrap_err().to_string().contains("a.txt: power"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(
            write_file(Path::new("/proc/nothing/x"), |_| Ok(())),
            Err(StoreError::Write { .. })
        ));
    }
}
