//! `handloom merge`: the joined shards of a job have the bytes of a run over the whole job. Shards that do not belong
//! together or have changed are refused with a fix.
//!
//! `HANDLOOM_SWEEP=full` tests all combinations of settings, otherwise a few.

mod broken;
mod scale;

use handloom::video::encode::Codec;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;
use test_support::{Run, binary, digests, handloom, process, render_clip, scratch};
use zip::write::SimpleFileOptions;

const SETTINGS: [&str; 6] = [
    "--min-videos-per-gloss",
    "1",
    "--batch-size",
    "3",
    "--min-frames",
    "2",
];
/// Only one profile processes a gloss in capitals. Its frames are kept with both.
const GLOSSES: [(&str, usize); 4] = [("hello", 7), ("BOOK", 2), ("book", 8), ("go", 5)];
const MISSING: &str = "hello2";
const BROKEN: &str = "book3";
const SHORT: &str = "go1";

struct Fixture {
    _folder: TempDir,
    dataset: PathBuf,
    archive: PathBuf,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let folder = scratch();
    let dataset = folder.path().join("dataset");
    let ids = GLOSSES.map(|(gloss, count)| {
        let ids = (0..count).map(|n| format!("{gloss}{n}"));
        ids.collect::<Vec<_>>()
    });
    let glosses: Vec<Value> = GLOSSES
        .iter()
        .zip(&ids)
        .map(|((gloss, _), ids)| {
            let instance = |id| json!({"video_id": id, "frame_start": 1, "frame_end": -1, "split": "train", "signer_id": 3});
            json!({"gloss": gloss, "instances": ids.iter().map(instance).collect::<Vec<_>>()})
        })
        .collect();
    test_support::write_metadata(&dataset, &json!(glosses));
    for (seed, id) in (0..).zip(ids.iter().flatten()) {
        let path = dataset.join(format!("videos/{id}.mp4"));
        match id.as_str() {
            MISSING => {}
            BROKEN => fs::write(path, "no video").unwrap(),
            SHORT => render_clip(&path, seed, 1, (160, 120), Codec::H264),
            _ => {
                let frames = 6 + usize::try_from(seed).unwrap() % 5;
                render_clip(&path, seed, frames, (160, 120), Codec::H264);
            }
        }
    }
    let archive = folder.path().join("archive.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&archive).unwrap());
    let videos = fs::read_dir(dataset.join("videos")).unwrap();
    let videos = videos.map(|entry| {
        let name = entry.unwrap().file_name();
        format!("videos/{}", name.to_str().unwrap())
    });
    for name in videos.chain(["WLASL_v0.3.json".to_owned()]) {
        zip.start_file(&name, SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(dataset.join(name)).unwrap())
            .unwrap();
    }
    zip.finish().unwrap();
    Fixture {
        _folder: folder,
        dataset,
        archive,
    }
});

/// Processes the dataset, or a shard of it, into `out`.
fn run(dataset: &Path, out: &Path, more: &[&str]) -> Run {
    process(dataset, out, &[&SETTINGS[..], more].concat())
}

/// Makes all shards of a job in `out`.
fn make_shards(dataset: &Path, out: &Path, count: usize, more: &[&str]) {
    for index in 0..count {
        let shard = format!("{index}/{count}");
        run(dataset, out, &[more, &["--shard", &shard]].concat()).ends(0);
    }
}

/// Runs `handloom merge OUT SHARDS`.
fn merge(out: &Path, shards: &[&Path], more: &[&str]) -> Run {
    let args = [Path::new("merge"), out];
    let args = args.iter().chain(shards).map(|path| path.as_os_str());
    handloom(args.chain(more.iter().map(AsRef::as_ref)))
}

/// The results in which a job and a merge must agree: npz files, manifest, label map, and provenance without times.
fn results(out: &Path) -> BTreeMap<String, String> {
    let mut found = digests(out);
    for name in ["manifest.jsonl", "label_map.json"] {
        found.insert(name.to_owned(), fs::read_to_string(out.join(name)).unwrap());
    }
    let mut run: Value = serde_json::from_slice(&fs::read(out.join("run.json")).unwrap()).unwrap();
    for key in ["run", "started", "merged"] {
        run.as_object_mut().unwrap().shift_remove(key);
    }
    let finished = run["finished"].as_object_mut().unwrap();
    for key in ["at_unix", "clock_synced", "seconds", "workers"] {
        assert!(finished.shift_remove(key).is_some(), "{key}");
    }
    found.insert("run.json".to_owned(), format!("{run:#}"));
    found
}

/// Fails with the names of the results of `out` that differ from `wanted`.
#[track_caller]
fn assert_results(out: &Path, wanted: &BTreeMap<String, String>) {
    let found = results(out);
    let names = found.keys().chain(wanted.keys());
    for name in names {
        let [found, wanted] = [&found, wanted].map(|results| results.get(name));
        assert_eq!(found, wanted, "{name}");
    }
}

/// Joins the shards of a job with `flags` and compares them with one run over the whole job.
fn check(dataset: &Path, flags: &[&str], counts: &[usize], workers: &[&str]) {
    let folder = scratch();
    let whole = folder.path().join("whole");
    run(dataset, &whole, &[flags, &["--workers", "2"]].concat()).ends(0);
    let wanted = results(&whole);
    for count in counts {
        for workers in workers {
            let name = format!("{count}-{workers}");
            let (out, merged) = (
                folder.path().join(&name),
                folder.path().join(format!("{name}-merged")),
            );
            let more = [flags, &["--workers", workers]].concat();
            make_shards(dataset, &out, *count, &more);
            let done = merge(&merged, &[&out], &[]).ends(0).event("done");
            assert_results(&merged, &wanted);
            let rows = test_support::rows(&merged).len();
            assert_eq!(done["accepted"], rows, "{flags:?} {name}");
            fs::remove_dir_all(out).unwrap();
            fs::remove_dir_all(merged).unwrap();
        }
    }
}

#[test]
fn joined_shards_are_the_whole_job() {
    let Fixture {
        dataset, archive, ..
    } = &*FIXTURE;
    let limit = ["--max-samples-per-gloss", "2"];
    if !std::env::var("HANDLOOM_SWEEP").is_ok_and(|v| v == "full") {
        let corrected = ["--profile", "corrected", "--keep-frames"];
        check(dataset, &[&corrected[..], &limit].concat(), &[3], &["2"]);
        check(archive, &[], &[2], &["1"]);
        check(
            dataset,
            &[&["--keep-frames"], &limit[..]].concat(),
            &[7],
            &["1"],
        );
        return;
    }
    for dataset in [dataset, archive] {
        for profile in ["notebook", "corrected"] {
            for frames in [&[][..], &["--keep-frames"]] {
                for limit in [&[][..], &limit] {
                    let flags = [&["--profile", profile], frames, limit].concat();
                    check(dataset, &flags, &[1, 2, 3, 5, 7], &["1", "2"]);
                }
            }
        }
    }
}

/// A job in 3 shards that keeps frames, with a limit that applies across shards.
struct Sharded {
    folder: TempDir,
    /// The folder with the shards.
    out: PathBuf,
    /// One run over the whole job.
    whole: PathBuf,
}

const FLAGS: [&str; 3] = ["--keep-frames", "--max-samples-per-gloss", "2"];

static SHARDED: LazyLock<Sharded> = LazyLock::new(|| {
    let folder = scratch();
    let [out, whole] = ["out", "whole"].map(|name| folder.path().join(name));
    run(&FIXTURE.dataset, &whole, &FLAGS).ends(0);
    make_shards(&FIXTURE.dataset, &out, 3, &FLAGS);
    Sharded { folder, out, whole }
});

impl Sharded {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Starts a merge of `shards` into `out` and waits until it has found all shards.
fn start(out: &Path, shards: &Path) -> Child {
    let mut child = Command::new(binary())
        .args([Path::new("merge"), out, shards])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("\"merge\""), "{line}");
    // The rest of its output fits into the pipe.
    child.stdout = Some(stdout.into_inner());
    child
}

#[test]
fn two_merges_at_once_and_killed_ones_are_right() {
    let sharded = &*SHARDED;
    let wanted = results(&sharded.whole);
    let merged = sharded.path("two");
    let both = [(); 2].map(|()| start(&merged, &sharded.out));
    for mut child in both {
        assert!(child.wait().unwrap().success());
    }
    assert_results(&merged, &wanted);
    let run = fs::read(merged.join("run.json")).unwrap();
    merge(&merged, &[&sharded.out], &[]).ends(0);
    assert_eq!(run, fs::read(merged.join("run.json")).unwrap());

    let killed = sharded.path("killed");
    for attempt in 0..3 {
        let mut child = start(&killed, &sharded.out);
        child.kill().unwrap();
        child.wait().unwrap();
        // A broken batch is repaired.
        let batch = killed.join("batches/00001.npz");
        if attempt == 1 && batch.exists() {
            fs::remove_file(&batch).unwrap();
            fs::write(&batch, "half").unwrap();
        }
    }
    merge(&killed, &[&sharded.out], &[]).ends(0);
    assert_results(&killed, &wanted);
    let mut names: Vec<_> = fs::read_dir(&killed).unwrap().flatten().collect();
    names.retain(|entry| entry.file_name().to_string_lossy().starts_with(".merge"));
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn a_waiting_merge_continues_after_another() {
    let sharded = &*SHARDED;
    let wanted = results(&sharded.whole);
    let merged = sharded.path("waits");
    let mut first = start(&merged, &sharded.out);
    let signal = |name: &str| {
        let id = first.id().to_string();
        let sent = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    merge(&merged, &[&sharded.out], &[]).ends(0);
    assert_results(&merged, &wanted);
    let run = fs::read(merged.join("run.json")).unwrap();
    signal("-CONT");
    assert!(first.wait().unwrap().success());
    assert_results(&merged, &wanted);
    assert_eq!(run, fs::read(merged.join("run.json")).unwrap());
}

#[test]
fn shards_of_a_job_without_instances_are_joined() {
    let folder = scratch();
    let [dataset, out, whole, merged] =
        ["dataset", "out", "whole", "merged"].map(|name| folder.path().join(name));
    test_support::write_metadata(&dataset, &json!([]));
    run(&dataset, &whole, &[]).ends(1);
    make_shards(&dataset, &out, 2, &[]);
    merge(&merged, &[&out], &[]).ends(1);
    assert_results(&merged, &results(&whole));
}

#[test]
fn joined_shards_are_read_as_the_whole_job() {
    let sharded = &*SHARDED;
    let merged = sharded.path("read");
    merge(&merged, &[&sharded.out], &[]).ends(0);
    let out = |name: &str, results: &Path| {
        let of = results.file_name().unwrap().to_str().unwrap();
        sharded.path(&format!("{name}-{of}"))
    };
    let made = |results: &Path| {
        let [sequences, arrays] = ["again", "npy"].map(|name| out(name, results));
        let results = results.to_str().unwrap();
        let again = [
            "resequence",
            results,
            "--min-frames",
            "2",
            "--z",
            "drop",
            "--out",
        ];
        handloom(again.iter().chain([&sequences.to_str().unwrap()])).ends(0);
        let export = ["export", results, "--to", "npy", "--dest"];
        handloom(export.iter().chain([&arrays.to_str().unwrap()])).ends(0);
        handloom(["report", results]).ends(0);
        let shown = handloom(["inspect", results, "--json"]).ends(0).stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["is_finished"], true);
        let dataset = fs::read_to_string(arrays.join("dataset.json")).unwrap();
        (digests(&sequences), dataset, shown["states"].clone())
    };
    assert_eq!(made(&merged), made(&sharded.whole));
    // Another job may not replace the results without `--fresh`.
    let before = results(&merged);
    let refused = run(&FIXTURE.dataset, &merged, &FLAGS).ends(73);
    refused.stderr_contains(&["`handloom merge` joined", "choose another --out", "--fresh"]);
    assert_results(&merged, &before);
    assert!(!merged.join("ledger.sqlite").exists());
    run(
        &FIXTURE.dataset,
        &merged,
        &[&FLAGS[..], &["--fresh"]].concat(),
    )
    .ends(0);
    assert_results(&merged, &before);
}

#[test]
fn a_shard_alone_is_no_result() {
    let sharded = &*SHARDED;
    let shard = sharded.out.join("shard-00001-of-00003");
    for folder in [&shard, &sharded.out] {
        let folder = folder.to_str().unwrap();
        let dest = sharded.path("never");
        let dest = dest.to_str().unwrap();
        for args in [
            &["inspect", folder][..],
            &["report", folder],
            &["export", folder, "--to", "npy", "--dest", dest],
            &["resequence", folder, "--out", dest],
        ] {
            let out = sharded.out.to_str().unwrap();
            let fix = format!("`handloom merge MERGED {out}`");
            handloom(args).ends(66).stderr_contains(&[&fix]);
        }
    }
    assert!(!sharded.path("never").exists());
}

#[test]
fn what_is_there_is_joined_on_demand() {
    let sharded = &*SHARDED;
    let parts = sharded.path("parts");
    test_support::copy_folder(&sharded.out, &parts);
    let aside = sharded.path("aside");
    fs::rename(parts.join("shard-00001-of-00003"), &aside).unwrap();
    let merged = sharded.path("partial");
    let refused = merge(&merged, &[&parts], &[]).ends(66);
    refused.stderr_contains(&["shard 1/3 is missing", "--shard 1/3`", "--partial`"]);
    assert!(!merged.exists());
    let partial = merge(&merged, &[&parts], &["--partial"]).ends(0);
    assert_eq!(partial.event("done")["missing"], json!(["1/3"]));
    let out = merged.to_str().unwrap();
    let shown = handloom(["inspect", out]).ends(0).stdout;
    assert!(shown.contains("without the shards 1/3"), "{shown}");
    handloom(["report", out]).ends(0);
    let page = fs::read_to_string(merged.join("report.html")).unwrap();
    assert!(page.contains("without the shards 1/3"));
    let dest = sharded.path("partial-npy");
    let dest = dest.to_str().unwrap();
    handloom(["export", out, "--to", "npy", "--dest", dest]).ends(0);
    let again = handloom(["resequence", out, "--out", dest]).ends(66);
    again.stderr_contains(&["without the shards 1/3", "merge again"]);
    // The missing shard comes later. Then a merge of fewer shards is refused.
    fs::rename(&aside, parts.join("shard-00001-of-00003")).unwrap();
    merge(&merged, &[&parts], &[]).ends(0);
    assert_results(&merged, &results(&sharded.whole));
    fs::rename(parts.join("shard-00001-of-00003"), &aside).unwrap();
    let fewer = merge(&merged, &[&parts], &["--partial"]).ends(73);
    fewer.stderr_contains(&["a merge of more shards"]);
}
