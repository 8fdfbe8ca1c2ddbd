//! The files of a dataset whose tables or folders give the paths of the clips, and the content of its tables.

use super::locations::{Location, io_error, is_below};
use super::{DatasetError, Metadata};
use crate::dataset::dataset_rows::{ClipPaths, DatasetRows, TABLES_BYTES_MAX};
use crate::dataset::file_tree::FileTree;
use crate::dataset::format::{FormatName, Recognition};
use crate::digest::Hasher;
use crate::sequence::options::NamedChoice;
use crate::video::dataset_search::{self, SearchLimits};
use std::fs;
use std::io::Read;
use std::path::Path;

/// Limits of the number and depth of listed files and folders.
const LIMITS: SearchLimits = SearchLimits {
    depth: 8,
    entries: 500_000,
};

/// Bytes of a table's start by which its format is recognised.
const HEAD_BYTES: u64 = 16 * 1024;

/// Maximum size of a file in an archive whose start is read, in bytes.
const HEADED_BYTES_MAX: u64 = 1 << 30;

/// Maximum number of tables whose start is read.
const HEADS_MAX: usize = 64;

/// The files in a folder.
#[derive(Debug)]
pub(super) struct TreeListing {
    pub(super) files: FileTree,
    /// Warnings about files that are not listed.
    pub(super) warnings: Vec<String>,
}

impl TreeListing {
    /// Lists the folder at `root`.
    pub(super) fn of(root: &Location) -> Result<Self, DatasetError> {
        let (mut paths, mut folders, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        let mut links = Vec::new();
        match root {
            Location::Archive(archive, folder) => {
                let names = archive.names();
                paths.extend(names.filter_map(|name| match folder.as_str() {
                    "" => Some(Box::from(name)),
                    folder if is_below(name, folder) => Some(name[folder.len() + 1..].into()),
                    _ => None,
                }));
            }
            Location::Disk(folder) => {
                fs::read_dir(folder).map_err(io_error(folder))?;
                let mut unnamed = 0;
                let walked = dataset_search::walk(folder, LIMITS, &mut |path, bytes| {
                    let inside = path.strip_prefix(folder).ok().and_then(Path::to_str);
                    match (inside, bytes) {
                        (Some(path), Some(_)) => paths.push(path.into()),
                        (Some(path), None) => folders.push(path.into()),
                        (None, _) => unnamed += 1,
                    }
                });
                if unnamed > 0 {
                    warnings.push(format!(
                        "{unnamed} files and folders have names that are not UTF-8 and are not read: rename them"
                    ));
                }
                links = walked.links;
                for path in links.iter_mut().flat_map(|(link, path)| [link, path]) {
                    *path = path.strip_prefix(folder).unwrap_or(path).to_owned();
                }
                if walked.incomplete {
                    let SearchLimits { depth, entries } = LIMITS;
                    warnings.push(format!(
                        "not all files were listed: {depth} folder levels, {entries} files and what can be read are"
                    ));
                }
            }
        }
        let mut files = FileTree::new(paths, folders);
        for (link, folder) in &links {
            if let (Some(link), Some(folder)) = (link.to_str(), folder.to_str()) {
                files.add_link(link, folder);
            }
        }
        // Other files in JSON must not hide a list of clips.
        let tables = files.tables(&[".csv", ".tsv"]);
        let tables = tables.chain(files.tables(&[".json"])).take(HEADS_MAX);
        let tables: Vec<String> = tables.map(str::to_owned).collect();
        for table in tables {
            files.set_head(&table, head(&root.child(&table)));
        }
        Ok(Self { files, warnings })
    }
}

/// The start of a file. An unreadable file counts as empty; reading it as a table later reports the error.
pub(super) fn head(file: &Location) -> Vec<u8> {
    let mut head = Vec::new();
    let read = |content: &mut dyn Read| content.take(HEAD_BYTES).read_to_end(&mut head).is_ok();
    let is_read = file.read(HEADED_BYTES_MAX, read).unwrap_or(false);
    if is_read { head } else { Vec::new() }
}

/// Reads the tables of `found` in the folder at `root`, and finds the clips in `clips`.
pub(super) fn read(
    root: &Location,
    format: FormatName,
    found: &Recognition,
    clips: TreeListing,
) -> Result<(Metadata, ClipPaths), DatasetError> {
    let reader = format.reader();
    let mut rows = DatasetRows::default();
    let mut sha256 = Hasher::default();
    sha256.update(format.name().as_bytes());
    let mut bytes = 0;
    let failed = |table: &str, source| DatasetError::Metadata {
        path: root.child(table).shown(),
        source,
    };
    for table in &found.tables {
        sha256.update(format!("\n{table}\n").as_bytes());
        let read = root.child(table).read(u64::MAX - 1, |content| {
            let mut fill = |buffer: &mut [u8]| {
                let count = content.read(buffer).map_err(|error| error.to_string())?;
                sha256.update(&buffer[..count]);
                bytes += count as u64;
                if bytes > TABLES_BYTES_MAX {
                    return Err(format!(
                        "the tables of the dataset have more than the {TABLES_BYTES_MAX} bytes allowed together: divide it, and \
                         give each part by itself"
                    ));
                }
                Ok(count)
            };
            reader.read(table, &mut fill, &mut rows)
        })?;
        read.map_err(|source| failed(table, source))?;
    }
    if format == FormatName::Folders {
        for clip in clips.files.clips() {
            sha256.update(format!("\n{clip}").as_bytes());
        }
    }
    reader
        .complete(&clips.files, &mut rows)
        .map_err(|source| failed("", source))?;
    let (mut contents, paths) = rows.finish(&clips.files);
    contents.warnings.extend(clips.warnings);
    contents.warnings.extend(found.warnings.iter().cloned());
    let metadata = Metadata {
        entries: contents.entries,
        class_order: contents.class_order,
        warnings: contents.warnings,
        sha256: sha256.hex(),
    };
    Ok((metadata, paths))
}
