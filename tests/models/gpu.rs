//! Compares both models on a Vulkan device with the CPU: `make test-gpu`, with a limit of ten minutes. Otherwise
//! prints a note and skips: a software device needs a minute to compile its programs, and a broken driver may hang.
//!
//! Runs on the photos of `../shared/goldens` where they exist, otherwise on drawn hands.

use handloom::draw::scene::signing_scene;
use handloom::frame::RgbFrame;
use handloom::hand::{Detector, DetectorOptions, Hand, Model};
use handloom::inference::{
    BackendSpec, LiteRt, LiteRtModel, LiteRtTarget, LoadedModels, ModelFiles, ModelPaths, vulkan,
};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// As in `goldens.rs`.
const LANDMARK_MAX: f32 = 5e-4;
const LANDMARK_MEDIAN: f32 = 2e-5;

fn images() -> Vec<(String, RgbFrame)> {
    let drawn = |n| (format!("scene {n}"), signing_scene(n, 4, 320, 240));
    let Some(folder) = test_support::shared("goldens/photos/images") else {
        return (0..8).map(drawn).collect();
    };
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    found.sort();
    let read = |path: &std::path::PathBuf| {
        let image = image::open(path).unwrap().to_rgb8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        let frame = RgbFrame::from_pixels(width, height, image.into_raw()).unwrap();
        (
            path.file_stem().unwrap().to_string_lossy().into_owned(),
            frame,
        )
    };
    found.iter().map(read).collect()
}

/// Runs `model` once and returns the time it took.
fn time(model: &mut impl Model) -> Duration {
    let start = Instant::now();
    model.invoke().unwrap();
    start.elapsed()
}

fn flat(hand: &Hand) -> impl Iterator<Item = f32> {
    hand.landmarks.iter().flatten().copied()
}

#[test]
fn the_gpu_agrees_with_the_cpu() {
    if std::env::var_os("HANDLOOM_TEST_GPU").is_none() {
        test_support::print_note("SKIPPED: only `make test-gpu` tests the GPU");
        return;
    }
    // The caller requested the GPU: anything missing is a failure with its own message.
    let runtime = LiteRt::load(None).unwrap_or_else(|e| panic!("{e}"));
    for device in vulkan::devices().unwrap_or_else(|e| panic!("{e}")) {
        test_support::print_note(&format!("Vulkan device: {device}"));
    }
    let bundle = ModelFiles::load(&ModelPaths {
        models: Some(test_support::models()),
        ..ModelPaths::default()
    })
    .unwrap();
    let models = LoadedModels::load(&BackendSpec::Cpu, &bundle).unwrap();
    let [palm, hand] = models.open().unwrap().models;
    let mut cpu = Detector::new(palm, hand, DetectorOptions::default());
    let open = |file| {
        let start = Instant::now();
        let mut model =
            LiteRtModel::new(&runtime, file, LiteRtTarget::Gpu).unwrap_or_else(|e| panic!("{e}"));
        let first = start.elapsed();
        let mut times: Vec<Duration> = (0..7).map(|_| time(&mut model)).collect();
        times.sort();
        test_support::print_note(&format!(
            "{} on {}: first output after {:.1} s, {:.1} ms a run",
            file.spec.role,
            model.device().unwrap(),
            first.as_secs_f64(),
            times[times.len() / 2].as_secs_f64() * 1e3
        ));
        model
    };
    let mut gpu = Detector::new(
        open(&bundle.palm),
        open(&bundle.hand),
        DetectorOptions::default(),
    );

    let (mut differences, mut hands) = (Vec::new(), 0);
    let images = images();
    // On another thread than the one that created it, as a shared accelerator may run.
    let got: Vec<Vec<Hand>> = thread::scope(|scope| {
        let all = images.iter().map(|(_, frame)| frame);
        let work = scope.spawn(move || all.map(|frame| gpu.detect(frame).unwrap()).collect());
        work.join().unwrap()
    });
    for ((name, frame), got) in images.iter().zip(got) {
        let expected = cpu.detect(frame).unwrap();
        assert_eq!(got.len(), expected.len(), "{name}: hands");
        for (got, expected) in got.iter().zip(&expected) {
            assert_eq!(got.handedness, expected.handedness, "{name}");
            differences.extend(flat(got).zip(flat(expected)).map(|(a, b)| (a - b).abs()));
            hands += 1;
        }
    }
    differences.sort_by(f32::total_cmp);
    let (max, median) = (
        differences.last().copied().unwrap(),
        differences[differences.len() / 2],
    );
    test_support::print_note(&format!(
        "{} images, {hands} hands: landmarks differ by {max:.1e} at most, {median:.1e} in the median",
        images.len()
    ));
    assert!(hands > 0, "no hand in any image");
    assert!(
        max <= LANDMARK_MAX && median <= LANDMARK_MEDIAN,
        "beyond {LANDMARK_MAX:.0e} or a median of {LANDMARK_MEDIAN:.0e}"
    );
}
