//! Text from untrusted sources: glosses, ids, file names, messages of the broker's other clients. Some characters
//! control a terminal, so such text is escaped before it is shown.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Target of log lines that an untrusted source can cause; [`crate::logging`] limits their rate.
pub const LOG_TARGET: &str = "handloom::outsider";

/// Whether `c` controls a terminal: control characters, and characters that change the direction of text.
#[must_use]
pub fn is_terminal_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes every character of `text` that controls a terminal, as `\u001b`; line feeds and tabs stay. JSON and TOML
/// keep their meaning, because they use the same escape.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_with(text, |c, _| matches!(c, '\n' | '\t'))
}

/// Escapes a log line as [`escape`] does, and also the line feeds in it. With `has_colors` the sequences that set
/// colors stay: the log's formatter has already escaped those of untrusted text.
#[must_use]
pub fn escape_line(line: &str, has_colors: bool) -> Cow<'_, str> {
    escape_with(line, |c, rest| {
        c == '\t' || c == '\u{1b}' && has_colors && is_color(rest)
    })
}

/// Whether the text after an ESC completes a color sequence: `[`, digits and semicolons, `m`.
fn is_color(rest: &str) -> bool {
    let parameters = rest
        .strip_prefix('[')
        .map(|r| r.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    parameters.is_some_and(|end| end.starts_with('m'))
}

fn escape_with(text: &str, is_kept: impl Fn(char, &str) -> bool) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    for (at, c) in text.char_indices().filter(|(_, c)| is_terminal_control(*c)) {
        let end = at + c.len_utf8();
        if is_kept(c, &text[end..]) {
            continue;
        }
        out.push_str(&text[copied..at]);
        // Writing to a String cannot fail.
        write!(out, "\\u{:04x}", u32::from(c)).ok();
        copied = end;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let plain = "päuse 日本 🤟🏽 \u{200d}\n\ttab";
        assert!(matches!(escape(plain), Cow::Borrowed(text) if text == plain));
        assert_eq!(
            escape("\u{1b}[2Ja\u{9b}31m\u{202e}gpj.\r\u{7}\u{7f}\u{2028}"),
            r"\u001b[2Ja\u009b31m\u202egpj.\u000d\u0007\u007f\u2028"
        );
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"id": "\u{9b}2J\u{202e}\u{1b}"});
        let text = value.to_string();
        let shown = escape(&text);
        assert!(!shown.contains(is_terminal_control), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }

    #[test]
    fn a_line_of_the_log_is_one_line_with_its_own_colors() {
        let line = "\u{1b}[33m WARN\u{1b}[0m a\n<0>b \u{1b}]0;title\u{7} \u{1b}[2J";
        assert_eq!(
            escape_line(line, true),
            "\u{1b}[33m WARN\u{1b}[0m a\\u000a<0>b \\u001b]0;title\\u0007 \\u001b[2J"
        );
        assert!(!escape_line(line, false).contains('\u{1b}'));
    }
}
