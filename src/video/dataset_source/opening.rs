//! Opens a dataset: detects its format, its tables and the folder of its clips.

use super::locations::{self, Location};
use super::tree::{self, TreeListing};
use super::{ClipListing, DatasetError, DatasetSource};
use crate::dataset::advice;
use crate::dataset::file_tree::has_suffix;
use crate::dataset::format::{FormatName, Recognition};
use crate::dataset::wlasl::FILE_NAME;
use crate::video::archive::MEMORY_BYTES_MAX;
use crate::video::dataset_search::VIDEOS_NAME;
use std::path::Path;

impl DatasetSource {
    /// Opens the dataset at `path`, a folder, a zip archive or a table of clips, and lists its clips. Without a
    /// `format`, the format is detected.
    ///
    /// `json_override` and `videos_override` replace the paths of the metadata file and the folder of clips: on disk,
    /// or names in the archive.
    ///
    /// # Errors
    /// Fails when a part is missing or cannot be read, or no format is recognised.
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
                    fix: advice::WITHOUT_METADATA.to_owned(),
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
            ..Recognition::default()
        };
        let root = Location::Disk(folder_of(table).to_owned());
        Self::read_tree(&root, FormatName::Csv, found, clips, None)
    }

    /// Opens the dataset in the folder at `root`. If the format is not found there, its only folder is tried.
    fn open_tree(
        path: &Path,
        mut root: Location,
        format: Option<FormatName>,
        clips: Option<Location>,
    ) -> Result<Self, DatasetError> {
        let mut listing = TreeListing::of(&root)?;
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
                    let inside = TreeListing::of(&inner)?;
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
        let (clips, listing) = match clips {
            Some(clips) => (clips, None),
            None => (root.clone(), Some(listing)),
        };
        Self::read_tree(&root, format, found, clips, listing)
    }

    fn read_tree(
        root: &Location,
        format: FormatName,
        found: Recognition,
        videos: Location,
        clips: Option<TreeListing>,
    ) -> Result<Self, DatasetError> {
        let clips = clips.map_or_else(|| TreeListing::of(&videos), Ok)?;
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

/// The error for a dataset at `path` whose `listing` has no known format, or not the `format` that the user requests.
fn unknown(
    path: &Path,
    root: &Location,
    listing: &TreeListing,
    format: Option<FormatName>,
    reason: String,
) -> DatasetError {
    let path = path.to_owned();
    if let Some(format) = format {
        return DatasetError::OtherFormat {
            path,
            format,
            fix: advice::of_other_format(FormatName::detect(&listing.files)),
            reason,
        };
    }
    let files = &listing.files;
    let has_table = files.tables(&[".csv", ".tsv"]).next().is_some();
    let is_wlasl = files.paths().any(|path| has_suffix(path, &[".json"]))
        || files.folders().any(|folder| folder == VIDEOS_NAME);
    let candidates = root.search();
    if !has_table && (is_wlasl || !candidates.archives.is_empty()) {
        return DatasetError::NoJson {
            expected: root.child(FILE_NAME).shown(),
            candidates: Box::new(candidates),
        };
    }
    let advice = advice::of_tree(files);
    DatasetError::Unknown { path, advice }
}
