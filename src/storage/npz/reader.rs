//! Reads npz files, also manipulated ones: no memory is reserved for a size that a file only declares.

use super::archive_headers::{self, ArchiveMember};
use super::header::{ArrayHeader, invalid};
use crate::storage::StoreError;
use crate::storage::atomic_file::open_plain;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};
use std::ops::Range;
use std::path::{Path, PathBuf};
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

/// Values that are decoded at once.
const CHUNK_ITEMS: usize = 1 << 14;
/// Maximum length of a string in characters.
const TEXT_CHARS_MAX: usize = 1 << 14;
/// Maximum size of a compressed array that is loaded as a whole. An uncompressed one is as large as its file.
const UNPACKED_BYTES_MAX: u64 = 16 << 20;

/// A value of an array.
pub trait Element: Sized {
    /// numpy's type string, or its beginning.
    const DESCR: &'static str;

    /// Decodes one value from `bytes`, whose number is the item size of the array's type.
    ///
    /// # Errors
    /// Fails when `bytes` are no valid value.
    fn decode(bytes: &[u8]) -> io::Result<Self>;
}

macro_rules! element {
    ($($number:ty, $descr:literal;)*) => {$(
        impl Element for $number {
            const DESCR: &'static str = $descr;

            fn decode(bytes: &[u8]) -> io::Result<Self> {
                let bytes = bytes.try_into().map_err(|_| invalid("its values have another size"))?;
                Ok(Self::from_le_bytes(bytes))
            }
        }
    )*};
}

element! {
    f32, "<f4";
    i8, "|i1";
    u8, "|u1";
    i32, "<i4";
    u32, "<u4";
    i64, "<i8";
    f64, "<f8";
}

impl Element for bool {
    const DESCR: &'static str = "|b1";

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        match bytes {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(invalid("a value in it is neither true nor false")),
        }
    }
}

impl Element for String {
    const DESCR: &'static str = "<U";

    fn decode(bytes: &[u8]) -> io::Result<Self> {
        let codes = bytes
            .chunks_exact(4)
            .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        let codes: Vec<u32> = codes.collect();
        let length = codes
            .iter()
            .rposition(|code| *code != 0)
            .map_or(0, |last| last + 1);
        let chars = codes[..length].iter().map(|code| char::from_u32(*code));
        let text: Option<Self> = chars.collect();
        text.ok_or_else(|| invalid("a string in it is no text"))
    }
}

/// Reads the arrays of an npz file by name.
pub struct NpzReader<R = BufReader<File>> {
    path: PathBuf,
    zip: ZipArchive<R>,
}

impl NpzReader {
    /// Opens `path`.
    ///
    /// # Errors
    /// Fails when it cannot be read or is no zip archive.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = open_plain(path).map_err(StoreError::read(path))?;
        Self::new(path, BufReader::new(file))
    }
}

impl<R: Read + Seek> NpzReader<R> {
    /// Reads the archive in `from`. Errors name it `path`.
    ///
    /// # Errors
    /// Fails when it is no zip archive.
    pub fn new(path: &Path, from: R) -> Result<Self, StoreError> {
        let zip = ZipArchive::new(from).map_err(|e| broken(path, &e))?;
        Ok(Self {
            path: path.to_path_buf(),
            zip,
        })
    }

    /// The error for this file, with the `reason` why it cannot be read.
    pub(crate) fn broken(&self, reason: &dyn Display) -> StoreError {
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
    /// Fails when the array does not exist or its header is broken.
    pub fn header(&mut self, name: &str) -> Result<(String, Vec<usize>), StoreError> {
        self.read(name, |_, header, _| Ok((header.descr, header.shape)))
    }

    /// Numbers of an array in C order, with its shape.
    ///
    /// # Errors
    /// Fails when the array does not exist, has another type or a wrong checksum, or is compressed and very large.
    pub fn numbers<T: Element>(&mut self, name: &str) -> Result<(Vec<T>, Vec<usize>), StoreError> {
        let mut values = Vec::new();
        let shape = self.read(name, |member, header, is_compressed| {
            let bytes = (header.items as u64).saturating_mul(header.item_bytes as u64);
            if is_compressed && bytes > UNPACKED_BYTES_MAX {
                return Err(invalid(format!(
                    "it is compressed and has {bytes} bytes unpacked"
                )));
            }
            values.reserve_exact(header.items.min(CHUNK_ITEMS));
            decode(member, &header, &mut |chunk: &mut Vec<T>| {
                values.append(chunk);
                Ok(())
            })?;
            Ok(header.shape)
        })?;
        Ok((values, shape))
    }

    /// Passes the values of an array to `each` in C order, in pieces, so that memory does not grow with the array.
    ///
    /// # Errors
    /// Returns the errors of `each`. Fails when the array does not exist, or has another type or a wrong checksum.
    pub fn pieces<T: Element>(
        &mut self,
        name: &str,
        mut each: impl FnMut(&mut Vec<T>) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        self.read(name, |member, header, _| decode(member, &header, &mut each))
    }

    /// Values of the rows `range` of an array, in C order. Nothing before them is read and no checksum is compared,
    /// so the file must be known to be whole.
    ///
    /// # Errors
    /// Fails when the array does not exist, has another type or fewer rows, or is compressed.
    pub(crate) fn rows<T: Element>(
        &mut self,
        name: &str,
        range: Range<usize>,
    ) -> Result<Vec<T>, StoreError> {
        let header = self.read(name, |_, header, _| Ok(header))?;
        let broken = |reason: &dyn Display| broken(&self.path, &format!("array {name}: {reason}"));
        let rows = header.shape.first().copied().unwrap_or(0);
        if range.start > range.end || range.end > rows {
            return Err(broken(&format!(
                "it has {rows} rows, {} are needed",
                range.end
            )));
        }
        let row_bytes = header.items / rows.max(1) * header.item_bytes;
        let wanted = ArrayHeader {
            items: range.len() * (header.items / rows.max(1)),
            ..header
        };
        let file_name = npyz::npz::file_name_from_array_name(name);
        let member = self.zip.by_name_seek(&file_name);
        let mut member = member.map_err(|e| broken(&e))?;
        // Rows from here to the end of the array, which is that of its member.
        let left = ((rows - range.start) * row_bytes) as u64;
        let start = member.size().saturating_sub(left);
        let mut values = Vec::with_capacity(wanted.items);
        let read = member.seek(SeekFrom::Start(start)).and_then(|_| {
            let mut member = member.take((range.len() * row_bytes) as u64);
            decode(&mut member, &wanted, &mut |chunk: &mut Vec<T>| {
                values.append(chunk);
                Ok(())
            })
        });
        read.map_err(|e| broken(&e))?;
        Ok(values)
    }

    /// Strings of a one-dimensional array.
    ///
    /// # Errors
    /// Fails when the array does not exist or has another type.
    pub fn strings(&mut self, name: &str) -> Result<Vec<String>, StoreError> {
        self.numbers::<String>(name).map(|(values, _)| values)
    }

    /// Reads all members, compares their checksums, and compares the headers with those that [`super::NpzWriter`]
    /// writes.
    ///
    /// # Errors
    /// Fails when a checksum or a header differs.
    pub(crate) fn verify(mut self) -> Result<(), StoreError> {
        let mut members = Vec::with_capacity(self.zip.len());
        for n in 0..self.zip.len() {
            let member = self.zip.by_index(n);
            let mut member = member.map_err(|e| broken(&self.path, &e))?;
            let size = member.size();
            members.push(ArchiveMember {
                name: member
                    .name()
                    .map_err(|e| broken(&self.path, &e))?
                    .into_owned(),
                crc32: member.crc32(),
                size,
                header_start: member.header_start(),
                entry_start: member.central_header_start(),
            });
            match io::copy(&mut member, &mut io::sink()) {
                Ok(read) if read == size => {}
                Ok(read) => return Err(broken(&self.path, &format!("{read} of {size} bytes"))),
                Err(error) => return Err(broken(&self.path, &error)),
            }
        }
        let mut file = self.zip.into_inner();
        archive_headers::compare(&mut file, &members).map_err(|e| broken(&self.path, &e))
    }

    /// Passes to `read` the member with the array `name` behind its header, limited to its own size, and whether it
    /// is compressed.
    fn read<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Member<'_, R>, ArrayHeader, bool) -> io::Result<T>,
    ) -> Result<T, StoreError> {
        let broken = |reason: &dyn Display| broken(&self.path, &format!("array {name}: {reason}"));
        let file_name = npyz::npz::file_name_from_array_name(name);
        let member = self.zip.by_name(&file_name).map_err(|e| broken(&e))?;
        let (size, is_compressed) = (
            member.size(),
            member.compression() != CompressionMethod::Stored,
        );
        // One byte more, so that the end is read.
        let member = &mut BufReader::new(member).take(size.saturating_add(1));
        let header = ArrayHeader::read(member, size).map_err(|e| broken(&e))?;
        read(member, header, is_compressed).map_err(|e| broken(&e))
    }
}

type Member<'a, R> = Take<BufReader<ZipFile<'a, R>>>;

/// Passes the values behind `header` to `each`, in pieces, and compares the checksum at the end.
fn decode<T: Element>(
    member: &mut impl Read,
    header: &ArrayHeader,
    each: &mut dyn FnMut(&mut Vec<T>) -> io::Result<()>,
) -> io::Result<()> {
    let (descr, item_bytes) = (&header.descr, header.item_bytes);
    let is_right = match T::DESCR {
        "<U" => descr.starts_with("<U") && item_bytes <= 4 * TEXT_CHARS_MAX,
        expected => descr == expected,
    };
    if !is_right {
        return Err(invalid(format!(
            "it has the type {descr:?}, not {}",
            T::DESCR
        )));
    }
    if header.is_fortran && header.shape.len() > 1 {
        return Err(invalid("its values are in Fortran order"));
    }
    let per_piece = (CHUNK_ITEMS * 4 / item_bytes).max(1);
    let mut bytes = Vec::new();
    let mut values = Vec::new();
    let mut left = header.items;
    while left > 0 {
        let count = left.min(per_piece);
        bytes.resize(count * item_bytes, 0);
        member.read_exact(&mut bytes)?;
        let decoded = bytes.chunks_exact(item_bytes).map(T::decode);
        for value in decoded {
            values.push(value?);
        }
        each(&mut values)?;
        values.clear();
        left -= count;
    }
    // The checksum is compared at the end of the member.
    match io::copy(member, &mut io::sink())? {
        0 => Ok(()),
        more => Err(invalid(format!("{more} bytes follow its values"))),
    }
}

fn broken(path: &Path, reason: &dyn Display) -> StoreError {
    StoreError::Broken {
        path: path.to_path_buf(),
        reason: reason.to_string(),
    }
}
