//! Finds the codec of a program stream without a map of its streams, from the stream itself as FFmpeg does.

use gstreamer as gst;
use gstreamer_base::functions::type_find_helper_for_data;

/// The format of the first video stream, if it differs from the one that the demuxer assumes.
pub(super) fn video(head: &[u8]) -> Option<gst::Caps> {
    let (caps, _) = type_find_helper_for_data(None::<&gst::Object>, payload(head)).ok()?;
    let fields = caps.structure(0)?;
    let is_listed = match fields.name().as_str() {
        "video/x-h264" | "video/x-h265" => true,
        "video/mpeg" => fields.get::<i32>("mpegversion") == Ok(4),
        _ => false,
    };
    is_listed.then_some(caps)
}

/// The bytes of the first video stream.
fn payload(head: &[u8]) -> Vec<u8> {
    let mut first = None;
    let mut bytes = Vec::new();
    let mut rest = head;
    while let Some(at) = rest.windows(3).position(|three| three == [0, 0, 1]) {
        rest = &rest[at + 3..];
        let [id @ 0xe0..=0xef, high, low, behind @ ..] = rest else {
            continue;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let packet = &behind[..length.min(behind.len())];
        rest = &behind[packet.len()..];
        if first.get_or_insert(*id) == id {
            bytes.extend_from_slice(content(packet).unwrap_or(&[]));
        }
    }
    bytes
}

/// The content of a packet after its header. MPEG-2's header states its length; MPEG-1's consists of parts.
fn content(packet: &[u8]) -> Option<&[u8]> {
    if let [0x80..=0xbf, _, length, rest @ ..] = packet {
        return rest.get(usize::from(*length)..);
    }
    let filled = packet.iter().take_while(|byte| **byte == 0xff).count();
    let mut rest = packet.get(filled..)?;
    if rest.first()? & 0xc0 == 0x40 {
        rest = rest.get(2..)?;
    }
    match rest.first()? >> 4 {
        2 => rest.get(5..),
        3 => rest.get(10..),
        0 => rest.get(1..),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_video_stream_is_collected() {
        let packet = |id: u8, header: &[u8], content: &[u8]| {
            let length = u8::try_from(header.len() + content.len()).unwrap();
            [&[0, 0, 1, id, 0, length], header, content].concat()
        };
        let stream = [
            vec![0, 0, 1, 0xba, 0x44, 0, 4],
            packet(0xc0, &[0x80, 0, 0], b"sound"),
            packet(0xe0, &[0x80, 0x80, 2, 9, 9], b"ab"),
            packet(0xe1, &[0x80, 0, 0], b"other"),
            packet(0xe0, &[0xff, 0xff, 0x40, 1, 0x21, 1, 1, 1, 1], b"cd"),
            packet(0xe0, &[0x31, 1, 1, 1, 1, 1, 1, 1, 1, 1], b"ef"),
            packet(0xe0, &[0x0f], b"gh"),
            packet(0xe0, &[0x80, 0, 200], b""),
        ];
        let stream = stream.concat();
        assert_eq!(payload(&stream), b"abcdefgh");
        for length in 0..stream.len() {
            assert!(b"abcdefgh".starts_with(&payload(&stream[..length])));
        }
    }
}
