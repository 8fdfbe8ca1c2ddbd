//! How the pages are written: short lines, a short README, plain English.

use super::pages::{CHANGELOG, PAGES, README, root};
use std::fs;
use std::path::Path;

const LINE_CHARS_MAX: usize = 118;
const README_LINES_MAX: usize = 220;

/// Folders with our pages, besides the root.
const FOLDERS: [&str; 5] = ["cross", "models", "src", "systemd", "tests"];

/// Phrases that plain English avoids.
const UNPLAIN: [&str; 7] = [
    "is told",
    "goes on",
    "and no more",
    "the way out",
    "is at work",
    "be had",
    "as such",
];

#[test]
fn lines_are_short_and_so_is_the_readme() {
    for page in PAGES {
        for (number, line) in page.text.lines().enumerate() {
            let (length, number) = (line.chars().count(), number + 1);
            assert!(
                length <= LINE_CHARS_MAX,
                "{}:{number} has {length} characters, {LINE_CHARS_MAX} are allowed: {line}",
                page.path
            );
        }
    }
    let lines = README.text.lines().count();
    assert!(
        lines <= README_LINES_MAX,
        "README.md has {lines} lines, {README_LINES_MAX} are allowed"
    );
}

#[test]
fn sentences_are_plain() {
    for page in PAGES.iter().filter(|page| page.path != CHANGELOG.path) {
        let prose = page.prose();
        let prose: Vec<&str> = prose.split_whitespace().collect();
        let prose = prose.join(" ").to_lowercase();
        for phrase in UNPLAIN {
            assert!(!prose.contains(phrase), "{}: \"{phrase}\"", page.path);
        }
    }
}

#[test]
fn every_page_is_tested() {
    let mut found = pages_in(root(), false);
    found.extend(FOLDERS.iter().flat_map(|f| pages_in(&root().join(f), true)));
    found.sort();
    let mut known: Vec<String> = PAGES.iter().map(|page| page.path.to_owned()).collect();
    known.sort();
    assert_eq!(found, known);
}

fn pages_in(folder: &Path, is_deep: bool) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Fetched models have pages that are not ours and not in the repository.
            if is_deep && !path.ends_with("models/fetched") {
                found.extend(pages_in(&path, is_deep));
            }
        } else if path.extension().is_some_and(|e| e == "md") {
            let path = path.strip_prefix(root()).unwrap();
            found.push(path.to_str().unwrap().to_owned());
        }
    }
    found
}
