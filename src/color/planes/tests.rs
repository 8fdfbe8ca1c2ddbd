//! Expectations from OpenCV 4.8.1's own swscale, fed with the same bytes.

use super::super::tests::{Random, fnv_1a};
use super::super::{Converter, Exactness};
use super::*;
use crate::frame::RgbFrame;

/// Packing, width, height, FNV-1a of swscale's RGB bytes.
#[rustfmt::skip]
const PACKED: [(Packing, usize, usize, u64); 35] = [
    (Packing::Quads([0, 1, 2, 3]), 2, 3, 0xe8e2_dd6e_910c_80f3),
    (Packing::Quads([0, 1, 2, 3]), 9, 5, 0x71f3_13a2_751c_a6cc),
    (Packing::Quads([0, 1, 2, 3]), 8, 7, 0x4958_f8f3_3b5c_eac7),
    (Packing::Quads([0, 1, 2, 3]), 33, 18, 0xcb0c_6a0d_1d44_4132),
    (Packing::Quads([0, 1, 2, 3]), 34, 19, 0xf43c_cfd2_1350_b0f5),
    (Packing::Quads([0, 1, 2, 3]), 101, 61, 0x4274_48d8_fb53_4f8a),
    (Packing::Quads([0, 1, 2, 3]), 64, 122, 0x5abb_f397_7b69_2469),
    (Packing::Quads([1, 0, 3, 2]), 2, 3, 0xf540_77c7_60d3_401b),
    (Packing::Quads([1, 0, 3, 2]), 9, 5, 0xe22b_d034_1537_d477),
    (Packing::Quads([1, 0, 3, 2]), 8, 7, 0xe111_2abf_2a77_58a7),
    (Packing::Quads([1, 0, 3, 2]), 33, 18, 0x4dd3_b187_d757_6e98),
    (Packing::Quads([1, 0, 3, 2]), 34, 19, 0x9825_1106_32b3_d235),
    (Packing::Quads([1, 0, 3, 2]), 101, 61, 0xcf77_fd83_059a_73a4),
    (Packing::Quads([1, 0, 3, 2]), 64, 122, 0xb3a3_d69d_d3e0_ec8e),
    (Packing::Quads([0, 3, 2, 1]), 2, 3, 0xe190_7e3b_9fba_e8fd),
    (Packing::Quads([0, 3, 2, 1]), 9, 5, 0x5f0e_7a8b_d52a_609d),
    (Packing::Quads([0, 3, 2, 1]), 8, 7, 0x8cb4_75a1_3396_7c9c),
    (Packing::Quads([0, 3, 2, 1]), 33, 18, 0x255f_9f6b_0030_b547),
    (Packing::Quads([0, 3, 2, 1]), 34, 19, 0xc769_7c37_c871_384c),
    (Packing::Quads([0, 3, 2, 1]), 101, 61, 0x6935_e382_5a66_8d2a),
    (Packing::Quads([0, 3, 2, 1]), 64, 122, 0x9362_a14e_4d4c_6881),
    (Packing::Pairs { is_v_first: false, is_raw: true }, 2, 3, 0xa700_dcc2_8a13_78c9),
    (Packing::Pairs { is_v_first: false, is_raw: true }, 9, 5, 0x2972_34c2_7e1a_e6af),
    (Packing::Pairs { is_v_first: false, is_raw: true }, 8, 7, 0xc928_74fc_b95b_90e1),
    (Packing::Pairs { is_v_first: false, is_raw: true }, 33, 18, 0x3ff6_fa36_048f_99f7),
    (Packing::Pairs { is_v_first: false, is_raw: true }, 34, 19, 0x9c19_73e9_2bbe_8db0),
    (Packing::Pairs { is_v_first: false, is_raw: true }, 101, 61, 0xe160_e77f_51fb_91fa),
    (Packing::Pairs { is_v_first: false, is_raw: true }, 64, 122, 0x42c2_e7c2_2d8b_7925),
    (Packing::Pairs { is_v_first: true, is_raw: true }, 2, 3, 0xab55_ff2d_6995_dd32),
    (Packing::Pairs { is_v_first: true, is_raw: true }, 9, 5, 0x3697_3cbe_2270_9bdd),
    (Packing::Pairs { is_v_first: true, is_raw: true }, 8, 7, 0xb4df_224a_203c_588e),
    (Packing::Pairs { is_v_first: true, is_raw: true }, 33, 18, 0x39ce_db60_5edd_ee2f),
    (Packing::Pairs { is_v_first: true, is_raw: true }, 34, 19, 0x70d2_0357_e073_e437),
    (Packing::Pairs { is_v_first: true, is_raw: true }, 101, 61, 0xc86b_28ce_f508_7cef),
    (Packing::Pairs { is_v_first: true, is_raw: true }, 64, 122, 0xb498_d541_005c_2465),
];

/// Layout, bits, width, height, FNV-1a of swscale's RGB bytes.
#[rustfmt::skip]
const BIG_ENDIAN: [(ChromaLayout, u8, usize, usize, u64); 6] = [
    (ChromaLayout::Gray, 16, 9, 5, 0x922a_fdff_5342_7f86),
    (ChromaLayout::Gray, 16, 34, 19, 0x2965_76ec_8a3f_c375),
    (ChromaLayout::Yuv420, 10, 9, 5, 0x471d_76ab_8bd6_16e9),
    (ChromaLayout::Yuv420, 10, 34, 19, 0xcbc4_4723_86f4_a0d3),
    (ChromaLayout::Yuv444, 12, 9, 5, 0xfc3c_a7b0_f67b_e24f),
    (ChromaLayout::Yuv444, 12, 34, 19, 0xe88b_e4d1_38ae_cc1d),
];

/// FNV-1a of the RGB bytes of an image of `planes`, whose rows take `strides` bytes.
fn convert(
    (layout, bit_depth, packing): (ChromaLayout, u8, Packing),
    (width, height): (usize, usize),
    planes: [&[u8]; 3],
    strides: [usize; 3],
) -> u64 {
    let frame = YuvFrame {
        width,
        height,
        coded_width: width,
        coded_height: height,
        layout,
        is_planar: true,
        bit_depth,
        full_range: false,
        planes,
        strides,
    };
    let (mut unpacked, mut out) = (Planes::default(), RgbFrame::default());
    let planar = unpacked.unpack(frame, packing).unwrap();
    let exactness = Converter::new().to_rgb(&planar, &mut out).unwrap();
    assert_eq!(exactness, Exactness::Exact);
    fnv_1a(out.pixels())
}

#[test]
fn packed_images_equal_swscale() {
    for (packing, width, height, expected) in PACKED {
        let (columns, rows) = (width.div_ceil(2), height.div_ceil(2));
        let mut random = Random::default();
        let (layout, first, second) = if let Packing::Quads(_) = packing {
            (
                ChromaLayout::Yuv422,
                random.samples(4 * columns * height, 8),
                Vec::new(),
            )
        } else {
            let luma = random.samples(width * height, 8);
            (
                ChromaLayout::Yuv420,
                luma,
                random.samples(2 * columns * rows, 8),
            )
        };
        let strides = [first.len() / height, 2 * columns, 0];
        let actual = convert(
            (layout, 8, packing),
            (width, height),
            [&first, &second, &[]],
            strides,
        );
        assert_eq!(actual, expected, "{packing:?} {width} × {height}");
    }
}

#[test]
fn big_endian_images_equal_swscale() {
    for (layout, bits, width, height, expected) in BIG_ENDIAN {
        let (columns, rows) = layout.chroma_size(width, height);
        let mut random = Random::default();
        let planes = [(width, height), (columns, rows), (columns, rows)].map(|(columns, rows)| {
            let mut bytes = random.samples(columns * rows, bits);
            bytes
                .as_chunks_mut::<2>()
                .0
                .iter_mut()
                .for_each(|sample| sample.reverse());
            bytes
        });
        let planes = [&planes[0][..], &planes[1], &planes[2]];
        let strides = [2 * width, 2 * columns, 2 * columns];
        let actual = convert(
            (layout, bits, Packing::BigEndian),
            (width, height),
            planes,
            strides,
        );
        assert_eq!(
            actual, expected,
            "{layout:?} {bits} bits {width} × {height}"
        );
    }
}

#[test]
fn a_plane_that_ends_early_is_an_error() {
    let bytes = [0; 64];
    for packing in [
        Packing::BigEndian,
        Packing::Quads([0, 1, 2, 3]),
        Packing::Pairs {
            is_v_first: false,
            is_raw: true,
        },
    ] {
        let frame = YuvFrame {
            width: 8,
            height: 8,
            coded_width: 8,
            coded_height: 8,
            layout: ChromaLayout::Yuv420,
            is_planar: true,
            bit_depth: 8,
            full_range: false,
            planes: [&bytes, &bytes[..31], &[]],
            strides: [16, 8, usize::MAX],
        };
        assert!(
            Planes::default().unpack(frame, packing).is_err(),
            "{packing:?}"
        );
    }
}
