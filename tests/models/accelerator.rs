//! Accelerators are chosen, refused with the reason, opened again or given up. Our own TFLite delegate plugin
//! (tests/plugin) replaces the hardware.

use handloom::video::encode::Codec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;
use tempfile::TempDir;
use test_support::{Run, digests, handloom_with, manifest, plugin, render_clip, rows, scratch};

/// Frames of a drawn clip; a job reads every second one.
const FRAMES: usize = 16;
const CLIPS: [&str; 3] = ["00001", "00002", "00003"];

/// Three good clips, and the CPU's results for them.
pub(crate) fn fixture() -> &'static (TempDir, PathBuf, PathBuf) {
    static MADE: OnceLock<(TempDir, PathBuf, PathBuf)> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let dataset = folder.path().join("dataset");
        let instances = CLIPS.map(|id| (id, 1));
        test_support::write_metadata(&dataset, &test_support::metadata(&[("hello", &instances)]));
        for (seed, id) in (0..).zip(CLIPS) {
            let path = dataset.join("videos").join(format!("{id}.mp4"));
            render_clip(&path, seed, FRAMES, (320, 240), Codec::H264);
        }
        let out = folder.path().join("cpu");
        test_support::process(&dataset, &out, &["--min-videos-per-gloss", "1"]).ends(0);
        (folder, dataset, out)
    })
}

/// A machine with the test plugin: an output folder and a cache of benchmark results.
struct Machine {
    folder: TempDir,
    /// Whether it runs the real models. No plugin is faster than the CPU on models that cost nothing.
    is_real: bool,
}

impl Machine {
    fn new() -> Self {
        Self {
            folder: scratch(),
            is_real: false,
        }
    }

    /// A machine on which the plugin can be the fastest backend.
    fn real() -> Self {
        Self {
            folder: scratch(),
            is_real: true,
        }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Processes the fixture's clips with the plugin under `options`.
    fn process(&self, preference: &str, options: &[&str], more: &[&str]) -> Run {
        let args = self.arguments(preference, options, &[&["--fresh"], more].concat());
        handloom_with(args, &[("XDG_CACHE_HOME", self.file("cache").as_ref())])
    }

    fn arguments(&self, preference: &str, options: &[&str], more: &[&str]) -> Vec<OsString> {
        let (_, dataset, _) = fixture();
        let mut args: Vec<OsString> = vec![
            "process".into(),
            dataset.into(),
            "--out".into(),
            self.out().into(),
        ];
        let fixed = ["--min-videos-per-gloss", "1", "--accelerator", preference];
        args.extend(fixed.iter().chain(more).map(OsString::from));
        let spec = if self.is_real {
            args.extend(["--models".into(), test_support::models().into()]);
            plugin::spec(options)
        } else {
            plugin::quick_spec(options)
        };
        args.extend(plugin::flags(&spec).into_iter().map(OsString::from));
        args
    }

    fn backend(&self) -> Value {
        let run: Value =
            serde_json::from_slice(&fs::read(self.out().join("run.json")).unwrap()).unwrap();
        run["backend"].clone()
    }

    /// The backend of each clip.
    fn backends(&self) -> Vec<String> {
        let lines = manifest(&self.out());
        let backends = lines
            .iter()
            .map(|l| l["clip"]["backend"].as_str().unwrap().to_owned());
        backends.collect()
    }

    #[track_caller]
    fn assert_equals_cpu(&self) {
        let cpu = if self.is_real {
            real_digests().clone()
        } else {
            digests(&fixture().2)
        };
        assert_eq!(digests(&self.out()), cpu);
    }
}

/// Digests of the CPU's results for the clips with the real models.
fn real_digests() -> &'static BTreeMap<String, String> {
    static MADE: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = scratch();
        let (out, models) = (folder.path().join("out"), test_support::models());
        let args = [
            "--min-videos-per-gloss",
            "1",
            "--models",
            models.to_str().unwrap(),
        ];
        test_support::process(&fixture().1, &out, &args).ends(0);
        digests(&out)
    })
}

#[test]
fn a_backend_that_agrees_is_used_when_requested() {
    let machine = Machine::new();
    let run = machine
        .process("require:custom", &["mode=right"], &["--workers", "2"])
        .ends(0);
    assert_eq!(run.event("backend")["name"], "custom");
    let backend = machine.backend();
    assert_eq!(
        (&backend["name"], &backend["wish"]),
        (&"custom".into(), &"require:custom".into())
    );
    assert_eq!(
        backend["opened_as"]["delegate"]["library"],
        plugin::library().display().to_string()
    );
    assert_eq!(machine.backends(), ["custom"; 3]);
    // The plugin runs the same kernels in another interpreter.
    machine.assert_equals_cpu();
}

#[test]
fn the_fastest_backend_that_agrees_is_chosen_and_remembered() {
    let machine = Machine::real();
    let quick = ["mode=right", "memo=yes"];
    let run = machine
        .process("fastest", &quick, &["--workers", "1"])
        .ends(0);
    let measured: Vec<Value> = run
        .events()
        .into_iter()
        .filter(|e| e["event"] == "measure")
        .collect();
    // There are more where LiteRT is installed.
    assert!(measured.len() >= 2, "{measured:?}");
    let backend = run.event("backend");
    assert_eq!(backend["name"], "custom");
    assert!(
        backend["reason"]
            .as_str()
            .unwrap()
            .contains("fastest backend that agrees"),
        "{backend}"
    );
    machine.assert_equals_cpu();

    // Nothing is measured again until the options change.
    let known = |run: Run| !run.stdout.contains("\"measure\"");
    for workers in ["1", "2", "5"] {
        let run = machine.process("fastest", &quick, &["--workers", workers]);
        assert!(known(run.ends(0)), "measured again for {workers} workers");
        assert_eq!(machine.backend()["name"], "custom");
    }
    assert!(known(
        machine
            .process("prefer:custom", &quick, &["--workers", "1"])
            .ends(0)
    ));
    assert!(!known(
        machine
            .process("fastest", &["mode=right"], &["--workers", "1"])
            .ends(0)
    ));
    let kept = machine.file("cache/handloom/accelerators.json");
    fs::write(&kept, "{ not json").unwrap();
    let run = machine
        .process("fastest", &quick, &["--workers", "1"])
        .ends(0)
        .stderr_contains(&["benchmarked again"]);
    assert!(!known(run));
    assert!(fs::read_to_string(kept).unwrap().contains("custom"));
}

#[test]
fn a_backend_that_is_not_faster_is_not_chosen() {
    let machine = Machine::new();
    let run = machine
        .process(
            "fastest",
            &["mode=right", "delay_ms=20"],
            &["--workers", "2"],
        )
        .ends(0);
    assert_ne!(run.event("backend")["name"], "custom");
    let backend = machine.backend();
    let refused = backend["refused"].as_array().unwrap();
    let refused = refused.iter().find(|r| r["name"] == "custom").unwrap();
    assert!(
        refused["reason"].as_str().unwrap().contains("faster"),
        "{refused}"
    );
    // A required backend is used even if it is slower.
    machine
        .process(
            "require:custom",
            &["mode=right", "delay_ms=20"],
            &["--workers", "2"],
        )
        .ends(0);
    assert_eq!(machine.backend()["name"], "custom");
}

/// Each kind of unusable backend is refused with its reason.
#[test]
fn what_cannot_be_used_is_refused_with_the_reason() {
    let check = |options: &[&str], reason: &str| {
        let machine = Machine::new();
        let brief = ["--workers", "1", "--accelerator-timeout", "4"];
        let run = machine.process("require:custom", options, &brief);
        let run = run
            .ends(69)
            .stderr_contains(&["require:custom", reason, "prefer:"]);
        assert!(
            !machine.out().join("wlasl_landmarks.npz").exists(),
            "{}",
            run.stdout
        );
        // The user may have fixed a backend that the command names: it is measured again.
        let run = machine.process("prefer:custom", options, &brief).ends(0);
        let is_measured = run.stdout.contains("\"measure\"");
        // A known difference from the CPU is not measured again.
        assert_eq!(is_measured, !reason.contains("CPU"), "{}", run.stdout);
        let backend = run.event("backend");
        assert_eq!(backend["name"], "cpu", "{options:?}");
        assert!(
            backend["reason"].as_str().unwrap().contains(reason),
            "{backend}"
        );
        run.stderr_contains(&["cpu runs instead"]);
        assert_eq!(machine.backends(), ["cpu"; 3]);
        machine.assert_equals_cpu();
    };
    check(&["mode=wrong", "off=0.3"], "from the CPU's");
    check(&["mode=wrong"], "the CPU");
    check(&["mode=none"], "none of the models' nodes");
    check(&["mode=null"], "it gave no reason");
    check(&["mode=right", "colour=red"], "there is no option colour");
    check(&["mode=right", "abort=create"], "crashed (signal 6)");
    check(&["mode=right", "abort=prepare"], "crashed (signal 6)");
    check(&["mode=right", "abort=invoke"], "crashed (signal 6)");
    check(&["mode=right", "hang=create"], "did not open within 4 s");
    check(&["mode=wrong", "deep=yes"], "from the CPU's");
    check(&["mode=right", "hang=invoke"], "did not open within 4 s");
    check(&["mode=right", "fail_from=20"], "the device went away");
    check(&["mode=right", "fail_at=20", "memo=yes"], "failed");
}

#[test]
fn a_library_that_is_none_is_refused() {
    let machine = Machine::new();
    let (_, dataset, _) = fixture();
    let bad = machine.file("bad.so");
    fs::write(&bad, "no library").unwrap();
    let check = |library: &Path, expected: &str| {
        let out = machine.out();
        let args: [&OsStr; 10] = [
            "process".as_ref(),
            dataset.as_ref(),
            "--out".as_ref(),
            out.as_ref(),
            "--min-videos-per-gloss".as_ref(),
            "1".as_ref(),
            "--accelerator".as_ref(),
            "require:custom".as_ref(),
            "--delegate-library".as_ref(),
            library.as_ref(),
        ];
        handloom_with(args, &[("XDG_CACHE_HOME", machine.file("cache").as_ref())])
            .ends(69)
            .stderr_contains(&[expected]);
    };
    check(&bad, "is not a shared library");
    check(&machine.file("gone.so"), "gone.so not found");
    // An accelerator that runs as `custom`.
    machine
        .process("require:coral", &["mode=right"], &[])
        .ends(64)
        .stderr_contains(&["coral", "custom", "models/README.md"]);
    let usage = test_support::process(
        &fixture().1,
        &machine.out(),
        &["--accelerator", "prefer:custom"],
    );
    usage.ends(64).stderr_contains(&["--delegate-library"]);
    machine
        .process("require:corral", &["mode=right"], &[])
        .ends(64)
        .stderr_contains(&["custom", "require:NAME"]);
}

/// A failed backend that the user does not name is not tried again at each start.
#[test]
fn a_failure_is_remembered() {
    let machine = Machine::new();
    let options = ["mode=right", "abort=create"];
    let refusal = |run: Run| {
        assert_ne!(run.ends(0).event("backend")["name"], "custom");
        let backend = machine.backend();
        let refused = backend["refused"].as_array().unwrap();
        let refused = refused.iter().find(|r| r["name"] == "custom").unwrap();
        refused["reason"].as_str().unwrap().to_owned()
    };
    let reason = refusal(machine.process("fastest", &options, &[]));
    assert!(
        reason.contains("crashed") && !reason.contains("cached"),
        "{reason}"
    );
    let run = machine.process("fastest", &options, &[]);
    assert!(!run.stdout.contains("\"measure\""), "{}", run.stdout);
    let reason = refusal(run);
    assert!(
        reason.contains("crashed") && reason.contains("cached"),
        "{reason}"
    );
}

/// A plugin that works until the file `trouble` exists.
fn machine_with_fault_file(machine: &Machine) -> (PathBuf, String) {
    let fault_file = machine.file("trouble");
    let option = format!("while={}", fault_file.display());
    (fault_file, option)
}

/// A backend that fails while running is opened again, and the clip's results do not change.
#[test]
fn a_backend_that_fails_at_times_is_opened_again() {
    let machine = Machine::new();
    let (fault_file, option) = machine_with_fault_file(&machine);
    let options = ["mode=right", "fail_at=30", &option];
    machine
        .process("require:custom", &options, &["--workers", "1"])
        .ends(0);
    fs::write(&fault_file, "").unwrap();
    // It fails at the thirtieth run after each opening, which is within the retry budget.
    let run = machine
        .process("require:custom", &options, &["--workers", "1"])
        .ends(0);
    assert!(!run.stderr.contains("given up"), "{}", run.stderr);
    run.stderr_contains(&["opened again", "the device went away"]);
    assert_eq!(machine.backends(), ["custom"; 3]);
    machine.assert_equals_cpu();
}

/// A backend that fails for good is given up: the current clip restarts on the CPU, and the loss is reported.
#[test]
fn a_lost_backend_is_given_up_with_an_error() {
    let check = |fault_options: &[&str], expected: &str| {
        let machine = Machine::new();
        let (fault_file, option) = machine_with_fault_file(&machine);
        // Slightly different numbers, which tell the plugin's results from the CPU's.
        let mut options = vec!["mode=wrong", "off=0.0002", &option];
        options.extend(fault_options);
        let more = ["--workers", "1"];
        machine.process("prefer:custom", &options, &more).ends(0);
        assert_eq!(machine.backends(), ["custom"; 3]);
        let (plugins, cpus) = (rows(&machine.out()), rows(&fixture().2));
        assert!(plugins.iter().zip(&cpus).all(|(a, b)| a != b));

        fs::write(&fault_file, "").unwrap();
        let run = machine.process("prefer:custom", &options, &more).ends(0);
        assert_eq!(run.event("backend")["name"], "custom");
        run.stderr_contains(&["custom is given up", expected]);
        let backends = machine.backends();
        assert_eq!(backends.last().unwrap(), "cpu", "{backends:?}");
        for (clip, (row, backend)) in rows(&machine.out()).iter().zip(&backends).enumerate() {
            let of = if backend == "cpu" { &cpus } else { &plugins };
            assert!(*row == of[clip], "clip {clip} is not {backend}'s");
        }
        let run: Value =
            serde_json::from_slice(&fs::read(machine.out().join("run.json")).unwrap()).unwrap();
        let counts = &run["finished"]["backends"];
        let cpu = backends.iter().filter(|b| *b == "cpu").count();
        assert_eq!(counts["cpu"], cpu, "{counts}");
        assert!(
            run["finished"]["backend_lost"]
                .as_str()
                .unwrap()
                .contains(expected)
        );

        // A required backend is never replaced, and existing results stay.
        fs::remove_file(&fault_file).unwrap();
        machine.process("require:custom", &options, &more).ends(0);
        fs::write(&fault_file, "").unwrap();
        machine
            .process("require:custom", &options, &more)
            .ends(69)
            .stderr_contains(&["failed for good", expected, "run the same command again"]);
    };
    check(&["fail_from=8"], "the device went away");
    check(&["hang=invoke", "after=20"], "it hung");
}

/// A backend that opened for the benchmark and no longer opens.
#[test]
fn a_backend_that_no_longer_opens_is_reported() {
    let machine = Machine::new();
    let fault_file = machine.file("trouble");
    let option = format!("while={}", fault_file.display());
    let options = ["mode=right", "hang=create", &option];
    let more = ["--workers", "1", "--accelerator-timeout", "3"];
    machine.process("prefer:custom", &options, &more).ends(0);
    fs::write(&fault_file, "").unwrap();
    let run = machine.process("prefer:custom", &options, &more).ends(0);
    let backend = run.event("backend");
    assert_eq!(backend["name"], "cpu");
    assert!(
        backend["reason"]
            .as_str()
            .unwrap()
            .contains("does not open any more"),
        "{backend}"
    );
    machine.assert_equals_cpu();
    machine
        .process("require:custom", &options, &more)
        .ends(69)
        .stderr_contains(&["does not open any more"]);
}

/// Ctrl-C stops a job while a device hangs at its first or a later opening; the same command resumes the job.
#[test]
fn a_stop_is_obeyed_while_a_device_hangs_at_opening() {
    let machine = Machine::new();
    let (fault_file, log) = (machine.file("trouble"), machine.file("log"));
    let hangs = [
        format!("while={}", fault_file.display()),
        format!("log={}", log.display()),
    ];
    let check = |hang: &[&str]| {
        let options = [&["mode=right", &hangs[0], &hangs[1]], hang].concat();
        let preference = "require:custom";
        // Measured before the fault.
        machine
            .process(preference, &options, &["--workers", "1"])
            .ends(0);
        fs::write(&fault_file, "").unwrap();
        let mut command = Command::new(test_support::binary());
        let mut job = command
            .args(machine.arguments(preference, &options, &["--fresh", "--workers", "1"]))
            .env("XDG_CACHE_HOME", machine.file("cache"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        plugin::wait_until_hanging(&log);
        let since = Instant::now();
        let id = job.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status();
        assert!(sent.unwrap().success());
        assert_eq!(job.wait().unwrap().code(), Some(75));
        let took = since.elapsed();
        assert!(took < plugin::STOP_LIMIT, "{hang:?}: {took:?}");
        fs::remove_file(&fault_file).unwrap();
        fs::remove_file(&log).unwrap();
        handloom_with(
            machine.arguments(preference, &options, &["--workers", "1"]),
            &[("XDG_CACHE_HOME", machine.file("cache").as_ref())],
        )
        .ends(0);
        machine.assert_equals_cpu();
    };
    check(&["hang=create"]);
    check(&["hang=invoke", "after=20"]);
}

#[test]
fn partial_delegation_is_reported() {
    let machine = Machine::new();
    machine
        .process("require:custom", &["mode=part"], &["--workers", "1"])
        .ends(0);
    let backend = machine.backend();
    let reason = backend["reason"].as_str().unwrap();
    assert!(
        reason.contains("it runs only") && reason.contains("of the palm model"),
        "{reason}"
    );
}

/// The named backend is one of a job's settings. Where Handloom chooses, the job keeps its first backend.
#[test]
fn another_backend_is_another_job() {
    let machine = Machine::new();
    let (_, dataset, _) = fixture();
    let out = machine.out();
    let process = |preference: &str, more: &[&str]| {
        let fixed = ["--min-videos-per-gloss", "1", "--accelerator", preference];
        test_support::process(dataset, &out, &[&fixed, more].concat())
    };
    process("cpu", &[]).ends(0);
    for preference in ["require:cpu", "auto", "fastest"] {
        process(preference, &[]).ends(0);
    }
    let custom = plugin::flags(&plugin::quick_spec(&["mode=right"]));
    let custom: Vec<&str> = custom.iter().map(String::as_str).collect();
    process("require:custom", &custom)
        .ends(73)
        .stderr_contains(&["accelerator was {\"cpu\":", "custom", "--fresh"]);
}

/// A job keeps its backend when it resumes, with any number of workers, or reports why it cannot.
#[test]
fn a_job_keeps_the_backend_that_it_began_on() {
    let machine = Machine::real();
    let (fault_file, option) = machine_with_fault_file(&machine);
    // Slightly different numbers, which tell the plugin's results from the CPU's.
    let options = [
        "mode=wrong",
        "off=0.0002",
        "memo=yes",
        "abort=create",
        &option,
    ];
    let resume = |preference: &str, options: &[&str], more: &[&str]| {
        let args = machine.arguments(preference, options, more);
        handloom_with(args, &[("XDG_CACHE_HOME", machine.file("cache").as_ref())])
    };
    machine.process("fastest", &options, &[]).ends(0);
    assert_eq!(machine.backends(), ["custom"; 3]);
    let whole = digests(&machine.out());
    assert_ne!(whole, digests(&fixture().2));
    for (preference, workers) in [("fastest", "1"), ("auto", "2"), ("fastest", "5")] {
        // The batch file is deleted, so that its clips are read again.
        fs::remove_file(machine.out().join("batches/00000.npz")).unwrap();
        let run = resume(preference, &options, &["--workers", workers]).ends(0);
        let backend = run.event("backend");
        assert_eq!(backend["name"], "custom");
        assert!(backend["reason"].as_str().unwrap().contains("began on it"));
        assert_eq!(digests(&machine.out()), whole);
    }
    // Without this backend no result is added, and the error names the backend and the fix.
    let refused = |run: Run, reason: &str| {
        let expected = ["began on custom", reason, "--fresh"];
        run.ends(69).stderr_contains(&expected);
        assert_eq!(digests(&machine.out()), whole);
    };
    fs::write(&fault_file, "").unwrap();
    fs::remove_file(machine.file("cache/handloom/accelerators.json")).unwrap();
    refused(resume("fastest", &options, &[]), "crashed (signal 6)");
    let (out, models) = (machine.out(), test_support::models());
    let process = |preference: &str| {
        let models = models.to_str().unwrap();
        let args = [
            "--min-videos-per-gloss",
            "1",
            "--accelerator",
            preference,
            "--models",
            models,
        ];
        test_support::process(&fixture().1, &out, &args)
    };
    refused(process("auto"), "not available");
    process("cpu")
        .ends(73)
        .stderr_contains(&["accelerator was", "custom", "now {\"cpu\":"]);
    // A fresh job may choose any backend.
    machine
        .process("auto", &options, &["--workers", "1"])
        .ends(0);
    assert_ne!(machine.backends(), ["custom"; 3]);
}

/// The measured choice fixes one backend: when it is lost while running, no other backend's numbers are mixed in.
#[test]
fn a_measured_choice_that_is_lost_stops_the_job() {
    let machine = Machine::real();
    let (fault_file, option) = machine_with_fault_file(&machine);
    let options = ["mode=right", "memo=yes", "fail_from=8", &option];
    machine.process("fastest", &options, &[]).ends(0);
    fs::write(&fault_file, "").unwrap();
    let run = machine.process("fastest", &options, &["--workers", "1"]);
    run.ends(69).stderr_contains(&[
        "failed for good",
        "the device went away",
        "run the same command again",
    ]);
    fs::remove_file(&fault_file).unwrap();
    let args = machine.arguments("fastest", &options, &["--workers", "1"]);
    handloom_with(args, &[("XDG_CACHE_HOME", machine.file("cache").as_ref())]).ends(0);
    assert_eq!(machine.backends(), ["custom"; 3]);
    machine.assert_equals_cpu();
}

#[test]
fn bench_shows_all_that_was_measured() {
    let machine = Machine::new();
    let run = |more: &[&str]| {
        let mut args: Vec<String> = [
            "bench",
            "--seconds",
            "0.3",
            "--workers",
            "2",
            "--accelerator-timeout",
            "20",
        ]
        .map(str::to_owned)
        .into();
        args.extend(more.iter().map(|s| (*s).to_owned()));
        args.extend(plugin::flags(&plugin::spec(&["mode=wrong", "off=0.3"])));
        handloom_with(args, &[("XDG_CACHE_HOME", machine.file("cache").as_ref())]).ends(0)
    };
    let json: Value = serde_json::from_str(run(&["--json"]).stdout.trim()).unwrap();
    let backends = json["backends"].as_array().unwrap();
    let named = |name: &str| {
        backends
            .iter()
            .find(|b| b["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {json}"))
    };
    let cpu = &named("cpu")["measured"];
    for key in ["palm_ms", "hand_ms", "pictures_per_s"] {
        assert!(cpu[key].as_f64().unwrap() > 0.0, "{key}: {cpu}");
    }
    assert_eq!(cpu["agreement"]["max"], 0.0);
    assert!(
        cpu["agreement"]["landmarks"].as_u64().unwrap() >= 8 * 21,
        "{cpu}"
    );
    assert!(named("cpu")["clips_per_min"].as_f64().unwrap() > 0.0);
    assert!(
        named("custom")["measured"]["agreement"]["max"]
            .as_f64()
            .unwrap()
            > 5e-4
    );
    assert_ne!(json["choice"]["name"], "custom");
    assert!(
        json["decoders"]
            .as_array()
            .unwrap()
            .iter()
            .any(|d| d["frames_per_s"].is_f64()),
        "{json}"
    );
    let text = run(&[]).stdout;
    for part in [
        "images/s",
        "clips/min",
        "cpu ",
        "custom ",
        "is allowed",
        "frames/s of H.264",
        "auto chooses ",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

#[test]
fn the_probe_is_not_for_people() {
    test_support::handloom(["probe-accelerator"])
        .ends(64)
        .stderr_contains(&["handloom bench"]);
}
