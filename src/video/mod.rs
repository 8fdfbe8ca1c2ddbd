//! Video files: decoding and encoding with GStreamer, MP4 containers, zip archives, and where a dataset keeps its clips.

pub mod archive;
pub mod clip;
pub mod container;
pub mod dataset_search;
pub mod dataset_source;
pub mod decoder;
pub mod encode;
mod frame_converter;
pub(crate) mod gst_pipeline;
mod packet_order;
