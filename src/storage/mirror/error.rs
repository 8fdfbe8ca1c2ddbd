//! Why a mirror is not complete.

use crate::storage::StoreError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the mirror is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorError {
    /// The folder does not exist. It is never created, because an empty mount point would be filled in its place.
    #[error(
        "the mirror {path} is away; mount the medium, or make the folder once: mkdir -p {path}; copying then resumes \
         by itself"
    )]
    Away { path: PathBuf },
    /// The medium returned an error.
    #[error(
        "the mirror fails at {path}: {source}; check the medium and its free space (`df -h`); copying then resumes by \
         itself"
    )]
    Medium { path: PathBuf, source: io::Error },
    /// A link is at the path of a file or folder of the mirror, or no regular file is at the path of a file.
    #[error(
        "{path} is a link or no plain file, and nothing is read from it or written through it: remove it \
         (`rm {path}`); copying then resumes by itself"
    )]
    Link { path: PathBuf },
    /// A file read back differs from what was written.
    #[error("{path} reads back other than it was written; the medium is failing, replace it")]
    Damaged { path: PathBuf },
    /// A file of the output folder cannot be read.
    #[error("cannot read {path} to mirror it: {source}; check the disk of the output folder")]
    Source { path: PathBuf, source: io::Error },
    /// A file of the output folder has changed since it was finished.
    #[error(
        "{path} has changed since it was finished (SHA-256 {found}, it was {expected}) and is not mirrored; put the \
         mirror's copy of it back, if there is one, or keep what is left and start again in another folder"
    )]
    Changed {
        path: PathBuf,
        expected: String,
        found: String,
    },
    /// The mirror belongs to another output folder and may be its only copy.
    #[error(
        "the mirror {path} is the copy of another output folder and is left as it is: {found}; set output.mirror to \
         another or an empty folder. If it is wanted back, copy its files into a folder first. If it may be replaced, \
         empty it by hand"
    )]
    Foreign { path: PathBuf, found: String },
    /// A name that could lie outside of the mirror, or break its list.
    #[error("{name:?} cannot be mirrored: a plain path below the output folder is needed")]
    Name { name: String },
}

/// An error of the medium at `path`.
pub(super) fn medium(path: &Path) -> impl FnOnce(io::Error) -> MirrorError {
    let path = path.to_path_buf();
    move |source| match source.downcast() {
        Ok(StoreError::Link { path }) => MirrorError::Link { path },
        Ok(other) => MirrorError::Medium {
            path,
            source: io::Error::other(other),
        },
        Err(source) => MirrorError::Medium { path, source },
    }
}
