//! The LiteRT backends: `litert:cpu`, whose kernels are those of MediaPipe itself, and `litert:gpu`, its accelerator
//! for Vulkan devices. Both run on a library that is fetched apart (`make setup-litert`) and loaded when asked for.
//!
//! What is asked for is what runs: a model that its target cannot run whole is refused, no part of it falls to the
//! CPU. The GPU computes in 32 bits; in 16, LiteRT's own choice, landmarks move by a tenth of a pixel.

use super::bundle::{self, BundleError, LibrarySpec, ModelFile, Role, TensorSpec};
use super::litert_ffi::{self as ffi, Failure, Library, OpenError, Plan, Session, Tensor};
use super::vulkan::{self, VulkanDevice, VulkanError};
use crate::hand::{Model, ModelError};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const LIBRARY: &str = "libLiteRt.so";
const ACCELERATOR: &str = "libLiteRtWebGpuAccelerator.so";
/// LiteRT looks for an accelerator of this name first.
const STRANGER: &str = "libLiteRtGpuAccelerator.so";

/// Where LiteRT runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One thread with XNNPACK's kernels.
    Cpu,
    /// The best Vulkan device, in 32 bits.
    Gpu,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "litert:cpu",
            Self::Gpu => "litert:gpu",
        })
    }
}

/// Why LiteRT cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LiteRtError {
    /// No default folder holds the library.
    #[error("LiteRT is not there: no libLiteRt.so in {looked}; run `make setup-litert`")]
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
        target: Target,
        /// Which model.
        role: Role,
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
        role: Role,
        /// The file.
        path: String,
        /// LiteRT's words.
        reason: String,
    },
    /// Another number, type or shape of tensors, or a broken manifest.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// The library, loaded for the rest of the process; any number of workers make their models from it.
#[derive(Debug)]
pub struct LiteRt {
    library: Library,
    folder: PathBuf,
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
        let library = Library::open(&path, &spec.sha256).map_err(|e| refused(&path, &spec, e))?;
        Ok(Self {
            library,
            folder: path.parent().map(Path::to_path_buf).unwrap_or_default(),
            spec,
        })
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
    fn hold_accelerator(&self) -> Result<(), LiteRtError> {
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

/// A model that LiteRT has compiled, with its buffers. Stays with the thread that made it.
#[derive(Debug)]
pub struct LiteRtModel<'a> {
    session: Session<'a>,
    input: Vec<f32>,
    outputs_valid: bool,
    device: Option<VulkanDevice>,
}

impl<'a> LiteRtModel<'a> {
    /// Compiles `file` for `target` and holds its tensors against the manifest. The first run on a GPU compiles its
    /// programs, which may take a minute where the driver has none in its cache.
    ///
    /// # Errors
    /// When there is no device, the target cannot run the whole model, or a tensor has another type or shape.
    pub fn new(
        runtime: &'a LiteRt,
        file: &'a ModelFile,
        target: Target,
    ) -> Result<Self, LiteRtError> {
        let device = match target {
            Target::Cpu => None,
            Target::Gpu => {
                runtime.hold_accelerator()?;
                vulkan::devices()?.into_iter().next()
            }
        };
        let folder = CString::new(runtime.folder.as_os_str().as_bytes()).unwrap_or_default();
        let (hardware, options) = match &device {
            None => (ffi::CPU, (c"xnnpack", c"num_threads = 1\n".to_owned())),
            Some(device) => (ffi::GPU, (c"gpu_options", gpu_options(&device.name))),
        };
        let plan = Plan {
            hardware,
            folder: &folder,
            options,
        };
        let failed = |failure: Failure| {
            let (role, path, reason) = (file.spec.role, file.origin.clone(), failure.to_string());
            match &device {
                _ if failure.is_partial() => LiteRtError::Partial {
                    target,
                    role,
                    path,
                    reason,
                },
                Some(device) if failure.is_device() => LiteRtError::Device {
                    device: device.to_string(),
                    reason,
                },
                _ => LiteRtError::Runtime { role, path, reason },
            }
        };
        let session = Session::new(&runtime.library, &file.bytes, plan).map_err(failed)?;
        if !session.is_accelerated(hardware).map_err(failed)? {
            return Err(LiteRtError::Partial {
                target,
                role: file.spec.role,
                path: file.origin.clone(),
                reason: "a part of the graph was left over".to_owned(),
            });
        }
        let inputs = std::slice::from_ref(&file.spec.input);
        hold_tensors(file, "input", inputs, session.inputs())?;
        hold_tensors(file, "output", &file.spec.outputs, session.outputs())?;
        Ok(Self {
            session,
            input: vec![0.0; file.spec.input.shape.iter().product()],
            outputs_valid: false,
            device,
        })
    }

    /// Who runs the model, where it is not the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&VulkanDevice> {
        self.device.as_ref()
    }
}

impl Model for LiteRtModel<'_> {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        self.outputs_valid = false;
        let failed = |failure: Failure| ModelError(failure.to_string());
        self.session.write(0, &self.input).map_err(failed)?;
        self.session.run().map_err(failed)?;
        self.outputs_valid = true;
        Ok(())
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        if !self.outputs_valid {
            return Err(ModelError(
                "there is no output: the model has not run".to_owned(),
            ));
        }
        let size = self.session.outputs().get(index).map_or(0, elements);
        if size != out.len() {
            return Err(ModelError(format!(
                "output {index} has {size} values, expected {}",
                out.len()
            )));
        }
        self.session
            .read(index, out)
            .map_err(|failure| ModelError(failure.to_string()))
    }
}

/// 32 bits on the device called `name`.
fn gpu_options(name: &str) -> CString {
    let precision = "precision = 2\n";
    // A name that TOML would have to escape is not asked for; LiteRT then takes the best device by its own lights.
    let text = if name.contains(['"', '\\']) || name.contains(char::is_control) {
        precision.to_owned()
    } else {
        format!("{precision}preferred_device_substr = \"{name}\"\n")
    };
    CString::new(text).unwrap_or_default()
}

fn elements(tensor: &Tensor) -> usize {
    let sizes = tensor
        .shape
        .iter()
        .map(|d| usize::try_from(*d).unwrap_or(0));
    sizes.product()
}

fn hold_tensors(
    file: &ModelFile,
    what: &str,
    expected: &[TensorSpec],
    found: &[Tensor],
) -> Result<(), BundleError> {
    let wrong = |what: String, expected: String, found: String| BundleError::Shape {
        role: file.spec.role,
        path: file.origin.clone(),
        what,
        expected,
        found,
    };
    if expected.len() != found.len() {
        return Err(wrong(
            format!("number of {what}s"),
            expected.len().to_string(),
            found.len().to_string(),
        ));
    }
    for (index, (spec, tensor)) in expected.iter().zip(found).enumerate() {
        let shape = spec.shape.iter().map(|d| i32::try_from(*d).unwrap_or(-1));
        if tensor.element != ffi::FLOAT32
            || tensor.name != spec.name
            || !shape.eq(tensor.shape.iter().copied())
        {
            return Err(wrong(
                format!("{what} {index}"),
                format!("{} {} {:?}", spec.name, spec.dtype, spec.shape),
                format!("{} type {} {:?}", tensor.name, tensor.element, tensor.shape),
            ));
        }
    }
    Ok(())
}

/// The pinned library of that name for this machine.
fn pinned(file: &str) -> Result<LibrarySpec, LiteRtError> {
    let arch = std::env::consts::ARCH;
    let name = format!("{arch}/{file}");
    let found = bundle::pinned_litert()?
        .into_iter()
        .find(|l| l.file == name);
    found.ok_or(LiteRtError::Architecture { arch })
}

fn refused(path: &Path, spec: &LibrarySpec, error: OpenError) -> LiteRtError {
    let path = path.to_path_buf();
    match error {
        OpenError::Io(source) => LiteRtError::Io { path, source },
        OpenError::Load(reason) => LiteRtError::Load { path, reason },
        OpenError::Unknown(found) => LiteRtError::Unknown {
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
    let installed = exe.parent().map(|d| d.join("../lib/handloom"));
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
        let pinned = bundle::pinned_litert().unwrap();
        for arch in ["x86_64", "aarch64"] {
            for file in [LIBRARY, ACCELERATOR] {
                let name = format!("{arch}/{file}");
                assert!(pinned.iter().any(|l| l.file == name), "{name}");
            }
        }
    }

    #[test]
    fn the_gpu_is_asked_for_by_name_and_in_32_bits() {
        let check = |name: &str, expected: &str| {
            assert_eq!(gpu_options(name).to_str().unwrap(), expected);
        };
        check(
            "NVIDIA Tegra Orin (nvgpu)",
            "precision = 2\npreferred_device_substr = \"NVIDIA Tegra Orin (nvgpu)\"\n",
        );
        for odd in ["a \"b\"", "a\\b", "a\nprecision = 1", "a\0b"] {
            check(odd, "precision = 2\n");
        }
    }

    #[test]
    fn tensors_are_held_against_the_manifest() {
        let spec = |name: &str, shape: &[usize]| TensorSpec {
            name: name.to_owned(),
            dtype: "f32".to_owned(),
            shape: shape.to_vec(),
        };
        let tensor = |name: &str, element, shape: &[i32]| Tensor {
            name: name.to_owned(),
            element,
            shape: shape.to_vec(),
        };
        let file = ModelFile {
            spec: bundle::ModelSpec {
                role: Role::Palm,
                file: String::new(),
                sha256: String::new(),
                bundle_member: String::new(),
                bundle_sha256: String::new(),
                input: spec("in", &[1]),
                outputs: Vec::new(),
            },
            origin: "palm.tflite".to_owned(),
            sha256: String::new(),
            bytes: Vec::new(),
        };
        let expected = [spec("a", &[1, 63]), spec("b", &[1, 1])];
        let check = |found: &[Tensor], wrong: Option<&str>| {
            let said = hold_tensors(&file, "output", &expected, found);
            let said = said.err().map(|e| e.to_string());
            match wrong {
                None => assert_eq!(said, None),
                Some(wrong) => assert!(said.unwrap().contains(wrong), "{wrong}"),
            }
        };
        let good = tensor("b", ffi::FLOAT32, &[1, 1]);
        let first = tensor("a", ffi::FLOAT32, &[1, 63]);
        check(&[first.clone(), good.clone()], None);
        check(std::slice::from_ref(&first), Some("number of outputs"));
        check(&[good.clone(), first.clone()], Some("output 0"));
        check(&[first.clone(), tensor("b", 9, &[1, 1])], Some("type 9"));
        check(
            &[first, tensor("b", ffi::FLOAT32, &[1, -1])],
            Some("[1, -1]"),
        );
    }
}
