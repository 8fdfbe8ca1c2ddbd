//! Which layer wins, where passwords come from, and which changes a running daemon applies.

use super::case::{Case, EXAMPLE, MINIMAL_CONFIG};
use handloom::config::{KEYS, Origin};
use std::path::PathBuf;

#[test]
fn flags_win_over_environment_over_file() {
    let file = format!(
        "{MINIMAL_CONFIG}[run]\nworkers = 1\ndecoder = \"hardware\"\n[log]\nlevel = \"warn\"\n"
    );
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
    assert_eq!(config.models.path, Some(PathBuf::from("/models")));
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
    // The key decides the type of a bare value.
    let config = Case::new(MINIMAL_CONFIG)
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
    for key in KEYS.iter() {
        let name = key.variable();
        // Too long for any key.
        let wrong = "x".repeat(70_000);
        let message = Case::new(MINIMAL_CONFIG).env(&name, &wrong).refused(&[
            &name,
            key.dotted,
            "allowed are",
        ]);
        assert!(message.len() < 1_000, "{}", message.len());
        Case::new(MINIMAL_CONFIG)
            .set(&format!("{}={wrong}", key.dotted))
            .refused(&[&format!("--set {}: ", key.dotted), "allowed are"]);
    }
}

#[test]
fn passwords_come_from_where_they_are_kept() {
    let mqtt = format!("{MINIMAL_CONFIG}[mqtt]\nurl = \"mqtts://h\"\nusername = \"u\"\n");
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
    // In the config file itself: a file that everybody may read causes a warning.
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
    // Every user sees a password on a command line.
    let (_, warnings) = password(&Case::new(&mqtt).set("mqtt.password=geheim"));
    assert!(warnings[0].contains("`ps`"), "{warnings:?}");
    // In a file beside the config: only the line ending is removed.
    let file = format!("{mqtt}password_file = \"secrets/p\"\n");
    let beside = || Case::new(&file).with("secrets/p", " geheim \r\n", 0o600);
    assert_eq!(password(&beside()), (is(" geheim "), vec![]));
    let (_, warnings) = password(&beside().with("secrets/p", "geheim", 0o604));
    assert!(warnings[0].contains("secrets/p: everybody"), "{warnings:?}");
    // A credential of that name takes precedence.
    let credential = beside().with("creds/secrets/p", "geheim2\n", 0o600);
    assert_eq!(password(&credential.credentials("creds")).0, is("geheim2"));
    // The credential `mqtt-password` needs no setting, but does not override a password.
    let known = |text: &str| Case::new(text).with("creds/mqtt-password", "geheim3\n", 0o600);
    assert_eq!(
        password(&known(&mqtt).credentials("creds")).0,
        is("geheim3")
    );
    assert_eq!(
        password(&known(&inline).credentials("creds")).0,
        is("geheim")
    );
    assert_eq!(
        password(&known(MINIMAL_CONFIG).credentials("creds")),
        (None, vec![])
    );
    assert_eq!(
        password(&Case::new(&mqtt).credentials("nowhere")),
        (None, vec![])
    );
    // A higher layer unsets it.
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
    // Messages do not repeat a password, even in a misspelt or broken setting.
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
fn settings_without_effect_are_reported() {
    let text = format!("{MINIMAL_CONFIG}[mqtt]\nusername = \"u\"\nkeep_alive_s = 10\n");
    let warnings = Case::new(text).good().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].contains("mqtt.keep_alive_s, mqtt.username"),
        "{warnings:?}"
    );
}

#[test]
fn changes_separate_live_from_restart() {
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
