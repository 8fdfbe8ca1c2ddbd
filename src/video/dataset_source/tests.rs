use super::*;
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

fn open(path: &Path) -> Result<DatasetSource, DatasetError> {
    DatasetSource::open(path, None, None)
}

#[test]
fn a_folder_lists_its_clips_as_the_notebook_sees_them() {
    let scratch = Scratch::new("folder");
    scratch.file(JSON_NAME, "[]");
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
    assert_eq!(dataset.metadata_bytes().unwrap(), b"[]");
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
            JSON_NAME,
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
        let dataset = open(&path).unwrap();
        assert_eq!(dataset.metadata_bytes().unwrap(), names[0].as_bytes());
        assert!(dataset.exists("1") && !dataset.exists("2") && !dataset.exists("3"));
        assert_eq!(dataset.video_count(), 2);
        let clip = dataset.clip("1").unwrap();
        assert_eq!(fs::read(clip.path()).unwrap(), names[1].as_bytes());
        assert_eq!(dataset.json_path(), path.join(&names[0]));
        let small = dataset
            .with_clip_limit(3)
            .clip("1")
            .unwrap_err()
            .to_string();
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
    assert_eq!(dataset.metadata_bytes().unwrap(), b"[1]");
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
    assert_eq!(inside.metadata_bytes().unwrap(), b"[2]");
    let mixed = DatasetSource::open(&zip, Some(&json), Some(&zip.join("x/clips"))).unwrap();
    assert_eq!(mixed.metadata_bytes().unwrap(), b"[1]");
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
    assert!(empty.contains("no JSON file in ROOT either"), "{empty}");
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
        .set_len(JSON_BYTES_MAX + 1)
        .unwrap();
    scratch.file("videos/1.mp4", "");
    let error = open(&scratch.0).unwrap().metadata_bytes().unwrap_err();
    assert!(
        matches!(error, DatasetError::JsonTooLarge { .. }),
        "{error}"
    );
}
