//! The texts and numbers of JSON as Python's `json` understands them, and excerpts of them for errors.
//!
//! Python's texts can hold half characters, `\ud800` to `\udfff` alone. They are kept as three bytes each, in the pattern of
//! UTF-8, which UTF-8 itself does not allow.

/// Longest excerpt of a value in an error, in characters.
const EXCERPT_MAX_CHARS: usize = 40;

/// The text of `bytes`; `Err` describes one with half characters or with bytes that are not UTF-8.
pub(super) fn decode(bytes: &[u8]) -> Result<String, String> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Ok(text.to_owned()),
        Err(error) => error,
    };
    let wrong = bytes.get(error.valid_up_to()..).unwrap_or_default();
    let shown = excerpt(&String::from_utf8_lossy(bytes));
    Err(match wrong.first_chunk().copied().and_then(half) {
        Some(unit) => format!("a text with half a character, \\u{unit:04x}: \"{shown}\""),
        None => format!("a text that is not UTF-8: \"{shown}\""),
    })
}

/// How the half character `unit` is kept.
pub(super) fn half_bytes(unit: u32) -> [u8; 3] {
    let low = |bits: u32| 0x80 | (bits & 0x3F).to_le_bytes()[0];
    [0xED, low(unit >> 6), low(unit)]
}

/// The half character that is written as `bytes`; `None` for others.
pub(super) fn half(bytes: [u8; 3]) -> Option<u32> {
    let [0xED, second @ 0xA0..=0xBF, third @ 0x80..=0xBF] = bytes else {
        return None;
    };
    Some(0xD000 | u32::from(second & 0x3F) << 6 | u32::from(third & 0x3F))
}

/// The first byte that is no part of a character or of half a character.
pub(super) fn first_byte_of_no_character(mut text: &[u8]) -> Option<u8> {
    while let Err(error) = std::str::from_utf8(text) {
        text = text.get(error.valid_up_to()..)?;
        if text.first_chunk().copied().and_then(half).is_none() {
            return text.first().copied();
        }
        text = text.get(3..)?;
    }
    None
}

/// Whether Python reads `word` as a number.
pub(super) fn is_number(word: &str) -> bool {
    if matches!(word, "NaN" | "Infinity" | "-Infinity") {
        return true;
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (word, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
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
