//! The recorder's part for shards: a file about each sealed batch, from which another attempt imports it, and the
//! close.

use super::{Recorder, frames};
use crate::digest::sha256_hex;
use crate::shard::record::{SHARD_NAME, ShardRecord, checked, sealed_json};
use crate::storage::StoreError;
use crate::storage::atomic_file::{
    file_sha256, make_folder, open_plain, read_plain, sha256, sync_folder, write_checked,
    write_file, write_whole,
};
use crate::storage::batches::{self, SealedBatch, batch_name};
use crate::storage::frames_file::frames_name;
use crate::storage::ledger::ClipRecord;
use crate::storage::manifest::{MANIFEST_NAME, ManifestLine, RUN_NAME, write_manifest, write_run};
use crate::storage::output_dir;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Folder of the files about sealed batches.
pub(in crate::storage) const RECORDS_FOLDER: &str = "records";

/// All that the ledger knows of a sealed batch.
#[derive(Debug, Serialize, Deserialize)]
struct BatchRecord {
    /// Hash of the job's settings: shard, plan and everything that decides the bytes.
    settings_sha256: String,
    batch: usize,
    rows: usize,
    /// Its name in the file differs from that of the file's own checksum.
    #[serde(rename = "batch_sha256")]
    sha256: String,
    frames_sha256: Option<String>,
    clips: Vec<RecordedClip>,
}

/// A [`ClipRecord`] in the file.
#[derive(Debug, Serialize, Deserialize)]
struct RecordedClip {
    position: usize,
    key: String,
    state: String,
    reason: Option<String>,
    clip: Option<String>,
}

/// Name of the file about `batch`, relative to the output folder.
fn record_name(batch: usize) -> String {
    format!("{RECORDS_FOLDER}/{batch:05}.json")
}

impl Recorder {
    /// Keeps a file about each sealed batch of the first `count` positions, including those that an earlier process
    /// sealed.
    ///
    /// # Errors
    /// Fails when the folder or a file cannot be written, or the ledger fails.
    pub(crate) fn keep_records(&mut self, count: usize) -> Result<(), StoreError> {
        make_folder(&self.out.join(RECORDS_FOLDER))?;
        self.keeps_records = true;
        let sealed = self.ledger().sealed()?;
        for (batch, file) in sealed {
            if !self.out.join(record_name(batch)).exists() {
                self.write_record(batch, count, &file)?;
            }
        }
        Ok(())
    }

    /// Writes the file about a batch that was just sealed. If that fails, another attempt makes the batch again;
    /// nothing else is lost.
    pub(super) fn note_sealed(&self, batch: usize, count: usize, sealed: &SealedBatch) {
        if self.keeps_records
            && let Err(error) = self.write_record(batch, count, sealed)
        {
            tracing::warn!(batch, %error, "no other attempt can take over this batch");
        }
    }

    fn write_record(
        &self,
        batch: usize,
        count: usize,
        sealed: &SealedBatch,
    ) -> Result<(), StoreError> {
        let clips = self.ledger().clips_in(self.positions(batch, count))?;
        let clips = clips.into_iter().map(|(position, clip)| RecordedClip {
            position,
            key: clip.key,
            state: clip.state,
            reason: clip.reason,
            clip: clip.clip,
        });
        let record = BatchRecord {
            settings_sha256: self.settings_sha256()?,
            batch,
            rows: sealed.rows,
            sha256: sealed.sha256.clone(),
            frames_sha256: sealed.frames_sha256.clone(),
            clips: clips.collect(),
        };
        let name = record_name(batch);
        let written = write_whole(&self.out, &name, sealed_json(json!(record)).as_bytes());
        written.map_err(StoreError::write(&self.out.join(name)))
    }

    fn settings_sha256(&self) -> Result<String, StoreError> {
        let settings = self.ledger().job()?.map(|job| job.settings);
        Ok(sha256_hex(json!(settings).to_string().as_bytes()))
    }

    /// Imports the batches `own` that are sealed in the folder `from`, another attempt at the same shard, and not
    /// here. `count` positions are known. Skips damaged files in `from`. Returns the number of imported batches.
    ///
    /// # Errors
    /// Fails when a file or the ledger here cannot be written.
    pub(crate) fn import(
        &self,
        from: &Path,
        own: &[usize],
        count: usize,
    ) -> Result<usize, StoreError> {
        let settings_sha256 = self.settings_sha256()?;
        let sealed = self.ledger().sealed()?;
        let mut imported = 0;
        for batch in own.iter().filter(|batch| !sealed.contains_key(*batch)) {
            let path = from.join(record_name(*batch));
            let record = match read_record(&path) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a batch of another attempt is not taken over");
                    continue;
                }
            };
            if record.settings_sha256 != settings_sha256 || !self.fits(&record, *batch, count) {
                continue;
            }
            let names = [
                Some((batch_name(*batch), &record.sha256)),
                (record.frames_sha256.as_ref()).map(|sha256| (frames_name(*batch), sha256)),
            ];
            let mut is_whole = true;
            for (name, sha256) in names.into_iter().flatten() {
                is_whole = is_whole && self.copy(from, &name, sha256)?;
            }
            if is_whole {
                self.adopt(record, count)?;
                imported += 1;
            }
        }
        Ok(imported)
    }

    /// Whether `record` describes exactly the clips of `batch`.
    fn fits(&self, record: &BatchRecord, batch: usize, count: usize) -> bool {
        let accepted = record
            .clips
            .iter()
            .filter(|clip| clip.state == super::ACCEPTED);
        record.batch == batch
            && (record.clips.iter().map(|clip| clip.position)).eq(self.positions(batch, count))
            && accepted.count() == record.rows
            && record.frames_sha256.is_some() == self.keeps_frames
    }

    /// Marks the batch of `record`, whose files are here, as sealed.
    fn adopt(&self, record: BatchRecord, count: usize) -> Result<(), StoreError> {
        let clips = record.clips.into_iter().map(|clip| {
            let record = ClipRecord {
                key: clip.key,
                state: clip.state,
                reason: clip.reason,
                clip: clip.clip,
                part: None,
            };
            (clip.position, record)
        });
        let sealed = SealedBatch {
            rows: record.rows,
            sha256: record.sha256,
            frames_sha256: record.frames_sha256,
        };
        let (batch, clips) = (record.batch, clips.collect());
        (self.ledger()).adopt_batch(batch, self.positions(batch, count), &clips, &sealed)?;
        self.note_sealed(batch, count, &sealed);
        Ok(())
    }

    /// Links or copies the file `name` from the folder `from`, if its hash is `expected`. Returns whether the file is
    /// here now.
    fn copy(&self, from: &Path, name: &str, expected: &str) -> Result<bool, StoreError> {
        let (from, to) = (from.join(name), self.out.join(name));
        if !file_sha256(&from).is_ok_and(|found| found == expected) {
            tracing::warn!(file = %from.display(), "a changed file of another attempt is not taken over");
            return Ok(false);
        }
        // Two folders may share a file, because no file is changed in place. A file already here is a leftover that
        // no ledger names.
        let link = || {
            match fs::remove_file(&to) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::hard_link(&from, &to)?;
            sync_folder(&to)
        };
        if link().is_ok() {
            return Ok(true);
        }
        let mut source = match open_plain(&from) {
            Ok(source) => source,
            Err(error) => {
                tracing::warn!(file = %from.display(), %error, "a file of another attempt is not taken over");
                return Ok(false);
            }
        };
        let mut found = String::new();
        let fill = |to: &mut io::BufWriter<fs::File>| io::copy(&mut source, to).map(|_| ());
        let check = |file: &mut fs::File| {
            found = sha256(file)?;
            Ok::<_, io::Error>(())
        };
        match write_checked(&self.out, name, fill, check) {
            // The folder was renamed or removed while it was read.
            Err(_) if !from.exists() => Ok(false),
            written => {
                written.map_err(StoreError::write(&to))?;
                Ok(found == expected)
            }
        }
    }

    /// Writes manifest, provenance and, last, the record of a shard whose batches are sealed. `record` has no data
    /// about its files yet.
    ///
    /// # Errors
    /// [`StoreError::Broken`] when a file of a batch has changed since it was sealed. Also fails when a file or the
    /// ledger cannot be written.
    pub(crate) fn close_shard(
        &self,
        mut record: ShardRecord,
        manifest: &[ManifestLine],
        run: &Value,
    ) -> Result<(), StoreError> {
        self.reopen()?;
        let sealed = self.ledger().sealed()?;
        for own in &mut record.owned {
            // The one entry of a job without clips has no batch.
            let Some(file) = sealed.get(&own.batch) else {
                continue;
            };
            if !batches::is_intact(&self.out, own.batch, &file.sha256) {
                return Err(StoreError::Broken {
                    path: batches::batch_path(&self.out, own.batch),
                    reason: "it has changed since it was sealed".to_owned(),
                });
            }
            if !self.has_intact_frames(own.batch, file) {
                return Err(frames::frames_changed(&self.out, own.batch));
            }
            own.rows = file.rows;
            own.sha256 = Some(file.sha256.clone());
            own.frames_sha256.clone_from(&file.frames_sha256);
        }
        let mut files = BTreeMap::new();
        record.manifest_sha256 = write_manifest(&self.out, manifest)?;
        files.insert(MANIFEST_NAME.to_owned(), record.manifest_sha256.clone());
        let mut frames = self.frames_files()?;
        output_dir::prune(&self.out, sealed.into_keys(), false, frames.keys().cloned())?;
        let mut run = run.clone();
        if self.keeps_frames {
            frames.insert(MANIFEST_NAME.to_owned(), record.manifest_sha256.clone());
        }
        if run["finished"].is_object() {
            run["finished"]["files"] = json!(frames);
        }
        record.run_sha256 = write_run(&self.out, &run)?;
        files.insert(RUN_NAME.to_owned(), record.run_sha256.clone());
        let sha256 = write_file(&self.out, SHARD_NAME, |file| {
            file.write_all(record.to_json().as_bytes())
        })?;
        files.insert(SHARD_NAME.to_owned(), sha256);
        self.ledger().set_closed(&files)
    }
}

/// Reads the record in the file at `path`; `None` when the file does not exist.
fn read_record(path: &Path) -> Result<Option<BatchRecord>, Box<dyn std::error::Error>> {
    let bytes = match read_plain(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let value = checked(serde_json::from_slice(&bytes)?)?;
    Ok(Some(serde_json::from_value(value)?))
}
