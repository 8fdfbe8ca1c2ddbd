//! The terminal's screen, over ratatui. In reading order: [`view`] is what is shown and what keys do to it, [`draw`]
//! puts it into a frame, [`terminal`] is the device.

pub mod draw;
pub mod terminal;
pub mod view;

pub use terminal::{ConsoleError, Screen};
pub use view::{BrokerLink, FleetView, KeyAction};
