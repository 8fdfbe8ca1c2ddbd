//! The connection to the broker: MQTT 3.1.1 over TCP or TLS. It knows topics and bytes, not their meaning.
//!
//! In reading order:
//!
//! * [`settings`]: broker, client id and intervals. [`tls`]: certificates and keys.
//! * [`Outbox`], [`Inbox`]: what the caller implements.
//! * [`client`]: keeps a connection. `connect` makes one, up to its CONNACK; `connection` serves it to its end, with
//!   `outbox_publisher` for messages, `command_receiver` for commands and `inflight` for what is not acknowledged.
//! * `packet_limit`: which messages are larger than the broker accepts.
//! * `error`: why a connection ended. `tls_failure`: why TLS failed. `port_probe`: what else speaks at the port.
//! * [`subscriber`]: only listens; for `watch` and `check`.
//!
//! # Invariants, each with a test
//!
//! * A message leaves the outbox at its PUBACK and not before. Messages that are not acknowledged are published again,
//!   from the oldest, after every CONNACK.
//! * A command is acknowledged after the inbox has accepted it and not before.
//! * Subscription, status, retained channels and discovery are sent after every CONNACK.
//! * A refused CONNACK is no connection. On average there is at most one attempt to connect a second.
//! * Dropped messages are counted. A message that is larger than the broker accepts holds up no other.

pub mod client;
mod command_receiver;
mod connect;
mod connection;
mod error;
mod inflight;
mod outbox_publisher;
mod packet_limit;
mod port_probe;
pub mod settings;
pub mod subscriber;
pub mod tls;
mod tls_failure;

pub use crate::messages::broker_address::{BrokerAddress, UrlError};
pub use crate::messages::payloads::PendingMessage;
pub use client::{Counters, PublisherInputs, Retained, StatusEncoder, TransientMessage, run};
pub use rumqttc::QoS;
pub use settings::Settings;
pub use tls::{Tls, TlsError, check_tls};

/// Where messages wait for the broker. Calls may block: they are made on a thread of their own. The two may overlap.
pub trait Outbox: Send + Sync + 'static {
    /// The oldest messages with an id greater than `id`, at most `limit`, in order.
    ///
    /// # Errors
    /// Fails when they cannot be read; the call is repeated seconds later.
    fn after(&self, id: i64, limit: usize) -> Result<Vec<PendingMessage>, String>;

    /// Deletes messages that the broker has acknowledged.
    ///
    /// # Errors
    /// Fails when they cannot be deleted; the call is repeated seconds later, and the messages are sent again in the
    /// next connection.
    fn delivered(&self, ids: &[i64]) -> Result<(), String>;

    /// Reports what an operator should know of the connection.
    fn report(&self, notice: ConnectionNotice);
}

/// What an operator should know of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionNotice {
    /// A problem, reported once.
    Problem {
        /// What is wrong.
        reason: String,
        /// What was done about it, and what a person can do.
        action: String,
    },
    /// Commands are not received, and why.
    CommandsOff(String),
    /// Commands are received again.
    CommandsOn,
}

/// Where commands go. Calls may block: they are made on a thread of their own, one after the other.
pub trait Inbox: Send + Sync + 'static {
    /// Accepts the command called `command`. The broker forgets it once this has returned `Ok`, so it must be durable by
    /// then. The same command may come again, a `retained` one in every connection.
    ///
    /// # Errors
    /// Fails when it cannot be accepted; the broker sends it again in the next connection.
    fn receive(&self, command: &str, payload: &[u8], retained: bool) -> Result<(), String>;
}
