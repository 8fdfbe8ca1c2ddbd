//! Incoming commands: each one reaches the inbox before the client acknowledges it.

use super::harness::{Harness, settings};
use handloom::mqtt::ConnectionNotice;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use test_support::listener::eventually;
use test_support::stub_broker::{Packet, StubBroker};

const PAUSE: &str = "handloom/pi-1/cmd/pause";

/// Sends `messages` (topic, payload, packet id, retained) over each connection until they are acknowledged.
fn sending(messages: Vec<(String, Vec<u8>, u16, bool)>) -> StubBroker {
    let acked = std::sync::Mutex::new(Vec::new());
    StubBroker::start(move |peer| {
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

fn acks(stub: &StubBroker) -> Vec<u16> {
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
    let harness = Harness::start(settings(stub.port()));
    eventually("five PUBACKs", || acks(&stub).len() == 5);
    // The client acknowledges the other device's command at once, out of order.
    let mut ours = acks(&stub);
    ours.retain(|id| *id != 5);
    assert_eq!(ours, [1, 2, 3, 4]);
    let commands = harness.inbox.commands.lock().unwrap().clone();
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
    assert_eq!(harness.counters.received.load(Ordering::SeqCst), 5);
    assert_eq!(harness.connects(), 1);
}

#[test]
fn the_puback_waits_for_the_inbox() {
    let stub = sending(vec![(PAUSE.to_owned(), b"{}".to_vec(), 9, false)]);
    let harness = Harness::start(settings(stub.port()));
    *harness.inbox.slow.lock().unwrap() = Duration::from_millis(400);
    eventually("the subscription", || {
        let packets = stub.packets(0);
        packets
            .iter()
            .any(|p| matches!(p, Packet::Subscribe { .. }))
    });
    thread::sleep(Duration::from_millis(200));
    assert!(acks(&stub).is_empty());
    // Other traffic does not wait.
    harness.write(1..=3);
    eventually("an empty outbox", || harness.outbox.is_empty());
    eventually("the PUBACK", || acks(&stub) == [9]);
    assert_eq!(harness.inbox.commands.lock().unwrap().len(), 1);
}

#[test]
fn a_command_that_was_not_taken_comes_again() {
    let stub = sending(vec![(PAUSE.to_owned(), b"{}".to_vec(), 9, false)]);
    let harness = Harness::start(settings(stub.port()));
    harness.inbox.is_failing.store(true, Ordering::SeqCst);
    eventually("a failure", || {
        harness.inbox.failed.load(Ordering::SeqCst) >= 2
    });
    assert!(acks(&stub).is_empty());
    harness.inbox.is_failing.store(false, Ordering::SeqCst);
    eventually("the PUBACK", || acks(&stub) == [9]);
    assert_eq!(harness.inbox.commands.lock().unwrap().len(), 1);
    assert!(harness.connects() >= 2);
}

#[test]
fn more_commands_than_the_inbox_queue_holds_come_again() {
    let commands = (1..=200).map(|id| (PAUSE.to_owned(), id.to_string().into(), id, false));
    let stub = sending(commands.collect());
    let harness = Harness::start(settings(stub.port()));
    *harness.inbox.slow.lock().unwrap() = Duration::from_millis(1);
    eventually("all PUBACKs", || {
        let mut acks = acks(&stub);
        acks.sort_unstable();
        acks.dedup();
        acks.len() == 200
    });
    let commands = harness.inbox.commands.lock().unwrap().clone();
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
    let harness = Harness::start(settings(stub.port()));
    eventually("both PUBACKs", || acks(&stub).len() == 2);
    assert_eq!(harness.inbox.commands.lock().unwrap().len(), 1);
    assert_eq!(harness.connects(), 1);
}

/// A message that is too large to read would end every connection. The client first discards the session that holds
/// the message. If the message is retained and arrives again, the client subscribes no more.
#[test]
fn a_huge_command_costs_listening_and_not_reporting() {
    let huge = vec![b'x'; 2 << 20];
    let stub = sending(vec![(PAUSE.to_owned(), huge, 1, true)]);
    let harness = Harness::start(settings(stub.port()));
    eventually("three connections", || harness.connects() >= 3);
    harness.write(1..=100);
    eventually("an empty outbox", || harness.outbox.is_empty());
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
    assert_eq!(harness.connects(), 3);
    let notices = harness.outbox.notices.lock().unwrap();
    let [ConnectionNotice::CommandsOff(reason)] = notices.as_slice() else {
        panic!("{notices:?}");
    };
    assert!(reason.contains("too large"), "{reason}");
}
