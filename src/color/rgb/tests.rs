//! Expectations from OpenCV 4.8.1's own swscale, fed with the same bytes.

use super::super::tests::{Random, fnv_1a};
use super::*;

/// Layout, width, height, FNV-1a of swscale's RGB bytes.
#[rustfmt::skip]
const SWSCALE: [(RgbLayout, usize, usize, u64); 47] = [
    (RgbLayout::Packed { green_bits: 6 }, 9, 5, 0xeea6_b6c1_7ac4_cb1d),
    (RgbLayout::Packed { green_bits: 6 }, 8, 7, 0x63a6_d045_17c9_22ef),
    (RgbLayout::Packed { green_bits: 6 }, 33, 18, 0x184f_04e1_c718_28c7),
    (RgbLayout::Packed { green_bits: 5 }, 9, 5, 0x4916_4dda_ad5f_0c07),
    (RgbLayout::Packed { green_bits: 5 }, 8, 7, 0x4587_bd62_0cfe_f552),
    (RgbLayout::Packed { green_bits: 5 }, 33, 18, 0x767b_f6a2_851c_9eb6),
    (RgbLayout::Palette, 9, 5, 0xca9b_a43f_9022_e842),
    (RgbLayout::Palette, 8, 7, 0xa9e2_0984_b52b_3e09),
    (RgbLayout::Palette, 33, 18, 0x4041_0ab1_6deb_b572),
    (RgbLayout::Planes { bit_depth: 8, is_big_endian: false }, 2, 3, 0x6763_7bc4_5487_bfde),
    (RgbLayout::Planes { bit_depth: 8, is_big_endian: false }, 9, 5, 0x2419_c32b_1953_fe2f),
    (RgbLayout::Planes { bit_depth: 8, is_big_endian: false }, 8, 7, 0x044d_b3f1_8070_8566),
    (RgbLayout::Planes { bit_depth: 8, is_big_endian: false }, 33, 18, 0x9ab8_1cc8_437b_8cc2),
    (RgbLayout::Planes { bit_depth: 8, is_big_endian: false }, 34, 19, 0x1cb0_0d5c_d79f_8825),
    (RgbLayout::Planes { bit_depth: 8, is_big_endian: false }, 101, 61, 0x702a_6ac1_8d2a_12ba),
    (RgbLayout::Planes { bit_depth: 8, is_big_endian: false }, 64, 122, 0xd991_346a_5cba_1d7b),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: false }, 2, 3, 0x299e_a648_a16d_5220),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: false }, 9, 5, 0x751e_228a_f3a1_6a0e),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: false }, 8, 7, 0xeb0e_ca1a_eb49_a8fb),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: false }, 33, 18, 0x8975_5ee6_412e_6122),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: false }, 34, 19, 0x5ddc_f58c_a16e_7d93),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: false }, 101, 61, 0xe933_603a_cd38_720e),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: false }, 64, 122, 0x1d10_b8e0_d4ea_276f),
    (RgbLayout::Planes { bit_depth: 12, is_big_endian: false }, 2, 3, 0x268b_0d87_1d98_c1e9),
    (RgbLayout::Planes { bit_depth: 12, is_big_endian: false }, 9, 5, 0xd2c1_e749_33ed_8738),
    (RgbLayout::Planes { bit_depth: 12, is_big_endian: false }, 8, 7, 0xb60d_974d_7255_7199),
    (RgbLayout::Planes { bit_depth: 12, is_big_endian: false }, 33, 18, 0xc371_5b6e_8653_9880),
    (RgbLayout::Planes { bit_depth: 12, is_big_endian: false }, 34, 19, 0x4c23_b6bb_adb3_0316),
    (RgbLayout::Planes { bit_depth: 12, is_big_endian: false }, 101, 61, 0x2f84_02e9_fc7e_b538),
    (RgbLayout::Planes { bit_depth: 12, is_big_endian: false }, 64, 122, 0x427e_e7e7_cea3_3d7a),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: true }, 2, 3, 0x299e_a648_a16d_5220),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: true }, 9, 5, 0x751e_228a_f3a1_6a0e),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: true }, 8, 7, 0xeb0e_ca1a_eb49_a8fb),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: true }, 33, 18, 0x8975_5ee6_412e_6122),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: true }, 34, 19, 0x5ddc_f58c_a16e_7d93),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: true }, 101, 61, 0xe933_603a_cd38_720e),
    (RgbLayout::Planes { bit_depth: 10, is_big_endian: true }, 64, 122, 0x1d10_b8e0_d4ea_276f),
    (RgbLayout::Bytes { size: 3, places: [0, 1, 2] }, 9, 5, 0xdafe_6757_7576_f1d7),
    (RgbLayout::Bytes { size: 3, places: [2, 1, 0] }, 9, 5, 0x0a37_bd64_0252_9e7f),
    (RgbLayout::Bytes { size: 4, places: [0, 1, 2] }, 9, 5, 0xff5b_0c5d_d7f3_6b1b),
    (RgbLayout::Bytes { size: 4, places: [2, 1, 0] }, 9, 5, 0xf2d8_b894_f92d_0fab),
    (RgbLayout::Bytes { size: 4, places: [1, 2, 3] }, 9, 5, 0xf512_e4a7_68bb_471e),
    (RgbLayout::Bytes { size: 4, places: [3, 2, 1] }, 9, 5, 0x3388_e721_488a_fdda),
    (RgbLayout::Bytes { size: 4, places: [1, 2, 3] }, 9, 5, 0xf512_e4a7_68bb_471e),
    (RgbLayout::Bytes { size: 4, places: [2, 1, 0] }, 9, 5, 0xf2d8_b894_f92d_0fab),
    (RgbLayout::Bytes { size: 4, places: [3, 2, 1] }, 9, 5, 0x3388_e721_488a_fdda),
    (RgbLayout::Bytes { size: 4, places: [0, 1, 2] }, 9, 5, 0xff5b_0c5d_d7f3_6b1b),
];

#[test]
fn every_layout_equals_swscale() {
    let (mut converter, mut scratch) = (Converter::new(), Default::default());
    for (layout, width, height, expected) in SWSCALE {
        let mut random = Random::default();
        let mut plane = |row: usize, rows: usize, bits: u8| random.samples(row * rows, bits);
        let (planes, stride) = match layout {
            RgbLayout::Bytes { size, .. } => (vec![plane(size * width, height, 8)], size * width),
            RgbLayout::Packed { .. } => (vec![plane(2 * width, height, 8)], 2 * width),
            RgbLayout::Palette => (vec![plane(width, height, 8), plane(1024, 1, 8)], width),
            RgbLayout::Planes {
                bit_depth,
                is_big_endian,
            } => {
                let planes = (0..3).map(|_| {
                    let mut bytes = plane(width, height, bit_depth);
                    if is_big_endian {
                        bytes
                            .as_chunks_mut::<2>()
                            .0
                            .iter_mut()
                            .for_each(|sample| sample.reverse());
                    }
                    bytes
                });
                (planes.collect(), width * if bit_depth > 8 { 2 } else { 1 })
            }
        };
        let at = |index: usize| planes.get(index).map_or(&[][..], Vec::as_slice);
        let image = RgbPlanes {
            width,
            height,
            layout,
            planes: [at(0), at(1), at(2)],
            strides: [stride; 3],
        };
        let mut out = RgbFrame::default();
        let exactness = image
            .to_rgb(&mut converter, &mut scratch, &mut out)
            .unwrap();
        assert_eq!(exactness, Exactness::Exact);
        assert_eq!(
            fnv_1a(out.pixels()),
            expected,
            "{layout:?} {width} × {height}"
        );
        let short = RgbPlanes {
            planes: [&at(0)[1..], at(1), at(2)],
            ..image
        };
        assert!(
            short
                .to_rgb(&mut converter, &mut scratch, &mut out)
                .is_err()
        );
    }
}
