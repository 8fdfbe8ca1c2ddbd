//! Against a real broker: killed and restarted, with passwords, with TLS.

use super::rig::{Rig, Shelf, settings, topic};
use handloom::messages::{discovery, topics};
use handloom::mqtt::{Tls, check_tls};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use test_support::broker::{Broker, find, make_certificates, password_file, tls_lines};
use test_support::gate::Gate;
use test_support::listener::{Listener, eventually};

/// The words of `status`, without repetitions in a row.
fn statuses(listener: &Listener) -> Vec<String> {
    let messages = listener.on(&topic(topics::STATUS)).into_iter();
    let mut words: Vec<String> = messages
        .map(|m| m.json()["status"].as_str().unwrap().to_owned())
        .collect();
    words.dedup();
    words
}

fn letters(listener: &Listener) -> Vec<i64> {
    let messages = listener.on(&topic(topics::BATCH)).into_iter();
    messages
        .map(|m| String::from_utf8(m.payload).unwrap().parse().unwrap())
        .collect()
}

/// What a newcomer is told: the retained message of a topic.
fn retained(port: u16, topic: &str) -> Option<Vec<u8>> {
    let newcomer = Listener::start(port, &[topic]);
    let deadline = std::time::Instant::now() + Duration::from_secs(1);
    while std::time::Instant::now() < deadline {
        if let Some(message) = newcomer.messages().into_iter().find(|m| m.retained) {
            return Some(message.payload);
        }
        thread::sleep(Duration::from_millis(5));
    }
    None
}

/// The broker is killed 20 times while letters flow. The gate keeps the client out until the listener is back: what a
/// broker acknowledges while nobody listens is nobody's loss.
fn kills(persistence: bool) {
    const KILLS: usize = 20;
    let mut broker = Broker::start(persistence);
    let gate = Gate::to(broker.port());
    let listener = Listener::start(broker.port(), &["handloom/#"]);
    let mut rig = Rig::start(settings(gate.port()));
    eventually("online", || statuses(&listener) == ["online"]);
    let mut last = 0;
    for kill in 1..=KILLS {
        // Letters come while it is up, while it dies and while it is down.
        let connects = rig.connects();
        for part in 0..4 {
            if part == 2 {
                broker.kill();
                gate.close();
            }
            rig.write(last + 1..=last + 25);
            last += 25;
            thread::sleep(Duration::from_millis(10));
        }
        if kill % 5 == 0 {
            // Long enough for attempts in vain.
            thread::sleep(Duration::from_millis(400));
        }
        broker.restart();
        listener.wait_subscribed(kill + 1);
        gate.open();
        eventually("a connection", || rig.connects() > connects);
    }
    eventually("all delivered", || rig.shelf.is_empty());
    assert_eq!(
        retained(broker.port(), &topic(topics::STATE)).unwrap(),
        b"state 0"
    );
    assert_eq!(statuses(&listener).last().unwrap(), "online");
    rig.stop();
    eventually("the farewell", || {
        statuses(&listener).last().unwrap() == "stopped"
    });
    let letters = letters(&listener);
    let mut seen = HashSet::new();
    let mut first = letters.clone();
    first.retain(|id| seen.insert(*id));
    assert_eq!(first, (1..=last).collect::<Vec<_>>());
    let doubles = letters.len() - first.len();
    let attempts = rig.counters.attempts.load(Ordering::SeqCst);
    println!("persistence {persistence}: {last} letters, {doubles} twice, {attempts} attempts");
}

#[test]
fn no_letter_is_lost_over_20_kills_of_a_broker_with_a_disk() {
    kills(true);
}

#[test]
fn no_letter_is_lost_over_20_kills_of_a_broker_without_a_disk() {
    kills(false);
}

#[test]
fn a_lost_device_is_offline_and_a_returned_one_online() {
    let broker = Broker::start(false);
    let gate = Gate::to(broker.port());
    let listener = Listener::start(broker.port(), &["handloom/#"]);
    let mut rig = Rig::start(settings(gate.port()));
    eventually("online", || statuses(&listener) == ["online"]);
    gate.close();
    eventually("the will", || statuses(&listener) == ["online", "offline"]);
    let status = topic(topics::STATUS);
    let told = String::from_utf8(retained(broker.port(), &status).unwrap()).unwrap();
    assert!(told.contains("offline"), "{told}");
    gate.open();
    eventually("online again", || statuses(&listener).len() == 3);
    rig.stop();
    eventually("stopped", || {
        statuses(&listener) == ["online", "offline", "online", "stopped"]
    });
    // A clean end is not followed by the will.
    thread::sleep(Duration::from_millis(300));
    let told = String::from_utf8(retained(broker.port(), &status).unwrap()).unwrap();
    assert!(told.contains("stopped"), "{told}");
}

#[test]
fn commands_wait_for_a_device_that_is_away() {
    let mut broker = Broker::start(true);
    let speaker = Listener::start(broker.port(), &["handloom/#"]);
    let mut rig = Rig::start(settings(broker.port()));
    eventually("online", || statuses(&speaker) == ["online"]);
    rig.stop();
    for n in 0..30 {
        speaker.publish(
            "handloom/pi-1/cmd/pause",
            false,
            format!("{{\"id\":\"{n}\"}}"),
        );
    }
    speaker.publish("handloom/pi-1/cmd/resume", true, "{}");
    eventually("their way to the broker", || {
        speaker.on("handloom/pi-1/cmd/resume").len() == 1
    });
    // Saved every second; with the broker gone after that, the commands come from its disk.
    thread::sleep(Duration::from_millis(1500));
    broker.restart();
    let rig = Rig::start(settings(broker.port()));
    let came = |name: &str, retained: bool| {
        let commands = rig.tray.commands.lock().unwrap();
        let came = commands.iter().filter(|c| c.0 == name && c.2 == retained);
        came.count()
    };
    eventually("all commands", || came("pause", false) == 30);
    eventually("the retained one, marked as such", || {
        came("resume", true) > 0
    });
}

#[test]
fn home_assistant_is_told_once_and_the_broker_keeps_it() {
    let broker = Broker::start(false);
    let mut open = settings(broker.port());
    open.discovery = true;
    let rig = Rig::start(open.clone());
    rig.write([1]);
    eventually("a letter's PUBACK", || rig.shelf.is_empty());
    let told = retained(broker.port(), &discovery::config_topic("pi-1")).unwrap();
    let config = discovery::config("pi-1", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&told).unwrap(),
        config
    );
}

#[test]
fn a_password_is_asked_for() {
    let broker = Broker::start_with(false, |dir| {
        let file = password_file(dir, "ada", "correct horse");
        format!("allow_anonymous false\npassword_file {}\n", file.display())
    });
    let run = |user: Option<&str>, password: Option<&str>| {
        let mut settings = settings(broker.port());
        settings.username = user.map(str::to_owned);
        settings.password = password.map(str::to_owned);
        Rig::start(settings)
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
        format!("allow_anonymous true\n{}", tls_lines(dir.path()))
    });
    let run = |host: &str, tls: Tls| {
        check_tls(&tls).unwrap();
        let mut settings = settings(broker.port());
        settings.host = host.to_owned();
        settings.tls = Some(tls);
        let shelf = Arc::new(Shelf::default());
        shelf.put(1..=10);
        Rig::start_with(settings, shelf)
    };
    let whole = Tls {
        ca_file: file("ca.pem"),
        cert_file: file("device.pem"),
        key_file: file("device.key"),
    };
    let right = run("localhost", whole.clone());
    eventually("letters over TLS", || right.shelf.is_empty());
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
    // Leads here, too, but the certificate does not say so.
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
        assert!(!wrong.shelf.is_empty());
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
