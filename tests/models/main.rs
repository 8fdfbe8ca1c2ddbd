//! Models and backends: goldens against MediaPipe, LiteRT, GPU, delegate plugins, choosing and falling back.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a broken set-up may end a test; numbers are small and results exact; figures and skips are printed"
)]

mod accelerator;
mod default_backend;
mod delegate;
mod goldens;
mod gpu;
mod litert;
mod precision;
