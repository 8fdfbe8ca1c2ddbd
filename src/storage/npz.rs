//! numpy's `.npz`: an uncompressed zip of `.npy` arrays that numpy reads without pickle. Equal contents give equal
//! bytes: entry times and order are fixed, and all entries are zip64.

mod archive_headers;
mod header;
mod reader;

pub use reader::{Element, NpzReader};

use npyz::{AutoSerialize, DType, NpyWriter, Serialize, WriterBuilder};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// Writes an npz file, one array after another.
pub struct NpzWriter<W: Write + Seek> {
    zip: ZipWriter<ErrorLatchingWriter<W>>,
}

/// A writer that accepts and drops everything after its first error. Without it, a [`ZipWriter`] that is dropped
/// half-way would try to end its file and print on stderr that it cannot.
struct ErrorLatchingWriter<W> {
    to: W,
    has_failed: bool,
    position: u64,
    end: u64,
}

impl<W> ErrorLatchingWriter<W> {
    fn note<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        let has_failed = |e: &io::Error| e.kind() != io::ErrorKind::Interrupted;
        self.has_failed |= done.as_ref().err().is_some_and(has_failed);
        done
    }
}

impl<W: Write> Write for ErrorLatchingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = bytes.len();
        if !self.has_failed {
            let done = self.to.write(bytes);
            written = self.note(done)?;
        }
        self.position += written as u64;
        self.end = self.end.max(self.position);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.has_failed {
            return Ok(());
        }
        let done = self.to.flush();
        self.note(done)
    }
}

impl<W: Seek> Seek for ErrorLatchingWriter<W> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = match to {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) => self.position.saturating_add_signed(by),
            SeekFrom::End(by) => self.end.saturating_add_signed(by),
        };
        if self.has_failed {
            return Ok(self.position);
        }
        let done = self.to.seek(SeekFrom::Start(self.position));
        self.note(done)
    }
}

impl<W: Write + Seek> NpzWriter<W> {
    /// An empty archive in `to`, which must be empty.
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
            zip: ZipWriter::new(ErrorLatchingWriter {
                to,
                has_failed: false,
                position: 0,
                end: 0,
            }),
        }
    }

    /// Adds an array of numbers in C order.
    ///
    /// # Errors
    /// Fails when writing fails or the number of `values` differs from `shape`.
    pub fn numbers<T: AutoSerialize>(
        &mut self,
        name: &str,
        shape: &[usize],
        values: impl IntoIterator<Item = T>,
    ) -> io::Result<()> {
        let mut array = self.array(name, T::default_dtype(), shape)?;
        array.extend(values)?;
        array.finish()
    }

    /// Adds a one-dimensional array of strings, as wide as the longest.
    ///
    /// # Errors
    /// Fails when writing fails.
    pub fn strings<S: AsRef<str>>(&mut self, name: &str, values: &[S]) -> io::Result<()> {
        let lengths = values.iter().map(|s| s.as_ref().chars().count());
        let dtype = strings_dtype(lengths.max().unwrap_or(0))?;
        let mut array = self.array::<str>(name, dtype, &[values.len()])?;
        values.iter().try_for_each(|s| array.push(s.as_ref()))?;
        array.finish()
    }

    /// Begins an array whose values are pushed one after another, so that it need not fit in memory.
    pub(super) fn array<'a, T: Serialize + ?Sized>(
        &'a mut self,
        name: &str,
        dtype: DType,
        shape: &[usize],
    ) -> io::Result<NpyWriter<T, impl Write + use<'a, T, W>>> {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::DEFAULT)
            .unix_permissions(0o644)
            .large_file(true);
        self.zip
            .start_file(npyz::npz::file_name_from_array_name(name), options)?;
        let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
        npyz::WriteOptions::new()
            .dtype(dtype)
            .shape(&shape)
            .writer(BufWriter::with_capacity(1 << 16, &mut self.zip))
            .begin_nd()
    }

    /// Ends the archive and returns what it was written to.
    ///
    /// # Errors
    /// Fails when writing fails.
    pub fn finish(self) -> io::Result<W> {
        let muted = self.zip.finish()?;
        if muted.has_failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        Ok(muted.to)
    }
}

/// The type of strings of which the longest has `width` characters.
pub(super) fn strings_dtype(width: usize) -> io::Result<DType> {
    let dtype = format!("<U{}", width.max(1));
    Ok(DType::Plain(dtype.parse().map_err(io::Error::other)?))
}

/// Writes an `.npy` file: `values` in C order.
///
/// # Errors
/// Fails when writing fails or the number of `values` differs from `shape`.
pub(crate) fn write_npy<T: AutoSerialize>(
    to: impl Write,
    shape: &[usize],
    values: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    let shape: Vec<u64> = shape.iter().map(|n| *n as u64).collect();
    let options = npyz::WriteOptions::new().default_dtype().shape(&shape);
    let mut array = options.writer(to).begin_nd()?;
    array.extend(values)?;
    array.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StoreError;
    use std::path::Path;

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
    fn a_flipped_bit_is_found() {
        let all = |bytes: &[u8]| -> Result<(), StoreError> {
            let mut npz = NpzReader::new(Path::new("x.npz"), io::Cursor::new(bytes))?;
            npz.numbers::<f32>("a")?;
            npz.strings("s")?;
            npz.numbers::<i8>("i")?;
            npz.strings("none").map(drop)
        };
        let good = sample();
        all(&good).unwrap();
        // The values of `a` follow its header of 128 bytes.
        let header = good.windows(6).position(|w| w == b"\x93NUMPY").unwrap();
        for at in header + 128..header + 128 + 24 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let error = all(&bad).unwrap_err().to_string();
            assert!(error.contains("array a"), "{at}: {error}");
        }
    }

    #[test]
    fn bytes_repeat_and_carry_no_time() {
        assert_eq!(sample(), sample());
        // 1980-01-01 00:00 in DOS form, in the first local header.
        assert_eq!(sample()[10..14], [0, 0, 0x21, 0]);
    }

    /// Accepts this many bytes.
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
    fn a_full_disk_is_reported_wherever_it_occurs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.npz");
        std::fs::write(&path, sample()).unwrap();
        let copy = |room: usize| -> io::Result<()> {
            let mut from = NpzReader::open(&path).unwrap();
            let mut to = NpzWriter::new(Small(io::Cursor::default(), room));
            let mut array = to.array::<f32>("a", f32::default_dtype(), &[2, 3])?;
            array.extend(from.numbers("a").unwrap().0)?;
            array.finish()?;
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
