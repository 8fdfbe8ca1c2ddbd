//! The recipes for clusters: errors that a Kubernetes server refuses and no schema finds, exit codes, script syntax.
//! `make test-slurm`, `make test-ssh` and `make test-kubernetes` test the recipes on running engines.

use handloom::error::Exit;
use serde::Deserialize;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use test_support::Run;
use test_support::quick_models::quick_models;

/// Longest name of a Job: a pod's name adds an index and a random suffix, and a host name has at most 63 characters.
const JOB_NAME_MAX: usize = 52;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/cluster")
}

fn text(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap()
}

/// The documents of a manifest.
fn documents(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents
        .map(|one| Value::deserialize(one).unwrap())
        .collect()
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn names(values: &Value) -> Vec<&str> {
    items(values)
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect()
}

/// Errors in a Job: what the server refuses, and what breaks our recipes.
#[expect(
    clippy::too_many_lines,
    reason = "a list of rules and of what breaks them"
)]
fn faults(job: &Value) -> Vec<&'static str> {
    let (spec, pod) = (&job["spec"], &job["spec"]["template"]["spec"]);
    let has = |key: &str| !spec[key].is_null();
    let is_indexed = spec["completionMode"] == "Indexed";
    let policy = &spec["podFailurePolicy"];
    let (containers, volumes) = (names(&pod["containers"]), names(&pod["volumes"]));
    let name = job["metadata"]["name"].as_str().unwrap_or_default();
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let mut found = Vec::new();
    let mut refuse = |is_fault: bool, why| {
        if is_fault {
            found.push(why);
        }
    };
    refuse(
        !matches!(pod["restartPolicy"].as_str(), Some("Never" | "OnFailure")),
        "restartPolicy must be Never or OnFailure",
    );
    refuse(
        (!policy.is_null() || has("backoffLimitPerIndex")) && pod["restartPolicy"] != "Never",
        "podFailurePolicy and backoffLimitPerIndex need restartPolicy Never",
    );
    refuse(
        is_indexed && !has("completions"),
        "Indexed needs completions",
    );
    refuse(
        has("backoffLimitPerIndex") && !is_indexed,
        "backoffLimitPerIndex needs Indexed",
    );
    refuse(
        has("maxFailedIndexes") && !has("backoffLimitPerIndex"),
        "maxFailedIndexes needs backoffLimitPerIndex",
    );
    // Kubernetes allows two attempts at once, but they waste resources.
    refuse(
        !policy.is_null() && spec["podReplacementPolicy"] != "Failed",
        "podFailurePolicy needs podReplacementPolicy Failed",
    );
    refuse(
        name.is_empty()
            || name.len() > JOB_NAME_MAX
            || !name.chars().all(is_name)
            || name.starts_with('-')
            || name.ends_with('-'),
        "no host name can be made of the name",
    );
    for rule in items(&policy["rules"]) {
        let (codes, conditions) = (&rule["onExitCodes"], items(&rule["onPodConditions"]));
        refuse(
            codes.is_null() == conditions.is_empty(),
            "a rule has either onExitCodes or onPodConditions",
        );
        refuse(
            conditions.iter().any(|one| one["status"] != "True"),
            "a condition needs the status \"True\", a string",
        );
        refuse(
            rule["action"] == "FailIndex" && !has("backoffLimitPerIndex"),
            "FailIndex needs backoffLimitPerIndex",
        );
        let values: Vec<i64> = items(&codes["values"])
            .iter()
            .filter_map(Value::as_i64)
            .collect();
        refuse(
            !codes.is_null() && (values.is_empty() || !values.is_sorted_by(|a, b| a < b)),
            "exit codes must be unique and in order",
        );
        refuse(
            codes["operator"] == "In" && values.contains(&0),
            "0 is no failure",
        );
        refuse(
            codes["containerName"]
                .as_str()
                .is_some_and(|name| !containers.contains(&name)),
            "a rule names no container",
        );
    }
    for container in items(&pod["containers"]) {
        refuse(
            names(&container["volumeMounts"])
                .iter()
                .any(|name| !volumes.contains(name)),
            "a mount names no volume",
        );
        let variable = |name: &str| {
            let found = items(&container["env"])
                .iter()
                .find(|one| one["name"] == name);
            found.map(|one| one["value"].clone())
        };
        refuse(
            is_indexed && variable("SHARD_COUNT") != Some(json!(spec["completions"].to_string())),
            "SHARD_COUNT must be completions, as a string",
        );
        refuse(
            is_indexed && variable("SHARD_ATTEMPT").is_none(),
            "SHARD_ATTEMPT must count the attempts",
        );
        let args = items(&container["args"]);
        let flag = args.iter().position(|one| one == "--max-attempts");
        let most = flag.and_then(|flag| args.get(flag + 1)?.as_str()?.parse().ok());
        refuse(
            is_indexed && most != spec["backoffLimitPerIndex"].as_u64().map(|n| n + 1),
            "--max-attempts must be one more than backoffLimitPerIndex",
        );
    }
    found
}

fn jobs(text: &str) -> Vec<Value> {
    let mut documents = documents(text);
    documents.retain(|one| one["kind"] == "Job");
    documents
}

#[test]
fn a_kubernetes_server_takes_the_jobs() {
    for name in ["kubernetes.yaml", "kubernetes-merge.yaml"] {
        let jobs = jobs(&text(name));
        assert_eq!(jobs.len(), 1, "{name}");
        assert_eq!(faults(&jobs[0]), [""; 0], "{name}");
    }
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "a list of rules and of what breaks them"
)]
fn what_a_kubernetes_server_refuses_is_found() {
    let whole = text("kubernetes.yaml");
    for (before, after, fault) in [
        (
            "restartPolicy: Never",
            "restartPolicy: Always",
            "must be Never or OnFailure",
        ),
        (
            "restartPolicy: Never",
            "restartPolicy: OnFailure",
            "need restartPolicy Never",
        ),
        ("  completions: 4\n", "", "Indexed needs completions"),
        (
            "  completionMode: Indexed\n",
            "",
            "backoffLimitPerIndex needs Indexed",
        ),
        (
            "backoffLimitPerIndex: 5",
            "maxFailedIndexes: 1",
            "maxFailedIndexes needs",
        ),
        (
            "backoffLimitPerIndex: 5",
            "backoffLimit: 5",
            "FailIndex needs",
        ),
        (
            "podReplacementPolicy: Failed",
            "podReplacementPolicy: TerminatingOrFailed",
            "podReplacementPolicy Failed",
        ),
        (
            "  podReplacementPolicy: Failed\n",
            "",
            "podReplacementPolicy Failed",
        ),
        (
            "values: [64, 65,",
            "values: [65, 64,",
            "unique and in order",
        ),
        (
            "values: [64, 65,",
            "values: [64, 64,",
            "unique and in order",
        ),
        ("values: [64, 65,", "values: [0, 64,", "0 is no failure"),
        (
            "values: [64, 65, 66, 73, 78]",
            "values: []",
            "unique and in order",
        ),
        (
            "containerName: handloom",
            "containerName: main",
            "names no container",
        ),
        (
            "- name: data\n              mountPath",
            "- name: dat\n              mountPath",
            "names no volume",
        ),
        ("status: \"True\"", "status: \"False\"", "needs the status"),
        ("            status: \"True\"\n", "", "needs the status"),
        (
            "        onPodConditions:\n          - type: DisruptionTarget\n            status: \"True\"\n",
            "",
            "either onExitCodes",
        ),
        (
            "name: handloom\nspec:\n  completionMode",
            "name: Handloom\nspec:\n  completionMode",
            "no host name",
        ),
        ("value: \"4\"", "value: \"5\"", "must be completions"),
        (
            "- name: SHARD_COUNT",
            "- name: COUNT",
            "must be completions",
        ),
        (
            "- name: SHARD_ATTEMPT",
            "- name: ATTEMPT",
            "count the attempts",
        ),
        (
            "backoffLimitPerIndex: 5",
            "backoffLimitPerIndex: 9",
            "one more than",
        ),
    ] {
        let broken = whole.replacen(before, after, 1);
        assert_ne!(broken, whole, "{before}");
        let found = faults(&jobs(&broken)[0]);
        assert!(
            found.iter().any(|one| one.contains(fault)),
            "{before}: {found:?}"
        );
    }
}

#[test]
fn no_engine_repeats_what_cannot_succeed() {
    let hopeless = [
        Exit::Usage,
        Exit::BadData,
        Exit::NoInput,
        Exit::CannotCreate,
        Exit::Config,
    ];
    let hopeless = json!(hopeless.map(|exit| exit as i32));
    for name in ["kubernetes.yaml", "kubernetes-merge.yaml"] {
        let job = &jobs(&text(name))[0];
        let rules = items(&job["spec"]["podFailurePolicy"]["rules"]);
        let fails = |rule: &&Value| {
            rule["action"]
                .as_str()
                .is_some_and(|a| a.starts_with("Fail"))
        };
        let rule = rules.iter().find(fails).unwrap();
        assert_eq!(rule["onExitCodes"]["values"], hopeless, "{name}");
    }
    let slurm = text("slurm.sbatch");
    let again = format!("{} | 137)", Exit::Stopped as i32);
    assert!(slurm.contains(&again), "no {again}");
}

#[test]
fn the_jobs_use_one_image_and_one_volume() {
    let [shards, merge, copy] = [
        "kubernetes.yaml",
        "kubernetes-merge.yaml",
        "kubernetes-copy.yaml",
    ]
    .map(text);
    let of = |text: &str| {
        let one = documents(text).remove(0);
        let pod = match &one["kind"] {
            kind if kind == "Pod" => &one["spec"],
            _ => &one["spec"]["template"]["spec"],
        };
        let image = pod["containers"][0]["image"].clone();
        (
            image,
            pod["volumes"].clone(),
            pod["securityContext"].clone(),
        )
    };
    assert_eq!(of(&shards), of(&merge));
    assert_eq!(of(&shards), of(&copy));
    // Each manifest has one document, so that deleting it deletes no volume.
    assert!(
        [&shards, &merge, &copy]
            .iter()
            .all(|text| documents(text).len() == 1)
    );
    let claim = documents(&text("kubernetes-claim.yaml")).remove(0);
    assert_eq!(claim["kind"], "PersistentVolumeClaim");
    let volume = &of(&shards).1[0]["persistentVolumeClaim"]["claimName"];
    assert_eq!(claim["metadata"]["name"], *volume);
    let image = of(&shards).0;
    let version = format!(":{}", env!("CARGO_PKG_VERSION"));
    assert!(image.as_str().unwrap().ends_with(&version), "{image}");
}

#[test]
fn the_recipes_are_scripts() {
    for name in ["slurm.sbatch", "parallel.sh"] {
        let checked = Command::new("bash")
            .arg("-n")
            .arg(folder().join(name))
            .status();
        assert!(checked.unwrap().success(), "{name}");
    }
    let usage = Command::new("bash")
        .arg(folder().join("parallel.sh"))
        .output();
    let usage = usage.unwrap();
    assert_eq!(usage.status.code(), Some(Exit::Usage as i32));
    let usage = String::from_utf8_lossy(&usage.stderr).into_owned();
    assert!(
        usage.starts_with("DATASET=/mnt/share/wlasl OUT="),
        "{usage}"
    );
    // Slurm reads its options up to the first command.
    let slurm = text("slurm.sbatch");
    let (head, rest) = slurm.split_once("set -u").unwrap();
    assert!(head.contains("#SBATCH --requeue") && !rest.contains("#SBATCH"));
}

#[test]
fn the_config_of_the_page_is_one() {
    let page = text("README.md");
    let lines = page.lines().skip_while(|line| *line != "    [device]");
    let lines: Vec<&str> = lines.map_while(|line| line.strip_prefix("    ")).collect();
    let folder = test_support::scratch();
    let path = folder.path().join("handloom.toml");
    fs::write(&path, lines.join("\n")).unwrap();
    let path = path.to_str().unwrap();
    let printed = test_support::handloom(["check", "--print", "--config", path]).ends(0);
    for line in ["shard = \"0/3\"", "url = \"mqtt://broker.local:1883\""] {
        assert!(printed.stdout.contains(line), "{}", printed.stdout);
    }
}

/// Lists the plan of an empty dataset with these flags and variables.
fn list(flags: &[&str], variables: &str) -> Run {
    let folder = test_support::scratch();
    fs::write(folder.path().join("WLASL_v0.3.json"), "[]").unwrap();
    fs::create_dir(folder.path().join("videos")).unwrap();
    let dataset = folder.path().to_str().unwrap();
    let args = ["process", dataset, "--list", "--progress", "json"];
    let variables = variables
        .split_whitespace()
        .filter_map(|word| word.split_once('='));
    let variables: Vec<(&str, &OsStr)> = variables
        .map(|(name, value)| (name, value.as_ref()))
        .collect();
    test_support::handloom_with(args.iter().chain(flags), &variables)
}

#[test]
fn the_shard_comes_from_the_engine_and_is_reported() {
    let kubernetes = "JOB_COMPLETION_INDEX=2 SHARD_COUNT=4";
    let auto = ["--shard", "auto"];
    let source = list(&auto, kubernetes).ends(0).event("shard_source");
    let expected = json!({
        "event": "shard_source", "shard": {"index": 2, "count": 4}, "engine": "Kubernetes",
        "variables": ["JOB_COMPLETION_INDEX=2", "SHARD_COUNT=4"],
    });
    assert_eq!(source, expected);
    // The flag's variable has the same effect.
    let variables = format!("{kubernetes} HANDLOOM_SHARD=auto");
    assert_eq!(
        list(&[], &variables).ends(0).event("shard_source"),
        expected
    );
    let rank = "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=3";
    let source = list(&["--shard", "mpi"], rank)
        .ends(0)
        .event("shard_source");
    assert_eq!(source["shard"], json!({"index": 1, "count": 3}));
    for (variables, words) in [
        ("", "SHARD_COUNT"),
        (rank, "no variable of an engine"),
        ("JOB_COMPLETION_INDEX=2", "--shard 2/COUNT"),
        (
            "SLURM_ARRAY_TASK_ID=0 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=0 SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_COUNT=1",
            "--shard 0/COUNT",
        ),
        (
            "JOB_COMPLETION_INDEX=2 PBS_ARRAY_INDEX=1 SHARD_COUNT=4",
            "different shards",
        ),
    ] {
        list(&auto, variables).ends(64).stderr_contains(&[words]);
    }
}

#[test]
fn attempts_are_limited() {
    let flags = ["--shard", "0/1", "--max-attempts", "2"];
    list(&flags, "").ends(0);
    list(&flags[2..], "").ends(64).stderr_contains(&["--shard"]);
    list(&flags[2..], "HANDLOOM_SHARD=0/1").ends(0);
    list(&flags, "SLURM_RESTART_COUNT=1").ends(0);
    let refused = list(&flags, "SLURM_RESTART_COUNT=2").ends(65);
    refused.stderr_contains(&["attempt 3", "SLURM_RESTART_COUNT=2", "--max-attempts is 2"]);
}

/// Exit code of `tests/cluster/slurm.py` where Slurm cannot be installed.
const SKIPPED: i32 = 77;

#[test]
fn shards_on_slurm_have_the_bytes_of_one_run() {
    // Outside CI a test must not install packages.
    if std::env::var_os("CI").is_none() {
        return println!(
            "SKIPPED: Slurm is installed and started in CI alone; see make test-slurm"
        );
    }
    let mut test = Command::new("python3");
    test.args(["-B", "tests/cluster/slurm.py", "quick"]);
    let models = quick_models().display();
    test.env("PROGRAM", test_support::binary());
    test.env("OPTIONS", format!("--models {models} --trust-models"));
    let done = test
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    println!("{text}");
    let is_skipped = done.status.code() == Some(SKIPPED);
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() || is_skipped, "{text}{errors}");
}
