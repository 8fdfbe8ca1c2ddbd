//! A zip archive that is read in place. Wraps the `zip` crate.
//!
//! Nothing is unpacked to a path: an entry is read as a stream, or becomes a file in memory that a decoder can open.
//! The archive's directory is read once. Any number of threads read entries at the same time; the memory of their
//! files is bounded for all of them together.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::clip_file::is_of_machine;
use crate::frame::SourceError;
use diagnosis::Ends;
use memory::MemoryBudget;
use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;
use zip::read::{ZipArchiveMetadata, ZipFile, ZipReadOptions};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

mod diagnosis;
mod memory;

/// Bytes copied at a time from the decompressor.
const CHUNK_BYTES: usize = 64 * 1024;

/// Maximum number of files and folders in an archive; WLASL's has 12,000. Each takes some 500 bytes of memory.
const ENTRIES_MAX: u64 = 100_000;

/// Maximum bytes of an archive's directory, in which names and comments may be long.
const DIRECTORY_BYTES_MAX: u64 = 32 << 20;

/// Memory of all unpacked files that are open at the same time, in bytes, and so the size of the largest file. A
/// thread waits until its file fits, so that a result does not depend on the number of threads. A clip has a few MB.
/// Files on the output disk instead would wear it out and fail when it is full.
pub(super) const MEMORY_BYTES_MAX: u64 = 128 << 20;

/// Why an archive or one of its entries cannot be read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// The file cannot be opened or read at all.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The archive.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is no zip archive, is incomplete, or has too many entries.
    #[error("{path} is not a readable zip archive: {reason}")]
    NotZip {
        /// The archive.
        path: PathBuf,
        /// What it is or what is wrong with it, and how to fix it.
        reason: String,
    },
    /// A file of another kind.
    #[error("{path} is no dataset: {reason}")]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it is, and how to fix it.
        reason: String,
    },
    /// There is no memory, or no file handle, for an unpacked entry.
    #[error("{entry} in {path} has {size} bytes, for which there is no memory: {source}")]
    NoMemory {
        /// The archive.
        path: PathBuf,
        /// Name of the entry.
        entry: String,
        /// Unpacked size in bytes, as the archive states it.
        size: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// An entry is missing, encrypted, damaged or too large.
    #[error("{entry} in {path} {problem}")]
    Entry {
        /// The archive.
        path: PathBuf,
        /// The requested name of the entry.
        entry: String,
        /// What is wrong with the entry.
        problem: String,
    },
}

impl ArchiveError {
    /// Whether the machine has no memory or file handles left.
    pub(super) fn is_of_machine(&self) -> bool {
        match self {
            Self::NoMemory { .. } => true,
            Self::Io { source, .. } => is_of_machine(source),
            _ => false,
        }
    }
}

impl From<ArchiveError> for SourceError {
    fn from(error: ArchiveError) -> Self {
        if error.is_of_machine() {
            Self::Machine(error.to_string())
        } else {
            Self::Clip(error.to_string())
        }
    }
}

/// An open archive. Cheap to share: reading takes `&self`.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    directory: Arc<ZipArchiveMetadata>,
    /// Index in `directory` of each file, by its path below the archive's top.
    indexes: HashMap<Box<str>, usize>,
    memory: Arc<MemoryBudget>,
}

/// An unpacked file in memory, without a name. It is gone when this value is dropped.
#[derive(Debug)]
pub(super) struct MemoryFile {
    file: File,
    taken: u64,
    memory: Arc<MemoryBudget>,
}

impl MemoryFile {
    /// Path at which this process can open it.
    pub(super) fn path(&self) -> PathBuf {
        path_of(&self.file)
    }
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.memory.give(self.taken);
    }
}

impl Archive {
    /// Opens `path` and reads its directory.
    ///
    /// A backslash in a name separates folders, as some Windows programs write it, and an absolute name starts at the
    /// archive's top. Folders and entries with `..` or NUL are left out. Of two entries with one name the later is
    /// used. Unpacking programs do the same.
    ///
    /// # Errors
    /// Fails when the file cannot be read, is no zip archive or has too many entries.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let io_error = |source| ArchiveError::Io {
            path: path.to_owned(),
            source,
        };
        let not_zip = |reason| ArchiveError::NotZip {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(io_error)?;
        let ends = Ends::of(&file).map_err(io_error)?;
        // Checked before the zip reader reserves memory for the declared number of entries.
        let entries = ends.entries();
        if entries > ENTRIES_MAX {
            return Err(not_zip(format!(
                "it states {entries} files, more than the {ENTRIES_MAX} allowed: unpack it and give the folder"
            )));
        }
        let input = LimitedReader {
            input: reader(&file).map_err(io_error)?,
            left: DIRECTORY_BYTES_MAX,
        };
        let directory = ZipArchive::new(input)
            .map_err(|cause| match cause {
                ZipError::Io(source) if source.kind() == io::ErrorKind::FileTooLarge => {
                    not_zip(source.to_string())
                }
                ZipError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                    io_error(source)
                }
                cause => match ends.other_kind(path) {
                    Some(reason) => ArchiveError::OtherKind {
                        path: path.to_owned(),
                        reason,
                    },
                    None => not_zip(ends.explain(path, &cause)),
                },
            })?
            .metadata();
        let mut indexes = HashMap::new();
        for index in 0..directory.len() {
            // An entry whose name cannot be decoded cannot be requested.
            if let Ok(entry) = directory.entry(index)
                && let Ok(name) = entry.name()
                && let Some(path) = path_below(&name)
            {
                indexes.insert(path, index);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            directory,
            indexes,
            memory: Arc::new(MemoryBudget::new(MEMORY_BYTES_MAX)),
        })
    }

    /// Path of the archive.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the files in the archive, with `/` between folders, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.indexes.keys().map(AsRef::as_ref)
    }

    /// Unpacked size in bytes of the file `name`, as the archive states it.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        let index = *self.indexes.get(name)?;
        Some(self.directory.entry(index).ok()?.size())
    }

    /// Lets `consume` read the content of the file `name`, of `limit` bytes at most, and returns its result.
    ///
    /// # Errors
    /// Fails when the file does not exist, is encrypted, packed with an unknown method, damaged or larger than
    /// `limit`; the result of `consume` is then dropped. Damage that only the checksum shows is found at the file's
    /// end.
    pub fn read<T>(
        &self,
        name: &str,
        limit: u64,
        consume: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T, ArchiveError> {
        let fail = |problem: &dyn Display| self.entry_error(name, problem);
        let index = self.indexes.get(name);
        let index = *index.ok_or_else(|| fail(&"does not exist"))?;
        let damaged = |cause: ZipError| fail(&format_args!("is damaged: {cause}"));
        let entry = self.directory.entry(index).map_err(damaged)?;
        let size = entry.size();
        if entry.encrypted() {
            let hint = "is encrypted: pack the archive again without a password";
            return Err(fail(&hint));
        }
        if entry.is_symlink() {
            let hint = "is a symbolic link: pack the archive again with the files themselves";
            return Err(fail(&hint));
        }
        if size > limit {
            return Err(fail(&format_args!(
                "unpacks to {size} bytes, more than the {limit} allowed: unpack the archive and give the folder"
            )));
        }
        let mut input = reader(&self.file).map_err(|source| ArchiveError::Io {
            path: self.path.clone(),
            source,
        })?;
        let content = entry
            .with_reader(&mut input, ZipReadOptions::new())
            .map_err(damaged)?;
        let mut content = EntryReader {
            content,
            left: size,
            problem: None,
        };
        let result = consume(&mut content);
        match content.problem {
            Some(problem) => Err(fail(&problem)),
            None => Ok(result),
        }
    }

    /// The content of the file `name`, of `limit` bytes at most, as a file in memory. Waits while too much memory is
    /// in use.
    ///
    /// # Errors
    /// Fails as [`Archive::read`] does, and when there is no memory for the file.
    pub(super) fn memory_file(&self, name: &str, limit: u64) -> Result<MemoryFile, ArchiveError> {
        let file = memfd_create("handloom-clip", MemfdFlags::CLOEXEC);
        let file = File::from(file.map_err(|e| self.no_memory(name, e.into()))?);
        // LZMA's dictionary can be as large as the file itself.
        let copies = if self.is_lzma(name) { 2 } else { 1 };
        let size = self.size(name).unwrap_or(0).min(limit);
        let mut unpacked = MemoryFile {
            file,
            taken: self.memory.take(size.saturating_mul(copies)),
            memory: Arc::clone(&self.memory),
        };
        let written = self.read(name, limit, |content| {
            let mut chunk = vec![0; CHUNK_BYTES];
            loop {
                match content.read(&mut chunk) {
                    Ok(count @ 1..) => unpacked.file.write_all(&chunk[..count])?,
                    // The entry's reader keeps the reason of an error.
                    Ok(0) | Err(_) => return Ok(()),
                }
            }
        })?;
        written.map_err(|e: io::Error| self.no_memory(name, e))?;
        Ok(unpacked)
    }

    fn is_lzma(&self, name: &str) -> bool {
        let index = self.indexes.get(name);
        let entry = index.and_then(|index| self.directory.entry(*index).ok());
        entry.is_some_and(|entry| entry.compression() == CompressionMethod::LZMA)
    }

    fn entry_error(&self, name: &str, problem: &dyn Display) -> ArchiveError {
        ArchiveError::Entry {
            path: self.path.clone(),
            entry: name.to_owned(),
            problem: problem.to_string(),
        }
    }

    fn no_memory(&self, name: &str, source: io::Error) -> ArchiveError {
        ArchiveError::NoMemory {
            path: self.path.clone(),
            entry: name.to_owned(),
            size: self.size(name).unwrap_or(0),
            source,
        }
    }
}

/// Unpacks an entry, and keeps the reason when that fails.
struct EntryReader<'a> {
    content: ZipFile<'a, BufReader<File>>,
    /// Bytes left to read, by the size that the archive states.
    left: u64,
    problem: Option<String>,
}

impl Read for EntryReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = loop {
            match self.content.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail(describe(&error))),
                Ok(count) => break count,
            }
        };
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            let left = self.left;
            return Err(self.fail(format!("is damaged: its last {left} bytes are not there")));
        }
        // Zip bombs unpack to more than they state.
        let Some(left) = self.left.checked_sub(count as u64) else {
            let text = "is damaged: it unpacks to more bytes than the archive states";
            return Err(self.fail(text.to_owned()));
        };
        self.left = left;
        Ok(count)
    }
}

impl EntryReader<'_> {
    fn fail(&mut self, problem: String) -> io::Error {
        let error = io::Error::other(problem.clone());
        self.problem = Some(problem);
        error
    }
}

/// Why an entry cannot be unpacked.
fn describe(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|e| e.downcast_ref::<ZipError>());
    match cause {
        Some(ZipError::CompressionMethodNotSupported(method)) => {
            let name = CompressionMethod::name_from_u16(*method);
            format!(
                "is packed with {name} (method {method}), which is not read: pack the archive again with Deflate, as `zip -r` does"
            )
        }
        _ => format!("is damaged: {error}"),
    }
}

/// A reader that fails beyond its limit, which bounds the size of a directory.
struct LimitedReader {
    input: BufReader<File>,
    left: u64,
}

impl Read for LimitedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let text = format!(
                "its directory has more than the {DIRECTORY_BYTES_MAX} bytes allowed: unpack it and give the folder"
            );
            io::Error::new(io::ErrorKind::FileTooLarge, text)
        })?;
        Ok(count)
    }
}

impl Seek for LimitedReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.input.seek(to)
    }
}

/// The path of the file `name` below the archive's top, with `/` between folders, as unpacking it would give; `None`
/// for a folder and for a path outside of the archive's top.
fn path_below(name: &str) -> Option<Box<str>> {
    let is_divider = |c: char| matches!(c, '/' | '\\');
    if name.contains('\0') || name.ends_with(is_divider) {
        return None;
    }
    let parts = name.split(is_divider);
    let parts: Vec<_> = parts.filter(|part| !matches!(*part, "" | ".")).collect();
    let is_below = !parts.is_empty() && !parts.contains(&"..");
    is_below.then(|| parts.join("/").into())
}

/// Path at which this process can open `file` again while it is open. Each opening starts at the first byte.
fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A reader of `file` with its own position, so that threads can share the file.
fn reader(file: &File) -> io::Result<BufReader<File>> {
    let file = File::open(path_of(file))?;
    Ok(BufReader::with_capacity(CHUNK_BYTES, file))
}

#[cfg(test)]
mod tests;
