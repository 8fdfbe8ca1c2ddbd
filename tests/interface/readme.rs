//! README's examples, run as they stand; but the broker's name and port are those of one that the test starts.

use std::fs;
use std::path::Path;
use std::process::Command;
use test_support::broker::Broker;
use test_support::daemon::Daemon;

/// The shell blocks behind a mark.
fn examples(mark: &str) -> Vec<&'static str> {
    include_str!("../../README.md")
        .split(&format!("<!-- {mark} -->\n```sh\n"))
        .skip(1)
        .filter_map(|t| t.split("```").next())
        .collect()
}

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
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "{script}\n{said}\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

#[test]
fn the_examples_run_as_they_stand() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    // As `make demo` does.
    shell(folder, "handloom demo --out demo-out");
    let plain = examples("run");
    assert_eq!(plain.len(), 4, "README has lost its examples");
    for example in plain {
        shell(folder, example);
    }
    let bytes = |name: &str| fs::read(folder.join(name).join("wlasl_landmarks.npz")).unwrap();
    assert_eq!(bytes("out"), bytes("zipped"));
    assert_ne!(bytes("out"), bytes("tracked"));

    let broker = Broker::start(false);
    let port = broker.port();
    let here = |example: &str| {
        example
            .replace("broker.local -p 1883", &format!("127.0.0.1 -p {port}"))
            .replace("broker.local:1883", &format!("127.0.0.1:{port}"))
    };
    let (service, monitor) = (examples("run with a broker"), examples("run while it runs"));
    assert_eq!(
        (service.len(), monitor.len()),
        (1, 1),
        "README has lost its examples"
    );
    shell(folder, &here(service[0]));
    assert_eq!(bytes("out"), bytes("service-out"));

    let config = fs::read_to_string(folder.join("handloom.toml")).unwrap();
    let config = config.replace("\"demo-out", &format!("\"{}/demo-out", folder.display()));
    let config = config.replace(
        "\"service-out",
        &format!("\"{}/service-out", folder.display()),
    );
    // As the example before it ran.
    let auto = [("HANDLOOM_RUN_ACCELERATOR", "auto")];
    let mut daemon = Daemon::start_with(&folder.join("daemon.toml"), &config, &[], &auto);
    shell(
        folder,
        &here("mosquitto_sub -h broker.local -p 1883 -t 'handloom/pi-1/state' -C 1 -W 60"),
    );
    let said = shell(folder, &here(monitor[0]));
    for words in [
        "handloom/pi-1/status",
        "\"status\":\"online\"",
        "handloom/pi-1/progress",
        "pi-1",
        "\"id\":\"monday-",
    ] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    assert_eq!(daemon.stop(), Some(0));
}
