//! Models with 32-bit tensors on the CPU: tflitec over the TFLite C library, XNNPACK on, one thread per interpreter.

use super::model_files::{ModelFile, ModelFileError};
use super::tensors::{TensorMap, output_error};
use crate::hand::{Model, ModelError};
use self_cell::self_cell;
use std::sync::Arc;
use tflitec::interpreter::{Interpreter, Options};

// tflitec's types borrow what they are made of; these own it.
type Graph<'a> = tflitec::model::Model<'a>;
self_cell!(
    /// A model file that tflitec has parsed, shared by the interpreters of all workers.
    pub(super) struct ParsedModel {
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

/// An interpreter of one worker, with XNNPACK's single-threaded kernels.
pub(super) struct FloatModel {
    interpreter: OwnedInterpreter,
    input: Vec<f32>,
    /// Number in the model file of each output of the manifest.
    outputs: Vec<usize>,
}

impl ParsedModel {
    /// Parses `file`.
    ///
    /// # Errors
    /// Fails when the runtime refuses the model.
    pub(super) fn of(file: &ModelFile) -> Result<Arc<Self>, ModelFileError> {
        let parsed = Self::try_new(Arc::clone(&file.bytes), |bytes| Graph::from_bytes(bytes));
        let parsed = parsed.map_err(|error| file.runtime_error(&error.to_string()));
        parsed.map(Arc::new)
    }
}

impl FloatModel {
    /// Makes an interpreter of `file`, which is `parsed` and whose `tensors` are all [`super::tensors::Encoding::F32`].
    ///
    /// # Errors
    /// Fails when the runtime refuses the model.
    pub(super) fn open(
        file: &ModelFile,
        parsed: Arc<ParsedModel>,
        tensors: &TensorMap,
    ) -> Result<Self, ModelFileError> {
        let refused = |error: tflitec::Error| file.runtime_error(&error.to_string());
        // Two threads collapse on a busy machine; clips in parallel use the cores better.
        let options = Options {
            thread_count: 1,
            is_xnnpack_enabled: true,
        };
        let interpreter = OwnedInterpreter::try_new(parsed, |parsed| {
            Interpreter::new(parsed.borrow_dependent(), Some(options))
        });
        let interpreter = interpreter.map_err(refused)?;
        let runtime = interpreter.borrow_dependent();
        runtime.allocate_tensors().map_err(refused)?;
        Ok(Self {
            interpreter,
            input: vec![0.0; file.spec.input.elements()],
            outputs: tensors.outputs.iter().map(|output| output.0).collect(),
        })
    }
}

impl Model for FloatModel {
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
