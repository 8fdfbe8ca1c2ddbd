//! From settings to a connection: CONNECT, its will, TLS, and the CONNACK.

use super::client::{ClientState, Counters, STABLE_AFTER};
use super::connection::{CloseReason, Connection, ConnectionEnd, OUTGOING_BYTES_MAX};
use super::settings::Settings;
use super::tls;
use crate::messages::{StatusName, topics};
use crate::mqtt::error::MqttError;
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, LastWill, MqttOptions, QoS, TlsConfiguration,
    Transport,
};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// Capacity of the library's queue: several times the messages that can be in flight.
const QUEUE: usize = 256;
/// Packet ids that are used in turn. Far fewer are in flight, so that the next id is always free.
const PACKET_IDS: u16 = 1024;
/// Largest packet that is read. Commands are far smaller; larger ones are refused after reading.
const INCOMING_BYTES_MAX: usize = 1024 * 1024;
/// At shutdown: how long an attempt to connect may still take.
const LAST_ATTEMPT: Duration = Duration::from_secs(2);

/// Whether commands are subscribed to. A command that is too large to be read breaks every connection: first the
/// session that keeps it is discarded; when it comes again it is retained, and commands are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SubscriptionMode {
    /// With the persistent session.
    Open,
    /// With a clean session, once.
    CleanSession,
    /// Not at all, for some minutes or until the settings change.
    Disabled,
}

impl SubscriptionMode {
    /// The mode of the connection after one that lasted `connected_for` and ended with `error`.
    pub(super) fn after(self, error: &MqttError, connected_for: Duration) -> Self {
        match (self, error) {
            // Reconnecting: somebody may have removed the message.
            (Self::Open, MqttError::TooLarge { .. })
            | (Self::Disabled, MqttError::Reconnecting) => Self::CleanSession,
            (Self::CleanSession, MqttError::TooLarge { .. }) => Self::Disabled,
            (Self::CleanSession, _) if connected_for >= STABLE_AFTER => Self::Open,
            _ => self,
        }
    }
}

/// Connects, and serves the connection to its end.
pub(super) async fn connect_and_serve(
    state: &mut ClientState,
    settings: &Settings,
    subscription: SubscriptionMode,
) -> Result<Infallible, ConnectionEnd> {
    let (client, mut line) = connect(state, settings, subscription).await?;
    let counters = Arc::clone(&state.counters);
    Counters::add(&counters.connects);
    counters.connected.store(true, Ordering::Relaxed);
    let mut connection = Connection::new(state, settings, client);
    let end = match connection.announce(subscription != SubscriptionMode::Disabled) {
        Ok(()) => connection.serve(&mut line).await,
        Err(end) => Err(end),
    };
    counters.connected.store(false, Ordering::Relaxed);
    // The connection is closed before the wait for the outbox.
    drop(line);
    connection.close().await;
    end
}

/// Makes one attempt to connect, up to the CONNACK.
async fn connect(
    state: &mut ClientState,
    settings: &Settings,
    subscription: SubscriptionMode,
) -> Result<(AsyncClient, EventLoop), ConnectionEnd> {
    Counters::add(&state.counters.attempts);
    let transport = state
        .while_disconnected(settings, transport(settings))
        .await??;
    let will = (state.inputs.status)(StatusName::Offline);
    let options = options(settings, will, transport, subscription);
    let (client, mut line) = open_client(settings, options, QUEUE);
    let first = {
        let mut polling = pin!(line.poll());
        match state.while_disconnected(settings, polling.as_mut()).await {
            // Nearly connected: the last messages and `stopped` are worth a moment.
            Err(CloseReason::Stopped) => timeout(LAST_ATTEMPT, polling)
                .await
                .map_err(|_| CloseReason::Stopped)?,
            polled => polled?,
        }
    };
    match first.map_err(|error| MqttError::of_attempt(error, settings)) {
        Ok(Event::Incoming(Incoming::ConnAck(connack))) => tracing::info!(
            broker = settings.broker(),
            session = connack.session_present,
            "connected to the broker"
        ),
        Ok(other) => return Err(MqttError::Protocol(format!("{other:?} came first")).into()),
        Err(error) => {
            if matches!(error, MqttError::Refused(_)) {
                Counters::add(&state.counters.refused);
            }
            return Err(error.into());
        }
    }
    Ok((client, line))
}

/// TCP, or TLS with the certificates that the settings name.
pub(super) async fn transport(settings: &Settings) -> Result<Transport, MqttError> {
    let Some(files) = settings.tls.clone() else {
        return Ok(Transport::Tcp);
    };
    let connector = spawn_blocking(move || tls::connector(&files))
        .await
        .map_err(|error| MqttError::TlsSetup(error.to_string()))??;
    let config = TlsConfiguration::NativeConnector(connector);
    Ok(Transport::tls_with_config(config))
}

fn options(
    settings: &Settings,
    will: Vec<u8>,
    transport: Transport,
    subscription: SubscriptionMode,
) -> MqttOptions {
    // The library panics on an empty client id.
    let id = match settings.client_id.as_str() {
        "" => format!("handloom-{}", settings.device),
        id => id.to_owned(),
    };
    let status = topics::topic(&settings.device, topics::STATUS);
    let mut options = base_options(settings, id, transport);
    options
        .set_clean_session(subscription != SubscriptionMode::Open)
        .set_manual_acks(true)
        .set_inflight(PACKET_IDS)
        .set_max_packet_size(INCOMING_BYTES_MAX, OUTGOING_BYTES_MAX)
        .set_last_will(LastWill::new(status, will, QoS::AtLeastOnce, true));
    options
}

/// The library's client, not connected yet; `queue` messages may wait for it.
pub(super) fn open_client(
    settings: &Settings,
    options: MqttOptions,
    queue: usize,
) -> (AsyncClient, EventLoop) {
    let (client, mut line) = AsyncClient::new(options, queue);
    line.network_options
        .set_connection_timeout(settings.connect_timeout.as_secs().max(1));
    (client, line)
}

/// Host, port, client id, keep-alive and credentials.
pub(super) fn base_options(settings: &Settings, id: String, transport: Transport) -> MqttOptions {
    // The library panics on less than a second.
    let keep_alive = settings.keep_alive.as_secs().clamp(1, u16::MAX.into());
    let mut options = MqttOptions::new(id, &settings.host, settings.port);
    options
        .set_transport(transport)
        .set_keep_alive(Duration::from_secs(keep_alive));
    if let Some(name) = &settings.username {
        options.set_credentials(name, settings.password.as_deref().unwrap_or_default());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_the_library_panics_at_are_mended() {
        let mut settings = Settings::new("pi", "b", 1);
        settings.client_id.clear();
        for (wanted_s, got_s) in [(0, 1), (7, 7), (1 << 40, 65535)] {
            settings.keep_alive = Duration::from_secs(wanted_s);
            let options = options(
                &settings,
                Vec::new(),
                Transport::Tcp,
                SubscriptionMode::Open,
            );
            assert_eq!(options.client_id(), "handloom-pi");
            assert_eq!(options.keep_alive(), Duration::from_secs(got_s));
        }
    }

    #[test]
    fn a_denied_subscription_narrows_step_by_step() {
        let huge = MqttError::TooLarge { bytes: 1 };
        let short = Duration::ZERO;
        let emptied = SubscriptionMode::Open.after(&huge, short);
        assert_eq!(emptied, SubscriptionMode::CleanSession);
        assert_eq!(
            emptied.after(&MqttError::Silent, short),
            SubscriptionMode::CleanSession
        );
        assert_eq!(
            emptied.after(&MqttError::Silent, STABLE_AFTER),
            SubscriptionMode::Open
        );
        assert_eq!(
            emptied.after(&huge, STABLE_AFTER),
            SubscriptionMode::Disabled
        );
        assert_eq!(
            SubscriptionMode::Disabled.after(&MqttError::Silent, STABLE_AFTER),
            SubscriptionMode::Disabled
        );
    }
}
