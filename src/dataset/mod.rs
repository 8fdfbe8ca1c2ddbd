//! The WLASL dataset's metadata and what to do with each of its instances.
//!
//! Pure: bytes and a "does this clip exist" question in, values out.

pub mod acceptance;
pub mod class_list;
pub mod clip_note;
pub mod file_kind;
pub mod instance;
mod json_reader;
pub mod plan;
mod python_compat;
pub mod selection;
pub mod splits;
pub mod text_encoding;
pub mod wlasl;
