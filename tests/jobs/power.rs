//! Power may fail at any instant. A job is recorded call by call. The power is cut after every write, sync and
//! rename, and in the middle of every write. What the medium then holds is inspected, and the same command must
//! resume from it: nothing is unreadable, nothing promised is lost, and nothing is read twice.
//!
//! All states are inspected. With `HANDLOOM_SWEEP=full` the job resumes from all of them, otherwise from a share.

use super::faults::disk::{Disk, Loss, State};
use super::faults::sweep::{PowerCutTest, Share};
use super::faults::{Op, recorder};
use handloom::video::encode::Codec;
use std::fs;
use std::path::Path;
use std::process::Command;
use test_support::{TestRng, render_clip, scratch};

/// Three clips, two batches.
const CLIPS: [&str; 3] = ["1", "2", "3"];
const SETTINGS: [&str; 10] = [
    "--min-videos-per-gloss",
    "1",
    "--min-frames",
    "1",
    "--sequence-length",
    "8",
    "--workers",
    "1",
    "--batch-size",
    "2",
];
/// The share of each test but the first.
const SHARE: Share = Share {
    reruns: 12,
    second_cuts: 4,
    record_checks: 1,
};

fn make_dataset(dataset: &Path, ids: &[&'static str]) {
    let instances: Vec<(&str, i64)> = ids.iter().map(|id| (*id, 1)).collect();
    test_support::write_metadata(dataset, &test_support::metadata(&[("hello", &instances)]));
    for id in ids {
        let path = dataset.join(format!("videos/{id}.mp4"));
        if !path.exists() {
            render_clip(&path, id.parse().unwrap(), 10, (320, 240), Codec::H264);
        }
    }
}

fn with(more: &[&'static str]) -> Vec<&'static str> {
    [&SETTINGS[..], more].concat()
}

#[test]
fn a_job_outlives_a_power_cut() {
    let sweep_test = PowerCutTest::new("first job", &SETTINGS, |d| make_dataset(d, &CLIPS));
    sweep_test.sweep(Share {
        reruns: 30,
        second_cuts: 14,
        record_checks: 6,
    });
}

#[test]
fn a_job_that_keeps_frames_outlives_a_power_cut() {
    let args = with(&["--keep-frames"]);
    let sweep_test = PowerCutTest::new("kept frames", &args, |d| make_dataset(d, &CLIPS));
    sweep_test.sweep(SHARE);
}

#[test]
fn a_rescan_outlives_a_power_cut() {
    let args = with(&["--rescan"]);
    let mut sweep_test = PowerCutTest::new("rescan", &args, |d| {
        make_dataset(d, &["1", "2", "3", "5", "6"]);
    })
    .after(&SETTINGS);
    // One clip is added in front, three are removed at the end: the others move, and a batch file disappears.
    make_dataset(&sweep_test.dataset, &["4", "1", "2"]);
    sweep_test.kept = vec!["1", "2"];
    sweep_test.sweep(SHARE);
}

#[test]
fn a_second_try_outlives_a_power_cut() {
    let mut good = Vec::new();
    let broken = |dataset: &Path| dataset.join("videos/1.mp4");
    let mut sweep_test = PowerCutTest::new("retry", &with(&["--retry-failed"]), |dataset| {
        make_dataset(dataset, &CLIPS);
        good = fs::read(broken(dataset)).unwrap();
        fs::write(broken(dataset), vec![0; good.len()]).unwrap();
    })
    .after(&SETTINGS);
    fs::write(broken(&sweep_test.dataset), good).unwrap();
    sweep_test.kept = CLIPS[1..].to_vec();
    sweep_test.sweep(SHARE);
}

#[test]
fn a_job_in_place_of_another_outlives_a_power_cut() {
    let other = [
        &SETTINGS[..8],
        &["--frame-stride", "1", "--batch-size", "1"],
    ]
    .concat();
    let args = with(&["--fresh"]);
    let mut sweep_test =
        PowerCutTest::new("fresh", &args, |d| make_dataset(d, &CLIPS)).after(&other);
    sweep_test.again = SETTINGS.to_vec();
    sweep_test.earlier = Some(other);
    sweep_test.sweep(SHARE);
}

#[test]
fn the_simulated_disk_keeps_what_was_synced() {
    let open = |fd, path: &str| Op::Open {
        fd,
        path: path.to_owned(),
        creates: true,
        empties: false,
    };
    let write = |bytes: &[u8]| Op::Write {
        fd: 3,
        at: 0,
        bytes: bytes.to_vec(),
    };
    let rename = Op::Rename {
        from: "new".to_owned(),
        to: "file".to_owned(),
    };
    let root = Op::Open {
        fd: 4,
        path: String::new(),
        creates: false,
        empties: false,
    };
    let (sync, sync_root) = (Op::Sync { fd: 3 }, Op::Sync { fd: 4 });
    let made = [open(3, "new"), write(b"abc")];
    let renamed = [&made[..], std::slice::from_ref(&rename)].concat();
    let safe = [&made[..], &[sync.clone(), rename, root, sync_root]].concat();
    let check = |ops: &[Op], all: &str, data: &str, names: &str, nothing: &str| {
        let mut disk = Disk::new(&State::default());
        for op in ops {
            disk.apply(op);
        }
        let losses = [Loss::All, Loss::Data, Loss::Names, Loss::Nothing];
        for (loss, expected) in losses.into_iter().zip([all, data, names, nothing]) {
            let state = disk.after(loss, &mut TestRng::new(1));
            let files = state.0.iter().map(|(name, content)| {
                let content = content.as_ref().unwrap().to_vec();
                format!("{name}={}", String::from_utf8(content).unwrap())
            });
            assert_eq!(files.collect::<String>(), expected, "{loss:?}");
        }
    };
    check(&made, "", "new=", "", "new=abc");
    check(&renamed, "", "file=", "", "file=abc");
    check(&safe, "file=abc", "file=abc", "file=abc", "file=abc");
    let again = [&safe[..], &[write(b"de")]].concat();
    check(&again, "file=abc", "file=abc", "file=dec", "file=dec");
    check(
        &[&again[..], &[sync]].concat(),
        "file=dec",
        "file=dec",
        "file=dec",
        "file=dec",
    );
}

#[test]
fn the_recorder_refuses_unsupported_calls() {
    let folder = scratch();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    for (command, is_known) in [
        (&["mkdir", "folder"][..], true),
        (&["truncate", "--size", "5", "a"], true),
        (&["ln", "a", "b"], false),
        (&["ln", "--symbolic", "a", "b"], false),
        (&["fallocate", "--length", "9", "a"], false),
        (&["cp", "a", "b"], false),
        (&["rm", "a"], true),
    ] {
        let output = Command::new(command[0])
            .args(&command[1..])
            .current_dir(&root)
            .env("LD_PRELOAD", recorder())
            .env("HANDLOOM_RECORD_ROOT", fs::canonicalize(&root).unwrap())
            .env("HANDLOOM_RECORD_LOG", folder.path().join("log"))
            .output()
            .unwrap();
        let stderr_text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.success(),
            is_known,
            "{command:?}: {stderr_text}"
        );
        assert_eq!(
            !stderr_text.contains("no word for"),
            is_known,
            "{command:?}: {stderr_text}"
        );
    }
}
