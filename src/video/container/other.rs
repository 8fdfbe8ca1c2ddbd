//! What is known of the video in an AVI or FLV file: the frame count of an AVI file, as FFmpeg's demuxer reads it,
//! and where the end of the file may cut off packets. FFmpeg decodes the part of such a packet that exists.

use super::VideoTrack;
use crate::dataset::clip_note::ClipNote;
use std::io::{self, Read, Seek, SeekFrom};

/// Maximum number of top-level chunks of an AVI file that are read.
const CHUNKS_MAX: usize = 1000;
/// Maximum bytes of an AVI file's headers that are read.
const HEADER_BYTES_MAX: u64 = 64 << 10;

/// The track of a file that is no MP4.
///
/// # Errors
/// Fails when the file cannot be read.
pub fn other_track(file: &mut (impl Read + Seek)) -> io::Result<VideoTrack> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut track = VideoTrack::default();
    match read_at(file, 0, length)? {
        Some([b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', _]) => {
            read_avi(file, length, &mut track)?;
        }
        // Each tag is followed by its size.
        Some([b'F', b'L', b'V', ..]) => (track.cut_off_from, track.trailer) = (Some(9), 4),
        _ => {}
    }
    Ok(track)
}

/// The twelve bytes at `at`; `None` where a file of `length` bytes has fewer.
fn read_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> io::Result<Option<[u8; 12]>> {
    let mut bytes = [0; 12];
    if at.saturating_add(12) > length {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// Finds the frame count, and the list of packets if the end of the file cuts it off.
fn read_avi(file: &mut (impl Read + Seek), length: u64, track: &mut VideoTrack) -> io::Result<()> {
    let mut at = 12;
    for _ in 0..CHUNKS_MAX {
        let Some([a, b, c, d, size @ .., e, f, g, h]) = read_at(file, at, length)? else {
            break;
        };
        let size = u64::from(u32::from_le_bytes(size));
        let end = at + 8 + size.next_multiple_of(2);
        let inside = at + 12;
        at = end;
        match (&[a, b, c, d], &[e, f, g, h]) {
            (b"LIST", b"hdrl") if track.frames == 0 => {
                let mut header = Vec::new();
                let bytes = size.saturating_sub(4).min(HEADER_BYTES_MAX);
                file.by_ref().take(bytes).read_to_end(&mut header)?;
                // Each frame has a chunk, if only an empty one of eight bytes: a count beyond that was never filled
                // in.
                let declared = declared_frames(&header).filter(|count| *count <= length / 8);
                track.frames = declared.unwrap_or(0);
                track.avi = frame_format(&header);
            }
            (b"LIST", b"movi") if end > length => {
                track.cut_off_from = Some(inside);
                track.notes.insert(ClipNote::CutOffFile);
                break;
            }
            // The other parts of a long file are in separate chunks.
            (b"RIFF", b"AVIX") => at = inside,
            _ => {}
        }
    }
    Ok(())
}

/// The picture format in the header of an AVI file's first video stream. The demuxer does not pass it on for an
/// unknown codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AviFrameFormat {
    /// Width in pixels.
    pub width: i32,
    /// Height in pixels.
    pub height: i32,
    /// The codec's own header; often empty.
    pub codec_data: Vec<u8>,
}

/// The picture format of the first video stream.
fn frame_format(header: &[u8]) -> Option<AviFrameFormat> {
    let format = chunk(first_video(header)?, *b"strf")?;
    let number = |at: usize| Some(i32::from_le_bytes(*format.get(at..)?.first_chunk()?));
    Some(AviFrameFormat {
        width: number(4)?,
        // The height is negative when rows are stored from bottom to top.
        height: number(8)?.saturating_abs(),
        codec_data: format.get(40..)?.to_vec(),
    })
}

/// The count in the header of the first video stream.
fn declared_frames(header: &[u8]) -> Option<u64> {
    let count = chunk(first_video(header)?, *b"strh")?.get(32..)?;
    Some(u32::from_le_bytes(*count.first_chunk()?).into())
}

/// The list of the first video stream.
fn first_video(header: &[u8]) -> Option<&[u8]> {
    let lists = chunks(header).filter(|(kind, _)| *kind == b"LIST");
    let mut streams = lists.filter_map(|(_, list)| list.strip_prefix(b"strl"));
    streams.find(|stream| chunk(stream, *b"strh").is_some_and(|h| h.starts_with(b"vids")))
}

/// The content of the first chunk of this name.
fn chunk(bytes: &[u8], name: [u8; 4]) -> Option<&[u8]> {
    chunks(bytes).find_map(|(found, content)| (found == name).then_some(content))
}

/// Names and contents of the chunks of one level. A chunk that is cut off counts up to its actual end.
fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || {
        let (name, rest) = bytes.split_at_checked(4)?;
        let (size, rest) = rest.split_first_chunk()?;
        let size = u32::from_le_bytes(*size) as usize;
        let content = &rest[..size.min(rest.len())];
        // Content of an odd size is followed by a byte of padding.
        bytes = rest.get(size + size % 2..).unwrap_or(&[]);
        Some((name, content))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn make(name: &[u8], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        [name, &size, content, &[0][..content.len() % 2]].concat()
    }

    fn list(name: &[u8], content: &[u8]) -> Vec<u8> {
        make(b"LIST", &[name, content].concat())
    }

    fn track(bytes: &[u8]) -> VideoTrack {
        other_track(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn the_first_video_stream_counts() {
        let stream = |kind: &[u8], frames: u32| {
            let mut header = [kind, &[0; 52]].concat();
            header[32..36].copy_from_slice(&frames.to_le_bytes());
            list(b"strl", &make(b"strh", &header))
        };
        let avi = |streams: &[Vec<u8>]| {
            let header = [make(b"avih", &[7; 57]), streams.concat()].concat();
            let room = make(b"JUNK", &[0; 400]);
            make(
                b"RIFF",
                &[&b"AVI "[..], &list(b"hdrl", &header), &room].concat(),
            )
        };
        let frames = |bytes: &[u8]| track(bytes).frames;
        let sound = stream(b"auds", 9000);
        let (first, second) = (stream(b"vids", 50), stream(b"vids", 7));
        let whole = avi(&[sound.clone(), first, second]);
        assert_eq!(frames(&whole), 50);
        assert_eq!(frames(&avi(std::slice::from_ref(&sound))), 0);
        assert_eq!(frames(&avi(&[stream(b"vids", 5000)])), 0);
        for length in 0..whole.len() {
            assert!([0, 50].contains(&frames(&whole[..length])));
        }
        let words = [48, 640, 480_u32.wrapping_neg(), 0, 0, 0, 0, 0, 0, 0, 0x0201];
        let format: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let video = make(b"strh", &[&b"vids"[..], &[0; 52]].concat());
        let video = list(b"strl", &[video, make(b"strf", &format)].concat());
        let expected = AviFrameFormat {
            width: 640,
            height: 480,
            codec_data: vec![1, 2, 0, 0],
        };
        assert_eq!(track(&avi(&[sound, video])).avi, Some(expected));
        assert_eq!(track(&whole).avi, None);
        let mut other = whole;
        other[8..12].copy_from_slice(b"WAVE");
        assert_eq!(frames(&other), 0);
    }

    #[test]
    fn packets_are_cut_off_and_the_index_is_not() {
        let header = list(b"hdrl", b"........");
        let media = list(b"movi", &make(b"00dc", &[0; 20]));
        let index = make(b"idx1", &[0; 16]);
        let first = make(b"RIFF", &[&b"AVI "[..], &header, &media, &index].concat());
        let more = make(b"RIFF", &[&b"AVIX"[..], &media].concat());
        let whole = [first.clone(), more].concat();
        let from = |bytes: &[u8]| (track(bytes).cut_off_from, track(bytes).trailer);
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
            track(&whole[..n]);
        }
    }
}
