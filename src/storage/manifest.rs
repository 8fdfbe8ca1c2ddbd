//! `manifest.jsonl`, one line for each instance or take, `label_map.json`, the number of each class, and `run.json`,
//! the provenance of the results.

use super::StoreError;
use crate::storage::atomic_file::write_file;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// File with one line for every instance of the metadata, or for every take.
pub const MANIFEST_NAME: &str = "manifest.jsonl";
/// File with the number of each class.
pub const LABEL_MAP_NAME: &str = "label_map.json";
/// File with the provenance of the results.
pub const RUN_NAME: &str = "run.json";

/// One instance of the metadata, or one take, in `manifest.jsonl`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ManifestLine {
    /// The label, as spelled; empty when the metadata gives none.
    pub gloss: String,
    /// Id of the clip; `null` when the metadata gives none.
    pub video_id: Option<String>,
    /// The clip's path in the dataset; absent where it follows from the id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Index within its entry of the metadata; the position of a take.
    pub instance: usize,
    /// Final state, for example `accepted`.
    pub state: &'static str,
    /// Why it was not accepted.
    pub reason: Option<String>,
    /// `train`, `val` or `test`, as in the metadata.
    pub split: String,
    /// Number of the signer, as in the metadata; -1 when unknown.
    pub signer_id: i64,
    /// First frame of the sign, as in the metadata.
    pub frame_start: Option<i64>,
    /// Last frame of the sign, as in the metadata.
    pub frame_end: Option<i64>,
    /// Other columns of the dataset's table, by name; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Value>,
    /// Its position among the processed instances, which the batches are cut from; absent for takes and for instances
    /// that are not processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// Outcome under the other profile, which compares glosses in another way: `state` and `reason`, or `position` of
    /// the kept frames when it is processed. Present when frames are kept and the outcome differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Value>,
    /// What was read of the clip, or what is known of a take; absent when nothing was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<Value>,
    /// Place of its sequence; absent unless accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<ManifestPlace>,
}

/// A row of a batch file.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ManifestPlace {
    /// Number of the batch file.
    pub batch: usize,
    /// Row in that file, from 0.
    pub row: usize,
}

/// Writes `manifest.jsonl` and returns its SHA-256.
pub(crate) fn write_manifest(out: &Path, lines: &[ManifestLine]) -> Result<String, StoreError> {
    write_file(out, MANIFEST_NAME, |file| {
        for line in lines {
            serde_json::to_writer(&mut *file, line)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Writes `label_map.json`: `source`, where the order comes from, and `classes`, the number of each gloss, which is
/// its index in `glosses`. Returns its SHA-256.
pub(crate) fn write_label_map(
    out: &Path,
    source: &str,
    glosses: &[Arc<str>],
) -> Result<String, StoreError> {
    let mut classes = Map::new();
    for (number, gloss) in glosses.iter().enumerate() {
        // The first number of a repeated gloss counts, as in the arrays.
        classes.entry(&**gloss).or_insert_with(|| json!(number));
    }
    let map = json!({"source": source, "classes": classes});
    write_file(out, LABEL_MAP_NAME, |file| {
        serde_json::to_writer_pretty(&mut *file, &map)?;
        file.write_all(b"\n")
    })
}

/// The contents of `run.json` before a run is finished.
///
/// `source` is the key and value of the origin of the frames: `dataset` or `device`. `backend` describes what runs
/// the models, `gstreamer` is its version.
pub(crate) fn provenance(
    run: &str,
    settings: &Value,
    source: (&str, &Value),
    backend: &Value,
    gstreamer: &str,
    started: &Value,
) -> Value {
    let (key, value) = source;
    json!({
        "handloom": env!("CARGO_PKG_VERSION"),
        "run": run,
        "settings": settings,
        key: value,
        "backend": backend,
        "gstreamer": gstreamer,
        "platform": {"arch": std::env::consts::ARCH, "os": std::env::consts::OS},
        "started": started,
        "finished": null,
    })
}

/// Writes `run.json` and returns its SHA-256.
pub(crate) fn write_run(out: &Path, run: &Value) -> Result<String, StoreError> {
    write_file(out, RUN_NAME, |file| {
        serde_json::to_writer_pretty(&mut *file, run)?;
        file.write_all(b"\n")
    })
}
