//! What the daemon tells the world and is told by it: the messages' contents, without a socket. Pure.
//!
//! In reading order: [`topics`] names the channels, [`payloads`] their contents, [`request`] reads what users ask,
//! [`discovery`] introduces the device to Home Assistant.

pub mod discovery;
pub mod payloads;
pub mod rate;
pub mod request;
pub mod topics;

pub use payloads::{
    Batch, Envelope, Fault, Health, JobPhase, Progress, Reply, ReplyState, StateReport, Status,
    StatusName,
};
pub use request::{Command, Refusal, Request};
