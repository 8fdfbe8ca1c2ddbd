//! The daemon and its service manager: state notifications, watchdog pings, config reloads.

use crate::fixture::{
    DaemonFixture, LONG, ONE_WORKER, broker, command, command_with_result, is_done, published,
    reference_job, replies,
};
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

/// systemd's end of the notify socket.
struct Manager {
    received: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Manager {
    /// Listens until the test ends.
    fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let ours = Arc::downgrade(&received);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Some(received) = ours.upgrade() {
                if let Ok(bytes) = socket.recv(&mut buffer) {
                    let text = String::from_utf8(buffer[..bytes].to_vec()).unwrap();
                    received.lock().unwrap().push((Instant::now(), text));
                }
            }
        });
        Self { received }
    }

    /// All messages that begin with `start`, with their arrival times.
    fn received(&self, start: &str) -> Vec<(Instant, String)> {
        let mut received = self.received.lock().unwrap().clone();
        received.retain(|(_, text)| text.starts_with(start));
        received
    }

    fn count(&self, start: &str) -> usize {
        self.received(start).len()
    }
}

#[test]
fn the_service_manager_is_kept_informed() {
    let fixture = DaemonFixture::with_own_dataset(1, None, "");
    let socket = fixture.path("notify");
    let manager = Manager::start(&socket);
    let mut daemon = fixture.start_with(
        &[],
        &[
            ("NOTIFY_SOCKET", socket.to_str().unwrap()),
            ("WATCHDOG_USEC", "1000000"),
        ],
    );
    daemon.until("readiness", |_| manager.count("READY=1") == 1);
    daemon.until("a status line", |_| {
        let lines = manager.received("STATUS=").into_iter();
        lines
            .map(|l| l.1)
            .any(|line| line.contains("idle 1 of 1 clips"))
    });
    // Readiness does not wait for the job.
    let log = daemon.log();
    let (ready, job) = (log.find(" ready "), log.find("job state="));
    assert!(ready.is_some() && ready < job, "{log}");
    daemon.until("watchdog pings", |_| manager.count("WATCHDOG=1") >= 8);
    let pings = manager.received("WATCHDOG=1");
    let pause = (pings[pings.len() - 1].0 - pings[0].0) / u32::try_from(pings.len() - 1).unwrap();
    // The watchdog timeout is 1 s.
    assert!(pause < Duration::from_millis(800), "every {pause:?}");
    daemon.signal("HUP");
    daemon.until("the end of a reload", |_| manager.count("READY=1") == 2);
    let reloading = manager.received("RELOADING=1").remove(0);
    let time = reloading.1.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(time.unwrap().parse::<u64>().unwrap() > 0, "{}", reloading.1);
    assert!(reloading.0 <= manager.received("READY=1")[1].0);
    assert_eq!(manager.count("STOPPING=1"), 0);
    assert_eq!(daemon.stop(), Some(0));
    assert_eq!(manager.count("STOPPING=1"), 1);
    assert_eq!(manager.count("RELOADING=1"), 1);
    // The journal adds times; a file does not, so the log lines have them.
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains(" ready ")).unwrap();
    let time = line.split(' ').next().unwrap();
    assert!(humantime::parse_rfc3339(time).is_ok(), "{line}");
    test_support::print_note(&format!("a watchdog ping every {pause:?}"));
}

/// Replaces the config file and waits until the daemon has reloaded it.
#[track_caller]
fn reload(daemon: &mut Daemon, manager: &Manager, fixture: &DaemonFixture, config: &str) {
    let before = manager.count("READY=1");
    fs::write(fixture.path("handloom.toml"), config).unwrap();
    daemon.signal("HUP");
    daemon.until("the end of the reload", |_| {
        manager.count("READY=1") > before
    });
}

fn config_faults(subscriber: &Listener) -> Vec<Value> {
    let mut faults = published(subscriber, topics::FAULT);
    faults.retain(|f| f["component"] == "config");
    faults
}

#[test]
fn another_config_is_taken_up_while_it_runs() {
    let reference = reference_job(LONG);
    let (broker, subscriber) = broker();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(broker.port()), ONE_WORKER);
    let socket = fixture.path("notify");
    let manager = Manager::start(&socket);
    let mut daemon = fixture.start_with(&[], &[("NOTIFY_SOCKET", socket.to_str().unwrap())]);
    let workers = |n: u64| {
        let subscriber = &subscriber;
        move |_: &Daemon| {
            let last = published(subscriber, topics::STATE)
                .pop()
                .unwrap_or_default();
            last["workers_max"] == n && last["workers"] == n && last["state"] == "processing"
        }
    };
    daemon.until("one worker", workers(1));
    let old = fixture.config();
    let swap = |config: &str, from: &str, to: &str| {
        assert!(config.contains(from), "{config}");
        config.replace(from, to)
    };

    // On a machine of one core a second worker needs a restart.
    let cores = thread::available_parallelism().unwrap().get();
    let two = swap(&old, "workers = 1", "workers = 2");
    reload(&mut daemon, &manager, &fixture, &two);
    daemon.until("another worker", workers(cores.min(2) as u64));

    assert!(!daemon.log().contains("DEBUG"), "{}", daemon.log());
    reload(
        &mut daemon,
        &manager,
        &fixture,
        &format!("{two}[log]\nlevel = \"debug\"\n"),
    );
    daemon.until("debug lines", |d| d.log().contains("DEBUG"));

    let resume_only = swap(&two, "[mqtt]", "[mqtt]\ncommands = [\"resume\"]");
    reload(&mut daemon, &manager, &fixture, &resume_only);
    command(&subscriber, "pause", "1");
    daemon.until("a refusal", |_| replies(&subscriber, "1").len() == 1);
    let reason = replies(&subscriber, "1")[0]["reason"].to_string();
    assert!(reason.contains("allowed are resume"), "{reason}");
    assert_eq!(config_faults(&subscriber).len(), 0);

    // After an invalid config the previous one stays in effect, with its list of commands.
    reload(
        &mut daemon,
        &manager,
        &fixture,
        &swap(&old, "[run]", "[runn]"),
    );
    daemon.until("the fault", |_| config_faults(&subscriber).len() == 1);
    let reason = config_faults(&subscriber)[0]["reason"].to_string();
    assert!(
        reason.contains("handloom.toml:") && reason.contains("runn"),
        "{reason}"
    );
    command(&subscriber, "pause", "2");
    daemon.until("a refusal", |_| replies(&subscriber, "2").len() == 1);
    command_with_result(&mut daemon, &subscriber, "resume", "3", "succeeded");

    // Settings that can change at run time are applied; a fault names those that cannot.
    let other = swap(&old, "batch_size = 3", "batch_size = 4");
    reload(&mut daemon, &manager, &fixture, &other);
    daemon.until("the fault", |_| config_faults(&subscriber).len() == 2);
    let fault = config_faults(&subscriber).pop().unwrap();
    let reason = fault["reason"].as_str().unwrap();
    assert!(reason.ends_with("output.batch_size"), "{reason}");
    assert!(
        fault["action"].as_str().unwrap().contains("restart"),
        "{fault}"
    );
    command_with_result(&mut daemon, &subscriber, "pause", "4", "succeeded");
    command_with_result(&mut daemon, &subscriber, "resume", "5", "succeeded");
    daemon.until("the end", |_| is_done(&subscriber));
    fixture.assert_results(&reference.out);
    assert_eq!(daemon.stop(), Some(0));
}

#[test]
fn a_nightly_run_ends_in_time_and_the_next_one_resumes() {
    let reference = reference_job(LONG);
    let fixture = DaemonFixture::with_dataset(&reference.dataset, None, ONE_WORKER);
    let mut daemon = fixture.start(&["--once", "--rescan", "--for", "300ms"]);
    assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());

    // SIGTERM arrives twice while the daemon is stopping.
    let socket = fixture.path("notify");
    let manager = Manager::start(&socket);
    let night = ["--once", "--rescan", "--for", "1s"];
    let mut daemon = fixture.start_with(&night, &[("NOTIFY_SOCKET", socket.to_str().unwrap())]);
    let id = daemon.id().to_string();
    while daemon.is_running() && manager.count("STOPPING=1") == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..2 {
        // The daemon may have ended already.
        Command::new("kill").args(["-TERM", &id]).output().unwrap();
    }
    assert_eq!(daemon.wait(), Some(75), "{}", daemon.log());
    assert!(daemon.recorded().len() < LONG);

    let mut daemon = fixture.start(&["--once", "--rescan", "--for", "1h"]);
    assert_eq!(daemon.wait(), Some(0), "{}", daemon.log());
    fixture.assert_results(&reference.out);
}
