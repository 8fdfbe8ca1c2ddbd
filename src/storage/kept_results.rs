//! The finished results of a job whose frames were kept, for reading. Each file is compared with the hash that
//! `run.json` has of it before it is used, so that no ledger is needed.

use super::StoreError;
use super::atomic_file::{file_sha256, read_plain};
use super::frames_file::{FramesFile, frames_name};
use super::manifest::{LABEL_MAP_NAME, MANIFEST_NAME, RUN_NAME};
use super::output_dir::{MERGED, overlap, shards_in};
use crate::dataset::class_list::ClassOrder;
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Settings key: a hash of the classes in the order of their numbers, when that order is known.
pub(crate) const CLASS_ORDER: &str = "class_order_sha256";

/// Why the results of a job cannot be used again.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum KeptResultsError {
    /// The folder has no finished results.
    #[error("{path} holds no finished results: {reason}")]
    NotFinished { path: PathBuf, reason: String },
    /// The folder holds shards of a job, or is one of them.
    #[error(
        "{path} holds shards of a job, or is one of them, and the job needs them together: `handloom merge MERGED {shards}` \
         joins them"
    )]
    Shards { path: PathBuf, shards: PathBuf },
    /// The results were merged without some of the shards.
    #[error(
        "{path} was joined without the shards {missing}, so its clips are not those of the job: make them and merge again"
    )]
    Partial { path: PathBuf, missing: String },
    /// The results were made without keeping frames.
    #[error("the frames of {path} were not kept")]
    NotKept { path: PathBuf },
    /// A file is missing or has changed since it was written.
    #[error("{path} is missing or has changed since it was written")]
    Changed { path: PathBuf },
    /// The frames of a clip were not kept, because its gloss had enough clips.
    #[error(
        "the frames of clip {video_id} ({gloss:?}) were not kept, because its gloss had enough clips; with these options it \
         has not"
    )]
    OverLimit { gloss: String, video_id: String },
    /// Another profile chooses other clips.
    #[error(
        "profile {profile} compares glosses with capitals in another way, as {gloss:?}, so it processes other clips than those \
         whose frames were kept"
    )]
    OtherPlan {
        profile: &'static str,
        gloss: String,
    },
    /// The new results would be written to the folder of the kept frames, or inside or around it.
    #[error(
        "{path} holds the frames themselves, or lies in their folder or around it: the new sequences need a folder of \
         their own"
    )]
    SameFolder { path: PathBuf },
    /// A file cannot be read or has unexpected content.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The finished results in an output folder.
pub(crate) struct KeptResults {
    folder: PathBuf,
    run: Value,
    /// The file of kept frames that was used last, with its batch.
    open: Option<(usize, FramesFile)>,
    /// The batches whose files were compared with their hashes.
    verified: BTreeSet<usize>,
}

impl KeptResults {
    /// Opens the results in `folder`.
    ///
    /// # Errors
    /// Fails when there are no finished results or their frames were not kept.
    pub(crate) fn open(folder: &Path) -> Result<Self, KeptResultsError> {
        if let Some(shards) = shards_in(folder)
            && (shards != folder || !folder.join(RUN_NAME).exists())
        {
            let path = folder.to_path_buf();
            return Err(KeptResultsError::Shards { path, shards });
        }
        let path = folder.join(RUN_NAME);
        let not_finished = |reason: String| KeptResultsError::NotFinished {
            path: folder.to_path_buf(),
            reason,
        };
        let bytes = read_plain(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                not_finished(format!("there is no {RUN_NAME}"))
            }
            _ => StoreError::read(&path)(error).into(),
        })?;
        let run: Value = serde_json::from_slice(&bytes)
            .map_err(|error| not_finished(format!("{RUN_NAME} is no JSON ({error})")))?;
        let missing = run[MERGED]["missing"].as_array().into_iter().flatten();
        let missing: Vec<&str> = missing.filter_map(Value::as_str).collect();
        if !missing.is_empty() {
            return Err(KeptResultsError::Partial {
                path: folder.to_path_buf(),
                missing: missing.join(", "),
            });
        }
        if run["settings"]["keep_frames"] != true {
            return Err(KeptResultsError::NotKept {
                path: folder.to_path_buf(),
            });
        }
        if !run["finished"].is_object() {
            return Err(not_finished("its job has not ended".to_owned()));
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            run,
            open: None,
            verified: BTreeSet::new(),
        })
    }

    /// Fails when `out` is the folder of these results, or one of the two folders contains the other.
    pub(crate) fn refuse_same(&self, out: &Path) -> Result<(), KeptResultsError> {
        if overlap(&self.folder, out) {
            let path = out.to_path_buf();
            return Err(KeptResultsError::SameFolder { path });
        }
        Ok(())
    }

    /// Number of clips in a batch.
    pub(crate) fn batch_size(&self) -> Result<usize, KeptResultsError> {
        let size = self.run["settings"]["batch_size"].as_u64();
        let size = size.and_then(|size| usize::try_from(size).ok());
        size.filter(|size| *size > 0)
            .ok_or_else(|| self.changed(RUN_NAME))
    }

    /// The content of the results' `run.json`.
    pub(crate) fn run(&self) -> &Value {
        &self.run
    }

    /// The error for a file `name` that is missing or has changed.
    pub(crate) fn changed(&self, name: &str) -> KeptResultsError {
        let path = self.folder.join(name);
        KeptResultsError::Changed { path }
    }

    /// The path of the file `name`, once its hash matches `run.json`.
    fn verified(&self, name: &str) -> Result<PathBuf, KeptResultsError> {
        let path = self.folder.join(name);
        let wanted = self.run["finished"]["files"][name].as_str();
        match file_sha256(&path) {
            Ok(sha256) if Some(sha256.as_str()) == wanted => Ok(path),
            _ => Err(self.changed(name)),
        }
    }

    /// The lines of the results' manifest.
    ///
    /// # Errors
    /// Fails when the file has changed since it was written.
    pub(crate) fn manifest(&self) -> Result<Vec<Value>, KeptResultsError> {
        let path = self.verified(MANIFEST_NAME)?;
        let bytes = read_plain(&path).map_err(StoreError::read(&path))?;
        let lines = bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
        let lines = lines.map(serde_json::from_slice);
        let lines = lines.collect::<Result<_, _>>();
        lines.map_err(|_| self.changed(MANIFEST_NAME))
    }

    /// The classes in the order of their numbers; `None` when the job did not know that order.
    ///
    /// # Errors
    /// Fails when the file has changed since it was written.
    pub(crate) fn class_order(&self) -> Result<Option<ClassOrder>, KeptResultsError> {
        if self.run["settings"].get(CLASS_ORDER).is_none() {
            return Ok(None);
        }
        let path = self.verified(LABEL_MAP_NAME)?;
        let bytes = read_plain(&path).map_err(StoreError::read(&path))?;
        let map: Option<Value> = serde_json::from_slice(&bytes).ok();
        let order = map.and_then(|map| {
            let glosses = map["classes"].as_object()?.keys();
            Some(ClassOrder {
                glosses: glosses.map(|gloss| gloss.as_str().into()).collect(),
                source: map["source"].as_str()?.to_owned(),
            })
        });
        order.map(Some).ok_or_else(|| self.changed(LABEL_MAP_NAME))
    }

    /// The kept frames of `batch`.
    ///
    /// # Errors
    /// Fails when their file has changed since it was written.
    pub(crate) fn frames(&mut self, batch: usize) -> Result<&mut FramesFile, KeptResultsError> {
        let file = match self.open.take() {
            Some((open, file)) if open == batch => file,
            _ if self.verified.contains(&batch) => {
                FramesFile::open(&self.folder.join(frames_name(batch)))?
            }
            _ => FramesFile::open(&self.verified(&frames_name(batch))?)?,
        };
        self.verified.insert(batch);
        Ok(&mut self.open.insert((batch, file)).1)
    }
}
