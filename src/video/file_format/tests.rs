use super::*;
use crate::video::clip;
use std::io::Write;

fn identify_bytes(bytes: &[u8]) -> Result<&'static str, String> {
    clip::init().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let found = identify(&file).map_err(|e| e.to_string())?;
    Ok(found.format.element)
}

#[test]
fn listed_formats_have_their_element() {
    let ebml = |kind: &[u8]| {
        let size = u8::try_from(kind.len()).unwrap();
        let start = [
            0x1a,
            0x45,
            0xdf,
            0xa3,
            0x80 + size + 7,
            0x42,
            0x82,
            0x80 + size,
        ];
        let segment = [
            0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255,
        ];
        [&start[..], kind, &[0x42, 0x87, 0x81, 2], &segment, &[0; 40]].concat()
    };
    let packets = |bytes: usize| {
        let mut stream = vec![0; bytes * 20];
        for packet in stream.chunks_mut(bytes) {
            packet[bytes - 188..bytes - 184].copy_from_slice(&[0x47, 0x40, 0, 0x10]);
        }
        stream
    };
    let asf = [
        0x30, 0x26, 0xb2, 0x75, 0x8e, 0x66, 0xcf, 0x11, 0xa6, 0xd9, 0, 0xaa, 0, 0x62, 0xce, 0x6c,
    ];
    for (bytes, expected) in [
        (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2".to_vec(), "qtdemux"),
        (ebml(b"matroska"), "matroskademux"),
        (ebml(b"webm"), "matroskademux"),
        (
            [&b"RIFF\0\0\0\0AVI LIST"[..], &[0; 40]].concat(),
            "avidemux",
        ),
        (
            [&b"FLV\x01\x05\0\0\0\x09"[..], &[0; 40]].concat(),
            "flvdemux",
        ),
        ([&asf[..], &[1; 40]].concat(), "asfdemux"),
        (packets(188), "tsdemux"),
        (packets(192), "tsdemux"),
        ([&b"DKIF\0\0\x20\0VP80"[..], &[0; 40]].concat(), "ivfparse"),
        (b"YUV4MPEG2 W16 H16 F25:1\nFRAME\n".to_vec(), "y4mdec"),
    ] {
        assert_eq!(identify_bytes(&bytes), Ok(expected), "{:?}", &bytes[..12]);
    }
}

#[test]
fn all_else_is_refused_by_its_name() {
    for (bytes, expected) in [
        (&b""[..], "the file is empty (0 bytes)"),
        (
            &[0; 5000],
            "the file is filled with zero bytes, not a video",
        ),
        (
            b"<html><body>Not found",
            "the file is a web page (HTML), not a video: download the clip again",
        ),
        (
            b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n",
            "the file is an HLS manifest",
        ),
        (b"fLaC\0\0\0\x22", "the file is a FLAC sound file"),
        (
            b"PK\x03\x04abcdefgh",
            "the file is a zip archive, not a video: unpack it",
        ),
        (
            b"\xb7\xd8\0\x20\x37\x49\xda\x11\0\0\x01\xb3\x10\0\xc0\x13",
            "files of the format WTV are not opened: convert the clip to MP4",
        ),
        (
            b"\x84\x10\xff\xff\xff\xff\x1e\0",
            "files of the format RoQ are not opened",
        ),
        (
            &[0x5a, 1, 2, 3, 4, 5],
            "it begins with the bytes 5a 01 02 03 04 05",
        ),
        (
            b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02\x01\x01\x02\x04\0",
            "bytes",
        ),
    ] {
        let reason = identify_bytes(bytes).unwrap_err();
        assert!(reason.contains(expected), "{reason}");
    }
}
