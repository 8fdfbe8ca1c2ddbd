//! Expectations: `ffprobe -show_packets` of FFmpeg 5.1 on one clip under each list. The frames that OpenCV 4.8.1
//! gives of the same files are those that are shown here.

use super::*;
use std::ops::Range;

fn table(kind: [u8; 4], width: usize, rows: &[Vec<u32>]) -> Vec<u8> {
    let mut content = vec![0; 4];
    content.extend(u32::try_from(rows.len()).unwrap().to_be_bytes());
    for row in rows {
        assert_eq!(row.len() * 4, width);
        content.extend(row.iter().flat_map(|cell| cell.to_be_bytes()));
    }
    let mut out = u32::try_from(content.len() + 8)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    out.extend(kind);
    out.extend(content);
    out
}

/// Frames by which each sample is shown after it is decoded, in `x264 --keyint 12 --bframes 3`.
const OFFSETS: [u32; 50] = [
    2, 5, 2, 0, 1, 5, 2, 0, 1, 2, 3, 1, 2, 2, 5, 2, 0, 1, 3, 1, 5, 2, 0, 1, 2, 5, 2, 0, 1, 3, 1, 5,
    2, 0, 1, 2, 2, 4, 1, 1, 5, 2, 0, 1, 5, 2, 0, 1, 2, 2,
];

/// 50 samples of 512 ticks of 1/12800 s, a key frame every 12.
fn stbl() -> Vec<u8> {
    let stts = table(*b"stts", 8, &[vec![50, 512]]);
    let ctts: Vec<_> = OFFSETS.iter().map(|frames| vec![1, frames * 512]).collect();
    let stss: Vec<_> = (0..5).map(|n| vec![12 * n + 1]).collect();
    let mut stsz = vec![0, 0, 0, 20, b's', b't', b's', b'z', 0, 0, 0, 0, 0, 0, 0, 9];
    stsz.extend(50_u32.to_be_bytes());
    [
        stts,
        table(*b"ctts", 8, &ctts),
        table(*b"stss", 4, &stss),
        stsz,
    ]
    .concat()
}

/// Content of an edit list: length in 1/1000 s, start in ticks.
fn elst(edits: &[(u32, i32)]) -> Vec<u8> {
    let rows: Vec<_> = edits
        .iter()
        .map(|(length, start)| vec![*length, start.cast_unsigned(), 0x1_0000])
        .collect();
    table(*b"elst", 12, &rows)[8..].to_vec()
}

fn follow(edits: &[(u32, i32)]) -> Option<Vec<Packet>> {
    packets(&elst(edits), &stbl(), (1000, 12_800)).unwrap()
}

#[test]
fn leading_gaps_are_no_part() {
    for (edits, expected) in [
        (&[(400, 0)][..], false),
        (&[(40, -1), (400, 0)], false),
        (&[(400, 0), (40, -1)], true),
        (&[(400, 0), (400, 20_480)], true),
    ] {
        assert_eq!(is_several(&elst(edits)), expected, "{edits:?}");
    }
}

type Case<'a> = (&'a str, &'a [(u32, i32)], &'a [(Range<u32>, bool)]);

#[test]
fn packets_are_those_of_ffmpeg() {
    #[rustfmt::skip]
    let cases: [Case<'_>; 9] = [
        ("gap only", &[(1000, -1)], &[]),
        ("length 0", &[(0, 0)], &[(0..13, false)]),
        ("leading gap", &[(500, -1), (1000, 1024)], &[(0..25, true), (25..37, false)]),
        ("two", &[(400, 0), (600, 12800)], &[(0..5, true), (5..6, false), (6..9, true), (9..25, false),
            (12..20, false), (20..21, true), (21..24, false), (24..37, true), (37..38, false), (38..39, true),
            (39..50, false)]),
        ("part gap part", &[(400, 0), (400, -1), (600, 10240)], &[(0..5, true), (5..6, false), (6..9, true),
            (9..25, false), (0..5, true), (5..6, false), (6..9, true), (9..25, false), (12..18, false), (18..31, true),
            (31..32, false), (32..34, true), (34..49, false)]),
        ("overlap", &[(500, 2560), (500, 5120)], &[(0..1, false), (1..2, true), (2..4, false), (4..14, true),
            (14..15, false), (15..17, true), (17..37, false), (0..5, false), (5..6, true), (6..9, false), (9..20, true),
            (20..22, false), (22..23, true), (23..37, false)]),
        ("repeat", &[(200, 5120), (200, 5120)], &[(0..5, false), (5..6, true), (6..9, false), (9..13, true),
            (13..25, false), (0..5, false), (5..6, true), (6..9, false), (9..13, true), (13..25, false)]),
        ("swap", &[(800, 12800), (300, 0)], &[(12..20, false), (20..21, true), (21..24, false), (24..40, true),
            (40..41, false), (41..44, true), (44..50, false), (0..5, true), (5..7, false), (7..8, true), (8..25, false)]),
        ("behind", &[(1000, 64000)], &[(48..50, false)]),
    ];
    for (name, edits, expected) in cases {
        let expected: Vec<_> = expected
            .iter()
            .flat_map(|(samples, is_shown)| {
                let is_shown = *is_shown;
                samples
                    .clone()
                    .map(move |sample| Packet { sample, is_shown })
            })
            .collect();
        assert_eq!(follow(edits), Some(expected), "{name}");
    }
}

#[test]
fn a_list_that_shows_all_is_no_list() {
    assert_eq!(follow(&[(2000, 1024)]), None);
    assert_eq!(follow(&[(500, -1), (2000, 1024)]), None);
    assert_eq!(follow(&[]), None);
}

#[test]
fn endless_lists_are_refused() {
    let scales = (1000, 12_800);
    assert_eq!(
        packets(&elst(&vec![(1, 0); EDITS_MAX + 1]), &stbl(), scales),
        Err(TooLong)
    );
    let mut many = stbl();
    let stsz = many.len() - 4;
    many[stsz..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(packets(&elst(&[(400, 0)]), &many, scales), Err(TooLong));
}

#[test]
fn a_frame_before_the_first_key_frame_is_not_decoded() {
    // The last edit begins with sample 12; sample 13 made to come before it, as in an open group.
    let mut open = stbl();
    let ctts = open.windows(4).position(|w| w == b"ctts").unwrap() + 12;
    open[ctts + 8 * 13 + 4..ctts + 8 * 14].copy_from_slice(&0_u32.to_be_bytes());
    let found = packets(&elst(&[(400, 10_240)]), &open, (1000, 12_800))
        .unwrap()
        .unwrap();
    assert_eq!(
        found[..2],
        [
            Packet {
                sample: 12,
                is_shown: false
            },
            Packet {
                sample: 14,
                is_shown: false
            }
        ]
    );
}

#[test]
fn times_may_wrap() {
    // The repaired time falls far below the wanted one, which then wraps at 64 bits.
    let steps = [
        vec![1, u32::MAX],
        vec![1 << 30, 0],
        vec![0x8010_0000, u32::MAX - 480_000],
    ];
    let mut wraps = table(*b"stts", 8, &steps);
    wraps.extend(&stbl()[24..]);
    for edit in [(400, 0), (u32::MAX, i32::MAX)] {
        packets(&elst(&[edit]), &wraps, (1, u32::MAX)).ok();
    }
}

#[test]
fn survives_every_truncation() {
    let (whole, list) = (stbl(), elst(&[(400, 0), (600, 12_800)]));
    for n in 0..whole.len() {
        packets(&list, &whole[..n], (1, u32::MAX)).ok();
    }
    for n in 0..list.len() {
        packets(&list[..n], &whole, (u32::MAX, 1)).ok();
    }
}
