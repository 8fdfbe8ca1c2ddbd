//! The example's values, the defaults, and the settings that follow from others.

use super::case::{ALTERNATIVES, Case, EXAMPLE, MINIMAL_CONFIG, example_with_all};
use handloom::config::KEYS;
use std::path::Path;

/// Keys whose default cannot be shown.
const UNSET: [&str; 34] = [
    "dataset.format",
    "dataset.json",
    "dataset.videos",
    "output.mirror",
    "camera.device",
    "camera.path",
    "camera.format",
    "mqtt.username",
    "mqtt.password",
    "mqtt.password_file",
    "mqtt.ca_file",
    "mqtt.cert_file",
    "mqtt.key_file",
    "plan.subset",
    "plan.splits",
    "plan.only_split",
    "plan.min_videos_per_gloss",
    "plan.max_glosses",
    "plan.max_samples_per_gloss",
    "sequence.slots",
    "sequence.missing",
    "sequence.max_gap",
    "sequence.aspect",
    "sequence.z",
    "sequence.mirror",
    "sequence.frame_range",
    "sequence.sampling",
    "models.path",
    "models.palm",
    "models.hand",
    "run.shard",
    "delegate.library",
    "delegate.palm",
    "delegate.hand",
];

#[test]
fn the_example_is_taken_as_it_stands() {
    let loaded = Case::new(EXAMPLE).good();
    assert_eq!(loaded.warnings, [""; 0]);
    let set: Vec<&str> = loaded.origins.keys().copied().collect();
    assert_eq!(
        set,
        ["dataset.path", "device.id", "mqtt.url", "output.path"]
    );
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let all = example_with_all(&ALTERNATIVES);
    let case = Case::new(&all).with("mqtt-password", "geheim\n", 0o600);
    let loaded = case.good();
    let table: toml::Table = example_with_all(&[]).parse().unwrap();
    let default: toml::Table = Case::new(EXAMPLE).good().config.to_toml().parse().unwrap();
    let at = |table: &toml::Table, key: &handloom::config::SettingKey| {
        table
            .get(key.section)
            .and_then(|s| s.get(key.name))
            .cloned()
    };
    for key in KEYS.iter() {
        let shown = at(&table, key).unwrap_or_else(|| panic!("no {} in the example", key.dotted));
        if UNSET.contains(&key.dotted) || key.dotted == "run.workers" {
            assert_eq!(at(&default, key), None, "{}", key.dotted);
            continue;
        }
        let number = |v: &toml::Value| v.as_float().or(v.as_integer().map(|n| n as f64));
        let default = at(&default, key).unwrap();
        let is_same =
            shown == default || (number(&shown).is_some() && number(&shown) == number(&default));
        assert!(is_same, "{}: {shown} is shown, not {default}", key.dotted);
    }
    let keys = table.values().map(|s| s.as_table().unwrap().len());
    assert_eq!(keys.sum::<usize>(), KEYS.len());
    // Keys in the order of the schema, so that --print and the example read alike.
    let mut last = 0;
    for key in KEYS.iter() {
        let section = EXAMPLE.find(&format!("\n[{}]\n", key.section)).unwrap();
        let line = [format!("\n{} = ", key.name), format!("\n#{} = ", key.name)];
        let at = line
            .iter()
            .find_map(|l| EXAMPLE[section..].find(l))
            .unwrap();
        assert!(section + at > last, "{} is out of order", key.dotted);
        last = section + at;
    }
    assert_eq!(loaded.config.mqtt.password.unwrap().reveal(), "geheim");
}

#[test]
fn the_alternatives_of_the_example_are_taken_too() {
    let tls = EXAMPLE
        .replace("mqtt://broker", "mqtts://broker")
        .replace("#ca_file", "ca_file")
        .replace("#cert_file", "cert_file")
        .replace("#key_file", "key_file")
        .replace("#username", "username")
        .replace("#password =", "password =");
    let loaded = Case::new(tls).good();
    assert_eq!(loaded.config.mqtt.password.unwrap().reveal(), "secret");
}

#[test]
fn the_effective_defaults() {
    let loaded = Case::new(MINIMAL_CONFIG).good();
    insta::assert_snapshot!(loaded.config.to_toml());
    // The printed config is a valid config file.
    let again = Case::new(loaded.config.to_toml()).good();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn defaults_are_those_of_the_command_line() {
    use clap::Parser;
    use handloom::cli::{Cli, Command};
    let config = Case::new(MINIMAL_CONFIG).good().config;
    let cli = Cli::try_parse_from(["handloom", "process", "d", "--out", "o"]).unwrap();
    let Command::Process(args) = cli.command else {
        panic!("process")
    };
    assert_eq!(config.plan, args.plan);
    assert_eq!(config.sequence, args.sequence);
    assert_eq!(config.run, args.run);
    assert_eq!(config.delegate, args.delegate);
    assert_eq!(config.output.batches, args.batches);
    let by_hand = args.config();
    assert_eq!(config.backend_request(), by_hand.backend_request());
    assert_eq!(config.detector(), by_hand.detector());
}

#[test]
fn a_camera_needs_no_dataset() {
    use clap::Parser;
    use handloom::cli::{Cli, Command};
    use handloom::recording::capture_settings::CaptureSettings;
    let text = "[output]\npath = \"o\"\n[camera]\ndevice = \"0\"\n";
    let config = Case::new(text).load().unwrap().config;
    let (place, recipe) = config.capture().unwrap();
    assert_eq!(place.to_string(), "/dev/video0");
    assert_eq!(config.takes_path(), Path::new("o/camera"));
    // The defaults equal those of the command line, except for the names of takes.
    let cli = Cli::try_parse_from(["handloom", "camera"]).unwrap();
    let Command::Camera(args) = cli.command else {
        panic!("camera")
    };
    let by_hand = args.capture_settings();
    assert_eq!(
        (recipe.prefix.as_str(), by_hand.prefix.as_str()),
        ("pi-lab-3", "take")
    );
    let prefix = recipe.prefix.clone();
    assert_eq!(recipe, CaptureSettings { prefix, ..by_hand });
    let text = format!("{text}min_seconds = 11\n");
    let error = Case::new(text).load().unwrap_err().to_string();
    assert!(error.contains("camera.min_seconds"), "{error}");
}

#[test]
fn marks_follow_what_they_belong_to() {
    let config = Case::new(MINIMAL_CONFIG)
        .set("limits.disk_reserve_mib=1001")
        .set("limits.memory_min_mib=1")
        .set("limits.temperature_max_c=60.5")
        .set("device.id=pi")
        .good()
        .config;
    assert_eq!(config.limits.disk_resume_mib, 1502);
    assert_eq!(config.limits.memory_resume_mib, 2);
    assert_eq!(config.limits.temperature_resume_c, 52.5);
    assert_eq!(config.mqtt.client_id, "handloom-pi");
}
