//! Brokers that refuse, drop, fall silent or talk nonsense: how often they are asked, and what is said to them.

use super::rig::{Rig, settings};
use handloom::mqtt::Settings;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use test_support::Dice;
use test_support::listener::eventually;
use test_support::stub_broker::{Packet, Stub};

/// Seconds between the connections.
fn gaps(stub: &Stub) -> Vec<f64> {
    let connects = stub.connects();
    let pairs = connects.windows(2);
    pairs.map(|w| (w[1] - w[0]).as_secs_f64()).collect()
}

#[test]
fn a_refused_connack_is_no_connection() {
    for code in 1..=6 {
        let stub = Stub::start(move |peer| {
            peer.accept(false, code);
            peer.serve();
        });
        let rig = Rig::start(settings(stub.port()));
        rig.write(1..=3);
        eventually("three attempts", || stub.connects().len() >= 3);
        let counted = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::SeqCst);
        assert_eq!(rig.connects(), 0, "code {code}");
        // Of code 6, which does not exist, it can only be said that it is no acceptance.
        let refused = counted(&rig.counters.refused);
        assert!(refused >= 2 || code == 6, "code {code}: {refused}");
        for seen in stub.seen() {
            let Packet::Connect { clean, .. } = seen.packet else {
                panic!("code {code}: {:?}", seen.packet);
            };
            assert!(!clean);
        }
        assert!(gaps(&stub).iter().all(|g| *g >= 0.099), "{:?}", gaps(&stub));
    }
}

#[test]
fn a_broker_that_accepts_and_drops_is_asked_ever_less() {
    let stub = Stub::start(|peer| {
        peer.accept(true, 0);
    });
    let mut patient = settings(stub.port());
    patient.reconnect_max = Duration::from_mins(1);
    let rig = Rig::start(patient);
    eventually("five attempts", || stub.connects().len() >= 5);
    let gaps = gaps(&stub);
    for (gap, least) in gaps.iter().zip([0.1, 0.2, 0.4, 0.8]) {
        assert!(*gap >= least - 0.002, "{gaps:?}");
    }
    assert!(rig.connects() >= 4);
}

/// As users have it: at most one a second, and none lost to a spin, also where nobody listens.
#[test]
fn a_second_passes_between_attempts_by_default() {
    let stub = Stub::start(|_| {});
    let nobody = test_support::broker::free_port();
    let rigs = [stub.port(), nobody].map(|port| {
        let settings = Settings::new("pi-1", "127.0.0.1", port);
        (Rig::start(settings), Instant::now())
    });
    thread::sleep(Duration::from_millis(2600));
    for (rig, since) in &rigs {
        let attempts = rig.counters.attempts.load(Ordering::SeqCst);
        let most = since.elapsed().as_secs() + 1;
        assert!((1..=most).contains(&attempts), "{attempts} attempts");
    }
    assert!(gaps(&stub).iter().all(|g| *g >= 0.99), "{:?}", gaps(&stub));
}

#[test]
fn a_broker_that_says_nothing_is_left() {
    let stub = Stub::start(|peer| while peer.read().is_some() {});
    let rig = Rig::start(settings(stub.port()));
    eventually("a second attempt", || stub.connects().len() >= 2);
    let waited = gaps(&stub)[0];
    assert!((1.0..3.0).contains(&waited), "{waited} s");
    assert_eq!(rig.connects(), 0);
}

#[test]
fn a_broker_that_falls_silent_is_left() {
    let stub = Stub::start(|peer| {
        peer.accept(false, 0);
        while peer.read().is_some() {}
    });
    let mut quick = settings(stub.port());
    quick.keep_alive = Duration::from_secs(1);
    // Long enough that it is the ping that finds out.
    quick.connect_timeout = Duration::from_secs(10);
    let rig = Rig::start(quick);
    eventually("a second connection", || rig.connects() >= 2);
    let waited = gaps(&stub)[0];
    assert!((1.0..4.0).contains(&waited), "{waited} s");
    assert!(stub.packets(0).contains(&Packet::Ping));
}

#[test]
fn a_broker_that_acknowledges_nothing_at_all_is_left() {
    let stub = Stub::start(|peer| {
        peer.accept(false, 0);
        while let Some(packet) = peer.read() {
            peer.answer(&packet, false);
        }
    });
    let rig = Rig::start(settings(stub.port()));
    eventually("a second connection", || rig.connects() >= 2);
    let waited = gaps(&stub)[0];
    assert!((3.0..5.0).contains(&waited), "{waited} s");
}

/// Neither a broker that has nothing to say nor one that is away keeps the processor busy.
#[test]
fn waiting_costs_nothing() {
    let stub = Stub::start(|peer| {
        peer.accept(false, 0);
        peer.serve();
    });
    let nobody = test_support::broker::free_port();
    let mut rigs = [stub.port(), nobody].map(|port| Rig::start(settings(port)));
    thread::sleep(Duration::from_secs(2));
    for rig in &mut rigs {
        let spent = rig.stop();
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
    let _rig = Rig::start(six);
    eventually("a connection", || socket.accept().is_ok());
}

#[test]
fn nonsense_is_survived() {
    let stub = Stub::start(|peer| {
        let mut dice = Dice::new(peer.number as u64);
        // The first half of them instead of a CONNACK, the others after it.
        if peer.number >= 20 && !peer.accept(false, 0) {
            return;
        }
        if peer.number < 40 {
            let bytes: Vec<u8> = (0..dice.below(60)).map(|_| dice.byte()).collect();
            peer.send(&bytes);
            peer.idle(Duration::from_millis(10));
        } else {
            peer.serve();
        }
    });
    let mut eager = settings(stub.port());
    eager.reconnect_min = Duration::from_millis(10);
    eager.reconnect_max = Duration::from_millis(10);
    let rig = Rig::start(eager);
    rig.write(1..=5);
    eventually("letters in the end", || rig.shelf.is_empty());
    assert!(stub.connects().len() > 40);
}

#[test]
fn a_puback_for_nothing_costs_the_connection_and_no_letter() {
    let stub = Stub::start(|peer| {
        if peer.accept(true, 0) {
            if peer.number == 0 {
                peer.puback(900);
            }
            peer.serve();
        }
    });
    let rig = Rig::start(settings(stub.port()));
    rig.write(1..=50);
    eventually("all delivered", || rig.shelf.is_empty());
    assert!(rig.connects() >= 2);
}

#[test]
fn stop_is_obeyed_in_every_state() {
    let never = Stub::start(|peer| while peer.read().is_some() {});
    let refusing = Stub::start(|peer| {
        peer.accept(false, 5);
    });
    let unanswering = Stub::start(|peer| {
        peer.accept(false, 0);
        while let Some(packet) = peer.read() {
            peer.answer(&packet, false);
        }
    });
    let nobody = test_support::broker::free_port();
    for (port, most_s) in [
        (never.port(), 2.5),
        (refusing.port(), 1.0),
        (nobody, 1.0),
        (unanswering.port(), 6.0),
    ] {
        let mut slow = settings(port);
        slow.connect_timeout = Duration::from_secs(10);
        slow.reconnect_max = Duration::from_mins(1);
        let mut rig = Rig::start(slow);
        rig.write(1..=3);
        eventually("an attempt", || {
            rig.counters.attempts.load(Ordering::SeqCst) > 0
        });
        thread::sleep(Duration::from_millis(100));
        let since = Instant::now();
        rig.stop();
        let took = since.elapsed().as_secs_f64();
        assert!(took < most_s, "{took} s at port {port}");
        assert!(!rig.shelf.is_empty(), "nobody acknowledged the letters");
    }
    // The farewell was given time before DISCONNECT.
    let seen = unanswering.seen();
    let [.., farewell, end] = seen.as_slice() else {
        panic!("{seen:?}");
    };
    assert!(matches!(&farewell.packet, Packet::Publish { topic, .. } if topic.ends_with("status")));
    assert_eq!(end.packet, Packet::Disconnect);
    let waited = end.at - farewell.at;
    assert!(waited > Duration::from_millis(1900), "{waited:?}");
}
