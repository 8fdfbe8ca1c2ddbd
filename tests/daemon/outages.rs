//! The broker dies, comes back, or is not there: nothing of `batch` and `fault` is lost, and the job does not notice.
//!
//! # What is guaranteed, and what these tests see to
//!
//! A message leaves the outbox when the broker has acknowledged it, and then it is the broker's. A broker that dies
//! with what it acknowledged and has not handed on yet loses it; no sender can mend that. mosquitto writes a message
//! to the sockets of those who listen before it writes the sender's PUBACK, so what a connected listener on the same
//! machine has not got when the broker is killed was not acknowledged either. Hence the gate: it lets the daemon
//! reach a broker only while the listener is subscribed there. The broker is killed at any moment.

use crate::stage::{
    LONG, SLOWLY, Stage, answers, command, distinct, is_done, listen, said, set, topic, words,
};
use crate::work::assert_reported;
use handloom::messages::topics;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_support::broker::Broker;
use test_support::daemon::Daemon;
use test_support::gate::Gate;
use test_support::listener::Listener;
use test_support::{Dice, say};

/// How often the broker is killed.
const KILLS: usize = 20;
/// Clips of a job that is to last that long, also when a quick machine does 20 of them between two kills.
const CLIPS: usize = 120;

/// Clips that are done, as told last.
fn done(ears: &Listener) -> usize {
    let last = said(ears, topics::PROGRESS).pop().unwrap_or_default();
    usize::try_from(last["done"].as_u64().unwrap_or(0)).unwrap()
}

/// How often the daemon said `online`, not counting what a broker kept.
fn onlines(ears: &Listener) -> usize {
    let all = ears.on(&topic(topics::STATUS)).into_iter();
    all.filter(|m| !m.retained && m.json()["status"] == "online")
        .count()
}

/// Sends a command until it has its last word: a broker that forgets its sessions may not know yet that the daemon
/// listens. Under the same id it is obeyed once.
fn insist(daemon: &mut Daemon, ears: &Listener, name: &str, id: &str) {
    let mut sent: Option<Instant> = None;
    daemon.until(id, |_| {
        if sent.is_none_or(|at| at.elapsed() > Duration::from_secs(2)) {
            command(ears, name, id);
            sent = Some(Instant::now());
        }
        answers(ears, id).last().is_some_and(|a| a == "succeeded")
    });
}

/// Waits for the end of the job and of all that is to be said of it, stops the daemon, looks at what was seen, and says
/// it in a line that begins with `what`.
fn conclude(what: &str, mut daemon: Daemon, ears: &Listener, stage: &Stage, clips: usize) {
    let count = |channel| distinct(ears, channel).0.len();
    // However slow the machine is, as long as it goes on.
    while !is_done(ears) {
        let before = done(ears);
        daemon.until("a further clip", |_| is_done(ears) || done(ears) > before);
    }
    daemon.until("all messages", |_| {
        is_done(ears)
            && count(topics::BATCH) == clips.div_ceil(3)
            && count(topics::FAULT) >= clips / 8
    });
    assert_eq!(
        words(ears, topics::STATUS, "status").last().unwrap(),
        "online"
    );
    assert_eq!(daemon.stop(), Some(0), "{}", daemon.log());
    test_support::listener::eventually("the farewell", || {
        words(ears, topics::STATUS, "status").last().unwrap() == "stopped"
    });
    assert_eq!(daemon.read_twice(), [""; 0]);
    stage.gave(&set(clips).reference);
    assert_reported(ears, &stage.out());
    let (batches, batches_again) = distinct(ears, topics::BATCH);
    let (faults, faults_again) = distinct(ears, topics::FAULT);
    say(&format!(
        "{what}, {} batches ({batches_again} again), {} faults ({faults_again} again)",
        batches.len(),
        faults.len()
    ));
}

/// At most 1.5 attempts to connect in a second.
#[track_caller]
fn assert_patient(gate: &Gate, begun: Instant) -> f64 {
    let attempts = u32::try_from(gate.attempts()).unwrap();
    let rate = f64::from(attempts) / begun.elapsed().as_secs_f64();
    assert!(rate <= 1.5, "{attempts} attempts, {rate} in a second");
    rate
}

fn kills(persistence: bool) {
    let set = set(CLIPS);
    let mut broker = Broker::start(persistence);
    let gate = Gate::to(broker.port());
    let ears = listen(broker.port());
    let stage = Stage::over(&set.dataset, Some(gate.port()), SLOWLY);
    let mut dice = Dice::new(u64::from(persistence));
    let begun = Instant::now();
    let mut daemon = stage.start(&[]);
    let mut commands = 1;
    let mut is_paused = false;
    for kill in 1..=KILLS {
        let before = onlines(&ears);
        gate.open();
        daemon.until("a connection", |_| onlines(&ears) > before);
        // A machine that is ahead of the outages is held back: the job is to outlast them.
        let is_ahead = done(&ears) > CLIPS / 3 * kill / KILLS;
        if is_ahead != is_paused {
            is_paused = is_ahead;
            commands += 1;
            let name = if is_paused { "pause" } else { "resume" };
            insist(&mut daemon, &ears, name, &format!("{name} {kill}"));
        }
        sleep(Duration::from_millis(dice.below(600) as u64));
        broker.kill();
        gate.close();
        sleep(Duration::from_millis(dice.below(400) as u64));
        broker.restart();
        ears.wait_subscribed(kill + 1);
    }
    assert!(!is_done(&ears), "the job was over before the outages were");
    let before = onlines(&ears);
    gate.open();
    daemon.until("a connection", |_| onlines(&ears) > before);
    insist(&mut daemon, &ears, "resume", "resume at last");
    let rate = assert_patient(&gate, begun);
    let seconds = begun.elapsed().as_secs();
    let what = format!(
        "broker {} disk: {KILLS} kills in {seconds} s, {} attempts, {rate:.2} in a second, {} commands",
        if persistence { "with" } else { "without" },
        gate.attempts(),
        commands
    );
    conclude(&what, daemon, &ears, &stage, CLIPS);
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
fn a_broker_that_comes_late_is_told_everything() {
    let set = set(LONG);
    let mut broker = Broker::start(false);
    let gate = Gate::to(broker.port());
    broker.kill();
    let stage = Stage::over(&set.dataset, Some(gate.port()), SLOWLY);
    let begun = Instant::now();
    let mut daemon = stage.start(&[]);
    daemon.until("half of the job", |d| d.recorded().len() >= LONG / 2);
    let attempts = gate.attempts();
    assert!(attempts > 0);
    gate.close();
    broker.restart();
    let ears = listen(broker.port());
    gate.open();
    let rate = assert_patient(&gate, begun);
    let what = format!("broker late: {attempts} attempts in vain, {rate:.2} in a second");
    conclude(&what, daemon, &ears, &stage, LONG);
}
