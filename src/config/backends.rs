//! What the settings of accelerators may be.

use crate::config::value_parsers::Rule;
use crate::selection::BackendPreference;
use crate::selection::{BACKENDS, DELEGATES};

/// What runs the models.
#[derive(Clone, Copy, Debug)]
pub struct AcceleratorWish;

impl Rule for AcceleratorWish {
    type Value = BackendPreference;

    fn allowed(&self) -> String {
        let names = BACKENDS.join(", ");
        format!("auto, cpu, require:NAME and prefer:NAME, where NAME is one of {names}")
    }

    fn accept(&self, text: &str) -> Option<BackendPreference> {
        BackendPreference::parse(text, |name| BACKENDS.contains(&name)).ok()
    }
}

/// Which delegate is meant.
#[derive(Clone, Copy, Debug)]
pub struct DelegateName;

impl Rule for DelegateName {
    type Value = String;

    fn allowed(&self) -> String {
        DELEGATES.join(", ")
    }

    fn accept(&self, text: &str) -> Option<String> {
        let is_known = DELEGATES.contains(&text);
        is_known.then(|| text.to_owned())
    }
}

/// An option of a delegate.
#[derive(Clone, Copy, Debug)]
pub struct DelegateOption;

impl Rule for DelegateOption {
    type Value = String;

    fn allowed(&self) -> String {
        "KEY=VALUE".to_owned()
    }

    fn accept(&self, text: &str) -> Option<String> {
        let (key, _) = text.split_once('=')?;
        let is_good = !key.trim().is_empty() && !text.contains('\0');
        is_good.then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_backends_that_there_are_can_be_asked_for() {
        let check = |text: &str, is_good: bool| {
            assert_eq!(AcceleratorWish.parse(text).is_ok(), is_good, "{text}");
        };
        for text in [
            "auto",
            "cpu",
            "require:litert:gpu",
            "prefer:coral",
            "require:custom",
        ] {
            check(text, true);
        }
        for text in ["gpu", "require:gpu", "prefer:", "coral", ""] {
            check(text, false);
        }
        let said = AcceleratorWish.parse("gpu").unwrap_err();
        assert!(said.contains("litert:cpu, litert:gpu, coral"), "{said}");
    }

    #[test]
    fn options_have_a_key() {
        let check = |text: &str, is_good: bool| {
            assert_eq!(DelegateOption.parse(text).is_ok(), is_good, "{text:?}");
        };
        for text in ["device=usb", "a=", "a=b=c"] {
            check(text, true);
        }
        for text in ["device", "=usb", " =", "a=b\0c", ""] {
            check(text, false);
        }
        assert!(DelegateName.parse("cpu").is_err() && DelegateName.parse("custom").is_ok());
    }
}
