//! The daemon's config: what is taken, what is refused and in which words.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "a broken set-up may end a test; numbers come as they were written"
)]

#[path = "../common/mod.rs"]
mod common;

mod case;
mod chaos;
mod defaults;
mod layers;
mod refusals;
