//! Whether the broker can be had, by what the daemon would do: log in and listen to its commands.

use super::CheckResult;
use crate::config::Config;
use crate::error::{CliError, Exit};
use crate::messages::topics;
use crate::mqtt::subscriber::{Event, Subscriber};
use crate::mqtt::{Settings, check_tls};
use std::io;
use std::time::{Duration, Instant};

/// Longest wait for the connection: name, TCP, TLS and login.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest wait in all.
const LIMIT: Duration = Duration::from_secs(10);

/// The broker and what is needed to be let in.
pub(super) fn broker(config: &Config) -> Vec<CheckResult> {
    let (Some(url), Some(mut settings)) = (&config.mqtt.url, config.broker()) else {
        return vec![CheckResult::fine("broker", "none: mqtt.url is not set")];
    };
    if let Some(tls) = &settings.tls
        && let Err(error) = check_tls(tls)
    {
        let CliError { exit, error } = error.into();
        let keys = "mqtt.ca_file, mqtt.cert_file and mqtt.key_file name the files";
        return vec![CheckResult::bad(
            exit,
            "broker",
            format!("{error} ({keys})"),
        )];
    }
    settings.connect_timeout = CONNECT;
    let away = |reason: String| {
        let advice = "see [mqtt]; the job runs all the same, messages wait";
        let detail = format!("{url}: {reason} ({advice})");
        CheckResult::bad(Exit::Unavailable, "broker", detail)
    };
    vec![match ask(&settings) {
        Ok(Some(Event::SubscriptionDenied(reason))) => {
            let rest = "commands do not come through until then";
            CheckResult::doubtful(
                "broker",
                format!("{url} lets us in, but: {reason} ({rest})"),
            )
        }
        Ok(Some(Event::Disconnected(reason))) => away(reason),
        Ok(Some(Event::Connected | Event::Message { .. })) => {
            CheckResult::fine("broker", format!("{url} lets us in and to our commands"))
        }
        Ok(None) => away(format!("no answer within {} s", LIMIT.as_secs())),
        Err(error) => CheckResult::bad(Exit::Bug, "broker", error.to_string()),
    }]
}

/// The first answer; `None` when there is none in time.
fn ask(settings: &Settings) -> io::Result<Option<Event>> {
    let end = Instant::now() + LIMIT;
    let commands = vec![topics::command_filter(&settings.device)];
    let subscriber = Subscriber::start("check", settings, commands)?;
    Ok(subscriber.events().recv_deadline(end).ok())
}
