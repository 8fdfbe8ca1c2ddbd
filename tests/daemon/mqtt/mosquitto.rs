//! The MQTT client against a real broker: kills and restarts, passwords, TLS.

use super::harness::{Harness, MemoryOutbox, settings, topic};
use handloom::messages::{discovery, topics};
use handloom::mqtt::{Tls, check_tls};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use test_support::broker::{Broker, find, make_certificates, password_file, tls_config};
use test_support::listener::{Listener, eventually};
use test_support::tcp_gate::TcpGate;

/// The values of `status`, without consecutive duplicates.
fn statuses(listener: &Listener) -> Vec<String> {
    let messages = listener.on(&topic(topics::STATUS)).into_iter();
    let mut words: Vec<String> = messages
        .map(|m| m.json()["status"].as_str().unwrap().to_owned())
        .collect();
    words.dedup();
    words
}

fn batch_ids(listener: &Listener) -> Vec<i64> {
    let messages = listener.on(&topic(topics::BATCH)).into_iter();
    messages
        .map(|m| String::from_utf8(m.payload).unwrap().parse().unwrap())
        .collect()
}

/// The retained message of a topic, as a newly connected subscriber receives it.
fn retained(port: u16, topic: &str) -> Option<Vec<u8>> {
    let late_subscriber = Listener::start(port, &[topic]);
    let deadline = std::time::Instant::now() + Duration::from_secs(1);
    while std::time::Instant::now() < deadline {
        if let Some(message) = late_subscriber.messages().into_iter().find(|m| m.retained) {
            return Some(message.payload);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// Kills the broker 20 times while messages are sent. The gate blocks the client until the listener is subscribed
/// again: the listener cannot receive what the broker acknowledges without it.
fn kills(persistence: bool) {
    const KILLS: usize = 20;
    let mut broker = Broker::start(persistence);
    let gate = TcpGate::to(broker.port());
    let listener = Listener::start(broker.port(), &["handloom/#"]);
    let mut harness = Harness::start(settings(gate.port()));
    eventually("online", || statuses(&listener) == ["online"]);
    let mut last = 0;
    for kill in 1..=KILLS {
        // Messages are written while the broker is up, around its kill, and while it is down.
        let connects = harness.connects();
        for part in 0..4 {
            if part == 2 {
                broker.kill();
                gate.close();
            }
            harness.write(last + 1..=last + 25);
            last += 25;
            thread::sleep(Duration::from_millis(10));
        }
        if kill % 5 == 0 {
            // Long enough for failed attempts.
            thread::sleep(Duration::from_millis(400));
        }
        broker.restart();
        listener.wait_subscribed(kill + 1);
        gate.open();
        eventually("a connection", || harness.connects() > connects);
    }
    eventually("all delivered", || harness.outbox.is_empty());
    assert_eq!(
        retained(broker.port(), &topic(topics::STATE)).unwrap(),
        b"state 0"
    );
    assert_eq!(statuses(&listener).last().unwrap(), "online");
    harness.stop();
    eventually("the stopped status", || {
        statuses(&listener).last().unwrap() == "stopped"
    });
    let batch_ids = batch_ids(&listener);
    let mut seen = HashSet::new();
    let mut first = batch_ids.clone();
    first.retain(|id| seen.insert(*id));
    assert_eq!(first, (1..=last).collect::<Vec<_>>());
    let doubles = batch_ids.len() - first.len();
    let attempts = harness.counters.attempts.load(Ordering::SeqCst);
    println!("persistence {persistence}: {last} messages, {doubles} repeated, {attempts} attempts");
}

#[test]
fn no_message_is_lost_over_20_kills_of_a_broker_with_a_disk() {
    kills(true);
}

#[test]
fn no_message_is_lost_over_20_kills_of_a_broker_without_a_disk() {
    kills(false);
}

#[test]
fn a_lost_device_is_offline_and_a_returned_one_online() {
    let broker = Broker::start(false);
    let gate = TcpGate::to(broker.port());
    let listener = Listener::start(broker.port(), &["handloom/#"]);
    let mut harness = Harness::start(settings(gate.port()));
    eventually("online", || statuses(&listener) == ["online"]);
    gate.close();
    eventually("the will", || statuses(&listener) == ["online", "offline"]);
    let status = topic(topics::STATUS);
    let status_payload = String::from_utf8(retained(broker.port(), &status).unwrap()).unwrap();
    assert!(status_payload.contains("offline"), "{status_payload}");
    gate.open();
    eventually("online again", || statuses(&listener).len() == 3);
    harness.stop();
    eventually("stopped", || {
        statuses(&listener) == ["online", "offline", "online", "stopped"]
    });
    // After a clean stop the broker does not publish the will.
    thread::sleep(Duration::from_millis(300));
    let status_payload = String::from_utf8(retained(broker.port(), &status).unwrap()).unwrap();
    assert!(status_payload.contains("stopped"), "{status_payload}");
}

#[test]
fn commands_wait_for_a_device_that_is_away() {
    let mut broker = Broker::start(true);
    let subscriber = Listener::start(broker.port(), &["handloom/#"]);
    let mut harness = Harness::start(settings(broker.port()));
    eventually("online", || statuses(&subscriber) == ["online"]);
    harness.stop();
    for n in 0..30 {
        subscriber.publish(
            "handloom/pi-1/cmd/pause",
            false,
            format!("{{\"id\":\"{n}\"}}"),
        );
    }
    subscriber.publish("handloom/pi-1/cmd/resume", true, "{}");
    eventually("the commands at the broker", || {
        subscriber.on("handloom/pi-1/cmd/resume").len() == 1
    });
    // The broker saves every second. After its restart, the commands come from its disk.
    thread::sleep(Duration::from_millis(1500));
    broker.restart();
    let harness = Harness::start(settings(broker.port()));
    let came = |name: &str, retained: bool| {
        let commands = harness.inbox.commands.lock().unwrap();
        let came = commands.iter().filter(|c| c.0 == name && c.2 == retained);
        came.count()
    };
    eventually("all commands", || came("pause", false) == 30);
    eventually("the retained command, marked as retained", || {
        came("resume", true) > 0
    });
}

#[test]
fn home_assistant_discovery_is_published_once_and_retained() {
    let broker = Broker::start(false);
    let mut open = settings(broker.port());
    open.discovery = true;
    let harness = Harness::start(open.clone());
    harness.write([1]);
    eventually("the message's PUBACK", || harness.outbox.is_empty());
    let status_payload = retained(broker.port(), &discovery::config_topic("pi-1")).unwrap();
    let config = discovery::config("pi-1", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&status_payload).unwrap(),
        config
    );
}

#[test]
fn a_broker_that_requires_a_password_refuses_without_one() {
    let broker = Broker::start_with(false, |dir| {
        let file = password_file(dir, "ada", "correct horse");
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    });
    let run = |user: Option<&str>, password: Option<&str>| {
        let mut settings = settings(broker.port());
        settings.username = user.map(str::to_owned);
        settings.password = password.map(str::to_owned);
        Harness::start(settings)
    };
    let right = run(Some("ada"), Some("correct horse"));
    eventually("a connection", || right.connects() == 1);
    for (user, password) in [
        (Some("ada"), Some("wrong")),
        (Some("bob"), Some("correct horse")),
        (Some("ada"), None),
        (None, None),
    ] {
        let wrong = run(user, password);
        eventually("refusals", || {
            wrong.counters.refused.load(Ordering::SeqCst) >= 2
        });
        assert_eq!(wrong.connects(), 0);
    }
    assert_eq!(right.connects(), 1);
}

#[test]
fn tls_trusts_the_given_authority_and_shows_the_given_certificate() {
    let Some(openssl) = find("openssl") else {
        println!("SKIPPED: no openssl here to make certificates with");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    make_certificates(&openssl, dir.path());
    let file = |name: &str| Some(dir.path().join(name));
    let broker = Broker::start_with(false, |_| {
        format!("allow_anonymous true\n{}", tls_config(dir.path()))
    });
    let run = |host: &str, tls: Tls| {
        check_tls(&tls).unwrap();
        let mut settings = settings(broker.port());
        settings.host = host.to_owned();
        settings.tls = Some(tls);
        let outbox = Arc::new(MemoryOutbox::default());
        outbox.put(1..=10);
        Harness::start_with(settings, outbox)
    };
    let whole = Tls {
        ca_file: file("ca.pem"),
        cert_file: file("device.pem"),
        key_file: file("device.key"),
    };
    let right = run("localhost", whole.clone());
    eventually("messages delivered over TLS", || right.outbox.is_empty());
    let stranger = Tls {
        ca_file: file("other.pem"),
        ..whole.clone()
    };
    let anonymous = Tls {
        cert_file: None,
        key_file: None,
        ..whole.clone()
    };
    let system = Tls {
        ca_file: None,
        ..whole.clone()
    };
    // The address leads to the broker, too, but the certificate does not name it.
    let unnamed = ("127.0.0.1", whole.clone());
    for (host, tls) in [
        ("localhost", stranger),
        ("localhost", anonymous),
        ("localhost", system),
        unnamed,
    ] {
        let wrong = run(host, tls);
        eventually("attempts", || {
            wrong.counters.attempts.load(Ordering::SeqCst) >= 3
        });
        assert_eq!(wrong.connects(), 0);
        assert!(!wrong.outbox.is_empty());
    }
    let mixed = Tls {
        key_file: file("server.key"),
        ..whole.clone()
    };
    let message = check_tls(&mixed).unwrap_err().to_string();
    assert!(
        message.contains("does not belong to the certificate"),
        "{message}"
    );
    let old = Tls {
        key_file: file("old.key"),
        ..whole
    };
    let refused = check_tls(&old).unwrap_err();
    assert!(refused.to_string().contains("PKCS#8"), "{refused}");
}
