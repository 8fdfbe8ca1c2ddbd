//! A model on an interpreter of TensorFlow Lite whose delegates are applied: how its tensors are filled and read.

use super::ffi::{RawInterpreter, RuntimeError};
use super::model_files::{ModelFile, ModelFileError};
use super::tensors::{Accepted, Encoding, TensorMap, output_error};
use crate::hand::{Model, ModelError};

/// An interpreter of one worker, ready to run.
#[derive(Debug)]
pub(super) struct PreparedModel {
    interpreter: RawInterpreter,
    input: Vec<f32>,
    input_encoding: Encoding,
    /// Number in the model file and encoding of each output of the manifest.
    outputs: Vec<(usize, Encoding)>,
}

/// Why a model cannot be prepared.
pub(super) enum PrepareError {
    /// Its tensors differ from the manifest.
    Tensors(ModelFileError),
    /// The runtime or a delegate refuses it.
    Runtime(RuntimeError),
}

impl From<RuntimeError> for PrepareError {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(error)
    }
}

/// The tensors of `interpreter`, compared with the manifest of `file`.
pub(super) fn tensor_map(
    file: &ModelFile,
    interpreter: &RawInterpreter,
) -> Result<TensorMap, PrepareError> {
    let (inputs, outputs) = interpreter.tensors()?;
    let accepted = Accepted::FloatOrQuantized;
    TensorMap::new(file, &inputs, &outputs, accepted).map_err(PrepareError::Tensors)
}

impl PreparedModel {
    /// Allocates the tensors of `interpreter` and compares them with the manifest of `file`.
    pub(super) fn new(
        file: &ModelFile,
        mut interpreter: RawInterpreter,
    ) -> Result<Self, PrepareError> {
        interpreter.allocate()?;
        let tensors = tensor_map(file, &interpreter)?;
        // Fails where the input has no memory of its own.
        interpreter.input(0)?;
        Ok(Self {
            interpreter,
            input: vec![0.0; file.spec.input.elements()],
            input_encoding: tensors.input,
            outputs: tensors.outputs,
        })
    }

    /// Encodes the input and runs the model.
    pub(super) fn run(&mut self) -> Result<(), RuntimeError> {
        let memory = self.interpreter.input(0)?;
        if !self.input_encoding.write(&self.input, memory) {
            return Err(RuntimeError("the size of the input changed".to_owned()));
        }
        self.interpreter.invoke()
    }
}

impl Model for PreparedModel {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        self.run().map_err(|error| ModelError(error.0))
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let output = self.outputs.get(index);
        let (number, encoding) = output.ok_or_else(|| output_error(index, out.len()))?;
        let memory = self.interpreter.output(*number);
        let memory = memory.map_err(|error| ModelError(error.0))?;
        if encoding.read(memory, out) {
            Ok(())
        } else {
            Err(output_error(index, out.len()))
        }
    }
}
