//! The machine underneath: its sensors, its disk, its clock, its devices. Reads and decides nothing.

pub mod clock;
pub mod disk;
pub mod nodes;
pub mod process;
pub mod sensors;
mod throttle;

pub use nodes::{Hardware, Node};
pub use sensors::{Readings, Sensors};
