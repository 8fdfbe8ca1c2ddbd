//! MS-ASL: `MSASL_train.json`, `MSASL_val.json` and `MSASL_test.json`, with clips in any folder of the dataset.
//!
//! The files list parts of videos on `YouTube`. Each clip is looked for under these names, with any ending of a clip:
//!
//! * `YTID_START_END`, with the frame numbers as in the file: a clip that was cut out. It is read completely.
//! * `SPLIT_N` and `SPLIT/N`, with the item's index in its file from 0, without leading zeros or with five digits:
//!   also a clip that was cut out.
//! * `YTID`: the whole video, of which the frames are read. The file numbers them from 0; the plan numbers them from
//!   1, as WLASL does.
//!
//! `clean_text` is the gloss, and `label` its official number.

use super::clip_table::too_many;
use super::dataset_rows::{ClipRow, DatasetRows, TABLES_BYTES_MAX};
use super::file_kind::FileKind;
use super::file_tree::FileTree;
use super::format::{DatasetFormat, Recognition};
use super::instance::SourceLine;
use super::json_reader::{JsonError, JsonReader, JsonValue};
use super::text_encoding::FillBytes;
use super::wlasl::{MetadataError, json_error};
use std::collections::HashMap;
use std::sync::Arc;

/// Length of a video id on `YouTube`, in characters.
const YOUTUBE_ID_CHARS: usize = 11;

/// The reader of MS-ASL.
pub(super) struct MsAsl;

/// The fields of an item that are read.
#[derive(Default)]
struct MsAslItem {
    gloss: String,
    url: String,
    label: Option<i64>,
    signer: Option<i64>,
    start: Option<i64>,
    end: Option<i64>,
}

impl DatasetFormat for MsAsl {
    fn recognise(&self, files: &FileTree) -> Result<Recognition, String> {
        Recognition::of_tables(
            files,
            &["MSASL_train.json", "MSASL_val.json", "MSASL_test.json"],
        )
    }

    fn read(
        &self,
        table: &str,
        fill: &mut FillBytes<'_>,
        rows: &mut DatasetRows,
    ) -> Result<(), MetadataError> {
        let name = table.rsplit_once('/').map_or(table, |(_, name)| name);
        let split = name.trim_start_matches("MSASL_").trim_end_matches(".json");
        let mut reader = JsonReader::new(fill, TABLES_BYTES_MAX);
        items(&mut reader, table, split, rows).map_err(|error| {
            match json_error(reader.head(), error) {
                MetadataError::OtherKind(kind) => MetadataError::Table(format!(
                    "{}, and JSON is needed: {}",
                    kind.name,
                    kind.dataset_advice()
                )),
                error => error,
            }
        })?
    }

    fn complete(&self, _files: &FileTree, rows: &mut DatasetRows) -> Result<(), MetadataError> {
        let labels = std::mem::take(&mut rows.labels);
        if let Some((count, first)) = rows.label_conflicts.take() {
            rows.warnings.push(format!(
                "{count} items have another name for a label than an earlier item; the first, {first}"
            ));
        }
        let mut names: HashMap<&str, i64> = HashMap::new();
        let fault = labels.iter().zip(0..).find_map(|((label, (name, place)), index)| {
            if *label != index {
                return Some(format!("{place}, has the label {label}, and no item has {index}"));
            }
            let other = names.insert(name, *label)?;
            Some(format!("{place}, gives \"{name}\" the label {label}, and an earlier one gives it {other}"))
        });
        if let Some(fault) = fault {
            rows.warnings.push(format!(
                "the labels are not used as numbers of the classes: {fault}; correct the label"
            ));
        } else if !labels.is_empty() {
            let names = labels.into_values().map(|(name, _)| name);
            rows.class_order = Some(names.collect());
        }
        Ok(())
    }
}

/// Reads the list of items of one file.
fn items(
    reader: &mut JsonReader<'_>,
    table: &str,
    split: &str,
    rows: &mut DatasetRows,
) -> Result<Result<(), MetadataError>, JsonError> {
    let no_list = || {
        Ok(Err(MetadataError::Table(
            "a list of objects with url and clean_text is needed".to_owned(),
        )))
    };
    match reader.peek()? {
        None => return Ok(Err(MetadataError::Table("the file is empty".to_owned()))),
        Some(b'[') => reader.enter(),
        Some(_) if FileKind::of(reader.head()).is_some() => return Err(JsonError::CutShort),
        Some(_) => {
            reader.skip()?;
            return no_list();
        }
    }
    let file: Arc<str> = table.into();
    let mut is_first = true;
    let mut index = 0;
    while reader.next_item(&mut is_first)? {
        if rows.is_full() {
            return Ok(Err(too_many()));
        }
        let (item, fault) = item(reader)?;
        let source = SourceLine {
            file: Arc::clone(&file),
            line: index,
            unit: "item",
        };
        let mut row = match item {
            Some(item) => {
                note_label(&item, &source, rows);
                row(item, split, index)
            }
            None => ClipRow {
                refused: Some("it is no object".to_owned()),
                ..ClipRow::default()
            },
        };
        row.refused = fault.or(row.refused);
        row.source = Some(source);
        rows.push(row);
        index += 1;
    }
    reader.end()?;
    Ok(Ok(()))
}

/// Reads an item; `None` when it is not an object. The second result is the first invalid value in it.
fn item(reader: &mut JsonReader<'_>) -> Result<(Option<MsAslItem>, Option<String>), JsonError> {
    if reader.peek()? != Some(b'{') {
        reader.skip()?;
        return Ok((None, reader.take_fault()));
    }
    reader.enter();
    let mut item = MsAslItem::default();
    let (mut is_first, mut fault) = (true, None);
    while let Some(key) = reader.next_key(&mut is_first)? {
        let value = reader.value()?;
        fault = fault.or(reader
            .take_fault()
            .map(|problem| format!("{key}: {problem}")));
        match (key.as_str(), value) {
            ("clean_text", JsonValue::Text(text)) => text.trim().clone_into(&mut item.gloss),
            ("text", JsonValue::Text(text)) if item.gloss.is_empty() => {
                text.trim().clone_into(&mut item.gloss);
            }
            ("url", JsonValue::Text(text)) => item.url = text,
            ("label", JsonValue::Number(number)) => item.label = number.parse().ok(),
            ("signer_id", JsonValue::Number(number)) => item.signer = number.parse().ok(),
            ("start" | "end", JsonValue::Null) => {}
            ("start" | "end", value) => {
                let number = match value {
                    JsonValue::Number(number) => number.parse().ok(),
                    _ => None,
                };
                if number.is_none() {
                    fault.get_or_insert(format!("{key}: a whole number is needed"));
                }
                let field = if key == "start" {
                    &mut item.start
                } else {
                    &mut item.end
                };
                *field = number;
            }
            _ => {}
        }
    }
    Ok((Some(item), fault))
}

/// Records the gloss of the item's label, or a conflict when an earlier item gives the label another gloss.
fn note_label(item: &MsAslItem, source: &SourceLine, rows: &mut DatasetRows) {
    let (Some(label), gloss) = (item.label, &*item.gloss) else {
        return;
    };
    if gloss.is_empty() {
        return;
    }
    let known = rows.labels.entry(label);
    let (name, _) = known.or_insert_with(|| (gloss.into(), source.clone()));
    if **name != *gloss {
        let first = || {
            (
                0,
                format!("{source}: label {label} is \"{gloss}\", and \"{name}\" earlier"),
            )
        };
        rows.label_conflicts.get_or_insert_with(first).0 += 1;
    }
}

/// The row of the item at `index` in the file of `split`.
fn row(item: MsAslItem, split: &str, index: u64) -> ClipRow {
    let mut row = ClipRow {
        split: split.to_owned(),
        signer: item
            .signer
            .map_or_else(String::new, |signer| signer.to_string()),
        ..ClipRow::default()
    };
    row.gloss = item.gloss;
    let Some(id) = youtube_id(&item.url) else {
        let shown: String = item.url.chars().take(80).collect();
        row.refused = Some(format!("url {shown:?} has no id of a video at YouTube"));
        return row;
    };
    let range = match (item.start, item.end) {
        (Some(start), Some(end)) => {
            row.paths.push(format!("{id}_{start}_{end}"));
            let Some(first) = start.checked_add(1) else {
                row.refused = Some(format!("start {start} is no possible number of a frame"));
                return row;
            };
            Some((first, end))
        }
        (None, None) => None,
        _ => {
            row.refused = Some("it has only one of start and end: add the other".to_owned());
            return row;
        }
    };
    row.paths.extend([
        format!("{split}_{index}"),
        format!("{split}_{index:05}"),
        format!("{split}/{index}"),
        format!("{split}/{index:05}"),
    ]);
    row.paths.push(id.to_owned());
    row.range_of_last = range;
    row
}

/// The video id in a `YouTube` URL.
fn youtube_id(url: &str) -> Option<&str> {
    let behind = |mark: &str| url.split_once(mark).map(|(_, rest)| rest);
    let rest = behind("v=")
        .or_else(|| behind("youtu.be/"))
        .or_else(|| behind("/embed/"))?;
    let is_good = |id: &&str| {
        id.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    rest.get(..YOUTUBE_ID_CHARS).filter(is_good)
}
