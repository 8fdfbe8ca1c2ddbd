//! The attempts at a shard. A workflow engine may start a shard again while an earlier process still works on it,
//! perhaps on a node that it has lost. So each process works in a folder of its own, an attempt, and renames it to
//! the folder of the shard when it is complete. No locks are needed: one of several renames succeeds.
//!
//! An attempt that has ended is continued by renaming its folder. It has ended when a file in it says so, or when its
//! process ran on this machine since boot and is gone. From other attempts, sealed batches are imported.
//!
//! A process that takes over a folder first writes a note into it, under the folder's next name, and then renames it.
//! So a folder always has the note of its owner, and a full disk leaves it as it was.

mod owner;

use super::StoreError;
use super::atomic_file::{
    file_sha256, make_folder, read_plain, refuse_link, sync_folder, write_whole,
};
use super::batches::batch_path;
use super::frames_file::frames_path;
use super::lock::LOCK_NAME;
use super::manifest::{MANIFEST_NAME, RUN_NAME};
use super::output_dir::different_setting;
use super::recorder::batch_record::RECORDS_FOLDER;
use crate::shard::ShardIndex;
use crate::shard::record::{SHARD_NAME, ShardRecord};
use owner::{Owner, host};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// File that marks an attempt as ended when it contains the name of the attempt's folder. It is written last.
const STOPPED_NAME: &str = "stopped";
/// Suffix of the names of folders that are being removed.
const REMOVED: &str = ".removed";
/// Maximum number of attempts to rename a folder to its shard, while other processes do the same.
const RENAMES_MAX: usize = 4;

/// A folder in which this process works on a shard.
#[derive(Debug)]
pub(crate) struct Attempt {
    out: PathBuf,
    shard: ShardIndex,
    path: PathBuf,
    /// Whether it continues an earlier attempt or a complete shard.
    is_adopted: bool,
    /// Whether it replaces an existing shard.
    is_fresh: bool,
}

impl Attempt {
    /// Begins or continues an attempt at `shard` in the output folder `out`. With `is_fresh` it continues no other
    /// attempt, and replaces an existing shard when it is complete.
    ///
    /// # Errors
    /// Fails when `out` has results without shards, or a folder cannot be made, renamed or removed.
    pub(crate) fn begin(out: &Path, shard: ShardIndex, is_fresh: bool) -> Result<Self, StoreError> {
        if out.join(RUN_NAME).exists() {
            let path = out.to_path_buf();
            return Err(StoreError::Undivided { path });
        }
        make_folder(out)?;
        let mut attempt = Self::new(out, shard);
        attempt.is_fresh = is_fresh;
        if !is_fresh {
            let mut ended = attempt.others()?;
            ended.retain(|path| has_ended(path));
            // The attempt with the most sealed batches comes first.
            ended.sort_by_key(|path| std::cmp::Reverse(records(path)));
            for path in ended {
                if attempt.take(&path)? {
                    attempt.is_adopted = true;
                    break;
                }
            }
        }
        if !attempt.is_adopted {
            make_folder(&attempt.path)?;
            attempt.note(&attempt.path)?;
        }
        Ok(attempt)
    }

    /// Continues the complete shard, part of which must be made again, as an attempt. `None` when it no longer
    /// exists.
    ///
    /// # Errors
    /// Fails when its folder cannot be renamed.
    pub(crate) fn reopen(out: &Path, shard: ShardIndex) -> Result<Option<Self>, StoreError> {
        let mut attempt = Self::new(out, shard);
        if !attempt.take(&out.join(shard.folder()))? {
            return Ok(None);
        }
        attempt.is_adopted = true;
        Ok(Some(attempt))
    }

    fn new(out: &Path, shard: ShardIndex) -> Self {
        let random = fastrand::Rng::new().u64(..);
        let (prefix, host, pid) = (prefix(shard), host(), std::process::id());
        Self {
            out: out.to_path_buf(),
            shard,
            path: out.join(format!("{prefix}{host}-{pid}-{random:016x}")),
            is_adopted: false,
            is_fresh: false,
        }
    }

    /// An attempt with a name that marks its folder for removal: no process continues it.
    fn removed(&self) -> Self {
        let mut removed = Self::new(&self.out, self.shard);
        removed.path.as_mut_os_string().push(REMOVED);
        removed
    }

    /// Path of its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it continues an earlier attempt or a complete shard.
    pub(crate) fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// Whether it replaces an existing shard.
    pub(crate) fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Path of the complete shard's folder.
    pub(crate) fn target(&self) -> PathBuf {
        self.out.join(self.shard.folder())
    }

    /// The folders of the other attempts at the shard.
    fn others(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut paths = self.folders()?;
        paths.retain(|path| !is_removed(path));
        Ok(paths)
    }

    /// The other attempts whose sealed batches may be imported. A fresh attempt imports none; it removes those that
    /// have ended. The folder must be claimed.
    ///
    /// # Errors
    /// Fails when a folder cannot be read or removed.
    pub(crate) fn sources(&self) -> Result<Vec<PathBuf>, StoreError> {
        if self.is_fresh {
            self.remove_ended()?;
            return Ok(Vec::new());
        }
        self.others()
    }

    /// The folders of the other attempts at the shard, including those that are being removed.
    fn folders(&self) -> Result<Vec<PathBuf>, StoreError> {
        let prefix = prefix(self.shard);
        let entries = fs::read_dir(&self.out).map_err(StoreError::read(&self.out))?;
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths.map_err(StoreError::read(&self.out))?;
        paths.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(&prefix) && *path != self.path && path.is_dir() && !path.is_symlink()
        });
        paths.sort();
        Ok(paths)
    }

    /// Takes over the folder `from`. Returns `false` when another process was faster.
    fn take(&self, from: &Path) -> Result<bool, StoreError> {
        refuse_link(from)?;
        match self.note(from) {
            Err(_) if !from.exists() => Ok(false),
            noted => noted.and_then(|()| self.rename(from)),
        }
    }

    /// Renames the folder `from` to that of this attempt. Returns `false` when it no longer exists.
    fn rename(&self, from: &Path) -> Result<bool, StoreError> {
        match fs::rename(from, &self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            renamed => {
                let renamed = renamed.and_then(|()| sync_folder(&self.path));
                renamed.map(|()| true).map_err(StoreError::write(from))
            }
        }
    }

    /// Writes a note into `folder`: it belongs to this process as soon as it has this attempt's name.
    fn note(&self, folder: &Path) -> Result<(), StoreError> {
        let name = note_name(&self.path);
        let owner = format!("{:#}\n", json!(Owner::here()));
        let path = folder.join(&name);
        write_whole(folder, &name, owner.as_bytes()).map_err(StoreError::write(&path))
    }

    /// Marks the attempt as ended, so that another process can continue it. The caller must have closed its files.
    ///
    /// # Errors
    /// Fails when the mark cannot be written.
    pub(crate) fn stop(&self) -> Result<(), StoreError> {
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        let path = self.path.join(STOPPED_NAME);
        write_whole(&self.path, STOPPED_NAME, name).map_err(StoreError::write(&path))
    }

    /// Renames its folder, which is complete and whose files are closed, to that of the shard. Returns `false` when
    /// another attempt was faster, so that this one is no longer needed.
    ///
    /// # Errors
    /// [`StoreError::Occupied`] when the shard exists and belongs to another job. Also fails when the folder cannot
    /// be renamed.
    pub(crate) fn finish(&self) -> Result<bool, StoreError> {
        let target = self.target();
        refuse_link(&target)?;
        let mut renamed = fs::rename(&self.path, &target);
        for _ in 1..RENAMES_MAX {
            if renamed.is_ok() || !self.is_fresh || !target.exists() {
                break;
            }
            // A process that ends between the two renames leaves this attempt, which is complete.
            self.removed().rename(&target)?;
            renamed = fs::rename(&self.path, &target);
        }
        if let Err(error) = &renamed
            // File systems report an existing folder by different errors.
            && let Some(winner) = whole(&self.out, self.shard)?
        {
            tracing::debug!(%error, "another attempt was faster");
            let own = read_record(&self.path)?;
            if let Some(difference) = difference(&winner, &own) {
                return Err(StoreError::Occupied {
                    path: target,
                    difference,
                    is_dataset: false,
                });
            }
            self.remove_ended()?;
            return Ok(false);
        }
        let renamed = renamed.and_then(|()| sync_folder(&target));
        renamed.map_err(StoreError::write(&target))?;
        // Removes the files that only attempts need.
        let entries = fs::read_dir(&target).map_err(StoreError::read(&target))?;
        for entry in entries {
            let name = entry.map_err(StoreError::read(&target))?.file_name();
            let is_note = name.to_string_lossy().starts_with(&prefix(self.shard));
            if is_note || name == STOPPED_NAME || name == LOCK_NAME {
                remove_file(&target.join(name))?;
            }
        }
        remove_folder(&target.join(RECORDS_FOLDER))?;
        self.remove_ended()?;
        Ok(true)
    }

    /// At the end of the process: removes its folder when another attempt at the same job has completed the shard;
    /// else lets another process continue it. The caller must have closed its files.
    ///
    /// # Errors
    /// Fails when the folder cannot be written or removed.
    pub(crate) fn leave(&self) -> Result<(), StoreError> {
        let records = (whole(&self.out, self.shard), read_record(&self.path));
        match records {
            (Ok(Some(winner)), Ok(own)) if difference(&winner, &own).is_none() => self.remove(),
            _ => self.stop(),
        }
    }

    /// Removes its folder, which is no longer needed.
    ///
    /// # Errors
    /// Fails when the folder cannot be removed.
    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        self.discard(&self.path)
    }

    /// Removes the other attempts at the shard that have ended.
    fn remove_ended(&self) -> Result<(), StoreError> {
        for path in self.folders()? {
            if is_removed(&path) {
                remove_folder(&path)?;
            } else if has_ended(&path) {
                self.discard(&path)?;
            }
        }
        Ok(())
    }

    /// Renames `folder`, so that no other process continues it, and removes it.
    fn discard(&self, folder: &Path) -> Result<(), StoreError> {
        let away = self.removed();
        refuse_link(folder)?;
        if away.rename(folder)? {
            remove_folder(&away.path)?;
        }
        Ok(())
    }
}

/// Name of the note about the owner in an attempt's folder.
fn note_name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    format!("{name}.json")
}

/// Whether `folder` is being removed.
fn is_removed(folder: &Path) -> bool {
    folder
        .as_os_str()
        .as_encoded_bytes()
        .ends_with(REMOVED.as_bytes())
}

/// Prefix of the names of the attempts' folders at `shard`.
fn prefix(shard: ShardIndex) -> String {
    format!(".{}.", shard.folder())
}

/// Whether no process works in the folder of an attempt any more.
fn has_ended(folder: &Path) -> bool {
    let stopped = read_plain(&folder.join(STOPPED_NAME)).ok();
    let name = folder.file_name().map(OsStr::as_encoded_bytes);
    (stopped.is_some() && stopped.as_deref() == name)
        || Owner::of(folder).is_some_and(|owner| owner.is_gone())
}

/// Number of sealed batches in an attempt's folder.
fn records(folder: &Path) -> usize {
    fs::read_dir(folder.join(RECORDS_FOLDER)).map_or(0, Iterator::count)
}

/// Removes the file at `path`, if it is there.
fn remove_file(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::write(path)(error)),
        _ => Ok(()),
    }
}

/// Removes the folder at `path` with all that is in it, if it is there.
fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::write(path)(error)),
        _ => Ok(()),
    }
}

/// The record of `shard` in the output folder `out`; `None` when the shard has no folder.
///
/// # Errors
/// Fails when the folder exists but its record is missing or damaged.
pub(crate) fn whole(out: &Path, shard: ShardIndex) -> Result<Option<ShardRecord>, StoreError> {
    let folder = out.join(shard.folder());
    refuse_link(&folder)?;
    match read_record(&folder) {
        Err(StoreError::Read { source, .. })
            if source.kind() == ErrorKind::NotFound && !folder.exists() =>
        {
            Ok(None)
        }
        record => record.map(Some),
    }
}

/// The record of the shard in `folder`.
fn read_record(folder: &Path) -> Result<ShardRecord, StoreError> {
    let path = folder.join(SHARD_NAME);
    let bytes = read_plain(&path).map_err(|error| match error.kind() {
        // A file system may show the folder before its contents.
        ErrorKind::NotFound => io::Error::new(
            ErrorKind::NotFound,
            "it is missing, so the shard is not whole; wait when its folder is being copied, else remove the folder to make \
             the shard again",
        ),
        _ => error,
    });
    let bytes = bytes.map_err(StoreError::read(&path))?;
    ShardRecord::parse(&bytes).map_err(|error| StoreError::BadShard {
        path,
        reason: error.to_string(),
    })
}

/// How the job of the record `there` differs from that of `here`; `None` when they are the same.
fn difference(there: &ShardRecord, here: &ShardRecord) -> Option<String> {
    if let Some((key, [there, here])) = different_setting(&there.settings, &here.settings) {
        return Some(format!("{key} was {there}, now {here}"));
    }
    let is_other = there.plan_sha256 != here.plan_sha256 || there.settings != here.settings;
    is_other.then(|| "the dataset has changed".to_owned())
}

/// The first file of the complete shard in `folder` that differs from its hash in `record`; `None` when all match.
pub(crate) fn changed_file(folder: &Path, record: &ShardRecord) -> Option<PathBuf> {
    let batches = record.owned.iter().flat_map(|own| {
        let batch = own
            .sha256
            .as_ref()
            .map(|sha256| (batch_path(folder, own.batch), sha256));
        let frames = own.frames_sha256.as_ref();
        [
            batch,
            frames.map(|sha256| (frames_path(folder, own.batch), sha256)),
        ]
    });
    let others = [
        (folder.join(MANIFEST_NAME), &record.manifest_sha256),
        (folder.join(RUN_NAME), &record.run_sha256),
    ];
    let mut files = batches.flatten().chain(others);
    let changed = files.find(|(path, sha256)| file_sha256(path).ok().as_ref() != Some(*sha256));
    changed.map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard() -> ShardIndex {
        ShardIndex::new(1, 3).unwrap()
    }

    fn begin(out: &Path) -> Attempt {
        Attempt::begin(out, shard(), false).unwrap()
    }

    /// Writes the record of a shard whose settings are `settings`.
    fn close(attempt: &Attempt, settings: &serde_json::Value) {
        let record = json!({
            "format": 1, "version": "1", "shard": shard(), "plan_sha256": "", "settings": settings, "instances": 0,
            "clips": 0, "batches": 0, "absent": 0, "glosses": [], "class_order": null, "processor": "", "owned": [],
            "manifest_sha256": "", "run_sha256": "",
        });
        let record: ShardRecord = serde_json::from_value(record).unwrap();
        fs::write(attempt.path().join(SHARD_NAME), record.to_json()).unwrap();
    }

    /// Makes `attempt` look as if it had run before the last boot.
    fn move_to_other_machine(attempt: &Attempt) {
        let path = attempt.path().join(note_name(attempt.path()));
        let mut owner = Owner::of(attempt.path()).unwrap();
        owner.boot = "another".to_owned();
        fs::write(path, json!(owner).to_string()).unwrap();
    }

    #[test]
    fn each_process_works_in_a_folder_of_its_own_until_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let [one, two] = [begin(&out), begin(&out)];
        assert!(one.path() != two.path() && !two.is_adopted());
        assert_eq!(one.others().unwrap(), [two.path()]);
        for attempt in [&one, &two] {
            close(attempt, &json!({}));
        }
        assert!(whole(&out, shard()).unwrap().is_none());
        assert!(two.finish().unwrap());
        assert!(!one.finish().unwrap());
        one.remove().unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        assert_eq!(fs::read_dir(one.target()).unwrap().count(), 1, "the record");
        assert!(whole(&out, shard()).unwrap().is_some());
        fs::remove_file(one.target().join(SHARD_NAME)).unwrap();
        let error = whole(&out, shard()).unwrap_err().to_string();
        assert!(
            error.contains(SHARD_NAME) && error.contains("remove the folder"),
            "{error}"
        );
    }

    #[test]
    fn an_attempt_does_not_give_way_to_a_shard_of_another_job() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let [stale, right] = [begin(out), begin(out)];
        close(&stale, &json!({"num_hands": 1}));
        close(&right, &json!({"num_hands": 2}));
        assert!(stale.finish().unwrap());
        let error = right.finish().unwrap_err();
        assert!(
            matches!(&error, StoreError::Occupied { difference, is_dataset: false, .. } if difference == "num_hands was 1, now 2"),
            "{error}"
        );
        assert!(right.path().exists());
        // Its work is not lost.
        right.stop().unwrap();
        fs::remove_dir_all(stale.target()).unwrap();
        let next = begin(out);
        assert!(next.is_adopted() && next.finish().unwrap());
        assert_eq!(fs::read_dir(next.target()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_whose_next_owner_could_not_note_that_can_be_continued() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let stopped = begin(out);
        stopped.stop().unwrap();
        // The disk was full, or the process ended before it renamed the folder.
        let next = Attempt::new(out, shard());
        let note = stopped.path().join(note_name(next.path()));
        fs::create_dir_all(&note).unwrap();
        assert!(next.take(stopped.path()).is_err());
        assert!(has_ended(stopped.path()));
        fs::remove_dir(&note).unwrap();
        next.note(stopped.path()).unwrap();
        assert!(has_ended(stopped.path()));
        assert!(begin(out).is_adopted());
    }

    #[test]
    fn an_attempt_that_stopped_is_continued_by_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let stopped = begin(out);
        fs::write(stopped.path().join("file"), "").unwrap();
        move_to_other_machine(&stopped);
        let beside = begin(out);
        assert!(!beside.is_adopted(), "the other may be alive");
        stopped.stop().unwrap();
        let next = begin(out);
        assert!(next.is_adopted() && next.path().join("file").exists());
        assert!(!stopped.path().exists() && !has_ended(next.path()));
        let other = Attempt::new(out, shard());
        next.stop().unwrap();
        assert!(other.take(next.path()).unwrap());
        assert!(!has_ended(other.path()));
        assert!(!other.take(next.path()).unwrap(), "one wins");
    }

    #[test]
    fn a_process_of_this_machine_that_is_gone_is_known() {
        let owner = Owner::here();
        assert!(!owner.is_gone());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let gone = Owner {
            pid: child.id(),
            started: Some(1),
            ..owner.clone()
        };
        child.wait().unwrap();
        assert!(gone.is_gone());
        for elsewhere in [
            Owner {
                boot: "another".to_owned(),
                ..gone.clone()
            },
            Owner {
                pid_namespace: "pid:[1]".to_owned(),
                ..gone
            },
        ] {
            assert!(!elsewhere.is_gone());
        }
        let earlier = Owner {
            started: owner.started.map(|ticks| ticks - 1),
            ..owner
        };
        assert!(earlier.is_gone(), "its number belongs to another process");
    }

    #[test]
    fn a_fresh_start_replaces_what_is_there_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let [alive, ended, before] = [begin(out), begin(out), begin(out)];
        close(&before, &json!({"num_hands": 1}));
        assert!(before.finish().unwrap());
        ended.stop().unwrap();
        let fresh = Attempt::begin(out, shard(), true).unwrap();
        assert!(!fresh.is_adopted() && fresh.target().exists() && ended.path().exists());
        close(&fresh, &json!({"num_hands": 2}));
        assert!(fresh.finish().unwrap());
        let record = whole(out, shard()).unwrap().unwrap();
        assert_eq!(record.settings, json!({"num_hands": 2}));
        assert_eq!(fresh.folders().unwrap(), [alive.path()]);
        fs::remove_dir_all(fresh.target()).unwrap();
        assert!(Attempt::reopen(out, shard()).unwrap().is_none());
    }
}
