//! Converts a camera's pixel formats to RGB, by the same rules as for clips ([`crate::color`]).

use super::RawFrame;
use crate::color::{ChromaLayout, Converter, YuvFrame};
use crate::frame::{PixelFormat, RgbFrame};
use image::ImageFormat;

/// Maximum number of pixels of a frame: a wrong header must not exhaust the memory.
pub(super) const PIXELS_MAX: usize = 8192 * 8192;

/// Converts frames to RGB; reuses its memory.
#[derive(Debug, Default)]
pub struct PixelConverter {
    converter: Converter,
    planes: [Vec<u8>; 3],
}

impl PixelConverter {
    /// Writes `frame` as RGB, 8 bits per channel, into `out`, which is resized.
    ///
    /// # Errors
    /// Fails when there are too few bytes for the size, or when they are no JPEG image.
    pub fn to_rgb(&mut self, frame: &RawFrame, out: &mut RgbFrame) -> Result<(), String> {
        let (width, height) = (frame.width, frame.height);
        let too_large = width.checked_mul(height).is_none_or(|n| n > PIXELS_MAX);
        if width == 0 || height == 0 || too_large {
            return Err(format!("a frame of {width} x {height} pixels"));
        }
        if frame.stride < frame.format.row_bytes(width) {
            let stride = frame.stride;
            return Err(format!("rows of {width} pixels in {stride} bytes"));
        }
        let needed = last_byte(frame);
        if frame.bytes.len() < needed {
            let got = frame.bytes.len();
            return Err(format!("{got} of {needed} bytes are there"));
        }
        let [luma, u, v] = &mut self.planes;
        let (planes, strides, layout): ([&[u8]; 3], _, _) = match frame.format {
            PixelFormat::Rgb3 => {
                out.resize(width, height);
                let rows = frame.bytes.chunks(frame.stride);
                for (to, from) in out.pixels_mut().chunks_exact_mut(width * 3).zip(rows) {
                    to.copy_from_slice(&from[..width * 3]);
                }
                return Ok(());
            }
            PixelFormat::Mjpg => return decode_jpeg(frame, out),
            PixelFormat::Yuyv => {
                unpack_yuyv(frame, [&mut *luma, &mut *u, &mut *v]);
                let pairs = width.div_ceil(2);
                (
                    [luma, u, v],
                    [pairs * 2, pairs, pairs],
                    ChromaLayout::Yuv422,
                )
            }
            PixelFormat::Nv12 => {
                let (luma, pairs) = frame.bytes.split_at(frame.stride * height);
                u.clear();
                v.clear();
                for pair in pairs.chunks_exact(2) {
                    u.push(pair[0]);
                    v.push(pair[1]);
                }
                let half = frame.stride / 2;
                (
                    [luma, u, v],
                    [frame.stride, half, half],
                    ChromaLayout::Yuv420,
                )
            }
            PixelFormat::Yu12 => {
                let half = frame.stride.div_ceil(2);
                let (luma, rest) = frame.bytes.split_at(frame.stride * height);
                let (u, v) = rest.split_at(half * height.div_ceil(2));
                (
                    [luma, u, v],
                    [frame.stride, half, half],
                    ChromaLayout::Yuv420,
                )
            }
        };
        let planar = YuvFrame {
            width,
            height,
            coded_width: width,
            coded_height: height,
            layout,
            is_planar: true,
            bit_depth: 8,
            full_range: frame.full_range,
            planes,
            strides,
        };
        let converted = self.converter.to_rgb(&planar, out);
        converted.map(|_| ()).map_err(|e| e.to_string())
    }
}

/// Splits packed 4:2:2 into planes of Y, U and V.
fn unpack_yuyv(frame: &RawFrame, [luma, u, v]: [&mut Vec<u8>; 3]) {
    for plane in [&mut *luma, &mut *u, &mut *v] {
        plane.clear();
    }
    let pairs = frame.width.div_ceil(2);
    for row in frame.bytes.chunks(frame.stride).take(frame.height) {
        let (quads, _) = row[..pairs * 4].as_chunks::<4>();
        for &[left, blue, right, red] in quads {
            luma.extend([left, right]);
            u.push(blue);
            v.push(red);
        }
    }
}

/// Number of bytes up to the last visible one.
fn last_byte(frame: &RawFrame) -> usize {
    let whole = frame.format.frame_bytes(frame.stride, frame.height);
    match frame.format {
        PixelFormat::Mjpg => 1,
        PixelFormat::Yuyv | PixelFormat::Rgb3 => {
            whole - (frame.stride - frame.format.row_bytes(frame.width))
        }
        PixelFormat::Nv12 | PixelFormat::Yu12 => whole,
    }
}

/// A JPEG segment that marks a frame of MJPEG.
const AVI1: &[u8] = b"\xff\xe0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0";

/// Whether a JPEG image has no Huffman tables before its data.
fn lacks_tables(jpeg: &[u8]) -> bool {
    let Some(mut rest) = jpeg.strip_prefix(&[0xff, 0xd8]) else {
        return false;
    };
    while let [0xff, marker, high, low, ..] = *rest {
        match marker {
            0xc4 => return false,
            0xda => return true,
            _ => {}
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(2 + length..).unwrap_or_default();
    }
    false
}

fn decode_jpeg(frame: &RawFrame, out: &mut RgbFrame) -> Result<(), String> {
    // Most cameras leave out the tables that all MJPEG shares; this mark lets the decoder fill them in.
    let marked;
    let bytes = if lacks_tables(&frame.bytes) {
        marked = [&frame.bytes[..2], AVI1, &frame.bytes[2..]].concat();
        &marked
    } else {
        &frame.bytes
    };
    let image = image::load_from_memory_with_format(bytes, ImageFormat::Jpeg)
        .map_err(|e| e.to_string())?
        .into_rgb8();
    let (width, height) = (image.width() as usize, image.height() as usize);
    if (width, height) != (frame.width, frame.height) {
        let (w, h) = (frame.width, frame.height);
        return Err(format!("a JPEG of {width} x {height} instead of {w} x {h}"));
    }
    out.resize(width, height);
    out.pixels_mut().copy_from_slice(image.as_raw());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::scene::signing_scene;
    use image::codecs::jpeg::JpegEncoder;
    use proptest::prelude::*;

    fn raw(format: PixelFormat, (width, height): (usize, usize), pad: usize) -> RawFrame {
        let stride = format.row_bytes(width) + pad;
        let count = format.frame_bytes(stride, height);
        RawFrame {
            format,
            width,
            height,
            stride,
            bytes: (0..count).map(|i| (i * 37 % 251) as u8).collect(),
            ..RawFrame::default()
        }
    }

    fn rgb(frame: &RawFrame) -> RgbFrame {
        let mut out = RgbFrame::default();
        PixelConverter::default().to_rgb(frame, &mut out).unwrap();
        out
    }

    /// The RGB bytes that [`crate::color`] gives for planes without padding.
    fn expected(planes: &[Vec<u8>; 3], size: (usize, usize), layout: ChromaLayout) -> RgbFrame {
        let mut out = RgbFrame::default();
        let half = size.0.div_ceil(2);
        let image = YuvFrame {
            width: size.0,
            height: size.1,
            coded_width: size.0,
            coded_height: size.1,
            layout,
            is_planar: true,
            bit_depth: 8,
            full_range: false,
            planes: [&planes[0], &planes[1], &planes[2]],
            strides: [size.0, half, half],
        };
        Converter::new().to_rgb(&image, &mut out).unwrap();
        out
    }

    #[test]
    fn each_layout_is_taken_apart_rightly() {
        for pad in [0, 16] {
            let size = (16, 6);
            let frame = raw(PixelFormat::Yuyv, size, pad);
            let rows = || frame.bytes.chunks(frame.stride).map(|r| &r[..32]);
            let every = |from: usize, step: usize| -> Vec<u8> {
                rows()
                    .flat_map(|r| r.iter().copied().skip(from).step_by(step))
                    .collect()
            };
            let planes = [every(0, 2), every(1, 4), every(3, 4)];
            assert_eq!(rgb(&frame), expected(&planes, size, ChromaLayout::Yuv422));

            let frame = raw(PixelFormat::Nv12, size, pad);
            let rows: Vec<&[u8]> = frame.bytes.chunks(frame.stride).map(|r| &r[..16]).collect();
            let chroma = |from| {
                rows[6..]
                    .iter()
                    .flat_map(|r| r.iter().copied().skip(from).step_by(2))
                    .collect()
            };
            let planes = [rows[..6].concat(), chroma(0), chroma(1)];
            assert_eq!(rgb(&frame), expected(&planes, size, ChromaLayout::Yuv420));

            let frame = raw(PixelFormat::Yu12, size, pad);
            let (luma, rest) = frame.bytes.split_at(frame.stride * 6);
            let (half, cut) = (frame.stride / 2, |r: &[u8], n: usize| r[..n].to_vec());
            let luma: Vec<u8> = luma.chunks(frame.stride).flat_map(|r| cut(r, 16)).collect();
            let rows: Vec<Vec<u8>> = rest.chunks(half).map(|r| cut(r, 8)).collect();
            let planes = [luma, rows[..3].concat(), rows[3..].concat()];
            assert_eq!(rgb(&frame), expected(&planes, size, ChromaLayout::Yuv420));

            let frame = raw(PixelFormat::Rgb3, size, pad);
            let rows: Vec<&[u8]> = frame.bytes.chunks(frame.stride).map(|r| &r[..48]).collect();
            assert_eq!(rgb(&frame).pixels(), rows.concat());
        }
    }

    #[test]
    fn decoded_jpegs_are_near_their_source() {
        let scene = signing_scene(3, 10, 160, 120);
        let mut frame = raw(PixelFormat::Mjpg, (160, 120), 0);
        let mut encoder = JpegEncoder::new_with_quality(&mut frame.bytes, 95);
        encoder
            .encode(scene.pixels(), 160, 120, image::ExtendedColorType::Rgb8)
            .unwrap();
        let out = rgb(&frame);
        let off: u64 = scene
            .pixels()
            .iter()
            .zip(out.pixels())
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        assert!(off / (160 * 120 * 3) < 4, "{off}");
        // Most cameras send images without these tables.
        let mut bare = frame.clone();
        let mut at = 2;
        while bare.bytes[at + 1] != 0xda {
            let length =
                2 + usize::from(u16::from_be_bytes([bare.bytes[at + 2], bare.bytes[at + 3]]));
            if bare.bytes[at + 1] == 0xc4 {
                bare.bytes.drain(at..at + length);
            } else {
                at += length;
            }
        }
        assert!(bare.bytes.len() < frame.bytes.len());
        assert_eq!(rgb(&bare), out);
        frame.width = 320;
        let error = PixelConverter::default().to_rgb(&frame, &mut RgbFrame::default());
        assert!(error.unwrap_err().contains("160 x 120 instead of 320"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            format in 0_usize..5, width in 0_usize..40, height in 0_usize..40, stride in 0_usize..140,
            bytes in proptest::collection::vec(any::<u8>(), 0..4000),
        ) {
            let format = PixelFormat::ALL[format];
            let frame = RawFrame { format, width, height, stride, bytes, ..RawFrame::default() };
            let mut out = RgbFrame::default();
            if PixelConverter::default().to_rgb(&frame, &mut out).is_ok() {
                prop_assert_eq!((out.width(), out.height()), (width, height));
            }
        }
    }
}
