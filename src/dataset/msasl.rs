//! MS-ASL: `MSASL_train.json`, `MSASL_val.json` and `MSASL_test.json`, over clips that are on disk, in whatever folder.
//!
//! The files list stretches of videos at `YouTube`. Of each the clip is looked for by these names, with the ending of any clip:
//!
//! * `YTID_START_END`, with the numbers of the frames as in the file: a clip that was cut out. It is read whole.
//! * `SPLIT_N` and `SPLIT/N`, with the item's index in its file from 0, in as many digits as it has or in five: the same.
//! * `YTID`: the whole video, of which the frames are read. They are numbered from 0 in the file; the plan numbers them from
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
use std::sync::Arc;

/// Length of the id of a video at `YouTube`.
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
        let is_whole = labels.keys().zip(0..).all(|(label, index)| *label == index);
        if is_whole && !labels.is_empty() {
            rows.class_order = Some(labels.into_values().collect());
        }
        Ok(())
    }
}

/// Reads the list of items.
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
        let mut row = match item {
            Some(item) => row(item, split, index, rows),
            None => ClipRow {
                refused: Some("it is no object".to_owned()),
                ..ClipRow::default()
            },
        };
        row.refused = fault.or(row.refused);
        row.source = Some(SourceLine {
            file: Arc::clone(&file),
            line: index,
            unit: "item",
        });
        rows.push(row);
        index += 1;
    }
    reader.end()?;
    Ok(Ok(()))
}

/// Reads an item, `None` when it is no object, and what is wrong in a value of it.
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
            ("clean_text", JsonValue::Text(text)) => item.gloss = text,
            ("text", JsonValue::Text(text)) if item.gloss.is_empty() => item.gloss = text,
            ("url", JsonValue::Text(text)) => item.url = text,
            ("label", JsonValue::Number(number)) => item.label = number.parse().ok(),
            ("signer_id", JsonValue::Number(number)) => item.signer = number.parse().ok(),
            ("start", JsonValue::Number(number)) => item.start = number.parse().ok(),
            ("end", JsonValue::Number(number)) => item.end = number.parse().ok(),
            _ => {}
        }
    }
    Ok((Some(item), fault))
}

/// The row of the item with the number `index` in the file of `split`.
fn row(item: MsAslItem, split: &str, index: u64, rows: &mut DatasetRows) -> ClipRow {
    let mut row = ClipRow {
        split: split.to_owned(),
        signer: item
            .signer
            .map_or_else(String::new, |signer| signer.to_string()),
        ..ClipRow::default()
    };
    if let (Some(label), false) = (item.label, item.gloss.is_empty()) {
        rows.labels
            .entry(label)
            .or_insert_with(|| item.gloss.as_str().into());
    }
    row.gloss = item.gloss;
    let Some(id) = youtube_id(&item.url) else {
        let shown: String = item.url.chars().take(80).collect();
        row.refused = Some(format!("url {shown:?} has no id of a video at YouTube"));
        return row;
    };
    let range = match (item.start, item.end) {
        (Some(start), Some(end)) => {
            row.paths.push(format!("{id}_{start}_{end}"));
            Some((start + 1, end))
        }
        _ => None,
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

/// The id in the address of a video.
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
