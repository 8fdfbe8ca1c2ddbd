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
    let count = chunk_of(first_video(head)?, *b"strh")?.get(32..)?;
    Some(u32::from_le_bytes(*count.first_chunk()?).into()).filter(|count| *count > 0)
}

/// What the header of the first video stream says of its pictures. The demuxer does not pass it on for a codec that it does
/// not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AviFrameFormat {
    /// Pixels.
    pub width: i32,
    /// Pixels.
    pub height: i32,
    /// The codec's own header; often empty.
    pub codec_data: Vec<u8>,
}

/// The pictures of the file that begins with `head`; `None` for another file.
pub(super) fn frame_format(head: &[u8]) -> Option<AviFrameFormat> {
    let format = chunk_of(first_video(head)?, *b"strf")?;
    let number = |at: usize| Some(i32::from_le_bytes(*format.get(at..)?.first_chunk()?));
    Some(AviFrameFormat {
        width: number(4)?,
        // Rows that are stored upwards have a negative number.
        height: number(8)?.saturating_abs(),
        codec_data: format.get(40..)?.to_vec(),
    })
}

/// The list of the first video stream.
fn first_video(head: &[u8]) -> Option<&[u8]> {
    if head.get(..4)? != b"RIFF" || head.get(8..11)? != b"AVI" {
        return None;
    }
    let header = list(head.get(12..)?, *b"hdrl")?;
    let mut streams = chunks(header).filter_map(|(kind, content)| {
        (kind == b"LIST" && content.starts_with(b"strl")).then(|| content.get(4..))?
    });
    streams.find(|stream| chunk_of(stream, *b"strh").is_some_and(|h| h.starts_with(b"vids")))
}

/// The content of the chunk of this kind.
fn chunk_of(bytes: &[u8], kind: [u8; 4]) -> Option<&[u8]> {
    chunks(bytes).find_map(|(name, content)| (name == kind).then_some(content))
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
        assert_eq!(declared(&avi(&[sound.clone()])), None);
        let format: Vec<u8> = [
            48_u32,
            640,
            480_u32.wrapping_neg(),
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0x0201,
        ]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
        let video = chunk(b"strh", &[&b"vids"[..], &[0; 52]].concat());
        let video = [&b"strl"[..], &video, &chunk(b"strf", &format)].concat();
        let file = avi(&[sound, chunk(b"LIST", &video)]);
        let expected = AviFrameFormat {
            width: 640,
            height: 480,
            codec_data: vec![1, 2, 0, 0],
        };
        assert_eq!(frame_format(&file), Some(expected));
        assert_eq!(frame_format(&whole), None);
        assert_eq!(declared(&avi(&[stream(b"vids", 0)])), None);
        for length in 0..whole.len() {
            assert!(declared(&whole[..length]).is_none_or(|count| count == 50));
        }
        let mut other = whole;
        other[8..12].copy_from_slice(b"WAVE");
        assert_eq!(declared(&other), None);
    }
}
