//! A recording session: a camera's frames become takes, which are kept beside a dataset's clips.

pub mod capture_settings;
pub mod fallback_detector;
pub mod jpeg;
pub mod latency_stats;
pub mod session;
pub mod take_store;

pub use capture_settings::{CaptureSettings, TakeProvenance};
