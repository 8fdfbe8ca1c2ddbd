//! Fixtures of these tests: datasets with their reference results, a daemon's files, a broker with a subscriber.

use handloom::messages::topics;
use handloom::video::encode::Codec;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use tempfile::TempDir;
use test_support::broker::Broker;
use test_support::daemon::{Daemon, config};
use test_support::listener::Listener;
use test_support::{self, digests, manifest_states, process, render_clip, scratch};

/// Size of every readable clip, in pixels.
pub(crate) const SIZE: (usize, usize) = (320, 240);

/// Kinds of clips, in the order in which datasets repeat them. `broken` is unreadable, `short` has too few frames.
const KINDS: [&str; 8] = ["a", "b", "c", "broken", "a", "short", "b", "c"];

/// Settings of the reference jobs, equal to those of the daemon's jobs.
const SETTINGS: [&str; 4] = ["--min-videos-per-gloss", "1", "--batch-size", "3"];

/// A folder with one file of each kind of clip.
fn clip_files() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = scratch();
        let clip_path = |name: &str| folder.path().join(name);
        for (name, seed, frames) in [("a", 1, 16), ("b", 2, 16), ("c", 3, 16), ("short", 6, 6)] {
            render_clip(&clip_path(name), seed, frames, SIZE, Codec::H264);
        }
        // Has as many bytes as a good clip, so that replacing it does not change the dataset's identity.
        let bytes = fs::metadata(clip_path("a")).unwrap().len();
        fs::write(
            clip_path("broken"),
            vec![0; usize::try_from(bytes).unwrap()],
        )
        .unwrap();
        folder
    });
    folder.path()
}

/// Makes a dataset of `clips` hard links, one half for each of two glosses. Tests may replace its files, but never
/// write to them.
pub(crate) fn make_dataset(dataset: &Path, clips: usize) {
    let ids: Vec<String> = (0..clips).map(|n| format!("{n:03}")).collect();
    let (hello, book) = ids.split_at(clips / 2);
    write_metadata(dataset, hello, book);
    for (n, id) in ids.iter().enumerate() {
        put(dataset, id, KINDS[n % KINDS.len()]);
    }
}

/// Writes the metadata of two glosses.
pub(crate) fn write_metadata(dataset: &Path, hello: &[String], book: &[String]) {
    let both: Vec<Vec<(&str, i64)>> = [hello, book]
        .iter()
        .map(|ids| ids.iter().map(|id| (id.as_str(), 1)).collect())
        .collect();
    let glosses = [("hello", &both[0][..]), ("book", &both[1][..])];
    test_support::write_metadata(dataset, &test_support::metadata(&glosses));
}

/// Puts a clip of `kind` into a dataset. It replaces an existing clip with the same id.
pub(crate) fn put(dataset: &Path, id: &str, kind: &str) {
    let path = dataset.join(format!("videos/{id}.mp4"));
    let new = path.with_extension("new");
    fs::hard_link(clip_files().join(kind), &new).unwrap();
    fs::rename(new, path).unwrap();
}

/// Runs `handloom process` to its end.
pub(crate) fn write_reference(dataset: &Path, out: &Path) {
    process(dataset, out, &SETTINGS).ends(0);
}

/// A dataset that no test changes, and the results of its job.
pub(crate) struct ReferenceJob {
    _folder: TempDir,
    pub(crate) dataset: PathBuf,
    pub(crate) out: PathBuf,
}

/// The dataset of `clips` clips; its results are made once.
pub(crate) fn reference_job(clips: usize) -> &'static ReferenceJob {
    static MADE: Mutex<Vec<(usize, &'static OnceLock<ReferenceJob>)>> = Mutex::new(Vec::new());
    let place = {
        let mut made = MADE.lock().unwrap();
        let known = made.iter().find(|(n, _)| *n == clips).map(|(_, job)| *job);
        known.unwrap_or_else(|| {
            let place: &'static OnceLock<ReferenceJob> = Box::leak(Box::default());
            made.push((clips, place));
            place
        })
    };
    place.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        make_dataset(&dataset, clips);
        let out = folder.path().join("out");
        write_reference(&dataset, &out);
        ReferenceJob {
            _folder: folder,
            dataset,
            out,
        }
    })
}

/// Clips of a short job.
pub(crate) const SHORT: usize = 8;
/// Clips of a job that a test can interrupt midway when it has one worker.
pub(crate) const LONG: usize = 32;

/// One worker, so that a job takes longer.
pub(crate) const ONE_WORKER: &str = "[run]\nworkers = 1\n";

/// A daemon's config and output folder, kept over its restarts.
pub(crate) struct DaemonFixture {
    folder: TempDir,
    dataset: PathBuf,
    port: Option<u16>,
    more: String,
}

impl DaemonFixture {
    /// With a dataset that does not change; an empty path means no dataset.
    pub(crate) fn with_dataset(dataset: &Path, port: Option<u16>, more: &str) -> Self {
        Self {
            folder: scratch(),
            dataset: dataset.to_path_buf(),
            port,
            more: more.to_owned(),
        }
    }

    /// Adds lines to its config.
    pub(crate) fn add(&mut self, more: &str) {
        self.more.push_str(more);
    }

    /// With a dataset of its own, which the test may change.
    pub(crate) fn with_own_dataset(clips: usize, port: Option<u16>, more: &str) -> Self {
        let mut fixture = Self::with_dataset(Path::new(""), port, more);
        fixture.dataset = fixture.path("dataset");
        make_dataset(&fixture.dataset, clips);
        fixture
    }

    /// A path in the fixture's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn dataset(&self) -> &Path {
        &self.dataset
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.path("out")
    }

    /// The config file's content.
    pub(crate) fn config(&self) -> String {
        config(&self.dataset, &self.out(), self.port, &self.more)
    }

    /// Starts the daemon with debug logging.
    pub(crate) fn start(&self, args: &[&str]) -> Daemon {
        self.start_with(args, &[("HANDLOOM_LOG", "debug")])
    }

    /// Starts the daemon with these environment variables.
    pub(crate) fn start_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let path = self.path("handloom.toml");
        Daemon::start_with(&path, &self.config(), args, environment)
    }

    /// Asserts that the results are those of `reference`, byte for byte.
    #[track_caller]
    pub(crate) fn assert_results(&self, reference: &Path) {
        assert_eq!(digests(&self.out()), digests(reference));
        assert_eq!(manifest_states(&self.out()), manifest_states(reference));
    }
}

/// A broker without persistence, and a subscriber to all topics of the fleet.
pub(crate) fn broker() -> (Broker, Listener) {
    let broker = Broker::start(false);
    let subscriber = subscribe_to_fleet(broker.port());
    (broker, subscriber)
}

/// A subscriber to all topics of the fleet.
pub(crate) fn subscribe_to_fleet(port: u16) -> Listener {
    Listener::start(port, &["handloom/#"])
}

/// The topic of a channel of the test device.
pub(crate) fn topic(channel: &str) -> String {
    topics::topic("box", channel)
}

/// All messages of a channel.
pub(crate) fn published(subscriber: &Listener, channel: &str) -> Vec<Value> {
    let messages = subscriber.on(&topic(channel)).into_iter();
    messages.map(|m| m.json()).collect()
}

/// A field of all messages of a channel, without consecutive duplicates.
pub(crate) fn field_values(subscriber: &Listener, channel: &str, field: &str) -> Vec<String> {
    let mut values: Vec<String> = published(subscriber, channel)
        .iter()
        .map(|m| m[field].as_str().unwrap().to_owned())
        .collect();
    values.dedup();
    values
}

/// State and reason, as last published.
pub(crate) fn state(subscriber: &Listener) -> (String, String) {
    let last = published(subscriber, topics::STATE)
        .pop()
        .unwrap_or_default();
    let word = |field: &str| last[field].as_str().unwrap_or_default().to_owned();
    (word("state"), word("reason"))
}

/// Whether the last published state says that the job is done.
pub(crate) fn is_done(subscriber: &Listener) -> bool {
    let (state, reason) = state(subscriber);
    state == "idle" && reason.starts_with("the job is done")
}

/// Sends a command.
pub(crate) fn command(subscriber: &Listener, name: &str, id: &str) {
    let payload = json!({ "id": id }).to_string();
    subscriber.publish(&format!("handloom/box/cmd/{name}"), false, payload);
}

/// The replies to a command, without duplicates: after a kill the last reply may be published again, with the same
/// `seq`.
pub(crate) fn replies(subscriber: &Listener, id: &str) -> Vec<Value> {
    let mut replies = published(subscriber, topics::REPLY);
    replies.retain(|r| r["id"] == id);
    replies.dedup_by(|next, before| next["seq"] == before["seq"]);
    replies
}

/// The states in the replies to a command.
pub(crate) fn reply_states(subscriber: &Listener, id: &str) -> Vec<String> {
    let states = replies(subscriber, id).into_iter();
    states
        .map(|r| r["state"].as_str().unwrap().to_owned())
        .collect()
}

/// Sends a command, waits for its final reply, asserts that its state is `word`, and returns it.
#[track_caller]
pub(crate) fn command_with_result(
    daemon: &mut Daemon,
    subscriber: &Listener,
    name: &str,
    id: &str,
    word: &str,
) -> Value {
    command(subscriber, name, id);
    daemon.until(&format!("the final reply to {name} {id}"), |_| {
        reply_states(subscriber, id).len() == 2
    });
    assert_eq!(
        reply_states(subscriber, id),
        ["accepted", word],
        "{}",
        daemon.log()
    );
    replies(subscriber, id).pop().unwrap()
}

/// The first arrivals on a channel whose `seq` continues over restarts, and the number of duplicates.
pub(crate) fn distinct(subscriber: &Listener, channel: &str) -> (Vec<Value>, usize) {
    let all = published(subscriber, channel);
    let count = all.len();
    let mut seen = HashSet::new();
    let mut first = all;
    first.retain(|message| seen.insert(message["seq"].as_u64().unwrap()));
    let again = count - first.len();
    (first, again)
}

/// Asserts that no message of a channel is missing: `seq` starts at 1 and has no gap.
#[track_caller]
pub(crate) fn assert_no_gap(subscriber: &Listener, channel: &str) {
    let (messages, _) = distinct(subscriber, channel);
    let seen = messages.iter().map(|m| m["seq"].as_u64().unwrap());
    let seen: Vec<u64> = seen.collect();
    let count = u64::try_from(seen.len()).unwrap();
    assert_eq!(seen, (1..=count).collect::<Vec<_>>(), "{channel}");
}
