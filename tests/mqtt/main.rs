//! The line to the broker: against a scripted one for faults packet by packet, and against mosquitto.

#![allow(clippy::unwrap_used, reason = "a broken set-up may end a test")]

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod faults;
mod mosquitto;
mod rig;
mod sending;
