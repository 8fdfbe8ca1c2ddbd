//! Locations of the parts of a dataset: on disk or in an archive, at their expected paths or where the user
//! specifies.

use super::DatasetError;
use super::listing::ClipListing;
use crate::dataset::advice;
use crate::dataset::wlasl::FILE_NAME;
use crate::video::archive::{Archive, ArchiveError};
use crate::video::clip_file::open_regular;
use crate::video::dataset_search::{self, DatasetCandidates, SEARCH_LIMITS, VIDEOS_NAME};
use std::fs::{self, FileType};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Ending of a clip's file name, after the video id.
pub(super) const CLIP_SUFFIX: &str = ".mp4";

/// A file or a folder.
#[derive(Clone, Debug)]
pub(super) enum Location {
    Disk(PathBuf),
    /// Path in an archive, without `/` at its end; empty for the top.
    Archive(Arc<Archive>, String),
}

impl Location {
    /// The folder of the dataset at `path`, which is a folder or an archive.
    pub(super) fn of_dataset(path: &Path) -> Result<Self, DatasetError> {
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
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(reason) = advice::of_archive(&name, archive.names()) {
            let path = path.to_owned();
            return Err(ArchiveError::OtherKind { path, reason }.into());
        }
        let folder = dataset_search::dataset_folder(archive.names());
        let folder = folder.unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self::Archive(Arc::new(archive), folder))
    }

    /// The part that a user specifies by `given`: a path on disk, a name in the archive, or a name after the
    /// archive's path, as errors show it.
    pub(super) fn part(&self, given: &Path, is_on_disk: bool) -> Self {
        match self {
            Self::Archive(archive, _) if !is_on_disk => {
                let inside = given.strip_prefix(archive.path()).unwrap_or(given);
                let name = inside.to_string_lossy().trim_matches('/').to_owned();
                Self::Archive(Arc::clone(archive), name)
            }
            _ => Self::Disk(given.to_owned()),
        }
    }

    /// The location `name` in this folder.
    pub(super) fn child(&self, name: &str) -> Self {
        match self {
            Self::Disk(path) => Self::Disk(path.join(name)),
            Self::Archive(archive, folder) => {
                let slash = if folder.is_empty() { "" } else { "/" };
                Self::Archive(Arc::clone(archive), format!("{folder}{slash}{name}"))
            }
        }
    }

    /// The location `name` in the folder of this file.
    pub(super) fn beside(&self, name: &str) -> Self {
        match self {
            Self::Disk(path) => Self::Disk(path.with_file_name(name)),
            Self::Archive(archive, file) => {
                let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
                Self::Archive(Arc::clone(archive), folder.to_owned()).child(name)
            }
        }
    }

    /// Reads the content of a file of `limit` bytes at most.
    pub(super) fn content(&self, limit: u64) -> Result<Vec<u8>, DatasetError> {
        let mut bytes = Vec::new();
        let path = self.shown();
        let size = self.read(limit, |content| content.read_to_end(&mut bytes))?;
        let size = size.map_err(io_error(&path))?;
        if size as u64 > limit {
            let source = io::Error::other(format!("it has more than the {limit} bytes allowed"));
            return Err(io_error(&path)(source));
        }
        Ok(bytes)
    }

    /// The last name of its path.
    pub(super) fn name(&self) -> String {
        let shown = self.shown();
        let name = shown.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Its path for messages.
    pub(super) fn shown(&self) -> PathBuf {
        match self {
            Self::Disk(path) => path.clone(),
            Self::Archive(archive, name) => archive.path().join(name),
        }
    }

    pub(super) fn is_file(&self) -> bool {
        match self {
            Self::Disk(path) => path.is_file(),
            Self::Archive(archive, name) => archive.size(name).is_some(),
        }
    }

    pub(super) fn is_folder(&self) -> bool {
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

    /// Lets `consume` read the content of a file, of `limit` bytes at most, and returns its result.
    pub(super) fn read<T>(
        &self,
        limit: u64,
        consume: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T, DatasetError> {
        match self {
            Self::Archive(archive, name) => Ok(archive.read(name, limit, consume)?),
            Self::Disk(path) => {
                let file = open_regular(path).map_err(io_error(path))?;
                // The limit also holds when the file grows while it is read.
                Ok(consume(&mut file.take(limit + 1)))
            }
        }
    }

    /// The clips in a folder.
    pub(super) fn list(&self) -> Result<ClipListing, DatasetError> {
        let mut listing = ClipListing::default();
        match self {
            Self::Archive(archive, folder) => {
                let names = archive.names().filter(|name| is_below(name, folder));
                for name in names.map(|name| &name[folder.len() + 1..]) {
                    if name.contains('/') {
                        listing.add_other(name);
                    } else {
                        listing.add(name, false);
                    }
                }
            }
            Self::Disk(folder) => {
                for item in fs::read_dir(folder).map_err(io_error(folder))? {
                    let item = item.map_err(io_error(folder))?;
                    let kind = item.file_type();
                    // A video id is valid UTF-8, so no other name can be one.
                    if let Some(name) = item.file_name().to_str() {
                        let is_link = kind.as_ref().is_ok_and(FileType::is_symlink);
                        listing.add(name, is_link && !item.path().exists());
                    }
                    if kind.is_ok_and(|kind| kind.is_dir()) {
                        dataset_search::walk(&item.path(), SEARCH_LIMITS, &mut |path, bytes| {
                            let inside = path.strip_prefix(folder).ok().and_then(Path::to_str);
                            if let (Some(path), Some(_)) = (inside, bytes) {
                                listing.add_other(path);
                            }
                        });
                    }
                }
            }
        }
        Ok(listing)
    }

    /// Where the parts of the dataset in this folder may be.
    pub(super) fn search(&self) -> DatasetCandidates {
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
pub(super) fn is_below(name: &str, folder: &str) -> bool {
    let inside = name.strip_prefix(folder).filter(|_| !folder.is_empty());
    inside.is_some_and(|inside| inside.starts_with('/'))
}

/// Locates the metadata file and the folder of clips of the WLASL dataset at `root`, or where the user specifies.
pub(super) fn locate(
    root: &Location,
    json_override: Option<&Path>,
    videos_override: Option<&Path>,
) -> Result<(Location, Location), DatasetError> {
    let json = json_override.map_or_else(
        || root.child(FILE_NAME),
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

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + '_ {
    move |source| DatasetError::Io {
        path: path.to_owned(),
        source,
    }
}
