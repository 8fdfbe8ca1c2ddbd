//! Helpers of the integration tests: run the program, render clips, read results.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    missing_docs,
    reason = "a broken set-up may end a test"
)]

pub mod broker;
pub mod daemon;
pub mod listener;
pub mod memory;
pub mod plugin;
pub mod quick_models;
pub mod stub_broker;
pub mod tcp_gate;
pub mod tiny_model;

use handloom::draw::scene::signing_scene;
use handloom::inference::{BackendError, LiteRt};
use handloom::storage::batches::FINAL_NAME;
use handloom::storage::npz::NpzReader;
use handloom::video::encode::{Codec, encode_mp4};
use quick_models::quick_models;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Time limit for a run of the program in any test; a child that takes longer is killed and counts as hung.
pub const DEADLINE: Duration = Duration::from_mins(5);

/// How a run of the program ended.
#[derive(Debug)]
pub struct Run {
    /// `None` when a signal ended the run, also at the deadline.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// The events on stdout; every line must be an event.
    pub fn events(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// The first event of a kind.
    pub fn event(&self, kind: &str) -> Value {
        let found = self.events().into_iter().find(|e| e["event"] == kind);
        found.unwrap_or_else(|| panic!("no event {kind} in {}", self.stdout))
    }

    /// Asserts the exit code and returns the run.
    #[track_caller]
    pub fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// Asserts that stderr contains all of `words`.
    #[track_caller]
    pub fn stderr_contains(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no \"{word}\" in {}",
                self.stderr
            );
        }
        self
    }
}

/// Runs the program with the deadline and without the caller's `HANDLOOM_` variables.
pub fn handloom<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    handloom_with(args, &[])
}

/// [`handloom`] with environment variables.
pub fn handloom_with<S: AsRef<OsStr>>(
    args: impl IntoIterator<Item = S>,
    environment: &[(&str, &OsStr)],
) -> Run {
    handloom_at(&binary(), args, environment)
}

/// [`handloom_with`] for a copy of the program.
pub fn handloom_at<S: AsRef<OsStr>>(
    program: &Path,
    args: impl IntoIterator<Item = S>,
    environment: &[(&str, &OsStr)],
) -> Run {
    let mut command = assert_cmd::Command::new(program);
    command.timeout(DEADLINE);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HANDLOOM_") {
            command.env_remove(name);
        }
    }
    command.env_remove("CREDENTIALS_DIRECTORY");
    command.env_remove("CACHE_DIRECTORY");
    // The tests share no benchmark results with the user.
    command.env("XDG_CACHE_HOME", cache());
    let mut args = args.into_iter().peekable();
    let runs_models = ["process", "camera"].map(OsStr::new);
    if args
        .peek()
        .is_some_and(|a| runs_models.contains(&a.as_ref()))
    {
        // Only `cpu` gives the notebook's numbers; LiteRT may be installed.
        command.env("HANDLOOM_RUN_ACCELERATOR", "cpu");
    }
    let is_job = args.peek().is_some_and(|a| a.as_ref() == "process");
    let mut names_models = false;
    for arg in args {
        let flag = arg.as_ref().to_string_lossy();
        let name = flag.split('=').next().unwrap_or_default();
        names_models |= name.starts_with("--") && name.contains("-model");
        command.arg(&arg);
    }
    if is_job && !names_models {
        command.args(quick_flags());
    }
    // Without a registry, GStreamer scans all plugins, which takes a second.
    command.env("GST_REGISTRY", cache().join("gstreamer.bin"));
    command.envs(environment.iter().copied());
    // The width of help. A terminal's width would take precedence, but the child's streams are pipes.
    command.env("COLUMNS", "100");
    let output = command.output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Flags for the quick models; a job that names no models gets them.
pub fn quick_flags() -> [OsString; 3] {
    let folder = quick_models().as_os_str().to_owned();
    ["--models".into(), folder, "--trust-models".into()]
}

/// Runs `handloom process DATASET --out OUT` with more arguments.
pub fn process(dataset: &Path, out: &Path, more: &[&str]) -> Run {
    let mut args: Vec<&OsStr> = vec![
        "process".as_ref(),
        dataset.as_ref(),
        "--out".as_ref(),
        out.as_ref(),
    ];
    args.extend(more.iter().map(|a| OsStr::new(*a)));
    handloom(args)
}

/// The program under test, built beside the test binaries.
pub fn binary() -> PathBuf {
    target_folder(2).join("handloom")
}

/// Cargo's folder for files of integration tests.
pub fn target_tmp() -> PathBuf {
    let folder = target_folder(3).join("tmp");
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// The folder `levels` above this test binary, which is `target/PROFILE/deps/NAME`.
fn target_folder(levels: usize) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(levels).unwrap().to_path_buf()
}

/// The project's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The cache folder of all programs that tests run.
pub fn cache() -> PathBuf {
    target_tmp().join("cache")
}

/// A folder inside the target folder, removed when dropped.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in(target_tmp()).unwrap()
}

/// [`scratch`] in memory where `/dev/shm` exists, for files that are synced thousands of times.
pub fn scratch_in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| scratch())
}

/// The path of shared test data; prints a note and returns `None` when it does not exist.
pub fn shared(part: &str) -> Option<PathBuf> {
    let path = root().join("../shared").join(part);
    if path.exists() {
        return Some(path);
    }
    print_note(&format!("SKIPPED: {} does not exist", path.display()));
    None
}

/// Prints a note even when the test passes: the test harness captures only the print macros.
pub fn print_note(text: &str) {
    // A closed stderr is no error.
    writeln!(std::io::stderr(), "{text}").ok();
}

/// LiteRT's library; prints a note and returns `None` when `make setup-litert` has not fetched it.
pub fn litert() -> Option<LiteRt> {
    match LiteRt::load(None) {
        Ok(runtime) => Some(runtime),
        Err(error @ BackendError::NotInstalled(_)) => {
            print_note(&format!("SKIPPED: {error}"));
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The folder of the fetched models.
pub fn models() -> PathBuf {
    root().join("models/fetched")
}

/// Encodes `frames` frames of the signing scene `seed`.
pub fn render_clip(
    path: &Path,
    seed: u64,
    frames: usize,
    (width, height): (usize, usize),
    codec: Codec,
) {
    let scenes = (0..frames).map(|i| signing_scene(seed, i, width, height));
    encode_mp4(path, scenes, 25, codec).unwrap();
}

/// The metadata of a dataset: glosses with `(video id, frame_start)`.
pub fn metadata(glosses: &[(&str, &[(&str, i64)])]) -> Value {
    let instance = |(id, start): &(&str, i64)| {
        json!({
            "bbox": [1, 2, 3, 4], "fps": 25, "frame_end": -1, "frame_start": start, "instance_id": 0,
            "signer_id": 9, "source": "drawn", "split": "train", "url": "", "variation_id": 0, "video_id": id,
        })
    };
    glosses
        .iter()
        .map(|(gloss, ids)| {
            let instances: Vec<Value> = ids.iter().map(instance).collect();
            json!({"gloss": gloss, "instances": instances})
        })
        .collect()
}

/// Writes the metadata of a dataset folder and makes its `videos`.
pub fn write_metadata(dataset: &Path, metadata: &Value) {
    fs::create_dir_all(dataset.join("videos")).unwrap();
    fs::write(dataset.join("WLASL_v0.3.json"), metadata.to_string()).unwrap();
}

/// All npz files of an output folder with their content.
pub fn npz_files(out: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["", "batches", "frames"].map(|name| out.join(name)) {
        // Only jobs that keep frames have the folder `frames`.
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "npz") {
                let name = path.strip_prefix(out).unwrap().display().to_string();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// SHA-256 of all npz files of an output folder.
pub fn digests(out: &Path) -> BTreeMap<String, String> {
    let hash = |bytes: Vec<u8>| handloom::digest::sha256_hex(&bytes);
    npz_files(out)
        .into_iter()
        .map(|(name, bytes)| (name, hash(bytes)))
        .collect()
}

/// The lines of `manifest.jsonl`.
pub fn manifest(out: &Path) -> Vec<Value> {
    let text = fs::read_to_string(out.join("manifest.jsonl")).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

/// `gloss id state` of every line of the manifest.
pub fn manifest_states(out: &Path) -> Vec<String> {
    let word = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    let line = |l: &Value| {
        format!(
            "{} {} {}",
            word(&l["gloss"]),
            word(&l["video_id"]),
            word(&l["state"])
        )
    };
    manifest(out).iter().map(line).collect()
}

/// Pseudo-random numbers that depend on the seed alone (xorshift64*).
pub struct TestRng(u64);

impl TestRng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16;
        usize::try_from(bits).unwrap() % end
    }

    pub fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// The rows of an output folder's final file, in order.
pub fn rows(out: &Path) -> Vec<Vec<f32>> {
    let mut npz = NpzReader::open(&out.join(FINAL_NAME)).unwrap();
    let (numbers, shape) = npz.numbers::<f32>("sequences").unwrap();
    numbers
        .chunks(shape[1] * shape[2])
        .map(<[f32]>::to_vec)
        .collect()
}

/// Copies the folder `from` to `to` with its contents.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
