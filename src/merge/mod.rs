//! Joins the shards of a job into the output folder that one process would have written, with equal bytes.
//!
//! [`shard_folders`] finds the shards, [`shard_set`] compares them, [`target`] is the folder that they are joined
//! into, [`batch_lines`] applies the limit per gloss over all shards, and [`run_record`] makes `run.json`. Lines and
//! batches are processed one by one in the order of the plan, so memory use does not grow with the number of clips.
//!
//! Equal shards give equal bytes, `run.json` included, and each file is complete or absent. So a merge may be killed
//! and repeated, and two may run at once, without a lock.

mod batch_lines;
mod run_record;
mod shard_folders;
mod shard_set;
mod target;

use crate::dataset::acceptance::StateCounts;
use crate::error::{CliError, Exit, exit_of_store};
use crate::shard::ShardIndex;
use crate::shard::record::RecordError;
use crate::storage::StoreError;
use shard_set::ShardSet;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use target::MergeTarget;

/// The input and the output of a merge.
#[derive(Clone, Debug)]
pub struct MergeConfig {
    /// The folder for the results of the whole job: new, empty, or from an earlier merge of the same job.
    pub out: PathBuf,
    /// Folders of shards, or folders that hold folders of shards.
    pub shards: Vec<PathBuf>,
    /// Whether the merge succeeds when shards are missing.
    pub is_partial: bool,
}

/// What a merge reports while it runs.
#[derive(Clone, Debug)]
pub enum MergeEvent<'a> {
    /// All shards were found and compared.
    Begun {
        /// Number of shards that are joined.
        shards: usize,
        /// Number of batches in these shards.
        batches: usize,
        /// Number of planned clips in the whole job.
        clips: usize,
        /// Shards of the job that were not found.
        missing: &'a [ShardIndex],
    },
    /// Number of planned clips that have been joined so far.
    Clips(usize),
    /// A warning for the user.
    Warning(String),
}

/// The result of a merge.
#[derive(Clone, Debug)]
pub struct MergeReport {
    /// Number of instances per state.
    pub counts: StateCounts,
    /// Number of accepted clips per gloss.
    pub per_gloss: BTreeMap<Arc<str>, usize>,
    /// Number of batch files in the folder.
    pub batches: usize,
    /// Number of sequences in these files.
    pub rows: usize,
    /// Shards of the job that were not found.
    pub missing: Vec<ShardIndex>,
}

/// Why shards cannot be joined.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "most fields are what their names say")]
pub enum MergeError {
    /// A folder holds no shard.
    #[error(
        "{path} is no whole shard and holds no folder like shard-00000-of-00004: give the folder that \
         `handloom process DATASET --out DIR --shard 0/4` wrote to, or the folders of the shards in it"
    )]
    NoShard { path: PathBuf },
    /// A folder has the name of a shard, but no `shard.json`.
    #[error("{path} has no shard.json, so its shard is not whole; remove the folder and {fix}")]
    NotWhole { path: PathBuf, fix: String },
    /// A `shard.json` cannot be used.
    #[error("{path}: {error}{fix}")]
    BadRecord {
        path: PathBuf,
        error: RecordError,
        fix: String,
    },
    /// Two shards belong to different jobs.
    #[error(
        "{path} is no shard of the same job as {first}: {what}. Give the shards of one job, or remove the wrong folder{fix}"
    )]
    OtherJob {
        path: PathBuf,
        first: PathBuf,
        what: String,
        fix: String,
    },
    /// Two folders hold the same shard, with different results.
    #[error(
        "{path} and {first} both hold shard {shard}, with different results, which equal machines do not give: give one \
         of them, or remove both and {fix}"
    )]
    Doubled {
        path: PathBuf,
        first: PathBuf,
        shard: ShardIndex,
        fix: String,
    },
    /// Shards of the job were not found.
    #[error("{} {} missing: {fix}", list(missing), if missing.len() == 1 { "is" } else { "are" })]
    Missing {
        missing: Vec<ShardIndex>,
        fix: String,
    },
    /// A batch belongs to no shard or to more than one.
    #[error(
        "batch {batch} is in {}, and must be in exactly one shard: remove the folders of the shards and make them again, with one \
         version of the program",
        list(shards)
    )]
    Batches {
        batch: usize,
        shards: Vec<ShardIndex>,
    },
    /// A file of a shard differs from its hash in `shard.json`.
    #[error(
        "{path} is missing or has changed since the shard was made; copy the folder of the shard again, or remove it and \
         {fix}"
    )]
    Changed { path: PathBuf, fix: String },
    /// A line of an unchanged manifest is invalid.
    #[error("{path}: {reason} in a line of batch {batch}; please report this")]
    BadLine {
        path: PathBuf,
        batch: usize,
        reason: String,
    },
    /// The folder for the results already holds something else.
    #[error("{path} holds {holds}; nothing in it is changed: choose another folder, or remove it")]
    Occupied { path: PathBuf, holds: String },
    /// The folder for the results is the folder of a shard, or lies in it or around it.
    #[error(
        "{path} is the folder of the shard {shard}, or lies in it or around it: choose a folder beside the shards"
    )]
    Overlap { path: PathBuf, shard: PathBuf },
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Writing to an open file failed; becomes [`MergeError::Store`].
    #[error("{0}")]
    File(#[from] io::Error),
}

impl From<MergeError> for CliError {
    fn from(error: MergeError) -> Self {
        let exit = match error {
            MergeError::Store(ref error) => exit_of_store(error),
            MergeError::NoShard { .. }
            | MergeError::NotWhole { .. }
            | MergeError::Missing { .. } => Exit::NoInput,
            MergeError::Overlap { .. } => Exit::Usage,
            MergeError::Occupied { .. } => Exit::CannotCreate,
            MergeError::File(_) => Exit::InOut,
            _ => Exit::BadData,
        };
        Self::new(exit, error)
    }
}

/// Largest number of shards that a message lists; beyond it the message gives their number.
const LISTED: usize = 8;

/// `shards` for people: `shard 1/4`, `the shards 1/4 and 2/4`.
fn list(shards: &[ShardIndex]) -> String {
    let mut names: Vec<String> = shards
        .iter()
        .take(LISTED)
        .map(ToString::to_string)
        .collect();
    if let Some(more @ 1..) = shards.len().checked_sub(LISTED) {
        names.push(format!("{more} more"));
    }
    match names.split_last() {
        Some((last, [])) => format!("shard {last}"),
        Some((last, others)) => format!("the shards {} and {last}", others.join(", ")),
        None => "no shard".to_owned(),
    }
}

/// Joins the shards of `config`. Returns `None` when `is_stopped` returned true between two batches; the same call
/// then continues.
///
/// # Errors
/// Fails when shards are missing, damaged or from different jobs, or when the folder holds something else or cannot
/// be written.
pub fn merge(
    config: &MergeConfig,
    is_stopped: &dyn Fn() -> bool,
    report: &mut dyn FnMut(MergeEvent<'_>),
) -> Result<Option<MergeReport>, MergeError> {
    let set = ShardSet::open(&config.shards, config.is_partial, report)?;
    report(MergeEvent::Begun {
        shards: set.shards.len(),
        batches: set.batches().count(),
        clips: set.job.clips,
        missing: &set.missing,
    });
    let target = MergeTarget::open(&config.out, &set)?;
    let Some(joined) = target.write_batches(is_stopped, report)? else {
        return Ok(None);
    };
    target.finish(&joined)?;
    Ok(Some(MergeReport {
        counts: joined.lines.counts().clone(),
        per_gloss: joined.lines.per_gloss().clone(),
        batches: joined.batches.len(),
        rows: joined.rows,
        missing: set.missing.clone(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_listed() {
        let shards = |count| -> Vec<ShardIndex> {
            let all = (0..count).map(|index| ShardIndex::new(index, 20).unwrap());
            all.collect()
        };
        assert_eq!(list(&shards(1)), "shard 0/20");
        assert_eq!(list(&shards(2)), "the shards 0/20 and 1/20");
        let many = list(&shards(20));
        assert!(many.ends_with("7/20 and 12 more"), "{many}");
    }
}
