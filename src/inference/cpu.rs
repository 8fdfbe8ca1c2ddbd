//! The CPU backend: tflitec over the TFLite C library, XNNPACK on, one thread per interpreter.

use super::ffi::Delegate;
use super::model_files::{ModelFile, ModelFileError};
use super::tensors::{Accepted, TensorInfo, TensorMap, TensorType, copy_output, output_error};
use crate::hand::{Model, ModelError};
use tflitec::interpreter::{Interpreter, Options};
use tflitec::tensor::{DataType, Tensor};

/// A model file that the runtime has parsed, shared by all workers; each makes a [`CpuModel`] of it.
pub struct CpuLoadedModel<'a> {
    file: &'a ModelFile,
    model: tflitec::model::Model<'a>,
}

impl<'a> CpuLoadedModel<'a> {
    /// Parses `file`.
    ///
    /// # Errors
    /// When it is not a TFLite model.
    pub fn new(file: &'a ModelFile) -> Result<Self, ModelFileError> {
        let model = tflitec::model::Model::from_bytes(&file.bytes);
        let model = model.map_err(|error| file.runtime_error(error.to_string()))?;
        Ok(Self { file, model })
    }
}

/// Makes XNNPACK print the line that it prints to stderr once in a process.
pub fn load_xnnpack() {
    // A failure shows again when the first model is opened.
    Delegate::xnnpack().ok();
}

/// An interpreter of one worker, with XNNPACK's single-threaded kernels.
#[derive(Debug)]
pub struct CpuModel<'a> {
    interpreter: Interpreter<'a>,
    input: Vec<f32>,
    /// Number in the model file of each output of the manifest.
    outputs: Vec<usize>,
}

impl<'a> CpuModel<'a> {
    /// Makes the interpreter and compares its tensors with the manifest.
    ///
    /// # Errors
    /// When the runtime refuses the model or a tensor has another type or shape.
    pub fn new(loaded: &'a CpuLoadedModel<'a>) -> Result<Self, ModelFileError> {
        let file = loaded.file;
        let refused = |error: tflitec::Error| file.runtime_error(error.to_string());
        // Two threads collapse on a busy machine; clips in parallel use the cores better.
        let options = Options {
            thread_count: 1,
            is_xnnpack_enabled: true,
        };
        let interpreter = Interpreter::new(&loaded.model, Some(options)).map_err(refused)?;
        interpreter.allocate_tensors().map_err(refused)?;
        let inputs = (0..interpreter.input_tensor_count())
            .map(|i| interpreter.input(i).map(|tensor| info(&tensor)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        let outputs = (0..interpreter.output_tensor_count())
            .map(|i| interpreter.output(i).map(|tensor| info(&tensor)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        let map = TensorMap::new(file, &inputs, &outputs, Accepted::Float)?;
        Ok(Self {
            interpreter,
            input: vec![0.0; file.spec.input.len()],
            outputs: map.outputs.into_iter().map(|(index, _)| index).collect(),
        })
    }
}

impl Model for CpuModel<'_> {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        self.interpreter
            .copy(&self.input, 0)
            .map_err(|e| ModelError(e.to_string()))?;
        self.interpreter
            .invoke()
            .map_err(|_| ModelError("the TFLite interpreter reported an error".into()))
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let number = self.outputs.get(index);
        let number = number.ok_or_else(|| output_error(index, out.len()))?;
        let tensor = self.interpreter.output(*number);
        let tensor = tensor.map_err(|e| ModelError(e.to_string()))?;
        copy_output(index, Some(tensor.data::<f32>()), out)
    }
}

fn info(tensor: &Tensor<'_>) -> TensorInfo {
    TensorInfo {
        name: tensor.name().to_owned(),
        dtype: match tensor.data_type() {
            DataType::Float32 => TensorType::F32,
            DataType::UInt8 => TensorType::U8,
            DataType::Int8 => TensorType::I8,
            other => TensorType::Other(other as i32),
        },
        shape: tensor.shape().dimensions().clone(),
        // Quantized tensors are not accepted here.
        scale: 0.0,
        zero_point: 0,
    }
}
