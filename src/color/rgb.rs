//! Converts RGB images of every layout to RGB bytes, as swscale converts them to BGR24.

use super::{ChromaLayout, ColorError, Converter, Exactness, YuvFrame};
use crate::frame::RgbFrame;

/// Memory layout of an image with red, green and blue; other parts of a pixel are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RgbLayout {
    /// Pixels of `size` bytes; `places` are the positions of red, green and blue in a pixel.
    Bytes {
        /// Number of bytes of a pixel.
        size: usize,
        /// Positions of red, green and blue in a pixel, in bytes.
        places: [usize; 3],
    },
    /// Pixels of 16 bits little-endian: red above green above blue, five bits each but `green_bits`.
    Packed {
        /// Bits of green, 5 or 6.
        green_bits: u32,
    },
    /// Pixels of one byte, an index into plane 1: 256 entries of four bytes, little-endian ARGB.
    Palette,
    /// Planes of green, blue and red, `bit_depth` bits a sample: one byte, or two bytes.
    Planes {
        /// Bits of a sample: 8 to 14.
        bit_depth: u8,
        /// Whether samples of two bytes are big-endian.
        is_big_endian: bool,
    },
}

/// A decoded image with red, green and blue: borrowed planes and their geometry.
#[derive(Clone, Copy, Debug)]
pub struct RgbPlanes<'a> {
    /// Pixels per row, at least 1.
    pub width: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// How the samples lie in memory.
    pub layout: RgbLayout,
    /// Bytes of each plane; unused planes are not read.
    pub planes: [&'a [u8]; 3],
    /// Bytes from one row to the next, per plane.
    pub strides: [usize; 3],
}

/// Fractional bits of [`TO_YUV`].
const SHIFT: u32 = 15;

/// swscale's matrix from red, green and blue to Y, U and V.
const TO_YUV: [[i32; 3]; 3] = [
    [8414, 16519, 3208],
    [-4865, -9528, 14392],
    [14392, -12061, -2332],
];

impl<'a> RgbPlanes<'a> {
    /// `bytes` bytes of row `y` of a plane.
    fn row(&self, plane: usize, y: usize, bytes: usize) -> Result<&'a [u8], ColorError> {
        let start = y.saturating_mul(self.strides[plane]);
        let row = self.planes[plane].get(start..start.saturating_add(bytes));
        row.ok_or_else(|| ColorError(format!("plane {plane} ends before row {y}")))
    }

    /// Writes the image into `out`. `converter` and `scratch` are used for more than 8 bits a sample.
    ///
    /// # Errors
    /// Fails when a plane is too short.
    pub fn to_rgb(
        &self,
        converter: &mut Converter,
        scratch: &mut [Vec<u8>; 3],
        out: &mut RgbFrame,
    ) -> Result<Exactness, ColorError> {
        let width = self.width;
        if width == 0 || self.height == 0 {
            return Err(ColorError("the image is empty".into()));
        }
        if let RgbLayout::Planes {
            bit_depth,
            is_big_endian,
        } = self.layout
            && bit_depth > 8
        {
            self.fill_yuv(bit_depth, is_big_endian, scratch)?;
            let frame = YuvFrame {
                width,
                height: self.height,
                coded_width: width,
                coded_height: self.height,
                layout: ChromaLayout::Yuv444,
                is_planar: false,
                bit_depth: 15,
                full_range: false,
                planes: [&scratch[0], &scratch[1], &scratch[2]],
                strides: [2 * width; 3],
            };
            return converter.to_rgb(&frame, out);
        }
        out.resize(width, self.height);
        for (y, target) in out.pixels_mut().chunks_exact_mut(3 * width).enumerate() {
            let target = target.as_chunks_mut::<3>().0.iter_mut();
            match self.layout {
                RgbLayout::Bytes { size, places } => {
                    let pixels = self.row(0, y, size * width)?.chunks_exact(size);
                    for (target, pixel) in target.zip(pixels) {
                        *target = places.map(|place| pixel[place]);
                    }
                }
                RgbLayout::Packed { green_bits } => {
                    let pixels = self.row(0, y, 2 * width)?.as_chunks::<2>().0;
                    for (target, pixel) in target.zip(pixels) {
                        *target = spread(u16::from_le_bytes(*pixel), green_bits);
                    }
                }
                RgbLayout::Palette => {
                    let palette = self.row(1, 0, 1024)?.as_chunks::<4>().0;
                    for (target, &index) in target.zip(self.row(0, y, width)?) {
                        let [blue, green, red, _] = palette[usize::from(index)];
                        *target = [red, green, blue];
                    }
                }
                RgbLayout::Planes { .. } => {
                    let [green, blue, red] = [0, 1, 2].map(|plane| self.row(plane, y, width));
                    let pixels = red?.iter().zip(green?).zip(blue?);
                    for (target, ((&red, &green), &blue)) in target.zip(pixels) {
                        *target = [red, green, blue];
                    }
                }
            }
        }
        Ok(Exactness::Exact)
    }

    /// Fills Y, U and V with 15-bit samples, with swscale's intermediate 14 bits.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at most 14 bits, above 0 by the offset"
    )]
    fn fill_yuv(
        &self,
        bits: u8,
        is_big_endian: bool,
        out: &mut [Vec<u8>; 3],
    ) -> Result<(), ColorError> {
        let bits = u32::from(bits);
        let read = |bytes: [u8; 2]| {
            let bytes = if is_big_endian {
                [bytes[1], bytes[0]]
            } else {
                bytes
            };
            i32::from(u16::from_le_bytes(bytes))
        };
        out.iter_mut().for_each(Vec::clear);
        for y in 0..self.height {
            let [green, blue, red] = [0, 1, 2].map(|plane| self.row(plane, y, 2 * self.width));
            let pixels = red?
                .as_chunks::<2>()
                .0
                .iter()
                .zip(green?.as_chunks::<2>().0);
            for ((&red, &green), &blue) in pixels.zip(blue?.as_chunks::<2>().0) {
                let pixel = [red, green, blue].map(read);
                for ((plane, weights), zero) in out.iter_mut().zip(TO_YUV).zip([16, 128, 128]) {
                    let products = weights
                        .iter()
                        .zip(pixel)
                        .map(|(weight, level)| weight.wrapping_mul(level));
                    let start = (zero << (SHIFT + bits - 8)) + (1 << (SHIFT + bits - 15));
                    let sum = products.fold(start, i32::wrapping_add);
                    let sample = (sum >> (SHIFT + bits - 14)) as u16;
                    plane.extend((u32::from(sample) * 2).min(0x7fff).to_le_bytes()[..2].iter());
                }
            }
        }
        Ok(())
    }
}

/// Red, green and blue of a pixel of 16 bits, each spread to 8 bits by repeating its upper bits.
#[allow(clippy::cast_possible_truncation, reason = "8 bits are left")]
fn spread(pixel: u16, green_bits: u32) -> [u8; 3] {
    let level = |from: u32, bits: u32| {
        let value = (u32::from(pixel) >> from) & ((1 << bits) - 1);
        ((value << (8 - bits)) | (value >> (2 * bits - 8))) as u8
    };
    [level(5 + green_bits, 5), level(5, green_bits), level(0, 5)]
}

#[cfg(test)]
mod tests;
