//! Compares Handloom with MediaPipe 0.10.21 and OpenCV 4.8, as the notebook ran them, frame by frame.
//!
//! Needs `../shared/goldens`, and prints a note where it is missing. Prints what it measures. Runs on the backend
//! `cpu`, and on `litert:cpu` where `make setup-litert` has fetched its library.

use handloom::dataset::wlasl;
use handloom::frame::{ClipFormat, FrameSource, RgbFrame, SourceError};
use handloom::geometry::{ImageRect, Size};
use handloom::hand::{Detector, DetectorOptions, Hand, Handedness, Tracker};
use handloom::inference::{
    BackendSpec, BoxedModel, LiteRtTarget, LoadedModels, ModelFiles, ModelPaths,
};
use handloom::sequence::{SequenceOptions, SequenceSpec, extract};
use handloom::storage::npz::NpzReader;
use handloom::video::clip::{VideoClip, VideoOptions};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;
use test_support::shared;

/// Largest allowed difference of a landmark's coordinate.
const LANDMARK_MAX: f32 = 5e-4;
/// Largest allowed median of those differences.
const LANDMARK_MEDIAN: f32 = 2e-5;
/// Numbers per hand: x, y, z of 21 landmarks.
const HAND: usize = 63;
/// Frames of a sequence in the goldens.
const LENGTH: usize = 32;

/// Differences of one kind.
#[derive(Default)]
struct Differences(Vec<f32>);

impl Differences {
    fn add(&mut self, got: &[f32], expected: &[f32]) -> f32 {
        assert_eq!(got.len(), expected.len());
        let start = self.0.len();
        self.0
            .extend(got.iter().zip(expected).map(|(a, b)| (a - b).abs()));
        self.0[start..].iter().copied().fold(0.0, f32::max)
    }

    fn max(&self) -> f32 {
        self.0.iter().copied().fold(0.0, f32::max)
    }

    fn median(&self) -> f32 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f32::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    fn text(&self) -> String {
        let equal = self.0.iter().filter(|d| **d == 0.0).count();
        format!(
            "max {:.1e}, median {:.1e}, {equal} of {} equal bit for bit",
            self.max(),
            self.median(),
            self.0.len()
        )
    }

    /// Asserts that the differences are within the limits. They must be zero with MediaPipe's own kernels on a
    /// machine that computes as the goldens' machine did.
    #[track_caller]
    fn check_limits(&self, backend: Backend, what: &str) {
        self.check_maximum(what);
        if backend == Backend::LiteRt && fused_multiply_add() {
            assert!(self.max() == 0.0, "{what}: {}", self.text());
        }
    }

    #[track_caller]
    fn check_maximum(&self, what: &str) {
        assert!(
            self.max() <= LANDMARK_MAX && self.median() <= LANDMARK_MEDIAN,
            "{what}: {}",
            self.text()
        );
    }
}

/// The backend under test.
#[derive(Clone, Copy, PartialEq)]
enum Backend {
    Cpu,
    LiteRt,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::LiteRt => "litert:cpu",
        }
    }
}

/// Calls `run` with a detector, or prints a note where its library is missing.
fn with_detector(backend: Backend, run: impl FnOnce(&mut Detector<BoxedModel>)) -> Option<()> {
    let models = Some(test_support::models());
    let bundle = ModelFiles::load(&ModelPaths {
        models,
        ..ModelPaths::default()
    })
    .unwrap();
    let spec = match backend {
        Backend::Cpu => BackendSpec::Cpu,
        Backend::LiteRt => {
            test_support::litert()?;
            BackendSpec::LiteRt(LiteRtTarget::Cpu)
        }
    };
    let models = LoadedModels::load(&spec, &bundle).unwrap();
    let [palm, hand] = models.open().unwrap().models;
    run(&mut Detector::new(palm, hand, DetectorOptions::default()));
    Some(())
}

fn open(path: &Path) -> VideoClip {
    let options = VideoOptions {
        timeout: Duration::from_mins(2),
        ..VideoOptions::default()
    };
    VideoClip::open_path(path, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// XNNPACK's kernels for x86-64 with FMA add in the same order, with or without AVX-512.
fn fused_multiply_add() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn npz_in(folder: &Path, start: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| {
            let name = p.file_name().unwrap().to_string_lossy();
            name.starts_with(start) && p.extension().is_some_and(|e| e == "npz")
        })
        .collect();
    found.sort();
    found
}

fn flat(hand: &Hand) -> Vec<f32> {
    hand.landmarks.iter().flatten().copied().collect()
}

/// 1 for left, 2 for right, as in the goldens.
fn side(hand: &Hand) -> u8 {
    1 + u8::from(hand.handedness == Handedness::Right)
}

fn floats(value: &Value) -> Vec<f32> {
    let rows = value.as_array().unwrap().iter();
    rows.flat_map(|row| row.as_array().unwrap())
        .map(|v| serde_json::from_value(v.clone()).unwrap())
        .collect()
}

#[test]
fn photos() {
    photos_on(Backend::Cpu);
}

#[test]
fn photos_with_litert() {
    photos_on(Backend::LiteRt);
}

fn photos_on(backend: Backend) {
    let Some(folder) = shared("goldens/photos") else {
        return;
    };
    let golden: BTreeMap<String, Value> =
        serde_json::from_slice(&fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let (mut landmarks, mut world) = (Differences::default(), Differences::default());
    let (mut scores, mut hands_seen) = (Differences::default(), 0);
    let ran = with_detector(backend, |detector| {
        for (name, expected) in &golden {
            let image = image::open(folder.join(format!("images/{name}.png")))
                .unwrap()
                .to_rgb8();
            let (width, height) = (image.width() as usize, image.height() as usize);
            let frame = RgbFrame::from_pixels(width, height, image.into_raw()).unwrap();
            assert_eq!(
                crc32fast::hash(frame.pixels()),
                expected["rgb_crc32"],
                "{name}"
            );
            let hands = detector.detect(&frame).unwrap();
            let expected = expected["hands"].as_array().unwrap();
            assert_eq!(hands.len(), expected.len(), "{name}: hands");
            for (hand, expected) in hands.iter().zip(expected) {
                let name_of_side = ["", "Left", "Right"][usize::from(side(hand))];
                assert_eq!(name_of_side, expected["handedness"], "{name}");
                let most = landmarks.add(&flat(hand), &floats(&expected["landmarks"]));
                assert!(most <= LANDMARK_MAX, "{name}: {most}");
                let metres: Vec<f32> = hand.world.iter().flatten().copied().collect();
                world.add(&metres, &floats(&expected["world_landmarks"]));
                let score: f32 = serde_json::from_value(expected["score"].clone()).unwrap();
                scores.add(&[hand.handedness_score], &[score]);
                hands_seen += 1;
            }
        }
    });
    if ran.is_none() {
        return;
    }
    test_support::print_note(&format!(
        "photos on {}: {} images, {hands_seen} hands; landmarks {}; world {}; scores {}",
        backend.name(),
        golden.len(),
        landmarks.text(),
        world.text(),
        scores.text()
    ));
    assert_eq!(golden.len(), 36);
    landmarks.check_limits(backend, "photos");
    world.check_limits(backend, "photos, world");
}

/// The hands of a golden frame, with the fields that a tracker reads.
fn golden_hands(count: u8, landmarks: &[f32]) -> Vec<Hand> {
    let points =
        |hand: &[f32]| std::array::from_fn(|i| [hand[3 * i], hand[3 * i + 1], hand[3 * i + 2]]);
    let hands = landmarks.chunks(HAND).take(usize::from(count));
    hands
        .map(|hand| Hand {
            landmarks: points(hand),
            world: [[0.0; 3]; 21],
            handedness: Handedness::Left,
            handedness_score: 1.0,
            presence: 1.0,
            rect: ImageRect {
                cx: 0.5,
                cy: 0.5,
                w: 1.0,
                h: 1.0,
                rotation_rad: 0.0,
            },
        })
        .collect()
}

#[test]
fn tracked_clips() {
    tracked_clips_on(Backend::Cpu);
}

#[test]
fn tracked_clips_with_litert() {
    tracked_clips_on(Backend::LiteRt);
}

/// VIDEO mode feeds its own numbers back: differences in the last bits between TFLite releases grow from frame to
/// frame and exceed the limits over a whole clip. So the limits apply to the step from one golden frame to the next.
/// Whole clips must match MediaPipe's count of hands in every frame, and the median.
fn tracked_clips_on(backend: Backend) {
    let Some(folder) = shared("goldens/public") else {
        return;
    };
    let files = npz_in(&folder.join("golden_video"), "");
    let (mut steps, mut runs) = (Differences::default(), Differences::default());
    let (mut frames, mut outside, mut other_side) = (0, 0, 0);
    let ran = with_detector(backend, |detector| {
        for file in &files {
            let id = file.file_stem().unwrap().to_str().unwrap();
            let mut golden = NpzReader::open(file).unwrap();
            let (counts, _) = golden.numbers::<u8>("n_hands").unwrap();
            let (crcs, _) = golden.numbers::<u32>("rgb_crc32").unwrap();
            let (landmarks, _) = golden.numbers::<f32>("landmarks").unwrap();
            let (sides, _) = golden.numbers::<u8>("handedness").unwrap();
            let mut clip = open(&folder.join(format!("videos/{id}.mp4")));
            let (mut stepped, mut free) = (Tracker::default(), Tracker::default());
            for (at, count) in counts.iter().enumerate() {
                let what = format!("{id} frame {at}");
                assert!(clip.advance().unwrap(), "{what}: no such frame");
                let image = clip.frame().unwrap();
                assert_eq!(crc32fast::hash(image.pixels()), crcs[at], "{what}");
                let expected = &landmarks[2 * at * HAND..][..2 * HAND];
                let sides = &sides[2 * at..];

                let hands = detector.track(&mut stepped, image).unwrap();
                assert_eq!(hands.len(), usize::from(*count), "{what}: hands");
                for (slot, hand) in hands.iter().enumerate() {
                    assert_eq!(side(hand), sides[slot], "{what}: side");
                    let most = steps.add(&flat(hand), &expected[slot * HAND..][..HAND]);
                    assert!(most <= LANDMARK_MAX, "{what}: {most}");
                }
                stepped.follow(&golden_hands(*count, expected), Size::of(image));

                let hands = detector.track(&mut free, image).unwrap();
                assert_eq!(hands.len(), usize::from(*count), "{what}: hands, running");
                for (slot, hand) in hands.iter().enumerate() {
                    other_side += usize::from(side(hand) != sides[slot]);
                    let most = runs.add(&flat(hand), &expected[slot * HAND..][..HAND]);
                    outside += usize::from(most > LANDMARK_MAX);
                }
                frames += 1;
            }
        }
    });
    if ran.is_none() {
        return;
    }
    let hands = runs.0.len() / HAND;
    test_support::print_note(&format!(
        "tracked clips on {}, step by step: {} clips, {frames} frames, {hands} hands; landmarks {}",
        backend.name(),
        files.len(),
        steps.text()
    ));
    test_support::print_note(&format!(
        "tracked clips on {}, running: {outside} hands beyond {LANDMARK_MAX:.0e}, {other_side} on the other side; landmarks {}",
        backend.name(),
        runs.text()
    ));
    assert_eq!(files.len(), 12);
    steps.check_limits(backend, "tracked clips");
    // Other kernels feed last-digit noise back into the next crop: whole clips are held to the counts only.
    if backend == Backend::LiteRt && fused_multiply_add() {
        runs.check_limits(backend, "tracked clips, running");
    }
}

/// A clip that records the CRC-32 of every frame that it returns.
struct RecordingFrameSource {
    clip: VideoClip,
    crcs: Vec<u32>,
}

impl FrameSource for RecordingFrameSource {
    fn advance(&mut self) -> Result<bool, SourceError> {
        self.clip.advance()
    }

    fn frame(&mut self) -> Result<&RgbFrame, SourceError> {
        let image = self.clip.frame()?;
        self.crcs.push(crc32fast::hash(image.pixels()));
        Ok(image)
    }

    fn declared_frames(&self) -> Option<u64> {
        self.clip.declared_frames()
    }

    fn time(&self) -> Option<Duration> {
        self.clip.time()
    }

    fn format(&self) -> ClipFormat {
        self.clip.format()
    }
}

/// Compares normalised frames with golden ones: the same slots have hands, and no number differs by more than an
/// error of `raw` in the raw landmarks allows. Returns the largest difference.
fn check_normalized(got: &[f32], expected: &[f32], raw: f32, what: &str) -> f32 {
    let mut most: f32 = 0.0;
    for (at, (got, expected)) in got.chunks(HAND).zip(expected.chunks(HAND)).enumerate() {
        let present = |hand: &[f32]| hand.iter().any(|v| *v != 0.0);
        assert_eq!(present(got), present(expected), "{what}: slot {at}");
        for (a, b) in got.iter().zip(expected) {
            most = most.max((a - b).abs());
        }
    }
    // A hand spans at least 2 % of the image from wrist to knuckle, and none of its numbers exceeds 5 such lengths.
    let implied = raw * (2.0 + 5.0 * 2.9) / 0.02;
    assert!(
        most <= implied + 1e-6,
        "{what}: {most}, the limit is {implied}"
    );
    most
}

#[test]
fn sampled_frames() {
    sampled_frames_on(Backend::Cpu);
}

#[test]
fn sampled_frames_with_litert() {
    sampled_frames_on(Backend::LiteRt);
}

fn sampled_frames_on(backend: Backend) {
    let Some(folder) = shared("goldens/public") else {
        return;
    };
    let json = fs::read(folder.join("WLASL_v0.3.json")).unwrap();
    let mut ranges = BTreeMap::new();
    for entry in wlasl::parse(&json).unwrap() {
        let gloss = entry.gloss.unwrap_or_default().replace(' ', "_");
        for (at, instance) in entry.instances.into_iter().enumerate() {
            if let (Some(id), Ok(start), Ok(end)) =
                (instance.video_id, instance.frame_start, instance.frame_end)
            {
                ranges.insert(format!("debug_{id}_{gloss}_{at}"), (id, start, end));
            }
        }
    }
    let files = npz_in(&folder.join("golden"), "debug_");
    let shape = SequenceSpec {
        length: LENGTH,
        stride: NonZeroU64::new(2).unwrap(),
        tracking: false,
        options: SequenceOptions::default(),
    };
    let (mut landmarks, mut scores) = (Differences::default(), Differences::default());
    let (mut frames, mut normalized): (usize, f32) = (0, 0.0);
    let ran = with_detector(backend, |detector| {
        for file in &files {
            let name = file.file_stem().unwrap().to_str().unwrap();
            let (id, start, end) = &ranges[name];
            let mut golden = NpzReader::open(file).unwrap();
            let mut recorder = RecordingFrameSource {
                clip: open(&folder.join(format!("videos/{id}.mp4"))),
                crcs: Vec::new(),
            };
            let got = extract(
                &mut recorder,
                detector,
                &shape,
                *start,
                *end,
                &mut |_, _| true,
            )
            .unwrap();
            let indexes: Vec<i32> = got.frames.iter().map(|f| f.frame_index).collect();
            let (expected, _) = golden.numbers::<i32>("frame_index").unwrap();
            assert_eq!(indexes, expected, "{name}");
            let (expected, _) = golden.numbers::<u32>("rgb_crc32").unwrap();
            assert_eq!(recorder.crcs, expected, "{name}");
            let (expected, _) = golden.numbers::<u8>("n_hands").unwrap();
            let counts: Vec<u8> = got.frames.iter().map(|f| f.hand_count).collect();
            assert_eq!(counts, expected, "{name}");
            let (expected, _) = golden.numbers::<u8>("handedness").unwrap();
            let sides: Vec<u8> = got
                .frames
                .iter()
                .flat_map(|f| f.handedness.map(|h| u8::try_from(h + 1).unwrap()))
                .collect();
            assert_eq!(sides, expected, "{name}");

            let (expected, _) = golden.numbers::<f32>("landmarks").unwrap();
            let (expected_scores, _) = golden.numbers::<f32>("handedness_score").unwrap();
            let mut raw: f32 = 0.0;
            for (at, frame) in got.frames.iter().enumerate() {
                for slot in 0..usize::from(frame.hand_count) {
                    let points: Vec<f32> =
                        frame.landmarks[slot].iter().flatten().copied().collect();
                    let at = 2 * at + slot;
                    raw = raw.max(landmarks.add(&points, &expected[at * HAND..][..HAND]));
                    scores.add(&[frame.handedness_score[slot]], &[expected_scores[at]]);
                }
            }
            assert!(raw <= LANDMARK_MAX, "{name}: {raw}");
            let (expected, _) = golden.numbers::<f32>("sequence").unwrap();
            let rows: Vec<f32> = got.features.iter().copied().collect();
            normalized = normalized.max(check_normalized(&rows, &expected, raw, name));
            frames += got.frames.len();
        }
    });
    if ran.is_none() {
        return;
    }
    test_support::print_note(&format!(
        "sampled frames on {}: {} clips, {frames} frames, all RGB equal; landmarks {}; scores {}; normalised max {normalized:.1e}",
        backend.name(),
        files.len(),
        landmarks.text(),
        scores.text()
    ));
    assert_eq!(files.len(), 39);
    landmarks.check_limits(backend, "sampled frames");
}

#[test]
fn the_whole_job() {
    let Some(folder) = shared("goldens/public") else {
        return;
    };
    let scratch = test_support::scratch();
    let out = scratch.path().join("out");
    let run = test_support::process(
        &folder,
        &out,
        &["--models", test_support::models().to_str().unwrap()],
    )
    .ends(0);
    let mut golden = NpzReader::open(&folder.join("golden/wlasl_landmarks.npz")).unwrap();
    let mut ours = NpzReader::open(&out.join("wlasl_landmarks.npz")).unwrap();
    for name in golden.names() {
        assert_eq!(
            ours.header(&name).unwrap(),
            golden.header(&name).unwrap(),
            "{name}"
        );
        if name != "sequences" {
            assert_eq!(
                ours.strings(&name).unwrap(),
                golden.strings(&name).unwrap(),
                "{name}"
            );
        }
    }
    let (expected, _) = golden.numbers::<f32>("sequences").unwrap();
    let (got, _) = ours.numbers::<f32>("sequences").unwrap();
    let most = check_normalized(&got, &expected, LANDMARK_MAX, "the whole job");
    let mut differences = Differences::default();
    differences.add(&got, &expected);

    let summary: Value =
        serde_json::from_slice(&fs::read(folder.join("golden/golden.json")).unwrap()).unwrap();
    let done = run.event("done");
    assert_eq!(done["accepted"], summary["summary"]["total_processed"]);
    assert_eq!(done["per_gloss"], summary["summary"]["per_gloss"]);
    let states = &done["states"];
    let skipped: u64 = ["too_short", "empty", "unreadable"]
        .iter()
        .map(|s| states[s].as_u64().unwrap())
        .sum();
    assert_eq!(skipped, summary["summary"]["total_skipped"]);
    test_support::print_note(&format!(
        "the whole job: {} sequences; normalised {}, states {states}",
        done["accepted"],
        differences.text()
    ));
    assert!(most <= 1e-4, "{most}");
}
