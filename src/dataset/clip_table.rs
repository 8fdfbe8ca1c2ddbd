//! Text tables of clips: one row per clip, values separated by commas, semicolons or tabs, with quotes where needed.
//!
//! UTF-8, UTF-16 and UTF-32 are read, with or without a byte order mark, and so are lines that end in CR LF. A row
//! that cannot be read is refused with its line number, and the other rows are read.

use super::dataset_rows::{ClipRow, DatasetRows, ROWS_MAX, TABLES_BYTES_MAX};
use super::file_kind::FileKind;
use super::file_tree::is_clip;
use super::instance::{ExtraColumns, FrameNumber, SourceLine};
use super::text_encoding::{FillBytes, Utf8Text};
use super::wlasl::MetadataError;
use csv::{ByteRecord, Position, Reader, ReaderBuilder};
use std::sync::Arc;

/// Largest number of columns in a table.
const COLUMNS_MAX: usize = 64;

/// Largest number of column names in a message.
const NAMES_SHOWN: usize = 5;

/// Largest number of line breaks in a value. With more, a closing quote is probably missing.
const VALUE_LINES_MAX: usize = 20;

/// Accepted names of the columns that are read. Names are compared without case, spaces, `_` and `-`.
pub(super) const PATH: &[&str] = &[
    "path",
    "filepath",
    "videopath",
    "clippath",
    "file",
    "filename",
    "videofile",
    "videofilename",
    "video",
    "clip",
    "relativepath",
    "videoname",
    "clipname",
];
/// See [`PATH`].
pub(super) const GLOSS: &[&str] = &[
    "gloss",
    "sign",
    "word",
    "label",
    "class",
    "classname",
    "labelname",
    "category",
    "target",
];
const ID: &[&str] = &["id", "videoid", "clipid", "sampleid", "instanceid", "uid"];
const SPLIT: &[&str] = &["split", "subset", "partition", "set", "fold"];
const SIGNER: &[&str] = &[
    "signer",
    "signerid",
    "participant",
    "participantid",
    "person",
    "personid",
    "subject",
];
const START: &[&str] = &["startframe", "framestart", "firstframe", "beginframe"];
const END: &[&str] = &["endframe", "frameend", "lastframe"];

/// The bytes of the table that `fill` reads, in UTF-8 unless they are in an old encoding.
pub(super) fn table_bytes(fill: &mut FillBytes<'_>) -> Result<Vec<u8>, MetadataError> {
    let mut text = Utf8Text::new(fill, TABLES_BYTES_MAX);
    let (mut bytes, mut piece) = (Vec::new(), Vec::new());
    loop {
        text.next(&mut piece).map_err(MetadataError::Read)?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(&piece);
    }
    match FileKind::of_no_table(&bytes) {
        _ if bytes.trim_ascii().is_empty() => {
            Err(MetadataError::Table("the file is empty".to_owned()))
        }
        Some(kind) => {
            let advice = kind.dataset_advice();
            let problem = format!("{} where a table in text is needed: {advice}", kind.name);
            Err(MetadataError::Table(problem))
        }
        None => Ok(bytes),
    }
}

/// A reader of the values in `bytes`. The first line determines the separator, and is read as a row like the others.
pub(super) fn values(bytes: &[u8]) -> Reader<&[u8]> {
    reader_of(bytes, divider(bytes))
}

/// The separator of the values in the first line of `bytes`.
pub(super) fn divider(bytes: &[u8]) -> u8 {
    let first = bytes
        .split(|byte| *byte == b'\n')
        .find(|line| !line.trim_ascii().is_empty());
    let mut is_quoted = false;
    let mut counts = [(0, b','), (0, b';'), (0, b'\t')];
    for byte in first.unwrap_or_default() {
        is_quoted ^= *byte == b'"';
        let counted = counts
            .iter_mut()
            .find(|(_, divider)| divider == byte && !is_quoted);
        if let Some((count, _)) = counted {
            *count += 1;
        }
    }
    let most = counts.iter().rev().max_by_key(|(count, _)| *count);
    most.map_or(b',', |(_, divider)| *divider)
}

fn reader_of(bytes: &[u8], divider: u8) -> Reader<&[u8]> {
    ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(divider)
        .from_reader(bytes)
}

/// The line on which the record at `position` of the table in `bytes` begins. The reader's own count is the line on
/// which the previous row ends.
pub(super) fn line_of(position: Option<&Position>, bytes: &[u8]) -> u64 {
    let (at, line) = position.map_or((0, 0), |at| (at.byte(), at.line()));
    let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..));
    let ends = rest.into_iter().flatten();
    let ends = ends.take_while(|byte| matches!(byte, b'\r' | b'\n'));
    line + ends.filter(|byte| **byte == b'\n').count() as u64
}

/// Indices of the columns that are read.
#[derive(Debug)]
struct Columns {
    names: Vec<Box<str>>,
    path: usize,
    gloss: usize,
    id: Option<usize>,
    split: Option<usize>,
    signer: Option<usize>,
    start: Option<usize>,
    end: Option<usize>,
}

impl Columns {
    /// Finds the columns of a table whose first line is `header`.
    fn of(header: &ByteRecord) -> Result<Self, String> {
        let names: Vec<Box<str>> = { header.iter() }
            .map(|name| String::from_utf8_lossy(name).trim().into())
            .collect();
        let plain = |name: &str| name.replace([' ', '_', '-'], "").to_lowercase();
        let plain: Vec<String> = names.iter().map(|name| plain(name)).collect();
        let column = |known: &[&str]| {
            known
                .iter()
                .find_map(|known| plain.iter().position(|name| name == known))
        };
        let needed = |what: &str, known: &[&str]| {
            column(known).ok_or_else(|| {
                let shown = names.iter().take(COLUMNS_MAX).map(|name| name.chars().take(60).collect::<String>());
                format!(
                    "line 1: no column names the {what}; the columns are {:?}, and one of {} or alike is needed",
                    shown.collect::<Vec<_>>(),
                    known[..NAMES_SHOWN].join(", ")
                )
            })
        };
        if names.len() > COLUMNS_MAX {
            return Err(format!(
                "line 1: {} columns, more than the {COLUMNS_MAX} allowed",
                names.len()
            ));
        }
        for known in [PATH, GLOSS, ID, SPLIT, SIGNER, START, END] {
            let at = column(known).unwrap_or(usize::MAX);
            if plain
                .iter()
                .skip(at.saturating_add(1))
                .any(|name| *name == plain[at])
            {
                return Err(format!(
                    "line 1: two columns have the name {}: remove one, or name it otherwise",
                    names[at]
                ));
            }
        }
        Ok(Self {
            path: needed("clip's file", PATH)?,
            gloss: needed("gloss", GLOSS)?,
            id: column(ID),
            split: column(SPLIT),
            signer: column(SIGNER),
            start: column(START),
            end: column(END),
            names,
        })
    }

    /// Indices of the columns that are only kept for the manifest.
    fn others(&self) -> Vec<usize> {
        let known = [self.id, self.split, self.signer, self.start, self.end];
        let is_other =
            |at: &usize| *at != self.path && *at != self.gloss && !known.contains(&Some(*at));
        (0..self.names.len()).filter(is_other).collect()
    }
}

/// The number of lines after its first that `row`, the bytes of a row, contains because a closing quote is missing:
/// the quote runs to the end of the file, or a line within a value is itself a row. `None` when no quote is missing.
fn lines_in_open_quote(row: &[u8], columns: &Columns, divider: u8, is_last: bool) -> Option<usize> {
    let mut record = ByteRecord::new();
    if is_last {
        // An added line becomes its own row, unless a quote is open.
        let more = [row.trim_ascii_end(), b"\nx".as_slice()].concat();
        let count = reader_of(&more, divider).byte_records().count();
        if count < 2 {
            return Some(row.trim_ascii().split(|byte| *byte == b'\n').count() - 1);
        }
    }
    let mut lines = row.trim_ascii().split(|byte| *byte == b'\n').skip(1);
    let is_row = |line: &[u8]| {
        let mut reader = reader_of(line, divider);
        let is_read = reader.read_byte_record(&mut record).unwrap_or(false);
        let path = String::from_utf8_lossy(record.get(columns.path).unwrap_or_default());
        is_read && (record.len() == columns.names.len() || is_clip(path.trim()))
    };
    let count = lines.clone().count();
    lines.any(is_row).then_some(count)
}

/// Checks that a table that starts with `head` has the columns of a list of clips.
///
/// # Errors
/// Fails when a column is missing, and names it.
pub(super) fn check_header(head: &[u8]) -> Result<(), String> {
    let utf8 = utf8_head(head);
    let mut header = ByteRecord::new();
    let is_there = values(&utf8).read_byte_record(&mut header);
    match is_there {
        Ok(true) => Columns::of(&header).map(|_| ()),
        _ => Err("the file is empty".to_owned()),
    }
}

/// The start of a text, converted to UTF-8.
pub(super) fn utf8_head(head: &[u8]) -> Vec<u8> {
    let mut rest = head;
    let mut fill = |buffer: &mut [u8]| {
        let (piece, others) = rest.split_at(rest.len().min(buffer.len()));
        buffer[..piece.len()].copy_from_slice(piece);
        rest = others;
        Ok(piece.len())
    };
    let mut text = Utf8Text::new(&mut fill, u64::MAX);
    let mut utf8 = Vec::new();
    text.next(&mut utf8).ok();
    utf8
}

/// Reads the list of clips in the file `table` through `fill`. Its first line has the names of the columns. `place`
/// completes each row, whose `paths` holds only the path as written.
pub(super) fn read(
    table: &str,
    fill: &mut FillBytes<'_>,
    rows: &mut DatasetRows,
    place: impl Fn(&mut ClipRow),
) -> Result<(), MetadataError> {
    let bytes = table_bytes(fill)?;
    let mut reader = values(&bytes);
    let mut record = ByteRecord::new();
    let broken = |error: csv::Error| MetadataError::Table(error.to_string());
    reader.read_byte_record(&mut record).map_err(broken)?;
    let columns = Columns::of(&record).map_err(MetadataError::Table)?;
    let others = columns.others();
    let names: Arc<[Box<str>]> = others.iter().map(|at| columns.names[*at].clone()).collect();
    let file: Arc<str> = table.into();
    let divider = divider(&bytes);
    let mut swallowing: Option<(usize, usize, SourceLine)> = None;
    while reader.read_byte_record(&mut record).map_err(broken)? {
        if rows.is_full() {
            return Err(too_many());
        }
        let line = line_of(record.position(), &bytes);
        let source = Some(SourceLine {
            file: Arc::clone(&file),
            line,
            unit: "line",
        });
        let at = |position: u64| {
            usize::try_from(position)
                .unwrap_or(usize::MAX)
                .min(bytes.len())
        };
        let (start, end) = (
            record.position().map_or(0, |p| at(p.byte())),
            at(reader.position().byte()),
        );
        let (raw, is_last) = (&bytes[start..end], bytes[end..].trim_ascii().is_empty());
        let may_swallow = is_last || record.iter().any(|value| value.contains(&b'\n'));
        let lost =
            { may_swallow.then(|| lines_in_open_quote(raw, &columns, divider, is_last)) }.flatten();
        if let (Some(lost), Some(source)) = (lost, &source) {
            let (rows, lines, _) = swallowing.get_or_insert_with(|| (0, 0, source.clone()));
            (*rows, *lines) = (*rows + 1, *lines + lost);
        }
        let values = match lost {
            Some(lost) => Err(format!(
                "a quote in it does not end where it should, so that the {lost} lines behind it are not read: end it, or remove it"
            )),
            None => texts(&record, columns.names.len()),
        };
        let mut row = match values {
            Ok(values) => {
                let value = |at: usize| values.get(at).copied().unwrap_or_default();
                let text = |at: Option<usize>| at.map_or("", value).to_owned();
                let extra = others.iter().map(|at| value(*at));
                ClipRow {
                    gloss: value(columns.gloss).to_owned(),
                    paths: vec![value(columns.path).to_owned()],
                    id: text(columns.id),
                    split: text(columns.split),
                    signer: text(columns.signer),
                    frame_start: frame_number("first", &text(columns.start), 0),
                    frame_end: frame_number("last", &text(columns.end), -1),
                    columns: (!others.is_empty())
                        .then(|| Arc::new(ExtraColumns::new(Arc::clone(&names), extra))),
                    ..ClipRow::default()
                }
            }
            Err(problem) => ClipRow {
                refused: Some(problem),
                ..ClipRow::default()
            },
        };
        row.source = source;
        if row.refused.is_none() {
            place(&mut row);
        }
        rows.push(row);
    }
    if let Some((count, lines, first)) = swallowing {
        rows.warnings.push(format!(
            "{lines} lines of {table} are not read, since a quote before them does not end where it should, in {count} rows; \
             the first, {first}"
        ));
    }
    Ok(())
}

/// The values of a row, without surrounding white space. `count` is the number of columns of the table.
fn texts(record: &ByteRecord, count: usize) -> Result<Vec<&str>, String> {
    let surplus = record
        .iter()
        .skip(count)
        .any(|value| !value.trim_ascii().is_empty());
    if surplus {
        return Err(format!(
            "it has {} values for {count} columns: put a text with the divider in it into quotes",
            record.len()
        ));
    }
    let text = |value| {
        let text = str::from_utf8(value)
            .map_err(|_| "it is not UTF-8: is the file in Latin-1?".to_owned())?;
        if text.matches('\n').count() > VALUE_LINES_MAX {
            return Err(
                "a value of it goes on for many lines: is a closing quote missing?".to_owned(),
            );
        }
        Ok(text.trim())
    };
    record.iter().map(text).collect()
}

fn frame_number(which: &str, text: &str, default: i64) -> FrameNumber {
    match text {
        "" => Ok(default),
        _ => text.parse().map_err(|_| {
            let shown: String = text.chars().take(40).collect();
            format!("the number of the {which} frame is {shown:?}, a whole number is needed")
        }),
    }
}

/// The error for a dataset with more rows than allowed.
pub(super) fn too_many() -> MetadataError {
    MetadataError::Table(format!(
        "the dataset has more than the {ROWS_MAX} rows allowed: divide it, and give each part by itself"
    ))
}
