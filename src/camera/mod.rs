//! Live cameras: frames with their capture times.
//!
//! [`Camera`] captures in a thread of its own from what a [`CameraOpener`] opens: a V4L2 device ([`device`]), a
//! GStreamer source ([`gst_source`]) or a file ([`mod@file`]). Only the newest frame is kept; an older one that was
//! not read is dropped and counted. Every fault is a [`CameraError`], and the camera is opened again.

mod camera_handle;
mod capture_state;
mod capture_thread;
pub mod device;
pub mod error;
mod events;
pub mod file;
pub mod gst_source;
pub mod negotiate;
pub mod pixels;
pub mod reconnect;

pub use crate::camera::camera_handle::{Camera, CaptureTimeouts, DropPolicy};
pub use crate::camera::capture_state::{CameraCounts, NextFrame};
pub use crate::camera::events::CameraEvent;
pub use crate::frame::{CameraAddress, PixelFormat};
pub use error::CameraError;
pub use pixels::PixelConverter;

use std::time::{Duration, Instant};

/// A frame in the camera's pixel format.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// Capture time, since the camera was started; ascends from frame to frame, also when the camera is opened again.
    pub at: Duration,
    /// The capture time by this process's clock. The camera's thread sets it.
    pub taken: Instant,
    /// Layout of `bytes`.
    pub format: PixelFormat,
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes from one row of the first plane to the next; not used for MJPG.
    pub stride: usize,
    /// Whether luma covers 0 to 255 instead of 16 to 235.
    pub full_range: bool,
    /// The pixels, or a JPEG image for MJPG.
    pub bytes: Vec<u8>,
}

impl Default for RawFrame {
    fn default() -> Self {
        Self {
            at: Duration::ZERO,
            taken: Instant::now(),
            format: PixelFormat::Rgb3,
            width: 0,
            height: 0,
            stride: 0,
            full_range: false,
            bytes: Vec::new(),
        }
    }
}

/// The requested format; the camera may choose a similar one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FormatRequest {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames per second.
    pub rate: f64,
    /// Pixel format; `None` for the format that reaches the rate with the least work.
    pub format: Option<PixelFormat>,
}

impl Default for FormatRequest {
    fn default() -> Self {
        Self {
            width: 640,
            height: 480,
            rate: 30.0,
            format: None,
        }
    }
}

/// A camera that was opened, and its format.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedCamera {
    /// Name in messages.
    pub name: String,
    /// Path, which changes when a device comes back under another number.
    pub path: String,
    /// Pixel format.
    pub format: PixelFormat,
    /// Pixels per row.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
    /// Frames per second that the driver states; `None` when it states none.
    pub rate: Option<f64>,
}

/// Result of a wait for a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum CaptureStep {
    /// A frame came.
    Frame,
    /// A damaged frame came, with the reason.
    Damaged(String),
    /// No frame came within the timeout.
    NoFrame,
    /// The next frame of a file is decoded, but is not due yet.
    NotDue,
    /// The file has ended: no frame follows.
    End,
}

/// An open camera. It stays in the thread that opened it and is closed when dropped.
pub trait Capture {
    /// The camera and its format.
    fn opened(&self) -> &OpenedCamera;

    /// Maximum time without a frame, after which the camera counts as frozen.
    fn frame_timeout(&self) -> Duration {
        let rate = self.opened().rate.filter(|rate| *rate >= 0.1);
        Duration::from_secs(1) + Duration::from_secs_f64(3.0 / rate.unwrap_or(10.0))
    }

    /// Waits about `timeout` for the next frame and writes it into `frame`.
    ///
    /// # Errors
    /// Fails when the camera must be opened again.
    fn next(&mut self, timeout: Duration, frame: &mut RawFrame)
    -> Result<CaptureStep, CameraError>;
}

/// Opens a camera, and opens it again after each fault.
pub trait CameraOpener: Send {
    /// The camera as the user named it, for messages.
    fn name(&self) -> String;

    /// Whether it is a file: a file that cannot be decoded is not opened again.
    fn is_file(&self) -> bool {
        false
    }

    /// Opens the camera. The times of frames count from `start`.
    ///
    /// # Errors
    /// Fails when the camera is missing or cannot be used.
    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError>;
}

impl CameraAddress {
    /// Creates the opener for this address.
    #[must_use]
    pub fn opener(&self, request: FormatRequest) -> Box<dyn CameraOpener> {
        match self {
            Self::Device(path) => Box::new(device::V4l2Camera::new(path.clone(), request)),
            Self::File(path) => Box::new(file::FileCamera::new(path.clone(), request.rate)),
            Self::GStreamer(elements) => Box::new(gst_source::GstCamera::new(elements.clone())),
        }
    }
}
