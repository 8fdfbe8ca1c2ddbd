//! The summary of an output folder: its files, the states of the instances, the rows of its batches.

use crate::dataset::acceptance::State;
use crate::report::ReportError;
use crate::report::output::OutputFolder;
use crate::storage::StoreError;
use crate::storage::batches::{FINAL_NAME, batch_path};
use crate::storage::npz::NpzReader;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// What is in the output folder at `path`, as one object; `joined` is the summary of its joined file.
pub(super) fn inspect_folder(
    path: &Path,
    joined: impl FnOnce(&Path) -> Result<Value, StoreError>,
) -> Result<Value, ReportError> {
    let folder = OutputFolder::open(path)?;
    let mut rows = 0;
    for batch in &folder.batches {
        let mut npz = NpzReader::open(&batch_path(path, *batch))?;
        rows += npz.header("sequences")?.1.first().copied().unwrap_or(0);
    }
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &folder.instances {
        *states.entry(&record.state).or_default() += 1;
    }
    let final_path = path.join(FINAL_NAME);
    let missing = folder.missing_shards();
    let mut summary = json!({
        "folder": path.to_string_lossy(),
        "handloom": folder.run["handloom"],
        "profile": folder.run["settings"]["profile"],
        "is_finished": folder.is_finished,
        "files": files(path).map_err(StoreError::read(path))?,
        "batches": {"files": folder.batches.len(), "sequences": rows},
        "states": states,
        "joined": if final_path.is_file() { joined(&final_path)? } else { Value::Null },
    });
    if !missing.is_empty() {
        summary["missing_shards"] = json!(missing);
    }
    Ok(summary)
}

/// Bytes by name of what lies in the folder; a folder within counts with its files.
fn files(path: &Path) -> std::io::Result<Map<String, Value>> {
    let mut found = BTreeMap::new();
    for entry in path.read_dir()? {
        let entry = entry?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        let mut bytes = entry.metadata()?.len();
        if entry.file_type()?.is_dir() {
            name.push('/');
            bytes = 0;
            for inner in entry.path().read_dir()? {
                bytes += inner?.metadata()?.len();
            }
        }
        found.insert(name, json!(bytes));
    }
    Ok(found.into_iter().collect())
}

/// The summary as text.
pub(super) fn folder_table(summary: &Value) -> String {
    let text = |key: &str| summary[key].as_str().unwrap_or("-").to_owned();
    let is_finished = summary["is_finished"] == true;
    let missing = summary["missing_shards"].as_array().into_iter().flatten();
    let missing: Vec<&str> = missing.filter_map(Value::as_str).collect();
    let state = if !is_finished {
        "not finished: run the job again, it resumes".to_owned()
    } else if missing.is_empty() {
        "finished".to_owned()
    } else {
        format!(
            "without the shards {}: make them and merge again",
            missing.join(", ")
        )
    };
    let mut out = format!("{}\n", text("folder"));
    // Writing to a String cannot fail.
    writeln!(
        out,
        "  handloom {}, profile {}, {state}",
        text("handloom"),
        text("profile")
    )
    .ok();
    for (name, bytes) in summary["files"].as_object().into_iter().flatten() {
        writeln!(
            out,
            "  {name:<22} {:>12} bytes",
            bytes.as_u64().unwrap_or(0)
        )
        .ok();
    }
    let (files, rows) = (
        &summary["batches"]["files"],
        &summary["batches"]["sequences"],
    );
    writeln!(out, "  batches/ has {files} files with {rows} sequences").ok();
    for (name, count) in summary["states"].as_object().into_iter().flatten() {
        let meaning = State::from_name(name).map_or("", State::meaning);
        writeln!(
            out,
            "  {name:<13}{:>9}  {meaning}",
            count.as_u64().unwrap_or(0)
        )
        .ok();
    }
    out
}
