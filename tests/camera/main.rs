//! Cameras without a camera: clips that stand in, scripts of faults, the program itself.

#![allow(clippy::unwrap_used, reason = "a broken set-up may end a test")]

#[path = "../common/mod.rs"]
mod common;

mod accelerator;
mod cuts;
mod drivers;
mod faults;
mod program;
mod replay;
mod stage;
