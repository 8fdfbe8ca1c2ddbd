//! A zip archive that is read in place. Wraps the `zip` crate.
//!
//! Nothing is unpacked to a path: an entry becomes bytes, or a file in memory that a decoder can open. The archive's
//! directory is read once. Any number of threads read entries at the same time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
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
    /// No such entry.
    #[error("{path} has no entry {entry}")]
    NoEntry {
        /// The archive.
        path: PathBuf,
        /// The requested name.
        entry: String,
    },
    /// The entry needs a password.
    #[error("{entry} in {path} is encrypted: pack the archive again without a password")]
    Encrypted {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// The entry is larger than the caller allows.
    #[error("{entry} in {path} unpacks to {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Unpacked size that the archive states, in bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
    /// The entry holds more than the archive states, as zip bombs do.
    #[error(
        "{entry} in {path} is damaged: it unpacks to more than the {size} bytes that the archive states"
    )]
    LongerThanStated {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Unpacked size that the archive states, in bytes.
        size: u64,
    },
    /// Damaged: a wrong checksum, data that ends early, an unknown compression.
    #[error("{entry} in {path} is damaged: {cause}")]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// The zip reader's message.
        cause: ZipError,
    },
    /// No memory for the unpacked entry.
    #[error("no memory for {entry} of {path}, {size} bytes: {source}")]
    NoMemory {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// In bytes.
        size: u64,
        /// The system's reason.
        source: io::Error,
    },
}

/// An open archive. Cheap to share: reading takes `&self`.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: Arc<File>,
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
        let file = Arc::new(File::open(path).map_err(io_error)?);
        let directory = ZipArchive::new(reader(&file))
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

    /// The content of the file `name`, of `limit` bytes at most, as a file in memory.
    ///
    /// # Errors
    /// As [`Archive::read`], and when there is no memory for it.
    pub fn memory_file(&self, name: &str, limit: u64) -> Result<MemoryFile, ArchiveError> {
        let mut file = MemoryFile::create().map_err(|source| ArchiveError::NoMemory {
            path: self.path.clone(),
            entry: name.to_owned(),
            size: self.size(name).unwrap_or(0),
            source,
        })?;
        file.size = self.unpack(name, limit, &mut file.file)?;
        Ok(file)
    }

    /// Unpacks `name` into `sink`; returns the bytes written.
    fn unpack(&self, name: &str, limit: u64, sink: &mut impl Write) -> Result<u64, ArchiveError> {
        let path = || self.path.clone();
        let damaged = |cause| ArchiveError::Damaged {
            path: path(),
            entry: name.to_owned(),
            cause,
        };
        let index = *self
            .indexes
            .get(name)
            .ok_or_else(|| ArchiveError::NoEntry {
                path: path(),
                entry: name.to_owned(),
            })?;
        let entry = self.directory.entry(index).map_err(damaged)?;
        let size = entry.size();
        if entry.encrypted() {
            return Err(ArchiveError::Encrypted {
                path: path(),
                entry: name.to_owned(),
            });
        }
        if size > limit {
            return Err(ArchiveError::TooLarge {
                path: path(),
                entry: name.to_owned(),
                size,
                limit,
            });
        }
        let mut input = reader(&self.file);
        let mut content = entry
            .with_reader(&mut input, ZipReadOptions::new())
            .map_err(damaged)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut written = 0_u64;
        loop {
            let count = match content.read(&mut chunk) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(damaged(ZipError::Io(error))),
            };
            if count == 0 {
                break;
            }
            written = written.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            if written > size {
                return Err(ArchiveError::LongerThanStated {
                    path: path(),
                    entry: name.to_owned(),
                    size,
                });
            }
            sink.write_all(chunk.get(..count).unwrap_or_default())
                .map_err(|source| ArchiveError::NoMemory {
                    path: path(),
                    entry: name.to_owned(),
                    size,
                    source,
                })?;
        }
        if written < size {
            return Err(damaged(ZipError::Io(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{written} of {size} bytes are there"),
            ))));
        }
        Ok(written)
    }
}

/// `name`, if it is the relative path of a file that stays below its folder.
fn plain_relative(name: &str) -> Option<&str> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = !name.contains(['\\', '\0'])
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then_some(name)
}

/// An unnamed file in memory; removed when dropped.
#[derive(Debug)]
pub struct MemoryFile {
    file: File,
    path: PathBuf,
    size: u64,
}

impl MemoryFile {
    fn create() -> io::Result<Self> {
        let file = File::from(memfd_create("handloom-clip", MemfdFlags::CLOEXEC)?);
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self {
            file,
            path,
            size: 0,
        })
    }

    /// Path at which this process can open it while this value lives. Each opening starts at the first byte.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A reader of `file` with its own position, so that threads can share the file.
fn reader(file: &Arc<File>) -> BufReader<PositionedFile> {
    BufReader::with_capacity(
        CHUNK_BYTES,
        PositionedFile {
            file: Arc::clone(file),
            position: 0,
        },
    )
}

struct PositionedFile {
    file: Arc<File>,
    position: u64,
}

impl Read for PositionedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position = self
            .position
            .saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

impl Seek for PositionedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.file.metadata()?.len().checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests;
