//! The line to the broker: MQTT 3.1.1 over TCP or TLS. It knows topics and bytes, not what they are about.
//!
//! In reading order: [`settings`] says where the broker is and [`tls`] how to trust it; [`outbox`] is what the caller
//! implements, [`client`] what it runs. Inside, `backoff` says when to try again, `connect` leads to the CONNACK,
//! `connection` serves from there to the end with `letters` for what goes out, `orders` for what comes in and `in_flight`
//! for what is under way; `trouble` has the words for the end.
//! [`subscriber`] listens alone: to a fleet for the terminal, and whether a broker can be had.
//!
//! # What holds, each with a test
//!
//! * A letter leaves the outbox at its PUBACK and not before; letters not yet acknowledged go out again, from the
//!   oldest, after every CONNACK.
//! * A command is acknowledged after the inbox has taken it and not before.
//! * Subscription, status, retained channels and discovery are announced on every CONNACK.
//! * A refused CONNACK is no connection. No broker is asked more than once a second on average, whatever it does.
//! * What is dropped is counted.

mod backoff;
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
pub use backoff::{Backoff, STABLE_AFTER};
pub use client::{
    Counters, Delivery, PublisherInputs, Retained, StatusEncoder, TransientMessage, run,
};
pub use outbox::{Inbox, Outbox, OutboxMessage};
pub use settings::Settings;
pub use tls::{Tls, TlsError, check_tls};
