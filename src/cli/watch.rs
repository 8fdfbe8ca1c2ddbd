//! `handloom watch`: shows a fleet in the terminal, by the broker's messages alone.

use crate::cli::progress::print_line;
use crate::config::Secret;
use crate::config::constraints::{device_id, seconds};
use crate::error::{CliError, Exit};
use crate::fleet::devices::Fleet;
use crate::fleet::fleet_table;
use crate::fleet::jobs::jobs;
use crate::fleet::screen::{FleetView, KeyAction, Screen};
use crate::mqtt::subscriber::{self, Event, Subscriber};
use crate::mqtt::{BrokerAddress, Settings, Tls, check_tls};
use anyhow::anyhow;
use clap::Args;
use crossbeam_channel::{RecvTimeoutError, TryRecvError};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(super) const WATCH_ABOUT: &str = "\
Watch a fleet of devices in the terminal, through the MQTT broker.

Shows every device that publishes below handloom/: its state, its progress and its faults. Devices
with a fault are marked with !! (critical) or ! (warning) and named in the second line. Where stdout
is not a terminal, or with --once, it listens for some seconds, prints one table and the faults that
it received, and ends. The broker does not retain faults and batches: only those since the start
are seen. A job in shards has a line: the sum of its shards, the slowest one, the missing ones.

To forget a device that no longer exists, remove its retained messages:
  mosquitto_pub -r -n -t handloom/ID/status    and the same for state and progress

Examples:
  handloom watch --broker mqtt://broker.local
  handloom watch --broker mqtts://broker.local --username viewer --password-file pw --ca-file ca.pem
  handloom watch --broker mqtt://broker.local --once --seconds 12 | grep -w help";

/// Arguments of `watch`.
#[derive(Debug, Args)]
#[allow(
    rustdoc::broken_intra_doc_links,
    reason = "brackets mark what may be left out in the help"
)]
pub struct WatchArgs {
    /// URL of the broker: mqtt://[user[:password]@]host[:port], or mqtts:// for TLS
    #[arg(long, value_name = "URL", default_value = "mqtt://localhost:1883")]
    pub broker: String,
    /// Only this device [default: all]
    #[arg(long, value_name = "ID", value_parser = device_id)]
    pub device: Option<String>,
    /// Print one table and stop
    #[arg(long)]
    pub once: bool,
    /// Seconds to listen before the table is printed; a device publishes at least every 10 s
    #[arg(long, value_name = "N", default_value = "2", value_parser = seconds)]
    pub seconds: Duration,
    /// User name at the broker
    #[arg(long, value_name = "U")]
    pub username: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Certificates to trust instead of the system's, PEM
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Certificate of this client, PEM
    #[arg(long, value_name = "FILE", requires = "key_file")]
    pub cert_file: Option<PathBuf>,
    /// Key of this client: PEM, PKCS#8, not encrypted
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    pub key_file: Option<PathBuf>,
}

impl WatchArgs {
    /// Whether the terminal shows a live view.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.once && std::io::stdout().is_terminal()
    }
}

/// Longest time for one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a key before the messages are read again.
const TICK: Duration = Duration::from_millis(200);
/// Messages that are processed before keys are read again.
const MESSAGES_A_TICK: usize = 5000;

/// Shows the fleet live until the user ends it, or prints it once.
///
/// # Errors
/// Fails when the broker's address or login cannot be used; with `--once` also when the broker cannot be reached.
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

/// The connection to the broker; flags override the login in the URL.
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
    let warning = address.plain_password_warning();
    let mut settings = Settings::at("", address, tls);
    if let Some(tls) = &settings.tls {
        check_tls(tls)?;
    }
    settings.connect_timeout = CONNECT_TIMEOUT;
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
    if let Some(warning) = warning.filter(|_| settings.password.is_some()) {
        tracing::warn!("{warning}");
    }
    Ok(settings)
}

/// Collects messages for `collect` after the connection and prints the fleet.
fn once(broker: &str, subscriber: &Subscriber, collect: Duration) -> Result<Exit, CliError> {
    let begun = Instant::now();
    let mut fleet = Fleet::default();
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
            Ok(Event::Message {
                topic,
                payload,
                is_retained,
            }) => fleet.take(begun.elapsed(), &topic, &payload, is_retained),
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return Err(ended()),
        }
        // Messages may never stop.
        if end.is_some_and(|end| begun.elapsed() >= end) {
            break;
        }
    }
    if fleet.devices().len() == 0 {
        print_line(&format!(
            "no device published anything on {broker}; is a daemon connected to it, and may this user read handloom/#?"
        ));
    } else {
        print_line(fleet_table::table(&fleet, begun.elapsed()).trim_end());
        for job in jobs(&fleet) {
            print_line(&format!("\n{}", job.line()));
        }
    }
    Ok(Exit::Done)
}

/// Draws the fleet until the user ends it.
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
                Ok(Event::Message {
                    topic,
                    payload,
                    is_retained,
                }) => {
                    let fleet = &mut view.fleet;
                    fleet.take(begun.elapsed(), &topic, &payload, is_retained);
                }
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

fn ended() -> CliError {
    CliError::new(
        Exit::Bug,
        anyhow!("the connection to the broker ended unexpectedly"),
    )
}
