//! What is left on disk. The only room that writes results; npz and zip containers of results, and SQLite, are named
//! here alone.

pub mod batches;
pub mod durable;
pub mod folder;
pub mod ledger;
pub mod lock;
pub mod mirror;
pub mod npz;

pub use durable::StoreError;
pub use ledger::Ledger;
