//! What ends a job early, from its threads to the exit code.

use crate::error::{Exit, Failure};
use crate::hand;
use crate::inference::BackendError;
use crate::inference::probing::Unavailable;
use crate::job::worker_pool::PipelineError;
use crate::storage::StoreError;
use anyhow::anyhow;
use std::path::PathBuf;

/// What ends a job early.
pub(super) enum Stop {
    Backend(BackendError),
    /// The accelerator that is required is lost.
    Lost(Unavailable),
    Model(hand::ModelError),
    Store(StoreError),
    /// The dataset itself is gone.
    Gone(PathBuf),
}

impl std::fmt::Display for Stop {
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
pub(super) fn stop(error: PipelineError<Stop>) -> Failure {
    match error {
        PipelineError::Worker(stop) | PipelineError::Consumer(stop) => match stop {
            Stop::Backend(e) => e.into(),
            Stop::Model(e) => Failure::new(Exit::Bug, e),
            Stop::Store(e) => e.into(),
            Stop::Lost(e) => e.into(),
            Stop::Gone(_) => Failure::new(Exit::NoInput, anyhow!("{stop}")),
        },
        PipelineError::Died => Failure::new(
            Exit::Bug,
            anyhow!("a worker thread died; please report this with the message above"),
        ),
        PipelineError::Spawn(e) => Failure::new(
            Exit::InOut,
            anyhow!("cannot start a worker thread: {e}; try fewer workers"),
        ),
    }
}
