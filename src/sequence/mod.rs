//! From pictures to the notebook's sequences: which frames are looked at, and what numbers they become. Pure.
//!
//! A clip goes through [`extract()`]; a camera's frames through [`live`], which cuts them into signs ([`segmenter`]),
//! names them ([`takes`]) and picks the frames that a clip at the dataset's rate would have had ([`resample`]).

pub mod extract;
pub mod normalize;
pub mod recording_plan;
pub mod resample;
pub mod sampling;
pub mod segmenter;
pub mod sign_recorder;

pub use extract::{ExtractError, FrameCallback, FrameRecord, Sequence, SequenceSpec, extract};
