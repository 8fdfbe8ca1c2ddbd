//! Signs with known places, joined with pauses, are cut where they are.

use super::stage::{FRAME, Part, film, loom, shoot, with_detector};
use crate::common::{Dice, say, scratch, shared};
use handloom::frame::{FrameSource, RgbFrame};
use handloom::hand::Tracker;
use handloom::sequence::live::{Sign, Weaver};
use handloom::sequence::takes::Takes;
use handloom::source::camera::Pace;
use handloom::source::camera::file::Stand;
use handloom::source::decoder::Choice;
use handloom::source::video::{VideoClip, VideoOptions};
use handloom::store::npz::NpzReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[test]
fn signs_are_cut_at_their_places() {
    let dir = scratch();
    let path = dir.path().join("film.mp4");
    let mut dice = Dice::new(11);
    let (mut parts, mut places, mut at) = (vec![Part::Pause(10)], Vec::new(), 10);
    for seed in 0..12 {
        let (sign, pause) = (20 + dice.below(45), 12 + dice.below(25));
        parts.extend([Part::Sign(seed, sign), Part::Pause(pause)]);
        places.push((at, at + sign - 1));
        at += sign + pause;
    }
    shoot(&path, &parts, 25);
    let (witness, counts, _) = with_detector(2, Duration::ZERO, |detector| {
        let stand = Stand::new(path.clone(), 25.0).at_once();
        film(Box::new(stand), Pace::Patient, detector)
    });
    assert_eq!(counts.dropped, 0);
    let (hits, cuts) = hits(&witness.signs, &places);
    assert!(hits * 10 >= places.len() * 9);
    assert!(cuts <= places.len() + 1);
}

/// How many of `places`, in frames, signs were cut at, and how often there was a cut.
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
    say(&format!(
        "{hits} of {} signs were cut within 3 frames: {places:?}, {cuts:?}",
        places.len()
    ));
    (hits, cuts.len())
}

/// Frames without hands between two clips.
const BETWEEN: usize = 20;

fn open(path: &Path) -> VideoClip {
    let options = VideoOptions {
        decoder: Choice::Software,
        timeout: Duration::from_mins(2),
    };
    VideoClip::open(path, &options).unwrap()
}

/// Real clips, the places being where MediaPipe's own tracking first and last saw a hand.
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
    let (mut places, mut signs, mut n) = (Vec::new(), Vec::new(), 0);
    with_detector(2, Duration::ZERO, |detector| {
        let mut tracker = Tracker::default();
        let mut weaver = Weaver::new(loom(), Takes::new(true));
        let mut see = |picture: &RgbFrame, n: u32| {
            let hands = detector.track(&mut tracker, picture).unwrap();
            signs.extend(weaver.push(FRAME * n, &hands));
        };
        for file in &files {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let mut golden = NpzReader::open(file).unwrap();
            let (counts, _) = golden.numbers::<u8>("n_hands").unwrap();
            let with_hand = |count: &u8| *count > 0;
            if let Some(begin) = counts.iter().position(with_hand) {
                let end = counts.iter().rposition(with_hand).unwrap();
                let at = usize::try_from(n).unwrap();
                places.push((at + begin, at + end));
            }
            // Each in its own size: what a camera's scaling does to hands is not the question here.
            let mut clip = open(&folder.join(format!("videos/{name}.mp4")));
            let mut black = RgbFrame::default();
            for _ in 0..counts.len() {
                assert!(clip.advance().unwrap(), "{name}");
                let picture = clip.picture().unwrap();
                black = RgbFrame::new(picture.width(), picture.height());
                see(picture, n);
                n += 1;
            }
            for _ in 0..BETWEEN {
                see(&black, n);
                n += 1;
            }
        }
    });
    let (hits, _) = hits(&signs, &places);
    assert!(hits * 10 >= places.len() * 9);
}
