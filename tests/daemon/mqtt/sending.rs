//! What goes out: letters until they are acknowledged, the latest of the retained channels, loose messages if it suits.

use super::rig::{Rig, settings, topic};
use handloom::messages::topics;
use handloom::mqtt::QoS;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use test_support::listener::eventually;
use test_support::stub_broker::{Packet, Stub};

/// An ordinary broker.
fn ordinary() -> Stub {
    Stub::start(|peer| {
        if peer.accept(peer.number > 0, 0) {
            peer.serve();
        }
    })
}

/// Payloads on a channel, in the order of their arrival, with their connections.
fn on(stub: &Stub, channel: &str) -> Vec<(usize, String)> {
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

/// Ids of letters that came over one connection.
fn letters(stub: &Stub, connection: usize) -> Vec<i64> {
    let all = on(stub, topics::BATCH).into_iter();
    all.filter(|(c, _)| *c == connection)
        .map(|(_, id)| id.parse().unwrap())
        .collect()
}

/// The words of `status`, in the order of their arrival.
fn statuses(stub: &Stub, connection: usize) -> Vec<String> {
    let all = on(stub, topics::STATUS).into_iter();
    all.filter(|(c, _)| *c == connection)
        .map(|(_, json)| {
            let json: Value = serde_json::from_str(&json).unwrap();
            json["status"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Numbers without the repetitions.
fn first_arrivals(ids: impl IntoIterator<Item = i64>) -> Vec<i64> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}

#[test]
fn everything_is_announced_on_every_connack() {
    let stub = Stub::start(|peer| {
        // The first forgets everything, as after a restart without its disk.
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
    let mut rig = Rig::start(talkative);
    rig.progress.send_replace(Some(b"progress 1".to_vec()));
    eventually("the second connection's progress", || {
        on(&stub, topics::PROGRESS).len() >= 2
    });
    rig.stop();
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
fn a_letter_leaves_at_its_puback_only() {
    let allowed = Arc::new(AtomicBool::new(false));
    let acks = allowed.clone();
    let stub = Stub::start(move |peer| {
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
                // The last first: order is not to matter.
                while let Some(id) = kept.pop() {
                    peer.puback(id);
                }
            }
        }
    });
    let rig = Rig::start(settings(stub.port()));
    rig.write(1..=5);
    eventually("five letters", || letters(&stub, 0).len() == 5);
    thread::sleep(Duration::from_millis(200));
    assert!(rig.shelf.removed.lock().unwrap().is_empty());
    allowed.store(true, Ordering::SeqCst);
    // Something to wake the stub with.
    assert!(rig.drop_in(QoS::AtMostOnce, b"health"));
    eventually("an empty shelf", || rig.shelf.is_empty());
    assert_eq!(rig.counters.delivered.load(Ordering::SeqCst), 5);
    assert_eq!(letters(&stub, 0), [1, 2, 3, 4, 5]);
    assert_eq!(rig.connects(), 1);
}

/// The window bounds what is under way, other traffic goes on, and a fresh connection begins with the oldest.
#[test]
fn a_broker_that_acknowledges_nothing_blocks_nothing_else() {
    let stub = Stub::start(|peer| {
        if !peer.accept(false, 0) {
            return;
        }
        let mut greeted = false;
        while let Some(packet) = peer.read() {
            let is_letter =
                matches!(&packet, Packet::Publish { topic, .. } if topic.ends_with("/batch"));
            peer.answer(&packet, peer.number > 0 || !is_letter);
            if is_letter && !greeted {
                greeted = true;
                peer.publish("handloom/pi-1/cmd/pause", b"{}", 7, false);
            }
        }
    });
    let rig = Rig::start(settings(stub.port()));
    rig.write(1..=200);
    eventually("a full window", || letters(&stub, 0).len() == 32);
    // A command is acknowledged, and state and loose messages go out, beside 32 letters that hang.
    eventually("a PUBACK of ours", || {
        stub.packets(0).contains(&Packet::PubAck(7))
    });
    rig.state.send_replace(Some(b"state 1".to_vec()));
    assert!(rig.drop_in(QoS::AtLeastOnce, b"picture"));
    eventually("state and snapshot", || {
        on(&stub, topics::STATE).contains(&(0, "state 1".to_owned()))
            && on(&stub, topics::SNAPSHOT) == [(0, "picture".to_owned())]
    });
    assert_eq!(letters(&stub, 0), (1..=32).collect::<Vec<_>>());
    eventually("all delivered", || rig.shelf.is_empty());
    assert_eq!(letters(&stub, 1)[..40], (1..=40).collect::<Vec<_>>());
    let removed = rig.shelf.removed.lock().unwrap().clone();
    assert_eq!(removed, (1..=200).collect::<Vec<_>>());
}

#[test]
fn letters_outlive_connections_that_break_at_any_packet() {
    // Each of the first connections ends after a few more packets than the one before, without acknowledging the last.
    let stub = Stub::start(|peer| {
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
    let rig = Rig::start(eager);
    rig.write(1..=300);
    eventually("all delivered", || rig.shelf.is_empty());
    let all = (0..stub.connects().len()).flat_map(|c| letters(&stub, c));
    assert_eq!(first_arrivals(all), (1..=300).collect::<Vec<_>>());
}

#[test]
fn the_latest_counts_and_not_too_often() {
    let stub = ordinary();
    let rig = Rig::start(settings(stub.port()));
    let since = Instant::now();
    let mut last = String::new();
    while since.elapsed() < Duration::from_secs(1) {
        last = format!("progress {:?}", since.elapsed());
        rig.progress.send_replace(Some(last.clone().into()));
        thread::sleep(Duration::from_millis(1));
    }
    eventually("the last", || {
        on(&stub, topics::PROGRESS)
            .last()
            .is_some_and(|p| p.1 == last)
    });
    let times: Vec<Instant> = stub
        .seen()
        .into_iter()
        .filter(
            |s| matches!(&s.packet, Packet::Publish { topic, .. } if topic.ends_with("progress")),
        )
        .map(|s| s.at)
        .collect();
    assert!((3..=6).contains(&times.len()), "{}", times.len());
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] > Duration::from_millis(280));
    }
}

#[test]
fn loose_messages_are_dropped_and_counted_without_a_broker() {
    let stub = Stub::start(|peer| {
        // Away at first.
        if peer.number >= 3 && peer.accept(false, 0) {
            peer.serve();
        }
    });
    let rig = Rig::start(settings(stub.port()));
    let mut sent = 0;
    while rig.connects() == 0 {
        sent += u64::from(rig.drop_in(QoS::AtMostOnce, b"away"));
        thread::sleep(Duration::from_millis(5));
    }
    let here = |n: u64| format!("here {n}").into_bytes();
    for n in 0..20 {
        eventually("room", || rig.drop_in(QoS::AtMostOnce, &here(n)));
        eventually("its arrival", || {
            on(&stub, topics::HEALTH)
                .iter()
                .any(|h| h.1.as_bytes() == here(n))
        });
    }
    assert!(rig.drop_in(QoS::AtLeastOnce, b"picture"));
    eventually("a picture", || on(&stub, topics::SNAPSHOT).len() == 1);
    let arrived = on(&stub, topics::HEALTH).len() as u64;
    assert_eq!(rig.dropped(), sent + 20 - arrived);
    assert!(rig.dropped() > 10, "only {} dropped", rig.dropped());
}

/// The queue to the library is bounded, and nothing waits for itself.
#[test]
fn a_slow_broker_under_a_flood_is_no_deadlock() {
    let stub = Stub::start(|peer| {
        if !peer.accept(false, 0) {
            return;
        }
        for n in 0.. {
            let Some(packet) = peer.read() else { return };
            if n < 300 {
                peer.idle(Duration::from_millis(1));
            }
            // A flood from the other side, too.
            if n < 500 {
                peer.publish("handloom/pi-1/cmd/pause", b"{}", n + 1, false);
            }
            peer.answer(&packet, true);
        }
    });
    let mut rig = Rig::start(settings(stub.port()));
    rig.write(1..=3000);
    let since = Instant::now();
    let picture = vec![0; 100_000];
    while !rig.shelf.is_empty() {
        rig.state
            .send_replace(Some(format!("{:?}", since.elapsed()).into()));
        rig.drop_in(QoS::AtMostOnce, b"health");
        rig.drop_in(QoS::AtLeastOnce, &picture);
        thread::sleep(Duration::from_millis(1));
        assert!(since.elapsed() < Duration::from_secs(20), "no end");
    }
    rig.stop();
    let all = (0..stub.connects().len()).flat_map(|c| letters(&stub, c));
    assert_eq!(first_arrivals(all), (1..=3000).collect::<Vec<_>>());
    // Commands beyond the inbox's queue come again; none may be missing in the end of a real broker.
    assert!(!rig.tray.commands.lock().unwrap().is_empty());
}

#[test]
fn a_jammed_outbox_is_tried_again() {
    let stub = ordinary();
    let rig = Rig::start(settings(stub.port()));
    eventually("a connection", || rig.connects() == 1);
    rig.shelf.jammed.store(true, Ordering::SeqCst);
    rig.write(1..=3);
    thread::sleep(Duration::from_millis(100));
    rig.shelf.jammed.store(false, Ordering::SeqCst);
    eventually("all delivered", || rig.shelf.is_empty());
    assert_eq!(rig.connects(), 1);
    assert_eq!(letters(&stub, 0), [1, 2, 3]);
}

#[test]
fn stop_says_what_is_left_to_say() {
    let stub = ordinary();
    let mut rig = Rig::start(settings(stub.port()));
    eventually("a connection", || rig.connects() == 1);
    rig.shelf.put(1..=100);
    rig.state.send_replace(Some(b"the end".to_vec()));
    rig.progress.send_replace(Some(b"all".to_vec()));
    let since = Instant::now();
    rig.stop();
    assert!(since.elapsed() < Duration::from_secs(2));
    assert!(rig.shelf.is_empty());
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
fn a_last_word_right_before_the_stop_is_said() {
    for _ in 0..10 {
        let stub = ordinary();
        let mut rig = Rig::start(settings(stub.port()));
        eventually("the first state", || on(&stub, topics::STATE).len() == 1);
        rig.state.send_replace(Some(b"the end".to_vec()));
        rig.stop();
        assert_eq!(on(&stub, topics::STATE).last().unwrap().1, "the end");
    }
}

#[test]
fn online_is_said_again_over_a_late_will() {
    let stub = ordinary();
    let rig = Rig::start(settings(stub.port()));
    eventually("a second online", || {
        statuses(&stub, 0) == ["online", "online"]
    });
    assert_eq!(rig.connects(), 1);
}

#[test]
fn changed_settings_begin_anew_and_equal_ones_do_not() {
    let (old, new) = (ordinary(), ordinary());
    let rig = Rig::start(settings(old.port()));
    rig.write(1..=3);
    eventually("letters", || rig.shelf.is_empty());
    rig.settings.send_replace(settings(old.port()));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(rig.connects(), 1);
    let mut other = settings(new.port());
    other.client_id = "other".to_owned();
    let since = Instant::now();
    rig.settings.send_replace(other);
    eventually("the new broker", || rig.connects() == 2);
    assert!(since.elapsed() < Duration::from_secs(2));
    assert_eq!(statuses(&old, 0), ["online", "stopped"]);
    assert_eq!(old.packets(0).last(), Some(&Packet::Disconnect));
    rig.write(4..=6);
    eventually("letters there", || letters(&new, 0) == [4, 5, 6]);
    assert!(matches!(&new.packets(0)[0], Packet::Connect { client, .. } if client == "other"));
}
