//! The keys of the config, as the fields of [`Config`] declare them: file, environment, `--set`, printing and reloading
//! go by this one list.

use super::settings::{Config, OutputConfig, RunConfig};
use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches};
use std::any::TypeId;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::num::NonZeroU64;
use std::sync::LazyLock;
use toml::Spanned;
use toml::de::DeValue;

/// The arguments of [`Config`], each under its key.
static SCHEMA: LazyLock<Command> = LazyLock::new(|| {
    Config::command().mut_args(|arg| {
        let key = arg.get_id().clone();
        let arg = arg
            .long(key)
            .required(false)
            .env(None::<&str>)
            .value_delimiter(None);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            arg.action(ArgAction::Set).default_value("false")
        } else {
            arg
        }
    })
});

/// All keys, in the order of the example file.
pub static KEYS: LazyLock<Vec<SettingKey>> =
    LazyLock::new(|| SCHEMA.get_arguments().map(SettingKey::new).collect());

/// A key of the config.
#[derive(Debug)]
pub struct SettingKey {
    /// `section.name`.
    pub dotted: &'static str,
    /// The section.
    pub section: &'static str,
    /// The name within the section.
    pub name: &'static str,
    /// Whether a running daemon applies a change on reload. A change of any other key needs a restart.
    pub is_live: bool,
    /// Whether the value must not be shown.
    pub is_secret: bool,
    arg: &'static Arg,
}

impl SettingKey {
    fn new(arg: &'static Arg) -> Self {
        let dotted = arg.get_id().as_str();
        let (section, name) = dotted.split_once('.').unwrap_or((dotted, ""));
        Self {
            dotted,
            section,
            name,
            is_live: matches!(section, "mqtt" | "limits" | "log")
                || matches!(dotted, "output.mirror" | "run.workers"),
            is_secret: dotted == "mqtt.password",
            arg,
        }
    }

    /// The key called `dotted`.
    pub(super) fn find(dotted: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.dotted == dotted)
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        variable(self.dotted)
    }

    /// Checks `value` and returns the texts that `from_assignments` takes; none for a value that is unset.
    pub(super) fn read(&self, value: &RawValue<'_>) -> Result<Vec<String>, String> {
        let is_list = matches!(self.arg.get_action(), ArgAction::Append);
        let items = match value {
            RawValue::Bare(text) => {
                let is_optional = is_list || self.arg.get_default_values().is_empty();
                return if text.is_empty() && is_optional {
                    Ok(Vec::new())
                } else if !is_list {
                    self.check(vec![(*text).to_owned()])
                } else if text.trim_start().starts_with('[')
                    && let Ok(list) = DeValue::parse(text.trim())
                {
                    // As a file spells a list.
                    self.read(&RawValue::Typed(list.get_ref()))
                } else {
                    self.check(text.split(',').map(|t| t.trim().to_owned()).collect())
                };
            }
            RawValue::Typed(DeValue::Array(items)) if is_list => {
                items.iter().map(Spanned::get_ref).collect()
            }
            RawValue::Typed(DeValue::String(text)) if is_list => {
                let items: Vec<String> = text.split(',').map(|t| quoted(t.trim())).collect();
                let list = items.join(", ");
                return Err(format!("write it as a list: {} = [{list}]", self.name));
            }
            RawValue::Typed(_) if is_list => {
                return Err(format!("write it as a list: {} = [\"...\"]", self.name));
            }
            RawValue::Typed(one) => vec![*one],
        };
        let texts = self.check(items.iter().map(|item| text(item)).collect())?;
        items.iter().try_for_each(|item| self.check_type(item))?;
        Ok(texts)
    }

    /// Checks each of `texts` against the constraint.
    fn check(&self, texts: Vec<String>) -> Result<Vec<String>, String> {
        let command = Command::new("value").no_binary_name(true);
        let assignments = texts.iter().map(|text| self.assignment(text));
        let read = command
            .arg(self.arg.clone())
            .try_get_matches_from(assignments);
        read.map_or_else(
            |error| {
                let names = self.arg.get_possible_values();
                let names: Vec<&str> = names.iter().map(PossibleValue::get_name).collect();
                let reason = error.source().map(ToString::to_string);
                Err(reason.unwrap_or_else(|| format!("allowed are {}", names.join(", "))))
            },
            |_| Ok(texts),
        )
    }

    /// Whether a file may spell the value with this type: text needs quotes, numbers and true or false have none.
    fn check_type(&self, value: &DeValue<'_>) -> Result<(), String> {
        let parsed = self.arg.get_value_parser().type_id();
        let is = |types: &[TypeId]| types.iter().any(|t| parsed == *t);
        let is_whole = is(&[
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<NonZeroU64>(),
        ]);
        let is_real = is(&[TypeId::of::<f32>(), TypeId::of::<f64>()]);
        let is_switch = is(&[TypeId::of::<bool>()]);
        let is_text = !(is_whole || is_real || is_switch);
        let is_right = match value {
            DeValue::Array(_) => return Err("write one value, without brackets".to_owned()),
            DeValue::Boolean(_) => is_switch,
            DeValue::Integer(_) => is_whole || is_real,
            DeValue::Float(_) => is_real,
            DeValue::String(_) => is_text,
            DeValue::Datetime(_) | DeValue::Table(_) => false,
        };
        match (is_right, is_text) {
            (true, _) => Ok(()),
            (false, true) => Err(format!("write it in quotes: {}", quoted(&text(value)))),
            (false, false) => Err(format!("write it without quotes: {}", text(value))),
        }
    }

    /// The argument that gives it the value `text`.
    pub(super) fn assignment(&self, text: &str) -> String {
        format!("--{}={text}", self.dotted)
    }
}

/// The environment variable that sets the key called `dotted`.
pub(super) fn variable(dotted: &str) -> String {
    format!("HANDLOOM_{}", dotted.replace('.', "_")).to_ascii_uppercase()
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// The config that [`SettingKey::assignment`]s make; what they leave out has its default.
pub(super) fn from_assignments(
    assignments: impl IntoIterator<Item = String>,
) -> Result<Config, clap::Error> {
    let matches = SCHEMA.clone().try_get_matches_from(assignments)?;
    Config::from_arg_matches(&matches)
}

impl Default for Config {
    fn default() -> Self {
        // Every test that loads a config proves that the defaults can be read.
        from_assignments([]).unwrap_or_else(|error| error.exit())
    }
}

/// What a layer gives for a setting.
#[derive(Debug)]
pub(super) enum RawValue<'a> {
    /// Text without a type: from the environment or a flag.
    Bare(&'a str),
    /// A value of a file.
    Typed(&'a DeValue<'a>),
}

impl RawValue<'_> {
    /// The value for a message; `hide` replaces all text.
    pub(super) fn shown(&self, hide: impl Fn(&str) -> String + Copy) -> String {
        match self {
            Self::Bare(text) => hide(text),
            Self::Typed(DeValue::String(text)) => format!("\"{}\"", hide(text)),
            Self::Typed(DeValue::Array(items)) => in_brackets(
                items
                    .iter()
                    .map(|item| Self::Typed(item.get_ref()).shown(hide)),
            ),
            Self::Typed(other) => text(other),
        }
    }
}

/// A value as an argument spells it.
fn text(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.clone().into_owned(),
        // Also hexadecimal and other radixes; a number that does not fit stays as written and is out of every range.
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| number.to_string(), |n| n.to_string()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(is_on) => is_on.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Table(_) => "{…}".to_owned(),
        DeValue::Array(items) => in_brackets(items.iter().map(|item| text(item.get_ref()))),
    }
}

fn in_brackets(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// The differences between two configs, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigChanges {
    /// Take effect in a running daemon.
    pub live: Vec<&'static str>,
    /// Need a restart.
    pub restart: Vec<&'static str>,
}

impl Config {
    /// What a reload to `new` would change.
    #[must_use]
    pub fn changes(&self, new: &Self) -> ConfigChanges {
        let (old_values, new_values) = (self.literals(), new.literals());
        let differs = |key: &&SettingKey| match key.dotted {
            // Their literals hide a part.
            "mqtt.password" => self.mqtt.password != new.mqtt.password,
            "mqtt.url" => self.mqtt.url != new.mqtt.url,
            dotted => old_values.get(dotted) != new_values.get(dotted),
        };
        let (live, restart) = KEYS
            .iter()
            .filter(differs)
            .partition::<Vec<_>, _>(|key| key.is_live);
        let names = |keys: Vec<&SettingKey>| keys.iter().map(|key| key.dotted).collect();
        ConfigChanges {
            live: names(live),
            restart: names(restart),
        }
    }

    /// This config with the live settings of `new`.
    #[must_use]
    pub fn with_live_of(&self, new: &Self) -> Self {
        let new = new.clone();
        Self {
            mqtt: new.mqtt,
            limits: new.limits,
            log: new.log,
            output: OutputConfig {
                mirror: new.output.mirror,
                ..self.output.clone()
            },
            run: RunConfig {
                workers: new.run.workers,
                ..self.run.clone()
            },
            ..self.clone()
        }
    }

    /// The TOML literal of every key that is set, secrets hidden.
    pub(super) fn literals(&self) -> BTreeMap<String, String> {
        // Cannot fail: no map has keys that are not text, and no value is a map.
        let text = toml::to_string(self).unwrap_or_default();
        let mut section = "";
        let mut literals = BTreeMap::new();
        for line in text.lines() {
            if let Some((name, literal)) = line.split_once(" = ") {
                let literal = literal.strip_suffix(".0").unwrap_or(literal);
                literals.insert(format!("{section}.{name}"), literal.to_owned());
            } else if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            }
        }
        literals
    }

    /// All settings as a config file, secrets hidden, each with the comment that `comment` has for its key.
    pub(super) fn to_toml_with(&self, comment: impl Fn(&str) -> Option<String>) -> String {
        let literals = self.literals();
        let mut text = String::new();
        let mut section = "";
        // Writing to a String cannot fail.
        for key in KEYS.iter() {
            if key.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = key.section;
                writeln!(text, "{gap}[{section}]").ok();
            }
            match literals.get(key.dotted) {
                Some(literal) => write!(text, "{} = {literal}", key.name).ok(),
                None => write!(text, "# {} is not set", key.name).ok(),
            };
            if let Some(comment) = comment(key.dotted) {
                write!(text, "  # {}", comment.escape_debug()).ok();
            }
            text.push('\n');
        }
        text
    }

    /// All settings as a config file, secrets hidden.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.to_toml_with(|_| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn every_key_has_a_section_and_sections_stand_together() {
        assert!(KEYS.iter().all(|key| !key.name.is_empty()));
        let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
        sections.dedup();
        assert_eq!(sections.len(), 12);
        assert_eq!(KEYS.len(), 87);
    }

    #[test]
    fn types_of_a_file_are_checked_against_the_setting() {
        let read = |key: &str, text: &str| {
            let value = DeValue::parse(text).unwrap();
            let key = SettingKey::find(key).unwrap();
            key.read(&RawValue::Typed(value.get_ref()))
        };
        let hands = |text: &str| read("sequence.num_hands", text);
        assert_eq!(hands("2").unwrap(), ["2"]);
        assert_eq!(hands("0x2").unwrap(), ["2"]);
        assert_eq!(hands("\"2\"").unwrap_err(), "write it without quotes: 2");
        let refused = read("device.id", "5").unwrap_err();
        assert_eq!(refused, "write it in quotes: \"5\"");
        let confidence = read("sequence.min_tracking_confidence", "1");
        assert_eq!(confidence.unwrap(), ["1"]);
        assert!(read("sequence.tracking", "\"true\"").is_err());
        assert!(read("mqtt.username", "\"\"").is_err());
        let bare =
            |key: &str, text: &str| SettingKey::find(key).unwrap().read(&RawValue::Bare(text));
        assert_eq!(bare("mqtt.username", "").unwrap(), [""; 0]);
        let glosses = |text: &str| bare("plan.selected_glosses", text).unwrap();
        assert_eq!(glosses(r#"["a,b", 'c']"#), ["a,b", "c"]);
        assert_eq!(glosses("a, b"), ["a", "b"]);
        assert_eq!(glosses("[]"), [""; 0]);
        assert_eq!(glosses("[a"), ["[a"]);
        let pause = read("plan.selected_glosses", "[\"pause\"]");
        assert_eq!(pause.unwrap(), ["pause"]);
        for wrong in ["[true]", "[[\"a\"]]", "\"a\""] {
            assert!(read("plan.selected_glosses", wrong).is_err(), "{wrong}");
        }
        assert!(bare("mqtt.commands", "[1]").is_err());
    }

    #[test]
    fn changes_distinguish_what_a_running_daemon_takes_up() {
        let old = Config::default();
        let mut new = old.clone();
        assert_eq!(old.changes(&new), ConfigChanges::default());
        new.limits.interval_s = 9.0;
        new.mqtt.password = Some(Secret::new("new".to_owned()));
        new.sequence.hands.num_hands = 1;
        let changes = old.changes(&new);
        assert_eq!(changes.live, ["mqtt.password", "limits.interval_s"]);
        assert_eq!(changes.restart, ["sequence.num_hands"]);
        let taken_up = old.with_live_of(&new).changes(&new);
        assert_eq!((taken_up.live, taken_up.restart), (vec![], changes.restart));
    }
}
