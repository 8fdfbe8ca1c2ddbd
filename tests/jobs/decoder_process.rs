//! Jobs with clips that crash, block or bloat their decoder, and decoder processes that are stopped or killed: the
//! reason is recorded for the clip, and nothing else changes. The decoder of such clips is `tests/plugin/decoder.c`.

use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use test_support::{
    binary, cache, digests, handloom_with, manifest, metadata, print_note, render_clip, scratch,
    write_metadata,
};

use handloom::video::encode::Codec;

/// Longest wait for something that happens at once.
const SOON: Duration = Duration::from_mins(1);
const ARGS: [&str; 6] = [
    "--min-videos-per-gloss",
    "1",
    "--min-frames",
    "1",
    "--sequence-length",
    "4",
];

/// A dataset of clips, and GStreamer with the test decoder.
pub(crate) struct DecoderFixture {
    folder: TempDir,
    good: Vec<u8>,
    registry: PathBuf,
}

/// Codecs, each of which selects a fault of the test decoder, and the reason recorded with a clip timeout of 6 s.
pub(crate) const CRASHERS: [(&str, &str); 8] = [
    ("abrt", "the decoder crashed (SIGABRT) in this clip"),
    (
        "blck",
        "the decoder gave no frame within the clip timeout of 6 s",
    ),
    ("gerr", "the decoder crashed (SIGTRAP) in this clip"),
    (
        "hang",
        "the decoder gave no frame within the clip timeout of 6 s",
    ),
    (
        "huge",
        "decoding this clip needs more than 320 MiB of memory",
    ),
    (
        "leak",
        "decoding this clip needs more than 320 MiB of memory",
    ),
    (
        "quit",
        "the decoder ended its process (exit code 7) in this clip",
    ),
    ("segv", "the decoder crashed (SIGSEGV) in this clip"),
];

impl DecoderFixture {
    pub(crate) fn new() -> Self {
        let folder = scratch();
        let path = folder.path().join("good.mp4");
        render_clip(&path, 3, 16, (160, 120), Codec::Mpeg4);
        Self {
            good: fs::read(path).unwrap(),
            registry: folder.path().join("registry.bin"),
            folder,
        }
    }

    /// Makes the dataset `name` of `good` good clips and one clip in each of `codecs`.
    pub(crate) fn dataset(&self, name: &str, good: usize, codecs: &[&str]) -> PathBuf {
        let dataset = self.folder.path().join(name);
        let ids = (0..good).map(|n| format!("{n:05}"));
        let ids: Vec<String> = ids.chain(codecs.iter().map(|c| (*c).to_owned())).collect();
        let mut instances: Vec<(&str, i64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
        // Good and bad clips alternate.
        instances.sort_by_key(|(id, _)| crc32fast::hash(id.as_bytes()));
        write_metadata(&dataset, &metadata(&[("wave", &instances)]));
        for id in &ids {
            let mut clip = self.good.clone();
            if codecs.contains(&id.as_str()) {
                let table = find(&clip, b"stsd");
                let entry = table + find(&clip[table..], b"mp4v");
                clip[entry..entry + 4].copy_from_slice(id.as_bytes());
            }
            fs::write(dataset.join(format!("videos/{id}.mp4")), clip).unwrap();
        }
        dataset
    }

    /// The folder of the test decoder; `None` where it cannot be compiled.
    pub(crate) fn plugin(&self) -> Option<PathBuf> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugin/decoder.c");
        let folder = self.folder.path().join("plugins");
        fs::create_dir_all(&folder).unwrap();
        let flags = Command::new("pkg-config")
            .args(["--cflags", "--libs", "gstreamer-1.0"])
            .output();
        let flags = flags.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(folder.join("libhandloomtest.so"))
            .arg(source)
            .args(flags.unwrap_or_default().split_whitespace())
            .output();
        if compiled.is_ok_and(|output| output.status.success()) {
            return Some(folder);
        }
        print_note("SKIPPED: no C compiler with GStreamer's headers for the test decoder");
        None
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a job without waiting for its end.
    pub(crate) fn start(
        &self,
        dataset: &Path,
        out: &Path,
        more: &[&str],
        environment: &[(&str, &OsStr)],
        stdout: Stdio,
    ) -> Child {
        Command::new(binary())
            .arg("process")
            .arg(dataset)
            .arg("--out")
            .arg(out)
            .args(ARGS)
            .args(more)
            .args(test_support::quick_flags())
            .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
            .env("XDG_CACHE_HOME", cache())
            .env("GST_REGISTRY", &self.registry)
            .envs(environment.iter().copied())
            .stdout(stdout)
            .spawn()
            .unwrap()
    }

    /// Runs a job to its end; returns its stderr.
    fn process(
        &self,
        dataset: &Path,
        out: &Path,
        more: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> String {
        let mut args: Vec<&OsStr> = vec!["process".as_ref(), dataset.as_ref()];
        args.extend(["--out".as_ref(), out.as_os_str()]);
        args.extend(ARGS.iter().chain(more).map(OsStr::new));
        let mut all = vec![("GST_REGISTRY", self.registry.as_os_str())];
        all.extend(environment);
        handloom_with(args, &all).ends(0).stderr
    }
}

fn find(bytes: &[u8], word: &[u8]) -> usize {
    bytes.windows(4).position(|w| w == word).unwrap()
}

/// The reason of each clip that was not accepted, by its id.
pub(crate) fn reasons(out: &Path) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut reasons: Vec<_> = manifest(out)
        .iter()
        .filter(|line| line["state"] != "accepted")
        .map(|line| (text(&line["video_id"]), text(&line["reason"])))
        .collect();
    reasons.sort();
    reasons
}

/// The decoder processes of the process `parent`.
pub(crate) fn decoders(parent: u32) -> Vec<u32> {
    let of_process = |entry: fs::DirEntry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, owner) = (fields.next()?, fields.next()?);
        if state == "Z" || owner != parent.to_string() {
            return None;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_decoder = command.windows(12).any(|part| part == b"decode-clips");
        is_decoder.then_some(pid)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(of_process).collect()
}

fn signal(name: &str, pid: u32) {
    // The process may have ended just now.
    Command::new("kill")
        .args([name, &pid.to_string()])
        .status()
        .unwrap();
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_there() {
        assert!(since.elapsed() < SOON, "no {what}");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn clips_that_end_their_decoder_are_recorded_with_what_they_did() {
    let fixture = DecoderFixture::new();
    let Some(plugins) = fixture.plugin() else {
        return;
    };
    let environment = [("GST_PLUGIN_PATH", plugins.as_os_str())];
    let alone = fixture.dataset("alone", 4, &[]);
    fixture.process(&alone, &fixture.out("alone-out"), &[], &environment);
    let codecs = [
        "abrt", "segv", "gerr", "quit", "leak", "huge", "hang", "blck",
    ];
    let mixed = fixture.dataset("mixed", 4, &codecs);
    let more = ["--clip-timeout", "6", "--workers", "2"];
    let out = fixture.out("mixed-out");
    let stderr = fixture.process(&mixed, &out, &more, &environment);
    assert!(!stderr.contains("of a decoder"), "{stderr}");
    let expected = CRASHERS.map(|(id, reason)| (id.to_owned(), reason.to_owned()));
    assert_eq!(reasons(&out), expected);
    let joined = |name: &str| digests(&fixture.out(name)).remove("wlasl_landmarks.npz");
    assert!(joined("alone-out").is_some());
    assert_eq!(joined("alone-out"), joined("mixed-out"));
    // Decoding in the program itself gives the same bytes.
    let more = ["--decode-in-process"];
    fixture.process(&alone, &fixture.out("in-process"), &more, &environment);
    assert_eq!(
        digests(&fixture.out("alone-out")),
        digests(&fixture.out("in-process"))
    );
}

#[test]
fn a_decoder_reaches_neither_network_nor_files_nor_processes() {
    let fixture = DecoderFixture::new();
    let Some(plugins) = fixture.plugin() else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let secret = fixture.out("secret");
    fs::write(&secret, "s").unwrap();
    let environment = [
        ("GST_PLUGIN_PATH", plugins.as_os_str()),
        ("TEST_PORT", port.as_ref()),
        ("TEST_FILE", secret.as_os_str()),
        ("HANDLOOM_LOG", "info".as_ref()),
    ];
    let dataset = fixture.dataset("probe", 1, &["prob"]);
    let out = fixture.out("probe-out");
    let stderr = fixture.process(&dataset, &out, &[], &environment);
    let found = reasons(&out);
    assert_eq!(found.len(), 1);
    let reason = &found[0].1;
    assert!(reason.starts_with("handloomtestdec: may:"), "{reason}");
    assert!(listener.accept().is_err(), "a decoder has connected");
    for way in ["socket", "connect", "unix", "signal", "fork", "exec"] {
        assert!(!reason.contains(way), "{reason}");
    }
    if stderr.contains("without network and files") {
        assert_eq!(reason, "handloomtestdec: may:");
    } else {
        print_note(&format!(
            "SKIPPED: this kernel cannot restrict a decoder's file access: {stderr}"
        ));
    }
}

#[test]
fn a_decoder_process_that_is_killed_from_outside_changes_nothing() {
    let fixture = DecoderFixture::new();
    let dataset = fixture.dataset("killed", 24, &[]);
    let undisturbed = fixture.out("undisturbed");
    fixture.process(&dataset, &undisturbed, &["--workers", "1"], &[]);
    let out = fixture.out("killed-out");
    // A file shows each line at once; a pipe may hold lines that this test has not read.
    let events = fixture.out("killed-events");
    let stdout = fs::File::create(&events).unwrap().into();
    let mut job = fixture.start(&dataset, &out, &["--workers", "1"], &[], stdout);
    let clips = || {
        let lines = fs::read_to_string(&events).unwrap();
        lines.matches(r#""event":"clip""#).count()
    };
    let (mut next, mut kills) = (1, 0);
    while job.try_wait().unwrap().is_none() {
        if clips() < next {
            sleep(Duration::from_millis(1));
            continue;
        }
        // Each kill comes at another instant of its clip.
        sleep(Duration::from_millis(kills * 2));
        for pid in decoders(job.id()) {
            signal("-KILL", pid);
            kills += 1;
        }
        // A clip is tried twice: the next kill must hit another clip.
        next = clips() + 3;
    }
    assert!(job.wait().unwrap().success());
    assert!(kills > 0);
    assert_eq!(digests(&undisturbed), digests(&out));
}

#[test]
fn a_decoder_process_that_stands_still_is_ended_at_the_deadline() {
    let fixture = DecoderFixture::new();
    let dataset = fixture.dataset("still", 20, &[]);
    // A process that is stopped while it closes a clip has given all frames: no clip fails, and the run tells nothing.
    let mut recorded = (0..10).map(|run| stop_in_a_job(&fixture, &dataset, run));
    let recorded = recorded.find(|reasons| !reasons.is_empty());
    let reasons = recorded.expect("ten stops in a row, each while a clip was closed");
    // The process may have been stopped between two clips; then the next clip times out.
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    let reason = "the decoder gave no frame within the clip timeout of 5 s";
    assert_eq!(reasons[0].1, reason);
}

/// Stops the decoder process of a job after its first clip; the job succeeds. Returns the recorded reasons.
fn stop_in_a_job(fixture: &DecoderFixture, dataset: &Path, run: usize) -> Vec<(String, String)> {
    let out = fixture.out(&format!("still-out-{run}"));
    let more = ["--workers", "1", "--clip-timeout", "5"];
    let mut job = fixture.start(dataset, &out, &more, &[], Stdio::piped());
    // The decoder process starts before its first clip.
    wait_for("decoder process", || !decoders(job.id()).is_empty());
    let mut lines = BufReader::new(job.stdout.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains(r#""event":"clip""#));
    for pid in decoders(job.id()) {
        signal("-STOP", pid);
    }
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(job.wait().unwrap().success(), "{rest:?}");
    reasons(&out)
}

#[test]
fn a_decoder_process_ends_with_its_parent() {
    let fixture = DecoderFixture::new();
    let dataset = fixture.dataset("orphan", 50, &[]);
    let mut job = fixture.start(
        &dataset,
        &fixture.out("orphan-out"),
        &["--workers", "2"],
        &[],
        Stdio::piped(),
    );
    let mut children = Vec::new();
    wait_for("decoder process", || {
        children = decoders(job.id());
        !children.is_empty()
    });
    job.kill().unwrap();
    job.wait().unwrap();
    let mut rest = String::new();
    job.stdout
        .take()
        .unwrap()
        .read_to_string(&mut rest)
        .unwrap();
    for pid in children {
        let process = PathBuf::from(format!("/proc/{pid}/exe"));
        wait_for("end of the decoder process", || {
            fs::read_link(&process).is_err()
        });
    }
}

#[test]
fn in_one_process_a_clip_that_ends_it_twice_is_recorded() {
    let fixture = DecoderFixture::new();
    let Some(plugins) = fixture.plugin() else {
        return;
    };
    let dataset = fixture.dataset("fatal", 4, &["abrt"]);
    let out = fixture.out("fatal-out");
    let run = || {
        let mut args: Vec<&OsStr> = vec!["process".as_ref(), dataset.as_ref()];
        args.extend(["--out".as_ref(), out.as_os_str()]);
        args.extend(ARGS.iter().map(OsStr::new));
        args.extend(["--decode-in-process", "--workers", "2"].map(OsStr::new));
        let environment = [
            ("GST_PLUGIN_PATH", plugins.as_os_str()),
            ("GST_REGISTRY", fixture.registry.as_os_str()),
        ];
        handloom_with(args, &environment)
    };
    for _ in 0..2 {
        assert_eq!(run().code, None, "a signal ends it");
    }
    run().ends(0);
    let reason = "the process ended twice while it decoded this clip";
    assert_eq!(reasons(&out), [("abrt".to_owned(), reason.to_owned())]);
}

#[test]
fn a_plugin_that_does_not_load_is_not_the_clips_fault() {
    let fixture = DecoderFixture::new();
    let Some(plugins) = fixture.plugin() else {
        return;
    };
    let dataset = fixture.dataset("unloadable", 2, &["prob"]);
    let out = fixture.out("unloadable-out");
    let run = |environment: &[(&str, &OsStr)]| {
        let mut args: Vec<&OsStr> = vec!["process".as_ref(), dataset.as_ref()];
        args.extend(["--out".as_ref(), out.as_os_str()]);
        args.extend(ARGS.iter().map(OsStr::new));
        let mut all = vec![
            ("GST_REGISTRY", fixture.registry.as_os_str()),
            ("GST_PLUGIN_PATH", plugins.as_os_str()),
        ];
        all.extend(environment);
        handloom_with(args, &all)
    };
    // GStreamer registers the plugin. Later it trusts the registry, because time and size of the file are the same.
    let good = fixture.dataset("noted", 1, &[]);
    let environment = [("GST_PLUGIN_PATH", plugins.as_os_str())];
    fixture.process(&good, &fixture.out("noted-out"), &[], &environment);
    let library = plugins.join("libhandloomtest.so");
    let (bytes, time) = (
        fs::read(&library).unwrap(),
        fs::metadata(&library).unwrap().modified().unwrap(),
    );
    let replace = |bytes: &[u8]| {
        fs::write(&library, bytes).unwrap();
        let file = fs::File::options().append(true).open(&library).unwrap();
        file.set_modified(time).unwrap();
    };
    replace(&vec![0; bytes.len()]);
    run(&[])
        .ends(74)
        .stderr_contains(&["handloomtestdec does not load", "the job resumes"]);
    replace(&bytes);
    run(&[]).ends(0);
    assert!(reasons(&out)[0].1.starts_with("handloomtestdec: may:"));
}

#[test]
fn a_machine_without_file_handles_is_not_the_clips_fault() {
    let fixture = DecoderFixture::new();
    let dataset = fixture.dataset("handles", 3, &[]);
    let out = fixture.out("handles-out");
    let mut stopped = 0;
    for handles in [16, 18, 20, 22, 24, 26] {
        let output = Command::new("sh")
            .args(["-c", "ulimit -n $1; shift; exec \"$@\"", "sh"])
            .arg(handles.to_string())
            .arg(binary())
            .arg("process")
            .arg(&dataset)
            .arg("--out")
            .arg(&out)
            .args(ARGS)
            .args(["--workers", "2"])
            .args(test_support::quick_flags())
            .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
            .env("GST_REGISTRY", &fixture.registry)
            .output()
            .unwrap();
        let events = String::from_utf8_lossy(&output.stdout);
        assert!(!events.contains(r#""state":"unreadable""#), "{events}");
        let reason = String::from_utf8_lossy(&output.stderr);
        stopped += usize::from(reason.contains("the job stops, no clip is recorded for it"));
    }
    assert!(stopped > 0);
    fixture.process(&dataset, &out, &[], &[]);
    assert!(reasons(&out).is_empty());
}
