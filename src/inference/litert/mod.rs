//! The LiteRT backends: `litert:cpu`, whose kernels are those of MediaPipe itself, and `litert:gpu`, its accelerator
//! for Vulkan devices. Both run on a library that is fetched apart (`make setup-litert`) and loaded when asked for.
//!
//! What is asked for is what runs: a model that its target cannot run whole is refused, no part of it falls to the
//! CPU. The GPU computes in 32 bits; in 16, LiteRT's own choice, landmarks move by a tenth of a pixel.

mod ffi;
mod runtime;
mod session;

pub use runtime::{LiteRt, LiteRtError};

use super::vulkan::{self, VulkanDevice, VulkanError};
use crate::hand::{Model, ModelError};
use crate::inference::model_files::{ModelFile, ModelFileError, TensorSpec};
use ffi::CallError;
use serde::{Deserialize, Serialize};
use session::{Session, SessionOptions, TensorDescription};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;

/// How often a GPU may try its first run. LiteRT gives up on a driver that compiles for two minutes; a driver with a
/// cache goes on where it was.
const FIRST_RUNS: usize = 3;

/// Where LiteRT runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LiteRtTarget {
    /// One thread with XNNPACK's kernels.
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

/// A model that LiteRT has compiled, with its buffers. One a worker.
#[derive(Debug)]
pub struct LiteRtModel<'a> {
    session: Session<'a>,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
    outputs_valid: bool,
    device: Option<VulkanDevice>,
}

impl<'a> LiteRtModel<'a> {
    /// Compiles `file` for `target` and holds its tensors against the manifest. For the GPU, also runs it once: its
    /// driver compiles the programs then, which may take a minute where it has none in its cache.
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
                runtime.hold_accelerator()?;
                let devices = vulkan::devices()?;
                devices.into_iter().next().ok_or(VulkanError::NoDevice)?
            }
        };
        let mut tries = FIRST_RUNS;
        loop {
            let mut model = Self::open(runtime, file, Some(device.clone()))?;
            tries -= 1;
            match model.invoke() {
                Ok(()) => {
                    model.outputs_valid = false;
                    return Ok(model);
                }
                // Too slow for LiteRT's patience; what was compiled is in the driver's cache.
                Err(error) if tries > 0 => {
                    tracing::warn!(%device, %error, "the GPU's first run failed; it is tried again");
                }
                Err(ModelError(reason)) => {
                    let device = device.to_string();
                    return Err(LiteRtError::Device { device, reason });
                }
            }
        }
    }

    /// Compiles `file` for `device`, or for the CPU, and holds its tensors against the manifest.
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
            return Err(failed(CallError::LEFT_OVER));
        }
        let inputs = std::slice::from_ref(&file.spec.input);
        hold_tensors(file, "input", inputs, session.inputs())?;
        hold_tensors(file, "output", &file.spec.outputs, session.outputs())?;
        let values = |spec: &TensorSpec| vec![0.0; spec.shape.iter().product()];
        Ok(Self {
            session,
            input: values(&file.spec.input),
            outputs: file.spec.outputs.iter().map(values).collect(),
            outputs_valid: false,
            device,
        })
    }

    /// Who runs the model, where it is not the CPU.
    #[must_use]
    pub fn device(&self) -> Option<&VulkanDevice> {
        self.device.as_ref()
    }

    /// Runs the model and brings its outputs here. A GPU says only then that it has failed.
    fn run(&mut self) -> Result<(), CallError> {
        self.session.write(0, &self.input)?;
        self.session.run()?;
        for (index, out) in self.outputs.iter_mut().enumerate() {
            self.session.read(index, out)?;
        }
        Ok(())
    }
}

impl Model for LiteRtModel<'_> {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let ran = self.run();
        self.outputs_valid = ran.is_ok();
        ran.map_err(|failure| ModelError(failure.to_string()))
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        if !self.outputs_valid {
            let reason = "there is no output: the model has not run, or has failed";
            return Err(ModelError(reason.to_owned()));
        }
        let values = self.outputs.get(index).map_or(&[][..], Vec::as_slice);
        if values.len() != out.len() {
            return Err(ModelError(format!(
                "output {index} has {} values, expected {}",
                values.len(),
                out.len()
            )));
        }
        out.copy_from_slice(values);
        Ok(())
    }
}

/// What LiteRT's refusal of `file` for `device` means to the user.
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

fn hold_tensors(
    file: &ModelFile,
    what: &str,
    expected: &[TensorSpec],
    found: &[TensorDescription],
) -> Result<(), ModelFileError> {
    let wrong = |what: String, expected: String, found: String| ModelFileError::Shape {
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
        // Own models may name their tensors as they like, but another's name means another order.
        let misplaced = tensor.name != spec.name && expected.iter().any(|e| e.name == tensor.name);
        if tensor.element != ffi::FLOAT32 || misplaced || !shape.eq(tensor.shape.iter().copied()) {
            return Err(wrong(
                format!("{what} {index}"),
                format!("{} {} {:?}", spec.name, spec.dtype, spec.shape),
                format!("{} type {} {:?}", tensor.name, tensor.element, tensor.shape),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::model_files::{ModelRole, ModelSpec};

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
        let tensor = |name: &str, element, shape: &[i32]| TensorDescription {
            name: name.to_owned(),
            element,
            shape: shape.to_vec(),
        };
        let file = ModelFile {
            spec: ModelSpec {
                role: ModelRole::Palm,
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
        let expected = [spec("a", &[1, 63]), spec("b", &[1, 1]), spec("c", &[1, 1])];
        let check = |found: &[TensorDescription], wrong: Option<&str>| {
            let said = hold_tensors(&file, "output", &expected, found);
            let said = said.err().map(|e| e.to_string());
            match wrong {
                None => assert_eq!(said, None),
                Some(wrong) => assert!(said.unwrap().contains(wrong), "{wrong}"),
            }
        };
        let [a, b, c] = [("a", 63), ("b", 1), ("c", 1)]
            .map(|(name, size)| tensor(name, ffi::FLOAT32, &[1, size]));
        let third = |c: TensorDescription| [a.clone(), b.clone(), c];
        check(&third(c.clone()), None);
        check(&third(tensor("own", ffi::FLOAT32, &[1, 1])), None);
        check(&[a.clone(), b.clone()], Some("number of outputs"));
        check(&[b.clone(), a.clone(), c.clone()], Some("output 0"));
        check(&[a.clone(), c, b.clone()], Some("output 1"));
        check(&third(tensor("c", 9, &[1, 1])), Some("type 9"));
        check(&third(tensor("c", ffi::FLOAT32, &[1, -1])), Some("[1, -1]"));
        check(&third(tensor("c", ffi::FLOAT32, &[1])), Some("output 2"));
    }
}
