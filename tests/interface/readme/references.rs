//! What the pages name must exist: links, files, commands, flags, config keys, messages, make targets, crates.

use super::pages::{DATA, MODELS, PAGES, Page, README, SYSTEMD, commands, root};
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use handloom::cli::Cli;
use handloom::messages::payloads::{COMPONENTS, CameraHealth, Health};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Pages that name only Handloom's flags.
const OURS: [Page; 4] = [README, DATA, MODELS, SYSTEMD];

#[test]
fn links_resolve() {
    for page in PAGES {
        let folder = Path::new(page.path).parent().unwrap();
        for link in page.links() {
            if link.starts_with("https://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                root().join(page.path)
            } else {
                root().join(folder).join(file)
            };
            let target = target.canonicalize();
            assert!(target.is_ok(), "{}: no file for {link}", page.path);
            if anchor.is_empty() {
                continue;
            }
            let target = target.unwrap();
            let aim = PAGES
                .iter()
                .find(|p| root().join(p.path).canonicalize().unwrap() == target)
                .unwrap();
            assert!(
                aim.anchors().contains(&anchor.to_owned()),
                "{}: no heading for {link} in {:?}",
                page.path,
                aim.anchors()
            );
        }
        // A link stays on one line: the package's copies are rewritten line by line.
        for line in page.prose().lines() {
            let (opened, closed) = (line.matches('[').count(), line.matches("](").count());
            assert!(opened >= closed, "{}: a broken link: {line}", page.path);
        }
    }
}

#[test]
fn files_exist() {
    let folders = ["src/", "tests/", "cross/", "systemd/", "models/"];
    for page in PAGES {
        for span in page.spans() {
            let is_file = folders.iter().any(|folder| span.starts_with(folder))
                && !span.contains([' ', '*', '{', '…']);
            assert!(
                !is_file || root().join(&span).exists(),
                "{}: no file `{span}`",
                page.path
            );
        }
    }
}

#[test]
fn commands_parse() {
    let known: BTreeSet<String> = Cli::command()
        .get_subcommands()
        .map(|c| c.get_name().to_owned())
        .collect();
    let mut count = 0;
    for page in PAGES {
        let mentions = page.spans().into_iter().map(|span| (span, true));
        for (text, is_mention) in mentions.chain([(page.shell(), false)]) {
            if is_mention && text.contains(['…', '\'', '"']) {
                continue;
            }
            for words in commands(&text) {
                let is_ours = |at: &usize| {
                    let next = words.get(at + 1);
                    words[*at] == "handloom"
                        && next.is_some_and(|next| *at == 0 || known.contains(next))
                };
                let Some(at) = (0..words.len()).find(is_ours) else {
                    continue;
                };
                count += 1;
                let Err(error) = Cli::try_parse_from(&words[at..]) else {
                    continue;
                };
                // A mention may omit arguments, and its last flag may have a placeholder as its value.
                let is_open = |word: &String| {
                    word.starts_with("--") || word.chars().all(|c| c.is_ascii_uppercase())
                };
                let is_fine = match error.kind() {
                    ErrorKind::DisplayHelp => true,
                    ErrorKind::MissingRequiredArgument => is_mention,
                    ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
                        is_mention && words.last().is_some_and(is_open)
                    }
                    _ => false,
                };
                assert!(is_fine, "{}: {words:?}\n{error}", page.path);
            }
        }
    }
    assert!(count >= 40, "only {count} commands were found");
}

#[test]
fn flags_exist() {
    let command = Cli::command();
    let of = |command: &clap::Command| -> Vec<String> {
        let longs = command.get_arguments().filter_map(clap::Arg::get_long);
        longs.map(str::to_owned).collect()
    };
    let mut known: BTreeSet<String> = command.get_subcommands().flat_map(of).collect();
    known.insert("help".to_owned());
    for page in OURS {
        for span in page.spans() {
            let Some(flag) = span.strip_prefix("--") else {
                continue;
            };
            let name = flag.split([' ', '=']).next().unwrap();
            assert!(known.contains(name), "{}: no flag `{span}`", page.path);
        }
    }
}

#[test]
fn config_keys_exist() {
    let mut known = BTreeSet::new();
    let mut section = "";
    for line in include_str!("../../../systemd/handloom.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.trim_start_matches('#').split_once(" = ") {
            known.insert((section, key));
        }
    }
    let sections: BTreeSet<&str> = known.iter().map(|(section, _)| *section).collect();
    let is_key = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    for page in PAGES {
        for span in page.spans() {
            let dotted = span.split_once('.');
            let bracketed = span.strip_prefix('[').and_then(|s| s.split_once("] "));
            let Some((section, key)) = dotted.or(bracketed) else {
                continue;
            };
            let key = key.split(" = ").next().unwrap();
            // `run.json` is a file, not a key of `[run]`.
            if sections.contains(section) && is_key(key) && key != "json" {
                assert!(
                    known.contains(&(section, key)),
                    "{}: no key `{span}`",
                    page.path
                );
            }
        }
    }
}

#[test]
fn health_fields_are_all_listed() {
    let health = Health {
        camera: Some(CameraHealth::default()),
        ..Health::default()
    };
    let health = serde_json::to_value(health).unwrap();
    let fields = health.as_object().unwrap().keys();
    let camera = health["camera"].as_object().unwrap().keys();
    let spans = SYSTEMD.spans();
    for field in fields.chain(camera) {
        assert!(spans.contains(field), "{}: no `{field}`", SYSTEMD.path);
    }
}

#[test]
fn components_of_faults_are_all_listed() {
    let list = SYSTEMD.text.split("`component` is one of").nth(1).unwrap();
    let list = list.split_once(". ").unwrap().0;
    let mut listed: Vec<&str> = list.split('`').skip(1).step_by(2).collect();
    listed.sort_unstable();
    let mut all = COMPONENTS;
    all.sort_unstable();
    assert_eq!(listed, all);
    // Each component that the source gives to a fault is one of them.
    let mut source = String::new();
    read_all(&root().join("src"), &mut source);
    for place in ["component: \"", ".fault(\""] {
        let named = source.split(place).skip(1);
        let named: Vec<&str> = named.filter_map(|rest| rest.split('"').next()).collect();
        assert!(!named.is_empty(), "{place}");
        for name in named {
            assert!(COMPONENTS.contains(&name), "{name}");
        }
    }
}

#[test]
fn quoted_messages_are_those_of_the_program() {
    let mut source = String::new();
    read_all(&root().join("src"), &mut source);
    read_all(&root().join("systemd"), &mut source);
    for page in [README, SYSTEMD] {
        let rows = page.text.split("## Troubleshooting\n").nth(1).unwrap();
        let rows = rows.split("\n## ").next().unwrap();
        let mut count = 0;
        for row in rows.lines().filter(|row| row.starts_with("| `")) {
            let cell = row.split('|').nth(1).unwrap();
            for message in cell.split('`').skip(1).step_by(2) {
                let is_json = message.starts_with('"');
                let text = message.trim_matches('"').rsplit(':').next().unwrap();
                let text = if is_json { text } else { message };
                assert!(
                    source.contains(text.trim_matches('"')),
                    "{}: the program never prints `{message}`",
                    page.path
                );
                count += 1;
            }
        }
        assert!(count >= 4, "{}: only {count} messages", page.path);
    }
}

/// Appends all files below `folder`. Joins strings that span several lines.
fn read_all(folder: &Path, to: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, to);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let mut parts = text.split("\\\n");
            to.push_str(parts.next().unwrap_or_default());
            parts.for_each(|part| to.push_str(part.trim_start()));
        }
    }
}

#[test]
fn make_targets_exist() {
    let makefile = include_str!("../../../Makefile").lines();
    let targets: BTreeSet<&str> = makefile
        .filter(|line| !line.starts_with(['\t', '.', ' ']))
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .collect();
    for page in PAGES {
        for text in page.spans().iter().chain([&page.shell()]) {
            if text.contains('…') || (text.contains(['\'', '"']) && !text.contains('\n')) {
                continue;
            }
            for words in commands(text).iter().filter(|words| words[0] == "make") {
                let target = words.get(1);
                let is_known = target.is_none_or(|target| targets.contains(target.as_str()));
                assert!(is_known, "{}: {words:?}", page.path);
            }
        }
    }
}

#[test]
fn every_dependency_is_listed() {
    let manifest = include_str!("../../../Cargo.toml");
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let used: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name)
        .collect();
    let page = include_str!("../../README.md");
    let table = page.split("\n## Dependencies\n").nth(1).unwrap();
    let rows = table.lines().filter(|row| row.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let listed: BTreeSet<&str> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(listed, used);
}
