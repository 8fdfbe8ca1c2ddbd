//! What comes in: each command reaches the inbox before the broker may forget it.

use super::rig::{Rig, settings};
use handloom::mqtt::ConnectionNotice;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use test_support::listener::eventually;
use test_support::stub_broker::{Packet, Stub};

const PAUSE: &str = "handloom/pi-1/cmd/pause";

/// Sends `messages` (topic, payload, packet id, retained) over each connection until they are acknowledged.
fn sending(messages: Vec<(String, Vec<u8>, u16, bool)>) -> Stub {
    let acked = std::sync::Mutex::new(Vec::new());
    Stub::start(move |peer| {
        if !peer.accept(peer.number > 0, 0) {
            return;
        }
        while let Some(packet) = peer.read() {
            peer.answer(&packet, true);
            match packet {
                Packet::Subscribe { .. } => {
                    for (topic, payload, id, retained) in &messages {
                        if !acked.lock().unwrap().contains(id) {
                            peer.publish(topic, payload, *id, *retained);
                        }
                    }
                }
                Packet::PubAck(id) => acked.lock().unwrap().push(id),
                _ => {}
            }
        }
    })
}

fn acks(stub: &Stub) -> Vec<u16> {
    let seen = stub.seen().into_iter();
    seen.filter_map(|s| match s.packet {
        Packet::PubAck(id) => Some(id),
        _ => None,
    })
    .collect()
}

#[test]
fn commands_are_handed_on_as_they_come() {
    let message = |name: &str, payload: &[u8], id, retained| {
        (
            format!("handloom/pi-1/cmd/{name}"),
            payload.to_vec(),
            id,
            retained,
        )
    };
    let stub = sending(vec![
        message("pause", b"{\"id\":\"a\"}", 1, false),
        message("pause", b"{\"id\":\"a\"}", 2, false),
        message("resume", b"\xff\x00", 3, true),
        message("explode", b"", 0, false),
        message("cancel", &[b'x'; 64 * 1024], 4, false),
        ("handloom/pi-2/cmd/pause".to_owned(), Vec::new(), 5, false),
    ]);
    let rig = Rig::start(settings(stub.port()));
    eventually("five PUBACKs", || acks(&stub).len() == 5);
    // The one that is not ours is got rid of without waiting for its turn.
    let mut ours = acks(&stub);
    ours.retain(|id| *id != 5);
    assert_eq!(ours, [1, 2, 3, 4]);
    let commands = rig.tray.commands.lock().unwrap().clone();
    let short: Vec<_> = commands
        .iter()
        .map(|(name, payload, retained)| (name.as_str(), payload.len(), *retained))
        .collect();
    assert_eq!(
        short,
        [
            ("pause", 10, false),
            ("pause", 10, false),
            ("resume", 2, true),
            ("explode", 0, false),
            ("cancel", 64 * 1024, false),
        ]
    );
    assert_eq!(rig.counters.received.load(Ordering::SeqCst), 5);
    assert_eq!(rig.connects(), 1);
}

#[test]
fn the_puback_waits_for_the_inbox() {
    let stub = sending(vec![(PAUSE.to_owned(), b"{}".to_vec(), 9, false)]);
    let rig = Rig::start(settings(stub.port()));
    *rig.tray.slow.lock().unwrap() = Duration::from_millis(400);
    eventually("the subscription", || {
        let packets = stub.packets(0);
        packets
            .iter()
            .any(|p| matches!(p, Packet::Subscribe { .. }))
    });
    thread::sleep(Duration::from_millis(200));
    assert!(acks(&stub).is_empty());
    // Other traffic does not wait.
    rig.write(1..=3);
    eventually("letters", || rig.shelf.is_empty());
    eventually("the PUBACK", || acks(&stub) == [9]);
    assert_eq!(rig.tray.commands.lock().unwrap().len(), 1);
}

#[test]
fn a_command_that_was_not_taken_comes_again() {
    let stub = sending(vec![(PAUSE.to_owned(), b"{}".to_vec(), 9, false)]);
    let rig = Rig::start(settings(stub.port()));
    rig.tray.jammed.store(true, Ordering::SeqCst);
    eventually("a failure", || rig.tray.failed.load(Ordering::SeqCst) >= 2);
    assert!(acks(&stub).is_empty());
    rig.tray.jammed.store(false, Ordering::SeqCst);
    eventually("the PUBACK", || acks(&stub) == [9]);
    assert_eq!(rig.tray.commands.lock().unwrap().len(), 1);
    assert!(rig.connects() >= 2);
}

#[test]
fn more_commands_than_the_inbox_queue_holds_come_again() {
    let commands = (1..=200).map(|id| (PAUSE.to_owned(), id.to_string().into(), id, false));
    let stub = sending(commands.collect());
    let rig = Rig::start(settings(stub.port()));
    *rig.tray.slow.lock().unwrap() = Duration::from_millis(1);
    eventually("all PUBACKs", || {
        let mut acks = acks(&stub);
        acks.sort_unstable();
        acks.dedup();
        acks.len() == 200
    });
    let commands = rig.tray.commands.lock().unwrap().clone();
    for id in 1..=200 {
        let payload = id.to_string().into_bytes();
        assert!(commands.iter().any(|c| c.1 == payload), "{id}");
    }
}

#[test]
fn a_command_over_64_kib_is_ignored() {
    let stub = sending(vec![
        (PAUSE.to_owned(), vec![b'x'; 64 * 1024 + 1], 1, false),
        (PAUSE.to_owned(), b"{}".to_vec(), 2, false),
    ]);
    let rig = Rig::start(settings(stub.port()));
    eventually("both PUBACKs", || acks(&stub).len() == 2);
    assert_eq!(rig.tray.commands.lock().unwrap().len(), 1);
    assert_eq!(rig.connects(), 1);
}

/// A message too large to be read would end every connection for ever: the session that holds it is given up, then, if
/// it is retained, listening.
#[test]
fn a_huge_command_costs_listening_and_not_reporting() {
    let huge = vec![b'x'; 2 << 20];
    let stub = sending(vec![(PAUSE.to_owned(), huge, 1, true)]);
    let rig = Rig::start(settings(stub.port()));
    eventually("three connections", || rig.connects() >= 3);
    rig.write(1..=100);
    eventually("letters", || rig.shelf.is_empty());
    let listening = |connection: usize| {
        let packets = stub.packets(connection);
        let Some(Packet::Connect { clean, .. }) = packets.first() else {
            panic!("{packets:?}");
        };
        let subscribes = packets
            .iter()
            .any(|p| matches!(p, Packet::Subscribe { .. }));
        (*clean, subscribes)
    };
    assert_eq!(
        [0, 1, 2].map(listening),
        [(false, true), (true, true), (true, false)]
    );
    assert_eq!(rig.connects(), 3);
    let notices = rig.shelf.notices.lock().unwrap();
    let [ConnectionNotice::CommandsOff(reason)] = notices.as_slice() else {
        panic!("{notices:?}");
    };
    assert!(reason.contains("too large"), "{reason}");
}
