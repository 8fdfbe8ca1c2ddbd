//! What runs the models, and what becomes of the job when that fails: told on `state` and `fault`.

use crate::common::daemon::Daemon;
use crate::common::listener::Listener;
use crate::common::plugin;
use crate::stage::{LONG, SHORT, Set, Stage, broker, is_done, said, set, state};
use handloom::telemetry::topics;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

/// A job over `set` with the test plugin as the user's own delegate.
fn stage(set: &Set, port: Option<u16>, options: &[&str]) -> Stage {
    let spec = plugin::spec(options);
    let options: Vec<String> = spec
        .options
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let more = format!(
        "[run]\nworkers = 1\naccelerator_timeout_s = 5\n[delegate]\nlibrary = {:?}\noptions = {options:?}\n",
        spec.library.display().to_string()
    );
    Stage::over(&set.dataset, port, &more)
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
    let trouble = crate::common::scratch();
    let trouble = trouble.path().join("trouble");
    let option = format!("while={}", trouble.display());
    let stage = stage(
        set,
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
        ("custom".to_owned(), "asked for".to_owned())
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
    let stage = stage(set, Some(broker.port()), &["mode=wrong", "off=0.3"]);
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
    let stage = stage(set(SHORT), Some(broker.port()), &options);
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
    let stage = stage(set(SHORT), None, &["mode=right", "delay_ms=3000"]);
    let mut daemon = start(&stage, "prefer:custom", &[]);
    daemon.until("measuring", |daemon| {
        daemon.log().contains("measuring whether custom")
    });
    let since = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());
    assert!(
        since.elapsed() < Duration::from_secs(8),
        "{:?}",
        since.elapsed()
    );
    let kept = fs::read_to_string(stage.path("cache/handloom/accelerators.json")).unwrap();
    assert!(kept.contains("cpu") && !kept.contains("custom"), "{kept}");
}
