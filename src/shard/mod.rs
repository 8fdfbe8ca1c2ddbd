//! Shards: a job is divided among machines, each of which processes the batches of its shard. The plan and the number
//! of shards alone determine which batches belong to a shard.

pub mod environment;
pub mod partition;
pub mod record;

use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// Prefix of the folder names of shards.
const FOLDER_PREFIX: &str = "shard-";

/// One of the shards of a job, written `index/count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct ShardIndex {
    index: usize,
    count: usize,
}

/// The fields as they are written, before [`ShardIndex::new`] checks them.
#[derive(Deserialize)]
struct Parts {
    index: usize,
    count: usize,
}

impl TryFrom<Parts> for ShardIndex {
    type Error = ShardError;

    fn try_from(parts: Parts) -> Result<Self, ShardError> {
        Self::new(parts.index, parts.count)
    }
}

/// Why a text does not name a shard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The text has neither of the allowed forms.
    #[error("allowed are auto and INDEX/COUNT, as 0/4 for the first of four shards")]
    Form,
    /// The number of shards is 0.
    #[error("a job has at least one shard: 0/1")]
    None,
    /// The index is not below the number of shards.
    #[error("shards are numbered from 0: 0/{count} to {}/{count}", .count - 1)]
    Range {
        /// Number of shards.
        count: usize,
    },
}

impl ShardIndex {
    /// Shard `index` of `count`, numbered from 0.
    ///
    /// # Errors
    /// Fails when `count` is 0 or `index` is not below `count`.
    pub fn new(index: usize, count: usize) -> Result<Self, ShardError> {
        match count {
            0 => Err(ShardError::None),
            _ if index >= count => Err(ShardError::Range { count }),
            _ => Ok(Self { index, count }),
        }
    }

    /// The index of the shard, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.index
    }

    /// Number of shards of the job.
    #[must_use]
    pub fn count(self) -> usize {
        self.count
    }

    /// The name of its folder in the output folder.
    ///
    /// ```
    /// use handloom::shard::ShardIndex;
    ///
    /// let shard: ShardIndex = "0/4".parse().expect("a shard");
    /// assert_eq!(shard.folder(), "shard-00000-of-00004");
    /// assert_eq!(ShardIndex::of_folder(&shard.folder()), Some(shard));
    /// ```
    #[must_use]
    pub fn folder(self) -> String {
        let Self { index, count } = self;
        format!("{FOLDER_PREFIX}{index:05}-of-{count:05}")
    }

    /// The shard whose folder is called `name`; `None` when `name` is not the name of a shard's folder.
    #[must_use]
    pub fn of_folder(name: &str) -> Option<Self> {
        let (index, count) = name.strip_prefix(FOLDER_PREFIX)?.split_once("-of-")?;
        let shard = Self::new(number(index)?, number(count)?).ok()?;
        (shard.folder() == name).then_some(shard)
    }
}

/// The shard that a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardRequest {
    /// The shard that the variables of the engine that started the process name.
    Auto,
    /// The shard of the rank that `mpirun` or `srun` gave the process. Not every rank is a shard, so it is never
    /// automatic.
    Mpi,
    /// This shard.
    Of(ShardIndex),
}

/// The text of [`ShardRequest::Auto`].
const AUTO: &str = "auto";
/// The text of [`ShardRequest::Mpi`].
const MPI: &str = "mpi";

impl Display for ShardRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str(AUTO),
            Self::Mpi => f.write_str(MPI),
            Self::Of(shard) => shard.fmt(f),
        }
    }
}

impl FromStr for ShardRequest {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        match text {
            AUTO => Ok(Self::Auto),
            MPI => Ok(Self::Mpi),
            text => text.parse().map(Self::Of),
        }
    }
}

impl Display for ShardIndex {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for ShardIndex {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Self, ShardError> {
        let (index, count) = text.split_once('/').ok_or(ShardError::Form)?;
        match (number(index), number(count)) {
            (Some(index), Some(count)) => Self::new(index, count),
            _ => Err(ShardError::Form),
        }
    }
}

/// Parses `text` as a number; `None` when it has anything but digits.
fn number(text: &str) -> Option<usize> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_as_index_and_count() {
        let read = |text: &str| text.parse::<ShardIndex>().map_err(|e| e.to_string());
        assert_eq!(read("3/4").unwrap().to_string(), "3/4");
        assert_eq!(read("0/1").unwrap(), ShardIndex::new(0, 1).unwrap());
        let range = "shards are numbered from 0: 0/4 to 3/4";
        assert_eq!(read("4/4").unwrap_err(), range);
        assert_eq!(
            read("0/0").unwrap_err(),
            "a job has at least one shard: 0/1"
        );
        for text in ["", "1", "/", "1/", "+1/4", "-1/4", "1 / 4", "1/4/5", "a/b"] {
            assert!(read(text).unwrap_err().starts_with("allowed"), "{text}");
        }
        let json = serde_json::to_string(&read("1/3").unwrap()).unwrap();
        assert_eq!(json, r#"{"index":1,"count":3}"#);
        assert!(serde_json::from_str::<ShardIndex>(r#"{"index":3,"count":3}"#).is_err());
    }

    #[test]
    fn folders_name_their_shard() {
        let large = ShardIndex::new(100_000, 100_001).unwrap();
        assert_eq!(large.folder(), "shard-100000-of-100001");
        assert_eq!(ShardIndex::of_folder(&large.folder()), Some(large));
        for name in [
            "shard-0-of-4",
            "shard-00004-of-00004",
            ".shard-00000-of-00004.host-1-2",
            "shard-00000-of-00004.old",
            "batches",
        ] {
            assert_eq!(ShardIndex::of_folder(name), None, "{name}");
        }
    }
}
