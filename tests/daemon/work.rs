//! The job: its results and its messages, also when the process is stopped midway.

use crate::fixture::{
    DaemonFixture, LONG, ONE_WORKER, SHORT, assert_no_gap, broker, distinct, field_values, is_done,
    published, reference_job, subscribe_to_fleet, topic,
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

/// Asserts that the messages on `batch` and `fault` match the output folder.
#[track_caller]
pub(crate) fn assert_reported(subscriber: &Listener, out: &Path) {
    let lines = manifest(out);
    let batches: BTreeMap<u64, Value> = published(subscriber, topics::BATCH)
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
    // The plan contains every instance of the test datasets.
    assert_eq!(next, lines.len() as u64);
    let faults = distinct(subscriber, topics::FAULT).0.into_iter();
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
    assert_no_gap(subscriber, topics::BATCH);
    assert_no_gap(subscriber, topics::FAULT);
}

/// The retained messages on `status`, `state` and `progress`, as a newly connected subscriber receives them.
fn retained(port: u16) -> [Value; 3] {
    let late_subscriber = subscribe_to_fleet(port);
    let channels = [topics::STATUS, topics::STATE, topics::PROGRESS];
    let kept = || {
        channels.map(|channel| {
            let messages = late_subscriber.on(&topic(channel)).into_iter();
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
    let reference = reference_job(SHORT);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(broker.port()), "");
    let mut daemon = fixture.start(&[]);
    let last_progress = || {
        published(&subscriber, topics::PROGRESS)
            .pop()
            .unwrap_or_default()
    };
    daemon.until("the end", |_| {
        is_done(&subscriber)
            && published(&subscriber, topics::BATCH).len() == 3
            && published(&subscriber, topics::FAULT).len() == 1
            && last_progress()["done"] == SHORT
    });
    fixture.assert_results(&reference.out);
    assert_reported(&subscriber, &fixture.out());
    assert_eq!(
        field_values(&subscriber, topics::STATUS, "status"),
        ["online"]
    );
    let states = field_values(&subscriber, topics::STATE, "state");
    // Earlier states may pass before the daemon is connected.
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
    let progress = published(&subscriber, topics::PROGRESS);
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
    eventually("the stopped status", || {
        field_values(&subscriber, topics::STATUS, "status") == ["online", "stopped"]
    });
    let [status, state, progress] = retained(broker.port());
    assert_eq!(status["status"], "stopped");
    assert_eq!(state["state"], "idle");
    assert_eq!(progress, last);
}

/// Waits until `more` further clips are recorded.
#[track_caller]
pub(crate) fn wait_for_more_clips(daemon: &mut Daemon, more: usize) {
    let enough = daemon.recorded().len() + more;
    daemon.until("further clips", |d| d.recorded().len() >= enough);
}

#[test]
fn a_stopped_job_resumes_at_the_next_start() {
    let reference = reference_job(LONG);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(broker.port()), ONE_WORKER);
    let statuses = || field_values(&subscriber, topics::STATUS, "status");
    let mut expected = Vec::new();
    let mut daemon = fixture.start(&[]);
    for signal in ["TERM", "KILL", "INT", "KILL"] {
        expected.push("online");
        daemon.until("online", |_| statuses() == expected);
        wait_for_more_clips(&mut daemon, 3);
        if signal == "KILL" {
            daemon.kill();
            expected.push("offline");
        } else {
            assert_eq!(daemon.stop_by(signal), Some(75), "{}", daemon.log());
            expected.push("stopped");
        }
        eventually("the final status", || statuses() == expected);
        assert!(!fixture.out().join("wlasl_landmarks.npz").exists());
        daemon = fixture.start(&[]);
    }
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(daemon.reprocessed_clips(), [""; 0]);
    assert_eq!(daemon.stop(), Some(0));
    fixture.assert_results(&reference.out);
    // A kill loses no message, and a message that is published again keeps its `seq`.
    assert_reported(&subscriber, &fixture.out());
}

#[test]
fn without_a_broker_the_same_comes_out() {
    let reference = reference_job(SHORT);
    let fixture = DaemonFixture::with_dataset(&reference.dataset, None, "");
    let mut daemon = fixture.start(&["--once"]);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    fixture.assert_results(&reference.out);
    let recorded = daemon.recorded();
    // A second run finds nothing left to do.
    assert_eq!(fixture.start(&["--once"]).wait(), Some(0));
    assert_eq!(daemon.recorded(), recorded);
    fixture.assert_results(&reference.out);
}

#[test]
fn once_with_nothing_to_do_is_reported() {
    let fixture = DaemonFixture::with_own_dataset(1, None, "");
    crate::fixture::put(fixture.dataset(), "000", "short");
    for _ in 0..2 {
        let mut daemon = fixture.start(&["--once"]);
        assert_eq!(daemon.wait(), Some(1), "{}", daemon.log());
    }
}
