//! Compares the plain rule with the fast path; tests known colors and geometry. Also makes planes for other tests.

use super::*;
use crate::frame::RgbFrame;

/// One linear congruential generator started at 1, the top bits of each state being a sample.
pub(super) struct Random(u32);

impl Default for Random {
    fn default() -> Self {
        Self(1)
    }
}

impl Random {
    /// `count` samples of `bits` bits: bytes, or two bytes little-endian each.
    pub(super) fn samples(&mut self, count: usize, bits: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..count {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let sample = u16::try_from(self.0 >> (32 - bits)).expect("16 bits");
            let length = if bits == 8 { 1 } else { 2 };
            bytes.extend_from_slice(&sample.to_le_bytes()[..length]);
        }
        bytes
    }
}

pub(super) fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// An image that owns its planes.
pub(super) struct Owned {
    width: usize,
    height: usize,
    layout: ChromaLayout,
    bit_depth: u8,
    full_range: bool,
    planes: [Vec<u8>; 3],
    strides: [usize; 3],
}

impl Owned {
    /// Planes Y, U, V filled in reading order by [`Random`]; `padding` bytes of 0xA5 after each row.
    pub(super) fn random(
        layout: ChromaLayout,
        bit_depth: u8,
        full_range: bool,
        (width, height): (usize, usize),
        padding: usize,
    ) -> Self {
        let mut random = Random::default();
        let mut strides = [0; 3];
        let planes = std::array::from_fn(|plane| {
            let (columns, rows) = if plane == 0 {
                (width, height)
            } else {
                layout.chroma_size(width, height)
            };
            let mut bytes = Vec::new();
            for _ in 0..rows {
                bytes.extend(random.samples(columns, bit_depth));
                bytes.resize(bytes.len() + padding, 0xA5);
            }
            strides[plane] = bytes.len().checked_div(rows).unwrap_or(0);
            bytes
        });
        Self {
            width,
            height,
            layout,
            bit_depth,
            full_range,
            planes,
            strides,
        }
    }

    pub(super) fn frame(&self) -> YuvFrame<'_> {
        YuvFrame {
            width: self.width,
            height: self.height,
            coded_width: self.width,
            coded_height: self.height,
            layout: self.layout,
            is_planar: true,
            bit_depth: self.bit_depth,
            full_range: self.full_range,
            planes: [&self.planes[0], &self.planes[1], &self.planes[2]],
            strides: self.strides,
        }
    }
}

pub(super) fn convert(frame: &YuvFrame<'_>) -> (RgbFrame, Exactness) {
    let mut out = RgbFrame::default();
    let exactness = Converter::new().to_rgb(frame, &mut out);
    (out, exactness.expect("a valid image"))
}

/// NOTEBOOK.md's rule, one pixel at a time.
fn plain_pixel(y: u8, u: u8, v: u8, full_range: bool) -> [u8; 3] {
    let (y, u, v) = (
        i32::from(y),
        i32::from(u) * 8 - 1024,
        i32::from(v) * 8 - 1024,
    );
    let (y, vr, ug, vg, ub) = if full_range {
        (((y * 8) * 8192) >> 16, 11485, -2819, -5850, 14516)
    } else {
        (((y * 8 - 128) * 9539) >> 16, 13075, -3209, -6660, 16525)
    };
    [
        y + ((v * vr) >> 16),
        y + ((u * ug) >> 16) + ((v * vg) >> 16),
        y + ((u * ub) >> 16),
    ]
    .map(|level| u8::try_from(level.clamp(0, 255)).expect("clamped"))
}

#[test]
fn even_heights_follow_the_plain_rule() {
    for (layout, full_range) in [
        (ChromaLayout::Yuv420, false),
        (ChromaLayout::Yuv420, true),
        (ChromaLayout::Yuv422, false),
        (ChromaLayout::Yuv422, true),
    ] {
        let widths = (1..=70).chain([127, 128, 321, 640]);
        for (width, height) in widths.flat_map(|width| [(width, 2), (width, 6)]) {
            let padding = width % 7;
            let owned = Owned::random(layout, 8, full_range, (width, height), padding);
            let frame = owned.frame();
            let (out, exactness) = convert(&frame);
            assert_eq!(exactness, Exactness::Exact);
            let rows_per_chroma = if layout == ChromaLayout::Yuv420 { 2 } else { 1 };
            for (index, pixel) in out.pixels().chunks_exact(3).enumerate() {
                let (x, y) = (index % width, index / width);
                let chroma = y / rows_per_chroma;
                let expected = plain_pixel(
                    frame.row(0, y)[x],
                    frame.row(1, chroma)[x / 2],
                    frame.row(2, chroma)[x / 2],
                    full_range,
                );
                assert_eq!(pixel, expected, "{layout:?} {width}x{height} at {x}, {y}");
            }
        }
    }
}

#[test]
fn known_colors() {
    // Luma, U, V, full range, R, G, B.
    for (y, u, v, full_range, rgb) in [
        (16, 128, 128, false, [0, 0, 0]),
        (235, 128, 128, false, [255, 255, 255]),
        (0, 128, 128, true, [0, 0, 0]),
        (255, 128, 128, true, [255, 255, 255]),
        (81, 90, 240, false, [253, 0, 0]),
        (41, 240, 110, false, [0, 0, 254]),
    ] {
        let (luma, u, v) = ([y; 4], [u; 1], [v; 1]);
        let frame = YuvFrame {
            width: 2,
            height: 2,
            coded_width: 2,
            coded_height: 2,
            layout: ChromaLayout::Yuv420,
            is_planar: true,
            bit_depth: 8,
            full_range,
            planes: [&luma, &u, &v],
            strides: [2, 1, 1],
        };
        let (out, _) = convert(&frame);
        assert_eq!(out.pixels()[..3], rgb, "{y} {u:?} {v:?}");
    }
}

#[test]
fn gray_is_copied() {
    let owned = Owned::random(ChromaLayout::Gray, 8, false, (7, 3), 2);
    let frame = owned.frame();
    let (out, exactness) = convert(&frame);
    assert_eq!(exactness, Exactness::Exact);
    for (y, row) in out.pixels().chunks_exact(21).enumerate() {
        for (pixel, &luma) in row.chunks_exact(3).zip(frame.row(0, y)) {
            assert_eq!(pixel, [luma; 3]);
        }
    }
}

#[test]
fn one_converter_serves_changing_images() {
    let mut converter = Converter::new();
    let mut out = RgbFrame::default();
    for (layout, bit_depth, size) in [
        (ChromaLayout::Yuv420, 8, (64, 48)),
        (ChromaLayout::Yuv420, 8, (33, 17)),
        (ChromaLayout::Yuv444, 8, (20, 20)),
        (ChromaLayout::Yuv420, 10, (34, 18)),
        (ChromaLayout::Gray, 10, (50, 9)),
        (ChromaLayout::Yuv420, 8, (9, 7)),
        (ChromaLayout::Yuv420, 8, (64, 48)),
        (ChromaLayout::Yuv422, 8, (33, 17)),
    ] {
        let owned = Owned::random(layout, bit_depth, false, size, 3);
        converter
            .to_rgb(&owned.frame(), &mut out)
            .expect("a valid image");
        assert_eq!(out, convert(&owned.frame()).0, "{layout:?} {size:?}");
    }
}

#[test]
fn planes_may_end_with_the_last_visible_sample() {
    for (layout, bit_depth) in [
        (ChromaLayout::Yuv420, 8),
        (ChromaLayout::Yuv422, 8),
        (ChromaLayout::Yuv444, 10),
    ] {
        for size in [(8, 6), (9, 5), (1, 1)] {
            let owned = Owned::random(layout, bit_depth, false, size, 5);
            let whole = owned.frame();
            let cut = YuvFrame {
                planes: whole.planes.map(|plane| &plane[..plane.len() - 5]),
                ..whole
            };
            assert_eq!(convert(&cut).0, convert(&whole).0);
            for plane in 0..3 {
                let mut short = cut;
                short.planes[plane] = &cut.planes[plane][..cut.planes[plane].len() - 1];
                let mut out = RgbFrame::new(1, 1);
                let error = Converter::new().to_rgb(&short, &mut out).unwrap_err();
                let actual = short.planes[plane].len();
                assert_eq!(
                    error.to_string(),
                    format!(
                        "plane {plane} has {actual} bytes, its visible part needs {}",
                        actual + 1
                    )
                );
                assert_eq!(out, RgbFrame::new(1, 1), "untouched on error");
            }
        }
    }
}

#[test]
fn impossible_geometry_is_an_error() {
    let owned = Owned::random(ChromaLayout::Yuv420, 8, false, (8, 6), 0);
    let good = owned.frame();
    let bad: [(&str, YuvFrame<'_>); 8] = [
        ("no columns", YuvFrame { width: 0, ..good }),
        ("no rows", YuvFrame { height: 0, ..good }),
        (
            "17 bits",
            YuvFrame {
                bit_depth: 17,
                ..good
            },
        ),
        (
            "coded width",
            YuvFrame {
                coded_width: 7,
                ..good
            },
        ),
        (
            "coded height",
            YuvFrame {
                coded_height: 5,
                ..good
            },
        ),
        (
            "huge",
            YuvFrame {
                coded_height: usize::MAX,
                ..good
            },
        ),
        (
            "overlapping rows",
            YuvFrame {
                strides: [8, 3, 4],
                ..good
            },
        ),
        (
            "stride beyond memory",
            YuvFrame {
                strides: [usize::MAX, 4, 4],
                ..good
            },
        ),
    ];
    for (name, frame) in bad {
        let result = Converter::new().to_rgb(&frame, &mut RgbFrame::default());
        assert!(result.is_err(), "{name}");
    }
}
