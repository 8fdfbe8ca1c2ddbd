//! The attempts at a shard. An engine may start a shard again while an earlier process still works on it, perhaps on a node
//! that it has lost sight of. So each process works in a folder of its own, an attempt, and renames it to the folder of the
//! shard when it is whole. Nothing here relies on locks: a rename within a folder has one winner.
//!
//! An attempt that ended is continued by renaming its folder: one that says that it stopped, wherever that was, and one of
//! this boot of this machine whose process is gone. From another, which may be alive, the sealed batches are imported.

use super::StoreError;
use super::atomic_file::{
    file_sha256, make_folder, read_plain, refuse_link, sync_folder, write_whole,
};
use super::batches::batch_path;
use super::frames_file::frames_path;
use super::lock::LOCK_NAME;
use super::manifest::{MANIFEST_NAME, RUN_NAME};
use super::recorder::batch_record::RECORDS_FOLDER;
use crate::shard::ShardIndex;
use crate::shard::record::{SHARD_NAME, ShardRecord};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Who works in an attempt's folder.
const OWNER_NAME: &str = "attempt.json";
/// Says that the attempt of the folder with the name in it has ended. It is written last.
const STOPPED_NAME: &str = "stopped";
/// Longest part of a folder's name that is a host's.
const HOST_MAX: usize = 40;

/// A folder in which this process works on a shard.
#[derive(Debug)]
pub(crate) struct Attempt {
    out: PathBuf,
    shard: ShardIndex,
    path: PathBuf,
    /// Whether it continues another.
    is_adopted: bool,
}

/// A process, as another on the same machine can recognize it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    /// The folder's name when the process began.
    name: String,
    host: String,
    /// Differs after each start of the machine.
    boot: String,
    /// The name space of its number: each container has its own.
    pid_namespace: String,
    pid: u32,
    /// When it began, in ticks since the start of the machine.
    started: Option<u64>,
}

impl Owner {
    /// This process, in the folder `name`.
    fn here(name: &str) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        let pid = std::process::id();
        Self {
            name: name.to_owned(),
            host: host(),
            boot: read("/proc/sys/kernel/random/boot_id").trim().to_owned(),
            pid_namespace: namespace.to_string_lossy().into_owned(),
            pid,
            started: start_of(pid),
        }
    }

    /// The owner of the attempt's `folder`.
    fn of(folder: &Path) -> Option<Self> {
        let bytes = read_plain(&folder.join(OWNER_NAME)).ok()?;
        let owner: Self = serde_json::from_slice(&bytes).ok()?;
        // Else another process is about to become the owner.
        (folder.file_name() == Some(OsStr::new(&owner.name))).then_some(owner)
    }

    /// Whether the process has ended for sure.
    fn is_gone(&self) -> bool {
        let here = Self::here(&self.name);
        let is_same_machine = !self.boot.is_empty()
            && !self.pid_namespace.is_empty()
            && (&self.boot, &self.pid_namespace) == (&here.boot, &here.pid_namespace);
        let is_other = |started| self.started.is_some_and(|then| then != started);
        is_same_machine && start_of(self.pid).is_none_or(is_other)
    }
}

/// When the process `pid` began; `None` when it has ended.
fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    // The 22nd field of the line; the state is the third.
    fields.nth(18)?.parse().ok().filter(|_| !is_dead)
}

/// The name of this machine, as far as it fits into the name of a folder.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.trim().chars().map(plain).take(HOST_MAX).collect();
    if name.is_empty() {
        "host".to_owned()
    } else {
        name
    }
}

impl Attempt {
    /// Begins or continues an attempt at `shard` in the output folder `out`. `is_fresh`: earlier attempts and the shard
    /// itself are removed, except for attempts that may be alive.
    ///
    /// # Errors
    /// When `out` has results without shards, or a folder cannot be made, renamed or removed.
    pub(crate) fn begin(out: &Path, shard: ShardIndex, is_fresh: bool) -> Result<Self, StoreError> {
        if out.join(RUN_NAME).exists() {
            let path = out.to_path_buf();
            return Err(StoreError::Undivided { path });
        }
        make_folder(out)?;
        let mut attempt = Self::new(out, shard);
        if is_fresh {
            attempt.discard(&out.join(shard.folder()))?;
            attempt.remove_ended()?;
        } else {
            let mut ended = attempt.others()?;
            ended.retain(|path| has_ended(path));
            // The one with the most sealed batches first.
            ended.sort_by_key(|path| std::cmp::Reverse(records(path)));
            for path in ended {
                if attempt.take(&path)? {
                    attempt.is_adopted = true;
                    break;
                }
            }
        }
        attempt.settle()?;
        Ok(attempt)
    }

    /// Continues the whole shard, of which something is to be made again, as an attempt. `None` when it is gone.
    ///
    /// # Errors
    /// When its folder cannot be renamed.
    pub(crate) fn reopen(out: &Path, shard: ShardIndex) -> Result<Option<Self>, StoreError> {
        let mut attempt = Self::new(out, shard);
        if !attempt.take(&out.join(shard.folder()))? {
            return Ok(None);
        }
        attempt.is_adopted = true;
        attempt.settle()?;
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
        }
    }

    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it continues an attempt that ended.
    pub(crate) fn is_adopted(&self) -> bool {
        self.is_adopted
    }

    /// The folder of the shard when it is whole.
    pub(crate) fn target(&self) -> PathBuf {
        self.out.join(self.shard.folder())
    }

    /// The folders of the other attempts at the shard.
    pub(crate) fn others(&self) -> Result<Vec<PathBuf>, StoreError> {
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

    /// Renames the folder `from` to its own. Returns `false` when another process was faster.
    fn take(&self, from: &Path) -> Result<bool, StoreError> {
        refuse_link(from)?;
        match fs::rename(from, &self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            renamed => {
                let renamed = renamed.and_then(|()| sync_folder(&self.path));
                renamed.map(|()| true).map_err(StoreError::write(from))
            }
        }
    }

    /// Makes its folder and notes that it belongs to this process.
    fn settle(&self) -> Result<(), StoreError> {
        make_folder(&self.path)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let owner = format!("{:#}\n", json!(Owner::here(&name)));
        let path = self.path.join(OWNER_NAME);
        write_whole(&self.path, OWNER_NAME, owner.as_bytes()).map_err(StoreError::write(&path))?;
        remove_file(&self.path.join(STOPPED_NAME))
    }

    /// Lets another process continue it. This one must have closed its files.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn stop(&self) -> Result<(), StoreError> {
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        let path = self.path.join(STOPPED_NAME);
        write_whole(&self.path, STOPPED_NAME, name).map_err(StoreError::write(&path))
    }

    /// Makes its folder, which is whole and whose files are closed, that of the shard. Returns `false` when another attempt
    /// was faster: this one is needed no more.
    ///
    /// # Errors
    /// When the folder cannot be renamed.
    pub(crate) fn finish(&self) -> Result<bool, StoreError> {
        let target = self.target();
        refuse_link(&target)?;
        let is_first = match fs::rename(&self.path, &target) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists
                ) =>
            {
                false
            }
            renamed => {
                renamed.map_err(StoreError::write(&target))?;
                true
            }
        };
        sync_folder(&target).map_err(StoreError::write(&target))?;
        if is_first {
            // What only attempts need.
            for name in [OWNER_NAME, LOCK_NAME] {
                remove_file(&target.join(name))?;
            }
            remove_folder(&target.join(RECORDS_FOLDER))?;
        }
        self.remove_ended()?;
        Ok(is_first)
    }

    /// Removes its folder, which nobody needs.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        self.discard(&self.path)
    }

    /// Removes the attempts at the shard that have ended.
    fn remove_ended(&self) -> Result<(), StoreError> {
        let ended = self.others()?.into_iter().filter(|path| has_ended(path));
        ended.into_iter().try_for_each(|path| self.discard(&path))
    }

    /// Removes `folder` by way of a name that no other process continues.
    fn discard(&self, folder: &Path) -> Result<(), StoreError> {
        let away = Self::new(&self.out, self.shard);
        if away.take(folder)? {
            remove_folder(&away.path)?;
        }
        Ok(())
    }
}

/// What the names of the folders of attempts at `shard` begin with.
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

/// How many sealed batches an attempt's folder has.
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

/// The record of `shard` in the output folder `out`; `None` when the shard is not whole.
///
/// # Errors
/// When its folder is there and its record is not, or is damaged.
pub(crate) fn whole(out: &Path, shard: ShardIndex) -> Result<Option<ShardRecord>, StoreError> {
    let folder = out.join(shard.folder());
    refuse_link(&folder)?;
    let path = folder.join(SHARD_NAME);
    match read_plain(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound && !folder.exists() => Ok(None),
        // A file system may show the folder before its contents.
        read => {
            let bytes = read.map_err(StoreError::read(&path))?;
            let record = ShardRecord::parse(&bytes).map_err(|error| StoreError::BadShard {
                path,
                reason: error.to_string(),
            })?;
            Ok(Some(record))
        }
    }
}

/// A file of the whole shard in `folder` that is not as `record` says, if there is one.
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

    /// Makes `attempt` look like one of another start of the machine.
    fn move_to_other_machine(attempt: &Attempt) {
        let path = attempt.path().join(OWNER_NAME);
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
            fs::write(attempt.path().join("file"), "").unwrap();
        }
        assert!(whole(&out, shard()).unwrap().is_none());
        assert!(two.finish().unwrap());
        assert!(!one.finish().unwrap());
        one.remove().unwrap();
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        assert_eq!(fs::read_dir(one.target()).unwrap().count(), 1, "the file");
        let error = whole(&out, shard()).unwrap_err().to_string();
        assert!(error.contains(SHARD_NAME), "{error}");
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
        assert!(!stopped.path().exists() && !next.path().join(STOPPED_NAME).exists());
        // Between the rename and the new owner's note the folder belongs to nobody else.
        let half = Attempt::new(out, shard());
        next.stop().unwrap();
        assert!(half.take(next.path()).unwrap());
        assert!(!has_ended(half.path()));
        assert!(!half.take(next.path()).unwrap(), "one wins");
    }

    #[test]
    fn a_process_of_this_machine_that_is_gone_is_known() {
        let owner = Owner::here("name");
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
    fn a_fresh_start_removes_what_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let [alive, ended, whole] = [begin(out), begin(out), begin(out)];
        fs::write(whole.path().join("file"), "").unwrap();
        assert!(whole.finish().unwrap());
        ended.stop().unwrap();
        let fresh = Attempt::begin(out, shard(), true).unwrap();
        assert!(!fresh.is_adopted() && !fresh.target().exists() && !ended.path().exists());
        assert_eq!(fresh.others().unwrap(), [alive.path()]);
        assert!(Attempt::reopen(out, shard()).unwrap().is_none());
    }
}
