//! Reads the layers, lowest first, into a draft: file, environment, flags.

use super::Config;
use super::keys::{self, KEYS, SettingKey};
use super::sources::{PREFIX, Sources, read};
use super::values::{HIDDEN, without_password};
use crate::config::errors::{ConfigError, FileLocation, Origin, Problem, Setting, clipped};
use crate::config::validate;
use crate::config::value_parsers::{Given, ValueType};
use std::collections::BTreeMap;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Names the file; not a setting.
const FILE_VARIABLE: &str = "HANDLOOM_CONFIG";

/// A config that can be used, and how it came about.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The settings.
    pub config: Config,
    /// What is probably not meant, a sentence each.
    pub warnings: Vec<String>,
    /// Where each key comes from that is not a default, in the order of [`KEYS`].
    pub origins: Vec<(&'static str, Origin)>,
}

impl LoadedConfig {
    /// All settings as a config file, secrets hidden, with the place of each that is not a default.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.config.to_toml_with(&self.origins)
    }

    /// Where `key` comes from; `None` for a default.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let found = self.origins.iter().find(|(name, _)| *name == key);
        found.map(|(_, origin)| origin)
    }
}

/// Reads, layers and checks everything.
///
/// # Errors
/// With all that is wrong.
pub fn load(sources: &Sources) -> Result<LoadedConfig, ConfigError> {
    let mut builder = ConfigBuilder::default();
    if let Some(path) = &sources.file {
        let text = read(path)?;
        builder.file(path, &text);
        builder.problems.sort_by_key(line_of);
    }
    builder.environment(&sources.environment);
    builder.flags(&sources.set);
    validate::complete(&mut builder, sources);
    if !builder.problems.is_empty() {
        return Err(ConfigError {
            problems: builder.problems,
        });
    }
    let place = |key: &SettingKey| Some((key.dotted, builder.origins.get(key.dotted)?.clone()));
    Ok(LoadedConfig {
        origins: KEYS.iter().filter_map(place).collect(),
        config: builder.config,
        warnings: builder.warnings,
    })
}

/// Where in the file a problem is.
fn line_of(problem: &Problem) -> (usize, usize) {
    match problem {
        Problem::Unknown {
            origin: Origin::File(place),
            ..
        }
        | Problem::Value {
            origin: Origin::File(place),
            ..
        }
        | Problem::Syntax { place, .. } => (place.line, place.column),
        _ => (0, 0),
    }
}

/// The settings so far.
#[derive(Debug, Default)]
pub(super) struct ConfigBuilder {
    pub(super) config: Config,
    /// Where each key was last set.
    pub(super) origins: BTreeMap<&'static str, Origin>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl ConfigBuilder {
    /// Sets `key`, or notes why it cannot be.
    fn set(&mut self, key: &'static SettingKey, given: &Given, origin: Origin) {
        match (key.set)(&mut self.config, given) {
            Ok(()) => {
                self.origins.insert(key.dotted, origin);
            }
            Err(allowed) => self.problems.push(Problem::Value {
                origin,
                key: key.dotted,
                value: shown(key, given),
                allowed,
            }),
        }
    }

    /// Whether `keys` are all as the user wants them.
    pub(super) fn are_good(&self, keys: &[&str]) -> bool {
        !self.problems.iter().any(|problem| match problem {
            Problem::Value { key, .. } | Problem::Missing { key, .. } => keys.contains(key),
            _ => false,
        })
    }

    /// `key` as one side of a contradiction.
    pub(super) fn setting(&self, key: &'static str) -> Setting {
        Setting {
            key,
            value: keys::find(key).and_then(|key| (key.show)(&self.config)),
            origin: self.origins.get(key).cloned(),
        }
    }

    /// The lowest layer.
    fn file(&mut self, path: &Path, text: &str) {
        let place = |at: usize| FileLocation::of(path.to_owned(), text, at);
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(text.len(), |span| span.start);
                self.problems.push(Problem::Syntax {
                    place: place(at),
                    reason: clipped(error.message()),
                });
                return;
            }
        };
        for (section, content) in table.get_ref() {
            let name = section.get_ref().as_ref();
            let origin = || Origin::File(place(section.span().start).without_value());
            let advice = if !keys::sections().contains(&name) {
                advice_on_section(name)
            } else if let DeValue::Table(content) = content.get_ref() {
                self.section(name, content, &place);
                continue;
            } else {
                format!("write it as a section: [{name}]")
            };
            self.problems.push(Problem::Unknown {
                origin: origin(),
                name: clipped(name),
                advice,
            });
        }
    }

    fn section(
        &mut self,
        section: &str,
        content: &DeTable<'_>,
        place: &dyn Fn(usize) -> FileLocation,
    ) {
        for (name, value) in content {
            let dotted = format!("{section}.{}", name.get_ref());
            if let Some(key) = keys::find(&dotted) {
                let origin = Origin::File(place(value.span().start));
                self.set(key, &given(value), origin);
            } else {
                self.problems.push(Problem::Unknown {
                    origin: Origin::File(place(name.span().start).without_value()),
                    advice: advice_on_key(section, name.get_ref()),
                    name: clipped(&dotted),
                });
            }
        }
    }

    /// The middle layer.
    fn environment(&mut self, environment: &[(String, String)]) {
        let variables: Vec<(String, &SettingKey)> = keys::variables().collect();
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in environment {
            if !name.starts_with(PREFIX) || name == FILE_VARIABLE {
                continue;
            }
            let known = variables.iter().find(|(known, _)| known == name);
            let Some((_, key)) = known else {
                let names = variables.iter().map(|(known, _)| known.as_str());
                self.problems.push(Problem::Unknown {
                    origin: Origin::Environment(clipped(name)),
                    name: "this variable".to_owned(),
                    advice: keys::nearest(name, names.chain([FILE_VARIABLE])).map_or_else(
                        || format!("{PREFIX}… is kept for settings: HANDLOOM_SECTION_KEY, as in HANDLOOM_MQTT_URL"),
                        |near| format!("did you mean {near}?"),
                    ),
                });
                continue;
            };
            if let Some(first) = seen.insert(key.dotted, name) {
                self.problems.push(Problem::Twice {
                    first: first.to_owned(),
                    second: name.clone(),
                    key: key.dotted,
                });
            }
            let given = Given::Bare(value.clone());
            self.set(key, &given, Origin::Environment(name.clone()));
        }
    }

    /// The highest layer.
    fn flags(&mut self, set: &[String]) {
        for text in set {
            let Some((dotted, value)) = text.split_once('=') else {
                let text = clipped(text);
                self.problems.push(Problem::Flag { text });
                continue;
            };
            let dotted = dotted.trim();
            let origin = Origin::Flag(clipped(dotted));
            if let Some(key) = keys::find(dotted) {
                if key.is_secret && !value.is_empty() {
                    self.warnings.push(format!(
                        "--set {dotted} can be read by everybody on this machine with `ps`; use mqtt.password_file"
                    ));
                }
                self.set(key, &Given::Bare(value.to_owned()), origin);
            } else {
                let (section, name) = dotted.split_once('.').unwrap_or(("", dotted));
                self.problems.push(Problem::Unknown {
                    origin,
                    name: clipped(dotted),
                    advice: if keys::sections().contains(&section) {
                        advice_on_key(section, name)
                    } else {
                        advice_on_flag(dotted)
                    },
                });
            }
        }
    }
}

/// A value of the file as the rules take it.
fn given(value: &Spanned<DeValue<'_>>) -> Given {
    let typed = |kind, text: &str| Given::Typed(kind, text.to_owned());
    match value.get_ref() {
        DeValue::String(text) => typed(ValueType::Text, text),
        DeValue::Integer(number) => {
            // Hexadecimal and the like; what does not fit stays as it is written, and is out of every range.
            let number = i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.to_string(), |n| n.to_string());
            Given::Typed(ValueType::Whole, number)
        }
        DeValue::Float(number) => typed(ValueType::Real, number.as_str()),
        DeValue::Boolean(switch) => typed(ValueType::Bool, if *switch { "true" } else { "false" }),
        DeValue::Datetime(date) => Given::Typed(ValueType::Other, date.to_string()),
        DeValue::Table(_) => typed(ValueType::Other, "{…}"),
        DeValue::Array(items) => Given::List(items.iter().map(given).collect()),
    }
}

/// The list that `text` is in the spelling of the file, if it is one.
pub(super) fn list_of(text: &str) -> Option<Given> {
    if !text.trim_start().starts_with('[') {
        return None;
    }
    let line = format!("list = {text}");
    let table = DeTable::parse(&line).ok()?;
    table.get_ref().get("list").map(given)
}

/// What was given for `key`, for a message.
fn shown(key: &SettingKey, given: &Given) -> String {
    if key.is_secret {
        return HIDDEN.to_owned();
    }
    clipped(&match given {
        Given::Bare(text) => without_password(text),
        Given::Typed(ValueType::Text, text) => format!("\"{}\"", without_password(text)),
        Given::Typed(_, text) => text.clone(),
        Given::List(items) => {
            let items: Vec<String> = items.iter().map(|item| shown(key, item)).collect();
            format!("[{}]", items.join(", "))
        }
    })
}

/// What was meant by a section that is not known.
fn advice_on_section(name: &str) -> String {
    let near = keys::nearest(name, keys::sections().into_iter());
    if let Some(near) = near {
        format!("did you mean [{near}]?")
    } else if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        format!("did you mean {} in [{}]?", key.name, key.section)
    } else {
        let sections = keys::sections().join("], [");
        format!("known are [{sections}]")
    }
}

/// What was meant by a key that its section does not have.
fn advice_on_key(section: &str, name: &str) -> String {
    let of_section = || KEYS.iter().filter(|key| key.section == section);
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        format!("did you mean {} in [{}]?", key.name, key.section)
    } else if let Some(near) = keys::nearest(name, of_section().map(|key| key.name)) {
        format!("did you mean {near}?")
    } else {
        let names: Vec<&str> = of_section().map(|key| key.name).collect();
        format!("[{section}] has {}", names.join(", "))
    }
}

/// What was meant by the key of a flag.
fn advice_on_flag(dotted: &str) -> String {
    let near = keys::nearest(dotted, KEYS.iter().map(|key| key.dotted));
    let own = || {
        KEYS.iter()
            .find(|key| key.name == dotted)
            .map(|key| key.dotted)
    };
    near.or_else(own).map_or_else(
        || "section.key=value is wanted, as in --set run.workers=2".to_owned(),
        |near| format!("did you mean {near}?"),
    )
}
