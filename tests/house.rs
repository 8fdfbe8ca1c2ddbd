//! The house rules that a compiler does not check: which room may name what.
//!
//! Reads `src` as text, drops comments, strings and test modules, and holds every path that is left, imports spelt
//! out, against the rules. What rooms say in strings names no flag.

#![allow(
    clippy::unwrap_used,
    reason = "a test may end where the sources cannot be read"
)]

use std::fs;
use std::path::{Path, PathBuf};

const PURE: [&str; 11] = [
    "digest",
    "frame",
    "geometry",
    "colour",
    "hand",
    "sequence",
    "wlasl",
    "render",
    "telemetry",
    "governor",
    "selection",
];
const SHELL: [&str; 11] = [
    "inference",
    "source",
    "store",
    "pipeline",
    "report",
    "allocator",
    "mqtt",
    "machine",
    "service",
    "console",
    "preview",
];
/// The composition root and what it is spoken to and ends with.
const TOP: [&str; 5] = ["commands", "config", "cli", "exit", "logging"];

/// What a pure room may know of the other pure rooms.
const PURE_IMPORTS: [(&str, &[&str]); 11] = [
    ("digest", &[]),
    ("frame", &[]),
    ("geometry", &["frame"]),
    ("colour", &["frame", "geometry"]),
    ("hand", &["frame", "geometry"]),
    ("sequence", &["frame", "geometry", "hand"]),
    ("wlasl", &["sequence"]),
    ("render", &["frame", "geometry"]),
    ("telemetry", &[]),
    ("governor", &[]),
    ("selection", &[]),
];

/// The outside, which no pure room names.
const OUTSIDE: [&str; 33] = [
    "std::fs",
    "std::net",
    "std::os",
    "std::time",
    "std::thread",
    "std::env",
    "std::process",
    "std::sync::mpsc",
    "std::io",
    "core::time",
    "tokio",
    "rumqttc",
    "rusqlite",
    "ratatui",
    "sd_notify",
    "native_tls",
    "gstreamer",
    "gstreamer_app",
    "gstreamer_video",
    "tflitec",
    "v4l",
    "libloading",
    "zip",
    "npyz",
    "tracing",
    "tracing_subscriber",
    "indicatif",
    "crossbeam",
    "crossbeam_channel",
    "rustix",
    "image",
    "clap",
    "anyhow",
];

/// Parts of those that a pure room may name: plain values and traits.
const HARMLESS: [&str; 1] = ["std::time::Duration"];

/// Macros that reach the terminal.
const LOUD_MACROS: [&str; 5] = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];

/// The files and folders that speak C.
const UNSAFE: [&str; 6] = [
    "allocator.rs",
    "inference/ffi/",
    "inference/litert/ffi.rs",
    "inference/litert/session.rs",
    "inference/vulkan.rs",
    "machine/clock.rs",
];

/// Crates that are each named in one place.
const WRAPPED: [(&str, &[&str]); 18] = [
    ("gstreamer", &["source/"]),
    ("gstreamer_app", &["source/"]),
    ("gstreamer_video", &["source/"]),
    ("tflitec", &["inference/"]),
    ("libloading", &["inference/"]),
    ("npyz", &["store/"]),
    (
        "zip",
        &["store/", "inference/bundle.rs", "source/archive.rs"],
    ),
    ("indicatif", &["report.rs"]),
    (
        "rustix",
        &["source/archive.rs", "source/camera/", "store/", "machine/"],
    ),
    ("v4l", &["source/camera/"]),
    ("rumqttc", &["mqtt/"]),
    ("native_tls", &["mqtt/"]),
    ("rusqlite", &["store/"]),
    ("ratatui", &["console/"]),
    ("sd_notify", &["service/"]),
    ("image", &["commands/", "source/camera/"]),
    ("clap_complete", &["commands/papers.rs"]),
    ("clap_mangen", &["commands/papers.rs"]),
];

/// What is wrong with `text`, the source of `file` (relative to `src`).
fn scan(file: &str, text: &str) -> Vec<String> {
    let code = without_tests(&without_comments(text, |_| " ".to_owned()));
    let module = module_of(file);
    let room = module.first().map_or("", String::as_str);
    let mut wrong = Vec::new();
    for path in paths(&code) {
        let path = resolve(&path, &module);
        if let Some(fault) = fault(file, room, &path) {
            wrong.push(format!("src/{file}: {path}: {fault}"));
        }
    }
    if PURE.contains(&room) {
        for name in LOUD_MACROS {
            if words(&code).any(|w| w == name) {
                wrong.push(format!("src/{file}: {name}: a pure room prints"));
            }
        }
    }
    if PURE.contains(&room) || SHELL.contains(&room) {
        let flagged = without_tests(&without_comments(text, flags));
        for name in words(&flagged).filter_map(|w| w.strip_prefix(FLAG)) {
            wrong.push(format!("src/{file}: --{name}: a room names a flag"));
        }
    }
    // FFI files alone, each block argued.
    if !UNSAFE.iter().any(|home| file.starts_with(home)) && words(&code).any(|w| w == "unsafe") {
        wrong.push(format!("src/{file}: unsafe"));
    }
    wrong
}

/// Stands before the name of a flag.
const FLAG: &str = "flag_";

/// The flags that `literal` names, as words. A command between backticks may have some: it is typed as it stands.
fn flags(literal: &str) -> String {
    let mut names = " ".to_owned();
    for said in literal.split('`').step_by(2) {
        let mut parts = said.split("--");
        let mut before = parts.next().unwrap_or_default();
        for part in parts {
            let name = part.trim_start_matches('{');
            if !before.ends_with(|c: char| c.is_alphanumeric() || c == '-')
                && name.starts_with(|c: char| c.is_ascii_lowercase())
            {
                let is_name = |c: char| c.is_alphanumeric() || c == '_';
                names.push_str(FLAG);
                names.push_str(&name[..name.find(|c| !is_name(c)).unwrap_or(name.len())]);
                names.push(' ');
            }
            before = part;
        }
    }
    names
}

/// The rule that naming `path` breaks.
fn fault(file: &str, room: &str, path: &str) -> Option<String> {
    let begins = |start: &str| path == start || path.starts_with(&format!("{start}::"));
    let first = path.split("::").next().unwrap_or_default();
    if let Some((_, homes)) = WRAPPED.iter().find(|(name, _)| *name == first)
        && !homes.iter().any(|home| file.starts_with(home))
    {
        return Some(format!("{first} is named in {homes:?} only"));
    }
    if PURE.contains(&room)
        && OUTSIDE.iter().any(|o| begins(o))
        && !HARMLESS.iter().any(|h| begins(h))
    {
        return Some("a pure room reaches outside".to_owned());
    }
    let mut parts = path.split("::");
    let (Some("crate"), Some(other)) = (parts.next(), parts.next()) else {
        return None;
    };
    if other == room || TOP.contains(&room) || ["", "main", "lib"].contains(&room) {
        return None;
    }
    let pure = PURE_IMPORTS.iter().find(|(name, _)| *name == room);
    let allowed = match pure {
        Some((_, imports)) => imports.contains(&other),
        // A shell room builds on the pure ones and on no other shell room.
        None => PURE.contains(&other),
    };
    let known = PURE.contains(&other) || SHELL.contains(&other) || TOP.contains(&other);
    if allowed {
        None
    } else if known {
        Some(format!("{room} must not know {other}"))
    } else {
        Some(format!("no room is called {other}"))
    }
}

/// `source/video.rs` → `["source", "video"]`.
fn module_of(file: &str) -> Vec<String> {
    let mut module: Vec<String> = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if module.last().is_some_and(|m| m == "mod") {
        module.pop();
    }
    module
}

/// A path from the crate's root, where it is written relative to `module`.
fn resolve(path: &str, module: &[String]) -> String {
    let mut place: Vec<&str> = module.iter().map(String::as_str).collect();
    let mut parts = path.split("::").peekable();
    let relative = matches!(parts.peek(), Some(&("self" | "super")));
    while let Some(word @ ("self" | "super")) = parts.peek().copied() {
        if word == "super" {
            place.pop();
        }
        parts.next();
    }
    if !relative {
        return path.to_owned();
    }
    ["crate"]
        .into_iter()
        .chain(place)
        .chain(parts)
        .collect::<Vec<_>>()
        .join("::")
}

/// Identifiers, macro names with their `!`, and single other characters.
fn words(code: &str) -> impl Iterator<Item = &str> {
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
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

/// Every path in `code`: those with two parts or more, and each leaf of every `use`.
fn paths(code: &str) -> Vec<String> {
    let words: Vec<&str> = words(code).collect();
    let is_name = |w: &str| w.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        if words[at] == "use" || (words[at] == "extern" && words.get(at + 1) == Some(&"crate")) {
            at += 1 + usize::from(words[at] == "extern");
            let end = words[at..]
                .iter()
                .position(|w| *w == ";")
                .map_or(words.len(), |n| at + n);
            use_tree(&words[at..end], "", &mut found);
            at = end;
        } else if is_name(words[at]) {
            let start = at;
            while words.get(at + 1) == Some(&"::") && words.get(at + 2).is_some_and(|w| is_name(w))
            {
                at += 2;
            }
            if at > start {
                found.push(words[start..=at].concat());
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Spells out `a::{b, c::{d, self}}`.
fn use_tree(words: &[&str], prefix: &str, found: &mut Vec<String>) {
    let mut depth = 0;
    for item in words.split(|w| {
        depth += i32::from(*w == "{") - i32::from(*w == "}");
        *w == "," && depth == 0
    }) {
        let name_end = item.iter().position(|w| *w == "as").unwrap_or(item.len());
        if let Some(open) = item.iter().position(|w| *w == "{") {
            let prefix = format!("{prefix}{}", item[..open].concat());
            use_tree(&item[open + 1..item.len() - 1], &prefix, found);
        } else if !item.is_empty() {
            let path = format!("{prefix}{}", item[..name_end].concat());
            let path = path.trim_start_matches("::");
            found.push(
                path.trim_end_matches("::*")
                    .trim_end_matches("::self")
                    .to_owned(),
            );
        }
    }
}

/// Blanks comments, and puts what `literal` makes of it in the place of each thing in quotes.
fn without_comments(text: &str, literal: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let raw_hashes = rest
            .strip_prefix('r')
            .map(|r| r.len() - r.trim_start_matches('#').len());
        let is_word_before = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
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
            if rest.starts_with('/') {
                out.push(' ');
            } else {
                out.push_str(&literal(&rest[..skip]));
            }
            rest = &rest[skip..];
        }
    }
    out
}

/// Bytes of the literal that `text` begins with.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// A character, not a lifetime.
fn is_char(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// Cuts out `#[cfg(test)] mod … { … }`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        rest = &rest[at + MARK.len()..];
        let mut depth = 0;
        let end = rest.char_indices().find_map(|(at, c)| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            ((c == '}' || c == ';') && depth == 0).then_some(at + 1)
        });
        rest = &rest[end.unwrap_or(rest.len())..];
    }
    out.push_str(rest);
    out
}

/// All sources but files of tests, relative to `src`.
fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_rooms_keep_to_their_rules() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for path in &files {
        let file = path.strip_prefix(&src).unwrap().display().to_string();
        wrong.extend(scan(&file, &fs::read_to_string(path).unwrap()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files.len() > 40, "only {} files were read", files.len());
}

#[test]
fn every_room_has_its_rules() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(src).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let room = name.trim_end_matches(".rs");
        let known = PURE.contains(&room) || SHELL.contains(&room) || TOP.contains(&room);
        assert!(
            known || ["lib", "main"].contains(&room),
            "{room} has no rules"
        );
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn the_scanner_sees_what_is_forbidden() {
    let check = |file: &str, text: &str, expected: &[&str]| {
        let wrong = scan(file, text);
        assert_eq!(wrong.len(), expected.len(), "{text}: {wrong:?}");
        for (wrong, expected) in wrong.iter().zip(expected) {
            assert!(wrong.contains(expected), "{text}: {wrong}");
        }
    };
    check(
        "hand/nms.rs",
        "use std::fs;",
        &["std::fs: a pure room reaches outside"],
    );
    check(
        "hand/nms.rs",
        "use std::{cmp, fs::File};",
        &["std::fs::File"],
    );
    check(
        "frame.rs",
        "fn f() { let t = std::time::Instant::now(); }",
        &["std::time::Instant"],
    );
    check(
        "frame.rs",
        "use std::time::{Duration, SystemTime as T};",
        &["std::time::SystemTime"],
    );
    check("colour/mod.rs", "use std::io::{self};", &["std::io"]);
    check("colour/mod.rs", "use std::io::*;", &["std::io"]);
    check(
        "render/font.rs",
        "fn f() { std::thread::spawn(g); std::env::var(x) }",
        &["thread", "env"],
    );
    check("wlasl/plan.rs", "fn f() { println!(\"x\") }", &["println!"]);
    check(
        "wlasl/plan.rs",
        "use tracing::warn; use crossbeam_channel as c;",
        &["tracing", "crossbeam"],
    );
    check(
        "geometry.rs",
        "use crate::hand::Hand;",
        &["geometry must not know hand"],
    );
    check(
        "hand/roi.rs",
        "use super::super::sequence::extract;",
        &["hand must not know sequence"],
    );
    check(
        "store/npz.rs",
        "use crate::{frame, source::video};",
        &["store must not know source"],
    );
    check(
        "source/video.rs",
        "fn f() -> crate::report::Tally {}",
        &["source must not know report"],
    );
    check(
        "pipeline.rs",
        "use super::cli::Cli;",
        &["pipeline must not know cli"],
    );
    check(
        "pipeline.rs",
        "use crate::util::x;",
        &["no room is called util"],
    );
    check(
        "report.rs",
        "use gstreamer as gst;",
        &["gstreamer is named in"],
    );
    check(
        "source/video.rs",
        "fn f() { tflitec::model::Model::new() }",
        &["tflitec is named in"],
    );
    check(
        "source/dataset.rs",
        "use zip::ZipArchive;",
        &["zip is named in"],
    );
    check(
        "source/archive.rs",
        "fn f() { unsafe { g() } }",
        &["unsafe"],
    );
    check(
        "store/npz.rs",
        "const A: &str = \"choose another --out, or --{role}-model\";",
        &["--out: a room names a flag", "--role"],
    );
    // What is allowed, or only looks forbidden.
    check(
        "store/npz.rs",
        "const A: &str = \"see `handloom camera --list` -- or not\"; // --out\n\
         #[cfg(test)] mod tests { const B: &str = \"--out\"; }",
        &[],
    );
    check("commands/demo.rs", "const A: &str = \"--out\";", &[]);
    check(
        "hand/nms.rs",
        "//! std::fs\n/* use std::fs; */ const A: &str = \"use std::fs;\";",
        &[],
    );
    check(
        "hand/nms.rs",
        "const A: &str = r#\"\"use std::fs;\"#; const B: char = '\"'; fn f<'a>() {}",
        &[],
    );
    check(
        "hand/nms.rs",
        "#[cfg(test)]\nmod tests { use std::fs; fn f() {} }\nuse super::palm;",
        &[],
    );
    check("hand/nms.rs", "fn f() { a.iter().zip(b) }", &[]);
    check("frame.rs", "use std::time::Duration;", &[]);
    check(
        "store/npz.rs",
        "use crate::sequence::Sequence; use std::fs::File; use npyz::DType;",
        &[],
    );
    check("report.rs", "use crate::wlasl::plan::Plan;", &[]);
    check(
        "commands/process.rs",
        "use crate::{source, store, inference};",
        &[],
    );
    // After a test module the scan goes on.
    check(
        "hand/nms.rs",
        "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::net::TcpStream;",
        &["std::net"],
    );
}
