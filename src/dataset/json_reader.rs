//! Reads JSON value by value, without a tree of it in memory.
//!
//! An invalid value, such as a control character in a text or a number that no float holds, is recorded as a fault,
//! and reading continues. So the caller can drop the item with that value and keep the rest. Only a broken structure
//! ends the reading.

use super::text_encoding::{FillBytes, Utf8Text};

mod scalars;

/// Longest text or number that is kept, in bytes. The rest of a longer one is skipped.
const KEPT_BYTES_MAX: usize = 8192;

/// Largest depth of nested lists and objects in a value.
pub(super) const LEVELS_MAX: usize = 128;

/// Largest depth that can be skipped. Each level takes a byte of memory.
const NESTING_MAX: usize = 1_000_000;

/// Number of bytes of the file's start that are kept to recognize a file that is not JSON.
const HEAD_BYTES: usize = 512;

/// Longest excerpt of a value in an error, in characters.
const EXCERPT_MAX_CHARS: usize = 40;

/// Why reading ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// The file cannot be read or is too large.
    Read(String),
    /// The file ends within a value.
    CutShort,
    /// The structure is broken, for this reason at this place.
    Syntax(String),
}

/// A value with the details that the caller needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonValue {
    /// `null`, or an invalid word.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as written. A float can hold it, perhaps rounded.
    Number(String),
    /// A text of at most [`KEPT_BYTES_MAX`], with U+FFFD for invalid characters.
    Text(String),
    /// A list; `true` when it is empty.
    List(bool),
    /// An object; `true` when it is empty.
    Object(bool),
}

/// A reader at a position in a JSON text. A call reads at most one value.
pub(super) struct JsonReader<'a> {
    source: Utf8Text<'a>,
    piece: Vec<u8>,
    /// Index of the next byte in `piece`.
    at: usize,
    head: Vec<u8>,
    line: usize,
    /// Column in bytes of the start of `piece`; not positive when the line begins within it. The current column is
    /// this plus `at`.
    column: i64,
    /// The text or word that was read last, cut to [`KEPT_BYTES_MAX`].
    kept: Vec<u8>,
    /// Its length in bytes before the cut.
    length: usize,
    fault: Option<String>,
}

impl<'a> JsonReader<'a> {
    /// Starts at the beginning of the file that `fill` reads. A file of more than `bytes_max` bytes is an error.
    pub(super) fn new(fill: &'a mut FillBytes<'a>, bytes_max: u64) -> Self {
        Self {
            source: Utf8Text::new(fill, bytes_max),
            piece: Vec::new(),
            at: 0,
            head: Vec::new(),
            line: 1,
            column: 1,
            kept: Vec::new(),
            length: 0,
            fault: None,
        }
    }

    /// The first bytes of the text, at most [`HEAD_BYTES`].
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Takes the first fault since the last call: what is wrong, and where.
    pub(super) fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// The next byte that is not white space, without consuming it; `None` at the end.
    pub(super) fn peek(&mut self) -> Result<Option<u8>, JsonError> {
        loop {
            while let Some(&byte) = self.piece.get(self.at) {
                match byte {
                    b'\n' => self.end_line(),
                    b' ' | b'\t' | b'\r' => self.at += 1,
                    _ => return Ok(Some(byte)),
                }
            }
            if !self.refill()? {
                return Ok(None);
            }
        }
    }

    /// Reads a value. For a list or an object only the kind and whether it is empty are kept.
    pub(super) fn value(&mut self) -> Result<JsonValue, JsonError> {
        match self.peek_inside()? {
            b'"' => {
                self.text()?;
                Ok(JsonValue::Text(self.kept_text()))
            }
            b'[' => Ok(JsonValue::List(self.skip()?)),
            b'{' => Ok(JsonValue::Object(self.skip()?)),
            _ => self.word(),
        }
    }

    /// Skips a value. Returns whether it is an empty list or object.
    pub(super) fn skip(&mut self) -> Result<bool, JsonError> {
        let mut open = Vec::new();
        let mut is_first = true;
        let mut is_empty = false;
        loop {
            match self.peek_inside()? {
                bracket @ (b'[' | b'{') => {
                    match open.len() {
                        LEVELS_MAX => {
                            self.note(&format!(
                                "more than {LEVELS_MAX} levels of lists and objects"
                            ));
                        }
                        NESTING_MAX => {
                            return Err(self.syntax(&format!("more than {NESTING_MAX} levels")));
                        }
                        _ => {}
                    }
                    self.at += 1;
                    open.push(bracket);
                    is_first = true;
                }
                b'"' => self.text()?,
                _ => _ = self.word()?,
            }
            // After a bracket or a value: move to the next value and close all lists and objects that end here.
            loop {
                let Some(bracket) = open.last() else {
                    return Ok(is_empty);
                };
                let was_first = is_first;
                let has_more = if *bracket == b'[' {
                    self.next_item(&mut is_first)?
                } else {
                    self.next_member(&mut is_first)?
                };
                if has_more {
                    break;
                }
                open.pop();
                // The value itself closes last, so that the final result is about it.
                is_empty = was_first;
            }
        }
    }

    /// Skips the opening bracket of a list or an object, which must be the next byte.
    pub(super) fn enter(&mut self) {
        self.at += 1;
    }

    /// Moves to the next item of a list; returns `false` after the end of the list. `is_first` must be true for the
    /// first call.
    pub(super) fn next_item(&mut self, is_first: &mut bool) -> Result<bool, JsonError> {
        self.next_part(b']', is_first)
    }

    /// Moves to the next value of an object and returns its key as an excerpt; returns `None` after the end of the
    /// object. `is_first` must be true for the first call.
    pub(super) fn next_key(&mut self, is_first: &mut bool) -> Result<Option<String>, JsonError> {
        let has_more = self.next_member(is_first)?;
        Ok(has_more.then(|| excerpt(&self.kept_text())))
    }

    fn next_member(&mut self, is_first: &mut bool) -> Result<bool, JsonError> {
        if !self.next_part(b'}', is_first)? {
            return Ok(false);
        }
        if self.peek_inside()? != b'"' {
            return Err(self.unexpected("a key in quotes"));
        }
        self.text()?;
        if self.peek_inside()? != b':' {
            return Err(self.unexpected("`:`"));
        }
        self.at += 1;
        Ok(true)
    }

    fn next_part(&mut self, closing: u8, is_first: &mut bool) -> Result<bool, JsonError> {
        let was_first = std::mem::take(is_first);
        let byte = self.peek_inside()?;
        if byte == closing {
            self.at += 1;
            return Ok(false);
        }
        if !was_first {
            if byte != b',' {
                let expected = format!("`,` or `{}`", char::from(closing));
                return Err(self.unexpected(&expected));
            }
            self.at += 1;
        }
        Ok(true)
    }

    /// Fails unless only white space is left in the file.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the file")),
        }
    }

    /// The error for the next word, where `expected` is needed.
    fn unexpected(&self, expected: &str) -> JsonError {
        let found = String::from_utf8_lossy(self.piece.get(self.at..).unwrap_or_default());
        let mut word = found.chars().take_while(|c| !c.is_whitespace());
        let found = excerpt(&word.by_ref().take(12).collect::<String>());
        self.syntax(&format!("`{found}` where {expected} is expected"))
    }

    fn syntax(&self, problem: &str) -> JsonError {
        JsonError::Syntax(format!("{problem}, {}", self.position()))
    }

    fn position(&self) -> String {
        let column = self.column + i64::try_from(self.at).unwrap_or(i64::MAX);
        format!("line {} column {column}", self.line)
    }

    fn note(&mut self, fault: &str) {
        if self.fault.is_none() {
            self.fault = Some(format!("{fault}, {}", self.position()));
        }
    }

    /// The next byte that is not white space. Fails at the end of the file.
    fn peek_inside(&mut self) -> Result<u8, JsonError> {
        self.peek()?.ok_or(JsonError::CutShort)
    }

    /// The next byte, which may be white space. Fails at the end of the file.
    fn byte(&mut self) -> Result<u8, JsonError> {
        if self.at == self.piece.len() && !self.refill()? {
            return Err(JsonError::CutShort);
        }
        Ok(self.piece[self.at])
    }

    fn end_line(&mut self) {
        self.at += 1;
        self.line += 1;
        self.column = 1 - i64::try_from(self.at).unwrap_or(i64::MAX);
    }

    /// Reads the next piece; returns `false` at the end of the file.
    fn refill(&mut self) -> Result<bool, JsonError> {
        self.column += i64::try_from(self.piece.len()).unwrap_or(i64::MAX);
        self.at = 0;
        self.source.next(&mut self.piece).map_err(JsonError::Read)?;
        let missing = HEAD_BYTES - self.head.len();
        let more = self.piece.get(..missing).unwrap_or(&self.piece);
        self.head.extend_from_slice(more);
        Ok(!self.piece.is_empty())
    }
}

/// The start of `text`, in a form that fits one line of a terminal.
pub(super) fn excerpt(text: &str) -> String {
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
