//! Everything that stays on disk: npz files, the ledger, the output folder and its mirror. No other module writes
//! results or uses SQLite.

pub mod atomic_file;
pub(crate) mod attempt;
pub mod batches;
mod error;
pub mod file_system;
pub(crate) mod frames_file;
pub(crate) mod kept_results;
pub mod ledger;
pub mod lock;
pub mod manifest;
pub mod mirror;
pub mod npz;
pub mod output_dir;
pub mod part_file;
pub mod recorder;

pub use error::StoreError;
pub use kept_results::KeptResultsError;
pub use ledger::Ledger;
pub use recorder::{Recorder, SharedLedger};
