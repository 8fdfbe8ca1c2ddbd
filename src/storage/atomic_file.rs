//! Files that are either complete or absent: written beside their place, synced, renamed, then the folder is synced.
//!
//! All files of the program are made here: results, mirror copies, exports, caches and reports. A partial file has a
//! random name and is created exclusively, so that no other process can put a link in its place. The folder that a caller names may be a link; a folder within it may not.

mod place;

pub(crate) use place::place_file;

use crate::digest::Hasher;
use crate::storage::StoreError;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Attempts to find a free name for a partial file.
const NAME_ATTEMPTS: usize = 16;
/// Hex digits in the name of a partial file.
const RANDOM_DIGITS: usize = 16;

/// A folder that stays open, so that a rename or a new link at its path has no effect.
pub(super) struct Folder {
    file: File,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder `root`, which may be a link, and in it the folder of `name`, which may not. `name` is
    /// relative.
    pub(super) fn open(root: &Path, name: &str) -> io::Result<Self> {
        let open = |path: &Path, flags| {
            let flags = flags | libc::O_DIRECTORY;
            OpenOptions::new().read(true).custom_flags(flags).open(path)
        };
        let mut folder = Self {
            file: open(root, 0)?,
            path: root.to_path_buf(),
        };
        for part in Path::new(name).parent().into_iter().flatten() {
            let file = open(&folder.place(part), libc::O_NOFOLLOW);
            let path = folder.path.join(part);
            folder = Self {
                file: file.map_err(|error| not_through(&path, error))?,
                path,
            };
        }
        Ok(folder)
    }

    /// Path of the file `name` in this folder, through the open descriptor.
    fn place(&self, name: &OsStr) -> PathBuf {
        Path::new("/proc/self/fd")
            .join(self.file.as_raw_fd().to_string())
            .join(name)
    }

    /// Syncs this folder, so that the names in it are durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self.file.sync_all() {
            // Some network file systems cannot sync a folder.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(()),
            synced => synced,
        }
    }

    /// Creates a partial file for `name`. Returns the file and its name.
    fn create_partial(&self, name: &str) -> io::Result<(File, String)> {
        let mut random = fastrand::Rng::new();
        let mut attempt = || {
            let partial = format!(".{name}.{:0RANDOM_DIGITS$x}.part", random.u64(..));
            let path = self.place(partial.as_ref());
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)?;
            Ok((file, partial))
        };
        let is_taken = |made: &io::Result<_>| {
            made.as_ref()
                .is_err_and(|e: &io::Error| e.kind() == ErrorKind::AlreadyExists)
        };
        let mut made = attempt();
        for _ in 1..NAME_ATTEMPTS {
            if !is_taken(&made) {
                break;
            }
            made = attempt();
        }
        made
    }

    /// Opens the file `name` for reading and writing, or creates it. Existing content is kept.
    ///
    /// # Errors
    /// Fails when it is a link or no regular file.
    pub(super) fn open_own(&self, name: &str) -> io::Result<File> {
        let path = self.path.join(name);
        // Opening a pipe that nobody reads would wait.
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.place(name.as_ref()));
        plain(&path, opened.map_err(|error| not_through(&path, error))?)
    }
}

/// Opens the file at `path` for reading. A pipe or device, which would block or never end, is refused at once.
///
/// # Errors
/// Fails when the file cannot be opened or is no regular file.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    plain(path, options.open(path)?)
}

/// Reads the file at `path`, opened by [`open_plain`].
pub(super) fn read_plain(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_plain(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns `file`, which was opened at `path`, or an error when it is a pipe, a device or a folder.
fn plain(path: &Path, file: File) -> io::Result<File> {
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::other(StoreError::Link {
        path: path.to_path_buf(),
    }))
}

/// Returns `error`, or [`StoreError::Link`] when `path` is a link.
fn not_through(path: &Path, error: io::Error) -> io::Error {
    if path.is_symlink() {
        return io::Error::other(StoreError::Link {
            path: path.to_path_buf(),
        });
    }
    error
}

/// Fails with [`StoreError::Link`] when `path` is a link.
pub(crate) fn refuse_link(path: &Path) -> Result<(), StoreError> {
    if path.is_symlink() {
        return Err(StoreError::Link {
            path: path.to_path_buf(),
        });
    }
    Ok(())
}

/// Fails with [`StoreError::Link`] when `path` exists and is no regular file.
pub(super) fn require_regular_file(path: &Path) -> Result<(), StoreError> {
    match path.symlink_metadata() {
        Ok(found) if !found.is_file() => Err(StoreError::Link {
            path: path.to_path_buf(),
        }),
        _ => Ok(()),
    }
}

/// Replaces the contents of the file `name` below the folder `root` with what `fill` writes, or leaves them as they
/// were. Returns their SHA-256, lower-case hex. Several processes may write it: the last one to finish wins.
///
/// # Errors
/// Fails when a step fails; the partial file is then removed.
pub(crate) fn write_file(
    root: &Path,
    name: &str,
    fill: impl FnOnce(&mut HashingWriter<'_>) -> io::Result<()>,
) -> Result<String, StoreError> {
    let mut sha256 = String::new();
    let hash = |out: &mut BufWriter<File>| {
        let mut out = HashingWriter {
            to: out,
            hasher: Hasher::default(),
        };
        fill(&mut out)?;
        sha256 = out.hasher.hex();
        Ok(())
    };
    write_checked(root, name, hash, |_| Ok(())).map_err(StoreError::write(&root.join(name)))?;
    Ok(sha256)
}

/// Like [`write_file`], with the content `bytes`.
pub(crate) fn write_whole(root: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let written = write_file(root, name, |out| out.write_all(bytes));
    written.map(|_| ()).map_err(io::Error::other)
}

/// Hashes what it writes.
pub(crate) struct HashingWriter<'a> {
    to: &'a mut BufWriter<File>,
    hasher: Hasher,
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Like [`write_file`]. `check` reads the synced partial file from its beginning before it is renamed.
///
/// # Errors
/// Returns the errors of the closures and of the system; the partial file is then removed.
pub(super) fn write_checked<T, E: From<io::Error>>(
    root: &Path,
    name: &str,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), E>,
    check: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let folder = Folder::open(root, name)?;
    let name = Path::new(name).file_name().unwrap_or_default();
    let (file, partial) = folder.create_partial(&name.to_string_lossy())?;
    let partial = folder.place(partial.as_ref());
    let written = (|| {
        let mut out = BufWriter::new(file);
        fill(&mut out)?;
        let mut file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        file.rewind()?;
        let checked = check(&mut file)?;
        drop(file);
        fs::rename(&partial, folder.place(name))?;
        folder.sync()?;
        Ok(checked)
    })();
    if written.is_err()
        && let Err(error) = fs::remove_file(&partial)
        && error.kind() != ErrorKind::NotFound
    {
        tracing::warn!(file = %partial.display(), %error, "cannot remove a partial file");
    }
    written
}

/// Appends `line` to the file `name` in the folder `root`, which it creates when it is missing. A crash may leave a
/// part of the line.
///
/// # Errors
/// Fails when the file cannot be written or is a link.
pub(crate) fn append_line(root: &Path, name: &str, line: &str) -> Result<(), StoreError> {
    let append = || {
        let mut file = Folder::open(root, name)?.open_own(name)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(format!("{line}\n").as_bytes())
    };
    append().map_err(StoreError::write(&root.join(name)))
}

/// Removes the partial files that killed processes left in the folder of `name` below the folder `root`. `is_ours`
/// selects them by the name of their file. With `end`, only files that were last changed before it are removed.
///
/// # Errors
/// Fails when the folder of `name` is a link or cannot be read, or a file cannot be removed.
pub(crate) fn remove_partial_files(
    root: &Path,
    name: &str,
    end: Option<SystemTime>,
    is_ours: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    let end = end.map(|end| end.duration_since(UNIX_EPOCH).unwrap_or_default());
    // A new hard link updates the status time (ctime), not the time of modification.
    let changed = |found: &Metadata| Duration::from_secs(found.ctime().try_into().unwrap_or(0));
    let remove = || {
        let folder = Folder::open(root, name)?;
        for entry in fs::read_dir(folder.place(OsStr::new("")))? {
            let name = entry?.file_name();
            let path = folder.place(&name);
            let is_old = || match end {
                Some(end) => path.symlink_metadata().map(|found| changed(&found) < end),
                None => Ok(true),
            };
            if file_of_own_partial(&name.to_string_lossy()).is_some_and(&is_ours) && is_old()? {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    };
    remove().map_err(StoreError::write(&root.join(name)))
}

/// Name of the file that the partial file `name` belongs to; `None` for other names. Accepts the names of earlier
/// versions.
pub(super) fn file_of_partial(name: &str) -> Option<&str> {
    let earlier = || name.strip_prefix('.')?.strip_suffix(".part");
    file_of_own_partial(name).or_else(earlier)
}

/// Like [`file_of_partial`], for the names of this version only.
fn file_of_own_partial(name: &str) -> Option<&str> {
    let name = name.strip_prefix('.')?.strip_suffix(".part")?;
    let (file, random) = name.rsplit_once('.')?;
    let is_random = random.len() == RANDOM_DIGITS && random.bytes().all(|b| b.is_ascii_hexdigit());
    is_random.then_some(file)
}

/// SHA-256 of the file at `path`, lower-case hex.
pub(crate) fn file_sha256(path: &Path) -> Result<String, StoreError> {
    let file = open_plain(path).map_err(StoreError::read(path))?;
    sha256(file).map_err(StoreError::read(path))
}

/// SHA-256 of all of `from`, lower-case hex.
pub(super) fn sha256(mut from: impl Read) -> io::Result<String> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(hasher.hex()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Creates the folder `path` and its missing parents durably.
pub(crate) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let create = |source| StoreError::Create {
        path: path.to_path_buf(),
        source,
    };
    if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_folder(above)?;
    }
    if path.is_dir() {
        // The process that made it may have been killed before it synced the name.
        if let Err(error) = sync_folder(path) {
            // The folder belongs to someone else: this process may enter the folder above without the right to read
            // it.
            tracing::debug!(folder = %path.display(), %error, "cannot sync the name of a folder");
        }
        return Ok(());
    }
    match fs::create_dir(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists || !path.is_dir() => {
            Err(create(error))
        }
        _ => sync_folder(path).map_err(create),
    }
}

/// Syncs the folder that contains `path`, so that the names in it are durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    Folder::open(folder.unwrap_or(Path::new(".")), "")?.sync()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_where_they_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        make_folder(&deep).unwrap();
        make_folder(&deep).unwrap();
        assert!(deep.is_dir());
        fs::write(dir.path().join("file"), "").unwrap();
        for bad in ["file", "file/below"] {
            let error = make_folder(&dir.path().join(bad)).unwrap_err();
            assert!(matches!(error, StoreError::Create { .. }), "{error}");
        }
    }

    #[test]
    fn who_shares_a_file_writes_it_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared.json");
        let folder = dir.path();
        std::thread::scope(|scope| {
            for byte in b'a'..=b'd' {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..50 {
                        write_file(folder, "shared.json", |out| out.write_all(&[byte; 5000]))
                            .unwrap();
                        let found = fs::read(path).unwrap();
                        assert!(found.len() == 5000 && found.iter().all(|b| *b == found[0]));
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.txt");
        let sha256 = write_file(dir.path(), "a.txt", |out| out.write_all(b"old")).unwrap();
        assert_eq!(sha256, file_sha256(&path).unwrap());
        let failed = write_file(dir.path(), "a.txt", |out| {
            out.write_all(b"new")?;
            Err(io::Error::other("power"))
        });
        assert!(failed.unwrap_err().to_string().contains("a.txt: power"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(matches!(
            write_file(Path::new("/proc/nothing"), "x", |_| Ok(())),
            Err(StoreError::Write { .. })
        ));
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (victim, root) = (other.path().join("victim"), dir.path());
        let write = |name: &str| write_file(root, name, |out| out.write_all(b"ours"));
        fs::write(&victim, "theirs").unwrap();
        let link = std::os::unix::fs::symlink::<&Path, PathBuf>;
        for name in [".run.json.part", "run.json"] {
            link(&victim, root.join(name)).unwrap();
        }
        write("run.json").unwrap();
        assert_eq!(fs::read(root.join("run.json")).unwrap(), b"ours");
        assert!(!root.join("run.json").is_symlink());
        link(other.path(), root.join("batches")).unwrap();
        let error = write("batches/00000.npz").unwrap_err().to_string();
        let batches = root.join("batches").display().to_string();
        assert!(error.contains(&format!("{batches} is a link")), "{error}");
        link(&victim, root.join(".lock")).unwrap();
        let folder = Folder::open(root, "").unwrap();
        let error = folder.open_own(".lock").unwrap_err().to_string();
        assert!(
            error.contains(".lock is a link") && error.contains("rm "),
            "{error}"
        );
        // A folder that the user names may be a link.
        let named = other.path().join("named");
        link(root, named.clone()).unwrap();
        write_file(&named, "x", |out| out.write_all(b"ours")).unwrap();
        assert_eq!(fs::read(root.join("x")).unwrap(), b"ours");
        assert_eq!(fs::read(&victim).unwrap(), b"theirs");
        assert_eq!(fs::read_dir(other.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_is_no_plain_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("run.json");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [&pipe, dir.path(), Path::new("/dev/zero")] {
            let error = file_sha256(path).unwrap_err();
            assert!(matches!(error, StoreError::Link { .. }), "{error}");
        }
        fs::remove_file(&pipe).unwrap();
        assert!(matches!(
            file_sha256(&pipe).unwrap_err(),
            StoreError::Read { .. }
        ));
    }

    #[test]
    fn partial_files_are_known_by_their_names() {
        for (name, file) in [
            (".a.npz.0123456789abcdef.part", Some("a.npz")),
            (".a.npz.part", Some("a.npz")),
            ("a.npz.part", None),
            (".a.npz", None),
        ] {
            assert_eq!(file_of_partial(name), file, "{name}");
        }
    }
}
