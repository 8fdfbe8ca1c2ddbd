//! A WLASL dataset on disk: a folder, or a zip archive of one.
//!
//! Finds the metadata file and the clips, lists the clips and gives each as a path that a decoder can open. When a part is
//! missing the dataset is searched, and the error names the candidates.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{Archive, MemoryFile};
use crate::video::dataset_search;
use crate::video::dataset_search::megabytes;
use crate::video::dataset_source::locations::{PartLocation, in_archive, in_folder};

mod error;
mod locations;

pub use error::{ClipError, DatasetError};

/// Name of the metadata file.
const JSON_NAME: &str = "WLASL_v0.3.json";

/// Ending of a clip's file name, after the video id.
const CLIP_SUFFIX: &str = ".mp4";

/// Name of the folder of clips beside it.
const VIDEOS_NAME: &str = "videos";

/// Largest metadata file, in bytes; the real one has 12 MB.
const JSON_BYTES_MAX: u64 = 1 << 30;

/// Largest unpacked clip of an archive, in bytes, unless [`DatasetSource::with_clip_limit`] sets another limit.
const CLIP_BYTES_MAX: u64 = 512 << 20;

/// A clip that a decoder can open.
#[derive(Debug)]
pub enum ClipFile {
    /// A regular file on disk.
    Path(PathBuf),
    /// Unpacked from an archive into memory; removed when dropped.
    Memory(MemoryFile),
}

impl ClipFile {
    /// Path at which it can be opened while this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Memory(file) => file.path(),
        }
    }
}

/// An open dataset. All workers share it: every method takes `&self`.
#[derive(Debug)]
pub struct DatasetSource {
    json: PartLocation,
    json_bytes: u64,
    videos: PartLocation,
    video_count: usize,
    video_ids: HashSet<Box<str>>,
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
        let kind = fs::metadata(path).map_err(|source| DatasetError::NotFound {
            path: path.to_owned(),
            source,
        })?;
        // Opening a pipe would block.
        let (json, videos) = if kind.is_dir() {
            in_folder(path, json_override, videos_override)?
        } else if kind.is_file() {
            let archive = Arc::new(Archive::open(path)?);
            in_archive(&archive, json_override, videos_override)?
        } else {
            return Err(DatasetError::NotADataset {
                path: path.to_owned(),
            });
        };
        let json_bytes = match &json {
            PartLocation::Disk(file) => fs::metadata(file).map_err(io_error(file))?.len(),
            PartLocation::Archive(archive, name) => archive.size(name).unwrap_or(0),
        };
        let (video_count, video_ids) = match &videos {
            PartLocation::Disk(folder) => list_folder(folder)?,
            PartLocation::Archive(archive, folder) => {
                let inside = archive
                    .names()
                    .filter_map(|name| name.strip_prefix(folder.as_str()));
                list(inside.filter(|name| !name.contains('/')))
            }
        };
        Ok(Self {
            json,
            json_bytes,
            videos,
            video_count,
            video_ids,
            clip_bytes_max: CLIP_BYTES_MAX,
        })
    }

    /// Sets another limit, in bytes, for a clip that is unpacked from an archive.
    #[must_use]
    pub fn with_clip_limit(self, clip_bytes_max: u64) -> Self {
        Self {
            clip_bytes_max,
            ..self
        }
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
        self.video_count
    }

    /// The text that the notebook prints when it verifies the dataset's paths.
    #[must_use]
    pub fn report(&self) -> String {
        format!(
            "JSON file found: {}\n  Size: {}\n\nVideo directory found: {}\n  Number of video files: {}\n",
            self.json_path().display(),
            megabytes(self.json_bytes),
            self.videos_path().display(),
            self.video_count,
        )
    }

    /// Reads the whole metadata file.
    ///
    /// # Errors
    /// When it cannot be read or has more than 1 GiB.
    pub fn metadata_bytes(&self) -> Result<Vec<u8>, DatasetError> {
        if self.json_bytes > JSON_BYTES_MAX {
            return Err(DatasetError::JsonTooLarge {
                path: self.json_path(),
                size: self.json_bytes,
            });
        }
        match &self.json {
            PartLocation::Archive(archive, name) => Ok(archive.read(name, JSON_BYTES_MAX)?),
            PartLocation::Disk(path) => {
                let mut bytes = Vec::new();
                // The limit holds also when the file grows while it is read.
                File::open(path)
                    .and_then(|file| file.take(JSON_BYTES_MAX).read_to_end(&mut bytes))
                    .map_err(io_error(path))?;
                Ok(bytes)
            }
        }
    }

    /// Whether `ID.mp4` was listed when the dataset was opened.
    #[must_use]
    pub fn exists(&self, video_id: &str) -> bool {
        self.video_ids.contains(video_id)
    }

    /// Unpacked size of `ID.mp4` in bytes; 0 when it is unknown.
    #[must_use]
    pub fn clip_bytes(&self, video_id: &str) -> u64 {
        let file_name = format!("{video_id}{CLIP_SUFFIX}");
        match &self.videos {
            PartLocation::Archive(archive, folder) => archive.size(&format!("{folder}{file_name}")),
            PartLocation::Disk(folder) => {
                fs::metadata(folder.join(file_name)).ok().map(|m| m.len())
            }
        }
        .unwrap_or(0)
    }

    /// Whether the dataset is still mounted: distinguishes a missing disk from a missing clip.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match &self.videos {
            PartLocation::Archive(archive, _) => archive.path().is_file(),
            // An unmounted disk leaves an empty folder.
            PartLocation::Disk(folder) => {
                fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
            }
        }
    }

    /// The clip `ID.mp4`, as a file that a decoder can open.
    ///
    /// # Errors
    /// When it is missing, not a regular file or cannot be unpacked.
    pub fn clip(&self, video_id: &str) -> Result<ClipFile, ClipError> {
        let missing = || ClipError::Missing {
            video_id: video_id.to_owned(),
        };
        // Only listed names are opened.
        if !self.exists(video_id) {
            return Err(missing());
        }
        let file_name = format!("{video_id}{CLIP_SUFFIX}");
        match &self.videos {
            PartLocation::Archive(archive, folder) => {
                let name = format!("{folder}{file_name}");
                let file = archive.memory_file(&name, self.clip_bytes_max)?;
                Ok(ClipFile::Memory(file))
            }
            PartLocation::Disk(folder) => {
                let path = folder.join(file_name);
                match fs::metadata(&path) {
                    Ok(kind) if kind.is_file() => Ok(ClipFile::Path(path)),
                    Ok(_) => Err(ClipError::NotRegular { path }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                    Err(source) => Err(ClipError::Io { path, source }),
                }
            }
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + '_ {
    move |source| DatasetError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Counts the videos among `names` and collects the ids of those that the metadata can name.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> (usize, HashSet<Box<str>>) {
    let mut ids = HashSet::new();
    let mut count = 0;
    for name in names {
        count += usize::from(dataset_search::is_video(name));
        if let Some(id) = name.strip_suffix(CLIP_SUFFIX) {
            ids.insert(id.into());
        }
    }
    (count, ids)
}

/// Lists `folder` without broken links, which are no clips although the notebook counts them as videos.
fn list_folder(folder: &Path) -> Result<(usize, HashSet<Box<str>>), DatasetError> {
    let mut names = Vec::new();
    let mut broken = 0;
    for item in fs::read_dir(folder).map_err(io_error(folder))? {
        let item = item.map_err(io_error(folder))?;
        // A video id is valid UTF-8, so another name belongs to none.
        let Ok(name) = item.file_name().into_string() else {
            continue;
        };
        let is_link = item.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && !item.path().exists() {
            broken += usize::from(dataset_search::is_video(&name));
        } else {
            names.push(name);
        }
    }
    let (count, ids) = list(names.iter().map(String::as_str));
    Ok((count + broken, ids))
}

#[cfg(test)]
mod tests;
