//! Images in memory, and the trait of what steps from image to image. What users name as a source is plain data
//! here: a camera, its pixel format, a decoder.

use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Memory outside the image that holds its pixels: a mapping that two processes share.
pub trait PixelMemory: AsRef<[u8]> + AsMut<[u8]> + std::fmt::Debug + Send + Sync {}

#[derive(Debug)]
enum Pixels {
    Owned(Vec<u8>),
    External(Box<dyn PixelMemory>),
}

/// An RGB image: `height × width × 3` bytes, row-major, R G B, no padding between rows. A clone owns its pixels.
#[derive(Debug)]
pub struct RgbFrame {
    width: usize,
    height: usize,
    pixels: Pixels,
}

impl RgbFrame {
    /// A black image of `width × height` pixels.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Self {
        Self::owned(width, height, vec![0; width * height * 3])
    }

    /// Wraps `pixels`; `None` when their number is not `width * height * 3`.
    #[must_use]
    pub fn from_pixels(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        (pixels.len() == width * height * 3).then(|| Self::owned(width, height, pixels))
    }

    /// An image without pixels, which will lie in `memory` for as long as it fits.
    #[must_use]
    pub fn in_memory(memory: Box<dyn PixelMemory>) -> Self {
        Self {
            width: 0,
            height: 0,
            pixels: Pixels::External(memory),
        }
    }

    fn owned(width: usize, height: usize, pixels: Vec<u8>) -> Self {
        Self {
            width,
            height,
            pixels: Pixels::Owned(pixels),
        }
    }

    /// Makes this an image of `width × height`, keeping its memory; the content is unspecified.
    pub fn resize(&mut self, width: usize, height: usize) {
        let length = width * height * 3;
        self.width = width;
        self.height = height;
        match &mut self.pixels {
            Pixels::External(memory) if (**memory).as_ref().len() >= length => {}
            Pixels::External(_) => self.pixels = Pixels::Owned(vec![0; length]),
            Pixels::Owned(pixels) => pixels.resize(length, 0),
        }
    }

    /// Whether the pixels lie in the memory of [`RgbFrame::in_memory`].
    #[must_use]
    pub fn is_external(&self) -> bool {
        matches!(self.pixels, Pixels::External(_))
    }

    /// Pixels per row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[height, width, 3]` u8, row-major.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        match &self.pixels {
            Pixels::Owned(pixels) => pixels,
            Pixels::External(memory) => &(**memory).as_ref()[..self.width * self.height * 3],
        }
    }

    /// `[height, width, 3]` u8, row-major.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        match &mut self.pixels {
            Pixels::Owned(pixels) => pixels,
            Pixels::External(memory) => &mut (**memory).as_mut()[..self.width * self.height * 3],
        }
    }
}

impl Default for RgbFrame {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl Clone for RgbFrame {
    fn clone(&self) -> Self {
        Self::owned(self.width, self.height, self.pixels().to_vec())
    }
}

impl PartialEq for RgbFrame {
    fn eq(&self, other: &Self) -> bool {
        (self.width, self.height) == (other.width, other.height) && self.pixels() == other.pixels()
    }
}

impl Eq for RgbFrame {}

/// A clip could not be read, or not further; the text is the decoder's or the system's reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SourceError {
    /// The clip is at fault: it would fail again.
    #[error("{0}")]
    Clip(String),
    /// The machine is at fault: no clip can be read until that is over.
    #[error("{0}")]
    Machine(String),
}

impl From<String> for SourceError {
    fn from(reason: String) -> Self {
        Self::Clip(reason)
    }
}

impl From<&str> for SourceError {
    fn from(reason: &str) -> Self {
        Self::Clip(reason.to_owned())
    }
}

/// Size and rate of a clip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClipFormat {
    /// Width of the first image in pixels, after rotation.
    pub width: u32,
    /// Height of the first image in pixels, after rotation.
    pub height: u32,
    /// Frames per second on average; `None` when unknown.
    pub fps: Option<f32>,
}

impl ClipFormat {
    /// The size of `frame`, at an unknown rate.
    #[must_use]
    pub fn of(frame: &RgbFrame) -> Self {
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        Self {
            width: side(frame.width()),
            height: side(frame.height()),
            fps: None,
        }
    }
}

/// Images in display order, one at a time, never backwards.
pub trait FrameSource {
    /// Steps to the next image; `false` when there is none.
    ///
    /// # Errors
    /// When the source can give nothing at all, or not within its time.
    fn advance(&mut self) -> Result<bool, SourceError>;

    /// Steps `count` images on. Returns how many of them there are: fewer than `count` at the end.
    ///
    /// # Errors
    /// As [`FrameSource::advance`]; a source that converts the last image at once also fails as [`FrameSource::frame`].
    fn advance_by(&mut self, count: u64) -> Result<u64, SourceError> {
        for done in 0..count {
            if !self.advance()? {
                return Ok(done);
            }
        }
        Ok(count)
    }

    /// The image that was stepped to last, as the viewer sees it (rotation applied). Images that are stepped over are not
    /// converted.
    ///
    /// # Errors
    /// When there is no current image or its pixel format cannot be converted.
    fn frame(&mut self) -> Result<&RgbFrame, SourceError>;

    /// How many frames the container says there are, which may be wrong; `None` where it does not say.
    fn declared_frames(&self) -> Option<u64>;

    /// Presentation time of the image that was stepped to last, from an arbitrary origin; `None` where the container does
    /// not say.
    fn time(&self) -> Option<Duration>;

    /// Size and rate, as they are known when the source is opened.
    fn format(&self) -> ClipFormat;

    /// Steps to the end. Returns the time of each image that was left, none of which is converted.
    ///
    /// # Errors
    /// As [`FrameSource::advance`].
    fn read_times(&mut self) -> Result<Vec<Option<Duration>>, SourceError> {
        let mut times = Vec::new();
        while self.advance()? {
            times.push(self.time());
        }
        Ok(times)
    }
}

/// How a camera lays out its pixels; the names are V4L2's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// Y U Y V: two pixels in four bytes.
    Yuyv,
    /// A plane of Y, then one of U and V in pairs, of half the width and height.
    Nv12,
    /// Planes Y, U and V; U and V of half the width and height.
    Yu12,
    /// R G B.
    Rgb3,
    /// A JPEG image a frame.
    Mjpg,
}

impl PixelFormat {
    /// All, those first that are the least work.
    pub const ALL: [Self; 5] = [Self::Yuyv, Self::Nv12, Self::Yu12, Self::Rgb3, Self::Mjpg];

    /// V4L2's four letters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yuyv => "YUYV",
            Self::Nv12 => "NV12",
            Self::Yu12 => "YU12",
            Self::Rgb3 => "RGB3",
            Self::Mjpg => "MJPG",
        }
    }

    /// The format of that name, in capitals or not.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// The bytes of its name.
    #[must_use]
    pub fn fourcc(self) -> [u8; 4] {
        std::array::from_fn(|n| self.name().as_bytes()[n])
    }

    /// The format of those four letters.
    #[must_use]
    pub fn from_fourcc(fourcc: [u8; 4]) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.fourcc() == fourcc)
    }

    /// Bytes of a row of the first plane without padding.
    #[must_use]
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            Self::Yuyv => width.div_ceil(2) * 4,
            Self::Nv12 => width.div_ceil(2) * 2,
            Self::Yu12 => width,
            Self::Rgb3 => width * 3,
            Self::Mjpg => 0,
        }
    }

    /// Bytes of a whole frame with rows of `stride` bytes; 0 where that is not fixed.
    #[must_use]
    pub fn frame_bytes(self, stride: usize, height: usize) -> usize {
        match self {
            Self::Yuyv | Self::Rgb3 => stride * height,
            Self::Nv12 => stride * (height + height.div_ceil(2)),
            Self::Yu12 => stride * height + 2 * stride.div_ceil(2) * height.div_ceil(2),
            Self::Mjpg => 0,
        }
    }
}

impl std::fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a user can name as a camera.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraAddress {
    /// A device by its path, or by the number of its path.
    Device(PathBuf),
    /// A clip or a still image.
    File(PathBuf),
    /// GStreamer elements, ending in images.
    GStreamer(String),
}

impl std::fmt::Display for CameraAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Device(path) => path.display().fmt(f),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::GStreamer(elements) => write!(f, "gst:{elements}"),
        }
    }
}

impl CameraAddress {
    /// The camera that `text` names: a path, the number of a `/dev/video`, `file:PATH` or `gst:ELEMENTS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("file:").map(str::trim) {
            (!path.is_empty()).then(|| Self::File(path.into()))
        } else if let Some(elements) = text.strip_prefix("gst:").map(str::trim) {
            (!elements.is_empty()).then(|| Self::GStreamer(elements.to_owned()))
        } else if text.starts_with('/') {
            Some(Self::Device(text.into()))
        } else {
            let number: u16 = text.parse().ok()?;
            Some(Self::Device(format!("/dev/video{number}").into()))
        }
    }

    /// Whether it waits for its reader, so that no frame needs to be dropped.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// Which decoder reads clips.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum DecoderChoice {
    /// Decoders that run on the CPU: the only ones whose frames are proven equal to the notebook's.
    #[default]
    Software,
    /// A hardware decoder where one fits, else software.
    Hardware,
    /// This element.
    Named(String),
}

impl From<&str> for DecoderChoice {
    fn from(text: &str) -> Self {
        match text {
            "software" => Self::Software,
            "hardware" => Self::Hardware,
            name => Self::Named(name.to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for DecoderChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::from(&*text))
    }
}

impl std::fmt::Display for DecoderChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Software => "software",
            Self::Hardware => "hardware",
            Self::Named(name) => name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Block(Vec<u8>);

    impl AsRef<[u8]> for Block {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl AsMut<[u8]> for Block {
        fn as_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
    }

    impl PixelMemory for Block {}

    #[test]
    fn an_image_lies_in_external_memory_while_it_fits() {
        let mut frame = RgbFrame::in_memory(Box::new(Block(vec![7; 20])));
        assert_eq!((frame.width(), frame.pixels().len()), (0, 0));
        frame.resize(2, 3);
        frame.pixels_mut()[17] = 9;
        let copy = frame.clone();
        frame.pixels_mut()[0] = 1;
        assert!(frame.is_external() && !copy.is_external());
        assert_eq!(copy.pixels()[..1], [7]);
        assert_eq!(copy.pixels()[17..], [9]);
        assert_ne!(frame, copy);
        frame.resize(3, 3);
        assert!(!frame.is_external());
        assert_eq!(frame, RgbFrame::new(3, 3));
    }

    #[test]
    fn cameras_have_names() {
        let check = |text: &str, expected: Option<CameraAddress>| {
            assert_eq!(CameraAddress::parse(text), expected, "{text}");
        };
        check("0", Some(CameraAddress::Device("/dev/video0".into())));
        check(
            "/dev/v4l/by-id/x",
            Some(CameraAddress::Device("/dev/v4l/by-id/x".into())),
        );
        check("file:a b.mp4", Some(CameraAddress::File("a b.mp4".into())));
        check(
            "gst: libcamerasrc",
            Some(CameraAddress::GStreamer("libcamerasrc".into())),
        );
        for text in ["", "video0", "file:", "gst:  ", "-1", "70000", "clip.mp4"] {
            check(text, None);
        }
        for text in ["/dev/video3", "file:x.png", "gst:videotestsrc ! identity"] {
            assert_eq!(CameraAddress::parse(text).unwrap().to_string(), text);
        }
    }
}
