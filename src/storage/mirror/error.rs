//! Why a mirror is not complete.

use std::io;
use std::path::{Path, PathBuf};

/// Why the mirror is not complete.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The folder does not exist. It is never created, because an empty mount point would be filled in its place.
    #[error(
        "the mirror {path} is away; mount the medium, or make the folder once: mkdir -p {path}; the copy then goes on \
         by itself"
    )]
    Away {
        /// The mirror's folder.
        path: PathBuf,
    },
    /// The medium returned an error.
    #[error(
        "the mirror fails at {path}: {source}; check the medium and its free space (`df -h`); the copy then goes on by \
         itself"
    )]
    Medium {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file read back differs from what was written.
    #[error("{path} reads back other than it was written; the medium is failing, replace it")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A file of the output folder cannot be read.
    #[error("cannot read {path} to mirror it: {source}; check the disk of the output folder")]
    Source {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of the output folder has changed since it was finished.
    #[error(
        "{path} has changed since it was finished (SHA-256 {found}, it was {expected}) and is not mirrored; put the \
         mirror's copy of it back, if there is one, or keep what is left and begin anew in another folder"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Lower-case hex.
        expected: String,
        /// Lower-case hex.
        found: String,
    },
    /// The mirror belongs to another output folder and may be its only copy.
    #[error(
        "the mirror {path} is the copy of another output folder and is left as it is: {found}; set output.mirror to \
         another or an empty folder. If it is wanted back, copy its files into a folder first. If it may be replaced, \
         empty it by hand"
    )]
    Foreign {
        /// The mirror's folder, or the folder in it.
        path: PathBuf,
        /// How that is known.
        found: String,
    },
    /// A name that could lie outside of the mirror, or break its list.
    #[error("{name:?} cannot be mirrored: a plain path below the output folder is needed")]
    Name {
        /// The name.
        name: String,
    },
}

/// An error of the medium at `path`.
pub(super) fn medium(path: &Path) -> impl FnOnce(io::Error) -> MirrorError {
    let path = path.to_path_buf();
    move |source| MirrorError::Medium { path, source }
}
