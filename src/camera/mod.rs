//! Live cameras: frames as they come, each with the time at which it was seen.
//!
//! [`Camera`] films in a thread of its own whatever an [`CameraOpener`] opens: a V4L2 device ([`device`]), a GStreamer source
//! ([`launch`]), a file that stands in for one ([`file`]) or a script of faults for the tests ([`scripted`]). The
//! newest frame waits in a slot; an older one that nobody took is dropped and counted. Whatever happens to a camera is
//! a [`CameraError`], and the camera is opened again.

mod camera_handle;
mod capture_thread;
pub mod device;
pub mod error;
mod events;
pub mod file;
pub mod gst_source;
mod latest_frame;
pub mod negotiate;
pub mod pixels;
pub mod reconnect;
pub mod scripted;

pub use crate::camera::camera_handle::{Camera, CameraCounts, CaptureTimeouts, DropPolicy};
pub use crate::camera::events::CameraEvent;
pub use crate::camera::latest_frame::NextFrame;
pub use crate::frame::{CameraAddress, PixelFormat};
pub use error::CameraError;
pub use pixels::PixelConverter;

use std::time::{Duration, Instant};

/// A frame as the camera gave it.
#[derive(Clone, Debug)]
pub struct RawFrame {
    /// When it was seen, since the camera was started; ascends from frame to frame, also over re-opening.
    pub at: Duration,
    /// The same moment by this process's clock; filled in by the camera's thread.
    pub taken: Instant,
    /// How the bytes are to be read.
    pub format: PixelFormat,
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes from one row of the first plane to the next; no meaning for MJPG.
    pub stride: usize,
    /// Luma 0 to 255 instead of 16 to 235.
    pub full_range: bool,
    /// The pixels.
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

/// What a camera is asked for; it may give something near.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FormatRequest {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames a second.
    pub rate: f64,
    /// How the bytes come; `None` for what gives the rate with the least work.
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

/// What was opened.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenedCamera {
    /// What people call it.
    pub name: String,
    /// Where it is now.
    pub path: String,
    /// How the bytes come.
    pub format: PixelFormat,
    /// Pixels per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Frames a second, as promised; `None` where nothing is.
    pub rate: Option<f64>,
}

/// What a camera did when it was asked for a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum CaptureStep {
    /// It gave one.
    Frame,
    /// It gave one that is no good, for this reason.
    Damaged(String),
    /// Nothing came within the time.
    Nothing,
    /// It will give no more: a file is over.
    End,
}

/// An open camera. Stays in the thread that opened it; closed by being dropped.
pub trait Capture {
    /// What it is.
    fn opened(&self) -> &OpenedCamera;

    /// No frame for so long means that it hangs.
    fn patience(&self) -> Duration {
        let rate = self.opened().rate.filter(|rate| *rate >= 0.1);
        Duration::from_secs(1) + Duration::from_secs_f64(3.0 / rate.unwrap_or(10.0))
    }

    /// Waits for the next frame, not much longer than `patience`, and puts it into `frame`.
    ///
    /// # Errors
    /// When the camera must be opened again.
    fn next(
        &mut self,
        patience: Duration,
        frame: &mut RawFrame,
    ) -> Result<CaptureStep, CameraError>;
}

/// Opens a camera, and opens it again.
pub trait CameraOpener: Send {
    /// What was asked for, for messages.
    fn name(&self) -> String;

    /// Opens it. Times count from `start`.
    ///
    /// # Errors
    /// When it is not there or cannot be used.
    fn open(&mut self, start: Instant) -> Result<Box<dyn Capture>, CameraError>;
}

impl CameraAddress {
    /// What opens it.
    #[must_use]
    pub fn opener(&self, request: FormatRequest) -> Box<dyn CameraOpener> {
        match self {
            Self::Device(path) => Box::new(device::V4l2Camera::new(path.clone(), request)),
            Self::File(path) => Box::new(file::FileCamera::new(path.clone(), request.rate)),
            Self::GStreamer(elements) => Box::new(gst_source::GstCamera::new(elements.clone())),
        }
    }
}
