//! Builds the test plugin once and makes specifications of it.

use crate::quick_models::quick_models;
use handloom::inference::DelegateSpec;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin/plugin.rs");

/// Longest time for a stop while a device hangs: less than the 15 s after which a run counts as hung.
pub const STOP_LIMIT: Duration = Duration::from_secs(14);

/// The plugin's library, compiled when its source has changed.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = fs::read(SOURCE).unwrap();
        let name = format!("test_plugin_{:08x}.so", crc32fast::hash(&source));
        let library = crate::target_tmp().join(name);
        if !library.exists() {
            compile(&library);
        }
        library
    })
}

/// Compiles in a scratch folder and renames: several test binaries may compile at the same time.
fn compile(library: &Path) {
    let folder = super::scratch();
    let built = folder.path().join("plugin.so");
    let output = Command::new(rustc())
        .args(["--edition", "2024", "--crate-type", "cdylib"])
        .args(["--crate-name", "test_plugin", "-D", "warnings"])
        .args(["-C", "panic=abort", "-C", "opt-level=1", SOURCE, "-o"])
        .arg(&built)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::rename(built, library).unwrap();
}

/// The compiler of the cargo that runs this test.
fn rustc() -> OsString {
    if let Some(rustc) = env::var_os("RUSTC") {
        return rustc;
    }
    let beside_cargo = env::var_os("CARGO").map(|cargo| Path::new(&cargo).with_file_name("rustc"));
    match beside_cargo {
        Some(rustc) if rustc.exists() => rustc.into_os_string(),
        _ => "rustc".into(),
    }
}

/// The plugin with `options`, each `key=value`, and the fetched models, which it may run itself.
pub fn spec(options: &[&str]) -> DelegateSpec {
    spec_over(&super::models(), options)
}

/// [`spec`] with the quick models.
pub fn quick_spec(options: &[&str]) -> DelegateSpec {
    spec_over(quick_models(), options)
}

fn spec_over(models: &Path, options: &[&str]) -> DelegateSpec {
    let models = ["palm_detection_full.tflite", "hand_landmark_full.tflite"]
        .map(|file| format!("model={}", models.join(file).display()));
    let given = options.iter().map(|option| (*option).to_owned());
    DelegateSpec {
        library: library().to_path_buf(),
        options: given
            .chain(models)
            .map(|option| {
                let (key, value) = option.split_once('=').unwrap();
                (key.to_owned(), value.to_owned())
            })
            .collect(),
        ..DelegateSpec::default()
    }
}

/// Waits until the plugin that writes `log` hangs.
#[track_caller]
pub fn wait_until_hanging(log: &Path) {
    let since = Instant::now();
    while !fs::read_to_string(log).is_ok_and(|log| log.contains("hang")) {
        assert!(since.elapsed() < super::DEADLINE, "no hang in the log");
        sleep(Duration::from_millis(5));
    }
}

/// The flags that select `spec` as the delegate.
pub fn flags(spec: &DelegateSpec) -> Vec<String> {
    let library = spec.library.display().to_string();
    let options = spec
        .options
        .iter()
        .map(|(k, v)| format!("--delegate-option={k}={v}"));
    [format!("--delegate-library={library}")]
        .into_iter()
        .chain(options)
        .collect()
}
