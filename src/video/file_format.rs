//! Detects the format of a file, before any element reads it.
//!
//! Only listed formats are opened, each by the element named here. GStreamer's automatic choice of elements is not
//! used: some of its elements follow addresses that a file names.

mod program_stream;

use super::clip_file::io_error;
use super::container;
use crate::dataset::file_kind::{FileCategory, FileKind};
use crate::frame::SourceError;
use gstreamer as gst;
use gstreamer_base::functions::type_find_helper_for_data;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes from which the format is detected.
const HEAD_BYTES: u64 = 256 << 10;
/// Maximum bytes of a JPEG image, which may be the first of many.
const JPEG_BYTES_MAX: u64 = 8 << 20;

/// A format whose files are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileFormat {
    /// Name in messages.
    pub name: &'static str,
    /// The element that reads the file: a demuxer, or a parser of a format without a container.
    pub element: &'static str,
    /// The Debian package of that element.
    pub package: &'static str,
    /// Whether the container keeps pictures apart, so that no parser needs to find them.
    pub is_framed: bool,
}

const GOOD: &str = "gstreamer1.0-plugins-good";
const BAD: &str = "gstreamer1.0-plugins-bad";
const BASE: &str = "gstreamer1.0-plugins-base";
const UGLY: &str = "gstreamer1.0-plugins-ugly";

const fn framed(name: &'static str, element: &'static str, package: &'static str) -> FileFormat {
    FileFormat {
        name,
        element,
        package,
        is_framed: true,
    }
}

/// A format whose reader is in the package [`BAD`].
const fn unframed(name: &'static str, element: &'static str) -> FileFormat {
    FileFormat {
        is_framed: false,
        ..framed(name, element, BAD)
    }
}

/// MP4, MOV and 3GP.
pub(super) const MP4: FileFormat = framed("MP4", "qtdemux", GOOD);
const MATROSKA: FileFormat = framed("Matroska", "matroskademux", GOOD);
const WEBM: FileFormat = framed("WebM", "matroskademux", GOOD);
const OGG: FileFormat = framed("Ogg", "oggdemux", BASE);
const REAL_MEDIA: FileFormat = framed("RealMedia", "rmdemux", UGLY);
const PROGRAM_STREAM: FileFormat = unframed("MPEG program stream", "mpegpsdemux");

/// GStreamer's names of the formats. The first match is used.
const FORMATS: &[(&str, FileFormat)] = &[
    (
        "video/quicktime; application/x-3gp; audio/x-m4a; video/mj2",
        MP4,
    ),
    (
        "video/x-matroska; video/x-matroska-3d; audio/x-matroska",
        MATROSKA,
    ),
    ("video/webm; audio/webm", WEBM),
    ("video/x-msvideo", framed("AVI", "avidemux", GOOD)),
    ("video/x-flv", framed("FLV", "flvdemux", GOOD)),
    ("video/x-ms-asf", framed("ASF", "asfdemux", UGLY)),
    ("application/vnd.rn-realmedia", REAL_MEDIA),
    ("video/ogg; audio/ogg; application/ogg", OGG),
    ("video/x-ivf", framed("IVF", "ivfparse", BAD)),
    ("application/x-yuv4mpeg", framed("YUV4MPEG", "y4mdec", BAD)),
    ("video/x-dv", framed("DV", "dvdemux", GOOD)),
    ("video/mpegts", unframed("MPEG-TS", "tsdemux")),
    ("video/mpeg, systemstream=(boolean)true", PROGRAM_STREAM),
    (
        "video/mpeg, mpegversion=(int)4",
        unframed("MPEG-4 video", "mpeg4videoparse"),
    ),
    ("video/mpeg", unframed("MPEG video", "mpegvideoparse")),
    ("video/x-h263", unframed("H.263 video", "h263parse")),
    ("video/x-h264", unframed("H.264 video", "h264parse")),
    ("video/x-h265", unframed("H.265 video", "h265parse")),
    ("image/jpeg", unframed("Motion JPEG", "jpegparse")),
    ("application/mxf", framed("MXF", "mxfdemux", BAD)),
];

/// First bytes of files of other video formats, which GStreamer may take for a listed one.
const UNOPENED: &[(&[u8], &str)] = &[
    (b"\xb7\xd8\x00\x20\x37\x49\xda\x11", "WTV"),
    (b"\x84\x10\xff\xff\xff\xff", "RoQ"),
    (b"\0\0\0\0\x01\xbc", "GXF"),
    (b"\0\0\x02\x80\x01", "DNxHD without a container"),
    (b"nut/multimedia container\0", "NUT"),
    (b"BBCD\0\0\0\0", "Dirac without a container"),
    (b"NSVf", "NSV"),
    (b"NSVs", "NSV"),
    (b"NuppelVideo", "NuppelVideo"),
    (b"MythTVVideo", "NuppelVideo"),
    (b"BIK", "Bink"),
    (b"KB2", "Bink"),
    (b"SMK2", "Smacker"),
    (b"SMK4", "Smacker"),
    (b"AV\x01", "PVA"),
];

/// The format of a file.
#[derive(Clone, Debug)]
pub(super) struct FoundFormat {
    /// The format.
    pub format: FileFormat,
    /// The stream, where the element does not report it: a parser has no list of streams, and a program stream may
    /// not state its codec.
    pub stream: Option<gst::Caps>,
    /// Whether a stream without a container begins inside a picture: it was cut, or has another format.
    pub is_cut: bool,
}

/// Finds the format of `file` by its first bytes.
///
/// # Errors
/// Returns what the file is instead, or why it cannot be read.
pub(super) fn identify(file: &File) -> Result<FoundFormat, SourceError> {
    let unreadable = |e: io::Error| io_error(&e);
    let mut head = read_head(file, HEAD_BYTES).map_err(unreadable)?;
    if head.is_empty() {
        return Err(SourceError::Clip("the file is empty (0 bytes)".into()));
    }
    if head.starts_with(b"\xff\xd8\xff") {
        head = read_head(file, JPEG_BYTES_MAX).map_err(unreadable)?;
    }
    let kind = FileKind::of(&head).or_else(|| FileKind::of_text(&head));
    if let Some(kind) = kind.filter(|kind| kind.category != FileCategory::Video) {
        let (name, advice) = (kind.name, kind.clip_advice());
        return Err(SourceError::Clip(format!(
            "the file is {name}, not a video: {advice}"
        )));
    }
    if let Some((_, name)) = UNOPENED.iter().find(|(start, _)| head.starts_with(start)) {
        return Err(SourceError::Clip(not_opened(name)));
    }
    if let Some(first) = head.first_chunk()
        && container::is_mp4(first)
    {
        return Ok(FoundFormat {
            format: MP4,
            stream: None,
            is_cut: false,
        });
    }
    let first_code = head.windows(3).position(|three| three == [0, 0, 1]);
    let find = |head: &[u8]| {
        let caps = type_find_helper_for_data(None::<&gst::Object>, head)
            .ok()?
            .0;
        let listed = FORMATS.iter().find(|(name, _)| {
            let listed = name.parse::<gst::Caps>();
            listed.is_ok_and(|listed| caps.can_intersect(&listed))
        });
        Some((caps, listed.map(|(_, format)| format)))
    };
    // Bytes of a picture at the start of a stream that was cut may look like anything.
    let behind = || find(&head[first_code?..]).filter(|(_, format)| format.is_some());
    let found = match find(&head) {
        Some((caps, None)) => behind().or(Some((caps, None))),
        None => behind(),
        found => found,
    };
    let (caps, format) = found.ok_or_else(|| SourceError::Clip(unknown(&head)))?;
    let format = format.ok_or_else(|| SourceError::Clip(refusal(&caps, &head)))?;
    let begins = head.iter().position(|byte| *byte != 0);
    Ok(FoundFormat {
        format: *format,
        stream: stream(format, caps, &head),
        is_cut: START_CODED.contains(&format.element) && first_code.map(|at| at + 2) != begins,
    })
}

/// The parsers of streams in which the bytes 0, 0, 1 begin each unit.
const START_CODED: [&str; 4] = [
    "h264parse",
    "h265parse",
    "mpegvideoparse",
    "mpeg4videoparse",
];

/// The first `bytes` of a file, fewer when it ends before.
fn read_head(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len().min(bytes);
    let mut head = vec![0; usize::try_from(size).unwrap_or(0)];
    let mut filled = 0;
    while filled < head.len() {
        match file.read_at(&mut head[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// The stream of a file whose element does not report it; `None` for other elements.
fn stream(format: &FileFormat, caps: gst::Caps, head: &[u8]) -> Option<gst::Caps> {
    match (format.element, head.get(8..12)) {
        ("ivfparse", Some(b"VP80")) => Some(gst::Caps::new_empty_simple("video/x-vp8")),
        ("ivfparse", Some(b"VP90")) => Some(gst::Caps::new_empty_simple("video/x-vp9")),
        ("ivfparse", _) => Some(gst::Caps::new_empty_simple("video/x-av1")),
        ("y4mdec", _) => Some(gst::Caps::new_empty_simple("video/x-raw")),
        ("mpegpsdemux", _) => program_stream::video(head),
        (element, _) => element.ends_with("parse").then_some(caps),
    }
}

/// Why a file with an unlisted format is not opened.
fn refusal(caps: &gst::CapsRef, head: &[u8]) -> String {
    let name = caps.structure(0).map_or("", |s| s.name().as_str());
    match name.split_once('/') {
        Some(("audio", _)) => {
            format!("the file has sound alone, no video ({name}): download the clip with its video")
        }
        Some(("image", _)) => {
            format!("the file is an image ({name}), not a video: download the video itself")
        }
        Some(("text" | "subtitle", _)) => {
            format!("the file is a text ({name}), not a video: download the clip again")
        }
        Some(_) => not_opened(name),
        None => unknown(head),
    }
}

fn not_opened(name: &str) -> String {
    format!("files of the format {name} are not opened: convert the clip to MP4")
}

fn unknown(head: &[u8]) -> String {
    let first: Vec<String> = head
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!(
        "the file has no known video format (it begins with the bytes {}): it is damaged or no video; download the clip \
         again",
        first.join(" ")
    )
}

#[cfg(test)]
mod tests;
