//! The WLASL dataset's metadata and what to do with each of its instances.
//!
//! Pure: bytes and a "does this clip exist" question in, values out.

pub mod judge;
pub mod metadata;
pub mod plan;
mod python;
