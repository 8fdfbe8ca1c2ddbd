//! The output folder: who may write into it, its manifest and its provenance.

use super::batches::{BATCH_FOLDER, FINAL_NAME};
use super::durable::{StoreError, write_file};
use serde::Serialize;
use serde_json::Value;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// One line for every instance of the metadata.
pub const MANIFEST_NAME: &str = "manifest.jsonl";
/// Provenance.
pub const RUN_NAME: &str = "run.json";

/// One instance of the metadata in `manifest.jsonl`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ManifestLine {
    /// As spelt; empty when the metadata gives none.
    pub gloss: String,
    /// `null` when the metadata gives none.
    pub video_id: Option<String>,
    /// Index within its entry of the metadata.
    pub instance: usize,
    /// Final state.
    pub state: &'static str,
    /// Why not accepted.
    pub reason: Option<String>,
    /// As in the metadata.
    pub split: String,
    /// As in the metadata.
    pub signer_id: i64,
    /// As in the metadata.
    pub frame_start: Option<i64>,
    /// As in the metadata.
    pub frame_end: Option<i64>,
    /// What was read of the clip, unless nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<ManifestClip>,
    /// Where its sequence is, when accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<ManifestPlace>,
}

/// What was read of a clip.
#[derive(Clone, Debug, Serialize)]
pub struct ManifestClip {
    /// Frames by the container's word.
    pub declared_frames: u64,
    /// Frames looked at.
    pub sampled: usize,
    /// Of these, frames with one hand or more.
    pub with_hand: usize,
    /// Of these, frames with two hands.
    pub with_two_hands: usize,
    /// The GStreamer element that decoded.
    pub decoder: Option<String>,
    /// `exact`, or `approximate` where the colour rule is not proven equal to the notebook's.
    pub colour: &'static str,
    /// Why decoding stopped before the end of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped_early: Option<String>,
}

/// A row of a batch file.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ManifestPlace {
    /// Number of the batch file.
    pub batch: usize,
    /// Row in it.
    pub row: usize,
}

/// Makes `out` ready for the job whose settings are `settings`: creates it, refuses it when it holds another job's
/// results and `fresh` is not set, and removes what an earlier run of the same job left.
///
/// # Errors
/// When the folder cannot be written or holds another job's results.
pub fn prepare(out: &Path, settings: &Value, fresh: bool) -> Result<(), StoreError> {
    fs::create_dir_all(out.join(BATCH_FOLDER)).map_err(|source| StoreError::Create {
        path: out.to_path_buf(),
        source,
    })?;
    let run = out.join(RUN_NAME);
    let known = match fs::read(&run) {
        Ok(bytes) => serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|v| v.get("settings").cloned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(StoreError::read(&run)(error)),
    };
    let occupied = known.is_some()
        || leftovers(out)?
            .iter()
            .any(|p| p.extension().is_some_and(|e| e != "part"));
    if occupied && !fresh && known.as_ref() != Some(settings) {
        let difference = known.map_or_else(
            || format!("{RUN_NAME} is missing or unreadable"),
            |k| difference(&k, settings),
        );
        return Err(StoreError::Occupied {
            path: out.to_path_buf(),
            difference,
        });
    }
    for path in leftovers(out)? {
        fs::remove_file(&path).map_err(StoreError::write(&path))?;
    }
    Ok(())
}

/// The first setting that differs, in words.
fn difference(old: &Value, new: &Value) -> String {
    let empty = serde_json::Map::new();
    let (old, new) = (
        old.as_object().unwrap_or(&empty),
        new.as_object().unwrap_or(&empty),
    );
    let key = new
        .keys()
        .chain(old.keys())
        .find(|k| old.get(*k) != new.get(*k));
    key.map_or_else(String::new, |k| {
        let show = |v: Option<&Value>| v.map_or_else(|| "unset".to_owned(), Value::to_string);
        format!("{k} was {}, now {}", show(old.get(k)), show(new.get(k)))
    })
}

/// Whether a file of this name in the batch folder is a batch of ours, or a partial one.
pub(super) fn is_batch_name(name: &str) -> bool {
    let partial = name.strip_prefix('.').and_then(|n| n.strip_suffix(".part"));
    let number = partial.unwrap_or(name).strip_suffix(".npz");
    number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Files of ours in `out`: exact names only, and `run.json`, which says whose they are, last.
fn leftovers(out: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let batches = out.join(BATCH_FOLDER);
    for entry in fs::read_dir(&batches).map_err(StoreError::read(&batches))? {
        let entry = entry.map_err(StoreError::read(&batches))?;
        if is_batch_name(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    for name in [FINAL_NAME, MANIFEST_NAME, RUN_NAME] {
        found.push(out.join(format!(".{name}.part")));
        found.push(out.join(name));
    }
    found.retain(|path| path.is_file());
    Ok(found)
}

/// Writes `manifest.jsonl`.
///
/// # Errors
/// When it cannot be written.
pub fn write_manifest(out: &Path, lines: &[ManifestLine]) -> Result<(), StoreError> {
    write_file(&out.join(MANIFEST_NAME), |file| {
        for line in lines {
            serde_json::to_writer(&mut *file, line)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Writes `run.json`.
///
/// # Errors
/// When it cannot be written.
pub fn write_run(out: &Path, run: &Value) -> Result<(), StoreError> {
    write_file(&out.join(RUN_NAME), |file| {
        serde_json::to_writer_pretty(&mut *file, run)?;
        file.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_same_job_may_come_back_another_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("deep/out");
        let (a, b) = (json!({"stride": 2}), json!({"stride": 3}));
        prepare(&out, &a, false).unwrap();
        write_run(&out, &json!({"settings": a})).unwrap();
        fs::write(out.join("batches/00007.npz"), b"old").unwrap();
        for mine in ["notes.txt", "movie.mp4.part", "batches/mine.npz"] {
            fs::write(out.join(mine), b"mine").unwrap();
        }
        let refused = prepare(&out, &b, false).unwrap_err().to_string();
        assert!(
            refused.contains("stride was 2, now 3") && refused.contains("--fresh"),
            "{refused}"
        );
        assert!(out.join("batches/00007.npz").exists());
        prepare(&out, &a, false).unwrap();
        assert!(!out.join("batches/00007.npz").exists());
        for mine in ["notes.txt", "movie.mp4.part", "batches/mine.npz"] {
            assert!(out.join(mine).exists(), "{mine}");
        }
        fs::write(out.join(FINAL_NAME), b"somebody's").unwrap();
        assert!(matches!(
            prepare(&out, &a, false),
            Err(StoreError::Occupied { .. })
        ));
        prepare(&out, &b, true).unwrap();
        assert!(!out.join(FINAL_NAME).exists());
    }
}
