//! `handloom watch`: a fleet in the terminal, from the broker alone.

use crate::cli::WatchArgs;
use crate::console::{Key, Screen, View};
use crate::exit::{Exit, Failure};
use crate::mqtt::subscriber::{Broker, Event, Subscriber};
use crate::report;
use crate::telemetry::fleet::Fleet;
use crate::telemetry::words;
use anyhow::anyhow;
use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// Between two looks at the broker's messages.
const TICK: Duration = Duration::from_millis(200);
/// Messages taken in before a key is looked for.
const MESSAGES_A_TICK: usize = 5000;

/// Shows the fleet until a person ends it, or once.
///
/// # Errors
/// When the broker's address or login cannot be used; with `--once` also when the broker cannot be reached.
pub fn run(args: &WatchArgs) -> Result<Exit, Failure> {
    let mut broker = Broker::at(&args.broker)?
        .with_login(args.username.as_deref(), args.password_file.as_deref())?;
    if let Some(file) = &args.ca_file {
        broker = broker.trusting(file)?;
    }
    let subscriber = Subscriber::start(&broker, args.device.as_deref())?;
    if args.is_live() {
        live(View::new(broker.label()), &subscriber)
    } else {
        once(&broker.label(), &subscriber, args.seconds)
    }
}

/// Collects for so long after the connection and prints what came.
fn once(broker: &str, subscriber: &Subscriber, collect: Duration) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let mut fleet = Fleet::new();
    let mut end = None;
    loop {
        // The subscriber's own deadline ends the wait for the connection.
        let left = end.map_or(Duration::MAX, |end: Duration| {
            end.saturating_sub(begun.elapsed())
        });
        match subscriber.events().recv_timeout(left) {
            Ok(Event::Connected) => end = Some(begun.elapsed() + collect),
            Ok(Event::Disconnected(reason)) => {
                let error = anyhow!("cannot listen to {broker}: {reason}");
                return Err(Failure::new(Exit::Unavailable, error));
            }
            Ok(message) => take(&mut fleet, begun.elapsed(), message),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return Err(ended()),
        }
        // Also where messages never stop.
        if end.is_some_and(|end| begun.elapsed() >= end) {
            break;
        }
    }
    if fleet.devices().len() == 0 {
        report::line(&format!(
            "no device said anything on {broker}; is a daemon connected to it, and may this user read handloom/#?"
        ));
    } else {
        report::line(words::table(&fleet, begun.elapsed()).trim_end());
    }
    Ok(Exit::Done)
}

/// Draws until a person ends it.
fn live(mut view: View, subscriber: &Subscriber) -> Result<Exit, Failure> {
    let begun = Instant::now();
    let mut screen = Screen::open()?;
    loop {
        for _ in 0..MESSAGES_A_TICK {
            match subscriber.events().try_recv() {
                Ok(Event::Connected) => view.join(begun.elapsed()),
                Ok(Event::Disconnected(reason)) => view.lose(reason, begun.elapsed()),
                Ok(message) => take(&mut view.fleet, begun.elapsed(), message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
        }
        screen.show(&view, begun.elapsed())?;
        match screen.key(TICK)? {
            Some(Key::Quit) => return Ok(Exit::Done),
            Some(key) => view.press(key, begun.elapsed()),
            None => {}
        }
    }
}

fn take(fleet: &mut Fleet, now: Duration, event: Event) {
    match event {
        Event::Message {
            topic,
            payload,
            is_retained: true,
        } => fleet.take_retained(now, &topic, &payload),
        Event::Message { topic, payload, .. } => fleet.take(now, &topic, &payload),
        Event::Connected | Event::Disconnected(_) => {}
    }
}

fn ended() -> Failure {
    Failure::new(Exit::Bug, anyhow!("the subscriber ended by itself"))
}
