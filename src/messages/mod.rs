//! What the daemon tells the world and is told by it: the messages' contents, without a socket. Pure.
//!
//! In reading order: [`topics`] names the channels, [`payloads`] their contents, [`request`] reads what users ask,
//! [`rate`] tells the pace, [`discovery`] introduces the device to Home Assistant; [`fleet`] is what a listener knows
//! of all devices (`gaps` reads their numbers), [`words`] says it.

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
