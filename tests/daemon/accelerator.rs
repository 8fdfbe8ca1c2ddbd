//! What runs the models, and what becomes of the job when that fails: told on `state` and `fault`.

use crate::camera::{asks, filming, still};
use crate::stage::{LONG, SHORT, Stage, answers, broker, is_done, obeys, said, set, state};
use handloom::messages::topics;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use test_support::daemon::Daemon;
use test_support::listener::Listener;
use test_support::{manifest, plugin};

/// A job over `dataset` with the test plugin as the user's own delegate.
fn stage(dataset: &Path, port: Option<u16>, options: &[&str]) -> Stage {
    let spec = plugin::quick_spec(options);
    let options: Vec<String> = spec
        .options
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let more = format!(
        "[run]\nworkers = 1\naccelerator_timeout_s = 5\n[delegate]\nlibrary = {:?}\noptions = {options:?}\n",
        spec.library.display().to_string()
    );
    Stage::over(dataset, port, &more)
}

fn start(stage: &Stage, wish: &str, args: &[&str]) -> Daemon {
    let cache = stage.path("cache").display().to_string();
    let environment = [
        ("HANDLOOM_RUN_ACCELERATOR", wish),
        ("HANDLOOM_LOG", "debug"),
        // What was measured is this test's alone.
        ("XDG_CACHE_HOME", &cache),
    ];
    stage.start_with(args, &environment)
}

fn faults(ears: &Listener) -> Vec<Value> {
    let mut faults = said(ears, topics::FAULT);
    faults.retain(|f| f["component"] == "accelerator");
    faults
}

/// Backend and its reason as told last.
fn backend(ears: &Listener) -> (String, String) {
    let last = said(ears, topics::STATE).pop().unwrap_or_default();
    let word = |field: &str| last[field].as_str().unwrap_or_default().to_owned();
    (word("backend"), word("backend_reason"))
}

#[test]
fn one_that_is_lost_at_work_is_told() {
    let (broker, ears) = broker();
    let set = set(LONG);
    let trouble = test_support::scratch();
    let trouble = trouble.path().join("trouble");
    let option = format!("while={}", trouble.display());
    let stage = stage(
        &set.dataset,
        Some(broker.port()),
        &["mode=right", "fail_from=1", &option],
    );
    fs::create_dir_all(trouble.parent().unwrap()).unwrap();
    let mut daemon = start(&stage, "prefer:custom", &[]);
    daemon.until("work on the accelerator", |daemon| {
        daemon.log().contains("clip recorded")
    });
    assert_eq!(
        backend(&ears),
        ("custom".to_owned(), "requested".to_owned())
    );
    fs::write(&trouble, "").unwrap();
    daemon.until("the CPU", |_| backend(&ears).0 == "cpu");
    assert!(
        backend(&ears).1.contains("custom is given up"),
        "{:?}",
        backend(&ears)
    );
    daemon.until("the end", |_| is_done(&ears));
    let told = faults(&ears);
    let reasons: Vec<&str> = told.iter().map(|f| f["reason"].as_str().unwrap()).collect();
    assert!(
        reasons.iter().any(|r| r.contains("the device went away")),
        "{reasons:?}"
    );
    assert!(reasons.last().unwrap().contains("given up"), "{reasons:?}");
    let states = said(&ears, topics::STATE);
    let is_told = |s: &&Value| {
        s["state"] == "degraded"
            && s["reason"]
                .as_str()
                .is_some_and(|r| r.contains("accelerator"))
    };
    assert!(states.iter().any(|s| is_told(&s)), "{states:?}");
    drop(daemon);
    stage.gave(&set.reference);
}

#[test]
fn one_that_is_preferred_and_no_good_is_told() {
    let (broker, ears) = broker();
    let set = set(SHORT);
    let stage = stage(
        &set.dataset,
        Some(broker.port()),
        &["mode=wrong", "off=0.3"],
    );
    let mut daemon = start(&stage, "prefer:custom", &[]);
    daemon.until("the end", |_| is_done(&ears));
    assert_eq!(backend(&ears).0, "cpu");
    assert!(
        backend(&ears).1.contains("from the CPU's"),
        "{:?}",
        backend(&ears)
    );
    assert_eq!(faults(&ears).len(), 1);
    assert_eq!(state(&ears).0, "idle");
    drop(daemon);
    stage.gave(&set.reference);
}

#[test]
fn one_that_is_required_and_no_good_ends_the_daemon_aloud() {
    let (broker, ears) = broker();
    let options = ["mode=right", "abort=create"];
    let stage = stage(&set(SHORT).dataset, Some(broker.port()), &options);
    let mut daemon = start(&stage, "require:custom", &[]);
    assert_eq!(daemon.wait(), Some(69), "{}", daemon.log());
    let told = faults(&ears);
    let is_told = |f: &Value| {
        f["reason"]
            .as_str()
            .is_some_and(|r| r.contains("crashed (signal 6)"))
    };
    assert!(told.len() == 1 && is_told(&told[0]), "{told:?}");
    assert_eq!(state(&ears).0, "error");
}

#[test]
fn a_stop_while_it_is_measured_is_obeyed_and_no_verdict() {
    let stage = stage(&set(SHORT).dataset, None, &["mode=right", "delay_ms=3000"]);
    let mut daemon = start(&stage, "prefer:custom", &[]);
    daemon.until("measuring", |daemon| {
        daemon.log().contains("measuring whether custom")
    });
    let since = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());
    assert!(
        since.elapsed() < Duration::from_secs(10),
        "{:?}",
        since.elapsed()
    );
    let kept = fs::read_to_string(stage.path("cache/handloom/accelerators.json")).unwrap();
    assert!(kept.contains("cpu") && !kept.contains("custom"), "{kept}");
}

/// A stop ends a daemon in good order, whatever its device does: its last words are said.
#[test]
fn a_stop_is_heard_while_a_device_hangs_at_opening() {
    let set = set(LONG);
    let check = |is_first: bool| {
        let (broker, ears) = broker();
        let folder = test_support::scratch();
        let (trouble, log) = (folder.path().join("trouble"), folder.path().join("log"));
        let options = [
            "mode=right",
            "fail_from=1",
            "hang=create",
            &format!("while={}", trouble.display()),
            &format!("log={}", log.display()),
        ];
        let stage = with_camera(&set.dataset, broker.port(), &options);
        let config = stage.config().replace("timeout_s = 5", "timeout_s = 60");
        let start = || {
            let path = stage.path("handloom.toml");
            let cache = stage.path("cache").display().to_string();
            let environment = [
                ("HANDLOOM_RUN_ACCELERATOR", "prefer:custom"),
                ("HANDLOOM_LOG", "debug"),
                ("XDG_CACHE_HOME", &cache),
            ];
            Daemon::start_with(&path, &config, &[], &environment)
        };
        let mut daemon = start();
        daemon.until("job and camera", |daemon| {
            daemon.log().contains("clip recorded") && daemon.log().contains("camera opened")
        });
        if is_first {
            assert_eq!(daemon.stop(), Some(75));
        }
        fs::write(&trouble, "").unwrap();
        if is_first {
            daemon = start();
        }
        plugin::until_it_hangs(&log);
        let since = Instant::now();
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());
        let took = since.elapsed();
        assert!(took < plugin::STOP, "{took:?} {}", daemon.log());
        let last = said(&ears, topics::STATUS).pop().unwrap();
        assert_eq!(last["status"], "stopped", "{}", daemon.log());
        assert_eq!(faults(&ears), [Value::Null; 0]);
    };
    check(true);
    check(false);
}

/// The same with a camera that sees a hand.
fn with_camera(dataset: &Path, port: u16, options: &[&str]) -> Stage {
    let mut stage = stage(dataset, Some(port), options);
    let hand = stage.path("hand.png");
    still(&hand);
    stage.add(&filming(&hand));
    stage
}

/// How many delegates were made, and how many there were at most at a time, by the plugin's log.
fn delegates(log: &Path) -> (usize, usize) {
    let (mut made, mut open, mut most) = (0_usize, 0_usize, 0);
    for line in fs::read_to_string(log).unwrap().lines() {
        match line {
            "open" => (made, open) = (made + 1, open + 1),
            _ => open -= 1,
        }
        most = most.max(open);
    }
    (made, most)
}

/// What the manifest says of the takes' backends.
fn backends_of_takes(stage: &Stage) -> Vec<String> {
    let lines = manifest(&stage.out().join("camera"));
    let backends = lines.iter().map(|l| l["clip"]["backend"].as_str().unwrap());
    backends.map(str::to_owned).collect()
}

#[test]
fn job_and_camera_share_one_device() {
    let (broker, ears) = broker();
    let set = set(SHORT);
    let folder = test_support::scratch();
    let log = folder.path().join("log");
    let option = format!("log={}", log.display());
    let stage = with_camera(&set.dataset, broker.port(), &["mode=right", &option]);
    let mut daemon = start(&stage, "require:custom", &[]);
    let one = json!({"id": "r1", "gloss": "book", "count": 2});
    daemon.until("the camera", |daemon| {
        daemon.log().contains("camera opened")
    });
    asks(&mut daemon, &ears, "record", &one, "succeeded");
    daemon.until("the job's end", |daemon| {
        daemon.log().contains("the job is done")
    });
    assert_eq!(
        backend(&ears),
        ("custom".to_owned(), "requested".to_owned())
    );
    assert_eq!(daemon.stop(), Some(0));
    // A delegate for each model: once measured, once opened, never side by side.
    assert_eq!(delegates(&log), (4, 2));
    assert_eq!(backends_of_takes(&stage), ["custom"; 2]);
    let lines = manifest(&stage.out());
    let mut backends = lines.iter().filter_map(|l| l["clip"]["backend"].as_str());
    assert!(backends.all(|backend| backend == "custom"), "{lines:?}");
    assert_eq!(faults(&ears), [Value::Null; 0]);
    stage.gave(&set.reference);
}

#[test]
fn one_that_job_and_camera_share_is_lost_once() {
    let (broker, ears) = broker();
    let set = set(LONG);
    let folder = test_support::scratch();
    let (trouble, log) = (folder.path().join("trouble"), folder.path().join("log"));
    let options = [
        "mode=right",
        "fail_from=1",
        &format!("while={}", trouble.display()),
        &format!("log={}", log.display()),
    ];
    let stage = with_camera(&set.dataset, broker.port(), &options);
    let mut daemon = start(&stage, "prefer:custom", &[]);
    daemon.until("job and camera", |daemon| {
        daemon.log().contains("clip recorded") && daemon.log().contains("camera opened")
    });
    fs::write(&trouble, "").unwrap();
    daemon.until("the CPU", |_| backend(&ears).0 == "cpu");
    let one = json!({"id": "r1", "gloss": "book"});
    asks(&mut daemon, &ears, "record", &one, "succeeded");
    daemon.until("the job's end", |daemon| {
        daemon.log().contains("the job is done")
    });
    let told = faults(&ears);
    let lost = |f: &&Value| f["reason"].as_str().unwrap().contains("given up");
    assert_eq!(told.iter().filter(lost).count(), 1, "{told:?}");
    assert!(lost(&told.last().unwrap()), "{told:?}");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(delegates(&log).1, 2, "{log:?}");
    assert_eq!(backends_of_takes(&stage), ["cpu"]);
    stage.gave(&set.reference);
}

/// What the job opens again is the camera's, too, and `state` names what both use.
#[test]
fn a_camera_goes_back_to_a_device_that_the_job_has_opened_again() {
    let (broker, ears) = broker();
    let set = set(SHORT);
    let folder = test_support::scratch();
    let (trouble, log) = (folder.path().join("trouble"), folder.path().join("log"));
    let options = [
        "mode=right",
        "fail_from=1",
        &format!("while={}", trouble.display()),
        &format!("log={}", log.display()),
    ];
    let stage = with_camera(&set.dataset, broker.port(), &options);
    let mut daemon = start(&stage, "prefer:custom", &[]);
    daemon.until("the job's end, and the camera", |daemon| {
        daemon.log().contains("the job is done") && daemon.log().contains("camera opened")
    });
    fs::write(&trouble, "").unwrap();
    daemon.until("the CPU", |_| backend(&ears).0 == "cpu");
    let take = |daemon: &mut Daemon, id: &str| {
        let one = json!({"id": id, "gloss": "book"});
        asks(daemon, &ears, "record", &one, "succeeded");
    };
    take(&mut daemon, "r1");
    fs::remove_file(&trouble).unwrap();
    obeys(&mut daemon, &ears, "rescan", "again", "succeeded");
    daemon.until("the accelerator", |daemon| {
        backend(&ears).0 == "custom" && daemon.log().contains("camera uses the accelerator again")
    });
    take(&mut daemon, "r2");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(backends_of_takes(&stage), ["cpu", "custom"]);
    assert_eq!(delegates(&log).1, 2, "{log:?}");
}

/// Required and not to be had: the daemon ends, with a job or without one, and says so once.
#[test]
fn a_camera_without_its_required_accelerator_ends_the_daemon_aloud() {
    let check = |dataset: &Path| {
        let (broker, ears) = broker();
        let options = ["mode=right", "abort=create"];
        let stage = with_camera(dataset, broker.port(), &options);
        let mut daemon = start(&stage, "require:custom", &[]);
        assert_eq!(daemon.wait(), Some(69), "{}", daemon.log());
        let told = faults(&ears);
        assert!(
            told.len() == 1 && told[0]["reason"].as_str().unwrap().contains("crashed"),
            "{told:?}"
        );
        assert_eq!(state(&ears).0, "error");
        let log = daemon.log();
        let faults = log.matches("fault component=\"accelerator\"").count();
        assert_eq!(faults, 1, "{log}");
    };
    check(Path::new(""));
    check(&set(SHORT).dataset);
}

/// Required and lost at work: the same, and what was taken until then is there for the next start.
#[test]
fn a_camera_whose_required_accelerator_is_lost_ends_the_daemon_aloud() {
    let check = |dataset: &Path| {
        let (broker, ears) = broker();
        let folder = test_support::scratch();
        let trouble = folder.path().join("trouble");
        let option = format!("while={}", trouble.display());
        let options = ["mode=right", "fail_from=1", &option];
        let stage = with_camera(dataset, broker.port(), &options);
        let mut daemon = start(&stage, "require:custom", &[]);
        daemon.until("the camera", |daemon| {
            daemon.log().contains("camera opened")
        });
        let many = json!({"id": "r1", "gloss": "book", "count": 100});
        ears.publish("handloom/box/cmd/record", false, many.to_string());
        daemon.until("a take", |daemon| daemon.log().contains("id=\"box-00000\""));
        fs::write(&trouble, "").unwrap();
        assert_eq!(daemon.wait(), Some(69), "{}", daemon.log());
        let told = faults(&ears);
        let lost = |f: &&Value| f["reason"].as_str().unwrap().contains("failed for good");
        assert_eq!(told.iter().filter(lost).count(), 1, "{told:?}");
        assert_eq!(answers(&ears, "r1")[0], "accepted");
        assert!(!backends_of_takes(&stage).is_empty());
    };
    check(Path::new(""));
    check(&set(LONG).dataset);
}
