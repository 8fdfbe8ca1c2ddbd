//! A WLASL dataset where the user keeps it: a folder, or the archive of one.
//!
//! Finds the metadata file and the clips, says which clips are there and hands them out as something that a decoder
//! can open. When a part is not in its place the dataset is searched and the error names where it may be.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::archive::{Archive, ArchiveError, MemoryFile};
use super::candidates::{self, Candidates, megabytes};

/// The metadata file.
const JSON_NAME: &str = "WLASL_v0.3.json";

/// What a clip's file name has after the video id.
const CLIP_SUFFIX: &str = ".mp4";

/// The folder of clips beside it.
const VIDEOS_NAME: &str = "videos";

/// A metadata file larger than this is refused; the real one has 12 MB.
const JSON_BYTES_MAX: u64 = 1 << 30;

/// A clip in an archive that unpacks to more than this is refused unless [`Dataset::with_clip_limit`] says otherwise.
const CLIP_BYTES_MAX: u64 = 512 << 20;

/// Why a dataset cannot be used.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Nothing at the path given.
    #[error(
        "no dataset at {path}: {source}; give a folder with {JSON_NAME} and {VIDEOS_NAME}/, or a zip archive of one"
    )]
    NotFound {
        /// As given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Neither a folder nor a file.
    #[error(
        "{path} is neither a folder nor a file; give a folder with {JSON_NAME} and {VIDEOS_NAME}/, or a zip archive of one"
    )]
    NotADataset {
        /// As given.
        path: PathBuf,
    },
    /// The metadata file is not where expected.
    #[error("no metadata file at {expected}{}", candidates.json_advice())]
    NoJson {
        /// Where it should be.
        expected: PathBuf,
        /// Where it may be.
        candidates: Box<Candidates>,
    },
    /// The folder of clips is not where expected.
    #[error("no video folder at {expected}{}", candidates.videos_advice())]
    NoVideos {
        /// Where it should be.
        expected: PathBuf,
        /// Where it may be.
        candidates: Box<Candidates>,
    },
    /// The metadata file is too large to be one.
    #[error("{path} has {size} bytes, more than the {JSON_BYTES_MAX} allowed: is it {JSON_NAME}?")]
    JsonTooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// The archive, or the metadata file in it, cannot be read.
    #[error(transparent)]
    BadArchive(#[from] ArchiveError),
    /// The system refuses.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Why a clip cannot be handed out. Data, not a reason to stop.
#[derive(Debug, Error)]
pub enum ClipError {
    /// Not in the dataset, or gone since it was opened.
    #[error("no file {video_id}.mp4")]
    Missing {
        /// Which clip.
        video_id: String,
    },
    /// A folder, pipe, socket or device.
    #[error("{path} is not a regular file")]
    NotRegular {
        /// What was found.
        path: PathBuf,
    },
    /// The archive's entry cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The system refuses.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A clip that a decoder can open.
#[derive(Debug)]
pub enum ClipFile {
    /// A regular file on disk.
    Path(PathBuf),
    /// Unpacked from an archive; gone when dropped.
    Memory(MemoryFile),
}

impl ClipFile {
    /// Where to open it, for as long as this value lives.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Memory(file) => file.path(),
        }
    }
}

/// Where one part of the dataset is.
#[derive(Debug)]
enum Place {
    Disk(PathBuf),
    /// Name of a file, or of a folder with `/` at its end, in an archive.
    Archive(Arc<Archive>, String),
}

impl Place {
    /// As a path for messages.
    fn shown(&self) -> PathBuf {
        match self {
            Self::Disk(path) => path.clone(),
            Self::Archive(archive, name) => archive.path().join(name.trim_end_matches('/')),
        }
    }
}

/// An open dataset. Shared by all workers: everything takes `&self`.
#[derive(Debug)]
pub struct Dataset {
    json: Place,
    json_bytes: u64,
    videos: Place,
    video_count: usize,
    video_ids: HashSet<Box<str>>,
    clip_bytes_max: u64,
}

impl Dataset {
    /// Opens the dataset at `path`, a folder or a zip archive, and lists its clips.
    ///
    /// `json_override` and `videos_override` say where the metadata file and the folder of clips are instead: on disk,
    /// or by their names in the archive.
    ///
    /// # Errors
    /// When a part is missing or cannot be read.
    pub fn open(
        path: &Path,
        json_override: Option<&Path>,
        videos_override: Option<&Path>,
    ) -> Result<Self, DatasetError> {
        let kind = fs::metadata(path).map_err(|source| DatasetError::NotFound {
            path: path.to_owned(),
            source,
        })?;
        // A pipe in place of an archive would block on opening.
        let (json, videos) = if kind.is_dir() {
            places_in_folder(path, json_override, videos_override)?
        } else if kind.is_file() {
            let archive = Arc::new(Archive::open(path)?);
            places_in_archive(&archive, json_override, videos_override)?
        } else {
            return Err(DatasetError::NotADataset {
                path: path.to_owned(),
            });
        };
        let json_bytes = match &json {
            Place::Disk(file) => fs::metadata(file).map_err(io_error(file))?.len(),
            Place::Archive(archive, name) => archive.size(name).unwrap_or(0),
        };
        let (video_count, video_ids) = match &videos {
            Place::Disk(folder) => list_folder(folder)?,
            Place::Archive(archive, folder) => {
                let inside = archive
                    .names()
                    .filter_map(|name| name.strip_prefix(folder.as_str()));
                list(inside.filter(|name| !name.contains('/')))
            }
        };
        Ok(Self {
            json,
            json_bytes,
            videos,
            video_count,
            video_ids,
            clip_bytes_max: CLIP_BYTES_MAX,
        })
    }

    /// The same with another limit, in bytes, for a clip unpacked from an archive.
    #[must_use]
    pub fn with_clip_limit(self, clip_bytes_max: u64) -> Self {
        Self {
            clip_bytes_max,
            ..self
        }
    }

    /// The metadata file as a path for messages; behind the archive's path when it is in one.
    #[must_use]
    pub fn json_path(&self) -> PathBuf {
        self.json.shown()
    }

    /// Bytes of the metadata file.
    #[must_use]
    pub fn json_bytes(&self) -> u64 {
        self.json_bytes
    }

    /// The folder of clips as a path for messages.
    #[must_use]
    pub fn videos_path(&self) -> PathBuf {
        self.videos.shown()
    }

    /// Files named `.mp4`, `.avi` or `.mov` in it, as the notebook counts them.
    #[must_use]
    pub fn video_count(&self) -> usize {
        self.video_count
    }

    /// What the notebook prints when it verifies the dataset's paths.
    #[must_use]
    pub fn report(&self) -> String {
        format!(
            "JSON file found: {}\n  Size: {}\n\nVideo directory found: {}\n  Number of video files: {}\n",
            self.json_path().display(),
            megabytes(self.json_bytes),
            self.videos_path().display(),
            self.video_count,
        )
    }

    /// The whole metadata file.
    ///
    /// # Errors
    /// When it cannot be read or has more than 1 GiB.
    pub fn metadata_bytes(&self) -> Result<Vec<u8>, DatasetError> {
        if self.json_bytes > JSON_BYTES_MAX {
            return Err(DatasetError::JsonTooLarge {
                path: self.json_path(),
                size: self.json_bytes,
            });
        }
        match &self.json {
            Place::Archive(archive, name) => Ok(archive.read(name, JSON_BYTES_MAX)?),
            Place::Disk(path) => {
                let mut bytes = Vec::new();
                // The file may grow while it is read; the limit holds all the same.
                File::open(path)
                    .and_then(|file| file.take(JSON_BYTES_MAX).read_to_end(&mut bytes))
                    .map_err(io_error(path))?;
                Ok(bytes)
            }
        }
    }

    /// Whether `ID.mp4` was there when the dataset was opened.
    #[must_use]
    pub fn exists(&self, video_id: &str) -> bool {
        self.video_ids.contains(video_id)
    }

    /// Bytes of `ID.mp4`, unpacked; 0 where that cannot be told.
    #[must_use]
    pub fn clip_bytes(&self, video_id: &str) -> u64 {
        let file_name = format!("{video_id}{CLIP_SUFFIX}");
        match &self.videos {
            Place::Archive(archive, folder) => archive.size(&format!("{folder}{file_name}")),
            Place::Disk(folder) => fs::metadata(folder.join(file_name)).ok().map(|m| m.len()),
        }
        .unwrap_or(0)
    }

    /// Whether the dataset itself can still be reached: tells a medium that went away from a clip that did.
    #[must_use]
    pub fn is_there(&self) -> bool {
        match &self.videos {
            Place::Archive(archive, _) => archive.path().is_file(),
            // An unmounted medium leaves an empty folder behind.
            Place::Disk(folder) => {
                fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
            }
        }
    }

    /// The clip `ID.mp4`, ready for a decoder.
    ///
    /// # Errors
    /// When it is not there, is no regular file or cannot be unpacked.
    pub fn clip(&self, video_id: &str) -> Result<ClipFile, ClipError> {
        let missing = || ClipError::Missing {
            video_id: video_id.to_owned(),
        };
        // Only names that the folder's listing gave are ever looked for.
        if !self.exists(video_id) {
            return Err(missing());
        }
        let file_name = format!("{video_id}{CLIP_SUFFIX}");
        match &self.videos {
            Place::Archive(archive, folder) => {
                let name = format!("{folder}{file_name}");
                let file = archive.memory_file(&name, self.clip_bytes_max)?;
                Ok(ClipFile::Memory(file))
            }
            Place::Disk(folder) => {
                let path = folder.join(file_name);
                match fs::metadata(&path) {
                    Ok(kind) if kind.is_file() => Ok(ClipFile::Path(path)),
                    Ok(_) => Err(ClipError::NotRegular { path }),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Err(missing()),
                    Err(source) => Err(ClipError::Io { path, source }),
                }
            }
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DatasetError + '_ {
    move |source| DatasetError::Io {
        path: path.to_owned(),
        source,
    }
}

fn places_in_folder(
    root: &Path,
    json_override: Option<&Path>,
    videos_override: Option<&Path>,
) -> Result<(Place, Place), DatasetError> {
    let json = json_override.map_or_else(|| root.join(JSON_NAME), Path::to_owned);
    let videos = videos_override.map_or_else(|| root.join(VIDEOS_NAME), Path::to_owned);
    if !json.is_file() {
        return Err(DatasetError::NoJson {
            expected: json,
            candidates: Box::new(search_folder(root)),
        });
    }
    if !videos.is_dir() {
        return Err(DatasetError::NoVideos {
            expected: videos,
            candidates: Box::new(search_folder(root)),
        });
    }
    Ok((Place::Disk(json), Place::Disk(videos)))
}

fn places_in_archive(
    archive: &Arc<Archive>,
    json_override: Option<&Path>,
    videos_override: Option<&Path>,
) -> Result<(Place, Place), DatasetError> {
    let top = candidates::dataset_folder(archive.names(), JSON_NAME, VIDEOS_NAME);
    let in_archive = |name: String| Place::Archive(Arc::clone(archive), name);
    let json = match json_override {
        Some(given) if given.is_file() => Some(Place::Disk(given.to_owned())),
        Some(given) => entry_name(archive, given)
            .filter(|name| archive.size(name).is_some())
            .map(in_archive),
        None => top.map(|top| in_archive(format!("{top}{JSON_NAME}"))),
    };
    let json = json.ok_or_else(|| DatasetError::NoJson {
        expected: json_override.map_or_else(|| archive.path().join(JSON_NAME), Path::to_owned),
        candidates: Box::new(search_archive(archive)),
    })?;
    let folder_in_archive = |name: String| {
        let folder = format!("{name}/");
        let there = archive.names().any(|name| name.starts_with(&folder));
        there.then(|| in_archive(folder))
    };
    let expected = format!("{}{VIDEOS_NAME}", top.unwrap_or_default());
    let videos = match videos_override {
        Some(given) if given.is_dir() => Some(Place::Disk(given.to_owned())),
        Some(given) => entry_name(archive, given).and_then(folder_in_archive),
        None => folder_in_archive(expected.clone()),
    };
    let videos = videos.ok_or_else(|| DatasetError::NoVideos {
        expected: videos_override.map_or_else(|| archive.path().join(&expected), Path::to_owned),
        candidates: Box::new(search_archive(archive)),
    })?;
    Ok((json, videos))
}

/// The name in `archive` that a user means by `given`: as the archive has it, or with the archive's path before it,
/// which is how errors show it.
fn entry_name(archive: &Archive, given: &Path) -> Option<String> {
    let inside = given.strip_prefix(archive.path()).unwrap_or(given);
    Some(inside.to_str()?.trim_matches('/').to_owned())
}

fn search_folder(root: &Path) -> Candidates {
    Candidates::in_folder(root, JSON_NAME, VIDEOS_NAME)
}

fn search_archive(archive: &Archive) -> Candidates {
    let files = archive
        .names()
        .map(|name| (archive.path().join(name), archive.size(name).unwrap_or(0)));
    Candidates::among(archive.path(), files, JSON_NAME, VIDEOS_NAME)
}

/// Counts the videos among `names` and collects the ids of those that the metadata can name.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> (usize, HashSet<Box<str>>) {
    let mut ids = HashSet::new();
    let mut count = 0;
    for name in names {
        count += usize::from(candidates::is_video(name));
        if let Some(id) = name.strip_suffix(CLIP_SUFFIX) {
            ids.insert(id.into());
        }
    }
    (count, ids)
}

/// The names in `folder`, less broken links, which are no clips although the notebook counts them as videos.
fn list_folder(folder: &Path) -> Result<(usize, HashSet<Box<str>>), DatasetError> {
    let mut names = Vec::new();
    let mut broken = 0;
    for item in fs::read_dir(folder).map_err(io_error(folder))? {
        let item = item.map_err(io_error(folder))?;
        // A video id is text, so a name that is not text belongs to none.
        let Ok(name) = item.file_name().into_string() else {
            continue;
        };
        let is_link = item.file_type().is_ok_and(|kind| kind.is_symlink());
        if is_link && !item.path().exists() {
            broken += usize::from(candidates::is_video(&name));
        } else {
            names.push(name);
        }
    }
    let (count, ids) = list(names.iter().map(String::as_str));
    Ok((count + broken, ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use zip::write::{SimpleFileOptions, ZipWriter};

    /// A folder of its own for each test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("handloom-dataset-{}-{name}", std::process::id()));
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

    fn open(path: &Path) -> Result<Dataset, DatasetError> {
        Dataset::open(path, None, None)
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
            assert!(matches!(
                dataset.clip(id),
                Err(ClipError::NotRegular { .. })
            ));
        }
        for id in ["broken", "2", "../videos/1"] {
            assert!(matches!(dataset.clip(id), Err(ClipError::Missing { .. })));
        }
        fs::remove_file(&clip).unwrap();
        assert!(matches!(dataset.clip("1"), Err(ClipError::Missing { .. })));
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
        let dataset = Dataset::open(&scratch.0, Some(&json), Some(&clips)).unwrap();
        assert!(dataset.exists("7"));
        assert_eq!(dataset.metadata_bytes().unwrap(), b"[1]");
        let zip = scratch.zip(
            "a.zip",
            &[("x/meta.json", "[2]"), ("x/clips/8.mp4", "eight")],
        );
        assert!(matches!(open(&zip), Err(DatasetError::NoJson { .. })));
        let inside = Dataset::open(
            &zip,
            Some(Path::new("x/meta.json")),
            Some(Path::new("x/clips/")),
        )
        .unwrap();
        assert!(inside.exists("8"));
        assert_eq!(inside.metadata_bytes().unwrap(), b"[2]");
        let mixed = Dataset::open(&zip, Some(&json), Some(&zip.join("x/clips"))).unwrap();
        assert_eq!(mixed.metadata_bytes().unwrap(), b"[1]");
        assert_eq!(fs::read(mixed.clip("8").unwrap().path()).unwrap(), b"eight");
        let on_disk = Dataset::open(&zip, Some(Path::new("x/meta.json")), Some(&clips)).unwrap();
        assert_eq!(
            fs::read(on_disk.clip("7").unwrap().path()).unwrap(),
            b"seven"
        );
        let gone = Dataset::open(&scratch.0, Some(Path::new("/no.json")), None).unwrap_err();
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
             found ROOT/sub/nslt_100.json (0.00 MB)\n\
             say which with --json FILE\n  \
             ROOT/archive.zip is an archive: give it in place of the folder if the dataset is in it"
        );
        let json = scratch.0.join("sub/WLASL_v0.3.json");
        assert_eq!(
            shown(Dataset::open(&scratch.0, Some(&json), None).unwrap_err()),
            "no video folder at ROOT/videos\n  \
             a whole dataset is at ROOT/sub: give that folder instead\n  \
             found 2 videos in ROOT/sub/videos\n  \
             found 1 videos in ROOT/more\n\
             say which with --videos DIR\n  \
             ROOT/archive.zip is an archive: give it in place of the folder if the dataset is in it"
        );
        let zip = scratch.zip(
            "b.zip",
            &[("d/WLASL_v0.3.json", "[]"), ("d/clips/1.mp4", "")],
        );
        assert_eq!(
            shown(open(&zip).unwrap_err()),
            "no video folder at ROOT/b.zip/d/videos\n  \
             found 1 videos in ROOT/b.zip/d/clips\n\
             say which with --videos DIR"
        );
    }

    #[test]
    fn what_is_no_dataset_is_refused_without_blocking() {
        let scratch = Scratch::new("refused");
        let pipe = scratch.0.join("pipe.zip");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        assert!(matches!(open(&pipe), Err(DatasetError::NotADataset { .. })));
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
}
