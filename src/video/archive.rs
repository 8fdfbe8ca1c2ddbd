//! A zip archive that is read in place. Wraps the `zip` crate.
//!
//! Nothing is unpacked to a path: an entry becomes bytes, or a file in memory that a decoder can open. The archive's
//! directory is read once. Any number of threads read entries at the same time.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{MemfdFlags, memfd_create};
use thiserror::Error;
use zip::ZipArchive;
use zip::read::{ZipArchiveMetadata, ZipReadOptions};
use zip::result::ZipError;

/// Bytes copied at a time from the decompressor.
const CHUNK_BYTES: usize = 64 * 1024;

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
    /// Not a zip file, or its directory at the end is missing.
    #[error(
        "{path} is not a readable zip archive: {cause}; it may be cut short: compare its size with the original and copy it again"
    )]
    NotZip {
        /// The archive.
        path: PathBuf,
        /// The zip reader's message.
        cause: ZipError,
    },
    /// An entry is missing, encrypted, damaged or too large.
    #[error("{entry} in {path} {problem}")]
    Entry {
        /// The archive.
        path: PathBuf,
        /// The requested name.
        entry: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// An open archive. Cheap to share: reading takes `&self`.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    directory: Arc<ZipArchiveMetadata>,
    /// Index in `directory` of each file whose name is a plain relative path.
    indexes: HashMap<Box<str>, usize>,
}

impl Archive {
    /// Opens `path` and reads its directory.
    ///
    /// Folders and entries with absolute names, `..`, backslashes or NUL are left out. Of two entries with one name the
    /// later is used, as when unpacking.
    ///
    /// # Errors
    /// When the file cannot be read or is no zip archive.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let io_error = |source| ArchiveError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io_error)?;
        let directory = ZipArchive::new(reader(&file).map_err(io_error)?)
            .map_err(|cause| match cause {
                ZipError::Io(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                    io_error(source)
                }
                cause => ArchiveError::NotZip {
                    path: path.to_owned(),
                    cause,
                },
            })?
            .metadata();
        let mut indexes = HashMap::new();
        for index in 0..directory.len() {
            // An entry whose name cannot be decoded cannot be requested.
            if let Ok(entry) = directory.entry(index)
                && let Ok(name) = entry.name()
                && let Some(name) = plain_relative(&name)
            {
                indexes.insert(name.into(), index);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            directory,
            indexes,
        })
    }

    /// The archive's own path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its files, with `/` between folders, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.indexes.keys().map(AsRef::as_ref)
    }

    /// Unpacked size in bytes of the file `name`, as the archive states it.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        let index = *self.indexes.get(name)?;
        Some(self.directory.entry(index).ok()?.size())
    }

    /// The content of the file `name`, of `limit` bytes at most.
    ///
    /// # Errors
    /// When there is no such file, it is encrypted, damaged or larger than `limit`.
    pub fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut bytes = Vec::new();
        self.unpack(name, limit, &mut bytes)?;
        Ok(bytes)
    }

    /// The content of the file `name`, of `limit` bytes at most, as an unnamed file in memory. It is gone when it is closed.
    ///
    /// # Errors
    /// As [`Archive::read`], and when there is no memory for it.
    pub fn memory_file(&self, name: &str, limit: u64) -> Result<File, ArchiveError> {
        let file = memfd_create("handloom-clip", MemfdFlags::CLOEXEC);
        let mut file = File::from(file.map_err(|e| self.no_memory(name, &e))?);
        self.unpack(name, limit, &mut file)?;
        Ok(file)
    }

    /// Unpacks `name` into `sink`.
    fn unpack(&self, name: &str, limit: u64, sink: &mut impl Write) -> Result<(), ArchiveError> {
        let fail = |problem: &dyn Display| self.entry_error(name, problem);
        let damaged = |cause: ZipError| fail(&format_args!("is damaged: {cause}"));
        let index = self.indexes.get(name);
        let index = *index.ok_or_else(|| fail(&"does not exist"))?;
        let entry = self.directory.entry(index).map_err(damaged)?;
        let size = entry.size();
        if entry.encrypted() {
            let hint = "is encrypted: pack the archive again without a password";
            return Err(fail(&hint));
        }
        if size > limit {
            return Err(fail(&format_args!(
                "unpacks to {size} bytes, more than the {limit} allowed"
            )));
        }
        let mut input = reader(&self.file).map_err(|source| ArchiveError::Io {
            path: self.path.clone(),
            source,
        })?;
        let mut content = entry
            .with_reader(&mut input, ZipReadOptions::new())
            .map_err(damaged)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut written = 0_u64;
        loop {
            let count = match content.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(error.into())),
            };
            written += count as u64;
            // As zip bombs do.
            if written > size {
                return Err(fail(&format_args!(
                    "is damaged: it unpacks to more than the {size} bytes that the archive states"
                )));
            }
            sink.write_all(&chunk[..count])
                .map_err(|e| self.no_memory(name, &e))?;
        }
        if written < size {
            let text = format!("{written} of {size} bytes are there");
            let error = io::Error::new(io::ErrorKind::UnexpectedEof, text);
            return Err(damaged(error.into()));
        }
        Ok(())
    }

    fn entry_error(&self, name: &str, problem: &dyn Display) -> ArchiveError {
        ArchiveError::Entry {
            path: self.path.clone(),
            entry: name.to_owned(),
            problem: problem.to_string(),
        }
    }

    fn no_memory(&self, name: &str, cause: &dyn Display) -> ArchiveError {
        let size = self.size(name).unwrap_or(0);
        let problem = format_args!("has {size} bytes, for which there is no memory: {cause}");
        self.entry_error(name, &problem)
    }
}

/// `name`, if it is the relative path of a file that stays below its folder.
fn plain_relative(name: &str) -> Option<&str> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = !name.contains(['\\', '\0'])
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then_some(name)
}

/// Path at which this process can open `file` again while it is open. Each opening starts at the first byte.
pub(super) fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// A reader of `file` with its own position, so that threads can share the file.
fn reader(file: &File) -> io::Result<BufReader<File>> {
    let file = File::open(path_of(file))?;
    Ok(BufReader::with_capacity(CHUNK_BYTES, file))
}

#[cfg(test)]
mod tests;
