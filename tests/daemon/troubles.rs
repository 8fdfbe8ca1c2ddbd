//! What stands in the job's way: what ends the daemon ends it with the right code, what may pass is waited for.

use crate::stage::{
    LONG, SHORT, SLOWLY, Stage, answers, broker, is_done, obeys, put, refer, said, set, state,
    write_metadata,
};
use crate::work::go_on;
use handloom::messages::topics;
use handloom::storage::lock::FolderLock;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use test_support::handloom;
use test_support::listener::Listener;

/// The reasons and actions of the faults of a component.
fn faults(ears: &Listener, component: &str) -> Vec<Value> {
    let mut faults = said(ears, topics::FAULT);
    faults.retain(|f| f["component"] == component);
    faults
}

#[track_caller]
fn assert_says(value: &Value, all: &[&str]) {
    let text = value.as_str().unwrap();
    for words in all {
        assert!(text.contains(words), "no \"{words}\" in {text}");
    }
}

/// Starts it and asserts how it ends and what it says.
#[track_caller]
fn ends(stage: &Stage, args: &[&str], code: i32, all: &[&str]) {
    let mut daemon = stage.start(args);
    assert_eq!(daemon.wait(), Some(code), "{}", daemon.log());
    let log = daemon.log();
    for words in all {
        assert!(log.contains(words), "no \"{words}\" in {log}");
    }
}

#[test]
fn a_folder_in_use_or_of_another_job_is_left_alone() {
    let stage = Stage::with_own(1, None, "");
    let out = stage.out();
    fs::create_dir_all(&out).unwrap();
    let lock = FolderLock::take(&out).unwrap();
    ends(&stage, &[], 73, &["another handloom (pid ", "works in"]);
    drop(lock);
    let other = [
        "process".as_ref(),
        stage.dataset().as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
        "--min-videos-per-gloss=1".as_ref(),
        "--min-frames=7".as_ref(),
        "--batch-size=3".as_ref(),
    ];
    handloom(other).ends(0);
    let before = test_support::digests(&out);
    ends(&stage, &[], 73, &["another job", "min_frames", "--fresh"]);
    assert_eq!(test_support::digests(&out), before);
    ends(&stage, &["--once", "--fresh"], 0, &[]);
}

#[test]
fn once_does_not_wait_for_a_dataset() {
    let stage = Stage::over(Path::new("/nowhere"), None, "");
    ends(&stage, &["--once"], 66, &["no dataset at /nowhere"]);
}

#[test]
fn the_journal_hears_why_it_ends_as_an_error() {
    let stage = Stage::over(Path::new("/nowhere"), None, "");
    let log = fs::File::create(stage.path("handloom.log")).unwrap();
    let place = log.metadata().unwrap();
    let journal = format!("{}:{}", place.dev(), place.ino());
    let check = |args: &[&str], code: i32, says: &str| {
        log.set_len(0).unwrap();
        let mut daemon = stage.start_with(args, &[("JOURNAL_STREAM", &journal)]);
        assert_eq!(daemon.wait(), Some(code), "{}", daemon.log());
        let told = daemon.log();
        // What comes before is the log's.
        let mut words = told
            .lines()
            .skip_while(|line| !line.starts_with("<3>"))
            .peekable();
        assert!(
            words.peek().is_some_and(|line| line.contains(says)),
            "{told}"
        );
        assert!(words.all(|line| line.starts_with("<3>")), "{told}");
    };
    check(&["--set", "run.workers=0"], 78, "run.workers");
    check(&["--once"], 66, "no dataset at");
    check(&["--twice"], 64, "--twice");
}

#[test]
fn a_bad_config_is_refused_by_file_and_line() {
    let bad = "[run]\nworkers = 0\nworker = 1\n";
    let stage = Stage::over(Path::new("/nowhere"), None, bad);
    let line = stage.config().lines().count() - 1;
    let place = |line: usize| format!("handloom.toml:{line}");
    let (first, second) = (place(line), place(line + 1));
    ends(&stage, &[], 78, &[&first, "workers", &second, "worker"]);
    // It was noticed before anything was made.
    assert!(!stage.out().exists());
}

#[test]
fn errors_name_the_keys_of_the_config() {
    let stage = Stage::with_own(1, None, "[run]\ndecoder = \"x999dec\"\n");
    let all = ["run.decoder = x999dec: no such GStreamer decoder"];
    ends(&stage, &[], 78, &all);
    let stage = Stage::with_own(1, None, "[models]\n");
    let models = stage.path("models");
    fs::create_dir_all(&models).unwrap();
    for name in ["palm_detection_full.tflite", "hand_landmark_full.tflite"] {
        fs::write(models.join(name), "no model").unwrap();
    }
    let set = format!("models.path={}", models.display());
    let all = ["which is not the palm model", "models.trust = true"];
    ends(&stage, &["--once", "--set", &set], 65, &all);
}

#[test]
fn missing_models_are_named_and_waited_for() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(1, Some(broker.port()), "[models]\n");
    let models = stage.path("models");
    let set = format!("models.path={}", models.display());
    let mut daemon = stage.start(&["--set", &set]);
    daemon.until("the fault", |_| !faults(&ears, "job").is_empty());
    let fault = faults(&ears, "job").remove(0);
    assert_says(
        &fault["reason"],
        &[&models.display().to_string(), "make setup"],
    );
    daemon.until("the state", |_| state(&ears).0 == "error");
    std::os::unix::fs::symlink(test_support::models(), &models).unwrap();
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(faults(&ears, "job").len(), 1);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_changed_dataset_is_taken_up_by_command_alone() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(SHORT, Some(broker.port()), "");
    let mut daemon = stage.start(&["--once"]);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    let before = test_support::digests(&stage.out());
    // One clip more in the middle and one less at the end.
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let hello = ids(&["000", "001", "100", "002", "003"]);
    write_metadata(stage.dataset(), &hello, &ids(&["004", "005", "006"]));
    put(stage.dataset(), "100", "b");
    let mut daemon = stage.start(&[]);
    daemon.until("an error", |_| state(&ears).0 == "error");
    let (_, reason) = state(&ears);
    assert!(
        reason.contains("1 clip added, 1 removed, metadata changed"),
        "{reason}"
    );
    daemon.until("the fault", |_| !faults(&ears, "dataset").is_empty());
    assert_says(
        &faults(&ears, "dataset")[0]["action"],
        &["send the command rescan"],
    );
    // Nothing else is done about it, also not when tried again.
    obeys(&mut daemon, &ears, "retry-failed", "t", "failed");
    let tries = |log: String| log.matches("has changed since the job began").count();
    daemon.until("another try", |d| tries(d.log()) >= 3);
    assert_eq!(test_support::digests(&stage.out()), before);
    daemon.until("the error again", |_| state(&ears).0 == "error");
    let recorded = daemon.recorded().len();
    let reply = obeys(&mut daemon, &ears, "rescan", "r", "succeeded");
    assert_eq!(
        (&reply["result"]["clips"], &reply["result"]["done"]),
        (&8.into(), &7.into())
    );
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(daemon.recorded()[recorded..], ["100"]);
    assert_eq!(faults(&ears, "dataset").len(), 1, "{}", daemon.log());
    let whole = stage.path("whole");
    refer(stage.dataset(), &whole);
    stage.gave(&whole);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_dataset_that_comes_and_goes_is_waited_for() {
    let set = set(LONG);
    let (broker, ears) = broker();
    let stage = Stage::with_own(LONG, Some(broker.port()), SLOWLY);
    let (dataset, away) = (stage.dataset().to_path_buf(), stage.path("away"));
    let (videos, videos_away) = (dataset.join("videos"), dataset.join("away"));
    fs::rename(&dataset, &away).unwrap();
    let mut daemon = stage.start(&[]);
    let gone = |times: usize| {
        let ears = &ears;
        move |_: &test_support::daemon::Daemon| {
            faults(ears, "dataset").len() == times && state(ears).0 == "error"
        }
    };
    daemon.until("word of the missing dataset", gone(1));
    assert_says(
        &faults(&ears, "dataset")[0]["reason"],
        &[&dataset.display().to_string()],
    );
    obeys(&mut daemon, &ears, "rescan", "while away", "failed");
    fs::rename(&away, &dataset).unwrap();
    go_on(&mut daemon, 3);
    // A command that was answered stays so, whatever comes of the job.
    obeys(&mut daemon, &ears, "rescan", "while there", "succeeded");
    fs::rename(&videos, &videos_away).unwrap();
    daemon.until("word of the missing clips", gone(2));
    assert_says(
        &faults(&ears, "dataset")[1]["reason"],
        &["can no longer be reached", "videos"],
    );
    fs::rename(&videos_away, &videos).unwrap();
    go_on(&mut daemon, 3);
    // An unmounted medium leaves an empty folder behind.
    fs::rename(&videos, &videos_away).unwrap();
    fs::create_dir(&videos).unwrap();
    daemon.until("word of the emptied folder", |_| {
        faults(&ears, "dataset").len() >= 3 && state(&ears).0 == "error"
    });
    fs::remove_dir(&videos).unwrap();
    fs::rename(&videos_away, &videos).unwrap();
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(answers(&ears, "while away"), ["accepted", "failed"]);
    assert_eq!(answers(&ears, "while there"), ["accepted", "succeeded"]);
    assert_eq!(daemon.read_twice(), [""; 0]);
    stage.gave(&set.reference);
    let clips: Vec<Value> = faults(&ears, "clip");
    assert_eq!(clips.len(), LONG / 8, "{clips:?}");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_word_of_the_operator_outlives_the_want_of_a_dataset() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(1, Some(broker.port()), "");
    let (dataset, away) = (stage.dataset().to_path_buf(), stage.path("away"));
    fs::rename(&dataset, &away).unwrap();
    let mut daemon = stage.start(&[]);
    daemon.until("an error", |_| state(&ears).0 == "error");
    obeys(&mut daemon, &ears, "pause", "p", "succeeded");
    fs::rename(&away, &dataset).unwrap();
    daemon.until("a paused job", |_| state(&ears).0 == "paused");
    assert_eq!(daemon.stop(), Some(75));
    let before = daemon.phases("processing");
    let mut daemon = stage.start(&[]);
    daemon.until("another run", |d| d.phases("processing") > before);
    daemon.until("a paused job", |_| state(&ears).0 == "paused");
    assert_eq!(daemon.begun(), [""; 0]);
    obeys(&mut daemon, &ears, "resume", "r", "succeeded");
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(daemon.stop(), Some(0));
}
