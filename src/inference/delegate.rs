//! Models on a delegate plugin of TensorFlow Lite, which drives an NPU or a GPU. XNNPACK's CPU kernels run the nodes that
//! the plugin leaves.

use super::backend::BackendError;
use super::delegate_library::{self, DelegateSpec};
use super::ffi::{self, Delegate, Plugin, RawInterpreter, RawModel, RuntimeError};
use super::model_files::{ModelFile, ModelFiles, ModelRole};
use super::prepared_model::{PrepareError, PreparedModel, tensor_map};
use crate::hand::{Model, ModelError};
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

/// How many nodes of a model a delegate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCounts {
    /// Nodes that the delegate took.
    pub taken: usize,
    /// Nodes of the model.
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

/// A parsed model with the plugin that runs it, shared by all that open a [`DelegateModel`] of it.
#[derive(Debug)]
pub struct DelegateLoadedModel {
    model: Arc<RawModel>,
    file: ModelFile,
    plugin: DelegatePlugin,
}

#[derive(Debug)]
struct DelegatePlugin {
    plugin: Plugin,
    library: PathBuf,
    options: Vec<(CString, CString)>,
}

impl DelegateLoadedModel {
    /// Loads the plugin, and the model of `role` that the delegate brings or else that of `files`.
    ///
    /// # Errors
    /// Fails when the plugin or the model cannot be loaded.
    pub fn load(
        spec: &DelegateSpec,
        files: &ModelFiles,
        role: ModelRole,
    ) -> Result<Self, BackendError> {
        let plugin = DelegatePlugin {
            options: delegate_library::options(&spec.options, role)?,
            plugin: delegate_library::load(&spec.library)?,
            library: spec.library.clone(),
        };
        let own = match role {
            ModelRole::Palm => &spec.palm,
            ModelRole::Hand => &spec.hand,
        };
        let file = match own {
            Some(path) => files.delegate_model(role, path)?,
            None => files.of(role).clone(),
        };
        let model = RawModel::new(Arc::clone(&file.bytes));
        let model = model.map_err(|error| file.runtime_error(&error.0))?;
        Ok(Self {
            model: Arc::new(model),
            file,
            plugin,
        })
    }

    fn error(&self, error: RuntimeError) -> BackendError {
        BackendError::Unusable(format!(
            "the delegate {} cannot run the {} model {}: {}; use a model made for it or another accelerator",
            self.plugin.library.display(),
            self.file.spec.role,
            self.file.origin,
            with_plugin_messages(error.0)
        ))
    }

    fn refused(&self, error: PrepareError) -> BackendError {
        match error {
            PrepareError::Tensors(error) => error.into(),
            PrepareError::Runtime(error) => self.error(error),
        }
    }
}

/// An interpreter of one worker. Some devices, such as GPUs under OpenGL, want every call from one thread: open it on the
/// thread that runs it.
#[derive(Debug)]
pub struct DelegateModel {
    model: PreparedModel,
    nodes: NodeCounts,
}

impl DelegateModel {
    /// Lets the delegate of the plugin take its nodes, gives the others to XNNPACK, and compares the tensors with the
    /// manifest.
    ///
    /// # Errors
    /// Fails when plugin or runtime refuse, or a tensor has another shape or type.
    pub fn open(loaded: &DelegateLoadedModel) -> Result<Self, BackendError> {
        let refused = |error| loaded.error(error);
        let mut interpreter = RawInterpreter::new(&loaded.model).map_err(refused)?;
        // XNNPACK crashes on some invalid tensors: check them first.
        tensor_map(&loaded.file, &interpreter).map_err(|error| loaded.refused(error))?;
        let nodes = loaded.plugin.apply(&mut interpreter, &refused)?;
        if nodes.taken < nodes.total {
            let xnnpack = Delegate::xnnpack(false).map_err(refused)?;
            interpreter.apply(xnnpack).map_err(refused)?;
        }
        let model = PreparedModel::new(&loaded.file, interpreter);
        let model = model.map_err(|error| loaded.refused(error))?;
        Ok(Self { model, nodes })
    }

    /// How many nodes the delegate runs.
    #[must_use]
    pub fn nodes(&self) -> NodeCounts {
        self.nodes
    }
}

impl DelegatePlugin {
    /// Makes a delegate and lets it take nodes of `interpreter`.
    fn apply(
        &self,
        interpreter: &mut RawInterpreter,
        refused: &dyn Fn(RuntimeError) -> BackendError,
    ) -> Result<NodeCounts, BackendError> {
        let before = interpreter.execution_plan().map_err(refused)?;
        let delegate = self.plugin.create(&self.options).map_err(|message| {
            let no_reason = Some("it gave no reason").filter(|_| message.is_empty());
            BackendError::Unusable(format!(
                "the delegate {} did not start: {}; check that the device is present, that this user may open it, and that the plugin knows the options",
                self.library.display(),
                no_reason.unwrap_or(&message)
            ))
        })?;
        interpreter.apply(delegate).map_err(refused)?;
        let after = interpreter.execution_plan().map_err(refused)?;
        Ok(taken_nodes(&before, &after))
    }
}

impl Model for DelegateModel {
    fn input(&mut self) -> &mut [f32] {
        self.model.input()
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let run = self.model.run();
        run.map_err(|error| ModelError(with_plugin_messages(error.0)))
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        self.model.output(index, out)
    }
}

/// Counts the nodes that a delegate took, from the nodes that are executed before and after it was applied: the taken
/// ones are gone, and new ones replace them.
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
