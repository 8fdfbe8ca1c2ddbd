//! Architecture rules that the compiler does not check. Reads `src` as text, without comments, strings and tests.
//!
//! | rule | what holds |
//! |---|---|
//! | import | `cli → daemon → applications → wrapping → pure`; none up or sideways, see the table of [`rules`] |
//! | config | imports pure modules; only `cli`, `daemon` and `error` read it |
//! | cycle | no import cycle between files of different top-level modules, none between top-level modules |
//! | pure | pure modules name no file, socket, clock, environment, thread, and no crate that does; they print nothing |
//! | crate | each wrapped library is named in its own module only |
//! | unsafe | only in the files that call C |
//! | flag | modules below `daemon` name no flag of the command line in a string |
//! | type | a public type's name is declared once |
//! | size | a file has at most 450 lines without its tests |
//! | word | identifiers use the field's words and the ecosystem's spelling, in tests too |
//! | phrase | comments are in plain English |
//! | top level | Git tracks what [`TOP_LEVEL`] lists, and nothing else |
//!
//! Layers, from top to bottom: `cli` · `daemon` · applications (`job`, `recording`, `fleet`, `export`, `report`) ·
//! `error` · `config`, `logging` · wrapping (`inference`, `video`, `camera`, `storage`, `mqtt`, `http`, `system`) ·
//! pure (`frame`, `geometry`, `digest`, `limits`, `selection`, `color`, `hand`, `sequence`, `dataset`, `messages`,
//! `draw`).
//!
//! `cargo test --test architecture -- --nocapture` prints lines per module and files near the limit. The same in a
//! few seconds, without a build of the library:
//!
//! ```sh
//! CARGO_MANIFEST_DIR=$PWD rustc --edition 2024 --test -O tests/architecture/main.rs -o target/architecture
//! target/architecture --nocapture
//! ```

#![allow(
    clippy::unwrap_used,
    reason = "a test may end where the sources cannot be read"
)]

mod checks;
mod graph;
mod index;
mod lexer;
mod rules;
mod scanner;

use checks::{Violations, violations, word_violations};
use index::Index;
use lexer::without_comments;
use rules::{EXCEPTIONS, PHRASES, UNSAFE, WORDS, WRAPPED};
use scanner::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The entries of the top level.
const TOP_LEVEL: [&str; 17] = [
    ".cargo",
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "build.rs",
    "clippy.toml",
    "cross",
    "deny.toml",
    "models",
    "src",
    "systemd",
    "tests",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn src() -> PathBuf {
    root().join("src")
}

#[test]
fn the_source_keeps_to_its_architecture() {
    let sources = scanner::read(&src());
    assert!(
        sources.len() > 100,
        "only {} files were read",
        sources.len()
    );
    print_sizes(&sources);
    let found = violations(&sources);
    assert_none(&found);
}

/// The rule on words holds in test code too.
#[test]
fn the_tests_use_the_fields_words() {
    let mut found = Violations::new();
    for folder in ["src", "tests"] {
        for (file, text) in rust_files(folder) {
            let code = without_comments(&text, |_| " ".to_owned());
            word_violations(&file, &code, folder, &mut |key, place| {
                found.entry(key).or_default().insert(place);
            });
        }
    }
    assert_none(&found);
}

#[test]
fn comments_are_plain() {
    let mut found = Violations::new();
    for folder in ["src", "tests"] {
        for (file, text) in rust_files(folder) {
            // A phrase may continue in the next line.
            let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
            for comment in lines.split(|line| !line.starts_with("//")) {
                let comment = comment.join(" ").to_lowercase();
                let words = comment.split(|c: char| !c.is_alphanumeric());
                let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
                let words = format!(" {} ", words.join(" "));
                for phrase in PHRASES.iter().filter(|p| words.contains(&format!(" {p} "))) {
                    let places = found.entry(format!("phrase: {phrase}")).or_default();
                    places.insert(format!("{folder}/{file}: {comment}"));
                }
            }
        }
    }
    assert_none(&found);
}

/// A new folder at the top level is a decision, a stray file is a mistake.
#[test]
fn the_top_level_is_as_listed() {
    let output = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "-z"])
        .current_dir(root())
        .output();
    // An unpacked archive has no tracked files.
    let tracked = output.as_ref().map_or(&[][..], |output| &output.stdout);
    if tracked.is_empty() {
        // The test harness captures only the print macros; a closed stderr is no error.
        writeln!(stderr(), "SKIPPED: Git lists no tracked files: {output:?}").ok();
        return;
    }
    let paths = str::from_utf8(tracked).unwrap().split_terminator('\0');
    let entries: BTreeSet<&str> = paths.filter_map(|path| path.split('/').next()).collect();
    assert_eq!(entries, BTreeSet::from(TOP_LEVEL));
}

/// Path below `folder` and text of every Rust file there.
fn rust_files(folder: &str) -> Vec<(String, String)> {
    let files = scanner::files(&root().join(folder));
    assert!(files.len() > 100, "only {} files were read", files.len());
    files
}

/// Asserts that there are no violations. Lists each one, with the word to use instead.
#[track_caller]
fn assert_none(found: &Violations) {
    let mut message = String::new();
    for (key, places) in found {
        let word = key
            .strip_prefix("word: ")
            .and_then(|key| key.split(' ').next());
        let instead = WORDS.iter().find(|(private, _)| Some(*private) == word);
        let hint = instead.map_or(String::new(), |(_, instead)| {
            format!(" (instead: {instead})")
        });
        writeln!(message, "{key}{hint}").unwrap();
        for place in places {
            writeln!(message, "    {place}").unwrap();
        }
    }
    assert!(message.is_empty(), "\n{message}");
}

#[allow(clippy::print_stdout, reason = "the figures are for people")]
fn print_sizes(sources: &[Source]) {
    let mut modules: BTreeMap<&str, usize> = BTreeMap::new();
    for source in sources {
        *modules.entry(source.top()).or_default() += source.lines;
    }
    println!("Lines without tests:");
    for (module, lines) in &modules {
        println!("{lines:6} {module}");
    }
    println!("{:6} in all", modules.values().sum::<usize>());
    println!("Files above 400 lines:");
    for source in sources.iter().filter(|source| source.lines > 400) {
        println!("{:6} {}", source.lines, source.file);
    }
}

/// A rule about a removed module protects nothing.
#[test]
fn the_tables_name_what_is_there() {
    let wrapped = WRAPPED.iter().flat_map(|(_, homes)| homes.iter());
    for home in wrapped.chain(UNSAFE) {
        assert!(
            src().join(home).exists(),
            "src/{home} is named in rules.rs and is not there"
        );
    }
    let sources = scanner::read(&src());
    let index = Index::new(&sources);
    let paths: BTreeSet<(&str, String)> = (0..sources.len())
        .flat_map(|n| index.absolute_paths(n).map(move |(path, _)| (n, path)))
        .map(|(n, path)| {
            (
                sources[n].top(),
                path.split("::").take(2).collect::<Vec<_>>().join("::"),
            )
        })
        .collect();
    for (from, to, why) in EXCEPTIONS.iter().copied() {
        let is_used = paths.contains(&(from, format!("crate::{to}")));
        assert!(is_used, "{from} may import {to} ({why}) and does not");
    }
}
