//! The daemon's mirror: the second copy of the results.

use super::harness::{Disk, Harness, fixture, make_dataset, within};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use test_support::scratch;

/// Longer than the mirror's retry interval.
const TIMEOUT: Duration = Duration::from_mins(2);
const FILES: [&str; 4] = [
    "label_map.json",
    "manifest.jsonl",
    "run.json",
    "wlasl_landmarks.npz",
];

/// Checks every line of the list with `sha256sum`, as users do.
#[track_caller]
fn check_sums(mirror: &Path) {
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(mirror)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

/// The listed files, with their bytes in `folder`.
fn listed(folder: &Path, mirror: &Path) -> BTreeMap<String, Vec<u8>> {
    let sums = fs::read_to_string(mirror.join("SHA256SUMS")).unwrap_or_default();
    let names = sums
        .lines()
        .map(|l| l.split_once("  ").unwrap().1.to_owned());
    names
        .map(|name| {
            let bytes = fs::read(folder.join(&name)).unwrap_or_default();
            (name, bytes)
        })
        .collect()
}

/// Checks that the mirror has all files of the output folder, and that its list is right.
#[track_caller]
fn assert_mirror_complete(out: &Path, mirror: &Path) {
    check_sums(mirror);
    let mut names: Vec<String> = FILES.map(str::to_owned).to_vec();
    for entry in fs::read_dir(out.join("batches")).unwrap() {
        let name = entry.unwrap().file_name();
        names.push(format!("batches/{}", name.display()));
    }
    names.sort();
    let copies = listed(mirror, mirror);
    assert!(copies.keys().eq(&names), "{:?}, {names:?}", copies.keys());
    assert_eq!(copies, listed(out, mirror));
}

fn start(folder: &Path, dataset: &Path, out: &Path, mirror: &Path, args: &[&str]) -> Harness {
    Harness::start_with(folder, dataset, out, args, |text| {
        text.replace(
            "batch_size = 3",
            &format!("batch_size = 3\nmirror = \"{}\"", mirror.display()),
        )
    })
}

#[test]
fn what_is_sealed_arrives_while_the_job_runs() {
    let folder = scratch();
    let [dataset, out, mirror] = ["dataset", "out", "mirror"].map(|n| folder.path().join(n));
    make_dataset(&dataset, 16, 24, "00");
    fs::create_dir(&mirror).unwrap();
    let harness = start(folder.path(), &dataset, &out, &mirror, &[]);
    let first = mirror.join("batches/00000.npz");
    within(TIMEOUT, "the first batch", || first.exists());
    assert!(
        !harness.daemon.log().contains("the job is done"),
        "{}",
        harness.daemon.log()
    );
    harness.wait_log("the job is done", 1);
    within(TIMEOUT, "the last file", || {
        mirror.join("run.json").exists()
    });
    within(TIMEOUT, "its line", || listed(&mirror, &mirror).len() == 10);
    assert_mirror_complete(&out, &mirror);
    assert!(harness.faults("mirror").is_empty());
    // The first clip is replaced and the last two are removed: one batch changes, one disappears.
    let before = fs::read(&first).unwrap();
    fs::remove_file(dataset.join("videos/00.mp4")).unwrap();
    make_dataset(&dataset, 14, 24, "99");
    harness.command("rescan", "again");
    harness.wait_log("the job is done", 2);
    assert_eq!(harness.replies("again"), ["accepted", "succeeded"]);
    within(TIMEOUT, "the same files", || {
        let copies = listed(&mirror, &mirror);
        copies.len() == 9 && copies == listed(&out, &mirror)
    });
    assert_mirror_complete(&out, &mirror);
    assert_ne!(fs::read(&first).unwrap(), before);
    assert!(!mirror.join("batches/00005.npz").exists());
    assert!(harness.faults("mirror").is_empty());
}

#[test]
fn a_mirror_that_is_away_holds_nothing_up() {
    let folder = scratch();
    let [out, mirror] = ["out", "mirror"].map(|n| folder.path().join(n));
    let mut harness = start(folder.path(), &fixture().dataset, &out, &mirror, &[]);
    harness.wait_log("the job is done", 1);
    let waiting = harness.wait("health", "mirror_waiting", |h| h["mirror_waiting"] == 10);
    assert_eq!(waiting["outbox"], 0, "{waiting}");
    let faults = harness.faults("mirror");
    assert_eq!(faults.len(), 1, "{faults:?}");
    let reason = faults[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("is away") && reason.contains("mkdir -p"),
        "{reason}"
    );
    let action = faults[0]["action"].as_str().unwrap();
    for word in [
        "To restore",
        "sha256sum -c SHA256SUMS",
        "job and camera continue",
    ] {
        assert!(action.contains(word), "{action}");
    }
    assert!(!mirror.exists());
    fs::create_dir(&mirror).unwrap();
    within(TIMEOUT, "all files", || {
        listed(&mirror, &mirror).len() == 10
    });
    assert_mirror_complete(&out, &mirror);
    assert_eq!(harness.faults("mirror").len(), 1);
    assert_eq!(harness.daemon.stop(), Some(0));
    harness.assert_matches(fixture());
}

#[test]
fn a_mirror_that_is_full_is_completed_later() {
    let Some(disk) = Disk::mount(300 << 10) else {
        return;
    };
    let folder = scratch();
    let out = folder.path().join("out");
    // When the job ends, the mirror holds the files that fit.
    let once = ["--once"];
    let mut harness = start(folder.path(), &fixture().dataset, &out, disk.path(), &once);
    assert_eq!(harness.daemon.wait(), Some(0), "{}", harness.daemon.log());
    let faults = harness.faults("mirror");
    assert!(!faults.is_empty() && faults.len() <= 3, "{faults:?}");
    let reason = faults[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("os error 28") && reason.contains("df -h"),
        "{reason}"
    );
    check_sums(disk.path());
    let some = listed(disk.path(), disk.path());
    assert!(!some.is_empty() && some.len() < 10, "{:?}", some.keys());
    harness.restart(&[]);
    harness.wait("health", "mirror_waiting", |h| {
        h["mirror_waiting"] == 10 - some.len()
    });
    disk.resize(64 << 20);
    within(TIMEOUT, "all files", || {
        listed(disk.path(), disk.path()).len() == 10
    });
    assert_mirror_complete(&out, disk.path());
    harness.wait("health", "mirror_waiting", |h| h["mirror_waiting"] == 0);
    harness.assert_matches(fixture());
}

#[test]
fn a_new_disk_leaves_the_mirror_of_the_old_one_alone() {
    let folder = scratch();
    let [dataset, out, mirror] = ["dataset", "out", "mirror"].map(|n| folder.path().join(n));
    make_dataset(&dataset, 7, 16, "00");
    fs::create_dir(&mirror).unwrap();
    let once = ["--once"];
    let mut harness = start(folder.path(), &dataset, &out, &mirror, &once);
    assert_eq!(harness.daemon.wait(), Some(0), "{}", harness.daemon.log());
    assert_mirror_complete(&out, &mirror);
    let copy = || {
        let files = listed(&mirror, &mirror);
        let owner = fs::read(mirror.join("MIRROR_OF")).unwrap();
        (files, owner)
    };
    let before = copy();
    // The disk of the output folder has failed, and the dataset is not there yet.
    fs::remove_dir_all(&out).unwrap();
    fs::rename(&dataset, folder.path().join("away")).unwrap();
    harness.restart(&[]);
    harness.wait_fault("dataset");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(copy(), before);
    check_sums(&mirror);
    // The mirror stays the same when the job is done again with fewer clips.
    fs::remove_file(folder.path().join("away/videos/00.mp4")).unwrap();
    fs::rename(folder.path().join("away"), &dataset).unwrap();
    harness.wait_log("the job is done", 2);
    let fault = harness.wait_fault("mirror");
    let reason = fault["reason"].as_str().unwrap();
    for words in [
        mirror.to_str().unwrap(),
        "copy of another output folder",
        "empty",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    harness.wait("health", "mirror_waiting", |h| {
        h["mirror_waiting"].as_u64() > Some(3)
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(copy(), before);
    check_sums(&mirror);
    // A new mirror folder is filled.
    let next = folder.path().join("next");
    fs::create_dir(&next).unwrap();
    harness.reload(&mirror.display().to_string(), &next.display().to_string());
    within(TIMEOUT, "the new mirror", || {
        listed(&next, &next).contains_key("run.json")
    });
    assert_mirror_complete(&out, &next);
    assert_eq!(copy(), before);
}
