//! The default backend: it depends on what is installed, never on speed or the number of workers, and a job keeps it.

use crate::accelerator::fixture;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use test_support::{Run, digests, handloom_at, litert, manifest, root};

/// The program as a package installs it: a folder with `bin` and `lib/handloom`, outside the source tree.
struct Installation {
    folder: TempDir,
}

impl Installation {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [bin, lib] = ["bin", "lib/handloom"].map(|part| folder.path().join(part));
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(&lib).unwrap();
        fs::copy(test_support::binary(), bin.join("handloom")).unwrap();
        let installation = Self { folder };
        installation.install("libtensorflowlite_c.so");
        installation
    }

    fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    fn installed(&self, library: &str) -> PathBuf {
        self.path("lib/handloom").join(library)
    }

    fn install(&self, library: &str) {
        let fetched = root().join("models/fetched").join(std::env::consts::ARCH);
        let fetched = fetched.join(library).canonicalize().unwrap();
        symlink(fetched, self.installed(library)).unwrap();
    }

    /// Processes the fixture's clips with the default backend.
    fn process(&self, out: &Path, more: &[&str]) -> Run {
        let (_, dataset, _) = fixture();
        let fixed = [
            "process",
            dataset.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
            "--min-videos-per-gloss",
            "1",
            "--accelerator",
            "auto",
        ];
        let args = fixed.iter().chain(more);
        let cache = self.path("cache");
        handloom_at(
            &self.path("bin/handloom"),
            args,
            &[
                ("XDG_CACHE_HOME", cache.as_ref()),
                ("LD_LIBRARY_PATH", self.path("lib/handloom").as_ref()),
            ],
        )
    }

    /// Processes with 1, 2 and 5 workers. Asserts that every clip ran on `backend` and that the bytes are equal.
    fn gives_equal_bytes(&self, backend: &str) -> PathBuf {
        let outs = ["1", "2", "5"].map(|workers| {
            let out = self.path(&format!("out-{workers}"));
            self.process(&out, &["--workers", workers]).ends(0);
            let lines = manifest(&out);
            assert!(
                lines.iter().all(|l| l["clip"]["backend"] == backend),
                "{lines:?}"
            );
            out
        });
        for out in &outs {
            assert_eq!(digests(out), digests(&outs[0]));
        }
        let [out, ..] = outs;
        out
    }
}

fn accelerator(out: &Path) -> Value {
    let run = fs::read(out.join("run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    run["settings"]["accelerator"].clone()
}

#[test]
fn without_litert_the_cpu_is_the_default() {
    let installation = Installation::new();
    let out = installation.gives_equal_bytes("cpu");
    assert_eq!(digests(&out), digests(&fixture().2));
    assert!(accelerator(&out)["cpu"].is_object());
    // No speed is measured, and nothing is cached.
    let kept = installation.path("cache/handloom/accelerators.json");
    assert!(!kept.exists());
}

#[test]
fn results_of_another_tflite_library_are_not_mixed_in() {
    let installation = Installation::new();
    let out = installation.path("out");
    installation.process(&out, &[]).ends(0);
    let identity = accelerator(&out);
    assert_eq!(identity["cpu"]["architecture"], std::env::consts::ARCH);
    // The job resumes if nothing changes.
    fs::remove_file(out.join("batches/00000.npz")).unwrap();
    installation.process(&out, &[]).ends(0);
    let whole = digests(&out);
    // Another build with equal code: bytes after the end of a library are not loaded.
    let library = installation.installed("libtensorflowlite_c.so");
    let mut bytes = fs::read(&library).unwrap();
    bytes.push(0);
    fs::remove_file(&library).unwrap();
    fs::write(&library, bytes).unwrap();
    let expected = ["accelerator was", "library_sha256", "--fresh"];
    installation
        .process(&out, &[])
        .ends(73)
        .stderr_contains(&expected);
    assert_eq!(digests(&out), whole);
    installation.process(&out, &["--fresh"]).ends(0);
    assert_ne!(accelerator(&out), identity);
}

#[test]
fn with_litert_it_is_the_default_and_a_job_keeps_what_it_began_on() {
    if litert().is_none() {
        return;
    }
    let installation = Installation::new();
    let before = installation.path("before");
    installation.process(&before, &[]).ends(0);
    installation.install("libLiteRt.so");
    let out = installation.gives_equal_bytes("litert:cpu");
    assert!(accelerator(&out)["litert:cpu"].is_object());
    let library = &accelerator(&out)["files"]["libLiteRt.so"];
    assert!(
        library.as_str().is_some_and(|sha256| sha256.len() == 64),
        "{library}"
    );

    // A job that began without LiteRT resumes without it.
    let again = |out: &Path| fs::remove_file(out.join("batches/00000.npz")).unwrap();
    again(&before);
    let run = installation.process(&before, &["--workers", "5"]).ends(0);
    assert_eq!(run.event("backend")["name"], "cpu");
    assert_eq!(digests(&before), digests(&fixture().2));
    // A job that began on LiteRT does not resume without it, and loses no results.
    let whole = digests(&out);
    fs::remove_file(installation.installed("libLiteRt.so")).unwrap();
    let expected = ["began on litert:cpu", "not installed", "--fresh"];
    installation
        .process(&out, &[])
        .ends(69)
        .stderr_contains(&expected);
    assert_eq!(digests(&out), whole);
    installation.process(&out, &["--fresh"]).ends(0);
    assert!(accelerator(&out)["cpu"].is_object());
    assert_eq!(digests(&out), digests(&fixture().2));
}

/// A library that is installed and cannot be used is reported, and the CPU is used instead.
#[test]
fn a_broken_litert_is_reported() {
    let installation = Installation::new();
    fs::write(installation.installed("libLiteRt.so"), "no library").unwrap();
    let out = installation.path("out");
    let run = installation.process(&out, &[]).ends(0);
    let backend = run.event("backend");
    assert_eq!(backend["name"], "cpu");
    let reason = backend["reason"].as_str().unwrap();
    assert!(reason.contains("litert:cpu is installed, but"), "{reason}");
    run.stderr_contains(&["cpu runs instead"]);
    assert_eq!(digests(&out), digests(&fixture().2));
}
