//! Models on a TFLite delegate plugin, which drives an NPU or a GPU. XNNPACK's CPU kernels run the nodes that it leaves.

use super::delegate_library::{self, DelegateError, DelegateSpec};
use super::ffi::{self, Delegate, Plugin, RawInterpreter, RawModel, RuntimeError};
use super::model_files::{ModelFile, read_own};
use super::tensors::{Accepted, Encoding, TensorMap, output_error};
use crate::hand::{Model, ModelError};
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

/// How many nodes of a graph a delegate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCounts {
    /// Nodes that the delegate took; 0 for a delegate without use.
    pub taken: usize,
    /// Nodes of the graph.
    pub total: usize,
    /// Pieces in which the delegate took them; each costs a transfer to the device and back.
    pub pieces: usize,
}

impl std::fmt::Display for NodeCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} nodes", self.taken, self.total)?;
        if self.pieces > 1 {
            write!(f, " in {} pieces", self.pieces)?;
        }
        Ok(())
    }
}

/// A parsed model and a loaded plugin, shared by all that open a [`DelegateModel`] of it.
#[derive(Debug)]
pub struct DelegateLoadedModel {
    model: Arc<RawModel>,
    /// The model's file; `model` has the bytes.
    file: ModelFile,
    plugin: Option<DelegatePlugin>,
}

#[derive(Debug)]
struct DelegatePlugin {
    plugin: Plugin,
    library: PathBuf,
    options: Vec<(CString, CString)>,
}

impl DelegateLoadedModel {
    /// Loads the plugin, and the model that the delegate brings or else `file`.
    ///
    /// # Errors
    /// See [`DelegateError`].
    pub fn load(spec: &DelegateSpec, file: &ModelFile) -> Result<Self, DelegateError> {
        let role = file.spec.role;
        let plugin = DelegatePlugin {
            options: delegate_library::options(&spec.options, role)?,
            plugin: delegate_library::load(&spec.library)?,
            library: spec.library.clone(),
        };
        match spec.own_model(role) {
            Some(path) => Self::parse(&read_own(file, path)?, Some(plugin)),
            None => Self::parse(file, Some(plugin)),
        }
    }

    /// `file` on XNNPACK alone, with the same tensor types as with a delegate.
    ///
    /// # Errors
    /// When it is not a TFLite model.
    pub fn without_plugin(file: &ModelFile) -> Result<Self, DelegateError> {
        Self::parse(file, None)
    }

    /// SHA-256 of the model that runs.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.file.sha256
    }

    fn parse(file: &ModelFile, plugin: Option<DelegatePlugin>) -> Result<Self, DelegateError> {
        let model = RawModel::new(&file.bytes).map_err(|error| file.runtime_error(error.0))?;
        Ok(Self {
            model: Arc::new(model),
            file: file.without_bytes(),
            plugin,
        })
    }

    fn error(&self, error: RuntimeError) -> DelegateError {
        match &self.plugin {
            Some(plugin) => DelegateError::Graph {
                library: plugin.library.clone(),
                role: self.file.spec.role,
                path: self.file.origin.clone(),
                reason: with_plugin_messages(error.0),
            },
            None => DelegateError::Model(self.file.runtime_error(error.0)),
        }
    }

    fn tensors(&self, interpreter: &RawInterpreter) -> Result<TensorMap, DelegateError> {
        let (inputs, outputs) = interpreter.tensors().map_err(|error| self.error(error))?;
        let accepted = Accepted::FloatOrQuantized;
        Ok(TensorMap::new(&self.file, &inputs, &outputs, accepted)?)
    }
}

/// An interpreter with a delegate. Some devices, such as GPUs under OpenGL, want every call from one thread: open it on
/// the thread that runs it.
#[derive(Debug)]
pub struct DelegateModel {
    interpreter: RawInterpreter,
    input: Vec<f32>,
    input_encoding: Encoding,
    /// Number in the model file and encoding of each output of the manifest.
    outputs: Vec<(usize, Encoding)>,
    nodes: NodeCounts,
}

impl DelegateModel {
    /// Makes the delegate, lets it take its nodes, gives the others to XNNPACK, and compares the tensors with the
    /// manifest.
    ///
    /// # Errors
    /// When plugin or runtime refuse, or a tensor has another shape or an unknown type.
    pub fn open(loaded: &DelegateLoadedModel) -> Result<Self, DelegateError> {
        let refused = |error| loaded.error(error);
        let mut interpreter = RawInterpreter::new(&loaded.model).map_err(refused)?;
        // XNNPACK crashes on some invalid tensors: check them first.
        loaded.tensors(&interpreter)?;
        let before = interpreter.execution_plan().map_err(refused)?;
        let mut after = before.clone();
        if let Some(plugin) = &loaded.plugin {
            let delegate = plugin.plugin.create(&plugin.options);
            let delegate = delegate.map_err(|message| DelegateError::Refused {
                library: plugin.library.clone(),
                reason: if message.is_empty() {
                    "it gave no reason".to_owned()
                } else {
                    message
                },
            })?;
            interpreter.apply(delegate).map_err(refused)?;
            after = interpreter.execution_plan().map_err(refused)?;
        }
        let nodes = taken_nodes(&before, &after);
        if nodes.taken < nodes.total {
            let xnnpack = Delegate::xnnpack().map_err(refused)?;
            interpreter.apply(xnnpack).map_err(refused)?;
        }
        interpreter.allocate().map_err(refused)?;
        let tensors = loaded.tensors(&interpreter)?;
        // Fails where the input has no memory of its own.
        interpreter.input(0).map_err(refused)?;
        Ok(Self {
            interpreter,
            input: vec![0.0; loaded.file.spec.input.len()],
            input_encoding: tensors.input,
            outputs: tensors.outputs,
            nodes,
        })
    }

    /// How many nodes the delegate runs.
    #[must_use]
    pub fn nodes(&self) -> NodeCounts {
        self.nodes
    }
}

impl Model for DelegateModel {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let failed = |error: RuntimeError| ModelError(with_plugin_messages(error.0));
        let memory = self.interpreter.input(0).map_err(failed)?;
        if !self.input_encoding.write(&self.input, memory) {
            return Err(ModelError("the size of the input changed".to_owned()));
        }
        self.interpreter.invoke().map_err(failed)
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let length = out.len();
        let output = self.outputs.get(index);
        let (number, encoding) = output.ok_or_else(|| output_error(index, length))?;
        let memory = self.interpreter.output(*number);
        let memory = memory.map_err(|error| ModelError(error.0))?;
        if encoding.read(memory, out) {
            Ok(())
        } else {
            Err(output_error(index, length))
        }
    }
}

/// What a delegate took, by the nodes that are executed before and after it was applied: some are gone, and new ones
/// stand for them.
fn taken_nodes(before: &[i32], after: &[i32]) -> NodeCounts {
    let left = before.iter().filter(|node| after.contains(node)).count();
    NodeCounts {
        taken: before.len() - left,
        total: before.len(),
        pieces: after.len().saturating_sub(left),
    }
}

fn with_plugin_messages(reason: String) -> String {
    let messages = ffi::plugin_messages();
    if messages.is_empty() {
        reason
    } else {
        format!("{reason}; the delegate reports: {messages}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted() {
        let check = |before: &[i32], after: &[i32], text: &str| {
            assert_eq!(taken_nodes(before, after).to_string(), text);
        };
        check(&[0, 1, 2, 3], &[0, 1, 2, 3], "0 of 4 nodes");
        check(&[0, 1, 2, 3], &[4], "4 of 4 nodes");
        check(&[0, 1, 2, 3], &[0, 4, 3], "2 of 4 nodes");
        check(&[0, 1, 2, 3], &[4, 1, 5], "3 of 4 nodes in 2 pieces");
        check(&[], &[], "0 of 0 nodes");
    }
}
