//! `handloom watch` with a real broker: the table of `--once`, its errors, and the live view in a pseudo-terminal.

use handloom::messages::payloads::PAYLOAD_MAX;
use handloom::messages::topics;
use handloom::mqtt::Settings;
use handloom::mqtt::subscriber::{self, Subscriber};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use test_support::broker::{Broker, find, free_port, make_certificates, password_file, tls_config};
use test_support::handloom;
use test_support::listener::{Listener, eventually};
use test_support::stub_broker::StubBroker;

/// Time limit for every expected event.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Killed when dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // The process may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The program's path, for a shell command.
fn program() -> String {
    test_support::binary().display().to_string()
}

fn url(port: u16) -> String {
    format!("mqtt://127.0.0.1:{port}")
}

/// Publishes retained messages.
fn keep(broker: &Broker, messages: &[(&str, &str, Value)]) {
    let listener = Listener::start(broker.port(), &["handloom/#"]);
    let known = listener.messages().len();
    for (device, channel, body) in messages {
        let mut message =
            json!({"v": 1, "ts": "2026-01-31T12:00:00.000Z", "clock_synced": true, "seq": 1});
        for (key, value) in body.as_object().into_iter().flatten() {
            message[key] = value.clone();
        }
        let topic = topics::topic(device, channel);
        listener.publish(&topic, true, message.to_string());
    }
    eventually("the broker has the messages", || {
        listener.messages().len() >= known + messages.len()
    });
}

fn status(name: &str) -> Value {
    json!({"status": name, "version": "0.2.0"})
}

fn state(name: &str, reason: Option<&str>) -> Value {
    json!({
        "state": name, "reason": reason, "run": "r1", "backend": "cpu", "backend_reason": "fastest",
        "workers": 4, "workers_max": 4,
    })
}

fn progress(done: usize) -> Value {
    json!({
        "run": "r1", "total": 200, "done": done, "states": {"accepted": done}, "clips_per_min": 31.25,
        "eta_s": 11_100.0, "clip": null,
    })
}

/// Three devices: one working, one paused, one offline.
fn fleet() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("pi-1", "status", status("online")),
        ("pi-1", "state", state("processing", None)),
        ("pi-1", "progress", progress(50)),
        ("pi-2", "status", status("online")),
        ("pi-2", "state", state("paused", Some("120 MiB left"))),
        ("jetson", "status", status("offline")),
        ("jetson", "state", state("processing", None)),
        ("jetson", "progress", progress(199)),
        // Retained, unlike the daemon's: the viewer receives it whenever it connects.
        (
            "jetson",
            "fault",
            json!({
                "run": "r1", "component": "clip", "clip": {"gloss": "book", "video_id": "12306"},
                "reason": "no frame", "action": "recorded as unreadable",
            }),
        ),
    ]
}

#[test]
fn once_prints_the_fleet_and_its_faults() {
    let broker = Broker::start(false);
    let url = url(broker.port());
    let once = ["watch", "--once", "--seconds", "1", "--broker", &url];
    let no_devices = handloom(once).ends(0);
    assert!(
        no_devices.stdout.contains("no device published"),
        "{}",
        no_devices.stdout
    );

    keep(&broker, &fleet());
    let seen = handloom(once).ends(0);
    assert_eq!(seen.stderr, "");
    let lines: Vec<Vec<&str>> = seen
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let expected = [
        "DEVICE STATUS STATE PERCENT DONE CLIPS/MIN ETA TEMP OUTBOX AGE NEEDS",
        "jetson offline processing 99% 199/200 - - - - - help",
        "pi-1 online processing 25% 50/200 31.2 3h05m - - - -",
        "pi-2 online paused - - - - - - - look",
    ];
    for (line, expected) in lines.iter().zip(expected) {
        assert_eq!(line.join(" "), expected, "{}", seen.stdout);
    }
    for words in [
        "jetson NEEDS HELP: offline",
        "2026-01-31 12:00:00 clip book 12306: no frame\n    recorded as unreadable",
        "pi-2 wants a look: paused: 120 MiB left",
    ] {
        assert!(seen.stdout.contains(words), "{words}: {}", seen.stdout);
    }
    // One device alone. Without a terminal, `watch` runs once.
    let one = [
        "watch",
        "--seconds",
        "1",
        "--broker",
        &url,
        "--device",
        "pi-2",
    ];
    let seen = handloom(one).ends(0).stdout;
    assert!(seen.contains("pi-2") && !seen.contains("pi-1"), "{seen}");
}

#[test]
fn a_broker_that_is_not_there_or_refuses_ends_with_69() {
    let nowhere = url(free_port());
    handloom(["watch", "--once", "--broker", &nowhere])
        .ends(69)
        .stderr_contains(&[&nowhere, "refused", "is a broker running there?"]);
    handloom(["watch", "--once", "--broker", "mqtt://no.such.host.invalid"])
        .ends(69)
        .stderr_contains(&["no.such.host.invalid"]);
    handloom(["watch", "--broker", "mqtt://u:secret@"])
        .ends(64)
        .stderr_contains(&["names no host"]);
    handloom(["watch", "--broker", "http://u:secret@h"])
        .ends(64)
        .stderr_contains(&["begins with http://", "mqtts://"]);
    handloom(["watch", "--ca-file", "ca.pem"])
        .ends(64)
        .stderr_contains(&["give mqtts://"]);
    handloom(["watch", "--password-file", "pw"])
        .ends(64)
        .stderr_contains(&["--username"]);
    handloom(["watch", "--cert-file", "c"])
        .ends(64)
        .stderr_contains(&["--key-file"]);
    handloom(["watch", "--device", "a/b"])
        .ends(64)
        .stderr_contains(&["1 to 64 of"]);
}

#[test]
fn logins_and_certificates_are_used() {
    let dir = test_support::scratch();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("password"), "s ecret\nnot this").unwrap();
    let Some(openssl) = find("openssl") else {
        test_support::print_note("SKIPPED: no openssl");
        return;
    };
    make_certificates(&openssl, dir.path());
    let broker = Broker::start_with(false, |_| {
        let users = password_file(dir.path(), "viewer", "s ecret");
        format!(
            "allow_anonymous false\npassword_file {}\n{}",
            users.display(),
            tls_config(dir.path())
        )
    });
    let url = format!("mqtts://localhost:{}", broker.port());
    let [password, ca, cert, key] = ["password", "ca.pem", "device.pem", "device.key"].map(path);
    let watch = |url: &str, more: &[&[&str]]| {
        let once = ["watch", "--once", "--seconds", "0.5", "--broker", url];
        handloom(once.iter().chain(more.iter().copied().flatten()))
    };
    let login: &[&str] = &["--username", "viewer", "--password-file", &password];
    let trust: &[&str] = &["--ca-file", &ca];
    let show: &[&str] = &["--cert-file", &cert, "--key-file", &key];
    watch(&url, &[login, trust, show]).ends(0);
    let whole = url.replace("mqtts://", "ssl://viewer:s%20ecret@");
    watch(&whole, &[trust, show]).ends(0);
    // A flag overrides the URL.
    watch(&whole, &[trust, show, &["--username", "nobody"]]).ends(69);
    watch(&url, &[trust, show])
        .ends(69)
        .stderr_contains(&[&url, "user name"]);
    watch(&url, &[login, show])
        .ends(69)
        .stderr_contains(&["CA file"]);
    watch(&url, &[login, trust]).ends(69);
    watch(&url, &[&["--ca-file", &password]])
        .ends(65)
        .stderr_contains(&["no certificate"]);
    watch(&url, &[&["--ca-file", "/none"]])
        .ends(66)
        .stderr_contains(&["/none"]);
    watch(&url, &[&["--username", "u", "--password-file", "/none"]])
        .ends(66)
        .stderr_contains(&["/none"]);
}

#[test]
fn a_refused_subscription_is_not_taken_for_an_empty_fleet() {
    let stub = StubBroker::start(|peer| {
        assert_eq!(peer.refuse_reading().len(), 7);
        // The viewer disconnects.
        assert_eq!(peer.read(), None);
    });
    handloom(["watch", "--once", "--broker", &url(stub.port())])
        .ends(69)
        .stderr_contains(&["does not let this user read handloom/+/"]);
}

#[test]
fn large_messages_are_cut_and_a_full_channel_does_not_hold_the_end() {
    let stub = StubBroker::start(|peer| {
        assert!(peer.accept(false, 0));
        let subscribe = peer.read().unwrap();
        peer.answer(&subscribe, true);
        let topic = topics::topic("a", topics::STATUS);
        peer.publish(&topic, &vec![b'x'; 2_000_000], 0, false);
        // More than the channel holds; then the viewer, which has stopped reading, disconnects.
        for _ in 0..20_000 {
            peer.publish(&topic, &[b'x'; 1000], 0, false);
        }
    });
    let settings = Settings::new("", "127.0.0.1", stub.port());
    let subscriber = Subscriber::start("watch", &settings, subscriber::fleet(None)).unwrap();
    let next = || subscriber.events().recv_timeout(TIMEOUT).unwrap();
    assert_eq!(next(), subscriber::Event::Connected);
    let subscriber::Event::Message { payload, .. } = next() else {
        panic!("no message")
    };
    assert_eq!(payload.len(), PAYLOAD_MAX + 1);
    eventually("the channel is full", || subscriber.events().is_full());
    let begun = Instant::now();
    drop(subscriber);
    assert!(begun.elapsed() < TIMEOUT);
}

#[test]
fn attempts_keep_their_distance() {
    let settings = Settings::new("", "127.0.0.1", free_port());
    let start = Instant::now();
    let subscriber = Subscriber::start("watch", &settings, subscriber::fleet(None)).unwrap();
    let times: Vec<Duration> = (0..3)
        .map(|_| {
            let event = subscriber.events().recv_timeout(TIMEOUT).unwrap();
            assert!(matches!(event, subscriber::Event::Disconnected(_)));
            start.elapsed()
        })
        .collect();
    // Pauses of one and two seconds. This thread may read an event late, never early.
    assert!(times[1] > Duration::from_millis(900), "{times:?}");
    assert!(times[2] > Duration::from_millis(2800), "{times:?}");
}

/// A command in a pseudo-terminal of 100 x 30. The terminal's settings are printed after the command ends.
struct Terminal {
    script: Guard,
    bytes: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// Prints a note and returns `None` where `script` is not installed.
    fn run(command: &str) -> Option<Self> {
        let command = format!("stty cols 100 rows 30; {command}; echo END=$?; stty -a");
        let child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            test_support::print_note("SKIPPED: script is not installed; apt-get install bsdutils");
            return None;
        };
        let mut stdout = child.stdout.take().unwrap();
        let (sender, bytes) = mpsc::sync_channel(100);
        // Ends with the stream or with the receiver.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Some(Self {
            script: Guard(child),
            bytes,
            seen: String::new(),
        })
    }

    /// Reads until the command has written `words`.
    #[track_caller]
    fn wait_for(&mut self, words: &str) {
        let begun = Instant::now();
        while !self.seen.contains(words) {
            if let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(100)) {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
            }
            assert!(begun.elapsed() < TIMEOUT, "no {words:?} in {:?}", self.seen);
        }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.script.0.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Asserts the exit code and a restored terminal: main screen, visible cursor, line mode and echo.
    #[track_caller]
    fn ends(mut self, code: i32) {
        self.wait_for(&format!("END={code}"));
        self.wait_for("echok");
        let after = self.seen.split_once("END=").unwrap();
        for setting in ["icanon", "isig", "echo"] {
            let mut settings = after.1.split_whitespace();
            assert!(settings.any(|s| s == setting), "{setting}: {}", after.1);
        }
        let last = |code: &str| after.0.rfind(code);
        assert!(last("\u{1b}[?1049h").is_some() && last("\u{1b}[?1049l") > last("\u{1b}[?1049h"));
        assert!(last("\u{1b}[?25h") > last("\u{1b}[?25l"));
    }
}

#[test]
fn the_live_view_updates_and_restores_the_terminal() {
    let mut broker = Broker::start(false);
    keep(&broker, &fleet());
    let command = format!("{} watch --broker {}", program(), url(broker.port()));
    let Some(mut terminal) = Terminal::run(&command) else {
        return;
    };
    terminal.wait_for("jetson");
    terminal.wait_for("12306:");
    // The next device is below; its details name the backend preference.
    terminal.press("j\r");
    terminal.wait_for("fastest");
    // The view survives a broker that ends, shows the lost connection, and reconnects.
    broker.kill();
    terminal.wait_for("trying");
    broker.restart();
    // Only changed cells are drawn: this name has no character in common with a name above at the same position.
    keep(&broker, &[("zulu-9", "status", status("online"))]);
    terminal.wait_for("zulu-9");
    terminal.press("q");
    terminal.ends(0);
}

#[test]
fn the_live_view_retries_and_every_exit_restores_the_terminal() {
    let nowhere = url(free_port());
    for key in ["\u{3}", "\u{1b}"] {
        let Some(mut terminal) = Terminal::run(&format!("{} watch --broker {nowhere}", program()))
        else {
            return;
        };
        terminal.wait_for("refused");
        terminal.press(key);
        terminal.ends(0);
    }
    // SIGTERM from outside; 124 is timeout's own.
    let watch = format!(
        "timeout --foreground 2 {} watch --broker {nowhere}",
        program()
    );
    if let Some(mut terminal) = Terminal::run(&watch) {
        terminal.wait_for("refused");
        terminal.ends(124);
    }
}
