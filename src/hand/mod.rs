//! MediaPipe's hand landmarker, from image to landmarks, in MediaPipe's own arithmetic. Pure: the models come in
//! through the [`Model`] trait. In the order in which a frame passes them: [`warp`] cuts, [`palm`] decodes, [`nms`] merges,
//! [`roi`] aims, [`landmarks`] reads the hand, [`tracker`] remembers, [`detector`] composes.

pub mod detector;
pub mod homography;
pub mod landmarks;
pub mod nms;
pub mod palm;
pub mod roi;
pub mod tracker;
pub mod warp;

pub use detector::{Detector, DetectorOptions, Model, ModelError};
pub use landmarks::{Hand, Handedness};
pub use tracker::Tracker;
