//! The daemon as a process: its job, its commands, its word to broker and service manager, against a real mosquitto.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a broken set-up may end a test; numbers are small and results exact; figures and skips are printed"
)]

mod accelerator;
mod camera;
mod commands;
mod malformed;
mod mqtt;
mod outages;
mod schemas;
mod service;
mod shard;
mod stage;
mod troubles;
mod work;
