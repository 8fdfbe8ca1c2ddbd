//! What was measured, kept for the next start.

use crate::selection::BenchmarkOutcome;
use crate::storage::atomic_file::{make_folder, write_shared};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// More than one machine ever has; the others make room.
const KEPT_MAX: usize = 64;
/// Longer than so many.
const FILE_MAX: u64 = 1 << 20;

/// What this process has measured: where no file can be written it is not measured again at each attempt.
static MEMORY: Mutex<BTreeMap<String, CachedProbe>> = Mutex::new(BTreeMap::new());

/// The file of verdicts.
pub(super) struct ProbeCache {
    /// `None` where there is no folder for it.
    path: Option<PathBuf>,
    boot: String,
    kept: BTreeMap<String, CachedProbe>,
    /// Of those, what was measured now.
    new: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct CachedProbe {
    /// A failure holds until the machine starts again: its driver may come up better then.
    boot: String,
    trial: BenchmarkOutcome,
}

impl ProbeCache {
    /// Reads what was kept; `boot` names this start of the machine.
    pub(super) fn open(boot: &str) -> Self {
        Self::open_in(folder(), boot)
    }

    fn open_in(folder: Option<PathBuf>, boot: &str) -> Self {
        let path = folder.map(|folder| folder.join("accelerators.json"));
        let mut kept = path.as_deref().map(read).unwrap_or_default();
        let memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(memory.clone());
        Self {
            path,
            boot: boot.to_owned(),
            kept,
            new: Vec::new(),
        }
    }

    /// What was measured under `key`, if it holds.
    pub(super) fn get(&self, key: &str) -> Option<BenchmarkOutcome> {
        let verdict = self.kept.get(key)?;
        let mut trial = verdict.trial.clone();
        if let Err(reason) = &mut trial.result {
            // A machine that has no name for its starts has no failures that last.
            if verdict.boot != self.boot || self.boot.is_empty() {
                return None;
            }
            if let Some(path) = &self.path {
                *reason = format!(
                    "{reason} (remembered until the next start of the machine; remove {} to try again)",
                    path.display()
                );
            }
        }
        Some(trial)
    }

    /// Keeps a measurement.
    pub(super) fn put(&mut self, key: &str, trial: BenchmarkOutcome) {
        let boot = self.boot.clone();
        self.kept
            .insert(key.to_owned(), CachedProbe { boot, trial });
        self.new.push(key.to_owned());
    }

    /// Writes them down, beside what others have written meanwhile. Where that fails they are measured again at the next
    /// start.
    pub(super) fn save(&self) {
        let new = self.kept.iter().filter(|(key, _)| self.new.contains(key));
        let new: BTreeMap<String, CachedProbe> = new.map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        memory.extend(new.clone());
        drop(memory);
        let Some(path) = &self.path else {
            tracing::info!("no cache folder; accelerators are measured at every start");
            return;
        };
        let mut all = read(path);
        if all.len() + new.len() > KEPT_MAX {
            all.clear();
        }
        all.extend(new);
        let written = path.parent().map_or(Ok(()), make_folder).and_then(|()| {
            write_shared(path, |file| {
                file.write_all(serde_json::to_string_pretty(&all)?.as_bytes())
            })
        });
        if let Err(error) = written {
            tracing::warn!(%error, "accelerators are measured again at the next start");
        }
    }
}

/// What a file holds; nothing when it cannot be read or is something else.
fn read(path: &Path) -> BTreeMap<String, CachedProbe> {
    let mut text = String::new();
    let done = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    let reason = match done {
        Err(error) if error.kind() == ErrorKind::NotFound => return BTreeMap::new(),
        Err(error) => error.to_string(),
        Ok(_) => match serde_json::from_str(&text) {
            Ok(kept) => return kept,
            Err(error) => error.to_string(),
        },
    };
    tracing::warn!(path = %path.display(), reason, "cannot be used; accelerators are measured again");
    BTreeMap::new()
}

/// The service's cache folder, else the user's.
fn folder() -> Option<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folders) = named("CACHE_DIRECTORY") {
        return env::split_paths(&folders).next();
    }
    let user = named("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| named("HOME").map(|home| PathBuf::from(home).join(".cache")));
    user.filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("handloom"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selection::{Agreement, BackendMetrics};

    fn good() -> BenchmarkOutcome {
        BenchmarkOutcome {
            name: "good".to_owned(),
            result: Ok(BackendMetrics {
                palm_ms: 1.0,
                hand_ms: 1.0,
                pictures_per_s: 9.0,
                workers: 1,
                nodes: None,
                is_partial: false,
                agreement: Agreement::default(),
            }),
        }
    }

    fn bad() -> BenchmarkOutcome {
        BenchmarkOutcome {
            name: "bad".to_owned(),
            result: Err("it hung".to_owned()),
        }
    }

    /// As another process would.
    fn open(folder: &Path, boot: &str) -> ProbeCache {
        let mut verdicts = ProbeCache::open_in(Some(folder.to_path_buf()), boot);
        verdicts.kept = read(&folder.join("accelerators.json"));
        verdicts
    }

    #[test]
    fn a_failure_holds_until_the_next_start_of_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let mut verdicts = open(dir.path(), "monday");
        verdicts.put("expiry good", good());
        verdicts.put("expiry bad", bad());
        verdicts.save();
        let check = |boot: &str, is_kept: bool| {
            let verdicts = open(dir.path(), boot);
            assert_eq!(verdicts.get("expiry good"), Some(good()), "{boot}");
            let failure = verdicts.get("expiry bad");
            assert_eq!(failure.is_some(), is_kept, "{boot}");
            if let Some(BenchmarkOutcome {
                result: Err(reason),
                ..
            }) = failure
            {
                assert!(
                    reason.contains("accelerators.json to try again"),
                    "{reason}"
                );
            }
            assert_eq!(verdicts.get("expiry other"), None);
        };
        check("monday", true);
        check("tuesday", false);
        check("", false);
    }

    #[test]
    fn two_writers_keep_each_others() {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (open(dir.path(), "b"), open(dir.path(), "b"));
        first.put("writers 1", good());
        second.put("writers 2", good());
        first.save();
        second.save();
        let kept = open(dir.path(), "b");
        assert!(kept.get("writers 1").is_some() && kept.get("writers 2").is_some());
        // Many more push the old ones out, never the new.
        let mut many = open(dir.path(), "b");
        (0..KEPT_MAX).for_each(|n| many.put(&format!("writers many {n}"), good()));
        many.save();
        let kept = open(dir.path(), "b");
        assert!(kept.get("writers 1").is_none() && kept.get("writers many 0").is_some());
    }

    #[test]
    fn without_a_file_the_process_remembers() {
        let mut verdicts = ProbeCache::open_in(None, "b");
        verdicts.put("memory", good());
        verdicts.save();
        assert!(ProbeCache::open_in(None, "b").get("memory").is_some());
    }
}
