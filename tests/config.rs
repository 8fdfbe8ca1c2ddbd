//! The daemon's config: what is taken, what is refused and in which words.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "a broken set-up may end a test; numbers come as they were written"
)]

mod common;

use common::Dice;
use handloom::config::{Config, ConfigError, KEYS, Loaded, Origin, Sources, load};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const EXAMPLE: &str = include_str!("../systemd/handloom.toml");

/// The smallest config that can be used.
const LEAST: &str = "[dataset]\npath = \"d\"\n[output]\npath = \"o\"\n";

/// Keys without a default that could be shown.
const UNSET: [&str; 20] = [
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
    "plan.max_glosses",
    "plan.max_samples_per_gloss",
    "models.path",
    "models.palm",
    "models.hand",
    "delegate.library",
    "delegate.palm",
    "delegate.hand",
];

/// A config file in a folder of its own.
struct Case {
    folder: TempDir,
    sources: Sources,
}

impl Case {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let folder = common::scratch();
        let path = folder.path().join("handloom.toml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let sources = Sources {
            file: Some(path),
            host: Some("pi-lab-3".to_owned()),
            ..Sources::default()
        };
        Self { folder, sources }
    }

    fn path(&self) -> &Path {
        self.sources.file.as_deref().unwrap()
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        let variable = (name.to_owned(), value.to_owned());
        self.sources.environment.push(variable);
        self
    }

    fn set(mut self, text: &str) -> Self {
        self.sources.set.push(text.to_owned());
        self
    }

    /// A file beside the config.
    fn with(self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> Self {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        self
    }

    fn credentials(mut self, name: &str) -> Self {
        self.sources.credentials = Some(self.folder.path().join(name));
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.sources)
    }

    #[track_caller]
    fn good(&self) -> Loaded {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The message of a refusal, which has all of `words`.
    #[track_caller]
    fn refused(&self, words: &[&str]) -> String {
        let text = match self.load() {
            Ok(loaded) => panic!("taken: {}", loaded.to_toml()),
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(text.contains(word), "no \"{word}\" in {text}");
        }
        text
    }
}

/// `EXAMPLE` with every setting that is behind a `#` taken in, but those that `but` names.
fn example_with_all(but: &[&str]) -> String {
    let mut section = "";
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let setting = line.strip_prefix('#').filter(|l| !l.starts_with(' '));
        let name = setting
            .and_then(|l| l.split_once(" = "))
            .map(|(name, _)| name);
        let dotted = name.map(|name| format!("{section}.{name}"));
        let is_in = dotted.is_some_and(|dotted| !but.contains(&dotted.as_str()));
        text.push_str(setting.filter(|_| is_in).unwrap_or(line));
        text.push('\n');
    }
    text
}

/// What may not stand beside the example's other settings.
const ALTERNATIVES: [&str; 4] = [
    "mqtt.password",
    "mqtt.ca_file",
    "mqtt.cert_file",
    "mqtt.key_file",
];

#[test]
fn the_example_is_taken_as_it_stands() {
    let loaded = Case::new(EXAMPLE).good();
    assert_eq!(loaded.warnings, [""; 0]);
    let set: Vec<&str> = loaded.origins.iter().map(|(key, _)| *key).collect();
    assert_eq!(
        set,
        ["device.id", "dataset.path", "output.path", "mqtt.url"]
    );
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let all = example_with_all(&ALTERNATIVES);
    let case = Case::new(&all).with("mqtt-password", "geheim\n", 0o600);
    let loaded = case.good();
    let table: toml::Table = example_with_all(&[]).parse().unwrap();
    let default: toml::Table = Case::new(EXAMPLE).good().config.to_toml().parse().unwrap();
    let at = |table: &toml::Table, key: &handloom::config::Key| {
        table
            .get(key.section)
            .and_then(|s| s.get(key.name))
            .cloned()
    };
    for key in KEYS {
        let shown = at(&table, key).unwrap_or_else(|| panic!("no {} in the example", key.dotted));
        if UNSET.contains(&key.dotted) || key.dotted == "run.workers" {
            assert_eq!(at(&default, key), None, "{}", key.dotted);
            continue;
        }
        let number = |v: &toml::Value| v.as_float().or(v.as_integer().map(|n| n as f64));
        let default = at(&default, key).unwrap();
        let is_same =
            shown == default || (number(&shown).is_some() && number(&shown) == number(&default));
        assert!(is_same, "{}: {shown} is shown, {default} is it", key.dotted);
    }
    let keys = table.values().map(|s| s.as_table().unwrap().len());
    assert_eq!(keys.sum::<usize>(), KEYS.len());
    // Keys in the order of the schema, so that --print and the example read alike.
    let mut last = 0;
    for key in KEYS {
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
    let loaded = Case::new(LEAST).good();
    insta::assert_snapshot!(loaded.config.to_toml());
    // It is a config file itself.
    let again = Case::new(loaded.config.to_toml()).good();
    assert_eq!(again.config, loaded.config);
}

#[test]
fn defaults_are_those_of_the_command_line() {
    use clap::Parser;
    use handloom::cli::{Cli, Command};
    let config = Case::new(LEAST).good().config;
    let cli = Cli::try_parse_from(["handloom", "process", "d", "--out", "o"]).unwrap();
    let Command::Process(args) = cli.command else {
        panic!("process")
    };
    assert_eq!(config.knobs(), args.plan.knobs());
    let shape = |s: handloom::sequence::Shape| (s.length, s.stride, s.tracking);
    assert_eq!(shape(config.shape()), shape(args.sequence.shape()));
    assert_eq!(config.detector(), args.sequence.hands.options());
    assert_eq!(config.sequence.min_frames, args.sequence.min_frames);
    assert_eq!(config.sequence.profile, args.sequence.profile);
    assert_eq!(config.run.workers, args.run.workers);
    assert_eq!(config.output.batch_size, args.run.batch_size);
    assert_eq!(config.video_options().decoder, args.run.decoder);
    assert_eq!(config.video_options().timeout, args.run.clip_timeout);
    assert_eq!(config.accelerator(), args.accelerator.wanted());
}

#[test]
fn a_camera_needs_no_dataset() {
    use clap::Parser;
    use handloom::cli::{Cli, Command};
    use handloom::commands::camera::Recipe;
    let text = "[output]\npath = \"o\"\n[camera]\ndevice = \"0\"\n";
    let config = Case::new(text).load().unwrap().config;
    let (place, recipe) = config.recipe().unwrap();
    assert_eq!(place.to_string(), "/dev/video0");
    assert_eq!(config.takes_path(), Path::new("o/camera"));
    // The numbers of the command line's defaults, but for the takes' names.
    let cli = Cli::try_parse_from(["handloom", "camera"]).unwrap();
    let Command::Camera(args) = cli.command else {
        panic!("camera")
    };
    let by_hand = args.recipe();
    assert_eq!(
        (recipe.prefix.as_str(), by_hand.prefix.as_str()),
        ("pi-lab-3", "take")
    );
    let prefix = recipe.prefix.clone();
    assert_eq!(recipe, Recipe { prefix, ..by_hand });
    let text = format!("{text}min_seconds = 11\n");
    let error = Case::new(text).load().unwrap_err().to_string();
    assert!(error.contains("camera.min_seconds"), "{error}");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn bad_values_are_refused_with_place_key_and_range() {
    // Appended to the least config, whose four lines come first.
    for (line, section, text, says) in [
        (
            6,
            "sequence",
            "frame_stride = 0",
            "sequence.frame_stride = 0: allowed are whole numbers from 1 to 1000000",
        ),
        (6, "sequence", "num_hands = 3", "whole numbers from 1 to 2"),
        (
            6,
            "run",
            "accelerator = \"gpu\"",
            "run.accelerator = \"gpu\": allowed are auto, cpu, require:NAME",
        ),
        (
            6,
            "delegate",
            "options = [\"device\"]",
            "lists of KEY=VALUE",
        ),
        (
            6,
            "sequence",
            "num_hands = \"2\"",
            "num_hands = \"2\": allowed are whole numbers from 1 to 2",
        ),
        (
            6,
            "sequence",
            "num_hands = 2.0",
            "whole numbers from 1 to 2",
        ),
        (
            6,
            "sequence",
            "num_hands = [1]",
            "num_hands = [1]: allowed are whole",
        ),
        (
            6,
            "sequence",
            "num_hands = {a = 1}",
            "num_hands = {…}: allowed are whole",
        ),
        (
            6,
            "sequence",
            "num_hands = 1979-05-27",
            "num_hands = 1979-05-27: allowed",
        ),
        (
            6,
            "sequence",
            "sequence_length = 99999999999999999999999999999999999999999999",
            "from 1 to 10000",
        ),
        (
            6,
            "sequence",
            "sequence_length = 0xffffffff",
            "sequence_length = 4294967295: allowed",
        ),
        (
            6,
            "sequence",
            "min_hand_presence_confidence = nan",
            "numbers from 0 to 1",
        ),
        (
            6,
            "sequence",
            "min_hand_presence_confidence = 1e999",
            "numbers from 0 to 1",
        ),
        (
            6,
            "sequence",
            "min_tracking_confidence = -0.1",
            "numbers from 0 to 1",
        ),
        (
            6,
            "sequence",
            "tracking = 1",
            "tracking = 1: allowed are true and false",
        ),
        (
            6,
            "sequence",
            "profile = \"corrected\"",
            "allowed are notebook",
        ),
        (6, "device", "id = \"a/b\"", "1 to 64 of A-Z"),
        (6, "device", "id = \"\"", "1 to 64 of A-Z"),
        (
            6,
            "plan",
            "selected_glosses = \"book\"",
            "lists of one line of text",
        ),
        (
            6,
            "plan",
            "selected_glosses = [\"\"]",
            "selected_glosses = [\"\"]: allowed are lists",
        ),
        (6, "plan", "max_glosses = 0", "from 1 to 1000000000"),
        (6, "models", "path = \"\"", "paths on one line"),
        (
            6,
            "run",
            "decoder = \"rm -rf\"",
            "software, hardware and names",
        ),
        (6, "run", "clip_timeout_s = 0", "numbers from 0.1 to 86400"),
        (6, "run", "workers = 257", "from 1 to 256"),
        (6, "mqtt", "url = \"http://h\"", "begins with http://"),
        (6, "mqtt", "url = \"h:1883\"", "write mqtt://HOST"),
        (6, "mqtt", "url = \"tcp://u:%x@h\"", "write %25"),
        (6, "mqtt", "url = 1883", "allowed are mqtt://HOST:PORT"),
        (6, "mqtt", "url = \"mqtt://h:99999\"", "1 to 65535"),
        (6, "mqtt", "keep_alive_s = 4", "from 5 to 3600"),
        (6, "mqtt", "reconnect_max_s = 0", "from 1 to 3600"),
        (
            6,
            "mqtt",
            "commands = [\"reboot\"]",
            "lists of pause, resume",
        ),
        (6, "mqtt", "outbox_max_messages = 0", "from 1 to 1000000"),
        (6, "limits", "temperature_max_c = 800", "from 20 to 125"),
        (6, "limits", "disk_reserve_mib = -1", "from 0 to 1048576"),
        (6, "limits", "disk_resume_mib = 0", "from 1 to 1048576"),
        (
            6,
            "log",
            "level = \"loud\"",
            "error, warn, info, debug, trace",
        ),
        (6, "run", "worker = 2", "did you mean workers?"),
        (
            6,
            "run",
            "frame_stride = 2",
            "did you mean frame_stride in [sequence]?",
        ),
        (
            6,
            "run",
            "colour = \"red\"",
            "[run] has workers, accelerator, accelerator_tolerance, accelerator_timeout_s, decoder, clip_timeout_s",
        ),
        (5, "sequense", "", "did you mean [sequence]?"),
        (5, "workers", "", "did you mean workers in [run]?"),
        (5, "microphone", "", "known are [device], [dataset]"),
        (6, "camera", "device = \"webcam\"", "devices (/dev/v4l"),
        (6, "camera", "width = 8", "from 16 to 8192"),
        (6, "camera", "format = \"yuyv\"", "allowed are YUYV, NV12"),
        (6, "camera", "max_seconds = 61", "numbers from 0.1 to 60"),
        (5, "[log]", "", "write it as a section: [log]"),
        (6, "log", "level = ", "string"),
        (6, "log", "level = \"info", "string"),
        (
            7,
            "log",
            "level = \"info\"\nlevel = \"warn\"",
            "duplicate key",
        ),
        (5, "output", "", "duplicate"),
    ] {
        let case = Case::new(format!("{LEAST}[{section}]\n{text}\n"));
        let place = format!("{}:{line}:", case.path().display());
        let message = case.refused(&[&place, says]);
        let shown = text.lines().last().unwrap_or_default();
        let key = shown.split('=').next().unwrap().trim();
        assert!(
            message.contains(&format!("\n     {line} | ")) && message.contains(key),
            "{message}"
        );
    }
}

#[test]
fn settings_that_cannot_both_be_are_both_named() {
    for (text, says) in [
        (
            "[sequence]\nmin_frames = 40\n",
            [
                "sequence.min_frames = 40 (",
                "toml:6:14)",
                "sequence_length = 32 (the default)",
            ],
        ),
        (
            "[sequence]\nsequence_length = 4\nmin_frames = 5\n",
            [":6:19)", ":7:14)", "lower the first"],
        ),
        (
            "[limits]\ntemperature_resume_c = 80\n",
            [
                "resume_c = 80 (",
                "max_c = 80 (the default)",
                "must be lower",
            ],
        ),
        (
            "[limits]\nmemory_resume_mib = 100\n",
            ["memory_min_mib = 200", ":6:21)", "must be higher"],
        ),
        (
            "[limits]\ndisk_reserve_mib = 500\ndisk_resume_mib = 500\n",
            [":6:20)", ":7:19)", "must be higher"],
        ),
        (
            "[mqtt]\nurl = \"mqtts://h\"\ncert_file = \"c\"\n",
            ["mqtt.cert_file", "mqtt.key_file, unset", "set both"],
        ),
        (
            "[mqtt]\nurl = \"mqtts://h\"\nkey_file = \"c\"\n",
            ["mqtt.key_file", "mqtt.cert_file, unset", "set both"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://h\"\nca_file = \"c\"\n",
            ["mqtt.ca_file", "mqtt.url = \"mqtt://h\"", "mqtts://"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://u@h\"\nusername = \"v\"\n",
            ["mqtt.username = \"v\"", "mqtt.url", "one place"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://u:p@h\"\npassword = \"geheim\"\n",
            ["mqtt.password = \"***\"", "u:***@h", "one place"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://h\"\npassword = \"geheim\"\n",
            ["mqtt.password", "mqtt.username, unset", "set the second"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://u@h\"\npassword = \"geheim\"\npassword_file = \"f\"\n",
            ["mqtt.password", "mqtt.password_file", "one of them"],
        ),
        (
            "[delegate]\npalm = \"p.tflite\"\n",
            ["delegate.palm", "delegate.library, unset", "delegate.name"],
        ),
        (
            "[run]\naccelerator = \"require:custom\"\n",
            [
                "require:custom",
                "delegate.library, unset",
                "needs its library",
            ],
        ),
    ] {
        let message = Case::new(format!("{LEAST}{text}")).refused(&says);
        assert!(!message.contains("geheim"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let case = Case::new(LEAST.replace("\"o\"", "\"o\"\nmirror = \"./x/../o/copy\""));
    case.refused(&[
        "output.mirror",
        ":5:10)",
        "output.path = \"o\"",
        "another medium",
    ]);
    // Nor with the takes, which it keeps in a folder of its own.
    for takes in ["m/camera", "m/camera/x", "."] {
        let text = LEAST.replace("\"o\"", "\"o\"\nmirror = \"./m\"");
        let camera = format!("[camera]\ndevice = \"0\"\npath = {takes:?}\n");
        let case = Case::new(format!("{text}{camera}"));
        case.refused(&["output.mirror", "camera.path", "its folder camera"]);
        // Without a camera there are none.
        let no_camera = camera.replace("device = \"0\"\n", "");
        Case::new(format!("{text}{no_camera}")).good();
    }
}

#[test]
fn what_the_user_must_say_is_asked_for() {
    let case = Case::new("");
    let path = case.path().display().to_string();
    let message = case.refused(&[
        "dataset.path is not set",
        "HANDLOOM_DATASET_PATH",
        "--set output.path=",
        &path,
    ]);
    assert_eq!(message.lines().count(), 2, "{message}");
    // Without any file.
    let message = load(&Sources::default()).unwrap_err().to_string();
    assert!(
        message.contains("/etc/handloom/handloom.toml (not there): dataset.path"),
        "{message}"
    );
    let variable = |name: &str| (name.to_owned(), "x".to_owned());
    let loaded = load(&Sources {
        environment: vec![variable("HANDLOOM_DATASET_PATH"), variable("PATH")],
        set: vec!["output.path=o".to_owned()],
        ..Sources::default()
    });
    assert_eq!(loaded.unwrap().config.device.id, "handloom");
}

#[test]
fn all_problems_are_told_at_once_in_order() {
    let text = "[sequence]\nnum_hands = 3\n[sequence2]\n[run]\nworkers = 0\ndecodr = 1\n";
    let message = Case::new(text)
        .env("HANDLOOM_RUN_WORKERS", "many")
        .set("log.level=loud")
        .refused(&[
            "toml:2:13: sequence.num_hands",
            "toml:3:2: sequence2",
            "toml:5:11",
            "toml:6:1",
        ]);
    let order = [
        "toml:2:",
        "toml:3:",
        "toml:5:",
        "toml:6:",
        "HANDLOOM_RUN_WORKERS: run.workers = many: ",
        "--set log.level: ",
        "dataset.path",
        "output.path",
    ];
    let places: Vec<usize> = order.iter().map(|o| message.find(o).unwrap()).collect();
    assert!(places.is_sorted(), "{message}");
}

#[test]
fn flags_win_over_environment_over_file() {
    let file =
        format!("{LEAST}[run]\nworkers = 1\ndecoder = \"hardware\"\n[log]\nlevel = \"warn\"\n");
    let case = Case::new(file)
        .env("HANDLOOM_RUN_WORKERS", "2")
        .env("HANDLOOM_LOG", "debug")
        .env("HANDLOOM_MODELS", "/models")
        .env("HANDLOOM_CONFIG", "elsewhere")
        .env("HOME", "/root")
        .set("run.workers=3");
    let loaded = case.good();
    let config = &loaded.config;
    assert_eq!(config.run.workers, Some(3));
    assert_eq!(config.run.decoder.to_string(), "hardware");
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.models().models, Some(PathBuf::from("/models")));
    assert_eq!(
        loaded.origin("run.workers"),
        Some(&Origin::Flag("run.workers".to_owned()))
    );
    let variable = Origin::Environment("HANDLOOM_LOG".to_owned());
    assert_eq!(loaded.origin("log.level"), Some(&variable));
    assert!(matches!(loaded.origin("run.decoder"), Some(Origin::File(place)) if place.line == 7));
    assert_eq!(loaded.origin("sequence.num_hands"), None);
    assert!(
        loaded
            .to_toml()
            .contains("workers = 3  # --set run.workers\n"),
        "{}",
        loaded.to_toml()
    );
    // What a bare value means goes by the key.
    let config = Case::new(LEAST)
        .env("HANDLOOM_DEVICE_ID", "42")
        .env("HANDLOOM_PLAN_SELECTED_GLOSSES", "book, thank you")
        .env("HANDLOOM_MQTT_COMMANDS", "")
        .env("HANDLOOM_SEQUENCE_TRACKING", "true")
        .set("run.clip_timeout_s=1.5")
        .set("mqtt.url=mqtt://a=b")
        .set("mqtt.url=")
        .good()
        .config;
    assert_eq!(config.device.id, "42");
    assert_eq!(config.plan.selected_glosses, ["book", "thank you"]);
    assert_eq!(config.mqtt.commands, [""; 0]);
    assert!(config.sequence.tracking);
    assert_eq!(config.run.clip_timeout_s, 1.5);
    assert_eq!(config.mqtt.url, None);
}

#[test]
fn every_key_can_be_set_by_every_layer() {
    for key in KEYS {
        let name = key.variable();
        // Too long for any.
        let wrong = "x".repeat(70_000);
        let message =
            Case::new(LEAST)
                .env(&name, &wrong)
                .refused(&[&name, key.dotted, "allowed are"]);
        assert!(message.len() < 1_000, "{}", message.len());
        Case::new(LEAST)
            .set(&format!("{}={wrong}", key.dotted))
            .refused(&[&format!("--set {}: ", key.dotted), "allowed are"]);
    }
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    for (name, says) in [
        (
            "HANDLOOM_MQTT_ULR",
            "HANDLOOM_MQTT_ULR: this variable is not known; did you mean HANDLOOM_MQTT_URL?",
        ),
        ("HANDLOOM_LOGS", "did you mean HANDLOOM_LOG?"),
        (
            "HANDLOOM_OUTPUT_BATCHSIZE",
            "did you mean HANDLOOM_OUTPUT_BATCH_SIZE?",
        ),
        ("HANDLOOM_CONFIGS", "did you mean HANDLOOM_CONFIG?"),
        ("HANDLOOM_", "HANDLOOM_SECTION_KEY"),
        ("HANDLOOM_COLOUR_OF_THE_SKY", "HANDLOOM_SECTION_KEY"),
    ] {
        Case::new(LEAST).env(name, "1").refused(&[says]);
    }
    for (text, says) in [
        (
            "run.worker=2",
            "--set run.worker: run.worker is not known; did you mean workers?",
        ),
        ("workers=2", "did you mean run.workers?"),
        ("sequnce.num_hands=2", "did you mean sequence.num_hands?"),
        ("x=1", "section.key=value is wanted"),
        (
            "run.workers",
            "--set run.workers: section.key=value is wanted",
        ),
    ] {
        Case::new(LEAST).set(text).refused(&[says]);
    }
    Case::new(LEAST)
        .env("HANDLOOM_LOG", "info")
        .env("HANDLOOM_LOG_LEVEL", "warn")
        .refused(&["HANDLOOM_LOG and HANDLOOM_LOG_LEVEL both set log.level"]);
}

#[test]
fn marks_follow_what_they_belong_to() {
    let config = Case::new(LEAST)
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

#[test]
fn passwords_come_from_where_they_are_kept() {
    let mqtt = format!("{LEAST}[mqtt]\nurl = \"mqtts://h\"\nusername = \"u\"\n");
    let password = |case: &Case| {
        let loaded = case.good();
        let shown = format!("{}\n{:?}", loaded.to_toml(), loaded);
        assert!(!shown.contains("geheim"), "{shown}");
        (
            loaded.config.mqtt.password.map(|p| p.reveal().to_owned()),
            loaded.warnings,
        )
    };
    let is = |text: &str| Some(text.to_owned());
    // In the file itself, read by all or not.
    let inline = format!("{mqtt}password = \"geheim\"\n");
    assert_eq!(password(&Case::new(&inline)), (is("geheim"), vec![]));
    let open = Case::new(&inline).with("handloom.toml", &inline, 0o644);
    let (found, warnings) = password(&open);
    assert_eq!(found, is("geheim"));
    assert!(
        warnings[0].contains("toml:8:12: everybody") && warnings[0].contains("chmod 640"),
        "{warnings:?}"
    );
    let url = mqtt.replace("h\"\nusername = \"u\"", "me:geheim@h\"");
    let (_, warnings) = password(&Case::new(&url).with("handloom.toml", &url, 0o644));
    assert!(warnings[0].contains("mqtt.url"), "{warnings:?}");
    // On a command line everybody sees it.
    let (_, warnings) = password(&Case::new(&mqtt).set("mqtt.password=geheim"));
    assert!(warnings[0].contains("`ps`"), "{warnings:?}");
    // In a file beside the config; only its line's end is cut.
    let file = format!("{mqtt}password_file = \"secrets/p\"\n");
    let beside = || Case::new(&file).with("secrets/p", " geheim \r\n", 0o600);
    assert_eq!(password(&beside()), (is(" geheim "), vec![]));
    let (_, warnings) = password(&beside().with("secrets/p", "geheim", 0o604));
    assert!(warnings[0].contains("secrets/p: everybody"), "{warnings:?}");
    // A credential of that name comes first.
    let credential = beside().with("creds/secrets/p", "geheim2\n", 0o600);
    assert_eq!(password(&credential.credentials("creds")).0, is("geheim2"));
    // The credential with the known name is taken by itself, but not over a password.
    let known = |text: &str| Case::new(text).with("creds/mqtt-password", "geheim3\n", 0o600);
    assert_eq!(
        password(&known(&mqtt).credentials("creds")).0,
        is("geheim3")
    );
    assert_eq!(
        password(&known(&inline).credentials("creds")).0,
        is("geheim")
    );
    assert_eq!(password(&known(LEAST).credentials("creds")), (None, vec![]));
    assert_eq!(
        password(&Case::new(&mqtt).credentials("nowhere")),
        (None, vec![])
    );
    // Unset again by a higher layer.
    assert_eq!(
        password(&beside().env("HANDLOOM_MQTT_PASSWORD_FILE", "")).0,
        None
    );

    beside()
        .with("secrets/p", "\n", 0o600)
        .refused(&["toml:8:17: mqtt.password_file", "secrets/p: it is empty"]);
    Case::new(&file).refused(&["secrets/p", "No such file"]);
    Case::new(&mqtt)
        .env("HANDLOOM_MQTT_PASSWORD_FILE", "/dev/zero")
        .refused(&["HANDLOOM_MQTT_PASSWORD_FILE", "not a regular file"]);
    beside()
        .with("secrets/p", [0xff, 0xfe], 0o600)
        .refused(&["secrets/p", "UTF-8"]);
    // Also a misspelt or broken one is not repeated.
    for text in [
        "pasword = \"geheim\"",
        "password = \"geheim",
        "password = [\"geheim\"]",
        "passwort = \"\"\"\ngeheim\"\"\"x",
    ] {
        let message = Case::new(format!("{mqtt}{text}\n")).refused(&["handloom.toml:"]);
        assert!(!message.contains("geheim"), "{message}");
    }
}

#[test]
fn settings_without_effect_are_told() {
    let text = format!("{LEAST}[mqtt]\nusername = \"u\"\nkeep_alive_s = 10\n");
    let warnings = Case::new(text).good().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("mqtt.keep_alive_s, mqtt.username"),
        "{warnings:?}"
    );
}

#[test]
fn files_that_are_none_are_named() {
    let folder = common::scratch();
    let check = |path: PathBuf, says: &str| {
        let sources = Sources {
            file: Some(path.clone()),
            ..Sources::default()
        };
        let message = load(&sources).unwrap_err().to_string();
        let path = path.display().to_string();
        assert!(
            message.contains(&path) && message.contains(says),
            "{message}"
        );
    };
    check(folder.path().to_owned(), "not a regular file");
    check(folder.path().join("gone.toml"), "No such file");
    check("/dev/zero".into(), "not a regular file");
    let huge = folder.path().join("huge.toml");
    fs::write(&huge, vec![b'\n'; (1 << 20) + 1]).unwrap();
    check(huge, "more than 1048576 bytes");
    let latin = folder.path().join("latin.toml");
    fs::write(&latin, b"[device]\nid = \"k\xfcche\"\n").unwrap();
    check(latin, "latin.toml:2:8: this is not UTF-8");
}

#[test]
fn changes_tell_live_from_restart() {
    let old = Case::new(EXAMPLE).good().config;
    let changes = |set: &[&str]| {
        let case = set
            .iter()
            .fold(Case::new(EXAMPLE), |case, text| case.set(text));
        let changes = old.changes(&case.good().config);
        (changes.live, changes.restart)
    };
    assert_eq!(changes(&[]), (vec![], vec![]));
    assert_eq!(
        changes(&[
            "run.workers=1",
            "output.mirror=/m",
            "log.level=warn",
            "limits.disk_reserve_mib=2"
        ]),
        (
            vec![
                "output.mirror",
                "run.workers",
                "limits.disk_reserve_mib",
                "limits.disk_resume_mib",
                "log.level"
            ],
            vec![]
        )
    );
    assert_eq!(
        changes(&["device.id=other", "sequence.frame_stride=3"]),
        (
            vec!["mqtt.client_id"],
            vec!["device.id", "sequence.frame_stride"]
        )
    );
    let live: Vec<&str> = KEYS
        .iter()
        .filter(|k| k.is_live)
        .map(|k| k.section)
        .collect();
    assert_eq!(live.iter().filter(|s| **s == "mqtt").count(), 14);
    assert_eq!(live.iter().filter(|s| **s == "limits").count(), 7);
    assert_eq!(live.len(), 14 + 7 + 3);
}

/// A value that some key may not like.
fn odd_value(dice: &mut Dice) -> String {
    let values = [
        "0",
        "-1",
        "1",
        "nan",
        "inf",
        "-inf",
        "true",
        "\"\"",
        "\"x\"",
        "[]",
        "[[]]",
        "{}",
        "{a.b = 1}",
        "1e400",
        "0x7f",
        "1979-05-27T07:32:00Z",
        "99999999999999999999999999999999999999999999999999",
        "-9223372036854775809",
        "\"\\u0000\"",
        "\"\"\"\n\"\"\"",
        "[1, \"a\", 2.5]",
        "'",
        "=",
        "",
    ];
    values[dice.below(values.len())].to_owned()
}

/// `lines` with one thing changed.
fn mutate(lines: &mut Vec<Vec<u8>>, dice: &mut Dice) {
    let at = dice.below(lines.len());
    match dice.below(8) {
        0 => {
            lines.remove(at);
        }
        1 => {
            let line = lines[at].clone();
            let to = dice.below(lines.len());
            lines.insert(to, line);
        }
        2 | 3 if !lines[at].is_empty() => {
            let byte = dice.below(lines[at].len());
            lines[at][byte] = dice.byte();
        }
        4 => lines.truncate(at + 1),
        5 => lines[at].truncate(at % 7),
        _ => {
            let text = String::from_utf8_lossy(&lines[at]).into_owned();
            if let Some((key, _)) = text.split_once('=') {
                lines[at] = format!("{key}= {}", odd_value(dice)).into_bytes();
            }
        }
    }
    if lines.is_empty() {
        lines.push(Vec::new());
    }
}

#[test]
fn no_config_makes_it_panic() {
    let all = example_with_all(&ALTERNATIVES);
    // Comments are of no interest.
    let lines: Vec<Vec<u8>> = all
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| l.as_bytes().to_vec())
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..600 {
        let mut dice = Dice::new(seed);
        let mut lines = lines.clone();
        for _ in 0..=dice.below(3) {
            mutate(&mut lines, &mut dice);
        }
        let bytes = lines.join(&b'\n');
        let mut case = Case::new(&bytes).with("mqtt-password", "geheim", 0o600);
        // A broken variable and a broken flag now and then.
        let key = &KEYS[dice.below(KEYS.len())];
        match dice.below(4) {
            0 => case = case.env(&key.variable(), &odd_value(&mut dice)),
            1 => case = case.set(&format!("{}={}", key.dotted, odd_value(&mut dice))),
            _ => {}
        }
        match case.load() {
            Ok(loaded) => {
                taken += 1;
                // What is taken can be printed and is the same again.
                let again = Case::new(loaded.to_toml())
                    .with("mqtt-password", "geheim", 0o600)
                    .set("mqtt.password=")
                    .good();
                let mut expected = loaded.config.clone();
                let mut found = again.config;
                for config in [&mut expected, &mut found] {
                    config.mqtt.password = None;
                    config.mqtt.password_file = None;
                }
                assert_same(&expected, &found, seed);
            }
            Err(error) => {
                refused += 1;
                for problem in &error.problems {
                    let text = problem.to_string();
                    let sources = [case.path().to_str().unwrap(), "HANDLOOM_", "--set "];
                    assert!(
                        sources.iter().any(|s| text.contains(s)),
                        "seed {seed}: {text}"
                    );
                    assert!(
                        !text.contains("geheim") && text.len() < 1_500,
                        "seed {seed}: {text}"
                    );
                    let is_clean = |c: char| !c.is_control() || c == '\n';
                    assert!(text.chars().all(is_clean), "seed {seed}: {text:?}");
                }
            }
        }
    }
    // The generator finds both kinds.
    assert!(
        taken > 50 && refused > 200,
        "{taken} taken, {refused} refused"
    );
}

#[track_caller]
fn assert_same(a: &Config, b: &Config, seed: u64) {
    let changes = a.changes(b);
    assert!(
        changes.live.is_empty() && changes.restart.is_empty(),
        "seed {seed}: {changes:?}"
    );
}
