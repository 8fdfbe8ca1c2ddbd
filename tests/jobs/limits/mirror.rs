//! The second place for the results, through the daemon.

use super::rig::{Disk, Rig, fixture, make_dataset, within};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use test_support::scratch;

/// Longer than the mirror's own patience.
const PATIENCE: Duration = Duration::from_mins(2);
const FILES: [&str; 4] = [
    "label_map.json",
    "manifest.jsonl",
    "run.json",
    "wlasl_landmarks.npz",
];

/// Every line of the list is true, by the tool that users have.
#[track_caller]
fn check_sums(mirror: &Path) {
    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(mirror)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

/// What is listed, with its bytes.
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

/// The mirror has all that the output folder has, and its list is true.
#[track_caller]
fn is_whole(out: &Path, mirror: &Path) {
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

fn start(folder: &Path, dataset: &Path, out: &Path, mirror: &Path, args: &[&str]) -> Rig {
    Rig::start_with(folder, dataset, out, args, |text| {
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
    let rig = start(folder.path(), &dataset, &out, &mirror, &[]);
    let first = mirror.join("batches/00000.npz");
    within(PATIENCE, "the first batch", || first.exists());
    assert!(
        !rig.daemon.log().contains("the job is done"),
        "{}",
        rig.daemon.log()
    );
    rig.wait_log("the job is done", 1);
    within(PATIENCE, "the last file", || {
        mirror.join("run.json").exists()
    });
    within(PATIENCE, "its line", || {
        listed(&mirror, &mirror).len() == 10
    });
    is_whole(&out, &mirror);
    assert!(rig.faults("mirror").is_empty());
    // The first clip gives way to another, and the last two go: one batch is changed, one is gone.
    let before = fs::read(&first).unwrap();
    fs::remove_file(dataset.join("videos/00.mp4")).unwrap();
    make_dataset(&dataset, 14, 24, "99");
    rig.command("rescan", "again");
    rig.wait_log("the job is done", 2);
    assert_eq!(rig.replies("again"), ["accepted", "succeeded"]);
    within(PATIENCE, "the same files", || {
        let copies = listed(&mirror, &mirror);
        copies.len() == 9 && copies == listed(&out, &mirror)
    });
    is_whole(&out, &mirror);
    assert_ne!(fs::read(&first).unwrap(), before);
    assert!(!mirror.join("batches/00005.npz").exists());
    assert!(rig.faults("mirror").is_empty());
}

#[test]
fn a_mirror_that_is_away_holds_nothing_up() {
    let folder = scratch();
    let [out, mirror] = ["out", "mirror"].map(|n| folder.path().join(n));
    let mut rig = start(folder.path(), &fixture().dataset, &out, &mirror, &[]);
    rig.wait_log("the job is done", 1);
    let waiting = rig.wait("health", "mirror_waiting", |h| h["mirror_waiting"] == 10);
    assert_eq!(waiting["outbox"], 0, "{waiting}");
    let faults = rig.faults("mirror");
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
    within(PATIENCE, "all files", || {
        listed(&mirror, &mirror).len() == 10
    });
    is_whole(&out, &mirror);
    assert_eq!(rig.faults("mirror").len(), 1);
    assert_eq!(rig.daemon.stop(), Some(0));
    rig.is_as(fixture());
}

#[test]
fn a_mirror_that_is_full_is_completed_later() {
    let Some(disk) = Disk::mount(300 << 10) else {
        return;
    };
    let folder = scratch();
    let out = folder.path().join("out");
    // To its end, and what the mirror can have, it has by then.
    let once = ["--once"];
    let mut rig = start(folder.path(), &fixture().dataset, &out, disk.path(), &once);
    assert_eq!(rig.daemon.wait(), Some(0), "{}", rig.daemon.log());
    let faults = rig.faults("mirror");
    assert!(!faults.is_empty() && faults.len() <= 3, "{faults:?}");
    let reason = faults[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("os error 28") && reason.contains("df -h"),
        "{reason}"
    );
    check_sums(disk.path());
    let some = listed(disk.path(), disk.path());
    assert!(!some.is_empty() && some.len() < 10, "{:?}", some.keys());
    rig.restart(&[]);
    rig.wait("health", "mirror_waiting", |h| {
        h["mirror_waiting"] == 10 - some.len()
    });
    disk.resize(64 << 20);
    within(PATIENCE, "all files", || {
        listed(disk.path(), disk.path()).len() == 10
    });
    is_whole(&out, disk.path());
    rig.wait("health", "mirror_waiting", |h| h["mirror_waiting"] == 0);
    rig.is_as(fixture());
}

#[test]
fn a_new_disk_leaves_the_mirror_of_the_old_one_alone() {
    let folder = scratch();
    let [dataset, out, mirror] = ["dataset", "out", "mirror"].map(|n| folder.path().join(n));
    make_dataset(&dataset, 7, 16, "00");
    fs::create_dir(&mirror).unwrap();
    let once = ["--once"];
    let mut rig = start(folder.path(), &dataset, &out, &mirror, &once);
    assert_eq!(rig.daemon.wait(), Some(0), "{}", rig.daemon.log());
    is_whole(&out, &mirror);
    let copy = || {
        let files = listed(&mirror, &mirror);
        let owner = fs::read(mirror.join("MIRROR_OF")).unwrap();
        (files, owner)
    };
    let before = copy();
    // The output folder's disk has died, and the clips are not there yet.
    fs::remove_dir_all(&out).unwrap();
    fs::rename(&dataset, folder.path().join("away")).unwrap();
    rig.restart(&[]);
    rig.wait_fault("dataset");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(copy(), before);
    check_sums(&mirror);
    // Nor when the job is done anew, with fewer clips.
    fs::remove_file(folder.path().join("away/videos/00.mp4")).unwrap();
    fs::rename(folder.path().join("away"), &dataset).unwrap();
    rig.wait_log("the job is done", 2);
    let fault = rig.wait_fault("mirror");
    let reason = fault["reason"].as_str().unwrap();
    for words in [
        mirror.to_str().unwrap(),
        "copy of another output folder",
        "empty",
    ] {
        assert!(reason.contains(words), "{reason}");
    }
    rig.wait("health", "mirror_waiting", |h| {
        h["mirror_waiting"].as_u64() > Some(3)
    });
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(copy(), before);
    check_sums(&mirror);
    // Another folder is filled.
    let next = folder.path().join("next");
    fs::create_dir(&next).unwrap();
    rig.reload(&mirror.display().to_string(), &next.display().to_string());
    within(PATIENCE, "the new mirror", || {
        listed(&next, &next).contains_key("run.json")
    });
    is_whole(&out, &next);
    assert_eq!(copy(), before);
}
