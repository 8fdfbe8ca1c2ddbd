//! Files that assign clips to splits: WLASL's `nslt_*.json`, which also have the number of each class, and tables
//! (csv) with the columns `id`, `video_id` or `path`, `split` and optionally `label`, `class` or `gloss`.
//!
//! The frame range in an `nslt_*.json` counts the frames of clips that WLASL's own script has cut out. It is
//! `[1, length]` where the metadata means "to the end". The metadata's range is used, because it fits the published
//! clips.

use super::clip_table::{divider, line_of};
use super::dataset_rows::ROWS_MAX;
use super::file_kind::FileKind;
use super::file_tree::split_of;
use super::instance::Instance;
use super::json_reader::excerpt;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

/// Size limit of a splits file, in bytes; `nslt_2000.json` has 1.1 MB.
pub const BYTES_MAX: u64 = 64 << 20;

/// Why a splits file, a class list or a subset cannot be used: the place, the problem and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SplitsError(pub String);

/// A clip in a splits file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitRow {
    /// The id of the clip; in a table of paths the name of its file without ending.
    pub video_id: String,
    /// The path of the clip with `/` between folders; `None` unless the table has paths.
    pub path: Option<String>,
    /// `train`, `val` or `test`.
    pub split: &'static str,
    /// The class of the clip.
    pub label: SplitLabel,
}

impl SplitRow {
    /// The unique key of the row: the path, or the id.
    pub(super) fn key(&self) -> &str {
        self.path.as_deref().unwrap_or(&self.video_id)
    }
}

/// An index of the rows of a splits file.
pub(super) struct SplitIndex<'a> {
    by_key: HashMap<&'a str, &'a SplitRow>,
    /// Rows with a path, by file name without ending; `None` for a name that several paths have.
    by_name: HashMap<&'a str, Option<&'a SplitRow>>,
}

impl<'a> SplitIndex<'a> {
    pub(super) fn of(rows: &'a [SplitRow]) -> Self {
        let mut by_name: HashMap<&str, Option<&SplitRow>> = HashMap::new();
        for row in rows.iter().filter(|row| row.path.is_some()) {
            let known = by_name.entry(&row.video_id);
            known.and_modify(|row| *row = None).or_insert(Some(row));
        }
        Self {
            by_key: rows.iter().map(|row| (row.key(), row)).collect(),
            by_name,
        }
    }

    /// The row of `instance`, looked up by path with and without ending, by id, and then by id as a file name.
    pub(super) fn row(&self, instance: &Instance) -> Option<&'a SplitRow> {
        let id = instance.video_id.as_deref()?;
        let path = instance.path.as_deref().unwrap_or(id);
        let start = match instance.path {
            Some(_) => path.rsplit_once('.').map_or(path, |(start, _)| start),
            None => id,
        };
        let keys = [path, start, id];
        let found = keys.iter().find_map(|key| self.by_key.get(key).copied());
        found.or_else(|| self.by_name.get(id).copied().flatten())
    }
}

/// The class of a clip in a splits file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SplitLabel {
    /// The file gives no class.
    Unknown,
    /// The number of the class, from 0.
    Class(usize),
    /// The gloss of the class.
    Gloss(String),
}

impl SplitLabel {
    /// The number of the class; `None` for a gloss.
    pub(super) fn class(&self) -> Option<usize> {
        match self {
            Self::Class(class) => Some(*class),
            _ => None,
        }
    }

    /// The gloss; a number is looked up in `glosses`, which are in the order of their numbers.
    pub(super) fn gloss<'a>(&'a self, glosses: &'a [Arc<str>]) -> Option<&'a str> {
        match self {
            Self::Unknown => None,
            Self::Class(class) => glosses.get(*class).map(|gloss| &**gloss),
            Self::Gloss(gloss) => Some(gloss),
        }
    }
}

/// A splits file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitsFile {
    /// Name of the file, for messages.
    pub name: String,
    /// In file order, each clip once.
    pub rows: Vec<SplitRow>,
    /// Number of classes; `None` when the file does not number them.
    pub classes: Option<usize>,
}

/// Reads the splits file called `name`.
///
/// # Errors
/// Fails when it is neither kind of file, names an unknown split, leaves a class number unused, or lists a clip
/// twice.
pub fn parse(name: &str, bytes: &[u8]) -> Result<SplitsFile, SplitsError> {
    let wrong = |problem: &str| {
        let what = "an nslt_*.json file, or a table with the columns video_id and split";
        SplitsError(format!("{name}: {problem}, where {what} is needed"))
    };
    if let Some(kind) = FileKind::of(&bytes[..bytes.len().min(4096)]) {
        return Err(wrong(kind.name));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("a file that is no UTF-8 text"))?;
    let text = text.trim_start_matches('\u{feff}');
    let rows = match text.trim_start().chars().next() {
        None => return Err(wrong("an empty file")),
        Some('[') => return Err(wrong("a list, as in WLASL_v0.3.json")),
        Some('{') => nslt(name, text)?,
        Some(_) => table(name, text)?,
    };
    if rows.is_empty() {
        return Err(wrong("a file without a clip"));
    }
    collect(name, rows)
}

/// A row, with its place in the file for messages.
type Placed = (String, SplitRow);

/// Checks that the classes are numbered without gaps and that no clip has two different rows.
fn collect(name: &str, rows: Vec<Placed>) -> Result<SplitsFile, SplitsError> {
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut kept: Vec<Placed> = Vec::new();
    for (place, row) in rows {
        if let Some((first, other)) = known.get(row.key()).map(|at| &kept[*at]) {
            if *other != row {
                let (id, a, b) = (excerpt(row.key()), other.split, row.split);
                return Err(SplitsError(format!(
                    "{name}: clip \"{id}\" stands twice, {first} ({a}) and {place} ({b}); keep one of them"
                )));
            }
            continue;
        }
        known.insert(row.key().to_owned(), kept.len());
        kept.push((place, row));
    }
    let classes: BTreeSet<usize> = kept
        .iter()
        .filter_map(|(_, row)| row.label.class())
        .collect();
    let count = classes.len();
    let is_far = |(_, row): &&Placed| row.label.class() >= Some(count.max(1));
    if let Some((place, row)) = kept.iter().find(is_far) {
        let (id, class) = (excerpt(row.key()), row.label.class().unwrap_or(0));
        let last = count - 1;
        return Err(SplitsError(format!(
            "{name}, {place}: clip \"{id}\" has class {class}, out of range: {count} classes have clips, so they are numbered \
             0 to {last}"
        )));
    }
    Ok(SplitsFile {
        name: name.to_owned(),
        rows: kept.into_iter().map(|(_, row)| row).collect(),
        classes: (count > 0).then_some(count),
    })
}

fn split(text: &str) -> Result<&'static str, String> {
    split_of(text.trim()).ok_or_else(|| {
        let shown = excerpt(text);
        format!("split \"{shown}\" is not known; write train, val or test")
    })
}

/// The fields of an item of `nslt_*.json` that are read.
#[derive(Deserialize)]
struct NsltItem {
    subset: String,
    action: Action,
}

/// The first value of `action`: the number of the class. The other values are ignored.
struct Action(Option<serde_json::Number>);

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Action;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list that begins with the number of a class")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Action, A::Error> {
                let class = values.next_element()?;
                while values.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Action(class))
            }
        }
        source.deserialize_seq(Values)
    }
}

/// The items in file order, repeated keys included.
struct NsltItems(Vec<(String, NsltItem)>);

impl<'de> Deserialize<'de> for NsltItems {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = NsltItems;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with \"subset\" and \"action\" for each video id")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NsltItems, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = map.next_entry()? {
                    if items.len() == ROWS_MAX {
                        return Err(A::Error::custom(too_many()));
                    }
                    items.push(item);
                }
                Ok(NsltItems(items))
            }
        }
        source.deserialize_map(Items)
    }
}

fn too_many() -> String {
    format!("more than the {ROWS_MAX} clips allowed")
}

fn nslt(name: &str, text: &str) -> Result<Vec<Placed>, SplitsError> {
    let items: NsltItems = serde_json::from_str(text).map_err(|error| {
        SplitsError(format!(
            "{name}: {error}; each clip needs {{\"subset\": \"train\", \"action\": [class, start, end]}}"
        ))
    })?;
    let items = items.0.into_iter().enumerate();
    let row = |(index, (video_id, item)): (usize, (String, NsltItem))| {
        let place = format!("item {}", index + 1);
        let bad = |problem: String| {
            SplitsError(format!(
                "{name}: clip \"{}\": {problem}",
                excerpt(&video_id)
            ))
        };
        let class = item.action.0.as_ref().and_then(serde_json::Number::as_u64);
        let class = class.and_then(|class| usize::try_from(class).ok());
        let class = class.ok_or_else(|| {
            let found = item.action.0.as_ref().map(ToString::to_string);
            let found = found.unwrap_or_else(|| "nothing".to_owned());
            bad(format!(
                "action begins with {found}, where the number of its class is needed"
            ))
        })?;
        let split = split(&item.subset).map_err(bad)?;
        let label = SplitLabel::Class(class);
        Ok((
            place,
            SplitRow {
                video_id,
                path: None,
                split,
                label,
            },
        ))
    };
    items.map(row).collect()
}

/// Reads a table. The first line has the names of its columns, separated by commas, semicolons or tabs.
fn table(name: &str, text: &str) -> Result<Vec<Placed>, SplitsError> {
    let header = { text.lines() }.find(|line| !line.trim().is_empty());
    let header = header.unwrap_or_default();
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(divider(text.as_bytes()))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let broken = |error: csv::Error| SplitsError(format!("{name}: {error}"));
    let names = reader.headers().map_err(broken)?.clone();
    let column = |wanted: &[&str]| {
        let find = |wanted: &&str| names.iter().position(|n| n.eq_ignore_ascii_case(wanted));
        wanted.iter().find_map(find)
    };
    let (path, label) = (column(&["path"]), column(&["label", "class", "gloss"]));
    let (Some(id), Some(split_at)) = (column(&["video_id", "id"]).or(path), column(&["split"]))
    else {
        return Err(SplitsError(format!(
            "{name}, line 1: columns {}; a column video_id, id or path and a column split are needed",
            excerpt(header)
        )));
    };
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = line_of(record.position(), text.as_bytes());
        let bad = |problem: String| SplitsError(format!("{name}, line {line}: {problem}"));
        if rows.len() == ROWS_MAX {
            return Err(bad(too_many()));
        }
        let value = |column: usize| record.get(column).unwrap_or_default();
        let mut video_id = value(id).to_owned();
        let mut whole = None;
        if Some(id) == path {
            let given = video_id.replace('\\', "/");
            let given = given.trim_start_matches("./");
            let file = given.rsplit('/').next().unwrap_or_default();
            let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
            stem.clone_into(&mut video_id);
            whole = Some(given.to_owned());
        }
        if video_id.is_empty() {
            return Err(bad(format!(
                "no {}; fill it in, or remove the line",
                &names[id]
            )));
        }
        let label = label.map(value).filter(|label| !label.is_empty());
        let label = label.map_or(SplitLabel::Unknown, |label| {
            SplitLabel::Gloss(label.to_owned())
        });
        let row = SplitRow {
            video_id,
            path: whole,
            split: split(value(split_at)).map_err(bad)?,
            label,
        };
        rows.push((format!("line {line}"), row));
    }
    let number = |row: &SplitRow| match &row.label {
        SplitLabel::Gloss(label) => label.parse().ok().map(SplitLabel::Class),
        label => Some(label.clone()),
    };
    let is_gloss = label.is_some_and(|at| names[at].eq_ignore_ascii_case("gloss"));
    let numbers: Option<Vec<SplitLabel>> = rows.iter().map(|(_, row)| number(row)).collect();
    if let Some(numbers) = numbers.filter(|_| !is_gloss) {
        for ((_, row), number) in rows.iter_mut().zip(numbers) {
            row.label = number;
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests;
