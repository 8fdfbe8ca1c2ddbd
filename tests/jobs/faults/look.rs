//! Looking into an output folder: whether it is whole, and what it knows.

use super::cuts::Cut;
use super::disk::State;
use super::scene::OUT;
use handloom::digest::sha256_hex;
use handloom::storage::batches::{is_intact, row_from_bytes};
use handloom::storage::ledger::{LEDGER_NAME, Ledger};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use test_support::{digests, fates, npz_files};

/// The uninterrupted job.
pub(crate) struct Wanted {
    pub(crate) out: PathBuf,
    pub(crate) settings: Value,
    pub(crate) npz: BTreeMap<String, Vec<u8>>,
    /// The npz files of the job before it.
    pub(crate) was: BTreeMap<String, Vec<u8>>,
    /// Clips of the job before it whose records stay.
    pub(crate) kept: usize,
    pub(crate) digests: BTreeMap<String, String>,
    pub(crate) fates: Vec<String>,
    pub(crate) files: BTreeSet<String>,
}

/// What a ledger knows.
pub(crate) struct Known {
    /// State by clip.
    pub(crate) clips: BTreeMap<String, String>,
    /// Whether it belongs to the job that is wanted.
    pub(crate) is_wanted: bool,
}

/// Looks into what a cut left at `place`: nothing unreadable, nothing lost that was promised.
pub(crate) fn inspect(wanted: &Wanted, cut: &Cut, place: &Path) -> Result<Known, String> {
    cut.state.write(place);
    for (path, content) in &cut.state.0 {
        let Some(bytes) = content else { continue };
        let name = path.strip_prefix("out/").unwrap_or(path);
        match Path::new(name).extension().and_then(|e| e.to_str()) {
            Some("npz") => {
                let mut jobs = [&wanted.npz, &wanted.was].into_iter();
                let is_right = jobs.any(|npz| npz.get(name) == Some(&**bytes));
                ensure(is_right, || format!("{name} is no file of either job"))?;
            }
            Some("json" | "jsonl") => {
                let mut lines = serde_json::Deserializer::from_slice(bytes).into_iter();
                let is_right = !bytes.is_empty() && lines.all(|l| l.is_ok_and(|_: Value| true));
                ensure(is_right, || format!("{name} is cut short"))?;
            }
            _ => {}
        }
    }
    let none = Known {
        clips: BTreeMap::new(),
        is_wanted: false,
    };
    let known = if cut.state.has(&format!("{OUT}/{LEDGER_NAME}")) {
        ledger(wanted, cut, &place.join(OUT)).map_err(|e| e.to_string())?
    } else {
        none
    };
    for id in &cut.promise.recorded {
        ensure(known.clips.contains_key(id), || {
            format!("the record of clip {id} is lost")
        })?;
    }
    let is_begun = cut.promise.recorded.len() > wanted.kept || cut.promise.is_done;
    ensure(known.is_wanted || !is_begun, || {
        "the job is lost".to_owned()
    })?;
    Ok(known)
}

/// The part of [`inspect`] about the ledger in `out`.
fn ledger(wanted: &Wanted, cut: &Cut, out: &Path) -> Result<Known, Box<dyn std::error::Error>> {
    let ledger = Ledger::open(out)?;
    let job = ledger.job()?;
    let (clips, sealed) = (ledger.clips()?, ledger.sealed()?);
    let batch_size = job.as_ref().and_then(|j| j.settings["batch_size"].as_u64());
    let batch_size = usize::try_from(batch_size.unwrap_or(1))?;
    for (batch, file) in &sealed {
        ensure(is_intact(out, *batch, &file.sha256), || {
            format!("batch {batch} is marked sealed, its file is not intact")
        })?;
        let frames = out.join(format!("frames/{batch:05}.npz"));
        ensure(is_kept(&frames, file.frames_sha256.as_ref()), || {
            format!("batch {batch} is marked sealed, its frames are not intact")
        })?;
    }
    let mut known = BTreeMap::new();
    for (position, clip) in clips {
        let key: Value = serde_json::from_str(&clip.key)?;
        let id = key[1].as_str().unwrap_or_default().to_owned();
        if clip.state == "accepted" && !sealed.contains_key(&(position / batch_size)) {
            let staged = ledger.staged(position..position + 1)?;
            let row = staged.get(&position);
            let lost = || format!("clip {id} is accepted, its row is lost");
            row_from_bytes(row.ok_or_else(lost)?)?;
        }
        if let Some(part) = &clip.part {
            let path = out.join("frames/parts").join(&part.name);
            ensure(is_kept(&path, Some(&part.sha256)), || {
                format!("clip {id} is recorded, its frames are lost")
            })?;
        }
        let before = known.insert(id.clone(), clip.state);
        ensure(before.is_none(), || format!("clip {id} is recorded twice"))?;
    }
    if cut.promise.is_done {
        let is_whole = npz_files(out) == wanted.npz && ledger.metadata("final")?.is_some();
        ensure(is_whole, || "the job was done and is no longer".to_owned())?;
    }
    Ok(Known {
        clips: known,
        is_wanted: job.is_some_and(|j| j.settings == wanted.settings),
    })
}

/// Holds the results in `out` against those that are wanted.
pub(crate) fn check_results(wanted: &Wanted, out: &Path) -> Result<(), String> {
    ensure(digests(out) == wanted.digests, || {
        "other npz files came of it".to_owned()
    })?;
    ensure(fates(out) == wanted.fates, || {
        "other states came of it".to_owned()
    })?;
    ensure(files(out) == wanted.files, || {
        format!(
            "other files are left than in {}: {:?}",
            wanted.out.display(),
            files(out)
        )
    })
}

/// Whether the file at `path` has the hash `sha256`, if it has one.
fn is_kept(path: &Path, sha256: Option<&String>) -> bool {
    let found = || fs::read(path).is_ok_and(|bytes| Some(&sha256_hex(&bytes)) == sha256);
    sha256.is_none() || found()
}

pub(crate) fn ensure(is_right: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(wrong()) }
}

/// The files in an output folder, but for the log and the shared memory of the ledger.
pub(crate) fn files(out: &Path) -> BTreeSet<String> {
    let names = State::read(out).0.into_keys();
    names.filter(|n| !n.ends_with("-wal")).collect()
}
