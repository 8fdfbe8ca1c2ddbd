//! A dataset, a disk that a test can fill to the last byte, a daemon with its broker, and checks of the results.

use handloom::video::encode::Codec;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;
use test_support::broker::Broker;
use test_support::daemon::{Daemon, config};
use test_support::listener::{Listener, Message, eventually};
use test_support::{
    digests, manifest_states, metadata, print_note, process, render_clip, scratch, write_metadata,
};

/// Page size of tmpfs and of SQLite, in bytes.
pub(crate) const PAGE: u64 = 4096;

/// A dataset and its expected results.
pub(crate) struct Fixture {
    pub(crate) dataset: PathBuf,
    pub(crate) digests: BTreeMap<String, String>,
    pub(crate) manifest_states: Vec<String>,
    _folder: TempDir,
}

/// The arguments of `process` that match the daemon's [`config`].
pub(crate) const SETTINGS: [&str; 6] = [
    "--min-videos-per-gloss",
    "1",
    "--batch-size",
    "3",
    "--workers",
    "1",
];

/// Sixteen clips; one is broken and one is too short.
pub(crate) fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| make(16, 24))
}

/// Seven clips of few frames.
pub(crate) fn small() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| make(7, 16))
}

fn make(clips: usize, frames: usize) -> Fixture {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    make_dataset(&dataset, clips, frames, "00");
    let out = folder.path().join("reference");
    process(&dataset, &out, &SETTINGS).ends(0);
    Fixture {
        digests: digests(&out),
        manifest_states: manifest_states(&out),
        dataset,
        _folder: folder,
    }
}

/// Makes `clips` clips of two glosses from three different videos; the first has the id `first`. Existing clips stay.
pub(crate) fn make_dataset(dataset: &Path, clips: usize, frames: usize, first: &str) {
    let ids: Vec<String> = std::iter::once(first.to_owned())
        .chain((1..clips).map(|n| format!("{n:02}")))
        .collect();
    let all: Vec<(&str, i64)> = ids.iter().map(|id| (&**id, 1)).collect();
    let (hello, book) = all.split_at(clips / 2);
    write_metadata(dataset, &metadata(&[("hello", hello), ("book", book)]));
    for (n, id) in ids.iter().enumerate() {
        let path = dataset.join(format!("videos/{id}.mp4"));
        if path.exists() {
            continue;
        }
        match n {
            0..3 => render_clip(&path, n as u64, frames, (320, 240), Codec::H264),
            3 => fs::write(&path, "not a video").unwrap(),
            5 => render_clip(&path, 5, 6, (320, 240), Codec::H264),
            n => fs::hard_link(dataset.join(format!("videos/{}.mp4", ids[n % 3])), path).unwrap(),
        }
    }
}

/// A small tmpfs with a ballast file that fills it.
pub(crate) struct Disk {
    place: PathBuf,
    _folder: TempDir,
}

impl Disk {
    /// Mounts a disk of `bytes` bytes. If that fails, prints a note and returns `None`.
    pub(crate) fn mount(bytes: u64) -> Option<Self> {
        let folder = scratch();
        let place = folder.path().join("disk");
        fs::create_dir(&place).unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={bytes}"),
                "handloom-test",
            ])
            .arg(&place)
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self {
                place,
                _folder: folder,
            }),
            other => {
                print_note(&format!(
                    "SKIPPED: a full disk needs the right to mount a tmpfs: {other:?}"
                ));
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.place
    }

    /// Changes the size; the content stays.
    pub(crate) fn resize(&self, bytes: u64) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,size={bytes}")])
            .arg(&self.place)
            .status();
        assert!(done.unwrap().success());
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }

    /// Bytes that can be written.
    pub(crate) fn free(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.place).unwrap();
        found.f_bavail * found.f_frsize
    }

    /// Fills the disk to the last byte, then frees `left` bytes (less than 1 MiB).
    pub(crate) fn fill(&self, left: u64) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.ballast())
            .unwrap();
        for piece in [1 << 20, PAGE, 1] {
            let zeros = vec![0; usize::try_from(piece).unwrap()];
            while file.write(&zeros).is_ok() {}
        }
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(left)).unwrap();
    }

    /// Frees `bytes` bytes.
    pub(crate) fn release(&self, bytes: u64) {
        let file = OpenOptions::new()
            .append(true)
            .open(self.ballast())
            .unwrap();
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(bytes)).unwrap();
    }

    /// Changes the ballast so that `left` bytes are free, as long as nothing else writes.
    pub(crate) fn set_free(&self, left: u64) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.ballast())
            .unwrap();
        let (free, size) = (self.free(), file.metadata().unwrap().len());
        if free < left {
            return file.set_len(size - (left - free)).unwrap();
        }
        let mut zeros = std::io::Read::take(std::io::repeat(0), free - left);
        std::io::copy(&mut zeros, &mut file).unwrap();
    }

    /// Removes the ballast.
    pub(crate) fn clear(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A daemon may still be shutting down.
        let done = Command::new("umount").arg("-l").arg(&self.place).status();
        assert!(done.is_ok_and(|s| s.success()) || std::thread::panicking());
    }
}

/// A daemon, its broker, and a subscriber at the broker.
pub(crate) struct Harness {
    pub(crate) daemon: Daemon,
    pub(crate) listener: Listener,
    _broker: Broker,
    config: PathBuf,
    text: String,
    out: PathBuf,
}

impl Harness {
    /// Starts the daemon over `dataset` into `out` with `args`. Its config is in `folder`; its log names every clip.
    pub(crate) fn start(folder: &Path, dataset: &Path, out: &Path, args: &[&str]) -> Self {
        Self::start_with(folder, dataset, out, args, |text| text)
    }

    /// Like [`Self::start`], with the config changed by `edit`.
    pub(crate) fn start_with(
        folder: &Path,
        dataset: &Path,
        out: &Path,
        args: &[&str],
        edit: impl FnOnce(String) -> String,
    ) -> Self {
        let broker = Broker::start(false);
        let listener = Listener::start(broker.port(), &["handloom/#"]);
        let text = config(
            dataset,
            out,
            Some(broker.port()),
            "[run]\nworkers = 1\n[log]\nlevel = \"debug\"\n",
        );
        // The test controls the free space.
        let text = edit(text.replace("disk_reserve_mib = 1\n", "disk_reserve_mib = 0\n"));
        let config = folder.join("handloom.toml");
        let daemon = Daemon::start(&config, &text, args);
        Self {
            daemon,
            listener,
            _broker: broker,
            config,
            text,
            out: out.to_path_buf(),
        }
    }

    /// Starts the daemon again with the same config.
    pub(crate) fn restart(&mut self, args: &[&str]) {
        self.daemon = Daemon::start(&self.config, &self.text, args);
    }

    /// Changes a line of the config file and sends SIGHUP, so that the daemon reads it.
    pub(crate) fn reload(&mut self, old: &str, new: &str) {
        assert!(self.text.contains(old), "{old}");
        self.text = self.text.replace(old, new);
        fs::write(&self.config, &self.text).unwrap();
        self.daemon.signal("HUP");
    }

    /// Messages on a channel.
    pub(crate) fn on(&self, channel: &str) -> Vec<Message> {
        self.listener.on(&format!("handloom/box/{channel}"))
    }

    /// The latest message on a channel.
    pub(crate) fn last(&self, channel: &str) -> Value {
        self.on(channel).last().map_or(Value::Null, Message::json)
    }

    /// The latest published state.
    pub(crate) fn state(&self) -> String {
        self.last("state")["state"]
            .as_str()
            .unwrap_or("")
            .to_owned()
    }

    /// Faults of a component.
    pub(crate) fn faults(&self, component: &str) -> Vec<Value> {
        let faults = self.on("fault").into_iter().map(|m| m.json());
        faults.filter(|f| f["component"] == component).collect()
    }

    /// Waits for a fault of a component and returns the latest one.
    #[track_caller]
    pub(crate) fn wait_fault(&self, component: &str) -> Value {
        let mut faults = Vec::new();
        eventually(&format!("a fault of {component}"), || {
            faults = self.faults(component);
            !faults.is_empty()
        });
        faults.pop().unwrap()
    }

    /// Waits until the latest message on a channel satisfies `is_so`.
    #[track_caller]
    pub(crate) fn wait(&self, channel: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        eventually(
            &format!("{what} on {channel}\n{}", self.daemon.log()),
            || {
                last = self.last(channel);
                is_so(&last)
            },
        );
        last
    }

    #[track_caller]
    pub(crate) fn wait_state(&self, name: &str) -> Value {
        self.wait("state", name, |state| state["state"] == name)
    }

    /// Waits until the log contains `word` `times` times.
    #[track_caller]
    pub(crate) fn wait_log(&self, word: &str, times: usize) {
        eventually(word, || self.daemon.log().matches(word).count() >= times);
    }

    /// Publishes a command.
    pub(crate) fn command(&self, name: &str, id: &str) {
        let topic = format!("handloom/box/cmd/{name}");
        self.listener
            .publish(&topic, false, format!("{{\"id\": \"{id}\"}}"));
    }

    /// States of all replies to a command, in order. A reply may be repeated with the same `seq`.
    pub(crate) fn replies(&self, id: &str) -> Vec<String> {
        let replies = self.on("reply").into_iter().map(|m| m.json());
        let of_id: BTreeMap<u64, String> = replies
            .filter(|r| r["id"] == id)
            .map(|r| {
                let state = r["state"].as_str().unwrap().to_owned();
                (r["seq"].as_u64().unwrap(), state)
            })
            .collect();
        of_id.into_values().collect()
    }

    /// Checks that the results are those of an undisturbed job, and that nothing was done or published twice.
    #[track_caller]
    pub(crate) fn assert_matches(&self, fixture: &Fixture) {
        let log = self.daemon.log();
        assert_eq!(digests(&self.out), fixture.digests, "{log}");
        assert_eq!(manifest_states(&self.out), fixture.manifest_states, "{log}");
        check_ledger(&self.out);
        assert_no_clip_read_twice(&log);
        assert!(!log.contains("ZipWriter"), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        // Every batch is published with its hash, and again with the same `seq` if its PUBACK was not stored.
        let batches_by_seq: BTreeMap<u64, Value> = self
            .on("batch")
            .into_iter()
            .map(|m| m.json())
            .map(|b| (b["seq"].as_u64().unwrap(), b))
            .collect();
        let mut batches = BTreeMap::new();
        for batch in batches_by_seq.values() {
            let path = batch["path"].as_str().unwrap().to_owned();
            let sha256 = batch["sha256"].as_str().unwrap().to_owned();
            assert_eq!(
                batches.insert(path, sha256),
                None,
                "{batch} was published twice\n{log}"
            );
        }
        let mut sealed = fixture.digests.clone();
        sealed.remove("wlasl_landmarks.npz");
        assert_eq!(batches, sealed, "{log}");
        self.seqs_have_no_gaps("fault");
        self.seqs_have_no_gaps("batch");
    }

    /// Checks that no numbered message is missing.
    #[track_caller]
    fn seqs_have_no_gaps(&self, channel: &str) {
        let seqs: BTreeSet<u64> = self
            .on(channel)
            .iter()
            .map(|m| m.json()["seq"].as_u64().unwrap())
            .collect();
        let expected: BTreeSet<u64> = (1..=seqs.len() as u64).collect();
        assert_eq!(seqs, expected, "{channel}");
    }
}

/// Checks the ledger with SQLite, and that no staged sequence is left.
#[track_caller]
pub(crate) fn check_ledger(out: &Path) {
    let db = rusqlite::Connection::open(out.join("ledger.sqlite")).unwrap();
    let word: String = db
        .query_row("PRAGMA integrity_check", [], |r| r.get(0))
        .unwrap();
    assert_eq!(word, "ok");
    let left: i64 = db
        .query_row("SELECT count(*) FROM staged", [], |r| r.get(0))
        .unwrap();
    assert_eq!(left, 0, "staged sequences are left");
}

/// Checks that no recorded clip was read again. Returns how many were recorded.
#[track_caller]
pub(crate) fn assert_no_clip_read_twice(log: &str) -> usize {
    let mut recorded = BTreeSet::new();
    for line in log.lines() {
        let position = || {
            let at = line.find("position=").unwrap() + 9;
            line[at..].split(' ').next().unwrap().to_owned()
        };
        if line.contains("clip begun") {
            assert!(!recorded.contains(&position()), "read twice: {line}\n{log}");
        } else if line.contains("clip recorded") {
            assert!(recorded.insert(position()), "recorded twice: {line}\n{log}");
        }
    }
    recorded.len()
}

/// Like [`eventually`], with another time limit.
#[track_caller]
pub(crate) fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "timed out waiting for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
