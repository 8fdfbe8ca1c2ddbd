//! Clears the dates in the index (`moov`) of a finished MP4 file and counts its pictures.
//!
//! Box names and layouts: ISO/IEC 14496-12, as far as files of [`super::encode_mp4`] need them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Boxes of an MP4 file that hold other boxes on the way to a date or to the count of pictures.
const CONTAINERS: [&[u8; 4]; 5] = [b"moov", b"trak", b"mdia", b"minf", b"stbl"];

/// Boxes that begin with version, flags, time of creation and time of modification (ISO/IEC 14496-12).
const DATED: [&[u8; 4]; 3] = [b"mvhd", b"tkhd", b"mdhd"];

/// Largest `moov` that is read into memory.
const MOOV_MAX_BYTES: u64 = 64 << 20;

/// Sets all dates of an MP4 file to 0, "unknown": the muxer writes the current time. Returns the number of pictures.
pub(super) fn clear_dates(path: &Path) -> io::Result<u64> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let (start, length) = find_moov(&mut file)?;
    let mut moov = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    Read::by_ref(&mut file)
        .take(length)
        .read_to_end(&mut moov)?;
    let count = clear_dates_in(&mut moov);
    file.seek(SeekFrom::Start(start))?;
    file.write_all(&moov)?;
    Ok(count)
}

/// Offset and length of the `moov` box, its header included.
fn find_moov(file: &mut File) -> io::Result<(u64, u64)> {
    let broken = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut start = 0;
    loop {
        let mut header = [0; 16];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut header[..8])?;
        let mut length = big_endian(&header[..4]);
        if length == 1 {
            // The real length follows as 64 bits.
            file.read_exact(&mut header[8..])?;
            length = big_endian(&header[8..]);
        }
        if length < 8 {
            return Err(broken("an MP4 box shorter than its header"));
        }
        if header[4..8] == *b"moov" {
            if length > MOOV_MAX_BYTES {
                return Err(broken("an MP4 index of unlikely size"));
            }
            return Ok((start, length));
        }
        start += length;
    }
}

/// Walks the boxes in `bytes` and those within; stops at the first that does not fit.
///
/// Returns how many pictures the longest table of sizes (`stsz`) lists, 0 without one.
fn clear_dates_in(mut bytes: &mut [u8]) -> u64 {
    let mut count = 0;
    while bytes.len() >= 8 {
        let length = usize::try_from(big_endian(&bytes[..4])).unwrap_or(usize::MAX);
        if length < 8 || length > bytes.len() {
            break;
        }
        let (this, rest) = bytes.split_at_mut(length);
        let (header, body) = this.split_at_mut(8);
        let is = |kind: &&[u8; 4]| header[4..] == kind[..];
        if CONTAINERS.iter().any(is) {
            count = clear_dates_in(body).max(count);
        } else if DATED.iter().any(is) {
            // Version 1 has dates of 8 bytes, version 0 of 4; both follow the four bytes of version and flags.
            let dates = if body.first() == Some(&1) {
                4..20
            } else {
                4..12
            };
            if let Some(dates) = body.get_mut(dates) {
                dates.fill(0);
            }
        } else if is(&b"stsz") {
            // After version, flags and the size that all pictures share (0: they have none).
            if let Some(images) = body.get(8..12) {
                count = big_endian(images).max(count);
            }
        }
        bytes = rest;
    }
    count
}

/// The number that at most eight bytes spell, the highest byte first.
fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, &b| (sum << 8) | u64::from(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A box of the given kind.
    fn boxed(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).unwrap();
        [&length.to_be_bytes(), &kind, body].concat()
    }

    #[test]
    fn dates_are_cleared_and_pictures_counted_at_every_depth() {
        let sizes = boxed(*b"stsz", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7]);
        let tables = boxed(*b"minf", &boxed(*b"stbl", &sizes));
        let index = |old: &[u8], new: &[u8]| {
            let media = [boxed(*b"mdhd", old), tables.clone()].concat();
            let track = [boxed(*b"tkhd", new), boxed(*b"mdia", &media)].concat();
            boxed(
                *b"moov",
                &[boxed(*b"mvhd", old), boxed(*b"trak", &track)].concat(),
            )
        };
        // Version 0 with two dates of four bytes, version 1 with two of eight; a 9 follows each.
        let old = |date: u8| [vec![0; 4], vec![date; 8], vec![9]].concat();
        let new = |date: u8| [vec![1, 0, 0, 0], vec![date; 16], vec![9]].concat();
        let mut bytes = index(&old(5), &new(5));
        assert_eq!(clear_dates_in(&mut bytes), 263);
        assert_eq!(bytes, index(&old(0), &new(0)));
    }

    #[test]
    fn odd_boxes_are_left_alone() {
        for bytes in [
            &b"\0\0\0\x08moov"[..],
            b"\0\0\0\x07moov",
            b"\xff\xff\xff\xffmvhd\0\0",
            b"\0\0\0\x0cmvhd\x01\0\0\0",
            b"abc",
        ] {
            let mut copy = bytes.to_vec();
            assert_eq!(clear_dates_in(&mut copy), 0);
            assert_eq!(copy, bytes);
        }
    }
}
