//! The LiteRT backends: `litert:cpu`, which has the kernels of MediaPipe, and `litert:gpu`, for Vulkan devices. Their
//! library is fetched separately (`make setup-litert`) and loaded at run time.
//!
//! `litert:cpu:fp16` computes in 16-bit floats. A model that its target cannot run completely is refused: no part of it runs
//! on the CPU instead. The GPU computes in 32 bits: in 16 bits, LiteRT's default, landmarks move by a tenth of a pixel.

mod ffi;
mod session;

use super::backend::BackendError;
use super::cpu::without_xnnpack_line;
use super::model_files::{LibrarySpec, ModelFile, TensorSpec, find_near_program, manifest};
use super::tensors::{Accepted, TensorMap, copy_output};
use super::vulkan::{self, VulkanDevice};
use crate::hand::{Model, ModelError};
use crate::selection::{LITERT_CPU, LITERT_GPU};
use ffi::{Api, CallError};
use serde::{Deserialize, Serialize};
use session::Session;
use std::env::consts::ARCH;
use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

const LIBRARY: &str = "libLiteRt.so";
const ACCELERATOR: &str = "libLiteRtWebGpuAccelerator.so";
/// LiteRT searches for an accelerator of this name first.
const OTHER_ACCELERATOR: &str = "libLiteRtGpuAccelerator.so";

const CPU_OPTIONS: &CStr = c"num_threads = 1\n";
/// The flag is XNNPACK's `FORCE_FP16`.
const CPU_FP16_OPTIONS: &CStr = c"num_threads = 1\nflags = 4\n";

/// Attempts of the first run on a GPU. LiteRT gives up after a driver has compiled for two minutes; a driver with a cache
/// then continues.
const FIRST_RUN_ATTEMPTS: usize = 3;

/// LiteRT's XNNPACK prints a line about itself when its first model is compiled.
static FIRST_ON_CPU: Once = Once::new();

/// Processor on which LiteRT runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiteRtTarget {
    /// The CPU: one thread with XNNPACK's kernels.
    Cpu,
    /// The same in 16-bit floats.
    #[serde(rename = "cpu_fp16")]
    CpuFp16,
    /// The CPU in 32-bit floats, with a hand model in 8-bit integers.
    #[serde(rename = "cpu_int8")]
    CpuInt8,
    /// The best Vulkan device, in 32 bits.
    Gpu,
}

/// The library, loaded until the process ends; all workers make their models from it.
#[derive(Clone)]
pub struct LiteRt {
    api: Api,
    folder: PathBuf,
}

impl LiteRt {
    /// Finds, checks and loads the library: from `folder`, or from the first of the default folders that has it,
    /// installed (`../lib/handloom`) or in the source tree (`models/fetched/ARCH` in a folder above the program).
    ///
    /// # Errors
    /// Fails when it is not found, is not the pinned one, or cannot be loaded.
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
    /// Fails when it is in none of the default folders.
    pub fn locate() -> Result<(PathBuf, bool), BackendError> {
        let folder = default_folder()?;
        Ok((folder.join(LIBRARY), folder.join(ACCELERATOR).is_file()))
    }

    /// Checks that the accelerator that LiteRT loads for the GPU is the pinned one.
    fn check_accelerator(&self) -> Result<(), BackendError> {
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
        BackendError::Unusable(format!(
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

/// A model that LiteRT has compiled, with its buffers. One per worker.
#[derive(Debug)]
pub struct LiteRtModel {
    session: Session,
    input: Vec<f32>,
    /// In the order of the manifest.
    outputs: Vec<Vec<f32>>,
    /// Number in the model file of each output.
    numbers: Vec<usize>,
    /// Whether the last run succeeded.
    has_run: bool,
    device: Option<VulkanDevice>,
}

impl LiteRtModel {
    /// Compiles `file` for `target` and compares its tensors with the manifest. For the GPU also runs it once: the driver
    /// compiles its programs then, which takes up to a minute without a cache.
    ///
    /// # Errors
    /// Fails when there is no device, the target cannot run the whole model, or a tensor has another type or shape.
    pub fn new(
        runtime: &LiteRt,
        file: &ModelFile,
        target: LiteRtTarget,
    ) -> Result<Self, BackendError> {
        match target {
            LiteRtTarget::Cpu | LiteRtTarget::CpuInt8 => {
                return Self::open(runtime, file, None, CPU_OPTIONS);
            }
            LiteRtTarget::CpuFp16 => return Self::open(runtime, file, None, CPU_FP16_OPTIONS),
            LiteRtTarget::Gpu => {}
        }
        runtime.check_accelerator()?;
        let device = vulkan::devices().map(|mut devices| devices.swap_remove(0));
        let device = device.map_err(|reason| {
            BackendError::Unusable(format!("litert:gpu needs a Vulkan device: {reason}"))
        })?;
        let mut attempts = FIRST_RUN_ATTEMPTS;
        loop {
            let options = gpu_options(&device.name);
            let mut model = Self::open(runtime, file, Some(device.clone()), &options)?;
            attempts -= 1;
            match model.invoke() {
                Ok(()) => {
                    model.has_run = false;
                    return Ok(model);
                }
                // LiteRT's time limit; the driver's cache has what was compiled.
                Err(error) if attempts > 0 => {
                    tracing::warn!(%device, %error, "the first run on the GPU failed; trying again");
                }
                Err(ModelError(reason)) => return Err(device_error(&device, &reason)),
            }
        }
    }

    /// Compiles `file` for `device`, or for the CPU, with the options of that processor, and compares its tensors with the
    /// manifest.
    fn open(
        runtime: &LiteRt,
        file: &ModelFile,
        device: Option<VulkanDevice>,
        options: &CStr,
    ) -> Result<Self, BackendError> {
        let folder = CString::new(runtime.folder.as_os_str().as_bytes()).unwrap_or_default();
        let hardware = device.as_ref().map_or(ffi::CPU, |_| ffi::GPU);
        let compile = || {
            let bytes = Arc::clone(&file.bytes);
            Session::new(
                &runtime.api,
                bytes,
                folder.clone(),
                hardware,
                options.to_owned(),
            )
        };
        let mut compiled = None;
        if device.is_none() {
            FIRST_ON_CPU.call_once(|| compiled = Some(without_xnnpack_line(compile)));
        }
        let (session, [inputs, outputs]) = compiled
            .unwrap_or_else(compile)
            .map_err(|error| refused(file, device.as_ref(), error))?;
        let tensors = TensorMap::new(file, &inputs, &outputs, Accepted::Float)?;
        let values = |spec: &TensorSpec| vec![0.0; spec.elements()];
        Ok(Self {
            session,
            input: values(&file.spec.input),
            numbers: tensors.outputs.into_iter().map(|output| output.0).collect(),
            outputs: file.spec.outputs.iter().map(values).collect(),
            has_run: false,
            device,
        })
    }

    /// The GPU that runs the model; `None` on the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&VulkanDevice> {
        self.device.as_ref()
    }

    /// Runs the model and copies its outputs. A GPU reports its errors only then.
    fn run(&mut self) -> Result<(), CallError> {
        self.session.write(0, &self.input)?;
        self.session.run()?;
        for (number, out) in self.numbers.iter().zip(&mut self.outputs) {
            self.session.read(*number, out)?;
        }
        Ok(())
    }
}

impl Model for LiteRtModel {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let result = self.run();
        self.has_run = result.is_ok();
        result.map_err(|error| ModelError(error.to_string()))
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        if !self.has_run {
            let reason = "there was no successful run";
            return Err(ModelError(reason.to_owned()));
        }
        copy_output(index, self.outputs.get(index).map(Vec::as_slice), out)
    }
}

/// The error for the user, from a failed call of LiteRT.
fn refused(file: &ModelFile, device: Option<&VulkanDevice>, error: CallError) -> BackendError {
    let (role, path) = (file.spec.role, &file.origin);
    match device {
        _ if error.is_partial() => {
            let target = device.map_or(LITERT_CPU, |_| LITERT_GPU);
            BackendError::Unusable(format!(
                "{target} cannot run the whole {role} model {path}: {error}; no part of it runs elsewhere: use another model file or the backend \"cpu\""
            ))
        }
        Some(device) if error.is_device() => device_error(device, &error.to_string()),
        _ => BackendError::Unusable(format!(
            "LiteRT cannot use {path} as the {role} model: {error}; the file is damaged or needs operators that LiteRT lacks"
        )),
    }
}

fn device_error(device: &VulkanDevice, reason: &str) -> BackendError {
    BackendError::Unusable(format!(
        "LiteRT's GPU accelerator cannot use {device}: {reason}, details on stderr; install a newer driver (Mesa 25 works, Debian 12's 22.3 does not), use another GPU, or use the backend \"cpu\""
    ))
}

/// Options for 32 bits on the device `name`.
fn gpu_options(name: &str) -> CString {
    let precision = "precision = 2\n";
    // A name that TOML would have to escape is left out; LiteRT then chooses a device.
    let text = if name.contains(['"', '\\']) || name.contains(char::is_control) {
        precision.to_owned()
    } else {
        format!("{precision}preferred_device_substr = \"{name}\"\n")
    };
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn gpu_options_name_the_device_and_32_bits() {
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
