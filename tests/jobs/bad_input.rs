//! Arbitrary bytes in clips and metadata cause no panic and no hang; every instance is in exactly one state.

use handloom::dataset::plan::{PlanOptions, plan};
use handloom::dataset::wlasl::parse;
use handloom::video::encode::Codec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use test_support::{
    Run, TestRng, handloom, manifest, metadata, process, render_clip, scratch, write_metadata,
};

const CLIPS: usize = 200;
const METADATA_FILES: usize = 200;
/// How many of these are passed to the program.
const METADATA_RUNS: usize = 20;

/// Checks that the program chose its exit code: not 101 (panic), 134 or 139 (signals, which may also give no code).
#[track_caller]
fn ends_by_itself(run: &Run, what: &str) {
    assert!(
        matches!(run.code, Some(0 | 1 | 65)) && !run.stderr.contains("panicked"),
        "{what}: {:?}\n{}",
        run.code,
        run.stderr
    );
}

/// The number of instances in each state.
fn states(out: &Path) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for line in manifest(out) {
        let state = line["state"].as_str().unwrap().to_owned();
        let is_explained = line["reason"].as_str().is_some_and(|r| !r.is_empty());
        assert_eq!(is_explained, state != "accepted", "{line}");
        *states.entry(state).or_default() += 1;
    }
    states
}

/// A damaged copy of `bytes`, by one of seven kinds of damage.
fn damaged(bytes: &[u8], kind: usize, rng: &mut TestRng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    match kind % 7 {
        0 => out.truncate(rng.below(bytes.len())),
        1 => {
            for _ in 0..=rng.below(40) {
                out[rng.below(bytes.len())] ^= 1 << rng.below(8);
            }
        }
        2 => out = boxes_swapped(bytes, rng),
        3 => {
            let start = rng.below(bytes.len());
            let end = (start + 1 + rng.below(2000)).min(bytes.len());
            out[start..end].fill(0);
        }
        4 => {
            let start = rng.below(bytes.len());
            let end = (start + 1 + rng.below(500)).min(bytes.len());
            out[start..end].fill_with(|| rng.byte());
        }
        5 => {
            // Wrong numbers do most harm in the index: one of them becomes huge.
            let moov = find(bytes, b"moov").unwrap_or(0);
            let at = moov + rng.below(bytes.len() - moov - 4);
            out[at..at + 4].copy_from_slice(&[0xFF, 0xFF, 0xFF, rng.byte()]);
        }
        _ => {
            let head = rng.below(200);
            out.truncate(head);
            out.extend((0..=rng.below(5000)).map(|_| rng.byte()));
        }
    }
    out
}

fn find(bytes: &[u8], name: &[u8]) -> Option<usize> {
    bytes.windows(name.len()).position(|w| w == name)
}

/// The file with two of its top-level boxes swapped.
fn boxes_swapped(bytes: &[u8], rng: &mut TestRng) -> Vec<u8> {
    let mut boxes = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        let end = at.saturating_add(size.max(8)).min(bytes.len());
        boxes.push(&bytes[at..end]);
        at = end;
    }
    let (a, b) = (rng.below(boxes.len()), rng.below(boxes.len()));
    boxes.swap(a, b);
    if a == b {
        boxes.remove(a);
    }
    boxes.concat()
}

#[test]
fn damaged_clips() {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    let ids: Vec<String> = (0..CLIPS).map(|n| format!("{n:05}")).collect();
    let instances: Vec<(&str, i64)> = ids.iter().map(|id| (id.as_str(), 1)).collect();
    write_metadata(&dataset, &metadata(&[("wave", &instances)]));
    let sound: Vec<Vec<u8>> = [(0, Codec::H264), (1, Codec::Mpeg4)]
        .map(|(seed, codec)| {
            let path = folder.path().join(format!("sound-{seed}.mp4"));
            render_clip(&path, seed, 24, (160, 120), codec);
            fs::read(path).unwrap()
        })
        .into();
    let mut rng = TestRng::new(2);
    for (n, id) in ids.iter().enumerate() {
        let clip = damaged(&sound[n % 2], n / 2, &mut rng);
        fs::write(dataset.join(format!("videos/{id}.mp4")), clip).unwrap();
    }
    let out = folder.path().join("out");
    // Two frames are sampled, the second and the last: this test is about the decoder.
    let args = [
        "--clip-timeout",
        "5",
        "--workers",
        "2",
        "--sequence-length",
        "2",
        "--min-frames",
        "1",
        "--frame-stride",
        "22",
    ];
    let run = process(&dataset, &out, &args);
    ends_by_itself(&run, "damaged clips");
    let states = states(&out);
    test_support::print_note(&format!("damaged clips: {states:?}"));
    assert_eq!(states.values().sum::<usize>(), CLIPS);
    assert!(states["unreadable"] > CLIPS / 10);
    assert!(states.len() > 1, "no damaged clip could be read");
}

#[test]
fn things_that_are_no_clips() {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    let all = [
        "good",
        "folder",
        "pipe",
        "broken-link",
        "link",
        "loop",
        "locked",
        "empty",
        "one-byte",
        "text",
        "absent",
        "../good",
        "/etc/passwd",
        "a/b",
        "..",
        "",
    ];
    let instances: Vec<(&str, i64)> = all.iter().map(|id| (*id, 1)).collect();
    write_metadata(&dataset, &metadata(&[("odd", &instances)]));
    let place = |id: &str| dataset.join(format!("videos/{id}.mp4"));
    render_clip(&place("good"), 0, 20, (320, 240), Codec::H264);
    fs::copy(place("good"), dataset.join("good.mp4")).unwrap();
    fs::create_dir(place("folder")).unwrap();
    let made = Command::new("mkfifo").arg(place("pipe")).status().unwrap();
    assert!(made.success());
    std::os::unix::fs::symlink("nowhere.mp4", place("broken-link")).unwrap();
    std::os::unix::fs::symlink("good.mp4", place("link")).unwrap();
    std::os::unix::fs::symlink("loop.mp4", place("loop")).unwrap();
    fs::copy(place("good"), place("locked")).unwrap();
    fs::set_permissions(place("locked"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(place("empty"), "").unwrap();
    fs::write(place("one-byte"), "x").unwrap();
    fs::write(place("text"), "no video at all\n".repeat(1000)).unwrap();
    let out = folder.path().join("out");
    process(&dataset, &out, &["--clip-timeout", "5"]).ends(0);
    for line in manifest(&out) {
        let id = line["video_id"].as_str().unwrap_or_default();
        let expected: &[&str] = match id {
            "good" | "link" => &["accepted"],
            "folder" | "pipe" | "empty" | "one-byte" | "text" => &["unreadable"],
            "broken-link" | "loop" => &["missing", "unreadable"],
            // The superuser can still read it.
            "locked" => &["accepted", "unreadable"],
            _ => &["missing"],
        };
        let state = line["state"].as_str().unwrap();
        assert!(expected.contains(&state), "{line}");
    }
    assert_eq!(manifest(&out).len(), all.len());
}

/// A damaged copy of a metadata file.
fn damaged_metadata(json: &[u8], kind: usize, rng: &mut TestRng) -> Vec<u8> {
    const PIECES: [&[u8]; 16] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-99999999999999999999999",
        b"\"\\ud800\"",
        b"\xFF\xFE",
        b"[[[[[[[[",
    ];
    const VALUES: [&[u8]; 10] = [
        b"null",
        b"-1",
        b"[]",
        b"{}",
        b"\"x\"",
        b"1e999",
        b"0.5",
        b"\"12\"",
        b"18446744073709551616",
        b"NaN",
    ];
    let mut out = json.to_vec();
    match kind % 5 {
        0 => out.truncate(rng.below(json.len())),
        1 => {
            for _ in 0..=rng.below(5) {
                out[rng.below(json.len())] ^= 1 << rng.below(8);
            }
        }
        2 => {
            let at = rng.below(json.len());
            let end = (at + rng.below(12)).min(json.len());
            out.splice(at..end, PIECES[rng.below(PIECES.len())].iter().copied());
        }
        3 => {
            // A value becomes one of another kind.
            let colons: Vec<usize> = (0..json.len()).filter(|i| json[*i] == b':').collect();
            let at = colons[rng.below(colons.len())] + 1;
            let end = at + json[at..].iter().position(|b| b",}".contains(b)).unwrap();
            out.splice(at..end, VALUES[rng.below(VALUES.len())].iter().copied());
        }
        _ => {
            let (a, b) = (rng.below(json.len()), rng.below(json.len()));
            let piece = json[a.min(b)..a.max(b)].to_vec();
            let at = rng.below(json.len());
            out.splice(at..at, piece);
        }
    }
    out
}

#[test]
fn damaged_metadata_files() {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    let sound = metadata(&[
        ("wave", &[("00001", 1), ("00002", -1), ("00003", 7)]),
        ("Wave", &[("00001", 1)]),
        ("caf\u{e9} \u{1f44b}", &[("00004", 1), ("00005", 1)]),
    ]);
    write_metadata(&dataset, &sound);
    fs::write(dataset.join("videos/00001.mp4"), "no video").unwrap();
    let sound = sound.to_string().into_bytes();
    let mut rng = TestRng::new(3);
    let (mut plans, mut refused) = (0, 0);
    let plan_options = PlanOptions {
        min_videos_per_gloss: 1,
        ..PlanOptions::default()
    };
    for n in 0..METADATA_FILES {
        let json = damaged_metadata(&sound, n, &mut rng);
        let instances = match parse(&json) {
            Ok(entries) => {
                let instances: usize = entries.iter().map(|e| e.instances.len()).sum();
                let plan = plan(&entries, &plan_options, &|id| id == "00001");
                assert_eq!(plan.records.len(), instances, "file {n}");
                let records = plan.records.iter().enumerate();
                let jobs: Vec<usize> = records
                    .filter(|(_, record)| record.skipped.is_none())
                    .map(|(at, _)| at)
                    .collect();
                let planned: Vec<usize> = plan.jobs.iter().map(|j| j.record).collect();
                assert_eq!(jobs, planned, "file {n}");
                plans += 1;
                Some(instances)
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
                None
            }
        };
        if n % (METADATA_FILES / METADATA_RUNS) == n / (METADATA_FILES / METADATA_RUNS) % 5 {
            fs::write(dataset.join("WLASL_v0.3.json"), &json).unwrap();
            same_through_the_program(&dataset, &folder.path().join(format!("out-{n}")), instances);
        }
    }
    test_support::print_note(&format!(
        "damaged metadata: {plans} planned, {refused} refused"
    ));
    assert!(plans > 20 && refused > 20);
}

/// The program refuses what the parser refused, and lists as many instances as the parser found.
fn same_through_the_program(dataset: &Path, out: &Path, instances: Option<usize>) {
    let path = dataset.to_str().unwrap();
    let list = handloom(["process", path, "--list", "--min-videos-per-gloss", "1"]);
    ends_by_itself(&list, path);
    let Some(instances) = instances else {
        list.ends(65).stderr_contains(&["WLASL_v0.3.json"]);
        return;
    };
    let mut records = list.ends(0).events();
    records.retain(|event| event["event"] == "list");
    assert_eq!(records.len(), instances);
    let run = process(dataset, out, &["--min-videos-per-gloss", "1"]);
    ends_by_itself(&run, path);
    assert_eq!(states(out).values().sum::<usize>(), instances);
    let reported: Value = run.event("done")["states"].clone();
    let reported: u64 = reported
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(usize::try_from(reported), Ok(instances));
}
