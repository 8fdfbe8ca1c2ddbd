//! Locations of the parts of a dataset: on disk or in an archive, at their expected paths or where the user says.

use super::DatasetError;
use crate::video::archive::Archive;
use crate::video::dataset_search::{self, DatasetCandidates, JSON_NAME, VIDEOS_NAME};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ending of a clip's file name, after the video id.
pub(super) const CLIP_SUFFIX: &str = ".mp4";

/// A file or a folder.
#[derive(Debug)]
pub(super) enum Location {
    Disk(PathBuf),
    /// Its name in an archive, without `/` at its end; empty for the top.
    Archive(Arc<Archive>, String),
}

impl Location {
    /// The folder of the dataset at `path`, which is a folder or an archive.
    fn of_dataset(path: &Path) -> Result<Self, DatasetError> {
        let not_found = |source| DatasetError::NotFound {
            path: path.to_owned(),
            source,
        };
        let kind = fs::metadata(path).map_err(not_found)?;
        if kind.is_dir() {
            return Ok(Self::Disk(path.to_owned()));
        }
        // Opening a pipe would block.
        if !kind.is_file() {
            let source = io::Error::other("it is neither a folder nor a file");
            return Err(not_found(source));
        }
        let archive = Archive::open(path)?;
        let folder = dataset_search::dataset_folder(archive.names());
        let folder = folder.unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self::Archive(Arc::new(archive), folder))
    }

    /// The part that a user means by `given`: a path on disk, a name in the archive, or a name after the archive's path, as
    /// errors show it.
    fn part(&self, given: &Path, is_on_disk: bool) -> Self {
        match self {
            Self::Archive(archive, _) if !is_on_disk => {
                let inside = given.strip_prefix(archive.path()).unwrap_or(given);
                let name = inside.to_string_lossy().trim_matches('/').to_owned();
                Self::Archive(Arc::clone(archive), name)
            }
            _ => Self::Disk(given.to_owned()),
        }
    }

    /// What is named `name` in this folder.
    pub(super) fn child(&self, name: &str) -> Self {
        match self {
            Self::Disk(path) => Self::Disk(path.join(name)),
            Self::Archive(archive, folder) => {
                let slash = if folder.is_empty() { "" } else { "/" };
                Self::Archive(Arc::clone(archive), format!("{folder}{slash}{name}"))
            }
        }
    }

    /// Its path for messages.
    pub(super) fn shown(&self) -> PathBuf {
        match self {
            Self::Disk(path) => path.clone(),
            Self::Archive(archive, name) => archive.path().join(name),
        }
    }

    fn is_file(&self) -> bool {
        match self {
            Self::Disk(path) => path.is_file(),
            Self::Archive(archive, name) => archive.size(name).is_some(),
        }
    }

    fn is_folder(&self) -> bool {
        match self {
            Self::Disk(path) => path.is_dir(),
            Self::Archive(archive, folder) => archive.names().any(|name| is_below(name, folder)),
        }
    }

    /// Size of a file in bytes; 0 when it is unknown.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Disk(path) => fs::metadata(path).ok().map(|m| m.len()),
            Self::Archive(archive, name) => archive.size(name),
        };
        bytes.unwrap_or(0)
    }

    /// The content of a file, of `limit` bytes at most.
    pub(super) fn read(&self, limit: u64) -> Result<Vec<u8>, DatasetError> {
        match self {
            Self::Archive(archive, name) => Ok(archive.read(name, limit)?),
            Self::Disk(path) => {
                let mut bytes = Vec::new();
                // The limit holds also when the file grows while it is read.
                File::open(path)
                    .and_then(|file| file.take(limit).read_to_end(&mut bytes))
                    .map_err(io_error(path))?;
                Ok(bytes)
            }
        }
    }

    /// Number of videos in a folder, and the ids of those that the metadata can name.
    pub(super) fn list(&self) -> Result<(usize, HashSet<Box<str>>), DatasetError> {
        let mut count = 0;
        let mut ids = HashSet::new();
        let mut note = |name: &str, is_broken: bool| {
            count += usize::from(dataset_search::is_video(name));
            if let Some(id) = name.strip_suffix(CLIP_SUFFIX).filter(|_| !is_broken) {
                ids.insert(id.into());
            }
        };
        match self {
            Self::Archive(archive, folder) => archive
                .names()
                .filter(|name| is_below(name, folder))
                .map(|name| &name[folder.len() + 1..])
                .filter(|name| !name.contains('/'))
                .for_each(|name| note(name, false)),
            Self::Disk(folder) => {
                for item in fs::read_dir(folder).map_err(io_error(folder))? {
                    let item = item.map_err(io_error(folder))?;
                    // A video id is valid UTF-8, so another name belongs to none.
                    if let Some(name) = item.file_name().to_str() {
                        let is_link = item.file_type().is_ok_and(|kind| kind.is_symlink());
                        // A broken link is no clip, although the notebook counts it as a video.
                        note(name, is_link && !item.path().exists());
                    }
                }
            }
        }
        Ok((count, ids))
    }

    /// Where the parts of the dataset in this folder may be.
    fn search(&self) -> DatasetCandidates {
        match self {
            Self::Disk(root) => DatasetCandidates::in_folder(root),
            Self::Archive(archive, _) => {
                let size = |name| archive.size(name).unwrap_or(0);
                let files = archive
                    .names()
                    .map(|name| (archive.path().join(name), size(name)));
                DatasetCandidates::among(archive.path(), files)
            }
        }
    }
}

/// Whether the file `name` of an archive is in `folder` or below it.
fn is_below(name: &str, folder: &str) -> bool {
    let inside = name.strip_prefix(folder).filter(|_| !folder.is_empty());
    inside.is_some_and(|inside| inside.starts_with('/'))
}

/// Locates the metadata file and the folder of clips of the dataset at `path`, or where the user says.
pub(super) fn locate(
    path: &Path,
    json_override: Option<&Path>,
    videos_override: Option<&Path>,
) -> Result<(Location, Location), DatasetError> {
    let root = Location::of_dataset(path)?;
    let json = json_override.map_or_else(
        || root.child(JSON_NAME),
        |given| root.part(given, given.is_file()),
    );
    if !json.is_file() {
        return Err(DatasetError::NoJson {
            expected: json_override.map_or_else(|| json.shown(), Path::to_owned),
            candidates: Box::new(root.search()),
        });
    }
    let videos = videos_override.map_or_else(
        || root.child(VIDEOS_NAME),
        |given| root.part(given, given.is_dir()),
    );
    if !videos.is_folder() {
        return Err(DatasetError::NoVideos {
            expected: videos_override.map_or_else(|| videos.shown(), Path::to_owned),
            candidates: Box::new(root.search()),
        });
    }
    Ok((json, videos))
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + '_ {
    move |source| DatasetError::Io {
        path: path.to_owned(),
        source,
    }
}
