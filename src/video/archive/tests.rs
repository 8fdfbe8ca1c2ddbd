use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

const LIMIT: u64 = 1 << 20;

/// Opens an archive of these bytes. Its file is removed at once: the archive keeps it open.
fn open(name: &str, bytes: &[u8]) -> Result<Archive, ArchiveError> {
    let path = std::env::temp_dir().join(format!("handloom-archive-{}-{name}", std::process::id()));
    fs::write(&path, bytes).unwrap();
    let archive = Archive::open(&path);
    fs::remove_file(&path).unwrap();
    archive
}

/// The error of opening an archive.
fn refused(name: &str, bytes: &[u8]) -> String {
    open(name, bytes).unwrap_err().to_string()
}

/// The content of the file `name`.
fn read(archive: &Archive, name: &str) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    archive.read(name, LIMIT, |content| content.read_to_end(&mut bytes).ok())?;
    Ok(bytes)
}

/// An archive with the one file "a", which is packed to `packed` by `method`.
fn zip_by_hand(method: u16, packed: &[u8], content: &[u8]) -> Vec<u8> {
    let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
    let mut common = vec![63, 0, 2, 0];
    common.extend(method.to_le_bytes());
    common.extend([0; 4]);
    common.extend(crc32fast::hash(content).to_le_bytes());
    common.extend(number(packed.len()));
    common.extend(number(content.len()));
    common.extend([1, 0, 0, 0]);
    let mut zip = [b"PK\x03\x04".as_slice(), &common, b"a", packed].concat();
    let start = zip.len();
    zip.extend(b"PK\x01\x02\x3F\0");
    zip.extend(&common);
    zip.extend([0; 14]);
    zip.extend(b"a");
    let size = zip.len() - start;
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    zip.extend(number(size));
    zip.extend(number(start));
    zip.extend([0; 2]);
    zip
}

/// What `unhex` reads is what Python's `zipfile` writes.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn zip_of(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
    for (name, content) in files {
        writer
            .start_file(
                *name,
                SimpleFileOptions::default().compression_method(method),
            )
            .unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn find_last(bytes: &[u8], magic: &[u8]) -> usize {
    let mut windows = bytes.windows(magic.len());
    windows.rposition(|window| window == magic).unwrap()
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..count).map(step).collect()
}

#[test]
fn reads_entries_from_many_threads() {
    let contents: Vec<_> = (1..20).map(|n| noise(n * 10_007)).collect();
    let names: Vec<_> = (1..20).map(|n| format!("videos/{n}.mp4")).collect();
    let files: Vec<_> = names
        .iter()
        .map(String::as_str)
        .zip(contents.iter().map(Vec::as_slice))
        .collect();
    for method in [
        CompressionMethod::Stored,
        CompressionMethod::Deflated,
        CompressionMethod::Bzip2,
    ] {
        let archive = open(&format!("threads-{method}"), &zip_of(&files, method)).unwrap();
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (archive, files) = (&archive, &files);
                scope.spawn(move || {
                    for (name, content) in files.iter().cycle().skip(turn * 5).take(40) {
                        assert_eq!(&read(archive, name).unwrap(), content);
                        let file = archive.memory_file(name, LIMIT).unwrap();
                        for _ in 0..2 {
                            assert_eq!(&fs::read(file.path()).unwrap(), content);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn a_memory_file_is_gone_when_dropped() {
    let archive = open("gone", &zip_of(&[("a", b"x")], CompressionMethod::Stored)).unwrap();
    let file = archive.memory_file("a", LIMIT).unwrap();
    let path = file.path();
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| file.ino());
    let before = identity(&path);
    assert!(before.is_some());
    drop(file);
    // The number may belong to another thread's file by now, but not to this one.
    assert_ne!(identity(&path), before);
}

#[test]
fn names_that_lead_out_are_not_there() {
    let names = [
        "../a",
        "/etc/passwd",
        "b\\..\\c",
        "d/../e",
        "f//g",
        "./ok",
        "x/y.mp4",
        "../../x/y.mp4",
        "w\\z.mp4",
        "w\\..\\..\\v",
        "\\root",
        "C:\\q.mp4",
        ".\\r\\.\\s.mp4",
        "folder\\",
        "//t",
        "..",
        "u/..",
    ];
    let files: Vec<_> = names.iter().map(|name| (*name, b"x".as_slice())).collect();
    let archive = open("slip", &zip_of(&files, CompressionMethod::Stored)).unwrap();
    let mut found: Vec<_> = archive.names().collect();
    found.sort_unstable();
    assert_eq!(
        found,
        [
            "C:/q.mp4",
            "etc/passwd",
            "f/g",
            "ok",
            "r/s.mp4",
            "root",
            "t",
            "w/z.mp4",
            "x/y.mp4"
        ]
    );
    assert_eq!(read(&archive, "w/z.mp4").unwrap(), b"x");
    assert_eq!(read(&archive, "ok").unwrap(), b"x");
    let error = read(&archive, "../a").unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn bombs_are_refused_with_their_size() {
    let zeros = vec![0; 3 << 20];
    let mut bytes = zip_of(&[("bomb", &zeros)], CompressionMethod::Deflated);
    let unpacked = |name: &str, bytes: &[u8]| {
        let archive = open(name, bytes).unwrap();
        archive.memory_file("bomb", LIMIT).unwrap_err().to_string()
    };
    let message = unpacked("bomb", &bytes);
    assert!(
        message.contains("3145728 bytes, more than the 1048576"),
        "{message}"
    );
    // The same with a directory that states 5 bytes.
    let central = find_last(&bytes, b"PK\x01\x02");
    bytes[central + 24..central + 28].copy_from_slice(&5_u32.to_le_bytes());
    let message = unpacked("liar", &bytes);
    assert!(
        message.contains("bomb in") && message.contains("damaged"),
        "{message}"
    );
}

#[test]
fn encryption_is_named() {
    let mut bytes = zip_of(&[("secret", b"x")], CompressionMethod::Stored);
    let central = find_last(&bytes, b"PK\x01\x02");
    bytes[central + 8] |= 1;
    bytes[6] |= 1;
    let error = read(&open("secret", &bytes).unwrap(), "secret").unwrap_err();
    assert!(error.to_string().contains("is encrypted"), "{error}");
}

#[test]
fn damage_is_an_error_that_names_archive_and_entry() {
    for method in [
        CompressionMethod::Stored,
        CompressionMethod::Deflated,
        CompressionMethod::Bzip2,
    ] {
        let mut flipped = zip_of(&[("clip.mp4", &noise(50_000))], method);
        flipped[20_000] ^= 0x10;
        let archive = open(&format!("crc-{method}"), &flipped).unwrap();
        let message = read(&archive, "clip.mp4").unwrap_err().to_string();
        assert!(
            message.contains("clip.mp4 in /") && message.contains("damaged"),
            "{message}"
        );
    }
    for (bytes, is_zip) in [
        (b"".as_slice(), false),
        (b"PK", true),
        (b"not a zip at all", false),
    ] {
        let error = open("not", bytes).unwrap_err();
        let is_named = matches!(
            &error,
            ArchiveError::NotZip { .. } | ArchiveError::OtherKind { .. }
        );
        assert!(is_named, "{error}");
        assert_eq!(error.to_string().contains("zip archive"), is_zip, "{error}");
    }
    let missing = Archive::open(Path::new("/nowhere.zip")).unwrap_err();
    assert!(missing.to_string().contains("/nowhere.zip"), "{missing}");
}

#[test]
fn cut_and_mutated_archives_never_panic() {
    let files: &[(&str, &[u8])] = &[("WLASL_v0.3.json", b"[]"), ("videos/1.mp4", &noise(900))];
    let whole = zip_of(files, CompressionMethod::Deflated);
    let mut state = 1_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 11).unwrap() % bound
    };
    let mut opened = 0;
    for case in 0..400 {
        let mut bytes = whole.clone();
        if case % 4 == 0 {
            bytes.truncate(below(bytes.len()));
        } else {
            for _ in 0..=below(4) {
                let place = below(bytes.len());
                bytes[place] ^= 1 << below(8);
            }
        }
        if let Ok(archive) = open("mutated", &bytes) {
            opened += 1;
            for name in archive.names() {
                if let Ok(content) = read(&archive, name) {
                    assert_eq!(Some(content.len() as u64), archive.size(name));
                }
            }
        }
    }
    assert!(opened > 100, "{opened}");
}

/// A text and what Python's `zipfile` makes of it with LZMA.
fn lzma() -> (Vec<u8>, Vec<u8>) {
    let content = format!("{}and its end", "one clip, ".repeat(30));
    let packed =
        "090405005d0000800000379b88ce7649a214e470dd2e595c9d413753795cc088b1b48c00e0d843fff5d4c000";
    (content.into_bytes(), unhex(packed))
}

#[test]
fn lzma_and_deflate64_are_read_and_checked() {
    let (content, packed) = lzma();
    let check = |name: &str, zip: &[u8], content: &[u8]| {
        let archive = open(name, zip).unwrap();
        assert_eq!(read(&archive, "a").unwrap(), content);
        let file = archive.memory_file("a", LIMIT).unwrap();
        assert_eq!(fs::read(file.path()).unwrap(), content);
    };
    let whole = zip_by_hand(14, &packed, &content);
    check("lzma", &whole, &content);
    // A dictionary of 3 GiB takes no more memory than the content.
    let mut greedy = packed.clone();
    greedy[8] = 0xC0;
    check("dictionary", &zip_by_hand(14, &greedy, &content), &content);
    // Without copies of 258 bytes, Deflate is Deflate64.
    let plain_text: Vec<u8> = noise(3000).iter().map(|byte| b'a' + byte % 7).collect();
    let mut deflated = zip_of(&[("a", &plain_text)], CompressionMethod::Deflated);
    let central = find_last(&deflated, b"PK\x01\x02");
    deflated[8] = 9;
    deflated[central + 10] = 9;
    check("deflate64", &deflated, &plain_text);
    for zip in [whole, deflated] {
        // Damage anywhere in the content is noticed at its end at the latest.
        for at in [45, 50, 60] {
            let mut flipped = zip.clone();
            flipped[at] ^= 4;
            let error = read(&open("flipped", &flipped).unwrap(), "a").unwrap_err();
            assert!(error.to_string().contains("is damaged"), "{error}");
        }
    }
}

#[test]
fn methods_that_are_not_read_are_named() {
    for (method, name) in [
        (1, "Shrink"),
        (6, "Implode"),
        (93, "Zstd"),
        (95, "Xz"),
        (98, "Ppmd"),
        (77, "Unknown"),
    ] {
        let zip = zip_by_hand(method, b"xyz", b"abcd");
        let archive = open(&format!("method-{method}"), &zip).unwrap();
        let expected = format!(
            "is packed with {name} (method {method}), which is not read: pack the archive again with Deflate"
        );
        for error in [
            read(&archive, "a").unwrap_err(),
            archive.memory_file("a", LIMIT).unwrap_err(),
        ] {
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }
}

#[test]
fn a_file_that_is_no_zip_archive_is_named() {
    let check = |name: &str, bytes: &[u8], expected: &str| {
        let error = refused(name, bytes);
        assert!(error.contains(expected), "{name}: {error}");
        assert_eq!(
            error.contains("cut short"),
            expected.contains("cut short"),
            "{error}"
        );
    };
    let zip = zip_of(
        &[("a", &noise(500)), ("b", b"x")],
        CompressionMethod::Deflated,
    );
    let end = find_last(&zip, b"PK\x05\x06");
    let with = |place: usize, byte: u8| {
        let mut changed = zip.clone();
        changed[place] = byte;
        changed
    };
    check("empty", b"", "the file is empty");
    for bytes in [&zip[..zip.len() - 30], &zip[..200]] {
        check("cut", bytes, "its end is missing, so it is cut short");
    }
    let central = find_last(&zip, b"PK\x01\x02");
    check("directory", &with(central, 0), "its directory is damaged");
    let part = "one part of a split archive";
    check("last-part", &with(end + 4, 2), part);
    let marked = [b"PK\x07\x08".as_slice(), &zip[..300]].concat();
    check("x.z01", &marked, part);
    check(
        "x.zip.001",
        &zip[..300],
        "cut into several: join them with `cat",
    );
    check(
        "x.tar.gz",
        b"\x1F\x8B\x08\0\0\0\0\0",
        "it is a gzip file: unpack it, with `tar xf ",
    );
    check("x.bz2", b"BZh91AY&SY", "it is a bzip2 file");
    check("x.xz", b"\xFD7zXZ\0\0\x04", "it is an xz file");
    check("x.7z", b"7z\xBC\xAF\x27\x1C\0\x04", "it is a 7z archive");
    check("x.rar", b"Rar!\x1A\x07\x01\0", "it is a RAR archive");
    let mut tar = vec![0; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    check(
        "x.tar",
        &tar,
        "it is a tar archive: unpack it with `tar xf ",
    );
    check(
        "html.zip",
        b"<!doctype html><title>Sign in",
        "it is a web page (HTML): download",
    );
    check(
        "lfs.zip",
        b"version https://git-lfs.github.com/spec/v1\n",
        "`git lfs pull`",
    );
    check("zeros.zip", &[0; 4096], "filled with zero bytes");
    check(
        "clip.mp4",
        b"\0\0\0\x18ftypmp42",
        "it is a single video (MP4): a job reads a folder of clips",
    );
    check(
        "x.json",
        b"[{\"gloss\": 1}]",
        "it is metadata as WLASL's: give the folder",
    );
    check(
        "x.csv",
        b"path,gloss\n1.mp4,book\n",
        "it is a table in text: to list clips",
    );
    check(
        "noise",
        &noise(300),
        "it is a file of an unknown kind: give the folder",
    );
}

#[test]
fn a_zip_archive_behind_other_bytes_is_read() {
    let zip = zip_of(&[("a", b"clip")], CompressionMethod::Deflated);
    for before in [b"#!/bin/sh\nexit\n".to_vec(), noise(100_000)] {
        let archive = open("behind", &[before, zip.clone()].concat()).unwrap();
        assert_eq!(read(&archive, "a").unwrap(), b"clip");
    }
    let mut writer = ZipWriter::new(io::Cursor::new(Vec::new()));
    let large = SimpleFileOptions::default().large_file(true);
    writer.start_file("a", large).unwrap();
    writer.write_all(b"clip").unwrap();
    let zip = writer.finish().unwrap().into_inner();
    let archive = open("zip64", &zip).unwrap();
    assert_eq!(read(&archive, "a").unwrap(), b"clip");
}

#[test]
fn directories_are_bounded() {
    // Many entries with the same few bytes; only the directory is of interest.
    let entry = |name: &str, comment: usize| {
        let mut entry = b"PK\x01\x02\x3F\0\x14\0\0\0\0\0\0\0\0\0".to_vec();
        entry.extend([0; 12]);
        entry.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        entry.extend([0; 2]);
        entry.extend(u16::try_from(comment).unwrap().to_le_bytes());
        entry.extend([0; 12]);
        entry.extend(name.as_bytes());
        entry.extend(vec![b'x'; comment]);
        entry
    };
    // As 64-bit archives state it: 70,000 does not fit into the older record.
    let zip = |stated: u64, entries: &mut dyn Iterator<Item = Vec<u8>>| {
        let mut zip = b"PK\x03\x04".to_vec();
        zip.extend([0; 26]);
        let start = zip.len() as u64;
        entries.for_each(|entry| zip.extend(entry));
        let end = zip.len() as u64;
        zip.extend(b"PK\x06\x06\x2C\0\0\0\0\0\0\0\x3F\0\x3F\0\0\0\0\0\0\0\0\0");
        for number in [stated, stated, end - start, start] {
            zip.extend(number.to_le_bytes());
        }
        zip.extend(b"PK\x06\x07\0\0\0\0");
        zip.extend(end.to_le_bytes());
        zip.extend(
            b"\x01\0\0\0PK\x05\x06\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0",
        );
        zip
    };
    let names = |count: usize| (0..count).map(|n| entry(&format!("videos/{n}.mp4"), 0));
    let archive = open("many", &zip(70_000, &mut names(70_000))).unwrap();
    assert_eq!(archive.names().count(), 70_000);
    for (stated, given) in [(100_001, 100_001), (u64::MAX / 64, 3)] {
        let error = refused("more", &zip(stated, &mut names(given)));
        let expected = format!("it states {stated} files, more than the 100000 allowed");
        assert!(error.contains(&expected), "{error}");
    }
    let comments = &mut (0..600).map(|n| entry(&n.to_string(), 65_535));
    let error = refused("comments", &zip(600, comments));
    assert!(
        error.contains("its directory has more than the 33554432 bytes"),
        "{error}"
    );
}

#[test]
fn want_of_memory_or_handles_is_no_fault_of_the_clip() {
    let path = PathBuf::from("a.zip");
    let opening = |code| {
        SourceError::from(ArchiveError::Io {
            path: path.clone(),
            source: io::Error::from_raw_os_error(code),
        })
    };
    for code in [libc::EMFILE, libc::ENFILE, libc::ENOMEM] {
        assert!(matches!(opening(code), SourceError::Machine(_)), "{code}");
    }
    assert!(matches!(opening(libc::EIO), SourceError::Clip(_)));
    let archive = open("want", &zip_by_hand(0, b"abc", b"abc")).unwrap();
    let error = archive.no_memory("a", io::Error::from_raw_os_error(libc::EMFILE));
    assert!(error.to_string().contains("has 3 bytes"), "{error}");
    assert!(matches!(SourceError::from(error), SourceError::Machine(_)));
    let missing = archive.memory_file("b", LIMIT).unwrap_err();
    assert!(matches!(SourceError::from(missing), SourceError::Clip(_)));
}
