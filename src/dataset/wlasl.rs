//! The WLASL metadata file: a list of glosses, each with its instances.
//!
//! Reads `WLASL_v0.3.json` as the notebook's Python does, piece by piece and with bounded memory. It does not check
//! which clips exist. A broken structure or another layout is an error. An invalid value only refuses the instance or
//! the entry that holds it.

use super::dataset_rows::DatasetRows;
use super::file_kind::FileKind;
use super::file_tree::FileTree;
use super::format::{DatasetFormat, Recognition};
use super::instance::{Entry, Instance, UNKNOWN_SIGNER};
use super::json_reader::{JsonError, JsonReader, JsonValue, excerpt};
use super::python_compat;
use super::text_encoding::FillBytes;
use std::sync::Arc;
use thiserror::Error;

/// Name of the metadata file of a WLASL dataset.
pub const FILE_NAME: &str = "WLASL_v0.3.json";

/// Size limit of a metadata file, in bytes; the real one has 12 MB.
pub const BYTES_MAX: u64 = 64 << 20;

/// Largest number of glosses and instances together in a file; the real one has 2,000 and 21,083. With the longest
/// values they take less than 200 MB of memory.
pub const ITEMS_MAX: usize = 100_000;

/// Longest gloss and video id, in bytes. File names are not longer, and each row's label takes the length of the
/// longest.
const NAME_BYTES_MAX: usize = 255;

/// Why a metadata file cannot be used. The caller adds the name of the file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MetadataError {
    /// The file has nothing but white space.
    #[error(
        "the file is empty; {FILE_NAME} is a JSON list of glosses, about 12 MB: download it again"
    )]
    Empty,
    /// The file cannot be read to its end.
    #[error("cannot be read: {0}")]
    Read(String),
    /// The file ends within a value.
    #[error(
        "not valid JSON: the file ends within a value, so it is cut short: compare its size with the original and copy it again"
    )]
    CutShort,
    /// The file is not JSON: what is wrong and where.
    #[error("not valid JSON: {0}; correct that place, or download the file again")]
    Syntax(String),
    /// The file is of another kind.
    #[error("{} where {FILE_NAME} is needed, which is JSON: {}", .0.name, .0.dataset_advice())]
    OtherKind(FileKind),
    /// The file is one of the `nslt_*.json` files.
    #[error(
        "a list of splits (\"{video_id}\": subset, action), as in nslt_2000.json, found where {FILE_NAME} is needed: \
         give that file instead"
    )]
    SplitList {
        /// The first video id in it.
        video_id: String,
    },
    /// The file is JSON, but has another layout: the place, what was found and what was expected.
    #[error("{0}; is this {FILE_NAME}?")]
    Shape(String),
    /// A table of another format that cannot be used, for this reason.
    #[error("{0}")]
    Table(String),
    /// The file has too many glosses and instances.
    #[error("more than {ITEMS_MAX} glosses and instances; is this {FILE_NAME}, which has 23,083?")]
    TooMany,
}

/// Reads a metadata file from memory, as [`read`] does.
///
/// # Errors
/// Fails as [`read`] does.
pub fn parse(json: &[u8]) -> Result<Vec<Entry>, MetadataError> {
    let mut rest = json;
    read(&mut |buffer: &mut [u8]| {
        let (piece, others) = rest.split_at(rest.len().min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(piece);
        rest = others;
        Ok(piece.len())
    })
}

/// Reads the whole metadata file through `fill`.
///
/// UTF-8, UTF-16 and UTF-32 are read, with or without a byte order mark. These values in any field refuse their
/// instance, or their entry when they are outside of an instance: a number that no float holds (`1e999`, `NaN`, more
/// than 309 digits), half a character (`"\ud800"`), more than 128 levels, and anything that is not JSON.
///
/// # Errors
/// Fails when the file cannot be read, is larger than [`BYTES_MAX`], is not JSON or has another layout than a list of
/// objects with glosses and lists of instances.
pub fn read(fill: &mut FillBytes<'_>) -> Result<Vec<Entry>, MetadataError> {
    let mut reader = JsonReader::new(fill, BYTES_MAX);
    read_list(&mut reader).map_err(|error| match error {
        ReadError::Layout(error) => error,
        ReadError::Json(error) => json_error(reader.head(), error),
    })
}

/// The error for a file that starts with `head` and cannot be read to its end.
pub(super) fn json_error(head: &[u8], error: JsonError) -> MetadataError {
    // The kind of the file is more helpful than the place where reading ended.
    match (FileKind::of(head), error) {
        (_, JsonError::Read(reason)) => MetadataError::Read(reason),
        (Some(kind), _) => MetadataError::OtherKind(kind),
        (None, JsonError::Syntax(problem)) => MetadataError::Syntax(problem),
        (None, JsonError::CutShort) => MetadataError::CutShort,
    }
}

/// Whether a JSON file that starts with `head` looks like WLASL's metadata.
pub(super) fn is_metadata(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    head.trim_start_matches('\u{feff}')
        .trim_start()
        .starts_with('[')
        && head.contains("\"gloss\"")
}

/// The reader of WLASL. Its rows have no paths: the caller looks for `videos/ID.mp4`.
pub(super) struct Wlasl;

impl DatasetFormat for Wlasl {
    fn recognise(&self, files: &FileTree) -> Result<Recognition, String> {
        Recognition::of_tables(files, &[FILE_NAME])
    }

    fn read(
        &self,
        _table: &str,
        fill: &mut FillBytes<'_>,
        rows: &mut DatasetRows,
    ) -> Result<(), MetadataError> {
        rows.entries = read(fill)?;
        Ok(())
    }
}

/// Why reading ended early.
enum ReadError {
    Json(JsonError),
    Layout(MetadataError),
}

impl From<JsonError> for ReadError {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

fn read_list(reader: &mut JsonReader<'_>) -> Result<Vec<Entry>, ReadError> {
    match reader.peek()? {
        None => return Err(ReadError::Layout(MetadataError::Empty)),
        Some(b'[') => reader.enter(),
        Some(first) => return not_a_list(reader, first).and_then(|e| Err(ReadError::Layout(e))),
    }
    let mut entries = Vec::new();
    let mut items = 0;
    // The first item that is not an entry.
    let mut other_layout = None;
    let mut has_entry = false;
    let mut is_first = true;
    while reader.next_item(&mut is_first)? {
        let entry = match entry(reader, &mut items)? {
            Ok(entry) => {
                has_entry = true;
                entry
            }
            Err(found) => {
                let place = format!("[{}]: found {found}", entries.len());
                let problem =
                    format!("{place}, expected an object with \"gloss\" and \"instances\"");
                let refused = Some(problem.clone());
                other_layout = other_layout.or(Some(problem));
                Entry {
                    refused,
                    ..Entry::default()
                }
            }
        };
        entries.push(entry);
    }
    reader.end()?;
    match other_layout {
        Some(problem) if !has_entry => Err(ReadError::Layout(MetadataError::Shape(problem))),
        _ => Ok(entries),
    }
}

/// The error for a file whose top level begins with the byte `first` instead of a list.
fn not_a_list(reader: &mut JsonReader<'_>, first: u8) -> Result<MetadataError, ReadError> {
    if let Some(kind) = FileKind::of(reader.head()) {
        return Ok(MetadataError::OtherKind(kind));
    }
    let found = if first == b'{' {
        reader.enter();
        match reader.next_key(&mut true)? {
            None => "an empty object".to_owned(),
            Some(key) => {
                if is_split(reader)? {
                    return Ok(MetadataError::SplitList { video_id: key });
                }
                format!("an object with key \"{key}\"")
            }
        }
    } else {
        let value = reader.value()?;
        match reader.take_fault() {
            Some(fault) => {
                return Ok(MetadataError::Syntax(format!(
                    "the file begins with {fault}"
                )));
            }
            None => found(&value),
        }
    };
    Ok(MetadataError::Shape(format!(
        "top level: found {found}, expected a list of objects with \"gloss\" and \"instances\""
    )))
}

/// Reads the next value; returns whether it is an object with `subset` and `action`.
fn is_split(reader: &mut JsonReader<'_>) -> Result<bool, ReadError> {
    if reader.peek()? != Some(b'{') {
        return Ok(false);
    }
    let (mut has_subset, mut has_action) = (false, false);
    members(reader, |reader, key| {
        has_subset |= key == "subset";
        has_action |= key == "action";
        reader.skip()?;
        Ok(())
    })?;
    Ok(has_subset && has_action)
}

/// Calls `member` with each key of the next value, an object, to read the key's value. Returns the first fault in a
/// value, with its key. As in Python the last of several equal keys counts.
fn members<'a>(
    reader: &mut JsonReader<'a>,
    mut member: impl FnMut(&mut JsonReader<'a>, &str) -> Result<(), ReadError>,
) -> Result<Option<String>, ReadError> {
    reader.enter();
    let (mut is_first, mut fault) = (true, None);
    while let Some(key) = reader.next_key(&mut is_first)? {
        member(reader, &key)?;
        // Take every fault, so that a later one is not attributed to the next object.
        let found = reader.take_fault();
        fault = fault.or(found.map(|fault| format!("{key}: {fault}")));
    }
    Ok(fault)
}

/// Reads an item of the top level; `Err` describes a value that is not an entry. `items` counts glosses and
/// instances.
fn entry(
    reader: &mut JsonReader<'_>,
    items: &mut usize,
) -> Result<Result<Entry, String>, ReadError> {
    count(items)?;
    if reader.peek()? != Some(b'{') {
        let value = reader.value()?;
        return Ok(Err(reader.take_fault().unwrap_or_else(|| found(&value))));
    }
    let mut entry = Entry::default();
    let (mut first_key, mut is_entry) = (None, false);
    let (mut wrong_gloss, mut wrong_list) = (None, None);
    let fault = members(reader, |reader, key| {
        match key {
            "gloss" => (entry.gloss, wrong_gloss) = name(key, reader.value()?),
            "instances" if reader.peek()? == Some(b'[') => {
                (entry.instances, wrong_list) = (instances(reader, items)?, None);
            }
            "instances" => {
                entry.instances.clear();
                let found = found(&reader.value()?);
                wrong_list = Some(format!("instances is {found}, a list of objects is needed"));
            }
            _ => _ = reader.skip()?,
        }
        is_entry |= matches!(key, "gloss" | "instances");
        first_key.get_or_insert_with(|| key.to_owned());
        Ok(())
    })?;
    if let Some(key) = first_key
        && !is_entry
    {
        return Ok(Err(format!("an object with key \"{key}\"")));
    }
    entry.refused = fault.or(wrong_gloss).or(wrong_list);
    Ok(Ok(entry))
}

fn count(items: &mut usize) -> Result<(), ReadError> {
    *items += 1;
    if *items > ITEMS_MAX {
        return Err(ReadError::Layout(MetadataError::TooMany));
    }
    Ok(())
}

/// Reads the list of an entry's instances.
fn instances(reader: &mut JsonReader<'_>, items: &mut usize) -> Result<Vec<Instance>, ReadError> {
    reader.enter();
    let mut instances = Vec::new();
    let mut is_first = true;
    while reader.next_item(&mut is_first)? {
        count(items)?;
        instances.push(instance(reader)?);
    }
    Ok(instances)
}

fn instance(reader: &mut JsonReader<'_>) -> Result<Instance, ReadError> {
    let mut instance = Instance::default();
    if reader.peek()? != Some(b'{') {
        let value = reader.value()?;
        let found = reader.take_fault().unwrap_or_else(|| found(&value));
        instance.refused = Some(format!(
            "found {found}, expected an object with \"video_id\""
        ));
        return Ok(instance);
    }
    let mut wrong_id = None;
    let fault = members(reader, |reader, key| {
        match key {
            "video_id" => (instance.video_id, wrong_id) = name(key, reader.value()?),
            "frame_start" => instance.frame_start = python_compat::int_or_zero(&reader.value()?),
            "frame_end" => instance.frame_end = python_compat::int_or_zero(&reader.value()?),
            "split" => instance.split = short_text(reader.value()?),
            "signer_id" => instance.signer_id = signer(&reader.value()?),
            _ => _ = reader.skip()?,
        }
        Ok(())
    })?;
    instance.refused = fault.or(wrong_id);
    Ok(instance)
}

/// A gloss or a video id, and why it cannot be used. `None` for the first when Python takes `value` as false.
fn name(key: &str, value: JsonValue) -> (Option<Arc<str>>, Option<String>) {
    if python_compat::is_falsy(&value) {
        return (None, None);
    }
    let is_id = key == "video_id";
    let wrong = match value {
        JsonValue::Text(text) if text.len() <= NAME_BYTES_MAX => return (Some(text.into()), None),
        // The notebook puts a video id into a file name, whatever its type.
        JsonValue::Number(token) if is_id && token.len() <= NAME_BYTES_MAX => {
            return (Some(python_compat::str_of_number(&token).into()), None);
        }
        JsonValue::Bool(_) if is_id => return (Some("True".into()), None),
        JsonValue::Text(text) => format!(
            "is a text of more than the {NAME_BYTES_MAX} bytes allowed: \"{}\"",
            excerpt(&text)
        ),
        other => format!("is {}, a text is needed", found(&other)),
    };
    (None, Some(format!("{key} {wrong}")))
}

/// The text in `value`; empty when it is not a text or too long.
fn short_text(value: JsonValue) -> String {
    match value {
        JsonValue::Text(text) if text.len() <= NAME_BYTES_MAX => text,
        _ => String::new(),
    }
}

fn signer(value: &JsonValue) -> i64 {
    match value {
        JsonValue::Number(token) => python_compat::truncated(token),
        _ => UNKNOWN_SIGNER,
    }
}

/// Describes a value for an error: its kind and its start.
fn found(value: &JsonValue) -> String {
    match value {
        JsonValue::Null => "null".to_owned(),
        JsonValue::Bool(flag) => flag.to_string(),
        JsonValue::Number(token) => format!("the number {}", excerpt(token)),
        JsonValue::Text(text) => format!("the text \"{}\"", excerpt(text)),
        JsonValue::List(true) => "an empty list".to_owned(),
        JsonValue::List(false) => "a list".to_owned(),
        JsonValue::Object(true) => "an empty object".to_owned(),
        JsonValue::Object(false) => "an object".to_owned(),
    }
}

#[cfg(test)]
mod tests;
