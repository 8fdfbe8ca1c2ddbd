//! Why a dataset cannot be used.

use crate::dataset::format::FormatName;
use crate::dataset::wlasl::{self, FILE_NAME, MetadataError};
use crate::sequence::options::NamedChoice;
use crate::video::archive::ArchiveError;
use crate::video::clip_file::is_of_machine;
use crate::video::dataset_search::{DatasetCandidates, VIDEOS_NAME};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Errors of opening and reading a dataset.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Neither a folder nor a file is at the given path.
    #[error(
        "no dataset at {path}: {source}; give a folder with {FILE_NAME} and {VIDEOS_NAME}/, or a zip archive of one, or a \
         dataset of another format"
    )]
    NotFound {
        /// The path, as given.
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
    /// No format is recognised.
    #[error("{path} is no dataset: {advice}")]
    Unknown {
        /// The path, as given.
        path: PathBuf,
        /// What it is, and what to do.
        advice: String,
    },
    /// The dataset does not have the requested format.
    #[error("{path} is no dataset of the format {}: {reason}; {fix}", .format.name())]
    OtherFormat {
        /// The path, as given.
        path: PathBuf,
        /// The requested format.
        format: FormatName,
        /// What to do instead.
        fix: String,
        /// What is missing.
        reason: String,
    },
    /// The metadata file is too large.
    #[error(
        "{path} has {size} bytes, more than the {} allowed: is it {FILE_NAME}?",
        wlasl::BYTES_MAX
    )]
    JsonTooLarge {
        /// The file.
        path: PathBuf,
        /// Size in bytes.
        size: u64,
    },
    /// The metadata file cannot be used.
    #[error("{path}: {source}")]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: MetadataError,
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

impl DatasetError {
    /// Whether the machine has no memory or file handles left. The dataset itself may be good.
    #[must_use]
    pub fn is_of_machine(&self) -> bool {
        match self {
            Self::NotFound { source, .. } | Self::Io { source, .. } => is_of_machine(source),
            Self::BadArchive(error) => error.is_of_machine(),
            _ => false,
        }
    }
}
