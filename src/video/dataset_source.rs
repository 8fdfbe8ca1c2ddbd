//! A dataset on disk: a folder, or a zip archive of one, or a table of clips.
//!
//! Finds out its format, finds its tables and clips, lists the clips and gives each as a path that a decoder can open. When a
//! part is missing the dataset is searched, and the error names the candidates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::archive::{ArchiveError, MEMORY_BYTES_MAX, MemoryFile};
use super::clip_file::{io_fault, is_of_machine};
use super::dataset_search::{DatasetCandidates, VIDEOS_NAME, megabytes};
use crate::dataset::advice;
use crate::dataset::dataset_rows::ClipPaths;
use crate::dataset::file_tree::has_suffix;
use crate::dataset::format::{FormatName, Recognition};
use crate::dataset::instance::Entry;
use crate::dataset::wlasl::{self, FILE_NAME, MetadataError};
use crate::digest::Hasher;
use crate::frame::SourceError;
use crate::sequence::options::NamedChoice;
use crate::video::dataset_source::listing::ClipListing;
use crate::video::dataset_source::locations::{CLIP_SUFFIX, Location};
use crate::video::dataset_source::tree::Listing;
use std::fmt::Write as _;
use std::sync::Arc;
use thiserror::Error;

mod listing;
mod locations;
mod tree;

/// Why a dataset cannot be used.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Neither a folder nor a file is at the given path.
    #[error(
        "no dataset at {path}: {source}; give a folder with {FILE_NAME} and {VIDEOS_NAME}/, or a zip archive of one, or a \
         dataset of another format"
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
    /// No format is recognised.
    #[error("{path} is no dataset: {advice}")]
    Unknown {
        /// As given.
        path: PathBuf,
        /// What it is, and what to do.
        advice: String,
    },
    /// It does not have the format that the user wants.
    #[error("{path} is no dataset of the format {}: {reason}", .format.name())]
    OtherFormat {
        /// As given.
        path: PathBuf,
        /// As given.
        format: FormatName,
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
    /// All classes in the order of their official numbers, when the dataset has a list of them.
    pub class_order: Option<Vec<Arc<str>>>,
    /// What the user probably did not intend.
    pub warnings: Vec<String>,
    /// Lower-case hex SHA-256 of the file; of all tables, or of the paths of class folders.
    pub sha256: String,
}

/// An open dataset. All workers share it: every method takes `&self`.
#[derive(Debug)]
pub struct DatasetSource {
    format: FormatName,
    /// Why it has the format.
    why: String,
    json: Location,
    json_bytes: u64,
    videos: Location,
    clips: ClipListing,
    /// The clips of a format that gives their paths.
    paths: Option<ClipPaths>,
    /// Of such a format, until it is taken.
    metadata: Option<Metadata>,
    clip_bytes_max: u64,
}

impl DatasetSource {
    /// Opens the dataset at `path`, as [`DatasetSource::open_as`] does, in the format that it has.
    ///
    /// # Errors
    /// As [`DatasetSource::open_as`].
    pub fn open(
        path: &Path,
        json_override: Option<&Path>,
        videos_override: Option<&Path>,
    ) -> Result<Self, DatasetError> {
        Self::open_as(path, None, json_override, videos_override)
    }

    /// Opens the dataset at `path`, a folder, a zip archive or a table of clips, and lists its clips. Without a `format` it
    /// is found out.
    ///
    /// `json_override` and `videos_override` replace the paths of the metadata file and the folder of clips: on disk, or
    /// names in the archive.
    ///
    /// # Errors
    /// When a part is missing or cannot be read, or no format is recognised.
    pub fn open_as(
        path: &Path,
        format: Option<FormatName>,
        json_override: Option<&Path>,
        videos_override: Option<&Path>,
    ) -> Result<Self, DatasetError> {
        let table =
            json_override.filter(|json| has_suffix(&json.to_string_lossy(), &[".csv", ".tsv"]));
        if matches!(format, None | Some(FormatName::Csv)) {
            if let Some(table) = table {
                let clips = Location::of_dataset(videos_override.unwrap_or(path))?;
                return Self::open_table(table, clips);
            }
            if is_list_of_clips(path) {
                let folder = videos_override.unwrap_or(folder_of(path));
                return Self::open_table(path, Location::of_dataset(folder)?);
            }
        }
        let root = Location::of_dataset(path)?;
        let is_wlasl = format.map_or_else(
            || json_override.is_some() || root.child(FILE_NAME).is_file(),
            |format| format == FormatName::Wlasl,
        );
        if !is_wlasl {
            if let (Some(json), Some(format)) = (json_override, format) {
                return Err(DatasetError::OtherFormat {
                    path: path.to_owned(),
                    format,
                    reason: format!("it takes no other metadata file, as {}", json.display()),
                });
            }
            let clips = videos_override.map(|given| root.part(given, given.is_dir()));
            return Self::open_tree(path, root, format, clips);
        }
        let (json, videos) = locations::locate(&root, json_override, videos_override)?;
        let clips = videos.list()?;
        Ok(Self {
            format: FormatName::Wlasl,
            why: format!("{} is there", json.name()),
            json_bytes: json.bytes(),
            json,
            videos,
            clips,
            paths: None,
            metadata: None,
            clip_bytes_max: MEMORY_BYTES_MAX,
        })
    }

    /// Opens the list of clips at `table`, whose paths are relative to `clips`.
    fn open_table(table: &Path, clips: Location) -> Result<Self, DatasetError> {
        let name = table.file_name().unwrap_or_default().to_string_lossy();
        let found = Recognition {
            why: format!("{name} is a list of clips"),
            tables: vec![name.into()],
        };
        let root = Location::Disk(folder_of(table).to_owned());
        Self::read_tree(&root, FormatName::Csv, found, clips, None)
    }

    /// Opens the dataset in the folder at `root`, or in its only folder.
    fn open_tree(
        path: &Path,
        mut root: Location,
        format: Option<FormatName>,
        clips: Option<Location>,
    ) -> Result<Self, DatasetError> {
        let mut listing = Listing::of(&root)?;
        let mut is_nested = false;
        let (format, found) = loop {
            let found = match format {
                Some(format) => {
                    { format.reader().recognise(&listing.files) }.map(|found| (format, found))
                }
                None => FormatName::detect(&listing.files).ok_or_else(String::new),
            };
            match (found, listing.files.only_folder()) {
                (Ok(found), _) => break found,
                (Err(_), Some(inner)) if !is_nested => {
                    let inner = root.child(inner);
                    let inside = Listing::of(&inner)?;
                    let is_known = match format {
                        Some(format) => format.reader().recognise(&inside.files).is_ok(),
                        None => FormatName::detect(&inside.files).is_some(),
                    };
                    is_nested = true;
                    if is_known {
                        (root, listing) = (inner, inside);
                    }
                }
                (Err(reason), _) => return Err(unknown(path, &root, &listing, format, reason)),
            }
        };
        match clips {
            Some(clips) => Self::read_tree(&root, format, found, clips, None),
            None => {
                let clips = root.clone();
                Self::read_tree(&root, format, found, clips, Some(listing))
            }
        }
    }

    fn read_tree(
        root: &Location,
        format: FormatName,
        found: Recognition,
        videos: Location,
        clips: Option<Listing>,
    ) -> Result<Self, DatasetError> {
        let clips = clips.map_or_else(|| Listing::of(&videos), Ok)?;
        let count = clips.files.clips().count();
        let (metadata, paths) = tree::read(root, format, &found, clips)?;
        let tables = found.tables.iter().map(|table| root.child(table));
        Ok(Self {
            format,
            why: found.why,
            json_bytes: tables.clone().map(|table| table.bytes()).sum(),
            json: { tables }.next().unwrap_or_else(|| root.clone()),
            videos,
            clips: ClipListing::counted(count),
            paths: Some(paths),
            metadata: Some(metadata),
            clip_bytes_max: MEMORY_BYTES_MAX,
        })
    }

    /// Its format.
    #[must_use]
    pub fn format(&self) -> FormatName {
        self.format
    }

    /// Why it has the format, as in "`WLASL_v0.3.json` is there".
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

    /// Number of `.mp4`, `.avi` and `.mov` files in it, as the notebook counts them.
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

    /// Reads the metadata file, piece by piece. Of a format that gives the paths of its clips the content is given once; it
    /// was read when the dataset was opened.
    ///
    /// # Errors
    /// When it cannot be read, is too large or cannot be used.
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

    /// Whether the clip of `video_id` was listed when the dataset was opened.
    #[must_use]
    pub fn exists(&self, video_id: &str) -> bool {
        match &self.paths {
            Some(paths) => paths.present.contains_key(video_id),
            None => self.clips.video_ids.contains(video_id),
        }
    }

    /// Where the clip of `video_id` may be under another name or in a folder below, and what to do. The notebook does not
    /// find it there.
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
            // An unmounted disk leaves an empty folder.
            Location::Disk(folder) => {
                fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
            }
        }
    }

    /// The clip of `video_id`, as a file that a decoder can open.
    ///
    /// # Errors
    /// When it is missing, not a regular file or cannot be unpacked.
    pub fn clip(&self, video_id: &str) -> Result<ClipFile, SourceError> {
        let missing = || SourceError::Clip(format!("no file {}", self.clip_name(video_id)));
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

/// Whether the file at `path` is a list of clips.
fn is_list_of_clips(path: &Path) -> bool {
    if !path.is_file() {
        return false;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let head = tree::head(&Location::Disk(path.to_owned()));
    matches!(advice::is_list_of_clips(&name, &head), Some(Ok(())))
}

/// The folder of the file at `path`.
fn folder_of(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// The error of a dataset at `path` whose `listing` has no known format, or not the one that the user wants.
fn unknown(
    path: &Path,
    root: &Location,
    listing: &Listing,
    format: Option<FormatName>,
    reason: String,
) -> DatasetError {
    let path = path.to_owned();
    if let Some(format) = format {
        return DatasetError::OtherFormat {
            path,
            format,
            reason,
        };
    }
    let files = &listing.files;
    let has_table = files.tables(&[".csv", ".tsv"]).next().is_some();
    let is_wlasl = files.paths().any(|path| has_suffix(path, &[".json"]))
        || files.folders().any(|folder| folder == VIDEOS_NAME);
    let candidates = root.search();
    if !has_table && (is_wlasl || files.paths().next().is_none() || !candidates.archives.is_empty())
    {
        return DatasetError::NoJson {
            expected: root.child(FILE_NAME).shown(),
            candidates: Box::new(candidates),
        };
    }
    let advice = advice::of_tree(files);
    DatasetError::Unknown { path, advice }
}

#[cfg(test)]
mod tests;
