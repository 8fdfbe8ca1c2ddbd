//! The LiteRT backends: `litert:cpu`, which has the kernels of MediaPipe, and `litert:gpu`, for Vulkan devices. Their
//! library is fetched separately (`make setup-litert`) and loaded at run time.
//!
//! A model that its target cannot run completely is refused: no part of it runs on the CPU instead. The GPU computes in
//! 32 bits: in 16 bits, LiteRT's default, landmarks move by a tenth of a pixel.

mod ffi;
mod runtime;
mod session;

pub use runtime::{LiteRt, LiteRtError};

use super::tensors::{Accepted, TensorMap, copy_output};
use super::vulkan::{self, VulkanDevice, VulkanError};
use crate::hand::{Model, ModelError};
use crate::inference::model_files::{ModelFile, TensorSpec};
use ffi::CallError;
use serde::{Deserialize, Serialize};
use session::{Session, SessionOptions};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

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

impl std::fmt::Display for LiteRtTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "litert:cpu",
            Self::Gpu => "litert:gpu",
        })
    }
}

/// A model that LiteRT has compiled, with its buffers. One per worker.
#[derive(Debug)]
pub struct LiteRtModel<'a> {
    session: Session<'a>,
    input: Vec<f32>,
    /// In the order of the manifest.
    outputs: Vec<Vec<f32>>,
    /// Number in the model file of each output.
    numbers: Vec<usize>,
    /// Whether the last run succeeded.
    has_run: bool,
    device: Option<VulkanDevice>,
}

impl<'a> LiteRtModel<'a> {
    /// Compiles `file` for `target` and compares its tensors with the manifest. For the GPU also runs it once: the driver
    /// compiles its programs then, which takes up to a minute without a cache.
    ///
    /// # Errors
    /// When there is no device, the target cannot run the whole model, or a tensor has another type or shape.
    pub fn new(
        runtime: &'a LiteRt,
        file: &'a ModelFile,
        target: LiteRtTarget,
    ) -> Result<Self, LiteRtError> {
        let device = match target {
            LiteRtTarget::Cpu => return Self::open(runtime, file, None),
            LiteRtTarget::Gpu => {
                runtime.check_accelerator()?;
                let devices = vulkan::devices()?;
                devices.into_iter().next().ok_or(VulkanError::NoDevice)?
            }
        };
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
                Err(ModelError(reason)) => {
                    let device = device.to_string();
                    return Err(LiteRtError::Device { device, reason });
                }
            }
        }
    }

    /// Compiles `file` for `device`, or for the CPU, and compares its tensors with the manifest.
    fn open(
        runtime: &'a LiteRt,
        file: &'a ModelFile,
        device: Option<VulkanDevice>,
    ) -> Result<Self, LiteRtError> {
        let folder = CString::new(runtime.folder.as_os_str().as_bytes()).unwrap_or_default();
        let (hardware, options) = match &device {
            None => (ffi::CPU, (c"xnnpack", c"num_threads = 1\n".to_owned())),
            Some(device) => (ffi::GPU, (c"gpu_options", gpu_options(&device.name))),
        };
        let plan = SessionOptions {
            hardware,
            folder,
            options,
        };
        let failed = |failure: CallError| failed(file, device.as_ref(), failure);
        let session = Session::new(&runtime.library, &file.bytes, plan).map_err(failed)?;
        if !session.is_accelerated(hardware).map_err(failed)? {
            return Err(failed(CallError::NOT_ACCELERATED));
        }
        let tensors = TensorMap::new(file, session.inputs(), session.outputs(), Accepted::Float)?;
        let values = |spec: &TensorSpec| vec![0.0; spec.len()];
        Ok(Self {
            session,
            input: values(&file.spec.input),
            numbers: tensors
                .outputs
                .into_iter()
                .map(|(index, _)| index)
                .collect(),
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

impl Model for LiteRtModel<'_> {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let result = self.run();
        self.has_run = result.is_ok();
        result.map_err(|failure| ModelError(failure.to_string()))
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
fn failed(file: &ModelFile, device: Option<&VulkanDevice>, failure: CallError) -> LiteRtError {
    let (role, path) = (file.spec.role, file.origin.clone());
    let reason = failure.to_string();
    match device {
        _ if failure.is_partial() => LiteRtError::Partial {
            target: device.map_or(LiteRtTarget::Cpu, |_| LiteRtTarget::Gpu),
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
