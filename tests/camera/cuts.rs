//! Signs at known places, joined by pauses, are cut at these places.

use super::fixture::{FRAME, Part, encode_parts, record_signs, with_detector};
use handloom::camera::DropPolicy;
use handloom::camera::file::FileCamera;
use handloom::draw::contact_sheet::scale_image;
use handloom::frame::{FrameSource, RgbFrame};
use handloom::sequence::sign_recorder::Sign;
use handloom::storage::npz::NpzReader;
use handloom::video::clip::{VideoClip, VideoOptions};
use handloom::video::encode::{Codec, encode_mp4};
use std::path::{Path, PathBuf};
use std::time::Duration;
use test_support::{TestRng, print_note, scratch, shared};

#[test]
fn signs_are_cut_at_their_places() {
    let dir = scratch();
    let path = dir.path().join("film.mp4");
    let mut rng = TestRng::new(11);
    let (mut parts, mut places, mut at) = (vec![Part::Pause(10)], Vec::new(), 10);
    for seed in 0..12 {
        let (sign, pause) = (20 + rng.below(45), 12 + rng.below(25));
        parts.extend([Part::Sign(seed, sign), Part::Pause(pause)]);
        places.push((at, at + sign - 1));
        at += sign + pause;
    }
    encode_parts(&path, &parts, 25);
    let (log, counts, _) = with_detector(2, Duration::ZERO, |detector| {
        let file_camera = FileCamera::new(path.clone(), 25.0).at_once();
        record_signs(Box::new(file_camera), DropPolicy::WaitForReader, detector)
    });
    assert_eq!(counts.dropped, 0);
    let (hits, cuts) = hits(&log.signs, &places);
    assert!(hits * 10 >= places.len() * 9);
    assert!(cuts <= places.len() + 1);
}

/// The number of `places`, in frames, at which a sign was cut, and the number of cuts.
fn hits(signs: &[Sign], places: &[(usize, usize)]) -> (usize, usize) {
    let frame =
        |time: Duration| usize::try_from((time.as_millis() + 20) / FRAME.as_millis()).unwrap();
    let cuts: Vec<_> = signs
        .iter()
        .map(|s| (frame(s.begin), frame(s.end)))
        .collect();
    let is_hit = |place: &(usize, usize)| {
        cuts.iter()
            .any(|cut| cut.0.abs_diff(place.0) <= 3 && cut.1.abs_diff(place.1) <= 3)
    };
    let hits = places.iter().filter(|p| is_hit(p)).count();
    print_note(&format!(
        "{hits} of {} signs were cut within 3 frames: {places:?}, {cuts:?}",
        places.len()
    ));
    (hits, cuts.len())
}

/// Frames without hands between two clips.
const BETWEEN: usize = 20;
const WEBCAM: (usize, usize) = (640, 480);

fn open(path: &Path) -> VideoClip {
    let options = VideoOptions {
        timeout: Duration::from_mins(2),
        ..VideoOptions::default()
    };
    VideoClip::open_path(path, &options).unwrap()
}

/// Scales `image` to fit `size`, centred on black.
fn fitted(image: &RgbFrame, size: (usize, usize)) -> RgbFrame {
    let (width, height) = (image.width(), image.height());
    let (wide, high) = if width * size.1 > height * size.0 {
        (size.0, height * size.0 / width)
    } else {
        (width * size.1 / height, size.1)
    };
    let scaled = scale_image(image, wide, high);
    let (left, top) = ((size.0 - wide) / 2, (size.1 - high) / 2);
    let mut out = RgbFrame::new(size.0, size.1);
    let rows = out.pixels_mut().chunks_exact_mut(size.0 * 3).skip(top);
    for (row, line) in rows.zip(scaled.pixels().chunks_exact(wide * 3)) {
        row[left * 3..][..line.len()].copy_from_slice(line);
    }
    out
}

/// Real clips, each scaled to fill a webcam's frame, from a file that replaces the camera. The places are the first
/// and the last frame of the clip in which MediaPipe's own tracking found a hand.
#[test]
fn real_signs_are_cut_where_mediapipe_sees_hands() {
    let Some(folder) = shared("goldens/public") else {
        return;
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder.join("golden_video"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (mut places, mut clips, mut at) = (Vec::new(), Vec::new(), 0);
    for file in &files {
        let mut golden = NpzReader::open(file).unwrap();
        let (counts, _) = golden.numbers::<u8>("n_hands").unwrap();
        let with_hand = |count: &u8| *count > 0;
        if let Some(begin) = counts.iter().position(with_hand) {
            let end = counts.iter().rposition(with_hand).unwrap();
            places.push((at + begin, at + end));
        }
        at += counts.len() + BETWEEN;
        let name = file.file_stem().unwrap().to_str().unwrap();
        clips.push((folder.join(format!("videos/{name}.mp4")), counts.len()));
    }
    let black = || RgbFrame::new(WEBCAM.0, WEBCAM.1);
    let frames = clips.iter().flat_map(|(path, count)| {
        let mut clip = open(path);
        let images = (0..*count).map(move |_| {
            assert!(clip.advance().unwrap());
            fitted(clip.frame().unwrap(), WEBCAM)
        });
        images.chain((0..BETWEEN).map(move |_| black()))
    });
    let dir = scratch();
    let path = dir.path().join("film.mp4");
    encode_mp4(&path, frames, 25, Codec::H264).unwrap();
    let (log, counts, _) = with_detector(2, Duration::ZERO, |detector| {
        let file_camera = FileCamera::new(path.clone(), 25.0).at_once();
        record_signs(Box::new(file_camera), DropPolicy::WaitForReader, detector)
    });
    assert_eq!(counts.frames, u64::try_from(at).unwrap());
    let (hits, cuts) = hits(&log.signs, &places);
    assert!(hits * 10 >= places.len() * 9);
    assert!(cuts <= places.len() + 1);
}
