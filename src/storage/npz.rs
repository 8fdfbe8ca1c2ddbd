//! numpy's `.npz`: an uncompressed zip of `.npy` arrays that numpy reads without pickle. Equal contents give equal bytes:
//! entry times and order are fixed, and all entries are zip64.

use crate::storage::atomic_file::StoreError;
use npyz::{DType, NpyFile, NpyHeader, WriterBuilder};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// Writes arrays one after another.
pub struct NpzWriter<W: Write + Seek> {
    zip: ZipWriter<Muted<W>>,
}

/// After the first error it takes everything and keeps nothing: the container's writer, dropped half-way, would try to
/// end its file and say on stderr that it cannot.
struct Muted<W> {
    to: W,
    has_failed: bool,
    /// Position and end, real or pretended.
    at: u64,
    end: u64,
}

impl<W> Muted<W> {
    fn new(to: W) -> Self {
        Self {
            to,
            has_failed: false,
            at: 0,
            end: 0,
        }
    }

    /// What `work` gives, or from the first error on what is `pretended`; then stands where that leads.
    fn stand<T>(
        &mut self,
        pretended: T,
        work: impl FnOnce(&mut W) -> io::Result<T>,
        leads: impl FnOnce(&T) -> u64,
    ) -> io::Result<T> {
        let done = if self.has_failed {
            Ok(pretended)
        } else {
            work(&mut self.to)
        };
        match &done {
            Ok(value) => {
                self.at = leads(value);
                self.end = self.end.max(self.at);
            }
            Err(error) => self.has_failed = error.kind() != io::ErrorKind::Interrupted,
        }
        done
    }
}

impl<W: Write> Write for Muted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let at = self.at;
        let leads = |n: &usize| at + *n as u64;
        self.stand(bytes.len(), |to| to.write(bytes), leads)
    }

    fn flush(&mut self) -> io::Result<()> {
        let at = self.at;
        self.stand((), Write::flush, |()| at)
    }
}

impl<W: Seek> Seek for Muted<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let pretended = match to {
            SeekFrom::Start(at) => at,
            SeekFrom::Current(by) => self.at.saturating_add_signed(by),
            SeekFrom::End(by) => self.end.saturating_add_signed(by),
        };
        self.stand(pretended, |file| file.seek(to), |at| *at)
    }
}

/// A number type of numpy, little-endian.
pub trait Element: Copy {
    /// numpy's type string.
    const DESCR: &'static str;
    /// Appends the little-endian bytes.
    fn put(self, to: &mut Vec<u8>);
}

macro_rules! element {
    ($type:ty, $descr:literal) => {
        impl Element for $type {
            const DESCR: &'static str = $descr;
            fn put(self, to: &mut Vec<u8>) {
                to.extend_from_slice(&self.to_le_bytes());
            }
        }
    };
}
element!(f32, "<f4");
element!(i32, "<i4");
element!(i64, "<i8");
element!(i8, "|i1");
element!(u8, "|u1");

impl<W: Write + Seek> NpzWriter<W> {
    /// An empty archive in `to`.
    ///
    /// ```
    /// use handloom::storage::npz::{NpzReader, NpzWriter};
    /// use std::{io::Cursor, path::Path};
    ///
    /// let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
    /// npz.numbers("sequences", &[1, 3], [0.5_f32, 1.0, -1.0])?;
    /// npz.strings("labels", &["book"])?;
    /// let bytes = npz.finish()?;
    /// let mut npz = NpzReader::new(Path::new("example.npz"), bytes)?;
    /// assert_eq!(npz.numbers::<f32>("sequences")?, (vec![0.5, 1.0, -1.0], vec![1, 3]));
    /// assert_eq!(npz.strings("labels")?, ["book"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(to: W) -> Self {
        Self {
            zip: ZipWriter::new(Muted::new(to)),
        }
    }

    /// Adds an array of numbers in C order.
    ///
    /// # Errors
    /// When writing fails or the number of `values` differs from `shape`.
    pub fn numbers<T: Element>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: impl IntoIterator<Item = T>,
    ) -> io::Result<()> {
        self.begin(name, T::DESCR, shape)?;
        let mut left: usize = shape.iter().product();
        let mut buffer = Vec::with_capacity(1 << 16);
        for value in values {
            value.put(&mut buffer);
            left = left.checked_sub(1).ok_or_else(|| {
                io::Error::other(format!("{name}: more values than its shape {shape:?}"))
            })?;
            if buffer.len() >= (1 << 16) - 8 {
                self.zip.write_all(&buffer)?;
                buffer.clear();
            }
        }
        if left > 0 {
            return Err(io::Error::other(format!(
                "{name}: {left} values fewer than its shape {shape:?}"
            )));
        }
        self.zip.write_all(&buffer)
    }

    /// Adds a one-dimensional array of strings, as wide as the longest.
    ///
    /// # Errors
    /// When writing fails.
    pub fn strings<S: AsRef<str>>(&mut self, name: &str, values: &[S]) -> io::Result<()> {
        let width = values
            .iter()
            .map(|s| s.as_ref().chars().count())
            .max()
            .unwrap_or(0)
            .max(1);
        self.begin(name, &format!("<U{width}"), &[values.len()])?;
        let mut buffer = Vec::new();
        for value in values {
            let end = buffer.len() + width * 4;
            buffer.extend(
                value
                    .as_ref()
                    .chars()
                    .flat_map(|c| u32::from(c).to_le_bytes()),
            );
            buffer.resize(end, 0);
        }
        self.zip.write_all(&buffer)
    }

    /// Adds an array whose bytes `fill` writes: for arrays that are not to be held in memory.
    ///
    /// # Errors
    /// When writing fails.
    pub fn raw(
        &mut self,
        name: &str,
        descr: &str,
        shape: &[usize],
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.begin(name, descr, shape)?;
        fill(&mut self.zip)
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(self) -> io::Result<W> {
        let muted = self.zip.finish()?;
        if muted.has_failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        Ok(muted.to)
    }

    fn begin(&mut self, name: &str, descr: &str, shape: &[usize]) -> io::Result<()> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::DEFAULT)
            .unix_permissions(0o644)
            .large_file(true);
        self.zip
            .start_file(npyz::npz::file_name_from_array_name(name), options)?;
        let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
        let dtype = DType::Plain(
            descr
                .parse()
                .map_err(|e| io::Error::other(format!("{descr}: {e}")))?,
        );
        npyz::WriteOptions::new_header_only()
            .dtype(dtype)
            .shape(&shape)
            .writer(&mut self.zip)
            .write_header_only()?;
        Ok(())
    }
}

/// Reads arrays by name.
pub struct NpzReader<R = BufReader<File>> {
    path: PathBuf,
    zip: ZipArchive<R>,
}

impl NpzReader {
    /// Opens `path`.
    ///
    /// # Errors
    /// When it cannot be read or is no zip archive.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::read(path))?;
        Self::new(path, BufReader::new(file))
    }
}

impl<R: Read + Seek> NpzReader<R> {
    /// Reads from `from`; errors call it `path`.
    ///
    /// # Errors
    /// When it is no zip archive.
    pub fn new(path: &Path, from: R) -> Result<Self, StoreError> {
        let zip = ZipArchive::new(from).map_err(|e| broken(path, &e))?;
        Ok(Self {
            path: path.to_path_buf(),
            zip,
        })
    }

    /// The error that this file is not what it should be.
    pub(super) fn broken(&self, reason: &dyn std::fmt::Display) -> StoreError {
        broken(&self.path, reason)
    }

    /// Names of the arrays, in file order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let files = self.zip.file_names().flatten();
        files
            .filter_map(|f| npyz::npz::array_name_from_file_name(&f).map(str::to_owned))
            .collect()
    }

    /// Type string and shape of an array.
    ///
    /// # Errors
    /// When there is no such array or its header is broken.
    pub fn header(&mut self, name: &str) -> Result<(String, Vec<usize>), StoreError> {
        self.with_array(name, |_, header| {
            Ok((
                header.dtype().descr().trim_matches('\'').to_owned(),
                shape_of(&header),
            ))
        })
    }

    /// Numbers of an array in C order, with its shape.
    ///
    /// # Errors
    /// When there is no such array, or of another type.
    pub fn numbers<T: npyz::Deserialize>(
        &mut self,
        name: &str,
    ) -> Result<(Vec<T>, Vec<usize>), StoreError> {
        self.with_array(name, |mut from, header| {
            let shape = shape_of(&header);
            let file = NpyFile::with_header(header, &mut from);
            Ok((file.into_vec::<T>()?, shape))
        })
    }

    /// Strings of a one-dimensional array.
    ///
    /// # Errors
    /// When there is no such array, or of another type.
    pub fn strings(&mut self, name: &str) -> Result<Vec<String>, StoreError> {
        self.numbers::<String>(name).map(|(values, _)| values)
    }

    /// Copies the bytes of an array, without its header.
    ///
    /// # Errors
    /// When there is no such array or it cannot be read, a [`StoreError`]; when writing fails, what `to` said.
    pub fn copy_data(&mut self, name: &str, to: &mut dyn Write) -> io::Result<u64> {
        let mut refused = None;
        let copied = self.with_array(name, |from, _| {
            let mut buffer = vec![0; 1 << 16];
            let mut copied = 0;
            loop {
                let bytes = from.read(&mut buffer)?;
                // This file is not the cause and is not named in the error.
                refused = to.write_all(&buffer[..bytes]).err();
                if bytes == 0 || refused.is_some() {
                    return Ok(copied);
                }
                copied += bytes as u64;
            }
        });
        refused.map_or(copied.map_err(io::Error::other), Err)
    }

    fn with_array<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut dyn Read, NpyHeader) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        let mut member = self
            .zip
            .by_name(&npyz::npz::file_name_from_array_name(name))
            .map_err(|e| broken(&path, &format!("array {name}: {e}")))?;
        let header = NpyHeader::from_reader(&mut member)
            .map_err(|e| broken(&path, &format!("array {name}: {e}")))?;
        // A wrong header must not reserve memory that the file cannot fill.
        let item: usize = header.dtype().num_bytes().unwrap_or(1).max(1);
        if header.len().saturating_mul(item as u64) > member.size() {
            return Err(broken(
                &path,
                &format!(
                    "array {name}: the header promises {} values, the file ends before",
                    header.len()
                ),
            ));
        }
        read(&mut member, header).map_err(|e| broken(&path, &format!("array {name}: {e}")))
    }
}

fn shape_of(header: &NpyHeader) -> Vec<usize> {
    header
        .shape()
        .iter()
        .map(|n| usize::try_from(*n).unwrap_or(usize::MAX))
        .collect()
}

fn broken(path: &Path, reason: &dyn std::fmt::Display) -> StoreError {
    StoreError::Broken {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut npz = NpzWriter::new(io::Cursor::new(Vec::new()));
        npz.numbers("a", &[2, 3], [1.5_f32, 2.0, -0.0, 4.0, 5.0, 6.0])
            .unwrap();
        npz.strings("s", &["book", "café", ""]).unwrap();
        npz.numbers("i", &[2], [-1_i8, 1]).unwrap();
        npz.strings::<&str>("none", &[]).unwrap();
        npz.finish().unwrap().into_inner()
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        std::fs::write(&path, sample()).unwrap();
        let mut npz = NpzReader::open(&path).unwrap();
        assert_eq!(npz.names(), ["a", "s", "i", "none"]);
        assert_eq!(npz.header("a").unwrap(), ("<f4".to_owned(), vec![2, 3]));
        assert_eq!(npz.header("s").unwrap(), ("<U4".to_owned(), vec![3]));
        assert_eq!(
            npz.numbers::<f32>("a").unwrap().0,
            [1.5, 2.0, -0.0, 4.0, 5.0, 6.0]
        );
        assert_eq!(npz.strings("s").unwrap(), ["book", "café", ""]);
        assert_eq!(npz.numbers::<i8>("i").unwrap(), (vec![-1, 1], vec![2]));
        assert_eq!(npz.header("none").unwrap(), ("<U1".to_owned(), vec![0]));
        assert!(
            npz.strings("b")
                .unwrap_err()
                .to_string()
                .contains("array b")
        );
    }

    #[test]
    fn bytes_repeat_and_carry_no_time() {
        assert_eq!(sample(), sample());
        // 1980-01-01 00:00 in DOS form, in the first local header.
        assert_eq!(sample()[10..14], [0, 0, 0x21, 0]);
    }

    /// Takes so many bytes.
    struct Small(io::Cursor<Vec<u8>>, usize);

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.position() + bytes.len() as u64 > self.1 as u64 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Small {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn a_full_disk_is_told_wherever_it_strikes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        std::fs::write(&path, sample()).unwrap();
        let copy = |room: usize| -> io::Result<()> {
            let mut from = NpzReader::open(&path).unwrap();
            let mut to = NpzWriter::new(Small(io::Cursor::default(), room));
            to.raw("a", "<f4", &[2, 3], |to| {
                from.copy_data("a", to)
                    .map(|bytes| assert_eq!(bytes, 2 * 3 * 4))
            })?;
            to.strings("s", &["x"])?;
            to.finish().map(drop)
        };
        let enough = (0..10_000).find(|room| copy(*room).is_ok()).unwrap();
        assert!(enough > 500, "{enough}");
        for room in 0..enough {
            let error = copy(room).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}: {error}");
        }
        copy(enough + 1).unwrap();
    }

    #[test]
    fn a_wrong_number_of_values_is_an_error() {
        let mut npz = NpzWriter::new(io::Cursor::new(Vec::new()));
        assert!(npz.numbers("a", &[3], [1.0_f32, 2.0]).is_err());
        let mut npz = NpzWriter::new(io::Cursor::new(Vec::new()));
        assert!(npz.numbers("a", &[1], [1.0_f32, 2.0]).is_err());
    }
}
