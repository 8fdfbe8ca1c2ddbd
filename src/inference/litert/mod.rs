//! The LiteRT backends: `litert:cpu`, which has the kernels of MediaPipe, and `litert:gpu`, for Vulkan devices. Their
//! library is fetched separately (`make setup-litert`) and loaded at run time.
//!
//! A model that its target cannot run completely is refused: no part of it runs on the CPU instead. The GPU computes in
//! 32 bits: in 16 bits, LiteRT's default, landmarks move by a tenth of a pixel.

mod ffi;
mod runtime;
mod session;

pub use runtime::LiteRt;

use super::backend::BackendError;
use super::model_files::{ModelFile, TensorSpec};
use super::tensors::{Accepted, TensorMap, copy_output};
use super::vulkan::{self, VulkanDevice};
use crate::hand::{Model, ModelError};
use crate::selection::{LITERT_CPU, LITERT_GPU};
use ffi::CallError;
use serde::{Deserialize, Serialize};
use session::Session;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// Attempts of the first run on a GPU. LiteRT gives up after a driver has compiled for two minutes; a driver with a cache
/// then continues.
const FIRST_RUN_ATTEMPTS: usize = 3;

/// Processor on which LiteRT runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiteRtTarget {
    /// The CPU: one thread with XNNPACK's kernels.
    Cpu,
    /// The best Vulkan device, in 32 bits.
    Gpu,
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
    /// When there is no device, the target cannot run the whole model, or a tensor has another type or shape.
    pub fn new(
        runtime: &LiteRt,
        file: &ModelFile,
        target: LiteRtTarget,
    ) -> Result<Self, BackendError> {
        if target == LiteRtTarget::Cpu {
            return Self::open(runtime, file, None);
        }
        runtime.check_accelerator()?;
        let device = vulkan::devices().map(|mut devices| devices.swap_remove(0));
        let device = device.map_err(|reason| {
            BackendError::Device(format!("litert:gpu needs a Vulkan device: {reason}"))
        })?;
        let mut attempts = FIRST_RUN_ATTEMPTS;
        loop {
            let mut model = Self::open(runtime, file, Some(device.clone()))?;
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

    /// Compiles `file` for `device`, or for the CPU, and compares its tensors with the manifest.
    fn open(
        runtime: &LiteRt,
        file: &ModelFile,
        device: Option<VulkanDevice>,
    ) -> Result<Self, BackendError> {
        let folder = CString::new(runtime.folder.as_os_str().as_bytes()).unwrap_or_default();
        let (hardware, settings) = match &device {
            None => (ffi::CPU, c"num_threads = 1\n".to_owned()),
            Some(device) => (ffi::GPU, gpu_options(&device.name)),
        };
        let bytes = Arc::clone(&file.bytes);
        let (session, [inputs, outputs]) =
            Session::new(runtime.api, bytes, folder, hardware, settings)
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
            BackendError::Graph(format!(
                "{target} cannot run the whole {role} model {path}: {error}; no part of it runs elsewhere: use another model file or the backend \"cpu\""
            ))
        }
        Some(device) if error.is_device() => device_error(device, &error.to_string()),
        _ => BackendError::Graph(format!(
            "LiteRT cannot use {path} as the {role} model: {error}; the file is damaged or needs operators that LiteRT lacks"
        )),
    }
}

fn device_error(device: &VulkanDevice, reason: &str) -> BackendError {
    BackendError::Device(format!(
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
}
