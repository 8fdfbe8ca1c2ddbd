//! Shortages of the machine: disk space, a second medium, memory. The job waits, reports it, and loses nothing.
//!
//! A disk that fills up is a small tmpfs with ballast. Without the right to mount one, its tests are skipped.

mod disk;
mod harness;
mod machine;
mod mirror;
mod process;
mod takes;
