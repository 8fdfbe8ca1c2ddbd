//! Dataset jobs through the program: results, bad input, resuming, kills, power cuts, full disks.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "a broken set-up may end a test; numbers are small and results exact; figures and skips are printed"
)]

mod bad_input;
mod codecs;
mod container_facts;
mod decode;
mod decoder_process;
mod export;
mod faults;
mod flip;
mod formats;
mod hostile_job;
mod kept_frames;
mod kill;
mod limits;
mod merge;
mod odd_datasets;
mod power;
mod process;
mod readers;
mod report;
mod resume;
mod shards;
mod subsets;
mod unfamiliar;
