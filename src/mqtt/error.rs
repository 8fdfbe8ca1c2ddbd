//! Why there is no connection, with what to do about it.

use super::port_probe::PortProtocol;
use super::settings::Settings;
use super::tls::TlsError;
use super::tls_failure::TlsFailure;
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError};
use std::error::Error;
use std::time::Duration;

/// The end of a connection, or of the attempt to make one.
#[derive(Debug, thiserror::Error)]
pub(super) enum MqttError {
    /// The CONNACK refuses the connection.
    #[error("{}", refusal(*.0))]
    Refused(ConnectReturnCode),
    /// No CONNACK within the timeout.
    #[error("the broker does not answer; check that host and port are those of an MQTT broker")]
    NoAnswer,
    /// No PINGRESP.
    #[error("the broker has fallen silent; the network or the broker is down")]
    Silent,
    /// No PUBACK within the timeout.
    #[error("the broker has acknowledged nothing for {} s; trying a fresh connection", .0.as_secs())]
    Unacknowledged(Duration),
    /// No TCP connection.
    #[error("{0}; is a broker running there? check host, port and network")]
    Unreachable(String),
    /// Reading or writing failed.
    #[error("the connection to the broker is lost: {0}; check network, host and port")]
    ConnectionLost(String),
    /// The connection was closed before the CONNACK.
    #[error(
        "the broker closes the connection at once; check that its port speaks MQTT, and the broker's log"
    )]
    ClosedAtOnce,
    /// The same after a TLS handshake without a client certificate.
    #[error(
        "the broker closes the connection after the TLS handshake; if it requires a client certificate, give certificate and key; else check the broker's log"
    )]
    ClosedAfterHandshake,
    /// The port speaks another protocol than the settings name.
    #[error("{0}")]
    WrongPort(PortProtocol),
    /// Another client has taken the session over, again and again.
    #[error(
        "the broker has ended {count} connections in a row that were in order, as it does when another client connects with the same client id, here {client_id:?}; give each device an id and a client id of its own"
    )]
    TakenOver {
        /// The client id.
        client_id: String,
        /// Connections that ended like this.
        count: u32,
    },
    /// The TLS handshake failed.
    #[error("{0}")]
    TlsHandshake(#[from] TlsFailure),
    /// The task that reads the TLS files failed.
    #[error("cannot set up TLS: a bug: {0}")]
    TlsSetup(String),
    /// The TLS files cannot be used.
    #[error("{0}")]
    TlsFiles(#[from] TlsError),
    /// Not MQTT 3.1.1.
    #[error(
        "the broker broke the protocol: {0}; check that host and port are those of an MQTT broker"
    )]
    Protocol(String),
    /// A received message is too large to be read.
    #[error(
        "a message of {bytes} bytes came in, which is too large to be read; if it is retained, remove it: mosquitto_pub -r -n -t TOPIC"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The subscription is refused.
    #[error(
        "the broker does not let this user read {0}; change its access rules, or use another user"
    )]
    SubscriptionDenied(String),
    /// Connecting again makes the broker repeat commands that were not accepted.
    #[error("connecting again to receive the commands that could not be accepted")]
    Reconnecting,
    /// The library's queue is full.
    #[error("the queue to the broker is full; trying a fresh connection")]
    QueueFull,
}

impl MqttError {
    /// The error of an attempt to connect with `settings`.
    pub(super) fn of_attempt(error: ConnectionError, settings: &Settings) -> Self {
        let tls = settings.tls.as_ref();
        match Self::from(error) {
            Self::ConnectionLost(_) if tls.is_some_and(|tls| tls.cert_file.is_none()) => {
                Self::ClosedAfterHandshake
            }
            Self::ConnectionLost(_) => Self::ClosedAtOnce,
            other => other,
        }
    }

    /// Whether the error does not reveal which protocol the port speaks.
    pub(super) fn is_unexplained(&self) -> bool {
        match self {
            Self::ClosedAtOnce | Self::NoAnswer | Self::Protocol(_) => true,
            Self::TlsHandshake(failure) => failure.is_unexplained(),
            _ => false,
        }
    }
}

impl From<ConnectionError> for MqttError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectionRefused(code) => Self::Refused(code),
            ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => Self::NoAnswer,
            // The library's text names the result of the verification; the innermost cause does not.
            ConnectionError::Tls(error) => TlsFailure::of(&error.to_string()).into(),
            ConnectionError::MqttState(StateError::Deserialization(
                PacketError::PayloadSizeLimitExceeded(bytes),
            )) => Self::TooLarge { bytes },
            ConnectionError::MqttState(
                StateError::AwaitPingResp | StateError::CollisionTimeout,
            ) => Self::Silent,
            ConnectionError::MqttState(StateError::ConnectionAborted) => {
                Self::ConnectionLost("the broker closed it".to_owned())
            }
            ConnectionError::Io(error) => Self::Unreachable(error.to_string()),
            ConnectionError::MqttState(
                StateError::Io(error) | StateError::Deserialization(PacketError::Io(error)),
            ) => Self::lost(&error),
            other => Self::Protocol(root(&other)),
        }
    }
}

impl MqttError {
    /// A connection that failed with `error`; a broker that refuses a client certificate may say so after the handshake.
    fn lost(error: &std::io::Error) -> Self {
        let text = error.to_string();
        match TlsFailure::of_alert(&text) {
            Some(failure) => failure.into(),
            None => Self::ConnectionLost(text),
        }
    }
}

fn refusal(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "the broker refused the connection without a reason",
        ConnectReturnCode::RefusedProtocolVersion => {
            "the broker does not support MQTT 3.1.1; enable that version there"
        }
        ConnectReturnCode::BadClientId => {
            "the broker refuses the client id; set another one, or allow it there"
        }
        ConnectReturnCode::ServiceUnavailable => {
            "the broker is not ready for connections; it is tried again"
        }
        ConnectReturnCode::BadUserNamePassword => {
            "the broker refuses user name or password; check both here and there"
        }
        ConnectReturnCode::NotAuthorized => {
            "the broker does not authorize this user or client; check user name, password and its access rules"
        }
    }
}

/// The innermost cause, which is the most specific.
fn root(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn every_end_has_words() {
        let gone = || io::Error::from(io::ErrorKind::ConnectionReset);
        let state = ConnectionError::MqttState;
        for (error, words) in [
            (
                ConnectionError::ConnectionRefused(ConnectReturnCode::BadUserNamePassword),
                "user name or password",
            ),
            (ConnectionError::NetworkTimeout, "does not answer"),
            (ConnectionError::Io(gone()), "is a broker running there?"),
            (
                state(StateError::Deserialization(PacketError::Io(gone()))),
                "connection reset",
            ),
            (state(StateError::ConnectionAborted), "closed it"),
            (state(StateError::AwaitPingResp), "silent"),
            (
                state(StateError::Deserialization(
                    PacketError::PayloadSizeLimitExceeded(7_000_000),
                )),
                "7000000 bytes",
            ),
            (
                state(StateError::Deserialization(PacketError::InvalidPacketType(
                    0,
                ))),
                "Invalid packet type: 0",
            ),
            (state(StateError::Unsolicited(9)), "ack pkid: 9"),
        ] {
            let message = MqttError::from(error).to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
