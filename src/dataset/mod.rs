//! What a dataset says of its clips, a reader for each format, and the plan: what to do with each of its instances.
//!
//! Pure: bytes and a "does this clip exist" question in, values out.

pub mod acceptance;
pub mod advice;
mod asl_citizen;
mod autsl;
pub mod class_list;
pub mod clip_note;
mod clip_table;
mod csv_list;
pub mod dataset_rows;
pub mod file_kind;
pub mod file_tree;
mod folders;
pub mod format;
pub mod instance;
mod json_reader;
mod msasl;
pub mod plan;
mod python_compat;
pub mod selection;
pub mod splits;
pub mod text_encoding;
pub mod wlasl;
