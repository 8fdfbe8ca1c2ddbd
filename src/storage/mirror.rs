//! A copy of the results on another disk or a network share. Every file is read back and compared after it is copied.
//! The list of files can be checked with `sha256sum -c SHA256SUMS`.
//!
//! A synchronization may end at any instruction, also by a power cut. The next one continues from the list and the
//! file sizes. Existing copies are read again by [`Mirror::verify`]. Foreign files stay untouched, and so does a
//! whole mirror that belongs to another output folder ([`owner`]).

mod error;
mod owner;
mod verify;

use crate::digest::Hasher;
use crate::storage::StoreError;
use crate::storage::atomic_file::{open_plain, read_plain, sync_folder, write_checked, write_file};
use crate::storage::output_dir::{files_of, is_result, result_files};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};

use error::medium;
use verify::read_back;

pub(crate) use error::MirrorError;
pub use owner::OWNER_NAME;

/// The list of the files of a mirror, in the format of `sha256sum -c`.
pub const SUMS_NAME: &str = "SHA256SUMS";

/// Name relative to both folders, with `/`, and SHA-256 in lower-case hex.
pub type Listed = (String, String);

/// Bytes copied between two calls of `stop`.
const CHUNK_BYTES: usize = 256 << 10;

/// What a synchronization did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Files that were copied and read back.
    pub copied: usize,
    /// Results of an earlier job that were removed.
    pub removed: usize,
    /// Files in place now.
    pub in_place: usize,
    /// Files that are not in place because it was stopped.
    pub waiting: usize,
}

/// A folder that is kept equal to an output folder.
#[derive(Clone, Debug)]
pub struct Mirror {
    from: PathBuf,
    to: PathBuf,
    /// `to`, or the mirror that contains it. It must exist on the medium and is never created.
    root: PathBuf,
}

/// The files of an output folder that a mirror holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The identity of the output folder: see [`super::Ledger::identity`].
    pub identity: String,
    /// Names and hashes, in the order in which the files are copied.
    pub files: Vec<Listed>,
    /// Whether no more files will follow.
    pub is_all: bool,
}

impl Mirror {
    /// The mirror `to` of the output folder `from`.
    pub(crate) fn new(from: &Path, to: &Path) -> Self {
        Self {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            root: to.to_path_buf(),
        }
    }

    /// The folder `name` in the mirror `root` as a mirror of `from`. It is created when it is missing; `root` never
    /// is.
    pub(crate) fn within(from: &Path, root: &Path, name: &str) -> Self {
        Self {
            from: from.to_path_buf(),
            to: root.join(name),
            root: root.to_path_buf(),
        }
    }

    /// Number of files that are not in place: all of them when the mirror cannot be read or does not belong to this
    /// output folder yet.
    pub(crate) fn waiting(&self, listing: &Listing) -> usize {
        let files = &listing.files;
        let is_ours = || Ok(self.owner()?.as_ref() == Some(&listing.identity));
        match self.present().and_then(|()| is_ours()) {
            Ok(true) => self.read(SUMS_NAME).map_or(files.len(), |text| {
                let listed = parse(&text);
                files.iter().filter(|f| !self.has(&listed, f)).count()
            }),
            _ => files.len(),
        }
    }

    /// Copies the files that are not in place, in their order, until `stop` returns `true`.
    ///
    /// * When the listing is that of a finished job, other batches in the list are removed. Until then they may be
    ///   the only copy of an earlier job.
    /// * A file that cannot be mirrored does not stop the others.
    /// * Nothing changes in a mirror that belongs to another output folder.
    ///
    /// # Errors
    /// Returns the first error. The files that were copied before it are in place and listed.
    pub(crate) fn pass(
        &self,
        listing: &Listing,
        stop: &dyn Fn() -> bool,
    ) -> Result<SyncReport, MirrorError> {
        let files = &listing.files;
        if let Some((name, _)) = files.iter().find(|(name, _)| !is_plain(name)) {
            return Err(MirrorError::Name { name: name.clone() });
        }
        self.present()?;
        if files.is_empty() && !self.to.exists() {
            return Ok(SyncReport::default());
        }
        let passed = match self.belongs(listing, stop) {
            Ok(true) => self
                .own(listing)
                .and_then(|()| self.follow(files, listing.is_all, stop)),
            Ok(false) => Ok(SyncReport {
                waiting: files.len(),
                ..SyncReport::default()
            }),
            Err(error) => Err(error),
        };
        // When the medium was removed meanwhile, that is the cause of any error.
        if let Err(MirrorError::Medium { .. }) = passed {
            self.present()?;
        }
        passed
    }

    fn present(&self) -> Result<(), MirrorError> {
        if self.to != self.root && self.to.is_symlink() {
            let path = self.to.clone();
            return Err(MirrorError::Link { path });
        }
        let path = self.root.clone();
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(medium(&path)(ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(MirrorError::Away { path }),
            Err(error) => Err(medium(&path)(error)),
        }
    }

    fn follow(
        &self,
        files: &[Listed],
        is_all: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<SyncReport, MirrorError> {
        let text = self.read(SUMS_NAME)?;
        let listed = parse(&text);
        self.remove_partial()?;
        // Files that are listed and present, but not in `files`.
        let mut kept = listed.clone();
        kept.retain(|name, _| self.to.join(name).is_file());
        for (name, _) in files {
            kept.remove(name);
        }
        let mut removed = 0;
        if is_all {
            // Files go before their lines: without its line a batch could not be recognized again.
            removed = self.remove_results(&kept)?;
            kept.clear();
        }
        let render = |in_place: &[bool]| render(files, in_place, &kept);
        let mut in_place: Vec<bool> = files.iter().map(|f| self.has(&listed, f)).collect();
        // Lines go before their files are replaced: no line may ever state another hash than that of its file.
        let lines = render(&in_place);
        if lines.as_bytes() != text {
            self.write(SUMS_NAME, &lines)?;
        }
        let mut copied = 0;
        let mut first_error = None;
        for (n, (name, sha256)) in files.iter().enumerate() {
            if in_place[n] {
                continue;
            }
            match self.copy(name, sha256, stop) {
                Ok(()) => {
                    in_place[n] = true;
                    copied += 1;
                    self.write(SUMS_NAME, &render(&in_place))?;
                }
                Err(CopyInterrupt::Stopped) => break,
                Err(CopyInterrupt::Medium(source)) => {
                    return Err(medium(&self.to.join(name))(source));
                }
                Err(CopyInterrupt::Other(error @ MirrorError::Damaged { .. })) => {
                    return Err(error);
                }
                Err(CopyInterrupt::Other(error)) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        let done = in_place.iter().filter(|is| **is).count();
        first_error.map_or(
            Ok(SyncReport {
                copied,
                removed,
                in_place: done,
                waiting: files.len() - done,
            }),
            Err,
        )
    }

    /// The content of a small file of the mirror; empty when it does not exist.
    fn read(&self, name: &str) -> Result<Vec<u8>, MirrorError> {
        let path = self.to.join(name);
        match read_plain(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(medium(&path)),
        }
    }

    fn write(&self, name: &str, lines: &str) -> Result<(), MirrorError> {
        write_file(&self.to, name, |out| out.write_all(lines.as_bytes()))
            .map(|_| ())
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: StoreError) -> MirrorError {
        match error {
            StoreError::Write { path, source } | StoreError::Read { path, source } => {
                MirrorError::Medium { path, source }
            }
            StoreError::Link { path } => MirrorError::Link { path },
            other => medium(&self.to)(io::Error::other(other)),
        }
    }

    /// Whether the file is listed with its hash and present with its size. Its size is not compared when the output
    /// folder has lost the file.
    fn has(&self, listed: &BTreeMap<String, String>, (name, sha256): &Listed) -> bool {
        if listed.get(name) != Some(sha256) {
            return false;
        }
        let size = |folder: &Path| fs::metadata(folder.join(name)).ok();
        size(&self.to).is_some_and(|mine| {
            mine.is_file() && size(&self.from).is_none_or(|source| source.len() == mine.len())
        })
    }

    /// Removes the partial files of interrupted copies.
    fn remove_partial(&self) -> Result<(), MirrorError> {
        let found = result_files(&self.to).and_then(|mut found| {
            let ours = |name: &str| [SUMS_NAME, OWNER_NAME].contains(&name);
            found.extend(files_of(&self.to, ours)?);
            Ok(found)
        });
        let mut partial = found.map_err(|error| self.failed(error))?;
        partial.retain(|path| path.extension().is_some_and(|e| e == "part"));
        partial.iter().try_for_each(|path| remove(path).map(|_| ()))
    }

    /// Names of all results in the mirror.
    fn results(&self) -> Result<Vec<String>, MirrorError> {
        let found = result_files(&self.to).map_err(|error| self.failed(error))?;
        let results = found.iter().filter(|path| is_result(path));
        let names = results.filter_map(|path| path.strip_prefix(&self.to).ok());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    /// Removes the results among `stale` and returns their number.
    fn remove_results(&self, stale: &BTreeMap<String, String>) -> Result<usize, MirrorError> {
        let results = self.results()?;
        let mut removed = 0;
        for name in results.iter().filter(|name| stale.contains_key(*name)) {
            let path = self.to.join(name);
            if remove(&path)? {
                sync_folder(&path).map_err(medium(&path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn copy(&self, name: &str, sha256: &str, stop: &dyn Fn() -> bool) -> Result<(), CopyInterrupt> {
        let (from, to) = (self.from.join(name), self.to.join(name));
        let unreadable = |source| {
            CopyInterrupt::Other(MirrorError::Source {
                path: from.clone(),
                source,
            })
        };
        let mut source = open_plain(&from).map_err(unreadable)?;
        self.make_folders(name)?;
        let fill = |out: &mut io::BufWriter<File>| {
            let found = stream(&mut source, out, stop, unreadable)?;
            if found == sha256 {
                return Ok(());
            }
            Err(CopyInterrupt::Other(MirrorError::Changed {
                path: from.clone(),
                expected: sha256.to_owned(),
                found,
            }))
        };
        let check = |written: &mut File| {
            let found = read_back(written, stop)?;
            if found == sha256 {
                return Ok(());
            }
            Err(CopyInterrupt::Other(MirrorError::Damaged {
                path: to.clone(),
            }))
        };
        write_checked(&self.to, name, fill, check)
    }

    /// Makes the folders between the mirror's and the file, never the mirror's own.
    fn make_folders(&self, name: &str) -> io::Result<()> {
        let mut folder = self.to.clone();
        for part in Path::new(name).parent().into_iter().flatten() {
            folder.push(part);
            make_one(&folder)?;
        }
        Ok(())
    }
}

/// Why a copy ended early.
#[derive(Debug)]
enum CopyInterrupt {
    Stopped,
    Medium(io::Error),
    Other(MirrorError),
}

impl From<io::Error> for CopyInterrupt {
    fn from(error: io::Error) -> Self {
        Self::Medium(error)
    }
}

/// Copies all of `from` and returns its SHA-256.
fn stream(
    from: &mut impl Read,
    to: &mut impl Write,
    stop: &dyn Fn() -> bool,
    unreadable: impl FnOnce(io::Error) -> CopyInterrupt,
) -> Result<String, CopyInterrupt> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        if stop() {
            return Err(CopyInterrupt::Stopped);
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                hasher.update(&buffer[..bytes]);
                to.write_all(&buffer[..bytes])?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    Ok(hasher.hex())
}

/// Whether `name` stays below its folder and on one line of the list.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty()
        && !name.contains(['\n', '\r', '\\'])
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Names and hashes of a list. Other lines are ignored.
fn parse(sums: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(sums);
    let lines = text.lines().filter_map(|line| {
        let (sha256, name) = line.split_once("  ").or_else(|| line.split_once(" *"))?;
        let is_hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        (is_hex && is_plain(name)).then(|| (name.to_owned(), sha256.to_owned()))
    });
    lines.collect()
}

/// The list of the `files` that are in place and of those that are `kept`.
fn render(files: &[Listed], in_place: &[bool], kept: &BTreeMap<String, String>) -> String {
    let there = files.iter().zip(in_place).filter(|(_, is)| **is);
    let lines = there.map(|((name, sha256), _)| (name, sha256)).chain(kept);
    let lines = lines.map(|(name, sha256)| format!("{sha256}  {name}\n"));
    lines.collect::<Vec<_>>().concat()
}

/// Creates a folder durably, unless it exists.
fn make_one(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_folder(folder)),
    }
}

/// Removes a file. Returns whether it existed.
fn remove(path: &Path) -> Result<bool, MirrorError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true).map_err(medium(path)),
    }
}

#[cfg(test)]
mod tests;
