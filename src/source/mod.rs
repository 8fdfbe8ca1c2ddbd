//! Where pictures come from: dataset folders, archives, video files. GStreamer is named here alone, and zip archives
//! of clips.

pub mod archive;
mod candidates;
mod chain;
pub mod container;
pub mod dataset;
pub mod decoder;
pub mod encode;
pub mod video;
