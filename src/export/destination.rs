//! The folder of an export. Each file is whole or absent. A journal names the files that are written, so that an
//! interrupted export continues; `dataset.json`, written last, replaces it: a folder with that file is a whole export.

use super::{ExportError, write_json};
use crate::storage::StoreError;
use crate::storage::atomic_file::{
    HashingWriter, append_line, file_sha256, make_folder, open_plain, remove_partial_files,
    write_file,
};
use crate::storage::lock::{FolderLock, LOCK_NAME};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// What a whole export was made of, and the hashes of its files.
const DATASET_NAME: &str = "dataset.json";
/// The export that has begun, then one line a file that is written.
const JOURNAL_NAME: &str = ".export.jsonl";
/// The key of the files in `dataset.json`.
const FILES_KEY: &str = "files";

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct WrittenFile {
    name: String,
    sha256: String,
    /// Of the clip in it, where it has one alone: what `index.csv` says of it.
    facts: Vec<String>,
}

/// The folder of an export that this process alone writes.
pub(super) struct Destination {
    path: PathBuf,
    identity: Value,
    /// What the journal says, by name.
    known: BTreeMap<String, WrittenFile>,
    /// SHA-256 of the files of the export, by name.
    hashes: BTreeMap<String, String>,
    /// Folders in it that this process has made or cleared of partial files.
    folders: BTreeSet<PathBuf>,
    _lock: FolderLock,
}

impl Destination {
    /// Opens the folder `path` for the export `identity`; makes it when it is missing. Returns whether the export is whole
    /// already.
    ///
    /// # Errors
    /// When it holds anything else, another process works in it, or it cannot be written.
    pub(super) fn open(path: &Path, identity: Value) -> Result<(Self, bool), ExportError> {
        let finished = read_value(&path.join(DATASET_NAME))?;
        let journal = read(&path.join(JOURNAL_NAME))?;
        let mut lines = journal.split_inclusive(|byte| *byte == b'\n');
        let begun = lines.next().and_then(parse::<Value>);
        let is_other = match finished.as_ref().or(begun.as_ref()) {
            Some(found) => difference(found, &identity),
            None if is_empty(path)? => None,
            None => Some("other files".to_owned()),
        };
        if let Some(holds) = is_other {
            let path = path.to_path_buf();
            return Err(ExportError::Occupied { path, holds });
        }
        make_folder(path).map_err(ExportError::Write)?;
        let lock = FolderLock::take(path).map_err(ExportError::Write)?;
        // A crash may have cut off the last line; what follows such a line is not trusted.
        let known = lines.map_while(parse::<WrittenFile>);
        let known = known.map(|file| (file.name.clone(), file)).collect();
        let mut destination = Self {
            path: path.to_path_buf(),
            identity,
            known,
            hashes: BTreeMap::new(),
            folders: BTreeSet::new(),
            _lock: lock,
        };
        if let Some(finished) = finished {
            destination.verify(&finished[FILES_KEY])?;
            destination.remove_journal()?;
            return Ok((destination, true));
        }
        destination.write_journal()?;
        Ok((destination, false))
    }

    /// Whether the file `name` is written, as the journal says.
    pub(super) fn has(&mut self, name: &str) -> bool {
        let Some(file) = self.known.get(name) else {
            return false;
        };
        let is_intact = file_sha256(&self.path.join(name)).is_ok_and(|found| found == file.sha256);
        if is_intact {
            self.hashes.insert(name.to_owned(), file.sha256.clone());
        }
        is_intact
    }

    /// Writes the file `name`, which replaces one of that name.
    pub(super) fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut HashingWriter<'_>) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let folder = self.path.join(name);
        let folder = folder.parent().unwrap_or(&self.path);
        if !self.folders.contains(folder) {
            make_folder(folder).map_err(ExportError::Write)?;
            remove_partial_files(folder).map_err(ExportError::Write)?;
            self.folders.insert(folder.to_path_buf());
        }
        let mut failure = None;
        let written = write_file(&self.path, name, |file| {
            fill(file).map_err(|error| match error {
                ExportError::File(error) => error,
                error => {
                    failure = Some(error);
                    io::Error::other("its clips cannot be read")
                }
            })
        });
        let sha256 = written.map_err(|error| failure.unwrap_or(ExportError::Write(error)))?;
        self.hashes.insert(name.to_owned(), sha256);
        Ok(())
    }

    /// Notes in the journal that the file `name` is written.
    pub(super) fn record(&mut self, name: &str, facts: Vec<String>) -> Result<(), ExportError> {
        let file = WrittenFile {
            name: name.to_owned(),
            sha256: self.hashes.get(name).cloned().unwrap_or_default(),
            facts,
        };
        let line = serde_json::to_string(&file).map_err(io::Error::from)?;
        append_line(&self.path, JOURNAL_NAME, &line).map_err(ExportError::Write)?;
        self.known.insert(name.to_owned(), file);
        Ok(())
    }

    /// What the journal says of the clip in the file `name`.
    pub(super) fn facts(&self, name: &str) -> &[String] {
        self.known.get(name).map_or(&[], |file| &file.facts)
    }

    /// Writes `dataset.json` and removes the journal. Returns the number of files.
    pub(super) fn finish(mut self) -> Result<usize, ExportError> {
        let files = self.hashes.len();
        let mut dataset = self.identity.clone();
        dataset[FILES_KEY] = json!(self.hashes);
        self.write(DATASET_NAME, |to| write_json(to, &dataset))?;
        self.remove_journal()?;
        Ok(files)
    }

    /// Compares the files with their hashes in `dataset.json`.
    fn verify(&self, files: &Value) -> Result<(), ExportError> {
        for (name, sha256) in files.as_object().into_iter().flatten() {
            let path = self.path.join(name);
            if file_sha256(&path).ok().as_deref() != sha256.as_str() {
                return Err(ExportError::Damaged { path });
            }
        }
        Ok(())
    }

    /// Writes the journal again, without what a crash left half written.
    fn write_journal(&mut self) -> Result<(), ExportError> {
        let (identity, known) = (self.identity.clone(), std::mem::take(&mut self.known));
        self.write(JOURNAL_NAME, |to| {
            writeln!(to, "{identity}")?;
            for file in known.values() {
                writeln!(
                    to,
                    "{}",
                    serde_json::to_string(file).map_err(io::Error::from)?
                )?;
            }
            Ok(())
        })?;
        self.known = known;
        self.hashes.remove(JOURNAL_NAME);
        Ok(())
    }

    /// Removes what only an unfinished export needs.
    fn remove_journal(&self) -> Result<(), ExportError> {
        for name in [JOURNAL_NAME, LOCK_NAME] {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => {
                    return Err(ExportError::Write(StoreError::Write { path, source }));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The whole line `line` of the journal.
fn parse<T: for<'a> Deserialize<'a>>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

/// The content of a file; nothing when there is none.
fn read(path: &Path) -> Result<Vec<u8>, ExportError> {
    let mut bytes = Vec::new();
    match open_plain(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Err(StoreError::read(path)(error).into())
        }
        _ => Ok(bytes),
    }
}

/// The content of a JSON file; `None` when there is none, null when it is none.
fn read_value(path: &Path) -> Result<Option<Value>, ExportError> {
    let bytes = read(path)?;
    Ok((!bytes.is_empty()).then(|| serde_json::from_slice(&bytes).unwrap_or_default()))
}

/// Whether the folder is missing, or has nothing in it but what an export leaves that did not begin.
fn is_empty(path: &Path) -> Result<bool, ExportError> {
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        // What is wrong with the path shows when the folder is made.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(true);
        }
        Err(error) => return Err(StoreError::read(path)(error).into()),
    };
    Ok(entries.all(|entry| {
        entry.is_ok_and(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == LOCK_NAME
                || name == JOURNAL_NAME
                || name.starts_with(&format!(".{JOURNAL_NAME}."))
        })
    }))
}

/// How the export `found` differs from `wanted`, for people; `None` when they are the same.
fn difference(found: &Value, wanted: &Value) -> Option<String> {
    let is_export = found["format"].is_string() && found["source"].is_object();
    if !is_export {
        return Some("a dataset.json of another program".to_owned());
    }
    let keys = wanted.as_object().into_iter().flatten().map(|(key, _)| key);
    let key = keys.into_iter().find(|key| found[*key] != wanted[*key])?;
    let (old, new) = (&found[key], &wanted[key]);
    Some(if old.is_object() || new.is_object() {
        format!("an export of other results ({key} differ)")
    } else {
        format!("another export ({key} was {old}, now {new})")
    })
}
