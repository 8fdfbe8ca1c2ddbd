//! The output folder: which job may write into it, and what a mirror of it holds.

mod opening;

use super::batches::{BATCH_FOLDER, FINAL_NAME, batch_name};
use super::frames_file::frames_name;
use super::ledger::{JobIdentity, Ledger};
use super::manifest::{LABEL_MAP_NAME, MANIFEST_NAME, RUN_NAME};
use super::mirror::{Listed, Listing};
use super::part_file::{FRAMES_FOLDER, PARTS_FOLDER, is_part_name};
use crate::shard::ShardIndex;
use crate::shard::record::SHARD_NAME;
use crate::storage::StoreError;
use crate::storage::atomic_file::{file_of_partial, read_plain, refuse_link, sync_folder};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

pub(crate) use opening::{open, open_any};

/// How an output folder that already holds results is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Resume the same job; refuse the results of another one.
    Resume,
    /// Start over; replace all results.
    Fresh,
    /// Like `Resume`, but adopt a dataset whose content has changed.
    Rescan,
}

/// What an output folder held when it was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The folder had no results of this job.
    New,
    /// The folder had some or all results of this job.
    Resumed,
    /// Results of the same settings over a dataset with other content. The ledger still has the positions of the old
    /// plan.
    Rescan,
}

/// Key of `run.json`: the shards that the results were joined from.
pub(crate) const MERGED: &str = "merged";

/// Refuses joined shards, which no job can resume.
fn refuse_merged(out: &Path) -> Result<(), StoreError> {
    if run_of(out)?.is_some_and(|run| run[MERGED].is_object()) {
        let path = out.to_path_buf();
        return Err(StoreError::Merged { path });
    }
    Ok(())
}

/// The folder with the shards of a job, for `handloom merge`: `out`, or its parent when `out` is a shard. `None`
/// without shards.
pub(crate) fn shards_in(out: &Path) -> Option<PathBuf> {
    if out.join(SHARD_NAME).exists() {
        let above = out.parent().filter(|above| !above.as_os_str().is_empty());
        return Some(above.unwrap_or(Path::new(".")).to_path_buf());
    }
    let mut entries = out.read_dir().ok()?.flatten();
    let has_shard = entries.any(|entry| {
        let name = entry.file_name();
        name.to_str().and_then(ShardIndex::of_folder).is_some()
    });
    has_shard.then(|| out.to_path_buf())
}

/// The folder `named` by the user, which may be a link, or else the folder `name` in `out`, which may not.
pub(crate) fn folder_within(
    out: &Path,
    name: &str,
    named: Option<&Path>,
) -> Result<PathBuf, StoreError> {
    if let Some(named) = named {
        return Ok(named.to_path_buf());
    }
    let path = out.join(name);
    refuse_link(&path)?;
    Ok(path)
}

/// Settings that depend on the dataset alone. `shard` holds the plan's hash; its numbers are also in the folder's
/// name.
const DATASET_KEYS: [&str; 4] = ["metadata_sha256", "clips_sha256", "glosses_sha256", "shard"];

/// Makes the open folder `out` belong to `job`: begins the job or resumes it. A new job has its settings in the
/// ledger before earlier results are removed.
///
/// # Errors
/// Fails when the folder holds the results of another job and `mode` refuses them, or when it cannot be written.
pub(crate) fn claim(
    out: &Path,
    ledger: &mut Ledger,
    job: &JobIdentity,
    mode: OpenMode,
) -> Result<ClaimOutcome, StoreError> {
    let other = other_job(out, Some(ledger), |_| job.settings.clone())?;
    if mode != OpenMode::Fresh {
        match other {
            Some(StoreError::Occupied {
                is_dataset: true, ..
            }) if mode == OpenMode::Rescan => return Ok(ClaimOutcome::Rescan),
            Some(error) => return Err(error),
            None if ledger.job()?.is_some() => {
                let parts = ledger.part_names()?;
                let is_known = |path: &Path| {
                    let name = path.file_name().and_then(OsStr::to_str);
                    name.is_some_and(|name| parts.contains(name))
                };
                let mut partial = result_files(out)?;
                partial.retain(|path| !is_result(path) && !is_known(path));
                remove(&partial)?;
                return Ok(ClaimOutcome::Resumed);
            }
            None => {}
        }
    }
    ledger.begin_job(job)?;
    remove(&result_files(out)?)?;
    Ok(ClaimOutcome::New)
}

/// The error with which [`claim`] would refuse the results in `out`: their settings are unknown, or differ from those
/// that `settings` returns for them.
pub(crate) fn other_job(
    out: &Path,
    ledger: Option<&Ledger>,
    settings: impl FnOnce(&Value) -> Value,
) -> Result<Option<StoreError>, StoreError> {
    let (known, is_ours) = known_settings(out, ledger)?;
    if !is_ours && let Err(error) = refuse_merged(out) {
        return Ok(Some(error));
    }
    let (difference, is_dataset) = match known {
        Some(known) => {
            let settings = settings(&known);
            if known == settings {
                return Ok(None);
            }
            let (difference, is_dataset) = difference(&known, &settings);
            (difference, is_dataset && is_ours)
        }
        None if has_results(out)? => (format!("{RUN_NAME} is missing or unreadable"), false),
        None => return Ok(None),
    };
    let path = out.to_path_buf();
    Ok(Some(StoreError::Occupied {
        path,
        difference,
        is_dataset,
    }))
}

/// The settings of the results in `out`; `None` when there are none. It only reads, also while another process works
/// there, unless a process that worked there was interrupted.
pub(crate) fn recorded_settings(out: &Path) -> Result<Option<Value>, StoreError> {
    let ledger = match Ledger::open_read_only(out) {
        // Only a writer can undo the changes of an interrupted process.
        Err(error) if error.needs_recovery() => Some(open(out, OpenMode::Resume)?.1),
        opened => opened?,
    };
    Ok(known_settings(out, ledger.as_ref())?.0)
}

/// The settings in the ledger or in `run.json`, and whether they are in the ledger.
fn known_settings(
    out: &Path,
    ledger: Option<&Ledger>,
) -> Result<(Option<Value>, bool), StoreError> {
    Ok(match ledger.map_or(Ok(None), Ledger::job)? {
        Some(job) => (Some(job.settings), true),
        None => (settings_of_run(out)?, false),
    })
}

/// The settings in `run.json`, for a folder whose ledger has none.
fn settings_of_run(out: &Path) -> Result<Option<Value>, StoreError> {
    Ok(run_of(out)?.and_then(|run| run.get("settings").cloned()))
}

/// The content of `run.json`; `None` when it is missing or is no JSON.
pub(crate) fn run_of(out: &Path) -> Result<Option<Value>, StoreError> {
    let run = out.join(RUN_NAME);
    match read_plain(&run) {
        Ok(bytes) => Ok(serde_json::from_slice::<Value>(&bytes).ok()),
        // No such file can exist here. An error in the path is reported when the folder is made.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(StoreError::read(&run)(error)),
    }
}

/// Removes the files that an earlier job over more clips left: batch files except those with the numbers `batches`,
/// the joined file unless this job `has_final`, and kept frames except the files `frames`.
pub(crate) fn prune(
    out: &Path,
    batches: impl Iterator<Item = usize>,
    has_final: bool,
    frames: impl Iterator<Item = String>,
) -> Result<(), StoreError> {
    let names = [MANIFEST_NAME, LABEL_MAP_NAME, RUN_NAME].into_iter();
    let names = names.chain(has_final.then_some(FINAL_NAME));
    let names = names.map(str::to_owned).chain(batches.map(batch_name));
    let names = names.chain(frames);
    let kept: BTreeSet<PathBuf> = names.map(|name| out.join(name)).collect();
    let mut old = result_files(out)?;
    old.retain(|path| !kept.contains(path));
    remove(&old)
}

/// The files that a mirror of the output folder of `ledger` holds: the sealed batches with their kept frames, and
/// after a close the joined file, manifest and provenance. After a close that is everything.
pub(crate) fn mirrored(ledger: &Ledger) -> Result<Listing, StoreError> {
    let sealed = ledger.sealed()?.into_iter();
    let mut files: Vec<Listed> = sealed
        .flat_map(|(number, sealed)| {
            let frames = sealed
                .frames_sha256
                .map(|sha256| (frames_name(number), sha256));
            [Some((batch_name(number), sealed.sha256)), frames]
        })
        .flatten()
        .collect();
    let closed = ledger.closed()?;
    let is_all = closed.is_some();
    let mut closed = closed.unwrap_or_default();
    let names = [
        FINAL_NAME,
        MANIFEST_NAME,
        LABEL_MAP_NAME,
        RUN_NAME,
        SHARD_NAME,
    ];
    let closed = names.map(|name| closed.remove_entry(name));
    files.extend(closed.into_iter().flatten());
    let identity = ledger.identity()?;
    Ok(Listing {
        identity,
        files,
        is_all,
    })
}

/// Removes `files` durably, because a file that reappears after a power cut would count as a result.
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

/// Fails when `out` has results that the ledger does not know, as a copy of a mirror or a folder that lost its ledger
/// has.
pub(crate) fn refuse_unknown(out: &Path, ledger: Option<&Ledger>) -> Result<(), StoreError> {
    let job = ledger.map_or(Ok(None), Ledger::job)?;
    if job.is_none() && has_results(out)? {
        let path = out.to_path_buf();
        return Err(StoreError::Unknown { path });
    }
    Ok(())
}

/// The first setting that differs, as text for users, and whether only the content of the dataset differs.
fn difference(old: &Value, new: &Value) -> (String, bool) {
    if let Some((key, [old, new])) = different_setting(old, new) {
        return (format!("{key} was {old}, now {new}"), false);
    }
    let change = "the dataset has changed; how is not known, because the ledger is missing";
    (change.to_owned(), true)
}

/// The first setting that differs, with its values in both. `None` when only the content of the dataset differs.
pub(crate) fn different_setting<'a>(
    one: &'a Value,
    other: &'a Value,
) -> Option<(&'a str, [String; 2])> {
    let keys = [other, one].into_iter().filter_map(Value::as_object);
    let mut keys = keys.flat_map(|map| map.keys().map(String::as_str));
    // A changed option selects other clips: the option is the cause.
    let key = keys.find(|k| one.get(k) != other.get(k) && !DATASET_KEYS.contains(k))?;
    let show = |v: Option<&Value>| v.map_or_else(|| "unset".to_owned(), Value::to_string);
    Some((key, [one, other].map(|settings| show(settings.get(key)))))
}

/// Whether `name` is the file name of a batch.
fn is_batch_name(name: &str) -> bool {
    let number = name.strip_suffix(".npz");
    number.is_some_and(|n| n.len() >= 5 && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The numbers of the batch files in `out`, in order.
pub(crate) fn batch_numbers(out: &Path) -> Result<BTreeSet<usize>, StoreError> {
    let files = files_of(&out.join(BATCH_FOLDER), is_batch_name)?;
    let whole = files.iter().filter(|path| is_result(path));
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse().ok();
    Ok(whole.filter_map(number).collect())
}

/// Whether `path` is a complete result file and not a partial file.
pub(super) fn is_result(path: &Path) -> bool {
    path.extension().is_some_and(|e| e != "part")
}

fn has_results(out: &Path) -> Result<bool, StoreError> {
    Ok(result_files(out)?.iter().any(|path| is_result(path)))
}

/// The results in `out` and their partial files, by exact names. `run.json`, which names their job, comes last.
pub(super) fn result_files(out: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let batches = out.join(BATCH_FOLDER);
    // Files behind a link may belong to someone else and must not be removed.
    refuse_link(&batches)?;
    let mut found = files_of(&batches, is_batch_name)?;
    for (folder, is_ours) in [
        (FRAMES_FOLDER, is_batch_name as fn(&str) -> bool),
        (PARTS_FOLDER, is_part_name),
    ] {
        let folder = out.join(folder);
        refuse_link(&folder)?;
        found.extend(files_of(&folder, is_ours)?);
    }
    for name in [
        SHARD_NAME,
        FINAL_NAME,
        MANIFEST_NAME,
        LABEL_MAP_NAME,
        RUN_NAME,
    ] {
        let mut files = files_of(out, |found| found == name)?;
        files.sort();
        found.extend(files);
    }
    Ok(found)
}

/// Whether two folders are the same or one is in the other, with links resolved. They need not exist.
pub(crate) fn overlap(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        whole.components().fold(PathBuf::new(), |mut real, part| {
            // Links are resolved: `..` leads to the folder above the target.
            if part == Component::ParentDir {
                real.pop();
            } else {
                real.push(part);
            }
            real.canonicalize().unwrap_or(real)
        })
    };
    let (one, other) = (real(one), real(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// The files in `folder` that `is_ours` accepts by name, and their partial files.
pub(super) fn files_of(
    folder: &Path,
    is_ours: impl Fn(&str) -> bool,
) -> Result<Vec<PathBuf>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(StoreError::read(folder))?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut found = paths.map_err(StoreError::read(folder))?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_ours(file_of_partial(&name).unwrap_or(&name)) && path.is_file()
    });
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ledger::LEDGER_NAME;
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
            prune(&out, 0..batches, has_final, std::iter::empty()).unwrap();
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
    fn joined_shards_are_replaced_on_demand_alone() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path();
        let a = json!({"stride": 2});
        write_run(out, &json!({"settings": a, MERGED: {"count": 2}})).unwrap();
        for mode in [OpenMode::Resume, OpenMode::Rescan] {
            let refused = enter(out, &a, mode).unwrap_err();
            assert!(matches!(refused, StoreError::Merged { .. }), "{refused}");
            let other = other_job(out, None, Value::clone).unwrap();
            assert!(matches!(other, Some(StoreError::Merged { .. })));
        }
        assert_eq!(fs::read_dir(out).unwrap().count(), 1);
        assert_eq!(enter(out, &a, OpenMode::Fresh).unwrap(), ClaimOutcome::New);
        assert_eq!(
            enter(out, &a, OpenMode::Resume).unwrap(),
            ClaimOutcome::Resumed
        );
    }

    #[test]
    fn a_folder_of_ours_may_be_no_link_and_one_that_is_named_may() {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let out = dir.path();
        let within = |named| folder_within(out, "camera", named);
        assert_eq!(within(None).unwrap(), out.join("camera"));
        std::os::unix::fs::symlink(other.path(), out.join("camera")).unwrap();
        let error = within(None).unwrap_err();
        assert!(matches!(error, StoreError::Link { .. }), "{error}");
        let named = out.join("camera");
        assert_eq!(within(Some(&named)).unwrap(), named);
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
