//! Brokers that refuse, disconnect, do not respond or send garbage: how often the client connects, and what it sends.

use super::harness::{Harness, settings};
use handloom::mqtt::Settings;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use test_support::TestRng;
use test_support::listener::eventually;
use test_support::stub_broker::{Packet, StubBroker};

/// Asserts that connection n + 1 comes no earlier than the sum of the first n `pauses`, in seconds, after `start`,
/// which precedes the client. A busy machine delays a connection and never hurries it, so the bound always holds. A
/// delay may hide a later pause that is too short.
#[track_caller]
fn assert_paced(stub: &StubBroker, start: Instant, pauses: impl IntoIterator<Item = f64>) {
    let times: Vec<f64> = stub
        .connects()
        .iter()
        .map(|at| (*at - start).as_secs_f64())
        .collect();
    let mut earliest = 0.0;
    for (time, pause) in times.iter().skip(1).zip(pauses) {
        earliest += pause;
        assert!(*time >= earliest - 0.002, "{times:?}");
    }
}

#[test]
fn a_refused_connack_is_no_connection() {
    for code in 1..=6 {
        let stub = StubBroker::start(move |peer| {
            peer.accept(false, code);
            peer.serve();
        });
        let start = Instant::now();
        let harness = Harness::start(settings(stub.port()));
        harness.write(1..=3);
        eventually("three attempts", || stub.connects().len() >= 3);
        let counted = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::SeqCst);
        assert_eq!(harness.connects(), 0, "code {code}");
        // Code 6 does not exist: the client is not connected, but need not count a refusal.
        let refused = counted(&harness.counters.refused);
        assert!(refused >= 2 || code == 6, "code {code}: {refused}");
        for seen in stub.seen() {
            let Packet::Connect { clean, .. } = seen.packet else {
                panic!("code {code}: {:?}", seen.packet);
            };
            assert!(!clean);
        }
        assert_paced(&stub, start, std::iter::repeat(0.1));
    }
}

#[test]
fn reconnects_back_off_when_a_broker_accepts_and_drops() {
    let stub = StubBroker::start(|peer| {
        peer.accept(true, 0);
    });
    let mut patient = settings(stub.port());
    patient.reconnect_max = Duration::from_mins(1);
    let start = Instant::now();
    let harness = Harness::start(patient);
    eventually("five attempts", || stub.connects().len() >= 5);
    assert_paced(&stub, start, [0.1, 0.2, 0.4, 0.8]);
    assert!(harness.connects() >= 4);
}

/// By default the client makes at most one attempt per second, also at a closed port.
#[test]
fn a_second_passes_between_attempts_by_default() {
    let stub = StubBroker::start(|_| {});
    let closed_port = test_support::broker::free_port();
    let harnesses = [stub.port(), closed_port].map(|port| {
        let settings = Settings::new("pi-1", "127.0.0.1", port);
        let start = Instant::now();
        (Harness::start(settings), start)
    });
    for (harness, _) in &harnesses {
        eventually("three attempts", || {
            harness.counters.attempts.load(Ordering::SeqCst) >= 3
        });
    }
    eventually("three connections", || stub.connects().len() >= 3);
    for (harness, start) in &harnesses {
        let attempts = harness.counters.attempts.load(Ordering::SeqCst);
        let most = start.elapsed().as_secs() + 1;
        assert!(attempts <= most, "{attempts} attempts");
    }
    assert_paced(&stub, harnesses[0].1, std::iter::repeat(1.0));
}

#[test]
fn a_silent_broker_is_disconnected() {
    let stub = StubBroker::start(|peer| while peer.read().is_some() {});
    let start = Instant::now();
    let harness = Harness::start(settings(stub.port()));
    eventually("a second attempt", || stub.connects().len() >= 2);
    assert_paced(&stub, start, [1.0]);
    assert_eq!(harness.connects(), 0);
}

#[test]
fn a_broker_that_falls_silent_is_left() {
    let stub = StubBroker::start(|peer| {
        peer.accept(false, 0);
        while peer.read().is_some() {}
    });
    let mut quick = settings(stub.port());
    quick.keep_alive = Duration::from_secs(1);
    // Long enough that the ping detects the silence.
    quick.connect_timeout = Duration::from_mins(10);
    let start = Instant::now();
    let harness = Harness::start(quick);
    eventually("a second connection", || harness.connects() >= 2);
    assert_paced(&stub, start, [1.0]);
    assert!(stub.packets(0).contains(&Packet::Ping));
}

#[test]
fn a_broker_that_acknowledges_nothing_at_all_is_left() {
    let stub = StubBroker::start(|peer| {
        peer.accept(false, 0);
        while let Some(packet) = peer.read() {
            peer.answer(&packet, false);
        }
    });
    let mut patient = settings(stub.port());
    patient.connect_timeout = Duration::from_secs(3);
    let start = Instant::now();
    let harness = Harness::start(patient);
    eventually("a second connection", || harness.connects() >= 2);
    assert_paced(&stub, start, [9.0]);
}

/// Neither an idle broker nor an absent one keeps the processor busy.
#[test]
fn waiting_costs_nothing() {
    let stub = StubBroker::start(|peer| {
        peer.accept(false, 0);
        peer.serve();
    });
    let closed_port = test_support::broker::free_port();
    let mut harnesses = [stub.port(), closed_port].map(|port| Harness::start(settings(port)));
    thread::sleep(Duration::from_secs(2));
    for harness in &mut harnesses {
        let spent = harness.stop();
        assert!(spent < Duration::from_millis(100), "{spent:?}");
    }
}

#[test]
fn an_ipv6_address_is_reached() {
    let Ok(socket) = TcpListener::bind("[::1]:0") else {
        println!("SKIPPED: no IPv6 here");
        return;
    };
    socket.set_nonblocking(true).unwrap();
    let mut six = settings(socket.local_addr().unwrap().port());
    six.host = "::1".to_owned();
    let _harness = Harness::start(six);
    eventually("a connection", || socket.accept().is_ok());
}

#[test]
fn nonsense_is_survived() {
    let stub = StubBroker::start(|peer| {
        let mut rng = TestRng::new(peer.number as u64);
        // 20 connections get garbage instead of a CONNACK, the next 20 after it.
        if peer.number >= 20 && !peer.accept(false, 0) {
            return;
        }
        if peer.number < 40 {
            let bytes: Vec<u8> = (0..rng.below(60)).map(|_| rng.byte()).collect();
            peer.send(&bytes);
            peer.idle(Duration::from_millis(10));
        } else {
            peer.serve();
        }
    });
    let mut eager = settings(stub.port());
    eager.reconnect_min = Duration::from_millis(10);
    eager.reconnect_max = Duration::from_millis(10);
    let harness = Harness::start(eager);
    harness.write(1..=5);
    eventually("all delivered", || harness.outbox.is_empty());
    assert!(stub.connects().len() > 40);
}

#[test]
fn an_unexpected_puback_costs_the_connection_and_no_message() {
    let stub = StubBroker::start(|peer| {
        if peer.accept(true, 0) {
            if peer.number == 0 {
                peer.puback(900);
            }
            peer.serve();
        }
    });
    let harness = Harness::start(settings(stub.port()));
    harness.write(1..=50);
    eventually("all delivered", || harness.outbox.is_empty());
    assert!(harness.connects() >= 2);
}

#[test]
fn stop_is_obeyed_in_every_state() {
    /// A stop waits for no connection attempt and no pause between attempts.
    const TOO_LONG: Duration = Duration::from_mins(2);
    let never = StubBroker::start(|peer| while peer.read().is_some() {});
    let refusing = StubBroker::start(|peer| {
        peer.accept(false, 5);
    });
    let unanswering = StubBroker::start(|peer| {
        peer.accept(false, 0);
        while let Some(packet) = peer.read() {
            peer.answer(&packet, false);
        }
    });
    let closed_port = test_support::broker::free_port();
    let mut stopped_at = Instant::now();
    for port in [
        never.port(),
        refusing.port(),
        closed_port,
        unanswering.port(),
    ] {
        let mut slow = settings(port);
        slow.connect_timeout = TOO_LONG;
        slow.reconnect_min = TOO_LONG;
        slow.reconnect_max = TOO_LONG;
        let mut harness = Harness::start(slow);
        harness.write(1..=3);
        eventually("an attempt", || {
            harness.counters.attempts.load(Ordering::SeqCst) > 0
        });
        thread::sleep(Duration::from_millis(100));
        stopped_at = Instant::now();
        harness.stop();
        let took = stopped_at.elapsed();
        assert!(took < TOO_LONG / 2, "{took:?} at port {port}");
        assert!(
            !harness.outbox.is_empty(),
            "nobody acknowledged the messages"
        );
    }
    // The client waits 2 s for the PUBACKs of the messages and 2 s for that of `stopped`, then sends DISCONNECT.
    let seen = unanswering.seen();
    let [.., stopped_payload, end] = seen.as_slice() else {
        panic!("{seen:?}");
    };
    assert!(
        matches!(&stopped_payload.packet, Packet::Publish { topic, .. } if topic.ends_with("status"))
    );
    assert_eq!(end.packet, Packet::Disconnect);
    let waited = end.at - stopped_at;
    assert!(waited > Duration::from_millis(3900), "{waited:?}");
}
