//! `handloom process` on a disk that is full at every possible moment.

use super::harness::{Disk, PAGE, SETTINGS, assert_no_clip_read_twice, check_ledger, small};
use std::ffi::OsStr;
use test_support::{digests, handloom_with, manifest_states, process};

#[test]
fn a_full_disk_ends_the_job_and_the_same_command_resumes() {
    let Some(disk) = Disk::mount(16 << 20) else {
        return;
    };
    let fixture = small();
    let out = disk.path().join("out");
    disk.fill(0);
    // No space at first, then a little more each time, so that every kind of write fails.
    let mut log = String::new();
    let mut failed = Vec::new();
    for pages in 1.. {
        assert!(pages < 200, "the job never ends:\n{log}");
        let args: [&OsStr; 4] = [
            "process".as_ref(),
            fixture.dataset.as_ref(),
            "--out".as_ref(),
            out.as_ref(),
        ];
        let more = SETTINGS.map(OsStr::new);
        let run = handloom_with(
            args.iter().chain(&more),
            &[("HANDLOOM_LOG", "debug".as_ref())],
        );
        log.push_str(&run.stderr);
        if run.code == Some(0) {
            break;
        }
        let run = run.ends(74).stderr_contains(&["df -h"]);
        let error = run.stderr.lines().rfind(|l| l.contains("df -h")).unwrap();
        failed.push(error.to_owned());
        disk.release(8 * PAGE);
    }
    assert_eq!(digests(&out), fixture.digests);
    assert_eq!(manifest_states(&out), fixture.manifest_states);
    assert_no_clip_read_twice(&log);
    check_ledger(&out);
    assert!(!log.contains("ZipWriter"), "{log}");
    for kind in ["ledger.sqlite", "batches/0", "wlasl_landmarks.npz"] {
        assert!(
            failed.iter().any(|e| e.contains(kind)),
            "{kind}: {failed:#?}"
        );
    }
    // No partial file is left, and the job has nothing left to do.
    disk.clear();
    process(&fixture.dataset, &out, &SETTINGS).ends(0);
}
