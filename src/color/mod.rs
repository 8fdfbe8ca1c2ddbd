//! Color: decoded planar YUV into the RGB bytes that OpenCV 4.8.1 would have given.
//!
//! OpenCV passes every decoded image to FFmpeg's swscale, with unchanged size and bicubic filtering. The coded size,
//! subsampling and depth then decide how chroma gets the size of luma:
//!
//! - 8-bit 4:2:0 and 4:2:2 of even height in three planes: the nearest chroma sample;
//! - other images of even width: chroma shared by two pixels in a row, filtered vertically;
//! - odd width and 4:4:4: chroma filtered both ways.
//!
//! 8-bit RGB and palettes are copied. RGB of more bits goes through YUV and back, as in swscale.
//!
//! The rules were found by comparing with OpenCV's own swscale on random planes. They describe its x86-64
//! build; the arithmetic here is plain integers and gives those bytes on every machine. The color
//! tags of a clip have no effect: OpenCV never passes them to swscale, which then takes BT.601.
//!
//! This module does not decode, crop or scale, and does not depend on GStreamer.

#![allow(
    clippy::inline_always,
    reason = "loops must end up inside the function that was compiled for AVX2"
)]

mod coefficients;
mod converter;
mod filter;
mod planes;
mod rgb;
mod rotation;

pub use converter::Converter;
pub use planes::{Packing, Planes};
pub use rgb::{RgbLayout, RgbPlanes};
pub use rotation::rotate;

/// How the chroma planes are subsampled against luma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChromaLayout {
    /// Chroma of half the width and half the height, rounded up.
    Yuv420,
    /// Chroma of half the width, rounded up, and full height.
    Yuv422,
    /// Chroma of full size.
    Yuv444,
    /// Chroma of a quarter of the width, rounded up, and full height.
    Yuv411,
    /// Chroma of a quarter of the width and a quarter of the height, rounded up.
    Yuv410,
    /// No chroma; only plane 0 is read.
    Gray,
}

impl ChromaLayout {
    /// Width and height of each chroma plane of a `width × height` image; zero for gray.
    fn chroma_size(self, width: usize, height: usize) -> (usize, usize) {
        match self {
            Self::Yuv420 => (width.div_ceil(2), height.div_ceil(2)),
            Self::Yuv422 => (width.div_ceil(2), height),
            Self::Yuv444 => (width, height),
            Self::Yuv411 => (width.div_ceil(4), height),
            Self::Yuv410 => (width.div_ceil(4), height.div_ceil(4)),
            Self::Gray => (0, 0),
        }
    }
}

/// A decoded image: borrowed planes Y, U, V and their geometry.
///
/// A plane's slice starts at the top left visible sample; its last row may end with the last visible sample.
/// What lies beyond the visible part is never read.
#[derive(Clone, Copy, Debug)]
pub struct YuvFrame<'a> {
    /// Visible pixels per row, at least 1.
    pub width: usize,
    /// Visible rows, at least 1.
    pub height: usize,
    /// Pixels per row before cropping, at least `width`: what OpenCV passes to swscale (libavcodec's
    /// `coded_width`). A multiple of 16 for H.264; equal to `width` for MPEG-4 Part 2, VP8, VP9 and MJPEG.
    pub coded_width: usize,
    /// Rows before cropping, at least `height`; see `coded_width`. Its parity chooses the path.
    pub coded_height: usize,
    /// Subsampling of planes 1 and 2.
    pub layout: ChromaLayout,
    /// Whether the decoder gives three planes. Only for these does swscale have code without filters.
    pub is_planar: bool,
    /// 8 (one byte a sample) to 16 (two bytes little-endian a sample, the bits at its lower end).
    pub bit_depth: u8,
    /// True only where libavcodec names the format `yuvj420p`, `yuvj422p` or `yuvj444p`: 8-bit H.264, HEVC
    /// and MJPEG flagged full range. Ignored for more bits (always limited) and gray (always full), as OpenCV does.
    pub full_range: bool,
    /// Y, U, V bytes; planes 1 and 2 are not read for gray.
    pub planes: [&'a [u8]; 3],
    /// Bytes from one row to the next, per plane.
    pub strides: [usize; 3],
}

/// Whether the RGB bytes are known to be OpenCV's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Byte-equal to OpenCV 4.8.1.
    Exact,
    /// Exact except for an edge where OpenCV's bytes are undefined. OpenCV declares the coded rows to swscale and
    /// passes the visible ones, so the last three or so of a cropped 10-bit 4:2:0 image are never written:
    /// uninitialized memory there, black in a fresh process and black here. (The right edge of a cropped image of odd
    /// coded width, which no codec in use makes, repeats its last visible chroma instead.)
    Approximate,
}

/// Why an image cannot be converted: its geometry is impossible or a plane is too short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ColorError(String);

/// Largest coded side: beyond it filter positions would leave 32 bits; swscale refuses far smaller images.
const SIDE_MAX: usize = 1 << 15;

impl YuvFrame<'_> {
    /// Checks that every visible sample is inside its plane; all later indexing relies on it.
    fn validate(&self) -> Result<(), ColorError> {
        let (width, height, bits) = (self.width, self.height, self.bit_depth);
        let (coded_width, coded_height) = (self.coded_width, self.coded_height);
        let fail = |reason| Err(ColorError(reason));
        if width == 0 || height == 0 {
            return fail(format!("the image is empty: {width} × {height}"));
        }
        if !(width..=SIDE_MAX).contains(&coded_width)
            || !(height..=SIDE_MAX).contains(&coded_height)
        {
            return fail(format!(
                "the coded size {coded_width} × {coded_height} does not fit an image of {width} × {height}"
            ));
        }
        if !(8..=16).contains(&bits) {
            return fail(format!(
                "samples of {bits} bits are not supported, only 8 to 16"
            ));
        }
        let planes = if self.layout == ChromaLayout::Gray {
            1
        } else {
            3
        };
        for plane in 0..planes {
            let (columns, rows) = self.plane_size(plane);
            let row = columns * self.sample_bytes();
            let stride = self.strides[plane];
            if stride < row && rows > 1 {
                return fail(format!(
                    "plane {plane}: a stride of {stride} bytes is shorter than a row of {row} bytes"
                ));
            }
            // Saturation turns an absurd stride into a plane that is too short.
            let needed = stride.saturating_mul(rows - 1).saturating_add(row);
            let actual = self.planes[plane].len();
            if actual < needed {
                return fail(format!(
                    "plane {plane} has {actual} bytes, its visible part needs {needed}"
                ));
            }
        }
        Ok(())
    }

    /// Visible columns and rows of a plane, in samples.
    fn plane_size(&self, plane: usize) -> (usize, usize) {
        if plane == 0 {
            (self.width, self.height)
        } else {
            self.layout.chroma_size(self.width, self.height)
        }
    }

    /// Bytes per sample.
    fn sample_bytes(&self) -> usize {
        if self.bit_depth > 8 { 2 } else { 1 }
    }

    /// The visible bytes of row `row` of a plane.
    fn row(&self, plane: usize, row: usize) -> &[u8] {
        let bytes = self.plane_size(plane).0 * self.sample_bytes();
        let start = row * self.strides[plane];
        &self.planes[plane][start..start + bytes]
    }
}

#[cfg(test)]
mod tests;
