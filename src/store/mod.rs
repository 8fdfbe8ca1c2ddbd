//! What is left on disk. The only room that writes results; npz and zip containers of results are named here alone.

pub mod batches;
pub mod durable;
pub mod folder;
pub mod npz;
pub mod space;

pub use durable::StoreError;
