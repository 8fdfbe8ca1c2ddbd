//! Files that are often given instead of a dataset's, by their first bytes.

/// What a file is, with its article, and what the user can do to get the wanted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKind {
    /// As in "a tar archive".
    pub name: &'static str,
    /// As in "unpack it".
    pub advice: &'static str,
}

const fn kind(name: &'static str, advice: &'static str) -> FileKind {
    FileKind { name, advice }
}

const UNPACK: &str = "unpack it and give what is in it";
const DOWNLOAD: &str =
    "download the file itself: the address may need a login, or the file has moved";
const GIVE_FOLDER: &str = "give the folder that holds the metadata file and the folder of clips";

/// Bytes, where they stand, and the kind of the files that have them.
const KINDS: &[(usize, &[u8], FileKind)] = &[
    (
        0,
        b"\x1F\x8B",
        kind(
            "a gzip file",
            "unpack it, with `tar xf FILE` when its name ends in .tar.gz or .tgz, else with `gunzip FILE`, and give what is in it",
        ),
    ),
    (
        0,
        b"BZh",
        kind(
            "a bzip2 file",
            "unpack it, with `tar xf FILE` when its name ends in .tar.bz2, else with `bunzip2 FILE`, and give what is in it",
        ),
    ),
    (
        0,
        b"\xFD7zXZ\0",
        kind(
            "an xz file",
            "unpack it, with `tar xf FILE` when its name ends in .tar.xz, else with `unxz FILE`, and give what is in it",
        ),
    ),
    (
        0,
        b"\x28\xB5\x2F\xFD",
        kind(
            "a zstd file",
            "unpack it, with `tar xf FILE` when its name ends in .tar.zst, else with `unzstd FILE`, and give what is in it",
        ),
    ),
    (0, b"\x1F\x9D", kind("a file of `compress` (.Z)", UNPACK)),
    (0, b"LZIP", kind("an lzip file", UNPACK)),
    (
        257,
        b"ustar",
        kind(
            "a tar archive",
            "unpack it with `tar xf FILE` and give the folder",
        ),
    ),
    (
        0,
        b"7z\xBC\xAF\x27\x1C",
        kind(
            "a 7z archive",
            "unpack it with `7z x FILE` and give the folder",
        ),
    ),
    (
        0,
        b"Rar!\x1A\x07",
        kind(
            "a RAR archive",
            "unpack it with `unrar x FILE` and give the folder",
        ),
    ),
    (0, b"MSCF", kind("a Windows cabinet", UNPACK)),
    (
        0,
        b"PK\x03\x04",
        kind("a zip archive", "unpack it and give what is in it"),
    ),
    (0, b"PK\x05\x06", kind("an empty zip archive", DOWNLOAD)),
    (
        0,
        b"version https://git-lfs",
        kind(
            "a pointer of Git LFS instead of the file",
            "run `git lfs pull` where it was cloned",
        ),
    ),
    (4, b"ftyp", kind("a single video (MP4)", GIVE_FOLDER)),
    (4, b"moov", kind("a single video (MOV)", GIVE_FOLDER)),
    (
        0,
        b"\x1A\x45\xDF\xA3",
        kind("a single video (WebM or Matroska)", GIVE_FOLDER),
    ),
    (8, b"AVI ", kind("a single video (AVI)", GIVE_FOLDER)),
    (0, b"FLV\x01", kind("a single video (FLV)", GIVE_FOLDER)),
    (
        0,
        b"\0\0\x01\xBA",
        kind("a single video (MPEG)", GIVE_FOLDER),
    ),
    (0, b"\xFF\xD8\xFF", kind("an image (JPEG)", GIVE_FOLDER)),
    (0, b"\x89PNG", kind("an image (PNG)", GIVE_FOLDER)),
    (0, b"GIF8", kind("an image (GIF)", GIVE_FOLDER)),
    (0, b"%PDF", kind("a PDF document", DOWNLOAD)),
    (
        0,
        b"SQLite format 3\0",
        kind("an SQLite database", GIVE_FOLDER),
    ),
    (0, b"\x93NUMPY", kind("a NumPy array", GIVE_FOLDER)),
];

impl FileKind {
    /// The kind of a file that starts with `head`, of which some hundred bytes are enough; `None` for others.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let has =
            |at: usize, magic: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(magic));
        let mut kinds = KINDS.iter();
        if let Some((.., kind)) = kinds.find(|(at, magic, _)| has(*at, magic)) {
            return Some(*kind);
        }
        if head.len() > 1 && head.iter().all(|byte| *byte == 0) {
            let advice = "its copy or download was interrupted: copy it again";
            return Some(kind("filled with zero bytes", advice));
        }
        let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
        let text = text.trim_ascii_start();
        let starts = |tag: &str| {
            let start = text.get(..tag.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(tag.as_bytes()))
        };
        if ["<!doctype", "<html", "<head", "<body", "<!--"]
            .into_iter()
            .any(starts)
        {
            return Some(kind("a web page (HTML)", DOWNLOAD));
        }
        if starts("<") {
            return Some(kind("an XML file", DOWNLOAD));
        }
        let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (digits > 0 && text.get(digits) == Some(&b'\t')).then_some(kind(
            "a class list with a number and a gloss in each line, as wlasl_class_list.txt",
            "give the metadata file",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_by_their_first_bytes() {
        let check = |head: &[u8], name: &str| {
            assert_eq!(FileKind::of(head).map(|kind| kind.name), Some(name));
        };
        let mut tar = vec![0; 600];
        tar[..5].copy_from_slice(b"a.txt");
        tar[257..262].copy_from_slice(b"ustar");
        check(&tar, "a tar archive");
        check(b"\x1F\x8B\x08", "a gzip file");
        check(b"BZh91AY", "a bzip2 file");
        check(b"\xFD7zXZ\0\0", "an xz file");
        check(b"\x28\xB5\x2F\xFD\x04", "a zstd file");
        check(b"7z\xBC\xAF\x27\x1C\0\x04", "a 7z archive");
        check(b"Rar!\x1A\x07\x01\0", "a RAR archive");
        check(b"\0\0\0\x20ftypisom", "a single video (MP4)");
        check(b"RIFF\0\0\0\0AVI LIST", "a single video (AVI)");
        check(b"\xEF\xBB\xBF\r\n <!DOCTYPE html>", "a web page (HTML)");
        check(b"<HTML>", "a web page (HTML)");
        check(b"<?xml version=\"1.0\"?>", "an XML file");
        check(&[0; 64], "filled with zero bytes");
        check(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:",
            "a pointer of Git LFS instead of the file",
        );
        let list = "a class list with a number and a gloss in each line, as wlasl_class_list.txt";
        check(b"0\tbook\r\n1\tdrink", list);
        for other in [
            b"".as_slice(),
            b"\0",
            b"[1, 2]",
            b"{",
            b"1, 2",
            b"path,gloss\n",
        ] {
            assert_eq!(FileKind::of(other), None, "{other:?}");
        }
    }
}
