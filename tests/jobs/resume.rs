//! An interrupted job resumes; a changed dataset is rescanned without losing results that are still right.

use handloom::video::encode::Codec;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;
use test_support::{Run, digests, manifest_states, process, render_clip, scratch};

/// Eight clips of two glosses: the fourth is broken, the sixth too short.
struct Fixture {
    folder: TempDir,
    dataset: PathBuf,
    reference: PathBuf,
}

const SETTINGS: [&str; 6] = [
    "--min-videos-per-gloss",
    "1",
    "--batch-size",
    "3",
    "--workers",
    "2",
];

fn fixture() -> &'static Fixture {
    static MADE: OnceLock<Fixture> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        make_dataset(&dataset, &["1", "2", "3", "4"], &["5", "6", "7", "8"]);
        let reference = folder.path().join("reference");
        process(&dataset, &reference, &SETTINGS).ends(0);
        Fixture {
            folder,
            dataset,
            reference,
        }
    })
}

fn make_dataset(dataset: &Path, hello: &[&str], book: &[&str]) {
    let instances = |ids: &[&'static str]| -> Vec<(&'static str, i64)> {
        ids.iter().map(|id| (*id, 1)).collect()
    };
    let leak = |ids: &[&str]| -> Vec<&'static str> {
        ids.iter().map(|i| &*i.to_string().leak()).collect()
    };
    let (hello, book) = (leak(hello), leak(book));
    test_support::write_metadata(
        dataset,
        &test_support::metadata(&[("hello", &instances(&hello)), ("book", &instances(&book))]),
    );
    for id in hello.iter().chain(&book) {
        let path = dataset.join(format!("videos/{id}.mp4"));
        match *id {
            "4" => fs::write(path, "not a video").unwrap(),
            "6" => render_clip(&path, 6, 6, (320, 240), Codec::H264),
            id => render_clip(&path, id.parse().unwrap(), 16, (320, 240), Codec::H264),
        }
    }
}

fn copy_dataset(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("videos")).unwrap();
    for entry in fs::read_dir(from.join("videos")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join("videos").join(entry.file_name())).unwrap();
    }
    fs::copy(from.join("WLASL_v0.3.json"), to.join("WLASL_v0.3.json")).unwrap();
}

fn out(name: &str) -> PathBuf {
    fixture().folder.path().join(name)
}

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SETTINGS[..], more].concat()
}

/// The ids of the clips that a run read, in the order of their records.
fn read(run: &Run) -> Vec<String> {
    let clips = run.events().into_iter().filter(|e| e["event"] == "clip");
    clips
        .map(|e| e["video_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_finished_job_has_nothing_left_to_do() {
    let out = out("finished");
    process(&fixture().dataset, &out, &SETTINGS).ends(0);
    let before = fs::metadata(out.join("wlasl_landmarks.npz")).unwrap();
    let run_json = fs::read(out.join("run.json")).unwrap();
    let run = process(&fixture().dataset, &out, &SETTINGS).ends(0);
    assert!(read(&run).is_empty());
    assert_eq!(run.event("resume")["done"], 8);
    let after = fs::metadata(out.join("wlasl_landmarks.npz")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(run_json, fs::read(out.join("run.json")).unwrap());
    let run = process(&fixture().dataset, &out, &with(&["--fresh"])).ends(0);
    assert_eq!(read(&run).len(), 8);
    assert_eq!(digests(&out), digests(&fixture().reference));
}

#[test]
fn lost_and_changed_files_are_made_again() {
    let out = out("lost");
    process(&fixture().dataset, &out, &SETTINGS).ends(0);
    fs::remove_file(out.join("batches/00000.npz")).unwrap();
    let run = process(&fixture().dataset, &out, &SETTINGS)
        .ends(0)
        .stderr_contains(&["00000.npz is missing or was changed"]);
    assert_eq!(read(&run), ["1", "2", "3"]);
    assert_eq!(digests(&out), digests(&fixture().reference));
    let last = out.join("batches/00002.npz");
    let mut bytes = fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&last, bytes).unwrap();
    let run = process(&fixture().dataset, &out, &SETTINGS).ends(0);
    assert_eq!(read(&run), ["7", "8"]);
    fs::remove_file(out.join("wlasl_landmarks.npz")).unwrap();
    let run = process(&fixture().dataset, &out, &SETTINGS).ends(0);
    assert!(read(&run).is_empty());
    assert_eq!(digests(&out), digests(&fixture().reference));
}

#[test]
fn clips_that_failed_are_read_again_on_demand() {
    let folder = out("retry");
    let (dataset, whole) = (folder.join("dataset"), folder.join("whole"));
    copy_dataset(&fixture().dataset, &dataset);
    // With a limit, the repaired clip takes the place of a later one.
    // With a limit of two, the second broken clip is never reached.
    for (name, more, failed) in [
        ("plain", vec![], 2),
        ("limit", vec!["--max-samples-per-gloss", "3"], 2),
        ("limit-2", vec!["--max-samples-per-gloss", "2"], 1),
    ] {
        let broken = dataset.join("videos/4.mp4");
        let first = dataset.join("videos/1.mp4");
        let good = fs::read(fixture().dataset.join("videos/1.mp4")).unwrap();
        // Unreadable, but of the right size, as on a failing medium.
        fs::write(&broken, vec![0; good.len()]).unwrap();
        fs::write(&first, vec![0; good.len()]).unwrap();
        let out = folder.join(name);
        process(&dataset, &out, &with(&more)).ends(0);
        fs::write(&broken, &good).unwrap();
        fs::write(&first, &good).unwrap();
        let again = [&more[..], &["--retry-failed"]].concat();
        let run = process(&dataset, &out, &with(&again)).ends(0);
        assert_eq!(run.event("retry")["clips"], failed, "{name}");
        let read: BTreeSet<String> = read(&run).into_iter().collect();
        assert!(read.contains("1"), "{name}: {read:?}");
        assert!(!read.contains("5"), "{name}: {read:?}");
        process(&dataset, &whole, &with(&[&more[..], &["--fresh"]].concat())).ends(0);
        assert_eq!(digests(&out), digests(&whole), "{name}");
        assert_eq!(manifest_states(&out), manifest_states(&whole), "{name}");
    }
}

/// Ids of clips.
type Ids = &'static [&'static str];

#[test]
fn a_changed_dataset_is_refused_and_taken_up_on_demand() {
    let folder = out("changed");
    let (dataset, whole) = (folder.join("dataset"), folder.join("whole"));
    let states: &[(Ids, Ids, Ids, &str)] = &[
        // One clip added in the middle, one removed in front, another order, one left of each gloss, all restored.
        (
            &["1", "2", "9", "3", "4"],
            &["5", "6", "7", "8"],
            &["9"],
            "1 clip added, metadata changed",
        ),
        (
            &["2", "9", "3", "4"],
            &["5", "6", "7", "8"],
            &[],
            "1 clip removed, metadata changed",
        ),
        (
            &["2", "9", "3", "4"],
            &["8", "7", "6", "5"],
            &[],
            "the dataset has changed: metadata changed",
        ),
        (&["3"], &["8"], &[], "6 clips removed, metadata changed"),
        (
            &["1", "2", "3", "4"],
            &["5", "6", "7", "8"],
            &["1", "2", "4", "5", "6", "7"],
            "6 clips added, metadata changed",
        ),
    ];
    for more in [vec![], vec!["--max-samples-per-gloss", "2"]] {
        let out = folder.join(format!("out-{}", more.len()));
        fs::remove_dir_all(&dataset).ok();
        copy_dataset(&fixture().dataset, &dataset);
        process(&dataset, &out, &with(&more)).ends(0);
        for (hello, book, new, change) in states {
            let before = digests(&out);
            make_dataset(&dataset, hello, book);
            process(&dataset, &out, &with(&more))
                .ends(73)
                .stderr_contains(&["--rescan", "--fresh", change]);
            assert_eq!(digests(&out), before);
            let run = process(&dataset, &out, &with(&[&more[..], &["--rescan"]].concat())).ends(0);
            process(&dataset, &whole, &with(&[&more[..], &["--fresh"]].concat())).ends(0);
            assert_eq!(digests(&out), digests(&whole), "{hello:?} {book:?}");
            assert_eq!(
                manifest_states(&out),
                manifest_states(&whole),
                "{hello:?} {book:?}"
            );
            if more.is_empty() {
                assert_eq!(read(&run), *new, "{hello:?} {book:?}");
            }
        }
    }
}

#[test]
fn a_job_without_results_leaves_no_older_ones() {
    let folder = out("nothing");
    let (dataset, out) = (folder.join("dataset"), folder.join("out"));
    make_dataset(&dataset, &["1", "4"], &[]);
    process(&dataset, &out, &SETTINGS).ends(0);
    assert_eq!(digests(&out).len(), 2);
    make_dataset(&dataset, &["4"], &[]);
    process(&dataset, &out, &with(&["--rescan"])).ends(1);
    let left = digests(&out).into_keys().collect::<Vec<_>>();
    assert_eq!(left, ["batches/00000.npz"]);
}

#[test]
fn one_process_at_a_time() {
    let out = out("locked");
    fs::create_dir_all(&out).unwrap();
    let _lock = handloom::storage::lock::FolderLock::take(&out).unwrap();
    process(&fixture().dataset, &out, &SETTINGS)
        .ends(73)
        .stderr_contains(&["another handloom (pid ", "works in", "locked"]);
}

#[test]
fn ctrl_c_leaves_a_job_that_resumes() {
    let out = out("stopped");
    let mut child = Command::new(test_support::binary())
        .arg("process")
        .arg(&fixture().dataset)
        .arg("--out")
        .arg(&out)
        .args(SETTINGS)
        .args(test_support::quick_flags())
        .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let is_clip = |l: &String| l.contains("\"event\":\"clip\"");
    lines
        .find(|l| l.as_ref().is_ok_and(is_clip))
        .unwrap()
        .unwrap();
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let rest: Vec<Value> = lines
        .map(|l| serde_json::from_str(&l.unwrap()).unwrap())
        .collect();
    let code = child.wait().unwrap().code();
    let kinds: BTreeMap<String, usize> = rest.iter().fold(BTreeMap::new(), |mut n, e| {
        *n.entry(e["event"].as_str().unwrap().to_owned())
            .or_default() += 1;
        n
    });
    assert_eq!(code, Some(75), "{kinds:?}");
    assert_eq!(kinds["stopped"], 1);
    let run = process(&fixture().dataset, &out, &SETTINGS).ends(0);
    let known = usize::try_from(run.event("resume")["done"].as_u64().unwrap()).unwrap();
    assert!((1..8).contains(&known), "{known}");
    assert_eq!(read(&run).len(), 8 - known);
    assert_eq!(digests(&out), digests(&fixture().reference));
}
