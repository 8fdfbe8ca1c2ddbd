//! Inputs: the plan, parts of a dataset in other places, and wrong inputs.

use super::dataset::{EXPECTED_STATES, fixture, new_out, tiny};
use super::final_file;
use std::fs;
use std::io::Write;
use std::path::Path;
use test_support::{self, digests, handloom, process};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

#[test]
fn the_plan_is_listed_without_running() {
    let check = |args: &[&str], expected: &[&str]| {
        let dataset = fixture().dataset.to_str().unwrap();
        let run = handloom([&["process", dataset, "--list"], args].concat()).ends(0);
        let plan = run.event("plan");
        assert_eq!(plan["instances"], EXPECTED_STATES.len());
        let mut records = run.events();
        records.retain(|event| event["event"] == "list");
        assert_eq!(records.len(), EXPECTED_STATES.len());
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
    check(&[], &all).stderr_contains(&["\"Thanks\" is kept", "\"thanks\" is not kept"]);
    check(&["--min-videos-per-gloss", "6"], &whole_hello);
    check(&["--min-videos-per-gloss", "7"], &[]);
    check(
        &["--selected-glosses", "book"],
        &[&["BOOK 00001"], &book[..]].concat(),
    );
    check(&["--selected-glosses", "hello,Thanks"], &whole_hello);
    check(&["--selected-glosses", "Book"], &[]).stderr_contains(&["Book"]);
    check(&["--selected-glosses", "rare"], &[])
        .stderr_contains(&["rare", "--min-videos-per-gloss"]);
    check(&["--max-glosses", "1"], &whole_hello);
    // A gloss is processed in any spelling if its lower-case form is kept.
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
        process(&dataset, &out, &[])
            .ends(code)
            .stderr_contains(words);
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
        &["WLASL_v0.3.json", "it is cut short"],
    );
    check("blank", Some(" \n"), 65, &["the file is empty"]);
    check(
        "shape",
        Some("[7, {\"id\": 1}]"),
        65,
        &["[0]: found the number 7", "is this WLASL_v0.3.json?"],
    );
    check(
        "nslt",
        Some("{\"05237\": {\"subset\": \"train\", \"action\": [77, 1, 55]}}"),
        65,
        &["nslt_2000.json", "--metadata"],
    );

    process(&folder.join("no-such"), &folder.join("o"), &[])
        .ends(66)
        .stderr_contains(&["no-such", "no dataset at"]);
    let dataset = folder.join("no-videos");
    fs::create_dir_all(dataset.join("clips")).unwrap();
    fs::write(dataset.join("WLASL_v0.3.json"), "[]").unwrap();
    fs::write(dataset.join("clips/1.mp4"), "x").unwrap();
    process(&dataset, &folder.join("o"), &[])
        .ends(66)
        .stderr_contains(&["no video folder at", "clips"]);
    process(Path::new("/dev/null"), &folder.join("o"), &[])
        .ends(66)
        .stderr_contains(&["neither a folder nor a file"]);
    let text = folder.join("archive.txt");
    fs::write(&text, "not a zip archive").unwrap();
    process(&text, &folder.join("o"), &[])
        .ends(65)
        .stderr_contains(&["archive.txt"]);
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
        ("--profile", "best"),
        ("--progress", "loud"),
        ("--stride", "2"),
    ] {
        let (out, setting) = (new_out("wrong-line"), format!("{flag}={value}"));
        tiny(&out, &[&setting]).ends(64).stderr_contains(&[flag]);
        assert!(!out.exists());
    }
}

/// The two model files, as bytes: palm, hand.
fn model_files() -> [Vec<u8>; 2] {
    ["palm_detection_full.tflite", "hand_landmark_full.tflite"]
        .map(|name| fs::read(test_support::models().join(name)).unwrap())
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
        tiny(&out, &args).ends(code).stderr_contains(&words);
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
    let models = test_support::models();
    let (from_files, from_bundle) = (new_out("from-files"), new_out("from-bundle"));
    tiny(&from_files, &["--models", models.to_str().unwrap()]).ends(0);
    tiny(&from_bundle, &["--models", task.to_str().unwrap()]).ends(0);
    assert_eq!(digests(&from_bundle), digests(&from_files));
}
