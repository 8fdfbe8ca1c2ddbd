//! Whether the end of an AVI or FLV file cuts its last packet off. FFmpeg decodes what there is of it.

use super::VideoTrack;
use crate::dataset::clip_note::ClipNote;
use std::io::{self, Read, Seek, SeekFrom};

/// Most top-level chunks of an AVI file that are read.
const CHUNKS_MAX: usize = 1000;

/// What is known of the track of a file that is no MP4: where its packets may be cut off.
///
/// # Errors
/// When the file cannot be read.
pub fn other_track(file: &mut (impl Read + Seek)) -> io::Result<VideoTrack> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut head = [0; 12];
    file.seek(SeekFrom::Start(0))?;
    if length < head.len() as u64 {
        return Ok(VideoTrack::default());
    }
    file.read_exact(&mut head)?;
    let (cut_off_from, trailer) = match &head {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', _] => {
            (media_behind(file, length)?, 0)
        }
        // The size of each tag follows it.
        [b'F', b'L', b'V', ..] => (Some(9), 4),
        _ => (None, 0),
    };
    let is_cut_off = cut_off_from.is_some() && trailer == 0;
    Ok(VideoTrack {
        cut_off_from,
        trailer,
        notes: is_cut_off
            .then_some(ClipNote::CutOffFile)
            .into_iter()
            .collect(),
        ..VideoTrack::default()
    })
}

/// Position of the list of packets that the end of an AVI file cuts off. `None` when the index alone is cut off.
fn media_behind(file: &mut (impl Read + Seek), length: u64) -> io::Result<Option<u64>> {
    let mut at = 12;
    for _ in 0..CHUNKS_MAX {
        if at + 12 > length {
            break;
        }
        let mut chunk = [0; 12];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut chunk)?;
        let [a, b, c, d, size @ .., e, f, g, h] = chunk;
        let size = u64::from(u32::from_le_bytes(size));
        let end = at + 8 + size.next_multiple_of(2);
        at = match (&[a, b, c, d], &[e, f, g, h]) {
            (b"LIST", b"movi") if end > length => return Ok(Some(at + 12)),
            // Further parts of a long file lie in chunks of their own.
            (b"RIFF", b"AVIX") => at + 12,
            _ => end,
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    #[test]
    fn packets_are_cut_off_and_the_index_is_not() {
        let chunk = |kind: &[u8], content: &[u8]| {
            let size = u32::try_from(content.len()).unwrap().to_le_bytes();
            [kind, &size, content].concat()
        };
        let header = chunk(b"LIST", b"hdrl........");
        let media = chunk(b"LIST", &[&b"movi"[..], &chunk(b"00dc", &[0; 20])].concat());
        let index = chunk(b"idx1", &[0; 16]);
        let first = chunk(b"RIFF", &[&b"AVI "[..], &header, &media, &index].concat());
        let more = chunk(b"RIFF", &[&b"AVIX"[..], &media].concat());
        let whole = [first.clone(), more].concat();
        let from = |bytes: &[u8]| {
            let found = other_track(&mut Cursor::new(bytes)).unwrap();
            (found.cut_off_from, found.trailer)
        };
        let begin = 12 + header.len();
        let end = begin + media.len();
        let at = |position: usize| (Some(position as u64), 0);
        assert_eq!(from(&first[..end - 1]), at(begin + 12));
        assert_eq!(from(&first[..end]), (None, 0));
        assert_eq!(from(&first[..end + 10]), (None, 0));
        assert_eq!(from(&whole), (None, 0));
        assert_eq!(from(&whole[..whole.len() - 2]), at(first.len() + 24));
        assert_eq!(from(b"FLV\x01\x05\0\0\0\x09\0\0\0"), (Some(9), 4));
        assert_eq!(from(b"\x1aE\xdf\xa3\0\0\0\0\0\0\0\0"), (None, 0));
        for n in 0..whole.len() {
            other_track(&mut Cursor::new(&whole[..n])).unwrap();
        }
    }
}
