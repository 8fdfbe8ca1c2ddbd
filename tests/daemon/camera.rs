//! The daemon's camera: takes on command and a missing camera, with or without a job.

use crate::fixture::{
    DaemonFixture, SHORT, SIZE, broker, command_with_result, is_done, published, reference_job,
    replies, reply_states, state,
};
use handloom::draw::scene::signing_scene;
use handloom::messages::topics;
use handloom::storage::batches::{FINAL_NAME, batch_path};
use handloom::storage::npz::NpzReader;
use handloom::system::disk;
use handloom::video::encode::Codec;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use test_support::daemon::Daemon;
use test_support::listener::Listener;
use test_support::{manifest, npz_files, print_note, render_clip, scratch, scratch_in_memory};

/// Writes an image of a hand to `path`.
pub(crate) fn write_hand_image(path: &Path) {
    let scene = signing_scene(0, 10, SIZE.0, SIZE.1);
    image::save_buffer(
        path,
        scene.pixels(),
        320,
        240,
        image::ExtendedColorType::Rgb8,
    )
    .unwrap();
}

/// Config lines for a camera that shows the file `still`; a sign lasts at most 1.2 s.
pub(crate) fn camera_config(write_hand_image: &Path) -> String {
    let device = format!("file:{}", write_hand_image.display());
    format!("[camera]\ndevice = {device:?}\nfps = 10\nmax_seconds = 1.2\n")
}

/// A daemon with a camera that sees a hand, and without a job; `more` is added to its config.
fn camera_alone(port: u16, more: &str) -> DaemonFixture {
    let mut fixture = DaemonFixture::with_dataset(Path::new(""), Some(port), more);
    let hand = fixture.path("hand.png");
    write_hand_image(&hand);
    // The tests count detected hands, so they need the real models.
    fixture.add("[models]\n");
    if !more.contains("[sequence]") {
        // A busy machine drops frames.
        fixture.add("[sequence]\nmin_frames = 1\n");
    }
    fixture.add(&camera_config(&hand));
    fixture
}

/// The daemon's folder of takes.
fn takes(fixture: &DaemonFixture) -> PathBuf {
    fixture.out().join("camera")
}

/// Sends a command with this payload, waits for its final reply, asserts that its state is `word`, and returns it.
#[track_caller]
pub(crate) fn request_recording(
    daemon: &mut Daemon,
    subscriber: &Listener,
    name: &str,
    payload: &Value,
    word: &str,
) -> Value {
    let id = payload["id"].as_str().unwrap();
    subscriber.publish(
        &format!("handloom/box/cmd/{name}"),
        false,
        payload.to_string(),
    );
    daemon.until(&format!("the final reply to {name} {id}"), |_| {
        reply_states(subscriber, id)
            .last()
            .is_some_and(|last| last != "accepted")
    });
    let last = replies(subscriber, id).pop().unwrap();
    assert_eq!(last["state"], word, "{last} {}", daemon.log());
    last
}

#[test]
fn takes_are_recorded_and_discarded_on_command() {
    let (broker, subscriber) = broker();
    // The daemon needs no dataset when it has a camera.
    let commands = "commands = [\"record\", \"undo\", \"snapshot\", \"cancel\"]\n";
    let fixture = camera_alone(broker.port(), commands);
    let mut daemon = fixture.start(&[]);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");

    let two = json!({"id": "r1", "gloss": "book", "count": 2, "countdown": 0.2});
    let reply = request_recording(&mut daemon, &subscriber, "record", &two, "succeeded");
    assert_eq!(reply["result"]["takes"], json!(["box-00000", "box-00001"]));
    assert_eq!(reply_states(&subscriber, "r1"), ["accepted", "succeeded"]);
    let reply = command_with_result(&mut daemon, &subscriber, "undo", "u1", "succeeded");
    assert_eq!(reply["result"]["id"], "box-00001");
    let no_gloss = json!({"id": "r2", "gloss": " "});
    let reply = request_recording(&mut daemon, &subscriber, "record", &no_gloss, "failed");
    assert!(
        reply["reason"].as_str().unwrap().contains("is not valid"),
        "{reply}"
    );
    let reply = command_with_result(&mut daemon, &subscriber, "snapshot", "s1", "succeeded");
    assert_eq!(
        (&reply["result"]["width"], &reply["result"]["hands"]),
        (&320.into(), &1.into())
    );

    // A replaced request and a cancelled request each get a final reply.
    let many = |id: &str, gloss: &str| json!({"id": id, "gloss": gloss, "count": 100});
    for (id, gloss) in [("r3", "deaf"), ("r4", "cat")] {
        subscriber.publish(
            "handloom/box/cmd/record",
            false,
            many(id, gloss).to_string(),
        );
    }
    daemon.until("the final reply to r3", |_| {
        reply_states(&subscriber, "r3").len() == 2
    });
    let last = replies(&subscriber, "r3").pop().unwrap();
    assert_eq!(last["state"], "failed");
    assert!(
        last["reason"].as_str().unwrap().contains("replaced"),
        "{last}"
    );
    command_with_result(&mut daemon, &subscriber, "cancel", "c1", "succeeded");
    daemon.until("the final reply to r4", |_| {
        reply_states(&subscriber, "r4").len() == 2
    });

    daemon.until("the camera's health", |_| {
        let last = published(&subscriber, topics::HEALTH)
            .pop()
            .unwrap_or_default();
        last["camera"]["fps"].as_f64().is_some_and(|fps| fps > 1.0)
    });
    let batches = published(&subscriber, topics::BATCH);
    assert_eq!(
        (&batches[0]["path"], &batches[0]["rows"]),
        (&"batches/00000.npz".into(), &2.into())
    );
    assert_eq!(daemon.stop(), Some(0));

    let labels = NpzReader::open(&takes(&fixture).join(FINAL_NAME))
        .unwrap()
        .strings("labels")
        .unwrap();
    assert_eq!(labels[0], "book");
    assert!(
        !labels[1..].iter().any(|label| label == "book"),
        "{labels:?}"
    );
    let lines = manifest(&takes(&fixture));
    assert_eq!(lines[1]["state"], "discarded");
}

/// Whether the mirror equals the folder of takes, and `sha256sum` confirms the mirror's list.
fn is_mirrored(takes: &Path, mirror: &Path) -> bool {
    let Ok(sums) = fs::read_to_string(mirror.join("SHA256SUMS")) else {
        return false;
    };
    let mut listed: Vec<&str> = sums
        .lines()
        .map(|l| l.split_once("  ").unwrap().1)
        .collect();
    listed.sort_unstable();
    let mut files: Vec<String> = npz_files(takes).into_keys().collect();
    let others = ["label_map.json", "manifest.jsonl", "run.json"];
    files.extend(others.map(str::to_owned));
    files.sort();
    let is_equal = |name: &String| {
        fs::read(takes.join(name))
            .is_ok_and(|is| fs::read(mirror.join(name)).is_ok_and(|m| m == is))
    };
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(mirror)
        .output()
        .unwrap();
    listed == files && files.iter().all(is_equal) && checked.status.success()
}

#[test]
fn takes_are_mirrored_like_the_jobs_results() {
    let (broker, subscriber) = broker();
    let fixture = camera_alone(broker.port(), "");
    let (takes, root) = (takes(&fixture), fixture.path("mirror"));
    let mirror = root.join("camera");
    let override_arg = format!("output.mirror={}", root.display());
    let mut daemon = fixture.start(&["--set", &override_arg]);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    // A full batch and a partial one.
    let four = json!({"id": "r1", "gloss": "book", "count": 4});
    request_recording(&mut daemon, &subscriber, "record", &four, "succeeded");
    daemon.until("the fault of the missing mirror", |_| {
        let faults = published(&subscriber, topics::FAULT);
        faults.iter().any(|f| f["component"] == "mirror")
    });
    assert!(!root.exists(), "the daemon never creates it");
    fs::create_dir(&root).unwrap();
    daemon.until("the copies", |_| is_mirrored(&takes, &mirror));
    assert!(mirror.join("batches/00001.npz").exists());
    // A take that is discarded from a full batch is also removed from the mirror's copy.
    for id in ["u1", "u2"] {
        command_with_result(&mut daemon, &subscriber, "undo", id, "succeeded");
    }
    let rows = |folder: &Path| {
        let mut batch = NpzReader::open(&batch_path(folder, 0)).unwrap();
        batch.strings("video_ids").unwrap()
    };
    assert_eq!(rows(&takes), ["box-00000", "box-00001"]);
    daemon.until("the newer copies", |_| is_mirrored(&takes, &mirror));
    assert_eq!(rows(&mirror), rows(&takes));
    assert_eq!(daemon.stop(), Some(0));
    let faults = published(&subscriber, topics::FAULT);
    assert_eq!(faults.len(), 1, "{faults:?}");
}

/// Takes cannot be recorded again, so newer takes must not replace the copies of those on a failed disk.
#[test]
fn the_mirror_of_lost_takes_is_left_alone() {
    let (broker, subscriber) = broker();
    let fixture = camera_alone(broker.port(), "");
    let (takes, root) = (takes(&fixture), fixture.path("mirror"));
    let mirror = root.join("camera");
    fs::create_dir(&root).unwrap();
    let override_arg = format!("output.mirror={}", root.display());
    let record = |daemon: &mut Daemon, id: &str, count: u32| {
        daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
        let request = json!({"id": id, "gloss": "book", "count": count});
        request_recording(daemon, &subscriber, "record", &request, "succeeded");
    };
    let mut daemon = fixture.start(&["--set", &override_arg]);
    record(&mut daemon, "r1", 2);
    daemon.until("the copies", |_| is_mirrored(&takes, &mirror));
    assert_eq!(daemon.stop(), Some(0));
    let copies = || (npz_files(&mirror), manifest(&mirror));
    let before = copies();
    // The disk fails.
    fs::remove_dir_all(fixture.out()).unwrap();
    let mut daemon = fixture.start(&["--set", &override_arg]);
    record(&mut daemon, "r2", 1);
    let reasons = || -> Vec<String> {
        let faults = published(&subscriber, topics::FAULT).into_iter();
        let reasons = faults.map(|f| f["reason"].as_str().unwrap().to_owned());
        reasons.collect()
    };
    daemon.until("the fault of the mirror", |_| {
        let notice = format!("{} is the copy of another output folder", mirror.display());
        reasons().iter().any(|reason| reason.contains(&notice))
    });
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(copies(), before);
    // The daemon does not replace the copies after they are copied back, either.
    fs::remove_dir_all(&takes).unwrap();
    fs::create_dir_all(takes.join("batches")).unwrap();
    for name in before
        .0
        .keys()
        .map(String::as_str)
        .chain(["manifest.jsonl", "run.json"])
    {
        fs::copy(mirror.join(name), takes.join(name)).unwrap();
    }
    let mut daemon = fixture.start(&["--set", &override_arg]);
    daemon.until("the fault of the takes", |_| {
        let notice = |reason: &String| {
            reason.contains("results that its ledger does not know")
                && reason.contains("camera.path")
        };
        reasons().iter().any(notice)
    });
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!((npz_files(&takes), manifest(&takes)), before);
    assert_eq!(copies(), before);
}

/// Sets the config's disk reserve to more than any disk has, or back, and has the daemon reload it.
fn make_short(fixture: &DaemonFixture, daemon: &Daemon, is_short: bool) {
    let roomy = fixture.config();
    let short = roomy
        .replace("reserve_mib = 1", "reserve_mib = 1048575")
        .replace("disk_resume_mib = 2", "disk_resume_mib = 1048576");
    let config = if is_short { short } else { roomy };
    fs::write(fixture.path("handloom.toml"), config).unwrap();
    daemon.signal("HUP");
}

#[track_caller]
fn until_takes_wait(daemon: &mut Daemon, subscriber: &Listener) {
    daemon.until("the report that takes wait", |_| {
        let (state, reason) = state(subscriber);
        state == "degraded" && reason.contains("camera: takes wait for room")
    });
}

#[test]
fn takes_wait_while_the_disks_reserve_is_touched() {
    let (broker, subscriber) = broker();
    let fixture = camera_alone(broker.port(), "");
    let mut daemon = fixture.start(&[]);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    let one = json!({"id": "r1", "gloss": "book", "countdown": 5});
    subscriber.publish("handloom/box/cmd/record", false, one.to_string());
    // The answer is published before the camera has the request.
    daemon.until("the request", |daemon| {
        daemon.log().contains("recording requested")
    });
    make_short(&fixture, &daemon, true);
    until_takes_wait(&mut daemon, &subscriber);
    daemon.until("a take that waits", |daemon| {
        daemon.log().contains("a take waits for room")
    });
    assert_eq!(reply_states(&subscriber, "r1"), ["accepted"]);
    assert!(!batch_path(&takes(&fixture), 0).exists());
    // When there is room again, the daemon stores the take without a further command.
    make_short(&fixture, &daemon, false);
    daemon.until("the take", |_| reply_states(&subscriber, "r1").len() == 2);
    assert_eq!(reply_states(&subscriber, "r1"), ["accepted", "succeeded"]);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(manifest(&takes(&fixture)).len(), 1);
}

/// When a take that waited for room turns out to be too short, the signer gets the countdown again.
#[test]
fn a_too_short_take_is_requested_again_after_a_countdown() {
    let (broker, subscriber) = broker();
    let all_are_too_short = "[sequence]\nmin_frames = 32\n";
    let fixture = camera_alone(broker.port(), all_are_too_short);
    let mut daemon = fixture.start(&[]);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    let one = json!({"id": "r1", "gloss": "book", "countdown": 2});
    subscriber.publish("handloom/box/cmd/record", false, one.to_string());
    let written = |daemon: &Daemon| daemon.log().matches("state=\"too_short\"").count();
    daemon.until("a take", |daemon| written(daemon) > 0);
    make_short(&fixture, &daemon, true);
    daemon.until("a take that waits", |daemon| {
        daemon.log().contains("a take waits for room")
    });
    let before = written(&daemon);
    // Longer than the countdown.
    std::thread::sleep(Duration::from_millis(2500));
    make_short(&fixture, &daemon, false);
    daemon.until("two takes", |daemon| written(daemon) >= before + 2);
    let log = daemon.log();
    let times: Vec<_> = log
        .lines()
        .filter(|line| line.contains("state=\"too_short\""))
        .map(|line| humantime::parse_rfc3339(line.split(' ').next().unwrap()).unwrap())
        .collect();
    let gap = times[before + 1].duration_since(times[before]).unwrap();
    // A sign lasts 1.2 s.
    assert!(gap > Duration::from_millis(2500), "{gap:?}");
}

/// While takes wait for room, commands are still answered.
#[test]
fn commands_are_answered_while_takes_wait() {
    let (broker, subscriber) = broker();
    let fixture = camera_alone(broker.port(), "");
    let mut daemon = fixture.start(&[]);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    let many = json!({"id": "r1", "gloss": "book", "count": 100});
    subscriber.publish("handloom/box/cmd/record", false, many.to_string());
    daemon.until("a take", |daemon| daemon.log().contains("id=\"box-00000\""));
    make_short(&fixture, &daemon, true);
    until_takes_wait(&mut daemon, &subscriber);
    daemon.until("a take that waits", |daemon| {
        daemon.log().contains("a take waits for room")
    });
    let more = json!({"id": "r2", "gloss": "cat"});
    let reply = request_recording(&mut daemon, &subscriber, "record", &more, "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("takes wait for room: disk: "), "{reason}");
    command_with_result(&mut daemon, &subscriber, "cancel", "c1", "succeeded");
    daemon.until("the end of the record request", |_| {
        reply_states(&subscriber, "r1").len() == 2
    });
    let last = replies(&subscriber, "r1").pop().unwrap();
    let reason = last["reason"].as_str().unwrap();
    assert!(
        reason.contains("cancelled by command") && reason.contains("one waits for room"),
        "{reason}"
    );
    // The first undo discards the waiting take, the second one the last stored take.
    let waited = command_with_result(&mut daemon, &subscriber, "undo", "u1", "succeeded");
    assert_eq!(waited["result"], json!({"id": null, "gloss": "book"}));
    let kept = command_with_result(&mut daemon, &subscriber, "undo", "u2", "succeeded");
    let id = kept["result"]["id"].as_str().unwrap().to_owned();
    until_takes_wait(&mut daemon, &subscriber);
    make_short(&fixture, &daemon, false);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    let one = json!({"id": "r3", "gloss": "cat"});
    request_recording(&mut daemon, &subscriber, "record", &one, "succeeded");
    assert_eq!(daemon.stop(), Some(0));
    let lines = manifest(&takes(&fixture));
    let id_and_discarded = |line: &Value| (line["video_id"] == *id, line["state"] == "discarded");
    assert!(
        lines
            .iter()
            .map(id_and_discarded)
            .all(|(is_it, is_gone)| is_it == is_gone),
        "{lines:?}"
    );
    assert_eq!(lines.last().unwrap()["gloss"], "cat");
}

/// Takes on a separate disk observe the reserve of that disk only.
#[test]
fn takes_on_another_disk_keep_to_its_own_reserve() {
    let (broker, subscriber) = broker();
    let mut fixture = camera_alone(broker.port(), "");
    let (here, memory) = (fixture.out(), scratch_in_memory());
    let free = |path: &Path| disk::free_mib(path).unwrap();
    let (output, takes) = (free(&here), free(memory.path()));
    if disk::is_same(&here, memory.path()).unwrap() || output.abs_diff(takes) < 64 {
        print_note("SKIPPED: there are no two disks with different free space");
        return;
    }
    let folder = memory.path().join("takes");
    fixture.add(&format!("path = {:?}\n", folder.display().to_string()));
    // Between the free space of the two disks.
    let reserve = output.midpoint(takes);
    let config = fixture
        .config()
        .replace("reserve_mib = 1", &format!("reserve_mib = {reserve}"))
        .replace(
            "disk_resume_mib = 2",
            &format!("disk_resume_mib = {}", reserve + 1),
        );
    let path = fixture.path("handloom.toml");
    let mut daemon = Daemon::start_with(&path, &config, &[], &[("HANDLOOM_LOG", "debug")]);
    let one = json!({"id": "r1", "gloss": "book"});
    if takes < output {
        until_takes_wait(&mut daemon, &subscriber);
        let reply = request_recording(&mut daemon, &subscriber, "record", &one, "failed");
        assert!(reply["reason"].as_str().unwrap().contains("takes wait"));
        let faults = published(&subscriber, topics::FAULT);
        let notice = |f: &Value| {
            f["component"] == "disk" && f["reason"].as_str().unwrap().contains("the disk of /")
        };
        assert!(faults.len() == 1 && notice(&faults[0]), "{faults:?}");
    } else {
        daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
        request_recording(&mut daemon, &subscriber, "record", &one, "succeeded");
        assert!(batch_path(&folder, 0).exists());
    }
    assert_eq!(daemon.stop(), Some(0));
}

/// When a video that replaces the camera ends, the active record request gets its final reply.
#[test]
fn a_record_request_ends_with_the_video() {
    let (broker, subscriber) = broker();
    let mut fixture = DaemonFixture::with_dataset(Path::new(""), Some(broker.port()), "");
    let clip = fixture.path("film.mp4");
    render_clip(&clip, 0, 125, SIZE, Codec::H264);
    fixture.add(&camera_config(&clip));
    let mut daemon = fixture.start(&[]);
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    let many = json!({"id": "r1", "gloss": "book", "count": 100});
    let reply = request_recording(&mut daemon, &subscriber, "record", &many, "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("the camera stopped"), "{reason}");
    let one = json!({"id": "r2", "gloss": "book"});
    request_recording(&mut daemon, &subscriber, "record", &one, "failed");
    assert_eq!(daemon.stop(), Some(0));
    assert!(batch_path(&takes(&fixture), 0).exists());
}

/// Errors about the folder of takes name config keys, not command-line flags.
#[test]
fn a_folder_of_other_results_is_named_by_its_key() {
    let (broker, subscriber) = broker();
    let fixture = camera_alone(broker.port(), "");
    let batch = batch_path(&takes(&fixture), 0);
    fs::create_dir_all(batch.parent().unwrap()).unwrap();
    fs::write(&batch, "somebody's").unwrap();
    let mut daemon = fixture.start(&[]);
    daemon.until("the fault", |_| {
        state(&subscriber).0 == "degraded" && !published(&subscriber, topics::FAULT).is_empty()
    });
    let notice = published(&subscriber, topics::FAULT).pop().unwrap();
    let reason = notice["reason"].as_str().unwrap();
    assert!(
        reason.contains("choose another camera.path") && !reason.contains("--"),
        "{reason}"
    );
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(fs::read(&batch).unwrap(), b"somebody's");
}

#[test]
fn a_missing_camera_is_reported_and_found_while_the_job_continues() {
    let reference = reference_job(SHORT);
    let (broker, subscriber) = broker();
    let folder = scratch();
    let hand = folder.path().join("hand.png");
    let fixture = DaemonFixture::with_dataset(
        &reference.dataset,
        Some(broker.port()),
        &camera_config(&hand),
    );
    let mut daemon = fixture.start(&[]);
    daemon.until("the report of the missing camera", |_| {
        let (state, reason) = state(&subscriber);
        state == "degraded" && reason.contains("hand.png") && reason.contains("the job is done")
    });
    let notice = || -> Vec<Value> {
        let mut faults = published(&subscriber, topics::FAULT);
        faults.retain(|fault| fault["component"] == "camera");
        faults
    };
    assert_eq!(notice().len(), 1, "{:?}", notice());
    // The daemon finds the camera without a command when it is plugged in.
    write_hand_image(&folder.path().join("new.png"));
    fs::rename(folder.path().join("new.png"), &hand).unwrap();
    daemon.until("the camera", |_| state(&subscriber).0 == "capturing");
    assert_eq!(notice().len(), 1);
    let one = json!({"id": "r1", "gloss": "book"});
    request_recording(&mut daemon, &subscriber, "record", &one, "succeeded");
    assert_eq!(daemon.stop(), Some(0));
    fixture.assert_results(&reference.out);
}

#[test]
fn without_a_camera_nothing_is_recorded() {
    let reference = reference_job(SHORT);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(broker.port()), "");
    let mut daemon = fixture.start(&[]);
    daemon.until("the end", |_| is_done(&subscriber));
    let one = json!({"id": "r1", "gloss": "book"});
    let reply = request_recording(&mut daemon, &subscriber, "record", &one, "failed");
    assert!(
        reply["reason"]
            .as_str()
            .unwrap()
            .contains("[camera] device"),
        "{reply}"
    );
    command_with_result(&mut daemon, &subscriber, "undo", "u1", "failed");
    assert_eq!(daemon.stop(), Some(0));
}
