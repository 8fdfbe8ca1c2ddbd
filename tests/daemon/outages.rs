//! The broker is killed, restarted or absent: no message on `batch` or `fault` is lost, and the job is not affected.
//!
//! # What is guaranteed, and what these tests check
//!
//! A message leaves the outbox when the broker has acknowledged it. A broker that is killed between its PUBACK and
//! the delivery to subscribers loses the message, and no sender can prevent that. mosquitto writes a message to its
//! subscribers' sockets before it writes the sender's PUBACK. So a message that a connected subscriber on the same
//! machine has not received when the broker is killed was not acknowledged either. For this reason the gate lets the
//! daemon reach the broker only while the subscriber is connected. The broker is killed at random times.

use crate::fixture::{
    DaemonFixture, LONG, ONE_WORKER, command, distinct, field_values, is_done, published,
    reference_job, reply_states, subscribe_to_fleet, topic,
};
use crate::work::assert_reported;
use handloom::messages::topics;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_support::broker::Broker;
use test_support::daemon::Daemon;
use test_support::listener::Listener;
use test_support::tcp_gate::TcpGate;
use test_support::{TestRng, print_note};

/// How often the broker is killed.
const KILLS: usize = 20;
/// Clips of a job that outlasts the kills, even on a machine that processes 20 clips between two kills.
const CLIPS: usize = 120;

/// Clips that are done, as last published.
fn done(subscriber: &Listener) -> usize {
    let last = published(subscriber, topics::PROGRESS)
        .pop()
        .unwrap_or_default();
    usize::try_from(last["done"].as_u64().unwrap_or(0)).unwrap()
}

/// How often the daemon published `online`, without the broker's retained copies.
fn onlines(subscriber: &Listener) -> usize {
    let all = subscriber.on(&topic(topics::STATUS)).into_iter();
    all.filter(|m| !m.retained && m.json()["status"] == "online")
        .count()
}

/// Sends a command until it has succeeded: after the restart of a broker without persistence, the daemon may not be
/// subscribed yet. The daemon executes a command id only once.
fn send_until_succeeded(daemon: &mut Daemon, subscriber: &Listener, name: &str, id: &str) {
    let mut sent: Option<Instant> = None;
    daemon.until(id, |_| {
        if sent.is_none_or(|at| at.elapsed() > Duration::from_secs(2)) {
            command(subscriber, name, id);
            sent = Some(Instant::now());
        }
        reply_states(subscriber, id)
            .last()
            .is_some_and(|a| a == "succeeded")
    });
}

/// Waits for the end of the job and for all its messages, stops the daemon, checks the results and the messages, and
/// prints their counts in a line that begins with `what`.
fn conclude(
    what: &str,
    mut daemon: Daemon,
    subscriber: &Listener,
    fixture: &DaemonFixture,
    clips: usize,
) {
    let count = |channel| distinct(subscriber, channel).0.len();
    // There is no time limit for the job as long as it progresses.
    while !is_done(subscriber) {
        let before = done(subscriber);
        daemon.until("a further clip", |_| {
            is_done(subscriber) || done(subscriber) > before
        });
    }
    daemon.until("all messages", |_| {
        is_done(subscriber)
            && count(topics::BATCH) == clips.div_ceil(3)
            && count(topics::FAULT) >= clips / 8
    });
    assert_eq!(
        field_values(subscriber, topics::STATUS, "status")
            .last()
            .unwrap(),
        "online"
    );
    assert_eq!(daemon.stop(), Some(0), "{}", daemon.log());
    test_support::listener::eventually("the stopped status", || {
        field_values(subscriber, topics::STATUS, "status")
            .last()
            .unwrap()
            == "stopped"
    });
    assert_eq!(daemon.reprocessed_clips(), [""; 0]);
    fixture.assert_results(&reference_job(clips).out);
    assert_reported(subscriber, &fixture.out());
    let (batches, batches_again) = distinct(subscriber, topics::BATCH);
    let (faults, faults_again) = distinct(subscriber, topics::FAULT);
    print_note(&format!(
        "{what}, {} batches ({batches_again} repeated), {} faults ({faults_again} repeated)",
        batches.len(),
        faults.len()
    ));
}

/// Asserts at most 1.5 connection attempts per second, and returns the rate.
#[track_caller]
fn assert_reconnect_rate(gate: &TcpGate, begun: Instant) -> f64 {
    let attempts = u32::try_from(gate.attempts()).unwrap();
    let rate = f64::from(attempts) / begun.elapsed().as_secs_f64();
    assert!(rate <= 1.5, "{attempts} attempts, {rate} per second");
    rate
}

fn kills(persistence: bool) {
    let reference = reference_job(CLIPS);
    let mut broker = Broker::start(persistence);
    let gate = TcpGate::to(broker.port());
    let subscriber = subscribe_to_fleet(broker.port());
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(gate.port()), ONE_WORKER);
    let mut rng = TestRng::new(u64::from(persistence));
    let begun = Instant::now();
    let mut daemon = fixture.start(&[]);
    let mut commands = 1;
    let mut is_paused = false;
    for kill in 1..=KILLS {
        let before = onlines(&subscriber);
        gate.open();
        daemon.until("a connection", |_| onlines(&subscriber) > before);
        // The job must outlast the outages, so it is paused while it is ahead of them.
        let is_ahead = done(&subscriber) > CLIPS / 3 * kill / KILLS;
        if is_ahead != is_paused {
            is_paused = is_ahead;
            commands += 1;
            let name = if is_paused { "pause" } else { "resume" };
            send_until_succeeded(&mut daemon, &subscriber, name, &format!("{name} {kill}"));
        }
        sleep(Duration::from_millis(rng.below(600) as u64));
        broker.kill();
        gate.close();
        sleep(Duration::from_millis(rng.below(400) as u64));
        broker.restart();
        subscriber.wait_subscribed(kill + 1);
    }
    assert!(
        !is_done(&subscriber),
        "the job ended before the outages did"
    );
    let before = onlines(&subscriber);
    gate.open();
    daemon.until("a connection", |_| onlines(&subscriber) > before);
    send_until_succeeded(&mut daemon, &subscriber, "resume", "resume at last");
    let rate = assert_reconnect_rate(&gate, begun);
    let seconds = begun.elapsed().as_secs();
    let what = format!(
        "broker {} disk: {KILLS} kills in {seconds} s, {} attempts, {rate:.2} per second, {} commands",
        if persistence { "with" } else { "without" },
        gate.attempts(),
        commands
    );
    conclude(&what, daemon, &subscriber, &fixture, CLIPS);
}

#[test]
fn twenty_kills_of_a_broker_with_a_disk_lose_nothing() {
    kills(true);
}

#[test]
fn twenty_kills_of_a_broker_without_a_disk_lose_nothing() {
    kills(false);
}

#[test]
fn a_late_broker_receives_everything() {
    let reference = reference_job(LONG);
    let mut broker = Broker::start(false);
    let gate = TcpGate::to(broker.port());
    broker.kill();
    let fixture = DaemonFixture::with_dataset(&reference.dataset, Some(gate.port()), ONE_WORKER);
    let begun = Instant::now();
    let mut daemon = fixture.start(&[]);
    daemon.until("half of the job", |d| d.recorded().len() >= LONG / 2);
    let attempts = gate.attempts();
    assert!(attempts > 0);
    gate.close();
    broker.restart();
    let subscriber = subscribe_to_fleet(broker.port());
    gate.open();
    let rate = assert_reconnect_rate(&gate, begun);
    let what = format!("late broker: {attempts} failed attempts, {rate:.2} per second");
    conclude(&what, daemon, &subscriber, &fixture, LONG);
}
