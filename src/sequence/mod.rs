//! From images to the notebook's sequences: which frames are sampled, and what numbers they become. Pure.
//!
//! [`options`] are the user's choices. [`plan_frames`] chooses the frames of a clip from the times of all frames, and
//! [`assemble()`] makes the sequence from the hands found in them. Where no time is needed, [`extract()`] reads a
//! clip in a single pass, with the same result. A camera's frames go through [`sign_recorder`], which cuts them into
//! signs ([`segmenter`]), labels them ([`recording_plan`]) and picks the frames that a clip at the dataset's rate
//! would have had ([`resample`]).

pub mod assemble;
pub mod extract;
pub mod frame_plan;
pub mod frame_record;
mod interpolation;
pub mod normalize;
pub mod options;
pub mod recording_plan;
pub mod resample;
pub mod sampling;
pub mod segmenter;
pub mod settings;
pub mod sign_recorder;
pub(crate) mod slots;

pub use assemble::{Sequence, SequenceFigures, assemble};
pub use extract::{ExtractError, FrameCallback, extract, read_frames};
pub use frame_plan::{FramePlan, FrameTimes, plan_frames, reads_beyond};
pub use frame_record::{FrameRecord, FrameTotal};
pub use options::{Profile, SequenceOptions, SequenceSpec};
