//! `handloom watch` against a real broker: the table of `--once`, what stands in its way, and the live view in a
//! pseudo-terminal.

#![allow(
    clippy::unwrap_used,
    reason = "a test may end where its set-up is broken"
)]

mod common;

use common::handloom;
use handloom::mqtt::subscriber::{self, Subscriber};
use handloom::telemetry::fleet::PAYLOAD_MAX;
use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// For everything that must happen at some time.
const PATIENCE: Duration = Duration::from_secs(30);

const HANDLOOM: &str = env!("CARGO_BIN_EXE_handloom");
/// As Debian installs it; users' paths mostly lack the folder.
const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// Killed when dropped.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A mosquitto of our own.
struct Broker {
    port: u16,
    _process: Guard,
    _dir: TempDir,
}

impl Broker {
    /// With more lines of configuration; `None` with a loud word where there is no mosquitto.
    fn start(more: &str) -> Option<Self> {
        if !Path::new(MOSQUITTO).exists() {
            common::say("SKIPPED: no mosquitto; apt-get install mosquitto");
            return None;
        }
        Some(Self::start_at(free_port(), more))
    }

    fn start_at(port: u16, more: &str) -> Self {
        let dir = common::scratch();
        let config = dir.path().join("mosquitto.conf");
        let text = format!("user root\nlistener {port} 127.0.0.1\n{more}\n");
        fs::write(&config, text).unwrap();
        let child = Command::new(MOSQUITTO)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let process = Guard(child);
        until("the broker listens", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            port,
            _process: process,
            _dir: dir,
        }
    }

    fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Has the broker keep messages for those who come.
    fn keep(&self, messages: &[(&str, &str, Value)]) {
        let options = MqttOptions::new("test", "127.0.0.1", self.port);
        let (client, mut connection) = Client::new(options, 100);
        for (device, channel, body) in messages {
            let mut message =
                json!({"v": 1, "ts": "2026-01-31T12:00:00.000Z", "clock_synced": true, "seq": 1});
            for (key, value) in body.as_object().into_iter().flatten() {
                message[key] = value.clone();
            }
            let topic = format!("handloom/{device}/{channel}");
            let payload = message.to_string();
            client
                .publish(topic, QoS::AtLeastOnce, true, payload)
                .unwrap();
        }
        let acks = connection
            .iter()
            .filter(|event| matches!(event.as_ref().unwrap(), Event::Incoming(Packet::PubAck(_))));
        assert_eq!(acks.take(messages.len()).count(), messages.len());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Asks again and again until there is an answer.
#[track_caller]
fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// Three devices: one at work, one paused, one gone.
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
        // Not as the daemon does it, but so it is there whenever the viewer comes.
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
    let Some(broker) = Broker::start("allow_anonymous true") else {
        return;
    };
    let url = broker.url();
    let once = ["watch", "--once", "--seconds", "1", "--broker", &url];
    let nobody = handloom(once).ends(0);
    assert!(
        nobody.stdout.contains("no device said"),
        "{}",
        nobody.stdout
    );

    broker.keep(&fleet());
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
    // One device alone; and no terminal means once.
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
    let nowhere = format!("mqtt://127.0.0.1:{}", free_port());
    handloom(["watch", "--once", "--broker", &nowhere])
        .ends(69)
        .says(&[&nowhere, "refused", "is a broker running there?"]);
    handloom(["watch", "--once", "--broker", "mqtt://no.such.host.invalid"])
        .ends(69)
        .says(&["no.such.host.invalid"]);
    handloom(["watch", "--broker", "mqtt://u:secret@"])
        .ends(64)
        .says(&["mqtt://…@ is no broker"]);
    handloom(["watch", "--device", "a/b"])
        .ends(64)
        .says(&["1 to 64 of"]);
}

#[test]
fn logins_and_certificates_are_used() {
    let dir = common::scratch();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("password"), "s ecret\n").unwrap();
    let made = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        output.is_ok_and(|o| o.status.success())
    };
    let has_users = made(
        "mosquitto_passwd",
        &["-b", "-c", &path("users"), "viewer", "s ecret"],
    );
    let has_certificate = made(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            &path("key"),
            "-out",
            &path("ca"),
        ],
    );
    if !has_users || !has_certificate {
        common::say("SKIPPED: no mosquitto_passwd or no openssl");
        return;
    }
    let config = format!(
        "allow_anonymous false\npassword_file {}\ncertfile {}\nkeyfile {}",
        path("users"),
        path("ca"),
        path("key"),
    );
    let Some(broker) = Broker::start(&config) else {
        return;
    };
    let url = format!("mqtts://127.0.0.1:{}", broker.port);
    let (password, ca) = (path("password"), path("ca"));
    let watch = |more: &[&str]| {
        let once = ["watch", "--once", "--seconds", "0.5", "--broker", &url];
        handloom(once.iter().chain(more))
    };
    let login = ["--username", "viewer", "--password-file", &password];
    watch(&[&login[..], &["--ca-file", &ca]].concat()).ends(0);
    watch(&["--ca-file", &ca])
        .ends(69)
        .says(&["refuses the login", "--username"]);
    watch(&["--ca-file", &ca, "--username", "viewer"])
        .ends(69)
        .says(&["refuses the login"]);
    watch(&login).ends(69).says(&["certificate", "--ca-file"]);
    watch(&["--ca-file", &password])
        .ends(65)
        .says(&["no certificate"]);
    watch(&["--ca-file", "/none"]).ends(66).says(&["/none"]);
}

/// A broker that lets one viewer connect, answers its subscription with `code` and does with the connection what
/// `then` does.
fn stub(
    code: u8,
    then: impl FnOnce(TcpStream) + Send + 'static,
) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let stub = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut buffer = [0; 1024];
        assert!(stream.read(&mut buffer).unwrap() > 0);
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        // SUBSCRIBE: type, two bytes of length, packet id; seven filters.
        assert!(stream.read(&mut buffer).unwrap() > 5);
        assert_eq!((buffer[0], buffer[1] & 0x80), (0x82, 0x80));
        let mut answer = vec![0x90, 9, buffer[3], buffer[4]];
        answer.extend([code; 7]);
        stream.write_all(&answer).unwrap();
        then(stream);
    });
    (url, stub)
}

#[test]
fn a_refused_subscription_is_not_taken_for_an_empty_fleet() {
    let (url, stub) = stub(0x80, |mut stream| {
        // The viewer hangs up.
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    });
    handloom(["watch", "--once", "--broker", &url])
        .ends(69)
        .says(&["does not let this user read"]);
    stub.join().unwrap();
}

#[test]
fn large_messages_are_cut_and_a_full_channel_does_not_hold_the_end() {
    let (url, stub) = stub(0, |mut stream| {
        let topic = b"handloom/a/status";
        let mut publish = |size: usize| {
            let mut length = 2 + topic.len() + size;
            let mut packet = vec![0x30];
            while length > 0 {
                let more = if length > 0x7f { 0x80 } else { 0 };
                packet.push(u8::try_from(length & 0x7f).unwrap() | more);
                length >>= 7;
            }
            packet.extend([0, u8::try_from(topic.len()).unwrap()]);
            packet.extend(topic);
            packet.resize(packet.len() + size, b'x');
            stream.write_all(&packet)
        };
        publish(2_000_000).unwrap();
        // Until the viewer, who has stopped reading, hangs up.
        while publish(1000).is_ok() {}
    });
    let subscriber = Subscriber::start(&subscriber::Broker::at(&url).unwrap(), None).unwrap();
    let next = || subscriber.events().recv_timeout(PATIENCE).unwrap();
    assert_eq!(next(), subscriber::Event::Connected);
    let subscriber::Event::Message { payload, .. } = next() else {
        panic!("no message")
    };
    assert_eq!(payload.len(), PAYLOAD_MAX + 1);
    until("the channel is full", || {
        subscriber.events().is_full().then_some(())
    });
    let begun = Instant::now();
    drop(subscriber);
    assert!(begun.elapsed() < PATIENCE / 6);
    stub.join().unwrap();
}

#[test]
fn attempts_keep_their_distance() {
    let broker = subscriber::Broker::at(&format!("mqtt://127.0.0.1:{}", free_port())).unwrap();
    let subscriber = Subscriber::start(&broker, None).unwrap();
    let times: Vec<Instant> = (0..3)
        .map(|_| {
            let event = subscriber.events().recv_timeout(PATIENCE).unwrap();
            assert!(matches!(event, subscriber::Event::Disconnected(_)));
            Instant::now()
        })
        .collect();
    let waits = [times[1] - times[0], times[2] - times[1]];
    // The reader may be late for the first; the subscriber is not early.
    assert!(waits[0] > Duration::from_millis(900), "{waits:?}");
    assert!(waits[1] > Duration::from_millis(1900), "{waits:?}");
}

/// A command in a pseudo-terminal of 100 x 30, whose settings are shown after its end.
struct Terminal {
    script: Guard,
    bytes: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Terminal {
    /// `None` with a loud word where there is no `script`.
    fn run(command: &str) -> Option<Self> {
        let command = format!("stty cols 100 rows 30; {command}; echo END=$?; stty -a");
        let child = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            common::say("SKIPPED: no script; apt-get install bsdutils");
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

    /// Reads until `words` were written.
    #[track_caller]
    fn shows(&mut self, words: &str) {
        let begun = Instant::now();
        while !self.seen.contains(words) {
            if let Ok(bytes) = self.bytes.recv_timeout(Duration::from_millis(100)) {
                self.seen.push_str(&String::from_utf8_lossy(&bytes));
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "no {words:?} in {:?}",
                self.seen
            );
        }
    }

    fn press(&mut self, keys: &str) {
        let stdin = self.script.0.stdin.as_mut().unwrap();
        stdin.write_all(keys.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// Asserts the exit code, and that the terminal is as it was: the main screen, a cursor, lines and echo.
    #[track_caller]
    fn ends(mut self, code: i32) {
        self.shows(&format!("END={code}"));
        self.shows("echok");
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
fn the_live_view_shows_follows_and_gives_the_terminal_back() {
    let Some(mut broker) = Broker::start("allow_anonymous true") else {
        return;
    };
    broker.keep(&fleet());
    let Some(mut terminal) = Terminal::run(&format!("{HANDLOOM} watch --broker {}", broker.url()))
    else {
        return;
    };
    terminal.shows("jetson");
    terminal.shows("12306:");
    // Below it is the next, and its details say what runs it.
    terminal.press("j\r");
    terminal.shows("fastest");
    // The view outlives its broker, says so, and finds it again.
    let port = broker.port;
    drop(broker);
    terminal.shows("trying");
    broker = Broker::start_at(port, "allow_anonymous true");
    broker.keep(&[("late-one", "status", status("online"))]);
    terminal.shows("late-one");
    terminal.press("q");
    terminal.ends(0);
}

#[test]
fn the_live_view_keeps_trying_and_every_way_out_restores() {
    let nowhere = format!("mqtt://127.0.0.1:{}", free_port());
    for key in ["\u{3}", "\u{1b}"] {
        let Some(mut terminal) = Terminal::run(&format!("{HANDLOOM} watch --broker {nowhere}"))
        else {
            return;
        };
        terminal.shows("refused");
        terminal.press(key);
        terminal.ends(0);
    }
    // SIGTERM from outside; 124 is timeout's own.
    let watch = format!("timeout --foreground 2 {HANDLOOM} watch --broker {nowhere}");
    if let Some(mut terminal) = Terminal::run(&watch) {
        terminal.shows("refused");
        terminal.ends(124);
    }
}
