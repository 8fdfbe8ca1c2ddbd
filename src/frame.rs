//! Pictures in memory and the way a clip hands them out.
//!
//! Knows nothing of files, decoders or clocks: a source is anything that steps from picture to picture.

/// An RGB picture: `height × width × 3` bytes, row-major, R G B, no padding between rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RgbFrame {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl RgbFrame {
    /// A black picture of `width × height` pixels.
    #[must_use]
    pub fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![0; width * height * 3],
        }
    }

    /// Wraps `pixels`; `None` when their number is not `width * height * 3`.
    #[must_use]
    pub fn from_pixels(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        (pixels.len() == width * height * 3).then_some(Self {
            width,
            height,
            pixels,
        })
    }

    /// Makes this a picture of `width × height`, keeping its memory; the content is unspecified.
    pub fn resize(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.pixels.resize(width * height * 3, 0);
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
        &self.pixels
    }

    /// `[height, width, 3]` u8, row-major.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }
}

/// A clip could not be read, or not further; the text is the decoder's or the system's reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// Pictures in display order, one at a time, never backwards.
pub trait FrameSource {
    /// Steps to the next picture; `false` when there is none.
    ///
    /// # Errors
    /// When the source can give nothing at all, or not within its time.
    fn advance(&mut self) -> Result<bool, SourceError>;

    /// The picture that [`FrameSource::advance`] stepped to, as the viewer sees it (rotation applied).
    /// Converted only when asked for: skipped frames cost no conversion.
    ///
    /// # Errors
    /// When there is no current picture or its pixel format cannot be converted.
    fn picture(&mut self) -> Result<&RgbFrame, SourceError>;

    /// How many frames the container says there are; may lie.
    fn declared_frames(&self) -> u64;
}
