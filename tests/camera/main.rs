//! Cameras without hardware: clips as cameras, scripted faults, and the program itself.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a broken set-up may end a test; numbers are small and results exact; figures and skips are printed"
)]

mod accelerator;
mod cuts;
mod drivers;
mod faults;
mod fixture;
mod program;
mod replay;
mod scripted;
mod vm;
