//! Handloom turns sign-language video into training sequences, with MediaPipe's hand models, bit for bit as the
//! notebook that it replaces did.
//!
//! # A frame's journey
//!
//! [`dataset::wlasl`] reads the dataset's JSON, [`dataset::plan`] says which clips are processed in which order.
//! [`pipeline`] hands the clips to workers. A worker opens its clip ([`video::clip`]), [`sequence::sampling`] says
//! which frames it looks at, [`colour`] turns a decoded frame into the RGB that the notebook saw, [`hand::detector`]
//! finds the hands in it ([`hand::warp`] cuts, a [`hand::Model`] from [`inference`] runs, [`hand::palm`],
//! [`hand::nms`], [`hand::roi`], [`hand::landmarks`] read), and [`sequence::normalize`] makes the 126 numbers.
//! Back in plan order, [`dataset::acceptance`] gives each clip its state and [`store`] writes the files.
//!
//! A camera's frame goes another way in: [`camera`] films and drops what comes too fast,
//! [`sequence::sign_recorder`] cuts signs out of what was found, [`cli::camera`] keeps them.
//!
//! # The rooms
//!
//! Pure, reaching no file, socket, clock, environment or thread: [`frame`], [`geometry`], [`colour`], [`hand`],
//! [`sequence`], [`wlasl`], [`render`], [`governor`], [`telemetry`], [`selection`], [`digest`]. Shell, each wrapping one
//! library or device: [`inference`] (TFLite), [`source`] (GStreamer, zip, V4L2), [`store`] (npz, SQLite, output folder and mirror),
//! [`pipeline`] (threads), [`machine`] (sensors, disk, clock), [`service`] (systemd, signals), [`mqtt`] (the broker),
//! [`report`] (lines and bars), [`console`] (the whole screen), [`preview`] (a page for the browser). No shell room imports another; only [`commands`] and
//! what it is spoken to by ([`cli`], [`config`]) know everyone.
//!
//! # What holds, each with a test
//!
//! * Pure modules cannot reach the outside; modules import one way and without cycles (`tests/architecture`).
//! * Equal input, settings and models give equal bytes, whatever the workers (`tests/jobs/process`).
//! * Every instance of the metadata ends in exactly one state, whatever the bytes of clip and metadata
//!   (`tests/jobs/bad_input.rs`).
//! * A file of ours is whole or not there ([`storage::atomic_file`]).
//! * A dataset never drops a frame; a camera drops the oldest and counts it (`tests/camera`).

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::float_cmp,
        reason = "tests work with small numbers and exact results"
    )
)]

pub mod camera;
pub mod cli;
pub mod color;
pub mod config;
pub mod daemon;
pub mod dataset;
pub mod digest;
pub mod draw;
pub mod error;
pub mod fleet;
pub mod frame;
pub mod geometry;
pub mod hand;
pub mod http;
pub mod inference;
pub mod job;
pub mod limits;
pub mod logging;
pub mod messages;
pub mod mqtt;
pub mod recording;
pub mod selection;
pub mod sequence;
pub mod storage;
pub mod system;
pub mod video;
