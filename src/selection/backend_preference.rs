//! Which backend the user requests.

use super::{BACKENDS, CPU};

/// Which backend the user requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BackendPreference {
    /// The first of [`super::DEFAULT_ORDER`] that is installed; no speed is measured.
    #[default]
    Auto,
    /// The CPU; nothing is benchmarked.
    Cpu,
    /// The fastest backend that computes in 32 bits and agrees with the CPU, measured once per machine.
    Fastest,
    /// The fastest backend, also of reduced precision, whose error is small enough, measured once per machine.
    Fast,
    /// This backend only: if it cannot be used, nothing runs.
    Require(String),
    /// This backend if it works and agrees, even when it is slower; else the CPU, with a warning.
    Prefer(String),
}

impl BackendPreference {
    /// Parses `auto`, `cpu`, `fastest`, `fast`, `require:NAME` or `prefer:NAME`, where NAME is one of [`BACKENDS`].
    ///
    /// # Errors
    /// Returns a description of the allowed values.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = |name: &str| {
            if BACKENDS.contains(&name) {
                Ok(name.to_owned())
            } else {
                Err(format!("there is no backend {name:?}"))
            }
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == CPU => Ok(Self::Cpu),
            None if text == "fastest" => Ok(Self::Fastest),
            None if text == "fast" => Ok(Self::Fast),
            Some(("require" | "prefer", CPU)) => Ok(Self::Cpu),
            Some(("require", name)) => named(name).map(Self::Require),
            Some(("prefer", name)) => named(name).map(Self::Prefer),
            _ => Err(
                "allowed values are auto, cpu, fastest, fast, require:NAME and prefer:NAME"
                    .to_owned(),
            ),
        }
    }

    /// The name of the requested backend; `None` for `cpu` and where Handloom chooses.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Auto | Self::Cpu | Self::Fastest | Self::Fast => None,
            Self::Require(name) | Self::Prefer(name) => Some(name),
        }
    }

    /// Whether Handloom chooses the backend.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Auto | Self::Fastest | Self::Fast)
    }

    /// The preference for more results of a job that began on the backend `recorded`: where Handloom chooses, that
    /// backend and no other.
    #[must_use]
    pub fn resumed_on(&self, recorded: Option<&str>) -> Self {
        match recorded {
            Some(CPU) if self.is_open() => Self::Cpu,
            Some(name) if self.is_open() => Self::Require(name.to_owned()),
            _ => self.clone(),
        }
    }
}

impl std::fmt::Display for BackendPreference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str(CPU),
            Self::Fastest => f.write_str("fastest"),
            Self::Fast => f.write_str("fast"),
            Self::Require(name) => write!(f, "require:{name}"),
            Self::Prefer(name) => write!(f, "prefer:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_parsed_and_displayed() {
        let check = |text: &str, expected: Result<BackendPreference, &str>| match (
            BackendPreference::parse(text),
            expected,
        ) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{text}: {error}"),
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        };
        check("auto", Ok(BackendPreference::Auto));
        check("cpu", Ok(BackendPreference::Cpu));
        check("fastest", Ok(BackendPreference::Fastest));
        check("fast", Ok(BackendPreference::Fast));
        check("require:cpu", Ok(BackendPreference::Cpu));
        check(
            "require:custom",
            Ok(BackendPreference::Require("custom".to_owned())),
        );
        check(
            "prefer:litert:gpu",
            Ok(BackendPreference::Prefer("litert:gpu".to_owned())),
        );
        check(
            "require:cpu:int8",
            Ok(BackendPreference::Require("cpu:int8".to_owned())),
        );
        check("require:costum", Err("\"costum\""));
        check("require:", Err("\"\""));
        check("custom", Err("require:NAME"));
        check("AUTO", Err("allowed values are"));
        check("", Err("allowed values are"));
        for text in [
            "auto",
            "cpu",
            "fastest",
            "fast",
            "require:custom",
            "prefer:litert:gpu",
        ] {
            assert_eq!(BackendPreference::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_job_keeps_the_backend_that_it_began_on() {
        let resumed = |preference: &str, recorded: Option<&str>| {
            let preference = BackendPreference::parse(preference).unwrap();
            preference.resumed_on(recorded).to_string()
        };
        for open in ["auto", "fastest", "fast"] {
            assert_eq!(resumed(open, None), open);
            assert_eq!(resumed(open, Some("cpu")), "cpu");
            assert_eq!(resumed(open, Some("litert:cpu")), "require:litert:cpu");
        }
        for named in ["cpu", "require:custom", "prefer:custom"] {
            assert_eq!(resumed(named, Some("litert:cpu")), named);
        }
    }
}
