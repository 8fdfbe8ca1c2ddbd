//! Video files: decoding with GStreamer, in this process or a child; encoding; MP4 containers, zip archives, and
//! where a dataset keeps its clips.

pub mod archive;
pub mod clip;
pub mod clip_decoder;
pub mod clip_file;
pub mod container;
pub mod dataset_search;
pub mod dataset_source;
pub mod decoder;
pub mod decoder_process;
pub mod encode;
mod file_format;
pub mod file_source;
mod frame_converter;
mod frame_size;
pub(crate) mod gst_pipeline;
mod packet_order;
pub mod turns;
