//! How a setting is read, whichever layer gives it: numbers, words, switches, lists, and what may be unset.

use std::fmt::Display;
use std::str::FromStr;

use crate::config::loader::list_of;

/// What a layer gives for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// Text without a type: from the environment or a flag.
    Bare(String),
    /// A value of a file, in its own spelling.
    Typed(ValueType, String),
    /// A list of a file.
    List(Vec<Self>),
}

/// Types that a file tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// In quotes.
    Text,
    /// Digits.
    Whole,
    /// With a point or an exponent, `inf` and `nan`.
    Real,
    /// `true` or `false`.
    Bool,
    /// A date or a section: nothing of ours.
    Other,
}

/// Reads a setting.
pub trait Rule {
    /// What it is read into.
    type Value;

    /// What is allowed, to be put behind "allowed are".
    fn allowed(&self) -> String;

    /// The types of a file that it takes.
    fn kinds(&self) -> &'static [ValueType] {
        &[ValueType::Text]
    }

    /// The value of `text`; `None` when it is not allowed.
    fn accept(&self, text: &str) -> Option<Self::Value>;

    /// The value of `text`.
    ///
    /// # Errors
    /// With what is allowed.
    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        self.accept(text)
            .ok_or_else(|| format!("allowed are {}", self.allowed()))
    }

    /// The value of what a layer gives.
    ///
    /// # Errors
    /// With what is allowed.
    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        match given {
            Given::Bare(text) => self.parse(text),
            Given::Typed(kind, text) if self.kinds().contains(kind) => self.parse(text),
            _ => Err(format!("allowed are {}", self.allowed())),
        }
    }
}

/// Numbers from `min` to `max`, both included.
#[derive(Clone, Copy, Debug)]
pub struct Range<T> {
    min: T,
    max: T,
    is_whole: bool,
}

pub(super) const fn whole<T: Copy>(min: T, max: T) -> Range<T> {
    Range {
        min,
        max,
        is_whole: true,
    }
}

pub(super) const fn real<T: Copy>(min: T, max: T) -> Range<T> {
    Range {
        min,
        max,
        is_whole: false,
    }
}

impl<T: Copy + Display + FromStr + PartialOrd> Rule for Range<T> {
    type Value = T;

    fn allowed(&self) -> String {
        let what = if self.is_whole {
            "whole numbers"
        } else {
            "numbers"
        };
        format!("{what} from {} to {}", self.min, self.max)
    }

    fn kinds(&self) -> &'static [ValueType] {
        if self.is_whole {
            &[ValueType::Whole]
        } else {
            &[ValueType::Whole, ValueType::Real]
        }
    }

    fn accept(&self, text: &str) -> Option<T> {
        let number = text.parse().ok()?;
        (self.min..=self.max).contains(&number).then_some(number)
    }
}

/// One of a few words.
#[derive(Clone, Copy, Debug)]
pub struct OneOf(pub &'static [&'static str]);

impl Rule for OneOf {
    type Value = String;

    fn allowed(&self) -> String {
        self.0.join(", ")
    }

    fn accept(&self, text: &str) -> Option<String> {
        let lower = text.to_ascii_lowercase();
        self.0.contains(&lower.as_str()).then_some(lower)
    }
}

/// `true` or `false`.
#[derive(Clone, Copy, Debug)]
pub struct Bool;

impl Rule for Bool {
    type Value = bool;

    fn allowed(&self) -> String {
        "true and false".to_owned()
    }

    fn kinds(&self) -> &'static [ValueType] {
        &[ValueType::Bool]
    }

    fn accept(&self, text: &str) -> Option<bool> {
        text.parse().ok()
    }
}

/// A setting that may be unset; empty text without a type unsets it.
#[derive(Clone, Copy, Debug)]
pub struct Optional<R>(pub R);

impl<R: Rule> Rule for Optional<R> {
    type Value = Option<R::Value>;

    fn allowed(&self) -> String {
        self.0.allowed()
    }

    fn accept(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            Some(None)
        } else {
            self.0.accept(text).map(Some)
        }
    }

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        match given {
            Given::Bare(text) if text.is_empty() => Ok(None),
            _ => self.0.read(given).map(Some),
        }
    }
}

/// A list; where it comes without a type separated by commas, or as a file spells it: `["a", "b"]`.
#[derive(Clone, Copy, Debug)]
pub struct List<R>(pub R);

impl<R: Rule> Rule for List<R> {
    type Value = Vec<R::Value>;

    fn allowed(&self) -> String {
        format!("lists of {}", self.0.allowed())
    }

    fn accept(&self, text: &str) -> Option<Self::Value> {
        if text.is_empty() {
            return Some(Vec::new());
        }
        text.split(',').map(|t| self.0.accept(t.trim())).collect()
    }

    fn read(&self, given: &Given) -> Result<Self::Value, String> {
        let refused = |_| format!("allowed are {}", self.allowed());
        match given {
            Given::Bare(text) => match list_of(text) {
                Some(list) => self.read(&list),
                None => self.parse(text),
            },
            Given::List(items) => items
                .iter()
                .map(|item| self.0.read(item).map_err(refused))
                .collect(),
            Given::Typed(..) => Err(refused(String::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::constraints::{COMMAND, HANDS, PROBABILITY, Text};

    #[test]
    fn types_of_a_file_are_held_against_the_rule() {
        let typed = |kind, text: &str| Given::Typed(kind, text.to_owned());
        assert_eq!(HANDS.read(&typed(ValueType::Whole, "2")), Ok(2));
        assert!(HANDS.read(&typed(ValueType::Text, "2")).is_err());
        assert_eq!(PROBABILITY.read(&typed(ValueType::Whole, "1")), Ok(1.0));
        assert!(Bool.read(&typed(ValueType::Text, "true")).is_err());
        assert!(Optional(Text).read(&typed(ValueType::Text, "")).is_err());
        assert_eq!(Optional(Text).read(&Given::Bare(String::new())), Ok(None));
        let list = |kind| Given::List(vec![typed(kind, "pause")]);
        let bare = |text: &str| List(Text).read(&Given::Bare(text.to_owned()));
        assert_eq!(bare(r#"["a,b", 'c']"#).unwrap(), ["a,b", "c"]);
        assert_eq!(bare("a, b").unwrap(), ["a", "b"]);
        assert_eq!(bare("[]").unwrap(), [""; 0]);
        assert_eq!(bare("[a").unwrap(), ["[a"]);
        assert!(List(COMMAND).read(&Given::Bare("[1]".into())).is_err());
        assert_eq!(
            List(COMMAND).read(&list(ValueType::Text)),
            Ok(vec!["pause".to_owned()])
        );
        assert!(List(COMMAND).read(&list(ValueType::Bool)).is_err());
        assert!(
            List(COMMAND)
                .read(&typed(ValueType::Text, "pause"))
                .is_err()
        );
    }
}
