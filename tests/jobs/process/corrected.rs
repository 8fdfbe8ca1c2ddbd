//! The profile `corrected` and its options: the same bytes with any workers, trimmed clips, and the files' contents.

use super::dataset::{FRAMES, fixture, new_out, tiny};
use super::{final_file, strings};
use handloom::storage::npz::NpzReader;
use handloom::video::encode::Codec;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use test_support::{digests, handloom, manifest, manifest_states, metadata, process, render_clip};
use zip::write::SimpleFileOptions;

const CORRECTED: [&str; 2] = ["--profile", "corrected"];

fn settings(out: &Path) -> Value {
    let run: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    run["settings"].clone()
}

#[test]
fn workers_and_an_archive_give_the_same_bytes() {
    let dataset = &fixture().dataset;
    let out = new_out("corrected-1");
    process(
        dataset,
        &out,
        &[&CORRECTED[..], &["--workers", "1"]].concat(),
    )
    .ends(0);
    let reference = digests(&out);
    let again = new_out("corrected-2");
    process(
        dataset,
        &again,
        &[&CORRECTED[..], &["--workers", "2"]].concat(),
    )
    .ends(0);
    assert_eq!(digests(&again), reference);
    let archive = new_out("corrected.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
    let clips = fs::read_dir(dataset.join("videos")).unwrap();
    let clips = clips.map(|e| format!("videos/{}", e.unwrap().file_name().to_str().unwrap()));
    for name in clips.chain(["WLASL_v0.3.json".to_owned()]) {
        zip.start_file(&name, SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut zip, &fs::read(dataset.join(&name)).unwrap()).unwrap();
    }
    zip.finish().unwrap();
    let zipped = new_out("corrected-zipped");
    process(&archive, &zipped, &CORRECTED).ends(0);
    assert_eq!(digests(&zipped), reference);

    // A clip whose range starts after its end is read, and glosses are compared as spelt.
    let manifest_states = manifest_states(&out);
    for state in [
        "hello 00005 accepted",
        "BOOK 00001 not_selected",
        "Thanks 00001 accepted",
    ] {
        assert!(
            manifest_states.iter().any(|f| f == state),
            "{state}: {manifest_states:?}"
        );
    }
    let lines = manifest(&out);
    let line = lines.iter().find(|l| l["frame_start"] == 5122).unwrap();
    let clip = &line["clip"];
    for (key, expected) in [
        ("in_range", json!(FRAMES)),
        ("sampled", json!(FRAMES)),
        ("truncated", json!(0)),
        ("mirrored", json!(false)),
        ("width", json!(320)),
        ("height", json!(240)),
    ] {
        assert_eq!(clip[key], expected, "{key} of {clip}");
    }
    for key in [
        "filled",
        "same_side_twice",
        "longest_gap",
        "slot_swaps",
        "two_hand_pairs",
    ] {
        assert!(clip[key].is_u64(), "{key} of {clip}");
    }
    let settings = settings(&out);
    for (key, expected) in [
        ("profile", json!("corrected")),
        ("frame_range", json!("auto")),
        ("sampling", json!("uniform")),
        ("slots", json!("sides")),
        ("missing", json!("interpolate")),
        ("max_gap", json!(4)),
        ("aspect", json!(true)),
        ("z", json!("scaled")),
        ("mirror", json!("none")),
    ] {
        assert_eq!(settings[key], expected, "{key}");
    }
    check_arrays(&out);
}

/// Checks that the arrays of `out` agree.
fn check_arrays(out: &Path) {
    // The joined file lists the glosses of its rows and no others.
    let whole = final_file(out);
    let mut npz = NpzReader::open(&whole).unwrap();
    let (labels, glosses) = (strings(&whole, "labels"), strings(&whole, "glosses"));
    let ids = npz.numbers::<i64>("label_ids").unwrap().0;
    let named = ids
        .iter()
        .map(|id| glosses[usize::try_from(*id).unwrap()].clone());
    assert!(named.eq(labels.iter().cloned()));
    assert!(glosses.iter().all(|gloss| labels.contains(gloss)));
    assert_eq!(strings(&whole, "split").len(), labels.len());
    let (mask, shape) = npz.numbers::<bool>("mask").unwrap();
    assert_eq!(shape, [labels.len(), 32, 2]);
    let sequences = npz.numbers::<f32>("sequences").unwrap().0;
    for (seen, hand) in mask.iter().zip(sequences.chunks(63)) {
        assert_eq!(*seen, hand.iter().any(|v| *v != 0.0));
    }
    // Slots are sides: a detected hand is in the slot of its side, unless both hands have the same side.
    let mut batch = NpzReader::open(&out.join("batches/00000.npz")).unwrap();
    let sides = batch.numbers::<i8>("handedness").unwrap().0;
    let filled = batch.numbers::<bool>("filled").unwrap().0;
    let mask = batch.numbers::<bool>("mask").unwrap().0;
    for frame in 0..sides.len() / 2 {
        let pair = 2 * frame..2 * frame + 2;
        let (sides, mask, filled) = (&sides[pair.clone()], &mask[pair.clone()], &filled[pair]);
        if sides[0] != sides[1] {
            for slot in 0..2 {
                let is_seen = sides.contains(&i8::try_from(slot).unwrap());
                assert_eq!(mask[slot] && !filled[slot], is_seen, "frame {frame}");
            }
        }
    }
}

#[test]
fn each_option_works_alone_and_what_is_cut_is_reported() {
    let dataset = new_out("long");
    test_support::write_metadata(&dataset, &metadata(&[("wave", &[("00001", 1)])]));
    render_clip(
        &dataset.join("videos/00001.mp4"),
        3,
        70,
        (160, 120),
        Codec::H264,
    );
    let run = |name: &str, more: &[&str]| {
        let out = new_out(name);
        let common = ["--min-videos-per-gloss", "1", "--sequence-length", "16"];
        let run = process(&dataset, &out, &[&common[..], more].concat()).ends(0);
        (out, run)
    };
    let (notebook, output) = run("cut", &[]);
    // 16 frames: every second one from index 1.
    assert_eq!(manifest(&notebook)[0]["clip"]["truncated"], 70 - 1 - 32);
    let done = output.event("done");
    assert_eq!(done["truncated_clips"], 1);
    let notice = "1 clip is longer than 32 frames; --sampling uniform covers all of them";
    assert_eq!(done["notices"][0], notice);
    let (_, shown) = run("cut-shown", &["--progress", "bar"]);
    assert!(shown.stdout.contains(notice), "{}", shown.stdout);
    let mut seen = vec![digests(&notebook)["wlasl_landmarks.npz"].clone()];
    for (n, options) in [
        &["--sampling", "uniform"][..],
        &["--sampling", "interpolate"],
        &["--frame-range", "whole"],
        &["--slots", "sides", "--mirror", "dominant"],
        &["--aspect"],
        &["--z", "scaled"],
        &["--z", "drop"],
        &["--missing", "nan", "--num-hands", "1"],
    ]
    .into_iter()
    .enumerate()
    {
        let (out, output) = run(&format!("option-{n}"), options);
        let digest = digests(&out)["wlasl_landmarks.npz"].clone();
        assert!(
            !seen.contains(&digest) || options[0] == "--slots",
            "{options:?}"
        );
        seen.push(digest);
        let mut npz = NpzReader::open(&final_file(&out)).unwrap();
        assert_eq!(npz.names().len(), 4, "{options:?}");
        let mut batch = NpzReader::open(&out.join("batches/00000.npz")).unwrap();
        let indexes = batch.numbers::<i32>("frame_index").unwrap().0;
        match options[1..] {
            ["uniform" | "interpolate"] => {
                assert_eq!((indexes[0], indexes[15]), (1, 69));
                assert_eq!(output.event("done")["truncated_clips"], 0);
            }
            ["whole"] => assert_eq!((indexes[0], indexes[15]), (0, 30)),
            _ => assert_eq!((indexes[0], indexes[15]), (1, 31)),
        }
        let sequences = npz.numbers::<f32>("sequences").unwrap().0;
        let mask = batch.numbers::<bool>("mask").unwrap().0;
        for (seen, hand) in mask.iter().zip(sequences.chunks(63)) {
            let is_missing = if options.contains(&"nan") {
                hand.iter().all(|v| v.is_nan())
            } else {
                hand.iter().all(|v| *v == 0.0)
            };
            assert_eq!(*seen, !is_missing, "{options:?}");
        }
    }
}

#[test]
fn contradictions_are_refused_by_their_flags() {
    let refused = |more: &[&str], words: &[&str]| {
        tiny(&new_out("refused"), more)
            .ends(64)
            .stderr_contains(words);
    };
    refused(
        &["--max-gap", "2"],
        &["--max-gap 2", "--profile", "gaps are filled only"],
    );
    refused(
        &["--mirror", "dominant"],
        &["--mirror", "--profile", "sides"],
    );
    refused(
        &["--sampling", "uniform", "--frame-stride", "3"],
        &["--frame-stride 3", "--sampling", "by stride"],
    );
    refused(&["--slots", "left"], &["left", "detected, sides"]);
    handloom(["camera", "--sampling", "uniform"])
        .ends(64)
        .stderr_contains(&["--sampling"]);
}
