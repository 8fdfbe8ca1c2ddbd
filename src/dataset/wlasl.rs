//! The WLASL metadata file: a list of glosses, each with its instances.
//!
//! Reads `WLASL_v0.3.json` as the notebook's Python does and knows nothing of clips on disk. A file of another shape
//! is an error that names the place; an odd value inside one instance is data and stays with that instance.

use super::python_compat;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

/// The file that a WLASL dataset describes itself with.
pub const FILE_NAME: &str = "WLASL_v0.3.json";

/// Stands for a signer that the metadata does not give.
const UNKNOWN_SIGNER: i64 = -1;

/// Longest excerpt of a value in an error, in characters.
const EXCERPT_MAX_CHARS: usize = 40;

/// A frame number as the notebook's `int(value or 0)` reads it; `Err` says why it cannot be read.
pub type FrameNumber = Result<i64, String>;

/// A gloss (a sign's name in English) and the clips that show it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct Entry {
    /// As spelt in the file; `None` when missing or empty.
    pub gloss: Option<String>,
    /// In file order.
    pub instances: Vec<Instance>,
}

/// One clip, or a stretch of one, that shows the entry's gloss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Name of the clip's file without `.mp4`; `None` when missing or empty.
    pub video_id: Option<String>,
    /// First frame as written; 0 when missing. The notebook uses it 0-based.
    pub frame_start: FrameNumber,
    /// Frame after the last as written; 0 and −1 mean the end of the clip.
    pub frame_end: FrameNumber,
    /// `train`, `val` or `test`; empty when missing.
    pub split: String,
    /// Who signs, −1 when unknown.
    pub signer_id: i64,
}

/// Why a metadata file cannot be used. The caller adds the file's name.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MetadataError {
    /// Nothing but white space.
    #[error(
        "the file is empty; {FILE_NAME} is a JSON list of glosses, about 12 MB: download it again"
    )]
    Empty,
    /// Not JSON.
    #[error("not valid JSON: {0}; the file may be cut short or damaged: download it again")]
    Syntax(String),
    /// One of the `nslt_*.json` files.
    #[error(
        "a list of splits (\"{video_id}\": subset, action), as in nslt_2000.json, found where {FILE_NAME} is needed: \
         give that file instead"
    )]
    SplitList {
        /// The first video id in it.
        video_id: String,
    },
    /// JSON, but not shaped like WLASL's: the place, what stands there and what should.
    #[error("{0}; is this {FILE_NAME}?")]
    Shape(String),
}

/// Reads the whole of a metadata file.
///
/// A byte order mark is skipped, and Python's bare `NaN` is understood, both beyond what JSON allows.
///
/// # Errors
/// When `json` is not JSON or not a list of objects with text glosses and lists of instances.
pub fn parse(json: &[u8]) -> Result<Vec<Entry>, MetadataError> {
    let json = json.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(json);
    if json.iter().all(u8::is_ascii_whitespace) {
        return Err(MetadataError::Empty);
    }
    match parse_json(json) {
        Err(syntax @ MetadataError::Syntax(_)) => {
            // Bare floats are rare: only a file that failed is searched for them.
            python_compat::with_bare_floats_marked(json)
                .map_or(Err(syntax), |marked| parse_json(&marked))
        }
        result => result,
    }
}

fn parse_json(json: &[u8]) -> Result<Vec<Entry>, MetadataError> {
    let syntax = |error: serde_json::Error| MetadataError::Syntax(error.to_string());
    match serde_json::from_slice(json) {
        Ok(entries) => Ok(entries),
        // Entries are made one at a time; only a file of another shape is held as a tree, to name the place.
        Err(error) if error.is_data() => match serde_json::from_slice(json).map_err(syntax)? {
            Value::Array(list) => (0..).zip(list).map(|(n, value)| entry(n, value)).collect(),
            other => Err(not_a_list(&other)),
        },
        Err(error) => Err(syntax(error)),
    }
}

fn not_a_list(value: &Value) -> MetadataError {
    let first = value.as_object().and_then(|members| members.iter().next());
    if let Some((video_id, split)) = first
        && split.get("subset").is_some()
        && split.get("action").is_some()
    {
        return MetadataError::SplitList {
            video_id: excerpt(video_id),
        };
    }
    let expected = "a list of objects with \"gloss\" and \"instances\"";
    shape_error("top level", value, expected)
}

fn shape_error(place: &str, value: &Value, expected: &str) -> MetadataError {
    let found = found(value);
    MetadataError::Shape(format!("{place}: found {found}, expected {expected}"))
}

impl TryFrom<Value> for Entry {
    type Error = MetadataError;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        entry(0, value)
    }
}

/// Reads entry number `index` of the file.
fn entry(index: usize, value: Value) -> Result<Entry, MetadataError> {
    let Value::Object(mut members) = value else {
        let expected = "an object with \"gloss\" and \"instances\"";
        return Err(shape_error(&format!("[{index}]"), &value, expected));
    };
    let gloss = match members.remove("gloss") {
        Some(Value::String(gloss)) if !gloss.is_empty() => Some(gloss),
        Some(other) if !python_compat::is_falsy(&other) => {
            return Err(shape_error(&format!("[{index}].gloss"), &other, "text"));
        }
        _ => None,
    };
    let path = format!("[{index}].instances");
    let list = match members.remove("instances") {
        Some(Value::Array(list)) => list,
        Some(other) => return Err(shape_error(&path, &other, "a list of objects")),
        None => Vec::new(),
    };
    let instances = list.into_iter().enumerate().map(|(n, value)| match value {
        Value::Object(members) => Ok(instance(members)),
        other => {
            let expected = "an object with \"video_id\"";
            Err(shape_error(&format!("{path}[{n}]"), &other, expected))
        }
    });
    let instances = instances.collect::<Result<_, _>>()?;
    Ok(Entry { gloss, instances })
}

fn instance(mut members: Map<String, Value>) -> Instance {
    let frame_number = |key: &str| members.get(key).map_or(Ok(0), python_compat::int_or_zero);
    let (frame_start, frame_end) = (frame_number("frame_start"), frame_number("frame_end"));
    let signer_id = match members.get("signer_id") {
        Some(Value::Number(number)) => python_compat::truncated(number),
        _ => UNKNOWN_SIGNER,
    };
    Instance {
        video_id: members.remove("video_id").and_then(video_id),
        frame_start,
        frame_end,
        split: match members.remove("split") {
            Some(Value::String(split)) => split,
            _ => String::new(),
        },
        signer_id,
    }
}

/// The text that the notebook puts before `.mp4`. Values that name no file become text too: their clip is missing.
fn video_id(value: Value) -> Option<String> {
    if python_compat::is_falsy(&value) {
        return None;
    }
    if let Some(float) = python_compat::bare_float(&value) {
        return Some(float.to_owned());
    }
    Some(match value {
        Value::String(id) => id,
        Value::Bool(_) => "True".to_owned(),
        other => other.to_string(),
    })
}

/// A value's kind and a bit of it, for an error.
fn found(value: &Value) -> String {
    if let Some(float) = python_compat::bare_float(value) {
        return float.to_owned();
    }
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text \"{}\"", excerpt(text)),
        Value::Array(items) => format!("a list of {} items", items.len()),
        Value::Object(members) => match members.keys().next() {
            Some(key) => format!("an object with key \"{}\"", excerpt(key)),
            None => "an empty object".to_owned(),
        },
    }
}

/// The start of `text`, fit for one line of a terminal.
fn excerpt(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(EXCERPT_MAX_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(EXCERPT_MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(json: &str) -> Entry {
        parse(json.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn reads_an_entry_as_the_notebook_does() {
        let entry = first(
            r#"[{"gloss": "book", "instances": [
                {"video_id": "00335", "frame_start": 1, "frame_end": -1, "split": "train", "signer_id": 9, "instance_id": 2},
                {"video_id": 335, "frame_start": "3", "frame_end": "abc"},
                {"video_id": null, "frame_start": null, "split": 3, "signer_id": "x"}, {"video_id": ""}, {}]}]"#,
        );
        assert_eq!(entry.gloss.as_deref(), Some("book"));
        let ids: Vec<_> = entry
            .instances
            .iter()
            .map(|i| i.video_id.as_deref())
            .collect();
        assert_eq!(ids, [Some("00335"), Some("335"), None, None, None]);
        let one = &entry.instances[0];
        assert_eq!((&one.frame_start, &one.frame_end), (&Ok(1), &Ok(-1)));
        assert_eq!((one.split.as_str(), one.signer_id), ("train", 9));
        assert_eq!(entry.instances[1].frame_start, Ok(3));
        assert_eq!(
            entry.instances[1].frame_end,
            Err("invalid literal for int() with base 10: 'abc'".to_owned())
        );
        assert_eq!(entry.instances[2].signer_id, UNKNOWN_SIGNER);
    }

    #[test]
    fn falsy_glosses_and_missing_instances_are_nothing() {
        for gloss in ["null", "\"\"", "0", "false", "[]", "{}"] {
            assert_eq!(first(&format!("[{{\"gloss\": {gloss}}}]")).gloss, None);
        }
        assert!(first("[{}]").instances.is_empty());
        assert_eq!(parse(b"[]"), Ok(vec![]));
        // As in Python the last of several equal keys counts.
        assert_eq!(
            first(r#"[{"gloss": 5, "gloss": "a"}]"#).gloss.as_deref(),
            Some("a")
        );
        assert_eq!(parse(b"\xEF\xBB\xBF[]"), Ok(vec![]));
    }

    #[test]
    fn bare_nan_spoils_one_instance_only() {
        let entry = first(
            r#"[{"gloss": "NaN", "instances": [{"video_id": NaN, "frame_end": NaN, "signer_id": -Infinity}]}]"#,
        );
        assert_eq!(entry.gloss.as_deref(), Some("NaN"));
        assert_eq!(entry.instances[0].video_id.as_deref(), Some("nan"));
        assert_eq!(
            entry.instances[0].frame_end,
            Err("cannot convert float NaN to integer".to_owned())
        );
    }

    #[test]
    fn a_wrong_shape_names_its_place() {
        let check = |json: &str, expected: &str| {
            let message = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(expected), "{json}: {message}");
        };
        check("{}", "top level: found an empty object, expected a list");
        check(r#"{"a": [1]}"#, "an object with key \"a\"");
        check("null", "top level: found null");
        check("3", "top level: found the number 3");
        check("-1.5", "found the number -1.5");
        check("NaN", "found");
        check("true", "found true");
        check("\"x\"", "found the text \"x\"");
        check("[{}, 7]", "[1]: found the number 7");
        check(
            r#"[{"gloss": 5}]"#,
            "[0].gloss: found the number 5, expected text",
        );
        check(r#"[{"instances": null}]"#, "[0].instances: found null");
        check(
            r#"[{}, {"instances": [{}, {}, ["a", 2]]}]"#,
            "[1].instances[2]: found a list of 2 items, expected an object",
        );
        check(
            r#"{"65097": {"subset": "train", "action": [481, 1, 74]}, "1": 2}"#,
            "nslt_2000.json",
        );
        check("", "the file is empty");
        check(" \n", "the file is empty");
        check(
            "[{]",
            "not valid JSON: key must be a string at line 1 column 3;",
        );
        check("[] x", "trailing characters");
        check("[{}", "EOF while parsing");
        check("[\"\u{7}\"]", "control character");
        // A wrong shape before the end of a file that is cut short.
        check("[7, {", "EOF while parsing");
    }

    #[test]
    fn deep_nesting_is_an_error_not_an_overflow() {
        for open in ["[", "{\"a\":", "[{\"instances\":"] {
            let message = parse(open.repeat(200_000).as_bytes())
                .unwrap_err()
                .to_string();
            assert!(message.contains("recursion limit"), "{message}");
        }
    }
}
