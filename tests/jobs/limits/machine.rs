//! The governor in the daemon: too little memory, too little room by its marks, other marks on SIGHUP.

use super::rig::{Rig, fixture};
use test_support::scratch;

#[test]
fn want_of_memory_and_of_room_holds_the_job_until_the_marks_are_met() {
    let folder = scratch();
    let out = folder.path().join("out");
    // More than any machine has: nothing is begun.
    let args = ["--once"];
    let mut rig = Rig::start_with(folder.path(), &fixture().dataset, &out, &args, |text| {
        text.replace("memory_min_mib = 1\n", "memory_min_mib = 1000000\n")
            .replace("memory_resume_mib = 2\n", "memory_resume_mib = 1048576\n")
            .replace("disk_reserve_mib = 0\n", "disk_reserve_mib = 1000000\n")
            .replace("disk_resume_mib = 2\n", "disk_resume_mib = 1048576\n")
    });
    let state = rig.wait_state("paused");
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
        let fault = rig.wait_fault(component);
        assert!(
            fault["action"].as_str().unwrap().contains("paused"),
            "{fault}"
        );
    }
    let health = rig.wait("health", "memory", |h| h["memory_available_mib"].is_u64());
    assert!(health["memory_available_mib"].as_u64().unwrap() < 1_000_000);
    assert!(health["disk_free_mib"].as_u64().unwrap() < 1_000_000);
    // A job that is held ends in time; another start holds it again.
    assert_eq!(rig.daemon.stop(), Some(75));
    rig.restart(&args);
    rig.wait("fault", "another", |f| f["seq"] == 4);
    // One cause goes, the other stays.
    rig.reload("memory_min_mib = 1000000", "memory_min_mib = 0");
    rig.wait("state", "disk alone", |s| {
        let reason = s["reason"].as_str().unwrap_or("");
        s["state"] == "paused" && reason.contains("disk: ") && !reason.contains("memory: ")
    });
    assert!(
        !rig.daemon.log().contains("clip begun"),
        "{}",
        rig.daemon.log()
    );
    rig.reload("disk_reserve_mib = 1000000", "disk_reserve_mib = 0");
    assert_eq!(rig.daemon.wait(), Some(0));
    for component in ["memory", "disk"] {
        assert_eq!(rig.faults(component).len(), 2, "one for each start");
    }
    rig.is_as(fixture());
}
