//! Where pictures come from: dataset folders, archives, video files, cameras. GStreamer and V4L2 are named here alone,
//! and zip archives of clips.

pub mod archive;
pub mod clip;
pub mod container;
pub mod dataset_search;
pub mod dataset_source;
pub mod decoder;
pub mod encode;
pub(crate) mod gst_pipeline;
