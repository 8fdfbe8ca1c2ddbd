//! Runs the examples unchanged, except for the broker's name and port: the test starts its own broker.

use super::pages::{MODELS, README, SYSTEMD};
use test_support::broker::Broker;
use test_support::daemon::Daemon;
use test_support::listener::{Listener, eventually};

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// The folder in which the demo and the plain examples ran.
pub(crate) static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = test_support::target_tmp().join("readme");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    // As `make demo` does.
    shell(&folder, "handloom demo --out demo-out");
    let (readme, models) = (README.examples("run", "sh"), MODELS.examples("run", "sh"));
    assert_eq!((readme.len(), models.len()), (4, 1), "examples were lost");
    for example in readme.into_iter().chain(models) {
        shell(&folder, example);
    }
    folder
});

fn shell(folder: &Path, script: &str) -> String {
    let binary = test_support::binary();
    let path = format!(
        "{}:{}",
        binary.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let done = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("PATH", path)
        .current_dir(folder)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{script}\n{stdout}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    stdout
}

fn final_file(name: &str) -> Vec<u8> {
    fs::read(FOLDER.join(name).join("wlasl_landmarks.npz")).unwrap()
}

#[test]
fn the_plain_examples_run() {
    assert_eq!(final_file("out"), final_file("zipped"));
    assert_ne!(final_file("out"), final_file("tracked"));
}

#[test]
fn the_examples_with_a_broker_run() {
    let folder = FOLDER.as_path();
    let broker = Broker::start(false);
    let port = broker.port();
    let here = |example: &str| {
        example
            .replace("broker.local -p 1883", &format!("127.0.0.1 -p {port}"))
            .replace("broker.local:1883", &format!("127.0.0.1:{port}"))
    };
    let service = SYSTEMD.examples("run with a broker", "sh");
    let monitor = SYSTEMD.examples("run while it runs", "sh");
    assert_eq!((service.len(), monitor.len()), (1, 1), "examples were lost");
    shell(folder, &here(service[0]));
    assert_eq!(final_file("out"), final_file("service-out"));

    let config = fs::read_to_string(folder.join("handloom.toml")).unwrap();
    let absolute = |config: String, name: &str| {
        config.replace(
            &format!("\"{name}"),
            &format!("\"{}/{name}", folder.display()),
        )
    };
    let config = absolute(absolute(config, "demo-out"), "service-out");
    // The example before it ran with `auto`, too.
    let auto = [("HANDLOOM_RUN_ACCELERATOR", "auto")];
    let mut daemon = Daemon::start_with(&folder.join("daemon.toml"), &config, &[], &auto);
    // The broker still retains the last messages of the example before.
    let listener = Listener::start(port, &["handloom/pi-1/status"]);
    eventually("the daemon is online", || {
        let messages = listener.on("handloom/pi-1/status");
        messages.iter().any(|m| m.json()["status"] == "online")
    });
    let stdout = shell(folder, &here(monitor[0]));
    for text in [
        "handloom/pi-1/status",
        "\"status\":\"online\"",
        "handloom/pi-1/progress",
        "pi-1",
        "\"id\":\"monday-",
    ] {
        assert!(stdout.contains(text), "no {text} in {stdout}");
    }
    daemon.until("the job is done", |daemon| daemon.phases("idle") > 0);
    assert_eq!(daemon.stop(), Some(0));
}
