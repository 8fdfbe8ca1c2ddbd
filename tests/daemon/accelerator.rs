//! The backend that runs the models: its failures, what they do to the job, and their reports on `state` and `fault`.

use crate::camera::{camera_config, request_recording, write_hand_image};
use crate::fixture::{
    DaemonFixture, LONG, SHORT, broker, command_with_result, is_done, published, reference_job,
    reply_states, state,
};
use handloom::messages::topics;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Instant;
use test_support::daemon::Daemon;
use test_support::listener::Listener;
use test_support::{manifest, plugin};

/// A job on `dataset` with the test plugin as the custom delegate.
fn fixture(dataset: &Path, port: Option<u16>, options: &[&str]) -> DaemonFixture {
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
    DaemonFixture::with_dataset(dataset, port, &more)
}

fn start(fixture: &DaemonFixture, preference: &str, args: &[&str]) -> Daemon {
    let cache = fixture.path("cache").display().to_string();
    let environment = [
        ("HANDLOOM_RUN_ACCELERATOR", preference),
        ("HANDLOOM_LOG", "debug"),
        // Benchmark results stay in this test's own cache.
        ("XDG_CACHE_HOME", &cache),
    ];
    fixture.start_with(args, &environment)
}

fn faults(subscriber: &Listener) -> Vec<Value> {
    let mut faults = published(subscriber, topics::FAULT);
    faults.retain(|f| f["component"] == "accelerator");
    faults
}

/// Backend and its reason, as last published.
fn backend(subscriber: &Listener) -> (String, String) {
    let last = published(subscriber, topics::STATE)
        .pop()
        .unwrap_or_default();
    let word = |field: &str| last[field].as_str().unwrap_or_default().to_owned();
    (word("backend"), word("backend_reason"))
}

#[test]
fn a_backend_lost_while_running_is_reported() {
    let (broker, subscriber) = broker();
    let reference = reference_job(LONG);
    let fault_file = test_support::scratch();
    let fault_file = fault_file.path().join("trouble");
    let option = format!("while={}", fault_file.display());
    let fixture = fixture(
        &reference.dataset,
        Some(broker.port()),
        &["mode=right", "fail_from=1", &option],
    );
    fs::create_dir_all(fault_file.parent().unwrap()).unwrap();
    let mut daemon = start(&fixture, "prefer:custom", &[]);
    daemon.until("work on the accelerator", |daemon| {
        daemon.log().contains("clip recorded")
    });
    assert_eq!(
        backend(&subscriber),
        ("custom".to_owned(), "requested".to_owned())
    );
    fs::write(&fault_file, "").unwrap();
    daemon.until("the CPU", |_| backend(&subscriber).0 == "cpu");
    assert!(
        backend(&subscriber).1.contains("custom is given up"),
        "{:?}",
        backend(&subscriber)
    );
    daemon.until("the end", |_| is_done(&subscriber));
    let published_faults = faults(&subscriber);
    let reasons: Vec<&str> = published_faults
        .iter()
        .map(|f| f["reason"].as_str().unwrap())
        .collect();
    assert!(
        reasons.iter().any(|r| r.contains("the device went away")),
        "{reasons:?}"
    );
    assert!(reasons.last().unwrap().contains("given up"), "{reasons:?}");
    let states = published(&subscriber, topics::STATE);
    let is_reported = |s: &&Value| {
        s["state"] == "degraded"
            && s["reason"]
                .as_str()
                .is_some_and(|r| r.contains("accelerator"))
    };
    assert!(states.iter().any(|s| is_reported(&s)), "{states:?}");
    drop(daemon);
    fixture.assert_results(&reference.out);
}

#[test]
fn a_preferred_backend_that_fails_is_reported() {
    let (broker, subscriber) = broker();
    let reference = reference_job(SHORT);
    let fixture = fixture(
        &reference.dataset,
        Some(broker.port()),
        &["mode=wrong", "off=0.3"],
    );
    let mut daemon = start(&fixture, "prefer:custom", &[]);
    daemon.until("the end", |_| is_done(&subscriber));
    assert_eq!(backend(&subscriber).0, "cpu");
    assert!(
        backend(&subscriber).1.contains("from the CPU's"),
        "{:?}",
        backend(&subscriber)
    );
    assert_eq!(faults(&subscriber).len(), 1);
    assert_eq!(state(&subscriber).0, "idle");
    drop(daemon);
    fixture.assert_results(&reference.out);
}

#[test]
fn a_required_backend_that_fails_ends_the_daemon_with_an_error() {
    let (broker, subscriber) = broker();
    let options = ["mode=right", "abort=create"];
    let fixture = fixture(&reference_job(SHORT).dataset, Some(broker.port()), &options);
    let mut daemon = start(&fixture, "require:custom", &[]);
    assert_eq!(daemon.wait(), Some(69), "{}", daemon.log());
    let published_faults = faults(&subscriber);
    let is_reported = |f: &Value| {
        f["reason"]
            .as_str()
            .is_some_and(|r| r.contains("crashed (signal 6)"))
    };
    assert!(
        published_faults.len() == 1 && is_reported(&published_faults[0]),
        "{published_faults:?}"
    );
    assert_eq!(state(&subscriber).0, "error");
}

#[test]
fn a_stop_during_the_benchmark_is_obeyed_and_records_nothing() {
    let fixture = fixture(
        &reference_job(SHORT).dataset,
        None,
        &["mode=right", "delay_ms=3000"],
    );
    let mut daemon = start(&fixture, "prefer:custom", &[]);
    daemon.until("the benchmark", |daemon| {
        daemon.log().contains("measuring whether custom")
    });
    assert_eq!(daemon.stop(), Some(75), "{}", daemon.log());
    let kept = fs::read_to_string(fixture.path("cache/handloom/accelerators.json")).unwrap();
    assert!(kept.contains("cpu") && !kept.contains("custom"), "{kept}");
}

/// A stop ends the daemon cleanly even if its device hangs: the daemon still publishes `stopped`.
#[test]
fn a_stop_is_obeyed_while_a_device_hangs_at_opening() {
    let reference = reference_job(LONG);
    let check = |is_first: bool| {
        let (broker, subscriber) = broker();
        let folder = test_support::scratch();
        let (fault_file, log) = (folder.path().join("trouble"), folder.path().join("log"));
        let options = [
            "mode=right",
            "fail_from=1",
            "hang=create",
            &format!("while={}", fault_file.display()),
            &format!("log={}", log.display()),
        ];
        let fixture = with_camera(&reference.dataset, broker.port(), &options);
        let config = fixture.config().replace("timeout_s = 5", "timeout_s = 60");
        let start = || {
            let path = fixture.path("handloom.toml");
            let cache = fixture.path("cache").display().to_string();
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
        fs::write(&fault_file, "").unwrap();
        if is_first {
            daemon = start();
        }
        plugin::wait_until_hanging(&log);
        let since = Instant::now();
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());
        let took = since.elapsed();
        assert!(took < plugin::STOP_LIMIT, "{took:?} {}", daemon.log());
        let last = published(&subscriber, topics::STATUS).pop().unwrap();
        assert_eq!(last["status"], "stopped", "{}", daemon.log());
        assert_eq!(faults(&subscriber), [Value::Null; 0]);
    };
    check(true);
    check(false);
}

/// The [`fixture`] with a camera that sees a hand.
fn with_camera(dataset: &Path, port: u16, options: &[&str]) -> DaemonFixture {
    let mut fixture = fixture(dataset, Some(port), options);
    let hand = fixture.path("hand.png");
    write_hand_image(&hand);
    fixture.add(&camera_config(&hand));
    fixture
}

/// From the plugin's log: how many delegates were created, and how many were open at most at the same time.
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

/// The accepted takes' backends, from the manifest. On a busy machine a take may have too few frames.
fn backends_of_takes(fixture: &DaemonFixture) -> Vec<String> {
    let mut lines = manifest(&fixture.out().join("camera"));
    lines.retain(|l| l["state"] == "accepted");
    let backends = lines.iter().map(|l| l["clip"]["backend"].as_str().unwrap());
    backends.map(str::to_owned).collect()
}

#[test]
fn job_and_camera_share_one_device() {
    let (broker, subscriber) = broker();
    let reference = reference_job(SHORT);
    let folder = test_support::scratch();
    let log = folder.path().join("log");
    let option = format!("log={}", log.display());
    let fixture = with_camera(&reference.dataset, broker.port(), &["mode=right", &option]);
    let mut daemon = start(&fixture, "require:custom", &[]);
    let one = json!({"id": "r1", "gloss": "book", "count": 2});
    daemon.until("the camera", |daemon| {
        daemon.log().contains("camera opened")
    });
    request_recording(&mut daemon, &subscriber, "record", &one, "succeeded");
    daemon.until("the job's end", |daemon| {
        daemon.log().contains("the job is done")
    });
    assert_eq!(
        backend(&subscriber),
        ("custom".to_owned(), "requested".to_owned())
    );
    assert_eq!(daemon.stop(), Some(0));
    // Each model has one delegate for the benchmark and later one for the work, never both at once.
    assert_eq!(delegates(&log), (4, 2));
    assert_eq!(backends_of_takes(&fixture), ["custom"; 2]);
    let lines = manifest(&fixture.out());
    let mut backends = lines.iter().filter_map(|l| l["clip"]["backend"].as_str());
    assert!(backends.all(|backend| backend == "custom"), "{lines:?}");
    assert_eq!(faults(&subscriber), [Value::Null; 0]);
    fixture.assert_results(&reference.out);
}

#[test]
fn a_backend_shared_by_job_and_camera_is_lost_once() {
    let (broker, subscriber) = broker();
    let reference = reference_job(LONG);
    let folder = test_support::scratch();
    let (fault_file, log) = (folder.path().join("trouble"), folder.path().join("log"));
    let options = [
        "mode=right",
        "fail_from=1",
        &format!("while={}", fault_file.display()),
        &format!("log={}", log.display()),
    ];
    let fixture = with_camera(&reference.dataset, broker.port(), &options);
    let mut daemon = start(&fixture, "prefer:custom", &[]);
    daemon.until("job and camera", |daemon| {
        daemon.log().contains("clip recorded") && daemon.log().contains("camera opened")
    });
    fs::write(&fault_file, "").unwrap();
    daemon.until("the CPU", |_| backend(&subscriber).0 == "cpu");
    let one = json!({"id": "r1", "gloss": "book"});
    request_recording(&mut daemon, &subscriber, "record", &one, "succeeded");
    daemon.until("the job's end", |daemon| {
        daemon.log().contains("the job is done")
    });
    let published_faults = faults(&subscriber);
    let lost = |f: &&Value| f["reason"].as_str().unwrap().contains("given up");
    assert_eq!(
        published_faults.iter().filter(lost).count(),
        1,
        "{published_faults:?}"
    );
    assert!(
        lost(&published_faults.last().unwrap()),
        "{published_faults:?}"
    );
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(delegates(&log).1, 2, "{log:?}");
    assert_eq!(backends_of_takes(&fixture), ["cpu"]);
    fixture.assert_results(&reference.out);
}

/// The camera also uses the device that the job opens again, and `state` names their common backend.
#[test]
fn a_camera_goes_back_to_a_device_that_the_job_has_opened_again() {
    let (broker, subscriber) = broker();
    let reference = reference_job(SHORT);
    let folder = test_support::scratch();
    let (fault_file, log) = (folder.path().join("trouble"), folder.path().join("log"));
    let options = [
        "mode=right",
        "fail_from=1",
        &format!("while={}", fault_file.display()),
        &format!("log={}", log.display()),
    ];
    let fixture = with_camera(&reference.dataset, broker.port(), &options);
    let mut daemon = start(&fixture, "prefer:custom", &[]);
    daemon.until("the job's end, and the camera", |daemon| {
        daemon.log().contains("the job is done") && daemon.log().contains("camera opened")
    });
    fs::write(&fault_file, "").unwrap();
    daemon.until("the CPU", |_| backend(&subscriber).0 == "cpu");
    let take = |daemon: &mut Daemon, id: &str| {
        let one = json!({"id": id, "gloss": "book"});
        request_recording(daemon, &subscriber, "record", &one, "succeeded");
    };
    take(&mut daemon, "r1");
    fs::remove_file(&fault_file).unwrap();
    command_with_result(&mut daemon, &subscriber, "rescan", "again", "succeeded");
    daemon.until("the accelerator", |daemon| {
        backend(&subscriber).0 == "custom"
            && daemon.log().contains("camera uses the accelerator again")
    });
    take(&mut daemon, "r2");
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(backends_of_takes(&fixture), ["cpu", "custom"]);
    assert_eq!(delegates(&log).1, 2, "{log:?}");
}

/// When the required backend is unavailable, the daemon reports it once and ends, with or without a job.
#[test]
fn a_camera_without_its_required_accelerator_ends_the_daemon() {
    let check = |dataset: &Path| {
        let (broker, subscriber) = broker();
        let options = ["mode=right", "abort=create"];
        let fixture = with_camera(dataset, broker.port(), &options);
        let mut daemon = start(&fixture, "require:custom", &[]);
        assert_eq!(daemon.wait(), Some(69), "{}", daemon.log());
        let published_faults = faults(&subscriber);
        assert!(
            published_faults.len() == 1
                && published_faults[0]["reason"]
                    .as_str()
                    .unwrap()
                    .contains("crashed"),
            "{published_faults:?}"
        );
        assert_eq!(state(&subscriber).0, "error");
        let log = daemon.log();
        let faults = log.matches("fault component=\"accelerator\"").count();
        assert_eq!(faults, 1, "{log}");
    };
    check(Path::new(""));
    check(&reference_job(SHORT).dataset);
}

/// When the required backend is lost at run time, the daemon reports it once and ends. It keeps the takes so far.
#[test]
fn a_camera_whose_required_accelerator_is_lost_ends_the_daemon() {
    let check = |dataset: &Path| {
        let (broker, subscriber) = broker();
        let folder = test_support::scratch();
        let fault_file = folder.path().join("trouble");
        let option = format!("while={}", fault_file.display());
        let options = ["mode=right", "fail_from=1", &option];
        let fixture = with_camera(dataset, broker.port(), &options);
        let mut daemon = start(&fixture, "require:custom", &[]);
        daemon.until("the camera", |daemon| {
            daemon.log().contains("camera opened")
        });
        let many = json!({"id": "r1", "gloss": "book", "count": 100});
        subscriber.publish("handloom/box/cmd/record", false, many.to_string());
        daemon.until("a take", |daemon| daemon.log().contains("id=\"box-00000\""));
        fs::write(&fault_file, "").unwrap();
        assert_eq!(daemon.wait(), Some(69), "{}", daemon.log());
        let published_faults = faults(&subscriber);
        let lost = |f: &&Value| f["reason"].as_str().unwrap().contains("failed for good");
        assert_eq!(
            published_faults.iter().filter(lost).count(),
            1,
            "{published_faults:?}"
        );
        assert_eq!(reply_states(&subscriber, "r1")[0], "accepted");
        assert!(!manifest(&fixture.out().join("camera")).is_empty());
    };
    check(Path::new(""));
    check(&reference_job(LONG).dataset);
}
