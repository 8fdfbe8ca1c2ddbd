//! The few rules of Python that decide how the notebook interprets a JSON value.
//!
//! The notebook is Python, and a dataset that it accepts must be accepted here with the same result: what counts as
//! "nothing", what `int()` reads, and how `str()` writes a number.

use super::json_reader::JsonValue;

/// Longest integer that Python reads, in digits (`sys.get_int_max_str_digits`).
const DIGITS_MAX: usize = 4300;

/// `CPython` cuts the offending text in `int()`'s message after this many characters (`%.200R`).
const REPR_MAX_CHARS: usize = 200;

/// The number written as `token`, rounded. The reader only passes numbers that a float holds.
fn float(token: &str) -> f64 {
    token.parse().unwrap_or(0.0)
}

/// The integer part of the number written as `token`, saturated to 64 bits.
pub(super) fn truncated(token: &str) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "truncation toward zero is what int() does; the cast saturates and never traps"
    )]
    token.parse().unwrap_or_else(|_| float(token) as i64)
}

/// Whether Python's `if not value` holds.
pub(super) fn is_falsy(value: &JsonValue) -> bool {
    match value {
        JsonValue::Null => true,
        JsonValue::Bool(flag) => !flag,
        JsonValue::Number(token) => float(token) == 0.0,
        JsonValue::Text(text) => text.is_empty(),
        JsonValue::List(is_empty) | JsonValue::Object(is_empty) => *is_empty,
    }
}

/// The notebook's `int(value or 0)`; numbers beyond 64 bits saturate, `Err` is Python's message.
pub(super) fn int_or_zero(value: &JsonValue) -> Result<i64, String> {
    if is_falsy(value) {
        return Ok(0);
    }
    match value {
        JsonValue::Null => Ok(0),
        JsonValue::Bool(flag) => Ok(i64::from(*flag)),
        JsonValue::Number(token) => Ok(truncated(token)),
        JsonValue::Text(text) => int_of_text(text),
        JsonValue::List(_) => Err(not_a_number("list")),
        JsonValue::Object(_) => Err(not_a_number("dict")),
    }
}

fn not_a_number(kind: &str) -> String {
    format!("int() argument must be a string, a bytes-like object or a real number, not '{kind}'")
}

/// Python's `str()` of a number. A float is written as JSON writes it, which differs from Python in its exponent.
pub(super) fn str_of_number(token: &str) -> String {
    if token.contains(['.', 'e', 'E']) {
        serde_json::Value::from(float(token)).to_string()
    } else {
        token.to_owned()
    }
}

/// Python's `int(text)`: whitespace around, one sign, decimal digits with single underscores between them.
///
/// Decimal digits outside ASCII, which Python also reads, are refused.
fn int_of_text(text: &str) -> Result<i64, String> {
    let trimmed = text.trim_matches(is_space);
    let (negative, digits) = match trimmed.strip_prefix(['+', '-']) {
        Some(rest) => (trimmed.starts_with('-'), rest),
        None => (false, trimmed),
    };
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits.split('_').all(is_number) {
        return Err(format!(
            "invalid literal for int() with base 10: {}",
            repr(text)
        ));
    }
    let digits = digits.replace('_', "");
    let count = digits.len();
    if count > DIGITS_MAX {
        return Err(format!(
            "Exceeds the limit ({DIGITS_MAX} digits) for integer string conversion: value has {count} digits"
        ));
    }
    let saturated = if negative { i64::MIN } else { i64::MAX };
    let sign = if negative { "-" } else { "" };
    Ok(format!("{sign}{digits}").parse().unwrap_or(saturated))
}

/// The characters that `int()` strips: C's `isspace` in ASCII, Unicode white space beyond it.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t'..='\r') || (!character.is_ascii() && character.is_whitespace())
}

/// `text` as Python's `repr()` shows it, cut as in `int()`'s message.
fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut shown = String::from(quote);
    for character in text.chars().take(REPR_MAX_CHARS) {
        match character {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            _ if character == quote => shown.extend(['\\', quote]),
            _ if character.is_ascii_control() => {
                shown.extend(format!("\\x{:02x}", u32::from(character)).chars());
            }
            _ => shown.push(character),
        }
    }
    shown.push(quote);
    shown.chars().take(REPR_MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(token: &str) -> JsonValue {
        JsonValue::Number(token.to_owned())
    }

    fn text(text: &str) -> JsonValue {
        JsonValue::Text(text.to_owned())
    }

    #[test]
    fn int_or_zero_reads_what_python_reads() {
        let check = |value: JsonValue, expected: Result<i64, &str>| {
            assert_eq!(
                int_or_zero(&value),
                expected.map_err(ToOwned::to_owned),
                "{value:?}"
            );
        };
        check(JsonValue::Null, Ok(0));
        check(text(""), Ok(0));
        check(JsonValue::List(true), Ok(0));
        check(JsonValue::Object(true), Ok(0));
        check(JsonValue::Bool(true), Ok(1));
        check(JsonValue::Bool(false), Ok(0));
        check(number("12"), Ok(12));
        check(number("-1"), Ok(-1));
        check(number("2.9"), Ok(2));
        check(number("-2.9"), Ok(-2));
        check(number("-0.0"), Ok(0));
        check(number("1e300"), Ok(i64::MAX));
        check(number("-1e300"), Ok(i64::MIN));
        check(number("1e-999"), Ok(0));
        check(number("18446744073709551615"), Ok(i64::MAX));
        check(number(&"9".repeat(300)), Ok(i64::MAX));
        check(number(&format!("-{}", "9".repeat(300))), Ok(i64::MIN));
        check(text("3"), Ok(3));
        check(text(" \t+7\n"), Ok(7));
        check(text("\u{a0}7\u{2003}"), Ok(7));
        check(text("-07"), Ok(-7));
        check(text("1_000"), Ok(1000));
        check(text("-9223372036854775808"), Ok(i64::MIN));
        check(text("99999999999999999999"), Ok(i64::MAX));
        let invalid = |shown: &str| format!("invalid literal for int() with base 10: {shown}");
        check(text("abc"), Err(&invalid("'abc'")));
        check(text(" "), Err(&invalid("' '")));
        check(text("1__0"), Err(&invalid("'1__0'")));
        check(text("_1"), Err(&invalid("'_1'")));
        check(text("1_"), Err(&invalid("'1_'")));
        check(text("+-1"), Err(&invalid("'+-1'")));
        check(text("- 1"), Err(&invalid("'- 1'")));
        check(text("1.5"), Err(&invalid("'1.5'")));
        check(text("it's"), Err(&invalid("\"it's\"")));
        check(text("\u{1c}1"), Err(&invalid("'\\x1c1'")));
        let list = int_or_zero(&JsonValue::List(false)).unwrap_err();
        assert!(list.contains("'list'"), "{list}");
        let dict = int_or_zero(&JsonValue::Object(false)).unwrap_err();
        assert!(dict.contains("'dict'"), "{dict}");
        assert!(int_or_zero(&text(&"1".repeat(4301))).is_err());
        assert_eq!(int_or_zero(&text(&"1".repeat(4300))), Ok(i64::MAX));
    }

    #[test]
    fn numbers_become_the_text_of_a_file_name() {
        for (token, shown) in [
            ("335", "335"),
            ("-7", "-7"),
            ("18446744073709551616", "18446744073709551616"),
            ("1.50", "1.5"),
            ("2.0", "2.0"),
        ] {
            assert_eq!(str_of_number(token), shown);
        }
    }
}
