//! Output for programs, for people and for numpy, and the demo.

use super::dataset::{fixture, new_out, tiny};
use super::{final_file, strings};
use serde_json::Value;
use serde_json::json;
use std::fs;
use test_support::{self, digests, handloom, manifest_states, process};

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
        .stderr_contains(&["garbage.npz"]);
    handloom(["inspect", "/no/such.npz"])
        .ends(66)
        .stderr_contains(&["/no/such.npz"]);
}

#[test]
fn numpy_reads_the_files_without_pickle() {
    let python = |args: &[&str]| std::process::Command::new("python3").args(args).output();
    if !python(&["-c", "import numpy"]).is_ok_and(|o| o.status.success()) {
        test_support::print_note("SKIPPED: python3 with numpy is not there");
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
    'hand_count': ('u1', (n, 32)), 'frame_index': ('i4', (n, 32)), 'split': ('U', (n,)), 'signer_id': ('i8', (n,)),
    'world_landmarks': ('f4', (n, 32, 2, 21, 3)), 'mask': ('b1', (n, 32, 2)), 'filled': ('b1', (n, 32, 2)),
    'label_id': ('i8', (n,)), 'width': ('i4', (n,)), 'height': ('i4', (n,)), 'fps': ('f4', (n,))})
assert (batch['glosses'][batch['label_id']] == batch['labels']).all()
assert (batch['mask'] == (batch['sequences'].reshape(n, 32, 2, 63) != 0).any(-1)).all() and not batch['filled'].any()
assert list(whole['glosses']) == ['hello', 'book', 'Thanks'] and whole['labels'][4] == 'BOOK'
assert (whole['sequences'] == batch['sequences']).all() and (whole['sequences'] != 0).any()
assert (batch['handedness'][batch['hand_count'] == 0] == -1).all()
";
    let out = &fixture().out;
    let (whole, batch) = (final_file(out), out.join("batches/00000.npz"));
    let done = python(&[
        "-c",
        script,
        whole.to_str().unwrap(),
        batch.to_str().unwrap(),
    ])
    .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
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
    let states: Vec<String> = manifest_states(&out.join("result"))
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
    let colors: std::collections::HashSet<_> = sheet.pixels().map(|p| p.0).collect();
    assert!(colors.len() > 1000);

    // The demo leaves a folder with other files as it is.
    let foreign = new_out("demo-foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "mine").unwrap();
    handloom(["demo".as_ref(), "--out".as_ref(), foreign.as_os_str()])
        .ends(73)
        .stderr_contains(&["demo-foreign", "another --out"]);
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
}
