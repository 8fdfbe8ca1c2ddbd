//! The machine underneath: its sensors, its disk, its clock. Reads and decides nothing.

pub mod clock;
pub mod disk;
pub mod sensors;
mod throttle;

pub use sensors::{Readings, Sensors};
