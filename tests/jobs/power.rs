//! Power may go at any instant. A job is recorded call by call; the power is cut after every write, sync and rename, and
//! in the middle of every write; what the medium then holds is looked into, and the same command must go on from there:
//! nothing unreadable, nothing lost that was promised, nothing read twice.
//!
//! All states are looked into. With `HANDLOOM_SWEEP=full` the program goes on from all of them, otherwise from a share.

use super::faults::disk::{Disk, Loss, State};
use super::faults::scene::{Scene, Share};
use super::faults::{Op, recorder};
use handloom::video::encode::Codec;
use std::fs;
use std::path::Path;
use std::process::Command;
use test_support::{Dice, render_clip, scratch};

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
/// Of the scenes after the first.
const SHARE: Share = Share {
    reruns: 12,
    second_cuts: 4,
    proofs: 1,
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
    let scene = Scene::new("first job", &SETTINGS, |d| make_dataset(d, &CLIPS));
    scene.sweep(Share {
        reruns: 30,
        second_cuts: 14,
        proofs: 6,
    });
}

#[test]
fn a_job_that_keeps_frames_outlives_a_power_cut() {
    let args = with(&["--keep-frames"]);
    let scene = Scene::new("kept frames", &args, |d| make_dataset(d, &CLIPS));
    scene.sweep(SHARE);
}

#[test]
fn a_rescan_outlives_a_power_cut() {
    let args = with(&["--rescan"]);
    let mut scene = Scene::new("rescan", &args, |d| {
        make_dataset(d, &["1", "2", "3", "5", "6"]);
    })
    .after(&SETTINGS);
    // One more in front, three fewer at the end: all that stays moves, and a batch file goes.
    make_dataset(&scene.dataset, &["4", "1", "2"]);
    scene.kept = vec!["1", "2"];
    scene.sweep(SHARE);
}

#[test]
fn a_second_try_outlives_a_power_cut() {
    let mut good = Vec::new();
    let broken = |dataset: &Path| dataset.join("videos/1.mp4");
    let mut scene = Scene::new("retry", &with(&["--retry-failed"]), |dataset| {
        make_dataset(dataset, &CLIPS);
        good = fs::read(broken(dataset)).unwrap();
        fs::write(broken(dataset), vec![0; good.len()]).unwrap();
    })
    .after(&SETTINGS);
    fs::write(broken(&scene.dataset), good).unwrap();
    scene.kept = CLIPS[1..].to_vec();
    scene.sweep(SHARE);
}

#[test]
fn a_job_in_place_of_another_outlives_a_power_cut() {
    let other = [
        &SETTINGS[..8],
        &["--frame-stride", "1", "--batch-size", "1"],
    ]
    .concat();
    let args = with(&["--fresh"]);
    let mut scene = Scene::new("fresh", &args, |d| make_dataset(d, &CLIPS)).after(&other);
    scene.again = SETTINGS.to_vec();
    scene.earlier = Some(other);
    scene.sweep(SHARE);
}

#[test]
fn the_disk_on_paper_keeps_what_was_synced() {
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
            let state = disk.after(loss, &mut Dice::new(1));
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
fn the_recorder_refuses_what_it_has_no_word_for() {
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
        let says = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), is_known, "{command:?}: {says}");
        assert_eq!(
            !says.contains("no word for"),
            is_known,
            "{command:?}: {says}"
        );
    }
}
