//! `handloom watch`: a fleet in the terminal, from the broker alone.

use crate::cli::WatchArgs;
use crate::cli::progress;
use crate::config::Secret;
use crate::error::{CliError, Exit};
use crate::fleet::devices::Fleet;
use crate::fleet::fleet_table;
use crate::fleet::screen::{FleetView, KeyAction, Screen};
use crate::mqtt::subscriber::{self, Event, Subscriber};
use crate::mqtt::{BrokerAddress, Settings, Tls, check_tls};
use anyhow::anyhow;
use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// For one attempt to connect.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at the broker's messages.
const TICK: Duration = Duration::from_millis(200);
/// Messages taken in before a key is looked for.
const MESSAGES_A_TICK: usize = 5000;

/// Shows the fleet until a person ends it, or once.
///
/// # Errors
/// When the broker's address or login cannot be used; with `--once` also when the broker cannot be reached.
pub fn run(args: &WatchArgs) -> Result<Exit, CliError> {
    let broker = broker(args)?;
    let topics = subscriber::fleet(args.device.as_deref());
    let subscriber = Subscriber::start("watch", &broker, topics)
        .map_err(|error| CliError::new(Exit::Bug, error))?;
    if args.is_live() {
        live(FleetView::new(broker.url()), &subscriber)
    } else {
        once(&broker.url(), &subscriber, args.seconds)
    }
}

/// Where the broker is and who we are there; flags come before what the URL says.
fn broker(args: &WatchArgs) -> Result<Settings, CliError> {
    let usage = |text| CliError::new(Exit::Usage, anyhow!("{text}"));
    let tls = Tls {
        ca_file: args.ca_file.clone(),
        cert_file: args.cert_file.clone(),
        key_file: args.key_file.clone(),
    };
    let address = BrokerAddress::parse(&args.broker)?;
    if !address.tls && tls != Tls::default() {
        return Err(usage(
            "certificates are for TLS: give mqtts:// with them, or leave them out",
        ));
    }
    let mut settings = Settings::at("", address, tls);
    if let Some(tls) = &settings.tls {
        check_tls(tls)?;
    }
    settings.connect_timeout = PATIENCE;
    settings.username = args.username.clone().or(settings.username);
    if let Some(path) = &args.password_file {
        if settings.username.is_none() {
            return Err(usage("a password needs a user name: give --username too"));
        }
        let password = Secret::in_file(path).map_err(|error| {
            let path = path.display();
            CliError::new(Exit::NoInput, anyhow!("cannot read {path}: {error}"))
        })?;
        settings.password = Some(password.reveal().to_owned());
    }
    Ok(settings)
}

/// Collects for so long after the connection and prints what came.
fn once(broker: &str, subscriber: &Subscriber, collect: Duration) -> Result<Exit, CliError> {
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
            Ok(Event::Disconnected(reason) | Event::SubscriptionDenied(reason)) => {
                let error = anyhow!("cannot listen to {broker}: {reason}");
                return Err(CliError::new(Exit::Unavailable, error));
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
        progress::line(&format!(
            "no device said anything on {broker}; is a daemon connected to it, and may this user read handloom/#?"
        ));
    } else {
        progress::line(fleet_table::table(&fleet, begun.elapsed()).trim_end());
    }
    Ok(Exit::Done)
}

/// Draws until a person ends it.
fn live(mut view: FleetView, subscriber: &Subscriber) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let mut screen = Screen::open()?;
    loop {
        for _ in 0..MESSAGES_A_TICK {
            match subscriber.events().try_recv() {
                Ok(Event::Connected) => view.join(begun.elapsed()),
                Ok(Event::Disconnected(reason) | Event::SubscriptionDenied(reason)) => {
                    view.lose(reason, begun.elapsed());
                }
                Ok(message) => take(&mut view.fleet, begun.elapsed(), message),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(ended()),
            }
        }
        screen.show(&view, begun.elapsed())?;
        match screen.key(TICK)? {
            Some(KeyAction::Quit) => return Ok(Exit::Done),
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
        Event::Connected | Event::Disconnected(_) | Event::SubscriptionDenied(_) => {}
    }
}

fn ended() -> CliError {
    CliError::new(Exit::Bug, anyhow!("the subscriber ended by itself"))
}
