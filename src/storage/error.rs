//! Errors of the storage module.

use std::io;
use std::path::{Path, PathBuf};

/// Why something could not be written or read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "most fields are what their names say")]
pub enum StoreError {
    /// A file or folder cannot be written.
    #[error("cannot write {path}: {source}; {}", fix_of(source))]
    Write { path: PathBuf, source: io::Error },
    /// The output folder cannot be made.
    #[error("cannot make the folder {path}: {source}; {}", fix_of(source))]
    Create { path: PathBuf, source: io::Error },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    /// A file does not have the expected content.
    #[error("{path} is not a readable npz file: {reason}")]
    Broken { path: PathBuf, reason: String },
    /// A link is at the path of an output file or folder, or no regular file is at the path of a file. Writing would
    /// follow the link, or reading would not end.
    #[error(
        "{path} is a link or no plain file, and nothing is read from it or written through it: remove it \
         (`rm {path}`); to keep the results elsewhere, name that folder itself"
    )]
    Link { path: PathBuf },
    /// The ledger has lost clips or their kept frames, because damaged data was dropped.
    #[error(
        "{path} has lost the numbers of the clips {positions:?}, which had changed since they were written; check disk \
         and memory, then run again: the job reads these clips again"
    )]
    Lost {
        path: PathBuf,
        positions: Vec<usize>,
    },
    /// The path of the ledger is longer than SQLite allows.
    #[error(
        "the path {path} has {length} bytes, and that of a ledger can have {LEDGER_PATH_MAX} (SQLite's limit): use a \
         shorter path"
    )]
    TooLong { path: PathBuf, length: usize },
    /// The file system has no locks.
    #[error(
        "cannot lock {path}: {source}; its file system offers no locks, as a network share without a lock service does: \
         use a folder on a local disk, start the lock service of the share, or run the whole job as the one shard of a \
         folder of its own, which needs no locks: `handloom process DATASET --out OUT --shard 0/1`"
    )]
    NoLocks { path: PathBuf, source: io::Error },
    /// The output folder holds the results of another job.
    #[error(
        "{path} holds the results of another job ({}{difference})",
        .is_dataset.then_some("the dataset has changed: ").unwrap_or_default()
    )]
    Occupied {
        path: PathBuf,
        /// The first difference, as text for users.
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
    /// The output folder holds joined shards.
    #[error(
        "{path} holds the results of a whole job, which `handloom merge` joined from its shards; nothing in it is changed"
    )]
    Merged { path: PathBuf },
    /// The folder for shards holds the results of a job without shards, or of a merge.
    #[error(
        "{path} holds the results of a whole job, and the shards of a job need a folder of their own; nothing in it is \
         changed"
    )]
    Undivided { path: PathBuf },
    /// The shard belongs to a plan over another version of the dataset.
    #[error(
        "{path}: the dataset has changed since the shard was made; one clip more, fewer or of another size changes the plan \
         that all shards of a job share, so all of them must be made again"
    )]
    OtherPlan { path: PathBuf },
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
    /// The folder of a shard is not complete, or its record comes from another version.
    #[error(
        "{path} is no record of a whole shard: {reason}; remove its folder to make the shard again"
    )]
    BadShard { path: PathBuf, reason: String },
    /// The database is damaged or is no ledger.
    #[error("the ledger {path} cannot be used: {reason}")]
    BadLedger { path: PathBuf, reason: String },
}

/// Maximum length of the absolute path of a ledger in bytes: SQLite's 512, less the ending of its log.
pub(super) const LEDGER_PATH_MAX: usize = 504;

/// How to fix the file system's `error`, as text for users.
fn fix_of(error: &io::Error) -> &'static str {
    use io::ErrorKind::{
        InvalidFilename, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem,
        StorageFull,
    };
    match error.kind() {
        StorageFull => "free some space (`df -h`, `df -i`)",
        QuotaExceeded => "remove files or raise the quota (`quota`)",
        ReadOnlyFilesystem => {
            "mount the file system for writing (`mount`; a failing disk is in `dmesg`)"
        }
        PermissionDenied => "check owner and permissions (`ls -ld`)",
        InvalidFilename => "use a shorter path",
        NotADirectory => "a part of the path is a file",
        _ => "check the disk (`df -h`, `dmesg`)",
    }
}

impl StoreError {
    /// Whether a process was interrupted during a change of the ledger, which a read-only connection cannot undo.
    pub(super) fn needs_recovery(&self) -> bool {
        matches!(self, Self::Ledger { source, .. }
            if source.sqlite_error_code() == Some(rusqlite::ErrorCode::ReadOnly))
    }

    /// Converts an I/O error of writing `path`. A [`StoreError`] inside it is returned as it is.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.downcast() {
            Ok(error) => error,
            Err(source) => Self::Write { path, source },
        }
    }

    /// Converts an I/O error of reading `path`. A [`StoreError`] inside it is returned as it is.
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.downcast() {
            Ok(error) => error,
            Err(source) => Self::Read { path, source },
        }
    }

    /// Whether the disk was full or a quota was reached. The same write may succeed later.
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
                    // The file for its shared memory could not grow.
                    || source.sqlite_error().is_some_and(|e| {
                        e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
                    })
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_own_fix() {
        for (errno, fix) in [
            (libc::ENOSPC, "free some space"),
            (libc::EDQUOT, "raise the quota"),
            (libc::EROFS, "mount the file system for writing"),
            (libc::EACCES, "owner and permissions"),
            (libc::ENAMETOOLONG, "shorter path"),
            (libc::ENOTDIR, "is a file"),
            (libc::EIO, "check the disk"),
        ] {
            let path = Path::new("out/run.json");
            let error = StoreError::write(path)(io::Error::from_raw_os_error(errno)).to_string();
            assert!(error.starts_with("cannot write out/run.json: "), "{error}");
            assert!(error.contains(fix), "{error}");
        }
    }
}
