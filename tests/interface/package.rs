//! What a package contains: units that systemd accepts and rates as tight, a config that the program accepts, docs
//! for every subcommand. `make test-boot` tests it on a running system.

use handloom::error::Exit;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use test_support::broker::find;

const UNITS: [&str; 4] = [
    "handloom.service",
    "handloom@job.service",
    "handloom-nightly@job.service",
    "handloom-nightly@job.timer",
];
/// Largest allowed exposure, in tenths of `systemd-analyze security`'s scale from 0 (tight) to 10.
const EXPOSURE_MAX: u32 = 15;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap()
}

/// Both output streams of a command that must succeed.
#[track_caller]
fn stdout_of(command: &mut Command) -> String {
    let done = output(command);
    let text = [done.stdout, done.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(done.status.success(), "{command:?}: {text}");
    text
}

/// A copy of `systemd/` whose units name the program of this build in place of the installed one.
fn units() -> TempDir {
    let copy = test_support::scratch();
    let from = repository().join("systemd");
    stdout_of(Command::new("cp").arg("-rLT").arg(from).arg(copy.path()));
    for entry in fs::read_dir(copy.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "service") {
            let unit = fs::read_to_string(&path).unwrap();
            let unit = unit.replace(
                "/usr/bin/handloom",
                &test_support::binary().display().to_string(),
            );
            fs::write(path, unit).unwrap();
        }
    }
    copy
}

fn systemd_analyze() -> PathBuf {
    let found = find("systemd-analyze");
    found.unwrap_or_else(|| panic!("systemd-analyze is not installed: apt-get install systemd"))
}

#[test]
fn systemd_takes_the_units() {
    let copy = units();
    let paths = UNITS.map(|unit| copy.path().join(unit));
    let mut verify = Command::new(systemd_analyze());
    verify.args(["verify", "--man=no"]).args(&paths);
    // It reports lines that it does not know, but still ends with 0.
    let ours = |line: &&str| line.contains("handloom") || line.contains("sandbox");
    let complaints = stdout_of(&mut verify);
    let complaints: Vec<&str> = complaints.lines().filter(ours).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    // A line that systemd does not know is found.
    let unit = copy.path().join("handloom.service.d/10-sandbox.conf");
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text + "ProtectEverything=yes\n").unwrap();
    let complaints = stdout_of(&mut verify);
    assert!(complaints.contains("ProtectEverything"), "{complaints}");
}

#[test]
fn the_units_are_tight() {
    let copy = units();
    let judge = |unit: &str, max: u32| {
        let mut security = Command::new(systemd_analyze());
        let max = format!("--threshold={max}");
        security.args(["security", "--offline=true", "--no-pager", &max]);
        output(security.arg(copy.path().join(unit)))
    };
    for unit in &UNITS[..3] {
        let judged = judge(unit, EXPOSURE_MAX);
        let text = String::from_utf8_lossy(&judged.stdout);
        assert!(judged.status.success(), "{unit}: {text}");
    }
    // Without its sandbox a unit is not tight enough.
    fs::remove_dir_all(copy.path().join("handloom.service.d")).unwrap();
    assert!(!judge("handloom.service", EXPOSURE_MAX).status.success());
}

#[test]
fn exit_codes_mean_to_systemd_what_they_mean() {
    for unit in ["handloom.service", "handloom@.service"] {
        let text = fs::read_to_string(repository().join("systemd").join(unit)).unwrap();
        let codes = |key: &str| -> Vec<i32> {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            let words = line.unwrap().split(' ');
            words.map(|code| code.parse().unwrap()).collect()
        };
        let hopeless = [Exit::Usage, Exit::BadData, Exit::CannotCreate, Exit::Config];
        let hopeless = hopeless.map(|exit| exit as i32);
        assert_eq!(codes("RestartPreventExitStatus="), hopeless, "{unit}");
        assert_eq!(
            codes("SuccessExitStatus="),
            [Exit::Stopped as i32],
            "{unit}"
        );
    }
}

/// Device nodes of the accelerators with a recipe in models/README.md.
const RECIPE_NODES: [&str; 9] = [
    "/dev/apex_*",
    "/dev/galcore",
    "/dev/accel/accel*",
    "/dev/dri/renderD*",
    "/dev/mali*",
    "/dev/fastrpc-cdsp*",
    "/dev/adsprpc-smd*",
    "/dev/nvhost-*gpu",
    "/dev/kgsl-3d0",
];
/// The Coral on USB, before and after its firmware is loaded.
const CORAL_USB: [(&str, &str); 2] = [("1a6e", "089a"), ("18d1", "9302")];

/// Drivers that number their devices: the device path and the `DeviceAllow=` name that covers all of them.
const NUMBERED: [(&str, &str); 8] = [
    ("/dev/apex_*", "char-apex"),
    ("/dev/accel/accel*", "char-accel"),
    ("/dev/dri/renderD*", "char-drm"),
    ("/dev/galcore", "char-galcore"),
    ("/dev/mali*", "/dev/mali0"),
    ("/dev/adsprpc-smd*", "char-adsprpc*"),
    ("/dev/nvhost-*gpu", "char-nvhost*"),
    ("/dev/kgsl-3d0", "char-kgsl"),
];

#[test]
fn the_sandbox_lets_every_known_accelerator_in() {
    let path = repository().join("systemd/handloom.service.d/10-sandbox.conf");
    let text = fs::read_to_string(path).unwrap();
    let allowed: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("DeviceAllow=")?.strip_suffix(" rw"))
        .collect();
    for device in &RECIPE_NODES {
        let numbered = NUMBERED.iter().find(|(nodes, _)| nodes == device);
        let name = numbered.map_or(device.trim_end_matches('*'), |(_, name)| name);
        assert!(allowed.contains(&name), "{device}");
    }
    assert!(allowed.contains(&"char-usb_device"));
    let rules = fs::read_to_string(repository().join("systemd/handloom.udev")).unwrap();
    for (vendor, product) in CORAL_USB {
        let rule = rules.lines().find(|line| line.contains(product));
        assert!(
            rule.is_some_and(|rule| rule.contains(vendor)),
            "{vendor}:{product}"
        );
    }
}

#[test]
fn the_program_takes_the_packaged_config() {
    let script = repository().join("cross/package/config.sed");
    let example = repository().join("systemd/handloom.toml");
    let config = stdout_of(Command::new("sed").arg("-f").arg(script).arg(example));
    let folder = test_support::scratch();
    let path = folder.path().join("handloom.toml");
    fs::write(&path, config).unwrap();
    let run =
        test_support::handloom(["check", "--print", "--config", path.to_str().unwrap()]).ends(0);
    for line in [
        "path = \"/var/lib/handloom/dataset\"",
        "path = \"/var/lib/handloom/out\"",
    ] {
        assert!(run.stdout.contains(line), "no {line} in {}", run.stdout);
    }
    for line in ["pi-lab-3\"", "broker.local"] {
        let is_set = |l: &str| l.contains(line) && !l.starts_with('#');
        assert!(!run.stdout.lines().any(is_set), "{line} in {}", run.stdout);
    }
}

#[test]
fn every_subcommand_has_its_docs() {
    let folder = test_support::scratch();
    let out = folder.path().join("share");
    test_support::handloom(["docs", "--out", out.to_str().unwrap()]).ends(0);
    let read = |path: &str| fs::read_to_string(out.join(path)).unwrap();
    let script = read("bash-completion/completions/handloom");
    let (zsh, fish) = (
        read("zsh/vendor-completions/_handloom"),
        read("fish/vendor_completions.d/handloom.fish"),
    );
    let help = test_support::handloom(["help"]).ends(0).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        // Deeper lines continue the line before.
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.len() >= 6, "{help}");
    for name in &commands {
        let page = read(&format!("man/man1/handloom-{name}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
        for text in [&script, &zsh, &fish] {
            assert!(text.contains(name), "no {name} in {text}");
        }
    }
    assert!(read("man/man1/handloom.1").contains("Exit codes"));
    let pages = fs::read_dir(out.join("man/man1")).unwrap().count();
    assert_eq!(pages, commands.len() + 1, "{commands:?}");
    let path = out.join("bash-completion/completions/handloom");
    let mut complete = Command::new("bash");
    complete.args(["-euc", "source \"$0\"; complete -p handloom"]);
    assert!(stdout_of(complete.arg(path)).contains("_handloom"));
    // A folder that cannot be written is an error.
    test_support::handloom(["docs", "--out", "/dev/null/x"])
        .ends(73)
        .stderr_contains(&["/dev/null/x", "--out"]);
}

/// A folder with this machine's GStreamer plugins, except those whose file name contains one of `names`.
fn plugins_without(names: &[&str]) -> TempDir {
    let folder = test_support::scratch();
    let query = ["--variable=pluginsdir", "gstreamer-1.0"];
    let all = stdout_of(Command::new("pkg-config").args(query));
    for entry in fs::read_dir(all.trim()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_file() && !names.iter().any(|without| name.contains(without)) {
            std::os::unix::fs::symlink(&path, folder.path().join(name)).unwrap();
        }
    }
    folder
}

#[test]
fn the_demo_needs_no_more_than_the_package_brings() {
    let folder = test_support::scratch();
    let demo = |without: &[&str], out: &str| {
        let plugins = plugins_without(without);
        let registry = plugins.path().join("registry");
        let out = folder.path().join(out);
        let environment = [
            ("GST_PLUGIN_SYSTEM_PATH_1_0", plugins.path().as_os_str()),
            ("GST_REGISTRY_1_0", registry.as_os_str()),
        ];
        let args = ["demo".as_ref(), "--out".as_ref(), out.as_os_str()];
        (test_support::handloom_with(args, &environment), out)
    };
    let (run, out) = demo(&["x264"], "package");
    let run = run.ends(0);
    assert!(
        run.stdout.contains("gstreamer1.0-plugins-ugly"),
        "{}",
        run.stdout
    );
    assert!(out.join("contact-sheet.png").is_file());
    // The runtime's own log lines do not reach the user.
    assert!(!run.stderr.contains("XNNPACK"), "{}", run.stderr);
    // A demo that cannot succeed leaves no folder.
    let (run, out) = demo(&["x264", "gstlibav"], "bare");
    run.ends(74)
        .stderr_contains(&["avenc_mpeg4", "gstreamer1.0-libav"]);
    assert!(!out.exists());
}

#[test]
fn an_upgrade_starts_no_nightly_job() {
    let text = fs::read_to_string(repository().join("cross/package/postinst")).unwrap();
    let starting = text.lines().filter(|line| line.contains("start"));
    assert!(starting.clone().count() > 0, "{text}");
    for line in starting {
        assert!(!line.contains("nightly"), "{line}");
    }
}

#[test]
fn the_scripts_are_scripts() {
    let check = |folder: &str, shell: &str, is_ours: fn(&Path) -> bool| {
        let entries = fs::read_dir(repository().join(folder)).unwrap();
        let scripts: Vec<PathBuf> = entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| is_ours(path))
            .collect();
        assert!(!scripts.is_empty(), "{folder}");
        for path in scripts {
            stdout_of(Command::new(shell).arg("-n").arg(path));
        }
    };
    check("cross", "bash", |p| {
        p.extension().is_some_and(|e| e == "sh")
    });
    check("cross/package", "sh", |p| {
        let name = p.file_name().unwrap().to_string_lossy();
        name.starts_with("post") || name.starts_with("pre")
    });
}
