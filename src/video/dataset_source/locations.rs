//! Locates the parts of a dataset: on disk or in an archive, at their expected paths or where the user says.

use super::{DatasetError, JSON_NAME, VIDEOS_NAME};
use crate::video::archive::Archive;
use crate::video::dataset_search;
use crate::video::dataset_search::DatasetCandidates;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Location of one part of a dataset.
#[derive(Debug)]
pub(super) enum PartLocation {
    Disk(PathBuf),
    /// Name of a file, or of a folder with `/` at its end, in an archive.
    Archive(Arc<Archive>, String),
}

impl PartLocation {
    /// Its path for messages.
    pub(super) fn shown(&self) -> PathBuf {
        match self {
            Self::Disk(path) => path.clone(),
            Self::Archive(archive, name) => archive.path().join(name.trim_end_matches('/')),
        }
    }
}

/// Locates the metadata file and the folder of clips in the folder `root`, or where the user says.
pub(super) fn in_folder(
    root: &Path,
    json_override: Option<&Path>,
    videos_override: Option<&Path>,
) -> Result<(PartLocation, PartLocation), DatasetError> {
    let json = json_override.map_or_else(|| root.join(JSON_NAME), Path::to_owned);
    let videos = videos_override.map_or_else(|| root.join(VIDEOS_NAME), Path::to_owned);
    if !json.is_file() {
        return Err(DatasetError::NoJson {
            expected: json,
            candidates: Box::new(search_folder(root)),
        });
    }
    if !videos.is_dir() {
        return Err(DatasetError::NoVideos {
            expected: videos,
            candidates: Box::new(search_folder(root)),
        });
    }
    Ok((PartLocation::Disk(json), PartLocation::Disk(videos)))
}

/// Locates them in an archive.
pub(super) fn in_archive(
    archive: &Arc<Archive>,
    json_override: Option<&Path>,
    videos_override: Option<&Path>,
) -> Result<(PartLocation, PartLocation), DatasetError> {
    let top = dataset_search::dataset_folder(archive.names(), JSON_NAME, VIDEOS_NAME);
    let inside = |name: String| PartLocation::Archive(Arc::clone(archive), name);
    let json = match json_override {
        Some(given) if given.is_file() => Some(PartLocation::Disk(given.to_owned())),
        Some(given) => entry_name(archive, given)
            .filter(|name| archive.size(name).is_some())
            .map(inside),
        None => top.map(|top| inside(format!("{top}{JSON_NAME}"))),
    };
    let json = json.ok_or_else(|| DatasetError::NoJson {
        expected: json_override.map_or_else(|| archive.path().join(JSON_NAME), Path::to_owned),
        candidates: Box::new(search_archive(archive)),
    })?;
    let folder_in_archive = |name: String| {
        let folder = format!("{name}/");
        let there = archive.names().any(|name| name.starts_with(&folder));
        there.then(|| inside(folder))
    };
    let expected = format!("{}{VIDEOS_NAME}", top.unwrap_or_default());
    let videos = match videos_override {
        Some(given) if given.is_dir() => Some(PartLocation::Disk(given.to_owned())),
        Some(given) => entry_name(archive, given).and_then(folder_in_archive),
        None => folder_in_archive(expected.clone()),
    };
    let videos = videos.ok_or_else(|| DatasetError::NoVideos {
        expected: videos_override.map_or_else(|| archive.path().join(&expected), Path::to_owned),
        candidates: Box::new(search_archive(archive)),
    })?;
    Ok((json, videos))
}

/// The entry of `archive` that a user means by `given`: its name, or its name after the archive's path, as errors show it.
fn entry_name(archive: &Archive, given: &Path) -> Option<String> {
    let inside = given.strip_prefix(archive.path()).unwrap_or(given);
    Some(inside.to_str()?.trim_matches('/').to_owned())
}

fn search_folder(root: &Path) -> DatasetCandidates {
    DatasetCandidates::in_folder(root, JSON_NAME, VIDEOS_NAME)
}

fn search_archive(archive: &Archive) -> DatasetCandidates {
    let files = archive
        .names()
        .map(|name| (archive.path().join(name), archive.size(name).unwrap_or(0)));
    DatasetCandidates::among(archive.path(), files, JSON_NAME, VIDEOS_NAME)
}
