//! Recognizes a file that was given instead of a dataset, its metadata or a clip, by its first bytes.

use FileCategory::{
    Archive, ClassList, Companion, Compressed, Download, Flash, Image, LfsPointer, MovingImage,
    Numbers, Other, Packed, Reference, Sound, Video, Zeros,
};

/// Number of bytes at the start in which a text is recognized.
const TEXT_BYTES: usize = 4096;

/// The kind of a file. Its name has an article, as in "a tar archive".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKind {
    /// The name that messages show.
    pub name: &'static str,
    /// The category, which determines the advice.
    pub category: FileCategory,
}

/// Groups of kinds with the same advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileCategory {
    /// A compressed file or tar archive: endings of such an archive, and the program that unpacks the file.
    Compressed(&'static str, &'static str),
    /// An archive, with the command that unpacks it.
    Archive(&'static str),
    /// An archive of another kind.
    Packed,
    /// A video.
    Video,
    /// One image.
    Image,
    /// An image that may be animated.
    MovingImage,
    /// A Flash program.
    Flash,
    /// Sound without a picture.
    Sound,
    /// A file that links to the video. Its links are not opened.
    Reference,
    /// A file that macOS writes beside another file.
    Companion,
    /// A Git LFS pointer in place of a large file.
    LfsPointer,
    /// A file of zero bytes only.
    Zeros,
    /// A number and a gloss in each line.
    ClassList,
    /// A page, message or document that a server sent instead of the file.
    Download,
    /// Arrays or tables in binary form.
    Numbers,
    /// Anything else.
    Other,
}

/// A category, the name of the kind, and the starts of its files.
type Row<Start> = (FileCategory, &'static str, &'static [Start]);

/// The kinds that are not text. In a start `?` stands for any byte. The first match is taken.
const BINARIES: &[Row<&[u8]>] = &[
    (
        Compressed(".tar.gz or .tgz", "gunzip"),
        "a gzip file",
        &[b"\x1f\x8b"],
    ),
    (Compressed(".tar.bz2", "bunzip2"), "a bzip2 file", &[b"BZh"]),
    (
        Compressed(".tar.xz", "unxz"),
        "an xz file",
        &[b"\xfd7zXZ\0"],
    ),
    (
        Compressed(".tar.zst", "unzstd"),
        "a zstd file",
        &[b"\x28\xb5\x2f\xfd"],
    ),
    (Archive("7z x"), "a 7z archive", &[b"7z\xbc\xaf\x27\x1c"]),
    (Archive("unrar x"), "a RAR archive", &[b"Rar!\x1a\x07"]),
    (Packed, "a file of `compress` (.Z)", &[b"\x1f\x9d"]),
    (Packed, "an lzip file", &[b"LZIP"]),
    (Packed, "a Windows cabinet", &[b"MSCF"]),
    (Packed, "a zip archive", &[b"PK\x03\x04"]),
    (Download, "an empty zip archive", &[b"PK\x05\x06"]),
    (Image, "a JPEG image", &[b"\xff\xd8\xff"]),
    (Image, "a PNG image", &[b"\x89PNG"]),
    (Image, "a BMP image", &[b"BM"]),
    (Image, "a TIFF image", &[b"II*\0", b"MM\0*"]),
    (Image, "a Photoshop image", &[b"8BPS"]),
    (Image, "an icon", &[b"\0\0\x01\0"]),
    (Image, "a JPEG 2000 image", &[b"\0\0\0\x0cjP  "]),
    (Image, "a JPEG XL image", &[b"\xff\x0a"]),
    (Image, "a WebP image", &[b"RIFF????WEBP"]),
    (
        Image,
        "a HEIC image",
        &[b"????ftypheic", b"????ftypheix", b"????ftypmif1"],
    ),
    (Image, "an AVIF image", &[b"????ftypavif"]),
    (MovingImage, "a GIF image", &[b"GIF8"]),
    (Flash, "a Flash program (SWF)", &[b"FWS", b"CWS", b"ZWS"]),
    (Sound, "a FLAC sound file", &[b"fLaC"]),
    (Sound, "a sound file (MP3 or AAC)", &[b"ID3"]),
    (Sound, "a MIDI file", &[b"MThd"]),
    (Sound, "an AMR sound file", &[b"#!AMR"]),
    (
        Sound,
        "a WAV sound file",
        &[b"RIFF????WAVE", b"RF64????WAVE"],
    ),
    (Download, "an IFF file (AIFF sound or an image)", &[b"FORM"]),
    (Download, "a PDF document", &[b"%PDF"]),
    (Download, "a PostScript document", &[b"%!PS"]),
    (Download, "an RTF document", &[b"{\\rtf"]),
    (
        Download,
        "a Microsoft Office document",
        &[b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"],
    ),
    (Other, "a program", &[b"\x7fELF"]),
    (Other, "a Windows program", &[b"MZ"]),
    (Other, "an SQLite database", &[b"SQLite format 3\0"]),
    (Numbers, "a NumPy array (.npy)", &[b"\x93NUMPY"]),
    (Numbers, "a Parquet table", &[b"PAR1"]),
    (Numbers, "an Arrow table", &[b"ARROW1"]),
    (Numbers, "an HDF5 file", &[b"\x89HDF"]),
    (Numbers, "a MATLAB file", &[b"MATLAB 5"]),
    (
        Numbers,
        "a Python pickle",
        &[b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"],
    ),
    (
        Companion,
        "a macOS companion file (AppleDouble)",
        &[b"\0\x05\x16\x07"],
    ),
    (Video, "a single video (MP4)", &[b"????ftyp"]),
    (Video, "a single video (MOV)", &[b"????moov"]),
    (
        Video,
        "a single video (WebM or Matroska)",
        &[b"\x1a\x45\xdf\xa3"],
    ),
    (Video, "a single video (AVI)", &[b"RIFF????AVI "]),
    (Video, "a single video (FLV)", &[b"FLV\x01"]),
    (Video, "a single video (MPEG)", &[b"\0\0\x01\xba"]),
    (Video, "a single video (YUV4MPEG)", &[b"YUV4MPEG2 "]),
];

/// The kinds of texts, by their starts in lower case.
const TEXTS: &[Row<&str>] = &[
    (Reference, "a playlist (PLS)", &["[playlist]"]),
    (Reference, "a playlist (ASX)", &["[reference]", "asf "]),
    (Reference, "a list of files (ffconcat)", &["ffconcat"]),
    (Reference, "a link to a stream (RTSP)", &["rtsptext"]),
    (Reference, "a session description (SDP)", &["v=0"]),
    (
        Reference,
        "a list of addresses",
        &[
            "http://", "https://", "rtsp://", "rtmp://", "mms://", "ftp://", "file://",
        ],
    ),
    (Download, "a server's answer with its header", &["http/1."]),
    (Download, "a subtitle file", &["webvtt"]),
    (
        LfsPointer,
        "a Git LFS pointer",
        &["version https://git-lfs"],
    ),
];

/// The kinds of XML documents, by the names of their root elements in lower case.
const DOCUMENTS: &[Row<&str>] = &[
    (
        Download,
        "a web page (HTML)",
        &[
            "html", "head", "body", "title", "meta", "script", "style", "div", "p", "h1", "a",
            "iframe",
        ],
    ),
    (Download, "a server's error message", &["error"]),
    (Image, "an SVG image", &["svg"]),
    (Reference, "a DASH manifest", &["mpd"]),
    (
        Reference,
        "a Smooth Streaming manifest",
        &["smoothstreamingmedia"],
    ),
    (Reference, "a playlist (ASX)", &["asx"]),
    (Reference, "a playlist (SMIL)", &["smil"]),
    (Reference, "a playlist (XSPF)", &["playlist"]),
    (Reference, "a news feed (RSS)", &["rss"]),
    (Reference, "a link to a film (QuickTime)", &["embed"]),
];

/// The kind of the first row with a start for which `fits` returns true.
fn find<Start: Copy>(rows: &[Row<Start>], fits: impl Fn(Start) -> bool) -> Option<FileKind> {
    let mut rows = rows.iter();
    let (category, name, _) = rows.find(|(.., starts)| starts.iter().any(|start| fits(*start)))?;
    Some(FileKind::new(*category, name))
}

impl FileKind {
    fn new(category: FileCategory, name: &'static str) -> Self {
        Self { name, category }
    }

    /// The kind of a file that starts with `head`; some hundred bytes are enough. `None` for unknown kinds, JSON and
    /// plain text.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let fits = |start: &[u8]| {
            let mut bytes = start.iter().zip(head);
            head.len() >= start.len() && bytes.all(|(want, byte)| want == byte || *want == b'?')
        };
        if let Some(kind) = find(BINARIES, fits) {
            let is_video = head.starts_with(b"\xff\xd8\xff") && is_motion_jpeg(head);
            let video = is_video.then_some(Self::new(Video, "a single video (Motion JPEG)"));
            return Some(video.unwrap_or(kind));
        }
        if head.get(257..262) == Some(b"ustar") {
            return Some(Self::new(Archive("tar xf"), "a tar archive"));
        }
        if head.len() > 1 && head.iter().all(|byte| *byte == 0) {
            return Some(Self::new(Zeros, "filled with zero bytes"));
        }
        let text = text(head)?;
        if text.starts_with("#extm3u") {
            let is_hls = text.contains("#ext-x-");
            let name = if is_hls {
                "an HLS manifest"
            } else {
                "a playlist (M3U)"
            };
            return Some(Self::new(Reference, name));
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        if digits > 0 && text[digits..].starts_with('\t') {
            let name =
                "a class list with a number and a gloss in each line, as wlasl_class_list.txt";
            return Some(Self::new(ClassList, name));
        }
        find(TEXTS, |start| text.starts_with(start)).or_else(|| {
            let root = root_name(&text)?;
            let other = Self::new(Download, "an XML document");
            Some(find(DOCUMENTS, |name| name == root).unwrap_or(other))
        })
    }

    /// The kind of a file that starts with `head`; `None` when it may be a text table. A text that begins like a
    /// binary file, such as with `BM`, counts as text.
    #[must_use]
    pub(super) fn of_no_table(head: &[u8]) -> Option<Self> {
        let is_text = text(head).is_some();
        Self::of(head).filter(|kind| match kind.category {
            Download | Reference | LfsPointer => true,
            ClassList => false,
            _ => !is_text,
        })
    }

    /// The kind of a text that starts with `head`: JSON or other; `None` when it is not text.
    #[must_use]
    pub fn of_text(head: &[u8]) -> Option<Self> {
        let is_json = text(head)?.starts_with('{');
        let name = if is_json { "a JSON text" } else { "a text" };
        Some(Self::new(Download, name))
    }

    /// The advice how to get a dataset or its metadata from the file, as in "unpack it".
    #[must_use]
    pub fn dataset_advice(self) -> String {
        let advice = match self.category {
            Compressed(endings, program) => {
                return format!(
                    "unpack it, with `tar xf FILE` when its name ends in {endings}, else with `{program} FILE`, and give \
                     what is in it"
                );
            }
            Archive(command) => {
                return format!("unpack it with `{command} FILE` and give the folder");
            }
            Packed => "unpack it and give what is in it",
            LfsPointer => "run `git lfs pull` where it was cloned",
            Zeros => "its copy or download was interrupted: copy it again",
            ClassList => "give the metadata file",
            Download | Reference => {
                "download the file itself: the address may need a login, or the file has moved"
            }
            Numbers => {
                "it is not read, videos are needed: give the clips from which it was made; if it lists clips, write them \
                 into a table, list.csv beside them, that begins with `path,gloss`; if the videos are in it, extract them"
            }
            Video => {
                "a job reads a folder of clips: put it into a folder that has its gloss as name, DATASET/GLOSS/CLIP.mp4, \
                 and give DATASET"
            }
            Image | MovingImage => "a job reads videos: give the folder of the clips",
            Flash => {
                "it is never read: convert it to MP4 or look for the clip elsewhere, and give the folder of the clips"
            }
            Sound | Companion | Other => "give the folder of the dataset, or a zip archive of it",
        };
        advice.to_owned()
    }

    /// The advice how to get the clip.
    #[must_use]
    pub fn clip_advice(self) -> &'static str {
        match self.category {
            Compressed(..) | Archive(_) | Packed => "unpack it",
            LfsPointer => "fetch the clip with `git lfs pull`",
            Zeros => "its content was never written; download the clip again",
            Image => "an image is no clip; download the video itself",
            MovingImage => "convert it to MP4, or download the video itself",
            Flash => "it is no video; look for the clip elsewhere",
            Sound => "it has no picture; download the clip with its video",
            Reference => {
                "it only names other files or addresses, and none of them is opened; download the video itself"
            }
            Companion => "copy the clip itself",
            Video | ClassList | Download | Numbers | Other => "download the clip again",
        }
    }
}

/// `head` as lower-case text, also from UTF-16; `None` when it is not text. The end may cut a character.
fn text(head: &[u8]) -> Option<String> {
    let head = &head[..head.len().min(TEXT_BYTES)];
    let wide = |of: fn([u8; 2]) -> u16| {
        let units = head[2..].as_chunks().0.iter().map(|two| of(*two));
        let chars = char::decode_utf16(units);
        chars.map(|c| c.unwrap_or('?')).collect()
    };
    let text: String = match head {
        [] => return None,
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => {
            let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
            match str::from_utf8(head) {
                // The text is cut within its last character, or in an old encoding; either way it has no control
                // characters.
                Err(e) if e.error_len().is_some() && !head.starts_with(b"<") => return None,
                _ => String::from_utf8_lossy(head).into_owned(),
            }
        }
    };
    let is_text = |c: char| !c.is_control() || c.is_whitespace() || c == '\u{1b}';
    let is_text = text.chars().all(is_text);
    is_text.then(|| text.trim_start().to_ascii_lowercase())
}

/// The name of the root element without its namespace, or of the document type; `None` when the text does not begin
/// with `<`.
fn root_name(text: &str) -> Option<&str> {
    let mut rest = text;
    loop {
        rest = rest.trim_start().strip_prefix('<')?;
        let skipped = if let Some(comment) = rest.strip_prefix("!--") {
            comment.split_once("-->")
        } else if let Some(kind) = rest.strip_prefix("!doctype") {
            return kind
                .trim_start()
                .split(|c: char| !c.is_alphanumeric())
                .next();
        } else if rest.starts_with('?') {
            rest.split_once('>')
        } else {
            let name = rest
                .split(|c: char| c.is_whitespace() || c == '>' || c == '/')
                .next()?;
            return name.rsplit(':').next();
        };
        // A comment or declaration that is cut off gives an empty name.
        rest = skipped.map_or("<", |(_, behind)| behind);
    }
}

/// Whether another JPEG image follows the end of the first one.
fn is_motion_jpeg(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some([0xff, marker]) = bytes.get(at..at + 2) {
        match marker {
            0xff => at += 1,
            0xd9 => return bytes[at + 2..].starts_with(b"\xff\xd8\xff"),
            // Skip coded data: the next marker is a 0xff that is not followed by 0 or a restart number.
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
mod tests;
