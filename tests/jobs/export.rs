//! `handloom export`: each format holds the numbers of the npz files exactly, in plan order. Equal results give equal
//! bytes, also after kills. Whatever cannot be exported is named.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

mod faults;
mod formats;

use handloom::digest::sha256_hex;
use handloom::frame::ClipFormat;
use handloom::sequence::FrameRecord;
use handloom::storage::batches::{BATCH_FOLDER, BatchRow, write_batch};
use handloom::storage::npz::NpzReader;
use handloom::video::encode::Codec;
use ndarray::Array2;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::Instant;
use tempfile::TempDir;
use test_support::{Run, TestRng, handloom, process, render_clip, scratch};

const LENGTH: usize = 8;
const BATCH: usize = 5;
const FORMATS: [&str; 5] = ["pose", "parquet", "asl-signs", "webdataset", "npy"];
/// Glosses with a comma, quotes and non-ASCII characters, as in real lists.
const GLOSSES: [&str; 3] = ["thank you, \"sir\"", "café", "book"];

type Hand = [[f32; 3]; 21];

/// A clip as every format must give it.
#[derive(Clone)]
struct Clip {
    key: String,
    video_id: String,
    gloss: &'static str,
    split: &'static str,
    signer: i64,
    format: ClipFormat,
    fps: Option<f32>,
    indexes: Vec<i32>,
    /// The left and the right hand of each frame.
    hands: Vec<[Option<Hand>; 2]>,
    scores: Vec<[f32; 2]>,
    same_side: Vec<bool>,
}

/// Results of synthetic clips: hands in any order, two hands of one side, frames without hands.
struct Results {
    out: TempDir,
    clips: Vec<Clip>,
}

static RESULTS: LazyLock<Results> = LazyLock::new(|| {
    let out = scratch();
    let clips = write_results(out.path(), 13);
    Results { out, clips }
});

fn write_results(out: &Path, count: usize) -> Vec<Clip> {
    let mut rng = TestRng::new(7);
    let mut made = Vec::new();
    let mut rows = Vec::new();
    for n in 0..count {
        let (clip, row) = clip(n, &mut rng);
        made.push(clip);
        rows.push(row);
    }
    fs::create_dir_all(out.join(BATCH_FOLDER)).unwrap();
    let glosses = GLOSSES.map(Arc::from);
    let mut manifest = vec![
        json!({"gloss": "book", "video_id": "gone", "state": "missing", "split": "train", "position": 0}),
    ];
    for (batch, rows) in rows.chunks(BATCH).enumerate() {
        write_batch(out, batch, rows, &glosses, LENGTH).unwrap();
        manifest.extend(rows.iter().enumerate().map(|(row, values)| {
            json!({
                "gloss": &*values.gloss, "video_id": &*values.video_id, "state": "accepted", "split": values.split,
                "signer_id": values.signer_id, "frame_start": 1, "frame_end": -1, "position": batch * BATCH + row + 1,
                "stored": {"batch": batch, "row": row},
            })
        }));
    }
    let manifest: Vec<String> = manifest.iter().map(Value::to_string).collect();
    fs::write(out.join("manifest.jsonl"), manifest.join("\n")).unwrap();
    let run = json!({"handloom": "0.1.0", "settings": {"profile": "notebook"}, "finished": {}});
    fs::write(out.join("run.json"), run.to_string()).unwrap();
    made
}

fn clip(n: usize, rng: &mut TestRng) -> (Clip, BatchRow) {
    let count = if n == 4 { 0 } else { 1 + rng.below(LENGTH) };
    let mut clip = Clip {
        // WebDataset ends a key at the first dot. Two clips have the same id.
        key: ["4_73e-7-seedSOUR", "id_1", "id_1_2"]
            .get(n)
            .map_or_else(|| format!("{n:05}"), ToString::to_string),
        video_id: ["4.73e-7-seedSOUR", "id/1", "id/1"]
            .get(n)
            .map_or_else(|| format!("{n:05}"), ToString::to_string),
        gloss: GLOSSES[n % 3],
        split: ["train", "val", "", "train"][n % 4],
        signer: i64::try_from(n % 5).unwrap() - 1,
        format: ClipFormat {
            width: 320,
            height: 240,
            fps: (n != 3).then_some(25.0),
        },
        fps: None,
        indexes: (0..).step_by(2).take(count).collect(),
        hands: Vec::new(),
        scores: Vec::new(),
        same_side: Vec::new(),
    };
    if n == 6 {
        clip.format = ClipFormat {
            width: 0,
            height: 0,
            fps: Some(30.0),
        };
    }
    clip.fps = clip.format.fps.filter(|_| count > 0);
    if count > 1 {
        clip.fps = clip.fps.map(|fps| fps / 2.0);
    }
    let mut frames = Vec::new();
    for index in &clip.indexes {
        let mut frame = FrameRecord::of(u64::try_from(*index).unwrap(), &[]);
        let found = rng.below(3);
        for slot in 0..found {
            frame.landmarks[slot] = std::array::from_fn(|_| std::array::from_fn(|_| number(rng)));
            frame.handedness[slot] = i8::try_from(rng.below(2)).unwrap();
            frame.handedness_score[slot] = 0.5 + number(rng) / 8.0;
        }
        frame.hand_count = u8::try_from(found).unwrap();
        let sides = sides(frame.handedness, frame.handedness_score);
        let hands = sides.map(|slot| Some(frame.landmarks[slot?]));
        let scores = sides.map(|slot| slot.map_or(0.0, |slot| frame.handedness_score[slot]));
        clip.hands.push(hands);
        clip.scores.push(scores);
        clip.same_side
            .push(found == 2 && frame.handedness[0] == frame.handedness[1]);
        frames.push(frame);
    }
    let row = BatchRow {
        gloss: clip.gloss.into(),
        video_id: clip.video_id.as_str().into(),
        split: clip.split.to_owned(),
        signer_id: clip.signer,
        features: Array2::zeros((LENGTH, 126)),
        mask: vec![[false; 2]; LENGTH],
        filled: vec![[false; 2]; LENGTH],
        frames,
        frame_times: Vec::new(),
        format: clip.format,
    };
    (clip, row)
}

/// The slots of the left and the right hand, coded independently of the source: the hand with the higher score gets
/// its side, and the other hand gets the free side.
fn sides(handedness: [i8; 2], scores: [f32; 2]) -> [Option<usize>; 2] {
    let mut order = vec![0, 1];
    order.retain(|slot| handedness[*slot] >= 0);
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut sides = [None; 2];
    for slot in order {
        let own = usize::try_from(handedness[slot]).unwrap();
        let side = if sides[own].is_none() { own } else { 1 - own };
        sides[side] = Some(slot);
    }
    sides
}

/// A number from 0 to 1 that uses all bits of the mantissa.
fn number(rng: &mut TestRng) -> f32 {
    rng.below(1 << 24) as f32 / (1 << 24) as f32
}

impl Clip {
    fn split(&self) -> &'static str {
        if self.split.is_empty() {
            "train"
        } else {
            self.split
        }
    }

    /// x, y, z of 42 landmarks per frame, NaN without a hand. As bits, so that NaN equals itself.
    fn values(&self) -> Vec<u32> {
        let hands = self.hands.iter().flatten();
        let values =
            hands.flat_map(|hand| hand.unwrap_or([[f32::NAN; 3]; 21]).into_iter().flatten());
        values.map(f32::to_bits).collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn export(out: &Path, format: &str, dest: &Path, more: &[&str]) -> Run {
    let args = [
        "export",
        out.to_str().unwrap(),
        "--to",
        format,
        "--dest",
        dest.to_str().unwrap(),
    ];
    handloom(args.iter().chain(more))
}

/// Exports the synthetic clips in shards of two.
fn exported(format: &str) -> TempDir {
    let dest = scratch();
    export(
        RESULTS.out.path(),
        format,
        dest.path(),
        &["--clips-per-shard", "2"],
    )
    .ends(0);
    dest
}

/// All files of a folder with their hashes.
fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_path_buf();
                found.insert(name, sha256_hex(&fs::read(path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn equal_results_give_equal_bytes_and_the_record_is_of_all_files() {
    for format in FORMATS {
        let (first, second) = (exported(format), exported(format));
        let files = tree(first.path());
        assert_eq!(files, tree(second.path()), "{format}");
        let dataset = fs::read(first.path().join("dataset.json")).unwrap();
        let dataset: Value = serde_json::from_slice(&dataset).unwrap();
        let mut recorded: BTreeMap<PathBuf, String> =
            serde_json::from_value(dataset["files"].clone()).unwrap();
        recorded.insert(
            "dataset.json".into(),
            files[Path::new("dataset.json")].clone(),
        );
        assert_eq!(recorded, files, "{format}");
        assert_eq!(dataset["clips"], 13);
        assert_eq!(dataset["splits"], json!({"train": 10, "val": 3}));
        let batch = fs::read(RESULTS.out.path().join("batches/00001.npz")).unwrap();
        assert_eq!(dataset["source"]["batches/00001.npz"], sha256_hex(&batch));
        assert!(
            fs::read_to_string(first.path().join("README.md"))
                .unwrap()
                .contains("13 clips")
        );
    }
}

#[test]
fn every_kept_frame_is_exported_where_frames_were_kept() {
    let folder = scratch();
    let (dataset, out) = (folder.path().join("dataset"), folder.path().join("out"));
    let metadata = test_support::metadata(&[("hello", &[("1", 1), ("2", 1), ("3", 4)])]);
    test_support::write_metadata(&dataset, &metadata);
    for (seed, frames) in [(1, 20), (2, 40), (3, 31)] {
        let path = dataset.join(format!("videos/{seed}.mp4"));
        render_clip(&path, seed, frames, (320, 240), Codec::H264);
    }
    let flags = [
        "--min-videos-per-gloss",
        "1",
        "--min-frames",
        "1",
        "--batch-size",
        "2",
        "--keep-frames",
    ];
    process(&dataset, &out, &flags).ends(0);

    let dest = folder.path().join("npy");
    let run = export(&out, "npy", &dest, &[]).ends(0);
    assert_eq!(run.event("export")["from"], "frames");
    for (batch, ids) in [(0, &["1", "2"][..]), (1, &["3"])] {
        let mut npz = NpzReader::open(&out.join(format!("frames/{batch:05}.npz"))).unwrap();
        let offsets = npz.numbers::<i64>("offsets").unwrap().0;
        let landmarks = npz.numbers::<f32>("landmarks").unwrap().0;
        let handedness = npz.numbers::<i8>("handedness").unwrap().0;
        let scores = npz.numbers::<f32>("handedness_score").unwrap().0;
        let mut with_hand = 0;
        for (n, id) in ids.iter().enumerate() {
            let [from, to] = [n, n + 1].map(|n| usize::try_from(offsets[n]).unwrap());
            let (shape, values) = formats::read_npy(&dest.join(format!("train/{id}.npy")));
            assert_eq!(shape, [to - from, 42, 3]);
            for (frame, values) in (from..to).zip(values.chunks(126)) {
                let pair = 2 * frame..2 * frame + 2;
                let sides = sides(
                    handedness[pair.clone()].try_into().unwrap(),
                    scores[pair].try_into().unwrap(),
                );
                for (slot, values) in sides.into_iter().zip(values.chunks(63)) {
                    let wanted = slot.map_or(&[f32::NAN; 63][..], |slot| {
                        with_hand += 1;
                        &landmarks[(2 * frame + slot) * 63..][..63]
                    });
                    assert_eq!(bits(values), bits(wanted), "{id} {frame}");
                }
            }
        }
        assert!(with_hand > 10, "{with_hand}");
    }
    let run = export(
        &out,
        "npy",
        &folder.path().join("s"),
        &["--from", "sequences"],
    )
    .ends(0);
    assert_eq!(run.event("export")["from"], "sequences");
    export(&out, "npy", &dest, &["--from", "sequences"])
        .ends(73)
        .stderr_contains(&["from was", "choose another"]);

    // The hash reveals a changed file of kept frames.
    let path = out.join("frames/00001.npz");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let dest = folder.path().join("other");
    export(&out, "pose", &dest, &[]).ends(65).stderr_contains(&[
        "00001.npz",
        "has changed",
        "run the job again",
    ]);
    assert!(!dest.exists());
    fs::remove_file(&path).unwrap();
    export(&out, "pose", &dest, &[])
        .ends(65)
        .stderr_contains(&["00001.npz", "is missing"]);
}

#[test]
fn an_export_that_is_there_stays_as_it_is() {
    let dest = exported("npy");
    let files = tree(dest.path());
    let out = RESULTS.out.path();
    export(out, "npy", dest.path(), &[])
        .ends(0)
        .event("was_done");
    let other = [
        "another export",
        "format was \"npy\", now \"pose\"",
        "choose another folder",
    ];
    export(out, "pose", dest.path(), &[])
        .ends(73)
        .stderr_contains(&other);
    let results = scratch();
    write_results(results.path(), 12);
    export(results.path(), "npy", dest.path(), &[])
        .ends(73)
        .stderr_contains(&["another export", "clips was 13, now 12"]);
    write_results(results.path(), 13);
    fs::write(
        results.path().join("run.json"),
        r#"{"settings": {"profile": "x"}, "finished": {}}"#,
    )
    .unwrap();
    export(results.path(), "npy", dest.path(), &[])
        .ends(73)
        .stderr_contains(&["other results", "settings"]);
    assert_eq!(tree(dest.path()), files);
    fs::write(dest.path().join("train/00003.npy"), "no array").unwrap();
    export(out, "npy", dest.path(), &[])
        .ends(65)
        .stderr_contains(&["train/00003.npy", "export again"]);
    fs::write(dest.path().join("dataset.json"), "{}").unwrap();
    export(out, "npy", dest.path(), &[])
        .ends(73)
        .stderr_contains(&["dataset.json of another program"]);
    let foreign = scratch();
    fs::write(foreign.path().join("thesis.tex"), "").unwrap();
    export(out, "npy", foreign.path(), &[])
        .ends(73)
        .stderr_contains(&["other files"]);
}

#[test]
fn what_cannot_be_exported_is_named_with_the_fix() {
    let folder = scratch();
    let dest = folder.path().join("dest");
    let refused = |out: &Path, code: i32, words: &[&str]| {
        export(out, "parquet", &dest, &[])
            .ends(code)
            .stderr_contains(words);
        assert!(!dest.exists(), "{words:?}");
    };
    refused(
        folder.path(),
        66,
        &["is no output folder", "handloom process"],
    );
    let out = folder.path().join("out");
    write_results(&out, 9);
    export(&out, "parquet", &dest, &["--from", "frames"])
        .ends(66)
        .stderr_contains(&["were not kept"]);
    let batch = out.join("batches/00001.npz");
    let bytes = fs::read(&batch).unwrap();
    let write_labels = |text: &str| fs::write(out.join("label_map.json"), text).unwrap();
    write_labels("[1]");
    refused(&out, 65, &["label_map.json", "damaged"]);
    fs::remove_file(out.join("label_map.json")).unwrap();
    let run = fs::read(out.join("run.json")).unwrap();
    fs::write(out.join("run.json"), r#"{"finished": null}"#).unwrap();
    refused(&out, 66, &["has not ended", "run it again"]);
    fs::write(out.join("run.json"), "{").unwrap();
    refused(&out, 65, &["run.json is damaged"]);
    fs::write(out.join("run.json"), run).unwrap();
    let manifest = fs::read_to_string(out.join("manifest.jsonl")).unwrap();
    fs::write(out.join("manifest.jsonl"), manifest.lines().next().unwrap()).unwrap();
    refused(&out, 1, &["no accepted clip", "manifest.jsonl"]);
    fs::write(out.join("manifest.jsonl"), &manifest).unwrap();
    fs::remove_file(&batch).unwrap();
    refused(&out, 65, &["00001.npz is missing", "run the job again"]);

    // Damage inside a batch is found when the batch is read. Complete files stay; no partial file is left.
    let mut damaged = bytes.clone();
    let at = damaged
        .windows(13)
        .position(|w| w == b"landmarks.npy")
        .unwrap()
        + 400;
    damaged[at] ^= 1;
    fs::write(&batch, damaged).unwrap();
    export(&out, "npy", &dest, &[])
        .ends(65)
        .stderr_contains(&["00001.npz", "run the job again"]);
    assert!(
        dest.join("train/4_73e-7-seedSOUR.npy").exists() && !dest.join("dataset.json").exists()
    );
    assert!(
        tree(&dest)
            .keys()
            .all(|name| !name.to_string_lossy().ends_with(".part"))
    );
    fs::write(&batch, bytes).unwrap();
    export(&out, "npy", &dest, &[])
        .ends(73)
        .stderr_contains(&["other results", "source"]);
    fs::remove_dir_all(&dest).unwrap();
    fs::write(
        out.join("manifest.jsonl"),
        manifest.replace("00006", "00066"),
    )
    .unwrap();
    export(&out, "npy", &dest, &[]).ends(65).stderr_contains(&[
        "00001.npz",
        "00066",
        "not of one job",
    ]);

    fs::write(folder.path().join("file"), "").unwrap();
    fs::write(out.join("manifest.jsonl"), manifest).unwrap();
    let below = folder.path().join("file/dest");
    export(&out, "npy", &below, &[])
        .ends(73)
        .stderr_contains(&["/file: ", "to another folder"]);
    export(&out, "npz", &dest, &[])
        .ends(64)
        .stderr_contains(&["npz", "asl-signs"]);
    export(&out, "npy", &dest, &["--clips-per-shard", "0"])
        .ends(64)
        .stderr_contains(&["clips-per-shard"]);
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    // Root can write to any folder.
    if fs::write(closed.join("probe"), "").is_err() {
        export(&out, "npy", &closed, &[])
            .ends(74)
            .stderr_contains(&["closed", "owner and permissions", "to another folder"]);
    }
}

#[test]
fn labels_are_the_official_ones_where_the_job_wrote_them() {
    let out = scratch();
    write_results(out.path(), 4);
    fs::write(
        out.path().join("label_map.json"),
        r#"{"source": "a list", "classes": {"book": 0, "zebra": 7, "café": 5}}"#,
    )
    .unwrap();
    let dest = scratch();
    export(out.path(), "npy", dest.path(), &[]).ends(0);
    let labels = fs::read(dest.path().join("label_map.json")).unwrap();
    let labels: Value = serde_json::from_slice(&labels).unwrap();
    assert_eq!(labels.to_string(), r#"{"book":0,"café":5,"zebra":7}"#);
    let ids: Vec<_> = formats::index(dest.path())
        .into_iter()
        .map(|line| line[3].clone())
        .collect();
    assert_eq!(ids, ["-1", "5", "0", "-1"]);
}

/// Kills each export at times spread over its duration until one finishes. Its bytes equal those of an undisturbed
/// one.
#[test]
fn an_export_that_is_killed_continues_with_the_same_bytes() {
    let out = scratch();
    write_results(out.path(), 60);
    let mut rng = TestRng::new(3);
    for format in FORMATS {
        let (whole, dest) = (scratch(), scratch());
        let more = ["--clips-per-shard", "4"];
        let begun = Instant::now();
        export(out.path(), format, whole.path(), &more).ends(0);
        let time = begun.elapsed();
        let mut kills = 0;
        for _ in 0..6 {
            let mut child = Command::new(test_support::binary())
                .args([
                    "export".as_ref(),
                    out.path(),
                    "--to".as_ref(),
                    format.as_ref(),
                ])
                .arg("--dest")
                .arg(dest.path())
                .args(more)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            sleep(time * u32::try_from(rng.below(100)).unwrap() / 400);
            child.kill().unwrap();
            kills += u32::from(child.wait().unwrap().code().is_none());
        }
        // A crash may also leave half a line in the journal, and half a file under its partial name.
        let journal = dest.path().join(".export.jsonl");
        let text = fs::read_to_string(&journal).unwrap_or_default();
        // The first line of the journal is never partial.
        if text.lines().count() > 1 {
            fs::write(&journal, &text[..text.len() - 9]).unwrap();
            fs::write(dest.path().join(".README.md.0123456789abcdef.part"), "ha").unwrap();
        }
        export(out.path(), format, dest.path(), &more).ends(0);
        assert_eq!(tree(dest.path()), tree(whole.path()), "{format}");
        assert!(kills > 0, "{format}: no run was killed");
        println!("{format}: killed {kills} times, {time:.1?} undisturbed");
    }
}
