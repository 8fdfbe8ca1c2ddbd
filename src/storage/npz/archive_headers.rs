//! The bytes of an npz file that no checksum in it covers: the headers of its archive.

use super::header::invalid;
use std::io::{self, Read, Seek, SeekFrom};

/// Offsets from here on need another form of header, which is not compared.
const OFFSET_MAX: u64 = 0xFFFF_FFFF;
/// An archive with this many members has another form of end, which is not compared.
const MEMBERS_MAX: usize = 0xFFFF;

/// A member of an archive, as its directory describes it.
pub(super) struct ArchiveMember {
    pub(super) name: String,
    pub(super) crc32: u32,
    /// Size of its content in bytes.
    pub(super) size: u64,
    /// Offset of the header before its content.
    pub(super) header_start: u64,
    /// Offset of its entry in the directory.
    pub(super) entry_start: u64,
}

/// Compares the headers of the archive in `file` with those that [`super::NpzWriter`] writes for `members`.
///
/// # Errors
/// Fails when one differs or cannot be read.
pub(super) fn compare(file: &mut (impl Read + Seek), members: &[ArchiveMember]) -> io::Result<()> {
    let is_large = |member: &ArchiveMember| member.entry_start >= OFFSET_MAX;
    let mut entries_end = members.first().map_or(0, |member| member.entry_start);
    let entries_start = entries_end;
    for member in members {
        expect(file, member.header_start, &member.header())?;
        let entry = member.entry();
        if !is_large(member) {
            expect(file, member.entry_start, &entry)?;
        }
        entries_end += entry.len() as u64;
    }
    if members.len() >= MEMBERS_MAX || members.iter().any(is_large) {
        return Ok(());
    }
    let count = number(members.len() as u64, 2);
    let mut end = b"PK\x05\x06\0\0\0\0".to_vec();
    end.extend([count.clone(), count].concat());
    end.extend(number(entries_end - entries_start, 4));
    end.extend(number(entries_start, 4));
    end.extend([0; 2]);
    expect(file, entries_end, &end)
}

impl ArchiveMember {
    /// What header and entry share: version 4.5, stored, 1980-01-01, sizes in the extra field.
    fn description(&self) -> Vec<u8> {
        let mut bytes = vec![45, 0, 0, 0, 0, 0, 0, 0, 33, 0];
        bytes.extend(self.crc32.to_le_bytes());
        bytes.extend([0xFF; 8]);
        bytes.extend(number(self.name.len() as u64, 2));
        bytes.extend([20, 0]);
        bytes
    }

    fn name_and_sizes(&self) -> Vec<u8> {
        let size = self.size.to_le_bytes();
        [self.name.as_bytes(), &[1, 0, 16, 0], &size, &size].concat()
    }

    fn header(&self) -> Vec<u8> {
        let signature = b"PK\x03\x04".to_vec();
        [signature, self.description(), self.name_and_sizes()].concat()
    }

    fn entry(&self) -> Vec<u8> {
        let mut bytes = b"PK\x01\x02\x2d\x03".to_vec();
        bytes.extend(self.description());
        // No comment, on the first disk, a regular file of mode 0644.
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0xA4, 0x81]);
        bytes.extend(number(self.header_start, 4));
        bytes.extend(self.name_and_sizes());
        bytes
    }
}

/// The `bytes` lowest bytes of `value`.
fn number(value: u64, bytes: usize) -> Vec<u8> {
    value.to_le_bytes()[..bytes].to_vec()
}

fn expect(file: &mut (impl Read + Seek), at: u64, expected: &[u8]) -> io::Result<()> {
    let mut found = vec![0; expected.len()];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut found)?;
    if found == expected {
        return Ok(());
    }
    Err(invalid("a header of its archive has changed"))
}

#[cfg(test)]
mod tests {
    use crate::storage::npz::{NpzReader, NpzWriter};
    use std::io::Cursor;
    use std::path::Path;

    /// Each single flipped bit of a file is found, wherever it is.
    #[test]
    fn every_flipped_bit_is_found() {
        let mut npz = NpzWriter::new(Cursor::new(Vec::new()));
        npz.numbers("values", &[2], [1.0_f32, 2.0])
            .expect("memory is writable");
        npz.strings("labels", &["book"])
            .expect("memory is writable");
        let bytes = npz.finish().expect("memory is writable").into_inner();
        let is_found = |bytes: &[u8]| {
            NpzReader::new(Path::new("npz"), Cursor::new(bytes))
                .and_then(NpzReader::verify)
                .is_err()
        };
        assert!(!is_found(&bytes));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(is_found(&flipped), "bit {} of byte {}", bit % 8, bit / 8);
        }
    }
}
