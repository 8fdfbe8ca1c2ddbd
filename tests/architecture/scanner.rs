//! Reads `src`: which paths, imports and types each file holds without its tests.

use crate::lexer::{FLAG, flags, is_name, without_comments, without_tests, words};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// A file of `src`, without its tests.
pub(crate) struct Source {
    /// Path below `src`, such as `storage/npz.rs`.
    pub(crate) file: String,
    /// Module path below the crate's root; empty for `lib.rs`.
    pub(crate) module: Vec<String>,
    /// Code without comments, strings and test modules; line breaks stay.
    pub(crate) code: String,
    /// Names after `--` in strings.
    pub(crate) flags: Vec<String>,
    /// Lines of the file, comments included, test modules excluded.
    pub(crate) lines: usize,
    /// What `use` brings into scope, as written, with braces expanded.
    pub(crate) uses: Vec<Use>,
    /// Paths with two parts or more outside `use`, as written.
    pub(crate) paths: Vec<String>,
    /// Modules that exist in tests only.
    test_modules: Vec<String>,
}

/// One leaf of a `use`.
pub(crate) struct Use {
    /// The path, without `as`, `*` and `self`.
    pub(crate) path: String,
    /// The name in scope; `*` for a glob.
    pub(crate) name: String,
    /// `pub` or `pub(…)`.
    pub(crate) is_public: bool,
}

impl Source {
    /// The first module below the root: `storage` of `storage/npz.rs`, `main` of `main.rs`, `lib` of `lib.rs`.
    pub(crate) fn top(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }
}

/// All files below `src`, except those of tests.
pub(crate) fn read(src: &Path) -> Vec<Source> {
    let sources = files(src)
        .into_iter()
        .map(|(file, text)| parse(&file, &text))
        .collect();
    without_test_files(sources)
}

/// Path and text of every Rust file below `root`, tests included.
pub(crate) fn files(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let file = path.strip_prefix(root).unwrap().display().to_string();
                found.push((file, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

/// Drops the files of modules that are declared below `#[cfg(test)]`.
pub(crate) fn without_test_files(mut sources: Vec<Source>) -> Vec<Source> {
    let tests: HashSet<Vec<String>> = sources
        .iter()
        .flat_map(|source| {
            let child =
                |name: &String| [source.module.as_slice(), std::slice::from_ref(name)].concat();
            source.test_modules.iter().map(child)
        })
        .collect();
    sources
        .retain(|source| !(1..=source.module.len()).any(|n| tests.contains(&source.module[..n])));
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

/// Reads `text`, the source of `file` below `src`.
pub(crate) fn parse(file: &str, text: &str) -> Source {
    let mut test_modules = Vec::new();
    let (code, cut_lines) = without_tests(
        &without_comments(text, |_| " ".to_owned()),
        &mut test_modules,
    );
    let (flagged, _) = without_tests(&without_comments(text, flags), &mut Vec::new());
    let flags = words(&flagged)
        .filter_map(|w| w.strip_prefix(FLAG))
        .map(str::to_owned)
        .collect();
    let (uses, paths) = uses_and_paths(&code);
    Source {
        file: file.to_owned(),
        module: module_of(file),
        flags,
        lines: text.lines().count() - cut_lines,
        uses,
        paths,
        code,
        test_modules,
    }
}

/// `video/clip.rs` → `["video", "clip"]`, `video/mod.rs` → `["video"]`, `lib.rs` → `[]`.
fn module_of(file: &str) -> Vec<String> {
    let mut module: Vec<String> = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if module.last().is_some_and(|m| m == "mod") || file == "lib.rs" {
        module.pop();
    }
    module
}

/// Names of the types that `code` declares, and whether each is `pub` or `pub(…)`.
pub(crate) fn types(code: &str) -> Vec<(&str, bool)> {
    let words: Vec<&str> = words(code).collect();
    let is_visibility = |word: &&str| ["pub", ")"].contains(word);
    let declarations = words.windows(2).enumerate().filter_map(|(at, pair)| {
        let is_type = ["struct", "enum", "trait", "type", "union"].contains(&pair[0]);
        let mut before = words[..at].iter().rev().filter(|word| **word != "unsafe");
        (is_type && is_name(pair[1])).then(|| (pair[1], before.next().is_some_and(is_visibility)))
    });
    declarations.collect()
}

/// Each leaf of every `use`, and every other path with two parts or more.
fn uses_and_paths(code: &str) -> (Vec<Use>, Vec<String>) {
    let words: Vec<&str> = words(code).collect();
    let (mut uses, mut paths) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < words.len() {
        if words[at] == "use" {
            let is_public = at > 0 && ["pub", ")"].contains(&words[at - 1]);
            let end = words[at..]
                .iter()
                .position(|w| *w == ";")
                .map_or(words.len(), |n| at + n);
            use_tree(&words[at + 1..end], "", is_public, &mut uses);
            at = end;
        } else if is_name(words[at]) {
            let start = at;
            while words.get(at + 1) == Some(&"::") && words.get(at + 2).is_some_and(|w| is_name(w))
            {
                at += 2;
            }
            if at > start {
                paths.push(words[start..=at].concat());
            }
            at += 1;
        } else {
            at += 1;
        }
    }
    (uses, paths)
}

/// Spells out `a::{b, c::{d, self}}`.
fn use_tree(words: &[&str], prefix: &str, is_public: bool, found: &mut Vec<Use>) {
    let mut depth = 0;
    for item in words.split(|w| {
        depth += i32::from(*w == "{") - i32::from(*w == "}");
        *w == "," && depth == 0
    }) {
        if let Some(open) = item.iter().position(|w| *w == "{") {
            let prefix = format!("{prefix}{}", item[..open].concat());
            use_tree(&item[open + 1..item.len() - 1], &prefix, is_public, found);
        } else if !item.is_empty() {
            let name_end = item.iter().position(|w| *w == "as").unwrap_or(item.len());
            let path = format!("{prefix}{}", item[..name_end].concat());
            let path = path.trim_start_matches("::").trim_end_matches("::self");
            let (path, last) = path.strip_suffix("::*").map_or_else(
                || (path, path.rsplit("::").next().unwrap_or(path)),
                |path| (path, "*"),
            );
            let name = item.get(name_end + 1).copied().unwrap_or(last).to_owned();
            found.push(Use {
                path: path.to_owned(),
                name,
                is_public,
            });
        }
    }
}

#[test]
fn paths_and_imports_are_spelt_out() {
    let source = parse(
        "a/b.rs",
        "pub use super::{c::{D as E, self}, f::*}; use ::g::h; fn i() -> crate::J { h::k(x::<l::M>(n)) }",
    );
    let uses: Vec<_> = source
        .uses
        .iter()
        .map(|u| format!("{} {} {}", u.path, u.name, u.is_public))
        .collect();
    assert_eq!(
        uses,
        [
            "super::c::D E true",
            "super::c c true",
            "super::f * true",
            "g::h h false"
        ]
    );
    assert_eq!(source.paths, ["crate::J", "h::k", "l::M"]);
}

#[test]
fn comments_strings_and_tests_are_no_code() {
    let text = "//! use a::b;\n/* use c::d;\n */\nconst E: &str = r#\"\"use f::g;\n\"#; const H: char = '\"';\n\
                fn f<'a>() {}\n#[cfg(test)]\nmod tests { use i::j; fn k() -> [u8; 2] {} }\n#[cfg(test)]\nmod l;\nuse m::n;\n";
    let source = parse("o.rs", text);
    assert_eq!(source.uses.len(), 1, "{}", source.code);
    assert_eq!(source.uses[0].path, "m::n");
    assert_eq!(source.lines, 7);
    assert_eq!(source.test_modules, ["l"]);
    let left = without_test_files(vec![
        source,
        parse("o/l.rs", ""),
        parse("o/l/p.rs", ""),
        parse("o/q.rs", ""),
    ]);
    let files: Vec<_> = left.iter().map(|s| s.file.as_str()).collect();
    assert_eq!(files, ["o.rs", "o/q.rs"]);
}

#[test]
fn types_are_found_by_their_declaration() {
    let code = "pub struct A; pub(crate) enum B {} pub(super) trait C { type D; } struct E; pub unsafe trait F {} \
                impl G for H { type I = J; } pub type K = L; pub fn struct_like() {} pub(in crate::x) union M {}";
    let (public, private): (Vec<_>, Vec<_>) = types(code)
        .into_iter()
        .partition(|(_, is_public)| *is_public);
    let names = |types: Vec<(&'static str, bool)>| {
        types.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(public), ["A", "B", "C", "F", "K", "M"]);
    assert_eq!(names(private), ["D", "E", "I"]);
}
