//! Commands: obeyed once, answered always, remembered over restarts.

use crate::stage::{
    LONG, SHORT, SIZE, SLOWLY, Stage, answers, assert_no_gap, broker, command, is_done, listen,
    obeys, put, refer, replies, said, set, state, topic, words, write_metadata,
};
use crate::work::go_on;
use handloom::digest::sha256_hex;
use handloom::messages::topics;
use serde_json::Value;
use std::fs;
use std::thread::sleep;
use std::time::Duration;
use test_support::broker::Broker;
use test_support::daemon::Daemon;
use test_support::listener::eventually;

/// Long enough for a daemon that does what it should not to be seen doing it.
const MOMENT: Duration = Duration::from_millis(700);

/// Acts, and waits until the job comes to a phase, which it may be in already.
#[track_caller]
fn comes_to(daemon: &mut Daemon, name: &str, act: impl FnOnce(&mut Daemon)) {
    let before = daemon.phases(name);
    act(daemon);
    daemon.until(name, |d| d.phases(name) > before);
}

#[test]
fn a_paused_job_rests_until_it_is_resumed() {
    let set = set(LONG);
    let (broker, ears) = broker();
    let stage = Stage::over(&set.dataset, Some(broker.port()), SLOWLY);
    let mut daemon = stage.start(&[]);
    go_on(&mut daemon, 2);
    obeys(&mut daemon, &ears, "pause", "p", "succeeded");
    daemon.until("the pause", |_| state(&ears).0 == "paused");
    assert!(state(&ears).1.contains("resume"), "{}", state(&ears).1);
    // What is in hand is finished.
    daemon.until("rest", |d| d.recorded().len() == d.begun().len());
    let begun = daemon.begun().len();
    sleep(MOMENT);
    assert_eq!(daemon.begun().len(), begun);
    assert_eq!(daemon.stop(), Some(75));
    comes_to(&mut daemon, "processing", |daemon| {
        *daemon = stage.start(&[]);
    });
    sleep(MOMENT);
    assert_eq!(daemon.begun().len(), begun);
    assert_eq!(state(&ears).0, "paused");
    obeys(&mut daemon, &ears, "resume", "r", "succeeded");
    daemon.until("work", |_| state(&ears).0 == "processing");
    // Obeyed again, this would be the end of all work.
    command(&ears, "pause", "p");
    daemon.until("the same answer", |_| answers(&ears, "p").len() == 3);
    assert_eq!(answers(&ears, "p"), ["accepted", "succeeded", "succeeded"]);
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(answers(&ears, "r"), ["accepted", "succeeded"]);
    // It would hold a later job, so an idle daemon says so.
    let says_so = || state(&ears).1.contains("; paused by command");
    obeys(&mut daemon, &ears, "pause", "q", "succeeded");
    daemon.until("word of it", |_| says_so() && is_done(&ears));
    obeys(&mut daemon, &ears, "resume", "s", "succeeded");
    daemon.until("no word of it", |_| !says_so() && is_done(&ears));
    assert_eq!(daemon.read_twice(), [""; 0]);
    assert_eq!(daemon.stop(), Some(0));
    stage.gave(&set.reference);
}

#[test]
fn a_cancelled_job_ends_until_it_is_resumed() {
    let set = set(LONG);
    let (broker, ears) = broker();
    let stage = Stage::over(&set.dataset, Some(broker.port()), SLOWLY);
    let mut daemon = stage.start(&[]);
    go_on(&mut daemon, 2);
    comes_to(&mut daemon, "idle", |daemon| {
        obeys(daemon, &ears, "cancel", "c", "succeeded");
    });
    daemon.until("word of it", |_| state(&ears).0 == "idle");
    assert!(state(&ears).1.contains("resume"), "{}", state(&ears).1);
    let begun = daemon.begun().len();
    for name in ["rescan", "retry-failed"] {
        let reply = obeys(&mut daemon, &ears, name, name, "failed");
        let reason = reply["reason"].as_str().unwrap();
        assert!(reason.contains("send resume first"), "{reason}");
    }
    obeys(&mut daemon, &ears, "cancel", "c2", "succeeded");
    sleep(MOMENT);
    assert_eq!(daemon.begun().len(), begun);
    assert_eq!(daemon.stop(), Some(75));
    let mut daemon = stage.start(&[]);
    daemon.until("an idle daemon", |_| {
        let (state, reason) = state(&ears);
        state == "idle" && reason.contains("cancelled")
    });
    assert_eq!(daemon.begun().len(), begun);
    obeys(&mut daemon, &ears, "resume", "r", "succeeded");
    go_on(&mut daemon, 1);
    // It came before, over a restart even.
    command(&ears, "cancel", "c");
    daemon.until("the same answer", |_| answers(&ears, "c").len() == 3);
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(answers(&ears, "c"), ["accepted", "succeeded", "succeeded"]);
    assert_eq!(daemon.read_twice(), [""; 0]);
    assert_eq!(daemon.stop(), Some(0));
    stage.gave(&set.reference);
}

#[test]
fn a_rescan_reads_what_is_new_and_a_retry_what_failed() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(SHORT, Some(broker.port()), "");
    let mut daemon = stage.start(&[]);
    daemon.until("the end", |_| is_done(&ears));
    let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let hello = owned(&["100", "000", "001", "002", "003"]);
    let book = owned(&["004", "005", "006", "007", "101"]);
    write_metadata(stage.dataset(), &hello, &book);
    put(stage.dataset(), "100", "c");
    put(stage.dataset(), "101", "a");
    let news = |daemon: &mut Daemon, name: &str, id: &str| {
        let recorded = daemon.recorded().len();
        let mut reply = Value::Null;
        comes_to(daemon, "idle", |daemon| {
            reply = obeys(daemon, &ears, name, id, "succeeded");
        });
        let new = daemon.recorded().split_off(recorded);
        (reply["result"].clone(), new)
    };
    let (result, new) = news(&mut daemon, "rescan", "s");
    assert_eq!((&result["clips"], &result["done"]), (&10.into(), &8.into()));
    assert_eq!(new, ["100", "101"]);
    // The same once more has nothing to do, and neither has the same command again.
    let (result, new) = news(&mut daemon, "rescan", "s2");
    assert_eq!(
        (&result["clips"], &result["done"]),
        (&10.into(), &10.into())
    );
    assert_eq!(new, [""; 0]);
    put(stage.dataset(), "003", "a");
    let (result, new) = news(&mut daemon, "retry-failed", "f");
    assert_eq!(result["clips"], 1);
    assert_eq!(new, ["003"]);
    let (result, new) = news(&mut daemon, "retry-failed", "f2");
    assert_eq!(result["clips"], 0);
    assert_eq!(new, [""; 0]);
    let whole = stage.path("whole");
    refer(stage.dataset(), &whole);
    stage.gave(&whole);
    assert_eq!(daemon.stop(), Some(0));
    for id in ["s", "s2", "f", "f2"] {
        assert_eq!(answers(&ears, id), ["accepted", "succeeded"], "{id}");
    }
}

#[test]
fn a_rescan_reads_a_new_clip_of_class_folders() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(SHORT, Some(broker.port()), "");
    let dataset = stage.dataset();
    fs::remove_file(dataset.join("WLASL_v0.3.json")).unwrap();
    for n in 0..SHORT {
        let folder = dataset.join(if n < SHORT / 2 { "hello" } else { "book" });
        fs::create_dir_all(&folder).unwrap();
        let name = format!("{n:03}.mp4");
        fs::rename(dataset.join("videos").join(&name), folder.join(name)).unwrap();
    }
    fs::remove_dir(dataset.join("videos")).unwrap();
    let mut daemon = stage.start(&[]);
    daemon.until("the end", |_| is_done(&ears));
    fs::hard_link(dataset.join("hello/000.mp4"), dataset.join("hello/100.mp4")).unwrap();
    let recorded = daemon.recorded().len();
    comes_to(&mut daemon, "idle", |daemon| {
        let reply = obeys(daemon, &ears, "rescan", "s", "succeeded");
        let result = &reply["result"];
        assert_eq!((&result["clips"], &result["done"]), (&9.into(), &8.into()));
    });
    assert_eq!(daemon.recorded().split_off(recorded), ["100"]);
    let whole = stage.path("whole");
    refer(dataset, &whole);
    stage.gave(&whole);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_snapshot_shows_what_is_looked_at() {
    let set = set(LONG);
    let (broker, ears) = broker();
    let allowed = "commands = [\"pause\", \"resume\", \"snapshot\"]\n";
    let stage = Stage::over(
        &set.dataset,
        Some(broker.port()),
        &format!("{allowed}{SLOWLY}"),
    );
    let mut daemon = stage.start(&[]);
    go_on(&mut daemon, 1);
    let reply = obeys(&mut daemon, &ears, "snapshot", "s1", "succeeded");
    let result = &reply["result"];
    assert_eq!(result["topic"], topic(topics::SNAPSHOT));
    let pictures = || ears.on(&topic(topics::SNAPSHOT));
    daemon.until("a picture", |_| pictures().len() == 1);
    let jpeg = &pictures()[0];
    assert!(!jpeg.retained);
    assert_eq!(result["bytes"], jpeg.payload.len());
    assert_eq!(result["sha256"], sha256_hex(&jpeg.payload));
    let picture =
        image::load_from_memory_with_format(&jpeg.payload, image::ImageFormat::Jpeg).unwrap();
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    assert_eq!((width, height), SIZE);
    assert_eq!(
        (&result["width"], &result["height"]),
        (&width.into(), &height.into())
    );
    // It is the clip that was named: in hand, or just recorded.
    let id = result["video_id"].as_str().unwrap();
    assert!(daemon.begun().iter().any(|clip| clip == id), "{id}");

    // Nothing is looked at any more.
    obeys(&mut daemon, &ears, "pause", "p", "succeeded");
    daemon.until("rest", |d| d.recorded().len() == d.begun().len());
    command(&ears, "snapshot", "s2");
    daemon.until("the first answer", |_| answers(&ears, "s2") == ["accepted"]);
    daemon.kill();
    let mut daemon = stage.start(&[]);
    daemon.until("the last answer", |_| answers(&ears, "s2").len() == 2);
    let reply = replies(&ears, "s2").pop().unwrap();
    assert_eq!(reply["state"], "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("restarted"), "{reason}");
    // Sent again by somebody who has not heard: it stays so.
    command(&ears, "snapshot", "s2");
    daemon.until("the same answer", |_| answers(&ears, "s2").len() == 3);
    assert_eq!(answers(&ears, "s2"), ["accepted", "failed", "failed"]);
    command(&ears, "snapshot", "s3");
    daemon.until("the first answer", |_| answers(&ears, "s3") == ["accepted"]);
    let reply = obeys(&mut daemon, &ears, "snapshot", "s4", "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("another snapshot"), "{reason}");
    daemon.until("the end of patience", |_| answers(&ears, "s3").len() == 2);
    let reply = replies(&ears, "s3").pop().unwrap();
    assert_eq!(reply["state"], "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("no frame was processed"), "{reason}");
    assert_eq!(pictures().len(), 1);
    assert_eq!(daemon.stop(), Some(75));
    assert_no_gap(&ears, topics::REPLY);
}

#[test]
fn what_is_not_allowed_is_refused() {
    let (broker, ears) = broker();
    let stage = Stage::with_own(1, Some(broker.port()), "");
    let mut daemon = stage.start(&[]);
    daemon.until("the end", |_| is_done(&ears));
    let refused = |daemon: &mut Daemon, name: &str, id: &str, all: &[&str]| {
        command(&ears, name, id);
        daemon.until("an answer", |_| !answers(&ears, id).is_empty());
        let reply = replies(&ears, id).pop().unwrap();
        assert_eq!(
            (&reply["state"], &reply["command"]),
            (&"failed".into(), &name.into())
        );
        let reason = reply["reason"].as_str().unwrap();
        for words in all {
            assert!(reason.contains(words), "no \"{words}\" in {reason}");
        }
    };
    // It shows people: off unless asked for.
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
    let (broker, ears) = broker();
    let stage = Stage::with_own(1, Some(broker.port()), "");
    ears.publish("handloom/box/cmd/pause", true, "{\"id\": \"early\"}");
    let mut daemon = stage.start(&[]);
    daemon.until("an answer", |_| !answers(&ears, "early").is_empty());
    let reply = replies(&ears, "early").remove(0);
    assert_eq!(reply["state"], "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("retained"), "{reason}");
    daemon.until("the end", |_| is_done(&ears));
    // The broker does not mark it as retained for those who listen already: it is one like any other.
    ears.publish("handloom/box/cmd/resume", true, "{\"id\": \"live\"}");
    daemon.until("its answers", |_| answers(&ears, "live").len() == 2);
    assert_eq!(daemon.stop(), Some(0));
    // Both come again with every connection. What was answered is answered as before.
    let mut daemon = stage.start(&[]);
    daemon.until("more answers", |_| {
        answers(&ears, "early").len() >= 2 && answers(&ears, "live").len() >= 3
    });
    assert!(
        answers(&ears, "early")
            .iter()
            .all(|state| state == "failed")
    );
    assert_eq!(
        answers(&ears, "live")[..3],
        ["accepted", "succeeded", "succeeded"]
    );
    assert!(!words(&ears, topics::STATE, "state").contains(&"paused".to_owned()));
    // Commands are answered before the dataset is read: who stops it before it knows of no clip left ends with 75.
    daemon.until("the end again", |_| is_done(&ears));
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn commands_wait_for_whoever_is_away() {
    let mut broker = Broker::start(true);
    let ears = listen(broker.port());
    let stage = Stage::with_own(1, Some(broker.port()), "");
    let mut daemon = stage.start(&[]);
    daemon.until("the end", |_| is_done(&ears));
    obeys(&mut daemon, &ears, "resume", "subscribed", "succeeded");
    assert_eq!(daemon.stop(), Some(0));
    let ids: Vec<String> = (0..20).map(|n| format!("waits-{n:02}")).collect();
    for (n, id) in ids.iter().enumerate() {
        command(&ears, ["pause", "resume"][n % 2], id);
    }
    let last = ids.last().unwrap().as_bytes();
    eventually("the broker's disk to have them", || {
        broker.stored().windows(last.len()).any(|part| part == last)
    });
    broker.restart();
    ears.wait_subscribed(2);
    let mut daemon = stage.start(&[]);
    daemon.until("all answers", |_| {
        ids.iter().all(|id| answers(&ears, id).len() >= 2)
    });
    for id in &ids {
        assert_eq!(answers(&ears, id), ["accepted", "succeeded"], "{id}");
    }
    // In the order in which they were given.
    let arrived = said(&ears, topics::REPLY).into_iter();
    let arrived: Vec<Value> = arrived
        .filter(|r| r["state"] == "accepted" && r["id"] != "subscribed")
        .map(|r| r["id"].clone())
        .collect();
    assert_eq!(arrived, ids);
    daemon.until("the end again", |_| is_done(&ears));
    // The broker is lost and comes back while the daemon lives.
    broker.restart();
    ears.wait_subscribed(3);
    obeys(&mut daemon, &ears, "pause", "after", "succeeded");
    assert_eq!(daemon.stop(), Some(0));
    assert_no_gap(&ears, topics::REPLY);
}
