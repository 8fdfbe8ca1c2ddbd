//! Checks every file against the tables of [`crate::rules`].

use crate::graph::ImportGraph;
use crate::index::Index;
use crate::lexer::{is_name, words};
use crate::rules::{
    EXCEPTIONS, HARMLESS, LAYERS, Layer, MOST_LINES, OUTSIDE, PRINT_MACROS, UNSAFE, WORDS, WRAPPED,
};
use crate::scanner::{Source, types};
use std::collections::{BTreeMap, BTreeSet};

/// Each broken rule, such as `import: mqtt -> storage`, with every place that breaks it.
pub(crate) type Violations = BTreeMap<String, BTreeSet<String>>;

/// All violations in `sources`.
pub(crate) fn violations(sources: &[Source]) -> Violations {
    let mut found = Violations::new();
    let mut add = |key: String, place: String| {
        found.entry(key).or_default().insert(place);
    };
    let index = Index::new(sources);
    for (n, source) in sources.iter().enumerate() {
        let file = &source.file;
        for (path, _) in index.absolute_paths(n) {
            for key in path_violations(&index, source, &path) {
                add(key, format!("{file}: {path}"));
            }
        }
        file_violations(source, &mut add);
    }
    duplicate_types(sources, &mut add);
    cycles(sources, &mut add);
    found
}

fn layer_of(module: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.modules.contains(&module))
}

/// Whether `source` is one of `homes`, or below one that ends in `/`.
fn is_in(source: &Source, homes: &[&str]) -> bool {
    homes.iter().any(|home| source.file.starts_with(home))
}

/// The rules that `source` breaks by naming `path`.
fn path_violations(index: &Index, source: &Source, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let top = source.top();
    let begins = |start: &&str| {
        path == *start
            || path
                .strip_prefix(start)
                .is_some_and(|rest| rest.starts_with("::"))
    };
    let first = path.split("::").next().unwrap_or_default();
    if let Some((_, homes)) = WRAPPED.iter().find(|(name, _)| *name == first)
        && !is_in(source, homes)
    {
        found.push(format!("crate: {first} in {top}"));
    }
    let Some(layer) = layer_of(top) else {
        found.push(format!("import: {top} has no rules"));
        return found;
    };
    if layer.name == "pure"
        && let Some(outside) = OUTSIDE.iter().find(|o| begins(o))
        && !HARMLESS.iter().any(begins)
    {
        found.push(format!("pure: {outside} in {top}"));
    }
    let Some(named) = path.strip_prefix("crate::") else {
        return found;
    };
    let named = named.split("::").next().unwrap_or_default();
    let declared = index
        .declared_in(path)
        .map_or("lib", |n| index.sources[n].top());
    for other in [named, declared] {
        let is_allowed = other == top
            || layer_of(other).is_some_and(|below| layer.imports.contains(&below.name))
            || EXCEPTIONS
                .iter()
                .any(|(from, to, _)| (*from, *to) == (top, other));
        if !is_allowed && (other == named || declared != "lib") {
            found.push(format!("import: {top} -> {other}"));
        }
    }
    found
}

/// Adds the rules that `source` breaks, apart from those on paths.
fn file_violations(source: &Source, add: &mut impl FnMut(String, String)) {
    let top = source.top();
    let layer = layer_of(top);
    if layer.is_some_and(|l| !l.names_flags) {
        for flag in &source.flags {
            add(format!("flag: --{flag} in {top}"), source.file.clone());
        }
    }
    for word in words(&source.code) {
        if layer.is_some_and(|l| l.name == "pure") && PRINT_MACROS.contains(&word) {
            add(format!("pure: {word} in {top}"), source.file.clone());
        }
        if word == "unsafe" && !is_in(source, UNSAFE) {
            add(format!("unsafe: {}", source.file), String::new());
        }
    }
    word_violations(&source.file, &source.code, top, add);
    if source.lines > MOST_LINES {
        add(
            format!("size: {}", source.file),
            format!("{} lines", source.lines),
        );
    }
}

/// Identifiers and types of `code` that use a word of [`WORDS`]; `area` names the part of the project in the message.
pub(crate) fn word_violations(
    file: &str,
    code: &str,
    area: &str,
    add: &mut impl FnMut(String, String),
) {
    let names: BTreeSet<&str> = words(code).filter(|word| is_name(word)).collect();
    let types: Vec<&str> = types(code).into_iter().map(|(name, _)| name).collect();
    for (word, _) in WORDS {
        if word.starts_with(char::is_uppercase) && types.contains(word) {
            add(format!("word: {word} in {area}"), file.to_owned());
        }
    }
    for name in names {
        let parts = parts_of(name);
        for (word, _) in WORDS.iter().filter(|(word, _)| has_part(&parts, word)) {
            add(format!("word: {word} in {area}"), format!("{file}: {name}"));
        }
    }
}

/// `WayOut` and `WAY_OUT` → `_way_out_`.
fn parts_of(identifier: &str) -> String {
    let mut parts = "_".to_owned();
    let mut is_start = true;
    for c in identifier.chars() {
        if c.is_uppercase() && !is_start {
            parts.push('_');
        }
        is_start = c.is_uppercase() || c == '_';
        parts.extend(c.to_lowercase());
    }
    parts.push('_');
    parts
}

/// Whether `word` stands between underscores in `parts`.
fn has_part(parts: &str, word: &str) -> bool {
    parts
        .match_indices(word)
        .any(|(at, _)| parts[..at].ends_with('_') && parts[at + word.len()..].starts_with('_'))
}

fn duplicate_types(sources: &[Source], add: &mut impl FnMut(String, String)) {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in sources {
        let types = types(&source.code).into_iter();
        for (name, _) in types.filter(|(_, is_public)| *is_public) {
            places.entry(name).or_default().push(&source.file);
        }
    }
    for (name, files) in places.iter().filter(|(_, files)| files.len() > 1) {
        for file in files {
            add(format!("type: {name}"), (*file).to_owned());
        }
    }
}

fn cycles(sources: &[Source], add: &mut impl FnMut(String, String)) {
    let tops: BTreeSet<&str> = sources.iter().map(Source::top).collect();
    let tops: Vec<&str> = tops.into_iter().collect();
    let top_of: Vec<usize> = sources
        .iter()
        .filter_map(|source| tops.binary_search(&source.top()).ok())
        .collect();
    let files = ImportGraph::of_files(sources);
    for (from, to) in files
        .edges()
        .filter(|(from, to)| top_of[*from] != top_of[*to])
    {
        if let Some(cycle) = files.cycle(from, to) {
            let names: Vec<&str> = cycle
                .into_iter()
                .map(|n| sources[n].file.as_str())
                .collect();
            add("cycle: files".to_owned(), names.join(" -> "));
        }
    }
    let modules = files.grouped(tops.len(), |n| top_of[n]);
    for (from, to) in modules.edges() {
        if let Some(cycle) = modules.cycle(from, to) {
            let names: Vec<&str> = cycle.into_iter().map(|n| tops[n]).collect();
            add("cycle: modules".to_owned(), names.join(" -> "));
        }
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn the_rules_find_what_is_forbidden() {
    use crate::scanner::parse;
    let check = |file: &str, text: &str, expected: &[&str]| {
        let found = violations(&[parse(file, text)]);
        let found: Vec<_> = found.keys().map(String::as_str).collect();
        assert_eq!(found, expected, "{file}: {text}");
    };
    check("hand/nms.rs", "use std::fs;", &["pure: std::fs in hand"]);
    check(
        "hand/nms.rs",
        "use std::{cmp, fs::File};",
        &["pure: std::fs in hand"],
    );
    check(
        "hand/nms.rs",
        "use std; fn f() { std::fs::read(x) }",
        &["pure: std::fs in hand"],
    );
    check(
        "frame.rs",
        "fn f() { let t = std::time::Instant::now(); }",
        &["pure: std::time in frame"],
    );
    check(
        "frame.rs",
        "use std::time::{Duration, SystemTime as T};",
        &["pure: std::time in frame"],
    );
    check(
        "color/mod.rs",
        "use std::io::{self};",
        &["pure: std::io in color"],
    );
    check(
        "color/mod.rs",
        "use std::io::*;",
        &["pure: std::io in color"],
    );
    check(
        "draw/font.rs",
        "fn f() { std::thread::spawn(g); std::env::var(x) }",
        &["pure: std::env in draw", "pure: std::thread in draw"],
    );
    check(
        "dataset/plan.rs",
        "fn f() { println!(\"x\") }",
        &["pure: println! in dataset"],
    );
    check(
        "dataset/plan.rs",
        "use tracing::warn; use crossbeam_channel as c;",
        &[
            "pure: crossbeam_channel in dataset",
            "pure: tracing in dataset",
        ],
    );
    check(
        "geometry.rs",
        "use crate::hand::Hand;",
        &["import: geometry -> hand"],
    );
    check(
        "hand/roi.rs",
        "use super::super::sequence::extract;",
        &["import: hand -> sequence"],
    );
    check(
        "storage/npz.rs",
        "use crate::{frame, video::clip};",
        &["import: storage -> video"],
    );
    check(
        "video/clip.rs",
        "fn f() -> crate::job::Job {}",
        &["import: video -> job"],
    );
    check(
        "job/mod.rs",
        "pub(crate) use super::cli::Cli;",
        &["import: job -> cli"],
    );
    check(
        "job/mod.rs",
        "use crate::config::Config;",
        &["import: job -> config"],
    );
    check(
        "config/mod.rs",
        "use crate::storage::Npz;",
        &["import: config -> storage"],
    );
    check(
        "cli/mod.rs",
        "use crate::util::x;",
        &["import: cli -> util"],
    );
    check("util.rs", "use std::fmt;", &["import: util has no rules"]);
    check(
        "cli/run.rs",
        "use gstreamer as gst;",
        &["crate: gstreamer in cli"],
    );
    check(
        "video/clip.rs",
        "fn f() { rusqlite::Connection::open_in_memory() }",
        &["crate: rusqlite in video"],
    );
    check(
        "video/dataset.rs",
        "use zip::ZipArchive;",
        &["crate: zip in video"],
    );
    check(
        "video/archive.rs",
        "fn f() { unsafe { g() } }",
        &["unsafe: video/archive.rs"],
    );
    check(
        "storage/npz.rs",
        "const A: &str = \"choose another --out, or --{role}-model\";",
        &["flag: --out in storage", "flag: --role in storage"],
    );
    check(
        "job/mod.rs",
        "pub struct A; mod b { pub(crate) enum A {} }",
        &["type: A"],
    );
    check(
        "job/mod.rs",
        "fn told() {} struct WayOut; const IS_WISH: u8 = 1; const DESK: u8 = 1; fn color_colour() {}",
        &[
            "word: colour in job",
            "word: desk in job",
            "word: told in job",
            "word: way_out in job",
            "word: wish in job",
        ],
    );
    check(
        "job/mod.rs",
        &"\n".repeat(MOST_LINES + 1),
        &["size: job/mod.rs"],
    );
    // Allowed code, and code that only looks forbidden.
    check("job/mod.rs", &"\n".repeat(MOST_LINES), &[]);
    check(
        "storage/npz.rs",
        "const A: &str = \"see `handloom camera --list` -- or not\"; // --out\n\
         #[cfg(test)] mod tests { const B: &str = \"--out\"; }",
        &[],
    );
    check("cli/demo.rs", "const A: &str = \"--out\";", &[]);
    check(
        "hand/nms.rs",
        "//! std::fs\n/* use std::fs; */ const A: &str = \"use std::fs; told\";",
        &[],
    );
    check(
        "hand/nms.rs",
        "#[cfg(test)]\nmod tests { use std::fs; fn f() {} }\nuse super::palm;",
        &[],
    );
    check(
        "hand/nms.rs",
        "fn f() { a.iter().zip(b) } fn handloom_unfold() {}",
        &[],
    );
    check(
        "frame.rs",
        "use std::time::Duration; use std::net::Ipv6Addr;",
        &[],
    );
    check(
        "storage/npz.rs",
        "use crate::sequence::Sequence; use std::fs::File; use npyz::DType;",
        &[],
    );
    check(
        "cli/process.rs",
        "use crate::{video, storage, inference};",
        &[],
    );
    check("main.rs", "use handloom::cli::Cli; use clap::Parser;", &[]);
    // The scan continues after a test module.
    check(
        "hand/nms.rs",
        "#[cfg(test)]\nmod tests { use std::fs; }\nuse std::net::TcpStream;",
        &["pure: std::net in hand"],
    );
}

#[test]
fn a_reexport_hides_no_import() {
    use crate::scanner::parse;
    let sources = [
        parse("lib.rs", "pub mod config; pub mod error; pub mod job;"),
        parse("config.rs", "pub struct Config;"),
        parse("error.rs", "pub use crate::config::Config as Settings;"),
        parse("job.rs", "use crate::error::Settings;"),
    ];
    let found = violations(&sources);
    assert_eq!(
        found.into_keys().collect::<Vec<_>>(),
        ["import: job -> config"]
    );
}

#[test]
fn cycles_are_found_through_reexports() {
    use crate::scanner::parse;
    let sources = [
        parse("lib.rs", "pub mod a; pub mod b;"),
        parse("a/mod.rs", "mod c; pub use c::C; use super::b::B;"),
        parse("a/c.rs", "pub struct C; use super::super::b;"),
        parse("b/mod.rs", "pub(crate) mod d; pub struct B;"),
        parse("b/d.rs", "pub(crate) use crate::a::C as E;"),
    ];
    let found = |sources: &[Source]| {
        let mut found = BTreeSet::new();
        cycles(sources, &mut |key, cycle| {
            found.insert(format!("{key}: {cycle}"));
        });
        found.into_iter().collect::<Vec<_>>()
    };
    // The modules import each other, the files do not.
    assert_eq!(found(&sources), ["cycle: modules: a -> b -> a"]);
    let mut sources = sources;
    sources[2] = parse(
        "a/c.rs",
        "pub struct C; fn f(_: crate::b::d::E) {} use crate::b::B;",
    );
    sources[3] = parse(
        "b/mod.rs",
        "pub(crate) mod d; pub struct B; fn f() { d::g() }",
    );
    let files = "cycle: files: a/c.rs -> b/mod.rs -> b/d.rs -> a/c.rs";
    assert!(
        found(&sources).contains(&files.to_owned()),
        "{:?}",
        found(&sources)
    );
}
