//! MediaPipe's hand landmarker, from image to landmarks, in MediaPipe's own arithmetic. Pure: the models come in
//! through the [`Model`] trait. A frame passes the modules in this order: [`warp`] cuts crops, [`palm`] decodes,
//! [`nms`] merges, [`roi`] places squares, [`landmarks`] decodes hands, [`tracker`] keeps squares, [`detector`]
//! combines them.

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
