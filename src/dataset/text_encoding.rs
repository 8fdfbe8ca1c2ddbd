//! Detects the encoding of a JSON file and converts its text to UTF-8 piece by piece.

/// Fills a buffer with the next bytes of a file and returns their number, 0 at the end. `Err` is the reason why the
/// file cannot be read.
pub type FillBytes<'a> = dyn FnMut(&mut [u8]) -> Result<usize, String> + 'a;

/// Number of bytes that are requested at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Stands for an invalid character. This byte is never part of UTF-8.
const NO_CHARACTER: u8 = 0xFF;

/// An encoding of JSON files: UTF-8, UTF-16 or UTF-32. The notebook reads only UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Encoding {
    /// Bytes per code unit: 1, 2 or 4.
    unit: usize,
    is_big_endian: bool,
}

impl Encoding {
    /// The encoding of a text that starts with `head`, and the length of its byte order mark. Without a mark the zero
    /// bytes among the first characters decide, because these are ASCII in JSON.
    fn of(head: &[u8]) -> (Self, usize) {
        let (unit, is_big_endian, mark) = match head {
            [0xEF, 0xBB, 0xBF, ..] => (1, false, 3),
            [0xFF, 0xFE, 0, 0, ..] => (4, false, 4),
            [0, 0, 0xFE, 0xFF, ..] => (4, true, 4),
            [0xFF, 0xFE, ..] => (2, false, 2),
            [0xFE, 0xFF, ..] => (2, true, 2),
            [0, 0, 0, 1..=255, ..] => (4, true, 0),
            [1..=255, 0, 0, 0, ..] => (4, false, 0),
            [0, 1..=255, ..] => (2, true, 0),
            [1..=255, 0, ..] => (2, false, 0),
            _ => (1, false, 0),
        };
        let encoding = Self {
            unit,
            is_big_endian,
        };
        (encoding, mark)
    }

    /// The value of a code unit.
    fn number(self, unit: &[u8]) -> u32 {
        let join = |number, byte: &u8| number << 8 | u32::from(*byte);
        if self.is_big_endian {
            unit.iter().fold(0, join)
        } else {
            unit.iter().rev().fold(0, join)
        }
    }
}

/// The text of a file, converted to UTF-8 from any Unicode encoding.
pub(super) struct Utf8Text<'a> {
    fill: &'a mut FillBytes<'a>,
    encoding: Option<Encoding>,
    /// Bytes that are not converted yet.
    bytes: Vec<u8>,
    /// Number of bytes that were read.
    total: u64,
    bytes_max: u64,
}

impl<'a> Utf8Text<'a> {
    /// Starts at the beginning of the file that `fill` reads. A file of more than `bytes_max` bytes is an error.
    pub(super) fn new(fill: &'a mut FillBytes<'a>, bytes_max: u64) -> Self {
        Self {
            fill,
            encoding: None,
            bytes: Vec::new(),
            total: 0,
            bytes_max,
        }
    }

    /// Whether the file has another encoding than UTF-8.
    pub(super) fn is_converted(&self) -> bool {
        self.encoding.is_some_and(|encoding| encoding.unit > 1)
    }

    /// Puts the next piece into `text`, which stays empty only at the end. An invalid character becomes a byte that
    /// UTF-8 does not have. The bytes of a UTF-8 file are not changed.
    ///
    /// # Errors
    /// Fails when the file cannot be read or is too large.
    pub(super) fn next(&mut self, text: &mut Vec<u8>) -> Result<(), String> {
        text.clear();
        loop {
            let is_end = !self.read()?;
            let encoding = match self.encoding {
                Some(encoding) => encoding,
                // The longest byte order mark has four bytes.
                None if self.bytes.len() < 4 && !is_end => continue,
                None => {
                    let (encoding, mark) = Encoding::of(&self.bytes);
                    self.bytes.drain(..mark);
                    *self.encoding.insert(encoding)
                }
            };
            self.convert(encoding, is_end, text);
            if is_end || !text.is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads more bytes; returns `false` at the end of the file.
    fn read(&mut self) -> Result<bool, String> {
        let start = self.bytes.len();
        self.bytes.resize(start + PIECE_BYTES, 0);
        let count = (self.fill)(&mut self.bytes[start..])?;
        self.bytes.truncate(start + count);
        self.total += count as u64;
        if self.total > self.bytes_max {
            return Err(format!(
                "it has more than the {} bytes allowed",
                self.bytes_max
            ));
        }
        Ok(count > 0)
    }

    /// Moves complete characters from `bytes` to `text`. At the end of the file an incomplete character becomes
    /// invalid.
    fn convert(&mut self, encoding: Encoding, is_end: bool, text: &mut Vec<u8>) {
        if encoding.unit == 1 {
            std::mem::swap(text, &mut self.bytes);
            return self.bytes.clear();
        }
        let mut push = |character: Option<char>| match character {
            Some(character) => {
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            None => text.push(NO_CHARACTER),
        };
        let units = self.bytes.chunks_exact(encoding.unit);
        let mut units: Vec<u32> = units.map(|unit| encoding.number(unit)).collect();
        // The second half of the last character may be in the next piece.
        if encoding.unit == 2 && !is_end && matches!(units.last(), Some(0xD800..0xDC00)) {
            units.pop();
        }
        let used = units.len() * encoding.unit;
        if encoding.unit == 2 {
            let units = units
                .into_iter()
                .filter_map(|unit| u16::try_from(unit).ok());
            char::decode_utf16(units).for_each(|character| push(character.ok()));
        } else {
            units.into_iter().map(char::from_u32).for_each(push);
        }
        self.bytes.drain(..used);
        if is_end && !self.bytes.is_empty() {
            self.bytes.clear();
            text.push(NO_CHARACTER);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Converts `bytes`, which are read in pieces of `piece` bytes.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let mut rest = bytes;
        let mut fill = |buffer: &mut [u8]| {
            let count = rest.len().min(piece).min(buffer.len());
            let (first, others) = rest.split_at(count);
            buffer[..count].copy_from_slice(first);
            rest = others;
            Ok(count)
        };
        let mut text = Utf8Text::new(&mut fill, 1 << 20);
        let (mut all, mut next) = (Vec::new(), Vec::new());
        loop {
            text.next(&mut next)?;
            if next.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&next);
        }
    }

    /// Encodes `text` in all encodings, with and without a byte order mark.
    fn encoded(text: &str) -> Vec<Vec<u8>> {
        let with_mark = format!("\u{feff}{text}");
        let mut all = Vec::new();
        for text in [text, &with_mark] {
            all.push(text.as_bytes().to_vec());
            all.push(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
            all.push(text.encode_utf16().flat_map(u16::to_be_bytes).collect());
            let characters = || text.chars().map(u32::from);
            all.push(characters().flat_map(u32::to_le_bytes).collect());
            all.push(characters().flat_map(u32::to_be_bytes).collect());
        }
        all
    }

    #[test]
    fn each_encoding_gives_the_same_text() {
        let text = "[\"caf\u{e9}\", \"\u{1f44b}\u{10ffff}\u{20ac}\"]";
        for bytes in encoded(text) {
            for piece in [1, 2, 3, 5, 1000] {
                let read = read(&bytes, piece).unwrap();
                assert_eq!(String::from_utf8(read).unwrap(), text, "{bytes:?}");
            }
        }
        for short in ["", "1", "[]"] {
            for bytes in encoded(short) {
                assert_eq!(read(&bytes, 9).unwrap(), short.as_bytes(), "{bytes:?}");
            }
        }
    }

    #[test]
    fn what_is_no_character_is_marked_and_a_large_file_refused() {
        let half = [b'[', 0, 0x00, 0xD8, b']', 0];
        assert_eq!(read(&half, 1).unwrap(), b"[\xFF]");
        assert_eq!(read(&[b'[', 0, b']'], 2).unwrap(), b"[\xFF");
        assert_eq!(read(&[0xFF, 0xFE, 0, 0, 1, 2, 3, 4], 3).unwrap(), b"\xFF");
        assert_eq!(read(b"\xE9", 1).unwrap(), b"\xE9");
        let error = read(&vec![b' '; (1 << 20) + 1], 70_000).unwrap_err();
        assert_eq!(error, "it has more than the 1048576 bytes allowed");
    }

    proptest! {
        #[test]
        fn all_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..70) {
            let text = read(&bytes, piece).unwrap();
            // A byte becomes at most 1.5 bytes, rounded up to a character.
            prop_assert!(text.len() <= bytes.len() * 2);
            prop_assert_eq!(text, read(&bytes, 1000).unwrap());
        }
    }
}
