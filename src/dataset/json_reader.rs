//! Reads JSON value by value, without a tree of it in memory.
//!
//! What is wrong inside a value, such as a control character in a text or a number that no float holds, is noted as a fault
//! and reading continues, so that the caller can give up the item with that value and keep the rest. Only a broken structure
//! ends the reading.

use super::text_encoding::{FillBytes, Utf8Text};

mod scalars;

/// Longest text or number that is kept, in bytes. The rest of a longer text is passed over.
const KEPT_BYTES_MAX: usize = 8192;

/// Most levels of lists and objects in a value.
pub(super) const LEVELS_MAX: usize = 128;

/// Most levels that are passed over, each of which takes a byte of memory.
const NESTING_MAX: usize = 1_000_000;

/// Bytes of the file's start that are kept to recognize a file that is no JSON.
const HEAD_BYTES: usize = 512;

/// Longest excerpt of a value in an error, in characters.
const EXCERPT_MAX_CHARS: usize = 40;

/// Why reading ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonError {
    /// The file cannot be read or is too large.
    Read(String),
    /// The file ends within a value.
    CutShort,
    /// The structure is broken: what is wrong and where.
    Syntax(String),
}

/// A value as far as the caller needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JsonValue {
    /// `null`, or a word with a fault.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As written. A float holds it, rounded.
    Number(String),
    /// Cut after [`KEPT_BYTES_MAX`]; with U+FFFD for what has a fault.
    Text(String),
    /// A list; whether it is empty.
    List(bool),
    /// An object; whether it is empty.
    Object(bool),
}

/// A position in a JSON text. Read at most one value at a time.
pub(super) struct JsonReader<'a> {
    source: Utf8Text<'a>,
    piece: Vec<u8>,
    /// The next byte in `piece`.
    at: usize,
    head: Vec<u8>,
    line: usize,
    /// Bytes of the line before `piece`, less those of `piece` before the line: column = this + `at`.
    column: i64,
    /// The text or word that was read last, cut.
    kept: Vec<u8>,
    /// Its length in bytes before the cut.
    length: usize,
    fault: Option<String>,
}

impl<'a> JsonReader<'a> {
    /// The start of the file behind `fill`, which may have `bytes_max` bytes.
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

    /// The first bytes of the text.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// What is wrong with the first bad value since the last call, and where it is.
    pub(super) fn take_fault(&mut self) -> Option<String> {
        self.fault.take()
    }

    /// The next byte that is not white space; `None` at the end.
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

    /// Reads a value. Of a list or an object only the kind is kept.
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

    /// Passes over a value. Returns whether it is an empty list or object.
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
            // Behind a bracket or a value: up to the next value, out of all that ends here.
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
                // In the end it is about the value itself, which closes last.
                is_empty = was_first;
            }
        }
    }

    /// Passes over the opening bracket of a list or an object, which is the next byte.
    pub(super) fn enter(&mut self) {
        self.at += 1;
    }

    /// Goes to the next item of a list, or behind the list when there is none. `is_first` is true at first.
    pub(super) fn next_item(&mut self, is_first: &mut bool) -> Result<bool, JsonError> {
        self.next_part(b']', is_first)
    }

    /// Goes to the next value of an object and returns its key as an excerpt, or goes behind the object. `is_first` is true at
    /// first.
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

    /// Expects the end of the file.
    pub(super) fn end(&mut self) -> Result<(), JsonError> {
        match self.peek()? {
            None => Ok(()),
            Some(_) => Err(self.unexpected("the end of the file")),
        }
    }

    /// What stands where `expected` should.
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

    /// The next byte within a value, where the file must not end.
    fn peek_inside(&mut self) -> Result<u8, JsonError> {
        self.peek()?.ok_or(JsonError::CutShort)
    }

    /// The next byte, also white space.
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

    /// Reads the next piece; returns whether there is one.
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

/// The start of `text`, fit for one line of a terminal.
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
