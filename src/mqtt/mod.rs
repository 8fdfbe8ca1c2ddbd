//! The connection to the broker: MQTT 3.1.1 over TCP or TLS. It knows topics and bytes, not their meaning.
//!
//! In reading order:
//!
//! * [`settings`]: broker, client id and intervals. [`tls`]: certificates and keys.
//! * [`outbox`]: the traits that the caller implements.
//! * [`client`]: keeps a connection. `connect` makes one, up to its CONNACK; `connection` serves it to its end, with
//!   `outbox_publisher` for messages, `command_receiver` for commands and `inflight` for what is not acknowledged.
//! * `error`: why a connection ended.
//! * [`subscriber`]: only listens; for `watch` and `check`.
//!
//! # Invariants, each with a test
//!
//! * A message leaves the outbox at its PUBACK and not before. Messages that are not acknowledged are published again,
//!   from the oldest, after every CONNACK.
//! * A command is acknowledged after the inbox has accepted it and not before.
//! * Subscription, status, retained channels and discovery are sent after every CONNACK.
//! * A refused CONNACK is no connection. On average there is at most one attempt to connect a second.
//! * Dropped messages are counted.

pub mod client;
mod command_receiver;
mod connect;
mod connection;
mod error;
mod inflight;
pub mod outbox;
mod outbox_publisher;
pub mod settings;
pub mod subscriber;
pub mod tls;

pub use crate::messages::broker_address::{BrokerAddress, UrlError};
pub use client::{Counters, PublisherInputs, Retained, StatusEncoder, TransientMessage, run};
pub use outbox::{Inbox, Outbox, PendingMessage};
pub use rumqttc::QoS;
pub use settings::Settings;
pub use tls::{Tls, TlsError, check_tls};
