//! Resolves names: where a path leads, and which file declares what it names.

use crate::scanner::Source;
use std::collections::HashMap;

/// Maps module paths to sources, and imported names to their paths.
pub(crate) struct Index<'a> {
    /// The indexed sources.
    pub(crate) sources: &'a [Source],
    files: HashMap<&'a [String], usize>,
}

impl<'a> Index<'a> {
    /// Indexes `sources`.
    pub(crate) fn new(sources: &'a [Source]) -> Self {
        let files = sources
            .iter()
            .enumerate()
            .map(|(n, source)| (source.module.as_slice(), n));
        Self {
            sources,
            files: files.collect(),
        }
    }

    /// Every import and path of source `n`, spelt from the root: `crate::…` or the name of another crate.
    pub(crate) fn absolute_paths(&self, n: usize) -> impl Iterator<Item = (String, bool)> {
        let source = &self.sources[n];
        let uses = source
            .uses
            .iter()
            .map(move |u| (self.absolute(n, &u.path, 0), u.is_public));
        let paths = source
            .paths
            .iter()
            .map(move |path| (self.absolute(n, path, 0), false));
        uses.chain(paths)
    }

    /// Spells out `path` as written in source `n`: relative to it, to a child, or to an imported name.
    fn absolute(&self, n: usize, path: &str, depth: usize) -> String {
        let module = &self.sources[n].module;
        let (first, rest) = path
            .split_once("::")
            .map_or((path, None), |(first, rest)| (first, Some(rest)));
        let join = |start: String| rest.map_or(start.clone(), |rest| format!("{start}::{rest}"));
        match first {
            "crate" => return path.to_owned(),
            // The program names the library by its crate name.
            "handloom" => return join("crate".to_owned()),
            "self" | "super" => {
                let mut place: Vec<&str> = module.iter().map(String::as_str).collect();
                let mut parts = path.split("::").peekable();
                while let Some(word @ ("self" | "super")) = parts.peek().copied() {
                    if word == "super" {
                        place.pop();
                    }
                    parts.next();
                }
                return ["crate"]
                    .into_iter()
                    .chain(place)
                    .chain(parts)
                    .collect::<Vec<_>>()
                    .join("::");
            }
            _ => {}
        }
        if self
            .file_of(&[module.as_slice(), &[first.to_owned()]].concat())
            .is_some()
        {
            let start = [
                &["crate".to_owned()],
                module.as_slice(),
                &[first.to_owned()],
            ]
            .concat();
            return join(start.join("::"));
        }
        let imported = self.sources[n]
            .uses
            .iter()
            .find(|u| u.name == first && u.path != path);
        match imported {
            Some(import) if depth < 4 => join(self.absolute(n, &import.path, depth + 1)),
            _ => path.to_owned(),
        }
    }

    fn file_of(&self, module: &[String]) -> Option<usize> {
        self.files.get(module).copied()
    }

    /// The source that declares what `path` names, through re-exports; `None` outside this crate.
    pub(crate) fn declared_in(&self, path: &str) -> Option<usize> {
        self.declared(path, 0)
    }

    fn declared(&self, path: &str, depth: usize) -> Option<usize> {
        let mut parts = path.split("::");
        if parts.next() != Some("crate") || depth > 8 {
            return None;
        }
        let mut module = Vec::new();
        while let Some(part) = parts.next() {
            module.push(part.to_owned());
            if self.file_of(&module).is_some() {
                continue;
            }
            module.pop();
            let here = self.file_of(&module)?;
            let import = self.sources[here].uses.iter().find(|u| u.name == part);
            let Some(import) = import else { break };
            let target = [self.absolute(here, &import.path, 0)]
                .into_iter()
                .chain(parts.map(str::to_owned))
                .collect::<Vec<_>>()
                .join("::");
            return self.declared(&target, depth + 1).or(Some(here));
        }
        self.file_of(&module)
    }
}

#[test]
fn a_path_leads_to_the_file_that_declares_the_name() {
    use crate::scanner::parse;
    let sources = [
        parse("lib.rs", "pub mod a; pub mod b;"),
        parse(
            "a/mod.rs",
            "mod c; pub use c::D as E; use crate::b::f; fn g() { f::H::new(); c::I::new() }",
        ),
        parse("a/c.rs", "pub struct D; use super::E;"),
        parse("b/mod.rs", "pub mod f;"),
        parse("b/f.rs", "pub struct H; use crate::a::c::D;"),
    ];
    let index = Index::new(&sources);
    let paths: Vec<_> = index.absolute_paths(1).map(|(path, _)| path).collect();
    assert_eq!(
        paths,
        [
            "crate::a::c::D",
            "crate::b::f",
            "crate::b::f::H::new",
            "crate::a::c::I::new"
        ]
    );
    assert_eq!(index.declared_in("crate::a::E"), Some(2));
    assert_eq!(index.declared_in("crate::a::f::H"), Some(4));
    assert_eq!(index.declared_in("crate::a::g"), Some(1));
    assert_eq!(index.declared_in("crate::Z"), Some(0));
    assert_eq!(index.declared_in("std::fs"), None);
}
