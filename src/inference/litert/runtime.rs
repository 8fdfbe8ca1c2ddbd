//! Finds, checks and loads LiteRT's library.

use super::ffi::{self, Api};
use crate::inference::backend::BackendError;
use crate::inference::model_files::{LibrarySpec, find_near_program, manifest};
use std::env::consts::ARCH;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libLiteRt.so";
const ACCELERATOR: &str = "libLiteRtWebGpuAccelerator.so";
/// LiteRT searches for an accelerator of this name first.
const OTHER_ACCELERATOR: &str = "libLiteRtGpuAccelerator.so";

/// The library, loaded until the process ends; all workers make their models from it.
#[derive(Clone)]
pub struct LiteRt {
    pub(super) api: Api,
    pub(super) folder: PathBuf,
}

impl LiteRt {
    /// Finds, checks and loads the library: from `folder`, or from the first of the default folders that has it,
    /// installed (`../lib/handloom`) or in the source tree (`models/fetched/ARCH` in a folder above the program).
    ///
    /// # Errors
    /// When it is not found, is not the pinned one, or cannot be loaded.
    pub fn load(folder: Option<&Path>) -> Result<Self, BackendError> {
        let pinned = pinned(LIBRARY)?;
        let folder = folder.map_or_else(default_folder, |folder| Ok(folder.to_path_buf()))?;
        let path = folder.join(LIBRARY);
        // A link leads to the folder that also has the accelerators.
        let path = path.canonicalize().unwrap_or(path);
        Ok(Self {
            api: Api::open(&path, pinned)?,
            folder: path.parent().unwrap_or(&folder).to_path_buf(),
        })
    }

    /// Where [`LiteRt::load`] would find the library, and whether its accelerator for GPUs lies beside it.
    ///
    /// # Errors
    /// When it is in none of the default folders.
    pub fn locate() -> Result<(PathBuf, bool), BackendError> {
        let folder = default_folder()?;
        Ok((folder.join(LIBRARY), folder.join(ACCELERATOR).is_file()))
    }

    /// Checks that the accelerator that LiteRT loads for the GPU is the pinned one.
    pub(super) fn check_accelerator(&self) -> Result<(), BackendError> {
        let pinned = pinned(ACCELERATOR)?;
        ffi::check_pinned(&self.folder.join(ACCELERATOR), pinned)?;
        let other = self.folder.join(OTHER_ACCELERATOR);
        if other.exists() {
            ffi::check_pinned(&other, pinned)?;
        }
        Ok(())
    }
}

/// The pinned library `file` for this architecture.
fn pinned(file: &str) -> Result<&'static LibrarySpec, BackendError> {
    let name = format!("{ARCH}/{file}");
    let pinned = manifest().litert.iter().find(|l| l.file == name);
    pinned.ok_or_else(|| {
        BackendError::Library(format!(
            "no LiteRT is pinned for {ARCH}; use the backend \"cpu\""
        ))
    })
}

/// The folder near the program that has the library.
fn default_folder() -> Result<PathBuf, BackendError> {
    let fetched = format!("models/fetched/{ARCH}");
    find_near_program(LIBRARY, "lib/handloom", &fetched).map_err(|searched| {
        BackendError::NotInstalled(format!(
            "LiteRT is not installed: no {LIBRARY} in {searched}; run `make setup-litert` (a package: install handloom-litert)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load_error(folder: &Path) -> String {
        LiteRt::load(Some(folder)).err().unwrap().to_string()
    }

    #[test]
    fn a_missing_library_comes_with_a_fix() {
        let dir = tempfile::tempdir().unwrap();
        let text = load_error(dir.path());
        assert!(text.contains("libLiteRt.so not found"), "{text}");
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
        let pinned = &manifest().litert;
        for arch in ["x86_64", "aarch64"] {
            for file in [LIBRARY, ACCELERATOR] {
                let name = format!("{arch}/{file}");
                assert!(pinned.iter().any(|l| l.file == name), "{name}");
            }
        }
    }
}
