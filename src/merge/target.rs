//! The folder that shards are joined into. Nothing is locked: a marker, written first, names the job of the folder,
//! and `run.json`, written last, shows that the results are complete.

use super::batch_lines::{DroppedClips, ManifestMerger};
use super::run_record::run_record;
use super::shard_set::{ShardSet, WholeShard};
use super::{MergeError, MergeEvent};
use crate::dataset::class_list::{ClassOrder, JobClasses};
use crate::digest::sha256_hex;
use crate::sequence::Profile;
use crate::sequence::options::NamedChoice;
use crate::shard::record::OwnedBatch;
use crate::storage::StoreError;
use crate::storage::atomic_file::{
    HashingWriter, make_folder, place_file, refuse_link, remove_partial_files, sync_folder,
    write_file,
};
use crate::storage::batches::{BATCH_FOLDER, batch_name, joined_files, read_batch, write_batch};
use crate::storage::frames_file::{copy_frames, frames_name, frames_path};
use crate::storage::manifest::{LABEL_MAP_NAME, MANIFEST_NAME, RUN_NAME, write_run};
use crate::storage::output_dir::{MERGED, overlap, run_of};
use crate::storage::part_file::FRAMES_FOLDER;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Partial files at least this old are removed: no merge that still runs writes them.
const PARTIAL_AGE: Duration = Duration::from_hours(24);
/// File with the hash of the job whose shards are being joined in the folder.
const MARKER_NAME: &str = ".merge.json";
/// Key of the job hash, in the marker and in the merge entry of `run.json`.
pub(super) const JOB_SHA256: &str = "job_sha256";
/// Key of the hash over the records of the shards, in the merge entry of `run.json`.
pub(super) const SHARDS_SHA256: &str = "shards_sha256";

/// The folder for the results of the whole job.
pub(super) struct MergeTarget<'a> {
    out: &'a Path,
    set: &'a ShardSet,
    glosses: Vec<Arc<str>>,
    order: Option<ClassOrder>,
    length: usize,
    keeps_frames: bool,
}

/// The batches of all shards, joined.
pub(super) struct JoinedBatches {
    /// The counts of the manifest lines that were written.
    pub(super) lines: ManifestMerger,
    /// Numbers of the batches that have a file.
    pub(super) batches: Vec<usize>,
    /// Number of sequences in these files.
    pub(super) rows: usize,
    /// SHA-256 of the files of kept frames, by name.
    frames: BTreeMap<String, String>,
    manifest_sha256: String,
}

/// A hash of the values that all shards of one job have in common.
pub(super) fn job_sha256(set: &ShardSet) -> String {
    let job = &set.job;
    let identity = json!([job.shard.count(), job.plan_sha256, job.settings]);
    sha256_hex(identity.to_string().as_bytes())
}

impl<'a> MergeTarget<'a> {
    /// Creates the folder `out`, or continues an earlier merge in it.
    ///
    /// # Errors
    /// Fails when the folder holds anything but a merge of the same job, or cannot be created.
    pub(super) fn open(out: &'a Path, set: &'a ShardSet) -> Result<Self, MergeError> {
        for shard in &set.shards {
            if overlap(out, &shard.folder) {
                let (path, shard) = (out.to_path_buf(), shard.folder.clone());
                return Err(MergeError::Overlap { path, shard });
            }
        }
        let job = job_sha256(set);
        let is_ours = inspect(out, &job, set)?;
        let settings = &set.job.settings;
        let length = settings["sequence_length"].as_u64().unwrap_or_default();
        let target = Self {
            out,
            set,
            glosses: set
                .job
                .glosses
                .iter()
                .map(|gloss| (**gloss).into())
                .collect(),
            order: set.job.class_order.as_ref().map(|order| ClassOrder {
                glosses: order.glosses.iter().map(|gloss| (**gloss).into()).collect(),
                source: order.source.clone(),
            }),
            length: usize::try_from(length).unwrap_or_default(),
            keeps_frames: settings["keep_frames"] == true,
        };
        make_folder(out)?;
        if !is_ours {
            let marker = json!({ JOB_SHA256: job });
            write_file(out, MARKER_NAME, |to| write!(to, "{marker}"))?;
        }
        let frames = target.keeps_frames.then_some(FRAMES_FOLDER);
        for folder in [BATCH_FOLDER].into_iter().chain(frames) {
            let folder = out.join(folder);
            refuse_link(&folder)?;
            make_folder(&folder)?;
        }
        Ok(target)
    }

    /// The classes of the job.
    fn classes(&self) -> JobClasses<'_> {
        JobClasses {
            glosses: &self.glosses,
            order: self.order.as_ref(),
        }
    }

    /// Writes the manifest and the batches of all shards. Returns `None` when `is_stopped` returned true.
    pub(super) fn write_batches(
        &self,
        is_stopped: &dyn Fn() -> bool,
        report: &mut dyn FnMut(MergeEvent<'_>),
    ) -> Result<Option<JoinedBatches>, MergeError> {
        let limit = self.set.job.settings["max_samples_per_gloss"].as_u64();
        let limit = limit.and_then(|limit| usize::try_from(limit).ok());
        let mut joined = JoinedBatches {
            lines: ManifestMerger::new(limit),
            batches: Vec::new(),
            rows: 0,
            frames: BTreeMap::new(),
            manifest_sha256: String::new(),
        };
        let (mut failure, mut stopped) = (None, false);
        // For each shard, the byte at which the lines of its next batch begin, and the index of that batch.
        let mut next = vec![(0, 0); self.set.shards.len()];
        let written = write_file(self.out, MANIFEST_NAME, |to| {
            for (_, shard) in self.set.batches() {
                stopped = is_stopped();
                if stopped {
                    return Err(io::Error::other("stopped"));
                }
                let (offset, batch) = &mut next[shard];
                let shard = &self.set.shards[shard];
                let batch = &shard.owned[std::mem::replace(batch, *batch + 1)];
                let passed = self.join_batch(shard, batch, offset, &mut joined, to);
                passed.map_err(|error| match error {
                    MergeError::File(error) => error,
                    error => {
                        failure = Some(error);
                        io::Error::other("a shard cannot be joined")
                    }
                })?;
                report(MergeEvent::Clips(joined.lines.clips()));
            }
            Ok(())
        });
        match (written, failure) {
            (Err(_), _) if stopped => Ok(None),
            (Err(_), Some(failure)) => Err(failure),
            (written, _) => {
                joined.manifest_sha256 = written?;
                Ok(Some(joined))
            }
        }
    }

    /// Writes the lines of `batch`, which begin at `offset` in the manifest of `shard`, and the files of the batch.
    fn join_batch(
        &self,
        shard: &WholeShard,
        batch: &OwnedBatch,
        offset: &mut u64,
        joined: &mut JoinedBatches,
        to: &mut HashingWriter<'_>,
    ) -> Result<(), MergeError> {
        let (number, lines) = (batch.batch, (offset, batch.lines));
        let manifest = shard.folder.join(MANIFEST_NAME);
        let (rows, dropped) = joined.lines.pass_batch(&manifest, lines, number, to)?;
        if rows != batch.rows {
            return Err(shard.changed(MANIFEST_NAME));
        }
        let Some(sha256) = &batch.sha256 else {
            return Ok(());
        };
        if dropped.rows.is_empty() {
            self.place(shard, &batch_name(number), sha256)?;
        } else {
            self.write_rows(shard, number, sha256, &dropped)?;
        }
        joined.batches.push(number);
        joined.rows += rows - dropped.rows.len();
        if let Some(sha256) = &batch.frames_sha256 {
            let name = frames_name(number);
            let sha256 = if dropped.positions.is_empty() {
                self.place(shard, &name, sha256)?;
                sha256.clone()
            } else {
                shard.verify_file(&name, sha256)?;
                let from = frames_path(&shard.folder, number);
                copy_frames(&from, self.out, number, &dropped.positions)?
            };
            joined.frames.insert(name, sha256);
        }
        Ok(())
    }

    /// Copies or links the file `name` of `shard` into the output folder and checks its hash.
    fn place(&self, shard: &WholeShard, name: &str, sha256: &str) -> Result<(), MergeError> {
        match place_file(&shard.folder.join(name), self.out, name, sha256) {
            Ok(true) => Ok(()),
            Err(StoreError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(shard.changed(name))
            }
            Ok(false) => Err(shard.changed(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the batch `number` of `shard` without the dropped rows.
    fn write_rows(
        &self,
        shard: &WholeShard,
        number: usize,
        sha256: &str,
        dropped: &DroppedClips,
    ) -> Result<(), MergeError> {
        shard.verify_file(&batch_name(number), sha256)?;
        let rows = read_batch(&shard.folder, number)?.into_iter().enumerate();
        let rows = rows.filter(|(row, _)| !dropped.rows.contains(row));
        let rows: Vec<_> = rows.map(|(_, row)| row).collect();
        write_batch(
            self.out,
            number,
            &rows,
            self.classes().numbered(),
            self.length,
        )?;
        Ok(())
    }

    /// Writes the files that cover all batches, and `run.json` last. Removes the partial files of killed merges, but
    /// none that another merge may still be writing.
    pub(super) fn finish(&self, joined: &JoinedBatches) -> Result<(), MergeError> {
        let profile = self.set.job.settings["profile"].as_str();
        let profile = profile
            .and_then(Profile::from_name)
            .unwrap_or(Profile::Notebook);
        let with_rows = if joined.rows > 0 {
            &*joined.batches
        } else {
            &[]
        };
        let written = joined_files(self.out, with_rows, self.classes(), self.length, profile)?;
        // Later readers compare these files with the hashes, as after any job.
        let mut files = joined.frames.clone();
        files.extend(
            written
                .into_iter()
                .filter(|(name, _)| name == LABEL_MAP_NAME),
        );
        if self.keeps_frames {
            files.insert(MANIFEST_NAME.to_owned(), joined.manifest_sha256.clone());
        }
        write_run(self.out, &run_record(self.set, joined, &files))?;
        let marker = self.out.join(MARKER_NAME);
        match fs::remove_file(&marker) {
            // `NotFound`: another merge of the same shards has already removed the marker.
            Err(source) if source.kind() != ErrorKind::NotFound => {
                let path = marker;
                return Err(StoreError::Write { path, source }.into());
            }
            _ => {}
        }
        let end = SystemTime::now() - PARTIAL_AGE;
        let frames = self.keeps_frames.then(|| frames_name(0));
        let names = [RUN_NAME.to_owned(), batch_name(0)].into_iter();
        for name in names.chain(frames) {
            remove_partial_files(self.out, &name, Some(end), |_| true)?;
        }
        Ok(())
    }
}

/// Whether the folder `out` already belongs to the job with the hash `job`; `false` when it is missing or empty. When
/// it has a merge of other shards of the job, its `run.json` is removed.
///
/// # Errors
/// Fails when the folder holds anything else or cannot be read, or when a file of the shards has changed.
fn inspect(out: &Path, job: &str, set: &ShardSet) -> Result<bool, MergeError> {
    let occupied = |holds: &str| MergeError::Occupied {
        path: out.to_path_buf(),
        holds: holds.to_owned(),
    };
    let marker = out.join(MARKER_NAME);
    let marker = match fs::read(&marker) {
        Ok(bytes) => Some(serde_json::from_slice::<Value>(&bytes).unwrap_or_default()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            None
        }
        Err(error) => return Err(StoreError::read(&marker)(error).into()),
    };
    if marker
        .as_ref()
        .is_some_and(|marker| marker[JOB_SHA256] != job)
    {
        return Err(occupied("the beginning of a merge of another job"));
    }
    let Some(run) = run_of(out)? else {
        return match marker {
            None if !is_empty(out)? => Err(occupied("other files")),
            marker => Ok(marker.is_some()),
        };
    };
    let merged = &run[MERGED];
    if merged[JOB_SHA256] != job {
        return Err(occupied(if merged.is_object() {
            "the merged shards of another job"
        } else {
            "the results of another job"
        }));
    }
    if merged[SHARDS_SHA256] == set.sha256() {
        // Every file would be written with the same bytes.
        return Ok(true);
    }
    let before = merged["missing"].as_array().into_iter().flatten();
    let before: Vec<&str> = before.filter_map(Value::as_str).collect();
    let now: Vec<String> = set.missing.iter().map(ToString::to_string).collect();
    if now.iter().any(|shard| !before.contains(&&**shard)) {
        return Err(occupied("a merge of more shards of this job"));
    }
    // The existing results are kept unless everything that replaces them is intact.
    set.verify()?;
    // From here to the end of the merge the files do not match `run.json`.
    write_file(out, MARKER_NAME, |to| {
        write!(to, "{}", json!({ JOB_SHA256: job }))
    })?;
    let path: PathBuf = out.join(RUN_NAME);
    match fs::remove_file(&path).and_then(|()| sync_folder(&path)) {
        // `NotFound`: another merge has already removed `run.json`.
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(StoreError::Write { path, source }.into())
        }
        _ => Ok(true),
    }
}

/// Whether the folder is missing, or holds nothing but the partial marker of a killed merge.
fn is_empty(out: &Path) -> Result<bool, MergeError> {
    let entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        // A faulty path is reported when the folder is created.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(true);
        }
        Err(error) => return Err(StoreError::read(out)(error).into()),
    };
    let prefix = format!(".{MARKER_NAME}.");
    let mut names = entries.map(|entry| entry.map(|entry| entry.file_name()));
    Ok(names.all(|name| name.is_ok_and(|name| name.to_string_lossy().starts_with(&prefix))))
}
