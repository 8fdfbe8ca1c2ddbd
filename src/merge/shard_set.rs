//! The shards of one job. They are found and compared, and each is present once.

use super::shard_folders::{fix, fix_of_missing, folders, read_record};
use super::{MergeError, MergeEvent};
use crate::digest::sha256_hex;
use crate::shard::ShardIndex;
use crate::shard::record::{OwnedBatch, ShardRecord};
use crate::storage::StoreError;
use crate::storage::atomic_file::file_sha256;
use crate::storage::batches::batch_name;
use crate::storage::frames_file::frames_name;
use crate::storage::manifest::{MANIFEST_NAME, RUN_NAME};
use crate::storage::output_dir::{different_setting, run_of};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Pointers to values of `run.json` that are not settings, but may change the last bits of results.
const MACHINE_FACTS: [&str; 3] = ["/handloom", "/gstreamer", "/backend/library_sha256"];

/// A shard whose folder is complete.
pub(super) struct WholeShard {
    pub(super) shard: ShardIndex,
    pub(super) folder: PathBuf,
    pub(super) processor: String,
    /// The batches of the shard, in order.
    pub(super) owned: Vec<OwnedBatch>,
    manifest_sha256: String,
    run_sha256: String,
    /// SHA-256 of the shard's record as `to_json` writes it.
    record_sha256: String,
    /// The shard's `run.json`, without settings and hashes of files.
    pub(super) run: Value,
}

/// The shards of one job.
pub(super) struct ShardSet {
    /// The shards that were found, by index.
    pub(super) shards: Vec<WholeShard>,
    /// The record of the first shard: what all shards have in common. Its `owned` is empty.
    pub(super) job: ShardRecord,
    /// Shards of the job that were not found.
    pub(super) missing: Vec<ShardIndex>,
    /// For each batch of the job the index of its shard in `shards`.
    owners: Vec<Option<usize>>,
}

impl ShardSet {
    /// Opens the shards in `paths`; each path is the folder of a shard or a folder that holds such. Does not read the
    /// batches.
    ///
    /// # Errors
    /// Fails when the shards are from different jobs, a file has changed, or one is missing although `is_partial` is
    /// false.
    pub(super) fn open(
        paths: &[PathBuf],
        is_partial: bool,
        report: &mut dyn FnMut(MergeEvent<'_>),
    ) -> Result<Self, MergeError> {
        let mut found: BTreeMap<ShardIndex, WholeShard> = BTreeMap::new();
        let mut first: Option<(ShardRecord, PathBuf, Value)> = None;
        let folders = folders(paths, is_partial, report)?;
        for folder in &folders {
            let folder = folder.clone();
            let record = read_record(&folder)?;
            let shard = record.shard;
            let run = run_of(&folder)?.unwrap_or_default();
            if let Some((job, ..)) = &first
                && difference(job, &record).is_some()
            {
                return Err(other_job(&folders)?);
            }
            let new = WholeShard::of(&record, &folder, &run);
            match found.entry(shard) {
                Entry::Vacant(place) => {
                    new.verify(&run)?;
                    place.insert(new);
                }
                Entry::Occupied(known) => {
                    let known = known.get();
                    if !known.is_same(&new) {
                        return Err(MergeError::Doubled {
                            fix: fix(&run, &folder, shard),
                            path: folder,
                            first: known.folder.clone(),
                            shard,
                        });
                    }
                    report(MergeEvent::Warning(format!(
                        "{} and {} both hold shard {shard}, with equal results: the first is used",
                        known.folder.display(),
                        folder.display()
                    )));
                }
            }
            first.get_or_insert((record, folder, run));
        }
        let Some((mut job, folder, run)) = first else {
            let path = paths.first().cloned().unwrap_or_default();
            return Err(MergeError::NoShard { path });
        };
        job.owned.clear();
        let all = (0..job.shard.count()).filter_map(|n| ShardIndex::new(n, job.shard.count()).ok());
        let missing: Vec<ShardIndex> = all.filter(|shard| !found.contains_key(shard)).collect();
        if let (Some(next), false) = (missing.first(), is_partial) {
            let fix = fix_of_missing(&run, &folder, *next);
            return Err(MergeError::Missing { missing, fix });
        }
        let mut set = Self {
            shards: found.into_values().collect(),
            owners: vec![None; job.batches.max(1)],
            job,
            missing,
        };
        set.assign_batches()?;
        set.warn_of_machines(report);
        set.warn_of_attempts(report);
        Ok(set)
    }

    /// Finds the shard that owns each batch.
    fn assign_batches(&mut self) -> Result<(), MergeError> {
        let wrong = |batch, shards: &[usize]| MergeError::Batches {
            batch,
            shards: shards.iter().map(|n| self.shards[*n].shard).collect(),
        };
        for (n, shard) in self.shards.iter().enumerate() {
            let mut next = 0;
            for OwnedBatch { batch, .. } in &shard.owned {
                match self.owners.get(*batch) {
                    Some(None) if *batch >= next => self.owners[*batch] = Some(n),
                    Some(Some(other)) => return Err(wrong(*batch, &[*other, n])),
                    _ => return Err(wrong(*batch, &[n, n])),
                }
                next = batch + 1;
            }
        }
        let unowned = self.owners.iter().position(Option::is_none);
        match unowned {
            Some(batch) if self.missing.is_empty() => Err(wrong(batch, &[])),
            _ => Ok(()),
        }
    }

    /// Warns when the shards were made by machines that may round differently.
    fn warn_of_machines(&self, report: &mut dyn FnMut(MergeEvent<'_>)) {
        let show = |value: Option<&Value>| {
            value.map_or_else(|| "unknown".to_owned(), |v| v.to_string().replace('"', ""))
        };
        let facts = MACHINE_FACTS.map(|key| {
            let of = |shard: &WholeShard| show(shard.run.pointer(key));
            let what = match key {
                "/handloom" => "versions of handloom",
                "/gstreamer" => "versions of GStreamer",
                _ => "TFLite libraries",
            };
            (what, self.shards.iter().map(of).collect::<Vec<_>>())
        });
        let processors = self.shards.iter().map(|shard| shard.processor.clone());
        let processors = ("processors", processors.collect::<Vec<_>>());
        for (what, mut values) in [processors].into_iter().chain(facts) {
            values.sort();
            values.dedup();
            if let [one, other, ..] = values.as_slice() {
                report(MergeEvent::Warning(format!(
                    "the shards were made with different {what} ({one}; {other}): the last bits of numbers may differ from \
                     those that one machine gives"
                )));
            }
        }
    }

    /// Warns about folders of unfinished attempts beside the shards.
    fn warn_of_attempts(&self, report: &mut dyn FnMut(MergeEvent<'_>)) {
        let left = self.shards.iter().flat_map(|shard| {
            let prefix = format!(".{}.", shard.shard.folder());
            let beside = shard.folder.parent().map(Path::read_dir);
            let paths = beside.into_iter().flatten().flatten().flatten();
            let paths = paths.map(|entry| entry.path());
            paths.filter(move |path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(&prefix)
            })
        });
        let left: Vec<String> = left.map(|path| path.display().to_string()).collect();
        if let [first, others @ ..] = left.as_slice() {
            let more = match others.len() {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            report(MergeEvent::Warning(format!(
                "attempts that the shards do not need are left: {first}{more}; remove them when no process works on the shards: \
                 `rm -r OUT/.shard-*`"
            )));
        }
    }

    /// A hash of the records of all shards, and so of the hashes of all their files.
    pub(super) fn sha256(&self) -> String {
        let shards = self.shards.iter();
        let records: Vec<&str> = shards.map(|shard| &*shard.record_sha256).collect();
        sha256_hex(records.join("\n").as_bytes())
    }

    /// Compares the files of all batches with their hashes.
    ///
    /// # Errors
    /// Fails when a file has changed or cannot be read.
    pub(super) fn verify(&self) -> Result<(), MergeError> {
        for shard in &self.shards {
            for own in &shard.owned {
                let batch = own.sha256.as_ref();
                let batch = batch.map(|sha256| (batch_name(own.batch), sha256));
                let frames = own.frames_sha256.as_ref();
                let frames = frames.map(|sha256| (frames_name(own.batch), sha256));
                for (name, sha256) in [batch, frames].into_iter().flatten() {
                    shard.verify_file(&name, sha256)?;
                }
            }
        }
        Ok(())
    }

    /// The batches that have a shard, in order, each with the index of its shard.
    pub(super) fn batches(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let owners = self.owners.iter().enumerate();
        owners.filter_map(|(batch, owner)| Some((batch, (*owner)?)))
    }
}

impl WholeShard {
    fn of(record: &ShardRecord, folder: &Path, run: &Value) -> Self {
        let mut run = run.clone();
        if let Value::Object(fields) = &mut run {
            fields.shift_remove("settings");
        }
        if let Some(Value::Object(finished)) = run.get_mut("finished") {
            finished.shift_remove("files");
        }
        Self {
            shard: record.shard,
            folder: folder.to_path_buf(),
            processor: record.processor.clone(),
            owned: record.owned.clone(),
            manifest_sha256: record.manifest_sha256.clone(),
            run_sha256: record.run_sha256.clone(),
            record_sha256: sha256_hex(record.to_json().as_bytes()),
            run,
        }
    }

    /// Whether `other` has the same results. The times in `run.json` do not count as results.
    fn is_same(&self, other: &Self) -> bool {
        (&self.owned, &self.manifest_sha256) == (&other.owned, &other.manifest_sha256)
    }

    /// Compares the manifest and `run.json` with their hashes. The batches are compared when they are joined.
    fn verify(&self, run: &Value) -> Result<(), MergeError> {
        for (name, sha256) in [
            (MANIFEST_NAME, &self.manifest_sha256),
            (RUN_NAME, &self.run_sha256),
        ] {
            if !self.has(name, sha256)? {
                return Err(self.changed_file(name, run));
            }
        }
        Ok(())
    }

    /// Fails unless the file `name` has the hash `sha256`.
    pub(super) fn verify_file(&self, name: &str, sha256: &str) -> Result<(), MergeError> {
        if self.has(name, sha256)? {
            return Ok(());
        }
        Err(self.changed(name))
    }

    /// Whether the shard has the file `name` with the hash `sha256`.
    fn has(&self, name: &str, sha256: &str) -> Result<bool, MergeError> {
        match file_sha256(&self.folder.join(name)) {
            Err(StoreError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(false)
            }
            found => Ok(found? == sha256),
        }
    }

    /// The error for a file `name` that differs from its hash.
    pub(super) fn changed(&self, name: &str) -> MergeError {
        self.changed_file(name, &self.run)
    }

    fn changed_file(&self, name: &str, run: &Value) -> MergeError {
        MergeError::Changed {
            path: self.folder.join(name),
            fix: fix(run, &self.folder, self.shard),
        }
    }
}

/// How the job of `other` differs from that of `job`, for people; `None` when it is the same job.
fn difference(job: &ShardRecord, other: &ShardRecord) -> Option<String> {
    let [here, there] = [other, job].map(|record| record.shard.count());
    if here != there {
        return Some(format!("it is one of {here} shards, not of {there}"));
    }
    let machine = |record: &ShardRecord| {
        let architecture = record.settings.pointer("/accelerator/cpu/architecture");
        architecture.and_then(Value::as_str).map(str::to_owned)
    };
    if let (Some(there), Some(here)) = (machine(job), machine(other))
        && there != here
    {
        return Some(format!(
            "it was made on a processor of the kind {here}, not {there}, and the two round differently: make all shards on one \
             kind"
        ));
    }
    if let Some((key, [there, here])) = different_setting(&job.settings, &other.settings) {
        return Some(format!("its {key} is {here}, not {there}"));
    }
    let is_other = identity(job) != identity(other);
    is_other.then(|| "it was planned over another dataset, or the dataset has changed".to_owned())
}

/// The values that all shards of a job have in common.
fn identity(record: &ShardRecord) -> Value {
    let ShardRecord {
        settings,
        plan_sha256,
        instances,
        clips,
        batches,
        absent,
        glosses,
        class_order,
        ..
    } = record;
    let counts = [record.shard.count(), *instances, *clips, *batches, *absent];
    let mut identity = json!([counts, settings, plan_sha256, glosses, class_order]);
    // Two versions may write the settings in different orders.
    identity.sort_all_objects();
    identity
}

/// The error for `folders` with shards of several jobs. The job with the most shards is taken as the right one; among
/// equals, the job that comes first.
fn other_job(folders: &[PathBuf]) -> Result<MergeError, MergeError> {
    // Keyed by job hash: the index of the first shard and the number of shards.
    let mut jobs: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut shards = Vec::new();
    for (n, folder) in folders.iter().enumerate() {
        let job = sha256_hex(identity(&read_record(folder)?).to_string().as_bytes());
        jobs.entry(job.clone()).or_insert((n, 0)).1 += 1;
        shards.push(job);
    }
    let most = jobs
        .iter()
        .max_by_key(|(_, (first, count))| (*count, Reverse(*first)));
    let (right, first) = most.map_or(("", 0), |(job, (first, _))| (&**job, *first));
    let other = shards.iter().position(|job| job != right).unwrap_or(0);
    let [first, other] = [first, other].map(|n| &folders[n]);
    let (job, record) = (read_record(first)?, read_record(other)?);
    let run = run_of(first)?.unwrap_or_default();
    // A shard of a job with another number of shards cannot be made again for this job.
    let has_place = job.shard.count() == record.shard.count();
    let fix = has_place.then(|| {
        let fix = fix(&run, other, record.shard);
        format!(
            " and {fix}, whose settings are in {}",
            first.join(RUN_NAME).display()
        )
    });
    Ok(MergeError::OtherJob {
        fix: fix.unwrap_or_default(),
        path: other.clone(),
        first: first.clone(),
        what: difference(&job, &record).unwrap_or_default(),
    })
}
