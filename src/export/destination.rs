//! The folder of an export. Each file is complete or absent. A journal names the files that are written, so that an
//! interrupted export continues. `dataset.json` is written last and replaces it: a folder with that file is a
//! complete export.

use super::{ExportError, write_json};
use crate::storage::StoreError;
use crate::storage::atomic_file::{
    HashingWriter, append_line, file_sha256, make_folder, open_plain, refuse_link,
    remove_partial_files, write_file,
};
use crate::storage::lock::{FolderLock, LOCK_NAME};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// File with the settings of a complete export and the hashes of its files.
const DATASET_NAME: &str = "dataset.json";
/// Journal: a line with the settings of the export, then one line per written file.
const JOURNAL_NAME: &str = ".export.jsonl";
/// Key of the hashes of files in `dataset.json`.
const FILES_KEY: &str = "files";
/// Key of the clips in `dataset.json` that the format cannot hold.
const LEFT_OUT_KEY: &str = "left_out";
/// Longest line of a journal, in bytes. The first line has the hash of each batch file.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Largest `dataset.json`, in bytes: enough for over a million files.
const DATASET_BYTES_MAX: u64 = 256 << 20;

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct WrittenFile {
    name: String,
    sha256: String,
    /// The columns of `index.csv` that depend on the clip's frames; empty for a file of several clips.
    facts: Vec<String>,
}

/// The folder of an export. A lock keeps other processes from writing it.
pub(super) struct Destination {
    path: PathBuf,
    identity: Value,
    /// The files of the export, without `dataset.json`.
    names: BTreeSet<String>,
    /// The lines of the journal, by file name.
    known: BTreeMap<String, WrittenFile>,
    /// SHA-256 of the files that are written, by name.
    hashes: BTreeMap<String, String>,
    /// Subfolders that this process has created or cleared of partial files.
    folders: BTreeSet<PathBuf>,
    lock: FolderLock,
}

impl Destination {
    /// Opens the folder `path` for the export `identity` of the files `names`, and creates it when it is missing.
    /// Returns `None` when the export is already complete.
    ///
    /// # Errors
    /// Fails when the folder holds anything else, another process writes it, or it cannot be written.
    pub(super) fn open(
        path: &Path,
        identity: Value,
        names: BTreeSet<String>,
    ) -> Result<Option<Self>, ExportError> {
        // First without a lock, so that no lock file is created in a folder of another program.
        inspect(path, &identity, &names)?;
        make_folder(path).map_err(ExportError::Write)?;
        let lock = FolderLock::take(path).map_err(ExportError::Write)?;
        // Another process may have written the folder before the lock was taken.
        let (finished, known) = match inspect(path, &identity, &names) {
            Ok(found) => found,
            Err(error) => {
                lock.remove().map_err(ExportError::Write)?;
                return Err(error);
            }
        };
        let mut destination = Self {
            path: path.to_path_buf(),
            identity,
            names,
            known,
            hashes: BTreeMap::new(),
            folders: BTreeSet::new(),
            lock,
        };
        if let Some(finished) = finished {
            destination.verify(&finished)?;
            destination.close()?;
            return Ok(None);
        }
        destination.write_journal()?;
        Ok(Some(destination))
    }

    /// Whether the file `name` is in the journal and still has the hash that the journal gives.
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

    /// Writes the file `name` and replaces an existing one.
    pub(super) fn write(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut HashingWriter<'_>) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let folder = Path::new(name).parent().unwrap_or(Path::new(""));
        if !self.folders.contains(folder) {
            self.prepare(name, folder).map_err(ExportError::Write)?;
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

    /// Creates `folder` for the file `name` and removes the partial files of the export from it.
    fn prepare(&self, name: &str, folder: &Path) -> Result<(), StoreError> {
        for part in folder.ancestors().filter(|part| *part != Path::new("")) {
            refuse_link(&self.path.join(part))?;
        }
        make_folder(&self.path.join(folder))?;
        remove_partial_files(&self.path, name, None, |file| {
            let name = folder.join(file);
            let name = name.to_str().unwrap_or_default();
            [DATASET_NAME, JOURNAL_NAME].contains(&name) || self.names.contains(name)
        })
    }

    /// Adds the written file `name` to the journal.
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

    /// The values of `index.csv` that the journal has for the clip in the file `name`.
    pub(super) fn facts(&self, name: &str) -> &[String] {
        self.known.get(name).map_or(&[], |file| &file.facts)
    }

    /// Writes `dataset.json`, with the clips that are left out, and removes the journal. Returns the number of files.
    pub(super) fn finish(mut self, left_out: &[LeftOutClip]) -> Result<usize, ExportError> {
        let files = self.hashes.len();
        let mut dataset = self.identity.clone();
        dataset[FILES_KEY] = json!(self.hashes);
        dataset[LEFT_OUT_KEY] = json!(left_out);
        self.write(DATASET_NAME, |to| write_json(to, &dataset))?;
        self.close()?;
        Ok(files)
    }

    /// Compares the files with the names and hashes in `dataset.json`.
    fn verify(&self, dataset: &Value) -> Result<(), ExportError> {
        let damaged = |name: &str| ExportError::Damaged {
            path: self.path.join(name),
        };
        let hashes = BTreeMap::<String, String>::deserialize(&dataset[FILES_KEY])
            .map_err(|_| damaged(DATASET_NAME))?;
        let left_out = dataset[LEFT_OUT_KEY].as_array().into_iter().flatten();
        let left_out: BTreeSet<_> = left_out.filter_map(|clip| clip["file"].as_str()).collect();
        let names = self.names.iter();
        let names = names.filter(|name| !left_out.contains(name.as_str()));
        // A file with any other name is never opened.
        if !names.eq(hashes.keys()) {
            return Err(damaged(DATASET_NAME));
        }
        let mut changed = hashes.iter().filter(|(name, sha256)| {
            file_sha256(&self.path.join(name)).map_or(true, |found| found != **sha256)
        });
        changed
            .next()
            .map_or(Ok(()), |(name, _)| Err(damaged(name)))
    }

    /// Writes the journal again, without a line that a crash left incomplete.
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

    /// Removes the journal, then the lock.
    fn close(self) -> Result<(), ExportError> {
        let path = self.path.join(JOURNAL_NAME);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(ExportError::Write(StoreError::Write { path, source }))
            }
            _ => self.lock.remove().map_err(ExportError::Write),
        }
    }
}

/// A clip that the format cannot hold.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LeftOutClip {
    /// The file name that the clip would have.
    pub(super) file: String,
    pub(super) video_id: String,
    /// Number of its frames.
    pub(super) frames: usize,
}

/// `dataset.json` or the first line of the journal, and the other lines of the journal, by file name.
type Written = (Option<Value>, BTreeMap<String, WrittenFile>);

/// Checks that the folder `path` is empty or belongs to the export `identity`. Returns `dataset.json` and the lines
/// of the journal for the files `names`.
///
/// # Errors
/// Fails when the folder holds anything else or cannot be read.
fn inspect(
    path: &Path,
    identity: &Value,
    names: &BTreeSet<String>,
) -> Result<Written, ExportError> {
    let finished = read_dataset(&path.join(DATASET_NAME))?;
    let (begun, known) = read_journal(&path.join(JOURNAL_NAME), names)?;
    let is_other = match finished.as_ref().or(begun.as_ref()) {
        Some(found) => difference(found, identity),
        None if is_empty(path)? => None,
        None => Some("other files".to_owned()),
    };
    if let Some(holds) = is_other {
        let path = path.to_path_buf();
        return Err(ExportError::Occupied { path, holds });
    }
    Ok((finished, known))
}

/// Opens the file at `path`; `None` when it does not exist.
fn open(path: &Path) -> Result<Option<BufReader<File>>, ExportError> {
    match open_plain(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(StoreError::read(path)(error).into()),
    }
}

/// The content of a JSON file; `None` when the file does not exist, null when it is not JSON or too large.
fn read_dataset(path: &Path) -> Result<Option<Value>, ExportError> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    match serde_json::from_reader(file.take(DATASET_BYTES_MAX)) {
        Err(error) if error.is_io() => Err(StoreError::read(path)(error.into()).into()),
        parsed => Ok(Some(parsed.unwrap_or_default())),
    }
}

/// The export that the journal at `path` belongs to, and its lines for the files `names`.
fn read_journal(path: &Path, names: &BTreeSet<String>) -> Result<Written, ExportError> {
    let (mut begun, mut known) = (None, BTreeMap::new());
    let Some(mut file) = open(path)? else {
        return Ok((begun, known));
    };
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut file).take(LINE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut line);
        read.map_err(StoreError::read(path))?;
        if begun.is_none() {
            begun = parse::<Value>(&line);
            match begun {
                Some(_) => continue,
                None => return Ok((None, known)),
            }
        }
        // A crash may have cut off the last line. The lines after an invalid line are not trusted.
        let Some(file) = parse::<WrittenFile>(&line) else {
            return Ok((begun, known));
        };
        if names.contains(&file.name) {
            known.insert(file.name.clone(), file);
        }
    }
}

/// Parses a journal line; `None` when it is incomplete or invalid.
fn parse<T: for<'a> Deserialize<'a>>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line.strip_suffix(b"\n")?).ok()
}

/// Whether the folder is missing, or holds nothing but the lock and the journal of an export that did not begin.
fn is_empty(path: &Path) -> Result<bool, ExportError> {
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        // A faulty path is reported when the folder is created.
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

#[cfg(test)]
mod tests;
