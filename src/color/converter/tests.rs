//! Expectations from OpenCV 4.8.1's own swscale, fed with [`Owned::random`] planes.

use super::super::tests::{Owned, convert, fnv_1a};
use super::*;

#[test]
fn an_odd_image_in_full() {
    // 9 × 5, 4:2:0, limited range: full chroma.
    #[rustfmt::skip]
    let expected: [[u8; 27]; 5] = [
        [194, 16, 0, 175, 71, 0, 113, 143, 121, 90, 255, 123, 0, 102, 0, 41, 129, 25, 255, 167, 255, 241, 71, 255, 112, 0, 189],
        [255, 136, 0, 140, 36, 0, 89, 119, 97, 56, 222, 89, 85, 255, 61, 1, 90, 0, 255, 229, 255, 255, 161, 255, 204, 0, 255],
        [255, 94, 111, 210, 134, 0, 0, 182, 0, 0, 134, 0, 0, 56, 234, 99, 62, 87, 224, 0, 0, 255, 103, 255, 255, 58, 255],
        [78, 154, 0, 28, 111, 0, 157, 243, 138, 255, 255, 130, 102, 45, 0, 221, 37, 0, 255, 194, 191, 223, 62, 0, 231, 139, 0],
        [103, 180, 0, 246, 255, 90, 194, 255, 175, 200, 215, 65, 255, 255, 31, 255, 228, 126, 215, 0, 0, 218, 58, 0, 255, 180, 0],
    ];
    let owned = Owned::random(ChromaLayout::Yuv420, 8, false, (9, 5), 0);
    let (out, _) = convert(&owned.frame());
    assert_eq!(out.pixels(), expected.as_flattened());
}

#[test]
fn an_odd_height_in_full() {
    // 6 × 5, 4:2:0, limited range: paired chroma, the last two rows by the portable code.
    #[rustfmt::skip]
    let expected: [[u8; 18]; 5] = [
        [137, 0, 255, 176, 2, 255, 255, 67, 0, 255, 126, 22, 188, 0, 0, 255, 7, 3],
        [255, 123, 255, 232, 58, 255, 172, 0, 0, 255, 107, 3, 248, 0, 0, 255, 24, 20],
        [14, 180, 255, 87, 253, 255, 0, 88, 0, 220, 255, 214, 255, 193, 255, 153, 34, 102],
        [44, 255, 165, 0, 212, 120, 40, 0, 255, 6, 0, 255, 0, 32, 195, 0, 105, 255],
        [0, 93, 1, 52, 255, 173, 150, 107, 255, 89, 46, 255, 0, 89, 252, 69, 235, 255],
    ];
    let owned = Owned::random(ChromaLayout::Yuv420, 8, false, (6, 5), 0);
    let (out, _) = convert(&owned.frame());
    assert_eq!(out.pixels(), expected.as_flattened());
}

/// Layout, bits, full range, width, height, FNV-1a of swscale's RGB bytes.
#[rustfmt::skip]
const SWSCALE: [(ChromaLayout, u8, bool, usize, usize, u64); 142] = [
    (ChromaLayout::Yuv420, 8, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv420, 8, false, 2, 3, 0x0235_5f82_c7ee_227e),
    (ChromaLayout::Yuv420, 8, false, 9, 5, 0x3069_c4a7_289b_c0fe),
    (ChromaLayout::Yuv420, 8, false, 8, 7, 0x8dc8_af19_7845_8b3c),
    (ChromaLayout::Yuv420, 8, false, 33, 18, 0xaca4_01b9_c2f6_ffc0),
    (ChromaLayout::Yuv420, 8, false, 34, 19, 0x8ddb_d793_62af_b596),
    (ChromaLayout::Yuv420, 8, false, 101, 61, 0x0720_4bb8_7086_cb90),
    (ChromaLayout::Yuv420, 8, false, 64, 122, 0xbc04_f279_2c07_12d4),
    (ChromaLayout::Yuv420, 8, true, 1, 1, 0x67f0_1d18_2ba2_ace7),
    (ChromaLayout::Yuv420, 8, true, 2, 3, 0xe4d5_e86b_881c_bb89),
    (ChromaLayout::Yuv420, 8, true, 9, 5, 0x0f07_c6b1_5010_718e),
    (ChromaLayout::Yuv420, 8, true, 8, 7, 0x88a0_869b_4bdb_cd6b),
    (ChromaLayout::Yuv420, 8, true, 33, 18, 0xdeb5_ae73_1f48_dad9),
    (ChromaLayout::Yuv420, 8, true, 34, 19, 0xd6f4_1eb3_63b7_3221),
    (ChromaLayout::Yuv420, 8, true, 101, 61, 0x93b9_e2c5_f95b_e380),
    (ChromaLayout::Yuv420, 8, true, 64, 122, 0x519e_a5b5_f0b5_46ad),
    (ChromaLayout::Yuv422, 8, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv422, 8, false, 2, 3, 0xd912_7e0b_d863_0a2d),
    (ChromaLayout::Yuv422, 8, false, 9, 5, 0x8bdc_d686_9f4d_f01c),
    (ChromaLayout::Yuv422, 8, false, 8, 7, 0x42ac_b02c_6427_b219),
    (ChromaLayout::Yuv422, 8, false, 33, 18, 0xf7c6_ddde_7524_68ec),
    (ChromaLayout::Yuv422, 8, false, 34, 19, 0x573d_ff7e_2132_c49d),
    (ChromaLayout::Yuv422, 8, false, 101, 61, 0x1616_8339_bf17_dae9),
    (ChromaLayout::Yuv422, 8, false, 64, 122, 0x42d6_ca4b_304f_919a),
    (ChromaLayout::Yuv422, 8, true, 1, 1, 0x67f0_1d18_2ba2_ace7),
    (ChromaLayout::Yuv422, 8, true, 2, 3, 0x7b17_bdce_bc68_c4b8),
    (ChromaLayout::Yuv422, 8, true, 9, 5, 0x87b9_9c57_460c_51e4),
    (ChromaLayout::Yuv422, 8, true, 8, 7, 0xcbef_e643_83ab_7729),
    (ChromaLayout::Yuv422, 8, true, 33, 18, 0x47a1_de0b_bdea_450a),
    (ChromaLayout::Yuv422, 8, true, 34, 19, 0x27b0_f698_cd9f_e847),
    (ChromaLayout::Yuv422, 8, true, 101, 61, 0x6a01_4151_ed7d_427a),
    (ChromaLayout::Yuv422, 8, true, 64, 122, 0x47f3_33f6_f99f_3e8f),
    (ChromaLayout::Yuv444, 8, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv444, 8, false, 2, 3, 0x53fb_e8cb_495a_b1bd),
    (ChromaLayout::Yuv444, 8, false, 9, 5, 0x25bb_5671_5b16_ee60),
    (ChromaLayout::Yuv444, 8, false, 8, 7, 0xeba9_d9f8_d78b_a923),
    (ChromaLayout::Yuv444, 8, false, 33, 18, 0x4dc1_fc68_0ceb_67f1),
    (ChromaLayout::Yuv444, 8, false, 34, 19, 0xa4fa_6fb6_3f58_7c32),
    (ChromaLayout::Yuv444, 8, false, 101, 61, 0xb067_fecf_9fdb_9fa6),
    (ChromaLayout::Yuv444, 8, false, 64, 122, 0xb0e6_2cfa_1c9f_4a33),
    (ChromaLayout::Yuv444, 8, true, 1, 1, 0x67f0_1d18_2ba2_ace7),
    (ChromaLayout::Yuv444, 8, true, 2, 3, 0x579a_7ef0_1b43_c315),
    (ChromaLayout::Yuv444, 8, true, 9, 5, 0x8ec8_4837_391e_9169),
    (ChromaLayout::Yuv444, 8, true, 8, 7, 0x9df6_0613_55a7_5fc6),
    (ChromaLayout::Yuv444, 8, true, 33, 18, 0x77f5_81c7_5289_0c91),
    (ChromaLayout::Yuv444, 8, true, 34, 19, 0x53a1_eb55_3a01_3ff7),
    (ChromaLayout::Yuv444, 8, true, 101, 61, 0x454a_2bd3_2961_489b),
    (ChromaLayout::Yuv444, 8, true, 64, 122, 0x9b55_9120_356f_08d2),
    (ChromaLayout::Yuv420, 10, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv420, 10, false, 2, 3, 0xfbe8_91ee_a3a6_4080),
    (ChromaLayout::Yuv420, 10, false, 9, 5, 0x471d_76ab_8bd6_16e9),
    (ChromaLayout::Yuv420, 10, false, 8, 7, 0xf195_5bb4_64ee_32af),
    (ChromaLayout::Yuv420, 10, false, 33, 18, 0xac9d_cb9d_41fe_dc45),
    (ChromaLayout::Yuv420, 10, false, 34, 19, 0xcbc4_4723_86f4_a0d3),
    (ChromaLayout::Yuv420, 10, false, 101, 61, 0xf795_6184_b1ab_72a0),
    (ChromaLayout::Yuv420, 10, false, 64, 122, 0xffca_9fa1_1e0b_2aef),
    (ChromaLayout::Yuv422, 10, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv422, 10, false, 2, 3, 0x3194_9008_e5c0_138b),
    (ChromaLayout::Yuv422, 10, false, 9, 5, 0x4a24_5877_659a_bbaa),
    (ChromaLayout::Yuv422, 10, false, 8, 7, 0x688e_fb4d_fe3b_3664),
    (ChromaLayout::Yuv422, 10, false, 33, 18, 0xef6c_a0fd_98e8_a55b),
    (ChromaLayout::Yuv422, 10, false, 34, 19, 0x1eea_53b0_3e74_570a),
    (ChromaLayout::Yuv422, 10, false, 101, 61, 0x1616_66f2_aa0f_ecb4),
    (ChromaLayout::Yuv422, 10, false, 64, 122, 0x0f8e_d48d_de97_005b),
    (ChromaLayout::Yuv444, 10, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv444, 10, false, 2, 3, 0x92eb_225a_b6d0_f8bd),
    (ChromaLayout::Yuv444, 10, false, 9, 5, 0x37a5_5802_050b_e669),
    (ChromaLayout::Yuv444, 10, false, 8, 7, 0x7235_dc61_3522_3258),
    (ChromaLayout::Yuv444, 10, false, 33, 18, 0xa2d5_f00f_e034_87d7),
    (ChromaLayout::Yuv444, 10, false, 34, 19, 0xe527_f51d_0d46_e616),
    (ChromaLayout::Yuv444, 10, false, 101, 61, 0x03fb_5219_b7cf_577e),
    (ChromaLayout::Yuv444, 10, false, 64, 122, 0x7707_8980_373f_549d),
    (ChromaLayout::Gray, 8, false, 1, 1, 0x70aa_8a18_3099_06fb),
    (ChromaLayout::Gray, 8, false, 2, 3, 0x7333_1860_b812_1ebe),
    (ChromaLayout::Gray, 8, false, 9, 5, 0xa76a_1c5a_0a51_89f5),
    (ChromaLayout::Gray, 8, false, 8, 7, 0xbf5b_e302_952f_e5b2),
    (ChromaLayout::Gray, 8, false, 33, 18, 0x91c5_004e_1ddf_e00f),
    (ChromaLayout::Gray, 8, false, 34, 19, 0xf8e8_d4f0_7b05_2fe4),
    (ChromaLayout::Gray, 8, false, 101, 61, 0x5690_1035_9b63_f017),
    (ChromaLayout::Gray, 8, false, 64, 122, 0x548c_0b66_91b2_ccec),
    (ChromaLayout::Gray, 10, false, 1, 1, 0x694a_e418_2cc9_6ab6),
    (ChromaLayout::Gray, 10, false, 2, 3, 0x4d97_62df_dbb0_9c3a),
    (ChromaLayout::Gray, 10, false, 9, 5, 0x922a_fdff_5342_7f86),
    (ChromaLayout::Gray, 10, false, 8, 7, 0xc436_8209_096b_5694),
    (ChromaLayout::Gray, 10, false, 33, 18, 0x6744_d76a_cff0_93bf),
    (ChromaLayout::Gray, 10, false, 34, 19, 0x2965_76ec_8a3f_c375),
    (ChromaLayout::Gray, 10, false, 101, 61, 0xb033_007c_0431_203c),
    (ChromaLayout::Gray, 10, false, 64, 122, 0x8f63_363c_b238_3176),
    (ChromaLayout::Yuv420, 12, false, 1, 1, 0x3c88_ec18_1306_7d71),
    (ChromaLayout::Yuv420, 12, false, 2, 3, 0xfbe8_91ee_a3a6_4080),
    (ChromaLayout::Yuv420, 12, false, 9, 5, 0x5f85_fb02_6504_594b),
    (ChromaLayout::Yuv420, 12, false, 8, 7, 0xfa97_60a0_273e_b5b4),
    (ChromaLayout::Yuv420, 12, false, 33, 18, 0xb59b_d702_4352_d02c),
    (ChromaLayout::Yuv420, 12, false, 34, 19, 0xfe48_28d4_fe36_0773),
    (ChromaLayout::Yuv420, 12, false, 101, 61, 0xd612_89b3_3e45_b2e2),
    (ChromaLayout::Yuv420, 12, false, 64, 122, 0xf77c_77da_f544_bffc),
    (ChromaLayout::Yuv422, 12, false, 1, 1, 0x3c88_ec18_1306_7d71),
    (ChromaLayout::Yuv422, 12, false, 2, 3, 0x3194_9008_e5c0_138b),
    (ChromaLayout::Yuv422, 12, false, 9, 5, 0x9989_44bc_75ee_2379),
    (ChromaLayout::Yuv422, 12, false, 8, 7, 0xc0b7_13ff_e639_a7f4),
    (ChromaLayout::Yuv422, 12, false, 33, 18, 0x52ac_270c_8ead_caf1),
    (ChromaLayout::Yuv422, 12, false, 34, 19, 0xdba0_42b6_4bb2_62e9),
    (ChromaLayout::Yuv422, 12, false, 101, 61, 0x3566_141d_df8c_11f6),
    (ChromaLayout::Yuv422, 12, false, 64, 122, 0x937d_b5f3_7c33_f492),
    (ChromaLayout::Yuv444, 12, false, 1, 1, 0x3c88_ec18_1306_7d71),
    (ChromaLayout::Yuv444, 12, false, 2, 3, 0x9d3c_b80f_2892_bcd4),
    (ChromaLayout::Yuv444, 12, false, 9, 5, 0xfc3c_a7b0_f67b_e24f),
    (ChromaLayout::Yuv444, 12, false, 8, 7, 0x961d_7cfa_6a3b_dab9),
    (ChromaLayout::Yuv444, 12, false, 33, 18, 0x79b0_c66c_e137_99d3),
    (ChromaLayout::Yuv444, 12, false, 34, 19, 0xe88b_e4d1_38ae_cc1d),
    (ChromaLayout::Yuv444, 12, false, 101, 61, 0x30f6_f3a5_3871_dbe4),
    (ChromaLayout::Yuv444, 12, false, 64, 122, 0xefef_88b8_bdb2_a4d6),
    (ChromaLayout::Yuv411, 8, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv411, 8, false, 2, 3, 0xd912_7e0b_d863_0a2d),
    (ChromaLayout::Yuv411, 8, false, 9, 5, 0x4777_8e2b_3366_6eaf),
    (ChromaLayout::Yuv411, 8, false, 8, 7, 0xef23_5e4e_4650_837f),
    (ChromaLayout::Yuv411, 8, false, 33, 18, 0x62da_9d08_6ca2_d97c),
    (ChromaLayout::Yuv411, 8, false, 34, 19, 0xfe7d_d2ab_77c9_d7be),
    (ChromaLayout::Yuv411, 8, false, 101, 61, 0xca1f_201a_c29d_6aa1),
    (ChromaLayout::Yuv411, 8, false, 64, 122, 0x4f10_36d6_281e_5515),
    (ChromaLayout::Yuv411, 8, false, 35, 21, 0xec3a_49fe_ca92_436d),
    (ChromaLayout::Yuv411, 8, false, 36, 20, 0x8143_78ee_3193_aeac),
    (ChromaLayout::Yuv411, 8, false, 38, 23, 0xdd47_7d4c_e535_90d4),
    (ChromaLayout::Yuv410, 8, false, 1, 1, 0x243f_7b18_05c0_15f0),
    (ChromaLayout::Yuv410, 8, false, 2, 3, 0x848d_5e53_5f86_a464),
    (ChromaLayout::Yuv410, 8, false, 9, 5, 0x4dfb_3501_34e0_951d),
    (ChromaLayout::Yuv410, 8, false, 8, 7, 0xf479_51c1_222f_d649),
    (ChromaLayout::Yuv410, 8, false, 33, 18, 0x9732_aaea_9723_ce7b),
    (ChromaLayout::Yuv410, 8, false, 34, 19, 0xe970_3c46_41e4_f447),
    (ChromaLayout::Yuv410, 8, false, 101, 61, 0x305b_a7ff_b4be_b7b6),
    (ChromaLayout::Yuv410, 8, false, 64, 122, 0x4e65_8e73_e5f5_0343),
    (ChromaLayout::Yuv410, 8, false, 35, 21, 0x6885_fd3f_48d3_d8f4),
    (ChromaLayout::Yuv410, 8, false, 36, 20, 0xb174_b157_ba14_c525),
    (ChromaLayout::Yuv410, 8, false, 38, 23, 0x9b88_9a0f_1130_932d),
    (ChromaLayout::Gray, 16, false, 1, 1, 0x694a_e418_2cc9_6ab6),
    (ChromaLayout::Gray, 16, false, 2, 3, 0x4d97_62df_dbb0_9c3a),
    (ChromaLayout::Gray, 16, false, 9, 5, 0x922a_fdff_5342_7f86),
    (ChromaLayout::Gray, 16, false, 8, 7, 0xc436_8209_096b_5694),
    (ChromaLayout::Gray, 16, false, 33, 18, 0x6744_d76a_cff0_93bf),
    (ChromaLayout::Gray, 16, false, 34, 19, 0x2965_76ec_8a3f_c375),
    (ChromaLayout::Gray, 16, false, 101, 61, 0xb033_007c_0431_203c),
    (ChromaLayout::Gray, 16, false, 64, 122, 0x8f63_363c_b238_3176),
];

#[test]
fn every_format_equals_swscale() {
    for (layout, bit_depth, full_range, width, height, expected) in SWSCALE {
        for padding in [0, 6] {
            let owned = Owned::random(layout, bit_depth, full_range, (width, height), padding);
            let (out, exactness) = convert(&owned.frame());
            let case = format!("{layout:?} {bit_depth} bits {full_range} {width} × {height}");
            assert_eq!(exactness, Exactness::Exact, "{case}");
            assert_eq!(fnv_1a(out.pixels()), expected, "{case}");
        }
    }
}

#[test]
fn full_range_is_ignored_at_10_bits() {
    let frame = |full| Owned::random(ChromaLayout::Yuv420, 10, full, (12, 10), 0);
    assert_eq!(
        convert(&frame(true).frame()),
        convert(&frame(false).frame())
    );
}

#[test]
fn cropped_10_bit_chroma_leaves_the_last_rows_black() {
    // 178 visible rows of 192: on row 175 the filter wants chroma row 89, one more than there is.
    let owned = Owned::random(ChromaLayout::Yuv420, 10, false, (16, 178), 0);
    let cropped = YuvFrame {
        coded_height: 192,
        ..owned.frame()
    };
    let (out, exactness) = convert(&cropped);
    assert_eq!(exactness, Exactness::Approximate);
    let (above, below) = out.pixels().split_at(175 * 16 * 3);
    assert!(below.iter().all(|&level| level == 0));
    assert_eq!(above, &convert(&owned.frame()).0.pixels()[..above.len()]);
}

#[test]
fn parity_is_that_of_the_coded_size() {
    // 4:2:2 of 241 rows coded as 256 takes the nearest chroma, as an even image would.
    let odd = Owned::random(ChromaLayout::Yuv422, 8, false, (10, 7), 0);
    let coded = YuvFrame {
        coded_height: 16,
        coded_width: 16,
        ..odd.frame()
    };
    let even = YuvFrame {
        height: 6,
        coded_height: 6,
        ..odd.frame()
    };
    let (out, exactness) = convert(&coded);
    assert_eq!(exactness, Exactness::Exact);
    let rows = convert(&even).0;
    assert_eq!(out.pixels()[..rows.pixels().len()], *rows.pixels());
    assert_ne!(out, convert(&odd.frame()).0);
}

#[test]
fn samples_beyond_10_bits_do_not_overflow() {
    for layout in [
        ChromaLayout::Yuv420,
        ChromaLayout::Yuv422,
        ChromaLayout::Yuv444,
        ChromaLayout::Gray,
    ] {
        for (width, height) in [(9, 5), (10, 6), (10, 9)] {
            for (luma, chroma) in [(0xFF, 0xFF), (0, 0xFF), (0xFF, 0)] {
                let luma = vec![luma; width * height * 2];
                let chroma = vec![chroma; width * height * 2];
                let frame = YuvFrame {
                    width,
                    height,
                    coded_width: width,
                    coded_height: height,
                    layout,
                    is_planar: true,
                    bit_depth: 10,
                    full_range: false,
                    planes: [&luma, &chroma, &chroma],
                    strides: [width * 2; 3],
                };
                convert(&frame);
            }
        }
    }
}
