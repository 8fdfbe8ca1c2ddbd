//! Reads texts, numbers and words.

use super::{JsonError, JsonReader, JsonValue, KEPT_BYTES_MAX, excerpt};
use serde::de::IgnoredAny;

impl JsonReader<'_> {
    pub(super) fn kept_text(&self) -> String {
        String::from_utf8_lossy(&self.kept).into_owned()
    }

    fn keep_none(&mut self) {
        self.kept.clear();
        self.length = 0;
    }

    /// Reads the next `count` bytes and keeps them as far as there is room.
    fn keep(&mut self, count: usize) {
        let bytes = &self.piece[self.at..self.at + count];
        let room = KEPT_BYTES_MAX - self.kept.len();
        self.kept
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.length += count;
        self.at += count;
    }

    fn keep_char(&mut self, character: char) {
        let mut bytes = [0; 4];
        let bytes = character.encode_utf8(&mut bytes).as_bytes();
        if self.kept.len() + bytes.len() <= KEPT_BYTES_MAX {
            self.kept.extend_from_slice(bytes);
        }
        self.length += bytes.len();
    }

    /// Reads a text. The next byte must be its opening quote.
    pub(super) fn text(&mut self) -> Result<(), JsonError> {
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
                    self.keep_char(char::from(control));
                }
            }
        }
        self.at += 1;
        if let Err(error) = std::str::from_utf8(&self.kept)
            // The cut at the limit may split a character.
            && (error.error_len().is_some() || self.length == self.kept.len())
        {
            let byte = self.kept[error.valid_up_to()];
            self.note(&if self.source.is_converted() {
                "what is no character, such as half of one, in a text".to_owned()
            } else {
                format!(
                    "the byte 0x{byte:02X} in a text, which is not UTF-8: is the file in Latin-1?"
                )
            });
        }
        Ok(())
    }

    /// Reads an escape after its backslash.
    fn escape(&mut self) -> Result<(), JsonError> {
        let code = self.byte()?;
        let character = match code {
            b'"' | b'\\' | b'/' => char::from(code),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unit();
            }
            other => {
                // Read the character as if it had no backslash.
                self.note(&format!(
                    "the escape \\{} in a text",
                    char::from(other).escape_debug()
                ));
                return Ok(());
            }
        };
        self.at += 1;
        self.keep_char(character);
        Ok(())
    }

    /// Reads the digits after `\u`, and a second escape when they are half of a character.
    fn unit(&mut self) -> Result<(), JsonError> {
        let mut unit = self.four_digits()?;
        while let 0xD800..0xDC00 = unit
            && self.byte()? == b'\\'
        {
            self.at += 1;
            if self.byte()? != b'u' {
                self.keep_unit(unit);
                return self.escape();
            }
            self.at += 1;
            let second = self.four_digits()?;
            if let 0xDC00..0xE000 = second {
                unit = 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00);
            } else {
                self.keep_unit(unit);
                unit = second;
            }
        }
        self.keep_unit(unit);
        Ok(())
    }

    fn four_digits(&mut self) -> Result<u32, JsonError> {
        let mut number = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.byte()?).to_digit(16) else {
                self.note("an escape \\u without four hexadecimal digits in a text");
                return Ok(u32::from(char::REPLACEMENT_CHARACTER));
            };
            number = number << 4 | digit;
            self.at += 1;
        }
        Ok(number)
    }

    fn keep_unit(&mut self, unit: u32) {
        let character = char::from_u32(unit).unwrap_or_else(|| {
            self.note(&format!("half a character, \\u{unit:04x}, in a text"));
            char::REPLACEMENT_CHARACTER
        });
        self.keep_char(character);
    }

    /// Reads a word: a number, `null`, `true` or `false`.
    pub(super) fn word(&mut self) -> Result<JsonValue, JsonError> {
        self.keep_none();
        loop {
            let rest = self.piece.get(self.at..).unwrap_or_default();
            let is_end = |byte: &u8| {
                byte.is_ascii_whitespace()
                    || matches!(byte, b',' | b':' | b'[' | b']' | b'{' | b'}' | b'"')
            };
            let end = rest.iter().position(is_end);
            self.keep(end.unwrap_or(rest.len()));
            if end.is_some() || !self.refill()? {
                break;
            }
        }
        if self.kept.is_empty() {
            return Err(self.unexpected("a value"));
        }
        let value = match self.kept.as_slice() {
            b"null" => JsonValue::Null,
            b"true" => JsonValue::Bool(true),
            b"false" => JsonValue::Bool(false),
            _ => {
                let word = self.kept_text();
                let fault = if self.length > word.len() {
                    format!("a value of {} bytes", self.length)
                } else if !is_number(&word) {
                    format!("`{}`, which is no value in JSON", excerpt(&word))
                } else if !word.parse().is_ok_and(f64::is_finite) {
                    format!("the number {}, which is too large", excerpt(&word))
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

/// Whether `word` has the form of a number of any size.
fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<IgnoredAny>(word).is_ok()
}
