//! Outgoing messages: the outbox until it is acknowledged, the latest of each retained channel, transient messages.

use super::harness::{Harness, settings, topic};
use handloom::messages::topics;
use handloom::mqtt::QoS;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_support::DEADLINE;
use test_support::listener::eventually;
use test_support::stub_broker::{Packet, StubBroker};

/// A broker without faults.
fn ordinary() -> StubBroker {
    StubBroker::start(|peer| {
        if peer.accept(peer.number > 0, 0) {
            peer.serve();
        }
    })
}

/// Payloads on a channel, in the order of their arrival, with their connections.
fn on(stub: &StubBroker, channel: &str) -> Vec<(usize, String)> {
    let name = topic(channel);
    let seen = stub.seen().into_iter();
    seen.filter_map(|s| match s.packet {
        Packet::Publish { topic, payload, .. } if topic == name => {
            Some((s.connection, String::from_utf8(payload).unwrap()))
        }
        _ => None,
    })
    .collect()
}

/// Ids of the outbox messages that arrived over one connection.
fn batch_ids(stub: &StubBroker, connection: usize) -> Vec<i64> {
    let all = on(stub, topics::BATCH).into_iter();
    all.filter(|(c, _)| *c == connection)
        .map(|(_, id)| id.parse().unwrap())
        .collect()
}

/// The values of `status` over one connection, in the order of their arrival.
fn statuses(stub: &StubBroker, connection: usize) -> Vec<String> {
    let all = on(stub, topics::STATUS).into_iter();
    all.filter(|(c, _)| *c == connection)
        .map(|(_, json)| {
            let json: Value = serde_json::from_str(&json).unwrap();
            json["status"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// The ids without duplicates, in the order of their first arrival.
fn first_arrivals(ids: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

#[test]
fn everything_is_announced_on_every_connack() {
    let stub = StubBroker::start(|peer| {
        // No session is present, as after the restart of a broker without persistence.
        if !peer.accept(false, 0) {
            return;
        }
        while let Some(packet) = peer.read() {
            peer.answer(&packet, true);
            let done =
                matches!(&packet, Packet::Publish { topic, .. } if topic.ends_with("progress"));
            if peer.number == 0 && done {
                return;
            }
        }
    });
    let mut talkative = settings(stub.port());
    talkative.discovery = true;
    talkative.username = Some("ada".to_owned());
    talkative.password = Some("pass".to_owned());
    let mut harness = Harness::start(talkative);
    harness.progress.send_replace(Some(b"progress 1".to_vec()));
    eventually("the second connection's progress", || {
        on(&stub, topics::PROGRESS).len() >= 2
    });
    harness.stop();
    for connection in 0..2 {
        let packets = stub.packets(connection);
        let Packet::Connect {
            client,
            clean,
            keep_alive,
            will: Some((will, payload, true, 1)),
            user,
            password,
        } = &packets[0]
        else {
            panic!("{:?}", packets[0]);
        };
        assert_eq!(
            (client.as_str(), *clean, *keep_alive),
            ("handloom-pi-1", false, 30)
        );
        assert_eq!(will, &topic(topics::STATUS));
        let payload: Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(payload["status"], "offline");
        assert_eq!(
            (user.as_deref(), password.as_deref()),
            (Some("ada"), Some("pass"))
        );
        let commands = vec![("handloom/pi-1/cmd/+".to_owned(), 1)];
        let subscribed = packets
            .iter()
            .any(|p| matches!(p, Packet::Subscribe { filters, .. } if *filters == commands));
        assert!(subscribed, "{packets:?}");
        for name in [
            topic(topics::STATUS),
            topic(topics::STATE),
            topic(topics::PROGRESS),
            "homeassistant/device/handloom_pi-1/config".to_owned(),
        ] {
            let published = packets.iter().any(|p| {
                matches!(p, Packet::Publish { topic, retained: true, qos: 1, .. } if *topic == name)
            });
            assert!(published, "{name} over connection {connection}");
        }
    }
    assert_eq!(statuses(&stub, 0), ["online"]);
    assert_eq!(statuses(&stub, 1), ["online", "stopped"]);
    assert_eq!(stub.packets(1).last(), Some(&Packet::Disconnect));
}

#[test]
fn a_message_is_removed_at_its_puback_only() {
    let allowed = Arc::new(AtomicBool::new(false));
    let acks = allowed.clone();
    let stub = StubBroker::start(move |peer| {
        if !peer.accept(false, 0) {
            return;
        }
        let mut kept = Vec::new();
        while let Some(packet) = peer.read() {
            match packet {
                Packet::Publish { id, .. } if !acks.load(Ordering::SeqCst) => kept.push(id),
                packet => peer.answer(&packet, true),
            }
            if acks.load(Ordering::SeqCst) {
                // In reverse: the order must not matter.
                while let Some(id) = kept.pop() {
                    peer.puback(id);
                }
            }
        }
    });
    let harness = Harness::start(settings(stub.port()));
    harness.write(1..=5);
    eventually("five messages", || batch_ids(&stub, 0).len() == 5);
    thread::sleep(Duration::from_millis(200));
    assert!(harness.outbox.removed.lock().unwrap().is_empty());
    allowed.store(true, Ordering::SeqCst);
    // Any packet wakes the stub.
    assert!(harness.try_send_transient(QoS::AtMostOnce, b"health"));
    eventually("an empty outbox", || harness.outbox.is_empty());
    assert_eq!(harness.counters.delivered.load(Ordering::SeqCst), 5);
    assert_eq!(batch_ids(&stub, 0), [1, 2, 3, 4, 5]);
    assert_eq!(harness.connects(), 1);
}

/// The window bounds unacknowledged messages, other traffic continues, and a new connection starts with the oldest.
#[test]
fn a_broker_that_acknowledges_nothing_blocks_nothing_else() {
    let stub = StubBroker::start(|peer| {
        if !peer.accept(false, 0) {
            return;
        }
        let mut greeted = false;
        while let Some(packet) = peer.read() {
            let is_batch_message =
                matches!(&packet, Packet::Publish { topic, .. } if topic.ends_with("/batch"));
            peer.answer(&packet, peer.number > 0 || !is_batch_message);
            if is_batch_message && !greeted {
                greeted = true;
                peer.publish("handloom/pi-1/cmd/pause", b"{}", 7, false);
            }
        }
    });
    let harness = Harness::start(settings(stub.port()));
    harness.write(1..=200);
    eventually("a full window", || batch_ids(&stub, 0).len() == 32);
    // With 32 messages unacknowledged, commands are acknowledged, and state and transient messages are sent.
    eventually("the client's PUBACK", || {
        stub.packets(0).contains(&Packet::PubAck(7))
    });
    harness.state.send_replace(Some(b"state 1".to_vec()));
    assert!(harness.try_send_transient(QoS::AtLeastOnce, b"picture"));
    eventually("state and snapshot", || {
        on(&stub, topics::STATE).contains(&(0, "state 1".to_owned()))
            && on(&stub, topics::SNAPSHOT) == [(0, "picture".to_owned())]
    });
    assert_eq!(batch_ids(&stub, 0), (1..=32).collect::<Vec<_>>());
    eventually("all delivered", || harness.outbox.is_empty());
    assert_eq!(batch_ids(&stub, 1)[..40], (1..=40).collect::<Vec<_>>());
    let removed = harness.outbox.removed.lock().unwrap().clone();
    assert_eq!(removed, (1..=200).collect::<Vec<_>>());
}

#[test]
fn messages_outlive_connections_that_break_at_any_packet() {
    // Each early connection ends a few packets later than the one before, without acknowledging the last packet.
    let stub = StubBroker::start(|peer| {
        if !peer.accept(peer.number % 2 == 1, 0) {
            return;
        }
        for _ in 0..peer.number * 4 {
            let Some(packet) = peer.read() else { return };
            peer.answer(&packet, true);
        }
        if peer.number >= 12 {
            peer.serve();
        } else {
            peer.read();
        }
    });
    let mut eager = settings(stub.port());
    eager.reconnect_min = Duration::from_millis(10);
    eager.reconnect_max = Duration::from_millis(10);
    let harness = Harness::start(eager);
    harness.write(1..=300);
    eventually("all delivered", || harness.outbox.is_empty());
    let all = (0..stub.connects().len()).flat_map(|c| batch_ids(&stub, c));
    assert_eq!(first_arrivals(all), (1..=300).collect::<Vec<_>>());
}

#[test]
fn the_latest_counts_and_not_too_often() {
    let stub = ordinary();
    let start = Instant::now();
    let harness = Harness::start(settings(stub.port()));
    let mut last = String::new();
    while on(&stub, topics::PROGRESS).len() < 4 {
        assert!(start.elapsed() < DEADLINE, "no progress is published");
        last = format!("progress {:?}", start.elapsed());
        harness.progress.send_replace(Some(last.clone().into()));
        thread::sleep(Duration::from_millis(1));
    }
    eventually("the last progress", || {
        on(&stub, topics::PROGRESS)
            .last()
            .is_some_and(|p| p.1 == last)
    });
    // At most one message per 300 ms. A busy machine sends fewer.
    let count = on(&stub, topics::PROGRESS).len() as u128;
    let most = start.elapsed().as_millis() / 300 + 1;
    assert!(count <= most, "{count} of at most {most}");
}

#[test]
fn transient_messages_are_dropped_and_counted_without_a_broker() {
    let stub = StubBroker::start(|peer| {
        // The broker is unavailable at first.
        if peer.number >= 3 && peer.accept(false, 0) {
            peer.serve();
        }
    });
    let harness = Harness::start(settings(stub.port()));
    let mut sent = 0;
    while harness.connects() == 0 {
        sent += u64::from(harness.try_send_transient(QoS::AtMostOnce, b"away"));
        thread::sleep(Duration::from_millis(5));
    }
    let here = |n: u64| format!("here {n}").into_bytes();
    for n in 0..20 {
        eventually("room", || {
            harness.try_send_transient(QoS::AtMostOnce, &here(n))
        });
        eventually("its arrival", || {
            on(&stub, topics::HEALTH)
                .iter()
                .any(|h| h.1.as_bytes() == here(n))
        });
    }
    assert!(harness.try_send_transient(QoS::AtLeastOnce, b"picture"));
    eventually("a snapshot", || on(&stub, topics::SNAPSHOT).len() == 1);
    let arrived = on(&stub, topics::HEALTH).len() as u64;
    assert_eq!(harness.dropped(), sent + 20 - arrived);
    assert!(harness.dropped() > 10, "only {} dropped", harness.dropped());
}

/// The queue to the MQTT library is bounded, and the client does not wait for itself.
#[test]
fn a_slow_broker_under_a_flood_is_no_deadlock() {
    let stub = StubBroker::start(|peer| {
        if !peer.accept(false, 0) {
            return;
        }
        for n in 0.. {
            let Some(packet) = peer.read() else { return };
            if n < 300 {
                peer.idle(Duration::from_millis(1));
            }
            // The broker sends a flood, too.
            if n < 500 {
                peer.publish("handloom/pi-1/cmd/pause", b"{}", n + 1, false);
            }
            peer.answer(&packet, true);
        }
    });
    let mut harness = Harness::start(settings(stub.port()));
    harness.write(1..=3000);
    let start = Instant::now();
    let image = vec![0; 100_000];
    while !harness.outbox.is_empty() {
        harness
            .state
            .send_replace(Some(format!("{:?}", start.elapsed()).into()));
        harness.try_send_transient(QoS::AtMostOnce, b"health");
        harness.try_send_transient(QoS::AtLeastOnce, &image);
        thread::sleep(Duration::from_millis(1));
        assert!(start.elapsed() < DEADLINE, "a deadlock");
    }
    harness.stop();
    let all = (0..stub.connects().len()).flat_map(|c| batch_ids(&stub, c));
    assert_eq!(first_arrivals(all), (1..=3000).collect::<Vec<_>>());
    // A real broker sends the commands that exceed the inbox's queue again; the stub does not.
    assert!(!harness.inbox.commands.lock().unwrap().is_empty());
}

#[test]
fn a_jammed_outbox_is_tried_again() {
    let stub = ordinary();
    let harness = Harness::start(settings(stub.port()));
    eventually("a connection", || harness.connects() == 1);
    harness.outbox.is_failing.store(true, Ordering::SeqCst);
    harness.write(1..=3);
    thread::sleep(Duration::from_millis(100));
    harness.outbox.is_failing.store(false, Ordering::SeqCst);
    eventually("all delivered", || harness.outbox.is_empty());
    assert_eq!(harness.connects(), 1);
    assert_eq!(batch_ids(&stub, 0), [1, 2, 3]);
}

#[test]
fn stop_publishes_what_is_pending() {
    let stub = ordinary();
    let mut harness = Harness::start(settings(stub.port()));
    eventually("a connection", || harness.connects() == 1);
    harness.outbox.put(1..=100);
    harness.state.send_replace(Some(b"the end".to_vec()));
    harness.progress.send_replace(Some(b"all".to_vec()));
    harness.stop();
    assert!(harness.outbox.is_empty());
    assert_eq!(on(&stub, topics::STATE).last().unwrap().1, "the end");
    assert_eq!(on(&stub, topics::PROGRESS).last().unwrap().1, "all");
    let packets = stub.packets(0);
    let [
        ..,
        Packet::Publish {
            topic: last,
            retained: true,
            qos: 1,
            ..
        },
        Packet::Disconnect,
    ] = packets.as_slice()
    else {
        panic!("{:?}", packets.last());
    };
    assert_eq!(last, &topic(topics::STATUS));
    assert_eq!(statuses(&stub, 0).last().unwrap(), "stopped");
}

#[test]
fn a_last_message_right_before_the_stop_is_published() {
    for _ in 0..10 {
        let stub = ordinary();
        let mut harness = Harness::start(settings(stub.port()));
        eventually("the first state", || on(&stub, topics::STATE).len() == 1);
        harness.state.send_replace(Some(b"the end".to_vec()));
        harness.stop();
        assert_eq!(on(&stub, topics::STATE).last().unwrap().1, "the end");
    }
}

#[test]
fn online_is_published_again_over_a_late_will() {
    let stub = ordinary();
    let harness = Harness::start(settings(stub.port()));
    eventually("a second online", || {
        statuses(&stub, 0) == ["online", "online"]
    });
    assert_eq!(harness.connects(), 1);
}

#[test]
fn changed_settings_reconnect_and_equal_ones_do_not() {
    let (old, new) = (ordinary(), ordinary());
    let harness = Harness::start(settings(old.port()));
    harness.write(1..=3);
    eventually("an empty outbox", || harness.outbox.is_empty());
    harness.settings.send_replace(settings(old.port()));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(harness.connects(), 1);
    let mut other = settings(new.port());
    other.client_id = "other".to_owned();
    harness.settings.send_replace(other);
    eventually("the new broker", || harness.connects() == 2);
    assert_eq!(statuses(&old, 0), ["online", "stopped"]);
    assert_eq!(old.packets(0).last(), Some(&Packet::Disconnect));
    harness.write(4..=6);
    eventually("new messages", || batch_ids(&new, 0) == [4, 5, 6]);
    assert!(matches!(&new.packets(0)[0], Packet::Connect { client, .. } if client == "other"));
}
