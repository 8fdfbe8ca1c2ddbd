//! Caches benchmark outcomes on disk, so that a backend is benchmarked once per machine, driver and model, and which
//! backend was the fastest.

use super::lock;
use crate::selection::BenchmarkOutcome;
use crate::storage::atomic_file::{make_folder, write_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Maximum number of cached outcomes; when it is exceeded the older ones are dropped.
const OUTCOMES_MAX: usize = 64;
/// Maximum size of the cache file, bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Outcomes of this process, for machines where no cache file can be written.
static MEMORY: Mutex<CacheFile> = Mutex::new(CacheFile {
    outcomes: BTreeMap::new(),
    fastest: BTreeMap::new(),
});

/// The cache, as read when it was opened.
pub(super) struct ProbeCache {
    /// `None` when there is no cache folder.
    path: Option<PathBuf>,
    boot: String,
    cached: CacheFile,
    /// What was added since.
    new: CacheFile,
}

/// The contents of the cache file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct CacheFile {
    /// Outcomes by a hash of all that they depend on.
    #[serde(default)]
    outcomes: BTreeMap<String, CachedProbe>,
    /// The backend that was chosen as the fastest, by the name of the hardware.
    #[serde(default)]
    fastest: BTreeMap<String, String>,
}

impl CacheFile {
    /// Adds what `other` has; the older outcomes are dropped when there are too many.
    fn extend(&mut self, other: &Self) {
        if self.outcomes.len() + other.outcomes.len() > OUTCOMES_MAX {
            self.outcomes.clear();
        }
        self.outcomes.extend(other.outcomes.clone());
        self.fastest.extend(other.fastest.clone());
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct CachedProbe {
    /// Identifies the boot of the machine. A failure is valid for that boot only: the driver may work after the next.
    boot: String,
    #[serde(rename = "trial")]
    outcome: BenchmarkOutcome,
}

impl ProbeCache {
    /// Reads the cache; `boot` identifies this boot of the machine.
    pub(super) fn open(boot: &str) -> Self {
        Self::open_in(folder(), boot)
    }

    fn open_in(folder: Option<PathBuf>, boot: &str) -> Self {
        let path = folder.map(|folder| folder.join("accelerators.json"));
        let mut cached = path.as_deref().map(read).unwrap_or_default();
        let memory = lock(&MEMORY);
        cached.extend(&memory);
        Self {
            path,
            boot: boot.to_owned(),
            cached,
            new: CacheFile::default(),
        }
    }

    /// The outcome cached under `key`, if it is still valid.
    pub(super) fn get(&self, key: &str) -> Option<BenchmarkOutcome> {
        let CachedProbe { boot, mut outcome } = self.cached.outcomes.get(key)?.clone();
        if let Err(reason) = &mut outcome.result {
            // Without a boot identifier a failure is never valid.
            if boot.is_empty() || boot != self.boot {
                return None;
            }
            if let Some(path) = &self.path {
                let path = path.display();
                *reason =
                    format!("{reason} (cached until the next boot; remove {path} to try again)");
            }
        }
        Some(outcome)
    }

    /// Adds an outcome; [`Self::save`] writes it.
    pub(super) fn put(&mut self, key: &str, outcome: BenchmarkOutcome) {
        let boot = self.boot.clone();
        let probe = CachedProbe { boot, outcome };
        self.new.outcomes.insert(key.to_owned(), probe);
    }

    /// The backend that was chosen as the fastest of `hardware` before.
    pub(super) fn fastest(&self, hardware: &str) -> Option<&str> {
        self.cached.fastest.get(hardware).map(String::as_str)
    }

    /// Adds which backend was chosen as the fastest of `hardware`; [`Self::save`] writes it.
    pub(super) fn set_fastest(&mut self, hardware: &str, name: &str) {
        if self.fastest(hardware) != Some(name) {
            let fastest = &mut self.new.fastest;
            fastest.insert(hardware.to_owned(), name.to_owned());
        }
    }

    /// Writes what was added to the file, together with what other processes wrote meanwhile. When that fails, the
    /// backends are benchmarked again at the next start.
    pub(super) fn save(&self) {
        if self.new.outcomes.is_empty() && self.new.fastest.is_empty() {
            return;
        }
        lock(&MEMORY).extend(&self.new);
        let Some(path) = &self.path else {
            tracing::info!("no cache folder; accelerators are benchmarked at every start");
            return;
        };
        let mut all = read(path);
        all.extend(&self.new);
        let (folder, name) = (path.parent(), path.file_name().unwrap_or_default());
        let folder = folder.unwrap_or(Path::new("."));
        let written = make_folder(folder).and_then(|()| {
            write_file(folder, &name.to_string_lossy(), |file| {
                file.write_all(serde_json::to_string_pretty(&all)?.as_bytes())
            })
        });
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write the cache; accelerators are benchmarked again at the next start");
        }
    }
}

/// Reads a cache file; empty when it does not exist or cannot be parsed.
fn read(path: &Path) -> CacheFile {
    let mut text = String::new();
    let done =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    let reason = match done {
        Err(error) if error.kind() == ErrorKind::NotFound => return CacheFile::default(),
        Err(error) => error.to_string(),
        Ok(_) => match serde_json::from_str(&text) {
            Ok(cached) => return cached,
            Err(error) => error.to_string(),
        },
    };
    tracing::warn!(path = %path.display(), reason, "cannot read the cache; accelerators are benchmarked again");
    CacheFile::default()
}

/// The cache folder of the service, else of the user.
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
                images_per_s: 9.0,
                workers: 1,
                nodes: None,
                is_partial: false,
                is_reduced: false,
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

    /// Opens the cache as another process would.
    fn open(folder: &Path, boot: &str) -> ProbeCache {
        let mut cache = ProbeCache::open_in(Some(folder.to_path_buf()), boot);
        cache.cached = read(&folder.join("accelerators.json"));
        cache
    }

    #[test]
    fn a_failure_is_valid_until_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = open(dir.path(), "monday");
        cache.put("expiry good", good());
        cache.put("expiry bad", bad());
        cache.save();
        let check = |boot: &str, is_kept: bool| {
            let cache = open(dir.path(), boot);
            assert_eq!(cache.get("expiry good"), Some(good()), "{boot}");
            let failure = cache.get("expiry bad");
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
            assert_eq!(cache.get("expiry other"), None);
        };
        check("monday", true);
        check("tuesday", false);
        check("", false);
    }

    #[test]
    fn two_writers_keep_the_outcomes_of_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let (mut first, mut second) = (open(dir.path(), "b"), open(dir.path(), "b"));
        first.put("writers 1", good());
        second.put("writers 2", good());
        first.save();
        second.save();
        let cached = open(dir.path(), "b");
        assert!(cached.get("writers 1").is_some() && cached.get("writers 2").is_some());
        // Too many new ones replace the old ones.
        let mut many = open(dir.path(), "b");
        (0..OUTCOMES_MAX).for_each(|n| many.put(&format!("writers many {n}"), good()));
        many.save();
        let cached = open(dir.path(), "b");
        assert!(cached.get("writers 1").is_none() && cached.get("writers many 0").is_some());
    }

    #[test]
    fn the_fastest_is_kept_by_hardware() {
        let dir = tempfile::tempdir().unwrap();
        let mut cache = open(dir.path(), "b");
        assert_eq!(cache.fastest("kept board"), None);
        cache.set_fastest("kept board", "custom");
        cache.save();
        let cache = open(dir.path(), "b");
        assert_eq!(cache.fastest("kept board"), Some("custom"));
        assert_eq!(cache.fastest("other board"), None);
    }

    #[test]
    fn without_a_file_the_process_keeps_the_outcomes() {
        let mut cache = ProbeCache::open_in(None, "b");
        cache.put("memory", good());
        cache.save();
        assert!(ProbeCache::open_in(None, "b").get("memory").is_some());
    }
}
