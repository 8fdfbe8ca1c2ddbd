//! What a dataset says of its clips, whatever its format: classes with their instances.

use std::fmt;
use std::sync::Arc;

/// Stands for a signer that the dataset does not give.
pub const UNKNOWN_SIGNER: i64 = -1;

/// A frame number as the notebook's `int(value or 0)` reads it; `Err` says why it cannot be read.
pub type FrameNumber = Result<i64, String>;

/// What a dataset consists of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetContents {
    /// The classes, in the order of the plan.
    pub entries: Vec<Entry>,
    /// All classes in the order of their official numbers from 0, when the dataset has a list of them.
    pub class_order: Option<Vec<Arc<str>>>,
    /// What the user probably did not intend.
    pub warnings: Vec<String>,
}

/// A gloss (a sign's name) and the clips that show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// As spelt in the file; `None` when missing or empty.
    pub gloss: Option<Arc<str>>,
    /// In file order.
    pub instances: Vec<Instance>,
    /// Why none of its instances is processed, if there is a reason.
    pub refused: Option<String>,
}

/// One clip, or a stretch of one, that shows the entry's gloss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Names the clip in the results; `None` when missing or empty.
    pub video_id: Option<Arc<str>>,
    /// The clip's path in the dataset, with `/` between folders; `None` for WLASL's rule, `videos/ID.mp4`.
    pub path: Option<Arc<str>>,
    /// Where the dataset names it; `None` when no table does.
    pub source: Option<SourceLine>,
    /// First frame as written; 0 when missing. The notebook uses it 0-based.
    pub frame_start: FrameNumber,
    /// Frame after the last as written; 0 and −1 mean the end of the clip.
    pub frame_end: FrameNumber,
    /// `train`, `val` or `test`; empty when missing.
    pub split: String,
    /// Who signs, −1 when unknown.
    pub signer_id: i64,
    /// What else the table says of it.
    pub columns: Option<Arc<ExtraColumns>>,
    /// Why it is not processed, if a value of it is the reason.
    pub refused: Option<String>,
    /// Why the user's subset or splits file leaves it out, if they do.
    pub excluded: Option<String>,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            video_id: None,
            path: None,
            source: None,
            frame_start: Ok(0),
            frame_end: Ok(0),
            split: String::new(),
            signer_id: UNKNOWN_SIGNER,
            columns: None,
            refused: None,
            excluded: None,
        }
    }
}

/// A row of a table, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Path of the table in the dataset.
    pub file: Arc<str>,
    /// From 1 for a line, from 0 for an item of a JSON list.
    pub line: u64,
    /// `line` or `item`.
    pub unit: &'static str,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} {}", self.file, self.unit, self.line)
    }
}

/// Divides the values of a row: no text has it.
const DIVIDER: char = '\u{1f}';

/// The values of a table's row for which there is no other field. Takes as much memory as the text of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraColumns {
    names: Arc<[Box<str>]>,
    values: Box<str>,
}

impl ExtraColumns {
    /// The `values` of the columns with as many `names`.
    pub fn new<'a>(names: Arc<[Box<str>]>, values: impl Iterator<Item = &'a str>) -> Self {
        let values: Vec<_> = values.map(|value| value.replace(DIVIDER, " ")).collect();
        Self {
            names,
            values: values.join("\u{1f}").into(),
        }
    }

    /// Name and value of each column with a value, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.names.iter().map(AsRef::as_ref);
        let pairs = names.zip(self.values.split(DIVIDER));
        pairs.filter(|(_, value)| !value.is_empty())
    }
}
