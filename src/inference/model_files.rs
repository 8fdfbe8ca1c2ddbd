//! Finds, reads and checks the model files: `.tflite` files or Google's `hand_landmarker.task` bundle. Each must have the
//! SHA-256 that `models/manifest.json`, which is compiled in, pins.

use crate::digest::sha256_hex;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The manifest of all fetched files.
const MANIFEST: &str = include_str!("../../models/manifest.json");

/// Maximum size of a model file, bytes. Real models are far smaller.
const MODEL_BYTES_MAX: u64 = 256 << 20;

/// One of the two models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelRole {
    /// The palm detector.
    Palm,
    /// The hand landmark model.
    Hand,
}

impl std::fmt::Display for ModelRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Palm => "palm",
            Self::Hand => "hand",
        })
    }
}

/// Why a model file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The file does not exist.
    #[error("{role} model {path} not found; run `make setup` (a package: install it again)")]
    Missing {
        /// Which model.
        role: ModelRole,
        /// The expected path.
        path: PathBuf,
    },
    /// No default folder has the models.
    #[error(
        "no models found beside the program ({searched}); run `make setup` (a package: install it again)"
    )]
    NoModels {
        /// The folders that were searched.
        searched: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Reason of the system.
        source: std::io::Error,
    },
    /// The file has another hash than the pinned one.
    #[error(
        "{path} has SHA-256 {found}, which is not the {role} model (pinned: {pinned}); the file is damaged, truncated or another model: run `make setup` again (a package: install it again)"
    )]
    Hash {
        /// Which model.
        role: ModelRole,
        /// The file, with the member of a bundle.
        path: String,
        /// SHA-256 of the file.
        found: String,
        /// The pinned SHA-256.
        pinned: String,
    },
    /// A `.task` file that is not a bundle of hand models.
    #[error(
        "{path} is not a usable hand_landmarker.task bundle: {reason}; fetch it again or use the two .tflite files"
    )]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Human-readable reason.
        reason: String,
    },
    /// Another number, type or shape of tensors than in the manifest.
    #[error("{path} is not a {role} model: {what}; expected {expected}, found {found}")]
    Shape {
        /// Which model.
        role: ModelRole,
        /// The file.
        path: String,
        /// Which tensor.
        what: String,
        /// From the manifest.
        expected: String,
        /// From the file.
        found: String,
    },
    /// The runtime refused the file.
    #[error(
        "the TFLite runtime cannot use {path} as the {role} model: {reason}; the file is damaged or needs operators that this runtime lacks"
    )]
    Runtime {
        /// Which model.
        role: ModelRole,
        /// The file.
        path: String,
        /// Message of the runtime.
        reason: String,
    },
    /// The compiled-in manifest cannot be parsed: a bug.
    #[error("models/manifest.json as compiled in is broken: {0}")]
    Manifest(serde_json::Error),
}

/// Name, type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TensorSpec {
    /// The tensor's name in the file.
    pub name: String,
    /// `f32` throughout.
    pub dtype: String,
    /// Dimensions, batch first.
    pub shape: Vec<usize>,
}

/// A model in the manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct ModelSpec {
    /// Which model.
    pub role: ModelRole,
    /// File name in a model folder.
    pub file: String,
    /// Pinned hash of that file.
    pub sha256: String,
    /// Name inside the bundle.
    pub bundle_member: String,
    /// Pinned hash of that member.
    pub bundle_sha256: String,
    /// The one input.
    pub input: TensorSpec,
    /// Outputs in the file's order.
    pub outputs: Vec<TensorSpec>,
}

/// A pinned TFLite library.
#[derive(Clone, Debug, Deserialize)]
pub struct RuntimeSpec {
    /// Pinned hash.
    pub sha256: String,
}

/// A pinned library of LiteRT.
#[derive(Clone, Debug, Deserialize)]
pub struct LibrarySpec {
    /// `ARCH/NAME`.
    pub file: String,
    /// Name and version.
    pub what: String,
    /// Pinned hash.
    pub sha256: String,
}

#[derive(Deserialize)]
struct Manifest {
    models: Vec<ModelSpec>,
    runtimes: Vec<RuntimeSpec>,
    litert: Vec<LibrarySpec>,
}

/// A model that was read from a file.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// The model in the manifest.
    pub spec: ModelSpec,
    /// Path of the file, with the member of a bundle; for messages.
    pub origin: String,
    /// SHA-256 of the bytes, lower-case hex.
    pub sha256: String,
    /// The flatbuffer.
    pub bytes: Vec<u8>,
}

/// Both models.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The palm detector.
    pub palm: ModelFile,
    /// The hand landmark model.
    pub hand: ModelFile,
}

/// Where the models are read from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ModelPaths {
    /// A folder with both files, or a `.task` bundle.
    pub models: Option<PathBuf>,
    /// The palm model alone: `.tflite` or `.task`.
    pub palm: Option<PathBuf>,
    /// The hand model alone: `.tflite` or `.task`.
    pub hand: Option<PathBuf>,
    /// Whether files with another hash than the pinned one are accepted.
    pub trust: bool,
}

impl TensorSpec {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ModelFile {
    /// The same file without its bytes, for messages.
    pub(super) fn without_bytes(&self) -> Self {
        Self {
            spec: self.spec.clone(),
            origin: self.origin.clone(),
            sha256: self.sha256.clone(),
            bytes: Vec::new(),
        }
    }

    pub(super) fn shape_error(
        &self,
        what: &str,
        expected: String,
        found: String,
    ) -> ModelFileError {
        ModelFileError::Shape {
            role: self.spec.role,
            path: self.origin.clone(),
            what: what.to_owned(),
            expected,
            found,
        }
    }

    pub(super) fn runtime_error(&self, reason: String) -> ModelFileError {
        ModelFileError::Runtime {
            role: self.spec.role,
            path: self.origin.clone(),
            reason,
        }
    }
}

impl ModelFiles {
    /// The model in the manifest.
    pub(super) fn spec(&self, role: ModelRole) -> &ModelSpec {
        match role {
            ModelRole::Palm => &self.palm.spec,
            ModelRole::Hand => &self.hand.spec,
        }
    }

    /// Reads and checks both models.
    ///
    /// # Errors
    /// See [`ModelFileError`].
    pub fn load(paths: &ModelPaths) -> Result<Self, ModelFileError> {
        let manifest: Manifest =
            serde_json::from_str(MANIFEST).map_err(ModelFileError::Manifest)?;
        let read = |role: ModelRole, own: &Option<PathBuf>| {
            let spec = manifest.models.iter().find(|m| m.role == role).cloned();
            let spec = spec.ok_or_else(|| ModelFileError::Missing {
                role,
                path: "manifest.json".into(),
            })?;
            let path = match own.as_ref().or(paths.models.as_ref()) {
                Some(path) => path.clone(),
                None => default_folder(&spec)?,
            };
            let path = if path.is_dir() {
                path.join(&spec.file)
            } else {
                path
            };
            read_model(spec, &path, paths.trust)
        };
        Ok(Self {
            palm: read(ModelRole::Palm, &paths.palm)?,
            hand: read(ModelRole::Hand, &paths.hand)?,
        })
    }
}

/// SHA-256 of the pinned TFLite libraries, all architectures.
///
/// # Errors
/// When the compiled-in manifest is broken.
pub fn pinned_runtimes() -> Result<Vec<String>, ModelFileError> {
    let manifest: Manifest = serde_json::from_str(MANIFEST).map_err(ModelFileError::Manifest)?;
    Ok(manifest.runtimes.into_iter().map(|r| r.sha256).collect())
}

/// The pinned libraries of LiteRT, all architectures.
///
/// # Errors
/// When the compiled-in manifest is broken.
pub fn pinned_litert() -> Result<Vec<LibrarySpec>, ModelFileError> {
    let manifest: Manifest = serde_json::from_str(MANIFEST).map_err(ModelFileError::Manifest)?;
    Ok(manifest.litert)
}

/// The first folder near the program that holds the models: installed (`../lib/handloom/models`) or in the source
/// tree (`models/fetched` in a folder above).
fn default_folder(spec: &ModelSpec) -> Result<PathBuf, ModelFileError> {
    let exe = std::env::current_exe()
        .and_then(|p| p.canonicalize())
        .unwrap_or_default();
    let installed = exe
        .ancestors()
        .nth(2)
        .map(|d| d.join("lib/handloom/models"));
    let source = exe.ancestors().skip(1).map(|d| d.join("models/fetched"));
    let folders: Vec<PathBuf> = installed.into_iter().chain(source).collect();
    folders
        .iter()
        .find(|d| d.join(&spec.file).is_file())
        .cloned()
        .ok_or_else(|| ModelFileError::NoModels {
            searched: folders
                .iter()
                .take(4)
                .map(|d| d.display().to_string())
                .collect::<Vec<_>>()
                .join(", "),
        })
}

fn read_model(spec: ModelSpec, path: &Path, trust: bool) -> Result<ModelFile, ModelFileError> {
    let role = spec.role;
    if !path.exists() {
        return Err(ModelFileError::Missing {
            role,
            path: path.to_path_buf(),
        });
    }
    let io = |source| ModelFileError::Io {
        path: path.to_path_buf(),
        source,
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(MODEL_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let (bytes, origin, pinned) =
        if bytes.starts_with(b"PK") || path.extension().is_some_and(|e| e == "task") {
            let member = bundle_member(path, bytes, &spec.bundle_member)?;
            (
                member,
                format!("{} ({})", path.display(), spec.bundle_member),
                &spec.bundle_sha256,
            )
        } else {
            (bytes, path.display().to_string(), &spec.sha256)
        };
    let sha256 = sha256_hex(&bytes);
    // A member that was unpacked from the bundle is accepted too.
    if !trust && sha256 != spec.sha256 && sha256 != spec.bundle_sha256 {
        return Err(ModelFileError::Hash {
            role,
            path: origin,
            found: sha256,
            pinned: pinned.clone(),
        });
    }
    Ok(ModelFile {
        spec,
        origin,
        sha256,
        bytes,
    })
}

/// Reads the model that a delegate brings instead of `file`. Its tensors are checked when it is opened.
pub(super) fn read_own(file: &ModelFile, path: &Path) -> Result<ModelFile, ModelFileError> {
    read_model(file.spec.clone(), path, true)
}

fn bundle_member(path: &Path, bytes: Vec<u8>, name: &str) -> Result<Vec<u8>, ModelFileError> {
    let broken = |reason: String| ModelFileError::Bundle {
        path: path.to_path_buf(),
        reason,
    };
    let mut archive =
        zip::ZipArchive::new(std::io::Cursor::new(bytes)).map_err(|e| broken(e.to_string()))?;
    let member = archive
        .by_name(name)
        .map_err(|e| broken(format!("{name}: {e}")))?;
    let mut out = Vec::new();
    member
        .take(MODEL_BYTES_MAX)
        .read_to_end(&mut out)
        .map_err(|e| broken(format!("{name}: {e}")))?;
    Ok(out)
}

/// Path and SHA-256 of the TFLite library of this process; `None` where they cannot be determined.
#[must_use]
pub fn loaded_runtime() -> Option<(PathBuf, String)> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps
        .lines()
        .find(|l| l.ends_with("/libtensorflowlite_c.so"))?;
    let path = PathBuf::from(&line[line.find('/')?..]);
    let sha256 = sha256_hex(&fs::read(&path).ok()?);
    Some((path, sha256))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fetched")
    }

    fn load(path: &Path, trust: bool) -> Result<ModelFiles, ModelFileError> {
        ModelFiles::load(&ModelPaths {
            models: Some(path.to_path_buf()),
            trust,
            ..ModelPaths::default()
        })
    }

    #[test]
    fn the_fetched_models_are_the_pinned_ones() {
        let bundle = load(&fetched(), false).unwrap();
        assert_eq!(bundle.palm.sha256, bundle.palm.spec.sha256);
        assert_eq!(bundle.hand.spec.input.shape, [1, 224, 224, 3]);
        // The linker leaves out a library that nothing calls.
        crate::inference::CpuLoadedModel::new(&bundle.palm).unwrap();
        let (_, runtime) = loaded_runtime().expect("tflite is linked");
        assert!(pinned_runtimes().unwrap().contains(&runtime));
    }

    #[test]
    fn damaged_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let palm = fs::read(fetched().join("palm_detection_full.tflite")).unwrap();
        let target = dir.path().join("palm_detection_full.tflite");
        let error = || load(dir.path(), false).unwrap_err().to_string();
        assert!(error().contains("palm model"), "{}", error());
        fs::write(&target, &palm[..palm.len() / 2]).unwrap();
        assert!(
            error().contains("SHA-256") && error().contains("palm_detection_full.tflite"),
            "{}",
            error()
        );
        let mut flipped = palm.clone();
        flipped[1000] ^= 1;
        fs::write(&target, &flipped).unwrap();
        assert!(matches!(
            load(dir.path(), false),
            Err(ModelFileError::Hash { .. })
        ));
        fs::write(&target, b"").unwrap();
        assert!(matches!(
            load(dir.path(), false),
            Err(ModelFileError::Hash { .. })
        ));
    }

    #[test]
    fn a_bundle_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let task = dir.path().join("hand_landmarker.task");
        fs::write(&task, b"PK but no zip").unwrap();
        assert!(matches!(
            load(&task, false),
            Err(ModelFileError::Bundle { .. })
        ));
    }

    #[test]
    fn a_bundle_gives_both_models() {
        let dir = tempfile::tempdir().unwrap();
        let task = dir.path().join("hand_landmarker.task");
        let mut zip = zip::ZipWriter::new(File::create(&task).unwrap());
        let options = zip::write::SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored);
        for (file, member) in [
            ("palm_detection_full.tflite", "hand_detector.tflite"),
            (
                "hand_landmark_full.tflite",
                "hand_landmarks_detector.tflite",
            ),
        ] {
            zip.start_file(member, options).unwrap();
            std::io::Write::write_all(&mut zip, &fs::read(fetched().join(file)).unwrap()).unwrap();
        }
        zip.finish().unwrap();
        let bundle = load(&task, false).unwrap();
        assert!(
            bundle
                .hand
                .origin
                .ends_with("(hand_landmarks_detector.tflite)")
        );
    }
}
