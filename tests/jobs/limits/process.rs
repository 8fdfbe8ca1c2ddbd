//! `handloom process` on a disk that is full at every instant that there is.

use super::rig::{Disk, PAGE, SETTINGS, check_ledger, read_once, small};
use std::ffi::OsStr;
use test_support::{digests, fates, handloom_with, process};

#[test]
fn a_full_disk_ends_it_and_the_same_command_goes_on() {
    let Some(disk) = Disk::mount(16 << 20) else {
        return;
    };
    let fixture = small();
    let out = disk.path().join("out");
    disk.fill(0);
    // First no room at all, then a little more each time, so that every kind of write is the one that fails.
    let mut log = String::new();
    let mut failed = Vec::new();
    for pages in 1.. {
        assert!(pages < 200, "it never comes to its end:\n{log}");
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
        let run = run.ends(74).says(&["df -h"]);
        let error = run.stderr.lines().rfind(|l| l.contains("df -h")).unwrap();
        failed.push(error.to_owned());
        disk.ease(8 * PAGE);
    }
    assert_eq!(digests(&out), fixture.digests);
    assert_eq!(fates(&out), fixture.fates);
    read_once(&log);
    check_ledger(&out);
    assert!(!log.contains("ZipWriter"), "{log}");
    for kind in ["ledger.sqlite", "batches/0", "wlasl_landmarks.npz"] {
        assert!(
            failed.iter().any(|e| e.contains(kind)),
            "{kind}: {failed:#?}"
        );
    }
    // Nothing half-written is left, and nothing is left to do.
    disk.clear();
    process(&fixture.dataset, &out, &SETTINGS).ends(0);
}
