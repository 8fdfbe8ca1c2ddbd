//! A copy of the results on another disk or a network share. Every file is read back and compared after it is copied.
//! The list of files can be checked with `sha256sum -c SHA256SUMS`.
//!
//! A synchronization may end at any instruction, also by a power cut. The next one continues from the list and the file
//! sizes. It does not read existing copies again, which `sha256sum` does. Foreign files stay untouched, and so does a
//! whole mirror that belongs to another output folder ([`owner`]).

mod error;
mod owner;
mod sums;

use super::batches::{BATCH_FOLDER, FINAL_NAME};
use crate::digest::Hasher;
use crate::storage::atomic_file::{
    StoreError, partial_path, sync_folder, write_checked, write_file,
};
use crate::storage::output_dir::is_batch_name;
use rustix::fs::{Advice, fadvise};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use error::medium;
use sums::{is_plain, parse, render};

pub use error::MirrorError;
pub use owner::OWNER_NAME;
pub use sums::{Listed, SUMS_NAME};

/// Bytes between two checks whether to stop.
const CHUNK_BYTES: usize = 256 << 10;

/// What a synchronization did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Files that were copied and read back.
    pub copied: usize,
    /// Batches of an earlier job that were removed.
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
    /// `to`, or the mirror that contains it. It is on the medium and never created.
    root: PathBuf,
}

/// The files of an output folder that a mirror holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The identity of the output folder: see [`super::Ledger::identity`].
    pub identity: String,
    /// In the order in which they are copied.
    pub files: Vec<Listed>,
    /// Whether no more files will follow.
    pub is_all: bool,
}

impl Mirror {
    /// The mirror `to` of the output folder `from`.
    #[must_use]
    pub fn new(from: &Path, to: &Path) -> Self {
        Self {
            from: from.to_path_buf(),
            to: to.to_path_buf(),
            root: to.to_path_buf(),
        }
    }

    /// The folder `name` in the mirror `root` as a mirror of `from`. It is created when it is missing; `root` never is.
    #[must_use]
    pub fn within(from: &Path, root: &Path, name: &str) -> Self {
        Self {
            from: from.to_path_buf(),
            to: root.join(name),
            root: root.to_path_buf(),
        }
    }

    /// Number of files that are not in place. That is all of them when the mirror cannot be read or is not that of this
    /// output folder yet.
    #[must_use]
    pub fn waiting(&self, listing: &Listing) -> usize {
        let files = &listing.files;
        let is_ours = || Ok(self.owner()?.as_ref() == Some(&listing.identity));
        match self.present().and_then(|()| is_ours()) {
            Ok(true) => self.sums().map_or(files.len(), |text| {
                let listed = parse(&text);
                files.iter().filter(|f| !self.has(&listed, f)).count()
            }),
            _ => files.len(),
        }
    }

    /// Copies the files that are not in place, in their order, until `stop` returns `true`.
    ///
    /// * When the listing is that of a finished job, other batches in the list are removed. Until then they may be the only
    ///   copy of an earlier job.
    /// * A file that cannot be mirrored does not stop the others.
    /// * Nothing changes in a mirror that belongs to another output folder.
    ///
    /// # Errors
    /// The first error. The files that were copied before it are in place and listed.
    pub fn pass(
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
                .make_own()
                .and_then(|()| self.own(listing))
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
        let path = self.root.clone();
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(medium(&path)(ErrorKind::NotADirectory.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(MirrorError::Away { path }),
            Err(error) => Err(medium(&path)(error)),
        }
    }

    /// Creates the folder within the mirror, if this is one.
    fn make_own(&self) -> Result<(), MirrorError> {
        if self.to == self.root {
            return Ok(());
        }
        make_one(&self.to).map_err(medium(&self.to))
    }

    fn follow(
        &self,
        files: &[Listed],
        is_all: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<SyncReport, MirrorError> {
        let text = self.sums()?;
        let listed = parse(&text);
        self.remove_partial(files)?;
        // Files go before their lines: without its line a batch could not be recognized again.
        let stale = self.stale(files, &listed);
        let (removed, kept) = if is_all {
            (self.remove_results(&stale)?, Vec::new())
        } else {
            (0, stale)
        };
        let render = |in_place: &[bool]| render(files, in_place, &kept);
        let mut in_place: Vec<bool> = files.iter().map(|f| self.has(&listed, f)).collect();
        // Lines go before their files are replaced: no line may ever state another hash than that of its file.
        let lines = render(&in_place);
        if lines.as_bytes() != text {
            self.write_sums(&lines)?;
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
                    self.write_sums(&render(&in_place))?;
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

    /// The current list; empty when there is none.
    fn sums(&self) -> Result<Vec<u8>, MirrorError> {
        self.read(SUMS_NAME)
    }

    fn write_sums(&self, lines: &str) -> Result<(), MirrorError> {
        self.write(SUMS_NAME, lines)
    }

    /// A small file of the mirror; empty when there is none.
    fn read(&self, name: &str) -> Result<Vec<u8>, MirrorError> {
        let path = self.to.join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(medium(&path)),
        }
    }

    fn write(&self, name: &str, lines: &str) -> Result<(), MirrorError> {
        let written = write_file(&self.to.join(name), |out| out.write_all(lines.as_bytes()));
        written.map_err(|error| match error {
            StoreError::Write { path, source } => MirrorError::Medium { path, source },
            other => medium(&self.to)(io::Error::other(other)),
        })
    }

    /// Whether the file is listed with its hash and present with its size. Its size is not compared when the output folder
    /// has lost the file.
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
    fn remove_partial(&self, files: &[Listed]) -> Result<(), MirrorError> {
        let targets = files.iter().map(|(name, _)| self.to.join(name));
        let ours: BTreeSet<PathBuf> = targets
            .chain([SUMS_NAME, OWNER_NAME].map(|name| self.to.join(name)))
            .map(|path| partial_path(&path))
            .collect();
        let batches = self.to.join(BATCH_FOLDER);
        let mut folders: BTreeSet<&Path> = ours.iter().filter_map(|path| path.parent()).collect();
        folders.insert(&batches);
        for folder in folders {
            let entries = match fs::read_dir(folder) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries.map_err(medium(folder))?,
            };
            for entry in entries {
                let path = entry.map_err(medium(folder))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let is_batch = folder == batches && name.starts_with('.') && is_batch_name(&name);
                if is_batch || ours.contains(&path) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// What is listed and there, but not of `files`.
    fn stale(&self, files: &[Listed], listed: &BTreeMap<String, String>) -> Vec<Listed> {
        let wanted: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let stale = listed
            .iter()
            .filter(|(name, _)| !wanted.contains(name.as_str()) && self.to.join(name).is_file());
        stale
            .map(|(name, sha)| (name.clone(), sha.clone()))
            .collect()
    }

    /// Removes the batches among `stale`, and the joined file where no row is left. Returns how many there were.
    fn remove_results(&self, stale: &[Listed]) -> Result<usize, MirrorError> {
        let is_batch = |name: &str| {
            let batch = name.strip_prefix(BATCH_FOLDER);
            let batch = batch.and_then(|rest| rest.strip_prefix('/'));
            batch.is_some_and(|b| !b.starts_with('.') && is_batch_name(b))
        };
        let mut removed = 0;
        let is_result = |name: &str| name == FINAL_NAME || is_batch(name);
        for (name, _) in stale.iter().filter(|(name, _)| is_result(name)) {
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
        let mut source = File::open(&from).map_err(unreadable)?;
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
        let check = |partial: &Path| {
            let mut written = File::open(partial)?;
            // Or memory would answer, not the medium. Where that cannot be had, memory's answer still finds bad memory.
            if let Err(error) = fadvise(&written, 0, None, Advice::DontNeed) {
                tracing::debug!(file = %partial.display(), %error, "cannot drop it from memory");
            }
            let found = stream(&mut written, &mut io::sink(), stop, CopyInterrupt::Medium)?;
            if found == sha256 {
                return Ok(());
            }
            Err(CopyInterrupt::Other(MirrorError::Damaged {
                path: to.clone(),
            }))
        };
        write_checked(&to, fill, check)
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
