//! Backends of reduced precision: 16-bit floats, 8-bit integers, and the pair of an NPU with the CPU.

use crate::accelerator::fixture;
use handloom::draw::scene::signing_scene;
use handloom::frame::RgbFrame;
use handloom::hand::{Detector, DetectorOptions, Hand, Handedness, Model};
use handloom::inference::model_files::{ModelFile, TensorSpec};
use handloom::inference::{
    BackendSpec, BoxedModel, CpuLoadedModel, CpuModel, DelegateSpec, LiteRtTarget, ModelFiles,
    ModelPaths, OpenBackend,
};
use handloom::selection::DetectedHand;
use handloom::selection::Precision::{self, F32, Fp16, Int8};
use handloom::selection::accuracy::Accuracy;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;
use test_support::plugin;
use test_support::tiny_model::{self, Operator, TensorOf, Type};
use test_support::{Run, digests, handloom_with, litert, manifest, print_note, scratch, shared};

const TIMEOUT: Duration = Duration::from_mins(1);
/// 95 % of x and y are within this distance of the CPU's: the effect of noise of one grey level.
const P95_MAX: f32 = 2.3e-3;

static FRAMES: LazyLock<Vec<RgbFrame>> =
    LazyLock::new(|| (0..4).map(|i| signing_scene(3, 9 * i, 320, 240)).collect());

/// The fetched models, if the int8 hand model was made; otherwise prints a note.
fn int8_files() -> Option<ModelFiles> {
    let files = ModelFiles::load(&ModelPaths {
        models: Some(test_support::models()),
        ..ModelPaths::default()
    })
    .unwrap();
    if files.paths.int8(files.hand.spec.role).is_err() {
        print_note("SKIPPED: the int8 hand model is missing: `make models-int8` makes it");
        return None;
    }
    Some(files)
}

fn files() -> ModelFiles {
    let models = Some(test_support::models());
    ModelFiles::load(&ModelPaths {
        models,
        ..ModelPaths::default()
    })
    .unwrap()
}

fn hands(models: [BoxedModel; 2]) -> Vec<Vec<Hand>> {
    let [palm, hand] = models;
    let mut detector = Detector::new(palm, hand, DetectorOptions::default());
    let frames = FRAMES.iter();
    frames
        .map(|frame| detector.detect(frame).unwrap())
        .collect()
}

fn hands_on(spec: &BackendSpec, files: &ModelFiles) -> Vec<Vec<Hand>> {
    let backend = OpenBackend::new(spec, files, 1, TIMEOUT).unwrap();
    hands(backend.models().unwrap())
}

fn detected(hands: &[Hand]) -> Vec<DetectedHand> {
    let hands = hands.iter().map(|hand| DetectedHand {
        is_left: hand.handedness == Handedness::Left,
        points: hand.landmarks.to_vec(),
    });
    hands.collect()
}

/// Asserts the same hands as the CPU's, near but not equal.
#[track_caller]
fn are_near(found: &[Vec<Hand>], what: &str) {
    let expected = hands_on(&BackendSpec::Cpu, &files());
    let mut accuracy = Accuracy::default();
    for (found, expected) in found.iter().zip(&expected) {
        accuracy.add([320.0, 240.0], &detected(expected), &detected(found));
    }
    let figures = accuracy.figures();
    print_note(&format!("{what}: {figures:?}"));
    assert!(
        figures.hands > 0 && figures.missed + figures.extra == 0,
        "{what}: {figures:?}"
    );
    assert_eq!(figures.sides_equal_percent, 100.0, "{what}");
    let p95 = figures.xy.p95;
    assert!(p95 > 0.0 && p95 <= P95_MAX, "{what}: {p95}");
}

#[test]
fn int8_and_fp16_on_the_cpu_are_near_the_cpu() {
    let fp16 = OpenBackend::new(&BackendSpec::CpuReduced([Fp16, Fp16]), &files(), 1, TIMEOUT);
    match fp16.and_then(|backend| backend.models()) {
        Ok(models) => are_near(&hands(models), "cpu:fp16"),
        // The processor may lack 16-bit arithmetic.
        Err(reason) => assert!(
            reason.contains("16 bits") && reason.contains("palm"),
            "{reason}"
        ),
    }
    let Some(files) = int8_files() else {
        return;
    };
    are_near(
        &hands_on(&BackendSpec::CpuReduced([F32, Int8]), &files),
        "cpu:int8",
    );
    // Palms come from the CPU: a different number would move whole hands.
    let spec = BackendSpec::CpuReduced([F32, F32]);
    assert_eq!(hands_on(&spec, &files), hands_on(&BackendSpec::Cpu, &files));
}

#[test]
fn litert_in_16_bits_is_near_the_cpu() {
    if test_support::litert().is_some() {
        let spec = BackendSpec::LiteRt(LiteRtTarget::CpuFp16);
        are_near(&hands_on(&spec, &files()), "litert:cpu:fp16");
    }
}

#[test]
fn there_is_no_palm_model_in_8_bits() {
    let spec = BackendSpec::CpuReduced([Int8, F32]);
    let reason = OpenBackend::new(&spec, &files(), 1, TIMEOUT).err().unwrap();
    assert!(
        reason.contains("no int8 model of the palm model"),
        "{reason}"
    );
}

/// A model of one operator with 12 values of input and output.
fn tiny(input: (Type, f32, i64), output: (Type, f32, i64)) -> ModelFile {
    let tensor = |name, (dtype, scale, zero_point)| TensorOf {
        name,
        dtype,
        shape: &[1, 2, 2, 3],
        quantization: Some((scale, zero_point)),
    };
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: "f32".to_owned(),
        shape: vec![1, 2, 2, 3],
    };
    let mut file = files().hand;
    file.spec.input = spec("in");
    file.spec.outputs = vec![spec("out")];
    let (input, output) = (tensor("in", input), tensor("out", output));
    file.bytes = tiny_model::write(Operator::Quantize, &input, &[output]).into();
    "tiny.tflite".clone_into(&mut file.origin);
    file
}

fn open(file: &ModelFile, precision: Precision) -> Result<CpuModel, String> {
    let loaded = CpuLoadedModel::new(file, precision).unwrap();
    CpuModel::open(&loaded).map_err(|error| error.to_string())
}

#[test]
fn the_cpu_reads_and_writes_quantized_tensors() {
    let grey = 1.0_f32 / 255.0;
    let levels: [u8; 12] = [0, 1, 2, 3, 64, 127, 128, 129, 200, 253, 254, 255];
    for input in [(Type::U8, grey, 0), (Type::I8, grey, -128)] {
        for output in [(Type::I8, grey, -128), (Type::U8, grey, 0)] {
            let mut model = open(&tiny(input, output), F32).unwrap();
            // As in the crops: each grey level is exactly one number.
            let values = levels.map(|level| f32::from(level) * grey);
            model.input().copy_from_slice(&values);
            model.invoke().unwrap();
            let mut out = [0.0; 12];
            model.output(0, &mut out).unwrap();
            assert_eq!(out, values);
        }
    }
    let step = (Type::I8, 0.5, 1);
    let mut model = open(&tiny(step, step), F32).unwrap();
    model.input().fill(0.75);
    model.invoke().unwrap();
    let mut out = [0.0; 12];
    model.output(0, &mut out).unwrap();
    assert_eq!(out, [1.0; 12]);
    // Saturated.
    model.input().fill(1e9);
    model.invoke().unwrap();
    model.output(0, &mut out).unwrap();
    assert_eq!(out, [63.0; 12]);
}

#[test]
fn fp16_is_for_float_models_only() {
    let step = (Type::I8, 0.5, 1);
    let reason = open(&tiny(step, step), Fp16).err().unwrap();
    for part in ["tiny.tflite", "16 bits", "8-bit integers", "cpu"] {
        assert!(reason.contains(part), "{reason}");
    }
}

/// The hand model for NPUs, int8 in and f32 out.
fn npu_model() -> Option<PathBuf> {
    let made = test_support::models().join("hand_int8_npu.tflite");
    made.is_file()
        .then_some(made)
        .or_else(|| shared("models/hand_int8_npu_floatheads.tflite"))
}

#[test]
fn a_delegate_with_its_own_hand_model_leaves_the_palm_model_to_the_cpu() {
    let Some(path) = npu_model() else {
        return;
    };
    let files = files();
    let model = format!("model={}", path.display());
    let spec = DelegateSpec {
        hand: Some(path.clone()),
        options: vec![("mode".into(), "right".into()), {
            let (key, value) = model.split_once('=').unwrap();
            (key.into(), value.into())
        }],
        library: plugin::library().to_path_buf(),
        ..DelegateSpec::default()
    };
    let backend = OpenBackend::new(&BackendSpec::Delegate(spec.clone()), &files, 1, TIMEOUT);
    let on_plugin = hands(backend.unwrap().models().unwrap());

    let mut hand = files.hand.clone();
    hand.bytes = fs::read(&path).unwrap().into();
    let palm: BoxedModel = Box::new(open(&files.palm, F32).unwrap());
    let on_cpu = hands([palm, Box::new(open(&hand, F32).unwrap())]);
    assert_eq!(on_plugin, on_cpu);
    are_near(&on_cpu, "hand_int8_npu with the palm model in f32");

    // A plugin that takes no node is refused, although the palm model would run.
    let none = DelegateSpec {
        options: vec![("mode".into(), "none".into())],
        ..spec
    };
    let reason = OpenBackend::new(&BackendSpec::Delegate(none), &files, 1, TIMEOUT);
    assert!(reason.err().unwrap().contains("none of the models' nodes"));
}

/// Processes the fixture's clips with models that cost nothing.
fn process(out: &Path, cache: &Path, more: &[&str]) -> Run {
    let [dataset, out] = [&fixture().1, out].map(|path| path.to_str().unwrap());
    let fixed = [
        "process",
        dataset,
        "--out",
        out,
        "--min-videos-per-gloss",
        "1",
    ];
    let args = fixed.iter().chain(more);
    handloom_with(args, &[("XDG_CACHE_HOME", cache.as_ref())])
}

fn run_json(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap()
}

#[test]
fn a_job_in_8_bits_names_its_error_and_is_not_mixed_with_others() {
    let folder = scratch();
    let [out, cache] = ["out", "cache"].map(|name| folder.path().join(name));
    let required = ["--accelerator", "require:cpu:int8"];
    let run = process(&out, &cache, &required).ends(0);
    let event = run.event("backend");
    assert_eq!(event["name"], "cpu:int8");
    assert_eq!(event["published_error"]["p95"], 0.0012);
    assert!(
        event["reason"]
            .as_str()
            .unwrap()
            .contains("hand model in int8")
    );

    let record = run_json(&out);
    assert_eq!(
        record["backend"]["precision"],
        serde_json::json!(["f32", "int8"])
    );
    assert_eq!(record["backend"]["published_error"]["p95"], 0.0012);
    assert!(
        record["backend"]["measured_error"]["xy_p95"]
            .as_f64()
            .unwrap()
            > 0.0
    );
    let identity = &record["settings"]["accelerator"];
    assert_eq!(
        identity["files"]["hand_int8_cpu.tflite"]
            .as_str()
            .unwrap()
            .len(),
        64
    );
    for line in manifest(&out) {
        assert_eq!(line["clip"]["backend"], "cpu:int8");
        assert_eq!(
            line["clip"]["precision"],
            serde_json::json!(["f32", "int8"])
        );
    }
    // The int8 model gives other results.
    let whole = digests(&out);
    assert_ne!(whole, digests(&fixture().2));

    let again = || fs::remove_file(out.join("batches/00000.npz")).unwrap();
    for preference in ["auto", "fast", "prefer:cpu:int8", "require:cpu:int8"] {
        again();
        let run = process(&out, &cache, &["--accelerator", preference]).ends(0);
        assert_eq!(run.event("backend")["name"], "cpu:int8", "{preference}");
        assert_eq!(digests(&out), whole, "{preference}");
    }
    for other in ["cpu", "require:litert:cpu", "prefer:custom"] {
        // Without LiteRT the preference itself is refused.
        if other.contains("litert") && litert().is_none() {
            continue;
        }
        let plugin = plugin::flags(&plugin::quick_spec(&["mode=right"]));
        let mut args = vec!["--accelerator", other];
        if other.contains("custom") {
            args.extend(plugin.iter().map(String::as_str));
        }
        process(&out, &cache, &args)
            .ends(73)
            .stderr_contains(&["--fresh"]);
    }
    assert_eq!(digests(&out), whole);
}

#[test]
fn fast_chooses_once_and_keeps_its_choice() {
    let folder = scratch();
    let [out, cache] = ["out", "cache"].map(|name| folder.path().join(name));
    let run = process(&out, &cache, &["--accelerator", "fast"]).ends(0);
    let name = run.event("backend")["name"].clone();
    let known = cache.join("handloom/accelerators.json");
    let kept: Value = serde_json::from_slice(&fs::read(&known).unwrap()).unwrap();
    let chosen = kept["fastest"].as_object().unwrap();
    assert!(
        chosen
            .iter()
            .any(|(key, value)| key.ends_with("(fast)") && *value == name)
    );
    // The job keeps its backend, whatever a new benchmark would choose.
    fs::remove_file(&known).unwrap();
    fs::remove_file(out.join("batches/00000.npz")).unwrap();
    let whole = fs::read(out.join("manifest.jsonl")).unwrap();
    let run = process(&out, &cache, &["--accelerator", "fast"]).ends(0);
    assert_eq!(run.event("backend")["name"], name);
    assert_eq!(fs::read(out.join("manifest.jsonl")).unwrap(), whole);
    // With no tolerance, only 32-bit backends are left.
    let exact = folder.path().join("exact");
    let args = ["--accelerator", "fast", "--fast-tolerance", "0"];
    let run = process(&exact, &cache, &args).ends(0);
    let name = run.event("backend")["name"].clone();
    assert!(
        ["cpu", "litert:cpu"].contains(&name.as_str().unwrap()),
        "{name}"
    );
}

#[test]
fn a_missing_int8_model_is_named_with_its_fix() {
    let folder = scratch();
    let models = folder.path().join("models");
    fs::create_dir(&models).unwrap();
    for file in ["palm_detection_full.tflite", "hand_landmark_full.tflite"] {
        fs::copy(test_support::models().join(file), models.join(file)).unwrap();
    }
    let [out, cache] = ["out", "cache"].map(|name| folder.path().join(name));
    let models = ["--models", models.to_str().unwrap()];
    let required = [&["--accelerator", "require:cpu:int8"], &models[..]].concat();
    let expected = ["hand_int8_cpu.tflite", "make models-int8"];
    process(&out, &cache, &required)
        .ends(69)
        .stderr_contains(&expected);
    // With `prefer:`, the CPU is used instead and continues its own results.
    let preferred = [&["--accelerator", "prefer:cpu:int8"], &models[..]].concat();
    for _ in 0..2 {
        let run = process(&out, &cache, &preferred).ends(0);
        assert_eq!(run.event("backend")["name"], "cpu");
        run.stderr_contains(&["make models-int8"]);
        fs::remove_file(out.join("batches/00000.npz")).unwrap();
    }
}

/// `handloom bench --accuracy` prints a line for the noise and for each backend.
#[test]
fn accuracy_is_measured_on_any_clips_and_images() {
    if int8_files().is_none() {
        return;
    }
    let folder = scratch();
    let clips = folder.path().join("clips/deep");
    fs::create_dir_all(&clips).unwrap();
    fs::copy(fixture().1.join("videos/00001.mp4"), clips.join("a.mp4")).unwrap();
    fs::write(clips.join("notes.txt"), "no clip").unwrap();
    let frame = &FRAMES[1];
    let (width, height) = (frame.width(), frame.height());
    let [width, height] = [width, height].map(|side| u32::try_from(side).unwrap());
    image::save_buffer(
        folder.path().join("clips/b.png"),
        frame.pixels(),
        width,
        height,
        image::ExtendedColorType::Rgb8,
    )
    .unwrap();
    let clips = folder.path().join("clips");
    let accuracy = |more: &[&str]| {
        let args = [
            "bench",
            "--accuracy",
            clips.to_str().unwrap(),
            "--every",
            "8",
        ];
        handloom_with(args.iter().chain(more), &[])
    };
    let run = accuracy(&["--accelerator", "require:cpu:int8"]).ends(0);
    let rows = run.events();
    let names: Vec<&str> = rows
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["noise, seed 1", "noise, seed 2", "cpu:int8"]);
    // Two frames of the clip, and the image.
    assert!(
        rows.iter().all(|row| row["figures"]["images"] == 3),
        "{rows:?}"
    );
    assert_eq!(rows[2]["precision"], serde_json::json!(["f32", "int8"]));
    let p95 = |row: &Value| row["figures"]["xy"]["p95"].as_f64().unwrap();
    assert!(rows.iter().all(|row| p95(row) > 0.0), "{rows:?}");

    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let bench =
        |folder: &Path| handloom_with(["bench", "--accuracy", folder.to_str().unwrap()], &[]);
    bench(&empty)
        .ends(65)
        .stderr_contains(&["no hand in 0 images"]);
    bench(&folder.path().join("nowhere"))
        .ends(66)
        .stderr_contains(&["nowhere"]);
}
