use super::*;
use std::io::Cursor;

fn mp4_box(kind: [u8; 4], content: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(content.len() + 8)
        .unwrap()
        .to_be_bytes()
        .to_vec();
    out.extend_from_slice(&kind);
    out.extend_from_slice(content);
    out
}

fn trak(handler: [u8; 4], matrix: [i32; 9], counts: &[u32]) -> Vec<u8> {
    let mut tkhd = vec![0; 40];
    tkhd.extend(matrix.iter().flat_map(|v| v.to_be_bytes()));
    let mut hdlr = vec![0; 8];
    hdlr.extend_from_slice(&handler);
    let mut stts = vec![0; 4];
    stts.extend(u32::try_from(counts.len()).unwrap().to_be_bytes());
    stts.extend(
        counts
            .iter()
            .flat_map(|c| [c.to_be_bytes(), 512_u32.to_be_bytes()].concat()),
    );
    let stbl = mp4_box(*b"stbl", &mp4_box(*b"stts", &stts));
    let minf = mp4_box(*b"minf", &stbl);
    let mdhd = [&[0; 12][..], &15_360_u32.to_be_bytes()].concat();
    let headers = [mp4_box(*b"mdhd", &mdhd), mp4_box(*b"hdlr", &hdlr)].concat();
    let mdia = mp4_box(*b"mdia", &[headers, minf].concat());
    mp4_box(*b"trak", &[mp4_box(*b"tkhd", &tkhd), mdia].concat())
}

const ONE: i32 = 0x1_0000;
const UPRIGHT: [i32; 9] = [ONE, 0, 0, 0, ONE, 0, 0, 0, 0x4000_0000];

fn mvhd(matrix: [i32; 9]) -> Vec<u8> {
    let mut content = vec![0; 36];
    content[14..16].copy_from_slice(&[3, 0xe8]);
    content.extend(matrix.iter().flat_map(|v| v.to_be_bytes()));
    mp4_box(*b"mvhd", &content)
}

fn read(traks: &[Vec<u8>]) -> Option<VideoTrack> {
    let file = [
        mp4_box(*b"ftyp", b"isom0000"),
        mp4_box(*b"moov", &[mvhd(UPRIGHT), traks.concat()].concat()),
    ]
    .concat();
    first_video_track(&mut Cursor::new(file)).unwrap()
}

#[test]
fn counts_the_first_video_track() {
    let found = read(&[
        trak(*b"soun", UPRIGHT, &[999]),
        trak(*b"vide", UPRIGHT, &[20, 1, 9]),
        trak(*b"vide", UPRIGHT, &[5]),
    ]);
    assert_eq!(
        found,
        Some(VideoTrack {
            frames: 30,
            length: Some((30 * 512, 15_360)),
            quarter_turns: 0,
            packets: None,
            notes: BTreeSet::new(),
            patches: found.as_ref().unwrap().patches.clone(),
            avi: None,
            cut_off_from: None,
            trailer: 0,
            id: 0,
        })
    );
    assert_eq!(found.unwrap().rate(), Some(30.0));
    assert_eq!(read(&[trak(*b"soun", UPRIGHT, &[999])]), None);
}

#[test]
fn reads_quarter_turns() {
    let check = |a: i32, b: i32, c: i32, d: i32, turns: u8| {
        let found = read(&[trak(*b"vide", [a, b, 0, c, d, 0, 0, 0, 0x4000_0000], &[1])]);
        assert_eq!(found.unwrap().quarter_turns, turns, "{a} {b} {c} {d}");
    };
    check(ONE, 0, 0, ONE, 0);
    check(0, ONE, -ONE, 0, 1);
    check(-ONE, 0, 0, -ONE, 2);
    check(0, -ONE, ONE, 0, 3);
    check(ONE, ONE, -ONE, ONE, 0);
    check(0, 0, 0, 0, 0);
}

#[test]
fn media_behind_the_end_of_the_file_is_noticed() {
    let moov = mp4_box(*b"moov", &trak(*b"vide", UPRIGHT, &[7]));
    let media = u64::try_from(moov.len()).unwrap() + 8;
    let file = [moov, mp4_box(*b"mdat", &[0; 100])].concat();
    for (n, expected) in [(file.len(), None), (file.len() - 1, Some(media))] {
        let found = first_video_track(&mut Cursor::new(&file[..n]))
            .unwrap()
            .unwrap();
        assert_eq!(found.cut_off_from, expected);
    }
}

#[test]
fn survives_every_truncation() {
    let file = [
        mp4_box(*b"ftyp", b"isom0000"),
        mp4_box(*b"moov", &trak(*b"vide", UPRIGHT, &[7])),
    ]
    .concat();
    for n in 0..file.len() {
        assert!(
            first_video_track(&mut Cursor::new(&file[..n])).is_ok(),
            "{n}"
        );
    }
}

#[test]
fn absurd_sizes_end_the_search() {
    for size in [0_u32, 1, 2, 7, u32::MAX] {
        let mut file = size.to_be_bytes().to_vec();
        file.extend_from_slice(b"moov\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(
            first_video_track(&mut Cursor::new(file)).unwrap(),
            None,
            "{size}"
        );
    }
}

#[test]
fn the_movie_turns_the_track() {
    // The quarter turns that OpenCV 4.8.1 shows for matrices of the track and of the movie.
    let turn = |a: i32, b: i32, c: i32, d: i32| [a, b, 0, c, d, 0, 0, 0, 0x4000_0000];
    let quarters = [
        UPRIGHT,
        turn(0, ONE, -ONE, 0),
        turn(-ONE, 0, 0, -ONE),
        turn(0, -ONE, ONE, 0),
    ];
    let turns = |track: [i32; 9], movie: Option<[i32; 9]>| {
        let movie = movie.map_or(Vec::new(), mvhd);
        let moov = [movie, trak(*b"vide", track, &[1])].concat();
        let file = mp4_box(*b"moov", &moov);
        let found = first_video_track(&mut Cursor::new(file)).unwrap();
        found.unwrap().quarter_turns
    };
    for (track, by_track) in quarters.into_iter().zip(0_u8..) {
        for (movie, by_movie) in quarters.into_iter().zip(0_u8..) {
            assert_eq!(turns(track, Some(movie)), (by_track + by_movie) % 4);
        }
        assert_eq!(turns(track, None), 0);
    }
    let (across, down) = (turn(-ONE, 0, 0, ONE), turn(ONE, 0, 0, -ONE));
    assert_eq!(turns(across, Some(UPRIGHT)), 2);
    assert_eq!(turns(down, Some(UPRIGHT)), 0);
    assert_eq!(turns(across, Some(down)), 2);
    assert_eq!(turns(across, Some(across)), 0);
}
