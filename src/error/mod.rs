//! Exit codes, after BSD's sysexits, and the errors that carry one.

pub mod hints;

use crate::camera::CameraError;
use crate::config::ConfigError;
use crate::dataset::splits::SplitsError;
use crate::http::PreviewError;
use crate::inference::{BackendError, ModelFileError, SelectionError};
use crate::mqtt::{TlsError, UrlError};
use crate::shard::environment::EnvironmentError;
use crate::storage::{KeptResultsError, StoreError};
use crate::video::dataset_source::DatasetError;
use std::io::ErrorKind;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything is done. Skipped clips are not a failure.
    Done = 0,
    /// Nothing could be extracted.
    Nothing = 1,
    /// The command line is wrong.
    Usage = 64,
    /// A data or model file is bad, or a video holds fewer takes than were requested.
    BadData = 65,
    /// An input is missing.
    NoInput = 66,
    /// The broker cannot be reached or refuses, or the required accelerator or the camera cannot be used.
    Unavailable = 69,
    /// A bug or a failing runtime.
    Bug = 70,
    /// The output cannot be created.
    CannotCreate = 73,
    /// Reading or writing failed while the program ran.
    InOut = 74,
    /// Stopped early; the same command resumes.
    Stopped = 75,
    /// The config is wrong; systemd does not start the service again.
    Config = 78,
}

/// An error with the exit code of the program.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// The error; its chain is the message for the user.
    pub error: anyhow::Error,
}

impl CliError {
    /// `error` with `exit`.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit,
            error: error.into(),
        }
    }

    /// Whether the disk was full; another attempt may succeed later.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.store_error().is_some_and(StoreError::is_full)
    }

    /// The storage error, if the error is one.
    pub(crate) fn store_error(&self) -> Option<&StoreError> {
        self.error.downcast_ref()
    }

    /// The error and its causes. A cause that the text names already is not repeated.
    #[must_use]
    pub fn display_chain(&self) -> String {
        let mut text = self.error.to_string();
        for cause in self.error.chain().skip(1).map(ToString::to_string) {
            if !text.contains(&cause) {
                text = format!("{text}: {cause}");
            }
        }
        text
    }
}

/// Gives every error of a module the exit code that fits it.
macro_rules! exit_codes {
    ($($error:ty: $exit:expr;)*) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                let exit: fn(&$error) -> Exit = $exit;
                Self::new(exit(&error), error)
            }
        }
    )*};
}

/// The exit code for `error`.
pub(crate) fn exit_of_store(error: &StoreError) -> Exit {
    match error {
        StoreError::Occupied { .. }
        | StoreError::Unknown { .. }
        | StoreError::Merged { .. }
        | StoreError::Undivided { .. }
        | StoreError::OtherPlan { .. }
        | StoreError::Locked { .. }
        | StoreError::Create { .. }
        | StoreError::Link { .. }
        | StoreError::TooLong { .. }
        | StoreError::NoLocks { .. } => Exit::CannotCreate,
        StoreError::Read { source, .. } if source.kind() == ErrorKind::NotFound => Exit::NoInput,
        StoreError::Broken { .. } | StoreError::BadLedger { .. } | StoreError::BadShard { .. } => {
            Exit::BadData
        }
        StoreError::Write { .. }
        | StoreError::Read { .. }
        | StoreError::Ledger { .. }
        | StoreError::Lost { .. } => Exit::InOut,
    }
}

exit_codes! {
    ConfigError: |_| Exit::Config;
    PreviewError: |_| Exit::CannotCreate;
    UrlError: |_| Exit::Usage;
    EnvironmentError: |_| Exit::Usage;
    DatasetError: |error| match error {
        error if error.is_of_machine() => Exit::InOut,
        DatasetError::JsonTooLarge { .. }
        | DatasetError::Metadata { .. }
        | DatasetError::OtherFormat { .. }
        | DatasetError::BadArchive { .. } => Exit::BadData,
        _ => Exit::NoInput,
    };
    SplitsError: |_| Exit::BadData;
    ModelFileError: |error| match error {
        ModelFileError::Missing { .. } | ModelFileError::NoModels(_) | ModelFileError::Io(..) => {
            Exit::NoInput
        }
        _ => Exit::BadData,
    };
    StoreError: exit_of_store;
    KeptResultsError: |error| match error {
        KeptResultsError::NotFinished { .. }
        | KeptResultsError::Shards { .. }
        | KeptResultsError::Partial { .. }
        | KeptResultsError::NotKept { .. } => Exit::NoInput,
        KeptResultsError::Changed { .. }
        | KeptResultsError::OverLimit { .. }
        | KeptResultsError::OtherPlan { .. } => Exit::BadData,
        KeptResultsError::SameFolder { .. } => Exit::Usage,
        KeptResultsError::Store(error) => exit_of_store(error),
    };
    CameraError: |error| match error {
        CameraError::NotFound(_) | CameraError::NoFile { .. } => Exit::NoInput,
        CameraError::File { .. } | CameraError::FileHangs { .. } => Exit::BadData,
        CameraError::NoFormat { .. } => Exit::Usage,
        _ => Exit::Unavailable,
    };
    TlsError: |error| match error {
        TlsError::Read { .. } => Exit::NoInput,
        TlsError::Unusable(_) => Exit::BadData,
    };
}

impl From<BackendError> for CliError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Model(error) => error.into(),
            error => Self::new(Exit::Unavailable, error),
        }
    }
}

impl From<SelectionError> for CliError {
    fn from(error: SelectionError) -> Self {
        match error {
            SelectionError::Backend(error) => error.into(),
            SelectionError::Unavailable(_) | SelectionError::Gone(_) => {
                Self::new(Exit::Unavailable, error)
            }
            SelectionError::Stopped => Self::new(Exit::Stopped, error),
        }
    }
}
