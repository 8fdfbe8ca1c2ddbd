//! Plugins that crash, hang or leak, each in its own process.

use super::{BUNDLE, open};
use handloom::hand::Model;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use test_support::plugin::spec;
use test_support::print_note;

/// Environment variable with the child's job; see `child`.
const CHILD: &str = "HANDLOOM_TEST_CHILD";

/// A child process that is killed when dropped.
struct Guard {
    child: Child,
    /// Open while the child may write.
    out: Option<BufReader<ChildStdout>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Starts this test binary again, with `job` for its test `child`. Returns when the job is about to begin.
fn start(job: &str) -> Guard {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "delegate::processes::child", "--nocapture"])
        .env(CHILD, job)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut guard = Guard { child, out: None };
    let mut out = BufReader::new(guard.child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("begins") {
        line.clear();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "{job}: it ended");
    }
    guard.out = Some(out);
    guard
}

/// Not a test: does the job that `start` gives to a child process.
#[test]
#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn child() {
    let Ok(job) = std::env::var(CHILD) else {
        return;
    };
    println!("begins");
    if job == "memory" {
        open_a_hundred_times();
    } else {
        let mut model = open(&BUNDLE.hand, &spec(&["mode=right", &job])).unwrap();
        model.invoke().unwrap();
    }
}

#[test]
fn a_crash_stays_in_the_process_that_tries_the_plugin() {
    for call in ["create", "prepare", "invoke"] {
        let mut guard = start(&format!("abort={call}"));
        let status = guard.child.wait().unwrap();
        assert_eq!(status.signal(), Some(libc::SIGABRT), "{call}: {status}");
    }
}

#[test]
fn a_hanging_plugin_can_be_ended_with_its_process() {
    let mut guards = ["create", "prepare", "invoke"].map(|call| start(&format!("hang={call}")));
    std::thread::sleep(Duration::from_secs(2));
    for guard in &mut guards {
        assert_eq!(guard.child.try_wait().unwrap(), None);
        guard.child.kill().unwrap();
        assert_eq!(guard.child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}

/// Resident memory in MiB.
fn resident_mib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

fn open_a_hundred_times() {
    // An interpreter with its packed weights takes at least 8 MiB: 200 leaked ones take 1600 MiB. The allocator
    // itself may account for 30 MiB.
    let once = |mode: &str| {
        for file in [&BUNDLE.palm, &BUNDLE.hand] {
            let mut model = open(file, &spec(&[mode])).unwrap();
            model.invoke().unwrap();
            open(file, &spec(&["mode=null"])).unwrap_err();
        }
    };
    for _ in 0..5 {
        once("mode=right");
        once("mode=part");
    }
    let before = resident_mib();
    for _ in 0..50 {
        once("mode=right");
        once("mode=part");
    }
    let after = resident_mib();
    print_note(&format!(
        "memory: {before} MiB, {after} after 200 interpreters"
    ));
    assert!(after <= before + 64, "{before} MiB before, {after} after");
}

#[test]
fn opening_and_dropping_leaves_nothing_behind() {
    let mut guard = start("memory");
    let mut words = String::new();
    let mut err = guard.child.stderr.take().unwrap();
    err.read_to_string(&mut words).unwrap();
    let status = guard.child.wait().unwrap();
    let memory_line = words.lines().find(|line| line.starts_with("memory:"));
    assert!(status.success(), "{status}: {words}");
    print_note(memory_line.unwrap_or_default());
}
