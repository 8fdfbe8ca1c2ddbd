//! The daemon as a process: its job, its commands, its word to broker and service manager, against a real mosquitto.

#![allow(clippy::unwrap_used, reason = "a broken set-up may end a test")]

#[path = "../common/mod.rs"]
mod common;

mod accelerator;
mod camera;
mod commands;
mod malformed;
mod outages;
mod schemas;
mod service;
mod stage;
mod troubles;
mod work;
