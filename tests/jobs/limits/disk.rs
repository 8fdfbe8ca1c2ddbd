//! The daemon on a disk that fills up.

use super::rig::{Disk, PAGE, Rig, check_ledger, fixture, small, within};
use std::fs;
use std::thread::{scope, sleep};
use std::time::Duration;
use test_support::{Dice, digests, fates, scratch};

const MIB: u64 = 1 << 20;

#[test]
fn the_reserve_pauses_the_job_before_a_write_fails() {
    let Some(disk) = Disk::mount(64 * MIB) else {
        return;
    };
    let folder = scratch();
    let out = disk.path().join("out");
    let args = [
        "--once",
        "--set",
        "limits.disk_reserve_mib=20",
        "--set",
        "limits.disk_resume_mib=30",
    ];
    let mut rig = Rig::start(folder.path(), &fixture().dataset, &out, &args);
    rig.wait_log("clip recorded", 1);
    disk.leave(19 * MIB);
    let state = rig.wait_state("paused");
    let reason = state["reason"].as_str().unwrap();
    assert!(
        reason.contains("disk: ") && reason.contains("free some space"),
        "{reason}"
    );
    assert_eq!(state["workers"], 0);
    let fault = rig.wait_fault("disk");
    assert!(
        fault["reason"]
            .as_str()
            .unwrap()
            .contains("20 are kept in reserve"),
        "{fault}"
    );
    // A clip in hand is finished; then nothing moves. Between the marks that stays so.
    let count = |word| rig.daemon.log().matches(word).count();
    disk.leave(25 * MIB);
    within(Duration::from_mins(2), "the clip in hand", || {
        count("clip begun") == count("clip recorded")
    });
    let recorded = count("clip recorded");
    sleep(Duration::from_secs(1));
    assert_eq!(count("clip begun"), recorded);
    assert_eq!(rig.state(), "paused");
    assert!(recorded < 16, "it was too fast for this test");
    disk.clear();
    rig.wait_state("processing");
    assert_eq!(rig.daemon.wait(), Some(0));
    assert!(
        !rig.daemon.log().contains("os error 28"),
        "{}",
        rig.daemon.log()
    );
    assert_eq!(rig.faults("disk").len(), 1);
    rig.is_as(fixture());
}

/// One daemon through random times of want.
fn suffer(seed: u64) {
    let Some(disk) = Disk::mount(64 * MIB) else {
        return;
    };
    let mut dice = Dice::new(seed);
    let folder = scratch();
    let out = disk.path().join("out");
    let mut rig = Rig::start(folder.path(), &small().dataset, &out, &["--once"]);
    let full = "fault component=\"disk\"";
    let room = "there is room again";
    let mut hits = 0;
    while rig.daemon.is_running() {
        sleep(Duration::from_millis(dice.below(700) as u64));
        // Room for a part of what is written next.
        disk.fill(dice.below(70) as u64 * PAGE);
        let before = rig.daemon.log().matches(full).count();
        within(Duration::from_mins(2), "an end or a fault", || {
            !rig.daemon.is_running() || rig.daemon.log().matches(full).count() > before
        });
        let is_hit = rig.daemon.is_running();
        hits += usize::from(is_hit);
        let action = dice.below(6);
        let rooms = rig.daemon.log().matches(room).count();
        if is_hit && action == 0 {
            assert_eq!(rig.daemon.stop(), Some(75), "seed {seed}");
        } else if is_hit && action == 1 {
            rig.daemon.kill();
        } else {
            sleep(Duration::from_millis(dice.below(300) as u64));
        }
        disk.clear();
        if is_hit && !rig.daemon.is_running() {
            rig.restart(&["--once"]);
        } else if is_hit {
            rig.wait_log(room, rooms + 1);
        }
    }
    assert_eq!(
        rig.daemon.wait(),
        Some(0),
        "seed {seed}: {}",
        rig.daemon.log()
    );
    assert!(hits > 0, "seed {seed} was too fast");
    rig.is_as(small());
}

/// All seeds with `HANDLOOM_SWEEP=full`, otherwise a few.
#[test]
fn a_write_that_fails_is_tried_again() {
    let is_full = std::env::var("HANDLOOM_SWEEP").is_ok_and(|v| v == "full");
    for seeds in (0..if is_full { 40 } else { 4 })
        .collect::<Vec<u64>>()
        .chunks(4)
    {
        scope(|scope| {
            for seed in seeds {
                scope.spawn(|| suffer(*seed));
            }
        });
    }
}

#[test]
fn a_command_on_a_full_disk_is_answered_when_there_is_room() {
    let Some(disk) = Disk::mount(64 * MIB) else {
        return;
    };
    let folder = scratch();
    let out = disk.path().join("out");
    let mut rig = Rig::start(folder.path(), &fixture().dataset, &out, &["--once"]);
    rig.wait_log("clip recorded", 1);
    rig.command("pause", "first");
    rig.wait("state", "a pause", |s| {
        s["state"] == "paused" && s["reason"].as_str().unwrap().contains("by command")
    });
    // Room for nothing, for the command alone, for the command and its answer.
    for pages in [0, 2, 4, 8] {
        let id = format!("pages-{pages}");
        disk.fill(pages * PAGE);
        rig.command("pause", &id);
        sleep(Duration::from_millis(300));
        disk.clear();
        within(Duration::from_mins(2), &id, || {
            rig.replies(&id).last().is_some_and(|r| r == "succeeded")
        });
        assert_eq!(rig.replies(&id), ["accepted", "succeeded"], "{id}");
    }
    // A job that cannot begin its rescan for want of room begins it later.
    disk.fill(0);
    rig.command("rescan", "again");
    sleep(Duration::from_millis(300));
    disk.clear();
    within(Duration::from_mins(2), "the rescan", || {
        rig.replies("again") == ["accepted", "succeeded"]
    });
    assert_eq!(rig.state(), "paused");
    rig.command("resume", "last");
    assert_eq!(rig.daemon.wait(), Some(0), "{}", rig.daemon.log());
    assert_eq!(rig.replies("last"), ["accepted", "succeeded"]);
    rig.is_as(fixture());
}

#[test]
fn the_last_files_wait_for_room() {
    let Some(disk) = Disk::mount(64 * MIB) else {
        return;
    };
    let folder = scratch();
    let out = disk.path().join("out");
    let mut rig = Rig::start(folder.path(), &small().dataset, &out, &["--once"]);
    assert_eq!(rig.daemon.wait(), Some(0), "{}", rig.daemon.log());
    rig.is_as(small());
    let full = "fault component=\"disk\"";
    let waits = "no room to begin";
    // Nothing, what an open ledger takes, and then room for more and more of what is written at the end.
    for pages in [0, 8, 9, 12, 24] {
        fs::remove_file(out.join("wlasl_landmarks.npz")).unwrap();
        disk.fill(pages * PAGE);
        let count = |rig: &Rig| [full, waits].map(|w| rig.daemon.log().matches(w).count());
        let before = count(&rig);
        rig.restart(&["--once"]);
        within(Duration::from_mins(2), "an end or a fault", || {
            !rig.daemon.is_running() || count(&rig) != before
        });
        disk.clear();
        assert_eq!(rig.daemon.wait(), Some(0), "{}", rig.daemon.log());
        assert_eq!(digests(&out), small().digests);
        assert_eq!(fates(&out), small().fates);
        check_ledger(&out);
    }
    let log = rig.daemon.log();
    assert!(log.contains(waits), "{log}");
    let mut reasons = log.lines().filter(|l| l.contains(full));
    assert!(
        reasons.clone().any(|l| l.contains("wlasl_landmarks.npz")),
        "{log}"
    );
    assert!(
        reasons.any(|l| l.contains("run.json") || l.contains("manifest.jsonl")),
        "{log}"
    );
    assert_eq!(rig.faults("disk").len(), log.matches(full).count(), "{log}");
}
