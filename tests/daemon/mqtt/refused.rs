//! What a broker does not take, and who takes the broker: messages above its limit, and another device with the same id.

use super::rig::{Rig, Shelf, settings, topic};
use handloom::messages::{discovery, topics};
use handloom::mqtt::{ConnectionNotice, PendingMessage, QoS};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use test_support::broker::Broker;
use test_support::listener::{Listener, eventually};

/// The problems that were reported.
fn problems(rig: &Rig) -> Vec<String> {
    let notices = rig.shelf.notices.lock().unwrap();
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
    let shelf = Arc::new(Shelf::default());
    shelf.put(1..=40);
    for id in [10, 30] {
        let large = PendingMessage {
            id,
            channel: topics::FAULT.to_owned(),
            payload: vec![b'x'; 1600],
        };
        shelf.insert(large);
    }
    let mut settings = settings(broker.port());
    settings.discovery = true;
    let size = discovery::config("pi-1", "0").to_string().len();
    assert!(size > 1500, "{size}");
    let mut rig = Rig::start_with(settings, shelf);
    eventually("all but the large ones", || rig.shelf.ids() == [10, 30]);
    eventually("the state", || {
        !listener.on(&topic(topics::STATE)).is_empty()
    });
    let set_aside = rig.counters.set_aside.load(Ordering::SeqCst);
    assert!(set_aside >= 3, "{set_aside}");
    let connects = rig.connects();
    assert!(connects <= 8, "{connects}");
    eventually("both named", || problems(&rig).len() == 2);
    let problems = problems(&rig);
    assert!(
        problems.iter().any(|p| p.contains("homeassistant/")),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|p| p.contains(&topic(topics::FAULT))),
        "{problems:?}"
    );
    // What comes later goes its way at once.
    rig.write(50..=80);
    eventually("later ones", || rig.shelf.ids() == [10, 30]);
    assert_eq!(rig.connects(), connects);
    rig.stop();
}

#[test]
fn a_snapshot_above_the_brokers_limit_is_set_aside_the_third_time() {
    let (broker, _listener) = limited(20_480);
    let rig = Rig::start(settings(broker.port()));
    rig.write([1]);
    eventually("a letter", || rig.shelf.is_empty());
    for losses in 1..=2 {
        let connects = rig.connects();
        assert!(
            rig.drop_in(QoS::AtLeastOnce, &vec![b'x'; 30_000]),
            "{losses}"
        );
        eventually("a connection", || rig.connects() > connects);
    }
    let connects = rig.connects();
    assert!(rig.drop_in(QoS::AtLeastOnce, &vec![b'x'; 30_000]));
    eventually("one set aside", || {
        rig.counters.set_aside.load(Ordering::SeqCst) == 1
    });
    assert!(rig.drop_in(QoS::AtLeastOnce, &[b'x'; 10_000]));
    rig.write([2]);
    eventually("a letter", || rig.shelf.is_empty());
    assert_eq!(rig.connects(), connects);
    let limit = rig.counters.packet_limit.load(Ordering::SeqCst);
    assert!((20_480..=30_100).contains(&limit), "{limit}");
    assert!(problems(&rig)[0].contains("snapshot"));
}

#[test]
fn two_devices_with_one_id_are_told_so() {
    let broker = Broker::start(false);
    let one = Rig::start(settings(broker.port()));
    let other = Rig::start(settings(broker.port()));
    for rig in [&one, &other] {
        eventually("the cause", || {
            problems(rig)
                .iter()
                .any(|p| p.contains("the same client id"))
        });
        assert!(problems(rig)[0].contains("handloom-pi-1"));
    }
}
