use super::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

const LIMIT: u64 = 1 << 20;

/// A file of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let path =
            std::env::temp_dir().join(format!("handloom-archive-{}-{name}", std::process::id()));
        fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
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
fn reads_entries_stored_and_deflated_from_many_threads() {
    let contents: Vec<_> = (1..20).map(|n| noise(n * 10_007)).collect();
    let names: Vec<_> = (1..20).map(|n| format!("videos/{n}.mp4")).collect();
    let files: Vec<_> = names
        .iter()
        .map(String::as_str)
        .zip(contents.iter().map(Vec::as_slice))
        .collect();
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let scratch = Scratch::new(&format!("threads-{method}"), &zip_of(&files, method));
        let archive = Archive::open(&scratch.0).unwrap();
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (archive, files) = (&archive, &files);
                scope.spawn(move || {
                    for (name, content) in files.iter().cycle().skip(turn * 5).take(40) {
                        assert_eq!(&archive.read(name, LIMIT).unwrap(), content);
                        let file = archive.memory_file(name, LIMIT).unwrap();
                        for _ in 0..2 {
                            assert_eq!(&fs::read(path_of(&file)).unwrap(), content);
                        }
                    }
                });
            }
        });
    }
}

#[test]
fn a_memory_file_is_gone_when_dropped() {
    let scratch = Scratch::new("gone", &zip_of(&[("a", b"x")], CompressionMethod::Stored));
    let file = Archive::open(&scratch.0)
        .unwrap()
        .memory_file("a", LIMIT)
        .unwrap();
    let path = path_of(&file);
    let identity = |path: &Path| fs::metadata(path).ok().map(|file| file.ino());
    let before = identity(&path);
    assert!(before.is_some());
    drop(file);
    // The number may name another thread's file by now, but not this one.
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
    ];
    let files: Vec<_> = names.iter().map(|name| (*name, b"x".as_slice())).collect();
    let scratch = Scratch::new("slip", &zip_of(&files, CompressionMethod::Stored));
    let archive = Archive::open(&scratch.0).unwrap();
    let mut found: Vec<_> = archive.names().collect();
    found.sort_unstable();
    assert_eq!(found, ["ok", "x/y.mp4"]);
    assert_eq!(archive.read("ok", LIMIT).unwrap(), b"x");
    let error = archive.read("../a", LIMIT).unwrap_err();
    assert!(error.to_string().contains("does not exist"), "{error}");
}

#[test]
fn bombs_are_refused_with_their_size() {
    let zeros = vec![0; 3 << 20];
    let mut bytes = zip_of(&[("bomb", &zeros)], CompressionMethod::Deflated);
    let scratch = Scratch::new("bomb", &bytes);
    let message = Archive::open(&scratch.0)
        .unwrap()
        .memory_file("bomb", LIMIT)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("3145728 bytes, more than the 1048576"),
        "{message}"
    );
    // The same with a directory that claims 5 bytes.
    let central = bytes
        .windows(4)
        .rposition(|window| window == b"PK\x01\x02")
        .unwrap();
    bytes[central + 24..central + 28].copy_from_slice(&5_u32.to_le_bytes());
    let scratch = Scratch::new("liar", &bytes);
    let error = Archive::open(&scratch.0)
        .unwrap()
        .memory_file("bomb", LIMIT)
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("bomb in") && message.contains("damaged"),
        "{message}"
    );
}

#[test]
fn encryption_is_named() {
    let mut bytes = zip_of(&[("secret", b"x")], CompressionMethod::Stored);
    let central = bytes
        .windows(4)
        .rposition(|window| window == b"PK\x01\x02")
        .unwrap();
    bytes[central + 8] |= 1;
    bytes[6] |= 1;
    let scratch = Scratch::new("secret", &bytes);
    let error = Archive::open(&scratch.0)
        .unwrap()
        .read("secret", LIMIT)
        .unwrap_err();
    assert!(error.to_string().contains("is encrypted"), "{error}");
}

#[test]
fn damage_is_an_error_that_names_archive_and_entry() {
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        let content = noise(50_000);
        let whole = zip_of(&[("clip.mp4", &content)], method);
        let mut flipped = whole.clone();
        flipped[20_000] ^= 0x10;
        let scratch = Scratch::new(&format!("crc-{method}"), &flipped);
        let message = Archive::open(&scratch.0)
            .unwrap()
            .read("clip.mp4", LIMIT)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("clip.mp4 in /") && message.contains("damaged"),
            "{message}"
        );
    }
    for bytes in [b"".as_slice(), b"PK", b"not a zip at all"] {
        let scratch = Scratch::new("not", bytes);
        let error = Archive::open(&scratch.0).unwrap_err();
        assert!(matches!(error, ArchiveError::NotZip { .. }), "{error}");
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
        let scratch = Scratch::new("mutated", &bytes);
        if let Ok(archive) = Archive::open(&scratch.0) {
            opened += 1;
            for name in archive.names() {
                if let Ok(content) = archive.read(name, LIMIT) {
                    assert_eq!(Some(content.len() as u64), archive.size(name));
                }
            }
        }
    }
    assert!(opened > 100, "{opened}");
}
