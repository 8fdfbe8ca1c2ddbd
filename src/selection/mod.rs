//! Which backend runs the models, decided by what was measured. Pure: [`wish`] is what the user asks for, [`agreement`]
//! holds what a backend saw against what the CPU saw, [`choice`] takes the fastest that agrees, [`patience`] says when a
//! backend that fails has failed too often.

pub mod agreement;
pub mod backend_preference;
pub mod choice;
pub mod retry_budget;

pub use crate::selection::backend_preference::Wish;
pub use crate::selection::retry_budget::Patience;
pub use agreement::{Agreement, Seen};
pub use choice::{Choice, Measured, Refused, Trial, choose};

/// The backend that is always there, and the one that all others are held against.
pub const CPU: &str = "cpu";
