//! Reads the layers, lowest first: file, environment, flags. A higher layer replaces what a lower one sets.

use super::advice;
use super::complete;
use super::errors::{ConfigError, FileLocation, Origin, Problem, clipped};
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
    /// The origin of each key that is not a default.
    pub origins: BTreeMap<&'static str, Origin>,
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
        self.origins.get(key)
    }
}

/// Reads, layers and validates all settings.
///
/// # Errors
/// Returns all problems.
pub fn load(sources: &Sources) -> Result<LoadedConfig, ConfigError> {
    let mut builder = ConfigBuilder::default();
    if let Some(path) = &sources.file {
        let text = read(path)?;
        builder.add_file(path, &text);
        builder.problems.sort_by_key(|problem| problem.position);
    }
    builder.add_environment(&sources.environment);
    builder.add_flags(&sources.set);
    builder.build()?;
    complete::complete(&mut builder, sources);
    validate::validate(&mut builder);
    if !builder.problems.is_empty() {
        return Err(ConfigError {
            problems: builder.problems,
        });
    }
    Ok(LoadedConfig {
        origins: builder.origins,
        config: builder.config,
        warnings: builder.warnings,
    })
}

/// The config of the layers that were read so far, while it is completed and validated.
#[derive(Debug, Default)]
pub(super) struct ConfigBuilder {
    pub(super) config: Config,
    /// Whether the file is not TOML, so that its settings are unknown.
    pub(super) has_syntax_error: bool,
    /// The origin of each key that is set.
    pub(super) origins: BTreeMap<&'static str, Origin>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    /// The texts of each key that is set.
    texts: BTreeMap<&'static str, Vec<String>>,
}

impl ConfigBuilder {
    /// Whether no value of `keys` is missing or not allowed.
    pub(super) fn are_valid(&self, keys: &[&str]) -> bool {
        let is_about_them = |problem: &Problem| problem.key.is_some_and(|key| keys.contains(&key));
        !self.problems.iter().any(is_about_them)
    }

    /// `key` with its value and origin, for a message.
    pub(super) fn describe(&self, key: &str) -> String {
        let value = self.config.literals().remove(key);
        let (text, default) = match value {
            Some(value) => (format!("{key} = {}", clipped(&value)), " (the default)"),
            None => (format!("{key}, unset"), ""),
        };
        match self.origins.get(key) {
            Some(origin) => format!("{text} ({origin})"),
            None => format!("{text}{default}"),
        }
    }

    /// Makes the config of the texts.
    fn build(&mut self) -> Result<(), ConfigError> {
        let assignments = self.texts.iter().filter_map(|(dotted, texts)| {
            let key = SettingKey::find(dotted)?;
            Some(texts.iter().map(|text| key.assignment(text)))
        });
        // Each value was checked: only a wrong declaration can fail here.
        self.config = keys::from_assignments(assignments.flatten()).map_err(|error| {
            let reason = format!("the settings cannot be read: {error}; please report this bug");
            Problem::new(reason)
        })?;
        Ok(())
    }

    /// Sets `key`, or records why `value` is not allowed.
    fn set(&mut self, key: &'static SettingKey, value: &RawValue<'_>, origin: Origin) {
        match key.read(value) {
            Ok(texts) => {
                self.texts.insert(key.dotted, texts);
                self.origins.insert(key.dotted, origin);
            }
            Err(allowed) => {
                let value = if key.is_secret {
                    HIDDEN.to_owned()
                } else {
                    clipped(&value.shown(without_password))
                };
                let message = format!("{} = {value}: {allowed}", key.dotted);
                let problem = Problem::at(&origin, message).about(key.dotted);
                self.problems.push(problem);
            }
        }
    }

    fn add_unknown(&mut self, origin: &Origin, name: &str, advice: &str) {
        let message = format!("{} is not known; {advice}", clipped(name));
        self.problems.push(Problem::at(origin, message));
    }

    fn add_file(&mut self, path: &Path, text: &str) {
        let place = |at: usize| FileLocation::of(path.to_owned(), text, at);
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let at = error.span().map_or(text.len(), |span| span.start);
                let origin = Origin::File(place(at));
                let problem = Problem::at(&origin, clipped(error.message()));
                self.problems.push(problem);
                self.has_syntax_error = true;
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
            let origin = Origin::File(place(section.span().start).without_value());
            self.add_unknown(&origin, name, &advice);
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
                self.set(key, &RawValue::Typed(value.get_ref()), origin);
            } else {
                let origin = Origin::File(place(name.span().start).without_value());
                let advice = advice::on_key(section, name.get_ref());
                self.add_unknown(&origin, &dotted, &advice);
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
                let advice = near.map_or_else(
                    || format!("{PREFIX}… is reserved for settings: HANDLOOM_SECTION_KEY, as in HANDLOOM_MQTT_URL"),
                    |near| format!("did you mean {near}?"),
                );
                let origin = Origin::Environment(clipped(name));
                self.add_unknown(&origin, "this variable", &advice);
                continue;
            };
            if let Some(first) = seen.insert(key.dotted, name) {
                let key = key.dotted;
                self.problems.push(Problem::new(format!(
                    "{first} and {name} both set {key}; unset one of them"
                )));
            }
            let origin = Origin::Environment(name.clone());
            self.set(key, &RawValue::Bare(value), origin);
        }
    }

    fn add_flags(&mut self, set: &[String]) {
        for text in set {
            let Some((dotted, value)) = text.split_once('=') else {
                let text = clipped(text);
                self.problems.push(Problem::new(format!(
                    "--set {text}: write section.key=value, as in --set run.workers=2"
                )));
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
                self.set(key, &RawValue::Bare(value), origin);
            } else {
                self.add_unknown(&origin, dotted, &advice::on_flag(dotted));
            }
        }
    }
}

/// The environment variables, each with its key.
fn variables() -> impl Iterator<Item = (String, &'static SettingKey)> {
    let short = [
        ("HANDLOOM_LOG", "log.level"),
        ("HANDLOOM_MODELS", "models.path"),
        ("HANDLOOM_SHARD", "run.shard"),
    ];
    let short = short
        .into_iter()
        .filter_map(|(name, dotted)| Some((name.to_owned(), SettingKey::find(dotted)?)));
    KEYS.iter().map(|key| (key.variable(), key)).chain(short)
}
