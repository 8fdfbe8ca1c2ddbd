//! Video files: decoding and encoding with GStreamer, MP4 containers, zip archives, and where a dataset keeps its clips.

pub mod archive;
mod avi_header;
pub mod clip;
pub mod container;
pub mod dataset_search;
pub mod dataset_source;
pub mod decoder;
pub mod encode;
mod file_format;
mod frame_size;
pub(crate) mod gst_pipeline;
