//! Results: states, bytes and batches. Nothing is overwritten.

use super::dataset::{ACCEPTED, EXPECTED_STATES, PLANNED, fixture, new_out, tiny};
use super::{final_file, number, strings};
use handloom::storage::npz::NpzReader;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use test_support::{self, digests, manifest, manifest_states, npz_files, process};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

#[test]
fn every_instance_has_its_state() {
    let out = &fixture().out;
    assert_eq!(manifest_states(out), EXPECTED_STATES);
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
    assert_eq!(states.values().sum::<usize>(), EXPECTED_STATES.len());

    let glosses = ["hello", "book", "Thanks"];
    assert_eq!(strings(&final_file(out), "glosses"), glosses);
    let accepted = |part: usize| -> Vec<String> {
        let lines = EXPECTED_STATES.iter().filter(|l| l.ends_with(" accepted"));
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
        assert_eq!(manifest_states(&out), EXPECTED_STATES);
    }
    // The same job again, into the same folder.
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
        let mut npz = NpzReader::open(path).unwrap();
        let values = npz.numbers::<f32>(name).unwrap().0;
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let joined: Vec<u32> = batches.iter().flat_map(|b| data(b, "sequences")).collect();
    assert!(joined == data(&whole, "sequences"));
    // The manifest gives the batch and row of each clip.
    for line in manifest(&out).iter().filter(|l| l["stored"].is_object()) {
        let number = |key: &str| number(&line["stored"][key]);
        let ids = strings(&batches[number("batch")], "video_ids");
        assert_eq!(line["video_id"], *ids[number("row")]);
    }
    // The raw landmarks, normalised, are the sequences.
    let mut npz = NpzReader::open(&fixture().out.join("batches/00000.npz")).unwrap();
    let (landmarks, shape) = npz.numbers::<f32>("landmarks").unwrap();
    let (sequences, _) = npz.numbers::<f32>("sequences").unwrap();
    let (counts, _) = npz.numbers::<u8>("hand_count").unwrap();
    assert_eq!(shape, [ACCEPTED, 32, 2, 21, 3]);
    assert!(counts.iter().filter(|n| **n > 0).count() >= ACCEPTED * 8);
    for (raw, normal) in landmarks.chunks(63).zip(sequences.chunks(63)) {
        let mut hand: [[f32; 3]; 21] =
            std::array::from_fn(|i| [raw[3 * i], raw[3 * i + 1], raw[3 * i + 2]]);
        handloom::sequence::normalize::normalize_hand(&mut hand);
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
    // A name that leads out of the folder.
    put(
        "../videos/00006.mp4",
        &dataset.join("videos/00001.mp4"),
        CompressionMethod::Stored,
    );
    zip.finish().unwrap();
    let out = new_out("from-archive");
    process(&path, &out, &[]).ends(0);
    assert_eq!(digests(&out), digests(&fixture().out));
    assert_eq!(manifest_states(&out), EXPECTED_STATES);

    let cut = new_out("cut.zip");
    let bytes = fs::read(&path).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    process(&cut, &new_out("from-cut"), &[])
        .ends(65)
        .stderr_contains(&["cut.zip", "not a readable zip archive"]);
}

#[test]
fn the_limit_per_gloss_counts_accepted_clips_in_order() {
    let mut bytes = Vec::new();
    for workers in ["1", "5"] {
        let out = new_out(&format!("limit-{workers}"));
        let args = ["--max-samples-per-gloss", "2", "--workers", workers];
        process(&fixture().dataset, &out, &args).ends(0);
        let states: Vec<String> = manifest_states(&out)
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
fn nothing_accepted_is_exit_1_with_a_manifest() {
    let dataset = new_out("hopeless");
    test_support::write_metadata(
        &dataset,
        &test_support::metadata(&[("a", &[("1", 1), ("2", 1)]), ("b", &[])]),
    );
    fs::write(dataset.join("videos/1.mp4"), "no video").unwrap();
    let out = new_out("hopeless-out");
    let run = process(&dataset, &out, &["--min-videos-per-gloss", "1"])
        .ends(1)
        .stderr_contains(&[
            "no sequences were extracted",
            "1 unreadable",
            "manifest.jsonl",
        ]);
    assert_eq!(manifest_states(&out), ["a 1 unreadable", "a 2 missing"]);
    assert!(!final_file(&out).exists());
    assert_eq!(run.event("done")["accepted"], 0);

    test_support::write_metadata(&dataset, &json!([]));
    let out = new_out("empty-list-out");
    process(&dataset, &out, &[])
        .ends(1)
        .stderr_contains(&["lists no instance"]);
    assert_eq!(fs::read_to_string(out.join("manifest.jsonl")).unwrap(), "");
}

#[test]
fn results_of_another_job_are_not_overwritten() {
    let out = new_out("occupied");
    tiny(&out, &[]).ends(0);
    let first = digests(&out);
    tiny(&out, &["--frame-stride", "3", "--min-frames", "1"])
        .ends(73)
        .stderr_contains(&["frame_stride was 2, now 3", "--fresh"]);
    assert_eq!(digests(&out), first);
    tiny(&out, &[]).ends(0);
    assert_eq!(digests(&out), first);
    tiny(&out, &["--frame-stride", "1", "--fresh"]).ends(0);
    assert_ne!(digests(&out), first);

    // A file whose settings are unknown.
    let foreign = new_out("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(final_file(&foreign), "somebody's").unwrap();
    tiny(&foreign, &[])
        .ends(73)
        .stderr_contains(&["run.json is missing"]);
    assert_eq!(fs::read(final_file(&foreign)).unwrap(), b"somebody's");

    // No folder can be made below a file or in /proc.
    let file = new_out("a-file");
    fs::write(&file, "").unwrap();
    for out in [file.join("out"), file, PathBuf::from("/proc/nothing/out")] {
        let out_text = out.display().to_string();
        tiny(&out, &[])
            .ends(73)
            .stderr_contains(&["cannot make the folder", &out_text]);
    }
}
