//! The CPU backend: tflitec over the TFLite C library, XNNPACK on, one thread per interpreter.

use super::ffi::Delegate;
use super::model_files::{ModelFile, ModelFileError};
use super::tensors::{Accepted, TensorInfo, TensorMap, TensorType, output_error};
use crate::hand::{Model, ModelError};
use self_cell::self_cell;
use std::sync::Arc;
use tflitec::interpreter::{Interpreter, Options};
use tflitec::tensor::{DataType, Tensor};

// tflitec's types borrow what they are made of; these own it.
type Graph<'a> = tflitec::model::Model<'a>;
self_cell!(
    struct ParsedModel {
        owner: Arc<[u8]>,
        #[covariant]
        dependent: Graph,
    }
);
self_cell!(
    struct OwnedInterpreter {
        owner: Arc<ParsedModel>,
        #[covariant]
        dependent: Interpreter,
    }
);

/// A model file that the runtime has parsed, shared by all workers; each makes a [`CpuModel`] of it.
pub struct CpuLoadedModel {
    file: ModelFile,
    parsed: Arc<ParsedModel>,
}

impl CpuLoadedModel {
    /// Parses `file`.
    ///
    /// # Errors
    /// When it is not a TFLite model.
    pub fn new(file: &ModelFile) -> Result<Self, ModelFileError> {
        let parsed =
            ParsedModel::try_new(Arc::clone(&file.bytes), |bytes| Graph::from_bytes(bytes));
        Ok(Self {
            parsed: Arc::new(parsed.map_err(|error| file.runtime_error(&error.to_string()))?),
            file: file.clone(),
        })
    }
}

/// Makes XNNPACK print the line that it prints to stderr once in a process.
pub fn load_xnnpack() {
    // A failure shows again when the first model is opened.
    Delegate::xnnpack().ok();
}

/// An interpreter of one worker, with XNNPACK's single-threaded kernels.
pub struct CpuModel {
    interpreter: OwnedInterpreter,
    input: Vec<f32>,
    /// Number in the model file of each output of the manifest.
    outputs: Vec<usize>,
}

impl CpuModel {
    /// Makes the interpreter and compares its tensors with the manifest.
    ///
    /// # Errors
    /// When the runtime refuses the model or a tensor has another type or shape.
    pub fn open(loaded: &CpuLoadedModel) -> Result<Self, ModelFileError> {
        let file = &loaded.file;
        let refused = |error: tflitec::Error| file.runtime_error(&error.to_string());
        // Two threads collapse on a busy machine; clips in parallel use the cores better.
        let options = Options {
            thread_count: 1,
            is_xnnpack_enabled: true,
        };
        let interpreter = OwnedInterpreter::try_new(Arc::clone(&loaded.parsed), |parsed| {
            Interpreter::new(parsed.borrow_dependent(), Some(options))
        });
        let interpreter = interpreter.map_err(refused)?;
        let runtime = interpreter.borrow_dependent();
        runtime.allocate_tensors().map_err(refused)?;
        let inputs = (0..runtime.input_tensor_count())
            .map(|i| runtime.input(i).map(|tensor| info(&tensor)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        let outputs = (0..runtime.output_tensor_count())
            .map(|i| runtime.output(i).map(|tensor| info(&tensor)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(refused)?;
        let map = TensorMap::new(file, &inputs, &outputs, Accepted::Float)?;
        Ok(Self {
            interpreter,
            input: vec![0.0; file.spec.input.elements()],
            outputs: map.outputs.into_iter().map(|(index, _)| index).collect(),
        })
    }
}

impl Model for CpuModel {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let runtime = self.interpreter.borrow_dependent();
        let copied = runtime.copy(&self.input, 0);
        copied.map_err(|error| ModelError(error.to_string()))?;
        let run = runtime.invoke();
        run.map_err(|_| ModelError("the TFLite interpreter reported an error".into()))
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let mismatch = || output_error(index, out.len());
        let number = *self.outputs.get(index).ok_or_else(mismatch)?;
        let tensor = self.interpreter.borrow_dependent().output(number);
        let tensor = tensor.map_err(|error| ModelError(error.to_string()))?;
        let values = tensor.data::<f32>();
        if values.len() != out.len() {
            return Err(mismatch());
        }
        out.copy_from_slice(values);
        Ok(())
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
