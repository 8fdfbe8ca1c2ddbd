//! A zip archive read in place.
//!
//! Wraps the `zip` crate. Nothing is ever unpacked to a path: an entry becomes bytes, or a file in memory that a
//! decoder can open. The directory of the archive is read once; any number of threads read entries at the same time.

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

/// Bytes moved at a time from the decompressor to its destination.
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
    /// Not a zip file, or one whose directory (at its end) is gone.
    #[error(
        "{path} is not a readable zip archive: {cause}; it may be cut short: compare its size with the original and copy it again"
    )]
    NotZip {
        /// The archive.
        path: PathBuf,
        /// What the zip reader says.
        cause: ZipError,
    },
    /// No such entry.
    #[error("{path} has no entry {entry}")]
    NoEntry {
        /// The archive.
        path: PathBuf,
        /// The name asked for.
        entry: String,
    },
    /// A password would be needed.
    #[error("{entry} in {path} is encrypted: pack the archive again without a password")]
    Encrypted {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
    },
    /// Larger than the caller allows.
    #[error("{entry} in {path} unpacks to {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Bytes, as the archive says.
        size: u64,
        /// Bytes.
        limit: u64,
    },
    /// Holds more than the archive says, as zip bombs do.
    #[error(
        "{entry} in {path} is damaged: it unpacks to more than the {size} bytes that the archive states"
    )]
    LongerThanStated {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Bytes, as the archive says.
        size: u64,
    },
    /// Damaged: a wrong checksum, data that ends early, an unknown compression.
    #[error("{entry} in {path} is damaged: {cause}")]
    Damaged {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// What the zip reader says.
        cause: ZipError,
    },
    /// No room for the unpacked entry.
    #[error("no memory for {entry} of {path}, {size} bytes: {source}")]
    NoMemory {
        /// The archive.
        path: PathBuf,
        /// The entry.
        entry: String,
        /// Bytes.
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
    /// Place in `directory` of each file whose name is a plain relative path.
    places: HashMap<Box<str>, usize>,
}

impl Archive {
    /// Opens `path` and reads its directory.
    ///
    /// Entries with absolute names, `..`, backslashes or NUL are left out, folders too. Of two entries with one name
    /// the later counts, as when unpacking.
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
        let mut places = HashMap::new();
        for place in 0..directory.len() {
            // An entry whose name cannot be decoded cannot be asked for either.
            if let Ok(entry) = directory.entry(place)
                && let Ok(name) = entry.name()
                && let Some(name) = plain_relative(&name)
            {
                places.insert(name.into(), place);
            }
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            directory,
            places,
        })
    }

    /// The archive's own path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its files, with `/` between folders, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.places.keys().map(AsRef::as_ref)
    }

    /// Unpacked size in bytes of the file `name`, as the archive states it.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<u64> {
        let place = *self.places.get(name)?;
        Some(self.directory.entry(place).ok()?.size())
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
        let place = *self.places.get(name).ok_or_else(|| ArchiveError::NoEntry {
            path: path(),
            entry: name.to_owned(),
        })?;
        let entry = self.directory.entry(place).map_err(damaged)?;
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

/// `name` when it is the relative path of a file and cannot leave the folder it is in.
fn plain_relative(name: &str) -> Option<&str> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let plain = !name.contains(['\\', '\0'])
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    plain.then_some(name)
}

/// A file without a name, kept in memory and gone when dropped.
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

    /// Where this process can open it, for as long as this value lives. Each opening starts at the first byte.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in it.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// A reader of `file` with a position of its own, so that threads do not move each other's.
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
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use zip::CompressionMethod;
    use zip::write::{SimpleFileOptions, ZipWriter};

    const LIMIT: u64 = 1 << 20;

    /// A file of its own for each test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let path = std::env::temp_dir()
                .join(format!("handloom-archive-{}-{name}", std::process::id()));
            fs::write(&path, bytes).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).ok();
        }
    }

    fn zip_of(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
        for (name, content) in files {
            writer
                .start_file(
                    *name,
                    SimpleFileOptions::default().compression_method(method),
                )
                .unwrap();
            writer.write_all(content).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    fn noise(count: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_u32;
        let step = |_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state.to_le_bytes()[0]
        };
        (0..count).map(step).collect()
    }

    #[test]
    fn reads_entries_stored_and_deflated_from_many_threads() {
        let contents: Vec<_> = (1..20).map(|n| noise(n * 10_007)).collect();
        let names: Vec<_> = (1..20).map(|n| format!("videos/{n}.mp4")).collect();
        let files: Vec<_> = names
            .iter()
            .map(String::as_str)
            .zip(contents.iter().map(Vec::as_slice))
            .collect();
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let scratch = Scratch::new(&format!("threads-{method}"), &zip_of(&files, method));
            let archive = Archive::open(&scratch.0).unwrap();
            std::thread::scope(|scope| {
                for turn in 0..4 {
                    let (archive, files) = (&archive, &files);
                    scope.spawn(move || {
                        for (name, content) in files.iter().cycle().skip(turn * 5).take(40) {
                            assert_eq!(&archive.read(name, LIMIT).unwrap(), content);
                            let file = archive.memory_file(name, LIMIT).unwrap();
                            assert_eq!(file.size(), content.len() as u64);
                            for _ in 0..2 {
                                assert_eq!(&fs::read(file.path()).unwrap(), content);
                            }
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_memory_file_is_gone_when_dropped() {
        let scratch = Scratch::new("gone", &zip_of(&[("a", b"x")], CompressionMethod::Stored));
        let file = Archive::open(&scratch.0)
            .unwrap()
            .memory_file("a", LIMIT)
            .unwrap();
        let path = file.path().to_owned();
        let identity = |path: &Path| fs::metadata(path).ok().map(|file| file.ino());
        let before = identity(&path);
        assert!(before.is_some());
        drop(file);
        // The number may name another thread's file by now, but not this one.
        assert_ne!(identity(&path), before);
    }

    #[test]
    fn names_that_lead_out_are_not_there() {
        let names = [
            "../a",
            "/etc/passwd",
            "b\\..\\c",
            "d/../e",
            "f//g",
            "./ok",
            "x/y.mp4",
            "../../x/y.mp4",
        ];
        let files: Vec<_> = names.iter().map(|name| (*name, b"x".as_slice())).collect();
        let scratch = Scratch::new("slip", &zip_of(&files, CompressionMethod::Stored));
        let archive = Archive::open(&scratch.0).unwrap();
        let mut found: Vec<_> = archive.names().collect();
        found.sort_unstable();
        assert_eq!(found, ["ok", "x/y.mp4"]);
        assert_eq!(archive.read("ok", LIMIT).unwrap(), b"x");
        let error = archive.read("../a", LIMIT).unwrap_err();
        assert!(matches!(error, ArchiveError::NoEntry { .. }), "{error}");
    }

    #[test]
    fn bombs_are_refused_with_their_size() {
        let zeros = vec![0; 3 << 20];
        let mut bytes = zip_of(&[("bomb", &zeros)], CompressionMethod::Deflated);
        let scratch = Scratch::new("bomb", &bytes);
        let message = Archive::open(&scratch.0)
            .unwrap()
            .memory_file("bomb", LIMIT)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("3145728 bytes, more than the 1048576"),
            "{message}"
        );
        // The same with a directory that claims 5 bytes.
        let central = bytes
            .windows(4)
            .rposition(|window| window == b"PK\x01\x02")
            .unwrap();
        bytes[central + 24..central + 28].copy_from_slice(&5_u32.to_le_bytes());
        let scratch = Scratch::new("liar", &bytes);
        let error = Archive::open(&scratch.0)
            .unwrap()
            .memory_file("bomb", LIMIT)
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("bomb in") && message.contains("damaged"),
            "{message}"
        );
    }

    #[test]
    fn encryption_is_named() {
        let mut bytes = zip_of(&[("secret", b"x")], CompressionMethod::Stored);
        let central = bytes
            .windows(4)
            .rposition(|window| window == b"PK\x01\x02")
            .unwrap();
        bytes[central + 8] |= 1;
        bytes[6] |= 1;
        let scratch = Scratch::new("secret", &bytes);
        let error = Archive::open(&scratch.0)
            .unwrap()
            .read("secret", LIMIT)
            .unwrap_err();
        assert!(matches!(error, ArchiveError::Encrypted { .. }), "{error}");
    }

    #[test]
    fn damage_is_an_error_that_names_archive_and_entry() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let content = noise(50_000);
            let whole = zip_of(&[("clip.mp4", &content)], method);
            let mut flipped = whole.clone();
            flipped[20_000] ^= 0x10;
            let scratch = Scratch::new(&format!("crc-{method}"), &flipped);
            let message = Archive::open(&scratch.0)
                .unwrap()
                .read("clip.mp4", LIMIT)
                .unwrap_err()
                .to_string();
            assert!(
                message.contains("clip.mp4 in /") && message.contains("damaged"),
                "{message}"
            );
        }
        for bytes in [b"".as_slice(), b"PK", b"not a zip at all"] {
            let scratch = Scratch::new("not", bytes);
            let error = Archive::open(&scratch.0).unwrap_err();
            assert!(matches!(error, ArchiveError::NotZip { .. }), "{error}");
        }
        let missing = Archive::open(Path::new("/nowhere.zip")).unwrap_err();
        assert!(missing.to_string().contains("/nowhere.zip"), "{missing}");
    }

    #[test]
    fn cut_and_mutated_archives_never_panic() {
        let files: &[(&str, &[u8])] = &[("WLASL_v0.3.json", b"[]"), ("videos/1.mp4", &noise(900))];
        let whole = zip_of(files, CompressionMethod::Deflated);
        let mut state = 1_u64;
        let mut below = |bound: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 11).unwrap() % bound
        };
        let mut opened = 0;
        for case in 0..400 {
            let mut bytes = whole.clone();
            if case % 4 == 0 {
                bytes.truncate(below(bytes.len()));
            } else {
                for _ in 0..=below(4) {
                    let place = below(bytes.len());
                    bytes[place] ^= 1 << below(8);
                }
            }
            let scratch = Scratch::new("mutated", &bytes);
            if let Ok(archive) = Archive::open(&scratch.0) {
                opened += 1;
                for name in archive.names() {
                    if let Ok(content) = archive.read(name, LIMIT) {
                        assert_eq!(Some(content.len() as u64), archive.size(name));
                    }
                }
            }
        }
        assert!(opened > 100, "{opened}");
    }
}
