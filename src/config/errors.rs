//! Problems of a config. Each message names the place, the value and the fix.

use super::values::HIDDEN;
use std::fmt::{Display, Formatter};
use std::path::PathBuf;

/// Characters of a value or line that a message shows.
const SHOWN_MAX: usize = 120;

/// All problems of a config; at least one.
#[derive(Debug)]
pub struct ConfigError {
    /// In the order of layers and lines.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl Display for ConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let gap = if n == 0 { "" } else { "\n" };
            write!(f, "{gap}{problem}")?;
        }
        Ok(())
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
        }
    }
}

/// A place in the config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLocation {
    /// The file.
    pub path: PathBuf,
    /// Line number, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line as written, secrets hidden.
    pub text: String,
}

impl Display for FileLocation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

impl FileLocation {
    /// The place of byte `at` of `source`.
    pub(super) fn of(path: PathBuf, source: &str, at: usize) -> Self {
        let before = source.get(..at).unwrap_or(source);
        let start = before.rfind('\n').map_or(0, |n| n + 1);
        let line = source[start..].lines().next().unwrap_or_default();
        // A value over several lines belongs to the key above.
        let head = source[..start + line.len()]
            .lines()
            .rev()
            .find(|l| l.contains('='))
            .unwrap_or_default()
            .to_ascii_lowercase();
        let is_secret = head.contains("pass") || (head.contains("url") && head.contains('@'));
        Self {
            path,
            line: before.matches('\n').count() + 1,
            column: before[start..].chars().count() + 1,
            text: if is_secret {
                without_value(line, HIDDEN)
            } else {
                clipped(line)
            },
        }
    }

    /// The same without the value in `text`, for lines that may hold a misspelt secret.
    pub(super) fn without_value(mut self) -> Self {
        if !self.text.trim_start().starts_with('[') {
            self.text = without_value(&self.text, "…");
        }
        self
    }
}

/// `line` up to its equals sign, then `instead`.
fn without_value(line: &str, instead: &str) -> String {
    match line.split_once('=') {
        Some((key, _)) => clipped(&format!("{key}= {instead}")),
        None => instead.to_owned(),
    }
}

/// `text` on one line, cut after [`SHOWN_MAX`] characters, without control characters.
pub(super) fn clipped(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(SHOWN_MAX).map(clean).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        short.push('…');
    }
    short
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The config file.
    File(FileLocation),
    /// A variable of the environment.
    Environment(String),
    /// `--set` with this key.
    Flag(String),
    /// A credential from systemd.
    Credential(PathBuf),
}

impl Display for Origin {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(place) => place.fmt(f),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(key) => write!(f, "--set {key}"),
            Self::Credential(path) => path.display().fmt(f),
        }
    }
}

/// One problem. Its text names the place, what is wrong, and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    text: String,
    /// Line and column in the file, for sorting.
    pub(super) position: (usize, usize),
    /// The key whose value is missing or not allowed.
    pub(super) key: Option<&'static str>,
}

impl Problem {
    /// A problem at `origin`, with the line of the file.
    pub(super) fn at(origin: &Origin, message: impl Display) -> Self {
        let Origin::File(place) = origin else {
            return Self::new(format!("{origin}: {message}"));
        };
        let FileLocation { line, text, .. } = place;
        Self {
            position: (*line, place.column),
            ..Self::new(format!("{origin}: {message}\n  {line:>4} | {text}"))
        }
    }

    /// A problem whose text names the place itself.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            position: (0, 0),
            key: None,
        }
    }

    /// The same, about the value of `key`.
    pub(super) fn about(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_and_hide_secrets() {
        let check = |source: &str, needle: &str, line: usize, column: usize, text: &str| {
            let place = FileLocation::of("f".into(), source, source.find(needle).unwrap());
            let found = (place.line, place.column, place.text.as_str());
            assert_eq!(found, (line, column, text), "{source:?}");
        };
        check("a = 1\nb = 22\n", "22", 2, 5, "b = 22");
        check("ä = \"ö\" x\n", "x", 1, 9, "ä = \"ö\" x");
        check("password = \"geheim\n", "\"", 1, 12, "password = ***");
        check("passwrd = \"\"\"a\ngeheim\"\"\"\n", "geheim", 2, 1, "***");
        check("url = \"mqtt://u:geheim@h\"", "\"", 1, 7, "url = ***");
        check("\u{1b}[31m = 1", "=", 1, 7, " [31m = 1");
        let end = FileLocation::of("f".into(), "a = 1\n", 6);
        assert_eq!((end.line, end.column, end.text.as_str()), (2, 1, ""));
        let outside = FileLocation::of("f".into(), "ä", 1);
        assert_eq!(outside.line, 1);
    }
}
