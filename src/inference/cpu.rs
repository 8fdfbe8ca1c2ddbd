//! Models on the CPU: TensorFlow Lite with XNNPACK's kernels, one thread per interpreter.

use super::backend::BoxedModel;
use super::ffi::{Delegate, RawInterpreter, RawModel};
use super::float_model::{FloatModel, ParsedModel};
use super::model_files::{ModelFile, ModelFileError};
use super::prepared_model::{PrepareError, PreparedModel, tensor_map};
use super::tensors::{Encoding, TensorMap};
use crate::hand::{Model, ModelError};
use crate::selection::Precision;
use crate::system::process;
use std::sync::{Arc, OnceLock};

/// A model file that the runtime has parsed, shared by all workers; each makes a [`CpuModel`] of it.
pub struct CpuLoadedModel {
    file: ModelFile,
    model: Arc<RawModel>,
    /// The same model for tflitec; empty before the first [`FloatModel`].
    float: OnceLock<Arc<ParsedModel>>,
    precision: Precision,
}

impl CpuLoadedModel {
    /// Parses `file`, to be run as it is, or in 16 bits with [`Precision::Fp16`].
    ///
    /// # Errors
    /// Fails when it is not a TFLite model.
    pub fn new(file: &ModelFile, precision: Precision) -> Result<Self, ModelFileError> {
        let model = RawModel::new(Arc::clone(&file.bytes));
        Ok(Self {
            model: Arc::new(model.map_err(|error| file.runtime_error(&error.0))?),
            file: file.clone(),
            float: OnceLock::new(),
            precision,
        })
    }

    fn prepare(&self) -> Result<CpuModel, PrepareError> {
        let mut interpreter = RawInterpreter::new(&self.model)?;
        // XNNPACK crashes on some invalid tensors: check them first.
        let tensors = tensor_map(&self.file, &interpreter)?;
        let is_fp16 = self.precision == Precision::Fp16;
        let mut encodings = tensors.outputs.iter().map(|output| output.1);
        let is_float = tensors.input == Encoding::F32 && encodings.all(|e| e == Encoding::F32);
        match (is_float, is_fp16) {
            (true, false) => {
                let model = self.float_model(&tensors);
                return Ok(CpuModel(Box::new(model.map_err(PrepareError::Tensors)?)));
            }
            (false, true) => {
                let error = self.fp16_error("its tensors are 8-bit integers");
                return Err(PrepareError::Tensors(error));
            }
            _ => {}
        }
        // tflitec has neither 8-bit tensors nor XNNPACK's options.
        interpreter.apply(Delegate::xnnpack(is_fp16)?)?;
        let model = PreparedModel::new(&self.file, interpreter)?;
        Ok(CpuModel(Box::new(model)))
    }

    fn float_model(&self, tensors: &TensorMap) -> Result<FloatModel, ModelFileError> {
        let parsed = if let Some(parsed) = self.float.get() {
            parsed
        } else {
            let parsed = ParsedModel::of(&self.file)?;
            self.float.get_or_init(|| parsed)
        };
        FloatModel::open(&self.file, Arc::clone(parsed), tensors)
    }

    fn fp16_error(&self, reason: &str) -> ModelFileError {
        ModelFileError::Unusable(format!(
            "the {} model {} cannot run in 16 bits: {reason}; this needs a float model and a processor with 16-bit floats (ARMv8.2 or AVX2), else use the backend \"cpu\"",
            self.file.spec.role, self.file.origin
        ))
    }
}

/// Loads XNNPACK without the line that it prints to stderr once in a process.
pub fn load_xnnpack() {
    // A failure shows again when the first model is opened.
    without_xnnpack_line(|| Delegate::xnnpack(false).ok());
}

/// Calls `load`, which may load the XNNPACK of a library, without the line that it prints about itself to stderr.
pub(super) fn without_xnnpack_line<T>(load: impl FnOnce() -> T) -> T {
    process::without_lines(
        |line| line.starts_with("INFO: Created TensorFlow Lite XNNPACK"),
        load,
    )
}

/// An interpreter of one worker, with XNNPACK's single-threaded kernels.
pub struct CpuModel(BoxedModel);

impl CpuModel {
    /// Makes the interpreter and compares its tensors with the manifest.
    ///
    /// # Errors
    /// Fails when the runtime refuses the model or its precision, or a tensor has another type or shape.
    pub fn open(loaded: &CpuLoadedModel) -> Result<Self, ModelFileError> {
        loaded.prepare().map_err(|error| match error {
            PrepareError::Tensors(error) => error,
            PrepareError::Runtime(error) if loaded.precision == Precision::Fp16 => {
                loaded.fp16_error(&error.0)
            }
            PrepareError::Runtime(error) => loaded.file.runtime_error(&error.0),
        })
    }
}

impl Model for CpuModel {
    fn input(&mut self) -> &mut [f32] {
        self.0.input()
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        self.0.invoke()
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.0.output(index, out)
    }
}
