//! The live view in the terminal, over ratatui. In reading order: [`view`] is the state of the view and the effect of keys,
//! [`draw`] draws it, [`terminal`] wraps the terminal.

pub mod draw;
pub mod terminal;
pub mod view;

pub use terminal::Screen;
pub use view::{BrokerLink, FleetView, KeyAction};
