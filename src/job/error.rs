//! What ends a job early, from its threads to the exit code.

use crate::error::{CliError, Exit};
use crate::hand;
use crate::inference::{BackendError, SelectionError};
use crate::job::worker_pool::WorkerPoolError;
use crate::storage::StoreError;
use anyhow::anyhow;
use std::path::PathBuf;

/// What ends a job early.
pub(super) enum JobError {
    Backend(BackendError),
    /// The accelerator that is required is lost.
    Lost(SelectionError),
    Model(hand::ModelError),
    Store(StoreError),
    /// The dataset itself is gone.
    Gone(PathBuf),
}

impl std::fmt::Display for JobError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Backend(e) => e.fmt(f),
            Self::Lost(e) => e.fmt(f),
            Self::Model(e) => e.fmt(f),
            Self::Store(e) => e.fmt(f),
            Self::Gone(path) => write!(
                f,
                "the dataset's clips in {} can no longer be reached; is the medium mounted? Run again when it is: the job goes on where it was",
                path.display()
            ),
        }
    }
}

/// For whoever runs the job.
pub(super) fn job_error_to_cli(error: WorkerPoolError<JobError>) -> CliError {
    match error {
        WorkerPoolError::Worker(job_error_to_cli) | WorkerPoolError::Consumer(job_error_to_cli) => {
            match job_error_to_cli {
                JobError::Backend(e) => e.into(),
                JobError::Model(e) => CliError::new(Exit::Bug, e),
                JobError::Store(e) => e.into(),
                JobError::Lost(e) => e.into(),
                JobError::Gone(_) => CliError::new(Exit::NoInput, anyhow!("{job_error_to_cli}")),
            }
        }
        WorkerPoolError::Died => CliError::new(
            Exit::Bug,
            anyhow!("a worker thread died; please report this with the message above"),
        ),
        WorkerPoolError::Spawn(e) => CliError::new(
            Exit::InOut,
            anyhow!("cannot start a worker thread: {e}; try fewer workers"),
        ),
    }
}
