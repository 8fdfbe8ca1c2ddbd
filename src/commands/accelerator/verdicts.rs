//! What was measured, kept for the next start.

use crate::selection::Trial;
use crate::store::durable::{make_folder, write_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// More than one machine ever has; older ones make room.
const KEPT_MAX: usize = 32;

/// The file of verdicts.
pub(super) struct Verdicts {
    /// `None` where there is no folder for it.
    path: Option<PathBuf>,
    boot: String,
    kept: BTreeMap<String, Verdict>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Verdict {
    /// A failure holds until the machine starts again: its driver may come up better then.
    boot: String,
    trial: Trial,
}

impl Verdicts {
    /// Reads what was kept; `boot` names this start of the machine.
    pub(super) fn open(boot: &str) -> Self {
        let path = folder().map(|folder| folder.join("accelerators.json"));
        let kept = path.as_ref().and_then(|path| {
            let bytes = fs::read(path).ok()?;
            let kept = serde_json::from_slice(&bytes);
            if let Err(error) = &kept {
                tracing::warn!(path = %path.display(), %error, "not understood; accelerators are measured again");
            }
            kept.ok()
        });
        Self {
            path,
            boot: boot.to_owned(),
            kept: kept.unwrap_or_default(),
        }
    }

    /// What was measured under `key`, if it holds.
    pub(super) fn get(&self, key: &str) -> Option<Trial> {
        let verdict = self.kept.get(key)?;
        (verdict.trial.result.is_ok() || verdict.boot == self.boot).then(|| verdict.trial.clone())
    }

    /// Keeps a measurement.
    pub(super) fn put(&mut self, key: &str, trial: Trial) {
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        let boot = self.boot.clone();
        self.kept.insert(key.to_owned(), Verdict { boot, trial });
    }

    /// Writes them down. Where that fails they are measured again at the next start.
    pub(super) fn save(&self) {
        let Some(path) = &self.path else {
            tracing::info!("no cache folder; accelerators are measured at every start");
            return;
        };
        let written = path.parent().map_or(Ok(()), make_folder).and_then(|()| {
            write_file(path, |file| {
                file.write_all(serde_json::to_string_pretty(&self.kept)?.as_bytes())
            })
        });
        if let Err(error) = written {
            tracing::warn!(%error, "accelerators are measured again at the next start");
        }
    }
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
