//! The CPU backend: tflitec over the TFLite C library, XNNPACK on, one thread an interpreter.

use super::ffi::Delegate;
use crate::hand::{Model, ModelError};
use crate::inference::model_files::{ModelFile, ModelFileError, TensorSpec};
use tflitec::interpreter::{Interpreter, Options};
use tflitec::tensor::{DataType, Tensor};

/// A model file parsed by the runtime; shared by all workers, each of which makes its own [`CpuModel`] of it.
pub struct CpuLoadedModel<'a> {
    file: &'a ModelFile,
    model: tflitec::model::Model<'a>,
}

impl<'a> CpuLoadedModel<'a> {
    /// Parses `file`.
    ///
    /// # Errors
    /// When it is no TFLite model.
    pub fn new(file: &'a ModelFile) -> Result<Self, ModelFileError> {
        let model =
            tflitec::model::Model::from_bytes(&file.bytes).map_err(|e| runtime_error(file, &e))?;
        Ok(Self { file, model })
    }
}

/// Has XNNPACK say what it says once in a process, that it is there, for who wants it said apart from the rest.
pub fn introduce() {
    // Where it cannot be made, the first model says so.
    Delegate::xnnpack().ok();
}

/// An interpreter of one worker with XNNPACK's single-threaded kernels.
#[derive(Debug)]
pub struct CpuModel<'a> {
    interpreter: Interpreter<'a>,
    input: Vec<f32>,
}

impl<'a> CpuModel<'a> {
    /// Builds the interpreter and holds its tensors against the manifest.
    ///
    /// # Errors
    /// When the runtime refuses the model or a tensor has another type or shape.
    pub fn new(graph: &'a CpuLoadedModel<'a>) -> Result<Self, ModelFileError> {
        let file = graph.file;
        // More threads an interpreter collapse on a busy machine; parallel clips use the cores better.
        let options = Options {
            thread_count: 1,
            is_xnnpack_enabled: true,
        };
        let interpreter =
            Interpreter::new(&graph.model, Some(options)).map_err(|e| runtime_error(file, &e))?;
        interpreter
            .allocate_tensors()
            .map_err(|e| runtime_error(file, &e))?;
        let spec = &file.spec;
        let counts = (
            interpreter.input_tensor_count(),
            interpreter.output_tensor_count(),
        );
        if counts != (1, spec.outputs.len()) {
            return Err(shape_error(
                file,
                "numbers of inputs and outputs",
                format!("(1, {})", spec.outputs.len()),
                format!("{counts:?}"),
            ));
        }
        check(file, "input", &spec.input, interpreter.input(0))?;
        for (i, output) in spec.outputs.iter().enumerate() {
            check(file, &format!("output {i}"), output, interpreter.output(i))?;
        }
        Ok(Self {
            input: vec![0.0; spec.input.shape.iter().product()],
            interpreter,
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
        let tensor = self
            .interpreter
            .output(index)
            .map_err(|e| ModelError(e.to_string()))?;
        let data = tensor.data::<f32>();
        if data.len() != out.len() {
            return Err(ModelError(format!(
                "output {index} has {} values, expected {}",
                data.len(),
                out.len()
            )));
        }
        out.copy_from_slice(data);
        Ok(())
    }
}

fn check(
    file: &ModelFile,
    what: &str,
    spec: &TensorSpec,
    tensor: tflitec::Result<Tensor<'_>>,
) -> Result<(), ModelFileError> {
    let tensor = tensor.map_err(|e| runtime_error(file, &e))?;
    let shape = tensor.shape().dimensions();
    if tensor.data_type() != DataType::Float32 || *shape != spec.shape {
        let found = format!("{:?} {shape:?}", tensor.data_type());
        return Err(shape_error(
            file,
            what,
            format!("{} {:?}", spec.dtype, spec.shape),
            found,
        ));
    }
    Ok(())
}

fn shape_error(file: &ModelFile, what: &str, expected: String, found: String) -> ModelFileError {
    ModelFileError::Shape {
        role: file.spec.role,
        path: file.origin.clone(),
        what: what.to_owned(),
        expected,
        found,
    }
}

fn runtime_error(file: &ModelFile, error: &tflitec::Error) -> ModelFileError {
    ModelFileError::Runtime {
        role: file.spec.role,
        path: file.origin.clone(),
        reason: error.to_string(),
    }
}
