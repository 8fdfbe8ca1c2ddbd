//! What the machine runs short of: room on the disk, a second medium, memory. The job waits, says so, and loses nothing.
//!
//! A disk that fills up is a small tmpfs with ballast; without the right to mount one those tests say so and pass.

mod disk;
mod machine;
mod mirror;
mod process;
mod rig;
mod takes;
