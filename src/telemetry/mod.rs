//! What the daemon tells the world and is told by it: the messages' contents, without a socket. Pure.
//!
//! In reading order: [`topics`] names the channels, [`payloads`] their contents.

pub mod payloads;
pub mod topics;

pub use payloads::{
    Batch, Envelope, Fault, Health, JobPhase, Progress, Reply, ReplyState, StateReport, Status,
    StatusName,
};
