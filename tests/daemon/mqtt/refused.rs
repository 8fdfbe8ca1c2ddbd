//! Messages above the broker's size limit, and another device with the same client id.

use super::harness::{Harness, MemoryOutbox, settings, topic};
use handloom::messages::{discovery, topics};
use handloom::mqtt::{ConnectionNotice, PendingMessage, QoS};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use test_support::broker::Broker;
use test_support::listener::{Listener, eventually};

/// The reported problems.
fn problems(harness: &Harness) -> Vec<String> {
    let notices = harness.outbox.notices.lock().unwrap();
    let reasons = notices.iter().filter_map(|notice| match notice {
        ConnectionNotice::Problem { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    reasons.collect()
}

fn limited(bytes: u32) -> (Broker, Listener) {
    let broker = Broker::start_with(false, |_| {
        format!("allow_anonymous true\nmax_packet_size {bytes}\n")
    });
    let listener = Listener::start(broker.port(), &["#"]);
    (broker, listener)
}

#[test]
fn a_message_above_the_brokers_limit_holds_up_no_other() {
    let (broker, listener) = limited(1500);
    let outbox = Arc::new(MemoryOutbox::default());
    outbox.put(1..=40);
    for id in [10, 30] {
        let large = PendingMessage {
            id,
            channel: topics::FAULT.to_owned(),
            payload: vec![b'x'; 1600],
        };
        outbox.insert(large);
    }
    let mut settings = settings(broker.port());
    settings.discovery = true;
    let size = discovery::config("pi-1", "0").to_string().len();
    assert!(size > 1500, "{size}");
    let mut harness = Harness::start_with(settings, outbox);
    eventually("all but the large ones", || {
        harness.outbox.ids() == [10, 30]
    });
    eventually("the state", || {
        !listener.on(&topic(topics::STATE)).is_empty()
    });
    let set_aside = harness.counters.set_aside.load(Ordering::SeqCst);
    assert!(set_aside >= 3, "{set_aside}");
    let connects = harness.connects();
    assert!(connects <= 8, "{connects}");
    eventually("both problems", || problems(&harness).len() == 2);
    let problems = problems(&harness);
    assert!(
        problems.iter().any(|p| p.contains("homeassistant/")),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|p| p.contains(&topic(topics::FAULT))),
        "{problems:?}"
    );
    // Later messages are delivered at once.
    harness.write(50..=80);
    eventually("the later messages", || harness.outbox.ids() == [10, 30]);
    assert_eq!(harness.connects(), connects);
    harness.stop();
}

#[test]
fn a_snapshot_above_the_brokers_limit_is_set_aside_the_third_time() {
    let (broker, _listener) = limited(20_480);
    let harness = Harness::start(settings(broker.port()));
    harness.write([1]);
    eventually("an empty outbox", || harness.outbox.is_empty());
    for losses in 1..=2 {
        let connects = harness.connects();
        assert!(
            harness.try_send_transient(QoS::AtLeastOnce, &vec![b'x'; 30_000]),
            "{losses}"
        );
        eventually("a connection", || harness.connects() > connects);
    }
    let connects = harness.connects();
    assert!(harness.try_send_transient(QoS::AtLeastOnce, &vec![b'x'; 30_000]));
    eventually("one set aside", || {
        harness.counters.set_aside.load(Ordering::SeqCst) == 1
    });
    assert!(harness.try_send_transient(QoS::AtLeastOnce, &[b'x'; 10_000]));
    harness.write([2]);
    eventually("an empty outbox", || harness.outbox.is_empty());
    assert_eq!(harness.connects(), connects);
    let limit = harness.counters.packet_limit.load(Ordering::SeqCst);
    assert!((20_480..=30_100).contains(&limit), "{limit}");
    assert!(problems(&harness)[0].contains("snapshot"));
}

#[test]
fn two_devices_with_one_id_are_reported() {
    let broker = Broker::start(false);
    let one = Harness::start(settings(broker.port()));
    let other = Harness::start(settings(broker.port()));
    for harness in [&one, &other] {
        eventually("the cause", || {
            problems(harness)
                .iter()
                .any(|p| p.contains("the same client id"))
        });
        assert!(problems(harness)[0].contains("handloom-pi-1"));
    }
}
