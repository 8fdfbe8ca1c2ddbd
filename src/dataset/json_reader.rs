//! Reads JSON value by value, without a tree of it in memory, and as Python's `json` does.
//!
//! Python takes what JSON does not have: `NaN`, numbers of any size, half characters such as `"\ud800"`, hundreds of levels.
//! What Python refuses inside a value, such as a control character in a text, is noted as a fault and reading continues, so
//! that the caller can give up the item with that value and keep the rest. Only a broken structure ends the reading.

use super::json_text::{self, excerpt};
use super::text_encoding::{FillBytes, Utf8Text};

/// Longest text or number that is kept, in bytes.
const KEPT_BYTES_MAX: usize = 8192;

/// Longest integer that Python reads, in digits (`sys.get_int_max_str_digits`).
pub(super) const DIGITS_MAX: usize = 4300;

/// Most levels of nesting.
const NESTING_MAX: usize = 1_000_000;

/// Bytes of the file's start that are kept to recognize a file that is no JSON.
const HEAD_BYTES: usize = 512;

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
    /// `null`, or a word that is noted as a fault.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As written, also `NaN`, `Infinity` and `-Infinity`.
    Number(String),
    /// `Err` says why it is no text of Unicode, or that it is too long.
    Text(Result<String, String>),
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
    /// The text or word that was read last.
    kept: Vec<u8>,
    /// Its length, which may be more than what is kept.
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

    /// The first value since the last call that Python refuses.
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
                let is_whole = self.length == self.kept.len();
                Ok(JsonValue::Text(if is_whole {
                    json_text::decode(&self.kept)
                } else {
                    Err(format!("a text of {} bytes", self.length))
                }))
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
                    if open.len() == NESTING_MAX {
                        return Err(self.syntax(&format!("more than {NESTING_MAX} levels")));
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
                    self.next_key(&mut is_first)?.is_some()
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

    /// Goes to the next value of an object and returns its key, or goes behind the object. `is_first` is true at first.
    pub(super) fn next_key(&mut self, is_first: &mut bool) -> Result<Option<&[u8]>, JsonError> {
        if !self.next_part(b'}', is_first)? {
            return Ok(None);
        }
        if self.peek_inside()? != b'"' {
            return Err(self.unexpected("a key in quotes"));
        }
        self.text()?;
        if self.peek_inside()? != b':' {
            return Err(self.unexpected("`:`"));
        }
        self.at += 1;
        Ok(Some(&self.kept))
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

    fn keep_none(&mut self) {
        self.kept.clear();
        self.length = 0;
    }

    /// Keeps the next `count` bytes.
    fn keep(&mut self, count: usize) {
        let bytes = &self.piece[self.at..self.at + count];
        let room = KEPT_BYTES_MAX - self.kept.len();
        self.kept
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.length += count;
        self.at += count;
    }

    fn keep_bytes(&mut self, bytes: &[u8]) {
        if self.kept.len() + bytes.len() <= KEPT_BYTES_MAX {
            self.kept.extend_from_slice(bytes);
        }
        self.length += bytes.len();
    }

    /// Reads a text, whose quote is the next byte. Half characters are kept as three bytes each, which UTF-8 does not have.
    fn text(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        self.keep_none();
        loop {
            let rest = self.piece.get(self.at..).unwrap_or_default();
            let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | ..0x20);
            let Some(count) = rest.iter().position(|byte| !is_plain(byte)) else {
                self.keep(rest.len());
                self.byte()?;
                continue;
            };
            let byte = rest[count];
            self.keep(count);
            match byte {
                b'"' => break,
                b'\\' => {
                    self.at += 1;
                    self.escape()?;
                }
                control => {
                    self.note(&format!("the control character 0x{control:02X} in a text"));
                    if control == b'\n' {
                        self.end_line();
                    } else {
                        self.at += 1;
                    }
                    self.keep_bytes(&[control]);
                }
            }
        }
        self.at += 1;
        if self.length == self.kept.len()
            && let Some(byte) = json_text::first_byte_of_no_character(&self.kept)
        {
            self.note(&format!(
                "the byte 0x{byte:02X} in a text, which is not UTF-8: is the file in Latin-1?"
            ));
        }
        Ok(())
    }

    /// Reads an escape, behind its backslash.
    fn escape(&mut self) -> Result<(), JsonError> {
        let code = self.byte()?;
        let byte = match code {
            b'"' | b'\\' | b'/' => code,
            b'b' => 0x08,
            b'f' => 0x0C,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.at += 1;
                return self.unit();
            }
            other => {
                // The character is read as if it had no backslash.
                self.note(&format!(
                    "the escape \\{} in a text",
                    char::from(other).escape_debug()
                ));
                return Ok(());
            }
        };
        self.at += 1;
        self.keep_bytes(&[byte]);
        Ok(())
    }

    /// Reads the four digits of an escape, a character or half of one.
    fn unit(&mut self) -> Result<(), JsonError> {
        let mut unit = 0_u32;
        for _ in 0..4 {
            let Some(digit) = char::from(self.byte()?).to_digit(16) else {
                self.note("an escape \\u without four hexadecimal digits in a text");
                return Ok(());
            };
            unit = unit << 4 | digit;
            self.at += 1;
        }
        let first_half = self.kept.last_chunk().copied().and_then(json_text::half);
        let is_second = matches!(unit, 0xDC00..0xE000);
        if let Some(first @ 0xD800..0xDC00) = first_half
            && is_second
        {
            self.kept.truncate(self.kept.len() - 3);
            self.length -= 3;
            unit = 0x10000 + ((first - 0xD800) << 10) + (unit - 0xDC00);
        }
        if let Some(character) = char::from_u32(unit) {
            self.keep_bytes(character.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            self.keep_bytes(&json_text::half_bytes(unit));
        }
        Ok(())
    }

    /// Reads a word: a number, `null`, `true` or `false`.
    fn word(&mut self) -> Result<JsonValue, JsonError> {
        self.keep_none();
        loop {
            let rest = self.piece.get(self.at..).unwrap_or_default();
            let is_end = |byte: &u8| {
                byte.is_ascii_whitespace()
                    || matches!(byte, b',' | b':' | b'[' | b']' | b'{' | b'}' | b'"')
            };
            match rest.iter().position(is_end) {
                Some(count) => {
                    self.keep(count);
                    break;
                }
                None => {
                    self.keep(rest.len());
                    if !self.refill()? {
                        break;
                    }
                }
            }
        }
        if self.kept.is_empty() {
            return Err(self.unexpected("a value"));
        }
        let value = match self.kept.as_slice() {
            b"null" => JsonValue::Null,
            b"true" => JsonValue::Bool(true),
            b"false" => JsonValue::Bool(false),
            word => {
                let word = String::from_utf8_lossy(word).into_owned();
                let digits = word.trim_start_matches('-').len();
                let is_integer = !word.contains(['.', 'e', 'E']);
                let fault = if self.length > word.len() {
                    format!("a value of {} bytes", self.length)
                } else if !json_text::is_number(&word) {
                    format!("`{}`, which is no value in JSON", excerpt(&word))
                } else if is_integer && digits > DIGITS_MAX {
                    format!("a number of {digits} digits")
                } else {
                    return Ok(JsonValue::Number(word));
                };
                self.note(&fault);
                JsonValue::Null
            }
        };
        Ok(value)
    }
}
