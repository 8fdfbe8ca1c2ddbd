//! From images to the notebook's sequences: which frames are sampled, and what numbers they become. Pure.
//!
//! A clip goes through [`extract()`]. A camera's frames go through [`sign_recorder`], which cuts them into signs
//! ([`segmenter`]), labels them ([`recording_plan`]) and picks the frames that a clip at the dataset's rate would have
//! had ([`resample`]).

pub mod extract;
pub mod normalize;
pub mod recording_plan;
pub mod resample;
pub mod sampling;
pub mod segmenter;
pub mod sign_recorder;

pub use extract::{
    ExtractError, FrameCallback, FrameRecord, FrameTotal, Sequence, SequenceSpec, extract,
};

/// How the numbers of a sequence are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The notebook's numbers.
    Notebook,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::Notebook];

    /// The name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Notebook => "notebook",
        }
    }
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| format!("allowed are {}", Self::ALL.map(Self::name).join(", ")))
    }
}
