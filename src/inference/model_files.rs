//! Finds, reads and checks the model files: `.tflite` files or Google's `hand_landmarker.task` bundle. Each must have the
//! SHA-256 that `models/manifest.json`, which is compiled in, pins.

use super::path_json;
use crate::digest::sha256_hex;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};

/// Maximum size of a model file, bytes. Real models are far smaller.
const MODEL_BYTES_MAX: u64 = 256 << 20;

/// One of the two models; as a number, its index in arrays of both.
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
    /// None of the default folders, which are listed, has the models.
    #[error(
        "no models found beside the program ({0}); run `make setup` (a package: install it again)"
    )]
    NoModels(String),
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Io(PathBuf, #[source] std::io::Error),
    /// There is no model of that role and precision, or it was not made yet.
    #[error("{0}")]
    NoInt8(String),
    /// The file has another hash than the pinned one.
    #[error("{0}")]
    Hash(String),
    /// The file is no bundle of hand models, its tensors differ from the manifest, or the runtime refuses it.
    #[error("{0}")]
    Unusable(String),
}

/// Name, type and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TensorSpec {
    /// The tensor's name in the file.
    pub name: String,
    /// Element type, always `f32`.
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

/// A model that `make models-int8` makes from the one of the same role; its tensors have the same names and shapes.
#[derive(Clone, Debug, Deserialize)]
struct DerivedSpec {
    role: ModelRole,
    file: String,
    sha256: String,
}

/// A pinned library.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LibrarySpec {
    /// `ARCH/NAME`.
    pub(super) file: String,
    /// Name and version.
    pub(super) what: String,
    /// Pinned hash.
    pub(super) sha256: String,
}

/// The manifest of all fetched files.
#[derive(Default, Deserialize)]
pub(super) struct Manifest {
    models: Vec<ModelSpec>,
    int8: Vec<DerivedSpec>,
    delegates: Vec<DerivedSpec>,
    runtimes: Vec<LibrarySpec>,
    pub(super) litert: Vec<LibrarySpec>,
}

/// The manifest, which is compiled in. A broken one would pin nothing, so that no file is accepted.
pub(super) fn manifest() -> &'static Manifest {
    static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
        serde_json::from_str(include_str!("../../models/manifest.json")).unwrap_or_default()
    });
    &MANIFEST
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
    pub bytes: Arc<[u8]>,
}

/// Both models.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    /// The palm detector.
    pub palm: ModelFile,
    /// The hand landmark model.
    pub hand: ModelFile,
    /// Where they were read from; the int8 models lie beside them.
    pub paths: ModelPaths,
}

/// Where the models are read from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ModelPaths {
    /// A folder with both files, or a `.task` bundle.
    #[serde(with = "path_json::option")]
    pub models: Option<PathBuf>,
    /// The palm model alone: `.tflite` or `.task`.
    #[serde(with = "path_json::option")]
    pub palm: Option<PathBuf>,
    /// The hand model alone: `.tflite` or `.task`.
    #[serde(with = "path_json::option")]
    pub hand: Option<PathBuf>,
    /// Whether files with another hash than the pinned one are accepted.
    pub trust: bool,
}

impl TensorSpec {
    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl ModelFile {
    pub(super) fn shape_error(&self, what: &str, expected: &str, found: &str) -> ModelFileError {
        ModelFileError::Unusable(format!(
            "{} is not a {} model: {what}; expected {expected}, found {found}",
            self.origin, self.spec.role
        ))
    }

    pub(super) fn runtime_error(&self, reason: &str) -> ModelFileError {
        ModelFileError::Unusable(format!(
            "the TFLite runtime cannot use {} as the {} model: {reason}; the file is damaged or needs operators that this runtime lacks",
            self.origin, self.spec.role
        ))
    }
}

impl ModelFiles {
    pub(super) fn of(&self, role: ModelRole) -> &ModelFile {
        match role {
            ModelRole::Palm => &self.palm,
            ModelRole::Hand => &self.hand,
        }
    }

    /// Reads and checks both models.
    ///
    /// # Errors
    /// See [`ModelFileError`].
    pub fn load(paths: &ModelPaths) -> Result<Self, ModelFileError> {
        let read = |role: ModelRole, own: &Option<PathBuf>| {
            let spec = manifest().models.iter().find(|m| m.role == role);
            let spec = spec.cloned().ok_or_else(|| ModelFileError::Missing {
                role,
                path: "manifest.json".into(),
            })?;
            let mut path = match own.as_ref().or(paths.models.as_ref()) {
                Some(path) => path.clone(),
                None => find_near_program(&spec.file, "lib/handloom/models", "models/fetched")
                    .map_err(ModelFileError::NoModels)?,
            };
            if path.is_dir() {
                path.push(&spec.file);
            }
            read_model(spec, &path, paths.trust)
        };
        Ok(Self {
            palm: read(ModelRole::Palm, &paths.palm)?,
            hand: read(ModelRole::Hand, &paths.hand)?,
            paths: paths.clone(),
        })
    }

    /// Reads and checks the int8 model of `role`.
    ///
    /// # Errors
    /// See [`ModelFileError`].
    pub fn int8(&self, role: ModelRole) -> Result<ModelFile, ModelFileError> {
        let path = self.paths.int8(role).map_err(ModelFileError::NoInt8)?;
        let derived = manifest().int8.iter().find(|int8| int8.role == role);
        self.read_derived(role, derived, &path)
    }

    /// Reads the model that a delegate runs in place of the one of `role`. Any file is accepted, but one with the
    /// name of a model that Handloom makes for delegates is checked against that model's pinned SHA-256.
    ///
    /// # Errors
    /// See [`ModelFileError`].
    pub(super) fn delegate_model(
        &self,
        role: ModelRole,
        path: &Path,
    ) -> Result<ModelFile, ModelFileError> {
        let mut made = manifest().delegates.iter();
        let made = made.find(|made| {
            made.role == role && path.file_name() == Some(OsStr::new(made.file.as_str()))
        });
        match made {
            Some(made) => self.read_derived(role, Some(made), path),
            // Its tensors are checked when it is opened.
            None => read_model(self.of(role).spec.clone(), path, true),
        }
    }

    fn read_derived(
        &self,
        role: ModelRole,
        derived: Option<&DerivedSpec>,
        path: &Path,
    ) -> Result<ModelFile, ModelFileError> {
        let mut spec = self.of(role).spec.clone();
        if let Some(derived) = derived {
            spec.sha256.clone_from(&derived.sha256);
            spec.bundle_sha256.clone_from(&derived.sha256);
        }
        read_model(spec, path, self.paths.trust)
    }
}

impl ModelPaths {
    /// The int8 model of `role`: in the folder of the model that it stands for, or near the program where that comes from
    /// there or from a bundle.
    ///
    /// # Errors
    /// Returns a human-readable reason with the fix, when there is no such file.
    pub fn int8(&self, role: ModelRole) -> Result<PathBuf, String> {
        let Some(DerivedSpec { file, .. }) = manifest().int8.iter().find(|int8| int8.role == role)
        else {
            return Err(format!(
                "there is no int8 model of the {role} model; use its f32 model"
            ));
        };
        let own = match role {
            ModelRole::Palm => &self.palm,
            ModelRole::Hand => &self.hand,
        };
        let folder = match own.as_ref().or(self.models.as_ref()) {
            Some(path) if path.is_dir() => Ok(path.clone()),
            Some(path) if path.extension().is_some_and(|e| e == "tflite") => {
                Ok(path.parent().unwrap_or(Path::new("")).to_path_buf())
            }
            _ => find_near_program(file, "lib/handloom/models", "models/fetched"),
        };
        let path = folder.map(|folder| folder.join(file));
        let searched = match path {
            Ok(path) if path.is_file() => return Ok(path),
            Ok(path) => path.display().to_string(),
            Err(folders) => format!("{file} in {folders}"),
        };
        Err(format!(
            "int8 {role} model not found: {searched}; run `make models-int8` (a package: install it again)"
        ))
    }
}

/// Whether a pinned TFLite library of any architecture has this SHA-256.
#[must_use]
pub fn is_pinned_runtime(sha256: &str) -> bool {
    manifest().runtimes.iter().any(|r| r.sha256 == sha256)
}

/// The folder near the program that holds `file`: `installed` beside the program's folder, or `fetched` in any folder
/// above the program, which is a source tree.
///
/// # Errors
/// Returns the folders that were searched first.
pub(super) fn find_near_program(
    file: &str,
    installed: &str,
    fetched: &str,
) -> Result<PathBuf, String> {
    let exe = std::env::current_exe()
        .and_then(|p| p.canonicalize())
        .unwrap_or_default();
    let installed = exe.ancestors().nth(2).map(|d| d.join(installed));
    let source = exe.ancestors().skip(1).map(|d| d.join(fetched));
    let folders: Vec<PathBuf> = installed.into_iter().chain(source).collect();
    let found = folders.iter().find(|d| d.join(file).is_file());
    found.cloned().ok_or_else(|| {
        let searched = folders.iter().take(4).map(|d| d.display().to_string());
        searched.collect::<Vec<_>>().join(", ")
    })
}

/// Reads the model `spec` from `path`. With `trust`, any hash is accepted.
fn read_model(spec: ModelSpec, path: &Path, trust: bool) -> Result<ModelFile, ModelFileError> {
    let role = spec.role;
    if !path.exists() {
        return Err(ModelFileError::Missing {
            role,
            path: path.to_path_buf(),
        });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MODEL_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| ModelFileError::Io(path.to_path_buf(), error))?;
    let mut origin = path.display().to_string();
    let mut pinned = &spec.sha256;
    if bytes.starts_with(b"PK") || path.extension().is_some_and(|e| e == "task") {
        bytes = bundle_member(bytes, &spec.bundle_member).map_err(|reason| {
            ModelFileError::Unusable(format!(
                "{origin} is not a usable hand_landmarker.task bundle: {reason}; fetch it again or use the two .tflite files"
            ))
        })?;
        origin = format!("{origin} ({})", spec.bundle_member);
        pinned = &spec.bundle_sha256;
    }
    let sha256 = sha256_hex(&bytes);
    // A member that was unpacked from the bundle is accepted too.
    if !trust && sha256 != spec.sha256 && sha256 != spec.bundle_sha256 {
        let is_fetched = manifest().models.iter().any(|m| m.sha256 == spec.sha256);
        let target = if is_fetched { "setup" } else { "models-int8" };
        return Err(ModelFileError::Hash(format!(
            "{origin} has SHA-256 {sha256}, which is not the {role} model (pinned: {pinned}); the file is damaged, truncated or another model: run `make {target}` again (a package: install it again)"
        )));
    }
    Ok(ModelFile {
        spec,
        origin,
        sha256,
        bytes: bytes.into(),
    })
}

fn bundle_member(bundle: Vec<u8>, name: &str) -> Result<Vec<u8>, String> {
    let archive = zip::ZipArchive::new(Cursor::new(bundle));
    let mut archive = archive.map_err(|error| error.to_string())?;
    let member = archive.by_name(name).map_err(|e| format!("{name}: {e}"))?;
    let mut bytes = Vec::new();
    let read = member.take(MODEL_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|e| format!("{name}: {e}"))?;
    Ok(bytes)
}

/// Path and SHA-256 of the TFLite library of this process; `None` where they cannot be determined.
#[must_use]
pub fn loaded_runtime() -> Option<(PathBuf, String)> {
    // The library stays the same until the process ends.
    static LOADED: OnceLock<Option<(PathBuf, String)>> = OnceLock::new();
    let find = || {
        let maps = fs::read("/proc/self/maps").ok()?;
        let mut lines = maps.split(|byte| *byte == b'\n');
        let line = lines.find(|line| line.ends_with(b"/libtensorflowlite_c.so"))?;
        let at = line.iter().position(|byte| *byte == b'/')?;
        let path = PathBuf::from(OsStr::from_bytes(&line[at..]));
        let sha256 = sha256_hex(&fs::read(&path).ok()?);
        Some((path, sha256))
    };
    LOADED.get_or_init(find).clone()
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
        crate::inference::CpuLoadedModel::new(&bundle.palm, crate::selection::Precision::F32)
            .unwrap();
        let (_, runtime) = loaded_runtime().expect("tflite is linked");
        assert!(is_pinned_runtime(&runtime));
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
    fn the_int8_model_lies_beside_the_one_that_it_stands_for() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Some(dir.path().to_path_buf());
        let in_folder = ModelPaths {
            models: folder.clone(),
            ..ModelPaths::default()
        };
        let missing = in_folder.int8(ModelRole::Hand).unwrap_err();
        assert!(
            missing.contains("models-int8") && missing.contains("hand_int8_cpu"),
            "{missing}"
        );
        let no_palm = in_folder.int8(ModelRole::Palm).unwrap_err();
        assert!(no_palm.contains("no int8 model"), "{no_palm}");

        let file = dir.path().join("hand_int8_cpu.tflite");
        fs::write(&file, b"another model").unwrap();
        let beside = ModelPaths {
            hand: Some(dir.path().join("own.tflite")),
            ..ModelPaths::default()
        };
        for paths in [&in_folder, &beside] {
            assert_eq!(paths.int8(ModelRole::Hand).unwrap(), file);
        }
        let mut files = load(&fetched(), false).unwrap();
        files.paths.models = folder;
        assert!(matches!(
            files.int8(ModelRole::Hand),
            Err(ModelFileError::Hash(_))
        ));
        files.paths.trust = true;
        assert_eq!(
            &*files.int8(ModelRole::Hand).unwrap().bytes,
            b"another model"
        );
    }

    #[test]
    fn our_models_for_delegates_are_pinned_and_those_of_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let [ours, other] =
            ["hand_int8_npu.tflite", "npu.tflite"].map(|name| dir.path().join(name));
        for path in [&ours, &other] {
            fs::write(path, b"another model").unwrap();
        }
        let mut files = load(&fetched(), false).unwrap();
        let read = |files: &ModelFiles, path| files.delegate_model(ModelRole::Hand, path);
        assert!(read(&files, &other).is_ok());
        let error = read(&files, &ours).unwrap_err().to_string();
        for part in ["hand_int8_npu.tflite", "SHA-256", "make models-int8"] {
            assert!(error.contains(part), "{error}");
        }
        files.paths.trust = true;
        assert!(read(&files, &ours).is_ok());
    }

    #[test]
    fn a_bundle_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let task = dir.path().join("hand_landmarker.task");
        fs::write(&task, b"PK but no zip").unwrap();
        assert!(matches!(
            load(&task, false),
            Err(ModelFileError::Unusable(text)) if text.contains("bundle")
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
