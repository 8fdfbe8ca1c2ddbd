//! The fleet as a broker's listener sees it: devices, their gaps in numbering, a table, a terminal screen.

pub mod devices;
pub mod fleet_table;
pub mod jobs;
pub mod screen;
mod sequence_gaps;
