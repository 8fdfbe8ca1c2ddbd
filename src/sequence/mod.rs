//! From pictures to the notebook's sequences: which frames are looked at, and what numbers they become. Pure.

pub mod extract;
pub mod normalise;
pub mod sampling;

pub use extract::{ExtractError, FrameRecord, Sequence, Shape, Witness, extract};
