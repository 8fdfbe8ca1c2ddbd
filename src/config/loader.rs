//! Reads the layers, lowest first: file, environment, flags. A higher layer replaces what a lower one sets.

use super::advice;
use super::errors::{ConfigError, FileLocation, Origin, Problem, Setting, clipped};
use super::keys::{self, KEYS, RawValue, SettingKey};
use super::settings::Config;
use super::sources::{PREFIX, Sources, read};
use super::validate;
use super::values::{HIDDEN, without_password};
use std::collections::BTreeMap;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Names the file; not a setting.
const FILE_VARIABLE: &str = "HANDLOOM_CONFIG";

/// A valid config, and where its values come from.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// The settings.
    pub config: Config,
    /// Settings that are probably a mistake, a sentence each.
    pub warnings: Vec<String>,
    /// The origin of each key that is not a default, in the order of [`KEYS`].
    pub origins: Vec<(&'static str, Origin)>,
}

impl LoadedConfig {
    /// All settings as a config file, secrets hidden, with the origin of each that is not a default.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.config
            .to_toml_with(|key| self.origin(key).map(ToString::to_string))
    }

    /// The origin of `key`; `None` for a default.
    #[must_use]
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let found = self.origins.iter().find(|(name, _)| *name == key);
        found.map(|(_, origin)| origin)
    }
}

/// Reads, layers and validates all settings.
///
/// # Errors
/// With all problems.
pub fn load(sources: &Sources) -> Result<LoadedConfig, ConfigError> {
    let mut layers = Layers::default();
    if let Some(path) = &sources.file {
        let text = read(path)?;
        layers.add_file(path, &text);
        layers.problems.sort_by_key(line_of);
    }
    layers.add_environment(&sources.environment);
    layers.add_flags(&sources.set);
    let mut builder = layers.build()?;
    validate::complete(&mut builder, sources);
    if !builder.problems.is_empty() {
        return Err(ConfigError {
            problems: builder.problems,
        });
    }
    let origin = |key: &SettingKey| Some((key.dotted, builder.origins.get(key.dotted)?.clone()));
    Ok(LoadedConfig {
        origins: KEYS.iter().filter_map(origin).collect(),
        config: builder.config,
        warnings: builder.warnings,
    })
}

/// The line and column of a problem in the file.
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

/// The values of the layers that were read so far.
#[derive(Debug, Default)]
struct Layers {
    /// The texts of each key that is set.
    texts: BTreeMap<&'static str, Vec<String>>,
    origins: BTreeMap<&'static str, Origin>,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

/// The config of all layers while it is completed and validated.
#[derive(Debug)]
pub(super) struct ConfigBuilder {
    pub(super) config: Config,
    /// Where each key was last set.
    pub(super) origins: BTreeMap<&'static str, Origin>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl ConfigBuilder {
    /// Whether no problem is about one of `keys`.
    pub(super) fn are_valid(&self, keys: &[&str]) -> bool {
        !self.problems.iter().any(|problem| match problem {
            Problem::Value { key, .. } | Problem::Missing { key, .. } => keys.contains(key),
            _ => false,
        })
    }

    /// `key` as one side of a contradiction.
    pub(super) fn setting(&self, key: &'static str) -> Setting {
        Setting {
            key,
            value: self.config.literals().remove(key),
            origin: self.origins.get(key).cloned(),
        }
    }
}

impl Layers {
    fn build(self) -> Result<ConfigBuilder, ConfigError> {
        let assignments = self.texts.iter().filter_map(|(dotted, texts)| {
            let key = SettingKey::find(dotted)?;
            Some(texts.iter().map(|text| key.assignment(text)))
        });
        let config = keys::from_assignments(assignments.flatten())
            // Each value was checked.
            .map_err(|error| Problem::Internal {
                reason: error.to_string(),
            })?;
        Ok(ConfigBuilder {
            config,
            origins: self.origins,
            problems: self.problems,
            warnings: self.warnings,
        })
    }

    /// Sets `key`, or records why `value` is not allowed.
    fn set(&mut self, key: &'static SettingKey, value: &RawValue, origin: Origin) {
        match key.read(value) {
            Ok(texts) => {
                self.texts.insert(key.dotted, texts);
                self.origins.insert(key.dotted, origin);
            }
            Err(allowed) => self.problems.push(Problem::Value {
                origin,
                key: key.dotted,
                value: if key.is_secret {
                    HIDDEN.to_owned()
                } else {
                    clipped(&value.shown(without_password))
                },
                allowed,
            }),
        }
    }

    fn add_file(&mut self, path: &Path, text: &str) {
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
            let advice = if !advice::sections().contains(&name) {
                advice::on_section(name)
            } else if let DeValue::Table(content) = content.get_ref() {
                self.add_section(name, content, &place);
                continue;
            } else {
                format!("write it as a section: [{name}]")
            };
            self.problems.push(Problem::Unknown {
                origin: Origin::File(place(section.span().start).without_value()),
                name: clipped(name),
                advice,
            });
        }
    }

    fn add_section(
        &mut self,
        section: &str,
        content: &DeTable<'_>,
        place: &dyn Fn(usize) -> FileLocation,
    ) {
        for (name, value) in content {
            let dotted = format!("{section}.{}", name.get_ref());
            if let Some(key) = SettingKey::find(&dotted) {
                let origin = Origin::File(place(value.span().start));
                self.set(key, &RawValue::from(value), origin);
            } else {
                self.problems.push(Problem::Unknown {
                    origin: Origin::File(place(name.span().start).without_value()),
                    advice: advice::on_key(section, name.get_ref()),
                    name: clipped(&dotted),
                });
            }
        }
    }

    fn add_environment(&mut self, environment: &[(String, String)]) {
        let variables: Vec<(String, &SettingKey)> = variables().collect();
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, value) in environment {
            if !name.starts_with(PREFIX) || name == FILE_VARIABLE {
                continue;
            }
            let known = variables.iter().find(|(known, _)| known == name);
            let Some((_, key)) = known else {
                let names = variables.iter().map(|(known, _)| known.as_str());
                let near = advice::nearest(name, names.chain([FILE_VARIABLE]));
                self.problems.push(Problem::Unknown {
                    origin: Origin::Environment(clipped(name)),
                    name: "this variable".to_owned(),
                    advice: near.map_or_else(
                        || format!("{PREFIX}… is reserved for settings: HANDLOOM_SECTION_KEY, as in HANDLOOM_MQTT_URL"),
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
            let origin = Origin::Environment(name.clone());
            self.set(key, &RawValue::Bare(value.clone()), origin);
        }
    }

    fn add_flags(&mut self, set: &[String]) {
        for text in set {
            let Some((dotted, value)) = text.split_once('=') else {
                let text = clipped(text);
                self.problems.push(Problem::Flag { text });
                continue;
            };
            let dotted = dotted.trim();
            let origin = Origin::Flag(clipped(dotted));
            if let Some(key) = SettingKey::find(dotted) {
                if key.is_secret && !value.is_empty() {
                    self.warnings.push(format!(
                        "--set {dotted} can be read by everybody on this machine with `ps`; use mqtt.password_file"
                    ));
                }
                self.set(key, &RawValue::Bare(value.to_owned()), origin);
            } else {
                self.problems.push(Problem::Unknown {
                    origin,
                    name: clipped(dotted),
                    advice: advice::on_flag(dotted),
                });
            }
        }
    }
}

/// The environment variables, each with its key.
fn variables() -> impl Iterator<Item = (String, &'static SettingKey)> {
    let short = [
        ("HANDLOOM_LOG", "log.level"),
        ("HANDLOOM_MODELS", "models.path"),
    ];
    let short = short
        .into_iter()
        .filter_map(|(name, dotted)| Some((name.to_owned(), SettingKey::find(dotted)?)));
    KEYS.iter().map(|key| (key.variable(), key)).chain(short)
}
