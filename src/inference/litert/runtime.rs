//! Finds, checks and loads LiteRT's library; the errors of the LiteRT backends.

use super::LiteRtTarget;
use super::ffi::{self, LibraryError, LiteRtLibrary};
use crate::inference::model_files;
use crate::inference::model_files::{LibrarySpec, ModelFileError, ModelRole};
use crate::inference::vulkan::VulkanError;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libLiteRt.so";
const ACCELERATOR: &str = "libLiteRtWebGpuAccelerator.so";
/// LiteRT searches for an accelerator of this name first.
const OTHER_ACCELERATOR: &str = "libLiteRtGpuAccelerator.so";

/// Why LiteRT cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LiteRtError {
    /// No default folder has the library.
    #[error(
        "LiteRT is not installed: no libLiteRt.so in {searched}; run `make setup-litert` (a package: install handloom-litert)"
    )]
    NotFound {
        /// The folders that were searched.
        searched: String,
    },
    /// A library file does not exist.
    #[error(
        "{path} not found; run `make setup-litert`, or copy it from the wheel of the other library"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A library cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Reason of the system.
        source: std::io::Error,
    },
    /// The library has another hash than the pinned one: its functions may take other arguments.
    #[error(
        "{path} has SHA-256 {found}, which is not {what} for {arch} (pinned: {pinned}); another version's functions may take other arguments, so it is not loaded: run `make setup-litert`"
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// SHA-256 of the file.
        found: String,
        /// The pinned version.
        what: String,
        /// This machine's architecture.
        arch: &'static str,
        /// The pinned SHA-256.
        pinned: String,
    },
    /// No library is pinned for this architecture.
    #[error("no LiteRT is pinned for {arch}; use the backend \"cpu\"")]
    Architecture {
        /// This machine's architecture.
        arch: &'static str,
    },
    /// The system's loader refused the library.
    #[error("{path} cannot be loaded: {reason}; it needs glibc 2.34 or newer and libstdc++6")]
    Load {
        /// The file.
        path: PathBuf,
        /// Message of the loader.
        reason: String,
    },
    /// There is no Vulkan device.
    #[error("litert:gpu needs a Vulkan device: {0}")]
    Vulkan(#[from] VulkanError),
    /// LiteRT cannot use the Vulkan device.
    #[error(
        "LiteRT's GPU accelerator cannot use {device}: {reason}, details on stderr; install a newer driver (Mesa 25 works, Debian 12's 22.3 does not), use another GPU, or use the backend \"cpu\""
    )]
    Device {
        /// The device.
        device: String,
        /// Message of LiteRT.
        reason: String,
    },
    /// The target cannot run the whole model.
    #[error(
        "{target} cannot run the whole {role} model {path}: {reason}; no part of it runs elsewhere: use another model file or the backend \"cpu\""
    )]
    Partial {
        /// The target.
        target: LiteRtTarget,
        /// Which model.
        role: ModelRole,
        /// The file.
        path: String,
        /// Message of LiteRT.
        reason: String,
    },
    /// LiteRT refused the model.
    #[error(
        "LiteRT cannot use {path} as the {role} model: {reason}; the file is damaged or needs operators that LiteRT lacks"
    )]
    Runtime {
        /// Which model.
        role: ModelRole,
        /// The file.
        path: String,
        /// Message of LiteRT.
        reason: String,
    },
    /// The model file cannot be used.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

/// The library, loaded until the process ends; all workers make their models from it.
#[derive(Debug)]
pub struct LiteRt {
    pub(super) library: LiteRtLibrary,
    pub(super) folder: PathBuf,
    spec: LibrarySpec,
}

impl LiteRt {
    /// Finds, checks and loads the library: from `folder`, or from the first of the default folders that has it,
    /// installed (`../lib/handloom`) or in the source tree (`models/fetched/ARCH` in a folder above the program).
    ///
    /// # Errors
    /// See [`LiteRtError`].
    pub fn load(folder: Option<&Path>) -> Result<Self, LiteRtError> {
        let spec = pinned(LIBRARY)?;
        let path = match folder {
            Some(folder) => folder.join(LIBRARY),
            None => found_in(&default_folders(std::env::consts::ARCH))?.join(LIBRARY),
        };
        if !path.is_file() {
            return Err(LiteRtError::Missing { path });
        }
        let path = path.canonicalize().map_err(|source| LiteRtError::Io {
            path: path.clone(),
            source,
        })?;
        let library =
            LiteRtLibrary::open(&path, &spec.sha256).map_err(|e| refused(&path, &spec, e))?;
        Ok(Self {
            library,
            folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            spec,
        })
    }

    /// Where [`LiteRt::load`] would find the library, and whether its accelerator for GPUs lies beside it.
    ///
    /// # Errors
    /// When it is in none of the default folders.
    pub fn locate() -> Result<(PathBuf, bool), LiteRtError> {
        let folders = default_folders(std::env::consts::ARCH);
        let folder = found_in(&folders)?;
        Ok((folder.join(LIBRARY), folder.join(ACCELERATOR).is_file()))
    }

    /// The library's file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(LIBRARY)
    }

    /// Name and version, from the manifest.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.spec.what
    }

    /// SHA-256 of the library, lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.spec.sha256
    }

    /// Checks that the accelerator that LiteRT loads for the GPU is the pinned one.
    pub(super) fn check_accelerator(&self) -> Result<(), LiteRtError> {
        let (path, spec) = (self.folder.join(ACCELERATOR), pinned(ACCELERATOR)?);
        if !path.is_file() {
            return Err(LiteRtError::Missing { path });
        }
        ffi::check_sha256(&path, &spec.sha256).map_err(|e| refused(&path, &spec, e))?;
        let path = self.folder.join(OTHER_ACCELERATOR);
        if path.exists() {
            ffi::check_sha256(&path, &spec.sha256).map_err(|e| refused(&path, &spec, e))?;
        }
        Ok(())
    }
}

/// The pinned library `file` for this architecture.
fn pinned(file: &str) -> Result<LibrarySpec, LiteRtError> {
    let arch = std::env::consts::ARCH;
    let name = format!("{arch}/{file}");
    let found = model_files::pinned_litert()?
        .into_iter()
        .find(|l| l.file == name);
    found.ok_or(LiteRtError::Architecture { arch })
}

fn refused(path: &Path, spec: &LibrarySpec, error: LibraryError) -> LiteRtError {
    let path = path.to_path_buf();
    match error {
        LibraryError::Io(source) => LiteRtError::Io { path, source },
        LibraryError::Load(reason) => LiteRtError::Load { path, reason },
        LibraryError::Unknown(found) => LiteRtError::Unknown {
            path,
            found,
            what: spec.what.clone(),
            arch: std::env::consts::ARCH,
            pinned: spec.sha256.clone(),
        },
    }
}

/// The folder of an installation, then those of a source tree.
fn default_folders(arch: &str) -> Vec<PathBuf> {
    let exe = std::env::current_exe()
        .and_then(|p| p.canonicalize())
        .unwrap_or_default();
    let installed = exe.ancestors().nth(2).map(|d| d.join("lib/handloom"));
    let source = exe
        .ancestors()
        .skip(1)
        .map(|d| d.join("models/fetched").join(arch));
    installed.into_iter().chain(source).collect()
}

fn found_in(folders: &[PathBuf]) -> Result<&Path, LiteRtError> {
    let found = folders.iter().find(|d| d.join(LIBRARY).is_file());
    found.map(PathBuf::as_path).ok_or_else(|| {
        let searched: Vec<String> = folders
            .iter()
            .take(4)
            .map(|d| d.display().to_string())
            .collect();
        LiteRtError::NotFound {
            searched: searched.join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load_error(folder: &Path) -> String {
        LiteRt::load(Some(folder)).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_library_comes_with_a_fix() {
        let dir = tempfile::tempdir().unwrap();
        let text = load_error(dir.path());
        assert!(text.contains("libLiteRt.so not found"), "{text}");
        assert!(text.contains("make setup-litert"), "{text}");
        let text = found_in(&[dir.path().to_path_buf()])
            .unwrap_err()
            .to_string();
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        assert!(text.contains("make setup-litert"), "{text}");
    }

    #[test]
    fn another_file_or_version_is_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        // A real library would run its initialisers; these bytes would not even load.
        for bytes in [&b"just text"[..], b"\x7fELF of another LiteRT", b""] {
            fs::write(dir.path().join(LIBRARY), bytes).unwrap();
            let text = load_error(dir.path());
            assert!(text.contains(&crate::digest::sha256_hex(bytes)), "{text}");
            assert!(text.contains("is not LiteRT 2.3.0"), "{text}");
            assert!(text.contains("make setup-litert"), "{text}");
        }
        // A folder of that name is no library.
        fs::remove_file(dir.path().join(LIBRARY)).unwrap();
        fs::create_dir(dir.path().join(LIBRARY)).unwrap();
        assert!(load_error(dir.path()).contains("not found"));
    }

    #[test]
    fn both_architectures_are_pinned() {
        let pinned = model_files::pinned_litert().unwrap();
        for arch in ["x86_64", "aarch64"] {
            for file in [LIBRARY, ACCELERATOR] {
                let name = format!("{arch}/{file}");
                assert!(pinned.iter().any(|l| l.file == name), "{name}");
            }
        }
    }
}
