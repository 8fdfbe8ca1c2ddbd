//! Class folders: `[train|val|test/]GLOSS/CLIP.mp4`, with any ending of a clip.
//!
//! The name of the folder is the gloss. A list of the classes, such as `labels.txt`, `classes.txt` or
//! `class_list.txt`, gives their order. Each line has a class, or its number and the class. With numbers, the folders
//! may be named by number.

use super::clip_table::{table_bytes, too_many};
use super::dataset_rows::{ClipRow, DatasetRows, ROWS_MAX};
use super::file_tree::{FileTree, is_clip, split_of};
use super::format::{DatasetFormat, Recognition};
use super::text_encoding::FillBytes;
use super::wlasl::{self, MetadataError};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// File names of class lists.
const LISTS: [&str; 4] = [
    "labels.txt",
    "classes.txt",
    "class_list.txt",
    "class_names.txt",
];

/// Names of folders that hold all clips without classes, as in other formats.
const CLIP_FOLDERS: [&str; 6] = ["videos", "video", "clips", "raw_videos", "data", "dataset"];

/// Largest number of names in a warning.
const SHOWN_MAX: usize = 5;

/// The reader of class folders.
pub(super) struct Folders;

/// Split and class in a path of this layout; `None` for other paths. The split is empty for `GLOSS/CLIP`.
fn parts(path: &str) -> Option<(&'static str, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    if !is_clip(name) {
        return None;
    }
    match folder.split_once('/') {
        None => Some(("", folder)),
        Some((split, class)) if !class.contains('/') => Some((split_of(split)?, class)),
        Some(_) => None,
    }
}

/// Whether a top folder is a split: it has a name of a split, and its subfolders hold clips.
fn has_splits(files: &FileTree) -> bool {
    files
        .clips()
        .filter_map(parts)
        .any(|(split, _)| !split.is_empty())
}

/// Split and class of a path. With `has_splits`, a top folder with the name of a split is not a class.
fn split_and_class(path: &str, has_splits: bool) -> Option<(&'static str, &str)> {
    let found = parts(path);
    found.filter(|(split, class)| !split.is_empty() || !has_splits || split_of(class).is_none())
}

fn classes(files: &FileTree) -> BTreeSet<&str> {
    let has_splits = has_splits(files);
    let found = files
        .clips()
        .filter_map(|path| split_and_class(path, has_splits));
    found.map(|(_, class)| class).collect()
}

impl DatasetFormat for Folders {
    fn recognise(&self, files: &FileTree) -> Result<Recognition, String> {
        let classes = classes(files);
        let Some(first) = classes.first() else {
            return Err(
                "no clip is in a folder of its class, as GLOSS/1.mp4 or train/GLOSS/1.mp4"
                    .to_owned(),
            );
        };
        let tables = LISTS.iter().filter(|list| files.contains(list));
        let why = match classes.len() {
            1 => format!("clips are in the folder {first}"),
            count => format!("clips are in {count} folders, {first} among them"),
        };
        Ok(Recognition {
            why,
            tables: tables.take(1).map(|list| Box::from(*list)).collect(),
            ..Recognition::default()
        })
    }

    fn is_sure(&self, files: &FileTree) -> bool {
        let classes = classes(files);
        let is_metadata =
            |path: &str| path.ends_with(wlasl::FILE_NAME) || wlasl::is_metadata(files.head(path));
        let has_metadata = files.paths().any(is_metadata);
        let has_splits = has_splits(files);
        let read = files
            .clips()
            .filter(|path| split_and_class(path, has_splits).is_some())
            .count();
        let is_only_clips = classes
            .iter()
            .all(|class| CLIP_FOLDERS.contains(&class.to_lowercase().as_str()));
        !has_metadata && !is_only_clips && read * 2 >= files.clips().count()
    }

    fn read(
        &self,
        _table: &str,
        fill: &mut FillBytes<'_>,
        rows: &mut DatasetRows,
    ) -> Result<(), MetadataError> {
        let bytes = table_bytes(fill)?;
        let text = str::from_utf8(&bytes).map_err(|_| {
            MetadataError::Table("it is not UTF-8: is the file in Latin-1?".to_owned())
        })?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let numbered: Option<Vec<(usize, &str)>> = lines.clone().map(numbered).collect();
        rows.has_numbers = numbered.is_some();
        let names: Vec<&str> = match numbered {
            Some(mut numbered) => {
                numbered.sort_unstable();
                let is_whole = numbered
                    .iter()
                    .zip(0..)
                    .all(|((number, _), index)| *number == index);
                if !is_whole {
                    let problem =
                        "the numbers of the classes must go from 0 without a gap or a repetition";
                    return Err(MetadataError::Table(problem.to_owned()));
                }
                numbered.into_iter().map(|(_, name)| name).collect()
            }
            None => lines.collect(),
        };
        if names.len() > ROWS_MAX {
            return Err(too_many());
        }
        let mut seen = HashSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(**name)) {
            return Err(MetadataError::Table(format!(
                "the class {twice:?} is there twice"
            )));
        }
        rows.class_order = Some(names.into_iter().map(Arc::from).collect());
        Ok(())
    }

    fn complete(&self, files: &FileTree, rows: &mut DatasetRows) -> Result<(), MetadataError> {
        let has_splits = has_splits(files);
        let is_number = |class: &str| class.parse::<usize>().is_ok();
        let names: HashSet<&str> = { rows.class_order.iter().flatten() }
            .map(|name| &**name)
            .collect();
        let mut found = classes(files).into_iter();
        let are_numbers = found.all(|class| is_number(class) && !names.contains(class));
        if rows.class_order.is_some() && !rows.has_numbers && are_numbers {
            rows.class_order = None;
            rows.warnings.push(
                "the list of classes is not used: the class folders have numbers as names, and it has none; write the number \
                 before each class, as in `0 book`"
                    .to_owned(),
            );
        }
        let order = rows.class_order.clone();
        let known: HashSet<&str> = order.iter().flatten().map(|name| &**name).collect();
        let mut clips: Vec<(usize, &str, &str)> = Vec::new();
        let mut others = Vec::new();
        for path in files.clips() {
            match split_and_class(path, has_splits) {
                Some((split, class)) => {
                    let splits = ["", "train", "val", "test"];
                    let rank = splits.iter().position(|known| *known == split);
                    clips.push((rank.unwrap_or(0), class, path));
                }
                None => others.push(path),
            }
        }
        // Sort by class, then by split.
        clips.sort_unstable_by_key(|(rank, class, path)| (*class, *rank, *path));
        let mut unlisted = BTreeSet::new();
        for (_, class, path) in &clips {
            let numbered = order
                .as_ref()
                .filter(|_| rows.has_numbers)
                .and_then(|names| names.get(class.parse::<usize>().ok()?));
            let gloss = match (known.contains(class), numbered) {
                (false, Some(name)) => name.to_string(),
                _ => (*class).to_owned(),
            };
            let mut row = ClipRow {
                paths: vec![(*path).to_owned()],
                split: parts(path).map_or("", |(split, _)| split).to_owned(),
                ..ClipRow::default()
            };
            if order.is_some() && !known.contains(gloss.as_str()) {
                unlisted.insert(*class);
                row.refused = Some(format!("the class {class} is not in the list of classes"));
            }
            row.gloss = gloss;
            if rows.is_full() {
                return Err(too_many());
            }
            rows.push(row);
        }
        let levels = if has_splits { 2 } else { 1 };
        let folder_of = |path: &str| {
            let end = path.match_indices('/').nth(levels - 1)?.0;
            path.get(..end).map(str::to_owned)
        };
        let filled: HashSet<String> = files.clips().filter_map(folder_of).collect();
        let is_class = |folder: &&str| {
            folder.matches('/').count() + 1 == levels
                && (levels == 1 || folder.split('/').next().and_then(split_of).is_some())
        };
        let empty = { files.folders() }
            .filter(is_class)
            .filter(|folder| !filled.contains(*folder));
        warn(
            rows,
            &empty.collect::<Vec<_>>(),
            "class folders have no clip",
        );
        warn(
            rows,
            &unlisted.into_iter().collect::<Vec<_>>(),
            "class folders are not in the list of classes and are not processed",
        );
        warn(
            rows,
            &others,
            "clips are not directly in a class folder and are not read: move them to GLOSS/ or SPLIT/GLOSS/",
        );
        let present: HashSet<String> = rows.glosses().map(str::to_owned).collect();
        let absent = order
            .iter()
            .flatten()
            .filter(|name| !present.contains(&***name));
        warn(
            rows,
            &absent.map(|name| &**name).collect::<Vec<_>>(),
            "classes of the list have no folder with clips",
        );
        Ok(())
    }
}

/// Number and name of the class in a line of a list; `None` when the line has no number.
fn numbered(line: &str) -> Option<(usize, &str)> {
    let (number, name) = line.split_once([' ', '\t', ',', ';', ':'])?;
    let name = name.trim();
    (!name.is_empty()).then_some((number.parse().ok()?, name))
}

/// Adds a warning about `found`, unless it is empty.
fn warn(rows: &mut DatasetRows, found: &[&str], what: &str) {
    if found.is_empty() {
        return;
    }
    let shown = found[..found.len().min(SHOWN_MAX)].join(", ");
    let more = if found.len() > SHOWN_MAX { ", …" } else { "" };
    rows.warnings
        .push(format!("{} {what}: {shown}{more}", found.len()));
}
