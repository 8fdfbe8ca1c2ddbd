//! A config file in its own folder, and the shipped example.

use handloom::config::{ConfigError, LoadedConfig, Sources, load};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

pub(crate) const EXAMPLE: &str = include_str!("../../../systemd/handloom.toml");

/// The smallest valid config.
pub(crate) const MINIMAL_CONFIG: &str = "[dataset]\npath = \"d\"\n[output]\npath = \"o\"\n";

/// A config file in its own folder.
pub(crate) struct Case {
    folder: TempDir,
    sources: Sources,
}

impl Case {
    pub(crate) fn new(text: impl AsRef<[u8]>) -> Self {
        let folder = test_support::scratch();
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

    pub(crate) fn path(&self) -> &Path {
        self.sources.file.as_deref().unwrap()
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        let variable = (name.to_owned(), value.to_owned());
        self.sources.environment.push(variable);
        self
    }

    pub(crate) fn set(mut self, text: &str) -> Self {
        self.sources.set.push(text.to_owned());
        self
    }

    /// Adds a file beside the config.
    pub(crate) fn with(self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> Self {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn credentials(mut self, name: &str) -> Self {
        self.sources.credentials = Some(self.folder.path().join(name));
        self
    }

    pub(crate) fn load(&self) -> Result<LoadedConfig, ConfigError> {
        load(&self.sources)
    }

    #[track_caller]
    pub(crate) fn good(&self) -> LoadedConfig {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The message of a refusal; asserts that it contains all of `words`.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) -> String {
        let text = match self.load() {
            Ok(loaded) => panic!("accepted: {}", loaded.to_toml()),
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(text.contains(word), "no \"{word}\" in {text}");
        }
        text
    }
}

/// `EXAMPLE` with every commented-out setting enabled, except those in `but`.
pub(crate) fn example_with_all(but: &[&str]) -> String {
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

/// Settings that conflict with the example's other settings.
pub(crate) const ALTERNATIVES: [&str; 4] = [
    "mqtt.password",
    "mqtt.ca_file",
    "mqtt.cert_file",
    "mqtt.key_file",
];
