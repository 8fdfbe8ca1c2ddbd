//! Memory and time of a merge and a plan stay small with many clips. `HANDLOOM_SHARD_SCALE=CLIPS/SHARDS/LENGTH` sets
//! the size (`tests/long/shard_scale.sh`). Shards are then written in the recorder's format, without a detector.

use super::Run;
use handloom::dataset::instance::{Entry, Instance};
use handloom::dataset::plan::{PlanOptions, plan};
use handloom::digest::sha256_hex;
use handloom::frame::ClipFormat;
use handloom::sequence::FrameRecord;
use handloom::shard::ShardIndex;
use handloom::shard::partition::{batch_weights, owners, plan_sha256};
use handloom::shard::record::{FORMAT, OwnedBatch, ShardRecord};
use handloom::storage::batches::{BATCH_FOLDER, BatchRow, write_batch};
use handloom::storage::manifest::{ManifestLine, ManifestPlace};
use handloom::storage::npz::NpzReader;
use ndarray::Array2;
use serde_json::json;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};
use test_support::memory::peak_kib;
use test_support::{binary, scratch};

const BATCH: usize = 64;
const GLOSSES: usize = 2000;
/// Maximum peak memory of a merge, in KiB.
const PEAK_KIB_MAX: u64 = 200 << 10;

struct Scale {
    clips: usize,
    shards: usize,
    length: usize,
}

impl Scale {
    fn of_environment() -> Option<Self> {
        let text = std::env::var("HANDLOOM_SHARD_SCALE").ok()?;
        let mut numbers = text.split('/').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Some(Self {
            clips: next(),
            shards: next(),
            length: next(),
        })
    }

    fn gloss(&self, position: usize) -> usize {
        position * GLOSSES / self.clips
    }
}

fn row(gloss: &Arc<str>, position: usize, length: usize) -> BatchRow {
    let frames = (0..length).map(|n| FrameRecord::of(n as u64, &[]));
    BatchRow {
        gloss: Arc::clone(gloss),
        video_id: format!("{position:07}").into(),
        split: "train".to_owned(),
        signer_id: 1,
        features: Array2::from_elem((length, 126), position as f32),
        mask: vec![[true; 2]; length],
        filled: vec![[false; 2]; length],
        frames: frames.collect(),
        frame_times: Vec::new(),
        format: ClipFormat {
            width: 320,
            height: 240,
            fps: Some(25.0),
        },
    }
}

/// Writes the folder of `shard` with `batches` into `out`.
fn write_shard(out: &Path, scale: &Scale, shard: ShardIndex, batches: &[usize]) {
    let folder = out.join(shard.folder());
    fs::create_dir_all(folder.join(BATCH_FOLDER)).unwrap();
    let glosses: Vec<Arc<str>> = (0..GLOSSES).map(|n| format!("gloss {n}").into()).collect();
    let manifest = folder.join("manifest.jsonl");
    let mut lines = BufWriter::new(File::create(&manifest).unwrap());
    let mut owned = Vec::new();
    for batch in batches.iter().copied() {
        let positions = batch * BATCH..((batch + 1) * BATCH).min(scale.clips);
        let rows = positions.clone();
        let rows = rows.map(|n| row(&glosses[scale.gloss(n)], n, scale.length));
        let rows: Vec<BatchRow> = rows.collect();
        let sealed = write_batch(&folder, batch, &rows, &glosses, scale.length).unwrap();
        for (row, position) in positions.clone().enumerate() {
            let line = ManifestLine {
                gloss: rows[row].gloss.to_string(),
                video_id: Some(rows[row].video_id.to_string()),
                instance: position,
                state: "accepted",
                split: "train".to_owned(),
                frame_start: Some(1),
                frame_end: Some(-1),
                position: Some(position),
                clip: Some(json!({
                    "declared_frames": 61, "in_range": 61, "sampled": 31, "frames_with_hand": 30, "truncated": 0,
                    "two_hand_pairs": 12, "slot_swaps": 1, "width": 320, "height": 240, "fps": 25.0, "filled": 0,
                    "backend": "cpu", "decoder": "avdec_h264", "colour": "exact",
                })),
                stored: Some(ManifestPlace { batch, row }),
                ..ManifestLine::default()
            };
            serde_json::to_writer(&mut lines, &line).unwrap();
            lines.write_all(b"\n").unwrap();
        }
        owned.push(OwnedBatch {
            batch,
            rows: rows.len(),
            sha256: Some(sealed.sha256),
            frames_sha256: None,
            lines: rows.len(),
        });
    }
    lines.flush().unwrap();
    let run = json!({
        "handloom": "0.1.0", "run": "r", "dataset": {"path": "dataset"}, "backend": {"name": "cpu"}, "gstreamer": "1",
        "started": {"at_unix": 1}, "finished": {"at_unix": 2, "seconds": 1.0, "workers": 1},
    });
    fs::write(folder.join("run.json"), run.to_string()).unwrap();
    let hash = |name: &str| sha256_hex(&fs::read(folder.join(name)).unwrap());
    let record = ShardRecord {
        format: FORMAT,
        version: "0.1.0".to_owned(),
        shard,
        plan_sha256: "plan".to_owned(),
        settings: json!({"profile": "corrected", "sequence_length": scale.length, "max_samples_per_gloss": null}),
        instances: scale.clips,
        clips: scale.clips,
        batches: scale.clips.div_ceil(BATCH),
        absent: 0,
        glosses: glosses.iter().map(ToString::to_string).collect(),
        class_order: None,
        processor: "stub".to_owned(),
        owned,
        manifest_sha256: hash("manifest.jsonl"),
        run_sha256: hash("run.json"),
    };
    fs::write(folder.join("shard.json"), record.to_json()).unwrap();
}

/// Runs the program; returns the run, its seconds and its peak memory in KiB.
fn measured(args: &[&Path]) -> (Run, f64, u64) {
    let begun = Instant::now();
    let folder = scratch();
    let stdout = folder.path().join("stdout");
    let mut child = Command::new(binary())
        .args(args)
        .stdout(File::create(&stdout).unwrap())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut peak = 0;
    let status = loop {
        peak = peak.max(peak_kib(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        sleep(Duration::from_millis(5));
    };
    let run = Run {
        code: status.code(),
        stdout: fs::read_to_string(stdout).unwrap(),
        stderr: String::new(),
    };
    (run, begun.elapsed().as_secs_f64(), peak)
}

#[test]
fn many_shards_are_joined_in_little_memory() {
    let scale = Scale::of_environment().unwrap_or(Scale {
        clips: 2000,
        shards: 12,
        length: 4,
    });
    let folder = scratch();
    let [out, merged] = ["out", "merged"].map(|name| folder.path().join(name));
    let batches = scale.clips.div_ceil(BATCH);
    let owner = owners(&vec![1; batches], scale.shards);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for half in 0..2 {
            let (scale, owner, out) = (&scale, &owner, &out);
            scope.spawn(move || {
                for index in (half..scale.shards).step_by(2) {
                    let own: Vec<usize> = (0..batches).filter(|b| owner[*b] == index).collect();
                    let shard = ShardIndex::new(index, scale.shards).unwrap();
                    write_shard(out, scale, shard, &own);
                }
            });
        }
    });
    let Scale {
        clips,
        shards,
        length,
    } = scale;
    println!(
        "{clips} clips of {length} frames in {shards} shards: written in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    for what in ["joined", "joined again"] {
        let (run, seconds, peak) = measured(&[Path::new("merge"), &merged, &out]);
        let done = run.ends(0).event("done");
        assert_eq!(done["accepted"], clips);
        println!(
            "{what} in {seconds:.1} s, peak {:.0} MB",
            peak as f64 / 1000.0
        );
        assert!((1..=PEAK_KIB_MAX).contains(&peak), "{peak} KiB");
    }
    let mut npz = NpzReader::open(&merged.join("wlasl_landmarks.npz")).unwrap();
    assert_eq!(npz.header("sequences").unwrap().1, [clips, length, 126]);
    let lines = fs::read_to_string(merged.join("manifest.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), clips);
}

/// Peak memory of this process, in MB.
fn own_peak() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1.024 / 1000.0
}

/// Each worker makes the whole plan. The readers are skipped: they limit a dataset folder to 200,000 clips.
#[test]
fn a_plan_over_many_clips_is_made_in_a_moment() {
    let scale = Scale::of_environment();
    let clips = scale.as_ref().map_or(20_000, |scale| scale.clips);
    let shards = scale.map_or(20, |scale| scale.shards);
    let before = own_peak();
    let begun = Instant::now();
    let per_gloss = clips / GLOSSES;
    let entries: Vec<Entry> = (0..GLOSSES)
        .map(|gloss| Entry {
            gloss: Some(format!("gloss {gloss}").into()),
            instances: (0..per_gloss)
                .map(|n| Instance {
                    video_id: Some(format!("{:07}", gloss * per_gloss + n).into()),
                    split: "train".to_owned(),
                    ..Instance::default()
                })
                .collect(),
            refused: None,
        })
        .collect();
    let read = begun.elapsed().as_secs_f64();
    let made = plan(&entries, &PlanOptions::default(), &|_| true);
    let planned = begun.elapsed().as_secs_f64();
    let key = |position: usize| json!([&*made.jobs[position].video_id, 100_000]).to_string();
    let sha256 = plan_sha256(&made, key);
    let batches = vec![1; made.jobs.len().div_ceil(BATCH)];
    let owner = owners(&batches, shards);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "a plan of {} clips: entries in {read:.2} s, plan in {:.2} s, hash and owners in {:.2} s, {:.0} MB",
        made.jobs.len(),
        planned - read,
        seconds - planned,
        own_peak() - before
    );
    assert_eq!((sha256.len(), owner.len()), (64, batches.len()));
    assert_eq!(made.jobs.len(), per_gloss * GLOSSES);
}

/// Weight of the heaviest shard relative to the mean, for clip sizes like those of WLASL.
#[test]
fn shards_get_equal_work_as_long_as_there_are_enough_batches() {
    let mut rng = test_support::TestRng::new(3);
    // The product of six uniform numbers is nearly log-normal.
    let mut bytes = || {
        let factors = (0..6).map(|_| 450 + rng.below(1000) as u64);
        factors.fold(100_000, |bytes, factor| bytes * factor / 900)
    };
    let scales = [12_000, 100_000, 200_000, 10_000_000];
    let is_full = Scale::of_environment().is_some();
    for clips in &scales[..if is_full { 4 } else { 2 }] {
        let bytes: Vec<u64> = (0..*clips).map(|_| bytes()).collect();
        for size in [256, 64, 16] {
            let batches = batch_weights(&bytes, size);
            for shards in [5, 50, 1000] {
                let begun = Instant::now();
                let mut loads = vec![0; shards];
                let owner = owners(&batches, shards);
                let seconds = begun.elapsed().as_secs_f64();
                for (batch, owner) in batches.iter().zip(owner) {
                    loads[owner] += batch;
                }
                let mean = loads.iter().sum::<u64>() as f64 / shards as f64;
                let most = *loads.iter().max().unwrap() as f64 / mean;
                let idle = loads.iter().filter(|load| **load == 0).count();
                println!(
                    "{clips} clips, batches of {size}, {shards} shards: heaviest {most:.3} of the mean, {idle} idle, {seconds:.2} s"
                );
                if batches.len() >= 20 * shards {
                    assert!(most < 1.05, "{most}");
                }
            }
        }
    }
}
