//! Everything that stays on disk: npz files, the ledger, the output folder and its mirror. No other module writes
//! results or uses SQLite.

pub mod atomic_file;
pub mod batches;
mod error;
pub mod ledger;
pub mod lock;
pub mod manifest;
pub mod mirror;
pub mod npz;
pub mod output_dir;
pub mod recorder;

pub use error::StoreError;
pub use ledger::Ledger;
pub use recorder::{Recorder, SharedLedger};
