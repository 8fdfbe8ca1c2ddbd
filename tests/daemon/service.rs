//! The daemon and its service manager: word of its state, signs of life, another config while it runs.

use crate::stage::{LONG, SLOWLY, Stage, broker, command, is_done, obeys, replies, said, set};
use handloom::messages::topics;
use serde_json::Value;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use test_support::daemon::Daemon;
use test_support::listener::Listener;

/// systemd's end of the socket.
struct Manager {
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Manager {
    /// Listens until the test ends.
    fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::downgrade(&heard);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(heard) = ours.upgrade() {
                if let Ok(bytes) = socket.recv(&mut buffer) {
                    let text = String::from_utf8(buffer[..bytes].to_vec()).unwrap();
                    heard.lock().unwrap().push((Instant::now(), text));
                }
            }
        });
        Self { heard }
    }

    /// All messages that begin so, with their times.
    fn heard(&self, start: &str) -> Vec<(Instant, String)> {
        let mut heard = self.heard.lock().unwrap().clone();
        heard.retain(|(_, text)| text.starts_with(start));
        heard
    }

    fn count(&self, start: &str) -> usize {
        self.heard(start).len()
    }
}

#[test]
fn the_service_manager_is_kept_informed() {
    let stage = Stage::with_own(1, None, "");
    let socket = stage.path("notify");
    let manager = Manager::start(&socket);
    let begun = Instant::now();
    let mut daemon = stage.start_with(
        &[],
        &[
            ("NOTIFY_SOCKET", socket.to_str().unwrap()),
            ("WATCHDOG_USEC", "1000000"),
        ],
    );
    daemon.until("readiness", |_| manager.count("READY=1") == 1);
    let (ready, _) = manager.heard("READY=1").remove(0);
    let start = ready - begun;
    assert!(start < Duration::from_secs(2), "ready after {start:?}");
    daemon.until("a line of status", |_| {
        let lines = manager.heard("STATUS=").into_iter();
        lines
            .map(|l| l.1)
            .any(|line| line.contains("idle 1 of 1 clips"))
    });
    daemon.until("signs of life", |_| manager.count("WATCHDOG=1") >= 8);
    let pings = manager.heard("WATCHDOG=1");
    let pause = (pings[pings.len() - 1].0 - pings[0].0) / u32::try_from(pings.len() - 1).unwrap();
    // systemd waits for a second.
    assert!(pause < Duration::from_millis(800), "every {pause:?}");
    daemon.signal("HUP");
    daemon.until("the end of a reload", |_| manager.count("READY=1") == 2);
    let reloading = manager.heard("RELOADING=1").remove(0);
    let time = reloading.1.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(time.unwrap().parse::<u64>().unwrap() > 0, "{}", reloading.1);
    assert!(reloading.0 <= manager.heard("READY=1")[1].0);
    assert_eq!(manager.count("STOPPING=1"), 0);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(manager.count("STOPPING=1"), 1);
    assert_eq!(manager.count("RELOADING=1"), 1);
    // Nobody adds the time where stderr is a file.
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains(" ready ")).unwrap();
    let time = line.split(' ').next().unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
    test_support::say(&format!(
        "ready after {start:?}, a sign of life every {pause:?}"
    ));
}

/// Puts another config in the place of the old one and has it read.
#[track_caller]
fn reload(daemon: &mut Daemon, manager: &Manager, stage: &Stage, config: &str) {
    let before = manager.count("READY=1");
    fs::write(stage.path("handloom.toml"), config).unwrap();
    daemon.signal("HUP");
    daemon.until("the end of the reload", |_| {
        manager.count("READY=1") > before
    });
}

fn config_faults(ears: &Listener) -> Vec<Value> {
    let mut faults = said(ears, topics::FAULT);
    faults.retain(|f| f["component"] == "config");
    faults
}

#[test]
fn another_config_is_taken_up_while_it_runs() {
    let set = set(LONG);
    let (broker, ears) = broker();
    let stage = Stage::over(&set.dataset, Some(broker.port()), SLOWLY);
    let socket = stage.path("notify");
    let manager = Manager::start(&socket);
    let mut daemon = stage.start_with(&[], &[("NOTIFY_SOCKET", socket.to_str().unwrap())]);
    let workers = |n: u64| {
        let ears = &ears;
        move |_: &Daemon| {
            let last = said(ears, topics::STATE).pop().unwrap_or_default();
            last["workers_max"] == n && last["workers"] == n && last["state"] == "processing"
        }
    };
    daemon.until("one worker", workers(1));
    let old = stage.config();
    let swap = |config: &str, from: &str, to: &str| {
        assert!(config.contains(from), "{config}");
        config.replace(from, to)
    };

    // On a machine of one core a second worker needs a restart.
    let cores = thread::available_parallelism().unwrap().get();
    let two = swap(&old, "workers = 1", "workers = 2");
    reload(&mut daemon, &manager, &stage, &two);
    daemon.until("another worker", workers(cores.min(2) as u64));

    assert!(!daemon.log().contains("DEBUG"), "{}", daemon.log());
    reload(
        &mut daemon,
        &manager,
        &stage,
        &format!("{two}[log]\nlevel = \"debug\"\n"),
    );
    daemon.until("details", |d| d.log().contains("DEBUG"));

    let deaf = swap(&two, "[mqtt]", "[mqtt]\ncommands = [\"resume\"]");
    reload(&mut daemon, &manager, &stage, &deaf);
    command(&ears, "pause", "1");
    daemon.until("a refusal", |_| replies(&ears, "1").len() == 1);
    let reason = replies(&ears, "1")[0]["reason"].to_string();
    assert!(reason.contains("allowed are resume"), "{reason}");
    assert_eq!(config_faults(&ears).len(), 0);

    // The old one stays, and with it the list of commands.
    reload(
        &mut daemon,
        &manager,
        &stage,
        &swap(&old, "[run]", "[runn]"),
    );
    daemon.until("word of it", |_| config_faults(&ears).len() == 1);
    let reason = config_faults(&ears)[0]["reason"].to_string();
    assert!(
        reason.contains("handloom.toml:") && reason.contains("runn"),
        "{reason}"
    );
    command(&ears, "pause", "2");
    daemon.until("a refusal", |_| replies(&ears, "2").len() == 1);
    obeys(&mut daemon, &ears, "resume", "3", "succeeded");

    // What can be swapped is, what cannot is named.
    let other = swap(&old, "batch_size = 3", "batch_size = 4");
    reload(&mut daemon, &manager, &stage, &other);
    daemon.until("word of it", |_| config_faults(&ears).len() == 2);
    let fault = config_faults(&ears).pop().unwrap();
    let reason = fault["reason"].as_str().unwrap();
    assert!(reason.ends_with("output.batch_size"), "{reason}");
    assert!(
        fault["action"].as_str().unwrap().contains("restart"),
        "{fault}"
    );
    obeys(&mut daemon, &ears, "pause", "4", "succeeded");
    obeys(&mut daemon, &ears, "resume", "5", "succeeded");
    daemon.until("the end", |_| is_done(&ears));
    stage.gave(&set.reference);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_night_ends_in_time_and_the_next_one_goes_on() {
    let set = set(LONG);
    let stage = Stage::over(&set.dataset, None, SLOWLY);
    let mut daemon = stage.start(&["--once", "--rescan", "--for", "300ms"]);
    assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());

    // Told to end by somebody else, too, and again.
    let socket = stage.path("notify");
    let manager = Manager::start(&socket);
    let night = ["--once", "--rescan", "--for", "1s"];
    let mut daemon = stage.start_with(&night, &[("NOTIFY_SOCKET", socket.to_str().unwrap())]);
    let id = daemon.id().to_string();
    while daemon.is_running() && manager.count("STOPPING=1") == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..2 {
        // It may have ended meanwhile.
        Command::new("kill").args(["-TERM", &id]).output().unwrap();
    }
    assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());
    assert!(daemon.recorded().len() < LONG);

    let mut daemon = stage.start(&["--once", "--rescan", "--for", "1h"]);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    stage.gave(&set.reference);
}
