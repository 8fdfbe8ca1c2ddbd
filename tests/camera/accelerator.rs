//! A camera on an accelerator: our own TFLite delegate plugin (tests/plugin) replaces the hardware.

use super::fixture::{Part, encode_parts};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;
use tempfile::TempDir;
use test_support::{Run, digests, handloom_with, manifest, plugin, rows, scratch};

/// A clip of three signs, and the CPU's takes of it.
fn record_takes() -> &'static (TempDir, PathBuf, PathBuf) {
    static MADE: OnceLock<(TempDir, PathBuf, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let (clip, out) = (folder.path().join("film.mp4"), folder.path().join("cpu"));
        let sign = |seed| [Part::Sign(seed, 30), Part::Pause(15)];
        encode_parts(&clip, &[sign(0), sign(1), sign(2)].concat(), 25);
        run(&clip, &out, folder.path(), "cpu", &[], &[]).ends(0);
        (folder, clip, out)
    })
}

/// Records takes of `clip` with the plugin under `options`; `cache` keeps benchmark results.
fn run(
    clip: &Path,
    out: &Path,
    cache: &Path,
    preference: &str,
    options: &[&str],
    more: &[&str],
) -> Run {
    let device = format!("file:{}", clip.display());
    let fixed = [
        "camera",
        "--at-once",
        "--progress",
        "json",
        "--gloss",
        "book",
    ];
    let mut args: Vec<String> = fixed.map(str::to_owned).into();
    args.extend(["--device", &device, "--accelerator", preference].map(str::to_owned));
    args.extend(["--out".to_owned(), out.display().to_string()]);
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    if !options.is_empty() {
        args.extend(plugin::flags(&plugin::spec(options)));
    }
    handloom_with(args, &[("XDG_CACHE_HOME", OsStr::new(cache))])
}

/// A machine with the test plugin: an output folder and a cache of benchmark results.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(scratch())
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("takes")
    }

    fn record_takes(&self, preference: &str, options: &[&str]) -> Run {
        run(
            &record_takes().1,
            &self.out(),
            self.0.path(),
            preference,
            options,
            &[],
        )
    }

    /// The same as `record_takes`, into an empty folder.
    fn record_into_empty_folder(&self, preference: &str, options: &[&str]) -> Run {
        if self.out().exists() {
            fs::remove_dir_all(self.out()).unwrap();
        }
        self.record_takes(preference, options)
    }

    /// The backend of each take.
    fn backends(&self) -> Vec<String> {
        let lines = manifest(&self.out());
        let backends = lines.iter().map(|l| l["clip"]["backend"].as_str().unwrap());
        backends.map(str::to_owned).collect()
    }

    fn run_json(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("run.json")).unwrap()).unwrap()
    }
}

#[test]
fn takes_equal_the_cpus_bytes_on_a_backend_that_agrees() {
    let machine = Machine::new();
    let run = machine
        .record_takes("require:custom", &["mode=right"])
        .ends(0);
    assert_eq!(run.event("backend")["name"], "custom");
    assert_eq!(machine.backends(), ["custom"; 3]);
    assert_eq!(digests(&machine.out()), digests(&record_takes().2));
    let run_json = machine.run_json();
    assert_eq!(run_json["backend"]["wish"], "require:custom");
    assert!(
        run_json["settings"]["accelerator"]["custom"].is_object(),
        "{run_json}"
    );
    // Another backend's takes do not go into the same folder.
    machine
        .record_takes("cpu", &[])
        .ends(73)
        .stderr_contains(&["accelerator was", "now {\"cpu\":"]);
}

#[test]
fn a_backend_that_disagrees_is_refused_or_skipped_with_the_reason() {
    let machine = Machine::new();
    let bad = ["mode=wrong", "off=0.3"];
    machine
        .record_takes("require:custom", &bad)
        .ends(69)
        .stderr_contains(&["from the CPU's", "prefer:"]);
    assert!(!machine.out().exists());
    let run = machine.record_takes("prefer:custom", &bad).ends(0);
    let backend = run.event("backend");
    assert_eq!(
        (&backend["name"], &backend["is_second_best"]),
        (&"cpu".into(), &true.into())
    );
    assert_eq!(digests(&machine.out()), digests(&record_takes().2));
    machine
        .record_takes("require:custom", &[])
        .ends(64)
        .stderr_contains(&["--delegate-library"]);
    machine
        .record_takes("require:corral", &[])
        .ends(64)
        .stderr_contains(&["custom", "require:NAME"]);
}

/// When a backend is lost, the CPU continues with the same frame, or the session ends if the backend is required.
#[test]
fn a_backend_lost_while_running_is_reported_and_no_frame_is_lost() {
    let machine = Machine::new();
    let fault_file = machine.0.path().join("trouble");
    let option = format!("while={}", fault_file.display());
    // Slightly different numbers, which tell the plugin's results from the CPU's.
    let options = ["mode=wrong", "off=0.0002", "fail_from=20", &option];
    machine.record_takes("prefer:custom", &options).ends(0);
    assert_eq!(machine.backends(), ["custom"; 3]);
    let (plugins, cpus) = (rows(&machine.out()), rows(&record_takes().2));
    assert!(plugins.iter().zip(&cpus).all(|(a, b)| a != b));

    fs::write(&fault_file, "").unwrap();
    let run = machine
        .record_into_empty_folder("prefer:custom", &options)
        .ends(0);
    let lost_events: Vec<Value> = run
        .events()
        .into_iter()
        .filter(|e| e["event"] == "accelerator" && e["state"] == "lost")
        .collect();
    assert!(
        lost_events.len() == 1
            && lost_events[0]["reason"]
                .as_str()
                .unwrap()
                .contains("went away"),
        "{lost_events:?}"
    );
    assert_eq!(machine.backends(), ["custom", "custom, cpu", "cpu"]);
    let rows_now = rows(&machine.out());
    assert_eq!((&rows_now[0], &rows_now[2]), (&plugins[0], &cpus[2]));
    let done = run.event("done");
    assert_eq!((&done["taken"], &done["dropped"]), (&3.into(), &0.into()));

    // A required backend is never replaced, and existing takes stay.
    fs::remove_file(&fault_file).unwrap();
    machine
        .record_into_empty_folder("require:custom", &options)
        .ends(0);
    fs::write(&fault_file, "").unwrap();
    machine
        .record_takes("require:custom", &options)
        .ends(69)
        .stderr_contains(&["failed for good", "went away"]);
    assert!(rows(&machine.out()).starts_with(&plugins));
}

/// A stop ends a session cleanly while its device is opened again: the takes are complete.
#[test]
fn a_stop_is_obeyed_while_a_device_hangs_at_opening() {
    let machine = Machine::new();
    let file = |name: &str| machine.0.path().join(name);
    let (fault_file, log) = (file("trouble"), file("log"));
    // After its sign the clip lasts for 24 s at least, since each run takes 20 ms; the fault comes before its end.
    let clip = file("clip.mp4");
    encode_parts(&clip, &[Part::Sign(0, 30), Part::Pause(1200)], 25);
    let options = [
        "mode=right",
        "delay_ms=20",
        "fail_from=1",
        "hang=create",
        &format!("while={}", fault_file.display()),
        &format!("log={}", log.display()),
    ];
    let device = format!("file:{}", clip.display());
    // At once, so that no frame is dropped and the take is kept on a busy machine too.
    let mut filming = Command::new(test_support::binary())
        .args(["camera", "--at-once", "--progress", "json"])
        .args(["--gloss", "book"])
        .args(["--device", &device, "--accelerator", "require:custom"])
        .args(plugin::flags(&plugin::spec(&options)))
        .arg("--out")
        .arg(machine.out())
        .env("XDG_CACHE_HOME", machine.0.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let events = BufReader::new(filming.stdout.take().unwrap()).lines();
    let mut events = events.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let sign = events.find(|event| event["event"] == "sign");
    fs::write(&fault_file, "").unwrap();
    plugin::wait_until_hanging(&log);
    let since = Instant::now();
    let id = filming.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sign.is_some() && sent.unwrap().success());
    assert_eq!(filming.wait().unwrap().code(), Some(0));
    let took = since.elapsed();
    assert!(took < plugin::STOP_LIMIT, "{took:?}");
    let done = events.find(|event| event["event"] == "done").unwrap();
    assert_eq!(done["in_output"], rows(&machine.out()).len());
    assert_eq!(machine.backends()[0], "custom");
}
