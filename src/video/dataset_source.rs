//! A WLASL dataset on disk: a folder, or a zip archive of one.
//!
//! Finds the metadata file and the clips, lists the clips and gives each as a path that a decoder can open. When a part is
//! missing the dataset is searched, and the error names the candidates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::{ArchiveError, MEMORY_BYTES_MAX, MemoryFile};
use super::clip_file::{io_fault, is_of_machine};
use super::dataset_search::{DatasetCandidates, VIDEOS_NAME, megabytes};
use crate::dataset::instance::Entry;
use crate::dataset::wlasl::{self, FILE_NAME, MetadataError};
use crate::digest::Hasher;
use crate::frame::SourceError;
use crate::video::dataset_source::listing::ClipListing;
use crate::video::dataset_source::locations::{CLIP_SUFFIX, Location};
use thiserror::Error;

mod listing;
mod locations;

/// Why a dataset cannot be used.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Neither a folder nor a file is at the given path.
    #[error(
        "no dataset at {path}: {source}; give a folder with {FILE_NAME} and {VIDEOS_NAME}/, or a zip archive of one"
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
    #[error(
        "{path} has {size} bytes, more than the {} allowed: is it {FILE_NAME}?",
        wlasl::BYTES_MAX
    )]
    JsonTooLarge {
        /// The file.
        path: PathBuf,
        /// In bytes.
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
    /// Whether the machine has no memory or file handles left: the dataset may be as it should.
    #[must_use]
    pub fn is_of_machine(&self) -> bool {
        match self {
            Self::NotFound { source, .. } | Self::Io { source, .. } => is_of_machine(source),
            Self::BadArchive(error) => error.is_of_machine(),
            _ => false,
        }
    }
}

/// A clip that a decoder can open.
#[derive(Debug)]
pub struct ClipFile {
    path: PathBuf,
    /// A clip of an archive, unpacked into memory, which `path` names; removed when dropped.
    _memory: Option<MemoryFile>,
}

impl ClipFile {
    /// Path at which it can be opened while this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The content of a metadata file.
#[derive(Debug)]
pub struct Metadata {
    /// Its glosses, in file order.
    pub entries: Vec<Entry>,
    /// Lower-case hex SHA-256 of the file.
    pub sha256: String,
}

/// An open dataset. All workers share it: every method takes `&self`.
#[derive(Debug)]
pub struct DatasetSource {
    json: Location,
    json_bytes: u64,
    videos: Location,
    clips: ClipListing,
    clip_bytes_max: u64,
}

impl DatasetSource {
    /// Opens the dataset at `path`, a folder or a zip archive, and lists its clips.
    ///
    /// `json_override` and `videos_override` replace the paths of the metadata file and the folder of clips: on disk, or
    /// names in the archive.
    ///
    /// # Errors
    /// When a part is missing or cannot be read.
    pub fn open(
        path: &Path,
        json_override: Option<&Path>,
        videos_override: Option<&Path>,
    ) -> Result<Self, DatasetError> {
        let (json, videos) = locations::locate(path, json_override, videos_override)?;
        let clips = videos.list()?;
        Ok(Self {
            json_bytes: json.bytes(),
            json,
            videos,
            clips,
            clip_bytes_max: MEMORY_BYTES_MAX,
        })
    }

    /// Path of the metadata file for messages; for a file in an archive it begins with the archive's path.
    #[must_use]
    pub fn json_path(&self) -> PathBuf {
        self.json.shown()
    }

    /// Size of the metadata file in bytes.
    #[must_use]
    pub fn json_bytes(&self) -> u64 {
        self.json_bytes
    }

    /// Path of the folder of clips for messages.
    #[must_use]
    pub fn videos_path(&self) -> PathBuf {
        self.videos.shown()
    }

    /// Number of `.mp4`, `.avi` and `.mov` files in it, as the notebook counts them.
    #[must_use]
    pub fn video_count(&self) -> usize {
        self.clips.video_count
    }

    /// The text that the notebook prints when it verifies the dataset's paths.
    #[must_use]
    pub fn report(&self) -> String {
        format!(
            "JSON file found: {}\n  Size: {}\n\nVideo directory found: {}\n  Number of video files: {}\n",
            self.json_path().display(),
            megabytes(self.json_bytes),
            self.videos_path().display(),
            self.clips.video_count,
        )
    }

    /// Reads the metadata file, piece by piece.
    ///
    /// # Errors
    /// When it cannot be read, is too large or cannot be used.
    pub fn metadata(&self) -> Result<Metadata, DatasetError> {
        if self.json_bytes > wlasl::BYTES_MAX {
            return Err(DatasetError::JsonTooLarge {
                path: self.json_path(),
                size: self.json_bytes,
            });
        }
        let mut sha256 = Hasher::default();
        let entries = self.json.read(wlasl::BYTES_MAX, |content| {
            wlasl::read(&mut |buffer: &mut [u8]| {
                let count = content.read(buffer).map_err(|error| error.to_string())?;
                sha256.update(&buffer[..count]);
                Ok(count)
            })
        })?;
        Ok(Metadata {
            entries: entries.map_err(|source| DatasetError::Metadata {
                path: self.json_path(),
                source,
            })?,
            sha256: sha256.hex(),
        })
    }

    /// The file `name` beside the metadata, of `limit` bytes at most; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn companion(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, DatasetError> {
        let location = self.json.beside(name);
        location
            .is_file()
            .then(|| location.content(limit))
            .transpose()
    }

    /// The file that a user names `path`: on disk, or else beside the metadata.
    ///
    /// # Errors
    /// When it is in neither place, is larger than `limit` or cannot be read.
    pub fn companion_of_user(&self, path: &Path, limit: u64) -> Result<Vec<u8>, DatasetError> {
        if path.is_file() {
            return Location::Disk(path.to_owned()).content(limit);
        }
        let beside = path.to_str().map(|name| self.companion(name, limit));
        beside.transpose()?.flatten().ok_or_else(|| {
            let json = self.json_path();
            let reason = format!("no such file, nor beside {}; give its path", json.display());
            DatasetError::Io {
                path: path.to_owned(),
                source: io::Error::new(io::ErrorKind::NotFound, reason),
            }
        })
    }

    /// Whether `ID.mp4` was listed when the dataset was opened.
    #[must_use]
    pub fn exists(&self, video_id: &str) -> bool {
        self.clips.video_ids.contains(video_id)
    }

    /// Where the clip of `video_id` may be under another name or in a folder below, and what to do. The notebook does not
    /// find it there.
    #[must_use]
    pub fn elsewhere(&self, video_id: &str) -> Option<String> {
        self.clips.elsewhere(video_id)
    }

    /// Unpacked size of `ID.mp4` in bytes; 0 when it is unknown.
    #[must_use]
    pub fn clip_bytes(&self, video_id: &str) -> u64 {
        self.clip_location(video_id).bytes()
    }

    fn clip_location(&self, video_id: &str) -> Location {
        self.videos.child(&format!("{video_id}{CLIP_SUFFIX}"))
    }

    /// Whether the dataset is still mounted: distinguishes a missing disk from a missing clip.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match &self.videos {
            Location::Archive(archive, _) => archive.path().is_file(),
            // An unmounted disk leaves an empty folder.
            Location::Disk(folder) => {
                fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
            }
        }
    }

    /// The clip `ID.mp4`, as a file that a decoder can open.
    ///
    /// # Errors
    /// When it is missing, not a regular file or cannot be unpacked.
    pub fn clip(&self, video_id: &str) -> Result<ClipFile, SourceError> {
        let missing = || SourceError::Clip(format!("no file {video_id}{CLIP_SUFFIX}"));
        // Only listed names are opened.
        if !self.exists(video_id) {
            return Err(missing());
        }
        match self.clip_location(video_id) {
            Location::Archive(archive, name) => {
                let file = archive.memory_file(&name, self.clip_bytes_max);
                let file = file.map_err(SourceError::from)?;
                Ok(ClipFile {
                    path: file.path(),
                    _memory: Some(file),
                })
            }
            Location::Disk(path) => match fs::metadata(&path) {
                Ok(kind) if kind.is_file() => Ok(ClipFile {
                    path,
                    _memory: None,
                }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                other => {
                    let path = path.display();
                    Err(match other {
                        Err(error) => io_fault(&error, format!("cannot read {path}: {error}")),
                        Ok(_) => SourceError::Clip(format!("{path} is not a regular file")),
                    })
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
