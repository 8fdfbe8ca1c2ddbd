//! What users see without a clip: help, config, `check`, `watch`, the pages, the package.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a broken set-up may end a test; numbers are small and results exact; figures and skips are printed"
)]

mod check;
mod cluster;
mod config;
mod help;
mod package;
mod readme;
mod terminal;
mod watch;
