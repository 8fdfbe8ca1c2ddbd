//! Resource limits of the daemon: too little memory, too little disk space, and limits changed by SIGHUP.

use super::harness::{Harness, fixture};
use test_support::scratch;

#[test]
fn low_memory_or_space_pauses_the_job_until_the_limits_are_met() {
    let folder = scratch();
    let out = folder.path().join("out");
    // No machine has this much: no clip is begun.
    let args = ["--once"];
    let mut harness = Harness::start_with(folder.path(), &fixture().dataset, &out, &args, |text| {
        text.replace("memory_min_mib = 1\n", "memory_min_mib = 1000000\n")
            .replace("memory_resume_mib = 2\n", "memory_resume_mib = 1048576\n")
            .replace("disk_reserve_mib = 0\n", "disk_reserve_mib = 1000000\n")
            .replace("disk_resume_mib = 2\n", "disk_resume_mib = 1048576\n")
    });
    let state = harness.wait_state("paused");
    let reason = state["reason"].as_str().unwrap();
    for word in [
        "memory: ",
        "1000000 are needed",
        "work is paused",
        "disk: ",
        "free some space",
    ] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    assert_eq!(
        (&state["workers"], &state["workers_max"]),
        (&0.into(), &1.into())
    );
    for component in ["memory", "disk"] {
        let fault = harness.wait_fault(component);
        assert!(
            fault["action"].as_str().unwrap().contains("paused"),
            "{fault}"
        );
    }
    let health = harness.wait("health", "memory", |h| h["memory_available_mib"].is_u64());
    assert!(health["memory_available_mib"].as_u64().unwrap() < 1_000_000);
    assert!(health["disk_free_mib"].as_u64().unwrap() < 1_000_000);
    // A paused job stops in time; the next start pauses it again.
    assert_eq!(harness.daemon.stop(), Some(75));
    harness.restart(&args);
    harness.wait("fault", "another", |f| f["seq"] == 4);
    // One cause ends, the other stays.
    harness.reload("memory_min_mib = 1000000", "memory_min_mib = 0");
    harness.wait("state", "disk alone", |s| {
        let reason = s["reason"].as_str().unwrap_or("");
        s["state"] == "paused" && reason.contains("disk: ") && !reason.contains("memory: ")
    });
    assert!(
        !harness.daemon.log().contains("clip begun"),
        "{}",
        harness.daemon.log()
    );
    harness.reload("disk_reserve_mib = 1000000", "disk_reserve_mib = 0");
    assert_eq!(harness.daemon.wait(), Some(0));
    for component in ["memory", "disk"] {
        assert_eq!(harness.faults(component).len(), 2, "one for each start");
    }
    harness.assert_matches(fixture());
}
