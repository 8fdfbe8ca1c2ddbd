//! README's examples, run as they stand.

#![allow(clippy::unwrap_used, reason = "a test stops where it cannot go on")]

use assert_cmd::cargo::cargo_bin;
use std::process::Command;

#[test]
fn the_examples_run_as_they_stand() {
    let readme = include_str!("../README.md");
    let folder = tempfile::tempdir().unwrap();
    let shell = |script: &str| {
        let binary = cargo_bin("handloom");
        let path = format!(
            "{}:{}",
            binary.parent().unwrap().display(),
            std::env::var("PATH").unwrap()
        );
        let done = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .env("PATH", path)
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{script}\n{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    };
    // As `make demo` does.
    shell("handloom demo --out demo-out");
    let examples: Vec<&str> = readme
        .split("<!-- run -->\n```sh\n")
        .skip(1)
        .filter_map(|t| t.split("```").next())
        .collect();
    assert_eq!(examples.len(), 2, "README has lost its examples");
    for example in examples {
        shell(example);
    }
    let bytes =
        |name: &str| std::fs::read(folder.path().join(name).join("wlasl_landmarks.npz")).unwrap();
    assert_eq!(bytes("out"), bytes("zipped"));
    assert_ne!(bytes("out"), bytes("tracked"));
}
