//! A camera on an accelerator: a TFLite delegate plugin of our own (tests/plugin) stands in for the hardware.

use super::stage::{Part, shoot};
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

/// Three signs, and what the CPU makes of them.
fn film() -> &'static (TempDir, PathBuf, PathBuf) {
    static MADE: OnceLock<(TempDir, PathBuf, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let (clip, out) = (folder.path().join("film.mp4"), folder.path().join("cpu"));
        let sign = |seed| [Part::Sign(seed, 30), Part::Pause(15)];
        shoot(&clip, &[sign(0), sign(1), sign(2)].concat(), 25);
        run(&clip, &out, folder.path(), "cpu", &[], &[]).ends(0);
        (folder, clip, out)
    })
}

/// Films `clip` with the plugin under `options`, and what was measured kept in `cache`.
fn run(clip: &Path, out: &Path, cache: &Path, wish: &str, options: &[&str], more: &[&str]) -> Run {
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
    args.extend(["--device", &device, "--accelerator", wish].map(str::to_owned));
    args.extend(["--out".to_owned(), out.display().to_string()]);
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    if !options.is_empty() {
        args.extend(plugin::flags(&plugin::spec(options)));
    }
    handloom_with(args, &[("XDG_CACHE_HOME", OsStr::new(cache))])
}

/// A machine with the test plugin on it: an output folder and a memory of what was measured.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        Self(scratch())
    }

    fn out(&self) -> PathBuf {
        self.0.path().join("takes")
    }

    fn film(&self, wish: &str, options: &[&str]) -> Run {
        run(&film().1, &self.out(), self.0.path(), wish, options, &[])
    }

    /// The same into an empty folder.
    fn film_anew(&self, wish: &str, options: &[&str]) -> Run {
        if self.out().exists() {
            fs::remove_dir_all(self.out()).unwrap();
        }
        self.film(wish, options)
    }

    /// The backend of each take.
    fn backends(&self) -> Vec<String> {
        let lines = manifest(&self.out());
        let backends = lines.iter().map(|l| l["clip"]["backend"].as_str().unwrap());
        backends.map(str::to_owned).collect()
    }

    fn record(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("run.json")).unwrap()).unwrap()
    }
}

#[test]
fn takes_are_the_cpus_byte_for_byte_on_one_that_is_right() {
    let machine = Machine::new();
    let run = machine.film("require:custom", &["mode=right"]).ends(0);
    assert_eq!(run.event("backend")["name"], "custom");
    assert_eq!(machine.backends(), ["custom"; 3]);
    assert_eq!(digests(&machine.out()), digests(&film().2));
    let record = machine.record();
    assert_eq!(record["backend"]["wish"], "require:custom");
    assert!(
        record["settings"]["accelerator"]["custom"].is_object(),
        "{record}"
    );
    // Another one's numbers do not go into the same folder.
    machine
        .film("cpu", &[])
        .ends(73)
        .says(&["accelerator was", "now {\"cpu\":"]);
}

#[test]
fn one_that_is_no_good_is_refused_or_left_aside_with_the_reason() {
    let machine = Machine::new();
    let bad = ["mode=wrong", "off=0.3"];
    machine
        .film("require:custom", &bad)
        .ends(69)
        .says(&["from the CPU's", "prefer:"]);
    assert!(!machine.out().exists());
    let run = machine.film("prefer:custom", &bad).ends(0);
    let backend = run.event("backend");
    assert_eq!(
        (&backend["name"], &backend["is_second_best"]),
        (&"cpu".into(), &true.into())
    );
    assert_eq!(digests(&machine.out()), digests(&film().2));
    machine
        .film("require:custom", &[])
        .ends(64)
        .says(&["--delegate-library"]);
    machine
        .film("require:corral", &[])
        .ends(64)
        .says(&["custom", "require:NAME"]);
}

/// One that is gone: the CPU goes on with the very frame, or nobody does.
#[test]
fn one_that_is_lost_at_work_is_said_and_no_frame_is_lost() {
    let machine = Machine::new();
    let trouble = machine.0.path().join("trouble");
    let option = format!("while={}", trouble.display());
    // Slightly other numbers, so that it shows who made them.
    let options = ["mode=wrong", "off=0.0002", "fail_from=20", &option];
    machine.film("prefer:custom", &options).ends(0);
    assert_eq!(machine.backends(), ["custom"; 3]);
    let (plugins, cpus) = (rows(&machine.out()), rows(&film().2));
    assert!(plugins.iter().zip(&cpus).all(|(a, b)| a != b));

    fs::write(&trouble, "").unwrap();
    let run = machine.film_anew("prefer:custom", &options).ends(0);
    let news: Vec<Value> = run
        .events()
        .into_iter()
        .filter(|e| e["event"] == "accelerator" && e["state"] == "lost")
        .collect();
    assert!(
        news.len() == 1 && news[0]["reason"].as_str().unwrap().contains("went away"),
        "{news:?}"
    );
    assert_eq!(machine.backends(), ["custom", "custom, cpu", "cpu"]);
    let rows_now = rows(&machine.out());
    assert_eq!((&rows_now[0], &rows_now[2]), (&plugins[0], &cpus[2]));
    let done = run.event("done");
    assert_eq!((&done["taken"], &done["dropped"]), (&3.into(), &0.into()));

    // Who requires it gets no other's numbers, and what there is stays.
    fs::remove_file(&trouble).unwrap();
    machine.film_anew("require:custom", &options).ends(0);
    fs::write(&trouble, "").unwrap();
    machine
        .film("require:custom", &options)
        .ends(69)
        .says(&["failed for good", "went away"]);
    assert!(rows(&machine.out()).starts_with(&plugins));
}

/// A stop ends a session in good order while its device is opened again: what was taken is whole.
#[test]
fn a_stop_is_heard_while_a_device_hangs_at_opening() {
    let machine = Machine::new();
    let file = |name: &str| machine.0.path().join(name);
    let (trouble, log) = (file("trouble"), file("log"));
    let options = [
        "mode=right",
        "fail_from=1",
        "hang=create",
        &format!("while={}", trouble.display()),
        &format!("log={}", log.display()),
    ];
    let device = format!("file:{}", film().1.display());
    let mut filming = Command::new(test_support::binary())
        .args(["camera", "--progress", "json", "--gloss", "book"])
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
    fs::write(&trouble, "").unwrap();
    plugin::until_it_hangs(&log);
    let since = Instant::now();
    let id = filming.id().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sign.is_some() && sent.unwrap().success());
    assert_eq!(filming.wait().unwrap().code(), Some(0));
    let took = since.elapsed();
    assert!(took < plugin::STOP, "{took:?}");
    let done = events.find(|event| event["event"] == "done").unwrap();
    assert_eq!(done["in_output"], rows(&machine.out()).len());
    assert_eq!(machine.backends()[0], "custom");
}
