//! The daemon on a disk that fills up.

use super::harness::{Disk, Harness, PAGE, check_ledger, fixture, small, within};
use std::fs;
use std::thread::{scope, sleep};
use std::time::Duration;
use test_support::{TestRng, digests, manifest_states, scratch};

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
    let mut harness = Harness::start(folder.path(), &fixture().dataset, &out, &args);
    harness.wait_log("clip recorded", 1);
    disk.set_free(19 * MIB);
    let state = harness.wait_state("paused");
    let reason = state["reason"].as_str().unwrap();
    assert!(
        reason.contains("disk: ") && reason.contains("free some space"),
        "{reason}"
    );
    assert_eq!(state["workers"], 0);
    let fault = harness.wait_fault("disk");
    assert!(
        fault["reason"]
            .as_str()
            .unwrap()
            .contains("20 are kept in reserve"),
        "{fault}"
    );
    // The current clip is finished; then no clip begins. Between the two thresholds the job stays paused.
    let count = |word| harness.daemon.log().matches(word).count();
    disk.set_free(25 * MIB);
    within(Duration::from_mins(2), "the current clip", || {
        count("clip begun") == count("clip recorded")
    });
    let recorded = count("clip recorded");
    sleep(Duration::from_secs(1));
    assert_eq!(count("clip begun"), recorded);
    assert_eq!(harness.state(), "paused");
    assert!(recorded < 16, "the job was too fast for this test");
    disk.clear();
    harness.wait_state("processing");
    assert_eq!(harness.daemon.wait(), Some(0));
    assert!(
        !harness.daemon.log().contains("os error 28"),
        "{}",
        harness.daemon.log()
    );
    assert_eq!(harness.faults("disk").len(), 1);
    harness.assert_matches(fixture());
}

/// Runs one daemon while its disk fills up at random.
fn run_on_filling_disk(seed: u64) {
    let Some(disk) = Disk::mount(64 * MIB) else {
        return;
    };
    let mut rng = TestRng::new(seed);
    let folder = scratch();
    let out = disk.path().join("out");
    let mut harness = Harness::start(folder.path(), &small().dataset, &out, &["--once"]);
    let full = "fault component=\"disk\"";
    let room = "there is room again";
    let mut hits = 0;
    while harness.daemon.is_running() {
        sleep(Duration::from_millis(rng.below(700) as u64));
        // Both are counted before the disk is full: the daemon may be faster than this thread.
        let count = |word| harness.daemon.log().matches(word).count();
        let (before, pauses) = (count(full), count(room));
        // Leaves space for a part of the next writes.
        disk.fill(rng.below(70) as u64 * PAGE);
        within(Duration::from_mins(2), "an end or a fault", || {
            !harness.daemon.is_running() || harness.daemon.log().matches(full).count() > before
        });
        let is_hit = harness.daemon.is_running();
        hits += usize::from(is_hit);
        let action = rng.below(6);
        if is_hit && action == 0 {
            // The rest of the job may need no more than the space that is left.
            let code = harness.daemon.stop();
            assert!(matches!(code, Some(0 | 75)), "seed {seed}: {code:?}");
        } else if is_hit && action == 1 {
            harness.daemon.kill();
        } else {
            sleep(Duration::from_millis(rng.below(300) as u64));
        }
        disk.clear();
        if is_hit && !harness.daemon.is_running() {
            harness.restart(&["--once"]);
        } else if is_hit {
            harness.wait_log(room, pauses + 1);
        }
    }
    assert_eq!(
        harness.daemon.wait(),
        Some(0),
        "seed {seed}: {}",
        harness.daemon.log()
    );
    assert!(hits > 0, "seed {seed}: the job was too fast");
    harness.assert_matches(small());
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
                scope.spawn(|| run_on_filling_disk(*seed));
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
    let mut harness = Harness::start(folder.path(), &fixture().dataset, &out, &["--once"]);
    harness.wait_log("clip recorded", 1);
    harness.command("pause", "first");
    harness.wait("state", "a pause", |s| {
        s["state"] == "paused" && s["reason"].as_str().unwrap().contains("by command")
    });
    // Space for nothing, for the command alone, for the command and its reply.
    for pages in [0, 2, 4, 8] {
        let id = format!("pages-{pages}");
        disk.fill(pages * PAGE);
        harness.command("pause", &id);
        sleep(Duration::from_millis(300));
        disk.clear();
        within(Duration::from_mins(2), &id, || {
            harness
                .replies(&id)
                .last()
                .is_some_and(|r| r == "succeeded")
        });
        assert_eq!(harness.replies(&id), ["accepted", "succeeded"], "{id}");
    }
    // A rescan that cannot begin on a full disk begins later.
    disk.fill(0);
    harness.command("rescan", "again");
    sleep(Duration::from_millis(300));
    disk.clear();
    within(Duration::from_mins(2), "the rescan", || {
        harness.replies("again") == ["accepted", "succeeded"]
    });
    assert_eq!(harness.state(), "paused");
    harness.command("resume", "last");
    assert_eq!(harness.daemon.wait(), Some(0), "{}", harness.daemon.log());
    assert_eq!(harness.replies("last"), ["accepted", "succeeded"]);
    harness.assert_matches(fixture());
}

#[test]
fn final_files_wait_for_space() {
    let Some(disk) = Disk::mount(64 * MIB) else {
        return;
    };
    let folder = scratch();
    let out = disk.path().join("out");
    let mut harness = Harness::start(folder.path(), &small().dataset, &out, &["--once"]);
    assert_eq!(harness.daemon.wait(), Some(0), "{}", harness.daemon.log());
    harness.assert_matches(small());
    let full = "fault component=\"disk\"";
    let waits = "no room to begin";
    // No space, the space of an open ledger, then more and more of the space of the final files.
    for pages in [0, 8, 9, 12, 24] {
        fs::remove_file(out.join("wlasl_landmarks.npz")).unwrap();
        disk.fill(pages * PAGE);
        let count =
            |harness: &Harness| [full, waits].map(|w| harness.daemon.log().matches(w).count());
        let before = count(&harness);
        harness.restart(&["--once"]);
        within(Duration::from_mins(2), "an end or a fault", || {
            !harness.daemon.is_running() || count(&harness) != before
        });
        disk.clear();
        assert_eq!(harness.daemon.wait(), Some(0), "{}", harness.daemon.log());
        assert_eq!(digests(&out), small().digests);
        assert_eq!(manifest_states(&out), small().manifest_states);
        check_ledger(&out);
    }
    let log = harness.daemon.log();
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
    assert_eq!(
        harness.faults("disk").len(),
        log.matches(full).count(),
        "{log}"
    );
}
