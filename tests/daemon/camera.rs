//! The daemon's camera: takes on command, a camera that is away, both beside a job or without one.

use crate::stage::{
    SHORT, SIZE, Stage, answers, broker, is_done, obeys, replies, said, set, state,
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
use test_support::{manifest, npz_files, render_clip, say, scratch, scratch_in_memory};

/// A hand that is always in view.
pub(crate) fn still(path: &Path) {
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

/// Lines of a config for a still that stands in for the camera: a sign every second.
pub(crate) fn filming(still: &Path) -> String {
    let device = format!("file:{}", still.display());
    format!("[camera]\ndevice = {device:?}\nfps = 10\nmax_seconds = 1.2\n")
}

/// A daemon's files with a camera that sees a hand, and without a job; `more` lines of its config.
fn camera_alone(port: u16, more: &str) -> Stage {
    let mut stage = Stage::over(Path::new(""), Some(port), more);
    let hand = stage.path("hand.png");
    still(&hand);
    // With the real models: what they see is counted.
    stage.add("[models]\n");
    if !more.contains("[sequence]") {
        // A busy machine leaves frames out.
        stage.add("[sequence]\nmin_frames = 1\n");
    }
    stage.add(&filming(&hand));
    stage
}

/// Where the daemon keeps takes.
fn takes(stage: &Stage) -> PathBuf {
    stage.out().join("camera")
}

/// Sends a command with more than an id, and waits for its last word.
#[track_caller]
pub(crate) fn asks(
    daemon: &mut Daemon,
    ears: &Listener,
    name: &str,
    payload: &Value,
    word: &str,
) -> Value {
    let id = payload["id"].as_str().unwrap();
    ears.publish(
        &format!("handloom/box/cmd/{name}"),
        false,
        payload.to_string(),
    );
    daemon.until(&format!("the last word on {name} {id}"), |_| {
        answers(ears, id)
            .last()
            .is_some_and(|last| last != "accepted")
    });
    let last = replies(ears, id).pop().unwrap();
    assert_eq!(last["state"], word, "{last} {}", daemon.log());
    last
}

#[test]
fn takes_are_recorded_and_discarded_on_command() {
    let (broker, ears) = broker();
    // No dataset: a camera is enough.
    let commands = "commands = [\"record\", \"undo\", \"snapshot\", \"cancel\"]\n";
    let stage = camera_alone(broker.port(), commands);
    let mut daemon = stage.start(&[]);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");

    let two = json!({"id": "r1", "gloss": "book", "count": 2, "countdown": 0.2});
    let reply = asks(&mut daemon, &ears, "record", &two, "succeeded");
    assert_eq!(reply["result"]["takes"], json!(["box-00000", "box-00001"]));
    assert_eq!(answers(&ears, "r1"), ["accepted", "succeeded"]);
    let reply = obeys(&mut daemon, &ears, "undo", "u1", "succeeded");
    assert_eq!(reply["result"]["id"], "box-00001");
    let no_gloss = json!({"id": "r2", "gloss": " "});
    let reply = asks(&mut daemon, &ears, "record", &no_gloss, "failed");
    assert!(
        reply["reason"].as_str().unwrap().contains("is not valid"),
        "{reply}"
    );
    let reply = obeys(&mut daemon, &ears, "snapshot", "s1", "succeeded");
    assert_eq!(
        (&reply["result"]["width"], &reply["result"]["hands"]),
        (&320.into(), &1.into())
    );

    // One that is replaced, and one that is cancelled, say so.
    let many = |id: &str, gloss: &str| json!({"id": id, "gloss": gloss, "count": 100});
    for (id, gloss) in [("r3", "deaf"), ("r4", "cat")] {
        ears.publish(
            "handloom/box/cmd/record",
            false,
            many(id, gloss).to_string(),
        );
    }
    daemon.until("the first one's end", |_| answers(&ears, "r3").len() == 2);
    let last = replies(&ears, "r3").pop().unwrap();
    assert_eq!(last["state"], "failed");
    assert!(
        last["reason"].as_str().unwrap().contains("replaced"),
        "{last}"
    );
    obeys(&mut daemon, &ears, "cancel", "c1", "succeeded");
    daemon.until("the second one's end", |_| answers(&ears, "r4").len() == 2);

    daemon.until("word of the camera's health", |_| {
        let last = said(&ears, topics::HEALTH).pop().unwrap_or_default();
        last["camera"]["fps"].as_f64().is_some_and(|fps| fps > 1.0)
    });
    let batches = said(&ears, topics::BATCH);
    assert_eq!(
        (&batches[0]["path"], &batches[0]["rows"]),
        (&"batches/00000.npz".into(), &2.into())
    );
    assert_eq!(daemon.stop(), Some(0));

    let labels = NpzReader::open(&takes(&stage).join(FINAL_NAME))
        .unwrap()
        .strings("labels")
        .unwrap();
    assert_eq!(labels[0], "book");
    assert!(
        !labels[1..].iter().any(|label| label == "book"),
        "{labels:?}"
    );
    let lines = manifest(&takes(&stage));
    assert_eq!(lines[1]["state"], "discarded");
}

/// The mirror has what the folder of takes has, and its list is true by the tool that users have.
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
    let (broker, ears) = broker();
    let stage = camera_alone(broker.port(), "");
    let (takes, root) = (takes(&stage), stage.path("mirror"));
    let mirror = root.join("camera");
    let set = format!("output.mirror={}", root.display());
    let mut daemon = stage.start(&["--set", &set]);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    // A full batch, and one that is not.
    let four = json!({"id": "r1", "gloss": "book", "count": 4});
    asks(&mut daemon, &ears, "record", &four, "succeeded");
    daemon.until("word of the missing mirror", |_| {
        let faults = said(&ears, topics::FAULT);
        faults.iter().any(|f| f["component"] == "mirror")
    });
    assert!(!root.exists(), "it is never made");
    fs::create_dir(&root).unwrap();
    daemon.until("the copies", |_| is_mirrored(&takes, &mirror));
    assert!(mirror.join("batches/00001.npz").exists());
    // What is discarded from a full batch goes from the mirror's, too.
    for id in ["u1", "u2"] {
        obeys(&mut daemon, &ears, "undo", id, "succeeded");
    }
    let rows = |folder: &Path| {
        let mut batch = NpzReader::open(&batch_path(folder, 0)).unwrap();
        batch.strings("video_ids").unwrap()
    };
    assert_eq!(rows(&takes), ["box-00000", "box-00001"]);
    daemon.until("the newer copies", |_| is_mirrored(&takes, &mirror));
    assert_eq!(rows(&mirror), rows(&takes));
    assert_eq!(daemon.stop(), Some(0));
    let faults = said(&ears, topics::FAULT);
    assert_eq!(faults.len(), 1, "{faults:?}");
}

/// Takes cannot be made again: what is left of those of a dead disk is not replaced by newer ones.
#[test]
fn the_mirror_of_lost_takes_is_left_alone() {
    let (broker, ears) = broker();
    let stage = camera_alone(broker.port(), "");
    let (takes, root) = (takes(&stage), stage.path("mirror"));
    let mirror = root.join("camera");
    fs::create_dir(&root).unwrap();
    let set = format!("output.mirror={}", root.display());
    let record = |daemon: &mut Daemon, id: &str, count: u32| {
        daemon.until("the camera", |_| state(&ears).0 == "capturing");
        let order = json!({"id": id, "gloss": "book", "count": count});
        asks(daemon, &ears, "record", &order, "succeeded");
    };
    let mut daemon = stage.start(&["--set", &set]);
    record(&mut daemon, "r1", 2);
    daemon.until("the copies", |_| is_mirrored(&takes, &mirror));
    assert_eq!(daemon.stop(), Some(0));
    let copies = || (npz_files(&mirror), manifest(&mirror));
    let before = copies();
    // The disk has died.
    fs::remove_dir_all(stage.out()).unwrap();
    let mut daemon = stage.start(&["--set", &set]);
    record(&mut daemon, "r2", 1);
    let reasons = || -> Vec<String> {
        let faults = said(&ears, topics::FAULT).into_iter();
        let reasons = faults.map(|f| f["reason"].as_str().unwrap().to_owned());
        reasons.collect()
    };
    daemon.until("word of it", |_| {
        let told = format!("{} is the copy of another output folder", mirror.display());
        reasons().iter().any(|reason| reason.contains(&told))
    });
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(copies(), before);
    // Copied back they are not taken for ours to replace, either.
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
    let mut daemon = stage.start(&["--set", &set]);
    daemon.until("word of the takes", |_| {
        let told = |reason: &String| {
            reason.contains("results that its ledger does not know")
                && reason.contains("camera.path")
        };
        reasons().iter().any(told)
    });
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!((npz_files(&takes), manifest(&takes)), before);
    assert_eq!(copies(), before);
}

/// Changes the config's reserve of the disk to more than any has, or back.
fn make_short(stage: &Stage, daemon: &Daemon, is_short: bool) {
    let roomy = stage.config();
    let short = roomy
        .replace("reserve_mib = 1", "reserve_mib = 1048575")
        .replace("disk_resume_mib = 2", "disk_resume_mib = 1048576");
    let config = if is_short { short } else { roomy };
    fs::write(stage.path("handloom.toml"), config).unwrap();
    daemon.signal("HUP");
}

#[track_caller]
fn until_takes_wait(daemon: &mut Daemon, ears: &Listener) {
    daemon.until("word that takes wait", |_| {
        let (state, reason) = state(ears);
        state == "degraded" && reason.contains("camera: takes wait for room")
    });
}

#[test]
fn takes_wait_while_the_disks_reserve_is_touched() {
    let (broker, ears) = broker();
    let stage = camera_alone(broker.port(), "");
    let mut daemon = stage.start(&[]);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    let one = json!({"id": "r1", "gloss": "book", "countdown": 5});
    ears.publish("handloom/box/cmd/record", false, one.to_string());
    // The answer is published before the camera has the request.
    daemon.until("the request", |daemon| {
        daemon.log().contains("recording requested")
    });
    make_short(&stage, &daemon, true);
    until_takes_wait(&mut daemon, &ears);
    daemon.until("a take that waits", |daemon| {
        daemon.log().contains("a take waits for room")
    });
    assert_eq!(answers(&ears, "r1"), ["accepted"]);
    assert!(!batch_path(&takes(&stage), 0).exists());
    // Room is made: nobody has to do anything else.
    make_short(&stage, &daemon, false);
    daemon.until("the take", |_| answers(&ears, "r1").len() == 2);
    assert_eq!(answers(&ears, "r1"), ["accepted", "succeeded"]);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(manifest(&takes(&stage)).len(), 1);
}

/// A take that had to wait and is none: its signer gets the countdown again.
#[test]
fn one_that_waited_and_is_too_short_is_asked_for_after_a_countdown() {
    let (broker, ears) = broker();
    let all_are_too_short = "[sequence]\nmin_frames = 32\n";
    let stage = camera_alone(broker.port(), all_are_too_short);
    let mut daemon = stage.start(&[]);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    let one = json!({"id": "r1", "gloss": "book", "countdown": 2});
    ears.publish("handloom/box/cmd/record", false, one.to_string());
    let written = |daemon: &Daemon| daemon.log().matches("state=\"too_short\"").count();
    daemon.until("a take", |daemon| written(daemon) > 0);
    make_short(&stage, &daemon, true);
    daemon.until("a take that waits", |daemon| {
        daemon.log().contains("a take waits for room")
    });
    let before = written(&daemon);
    // Longer than the countdown.
    std::thread::sleep(Duration::from_millis(2500));
    make_short(&stage, &daemon, false);
    daemon.until("two takes", |daemon| written(daemon) >= before + 2);
    let log = daemon.log();
    let times: Vec<_> = log
        .lines()
        .filter(|line| line.contains("state=\"too_short\""))
        .map(|line| humantime::parse_rfc3339(line.split(' ').next().unwrap()).unwrap())
        .collect();
    let gap = times[before + 1].duration_since(times[before]).unwrap();
    // A sign takes 1.2 s.
    assert!(gap > Duration::from_millis(2500), "{gap:?}");
}

/// While takes wait, nobody waits for an answer.
#[test]
fn commands_are_answered_while_takes_wait() {
    let (broker, ears) = broker();
    let stage = camera_alone(broker.port(), "");
    let mut daemon = stage.start(&[]);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    let many = json!({"id": "r1", "gloss": "book", "count": 100});
    ears.publish("handloom/box/cmd/record", false, many.to_string());
    daemon.until("a take", |daemon| daemon.log().contains("id=\"box-00000\""));
    make_short(&stage, &daemon, true);
    until_takes_wait(&mut daemon, &ears);
    daemon.until("a take that waits", |daemon| {
        daemon.log().contains("a take waits for room")
    });
    let more = json!({"id": "r2", "gloss": "cat"});
    let reply = asks(&mut daemon, &ears, "record", &more, "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("takes wait for room: disk: "), "{reason}");
    obeys(&mut daemon, &ears, "cancel", "c1", "succeeded");
    daemon.until("the order's end", |_| answers(&ears, "r1").len() == 2);
    let last = replies(&ears, "r1").pop().unwrap();
    let reason = last["reason"].as_str().unwrap();
    assert!(
        reason.contains("cancelled by command") && reason.contains("one waits for room"),
        "{reason}"
    );
    // First the one that waits, then the last one that does not.
    let waited = obeys(&mut daemon, &ears, "undo", "u1", "succeeded");
    assert_eq!(waited["result"], json!({"id": null, "gloss": "book"}));
    let kept = obeys(&mut daemon, &ears, "undo", "u2", "succeeded");
    let id = kept["result"]["id"].as_str().unwrap().to_owned();
    until_takes_wait(&mut daemon, &ears);
    make_short(&stage, &daemon, false);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    let one = json!({"id": "r3", "gloss": "cat"});
    asks(&mut daemon, &ears, "record", &one, "succeeded");
    assert_eq!(daemon.stop(), Some(0));
    let lines = manifest(&takes(&stage));
    let fate = |line: &Value| (line["video_id"] == *id, line["state"] == "discarded");
    assert!(
        lines
            .iter()
            .map(fate)
            .all(|(is_it, is_gone)| is_it == is_gone),
        "{lines:?}"
    );
    assert_eq!(lines.last().unwrap()["gloss"], "cat");
}

/// Takes on a disk of their own keep to the reserve of that one, and to no other's.
#[test]
fn takes_on_another_disk_keep_to_its_own_reserve() {
    let (broker, ears) = broker();
    let mut stage = camera_alone(broker.port(), "");
    let (here, memory) = (stage.out(), scratch_in_memory());
    let free = |path: &Path| disk::free_mib(path).unwrap();
    let (output, takes) = (free(&here), free(memory.path()));
    if disk::is_same(&here, memory.path()).unwrap() || output.abs_diff(takes) < 64 {
        say("SKIPPED: there are no two disks with different room");
        return;
    }
    let folder = memory.path().join("takes");
    stage.add(&format!("path = {:?}\n", folder.display().to_string()));
    // Between what the one has and what the other has.
    let reserve = output.midpoint(takes);
    let config = stage
        .config()
        .replace("reserve_mib = 1", &format!("reserve_mib = {reserve}"))
        .replace(
            "disk_resume_mib = 2",
            &format!("disk_resume_mib = {}", reserve + 1),
        );
    let path = stage.path("handloom.toml");
    let mut daemon = Daemon::start_with(&path, &config, &[], &[("HANDLOOM_LOG", "debug")]);
    let one = json!({"id": "r1", "gloss": "book"});
    if takes < output {
        until_takes_wait(&mut daemon, &ears);
        let reply = asks(&mut daemon, &ears, "record", &one, "failed");
        assert!(reply["reason"].as_str().unwrap().contains("takes wait"));
        let faults = said(&ears, topics::FAULT);
        let told = |f: &Value| {
            f["component"] == "disk" && f["reason"].as_str().unwrap().contains("the disk of /")
        };
        assert!(faults.len() == 1 && told(&faults[0]), "{faults:?}");
    } else {
        daemon.until("the camera", |_| state(&ears).0 == "capturing");
        asks(&mut daemon, &ears, "record", &one, "succeeded");
        assert!(batch_path(&folder, 0).exists());
    }
    assert_eq!(daemon.stop(), Some(0));
}

/// A film that stands in for a camera ends: an order that is under way gets its last word.
#[test]
fn an_order_ends_with_the_film() {
    let (broker, ears) = broker();
    let mut stage = Stage::over(Path::new(""), Some(broker.port()), "");
    let film = stage.path("film.mp4");
    render_clip(&film, 0, 125, SIZE, Codec::H264);
    stage.add(&filming(&film));
    let mut daemon = stage.start(&[]);
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    let many = json!({"id": "r1", "gloss": "book", "count": 100});
    let reply = asks(&mut daemon, &ears, "record", &many, "failed");
    let reason = reply["reason"].as_str().unwrap();
    assert!(reason.contains("the camera stopped"), "{reason}");
    let one = json!({"id": "r2", "gloss": "book"});
    asks(&mut daemon, &ears, "record", &one, "failed");
    assert_eq!(daemon.stop(), Some(0));
    assert!(batch_path(&takes(&stage), 0).exists());
}

/// What is wrong with the takes is said in the words of the config.
#[test]
fn a_folder_of_other_results_is_named_by_its_key() {
    let (broker, ears) = broker();
    let stage = camera_alone(broker.port(), "");
    let batch = batch_path(&takes(&stage), 0);
    fs::create_dir_all(batch.parent().unwrap()).unwrap();
    fs::write(&batch, "somebody's").unwrap();
    let mut daemon = stage.start(&[]);
    daemon.until("word of it", |_| {
        state(&ears).0 == "degraded" && !said(&ears, topics::FAULT).is_empty()
    });
    let told = said(&ears, topics::FAULT).pop().unwrap();
    let reason = told["reason"].as_str().unwrap();
    assert!(
        reason.contains("choose another camera.path") && !reason.contains("--"),
        "{reason}"
    );
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(fs::read(&batch).unwrap(), b"somebody's");
}

#[test]
fn a_camera_that_is_away_is_told_of_and_found_while_the_job_goes_on() {
    let set = set(SHORT);
    let (broker, ears) = broker();
    let folder = scratch();
    let hand = folder.path().join("hand.png");
    let stage = Stage::over(&set.dataset, Some(broker.port()), &filming(&hand));
    let mut daemon = stage.start(&[]);
    daemon.until("word of the missing camera", |_| {
        let (state, reason) = state(&ears);
        state == "degraded" && reason.contains("hand.png") && reason.contains("the job is done")
    });
    let told = || -> Vec<Value> {
        let mut faults = said(&ears, topics::FAULT);
        faults.retain(|fault| fault["component"] == "camera");
        faults
    };
    assert_eq!(told().len(), 1, "{:?}", told());
    // Plugged in: nobody has to do anything.
    still(&folder.path().join("new.png"));
    fs::rename(folder.path().join("new.png"), &hand).unwrap();
    daemon.until("the camera", |_| state(&ears).0 == "capturing");
    assert_eq!(told().len(), 1);
    let one = json!({"id": "r1", "gloss": "book"});
    asks(&mut daemon, &ears, "record", &one, "succeeded");
    assert_eq!(daemon.stop(), Some(0));
    stage.gave(&set.reference);
}

#[test]
fn without_a_camera_nothing_is_recorded() {
    let set = set(SHORT);
    let (broker, ears) = broker();
    let stage = Stage::over(&set.dataset, Some(broker.port()), "");
    let mut daemon = stage.start(&[]);
    daemon.until("the end", |_| is_done(&ears));
    let one = json!({"id": "r1", "gloss": "book"});
    let reply = asks(&mut daemon, &ears, "record", &one, "failed");
    assert!(
        reply["reason"]
            .as_str()
            .unwrap()
            .contains("[camera] device"),
        "{reply}"
    );
    obeys(&mut daemon, &ears, "undo", "u1", "failed");
    assert_eq!(daemon.stop(), Some(0));
}
