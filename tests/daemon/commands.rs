//! Commands: each id is executed once, always answered, and remembered over restarts.

use crate::fixture::{
    DaemonFixture, LONG, ONE_WORKER, SHORT, SIZE, assert_no_gap, broker, command,
    command_with_result, field_values, is_done, published, put, reference_job, replies,
    reply_states, state, subscribe_to_fleet, topic, write_metadata, write_reference,
};
use crate::work::wait_for_more_clips;
use handloom::digest::sha256_hex;
use handloom::messages::topics;
use serde_json::Value;
use std::fs;
use std::thread::sleep;
use std::time::Duration;
use test_support::broker::Broker;
use test_support::daemon::Daemon;
use test_support::listener::eventually;

/// How long a test waits before it asserts that the daemon did nothing.
const QUIET_PERIOD: Duration = Duration::from_millis(700);

/// Runs `act` and waits until the job enters the phase `name`, once more if it is in that phase already.
#[track_caller]
fn run_until_phase(daemon: &mut Daemon, name: &str, act: impl FnOnce(&mut Daemon)) {
    let before = daemon.phases(name);
    act(daemon);
    daemon.until(name, |d| d.phases(name) > before);
}

#[test]
fn a_paused_job_rests_until_it_is_resumed() {
    let reference = reference_job(LONG);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(broker.port()), ONE_WORKER);
    let mut daemon = fixture.start(&[]);
    wait_for_more_clips(&mut daemon, 2);
    command_with_result(&mut daemon, &subscriber, "pause", "p", "succeeded");
    daemon.until("the pause", |_| state(&subscriber).0 == "paused");
    assert!(
        state(&subscriber).1.contains("resume"),
        "{}",
        state(&subscriber).1
    );
    // Clips in progress are finished.
    daemon.until("idle workers", |d| d.recorded().len() == d.begun().len());
    let begun = daemon.begun().len();
    sleep(QUIET_PERIOD);
    assert_eq!(daemon.begun().len(), begun);
    assert_eq!(daemon.stop(), Some(75));
    run_until_phase(&mut daemon, "processing", |daemon| {
        *daemon = fixture.start(&[]);
    });
    sleep(QUIET_PERIOD);
    assert_eq!(daemon.begun().len(), begun);
    assert_eq!(state(&subscriber).0, "paused");
    command_with_result(&mut daemon, &subscriber, "resume", "r", "succeeded");
    daemon.until("processing", |_| state(&subscriber).0 == "processing");
    // If it were executed again, the job would stay paused.
    command(&subscriber, "pause", "p");
    daemon.until("the same answer", |_| {
        reply_states(&subscriber, "p").len() == 3
    });
    assert_eq!(
        reply_states(&subscriber, "p"),
        ["accepted", "succeeded", "succeeded"]
    );
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(reply_states(&subscriber, "r"), ["accepted", "succeeded"]);
    // The pause also applies to a later job, so an idle daemon reports it.
    let is_paused_by_command = || state(&subscriber).1.contains("; paused by command");
    command_with_result(&mut daemon, &subscriber, "pause", "q", "succeeded");
    daemon.until("the reported pause", |_| {
        is_paused_by_command() && is_done(&subscriber)
    });
    command_with_result(&mut daemon, &subscriber, "resume", "s", "succeeded");
    daemon.until("no reported pause", |_| {
        !is_paused_by_command() && is_done(&subscriber)
    });
    assert_eq!(daemon.reprocessed_clips(), [""; 0]);
    assert_eq!(daemon.stop(), Some(0));
    fixture.assert_results(&reference.out);
}

#[test]
fn a_cancelled_job_ends_until_it_is_resumed() {
    let reference = reference_job(LONG);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(broker.port()), ONE_WORKER);
    let mut daemon = fixture.start(&[]);
    wait_for_more_clips(&mut daemon, 2);
    run_until_phase(&mut daemon, "idle", |daemon| {
        command_with_result(daemon, &subscriber, "cancel", "c", "succeeded");
    });
    daemon.until("the idle state", |_| state(&subscriber).0 == "idle");
    assert!(
        state(&subscriber).1.contains("resume"),
        "{}",
        state(&subscriber).1
    );
    let begun = daemon.begun().len();
    for name in ["rescan", "retry-failed"] {
        let reply = command_with_result(&mut daemon, &subscriber, name, name, "failed");
        let reason = reply["reason"].as_str().unwrap();
        assert!(reason.contains("send resume first"), "{reason}");
    }
    command_with_result(&mut daemon, &subscriber, "cancel", "c2", "succeeded");
    sleep(QUIET_PERIOD);
    assert_eq!(daemon.begun().len(), begun);
    assert_eq!(daemon.stop(), Some(75));
    let mut daemon = fixture.start(&[]);
    daemon.until("an idle daemon", |_| {
        let (state, reason) = state(&subscriber);
        state == "idle" && reason.contains("cancelled")
    });
    assert_eq!(daemon.begun().len(), begun);
    command_with_result(&mut daemon, &subscriber, "resume", "r", "succeeded");
    wait_for_more_clips(&mut daemon, 1);
    // The daemon executed this id before its restart.
    command(&subscriber, "cancel", "c");
    daemon.until("the same answer", |_| {
        reply_states(&subscriber, "c").len() == 3
    });
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(
        reply_states(&subscriber, "c"),
        ["accepted", "succeeded", "succeeded"]
    );
    assert_eq!(daemon.reprocessed_clips(), [""; 0]);
    assert_eq!(daemon.stop(), Some(0));
    fixture.assert_results(&reference.out);
}

#[test]
fn a_rescan_reads_what_is_new_and_a_retry_what_failed() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(SHORT, Some(broker.port()), "");
    let mut daemon = fixture.start(&[]);
    daemon.until("the end", |_| is_done(&subscriber));
    let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let hello = owned(&["100", "000", "001", "002", "003"]);
    let book = owned(&["004", "005", "006", "007", "101"]);
    write_metadata(fixture.dataset(), &hello, &book);
    put(fixture.dataset(), "100", "c");
    put(fixture.dataset(), "101", "a");
    let new_recordings = |daemon: &mut Daemon, name: &str, id: &str| {
        let recorded = daemon.recorded().len();
        let mut reply = Value::Null;
        run_until_phase(daemon, "idle", |daemon| {
            reply = command_with_result(daemon, &subscriber, name, id, "succeeded");
        });
        let new = daemon.recorded().split_off(recorded);
        (reply["result"].clone(), new)
    };
    let (result, new) = new_recordings(&mut daemon, "rescan", "s");
    assert_eq!((&result["clips"], &result["done"]), (&10.into(), &8.into()));
    assert_eq!(new, ["100", "101"]);
    // A second rescan finds nothing new.
    let (result, new) = new_recordings(&mut daemon, "rescan", "s2");
    assert_eq!(
        (&result["clips"], &result["done"]),
        (&10.into(), &10.into())
    );
    assert_eq!(new, [""; 0]);
    put(fixture.dataset(), "003", "a");
    let (result, new) = new_recordings(&mut daemon, "retry-failed", "f");
    assert_eq!(result["clips"], 1);
    assert_eq!(new, ["003"]);
    let (result, new) = new_recordings(&mut daemon, "retry-failed", "f2");
    assert_eq!(result["clips"], 0);
    assert_eq!(new, [""; 0]);
    let whole = fixture.path("whole");
    write_reference(fixture.dataset(), &whole);
    fixture.assert_results(&whole);
    assert_eq!(daemon.stop(), Some(0));
    for id in ["s", "s2", "f", "f2"] {
        assert_eq!(
            reply_states(&subscriber, id),
            ["accepted", "succeeded"],
            "{id}"
        );
    }
}

#[test]
fn a_rescan_reads_a_new_clip_of_class_folders() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(SHORT, Some(broker.port()), "");
    let dataset = fixture.dataset();
    fs::remove_file(dataset.join("WLASL_v0.3.json")).unwrap();
    for n in 0..SHORT {
        let folder = dataset.join(if n < SHORT / 2 { "hello" } else { "book" });
        fs::create_dir_all(&folder).unwrap();
        let name = format!("{n:03}.mp4");
        fs::rename(dataset.join("videos").join(&name), folder.join(name)).unwrap();
    }
    fs::remove_dir(dataset.join("videos")).unwrap();
    let mut daemon = fixture.start(&[]);
    daemon.until("the end", |_| is_done(&subscriber));
    fs::hard_link(dataset.join("hello/000.mp4"), dataset.join("hello/100.mp4")).unwrap();
    let recorded = daemon.recorded().len();
    run_until_phase(&mut daemon, "idle", |daemon| {
        let reply = command_with_result(daemon, &subscriber, "rescan", "s", "succeeded");
        let result = &reply["result"];
        assert_eq!((&result["clips"], &result["done"]), (&9.into(), &8.into()));
    });
    assert_eq!(daemon.recorded().split_off(recorded), ["100"]);
    let whole = fixture.path("whole");
    write_reference(dataset, &whole);
    fixture.assert_results(&whole);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_snapshot_shows_the_current_frame() {
    let reference = reference_job(LONG);
    let (broker, subscriber) = broker();
    let allowed = "commands = [\"pause\", \"resume\", \"snapshot\"]\n";
    let fixture = DaemonFixture::with_dataset(
        &reference.dataset,
        Some(broker.port()),
        &format!("{allowed}{ONE_WORKER}"),
    );
    let mut daemon = fixture.start(&[]);
    wait_for_more_clips(&mut daemon, 1);
    let reply = command_with_result(&mut daemon, &subscriber, "snapshot", "s1", "succeeded");
    let result = &reply["result"];
    assert_eq!(result["topic"], topic(topics::SNAPSHOT));
    let snapshots = || subscriber.on(&topic(topics::SNAPSHOT));
    daemon.until("a snapshot", |_| snapshots().len() == 1);
    let jpeg = &snapshots()[0];
    assert!(!jpeg.retained);
    assert_eq!(result["bytes"], jpeg.payload.len());
    assert_eq!(result["sha256"], sha256_hex(&jpeg.payload));
    let snapshot =
        image::load_from_memory_with_format(&jpeg.payload, image::ImageFormat::Jpeg).unwrap();
    let (width, height) = (snapshot.width() as usize, snapshot.height() as usize);
    assert_eq!((width, height), SIZE);
    assert_eq!(
        (&result["width"], &result["height"]),
        (&width.into(), &height.into())
    );
    // The reply names a clip that is in progress or just recorded.
    let id = result["video_id"].as_str().unwrap();
    assert!(daemon.begun().iter().any(|clip| clip == id), "{id}");

    // A paused job processes no frame.
    command_with_result(&mut daemon, &subscriber, "pause", "p", "succeeded");
    daemon.until("idle workers", |d| d.recorded().len() == d.begun().len());
    command(&subscriber, "snapshot", "s2");
    daemon.until("the first answer", |_| {
        reply_states(&subscriber, "s2") == ["accepted"]
    });
    daemon.kill();
    let mut daemon = fixture.start(&[]);
    daemon.until("the last answer", |_| {
        reply_states(&subscriber, "s2").len() == 2
    });
    let reply = replies(&subscriber, "s2").pop().unwrap();
    assert_eq!(reply["state"], "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("restarted"), "{reason}");
    // A client that missed the reply sends the command again and gets the same reply.
    command(&subscriber, "snapshot", "s2");
    daemon.until("the same answer", |_| {
        reply_states(&subscriber, "s2").len() == 3
    });
    assert_eq!(
        reply_states(&subscriber, "s2"),
        ["accepted", "failed", "failed"]
    );
    command(&subscriber, "snapshot", "s3");
    daemon.until("the first answer", |_| {
        reply_states(&subscriber, "s3") == ["accepted"]
    });
    let reply = command_with_result(&mut daemon, &subscriber, "snapshot", "s4", "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("another snapshot"), "{reason}");
    daemon.until("the snapshot timeout", |_| {
        reply_states(&subscriber, "s3").len() == 2
    });
    let reply = replies(&subscriber, "s3").pop().unwrap();
    assert_eq!(reply["state"], "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("no frame was processed"), "{reason}");
    assert_eq!(snapshots().len(), 1);
    assert_eq!(daemon.stop(), Some(75));
    assert_no_gap(&subscriber, topics::REPLY);
}

#[test]
fn what_is_not_allowed_is_refused() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(1, Some(broker.port()), "");
    let mut daemon = fixture.start(&[]);
    daemon.until("the end", |_| is_done(&subscriber));
    let refused = |daemon: &mut Daemon, name: &str, id: &str, all: &[&str]| {
        command(&subscriber, name, id);
        daemon.until("an answer", |_| !reply_states(&subscriber, id).is_empty());
        let reply = replies(&subscriber, id).pop().unwrap();
        assert_eq!(
            (&reply["state"], &reply["command"]),
            (&"failed".into(), &name.into())
        );
        let reason = reply["reason"].as_str().unwrap();
        for word in all {
            assert!(reason.contains(word), "no \"{word}\" in {reason}");
        }
    };
    // Snapshots show people, so they are off by default.
    let off = [
        "snapshot is not allowed",
        "pause, resume, cancel, rescan, retry-failed",
        "[mqtt] commands",
    ];
    refused(&mut daemon, "snapshot", "1", &off);
    refused(&mut daemon, "film", "2", &["there is no command \"film\""]);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_retained_command_does_nothing_at_a_later_connection() {
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_own_dataset(1, Some(broker.port()), "");
    subscriber.publish("handloom/box/cmd/pause", true, "{\"id\": \"early\"}");
    let mut daemon = fixture.start(&[]);
    daemon.until("an answer", |_| {
        !reply_states(&subscriber, "early").is_empty()
    });
    let reply = replies(&subscriber, "early").remove(0);
    assert_eq!(reply["state"], "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("retained"), "{reason}");
    daemon.until("the end", |_| is_done(&subscriber));
    // To existing subscribers the broker sends it without the retain flag, like any other command.
    subscriber.publish("handloom/box/cmd/resume", true, "{\"id\": \"live\"}");
    daemon.until("its answers", |_| {
        reply_states(&subscriber, "live").len() == 2
    });
    assert_eq!(daemon.stop(), Some(0));
    // The broker sends both again at every connection. The daemon repeats its previous replies.
    let mut daemon = fixture.start(&[]);
    daemon.until("more answers", |_| {
        reply_states(&subscriber, "early").len() >= 2
            && reply_states(&subscriber, "live").len() >= 3
    });
    assert!(
        reply_states(&subscriber, "early")
            .iter()
            .all(|state| state == "failed")
    );
    assert_eq!(
        reply_states(&subscriber, "live")[..3],
        ["accepted", "succeeded", "succeeded"]
    );
    assert!(!field_values(&subscriber, topics::STATE, "state").contains(&"paused".to_owned()));
    // Commands are answered before the dataset is read. A daemon that is stopped before that exits with 75.
    daemon.until("the end again", |_| is_done(&subscriber));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn commands_wait_for_whoever_is_away() {
    let mut broker = Broker::start(true);
    let subscriber = subscribe_to_fleet(broker.port());
    let fixture = DaemonFixture::with_own_dataset(1, Some(broker.port()), "");
    let mut daemon = fixture.start(&[]);
    daemon.until("the end", |_| is_done(&subscriber));
    command_with_result(
        &mut daemon,
        &subscriber,
        "resume",
        "subscribed",
        "succeeded",
    );
    assert_eq!(daemon.stop(), Some(0));
    let ids: Vec<String> = (0..20).map(|n| format!("waits-{n:02}")).collect();
    for (n, id) in ids.iter().enumerate() {
        command(&subscriber, ["pause", "resume"][n % 2], id);
    }
    let last = ids.last().unwrap().as_bytes();
    eventually("the commands on the broker's disk", || {
        broker.stored().windows(last.len()).any(|part| part == last)
    });
    broker.restart();
    subscriber.wait_subscribed(2);
    let mut daemon = fixture.start(&[]);
    daemon.until("all answers", |_| {
        ids.iter()
            .all(|id| reply_states(&subscriber, id).len() >= 2)
    });
    for id in &ids {
        assert_eq!(
            reply_states(&subscriber, id),
            ["accepted", "succeeded"],
            "{id}"
        );
    }
    // The daemon accepts them in the order in which they were sent.
    let arrived = published(&subscriber, topics::REPLY).into_iter();
    let arrived: Vec<Value> = arrived
        .filter(|r| r["state"] == "accepted" && r["id"] != "subscribed")
        .map(|r| r["id"].clone())
        .collect();
    assert_eq!(arrived, ids);
    daemon.until("the end again", |_| is_done(&subscriber));
    // The broker restarts while the daemon runs.
    broker.restart();
    subscriber.wait_subscribed(3);
    command_with_result(&mut daemon, &subscriber, "pause", "after", "succeeded");
    assert_eq!(daemon.stop(), Some(0));
    assert_no_gap(&subscriber, topics::REPLY);
}
