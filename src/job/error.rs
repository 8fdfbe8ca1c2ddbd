//! What ends a job early, from its threads to the exit code.

use crate::error::{CliError, Exit};
use crate::hand;
use crate::inference::{BackendError, SelectionError};
use crate::job::worker_pool::WorkerPoolError;
use crate::storage::StoreError;
use anyhow::anyhow;
use std::path::PathBuf;

/// What ends a job early.
#[derive(Debug, thiserror::Error)]
pub(super) enum JobError {
    #[error(transparent)]
    Backend(BackendError),
    /// The required accelerator is lost.
    #[error(transparent)]
    Lost(SelectionError),
    #[error(transparent)]
    Model(hand::ModelError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The dataset cannot be reached any more.
    #[error(
        "the clips of the dataset in {} can no longer be reached. Check that the medium is mounted and run the command \
         again: the job resumes",
        .0.display()
    )]
    Gone(PathBuf),
}

/// The error with its exit code.
pub(super) fn job_error_to_cli(error: WorkerPoolError<JobError>) -> CliError {
    match error {
        WorkerPoolError::Worker(error) | WorkerPoolError::Consumer(error) => match error {
            JobError::Backend(e) => e.into(),
            JobError::Model(e) => CliError::new(Exit::Bug, e),
            JobError::Store(e) => e.into(),
            JobError::Lost(e) => e.into(),
            JobError::Gone(_) => CliError::new(Exit::NoInput, error),
        },
        WorkerPoolError::Died => CliError::new(Exit::Bug, anyhow!("{error}")),
        WorkerPoolError::Spawn(_) => {
            CliError::new(Exit::InOut, anyhow!("{error}; try fewer workers"))
        }
    }
}
