//! Refused settings: the message gives the place, the key, the value and the allowed values.

use super::case::{Case, MINIMAL_CONFIG};
use handloom::config::{Sources, load};
use std::fs;
use std::path::PathBuf;

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn bad_values_are_refused_with_place_key_and_range() {
    // Each line is appended to `LEAST`, which has four lines.
    for (line, section, text, expected) in [
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
            "run.accelerator = \"gpu\": allowed are auto, cpu, fastest, fast, require:NAME",
        ),
        (
            6,
            "delegate",
            "options = [\"device\"]",
            "[\"device\"]: allowed are KEY=VALUE",
        ),
        (
            6,
            "sequence",
            "num_hands = \"2\"",
            "num_hands = \"2\": write it without quotes: 2",
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
            "tracking = 1: allowed are true, false",
        ),
        (
            6,
            "sequence",
            "profile = \"better\"",
            "allowed are notebook",
        ),
        (6, "device", "id = \"a/b\"", "1 to 64 of A-Z"),
        (6, "device", "id = \"\"", "1 to 64 of A-Z"),
        (
            6,
            "plan",
            "selected_glosses = \"book\"",
            "write it as a list: selected_glosses = [\"book\"]",
        ),
        (
            6,
            "plan",
            "selected_glosses = [\"\"]",
            "selected_glosses = [\"\"]: allowed are one line",
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
        (6, "mqtt", "url = 1883", "write mqtt://HOST"),
        (6, "mqtt", "url = \"mqtt://h:99999\"", "1 to 65535"),
        (6, "mqtt", "keep_alive_s = 4", "from 5 to 3600"),
        (6, "mqtt", "reconnect_max_s = 0", "from 1 to 3600"),
        (
            6,
            "mqtt",
            "commands = [\"reboot\"]",
            "allowed are pause, resume",
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
        (
            6,
            "plan",
            "selected_glosses = \"a, b\"",
            "write it as a list: selected_glosses = [\"a\", \"b\"]",
        ),
        (6, "mqtt", "host = \"h\"", "mqtt.url = \"mqtt://HOST:PORT\""),
        (
            6,
            "run",
            "accelerator = \"require:gpu\"",
            "did you mean require:litert:gpu?",
        ),
        (6, "device", "id = 5", "write it in quotes: \"5\""),
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
            "[run] has workers, shard, decoder, clip_timeout_s, max_pixels, decoder_memory_mib, decode_in_process, accelerator, accelerator_tolerance, fast_tolerance, accelerator_timeout_s",
        ),
        (5, "sequense", "", "did you mean [sequence]?"),
        (5, "workers", "", "did you mean workers in [run]?"),
        (5, "microphone", "", "known are [device], [dataset]"),
        (6, "camera", "device = \"webcam\"", "devices (/dev/v4l"),
        (6, "camera", "width = 8", "from 16 to 8192"),
        (6, "camera", "format = \"YUV9\"", "allowed are YUYV, NV12"),
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
        let case = Case::new(format!("{MINIMAL_CONFIG}[{section}]\n{text}\n"));
        let place = format!("{}:{line}:", case.path().display());
        let message = case.refused(&[&place, expected]);
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
    for (text, expected) in [
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
            [":6:19)", ":7:14)", "must not exceed"],
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
            ["mqtt.username = \"v\"", "mqtt.url", "set twice"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://u:p@h\"\npassword = \"geheim\"\n",
            ["mqtt.password = \"***\"", "u:***@h", "set twice"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://h\"\npassword = \"geheim\"\n",
            ["mqtt.password", "mqtt.username, unset", "set the second"],
        ),
        (
            "[mqtt]\nurl = \"mqtt://u@h\"\npassword = \"geheim\"\npassword_file = \"f\"\n",
            ["mqtt.password", "mqtt.password_file", "set twice"],
        ),
        (
            "[delegate]\npalm = \"p.tflite\"\n",
            ["delegate.palm", "delegate.library, unset", "set the second"],
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
        let message = Case::new(format!("{MINIMAL_CONFIG}{text}")).refused(&expected);
        assert!(!message.contains("geheim"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let case = Case::new(MINIMAL_CONFIG.replace("\"o\"", "\"o\"\nmirror = \"./x/../o/copy\""));
    case.refused(&[
        "output.mirror",
        ":5:10)",
        "output.path = \"o\"",
        "another medium",
    ]);
    // The mirror may not overlap the takes, either: it copies them to its folder `camera`.
    for takes in ["m/camera", "m/camera/x", "."] {
        let text = MINIMAL_CONFIG.replace("\"o\"", "\"o\"\nmirror = \"./m\"");
        let camera = format!("[camera]\ndevice = \"0\"\npath = {takes:?}\n");
        let case = Case::new(format!("{text}{camera}"));
        case.refused(&["output.mirror", "camera.path", "its folder camera"]);
        // Without a camera there are no takes.
        let no_camera = camera.replace("device = \"0\"\n", "");
        Case::new(format!("{text}{no_camera}")).good();
    }
}

#[test]
fn options_of_a_sequence_that_contradict_each_other_are_refused() {
    let check = |text: &str, expected: &[&str]| {
        let message = Case::new(format!("{MINIMAL_CONFIG}[sequence]\n{text}\n")).refused(expected);
        assert_eq!(message.lines().count(), 1, "{message}");
    };
    check(
        "max_gap = 2",
        &[
            "sequence.max_gap = 2",
            "sequence.profile",
            "gaps are filled only",
        ],
    );
    check(
        "max_gap = 2\nprofile = \"corrected\"\nmissing = \"nan\"",
        &["sequence.max_gap = 2", "sequence.missing = \"nan\""],
    );
    check(
        "mirror = \"dominant\"",
        &[
            "sequence.mirror = \"dominant\"",
            "sequence.profile",
            "slots are sides",
        ],
    );
    check(
        "frame_stride = 3\nprofile = \"corrected\"",
        &[
            "sequence.frame_stride = 3",
            "sequence.profile = \"corrected\"",
            "by stride",
        ],
    );
    check(
        "frame_stride = 3\nsampling = \"interpolate\"",
        &[
            "sequence.frame_stride = 3",
            "sequence.sampling = \"interpolate\"",
        ],
    );
    check(
        "sequence_length = 1\nmin_frames = 1\nsampling = \"uniform\"",
        &[
            "sequence.sequence_length = 1",
            "sequence.sampling",
            "2 or more",
        ],
    );
    for (text, expected) in [
        (
            "slots = \"left\"",
            "sequence.slots = \"left\": allowed are detected, sides",
        ),
        ("aspect = 1", "sequence.aspect = 1: allowed are true, false"),
    ] {
        Case::new(format!("{MINIMAL_CONFIG}[sequence]\n{text}\n")).refused(&[expected]);
    }
    for good in [
        "max_gap = 2\nmissing = \"interpolate_nan\"",
        "mirror = \"dominant\"\nslots = \"sides\"",
        "frame_stride = 3\nprofile = \"corrected\"\nsampling = \"stride\"",
        "profile = \"corrected\"\nframe_range = \"whole\"\naspect = false\nz = \"drop\"",
    ] {
        Case::new(format!("{MINIMAL_CONFIG}[sequence]\n{good}\n")).good();
    }
    // A camera without a dataset accepts a stride under every profile, but neither range nor sampling.
    let camera = "[output]\npath = \"o\"\n[camera]\ndevice = \"0\"\n[sequence]\n";
    for (key, value) in [("sampling", "uniform"), ("frame_range", "whole")] {
        let case = Case::new(format!("{camera}{key} = \"{value}\"\n"));
        case.refused(&[&format!("sequence.{key}"), "camera.device", "cut in time"]);
    }
    Case::new(format!(
        "{camera}profile = \"corrected\"\nframe_stride = 3\n"
    ))
    .good();
}

#[test]
fn missing_required_settings_are_named() {
    let case = Case::new("");
    let path = case.path().display().to_string();
    let message = case.refused(&[
        "dataset.path is not set",
        "HANDLOOM_DATASET_PATH",
        "--set output.path=",
        &path,
    ]);
    assert_eq!(message.lines().count(), 2, "{message}");
    // Without any config file.
    let message = load(&Sources::default()).unwrap_err().to_string();
    assert!(
        message.contains("/etc/handloom/handloom.toml (does not exist): dataset.path"),
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
fn all_problems_are_reported_at_once_in_order() {
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
fn unknown_names_are_refused_with_the_nearest() {
    for (name, expected) in [
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
        Case::new(MINIMAL_CONFIG)
            .env(name, "1")
            .refused(&[expected]);
    }
    for (text, expected) in [
        (
            "run.worker=2",
            "--set run.worker: run.worker is not known; did you mean workers?",
        ),
        ("workers=2", "did you mean run.workers?"),
        ("sequnce.num_hands=2", "did you mean sequence.num_hands?"),
        ("x=1", "write section.key=value"),
        (
            "mqtt.host=h",
            "did you mean mqtt.url = \"mqtt://HOST:PORT\"?",
        ),
        ("gpu=1", "run.accelerator = \"require:litert:gpu\""),
        ("run.workers", "--set run.workers: write section.key=value"),
    ] {
        Case::new(MINIMAL_CONFIG).set(text).refused(&[expected]);
    }
    Case::new(MINIMAL_CONFIG)
        .env("HANDLOOM_LOG", "info")
        .env("HANDLOOM_LOG_LEVEL", "warn")
        .refused(&["HANDLOOM_LOG and HANDLOOM_LOG_LEVEL both set log.level"]);
}

#[test]
fn files_that_are_none_are_named() {
    let folder = test_support::scratch();
    let check = |path: PathBuf, expected: &str| {
        let sources = Sources {
            file: Some(path.clone()),
            ..Sources::default()
        };
        let message = load(&sources).unwrap_err().to_string();
        let path = path.display().to_string();
        assert!(
            message.contains(&path) && message.contains(expected),
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
