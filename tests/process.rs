//! `handloom process`, `inspect` and `demo` as their users run them, on a small dataset of drawn hands.

#![allow(clippy::unwrap_used, reason = "a broken set-up may end a test")]

mod common;

use common::{digests, fates, handloom, manifest, npz_files, process, render_clip, scratch};
use handloom::source::encode::Codec;
use handloom::store::npz::NpzReader;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// Size of the drawn clips, pixels.
const SIZE: (usize, usize) = (320, 240);
/// Frames of a drawn clip; every second is looked at.
const FRAMES: usize = 20;

/// What becomes of the dataset's instances.
const FATES: [&str; 20] = [
    "hello 00001 accepted",
    "hello 00002 accepted",
    "hello 00003 accepted",
    "hello 00004 accepted",
    "hello 00005 empty",
    "hello 00006 missing",
    "BOOK 00001 accepted",
    "book 00011 accepted",
    "book 00012 accepted",
    "book 00013 too_short",
    "book 00014 unreadable",
    "book 00015 unreadable",
    "Thanks 00001 not_selected",
    "Thanks 00002 not_selected",
    "Thanks 00003 not_selected",
    "Thanks 00004 not_selected",
    "Thanks 00005 not_selected",
    "rare 00011 not_selected",
    "rare 00006 not_selected",
    "hello 00001 accepted",
];

/// Instances of it that are accepted.
const ACCEPTED: usize = 8;
/// Instances of it that are planned.
const PLANNED: usize = 12;

struct Fixture {
    folder: TempDir,
    dataset: PathBuf,
    /// The results of one worker.
    out: PathBuf,
    /// One good clip, for what does not depend on the clips.
    tiny: PathBuf,
}

/// The dataset, its results with one worker, and a dataset of one clip.
fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        common::write_metadata(
            &dataset,
            &common::metadata(&[
                (
                    "hello",
                    &[
                        ("00001", 1),
                        ("00002", 1),
                        ("00003", 1),
                        ("00004", -1),
                        ("00005", 5122),
                        ("00006", 1),
                    ],
                ),
                // Processed, for its lower-case twin is kept.
                ("BOOK", &[("00001", 1)]),
                (
                    "book",
                    &[
                        ("00011", 1),
                        ("00012", 1),
                        ("00013", 1),
                        ("00014", 1),
                        ("00015", 1),
                    ],
                ),
                // Kept, but never processed: "thanks" is not kept.
                (
                    "Thanks",
                    &[
                        ("00001", 1),
                        ("00002", 1),
                        ("00003", 1),
                        ("00004", 1),
                        ("00005", 1),
                    ],
                ),
                ("rare", &[("00011", 1), ("00006", 1)]),
                // A second entry of a gloss, and a clip named twice.
                ("hello", &[("00001", 3)]),
            ]),
        );
        let clip = |id: &str| dataset.join(format!("videos/{id}.mp4"));
        for (id, seed, codec) in [
            ("00001", 0, Codec::H264),
            ("00002", 1, Codec::H264),
            ("00003", 2, Codec::Mpeg4),
            ("00004", 3, Codec::H264),
            ("00011", 5, Codec::Mpeg4),
            ("00012", 6, Codec::H264),
        ] {
            render_clip(&clip(id), seed, FRAMES, SIZE, codec);
        }
        fs::copy(clip("00001"), clip("00005")).unwrap();
        // Too short for the least number of frames with a hand.
        render_clip(&clip("00013"), 7, 8, SIZE, Codec::H264);
        fs::write(clip("00014"), "this is not a video\n").unwrap();
        fs::write(clip("00015"), "").unwrap();

        let tiny = folder.path().join("tiny");
        common::write_metadata(&tiny, &common::metadata(&[("wave", &[("00001", 1)])]));
        fs::copy(clip("00001"), tiny.join("videos/00001.mp4")).unwrap();

        let out = folder.path().join("one-worker");
        process(&dataset, &out, &["--workers", "1"]).ends(0);
        Fixture {
            folder,
            dataset,
            out,
            tiny,
        }
    })
}

/// A new folder for results beside the dataset.
fn new_out(name: &str) -> PathBuf {
    fixture().folder.path().join(name)
}

/// Runs the dataset of one clip.
fn tiny(out: &Path, more: &[&str]) -> common::Run {
    let args = [&["--min-videos-per-gloss", "1"], more].concat();
    process(&fixture().tiny, out, &args)
}

fn strings(path: &Path, name: &str) -> Vec<String> {
    NpzReader::open(path).unwrap().strings(name).unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn final_file(out: &Path) -> PathBuf {
    out.join("wlasl_landmarks.npz")
}

#[test]
fn every_instance_has_its_state() {
    let out = &fixture().out;
    assert_eq!(fates(out), FATES);
    let states: BTreeMap<String, usize> = manifest(out).iter().fold(BTreeMap::new(), |mut n, l| {
        *n.entry(l["state"].as_str().unwrap().to_owned())
            .or_default() += 1;
        n
    });
    let run: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    for (state, count) in run["finished"]["states"].as_object().unwrap() {
        assert_eq!(
            states.get(state).copied().unwrap_or(0),
            number(count),
            "{state}"
        );
    }
    assert_eq!(states.values().sum::<usize>(), FATES.len());

    let glosses = ["hello", "book", "Thanks"];
    assert_eq!(strings(&final_file(out), "glosses"), glosses);
    let accepted = |part: usize| -> Vec<String> {
        let lines = FATES.iter().filter(|l| l.ends_with(" accepted"));
        lines
            .map(|l| l.split(' ').nth(part).unwrap().to_owned())
            .collect()
    };
    assert_eq!(strings(&final_file(out), "labels"), accepted(0));
    assert_eq!(strings(&final_file(out), "video_ids"), accepted(1));
    for line in manifest(out) {
        let is_good = line["state"] == "accepted";
        assert_eq!(is_good, line["reason"].is_null(), "{line}");
        assert_eq!(is_good, line["stored"].is_object(), "{line}");
    }
}

#[test]
fn workers_and_repeats_give_the_same_bytes() {
    let reference = digests(&fixture().out);
    assert_eq!(
        reference.keys().collect::<Vec<_>>(),
        ["batches/00000.npz", "wlasl_landmarks.npz"]
    );
    for workers in ["1", "2", "5"] {
        let out = new_out(&format!("workers-{workers}"));
        process(&fixture().dataset, &out, &["--workers", workers]).ends(0);
        assert_eq!(digests(&out), reference, "{workers} workers");
        assert_eq!(fates(&out), FATES);
    }
    // The same job again, into its own results.
    let out = new_out("workers-2");
    process(&fixture().dataset, &out, &["--workers", "2"]).ends(0);
    assert_eq!(digests(&out), reference);
}

#[test]
fn batches_join_to_the_final_file() {
    let out = new_out("batches-of-3");
    process(&fixture().dataset, &out, &["--batch-size", "3"]).ends(0);
    let whole = final_file(&out);
    assert_eq!(
        fs::read(&whole).unwrap(),
        fs::read(final_file(&fixture().out)).unwrap()
    );
    let mut batches: Vec<PathBuf> = npz_files(&out).into_keys().map(|n| out.join(n)).collect();
    batches.retain(|p| *p != whole);
    assert_eq!(batches.len(), PLANNED / 3);
    for name in ["labels", "video_ids"] {
        let joined: Vec<String> = batches.iter().flat_map(|b| strings(b, name)).collect();
        assert_eq!(joined, strings(&whole, name));
    }
    let data = |path: &Path, name: &str| {
        let mut bytes = Vec::new();
        let mut npz = NpzReader::open(path).unwrap();
        npz.copy_data(name, &mut bytes).unwrap();
        bytes
    };
    let joined: Vec<u8> = batches.iter().flat_map(|b| data(b, "sequences")).collect();
    assert!(joined == data(&whole, "sequences"));
    // What the manifest says of a row's place is so.
    for line in manifest(&out).iter().filter(|l| l["stored"].is_object()) {
        let number = |key: &str| number(&line["stored"][key]);
        let ids = strings(&batches[number("batch")], "video_ids");
        assert_eq!(line["video_id"], *ids[number("row")]);
    }
    // Raw landmarks give the normalised numbers.
    let mut npz = NpzReader::open(&fixture().out.join("batches/00000.npz")).unwrap();
    let (landmarks, shape) = npz.numbers::<f32>("landmarks").unwrap();
    let (sequences, _) = npz.numbers::<f32>("sequences").unwrap();
    let (counts, _) = npz.numbers::<u8>("hand_count").unwrap();
    assert_eq!(shape, [ACCEPTED, 32, 2, 21, 3]);
    assert!(counts.iter().filter(|n| **n > 0).count() >= ACCEPTED * 8);
    for (raw, normal) in landmarks.chunks(63).zip(sequences.chunks(63)) {
        let mut hand: [[f32; 3]; 21] =
            std::array::from_fn(|i| [raw[3 * i], raw[3 * i + 1], raw[3 * i + 2]]);
        handloom::sequence::normalise::normalise_hand(&mut hand);
        assert!(hand.iter().flatten().eq(normal));
    }
}

#[test]
fn an_archive_gives_what_its_folder_gives() {
    let path = new_out("archive.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    let mut put = |name: &str, from: &Path, method: CompressionMethod| {
        let options = SimpleFileOptions::default().compression_method(method);
        zip.start_file(name, options).unwrap();
        zip.write_all(&fs::read(from).unwrap()).unwrap();
    };
    let dataset = &fixture().dataset;
    put(
        "wlasl/WLASL_v0.3.json",
        &dataset.join("WLASL_v0.3.json"),
        CompressionMethod::Deflated,
    );
    let mut clips: Vec<PathBuf> = fs::read_dir(dataset.join("videos"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    clips.sort();
    for (at, clip) in clips.iter().enumerate() {
        let method = [CompressionMethod::Stored, CompressionMethod::Deflated][at % 2];
        let name = clip.file_name().unwrap().to_str().unwrap();
        put(&format!("wlasl/videos/{name}"), clip, method);
    }
    // A trap: a name that leaves the folder.
    put(
        "../videos/00006.mp4",
        &dataset.join("videos/00001.mp4"),
        CompressionMethod::Stored,
    );
    zip.finish().unwrap();
    let out = new_out("from-archive");
    process(&path, &out, &[]).ends(0);
    assert_eq!(digests(&out), digests(&fixture().out));
    assert_eq!(fates(&out), FATES);

    let cut = new_out("cut.zip");
    let bytes = fs::read(&path).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    process(&cut, &new_out("from-cut"), &[])
        .ends(65)
        .says(&["cut.zip", "not a readable zip archive"]);
}

#[test]
fn the_limit_per_gloss_counts_accepted_clips_in_order() {
    let mut bytes = Vec::new();
    for workers in ["1", "5"] {
        let out = new_out(&format!("limit-{workers}"));
        let args = ["--max-samples-per-gloss", "2", "--workers", workers];
        process(&fixture().dataset, &out, &args).ends(0);
        let states: Vec<String> = fates(&out)
            .iter()
            .map(|l| l.rsplit(' ').next().unwrap().to_owned())
            .collect();
        let planned = [
            "accepted",
            "accepted",
            "over_limit",
            "over_limit",
            "over_limit",
            "missing",
            "accepted",
            "accepted",
            "accepted",
            "over_limit",
            "over_limit",
            "over_limit",
        ];
        assert_eq!(states[..12], planned, "{workers} workers");
        assert_eq!(states[19], "over_limit");
        bytes.push(digests(&out));
    }
    assert_eq!(bytes[0], bytes[1]);
}

#[test]
fn the_plan_is_listed_without_running() {
    let check = |args: &[&str], expected: &[&str]| {
        let dataset = fixture().dataset.to_str().unwrap();
        let run = handloom([&["process", dataset, "--list"], args].concat()).ends(0);
        let plan = run.event("plan");
        assert_eq!(plan["instances"], FATES.len());
        let list = run.event("list");
        let records = list["records"].as_array().unwrap();
        assert_eq!(records.len(), FATES.len());
        let processed: Vec<String> = records
            .iter()
            .filter(|r| r["state"] == "process")
            .map(|r| {
                let word = |key: &str| r[key].as_str().unwrap().to_owned();
                format!("{} {}", word("gloss"), word("video_id"))
            })
            .collect();
        assert_eq!(processed, expected, "{args:?}");
        assert_eq!(plan["clips"], expected.len());
        run
    };
    let hello = [
        "hello 00001",
        "hello 00002",
        "hello 00003",
        "hello 00004",
        "hello 00005",
    ];
    let book = [
        "book 00011",
        "book 00012",
        "book 00013",
        "book 00014",
        "book 00015",
    ];
    let all = [&hello[..], &["BOOK 00001"], &book, &["hello 00001"]].concat();
    let whole_hello = [&hello[..], &["hello 00001"]].concat();
    check(&[], &all).says(&["\"Thanks\" is kept", "\"thanks\" is not kept"]);
    check(&["--min-videos-per-gloss", "6"], &whole_hello);
    check(&["--min-videos-per-gloss", "7"], &[]);
    check(
        &["--selected-glosses", "book"],
        &[&["BOOK 00001"], &book[..]].concat(),
    );
    check(&["--selected-glosses", "hello,Thanks"], &whole_hello);
    check(&["--selected-glosses", "Book"], &[]).says(&["Book"]);
    check(&["--selected-glosses", "rare"], &[]).says(&["rare", "--min-videos-per-gloss"]);
    check(&["--max-glosses", "1"], &whole_hello);
    // A gloss that is kept once is processed however it is spelt, when its lower-case form is the kept one.
    check(
        &["--selected-glosses", "rare", "--min-videos-per-gloss", "1"],
        &["rare 00011"],
    );
}

#[test]
fn parts_of_a_dataset_may_lie_elsewhere() {
    let fixture = fixture();
    let empty = new_out("empty");
    fs::create_dir(&empty).unwrap();
    let out = new_out("elsewhere");
    let json = fixture.tiny.join("WLASL_v0.3.json");
    let videos = fixture.dataset.join("videos");
    let (json, videos) = (json.to_str().unwrap(), videos.to_str().unwrap());
    let args = [
        "--min-videos-per-gloss",
        "1",
        "--json",
        json,
        "--videos",
        videos,
    ];
    process(&empty, &out, &args).ends(0);
    let plain = new_out("elsewhere-not");
    tiny(&plain, &[]).ends(0);
    assert_eq!(digests(&out), digests(&plain));
}

#[test]
fn a_missing_or_bad_dataset_is_named() {
    let folder = new_out("bad-datasets");
    let check = |name: &str, json: Option<&str>, code: i32, words: &[&str]| {
        let dataset = folder.join(name);
        fs::create_dir_all(dataset.join("videos")).unwrap();
        if let Some(json) = json {
            fs::write(dataset.join("WLASL_v0.3.json"), json).unwrap();
        }
        let out = folder.join(format!("{name}-out"));
        process(&dataset, &out, &[]).ends(code).says(words);
        assert!(!out.exists(), "{name}");
    };
    let nested = folder.join("nested/deep");
    fs::create_dir_all(&nested).unwrap();
    fs::write(nested.join("WLASL_v0.3.json"), "[]").unwrap();
    check(
        "nested",
        None,
        66,
        &["no metadata file at", "deep/WLASL_v0.3.json"],
    );
    check(
        "nothing",
        None,
        66,
        &["no metadata file at", "nothing/WLASL_v0.3.json"],
    );
    check(
        "cut",
        Some("[{\"gloss\": \"a\", \"inst"),
        65,
        &["WLASL_v0.3.json", "line 1"],
    );
    check("blank", Some(" \n"), 65, &["the file is empty"]);
    check(
        "shape",
        Some("[{\"gloss\": \"a\", \"instances\": [{}, 7]}]"),
        65,
        &["[0].instances[1]", "the number 7"],
    );
    check("text", Some("[{\"gloss\": 5}]"), 65, &["[0].gloss"]);
    check(
        "nslt",
        Some("{\"05237\": {\"subset\": \"train\", \"action\": [77, 1, 55]}}"),
        65,
        &["nslt_2000.json", "--json"],
    );

    process(&folder.join("no-such"), &folder.join("o"), &[])
        .ends(66)
        .says(&["no-such", "no dataset at"]);
    let dataset = folder.join("no-videos");
    fs::create_dir_all(dataset.join("clips")).unwrap();
    fs::write(dataset.join("WLASL_v0.3.json"), "[]").unwrap();
    fs::write(dataset.join("clips/1.mp4"), "x").unwrap();
    process(&dataset, &folder.join("o"), &[])
        .ends(66)
        .says(&["no video folder at", "clips"]);
    process(Path::new("/dev/null"), &folder.join("o"), &[])
        .ends(66)
        .says(&["neither a folder nor a file"]);
    let text = folder.join("archive.txt");
    fs::write(&text, "not a zip archive").unwrap();
    process(&text, &folder.join("o"), &[])
        .ends(65)
        .says(&["archive.txt"]);
}

#[test]
fn nothing_accepted_is_exit_1_with_a_manifest() {
    let dataset = new_out("hopeless");
    common::write_metadata(
        &dataset,
        &common::metadata(&[("a", &[("1", 1), ("2", 1)]), ("b", &[])]),
    );
    fs::write(dataset.join("videos/1.mp4"), "no video").unwrap();
    let out = new_out("hopeless-out");
    let run = process(&dataset, &out, &["--min-videos-per-gloss", "1"])
        .ends(1)
        .says(&[
            "no sequences were extracted",
            "1 unreadable",
            "manifest.jsonl",
        ]);
    assert_eq!(fates(&out), ["a 1 unreadable", "a 2 missing"]);
    assert!(!final_file(&out).exists());
    assert_eq!(run.event("done")["accepted"], 0);

    common::write_metadata(&dataset, &json!([]));
    let out = new_out("empty-list-out");
    process(&dataset, &out, &[])
        .ends(1)
        .says(&["lists no instance"]);
    assert_eq!(fs::read_to_string(out.join("manifest.jsonl")).unwrap(), "");
}

#[test]
fn results_of_another_job_are_not_overwritten() {
    let out = new_out("occupied");
    tiny(&out, &[]).ends(0);
    let first = digests(&out);
    tiny(&out, &["--frame-stride", "3", "--min-frames", "1"])
        .ends(73)
        .says(&["frame_stride was 2, now 3", "--fresh"]);
    assert_eq!(digests(&out), first);
    tiny(&out, &[]).ends(0);
    assert_eq!(digests(&out), first);
    tiny(&out, &["--frame-stride", "1", "--fresh"]).ends(0);
    assert_ne!(digests(&out), first);

    // A file that nobody knows the settings of.
    let foreign = new_out("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(final_file(&foreign), "somebody's").unwrap();
    tiny(&foreign, &[]).ends(73).says(&["run.json is missing"]);
    assert_eq!(fs::read(final_file(&foreign)).unwrap(), b"somebody's");

    // No folder can be made below a file, nor in /proc.
    let file = new_out("a-file");
    fs::write(&file, "").unwrap();
    for out in [file.join("out"), file, PathBuf::from("/proc/nothing/out")] {
        let out_text = out.display().to_string();
        tiny(&out, &[])
            .ends(73)
            .says(&["cannot make the folder", &out_text]);
    }
}

#[test]
fn a_wrong_command_line_is_exit_64() {
    let dataset = fixture().tiny.to_str().unwrap();
    for args in [
        vec![],
        vec!["weave"],
        vec!["process"],
        vec!["process", dataset],
        vec!["inspect"],
        vec!["demo", "--workers", "many"],
        vec!["run", "--for", "soon"],
    ] {
        handloom(&args).ends(64);
    }
    for (flag, value) in [
        ("--workers", "0"),
        ("--workers", "-1"),
        ("--workers", "257"),
        ("--batch-size", "0"),
        ("--frame-stride", "0"),
        ("--sequence-length", "0"),
        ("--num-hands", "3"),
        ("--max-glosses", "0"),
        ("--min-hand-detection-confidence", "1.5"),
        ("--min-hand-presence-confidence", "NaN"),
        ("--clip-timeout", "-1"),
        ("--clip-timeout", "0"),
        ("--profile", "corrected"),
        ("--progress", "loud"),
        ("--stride", "2"),
    ] {
        let (out, setting) = (new_out("wrong-line"), format!("{flag}={value}"));
        tiny(&out, &[&setting]).ends(64).says(&[flag]);
        assert!(!out.exists());
    }
}

/// The two model files, as bytes: palm, hand.
fn model_files() -> [Vec<u8>; 2] {
    ["palm_detection_full.tflite", "hand_landmark_full.tflite"]
        .map(|name| fs::read(common::models().join(name)).unwrap())
}

#[test]
fn bad_models_are_named() {
    let folder = new_out("models");
    fs::create_dir(&folder).unwrap();
    let [palm, hand] = model_files();
    let put = |name: &str, bytes: &[u8]| {
        fs::write(folder.join(name), bytes).unwrap();
        folder.join(name).display().to_string()
    };
    let mut flipped = hand.clone();
    flipped[hand.len() / 2] ^= 1;
    let cut = put("cut.tflite", &palm[..palm.len() / 3]);
    let flipped = put("flipped.tflite", &flipped);
    let palm_file = put("palm.tflite", &palm);
    let text = put("text.tflite", b"no model");
    let task = put("broken.task", b"PK but no zip");
    let out = new_out("models-out");
    for (args, code, words) in [
        (
            vec!["--palm-model", &cut],
            65,
            vec!["cut.tflite", "SHA-256", "palm"],
        ),
        (
            vec!["--palm-model", &cut, "--trust-models"],
            65,
            vec!["cut.tflite", "palm"],
        ),
        (
            vec!["--palm-model", &text, "--trust-models"],
            65,
            vec!["text.tflite", "palm"],
        ),
        (
            vec!["--hand-model", &flipped],
            65,
            vec!["flipped.tflite", "SHA-256", "--trust-models"],
        ),
        (
            vec!["--hand-model", &palm_file],
            65,
            vec!["palm.tflite", "hand model"],
        ),
        (
            vec!["--hand-model", &palm_file, "--trust-models"],
            65,
            vec!["palm.tflite is not a hand model", "(1, 4)"],
        ),
        (vec!["--models", &task], 65, vec!["broken.task", "bundle"]),
        (
            vec!["--models", "/no/such/folder"],
            66,
            vec!["/no/such/folder", "make setup"],
        ),
        (
            vec!["--hand-model", "/no/such.tflite"],
            66,
            vec!["/no/such.tflite", "--hand-model"],
        ),
    ] {
        tiny(&out, &args).ends(code).says(&words);
        assert!(!final_file(&out).exists());
    }
}

#[test]
fn the_official_bundle_gives_the_same_bytes() {
    let task = new_out("hand_landmarker.task");
    let mut zip = zip::ZipWriter::new(fs::File::create(&task).unwrap());
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let members = ["hand_detector.tflite", "hand_landmarks_detector.tflite"];
    for (member, bytes) in members.iter().zip(model_files()) {
        zip.start_file(*member, stored).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
    let (from_files, from_bundle) = (new_out("from-files"), new_out("from-bundle"));
    tiny(&from_files, &[]).ends(0);
    tiny(&from_bundle, &["--models", task.to_str().unwrap()]).ends(0);
    assert_eq!(digests(&from_bundle), digests(&from_files));
}

#[test]
fn programs_get_one_json_object_a_line() {
    let run = tiny(&new_out("json"), &[]).ends(0);
    let kinds: Vec<Value> = run.events().iter().map(|e| e["event"].clone()).collect();
    assert_eq!(kinds, ["dataset", "plan", "backend", "clip", "done"]);
    let clip = run.event("clip");
    assert_eq!(clip["state"], "accepted");
    assert_eq!((&clip["done"], &clip["of"]), (&json!(1), &json!(1)));
    let done = run.event("done");
    assert_eq!(done["per_gloss"], json!({"wave": 1}));
    let states = done["states"].as_object().unwrap();
    assert_eq!(states.len(), 7);
    assert_eq!(states.values().filter_map(Value::as_u64).sum::<u64>(), 1);
}

#[test]
fn people_get_the_notebooks_table() {
    let out = new_out("bar");
    let run = process(&fixture().dataset, &out, &["--progress", "bar"]).ends(0);
    for words in [
        "JSON file found: ",
        "Number of video files: 10",
        "Processing complete!\n  Total processed: 8\n  Total skipped: 4\n",
        "    too_short          1  ",
        "    empty              1  ",
        "    missing            1  ",
        "    unreadable         2  ",
        "    not_selected       7  ",
        "  Sample distribution:\n    BOOK: 1\n    book: 2\n    hello: 5\n",
        "Saved 8 samples to ",
        "  Sequence shape: (8, 32, 126)",
    ] {
        assert!(run.stdout.contains(words), "no {words:?} in {}", run.stdout);
    }
    assert_eq!(digests(&out), digests(&fixture().out));
}

#[test]
fn inspect_shows_what_is_in_a_file() {
    let out = &fixture().out;
    let (whole, batch) = (final_file(out), out.join("batches/00000.npz"));
    let run = handloom(["inspect".as_ref(), whole.as_os_str(), batch.as_os_str()]).ends(0);
    for words in [
        "sequences         <f4    [8, 32, 126]",
        "3 labels:",
        "hello",
        "two hands",
        "landmarks         <f4    [8, 32, 2, 21, 3]",
    ] {
        assert!(run.stdout.contains(words), "no {words:?} in {}", run.stdout);
    }
    let run = handloom(["inspect".as_ref(), "--json".as_ref(), batch.as_os_str()]).ends(0);
    let summary = &run.events()[0];
    assert_eq!(summary["labels"], json!({"hello": 5, "BOOK": 1, "book": 2}));
    assert_eq!(
        summary["arrays"]["sequences"],
        json!({"dtype": "<f4", "shape": [8, 32, 126]})
    );
    let frames = summary["frames"].as_object().unwrap();
    assert_eq!(
        frames.values().filter_map(Value::as_u64).sum::<u64>(),
        8 * 32
    );
    assert_eq!(frames["padding"], 8 * 22 + 1);

    let garbage = new_out("garbage.npz");
    fs::write(&garbage, "PK garbage").unwrap();
    handloom(["inspect".as_ref(), garbage.as_os_str()])
        .ends(65)
        .says(&["garbage.npz"]);
    handloom(["inspect", "/no/such.npz"])
        .ends(66)
        .says(&["/no/such.npz"]);
}

#[test]
fn numpy_reads_the_files_without_pickle() {
    let python = |args: &[&str]| std::process::Command::new("python3").args(args).output();
    if !python(&["-c", "import numpy"]).is_ok_and(|o| o.status.success()) {
        common::say("SKIPPED: python3 with numpy is not there");
        return;
    }
    let script = r"
import sys, numpy
whole, batch = (numpy.load(p, allow_pickle=False) for p in sys.argv[1:])
def check(npz, expected):
    assert list(npz.files) == list(expected), npz.files
    for name, (kind, shape) in expected.items():
        a = npz[name]
        assert a.dtype.kind + (str(a.dtype.itemsize) if a.dtype.kind != 'U' else '') == kind, (name, a.dtype)
        assert a.shape == shape and a.flags['C_CONTIGUOUS'], (name, a.shape)
n = 8
notebook = {'sequences': ('f4', (n, 32, 126)), 'labels': ('U', (n,)), 'video_ids': ('U', (n,)), 'glosses': ('U', (3,))}
check(whole, notebook)
check(batch, notebook | {
    'landmarks': ('f4', (n, 32, 2, 21, 3)), 'handedness': ('i1', (n, 32, 2)), 'handedness_score': ('f4', (n, 32, 2)),
    'hand_count': ('u1', (n, 32)), 'frame_index': ('i4', (n, 32)), 'split': ('U', (n,)), 'signer_id': ('i8', (n,))})
assert list(whole['glosses']) == ['hello', 'book', 'Thanks'] and whole['labels'][4] == 'BOOK'
assert (whole['sequences'] == batch['sequences']).all() and (whole['sequences'] != 0).any()
assert (batch['handedness'][batch['hand_count'] == 0] == -1).all()
";
    let out = &fixture().out;
    let (whole, batch) = (final_file(out), out.join("batches/00000.npz"));
    let said = python(&[
        "-c",
        script,
        whole.to_str().unwrap(),
        batch.to_str().unwrap(),
    ])
    .unwrap();
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
}

#[test]
fn the_demo_shows_itself() {
    let out = new_out("demo");
    let run = handloom(["demo".as_ref(), "--out".as_ref(), out.as_os_str()]).ends(0);
    for words in [
        "Processing complete!",
        "Sample distribution:",
        "contact-sheet.png",
    ] {
        assert!(run.stdout.contains(words), "no {words:?} in {}", run.stdout);
    }
    assert_eq!(
        strings(&final_file(&out.join("result")), "video_ids"),
        [
            "00001", "00002", "00003", "00004", "00005", "00011", "00012", "00013"
        ]
    );
    let states: Vec<String> = fates(&out.join("result"))
        .into_iter()
        .filter(|l| !l.ends_with(" accepted"))
        .collect();
    assert_eq!(
        states,
        [
            "hello 00006 missing",
            "book 00014 too_short",
            "book 00015 unreadable",
            "book 00016 unreadable",
            "book 00017 unreadable",
            "book 00018 empty",
            "rare 00021 not_selected",
        ]
    );
    let sheet = image::open(out.join("contact-sheet.png"))
        .unwrap()
        .to_rgb8();
    // Four moments of each of eight clips.
    assert!(
        sheet.width() > 4 * 240 && sheet.height() > 8 * 180,
        "{:?}",
        sheet.dimensions()
    );
    let colours: std::collections::HashSet<_> = sheet.pixels().map(|p| p.0).collect();
    assert!(colours.len() > 1000);

    // A folder with something else in it is left alone.
    let foreign = new_out("demo-foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "mine").unwrap();
    handloom(["demo".as_ref(), "--out".as_ref(), foreign.as_os_str()])
        .ends(73)
        .says(&["demo-foreign", "another --out"]);
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
}
