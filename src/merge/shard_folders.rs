//! The folders of shards: finds them, reads their `shard.json`, and names the commands that make them again.

use super::{MergeError, MergeEvent};
use crate::shard::ShardIndex;
use crate::shard::record::{RecordError, SHARD_NAME, ShardRecord};
use crate::storage::StoreError;
use crate::storage::atomic_file::open_plain;
use crate::storage::manifest::RUN_NAME;
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The folders of the complete shards in `paths`, each once. A path is the folder of a shard, or a folder that holds
/// such.
pub(super) fn folders(
    paths: &[PathBuf],
    is_partial: bool,
    report: &mut dyn FnMut(MergeEvent<'_>),
) -> Result<Vec<PathBuf>, MergeError> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut known: Vec<PathBuf> = Vec::new();
    let mut add = |folder: PathBuf, found: &mut Vec<PathBuf>| {
        let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        if known.contains(&real) {
            report(MergeEvent::Warning(format!(
                "{} is given twice: it is used once",
                folder.display()
            )));
            return;
        }
        known.push(real);
        found.push(folder);
    };
    for path in paths {
        if path.join(SHARD_NAME).symlink_metadata().is_ok() || shard_of(path).is_some() {
            add(path.clone(), &mut found);
            continue;
        }
        let entries = path.read_dir().map_err(StoreError::read(path))?;
        let entries = entries.map(|entry| entry.map(|entry| entry.path()));
        let entries = entries.collect::<Result<Vec<_>, _>>();
        let mut within = entries.map_err(StoreError::read(path))?;
        within.retain(|path| shard_of(path).is_some());
        within.sort();
        if within.is_empty() {
            return Err(MergeError::NoShard { path: path.clone() });
        }
        for path in within {
            add(path, &mut found);
        }
    }
    let mut whole = Vec::new();
    for folder in found {
        if folder.join(SHARD_NAME).symlink_metadata().is_ok() {
            whole.push(folder);
        } else if is_partial {
            report(MergeEvent::Warning(format!(
                "{} has no {SHARD_NAME}, so its shard is not whole: it is left out",
                folder.display()
            )));
        } else {
            let fix = shard_of(&folder).map(|shard| fix(&Value::Null, &folder, shard));
            return Err(MergeError::NotWhole {
                path: folder,
                fix: fix.unwrap_or_default(),
            });
        }
    }
    Ok(whole)
}

/// The shard that the name of the folder `path` stands for; `None` when it is not the name of a shard's folder.
pub(super) fn shard_of(path: &Path) -> Option<ShardIndex> {
    ShardIndex::of_folder(path.file_name()?.to_str()?)
}

pub(super) fn read_record(folder: &Path) -> Result<ShardRecord, MergeError> {
    let path = folder.join(SHARD_NAME);
    let mut bytes = Vec::new();
    let read = open_plain(&path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(StoreError::read(&path))?;
    ShardRecord::parse(&bytes).map_err(|error| {
        let fix = match (&error, shard_of(folder)) {
            (RecordError::Newer { .. }, _) | (_, None) => String::new(),
            (_, Some(shard)) => {
                let fix = fix(&Value::Null, folder, shard);
                format!("; copy the folder of the shard again, or remove it and {fix}")
            }
        };
        MergeError::BadRecord { path, error, fix }
    })
}

/// Instructions to make `shard` again in the folder `folder`. `run` is the `run.json` of a shard.
pub(super) fn fix(run: &Value, folder: &Path, shard: ShardIndex) -> String {
    let dataset = run["dataset"]["path"].as_str().unwrap_or("DATASET");
    let out = folder.parent().filter(|out| !out.as_os_str().is_empty());
    let out = out.unwrap_or(Path::new(".")).display();
    format!(
        "run `handloom process {dataset} --out {out} --shard {shard}` with the other flags of the job"
    )
}

/// Instructions to make the missing `shard`. `folder` is that of another shard.
pub(super) fn fix_of_missing(run: &Value, folder: &Path, shard: ShardIndex) -> String {
    let fix = fix(run, folder, shard);
    let prefix = format!(".{}.", shard.folder());
    let beside = folder.parent().map(Path::read_dir).into_iter().flatten();
    let mut names = beside.flatten().flatten().map(|entry| entry.file_name());
    let begun = names.any(|name| name.to_string_lossy().starts_with(&prefix));
    let begun = if begun {
        "; this continues an attempt that has begun"
    } else {
        ""
    };
    let run = folder.join(RUN_NAME);
    let run = run.display();
    format!(
        "{fix}, whose settings are in {run}{begun}; `handloom merge OUT SHARD --partial` joins what is there"
    )
}
