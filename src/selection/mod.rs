//! Which backend runs the models, decided by what was measured. Pure: [`wish`] is what the user asks for, [`agreement`]
//! holds what a backend saw against what the CPU saw, [`choice`] takes the fastest that agrees, [`patience`] says when a
//! backend that fails has failed too often.

pub mod agreement;
pub mod choice;
pub mod patience;
pub mod wish;

pub use agreement::{Agreement, Seen};
pub use choice::{Choice, Measured, Refused, Trial, choose};
pub use patience::Patience;
pub use wish::Wish;

/// The backend that is always there, and the one that all others are held against.
pub const CPU: &str = "cpu";
