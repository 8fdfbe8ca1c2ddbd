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
use toml::de::{DeTable, DeValue};

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
    /// Whether a running daemon takes up a change on reload. All else decides numbers, or what is open.
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
        format!("HANDLOOM_{}_{}", self.section, self.name).to_ascii_uppercase()
    }

    /// Checks `value` and returns the texts that `from_texts` takes; none for a value that is unset.
    pub(super) fn read(&self, value: &RawValue) -> Result<Vec<String>, String> {
        let is_list = matches!(self.arg.get_action(), ArgAction::Append);
        let is_optional = !is_list && self.arg.get_default_values().is_empty();
        let items = match value {
            RawValue::Bare(text) if text.is_empty() && (is_list || is_optional) => Vec::new(),
            RawValue::Bare(text) if is_list => match RawValue::list(text) {
                Some(list) => return self.read(&list),
                None => text.split(',').map(|t| t.trim().to_owned()).collect(),
            },
            RawValue::Typed(ValueType::Text, text) if is_list => {
                let items = text.split(',').map(|t| quoted(t.trim()));
                let list = items.collect::<Vec<_>>().join(", ");
                return Err(format!("write it as a list: {} = [{list}]", self.name));
            }
            RawValue::Typed(..) if is_list => {
                return Err(format!("write it as a list: {} = [\"...\"]", self.name));
            }
            RawValue::List(items) if is_list => items.iter().map(RawValue::text).collect(),
            one => vec![one.text()],
        };
        self.check(&items)?;
        match value {
            RawValue::List(values) if is_list => {
                values.iter().try_for_each(|v| self.check_type(v))?;
            }
            RawValue::List(_) => return Err("write one value, without brackets".to_owned()),
            one => self.check_type(one)?,
        }
        Ok(items)
    }

    /// Checks each of `texts` against the constraint.
    fn check(&self, texts: &[String]) -> Result<(), String> {
        let command = Command::new("value").no_binary_name(true);
        let texts = texts.iter().map(|text| self.assignment(text));
        let read = command.arg(self.arg.clone()).try_get_matches_from(texts);
        read.map(drop).map_err(|error| {
            let reason = error.source().map(ToString::to_string);
            reason.unwrap_or_else(|| {
                let names = self.arg.get_possible_values();
                let names: Vec<&str> = names.iter().map(PossibleValue::get_name).collect();
                format!("allowed are {}", names.join(", "))
            })
        })
    }

    /// Whether a file may spell the value with this type: text needs quotes, numbers and true or false have none.
    fn check_type(&self, value: &RawValue) -> Result<(), String> {
        let RawValue::Typed(found, text) = value else {
            return Ok(());
        };
        let parsed = self.arg.get_value_parser().type_id();
        let is = |types: &[TypeId]| types.iter().any(|t| parsed == *t);
        let whole = [
            TypeId::of::<u32>(),
            TypeId::of::<u64>(),
            TypeId::of::<usize>(),
            TypeId::of::<NonZeroU64>(),
        ];
        let wanted: &[ValueType] = if is(&[TypeId::of::<bool>()]) {
            &[ValueType::Bool]
        } else if is(&whole) {
            &[ValueType::Whole]
        } else if is(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
            &[ValueType::Whole, ValueType::Real]
        } else {
            &[ValueType::Text]
        };
        if wanted.contains(found) {
            Ok(())
        } else if wanted == [ValueType::Text] {
            Err(format!("write it in quotes: {}", quoted(text)))
        } else {
            Err(format!("write it without quotes: {text}"))
        }
    }

    /// The argument that gives it the value `text`.
    pub(super) fn assignment(&self, text: &str) -> String {
        format!("--{}={text}", self.dotted)
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RawValue {
    /// Text without a type: from the environment or a flag.
    Bare(String),
    /// A value of a file, in its own spelling.
    Typed(ValueType, String),
    /// A list of a file.
    List(Vec<Self>),
}

/// Types that a file distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    /// In quotes.
    Text,
    /// Digits.
    Whole,
    /// With a point or an exponent, `inf` and `nan`.
    Real,
    /// `true` or `false`.
    Bool,
    /// A date or a table, which no setting takes.
    Other,
}

impl From<&Spanned<DeValue<'_>>> for RawValue {
    fn from(value: &Spanned<DeValue<'_>>) -> Self {
        let typed = |kind, text: &str| Self::Typed(kind, text.to_owned());
        match value.get_ref() {
            DeValue::String(text) => typed(ValueType::Text, text),
            DeValue::Integer(number) => {
                // Also hexadecimal and the like; what does not fit stays as written and is out of every range.
                let number = i128::from_str_radix(number.as_str(), number.radix())
                    .map_or_else(|_| number.to_string(), |n| n.to_string());
                Self::Typed(ValueType::Whole, number)
            }
            DeValue::Float(number) => typed(ValueType::Real, number.as_str()),
            DeValue::Boolean(is_on) => typed(ValueType::Bool, &is_on.to_string()),
            DeValue::Datetime(date) => typed(ValueType::Other, &date.to_string()),
            DeValue::Table(_) => typed(ValueType::Other, "{…}"),
            DeValue::Array(items) => Self::List(items.iter().map(Self::from).collect()),
        }
    }
}

impl RawValue {
    /// The list that `text` spells as a file would, if it does.
    fn list(text: &str) -> Option<Self> {
        if !text.trim_start().starts_with('[') {
            return None;
        }
        let line = format!("list = {text}");
        let table = DeTable::parse(&line).ok()?;
        table.get_ref().get("list").map(Self::from)
    }

    fn text(&self) -> String {
        match self {
            Self::Bare(text) | Self::Typed(_, text) => text.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::text).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    /// As a message shows it, with `hide` over all text.
    pub(super) fn shown(&self, hide: impl Fn(&str) -> String + Copy) -> String {
        match self {
            Self::Bare(text) => hide(text),
            Self::Typed(ValueType::Text, text) => format!("\"{}\"", hide(text)),
            Self::Typed(_, text) => text.clone(),
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(|item| item.shown(hide)).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }
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

    /// This config with what a running daemon can take up of `new`.
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
        // No map has keys that are no text, and no value is a map: it cannot fail.
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
        assert_eq!(KEYS.len(), 69);
    }

    #[test]
    fn types_of_a_file_are_checked_against_the_setting() {
        let typed = |kind, text: &str| RawValue::Typed(kind, text.to_owned());
        let read = |key: &str, value: &RawValue| SettingKey::find(key).unwrap().read(value);
        let hands = |value: &RawValue| read("sequence.num_hands", value);
        assert_eq!(hands(&typed(ValueType::Whole, "2")).unwrap(), ["2"]);
        let refused = hands(&typed(ValueType::Text, "2")).unwrap_err();
        assert_eq!(refused, "write it without quotes: 2");
        let refused = read("device.id", &typed(ValueType::Whole, "5")).unwrap_err();
        assert_eq!(refused, "write it in quotes: \"5\"");
        let one = typed(ValueType::Whole, "1");
        assert_eq!(
            read("sequence.min_tracking_confidence", &one).unwrap(),
            ["1"]
        );
        assert!(read("sequence.tracking", &typed(ValueType::Text, "true")).is_err());
        assert!(read("mqtt.username", &typed(ValueType::Text, "")).is_err());
        let empty = RawValue::Bare(String::new());
        assert_eq!(read("mqtt.username", &empty).unwrap(), [""; 0]);
        let glosses = |value: &RawValue| read("plan.selected_glosses", value);
        let bare = |text: &str| glosses(&RawValue::Bare(text.to_owned())).unwrap();
        assert_eq!(bare(r#"["a,b", 'c']"#), ["a,b", "c"]);
        assert_eq!(bare("a, b"), ["a", "b"]);
        assert_eq!(bare("[]"), [""; 0]);
        assert_eq!(bare("[a"), ["[a"]);
        let list = |kind| RawValue::List(vec![typed(kind, "pause")]);
        assert_eq!(glosses(&list(ValueType::Text)).unwrap(), ["pause"]);
        assert!(glosses(&list(ValueType::Bool)).is_err());
        assert!(read("mqtt.commands", &RawValue::Bare("[1]".to_owned())).is_err());
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
