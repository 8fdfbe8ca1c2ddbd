//! The job: what comes out and what is told of it, also when the process is ended in the middle.

use crate::stage::{
    LONG, SHORT, SLOWLY, Stage, assert_no_gap, broker, distinct, is_done, listen, said, set, topic,
    words,
};
use handloom::digest::sha256_hex;
use handloom::messages::topics;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use test_support::daemon::Daemon;
use test_support::listener::{Listener, eventually};
use test_support::manifest;

/// Asserts that what was said on `batch` and `fault` is what is in the output folder.
#[track_caller]
pub(crate) fn assert_reported(ears: &Listener, out: &Path) {
    let lines = manifest(out);
    let batches: BTreeMap<u64, Value> = said(ears, topics::BATCH)
        .into_iter()
        .map(|b| (b["batch"].as_u64().unwrap(), b))
        .collect();
    let files = fs::read_dir(out.join("batches")).unwrap().count();
    assert!(batches.keys().copied().eq(0..u64::try_from(files).unwrap()));
    let mut next = 0;
    for (number, batch) in &batches {
        let file = fs::read(out.join(batch["path"].as_str().unwrap())).unwrap();
        assert_eq!(batch["sha256"], sha256_hex(&file), "{batch}");
        let rows = lines.iter().filter(|l| l["stored"]["batch"] == *number);
        assert_eq!(batch["rows"], rows.count(), "{batch}");
        assert_eq!(batch["clips"][0], next, "{batch}");
        next = batch["clips"][1].as_u64().unwrap() + 1;
        assert_eq!(batch["last"], number + 1 == files as u64, "{batch}");
    }
    // Every instance of our datasets is planned.
    assert_eq!(next, lines.len() as u64);
    let faults = distinct(ears, topics::FAULT).0.into_iter();
    let clips: Vec<Value> = faults
        .filter(|f| f["component"] == "clip")
        .map(|f| json!([f["clip"]["gloss"], f["clip"]["video_id"], f["reason"]]))
        .collect();
    let unreadable: Vec<Value> = lines
        .iter()
        .filter(|l| l["state"] == "unreadable")
        .map(|l| json!([l["gloss"], l["video_id"], l["reason"]]))
        .collect();
    assert_eq!(clips, unreadable);
    assert_no_gap(ears, topics::BATCH);
    assert_no_gap(ears, topics::FAULT);
}

/// What a newcomer is told of `status`, `state` and `progress`.
fn retained(port: u16) -> [Value; 3] {
    let newcomer = listen(port);
    let channels = [topics::STATUS, topics::STATE, topics::PROGRESS];
    let kept = || {
        channels.map(|channel| {
            let messages = newcomer.on(&topic(channel)).into_iter();
            let last = messages.rev().find(|m| m.retained);
            last.map(|m| m.json())
        })
    };
    eventually("the retained messages", || {
        kept().iter().all(Option::is_some)
    });
    kept().map(Option::unwrap)
}

#[test]
fn a_job_is_reported_from_its_beginning_to_its_end() {
    let set = set(SHORT);
    let (broker, ears) = broker();
    let stage = Stage::over(&set.dataset, Some(broker.port()), "");
    let mut daemon = stage.start(&[]);
    let last_progress = || said(&ears, topics::PROGRESS).pop().unwrap_or_default();
    daemon.until("the end", |_| {
        is_done(&ears)
            && said(&ears, topics::BATCH).len() == 3
            && said(&ears, topics::FAULT).len() == 1
            && last_progress()["done"] == SHORT
    });
    stage.gave(&set.reference);
    assert_reported(&ears, &stage.out());
    assert_eq!(words(&ears, topics::STATUS, "status"), ["online"]);
    let states = words(&ears, topics::STATE, "state");
    // What comes before may be over before there is a connection.
    let work = states
        .iter()
        .position(|state| state == "processing")
        .unwrap();
    assert!(
        states[..work]
            .iter()
            .all(|state| ["idle", "scanning"].contains(&state.as_str()))
    );
    assert_eq!(states[work..], ["processing", "idle"]);
    let progress = said(&ears, topics::PROGRESS);
    let last = last_progress();
    assert_eq!((&last["done"], &last["total"]), (&json!(8), &json!(8)));
    let states = json!({"accepted": 6, "too_short": 1, "unreadable": 1});
    assert_eq!(last["states"], states);
    let time = |m: &Value| humantime::parse_rfc3339(m["ts"].as_str().unwrap()).unwrap();
    let span = time(&last).duration_since(time(&progress[0])).unwrap();
    assert!(
        progress.len() as u64 <= span.as_secs() + 2,
        "{} messages in {span:?}",
        progress.len()
    );
    let [status, state, progress] = retained(broker.port());
    assert_eq!(status["status"], "online");
    assert_eq!(state["state"], "idle");
    assert_eq!(progress, last);
    assert_eq!(daemon.stop(), Some(0));
    eventually("the farewell", || {
        words(&ears, topics::STATUS, "status") == ["online", "stopped"]
    });
    let [status, state, progress] = retained(broker.port());
    assert_eq!(status["status"], "stopped");
    assert_eq!(state["state"], "idle");
    assert_eq!(progress, last);
}

/// Waits until `more` further clips are recorded.
#[track_caller]
pub(crate) fn go_on(daemon: &mut Daemon, more: usize) {
    let enough = daemon.recorded().len() + more;
    daemon.until("further clips", |d| d.recorded().len() >= enough);
}

#[test]
fn a_job_that_is_ended_in_the_middle_goes_on_at_the_next_start() {
    let set = set(LONG);
    let (broker, ears) = broker();
    let stage = Stage::over(&set.dataset, Some(broker.port()), SLOWLY);
    let statuses = || words(&ears, topics::STATUS, "status");
    let mut expected = Vec::new();
    let mut daemon = stage.start(&[]);
    for signal in ["TERM", "KILL", "INT", "KILL"] {
        expected.push("online");
        daemon.until("online", |_| statuses() == expected);
        go_on(&mut daemon, 3);
        if signal == "KILL" {
            daemon.kill();
            expected.push("offline");
        } else {
            assert_eq!(daemon.stop_by(signal), Some(75), "{}", daemon.log());
            expected.push("stopped");
        }
        eventually("the last word", || statuses() == expected);
        assert!(!stage.out().join("wlasl_landmarks.npz").exists());
        daemon = stage.start(&[]);
    }
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(daemon.read_twice(), [""; 0]);
    assert_eq!(daemon.stop(), Some(0));
    stage.gave(&set.reference);
    // What was said before a cut is not said again, and what was to be said is said after it.
    assert_reported(&ears, &stage.out());
}

#[test]
fn without_a_broker_the_same_comes_out() {
    let set = set(SHORT);
    let stage = Stage::over(&set.dataset, None, "");
    let mut daemon = stage.start(&["--once"]);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    stage.gave(&set.reference);
    let recorded = daemon.recorded();
    // There is nothing left to do, and it knows.
    assert_eq!(stage.start(&["--once"]).wait(), Some(0));
    assert_eq!(daemon.recorded(), recorded);
    stage.gave(&set.reference);
}

#[test]
fn once_with_nothing_to_show_says_so() {
    let stage = Stage::with_own(1, None, "");
    crate::stage::put(stage.dataset(), "000", "short");
    for _ in 0..2 {
        let mut daemon = stage.start(&["--once"]);
        assert_eq!(daemon.wait(), Some(1), "{}", daemon.log());
    }
}
