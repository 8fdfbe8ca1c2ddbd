//! Searches a folder or an archive for the parts of a dataset that are not at their expected paths.
//!
//! The search is bounded. It finds candidates for an error message; the user decides.

use crate::dataset::file_tree::CLIP_SUFFIXES;
use crate::dataset::wlasl::FILE_NAME;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the folder of clips, next to the metadata file.
pub(super) const VIDEOS_NAME: &str = "videos";

/// Limits of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct SearchLimits {
    /// Number of folder levels.
    pub(super) depth: usize,
    /// Number of files and folders.
    pub(super) entries: usize,
}

/// Limits of the search for parts of a dataset.
pub(super) const SEARCH_LIMITS: SearchLimits = SearchLimits {
    depth: 4,
    entries: 200_000,
};

/// Number of candidates that an error lists.
const SHOWN_MAX: usize = 8;

/// File name endings that the notebook counts as videos; case matters.
const VIDEO_SUFFIXES: [&str; 3] = [".mp4", ".avi", ".mov"];

/// Endings of files that may be archives of a dataset, in lower case.
const ARCHIVE_SUFFIXES: [&str; 12] = [
    ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar", ".gz",
    ".xz", ".z01",
];

/// Paths where the missing parts may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetCandidates {
    /// The searched folder or archive.
    pub searched: PathBuf,
    /// JSON files and their size in bytes, the likeliest first.
    pub json_files: Vec<(PathBuf, u64)>,
    /// Folders and the number of videos directly in them, the fullest first.
    pub video_folders: Vec<(PathBuf, usize)>,
    /// Archives of any kind directly in the folder or archive that was searched.
    pub archives: Vec<PathBuf>,
    /// Folders that have both parts.
    pub datasets: Vec<PathBuf>,
    /// Whether the search left something out: too deep, too many files or not readable.
    pub incomplete: bool,
}

impl DatasetCandidates {
    /// Searches `root` for metadata files and videos.
    pub(super) fn in_folder(root: &Path) -> Self {
        let mut files = Vec::new();
        let Walked { incomplete, .. } = walk(root, SEARCH_LIMITS, &mut |path, bytes| {
            files.extend(bytes.map(|bytes| (path, bytes)));
        });
        Self {
            incomplete,
            ..Self::among(root, files.into_iter())
        }
    }

    /// The candidates among `files`, given with their size in bytes.
    pub(super) fn among(searched: &Path, files: impl Iterator<Item = (PathBuf, u64)>) -> Self {
        let mut json_files = Vec::new();
        let mut archives = Vec::new();
        let mut folders: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for (path, bytes) in files {
            if may_be_clip(&path)
                && let Some(folder) = path.parent()
            {
                *folders.entry(folder.to_owned()).or_default() += 1;
            } else if has_suffix(&path, &[".json"]) {
                json_files.push((path, bytes));
            } else if path.parent() == Some(searched) && has_suffix(&path, &ARCHIVE_SUFFIXES) {
                archives.push(path);
            }
        }
        let is_named = |path: &Path| path.file_name().is_some_and(|name| name == FILE_NAME);
        let mut datasets: Vec<PathBuf> = json_files
            .iter()
            .filter(|(path, _)| is_named(path))
            .filter_map(|(path, _)| path.parent())
            .filter(|folder| folders.contains_key(&folder.join(VIDEOS_NAME)))
            .map(Path::to_owned)
            .collect();
        datasets.sort_unstable();
        archives.sort_unstable();
        // The expected name first, then the largest: the metadata is ten times larger than its companion files.
        json_files.sort_by(|(a, a_bytes), (b, b_bytes)| {
            (!is_named(a), b_bytes, a).cmp(&(!is_named(b), a_bytes, b))
        });
        let mut video_folders: Vec<_> = folders.into_iter().collect();
        video_folders.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        Self {
            searched: searched.to_owned(),
            archives,
            json_files,
            video_folders,
            datasets,
            ..Self::default()
        }
    }

    /// Text at the end of an error about the metadata file.
    pub(super) fn json_advice(&self) -> String {
        let found = self
            .json_files
            .iter()
            .map(|(path, bytes)| format!("{} ({})", path.display(), megabytes(*bytes)));
        let mut advice = self.advice(found, "JSON file");
        if let (true, Some((folder, count))) =
            (self.json_files.is_empty(), self.video_folders.first())
        {
            let more = format!(
                "\n  {count} videos are in {videos}; if there is no metadata file, move each into a folder that has its gloss \
                 as name, {videos}/GLOSS/1.mp4, or list them in {searched}/list.csv, which begins with `path,gloss`",
                videos = folder.display(),
                searched = self.searched.display(),
            );
            advice.push_str(&more);
        }
        advice
    }

    /// Text at the end of an error about the folder of clips.
    pub(super) fn videos_advice(&self) -> String {
        let found = self
            .video_folders
            .iter()
            .map(|(path, count)| format!("{count} videos in {}", path.display()));
        self.advice(found, "video")
    }

    fn advice(&self, found: impl ExactSizeIterator<Item = String>, what: &str) -> String {
        let count = found.len();
        // In an archive, the dataset's own folder would be this archive.
        let datasets = self.datasets.iter().take(SHOWN_MAX).map(|folder| {
            let folder = folder.display();
            format!("a whole dataset is at {folder}: give that folder instead")
        });
        let found = found.take(SHOWN_MAX).map(|place| format!("found {place}"));
        let rest = match count {
            0 => {
                let searched = self.searched.display();
                Some(format!(
                    "and no {what} in {searched} either: is this the right path?"
                ))
            }
            _ if count > SHOWN_MAX => Some(format!("and {} more", count - SHOWN_MAX)),
            _ => None,
        };
        let archives = self.archives.iter().take(SHOWN_MAX).map(|path| {
            let archive = path.display();
            // An archive within an archive has no path of its own.
            let advice = if !path.is_file() {
                "within the archive: unpack it and give what is in it"
            } else if has_suffix(path, &[".zip"]) {
                "an archive: give it instead of the folder if the dataset is in it"
            } else {
                "an archive of a kind that is not read: unpack it if the dataset is in it, and give the folder"
            };
            format!("{archive} is {advice}")
        });
        let limits = self.incomplete.then(|| {
            let SearchLimits { depth, entries } = SEARCH_LIMITS;
            format!(
                "not everything was searched: the search covers {depth} folder levels, {entries} files and what can be read"
            )
        });
        // The first, empty line ends the line of the error itself.
        let lines = std::iter::once(String::new()).chain(datasets);
        let lines = lines.chain(found).chain(rest).chain(archives).chain(limits);
        lines.collect::<Vec<_>>().join("\n  ")
    }
}

/// Whether the notebook counts a file of this name as a video.
pub(super) fn is_video(name: &str) -> bool {
    VIDEO_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// A size as the notebook prints it.
pub(super) fn megabytes(bytes: u64) -> String {
    #[expect(
        clippy::cast_precision_loss,
        reason = "two decimals of a size for people"
    )]
    let size = bytes as f64 / (1024.0 * 1024.0);
    format!("{size:.2} MB")
}

/// The folder of the metadata file to use among an archive's `names`, with `/` at its end unless it is the top. The
/// least deep one is used; of several, one with the folder of clips next to it; of several of these, the first by
/// name.
pub(super) fn dataset_folder<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let with_videos: HashSet<&str> = names
        .clone()
        .filter_map(|name| name.rsplit_once('/')?.0.strip_suffix(VIDEOS_NAME))
        .collect();
    let tops = names.filter_map(|name| {
        let folder = name.strip_suffix(FILE_NAME)?;
        (folder.is_empty() || folder.ends_with('/')).then_some(folder)
    });
    tops.min_by_key(|folder| {
        (
            folder.matches('/').count(),
            !with_videos.contains(folder),
            *folder,
        )
    })
}

/// What a search left out.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// Whether something was left out.
    pub(super) incomplete: bool,
    /// Links to folders that are listed under another path, with that path.
    pub(super) links: Vec<(PathBuf, PathBuf)>,
}

/// Calls `found` with each file below `root` and its size in bytes, and with each folder and `None`.
///
/// Links to folders are followed, but no folder is entered twice: a folder comes before the links to it.
pub(super) fn walk(
    root: &Path,
    limits: SearchLimits,
    found: &mut dyn FnMut(PathBuf, Option<u64>),
) -> Walked {
    let mut walked = Walked::default();
    let mut entered: HashMap<(u64, u64), PathBuf> = HashMap::new();
    let mut folders = VecDeque::from([(root.to_owned(), 0)]);
    let mut links = VecDeque::new();
    let mut searched = 0;
    while let Some((folder, depth)) = folders.pop_front().or_else(|| links.pop_front()) {
        let identity = fs::metadata(&folder).map(|kind| (kind.dev(), kind.ino()));
        if let Some(first) = identity.as_ref().ok().and_then(|id| entered.get(id)) {
            walked.links.push((folder, first.clone()));
            continue;
        }
        let items = identity.and_then(|identity| {
            let items = fs::read_dir(&folder)?;
            entered.insert(identity, folder);
            Ok(items)
        });
        let Ok(items) = items else {
            walked.incomplete = true;
            continue;
        };
        // Sorted by name, so that the order does not depend on the file system.
        let mut paths = Vec::new();
        for item in items {
            searched += 1;
            if searched > limits.entries {
                walked.incomplete = true;
                break;
            }
            match item {
                Ok(item) => paths.push(item.path()),
                Err(_) => walked.incomplete = true,
            }
        }
        paths.sort_unstable();
        for path in paths {
            // Follows links; a broken link is no candidate.
            let Ok(kind) = fs::metadata(&path) else {
                continue;
            };
            if kind.is_dir() && depth < limits.depth {
                found(path.clone(), None);
                let next = if path.is_symlink() {
                    &mut links
                } else {
                    &mut folders
                };
                next.push_back((path, depth + 1));
            } else if kind.is_dir() {
                walked.incomplete = true;
            } else if kind.is_file() {
                found(path, Some(kind.len()));
            }
        }
        if searched > limits.entries {
            break;
        }
    }
    walked
}

/// Whether the file at `path` may be a clip, by its name.
pub(super) fn may_be_clip(path: &Path) -> bool {
    has_suffix(path, &CLIP_SUFFIXES)
}

/// Whether the file's name has one of the endings, in upper or lower case.
fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let name = name.map(|name| name.to_ascii_lowercase());
    name.is_some_and(|name| suffixes.iter().any(|suffix| name.ends_with(suffix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_deep_json_with_videos_beside_it_is_the_dataset() {
        let check = |names: &[&str], expected: Option<&str>| {
            let found = dataset_folder(names.iter().copied());
            assert_eq!(found, expected, "{names:?}");
        };
        check(&[], None);
        check(&["xWLASL_v0.3.json", "a/xWLASL_v0.3.json"], None);
        check(
            &["a/WLASL_v0.3.json", "WLASL_v0.3.json", "a/videos/1.mp4"],
            Some(""),
        );
        check(
            &["a/WLASL_v0.3.json", "b/WLASL_v0.3.json", "b/videos/1.mp4"],
            Some("b/"),
        );
        check(&["b/WLASL_v0.3.json", "a/WLASL_v0.3.json"], Some("a/"));
        check(&["a/b/c/WLASL_v0.3.json"], Some("a/b/c/"));
    }

    #[test]
    fn the_search_ends_at_its_depth_and_goes_through_no_link_twice() {
        let root = std::env::temp_dir().join(format!("handloom-search-{}", std::process::id()));
        fs::remove_dir_all(&root).ok();
        fs::create_dir_all(root.join("1/2/3/4/5")).unwrap();
        fs::write(root.join("1/2/3/4/yes.json"), "{}").unwrap();
        fs::write(root.join("1/2/3/4/5/no.json"), "{}").unwrap();
        std::os::unix::fs::symlink(&root, root.join("1/up")).unwrap();
        let found = DatasetCandidates::in_folder(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found.json_files, [(root.join("1/2/3/4/yes.json"), 2)]);
        assert!(found.incomplete);
        assert!(found.json_advice().contains("not everything was searched"));
        assert!(found.videos_advice().contains("no video in"));
    }
}
