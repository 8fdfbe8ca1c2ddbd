//! What the user asks for.

use super::CPU;

/// Longer than any name of a backend.
const NAME_BYTES_MAX: usize = 64;

/// What the user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackendPreference {
    /// The fastest that agrees with the CPU.
    #[default]
    Auto,
    /// The CPU; nothing is measured.
    Cpu,
    /// This one or none: without it nothing runs.
    Require(String),
    /// This one if it works and agrees, also when it is slower; else the CPU, said aloud.
    Prefer(String),
}

impl BackendPreference {
    /// Reads `auto`, `cpu`, `require:NAME` or `prefer:NAME`; whether there is such a backend is `is_known`'s to say.
    ///
    /// # Errors
    /// With what is allowed.
    pub fn parse(text: &str, is_known: impl Fn(&str) -> bool) -> Result<Self, String> {
        let named = |name: &str| {
            if name.len() <= NAME_BYTES_MAX && is_known(name) {
                Ok(name.to_owned())
            } else {
                Err(format!("no backend is called {name:?}"))
            }
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == CPU => Ok(Self::Cpu),
            Some(("require" | "prefer", CPU)) => Ok(Self::Cpu),
            Some(("require", name)) => named(name).map(Self::Require),
            Some(("prefer", name)) => named(name).map(Self::Prefer),
            _ => Err("allowed are auto, cpu, require:NAME and prefer:NAME".to_owned()),
        }
    }

    /// The backend that is named, if one is.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Auto | Self::Cpu => None,
            Self::Require(name) | Self::Prefer(name) => Some(name),
        }
    }

    /// The one backend whose numbers are asked for; `None` where several may do.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match self {
            Self::Cpu => Some(CPU),
            Self::Require(name) => Some(name),
            Self::Auto | Self::Prefer(_) => None,
        }
    }
}

impl std::fmt::Display for BackendPreference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str(CPU),
            Self::Require(name) => write!(f, "require:{name}"),
            Self::Prefer(name) => write!(f, "prefer:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_and_written() {
        let is_known = |name: &str| ["coral", "litert:gpu"].contains(&name);
        let check = |text: &str, expected: Result<BackendPreference, &str>| match (
            BackendPreference::parse(text, is_known),
            expected,
        ) {
            (Ok(wish), Ok(expected)) => assert_eq!(wish, expected, "{text}"),
            (Err(said), Err(part)) => assert!(said.contains(part), "{text}: {said}"),
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        };
        check("auto", Ok(BackendPreference::Auto));
        check("cpu", Ok(BackendPreference::Cpu));
        check("require:cpu", Ok(BackendPreference::Cpu));
        check(
            "require:coral",
            Ok(BackendPreference::Require("coral".to_owned())),
        );
        check(
            "prefer:litert:gpu",
            Ok(BackendPreference::Prefer("litert:gpu".to_owned())),
        );
        check("require:corral", Err("\"corral\""));
        check("require:", Err("\"\""));
        check("coral", Err("require:NAME"));
        check("AUTO", Err("allowed are"));
        check("", Err("allowed are"));
        for text in ["auto", "cpu", "require:coral", "prefer:litert:gpu"] {
            assert_eq!(
                BackendPreference::parse(text, is_known)
                    .unwrap()
                    .to_string(),
                text
            );
        }
    }
}
