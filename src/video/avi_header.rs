//! The frame count of an AVI file, from the header of its first video stream, as FFmpeg's demuxer reads it.

use super::file_format::read_head;
use std::fs::File;
use std::io;

/// Bytes of the file that its headers lie in.
const HEADER_BYTES: u64 = 64 << 10;

/// The number of frames that an AVI file declares; `None` for another file or one that declares none.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn frame_count(file: &File) -> io::Result<Option<u64>> {
    let head = read_head(file, HEADER_BYTES)?;
    // Each frame has a chunk, if only an empty one of eight bytes: a count beyond that was never filled in.
    let possible = file.metadata()?.len() / 8;
    Ok(declared(&head).filter(|count| *count <= possible))
}

/// The count in the first bytes of a file.
fn declared(head: &[u8]) -> Option<u64> {
    if head.get(..4)? != b"RIFF" || head.get(8..11)? != b"AVI" {
        return None;
    }
    let header = list(head.get(12..)?, *b"hdrl")?;
    let streams = chunks(header).filter_map(|(kind, content)| {
        (kind == b"LIST" && content.starts_with(b"strl")).then(|| content.get(4..))?
    });
    let mut headers = streams.filter_map(|stream| {
        let header = chunks(stream).find(|(kind, _)| *kind == b"strh");
        header.map(|(_, content)| content)
    });
    let video = headers.find(|header| header.starts_with(b"vids"))?;
    let count = video.get(32..)?.first_chunk()?;
    Some(u32::from_le_bytes(*count).into()).filter(|count| *count > 0)
}

/// The content of the list of this kind.
fn list(bytes: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    chunks(bytes).find_map(|(name, content)| {
        (name == b"LIST" && content.starts_with(&kind)).then(|| content.get(4..))?
    })
}

/// Names and contents of the chunks of one level. One that is cut off counts as far as it goes.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_at_checked(4)?;
        let (size, rest) = rest.split_first_chunk()?;
        let size = u32::from_le_bytes(*size) as usize;
        let content = &rest[..size.min(rest.len())];
        // Contents of an odd size are followed by a byte that fills up.
        bytes = rest.get(size + size % 2..).unwrap_or(&[]);
        Some((name, content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        let fill = if content.len() % 2 == 1 {
            &[0][..]
        } else {
            &[]
        };
        [name, &size, content, fill].concat()
    }

    fn stream(kind: &[u8], frames: u32) -> Vec<u8> {
        let mut header = [kind, &[0; 52]].concat();
        header[32..36].copy_from_slice(&frames.to_le_bytes());
        let header = chunk(b"strh", &header);
        chunk(b"LIST", &[b"strl", &header[..]].concat())
    }

    fn avi(streams: &[Vec<u8>]) -> Vec<u8> {
        let first = chunk(b"avih", &[7; 57]);
        let list = [b"hdrl", &first[..], &streams.concat()].concat();
        let content = [b"AVI ", &chunk(b"LIST", &list)[..]].concat();
        chunk(b"RIFF", &content)
    }

    #[test]
    fn the_first_video_stream_counts() {
        let sound = stream(b"auds", 9000);
        let (first, second) = (stream(b"vids", 50), stream(b"vids", 7));
        let whole = avi(&[sound.clone(), first, second]);
        assert_eq!(declared(&whole), Some(50));
        assert_eq!(declared(&avi(&[sound])), None);
        assert_eq!(declared(&avi(&[stream(b"vids", 0)])), None);
        for length in 0..whole.len() {
            assert!(declared(&whole[..length]).is_none_or(|count| count == 50));
        }
        let mut other = whole;
        other[8..12].copy_from_slice(b"WAVE");
        assert_eq!(declared(&other), None);
    }
}
