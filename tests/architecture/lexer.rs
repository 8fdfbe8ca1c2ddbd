//! Rust as words: no comments, no strings, no test code.

/// Prefix of a flag's name.
pub(crate) const FLAG: &str = "flag_";

/// The flags that `literal` names, as words. Flags between backticks do not count: the user types the command as is.
pub(crate) fn flags(literal: &str) -> String {
    let mut names = " ".to_owned();
    for prose in literal.split('`').step_by(2) {
        let mut parts = prose.split("--");
        let mut before = parts.next().unwrap_or_default();
        for part in parts {
            let name = part.trim_start_matches('{');
            if !before.ends_with(|c: char| c.is_alphanumeric() || c == '-')
                && name.starts_with(|c: char| c.is_ascii_lowercase())
            {
                names.push_str(FLAG);
                names.push_str(&name[..name.find(|c| !is_word(c)).unwrap_or(name.len())]);
                names.push(' ');
            }
            before = part;
        }
    }
    names
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether a word of [`words`] is an identifier or keyword.
pub(crate) fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Identifiers, macro names with their `!`, `::`, and single other characters.
pub(crate) fn words(code: &str) -> impl Iterator<Item = &str> {
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let mut end = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if is_word(first) && rest[end..].starts_with('!') && !rest[end..].starts_with("!=") {
            end += 1;
        }
        let word;
        (word, rest) = rest.split_at(end);
        Some(word)
    })
}

/// Blanks comments, and replaces each quoted literal with the result of `literal`. Line breaks stay.
pub(crate) fn without_comments(text: &str, literal: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let raw_hashes = rest
            .strip_prefix('r')
            .map(|r| r.len() - r.trim_start_matches('#').len());
        let is_word_before = out.ends_with(is_word);
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |n| n + 2)
        } else if let Some(n) = raw_hashes
            && rest[1 + n..].starts_with('"')
            && (!is_word_before || out.ends_with('b'))
        {
            let end = format!("\"{}", "#".repeat(n));
            rest[2 + n..]
                .find(&end)
                .map_or(rest.len(), |at| 2 + n + at + end.len())
        } else if c == '"' {
            quoted(rest, '"')
        } else if c == '\'' && is_char(rest) {
            quoted(rest, '\'')
        } else {
            0
        };
        if skip == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            let skipped;
            (skipped, rest) = rest.split_at(skip);
            if skipped.starts_with('/') {
                out.push(' ');
            } else {
                out.push_str(&literal(skipped));
            }
            out.extend(skipped.chars().filter(|c| *c == '\n'));
        }
    }
    out
}

/// The length in bytes of the literal at the start of `text`.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    text.len()
}

/// Whether `text` begins with a character literal, not a lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// Removes each item below `#[cfg(test)]`. Returns the rest and the number of removed lines. Adds the names of test
/// modules in other files to `modules`.
pub(crate) fn without_tests(code: &str, modules: &mut Vec<String>) -> (String, usize) {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    let mut lines = 0;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        let mut depth = 0;
        let end = rest.char_indices().find_map(|(at, c)| {
            depth += i32::from("{([".contains(c)) - i32::from("})]".contains(c));
            ((c == '}' || c == ';') && depth == 0).then_some(at + 1)
        });
        let item;
        (item, rest) = rest.split_at(end.unwrap_or(rest.len()));
        lines += item.matches('\n').count() + 1;
        let words: Vec<&str> = words(item).collect();
        if let [.., "mod", name, ";"] = words[..] {
            modules.push(name.to_owned());
        }
    }
    out.push_str(rest);
    (out, lines)
}
