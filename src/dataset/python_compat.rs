//! The few rules of Python that decide what the notebook makes of a JSON value.
//!
//! The notebook is Python, and a dataset that it accepts must be accepted here with the same result: what counts as
//! "nothing", what `int()` reads from text, and the bare `NaN` that Python's own JSON writer produces.

use serde_json::{Value, json};

/// Key of the one-key object that stands for a bare `NaN` or `Infinity`, which JSON proper cannot say.
const BARE_FLOAT: &str = "\u{0}bare float";

/// `int()` refuses longer numbers in text (`sys.get_int_max_str_digits`).
const DIGITS_MAX: usize = 4300;

/// `CPython` cuts the offending text in `int()`'s message after this many characters (`%.200R`).
const REPR_MAX_CHARS: usize = 200;

/// The floats that Python's JSON reader accepts although JSON has none: as they stand in the file, and as Python's
/// `str()` writes them.
const BARE_FLOATS: [(&str, &str); 3] = [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "-inf")];

/// The bare float that `value` stands for, as Python's `str()` writes it; `None` for other values.
pub(super) fn bare_float(value: &Value) -> Option<&'static str> {
    let written = value.as_object()?.get(BARE_FLOAT)?.as_str()?;
    let mut all = BARE_FLOATS.into_iter();
    all.find_map(|(token, text)| (token == written).then_some(text))
}

/// `json` with each bare `NaN`, `Infinity` and `-Infinity` outside strings replaced by an object that
/// [`bare_float`] recognizes; `None` when there is none.
pub(super) fn with_bare_floats_marked(json: &[u8]) -> Option<Vec<u8>> {
    let mut marked = Vec::new();
    let mut copied_to = 0;
    let mut in_string = false;
    let mut position = 0;
    while let Some(&byte) = json.get(position) {
        match byte {
            b'\\' if in_string => position += 1,
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                let rest = json.get(position..).unwrap_or_default();
                let mut tokens = BARE_FLOATS.iter().map(|(token, _)| *token);
                if let Some(token) = tokens.find(|token| rest.starts_with(token.as_bytes())) {
                    marked.extend_from_slice(json.get(copied_to..position).unwrap_or_default());
                    marked.extend_from_slice(json!({BARE_FLOAT: token}).to_string().as_bytes());
                    position += token.len();
                    copied_to = position;
                    continue;
                }
            }
            _ => {}
        }
        position += 1;
    }
    if copied_to == 0 {
        return None;
    }
    marked.extend_from_slice(json.get(copied_to..).unwrap_or_default());
    Some(marked)
}

/// Whether Python's `if not value` holds.
pub(super) fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// The notebook's `int(value or 0)`; numbers beyond 64 bits saturate, `Err` is Python's message.
pub(super) fn int_or_zero(value: &Value) -> Result<i64, String> {
    if is_falsy(value) {
        return Ok(0);
    }
    if let Some(float) = bare_float(value) {
        let name = if float == "nan" { "NaN" } else { "infinity" };
        return Err(format!("cannot convert float {name} to integer"));
    }
    match value {
        Value::Null => Ok(0),
        Value::Bool(flag) => Ok(i64::from(*flag)),
        Value::Number(number) => Ok(truncated(number)),
        Value::String(text) => int_of_text(text),
        Value::Array(_) => Err(not_a_number("list")),
        Value::Object(_) => Err(not_a_number("dict")),
    }
}

fn not_a_number(kind: &str) -> String {
    format!("int() argument must be a string, a bytes-like object or a real number, not '{kind}'")
}

/// A JSON number without its fraction, saturated to 64 bits.
pub(super) fn truncated(number: &serde_json::Number) -> i64 {
    if let Some(integer) = number.as_i64() {
        return integer;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "truncation toward zero is what int() does; the cast saturates and never traps"
    )]
    number.as_f64().map_or(0, |float| float as i64)
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

/// What `int()` strips: C's `isspace` in ASCII, Unicode white space beyond it.
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

    #[test]
    fn int_or_zero_reads_what_python_reads() {
        let check = |value: Value, expected: Result<i64, &str>| {
            assert_eq!(
                int_or_zero(&value),
                expected.map_err(ToOwned::to_owned),
                "{value}"
            );
        };
        check(json!(null), Ok(0));
        check(json!(""), Ok(0));
        check(json!([]), Ok(0));
        check(json!({}), Ok(0));
        check(json!(true), Ok(1));
        check(json!(false), Ok(0));
        check(json!(12), Ok(12));
        check(json!(-1), Ok(-1));
        check(json!(2.9), Ok(2));
        check(json!(-2.9), Ok(-2));
        check(json!(1e300), Ok(i64::MAX));
        check(json!(-1e300), Ok(i64::MIN));
        check(json!(u64::MAX), Ok(i64::MAX));
        check(json!("3"), Ok(3));
        check(json!(" \t+7\n"), Ok(7));
        check(json!("\u{a0}7\u{2003}"), Ok(7));
        check(json!("-07"), Ok(-7));
        check(json!("1_000"), Ok(1000));
        check(json!("-9223372036854775808"), Ok(i64::MIN));
        check(json!("99999999999999999999"), Ok(i64::MAX));
        let invalid = |shown: &str| format!("invalid literal for int() with base 10: {shown}");
        check(json!("abc"), Err(&invalid("'abc'")));
        check(json!(" "), Err(&invalid("' '")));
        check(json!("1__0"), Err(&invalid("'1__0'")));
        check(json!("_1"), Err(&invalid("'_1'")));
        check(json!("1_"), Err(&invalid("'1_'")));
        check(json!("+-1"), Err(&invalid("'+-1'")));
        check(json!("- 1"), Err(&invalid("'- 1'")));
        check(json!("1.5"), Err(&invalid("'1.5'")));
        check(json!("it's"), Err(&invalid("\"it's\"")));
        check(json!("\u{1c}1"), Err(&invalid("'\\x1c1'")));
        assert!(int_or_zero(&json!([1])).unwrap_err().contains("'list'"));
        assert!(
            int_or_zero(&json!({"a": 1}))
                .unwrap_err()
                .contains("'dict'")
        );
        assert!(int_or_zero(&Value::from("1".repeat(4301))).is_err());
        assert_eq!(int_or_zero(&Value::from("1".repeat(4300))), Ok(i64::MAX));
    }

    #[test]
    fn bare_floats_survive_outside_strings_only() {
        let json = br#"["NaN \" NaN", NaN, -Infinity, Infinity, -1]"#;
        let marked = with_bare_floats_marked(json).unwrap();
        let value: Vec<Value> = serde_json::from_slice(&marked).unwrap();
        assert_eq!(value[0], json!("NaN \" NaN"));
        assert_eq!(
            value[1..4].iter().map(bare_float).collect::<Vec<_>>(),
            [Some("nan"), Some("-inf"), Some("inf")]
        );
        assert_eq!(value[4], json!(-1));
        assert!(int_or_zero(&value[1]).unwrap_err().contains("NaN"));
        assert_eq!(with_bare_floats_marked(br#"["NaN", -1]"#), None);
    }
}
