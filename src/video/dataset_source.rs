//! A dataset on disk: a folder, or a zip archive of one, or a table of clips.
//!
//! Detects the format, finds the tables and clips, lists the clips and gives each as a path that a decoder can open.
//! When a part is missing, it searches the dataset and the error names the candidates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::MemoryFile;
use super::clip_file::io_fault;
use super::dataset_search::megabytes;
use crate::dataset::dataset_rows::ClipPaths;
use crate::dataset::format::FormatName;
use crate::dataset::instance::Entry;
use crate::dataset::wlasl;
use crate::digest::Hasher;
use crate::frame::SourceError;
use crate::video::dataset_source::listing::ClipListing;
use crate::video::dataset_source::locations::{CLIP_SUFFIX, Location};
use std::fmt::Write as _;
use std::sync::Arc;

mod errors;
mod listing;
mod locations;
mod opening;
mod tree;

pub use errors::DatasetError;

/// A clip that a decoder can open.
#[derive(Debug)]
pub struct ClipFile {
    path: PathBuf,
    /// A clip of an archive, unpacked into memory; `path` names it. It is removed when dropped.
    _memory: Option<MemoryFile>,
}

impl ClipFile {
    /// Path at which the clip can be opened while this value lives.
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
    /// All classes in the order of their official numbers, when the dataset has a list of them.
    pub class_order: Option<Vec<Arc<str>>>,
    /// Warnings about data that the user probably did not intend.
    pub warnings: Vec<String>,
    /// SHA-256 of the file, of all tables, or of the paths of class folders; lower-case hex.
    pub sha256: String,
}

/// An open dataset. All workers share it: every method takes `&self`.
#[derive(Debug)]
pub struct DatasetSource {
    format: FormatName,
    /// Why this format was detected.
    why: String,
    json: Location,
    json_bytes: u64,
    videos: Location,
    clips: ClipListing,
    /// The clips of a format that gives their paths.
    paths: Option<ClipPaths>,
    /// Metadata of such a format, until it is taken.
    metadata: Option<Metadata>,
    clip_bytes_max: u64,
}

impl DatasetSource {
    /// Opens the dataset at `path` like [`DatasetSource::open_as`], and detects its format.
    ///
    /// # Errors
    /// Fails as [`DatasetSource::open_as`] does.
    pub fn open(
        path: &Path,
        json_override: Option<&Path>,
        videos_override: Option<&Path>,
    ) -> Result<Self, DatasetError> {
        Self::open_as(path, None, json_override, videos_override)
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> FormatName {
        self.format
    }

    /// Why this format was detected, as in "`WLASL_v0.3.json` is there".
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
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

    /// Number of `.mp4`, `.avi` and `.mov` files in the folder of clips, as the notebook counts them.
    #[must_use]
    pub fn video_count(&self) -> usize {
        self.clips.video_count
    }

    /// The text that the notebook prints when it verifies the dataset's paths.
    #[must_use]
    pub fn report(&self) -> String {
        if self.paths.is_some() {
            let mut report = String::new();
            if self.json_bytes > 0 {
                let (json, size) = (self.json_path(), megabytes(self.json_bytes));
                // Writing to a String cannot fail.
                writeln!(
                    report,
                    "Table found: {}\n  Size of all tables: {size}\n",
                    json.display()
                )
                .ok();
            }
            let (videos, count) = (self.videos_path(), self.clips.video_count);
            writeln!(
                report,
                "Clips found in: {}\n  Number of video files: {count}",
                videos.display()
            )
            .ok();
            return report;
        }
        format!(
            "JSON file found: {}\n  Size: {}\n\nVideo directory found: {}\n  Number of video files: {}\n",
            self.json_path().display(),
            megabytes(self.json_bytes),
            self.videos_path().display(),
            self.clips.video_count,
        )
    }

    /// Reads the metadata file in pieces. For a format that gives the paths of its clips, the metadata was read when
    /// the dataset was opened and is returned once.
    ///
    /// # Errors
    /// Fails when it cannot be read, is too large or cannot be used.
    pub fn metadata(&mut self) -> Result<Metadata, DatasetError> {
        if let Some(metadata) = self.metadata.take() {
            return Ok(metadata);
        }
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
            class_order: None,
            warnings: Vec::new(),
            sha256: sha256.hex(),
        })
    }

    /// The content of the file `name` beside the metadata, of `limit` bytes at most; `None` when there is none.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub fn companion(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, DatasetError> {
        let location = self.json.beside(name);
        location
            .is_file()
            .then(|| location.content(limit))
            .transpose()
    }

    /// The content of the file that a user names `path`: on disk, or else beside the metadata.
    ///
    /// # Errors
    /// Fails when it is in neither place, is larger than `limit` or cannot be read.
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

    /// Whether the clip of `video_id` was listed when the dataset was opened.
    #[must_use]
    pub fn exists(&self, video_id: &str) -> bool {
        match &self.paths {
            Some(paths) => paths.present.contains_key(video_id),
            None => self.clips.video_ids.contains(video_id),
        }
    }

    /// Where the clip of `video_id` may be, under another name or in a folder below, and what to do. The notebook
    /// does not find it there.
    #[must_use]
    pub fn elsewhere(&self, video_id: &str) -> Option<String> {
        match &self.paths {
            Some(paths) => paths.elsewhere.get(video_id).cloned(),
            None => self.clips.elsewhere(video_id),
        }
    }

    /// Unpacked size of the clip of `video_id` in bytes; 0 when it is unknown.
    #[must_use]
    pub fn clip_bytes(&self, video_id: &str) -> u64 {
        self.clip_location(video_id).bytes()
    }

    /// The path of the clip of `video_id` in the folder of clips.
    fn clip_name(&self, video_id: &str) -> String {
        let paths = self.paths.as_ref();
        let path = paths.and_then(|paths| paths.present.get(video_id));
        path.map_or_else(|| format!("{video_id}{CLIP_SUFFIX}"), ToString::to_string)
    }

    fn clip_location(&self, video_id: &str) -> Location {
        self.videos.child(&self.clip_name(video_id))
    }

    /// Whether the dataset is still mounted: distinguishes a missing disk from a missing clip.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match &self.videos {
            Location::Archive(archive, _) => archive.path().is_file(),
            // When a disk is unmounted, its empty mount point remains.
            Location::Disk(folder) => {
                fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
            }
        }
    }

    /// The clip of `video_id`, as a file that a decoder can open.
    ///
    /// # Errors
    /// Fails when it is missing, not a regular file or cannot be unpacked.
    pub fn clip(&self, video_id: &str) -> Result<ClipFile, SourceError> {
        let missing = || SourceError::Clip(format!("no file {}", self.clip_name(video_id)));
        // Only listed names are opened, so that an id cannot name another path.
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
