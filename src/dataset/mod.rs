//! The contents of datasets, a reader for each format, and the plan: what to do with each instance.
//!
//! Pure: callers pass bytes and a function that answers whether a clip exists.

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
