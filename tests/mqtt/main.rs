//! The line to the broker: against a scripted one for faults packet by packet, and against mosquitto.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a broken set-up may end a test; figures and skips are told"
)]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod faults;
mod mosquitto;
mod rig;
mod sending;
