//! Container metadata, applied as OpenCV applies it: matrices, edit lists, times, a last packet that is cut off.

use crate::decode::{FRAMES, be32, clip, decode, find, insert, open, save};
use handloom::dataset::clip_note::ClipNote;
use handloom::draw::scene::signing_scene;
use handloom::frame::FrameSource;
use handloom::video::encode::Codec;
use std::fs;
use tempfile::TempDir;
use test_support::{manifest, metadata, process, write_metadata};

/// An edit: length in movie ticks, start in media ticks.
type Edit = (usize, i64);

/// Replaces the edit list.
fn with_edits(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    while let Some(at) = out.windows(4).position(|w| w == b"edts") {
        out[at..at + 4].copy_from_slice(b"free");
    }
    let word = |v: usize| u32::try_from(v).unwrap().to_be_bytes();
    let rows = edits.iter().flat_map(|(length, start)| {
        let start = i32::try_from(*start).unwrap().to_be_bytes();
        [word(*length), start, word(0x1_0000)].concat()
    });
    let rows: Vec<u8> = rows.collect();
    let elst = [word(rows.len() + 16), *b"elst", word(0), word(edits.len())].concat();
    let elst = [elst, rows].concat();
    let edts = [&word(elst.len() + 8), &b"edts"[..], &elst].concat();
    let (moov, trak) = (find(&out, *b"moov"), find(&out, *b"trak"));
    let end = trak + be32(&out, trak);
    assert!(find(&out, *b"mdat") < moov, "sample offsets stay valid");
    insert(&mut out, end, &edts, &[moov, trak]);
    out
}

/// Sets the upper left 2 x 2 part of a header's matrix.
fn turn(bytes: &mut [u8], header: [u8; 4], [a, b, c, d]: [i32; 4]) {
    let matrix = find(bytes, header) + 8 + if header == *b"mvhd" { 36 } else { 40 };
    for (i, cell) in [(0, a), (1, b), (3, c), (4, d)] {
        let at = matrix + 4 * i;
        bytes[at..at + 4].copy_from_slice(&(cell * 0x1_0000).to_be_bytes());
    }
}

#[test]
fn parts_follow_the_edit_list() {
    let dir = TempDir::new().unwrap();
    for codec in [Codec::H264, Codec::Mpeg4] {
        let whole = clip(&dir, codec);
        let movie = be32(&whole, find(&whole, *b"mvhd") + 20);
        let media = i64::try_from(be32(&whole, find(&whole, *b"mdhd") + 20)).unwrap();
        // The unit is a twelfth of a second: two frames of the clip.
        let edit = |length: usize, start: i64| (length * movie / 12, start * media / 12);
        let shown = |edits: &[Edit]| decode(&save(&dir, &with_edits(&whole, edits)));
        let (first, middle, last) = (edit(3, 0), edit(2, 4), edit(3, 8));
        let gap = (movie / 12, -1);
        let alone: Vec<_> = [first, middle, last]
            .iter()
            .map(|e| shown(&[*e]).unwrap())
            .collect();
        assert!(alone.iter().all(|part| part.len() >= 3), "{codec:?}");
        for (edits, parts) in [
            (vec![first, last], vec![0, 2]),
            (vec![gap, gap, middle], vec![1]),
            (vec![last, first], vec![2, 0]),
            (vec![middle, middle, middle], vec![1, 1, 1]),
            (vec![first, (0, 0), last], vec![0, 2]),
        ] {
            let expected: Vec<_> = parts
                .into_iter()
                .flat_map(|part| alone[part].clone())
                .collect();
            assert_eq!(shown(&edits), Ok(expected), "{codec:?} {edits:?}");
        }
        // OpenCV gives no frame for an edit list that shows nothing.
        for nothing in [vec![gap], vec![(0, 0)], vec![edit(3, 40)]] {
            assert!(shown(&nothing).is_err(), "{codec:?} {nothing:?}");
        }
        // OpenCV stops one frame after the container's count.
        assert_eq!(
            shown(&[edit(12, 0); 4]).unwrap().len(),
            FRAMES + 1,
            "{codec:?}"
        );
    }
}

#[test]
fn the_movies_matrix_turns_as_the_tracks_does() {
    let dir = TempDir::new().unwrap();
    let whole = clip(&dir, Codec::H264);
    let quarter = [0, 1, -1, 0];
    let turned = |headers: &[[u8; 4]]| {
        let mut bytes = whole.clone();
        for header in headers {
            turn(&mut bytes, *header, quarter);
        }
        decode(&save(&dir, &bytes)).unwrap()
    };
    let by_track = turned(&[*b"tkhd"]);
    assert_eq!((by_track[0].0, by_track[0].1), (112, 160));
    assert_eq!(turned(&[*b"mvhd"]), by_track);
    let mut half = whole.clone();
    turn(&mut half, *b"tkhd", [-1, 0, 0, -1]);
    assert_eq!(
        turned(&[*b"mvhd", *b"tkhd"]),
        decode(&save(&dir, &half)).unwrap()
    );
}

#[test]
fn equal_times_change_no_frame() {
    let dir = TempDir::new().unwrap();
    for codec in [Codec::H264, Codec::Mpeg4] {
        let mut bytes = clip(&dir, codec);
        while let Some(at) = bytes.windows(4).position(|w| w == b"edts") {
            bytes[at..at + 4].copy_from_slice(b"free");
        }
        let all = decode(&save(&dir, &bytes)).unwrap();
        let stts = find(&bytes, *b"stts");
        for row in 0..be32(&bytes, stts + 12) {
            let at = stts + 16 + 8 * row + 4;
            bytes[at..at + 4].fill(0);
        }
        assert_eq!(decode(&save(&dir, &bytes)).unwrap(), all, "{codec:?}");
        assert_eq!(all.len(), FRAMES);
    }
}

/// A Motion JPEG AVI file without an index, and the offset of each frame's chunk.
fn avi(count: usize) -> (Vec<u8>, Vec<usize>) {
    let chunk = |kind: &[u8; 4], content: &[u8]| {
        let size = u32::try_from(content.len()).unwrap().to_le_bytes();
        let pad = &[0][..content.len() % 2];
        [&kind[..], &size, content, pad].concat()
    };
    let list = |kind: &[u8; 4], content: &[u8]| chunk(b"LIST", &[&kind[..], content].concat());
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|w| w.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let (width, height, frames) = (160, 112, u32::try_from(count).unwrap());
    let avih = words(&[40_000, 0, 0, 0, frames, 0, 1, 0, width, height, 0, 0, 0, 0]);
    let strh = [
        &b"vidsMJPG"[..],
        &words(&[0, 0, 0, 1, 25, 0, frames, 0, 0, 0, 0, 0]),
    ]
    .concat();
    let strf = [
        &words(&[40, width, height, 0x18_0001])[..],
        b"MJPG",
        &words(&[0; 5]),
    ]
    .concat();
    let strl = list(
        b"strl",
        &[chunk(b"strh", &strh), chunk(b"strf", &strf)].concat(),
    );
    let header = list(b"hdrl", &[chunk(b"avih", &avih), strl].concat());
    let (mut media, mut begins) = (Vec::new(), Vec::new());
    for index in 0..count {
        let mut jpeg = Vec::new();
        let scene = signing_scene(7, index, 160, 112);
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 80);
        let size = (width, height, image::ExtendedColorType::Rgb8);
        image::ImageEncoder::write_image(encoder, scene.pixels(), size.0, size.1, size.2).unwrap();
        begins.push(12 + header.len() + 12 + media.len());
        media.extend(chunk(b"00dc", &jpeg));
    }
    let file = [&b"AVI "[..], &header, &list(b"movi", &media)].concat();
    (chunk(b"RIFF", &file), begins)
}

#[test]
fn the_last_packet_of_a_cut_off_avi_is_shown_as_far_as_it_goes() {
    let dir = TempDir::new().unwrap();
    let (whole, begins) = avi(8);
    let all = decode(&save(&dir, &whole)).unwrap();
    assert_eq!(all.len(), 8);
    for last in [3, 6] {
        let middle = usize::midpoint(begins[last], begins[last + 1]);
        let some = decode(&save(&dir, &whole[..middle])).unwrap();
        assert_eq!(some.len(), last + 1);
        assert_eq!(some[..last], all[..last]);
        assert_ne!(some[last], all[last], "the lower half is missing");
        // A cut between two chunks leaves only whole frames.
        let some = decode(&save(&dir, &whole[..begins[last]])).unwrap();
        assert_eq!(some, all[..last]);
    }
}

#[test]
fn the_manifest_names_why_frames_may_differ() {
    let dir = TempDir::new().unwrap();
    let whole = clip(&dir, Codec::H264);
    let movie = be32(&whole, find(&whole, *b"mvhd") + 20);
    let parts = with_edits(&whole, &[(movie / 4, 0), (movie / 4, 0)]);
    let (avi_file, begins) = avi(8);
    let mut uncounted = avi_file.clone();
    let count = avi_file.windows(4).position(|w| w == b"strh").unwrap() + 8 + 32;
    uncounted[count..count + 4].fill(0);
    let cut = avi_file[..usize::midpoint(begins[7], avi_file.len())].to_vec();
    let clips = [
        ("whole", whole, "exact", &[][..]),
        ("parts", parts, "exact", &["several_edits"]),
        ("uncounted", uncounted, "exact", &["no_frame_count"]),
        ("cut", cut, "approximate", &["cut_off_file", "cut_off_jpeg"]),
    ];
    let dataset = dir.path().join("dataset");
    let instances: Vec<(&str, i64)> = clips.iter().map(|clip| (clip.0, 1)).collect();
    write_metadata(&dataset, &metadata(&[("sign", &instances)]));
    for (id, bytes, ..) in &clips {
        fs::write(dataset.join(format!("videos/{id}.mp4")), bytes).unwrap();
    }
    let out = dir.path().join("out");
    process(
        &dataset,
        &out,
        &["--min-videos-per-gloss", "1", "--min-frames", "1"],
    )
    .ends(0);
    for (line, (id, _, color, expected)) in manifest(&out).iter().zip(clips) {
        let clip = &line["clip"];
        let notes = clip["notes"].as_object().cloned().unwrap_or_default();
        assert_eq!(clip["colour"], color, "{id}: {line}");
        assert_eq!(notes.keys().collect::<Vec<_>>(), expected, "{id}: {line}");
        assert!(
            notes
                .values()
                .all(|text| text.as_str().unwrap().ends_with('.'))
        );
    }
}

type OddClip = (&'static str, usize, usize, (usize, usize), u32);

/// Clip, number of frames, number of compared frames, size, and CRC-32 of the RGB bytes of the compared frames as
/// `cv2.VideoCapture.read` of opencv-python-headless 4.8.1.78 gives them, converted from BGR. A JPEG image that is
/// cut off is not compared: its lower part keeps earlier contents of the decoder's memory.
#[rustfmt::skip]
const ODD_CLIPS: [OddClip; 8] = [
    ("rotation-in-mvhd/mvhd-rot90", 50, 50, (192, 256), 0xa609_4be8),
    ("several-edits/ed-two", 35, 35, (256, 192), 0x7745_c57c),
    ("several-edits/ed-emptymid", 44, 44, (256, 192), 0x70f5_1306),
    ("all-times-equal/stts0", 24, 24, (256, 192), 0x63aa_a575),
    ("cut-off-avi-flv/cut-avi-mjpeg", 30, 29, (256, 192), 0x22fe_18cf),
    ("pixel-formats/rgb264", 50, 50, (256, 192), 0xa21f_ff69),
    ("pixel-formats/qtrle", 24, 24, (128, 96), 0x7514_bed8),
    ("pixel-formats/pngmov", 24, 24, (128, 96), 0x7514_bed8),
];

#[test]
fn odd_clips_give_the_frames_of_opencv() {
    let Some(trials) = test_support::shared("trials") else {
        return;
    };
    for (name, count, compared, size, expected) in ODD_CLIPS {
        let mut clip = open(&trials.join(name).with_extension("mp4")).unwrap();
        let (mut sizes, mut crc) = (Vec::new(), crc32fast::Hasher::new());
        while clip.advance().unwrap() {
            let index = clip.frame().unwrap();
            sizes.push((index.width(), index.height()));
            if sizes.len() <= compared {
                crc.update(index.pixels());
            }
        }
        assert_eq!(sizes, vec![size; count], "{name}");
        assert_eq!(crc.finalize(), expected, "{name}");
        let notes = clip.facts().notes;
        let is_approximate = notes.iter().any(|note| note.is_approximate());
        assert_eq!(is_approximate, compared < count, "{name}");
        let has_parts = notes.contains(&ClipNote::SeveralEdits);
        assert_eq!(has_parts, name.starts_with("several-edits"), "{name}");
    }
}
