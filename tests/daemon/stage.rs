//! What the tests of this folder play on: datasets with their reference results, a daemon's files, a broker and an ear
//! at it.

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
use test_support::{self, digests, fates, process, render_clip, scratch};

/// Size of every clip that can be read, pixels.
pub(crate) const SIZE: (usize, usize) = (320, 240);

/// Kinds of clips, in the order in which datasets repeat them: two glosses, one clip unreadable, one too short.
const KINDS: [&str; 8] = ["a", "b", "c", "broken", "a", "short", "b", "c"];

/// The jobs of the daemon and of the references are over the same settings.
const SETTINGS: [&str; 4] = ["--min-videos-per-gloss", "1", "--batch-size", "3"];

/// One file of each kind of clip.
fn films() -> &'static Path {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let folder = MADE.get_or_init(|| {
        let folder = scratch();
        let film = |name: &str| folder.path().join(name);
        for (name, seed, frames) in [("a", 1, 16), ("b", 2, 16), ("c", 3, 16), ("short", 6, 6)] {
            render_clip(&film(name), seed, frames, SIZE, Codec::H264);
        }
        // As long as a good one, which may take its place without the dataset being another.
        let bytes = fs::metadata(film("a")).unwrap().len();
        fs::write(film("broken"), vec![0; usize::try_from(bytes).unwrap()]).unwrap();
        folder
    });
    folder.path()
}

/// Makes a dataset of `clips` clips from hard links, in halves of two glosses. It may be changed: files are replaced,
/// never written to.
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

/// Puts a clip of a kind into a dataset, in the place of what is there.
pub(crate) fn put(dataset: &Path, id: &str, kind: &str) {
    let path = dataset.join(format!("videos/{id}.mp4"));
    let new = path.with_extension("new");
    fs::hard_link(films().join(kind), &new).unwrap();
    fs::rename(new, path).unwrap();
}

/// Runs `handloom process` to its end.
pub(crate) fn refer(dataset: &Path, out: &Path) {
    process(dataset, out, &SETTINGS).ends(0);
}

/// A dataset that stays as it is, with what comes out of it.
pub(crate) struct Set {
    _folder: TempDir,
    pub(crate) dataset: PathBuf,
    pub(crate) reference: PathBuf,
}

/// The dataset of so many clips; its results are made once.
pub(crate) fn set(clips: usize) -> &'static Set {
    static MADE: Mutex<Vec<(usize, &'static OnceLock<Set>)>> = Mutex::new(Vec::new());
    let place = {
        let mut made = MADE.lock().unwrap();
        let known = made.iter().find(|(n, _)| *n == clips).map(|(_, set)| *set);
        known.unwrap_or_else(|| {
            let place: &'static OnceLock<Set> = Box::leak(Box::default());
            made.push((clips, place));
            place
        })
    };
    place.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        make_dataset(&dataset, clips);
        let reference = folder.path().join("reference");
        refer(&dataset, &reference);
        Set {
            _folder: folder,
            dataset,
            reference,
        }
    })
}

/// Over in a moment.
pub(crate) const SHORT: usize = 8;
/// Long enough to be met in the middle when one worker is at it.
pub(crate) const LONG: usize = 32;

/// One worker, for jobs that are to last.
pub(crate) const SLOWLY: &str = "[run]\nworkers = 1\n";

/// A daemon's config and output folder, over its restarts.
pub(crate) struct Stage {
    folder: TempDir,
    dataset: PathBuf,
    port: Option<u16>,
    more: String,
}

impl Stage {
    /// Over a dataset that stays as it is; an empty path is none.
    pub(crate) fn over(dataset: &Path, port: Option<u16>, more: &str) -> Self {
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

    /// Over a dataset of its own, which may be changed.
    pub(crate) fn with_own(clips: usize, port: Option<u16>, more: &str) -> Self {
        let mut stage = Self::over(Path::new(""), port, more);
        stage.dataset = stage.path("dataset");
        make_dataset(&stage.dataset, clips);
        stage
    }

    /// A place in its folder.
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

    /// Starts the daemon, which logs everything.
    pub(crate) fn start(&self, args: &[&str]) -> Daemon {
        self.start_with(args, &[("HANDLOOM_LOG", "debug")])
    }

    /// With an environment of one's own.
    pub(crate) fn start_with(&self, args: &[&str], environment: &[(&str, &str)]) -> Daemon {
        let path = self.path("handloom.toml");
        Daemon::start_with(&path, &self.config(), args, environment)
    }

    /// Asserts that the results are those of `reference`, byte for byte.
    #[track_caller]
    pub(crate) fn gave(&self, reference: &Path) {
        assert_eq!(digests(&self.out()), digests(reference));
        assert_eq!(fates(&self.out()), fates(reference));
    }
}

/// A broker that keeps nothing over a restart, with an ear at all that a fleet says.
pub(crate) fn broker() -> (Broker, Listener) {
    let broker = Broker::start(false);
    let ears = listen(broker.port());
    (broker, ears)
}

/// An ear at all that a fleet says.
pub(crate) fn listen(port: u16) -> Listener {
    Listener::start(port, &["handloom/#"])
}

/// The topic of a channel of our device.
pub(crate) fn topic(channel: &str) -> String {
    topics::topic("box", channel)
}

/// All messages of a channel.
pub(crate) fn said(ears: &Listener, channel: &str) -> Vec<Value> {
    let messages = ears.on(&topic(channel)).into_iter();
    messages.map(|m| m.json()).collect()
}

/// A field of all messages of a channel, without repetitions in a row.
pub(crate) fn words(ears: &Listener, channel: &str, field: &str) -> Vec<String> {
    let mut words: Vec<String> = said(ears, channel)
        .iter()
        .map(|m| m[field].as_str().unwrap().to_owned())
        .collect();
    words.dedup();
    words
}

/// The state as it was told last.
pub(crate) fn state(ears: &Listener) -> (String, String) {
    let last = said(ears, topics::STATE).pop().unwrap_or_default();
    let word = |field: &str| last[field].as_str().unwrap_or_default().to_owned();
    (word("state"), word("reason"))
}

/// Whether the job was done when it last told its state.
pub(crate) fn is_done(ears: &Listener) -> bool {
    let (state, reason) = state(ears);
    state == "idle" && reason.starts_with("the job is done")
}

/// Sends a command.
pub(crate) fn command(ears: &Listener, name: &str, id: &str) {
    let payload = json!({ "id": id }).to_string();
    ears.publish(&format!("handloom/box/cmd/{name}"), false, payload);
}

/// The replies to a command, each once: after a kill the last may be published again, with the same `seq`.
pub(crate) fn replies(ears: &Listener, id: &str) -> Vec<Value> {
    let mut replies = said(ears, topics::REPLY);
    replies.retain(|r| r["id"] == id);
    replies.dedup_by(|next, before| next["seq"] == before["seq"]);
    replies
}

/// The states in the replies to a command.
pub(crate) fn answers(ears: &Listener, id: &str) -> Vec<String> {
    let states = replies(ears, id).into_iter();
    states
        .map(|r| r["state"].as_str().unwrap().to_owned())
        .collect()
}

/// Sends a command and waits for its last word, which must be `word`; gives its reply.
#[track_caller]
pub(crate) fn obeys(
    daemon: &mut Daemon,
    ears: &Listener,
    name: &str,
    id: &str,
    word: &str,
) -> Value {
    command(ears, name, id);
    daemon.until(&format!("the last word on {name} {id}"), |_| {
        answers(ears, id).len() == 2
    });
    assert_eq!(answers(ears, id), ["accepted", word], "{}", daemon.log());
    replies(ears, id).pop().unwrap()
}

/// The messages of a channel that numbers them over restarts, each as it was first seen, and how many came again.
pub(crate) fn distinct(ears: &Listener, channel: &str) -> (Vec<Value>, usize) {
    let all = said(ears, channel);
    let count = all.len();
    let mut seen = HashSet::new();
    let mut first = all;
    first.retain(|message| seen.insert(message["seq"].as_u64().unwrap()));
    let again = count - first.len();
    (first, again)
}

/// Asserts that a channel's messages were all seen, from the first one to the last.
#[track_caller]
pub(crate) fn assert_no_gap(ears: &Listener, channel: &str) {
    let (messages, _) = distinct(ears, channel);
    let seen = messages.iter().map(|m| m["seq"].as_u64().unwrap());
    let seen: Vec<u64> = seen.collect();
    let count = u64::try_from(seen.len()).unwrap();
    assert_eq!(seen, (1..=count).collect::<Vec<_>>(), "{channel}");
}
