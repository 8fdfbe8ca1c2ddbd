//! The contents of a dataset of any format: classes with their instances.

use std::fmt;
use std::sync::Arc;

/// The signer number of a clip whose signer the dataset does not give.
pub const UNKNOWN_SIGNER: i64 = -1;

/// A frame number as the notebook's `int(value or 0)` reads it; `Err` is the reason why it cannot be read.
pub type FrameNumber = Result<i64, String>;

/// The contents of a dataset.
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
    /// The gloss as spelt in the file; `None` when missing or empty.
    pub gloss: Option<Arc<str>>,
    /// The instances, in file order.
    pub instances: Vec<Instance>,
    /// Why none of the entry's instances is processed, if there is a reason.
    pub refused: Option<String>,
}

/// One clip, or a part of one, that shows the entry's gloss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Names the clip in the results; `None` when missing or empty.
    pub video_id: Option<Arc<str>>,
    /// The clip's path in the dataset, with `/` between folders; `None` for WLASL's rule, `videos/ID.mp4`.
    pub path: Option<Arc<str>>,
    /// The row that names the clip; `None` when no table does.
    pub source: Option<SourceLine>,
    /// First frame as written; 0 when missing. The notebook uses it 0-based.
    pub frame_start: FrameNumber,
    /// Frame after the last as written; 0 and −1 mean the end of the clip.
    pub frame_end: FrameNumber,
    /// `train`, `val` or `test`; empty when missing.
    pub split: String,
    /// Number of the signer, −1 when unknown.
    pub signer_id: i64,
    /// The other values of the table's row.
    pub columns: Option<Arc<ExtraColumns>>,
    /// Why the instance is not processed, if one of its values is the reason.
    pub refused: Option<String>,
    /// Why the user's subset or splits file excludes the instance, if they do.
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
    /// Number of the line from 1, or of the item of a JSON list from 0.
    pub line: u64,
    /// What `line` counts: `line` or `item`.
    pub unit: &'static str,
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} {}", self.file, self.unit, self.line)
    }
}

/// Separator of the stored values of a row. Within a value it is replaced by a space.
const DIVIDER: char = '\u{1f}';

/// The values of a row that have no other field. They take as much memory as the text of the row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraColumns {
    names: Arc<[Box<str>]>,
    values: Box<str>,
}

impl ExtraColumns {
    /// Stores `values`, one for each of `names`.
    pub fn new<'a>(names: Arc<[Box<str>]>, values: impl Iterator<Item = &'a str>) -> Self {
        let values: Vec<_> = values.map(|value| value.replace(DIVIDER, " ")).collect();
        Self {
            names,
            values: values.join("\u{1f}").into(),
        }
    }

    /// Name and value of each non-empty column, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let names = self.names.iter().map(AsRef::as_ref);
        let pairs = names.zip(self.values.split(DIVIDER));
        pairs.filter(|(_, value)| !value.is_empty())
    }
}
