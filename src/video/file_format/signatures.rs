//! What a file is that is no video, by its first bytes: pages, manifests, images, archives, programs.

/// A file that is refused: what it is, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::video) struct NotVideo {
    /// What the file is, with its article.
    pub what: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// A page or message that a server sent in place of the video.
const AGAIN: &str = "download the clip again";
/// A file that names where the video is. Nothing that it names is opened.
const NAMES_OTHERS: &str =
    "it only names other files or addresses, and none of them is opened; download the video itself";
const ONE_IMAGE: &str = "an image is no clip; download the video itself";
const UNPACK: &str = "unpack it";
const SOUND: &str = "it has no picture; download the clip with its video";

const fn new(what: &'static str, fix: &'static str) -> NotVideo {
    NotVideo { what, fix }
}

/// What every file is that begins with these bytes.
const STARTS: &[(&[u8], NotVideo)] = &[
    (b"\xff\xd8\xff", new("a JPEG image", ONE_IMAGE)),
    (b"\x89PNG\r\n\x1a\n", new("a PNG image", ONE_IMAGE)),
    (
        b"GIF8",
        new(
            "a GIF image",
            "convert it to MP4, or download the video itself",
        ),
    ),
    (b"BM", new("a BMP image", ONE_IMAGE)),
    (b"II*\0", new("a TIFF image", ONE_IMAGE)),
    (b"MM\0*", new("a TIFF image", ONE_IMAGE)),
    (b"8BPS", new("a Photoshop image", ONE_IMAGE)),
    (b"\0\0\x01\0", new("an icon", ONE_IMAGE)),
    (b"\0\0\0\x0cjP  ", new("a JPEG 2000 image", ONE_IMAGE)),
    (b"\xff\x0a", new("a JPEG XL image", ONE_IMAGE)),
    (
        b"FWS",
        new(
            "a Flash program (SWF)",
            "it is no video; look for the clip elsewhere",
        ),
    ),
    (
        b"CWS",
        new(
            "a Flash program (SWF)",
            "it is no video; look for the clip elsewhere",
        ),
    ),
    (
        b"ZWS",
        new(
            "a Flash program (SWF)",
            "it is no video; look for the clip elsewhere",
        ),
    ),
    (b"%PDF", new("a PDF document", AGAIN)),
    (b"%!PS", new("a PostScript document", AGAIN)),
    (b"{\\rtf", new("an RTF document", AGAIN)),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        new("a Microsoft Office document", AGAIN),
    ),
    (b"PK\x03\x04", new("a zip archive", UNPACK)),
    (b"PK\x05\x06", new("an empty zip archive", AGAIN)),
    (b"\x1f\x8b", new("a gzip archive", UNPACK)),
    (b"BZh", new("a bzip2 archive", UNPACK)),
    (b"\xfd7zXZ\0", new("an xz archive", UNPACK)),
    (b"\x28\xb5\x2f\xfd", new("a Zstandard archive", UNPACK)),
    (b"7z\xbc\xaf\x27\x1c", new("a 7z archive", UNPACK)),
    (b"Rar!\x1a\x07", new("a RAR archive", UNPACK)),
    (b"fLaC", new("a FLAC sound file", SOUND)),
    (b"ID3", new("a sound file (MP3 or AAC)", SOUND)),
    (b"MThd", new("a MIDI file", SOUND)),
    (b"FORM", new("an IFF file (AIFF sound or an image)", AGAIN)),
    (b"#!AMR", new("an AMR sound file", SOUND)),
    (b"\x7fELF", new("a program", AGAIN)),
    (b"MZ", new("a Windows program", AGAIN)),
    (b"SQLite format 3\0", new("an SQLite database", AGAIN)),
    (
        b"\0\x05\x16\x07",
        new(
            "a macOS companion file (AppleDouble)",
            "copy the clip itself",
        ),
    ),
    (
        b"version https://git-lfs",
        new("a Git LFS pointer", "fetch the clip with `git lfs pull`"),
    ),
    (
        b"v=0\r\no=",
        new("a session description (SDP)", NAMES_OTHERS),
    ),
    (b"v=0\no=", new("a session description (SDP)", NAMES_OTHERS)),
];

/// What a text is that begins with these letters, in small ones.
const TEXT_STARTS: &[(&str, NotVideo)] = &[
    ("[playlist]", new("a playlist (PLS)", NAMES_OTHERS)),
    ("[reference]", new("a playlist (ASX)", NAMES_OTHERS)),
    ("asf ", new("a playlist (ASX)", NAMES_OTHERS)),
    ("ffconcat", new("a list of files (ffconcat)", NAMES_OTHERS)),
    ("rtsptext", new("a link to a stream (RTSP)", NAMES_OTHERS)),
    ("v=0", new("a session description (SDP)", NAMES_OTHERS)),
    ("http://", new("a list of addresses", NAMES_OTHERS)),
    ("https://", new("a list of addresses", NAMES_OTHERS)),
    ("rtsp://", new("a list of addresses", NAMES_OTHERS)),
    ("rtmp://", new("a list of addresses", NAMES_OTHERS)),
    ("mms://", new("a list of addresses", NAMES_OTHERS)),
    ("ftp://", new("a list of addresses", NAMES_OTHERS)),
    ("file://", new("a list of addresses", NAMES_OTHERS)),
    ("http/1.", new("a server's answer with its header", AGAIN)),
    ("{", new("a JSON text", AGAIN)),
    ("webvtt", new("a subtitle file", AGAIN)),
];

/// What an XML document is, by the name of its root in small letters.
const ROOTS: &[(&str, NotVideo)] = &[
    ("html", new("a web page (HTML)", AGAIN)),
    ("head", new("a web page (HTML)", AGAIN)),
    ("body", new("a web page (HTML)", AGAIN)),
    ("title", new("a web page (HTML)", AGAIN)),
    ("meta", new("a web page (HTML)", AGAIN)),
    ("script", new("a web page (HTML)", AGAIN)),
    ("style", new("a web page (HTML)", AGAIN)),
    ("div", new("a web page (HTML)", AGAIN)),
    ("p", new("a web page (HTML)", AGAIN)),
    ("h1", new("a web page (HTML)", AGAIN)),
    ("a", new("a web page (HTML)", AGAIN)),
    ("iframe", new("a web page (HTML)", AGAIN)),
    ("svg", new("an SVG image", ONE_IMAGE)),
    ("mpd", new("a DASH manifest", NAMES_OTHERS)),
    (
        "smoothstreamingmedia",
        new("a Smooth Streaming manifest", NAMES_OTHERS),
    ),
    ("asx", new("a playlist (ASX)", NAMES_OTHERS)),
    ("smil", new("a playlist (SMIL)", NAMES_OTHERS)),
    ("playlist", new("a playlist (XSPF)", NAMES_OTHERS)),
    ("rss", new("a news feed (RSS)", NAMES_OTHERS)),
    ("embed", new("a link to a film (QuickTime)", NAMES_OTHERS)),
    ("error", new("a server's error message", AGAIN)),
];

/// What a file is that begins with `head` and is no video; `None` where its first bytes do not tell.
pub(in crate::video) fn recognize(head: &[u8]) -> Option<NotVideo> {
    let starts = STARTS.iter().find(|(start, _)| head.starts_with(start));
    if let Some((start, found)) = starts {
        return (*start != b"\xff\xd8\xff" || !is_motion_jpeg(head)).then_some(*found);
    }
    match (head.get(..4), head.get(4..8), head.get(8..12)) {
        (Some(b"RIFF"), _, Some(b"WEBP")) => return Some(new("a WebP image", ONE_IMAGE)),
        (Some(b"RIFF" | b"RF64"), _, Some(b"WAVE")) => {
            return Some(new("a WAV sound file", SOUND));
        }
        (_, Some(b"ftyp"), Some(b"heic" | b"heix" | b"mif1")) => {
            return Some(new("a HEIC image", ONE_IMAGE));
        }
        (_, Some(b"ftyp"), Some(b"avif")) => return Some(new("an AVIF image", ONE_IMAGE)),
        _ => {}
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some(new("a tar archive", UNPACK));
    }
    // A video that begins like a text.
    if head.starts_with(b"YUV4MPEG2 ") {
        return None;
    }
    let text = text(head)?;
    let text = text.trim_start().to_ascii_lowercase();
    if text.starts_with("#extm3u") {
        let is_hls = text.contains("#ext-x-");
        let what = if is_hls {
            "an HLS manifest"
        } else {
            "a playlist (M3U)"
        };
        return Some(new(what, NAMES_OTHERS));
    }
    if let Some((_, found)) = TEXT_STARTS.iter().find(|(s, _)| text.starts_with(s)) {
        return Some(*found);
    }
    if let Some(root) = root_name(&text) {
        let known = ROOTS.iter().find(|(name, _)| *name == root);
        return Some(known.map_or(new("an XML document", AGAIN), |(_, found)| *found));
    }
    Some(new("a text", AGAIN))
}

/// `head` as text, also in UTF-16; `None` for anything else. The end may cut a letter.
fn text(head: &[u8]) -> Option<String> {
    let head = &head[..head.len().min(4096)];
    let wide = |of: fn([u8; 2]) -> u16| {
        let units = head[2..].as_chunks().0.iter().map(|two| of(*two));
        char::decode_utf16(units)
            .map(|c| c.unwrap_or('?'))
            .collect()
    };
    let text = match head {
        [] => return None,
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => {
            let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
            match str::from_utf8(head) {
                Ok(text) => text.to_owned(),
                // Cut inside the last letter.
                Err(e) if e.error_len().is_none() => {
                    String::from_utf8_lossy(&head[..e.valid_up_to()]).into_owned()
                }
                // A text in an old encoding has no control characters all the same.
                Err(_) if head.starts_with(b"<") => String::from_utf8_lossy(head).into_owned(),
                Err(_) => return None,
            }
        }
    };
    let is_text = text
        .chars()
        .all(|c| !c.is_control() || c.is_whitespace() || c == '\u{1b}');
    is_text.then_some(text)
}

/// The name of a document's root without its namespace, or of the document type; `None` when it does not begin with `<`.
fn root_name(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.trim_start().strip_prefix('<')?;
        let skipped = if let Some(comment) = rest.strip_prefix("!--") {
            comment.find("-->").map(|end| &comment[end + 3..])
        } else if let Some(kind) = rest.strip_prefix("!doctype") {
            let kind = kind.trim_start();
            return Some(
                kind.split(|c: char| !c.is_alphanumeric())
                    .next()
                    .unwrap_or(kind),
            );
        } else if rest.starts_with('?') {
            rest.find('>').map(|end| &rest[end + 1..])
        } else {
            let name = rest
                .split(|c: char| c.is_whitespace() || c == '>' || c == '/')
                .next()?;
            return name.rsplit(':').next();
        };
        rest = skipped.unwrap_or("<");
    }
}

/// Whether JPEG images follow one another, each from its start to its end.
fn is_motion_jpeg(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            0xff => at += 1,
            0xd9 => return bytes[at + 2..].starts_with(b"\xff\xd8\xff"),
            // Coded data: a marker is an 0xff that no 0 and no restart number follows.
            0xda => {
                let pairs = bytes[at + 2..].windows(2);
                let is_marker = |two: &[u8]| two[0] == 0xff && !matches!(two[1], 0 | 0xd0..=0xd7);
                let Some(next) = pairs.into_iter().position(is_marker) else {
                    return false;
                };
                at += 2 + next;
            }
            0x01 | 0xd0..=0xd8 => at += 2,
            _ => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(head: &[u8]) -> Option<&'static str> {
        recognize(head).map(|found| found.what)
    }

    #[test]
    fn pages_and_manifests_have_names() {
        for (head, expected) in [
            ("<!DOCTYPE html><html>", "a web page (HTML)"),
            ("\u{feff}\n  <HTML lang=en>", "a web page (HTML)"),
            (
                "<!-- x --><?xml version='1.0'?>\n<!-- y --><html>",
                "a web page (HTML)",
            ),
            ("<script>location='x'</script>", "a web page (HTML)"),
            ("<?xml version=\"1.0\"?><svg xmlns='x'/>", "an SVG image"),
            ("<svg:svg>", "an SVG image"),
            (
                "<?xml version=\"1.0\"?>\n<MPD type='static'>",
                "a DASH manifest",
            ),
            (
                "<SmoothStreamingMedia MajorVersion=\"2\">",
                "a Smooth Streaming manifest",
            ),
            ("<asx version=\"3.0\">", "a playlist (ASX)"),
            (
                "<Error><Code>AccessDenied</Code></Error>",
                "a server's error message",
            ),
            ("<something/>", "an XML document"),
            ("<?xml version='1.0'", "an XML document"),
            ("#EXTM3U\n#EXT-X-VERSION:3\n", "an HLS manifest"),
            ("#EXTM3U\nhttp://a/b.mp4", "a playlist (M3U)"),
            ("[playlist]\nFile1=x", "a playlist (PLS)"),
            ("[Reference]\nRef1=http://x", "a playlist (ASX)"),
            (
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1",
                "a session description (SDP)",
            ),
            ("https://example.org/a.mp4\n", "a list of addresses"),
            ("ffconcat version 1.0\nfile x", "a list of files (ffconcat)"),
            ("{\"error\": 404}", "a JSON text"),
            ("Not found", "a text"),
            (
                "version https://git-lfs.github.com/spec/v1\n",
                "a Git LFS pointer",
            ),
        ] {
            assert_eq!(what(head.as_bytes()), Some(expected), "{head}");
        }
        let wide = "\u{feff}<html>".encode_utf16().flat_map(u16::to_le_bytes);
        assert_eq!(what(&wide.collect::<Vec<_>>()), Some("a web page (HTML)"));
        assert_eq!(what(b"<html>caf\xe9"), Some("a web page (HTML)"));
    }

    #[test]
    fn bytes_that_are_no_text_have_no_name() {
        for head in [
            &b""[..],
            &[0x5a, 0, 1],
            &[0xff; 40],
            &[0x47, 0x40, 0, 0x10],
            b"\0\0\0\x18ftypisom",
        ] {
            assert_eq!(what(head), None, "{head:?}");
        }
    }

    #[test]
    fn one_jpeg_is_an_image_and_several_are_a_video() {
        let scan = [0xff, 0xda, 0, 2, 1, 0xff, 0, 2, 0xff, 0xd0, 3];
        let jpeg = [
            &[0xff, 0xd8, 0xff, 0xe0, 0, 3, 0xff][..],
            &scan,
            &[0xff, 0xd9],
        ]
        .concat();
        assert_eq!(what(&jpeg), Some("a JPEG image"));
        assert_eq!(what(&[&jpeg[..], &jpeg].concat()), None);
        assert_eq!(what(&[&jpeg[..], b"rest"].concat()), Some("a JPEG image"));
        for length in 3..jpeg.len() {
            assert_eq!(what(&jpeg[..length]), Some("a JPEG image"));
        }
    }
}
