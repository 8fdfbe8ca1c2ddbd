//! The sources of settings: file, environment and flags of this process.

use super::errors::{ConfigError, FileLocation, Origin, Problem, clipped};
use super::values::HIDDEN;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file that is read when none is named and it exists.
pub const DEFAULT_FILE: &str = "/etc/handloom/handloom.toml";

/// Prefix of all our variables.
pub(super) const PREFIX: &str = "HANDLOOM_";

/// Largest config file, bytes; a larger one is a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The sources of settings.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The config file; without one the other layers must set everything.
    pub file: Option<PathBuf>,
    /// The environment; variables without the prefix `HANDLOOM_` are ignored.
    pub environment: Vec<(String, String)>,
    /// `section.key=value`, each from a `--set`.
    pub set: Vec<String>,
    /// The folder with systemd's credentials.
    pub credentials: Option<PathBuf>,
    /// The host name, from which the device id is made when none is set.
    pub host: Option<String>,
}

impl Sources {
    /// The sources of this process: `file` (else [`DEFAULT_FILE`] if it exists), its environment and `set`.
    ///
    /// # Errors
    /// Fails when one of our variables is not UTF-8.
    pub fn of_process(file: Option<PathBuf>, set: Vec<String>) -> Result<Self, ConfigError> {
        let mut environment = Vec::new();
        let mut problems = Vec::new();
        let is_ours = |(name, _): &(OsString, OsString)| name.to_string_lossy().starts_with(PREFIX);
        for (name, value) in std::env::vars_os().filter(is_ours) {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => environment.push((name, value)),
                (name, value) => {
                    let lossy = |text: OsString| text.to_string_lossy().into_owned();
                    let name = name.unwrap_or_else(lossy);
                    let is_secret = name.contains("PASS") || name.contains("URL");
                    let value = value.unwrap_or_else(lossy);
                    let value = if is_secret {
                        HIDDEN.to_owned()
                    } else {
                        clipped(&value)
                    };
                    let origin = Origin::Environment(name);
                    let message = format!("{value}: the value is not UTF-8; write it in UTF-8");
                    problems.push(Problem::at(&origin, message));
                }
            }
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        // The environment has no order of its own; messages should.
        environment.sort();
        let default = || {
            let path = PathBuf::from(DEFAULT_FILE);
            // A file that cannot be accessed is reported when it is read.
            path.try_exists().unwrap_or(true).then_some(path)
        };
        Ok(Self {
            file: file.or_else(default),
            environment,
            set,
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            host: host(),
        })
    }
}

/// The host name: as configured, else the kernel's.
fn host() -> Option<String> {
    let places = ["/etc/hostname", "/proc/sys/kernel/hostname"];
    places.iter().find_map(|path| {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines().map(str::trim);
        let name = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        name.map(str::to_owned)
    })
}

/// The text of the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: String| {
        let path = path.display();
        ConfigError::from(Problem::new(format!(
            "cannot read the config file {path}: {reason}; name another with --config or HANDLOOM_CONFIG"
        )))
    };
    let failed = |error: std::io::Error| unreadable(error.to_string());
    // A pipe would block on opening, and a device would never end.
    let kind = fs::metadata(path).map_err(failed)?;
    if !kind.is_file() {
        return Err(unreadable("it is not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!(
            "it has more than {FILE_BYTES_MAX} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let place = FileLocation::of(path.to_owned(), &text, good);
        let message = "this is not UTF-8; save the file as UTF-8";
        ConfigError::from(Problem::at(&Origin::File(place), message))
    })
}
