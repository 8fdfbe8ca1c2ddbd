//! The list of the files of a mirror, in the format of `sha256sum -c`.

use std::collections::BTreeMap;
use std::path::{Component, Path};

/// Name of the list, which `sha256sum` can check.
pub const SUMS_NAME: &str = "SHA256SUMS";

/// Name relative to both folders, with `/`, and SHA-256 in lower-case hex.
pub type Listed = (String, String);

/// A path that stays below a folder, on one line of the list.
pub(super) fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    !name.is_empty()
        && !name.contains(['\n', '\r', '\\'])
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Names and hashes of a list. Other lines are ignored.
pub(super) fn parse(sums: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(sums);
    let lines = text.lines().filter_map(|line| {
        let (sha256, name) = line.split_once("  ").or_else(|| line.split_once(" *"))?;
        let is_hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_hexdigit());
        (is_hex && is_plain(name)).then(|| (name.to_owned(), sha256.to_owned()))
    });
    lines.collect()
}

/// The list of the `files` that are in place and of those that are `kept`.
pub(super) fn render(files: &[Listed], in_place: &[bool], kept: &[Listed]) -> String {
    let there = files.iter().zip(in_place).filter(|(_, is)| **is);
    let lines = there.map(|(file, _)| file).chain(kept);
    let lines = lines.map(|(name, sha256)| format!("{sha256}  {name}\n"));
    lines.collect::<Vec<_>>().concat()
}
