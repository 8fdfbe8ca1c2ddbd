//! Finds, checks and loads LiteRT's library, and says in words what is wrong with it or with what it was asked to run.

use super::LiteRtTarget;
use super::ffi::{self, LibraryError, LiteRtLibrary};
use crate::inference::model_files;
use crate::inference::model_files::{LibrarySpec, ModelFileError, ModelRole};
use crate::inference::vulkan::VulkanError;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libLiteRt.so";
const ACCELERATOR: &str = "libLiteRtWebGpuAccelerator.so";
/// LiteRT looks for an accelerator of this name first.
const STRANGER: &str = "libLiteRtGpuAccelerator.so";

/// Why LiteRT cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LiteRtError {
    /// No default folder holds the library.
    #[error(
        "LiteRT is not there: no libLiteRt.so in {looked}; run `make setup-litert` (a package: install handloom-litert)"
    )]
    NotFound {
        /// The folders looked in.
        looked: String,
    },
    /// A library is not where it should be.
    #[error(
        "{path} not found; run `make setup-litert`, or copy it from the wheel that the other library is from"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A library could not be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another file, or another version, whose functions may take other arguments.
    #[error(
        "{path} has SHA-256 {found}, which is not {what} for {arch} (pinned: {pinned}); another version's functions may take other arguments, so it is not loaded: run `make setup-litert`"
    )]
    Unknown {
        /// The file.
        path: PathBuf,
        /// What it hashes to.
        found: String,
        /// The version that is known.
        what: String,
        /// This machine's architecture.
        arch: &'static str,
        /// What would be accepted.
        pinned: String,
    },
    /// This program was built for a machine for which no library is pinned.
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
        /// The loader's words.
        reason: String,
    },
    /// There is no device for the GPU backend.
    #[error("litert:gpu needs a Vulkan device: {0}")]
    Vulkan(#[from] VulkanError),
    /// There is a device, but not for LiteRT.
    #[error(
        "LiteRT's GPU accelerator cannot use {device}: {reason}, details on stderr; it wants a newer driver (Mesa 25 does, Debian 12's 22.3 does not) or another GPU: use the backend \"cpu\" until then"
    )]
    Device {
        /// Who was to run the model.
        device: String,
        /// LiteRT's words.
        reason: String,
    },
    /// A part of the model would have been left to the CPU.
    #[error(
        "{target} cannot run the whole {role} model {path}: {reason}; nothing runs elsewhere instead: use another model file or the backend \"cpu\""
    )]
    Partial {
        /// Where it was to run.
        target: LiteRtTarget,
        /// Which model.
        role: ModelRole,
        /// The file.
        path: String,
        /// LiteRT's words.
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
        /// LiteRT's words.
        reason: String,
    },
    /// Another number, type or shape of tensors, or a broken manifest.
    #[error(transparent)]
    Model(#[from] ModelFileError),
}

/// The library, loaded for the rest of the process; any number of workers make their models from it.
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

    /// Version and kind, as the manifest has it.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.spec.what
    }

    /// SHA-256 of the library, lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.spec.sha256
    }

    /// Checks that what LiteRT will load for the GPU is the pinned accelerator.
    pub(super) fn hold_accelerator(&self) -> Result<(), LiteRtError> {
        let (path, spec) = (self.folder.join(ACCELERATOR), pinned(ACCELERATOR)?);
        if !path.is_file() {
            return Err(LiteRtError::Missing { path });
        }
        ffi::hold_against(&path, &spec.sha256).map_err(|e| refused(&path, &spec, e))?;
        let path = self.folder.join(STRANGER);
        if path.exists() {
            ffi::hold_against(&path, &spec.sha256).map_err(|e| refused(&path, &spec, e))?;
        }
        Ok(())
    }
}

/// The pinned library of that name for this machine.
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

/// Installed, then in the source tree.
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
        let looked: Vec<String> = folders
            .iter()
            .take(4)
            .map(|d| d.display().to_string())
            .collect();
        LiteRtError::NotFound {
            looked: looked.join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn said(folder: &Path) -> String {
        LiteRt::load(Some(folder)).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_library_comes_with_the_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let text = said(dir.path());
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
            let text = said(dir.path());
            assert!(text.contains(&crate::digest::sha256_hex(bytes)), "{text}");
            assert!(text.contains("is not LiteRT 2.3.0"), "{text}");
            assert!(text.contains("make setup-litert"), "{text}");
        }
        // A folder of that name is no library.
        fs::remove_file(dir.path().join(LIBRARY)).unwrap();
        fs::create_dir(dir.path().join(LIBRARY)).unwrap();
        assert!(said(dir.path()).contains("not found"));
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
