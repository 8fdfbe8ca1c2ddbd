use super::*;
use crate::dataset::wlasl::FILE_NAME;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::symlink;
use zip::write::{SimpleFileOptions, ZipWriter};

/// A folder of its own for each test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("handloom-dataset-{}-{name}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn zip(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = self.0.join(name);
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in files {
            writer
                .start_file(*name, SimpleFileOptions::default())
                .unwrap();
            io::Write::write_all(&mut writer, content.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// The bytes of the metadata file.
fn json_of(dataset: &DatasetSource) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = |content: &mut dyn Read| content.read_to_end(&mut bytes).unwrap();
    dataset.json.read(wlasl::BYTES_MAX, read).unwrap();
    bytes
}

fn open(path: &Path) -> Result<DatasetSource, DatasetError> {
    DatasetSource::open(path, None, None)
}

#[test]
fn a_folder_lists_its_clips_as_the_notebook_sees_them() {
    let scratch = Scratch::new("folder");
    scratch.file(FILE_NAME, "[]");
    let clip = scratch.file("videos/1.mp4", "clip");
    scratch.file("videos/2.avi", "");
    scratch.file("videos/3.MP4", "");
    scratch.file("videos/folder.mp4/x", "");
    symlink(&clip, scratch.0.join("videos/link.mp4")).unwrap();
    symlink("nowhere", scratch.0.join("videos/broken.mp4")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        scratch.0.join("videos/pipe.mp4"),
        0o600.into(),
    )
    .unwrap();
    let dataset = open(&scratch.0).unwrap();
    for (id, expected) in [
        ("1", true),
        ("2", false),
        ("3", false),
        ("folder", true),
        ("link", true),
        ("broken", false),
        ("pipe", true),
        ("", false),
        ("../videos/1", false),
    ] {
        assert_eq!(dataset.exists(id), expected, "{id}");
    }
    assert_eq!(dataset.video_count(), 6);
    assert_eq!(json_of(&dataset), b"[]");
    assert_eq!(
        fs::read(dataset.clip("link").unwrap().path()).unwrap(),
        b"clip"
    );
    for id in ["folder", "pipe"] {
        let error = dataset.clip(id).unwrap_err().to_string();
        assert!(error.ends_with("is not a regular file"), "{error}");
    }
    for id in ["broken", "2", "../videos/1"] {
        assert_eq!(
            dataset.clip(id).unwrap_err().to_string(),
            format!("no file {id}.mp4")
        );
    }
    fs::remove_file(&clip).unwrap();
    assert_eq!(dataset.clip("1").unwrap_err().to_string(), "no file 1.mp4");
    assert!(
        dataset.report().contains("  Size: 0.00 MB\n"),
        "{}",
        dataset.report()
    );
    assert!(dataset.report().ends_with("Number of video files: 6\n"));
}

#[test]
fn an_archive_is_read_in_place_with_or_without_a_leading_folder() {
    let scratch = Scratch::new("archive");
    for top in ["", "wlasl/", "a/b/"] {
        let names = [
            FILE_NAME,
            "videos/1.mp4",
            "videos/2.mov",
            "videos/sub/3.mp4",
            "old/deeper/WLASL_v0.3.json",
        ];
        let names = names.map(|name| format!("{top}{name}"));
        let files: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), name.as_str()))
            .collect();
        let path = scratch.zip("archive.zip", &files);
        let mut dataset = open(&path).unwrap();
        assert_eq!(json_of(&dataset), names[0].as_bytes());
        assert!(dataset.exists("1") && !dataset.exists("2") && !dataset.exists("3"));
        assert_eq!(dataset.video_count(), 2);
        let clip = dataset.clip("1").unwrap();
        assert_eq!(fs::read(clip.path()).unwrap(), names[1].as_bytes());
        assert_eq!(dataset.json_path(), path.join(&names[0]));
        dataset.clip_bytes_max = 3;
        let small = dataset.clip("1").unwrap_err().to_string();
        assert!(small.contains("more than the 3 allowed"), "{small}");
    }
}

#[test]
fn overrides_name_files_on_disk_or_in_the_archive() {
    let scratch = Scratch::new("overrides");
    let json = scratch.file("other/meta.json", "[1]");
    let clips = scratch
        .file("clips/7.mp4", "seven")
        .parent()
        .unwrap()
        .to_owned();
    let dataset = DatasetSource::open(&scratch.0, Some(&json), Some(&clips)).unwrap();
    assert!(dataset.exists("7"));
    assert_eq!(json_of(&dataset), b"[1]");
    let zip = scratch.zip(
        "a.zip",
        &[("x/meta.json", "[2]"), ("x/clips/8.mp4", "eight")],
    );
    assert!(matches!(open(&zip), Err(DatasetError::NoJson { .. })));
    let inside = DatasetSource::open(
        &zip,
        Some(Path::new("x/meta.json")),
        Some(Path::new("x/clips/")),
    )
    .unwrap();
    assert!(inside.exists("8"));
    assert_eq!(json_of(&inside), b"[2]");
    let mixed = DatasetSource::open(&zip, Some(&json), Some(&zip.join("x/clips"))).unwrap();
    assert_eq!(json_of(&mixed), b"[1]");
    assert_eq!(fs::read(mixed.clip("8").unwrap().path()).unwrap(), b"eight");
    let on_disk = DatasetSource::open(&zip, Some(Path::new("x/meta.json")), Some(&clips)).unwrap();
    assert_eq!(
        fs::read(on_disk.clip("7").unwrap().path()).unwrap(),
        b"seven"
    );
    let gone = DatasetSource::open(&scratch.0, Some(Path::new("/no.json")), None).unwrap_err();
    assert!(
        gone.to_string().starts_with("no metadata file at /no.json"),
        "{gone}"
    );
}

#[test]
fn what_is_misplaced_is_searched_and_named() {
    let scratch = Scratch::new("misplaced");
    let shown = |error: DatasetError| {
        error
            .to_string()
            .replace(scratch.0.to_str().unwrap(), "ROOT")
    };
    assert!(
        shown(open(&scratch.0.join("no")).unwrap_err())
            .starts_with("no dataset at ROOT/no: No such file")
    );
    let empty = shown(open(&scratch.0).unwrap_err());
    assert!(
        empty.starts_with("ROOT is no dataset: it is empty"),
        "{empty}"
    );
    scratch.zip("archive.zip", &[]);
    let archive = shown(open(&scratch.0).unwrap_err());
    assert!(archive.contains("ROOT/archive.zip"), "{archive}");
    scratch.file("sub/WLASL_v0.3.json", &" ".repeat(1 << 20));
    scratch.file("sub/nslt_100.json", "{}");
    scratch.file("sub/videos/1.mp4", "");
    scratch.file("sub/videos/2.mp4", "");
    scratch.file("more/3.mov", "");
    symlink(&scratch.0, scratch.0.join("sub/loop")).unwrap();
    assert_eq!(
        shown(open(&scratch.0).unwrap_err()),
        "no metadata file at ROOT/WLASL_v0.3.json\n  \
         a whole dataset is at ROOT/sub: give that folder instead\n  \
         found ROOT/sub/WLASL_v0.3.json (1.00 MB)\n  \
         found ROOT/sub/nslt_100.json (0.00 MB)\n  \
         ROOT/archive.zip is an archive: give it instead of the folder if the dataset is in it"
    );
    let json = scratch.0.join("sub/WLASL_v0.3.json");
    assert_eq!(
        shown(DatasetSource::open(&scratch.0, Some(&json), None).unwrap_err()),
        "no video folder at ROOT/videos\n  \
         a whole dataset is at ROOT/sub: give that folder instead\n  \
         found 2 videos in ROOT/sub/videos\n  \
         found 1 videos in ROOT/more\n  \
         ROOT/archive.zip is an archive: give it instead of the folder if the dataset is in it"
    );
    let zip = scratch.zip(
        "b.zip",
        &[("d/WLASL_v0.3.json", "[]"), ("d/clips/1.mp4", "")],
    );
    assert_eq!(
        shown(open(&zip).unwrap_err()),
        "no video folder at ROOT/b.zip/d/videos\n  \
         found 1 videos in ROOT/b.zip/d/clips"
    );
}

#[test]
fn what_is_no_dataset_is_refused_without_blocking() {
    let scratch = Scratch::new("refused");
    let pipe = scratch.0.join("pipe.zip");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    assert!(matches!(open(&pipe), Err(DatasetError::NotFound { .. })));
    let text = scratch.file("a.json", "[]");
    assert!(matches!(open(&text), Err(DatasetError::BadArchive(_))));
    let huge = scratch.file("WLASL_v0.3.json", "");
    File::options()
        .write(true)
        .open(&huge)
        .unwrap()
        .set_len(wlasl::BYTES_MAX + 1)
        .unwrap();
    scratch.file("videos/1.mp4", "");
    let error = open(&scratch.0).unwrap().metadata().unwrap_err();
    assert!(
        matches!(error, DatasetError::JsonTooLarge { .. }),
        "{error}"
    );
}

#[test]
fn metadata_is_read_from_a_folder_and_an_archive_alike() {
    let scratch = Scratch::new("metadata");
    let json = r#"[{"gloss": "a", "instances": [{"video_id": "1"}]}]"#;
    scratch.file(FILE_NAME, json);
    scratch.file("videos/1.mp4", "");
    let zip = scratch.zip("a.zip", &[(FILE_NAME, json), ("videos/1.mp4", "")]);
    for path in [&scratch.0, &zip] {
        let metadata = open(path).unwrap().metadata().unwrap();
        assert_eq!(metadata.entries, wlasl::parse(json.as_bytes()).unwrap());
        assert_eq!(metadata.sha256, crate::digest::sha256_hex(json.as_bytes()));
    }
    scratch.file(FILE_NAME, "<html>");
    let error = open(&scratch.0).unwrap().metadata().unwrap_err();
    assert!(matches!(error, DatasetError::Metadata { .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("WLASL_v0.3.json: a web page (HTML)"),
        "{error}"
    );
    // The checksum in the archive no longer fits.
    let mut bytes = fs::read(&zip).unwrap();
    let at = bytes.windows(4).position(|window| window == b"PK\x01\x02");
    bytes[at.unwrap() + 16] ^= 1;
    fs::write(&zip, bytes).unwrap();
    let error = open(&zip).unwrap().metadata().unwrap_err();
    assert!(matches!(error, DatasetError::BadArchive(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains("Invalid checksum"), "{error}");
}

#[test]
fn a_metadata_bomb_is_refused_without_unpacking_it() {
    let scratch = Scratch::new("bomb");
    let path = scratch.0.join("bomb.zip");
    let mut writer = ZipWriter::new(File::create(&path).unwrap());
    let options = SimpleFileOptions::default();
    writer.start_file("videos/1.mp4", options).unwrap();
    writer.start_file(FILE_NAME, options).unwrap();
    let piece = vec![b' '; 1 << 20];
    for _ in 0..=64 {
        io::Write::write_all(&mut writer, &piece).unwrap();
    }
    writer.finish().unwrap();
    let error = open(&path).unwrap().metadata().unwrap_err();
    assert!(
        matches!(error, DatasetError::JsonTooLarge { .. }),
        "{error}"
    );
    // The same with a directory that claims 5 bytes.
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(4).rposition(|window| window == b"PK\x01\x02");
    let size = at.unwrap() + 24;
    bytes[size..size + 4].copy_from_slice(&5_u32.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = open(&path).unwrap().metadata().unwrap_err();
    assert!(matches!(error, DatasetError::BadArchive(_)), "{error}");
}

#[test]
fn names_with_backslashes_are_folders() {
    let scratch = Scratch::new("backslash");
    let files = [
        ("wlasl\\WLASL_v0.3.json", "[]"),
        ("wlasl\\videos\\1.mp4", "one"),
        ("wlasl\\videos\\more\\2.mp4", "two"),
    ];
    let dataset = open(&scratch.zip("a.zip", &files)).unwrap();
    assert_eq!(json_of(&dataset), b"[]");
    assert_eq!(fs::read(dataset.clip("1").unwrap().path()).unwrap(), b"one");
    let expected = "found more/2.mp4: move it to 2.mp4 in the folder of clips";
    assert_eq!(dataset.elsewhere("2").as_deref(), Some(expected));
}

#[test]
fn clips_under_other_names_are_found_on_disk_but_not_read() {
    let scratch = Scratch::new("elsewhere");
    scratch.file(FILE_NAME, "[]");
    scratch.file("videos/1.mp4", "");
    scratch.file("videos/2.MP4", "");
    scratch.file("videos/train/3.mp4", "");
    scratch.file("videos/a/b/4.webm", "");
    let dataset = open(&scratch.0).unwrap();
    let found = |id| dataset.elsewhere(id).unwrap_or_default();
    assert_eq!(found("1"), "");
    assert!(found("2").starts_with("found 2.MP4: rename it"));
    assert!(found("3").starts_with("found train/3.mp4: move it"));
    assert!(found("4").starts_with("found a/b/4.webm: move it"));
    for id in ["2", "3", "4"] {
        assert!(!dataset.exists(id));
    }
}

#[test]
fn archives_in_place_of_a_dataset_are_named() {
    let scratch = Scratch::new("archives");
    let zip = scratch.zip("outer.zip", &[("inner.zip", "PK"), ("readme.txt", "")]);
    let error = open(&zip).unwrap_err().to_string();
    assert!(
        error.contains("inner.zip is within the archive: unpack it and give what is in it"),
        "{error}"
    );
    scratch.file("WLASL.tar.gz", "");
    scratch.file("Parts.Z01", "");
    let error = open(&scratch.0).unwrap_err().to_string();
    for name in ["WLASL.tar.gz", "Parts.Z01"] {
        let expected = format!("{name} is an archive of a kind that is not read: unpack it");
        assert!(error.contains(&expected), "{error}");
    }
    assert!(
        error.contains("outer.zip is an archive: give it"),
        "{error}"
    );
}

#[test]
fn a_table_that_is_a_pipe_is_refused_without_blocking() {
    let scratch = Scratch::new("pipe");
    scratch.file("1.mp4", "");
    let table = scratch.0.join("list.csv");
    rustix::fs::mkfifoat(rustix::fs::CWD, &table, 0o600.into()).unwrap();
    let error = DatasetSource::open(&scratch.0, Some(&table), None).unwrap_err();
    let error = error.to_string();
    assert!(error.contains("list.csv: not a regular file"), "{error}");
}

#[test]
fn links_to_folders_hide_no_clip_whatever_their_names() {
    for link in ["a_link", "z_link", "deep/b"] {
        let scratch = Scratch::new("links");
        scratch.file("deep/real/1.mp4", "");
        scratch.file("deep/real/2.mp4", "");
        symlink(scratch.0.join("deep/real"), scratch.0.join(link)).unwrap();
        let table = format!("path,gloss\ndeep/real/1.mp4,a\n{link}/2.mp4,a\n{link}/1.mp4,a\n");
        scratch.file("list.csv", &table);
        let mut dataset = open(&scratch.0).unwrap();
        assert!(dataset.exists("1") && dataset.exists("2"), "{link}");
        let entries = dataset.metadata().unwrap().entries;
        let refused = entries[0].instances[2].refused.as_deref();
        let expected = "deep/real/1.mp4 is already named in list.csv, line 2";
        assert_eq!(refused, Some(expected), "{link}");
    }
}

#[test]
fn other_json_files_hide_no_table_and_all_tables_have_one_limit() {
    let scratch = Scratch::new("heads");
    for n in 0..70 {
        scratch.file(&format!("a{n}.json"), "{}");
    }
    scratch.file("1.mp4", "");
    scratch.file("z.csv", "path,gloss\n1.mp4,a\n");
    assert_eq!(open(&scratch.0).unwrap().format(), FormatName::Csv);
    let note = "n".repeat(1 << 20);
    let rows = format!("1.mp4,a,{note}\n").repeat(20);
    for table in ["z.csv", "y.csv"] {
        scratch.file(table, &format!("path,gloss,note\n{rows}"));
    }
    let error = open(&scratch.0).unwrap_err().to_string();
    assert!(
        error.contains("more than the 33554432 bytes allowed together"),
        "{error}"
    );
}
