//! Where pictures come from: dataset folders, archives, video files, cameras. GStreamer and V4L2 are named here alone,
//! and zip archives of clips.

pub mod archive;
pub mod camera;
mod candidates;
mod chain;
pub mod container;
pub mod dataset;
pub mod decoder;
pub mod encode;
pub mod video;
