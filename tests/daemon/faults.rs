//! Faults that block the job: permanent ones end the daemon with the right exit code, temporary ones are waited for.

use crate::fixture::{
    DaemonFixture, LONG, ONE_WORKER, SHORT, broker, command_with_result, is_done, published, put,
    reference_job, reply_states, state, write_metadata, write_reference,
};
use crate::work::wait_for_more_clips;
use handloom::messages::topics;
use handloom::storage::lock::FolderLock;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use test_support::handloom;
use test_support::listener::Listener;

/// The fault messages of a component.
fn faults(subscriber: &Listener, component: &str) -> Vec<Value> {
    let mut faults = published(subscriber, topics::FAULT);
    faults.retain(|f| f["component"] == component);
    faults
}

#[track_caller]
fn assert_contains_all(value: &Value, all: &[&str]) {
    let text = value.as_str().unwrap();
    for word in all {
        assert!(text.contains(word), "no \"{word}\" in {text}");
    }
}

/// Starts the daemon and asserts its exit code and the contents of its log.
#[track_caller]
fn ends(fixture: &DaemonFixture, args: &[&str], code: i32, all: &[&str]) {
    let mut daemon = fixture.start(args);
    assert_eq!(daemon.wait(), Some(code), "{}", daemon.log());
    let log = daemon.log();
    for word in all {
        assert!(log.contains(word), "no \"{word}\" in {log}");
    }
}

#[test]
fn a_folder_in_use_or_of_another_job_is_left_alone() {
    let fixture = DaemonFixture::with_own_dataset(1, None, "");
    let out = fixture.out();
    fs::create_dir_all(&out).unwrap();
    let lock = FolderLock::take(&out).unwrap();
    ends(&fixture, &[], 73, &["another handloom (pid ", "works in"]);
    drop(lock);
    let other = [
        "process".as_ref(),
        fixture.dataset().as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
        "--min-videos-per-gloss=1".as_ref(),
        "--min-frames=7".as_ref(),
        "--batch-size=3".as_ref(),
    ];
    handloom(other).ends(0);
    let before = test_support::digests(&out);
    ends(&fixture, &[], 73, &["another job", "min_frames", "--fresh"]);
    assert_eq!(test_support::digests(&out), before);
    ends(&fixture, &["--once", "--fresh"], 0, &[]);
}

#[test]
fn once_does_not_wait_for_a_dataset() {
    let fixture = DaemonFixture::with_dataset(Path::new("/nowhere"), None, "");
    ends(&fixture, &["--once"], 66, &["no dataset at /nowhere"]);
}

#[test]
fn the_journal_gets_the_final_error() {
    let fixture = DaemonFixture::with_dataset(Path::new("/nowhere"), None, "");
    let log = fs::File::create(fixture.path("handloom.log")).unwrap();
    let place = log.metadata().unwrap();
    let journal = format!("{}:{}", place.dev(), place.ino());
    let check = |args: &[&str], code: i32, expected: &str| {
        log.set_len(0).unwrap();
        let mut daemon = fixture.start_with(args, &[("JOURNAL_STREAM", &journal)]);
        assert_eq!(daemon.wait(), Some(code), "{}", daemon.log());
        let log_text = daemon.log();
        // Earlier lines are ordinary log lines.
        let mut lines = log_text
            .lines()
            .skip_while(|line| !line.starts_with("<3>"))
            .peekable();
        assert!(
            lines.peek().is_some_and(|line| line.contains(expected)),
            "{log_text}"
        );
        assert!(lines.all(|line| line.starts_with("<3>")), "{log_text}");
    };
    check(&["--set", "run.workers=0"], 78, "run.workers");
    check(&["--once"], 66, "no dataset at");
    check(&["--twice"], 64, "--twice");
}

#[test]
fn a_bad_config_is_refused_by_file_and_line() {
    let bad = "[run]\nworkers = 0\nworker = 1\n";
    let fixture = DaemonFixture::with_dataset(Path::new("/nowhere"), None, bad);
    let line = fixture.config().lines().count() - 1;
    let place = |line: usize| format!("handloom.toml:{line}");
    let (first, second) = (place(line), place(line + 1));
    ends(&fixture, &[], 78, &[&first, "workers", &second, "worker"]);
    // The config is refused before the daemon creates any file.
    assert!(!fixture.out().exists());
}

#[test]
fn errors_name_the_keys_of_the_config() {
    let fixture = DaemonFixture::with_own_dataset(1, None, "[run]\ndecoder = \"x999dec\"\n");
    let all = ["run.decoder = x999dec: no such GStreamer decoder"];
    ends(&fixture, &[], 78, &all);
    let fixture = DaemonFixture::with_own_dataset(1, None, "[models]\n");
    let models = fixture.path("models");
    fs::create_dir_all(&models).unwrap();
    for name in ["palm_detection_full.tflite", "hand_landmark_full.tflite"] {
        fs::write(models.join(name), "no model").unwrap();
    }
    let override_arg = format!("models.path={}", models.display());
    let all = ["which is not the palm model", "models.trust = true"];
    ends(&fixture, &["--once", "--set", &override_arg], 65, &all);
}

#[test]
fn missing_models_are_named_and_waited_for() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(1, Some(broker.port()), "[models]\n");
    let models = fixture.path("models");
    let override_arg = format!("models.path={}", models.display());
    let mut daemon = fixture.start(&["--set", &override_arg]);
    daemon.until("the fault", |_| !faults(&subscriber, "job").is_empty());
    let fault = faults(&subscriber, "job").remove(0);
    assert_contains_all(
        &fault["reason"],
        &[&models.display().to_string(), "make setup"],
    );
    daemon.until("the state", |_| state(&subscriber).0 == "error");
    std::os::unix::fs::symlink(test_support::models(), &models).unwrap();
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(faults(&subscriber, "job").len(), 1);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_changed_dataset_is_taken_up_by_command_alone() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(SHORT, Some(broker.port()), "");
    let mut daemon = fixture.start(&["--once"]);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    let before = test_support::digests(&fixture.out());
    // Add a clip in the middle and remove the last one.
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let hello = ids(&["000", "001", "100", "002", "003"]);
    write_metadata(fixture.dataset(), &hello, &ids(&["004", "005", "006"]));
    put(fixture.dataset(), "100", "b");
    let mut daemon = fixture.start(&[]);
    daemon.until("an error", |_| state(&subscriber).0 == "error");
    let (_, reason) = state(&subscriber);
    assert!(
        reason.contains("1 clip added, 1 removed, metadata changed"),
        "{reason}"
    );
    daemon.until("the fault", |_| !faults(&subscriber, "dataset").is_empty());
    assert_contains_all(
        &faults(&subscriber, "dataset")[0]["action"],
        &["send the command rescan"],
    );
    // Neither another command nor a further try changes the results.
    command_with_result(&mut daemon, &subscriber, "retry-failed", "t", "failed");
    let tries = |log: String| log.matches("has changed since the job began").count();
    daemon.until("another try", |d| tries(d.log()) >= 3);
    assert_eq!(test_support::digests(&fixture.out()), before);
    daemon.until("the error again", |_| state(&subscriber).0 == "error");
    let recorded = daemon.recorded().len();
    let reply = command_with_result(&mut daemon, &subscriber, "rescan", "r", "succeeded");
    assert_eq!(
        (&reply["result"]["clips"], &reply["result"]["done"]),
        (&8.into(), &7.into())
    );
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(daemon.recorded()[recorded..], ["100"]);
    assert_eq!(faults(&subscriber, "dataset").len(), 1, "{}", daemon.log());
    let whole = fixture.path("whole");
    write_reference(fixture.dataset(), &whole);
    fixture.assert_results(&whole);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_dataset_that_comes_and_goes_is_waited_for() {
    let reference = reference_job(LONG);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(LONG, Some(broker.port()), ONE_WORKER);
    let (dataset, away) = (fixture.dataset().to_path_buf(), fixture.path("away"));
    let (videos, videos_away) = (dataset.join("videos"), dataset.join("away"));
    fs::rename(&dataset, &away).unwrap();
    let mut daemon = fixture.start(&[]);
    let gone = |times: usize| {
        let subscriber = &subscriber;
        move |_: &test_support::daemon::Daemon| {
            faults(subscriber, "dataset").len() == times && state(subscriber).0 == "error"
        }
    };
    daemon.until("the fault of the missing dataset", gone(1));
    assert_contains_all(
        &faults(&subscriber, "dataset")[0]["reason"],
        &[&dataset.display().to_string()],
    );
    command_with_result(&mut daemon, &subscriber, "rescan", "while away", "failed");
    fs::rename(&away, &dataset).unwrap();
    wait_for_more_clips(&mut daemon, 3);
    // A command keeps its final reply, whatever happens to the job.
    command_with_result(
        &mut daemon,
        &subscriber,
        "rescan",
        "while there",
        "succeeded",
    );
    fs::rename(&videos, &videos_away).unwrap();
    daemon.until("the fault of the missing clips", gone(2));
    assert_contains_all(
        &faults(&subscriber, "dataset")[1]["reason"],
        &["can no longer be reached", "videos"],
    );
    fs::rename(&videos_away, &videos).unwrap();
    wait_for_more_clips(&mut daemon, 3);
    // An unmounted disk leaves its mount point as an empty folder.
    fs::rename(&videos, &videos_away).unwrap();
    fs::create_dir(&videos).unwrap();
    daemon.until("the fault of the emptied folder", |_| {
        faults(&subscriber, "dataset").len() >= 3 && state(&subscriber).0 == "error"
    });
    fs::remove_dir(&videos).unwrap();
    fs::rename(&videos_away, &videos).unwrap();
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(
        reply_states(&subscriber, "while away"),
        ["accepted", "failed"]
    );
    assert_eq!(
        reply_states(&subscriber, "while there"),
        ["accepted", "succeeded"]
    );
    assert_eq!(daemon.reprocessed_clips(), [""; 0]);
    fixture.assert_results(&reference.out);
    let clips: Vec<Value> = faults(&subscriber, "clip");
    assert_eq!(clips.len(), LONG / 8, "{clips:?}");
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_pause_is_kept_while_the_dataset_is_missing() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(1, Some(broker.port()), "");
    let (dataset, away) = (fixture.dataset().to_path_buf(), fixture.path("away"));
    fs::rename(&dataset, &away).unwrap();
    let mut daemon = fixture.start(&[]);
    daemon.until("an error", |_| state(&subscriber).0 == "error");
    command_with_result(&mut daemon, &subscriber, "pause", "p", "succeeded");
    fs::rename(&away, &dataset).unwrap();
    daemon.until("a paused job", |_| state(&subscriber).0 == "paused");
    assert_eq!(daemon.stop(), Some(75));
    let before = daemon.phases("processing");
    let mut daemon = fixture.start(&[]);
    daemon.until("another run", |d| d.phases("processing") > before);
    daemon.until("a paused job", |_| state(&subscriber).0 == "paused");
    assert_eq!(daemon.begun(), [""; 0]);
    command_with_result(&mut daemon, &subscriber, "resume", "r", "succeeded");
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(daemon.stop(), Some(0));
}
