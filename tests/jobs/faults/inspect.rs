//! Checks of an output folder after a power cut: whether it is intact, and what its ledger records.

use super::cuts::PowerCut;
use super::disk::State;
use super::sweep::OUT;
use handloom::digest::sha256_hex;
use handloom::storage::batches::{is_intact, row_from_bytes};
use handloom::storage::ledger::{LEDGER_NAME, Ledger};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use test_support::{digests, manifest_states, npz_files};

/// Settings and results of the uninterrupted job.
pub(crate) struct Reference {
    pub(crate) out: PathBuf,
    pub(crate) settings: Value,
    pub(crate) npz: BTreeMap<String, Vec<u8>>,
    /// The npz files of the previous job.
    pub(crate) previous: BTreeMap<String, Vec<u8>>,
    /// Number of clips of the previous job whose records stay.
    pub(crate) kept: usize,
    pub(crate) digests: BTreeMap<String, String>,
    pub(crate) manifest_states: Vec<String>,
    pub(crate) files: BTreeSet<String>,
}

/// What a ledger records.
pub(crate) struct LedgerContents {
    /// State by clip.
    pub(crate) clips: BTreeMap<String, String>,
    /// Whether the ledger belongs to the expected job.
    pub(crate) is_wanted: bool,
}

/// Writes what a cut left to `place` and checks it: no file is unreadable, and nothing promised is lost.
pub(crate) fn inspect(
    wanted: &Reference,
    cut: &PowerCut,
    place: &Path,
) -> Result<LedgerContents, String> {
    cut.state.write(place);
    for (path, content) in &cut.state.0 {
        let Some(bytes) = content else { continue };
        let name = path.strip_prefix("out/").unwrap_or(path);
        match Path::new(name).extension().and_then(|e| e.to_str()) {
            Some("npz") => {
                let mut jobs = [&wanted.npz, &wanted.previous].into_iter();
                let is_right = jobs.any(|npz| npz.get(name) == Some(&**bytes));
                ensure(is_right, || format!("{name} matches neither job"))?;
            }
            Some("json" | "jsonl") => {
                let mut lines = serde_json::Deserializer::from_slice(bytes).into_iter();
                let is_right = !bytes.is_empty() && lines.all(|l| l.is_ok_and(|_: Value| true));
                ensure(is_right, || format!("{name} is cut short"))?;
            }
            _ => {}
        }
    }
    let none = LedgerContents {
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

/// Checks the ledger in `out` for [`inspect`].
fn ledger(
    wanted: &Reference,
    cut: &PowerCut,
    out: &Path,
) -> Result<LedgerContents, Box<dyn std::error::Error>> {
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
        ensure(is_whole, || "the finished job is incomplete".to_owned())?;
    }
    Ok(LedgerContents {
        clips: known,
        is_wanted: job.is_some_and(|j| j.settings == wanted.settings),
    })
}

/// Compares the results in `out` with the expected ones.
pub(crate) fn check_results(wanted: &Reference, out: &Path) -> Result<(), String> {
    ensure(digests(out) == wanted.digests, || {
        "the npz files differ".to_owned()
    })?;
    ensure(manifest_states(out) == wanted.manifest_states, || {
        "the states differ".to_owned()
    })?;
    ensure(files(out) == wanted.files, || {
        format!(
            "the files differ from those in {}: {:?}",
            wanted.out.display(),
            files(out)
        )
    })
}

/// Whether the file at `path` has the hash `sha256`; always true without a hash.
fn is_kept(path: &Path, sha256: Option<&String>) -> bool {
    let found = || fs::read(path).is_ok_and(|bytes| Some(&sha256_hex(&bytes)) == sha256);
    sha256.is_none() || found()
}

pub(crate) fn ensure(is_right: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(wrong()) }
}

/// The files in an output folder, except the ledger's log and shared memory.
pub(crate) fn files(out: &Path) -> BTreeSet<String> {
    let names = State::read(out).0.into_keys();
    names.filter(|n| !n.ends_with("-wal")).collect()
}
