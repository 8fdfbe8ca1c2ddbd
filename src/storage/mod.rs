//! What is left on disk. The only room that writes results; npz and zip containers of results, and SQLite, are named
//! here alone.

pub mod atomic_file;
pub mod batches;
pub mod ledger;
pub mod lock;
pub mod mirror;
pub mod npz;
pub mod output_dir;

pub use crate::storage::atomic_file::StoreError;
pub use ledger::Ledger;
