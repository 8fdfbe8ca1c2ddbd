//! The classes of a dataset in the order of their numbers, and WLASL's official subsets, each of which is a prefix of
//! that order.
//!
//! A class has the number that WLASL's authors gave it. Counting instances gives other classes for WLASL1000. The
//! entries of the unchanged `WLASL_v0.3.json` are in that order; a hash of their glosses proves it.
//! `wlasl_class_list.txt` has the same order, but spells class 163 `losear` where the metadata has `lose`, so it is
//! only read when the metadata is cut down.

use super::instance::Entry;
use super::splits::SplitsError;
use crate::digest::sha256_hex;
use crate::sequence::options::NamedChoice;
use std::sync::Arc;

/// WLASL's list of its classes: a number and a gloss in each line.
pub const CLASS_LIST_NAME: &str = "wlasl_class_list.txt";

/// An official subset of WLASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// The first 100 classes.
    Wlasl100,
    /// The first 300 classes.
    Wlasl300,
    /// The first 1000 classes.
    Wlasl1000,
    /// All 2000 classes.
    Wlasl2000,
}

impl NamedChoice for Subset {
    const NAMED: &'static [(Self, &'static str)] = &[
        (Self::Wlasl100, "wlasl100"),
        (Self::Wlasl300, "wlasl300"),
        (Self::Wlasl1000, "wlasl1000"),
        (Self::Wlasl2000, "wlasl2000"),
    ];
}

impl Subset {
    /// Number of classes in the subset. They are the classes with the lowest numbers.
    #[must_use]
    pub fn classes(self) -> usize {
        match self {
            Self::Wlasl100 => 100,
            Self::Wlasl300 => 300,
            Self::Wlasl1000 => 1000,
            Self::Wlasl2000 => 2000,
        }
    }

    /// SHA-256 of the subset's glosses in the official order, joined by line feeds.
    fn glosses_sha256(self) -> &'static str {
        match self {
            Self::Wlasl100 => "e62a6ca48198856cee9c473e075dd607b43b29d31ce92957d73df74286daee23",
            Self::Wlasl300 => "9ee927c07366f80022b679cd7ad5fd3e0f83c37cdc11947f9f9768751b7884e0",
            Self::Wlasl1000 => "b4cfe6529d5ee70d9c4957f374f4cbbf08566cbad8bc4e2ae1d7dece8da0c88a",
            Self::Wlasl2000 => "81cea6a9382071f37e9742bdadcca5aac560975359376ab5ea8c97af93af536e",
        }
    }
}

/// All classes of a job in the order of their numbers, from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassOrder {
    /// The glosses of the classes, each once.
    pub glosses: Vec<Arc<str>>,
    /// Names of the files that give the order, for people.
    pub source: String,
}

/// The classes of a job.
#[derive(Clone, Copy, Debug)]
pub struct JobClasses<'a> {
    /// The glosses that are processed.
    pub glosses: &'a [Arc<str>],
    /// All classes in the order of their numbers, when that order is known.
    pub order: Option<&'a ClassOrder>,
}

/// Classes without a known order.
impl<'a> From<&'a Vec<Arc<str>>> for JobClasses<'a> {
    fn from(glosses: &'a Vec<Arc<str>>) -> Self {
        let order = None;
        Self { glosses, order }
    }
}

impl<'a> JobClasses<'a> {
    /// The classes in the order of their numbers; when no order is known, the processed classes.
    pub(crate) fn numbered(self) -> &'a [Arc<str>] {
        self.order.map_or(self.glosses, |order| &order.glosses)
    }
}

/// The glosses of the first `count` entries; `None` unless the first entries are an official subset in its order.
pub(super) fn official_order(entries: &[Entry], count: usize) -> Option<Vec<Arc<str>>> {
    let (subset, _) = Subset::NAMED.iter().find(|(s, _)| s.classes() >= count)?;
    let first = entries.get(..subset.classes())?.iter();
    let glosses: Option<Vec<Arc<str>>> = first.map(|entry| entry.gloss.clone()).collect();
    let mut glosses = glosses?;
    let is_official = sha256_hex(glosses.join("\n").as_bytes()) == subset.glosses_sha256();
    glosses.truncate(count);
    is_official.then_some(glosses)
}

/// Reads a class list called `name`. Its first line is `0<tab>book`, and each class appears once.
///
/// # Errors
/// Fails when a line has another form, another number or a repeated gloss.
pub fn parse_class_list(name: &str, text: &[u8]) -> Result<Vec<Arc<str>>, SplitsError> {
    let text = String::from_utf8_lossy(text);
    let lines = text.trim_start_matches('\u{feff}').trim_end().lines();
    let mut glosses: Vec<Arc<str>> = Vec::new();
    for (number, line) in lines.enumerate() {
        let parts = line.trim().split_once([' ', '\t']);
        let gloss = parts.filter(|(id, _)| id.parse() == Ok(number));
        let gloss = gloss.map_or("", |(_, gloss)| gloss.trim());
        if gloss.is_empty() || glosses.iter().any(|known| **known == *gloss) {
            return Err(SplitsError(format!(
                "{name}, line {}: found {line:?}, where the number {number}, a tab and another gloss are needed; \
                 restore WLASL's file, or remove it",
                number + 1
            )));
        }
        glosses.push(gloss.into());
    }
    Ok(glosses)
}
