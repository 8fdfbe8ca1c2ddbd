//! The output folder: which job may write into it, and what a mirror of it holds.

use super::batches::{BATCH_FOLDER, FINAL_NAME, batch_name};
use super::ledger::{JobIdentity, LEDGER_NAME, Ledger};
use super::lock::FolderLock;
use super::manifest::{MANIFEST_NAME, RUN_NAME};
use super::mirror::{Listed, Listing};
use crate::storage::atomic_file::{StoreError, file_sha256, make_folder, sync_folder};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How an output folder that already holds results is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Resume the same job; refuse the results of another one.
    Resume,
    /// Start over; replace all results.
    Fresh,
    /// As `Resume`, and adopt a dataset whose content has changed.
    Rescan,
}

/// What an output folder held when it was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// Nothing of this job.
    New,
    /// A part of it, or all of it.
    Resumed,
    /// Results of the same settings over a dataset with other content. The ledger still has the positions of the old plan.
    Rescan,
}

/// Opens `out` for this process alone and creates it when it is missing.
///
/// # Errors
/// When it cannot be made, another process works in it or its ledger cannot be used. A damaged ledger is replaced when
/// `mode` is [`OpenMode::Fresh`].
pub fn open(out: &Path, mode: OpenMode) -> Result<(FolderLock, Ledger), StoreError> {
    make_folder(&out.join(BATCH_FOLDER)).map_err(|error| match error {
        StoreError::Create { source, .. } => StoreError::Create {
            path: out.to_path_buf(),
            source,
        },
        error => error,
    })?;
    let lock = FolderLock::take(out)?;
    let mut ledger = match Ledger::open(out) {
        Err(StoreError::BadLedger { .. }) if mode == OpenMode::Fresh => {
            for suffix in ["-wal", "-shm", ""] {
                let path = out.join(format!("{LEDGER_NAME}{suffix}"));
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(StoreError::write(&path)(error));
                    }
                    _ => {}
                }
            }
            Ledger::open(out)?
        }
        opened => opened?,
    };
    ledger.ensure_identity()?;
    // A killed process may have renamed or removed files here without a sync. From now on that counts, so it is synced.
    for name in [LEDGER_NAME.to_owned(), batch_name(0)] {
        sync_folder(&out.join(name)).map_err(StoreError::write(out))?;
    }
    Ok((lock, ledger))
}

/// Settings that depend on the dataset alone.
const DATASET_KEYS: [&str; 3] = ["metadata_sha256", "clips_sha256", "glosses_sha256"];

/// Makes the open folder `out` belong to `job`: begins the job or resumes it. A new job has its settings in the ledger
/// before earlier results are removed.
///
/// # Errors
/// When the folder holds the results of another job and `mode` refuses them, or when it cannot be written.
pub fn claim(
    out: &Path,
    ledger: &mut Ledger,
    job: &JobIdentity,
    mode: OpenMode,
) -> Result<ClaimOutcome, StoreError> {
    let known = match ledger.job()? {
        Some(known) => Some(known.settings),
        None => settings_of_run(out)?,
    };
    let is_ours = ledger.job()?.is_some();
    let is_same = known.as_ref() == Some(&job.settings);
    if is_ours && is_same && mode != OpenMode::Fresh {
        let mut partial = leftovers(out)?;
        partial.retain(|p| p.extension().is_some_and(|e| e == "part"));
        remove(&partial)?;
        return Ok(ClaimOutcome::Resumed);
    }
    let is_occupied = known.is_some() || leftovers(out)?.iter().any(|p| is_result(p));
    if is_occupied && !is_same && mode != OpenMode::Fresh {
        let occupied = occupied(out, is_ours, known.as_ref(), &job.settings);
        if matches!(
            occupied,
            StoreError::Occupied {
                is_dataset: true,
                ..
            }
        ) && mode == OpenMode::Rescan
        {
            return Ok(ClaimOutcome::Rescan);
        }
        return Err(occupied);
    }
    ledger.begin_job(job)?;
    remove(&leftovers(out)?)?;
    Ok(ClaimOutcome::New)
}

/// The results that [`claim`] would refuse: those of other settings than `settings` makes of theirs, or of unknown
/// settings.
///
/// # Errors
/// When the folder or the ledger cannot be read.
pub fn other_job(
    out: &Path,
    ledger: Option<&Ledger>,
    settings: impl FnOnce(&Value) -> Value,
) -> Result<Option<StoreError>, StoreError> {
    let job = ledger.map_or(Ok(None), Ledger::job)?;
    let is_ours = job.is_some();
    let known = match job {
        Some(job) => Some(job.settings),
        None => settings_of_run(out)?,
    };
    let Some(known) = known else {
        let is_occupied = leftovers(out)?.iter().any(|p| is_result(p));
        return Ok(is_occupied.then(|| occupied(out, false, None, &Value::Null)));
    };
    let settings = settings(&known);
    Ok((known != settings).then(|| occupied(out, is_ours, Some(&known), &settings)))
}

/// The error that the results of another job, with the settings `known`, block one with `settings`.
fn occupied(out: &Path, is_ours: bool, known: Option<&Value>, settings: &Value) -> StoreError {
    StoreError::Occupied {
        path: out.to_path_buf(),
        difference: known.map_or_else(
            || format!("{RUN_NAME} is missing or unreadable"),
            |known| difference(known, settings),
        ),
        is_dataset: is_ours && known.is_some_and(|known| is_same_but_dataset(known, settings)),
    }
}

/// The settings in `run.json`, for a folder whose ledger has none.
fn settings_of_run(out: &Path) -> Result<Option<Value>, StoreError> {
    let run = out.join(RUN_NAME);
    match fs::read(&run) {
        Ok(bytes) => Ok(serde_json::from_slice::<Value>(&bytes)
            .ok()
            .and_then(|v| v.get("settings").cloned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::read(&run)(error)),
    }
}

fn is_same_but_dataset(old: &Value, new: &Value) -> bool {
    let strip = |v: &Value| {
        let mut v = v.clone();
        if let Some(map) = v.as_object_mut() {
            map.retain(|key, _| !DATASET_KEYS.contains(&key.as_str()));
        }
        v
    };
    strip(old) == strip(new)
}

/// Removes the files that an earlier job over more clips left: batch files from number `batches` on, and the joined
/// file unless this job `has_final`.
///
/// # Errors
/// When a file cannot be removed.
pub fn prune(out: &Path, batches: usize, has_final: bool) -> Result<(), StoreError> {
    let mut old = leftovers(out)?;
    old.retain(|path| {
        let number = path
            .file_stem()
            .and_then(|s| s.to_str())
            .and_then(|s| s.parse::<usize>().ok());
        let is_batch = path.parent().is_some_and(|p| p.ends_with(BATCH_FOLDER));
        let is_final = path.file_name().is_some_and(|n| n == FINAL_NAME);
        (is_batch && number.is_some_and(|n| n >= batches)) || (is_final && !has_final)
    });
    remove(&old)
}

/// The files that a mirror of `out` holds: the sealed batches, and after a close the joined file, manifest and
/// provenance. After a close that is everything.
///
/// # Errors
/// When the ledger fails or a file cannot be read.
pub fn mirrored(out: &Path, ledger: &Ledger) -> Result<Listing, StoreError> {
    let sealed = ledger.sealed()?.into_iter();
    let mut files: Vec<Listed> = sealed
        .map(|(number, sealed)| (batch_name(number), sealed.sha256))
        .collect();
    let last = ledger.metadata("final")?;
    let is_all = last.is_some();
    if let Some(sha256) = last {
        if !sha256.is_empty() {
            files.push((FINAL_NAME.to_owned(), sha256));
        }
        for name in [MANIFEST_NAME, RUN_NAME] {
            files.push((name.to_owned(), file_sha256(&out.join(name))?));
        }
    }
    let identity = ledger.identity()?;
    Ok(Listing {
        identity,
        files,
        is_all,
    })
}

/// Removes `files` durably. One that came back after a power cut would be taken for a result.
fn remove(files: &[PathBuf]) -> Result<(), StoreError> {
    for path in files {
        fs::remove_file(path).map_err(StoreError::write(path))?;
    }
    let one_per_folder: BTreeMap<_, _> = files.iter().map(|p| (p.parent(), p)).collect();
    for path in one_per_folder.into_values() {
        sync_folder(path).map_err(StoreError::write(path))?;
    }
    Ok(())
}

/// Refuses `out` when it has results that the ledger does not know: a copy of a mirror, or a folder that lost its ledger.
///
/// # Errors
/// [`StoreError::Unknown`] then; when the folder or the ledger cannot be read.
pub fn refuse_unknown(out: &Path, ledger: Option<&Ledger>) -> Result<(), StoreError> {
    let job = ledger.map_or(Ok(None), Ledger::job)?;
    if job.is_none() && leftovers(out)?.iter().any(|p| is_result(p)) {
        let path = out.to_path_buf();
        return Err(StoreError::Unknown { path });
    }
    Ok(())
}

/// The first setting that differs, for people.
fn difference(old: &Value, new: &Value) -> String {
    let empty = serde_json::Map::new();
    let (old, new) = (
        old.as_object().unwrap_or(&empty),
        new.as_object().unwrap_or(&empty),
    );
    let is_other = |k: &&String| old.get(*k) != new.get(*k);
    let keys = || new.keys().chain(old.keys()).filter(is_other);
    // A changed option selects other clips: the option is the cause.
    let key = keys().find(|k| !DATASET_KEYS.contains(&k.as_str()));
    let key = key.or_else(|| keys().next());
    key.map_or_else(String::new, |k| {
        let show = |v: Option<&Value>| v.map_or_else(|| "unset".to_owned(), Value::to_string);
        format!("{k} was {}, now {}", show(old.get(k)), show(new.get(k)))
    })
}

/// Whether `name` in the batch folder is a batch file, or a partial one.
pub(super) fn is_batch_name(name: &str) -> bool {
    let partial = name.strip_prefix('.').and_then(|n| n.strip_suffix(".part"));
    let number = partial.unwrap_or(name).strip_suffix(".npz");
    number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether `path` is a complete file.
fn is_result(path: &Path) -> bool {
    path.extension().is_some_and(|e| e != "part")
}

/// The results in `out`, by exact names. `run.json`, which says whose they are, comes last.
fn leftovers(out: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut found = Vec::new();
    let batches = out.join(BATCH_FOLDER);
    let entries = match fs::read_dir(&batches) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        entries => Some(entries.map_err(StoreError::read(&batches))?),
    };
    for entry in entries.into_iter().flatten() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::manifest::write_run;
    use serde_json::json;

    fn job(settings: &Value) -> JobIdentity {
        JobIdentity {
            settings: settings.clone(),
            run: "r".into(),
        }
    }

    fn enter(out: &Path, settings: &Value, mode: OpenMode) -> Result<ClaimOutcome, StoreError> {
        let (_lock, mut ledger) = open(out, mode)?;
        claim(out, &mut ledger, &job(settings), mode)
    }

    #[test]
    fn the_same_job_may_come_back_another_may_not() {
        use OpenMode::{Fresh, Rescan, Resume};
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("deep/out");
        let (a, b) = (
            json!({"stride": 2, "clips_sha256": "x"}),
            json!({"stride": 3, "clips_sha256": "x"}),
        );
        let moved = json!({"stride": 2, "clips_sha256": "y"});
        assert_eq!(enter(&out, &a, Resume).unwrap(), ClaimOutcome::New);
        fs::write(out.join("batches/00007.npz"), b"old").unwrap();
        for mine in ["notes.txt", "movie.mp4.part", "batches/mine.npz"] {
            fs::write(out.join(mine), b"mine").unwrap();
        }
        fs::write(out.join("batches/.00008.npz.part"), b"half").unwrap();
        for mode in [Resume, Rescan] {
            let refused = enter(&out, &b, mode).unwrap_err();
            assert!(
                matches!(&refused, StoreError::Occupied { difference, is_dataset: false, .. } if difference == "stride was 2, now 3"),
                "{refused}"
            );
        }
        assert!(matches!(
            enter(&out, &moved, Resume),
            Err(StoreError::Occupied {
                is_dataset: true,
                ..
            })
        ));
        assert_eq!(enter(&out, &moved, Rescan).unwrap(), ClaimOutcome::Rescan);
        assert!(out.join("batches/00007.npz").exists());
        assert_eq!(enter(&out, &a, Resume).unwrap(), ClaimOutcome::Resumed);
        assert!(out.join("batches/00007.npz").exists());
        assert!(!out.join("batches/.00008.npz.part").exists());
        fs::write(out.join(FINAL_NAME), b"old").unwrap();
        for (batches, has_final, left) in [(8, true, true), (7, true, false), (7, false, false)] {
            prune(&out, batches, has_final).unwrap();
            assert_eq!(out.join("batches/00007.npz").exists(), left);
            assert_eq!(out.join(FINAL_NAME).exists(), has_final);
        }
        assert_eq!(enter(&out, &a, Fresh).unwrap(), ClaimOutcome::New);
        for mine in ["notes.txt", "movie.mp4.part", "batches/mine.npz"] {
            assert!(out.join(mine).exists(), "{mine}");
        }
    }

    #[test]
    fn results_without_a_ledger_belong_to_their_settings() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let (a, b) = (json!({"stride": 2}), json!({"stride": 3}));
        write_run(out, &json!({"settings": a})).unwrap();
        fs::write(out.join(FINAL_NAME), b"old").unwrap();
        assert!(matches!(
            enter(out, &b, OpenMode::Resume),
            Err(StoreError::Occupied { .. })
        ));
        assert!(out.join(FINAL_NAME).exists());
        assert_eq!(enter(out, &a, OpenMode::Resume).unwrap(), ClaimOutcome::New);
        assert!(!out.join(FINAL_NAME).exists());
    }

    #[test]
    fn a_damaged_ledger_is_replaced_on_demand_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let a = json!({"stride": 2});
        enter(out, &a, OpenMode::Resume).unwrap();
        fs::write(out.join(LEDGER_NAME), "scrambled".repeat(500)).unwrap();
        assert!(matches!(
            enter(out, &a, OpenMode::Resume),
            Err(StoreError::BadLedger { .. })
        ));
        assert_eq!(enter(out, &a, OpenMode::Fresh).unwrap(), ClaimOutcome::New);
    }
}
