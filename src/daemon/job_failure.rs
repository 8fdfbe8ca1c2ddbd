//! Describes a failed run of the job to the daemon's user: component, reason and action.

use crate::daemon::Daemon;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::ModelFileError;
use crate::storage::StoreError;

/// Action text of a fault that ends the daemon.
const FATAL_ACTION: &str = "the daemon ends; fix it and start the daemon again";

impl Daemon {
    /// Publishes the failure that ends the daemon; only the first one is.
    pub(super) fn report_fatal(&self, component: &str, failure: &CliError) {
        if self.shutdown.claim_reason() {
            let reason = Audience::Keys.display_chain(failure);
            self.outbox.fault(component, reason, FATAL_ACTION);
        }
    }
}

/// Whether the output directory holds the same job for another content of the dataset.
pub(super) fn is_changed_dataset(failure: &CliError) -> bool {
    matches!(
        failure.error.downcast_ref(),
        Some(StoreError::Occupied {
            is_dataset: true,
            ..
        })
    )
}

/// Why the job cannot run, with the hint for a daemon's user.
pub(super) fn reason(failure: &CliError) -> String {
    match failure.error.downcast_ref() {
        Some(StoreError::Occupied {
            difference,
            is_dataset: true,
            ..
        }) => format!(
            "the dataset has changed since the job began ({difference}): send the command rescan, or restore the dataset"
        ),
        _ => Audience::Keys.display_chain(failure),
    }
}

/// The component that a failure concerns.
pub(super) fn component(failure: &CliError) -> &'static str {
    let store_error = failure.error.downcast_ref::<StoreError>();
    match store_error {
        _ if is_changed_dataset(failure) => "dataset",
        _ if failure.exit == Exit::Unavailable => "accelerator",
        Some(StoreError::Occupied { .. } | StoreError::OtherPlan { .. }) => "job",
        Some(_) => "disk",
        None if failure.error.is::<ModelFileError>() => "job",
        // The machine has no memory or file handles left.
        None if failure.exit == Exit::InOut => "job",
        None => "dataset",
    }
}

/// Action text of a fault that may be temporary.
pub(super) fn action(failure: &CliError) -> &'static str {
    if is_changed_dataset(failure) {
        "nothing is read until a rescan: send the command rescan, which keeps what has not changed, or restore the dataset"
    } else if failure.exit == Exit::Unavailable {
        "the accelerator is measured and tried again until it works"
    } else {
        "the job is tried again until it succeeds"
    }
}
