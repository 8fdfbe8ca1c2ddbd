//! Errors of a dataset as a whole.

use super::JSON_BYTES_MAX;
use crate::video::archive::ArchiveError;
use crate::video::dataset_search::{DatasetCandidates, JSON_NAME, VIDEOS_NAME};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a dataset cannot be used.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Neither a folder nor a file is at the given path.
    #[error(
        "no dataset at {path}: {source}; give a folder with {JSON_NAME} and {VIDEOS_NAME}/, or a zip archive of one"
    )]
    NotFound {
        /// As given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The metadata file is not at its expected path.
    #[error("no metadata file at {expected}{}", candidates.json_advice())]
    NoJson {
        /// The expected path.
        expected: PathBuf,
        /// Where it may be.
        candidates: Box<DatasetCandidates>,
    },
    /// The folder of clips is not at its expected path.
    #[error("no video folder at {expected}{}", candidates.videos_advice())]
    NoVideos {
        /// The expected path.
        expected: PathBuf,
        /// Where it may be.
        candidates: Box<DatasetCandidates>,
    },
    /// The metadata file is too large.
    #[error("{path} has {size} bytes, more than the {JSON_BYTES_MAX} allowed: is it {JSON_NAME}?")]
    JsonTooLarge {
        /// The file.
        path: PathBuf,
        /// In bytes.
        size: u64,
    },
    /// The archive, or the metadata file in it, cannot be read.
    #[error(transparent)]
    BadArchive(#[from] ArchiveError),
    /// The system reports an error.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}
