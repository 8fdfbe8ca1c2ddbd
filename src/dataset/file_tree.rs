//! The files of a dataset by path, as the readers of formats see them.

use super::json_reader::excerpt;
use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// File name endings of clips, in lower case.
pub const CLIP_SUFFIXES: [&str; 9] = [
    ".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".flv", ".mpg", ".mpeg",
];

/// Names of folders and values in tables that stand for a split.
const SPLITS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("val", &["val", "valid", "validation", "dev"]),
    ("test", &["test", "testing"]),
];

/// Longest path of a clip, in bytes, as in Linux.
const PATH_BYTES_MAX: usize = 4095;

/// Largest number of links that a path is followed through.
const LINKS_MAX: usize = 8;

/// The files of a dataset. Paths are relative to its folder, with `/` between folders.
#[derive(Debug, Default)]
pub struct FileTree {
    /// Paths of the files, sorted.
    paths: Vec<Box<str>>,
    folders: BTreeSet<Box<str>>,
    heads: BTreeMap<Box<str>, Vec<u8>>,
    /// Links to folders that are listed under another path: the path of the link and that other path.
    links: HashMap<Box<str>, Box<str>>,
    /// Indices in `paths`, by file name in lower case without ending.
    by_stem: OnceCell<HashMap<Box<str>, Vec<usize>>>,
}

impl FileTree {
    /// The tree of the files at `paths` and of `folders`, which may be empty. Hidden files and macOS resource files
    /// are left out.
    pub fn new(
        paths: impl IntoIterator<Item = Box<str>>,
        folders: impl IntoIterator<Item = Box<str>>,
    ) -> Self {
        let is_own =
            |path: &str| !{ path.split('/') }.any(|n| n.starts_with('.') || n == "__MACOSX");
        let mut paths: Vec<Box<str>> = paths.into_iter().filter(|path| is_own(path)).collect();
        paths.sort_unstable();
        let mut folders: BTreeSet<Box<str>> =
            folders.into_iter().filter(|path| is_own(path)).collect();
        for path in &paths {
            let above = path.match_indices('/').map(|(at, _)| &path[..at]);
            folders.extend(above.map(Box::from));
        }
        Self {
            paths,
            folders,
            ..Self::default()
        }
    }

    /// The paths of the files, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(AsRef::as_ref)
    }

    /// The paths of the clips, sorted.
    pub fn clips(&self) -> impl Iterator<Item = &str> {
        self.paths().filter(|path| is_clip(path))
    }

    /// The paths of the folders, sorted.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.folders.iter().map(AsRef::as_ref)
    }

    /// The files directly in the dataset's folder whose names have one of the endings `suffixes`, ignoring case.
    pub fn tables(&self, suffixes: &[&str]) -> impl Iterator<Item = &str> {
        let at_top = self.paths().filter(|path| !path.contains('/'));
        at_top.filter(move |path| has_suffix(path, suffixes))
    }

    /// Records that the folder at `link` is the one that is listed as `folder`.
    pub fn add_link(&mut self, link: &str, folder: &str) {
        self.links.insert(link.into(), folder.into());
    }

    /// The listed path of the file at `path`, which may go through links.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&str> {
        let mut path = Cow::Borrowed(path);
        for _ in 0..=LINKS_MAX {
            if let Ok(at) = self.paths.binary_search_by(|known| (**known).cmp(&*path)) {
                return Some(&self.paths[at]);
            }
            let mut ends = path.match_indices('/');
            let (folder, rest) =
                ends.find_map(|(at, _)| Some((self.links.get(&path[..at])?, &path[at + 1..])))?;
            let slash = if folder.is_empty() { "" } else { "/" };
            path = Cow::Owned(format!("{folder}{slash}{rest}"));
        }
        None
    }

    /// Whether there is a file at `path`.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.paths
            .binary_search_by(|known| (**known).cmp(path))
            .is_ok()
    }

    /// The only folder at the top, if no clip and no table lies beside it. Archives often have such a folder.
    #[must_use]
    pub fn only_folder(&self) -> Option<&str> {
        let mut tops = self.folders().filter(|folder| !folder.contains('/'));
        let only = tops.next().filter(|_| tops.next().is_none())?;
        let is_bare = self.tables(&CLIP_SUFFIXES).next().is_none()
            && self.tables(&[".csv", ".tsv", ".json"]).next().is_none();
        is_bare.then_some(only)
    }

    /// Sets the first bytes of the file at `path`.
    pub fn set_head(&mut self, path: &str, head: Vec<u8>) {
        self.heads.insert(path.into(), head);
    }

    /// Whether the first bytes of the file at `path` were read.
    #[must_use]
    pub fn has_head(&self, path: &str) -> bool {
        self.heads.contains_key(path)
    }

    /// The first bytes of the file at `path`; empty when they were not read.
    #[must_use]
    pub fn head(&self, path: &str) -> &[u8] {
        self.heads.get(path).map_or(&[], Vec::as_slice)
    }

    /// The clips in any folder whose names without ending equal `stem`, ignoring case.
    #[must_use]
    pub fn clips_named(&self, stem: &str) -> Vec<&str> {
        let by_stem = self.by_stem.get_or_init(|| {
            let mut by_stem: HashMap<Box<str>, Vec<usize>> = HashMap::new();
            let paths = self.paths.iter().enumerate();
            for (index, path) in paths.filter(|(_, path)| is_clip(path)) {
                let stem = stem_of(path).to_lowercase();
                by_stem.entry(stem.into()).or_default().push(index);
            }
            by_stem
        });
        let indexes = by_stem.get(stem.to_lowercase().as_str());
        let indexes = indexes.map_or(&[][..], Vec::as_slice);
        indexes.iter().map(|index| &*self.paths[*index]).collect()
    }
}

/// Whether the file name at `path` has the ending of a clip.
#[must_use]
pub fn is_clip(path: &str) -> bool {
    has_suffix(path, &CLIP_SUFFIXES)
}

/// Whether `name` ends in one of `suffixes`, ignoring case, and has something before it.
#[must_use]
pub fn has_suffix(name: &str, suffixes: &[&str]) -> bool {
    let name = name.as_bytes();
    suffixes.iter().any(|suffix| {
        let start = name.len().checked_sub(suffix.len());
        let end = start
            .filter(|start| *start > 0)
            .and_then(|start| name.get(start..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
    })
}

/// The name of the file at `path`. The ending of a clip is removed.
#[must_use]
pub fn stem_of(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    match name.rsplit_once('.') {
        Some((stem, _)) if is_clip(name) => stem,
        _ => name,
    }
}

/// The split that `name` stands for; `None` when it stands for none.
#[must_use]
pub fn split_of(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let mut splits = SPLITS.iter();
    let found = splits.find(|(_, names)| names.contains(&name.as_str()));
    found.map(|(split, _)| *split)
}

/// Normalizes `path`, or returns why it is not a path within the dataset.
pub(super) fn path_below(path: &str) -> Result<String, String> {
    let shown = || excerpt(path);
    let path = path.trim();
    if path.is_empty() {
        return Err("it names no file".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!(
            "its path has more than the {PATH_BYTES_MAX} bytes allowed"
        ));
    }
    if path.contains(['\0', '\n', '\r']) {
        return Err("its path has a line break: is a closing quote missing?".to_owned());
    }
    // Tables from Windows programs have backslashes in paths.
    let slashes = if path.contains('/') {
        path.to_owned()
    } else {
        path.replace('\\', "/")
    };
    let is_drive = slashes.as_bytes().get(1) == Some(&b':') && slashes.get(2..3) == Some("/");
    if slashes.starts_with('/') || is_drive {
        return Err(format!(
            "{} is an absolute path: write it relative to the folder of the dataset",
            shown()
        ));
    }
    let parts: Vec<_> = slashes
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if parts.contains(&"..") {
        return Err(format!(
            "{} leads out of the folder of the dataset: move the clip into it",
            shown()
        ));
    }
    Ok(parts.join("/"))
}
