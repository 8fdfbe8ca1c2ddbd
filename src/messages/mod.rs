//! The MQTT messages: topics, payloads, commands, the broker's URL, Home Assistant's discovery. Pure.
//!
//! In reading order: [`topics`] names the channels, [`payloads`] their contents, [`request`] parses commands, [`rate`]
//! computes the clips a minute, [`discovery`] announces the device to Home Assistant.

pub mod broker_address;
pub mod discovery;

pub mod payloads;
pub mod rate;
pub mod request;
pub mod topics;

pub use payloads::{
    Batch, Envelope, Fault, Health, JobPhase, Progress, Reply, ReplyState, StateReport, Status,
    StatusName,
};
pub use request::{CommandName, InvalidRequest, Request};
