//! What was probably meant by a name that no section, key or variable has.

use super::keys::{KEYS, SettingKey};

/// Names that other programs give to a setting, and what to write instead.
const SYNONYMS: &[(&str, &str)] = &[
    ("host", "mqtt.url = \"mqtt://HOST:PORT\""),
    ("port", "mqtt.url = \"mqtt://HOST:PORT\""),
    ("broker", "mqtt.url = \"mqtt://HOST:PORT\""),
    ("server", "mqtt.url = \"mqtt://HOST:PORT\""),
    ("user", "mqtt.username"),
    ("gpu", "run.accelerator = \"require:litert:gpu\""),
    ("cuda", "run.accelerator = \"require:litert:gpu\""),
    ("threads", "run.workers"),
    ("jobs", "run.workers"),
    ("cores", "run.workers"),
    ("output_dir", "output.path"),
    ("glosses", "plan.selected_glosses"),
];

/// The name of `names` that `wrong` was probably meant to be.
pub(super) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: String = wrong.chars().take(64).collect();
    let (distance, name) = names
        .map(|name| (strsim::osa_distance(&wrong, name), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(wrong.chars().count() / 4)).then_some(name)
}

/// The sections, in order.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    sections
}

/// The key of another section that is called `name`.
fn elsewhere(name: &str) -> Option<String> {
    let key: &SettingKey = KEYS.iter().find(|key| key.name == name)?;
    Some(format!("did you mean {} in [{}]?", key.name, key.section))
}

fn synonym(name: &str) -> Option<String> {
    let (_, right) = SYNONYMS.iter().find(|(word, _)| *word == name)?;
    Some(format!("did you mean {right}?"))
}

/// What was meant by an unknown section.
pub(super) fn on_section(name: &str) -> String {
    nearest(name, sections().into_iter())
        .map(|near| format!("did you mean [{near}]?"))
        .or_else(|| elsewhere(name))
        .or_else(|| synonym(name))
        .unwrap_or_else(|| format!("known are [{}]", sections().join("], [")))
}

/// What was meant by a key that its section does not have.
pub(super) fn on_key(section: &str, name: &str) -> String {
    let names = || {
        KEYS.iter()
            .filter(|key| key.section == section)
            .map(|key| key.name)
    };
    elsewhere(name)
        .or_else(|| synonym(name))
        .or_else(|| nearest(name, names()).map(|near| format!("did you mean {near}?")))
        .unwrap_or_else(|| {
            let names: Vec<&str> = names().collect();
            format!("[{section}] has {}", names.join(", "))
        })
}

/// What was meant by the key of a `--set`.
pub(super) fn on_flag(dotted: &str) -> String {
    let (section, name) = dotted.split_once('.').unwrap_or(("", dotted));
    if sections().contains(&section) {
        return on_key(section, name);
    }
    let own = || {
        KEYS.iter()
            .find(|key| key.name == name)
            .map(|key| key.dotted)
    };
    nearest(dotted, KEYS.iter().map(|key| key.dotted))
        .or_else(own)
        .map(|near| format!("did you mean {near}?"))
        .or_else(|| synonym(name))
        .unwrap_or_else(|| "write section.key=value, as in --set run.workers=2".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_names_are_recognised() {
        let check = |wrong: &str, expected: Option<&str>| {
            let names = ["workers", "decoder", "clip_timeout_s"];
            assert_eq!(nearest(wrong, names.into_iter()), expected, "{wrong}");
        };
        check("worker", Some("workers"));
        check("wrokers", Some("workers"));
        check("clip_timeout", Some("clip_timeout_s"));
        check("temperature", None);
        check("", None);
    }

    #[test]
    fn synonyms_name_settings_that_exist() {
        for (word, right) in SYNONYMS {
            let dotted = right.split(" = ").next().unwrap();
            assert!(SettingKey::find(dotted).is_some(), "{right}");
            assert!(KEYS.iter().all(|key| key.name != *word), "{word}");
        }
        assert!(on_key("mqtt", "host").contains("mqtt://HOST:PORT"));
        assert!(on_flag("mqtt.host").contains("mqtt://HOST:PORT"));
        assert!(on_flag("gpu").contains("require:litert:gpu"));
    }
}
