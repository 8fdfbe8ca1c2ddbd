//! Models on what a TFLite delegate plugin drives (an NPU, a GPU), XNNPACK's CPU kernels for the nodes that it leaves.

use super::delegate_library::{self, DelegateError, DelegateSpec};
use super::ffi::{
    self, Delegate, Plugin, RawInterpreter, RawModel, RuntimeError, TensorData, TensorDataMut,
    TensorInfo, TensorType,
};
use crate::hand::{Model, ModelError};
use crate::inference::model_files::{ModelFile, ModelFileError, ModelSpec, TensorSpec, read_own};
use crate::inference::quantize::Quantization;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;

/// Who runs a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCounts {
    /// Nodes that the delegate took; 0 is a delegate without use.
    pub taken: usize,
    /// Nodes of the graph.
    pub total: usize,
    /// Pieces that they are in; each costs a way to the device and back.
    pub pieces: usize,
}

impl std::fmt::Display for NodeCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            taken,
            total,
            pieces,
        } = self;
        write!(f, "{taken} of {total} nodes")?;
        if *pieces > 1 {
            write!(f, " in {pieces} pieces")?;
        }
        Ok(())
    }
}

/// A model and a plugin, loaded; shared by all who open a [`DelegateModel`] of it.
#[derive(Debug)]
pub struct DelegateLoadedModel {
    model: Arc<RawModel>,
    spec: ModelSpec,
    origin: String,
    sha256: String,
    plugin: Option<DelegatePlugin>,
}

#[derive(Debug)]
struct DelegatePlugin {
    plugin: Plugin,
    library: PathBuf,
    options: Vec<(CString, CString)>,
}

impl DelegateLoadedModel {
    /// Loads the plugin and reads the model: the delegate's own if it has one, else `file`.
    ///
    /// # Errors
    /// See [`DelegateError`].
    pub fn load(spec: &DelegateSpec, file: &ModelFile) -> Result<Self, DelegateError> {
        let role = file.spec.role;
        let options = delegate_library::options(&spec.options, role)?;
        let plugin = delegate_library::load(&spec.library)?;
        let loaded = DelegatePlugin {
            plugin,
            library: spec.library.clone(),
            options,
        };
        match spec.own_model(role) {
            Some(path) => Self::parse(&read_own(file, path)?, Some(loaded)),
            None => Self::parse(file, Some(loaded)),
        }
    }

    /// `file` on XNNPACK alone, through the same path: what the CPU can do beside a delegate.
    ///
    /// # Errors
    /// When it is no TFLite model.
    pub fn without_plugin(file: &ModelFile) -> Result<Self, DelegateError> {
        Self::parse(file, None)
    }

    /// SHA-256 of the model that runs, the delegate's own if it has one.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    fn parse(file: &ModelFile, plugin: Option<DelegatePlugin>) -> Result<Self, DelegateError> {
        let model = RawModel::new(&file.bytes).map_err(|reason| ModelFileError::Runtime {
            role: file.spec.role,
            path: file.origin.clone(),
            reason: reason.0,
        })?;
        Ok(Self {
            model: Arc::new(model),
            spec: file.spec.clone(),
            origin: file.origin.clone(),
            sha256: file.sha256.clone(),
            plugin,
        })
    }

    /// A refusal of runtime or plugin as the user reads it.
    fn error(&self, reason: RuntimeError) -> DelegateError {
        let (role, path) = (self.spec.role, self.origin.clone());
        match &self.plugin {
            Some(plugin) => DelegateError::Graph {
                library: plugin.library.clone(),
                role,
                path,
                reason: with_plugins_words(reason.0),
            },
            None => DelegateError::Model(ModelFileError::Runtime {
                role,
                path,
                reason: reason.0,
            }),
        }
    }

    fn shape_error(&self, what: &str, expected: String, found: String) -> DelegateError {
        DelegateError::Model(ModelFileError::Shape {
            role: self.spec.role,
            path: self.origin.clone(),
            what: what.to_owned(),
            expected,
            found,
        })
    }

    /// How the input and, in the manifest's order, the outputs are read; they must be those of the manifest.
    fn tensors(
        &self,
        interpreter: &RawInterpreter,
    ) -> Result<(TensorEncoding, Vec<OutputTensor>), DelegateError> {
        let refused = |reason| self.error(reason);
        let spec = &self.spec;
        let counts = (interpreter.input_count(), interpreter.output_count());
        if counts != (1, spec.outputs.len()) {
            return Err(self.shape_error(
                "numbers of inputs and outputs",
                format!("(1, {})", spec.outputs.len()),
                format!("{counts:?}"),
            ));
        }
        let input = interpreter.input_info(0).map_err(refused)?;
        let input = self.reading("input", &spec.input, &input)?;
        let found: Vec<TensorInfo> = (0..spec.outputs.len())
            .map(|i| interpreter.output_info(i).map_err(refused))
            .collect::<Result<_, _>>()?;
        let outputs = order(&spec.outputs, &found)
            .into_iter()
            .zip(&spec.outputs)
            .map(|(index, wanted)| {
                let reading = self.reading(&format!("output {index}"), wanted, &found[index])?;
                Ok(OutputTensor { index, reading })
            })
            .collect::<Result<_, DelegateError>>()?;
        Ok((input, outputs))
    }

    /// How the numbers of a tensor are read, once it is seen to be of the shape and of a type that fit.
    fn reading(
        &self,
        what: &str,
        spec: &TensorSpec,
        tensor: &TensorInfo,
    ) -> Result<TensorEncoding, DelegateError> {
        let found = || format!("{} {:?}", tensor.dtype, tensor.shape);
        let expected = || format!("f32, int8 or uint8 {:?}", spec.shape);
        if tensor.shape != spec.shape {
            return Err(self.shape_error(what, expected(), found()));
        }
        match tensor.dtype {
            TensorType::F32 => Ok(TensorEncoding::Plain),
            TensorType::U8 | TensorType::I8 => Quantization::of(tensor)
                .map(TensorEncoding::Quantised)
                .ok_or_else(|| {
                    let scale = format!(
                        "{} with scale {} and zero point {}",
                        found(),
                        tensor.scale,
                        tensor.zero_point
                    );
                    self.shape_error(what, format!("{}, with a scale", expected()), scale)
                }),
            TensorType::Other(_) => Err(self.shape_error(what, expected(), found())),
        }
    }
}

/// How a tensor's numbers are read and written.
#[derive(Clone, Copy, Debug)]
enum TensorEncoding {
    Plain,
    Quantised(Quantization),
}

#[derive(Debug)]
struct OutputTensor {
    /// Number in the model's file.
    index: usize,
    reading: TensorEncoding,
}

/// An interpreter with a delegate. Some devices, GPUs under OpenGL among them, want every call from one thread: open it
/// on the thread that runs it.
#[derive(Debug)]
pub struct DelegateModel {
    interpreter: RawInterpreter,
    /// Values of a quantised input before they are; a plain one is filled in place.
    quantised_input: Option<(Quantization, Vec<f32>)>,
    /// In the manifest's order.
    outputs: Vec<OutputTensor>,
    nodes: NodeCounts,
}

impl DelegateModel {
    /// Makes the delegate, lets it claim its nodes, gives the others to XNNPACK and holds the tensors against the
    /// manifest.
    ///
    /// # Errors
    /// When plugin or runtime refuse, or a tensor has another shape or a type that is not understood.
    pub fn open(graph: &DelegateLoadedModel) -> Result<Self, DelegateError> {
        let refused = |reason| graph.error(reason);
        let mut interpreter = RawInterpreter::new(&graph.model).map_err(refused)?;
        // XNNPACK crashes on some tensors that make no sense: they are looked at before anyone else is.
        graph.tensors(&interpreter)?;
        let nodes = match &graph.plugin {
            Some(loaded) => {
                let delegate = loaded.plugin.create(&loaded.options).map_err(|words| {
                    DelegateError::Refused {
                        library: loaded.library.clone(),
                        reason: if words.is_empty() {
                            "it gave no reason".to_owned()
                        } else {
                            words
                        },
                    }
                })?;
                let before = interpreter.plan().map_err(refused)?;
                interpreter.apply(delegate).map_err(refused)?;
                let after = interpreter.plan().map_err(refused)?;
                claimed(&before, &after)
            }
            None => NodeCounts {
                taken: 0,
                total: interpreter.plan().map_err(refused)?.len(),
                pieces: 0,
            },
        };
        if nodes.taken < nodes.total {
            let xnnpack = Delegate::xnnpack().map_err(refused)?;
            interpreter.apply(xnnpack).map_err(refused)?;
        }
        interpreter.allocate().map_err(refused)?;

        let (input, outputs) = graph.tensors(&interpreter)?;
        let quantised_input = match input {
            TensorEncoding::Plain => None,
            TensorEncoding::Quantised(quantisation) => {
                let count = graph.spec.input.shape.iter().product();
                Some((quantisation, vec![0.0; count]))
            }
        };
        // Seen once to be of the type and in place, the input stays so: nothing is allocated again.
        interpreter.input(0).map_err(refused)?;
        Ok(Self {
            interpreter,
            quantised_input,
            outputs,
            nodes,
        })
    }

    /// How much of the graph the delegate took.
    #[must_use]
    pub fn nodes(&self) -> NodeCounts {
        self.nodes
    }
}

impl Model for DelegateModel {
    fn input(&mut self) -> &mut [f32] {
        match &mut self.quantised_input {
            Some((_, values)) => values,
            None => match self.interpreter.input(0) {
                Ok(TensorDataMut::F32(values)) => values,
                // Ruled out by `open`.
                Ok(_) | Err(_) => &mut [],
            },
        }
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        let failed = |reason: RuntimeError| ModelError(with_plugins_words(reason.0));
        if let Some((quantisation, values)) = &self.quantised_input {
            let input = self.interpreter.input(0).map_err(failed)?;
            if !quantisation.write(values, input) {
                return Err(ModelError("the input has another size now".to_owned()));
            }
        }
        self.interpreter.invoke().map_err(failed)
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let output = self
            .outputs
            .get(index)
            .ok_or_else(|| ModelError(format!("there is no output {index}")))?;
        let data = self
            .interpreter
            .output(output.index)
            .map_err(|reason| ModelError(reason.0))?;
        let fits = match (output.reading, &data) {
            (TensorEncoding::Plain, TensorData::F32(values)) if values.len() == out.len() => {
                out.copy_from_slice(values);
                true
            }
            (TensorEncoding::Quantised(quantisation), data) => quantisation.read(data, out),
            (TensorEncoding::Plain, _) => false,
        };
        if fits {
            return Ok(());
        }
        Err(ModelError(format!(
            "output {index} does not have {} values",
            out.len()
        )))
    }
}

/// What was taken, by the nodes to be run before and after: those that are gone, and those that are new for them.
fn claimed(before: &[i32], after: &[i32]) -> NodeCounts {
    let left = before.iter().filter(|node| after.contains(node)).count();
    NodeCounts {
        taken: before.len() - left,
        total: before.len(),
        pieces: after.len().saturating_sub(left),
    }
}

/// For each output of the manifest its number in the file: by name where all names are there, else as they come.
fn order(wanted: &[TensorSpec], found: &[TensorInfo]) -> Vec<usize> {
    let by_name: Option<Vec<usize>> = wanted
        .iter()
        .map(|wanted| found.iter().position(|found| found.name == wanted.name))
        .collect();
    by_name.unwrap_or_else(|| (0..wanted.len()).collect())
}

fn with_plugins_words(reason: String) -> String {
    let said = ffi::said();
    if said.is_empty() {
        reason
    } else {
        format!("{reason}; the delegate says: {said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted() {
        let check = |before: &[i32], after: &[i32], text: &str| {
            assert_eq!(claimed(before, after).to_string(), text);
        };
        check(&[0, 1, 2, 3], &[0, 1, 2, 3], "0 of 4 nodes");
        check(&[0, 1, 2, 3], &[4], "4 of 4 nodes");
        check(&[0, 1, 2, 3], &[0, 4, 3], "2 of 4 nodes");
        check(&[0, 1, 2, 3], &[4, 1, 5], "3 of 4 nodes in 2 pieces");
        check(&[], &[], "0 of 0 nodes");
    }

    #[test]
    fn outputs_go_by_their_names_where_all_are_there() {
        let check = |found: [&str; 2], expected: [usize; 2]| {
            let wanted = ["Identity", "Identity_1"].map(|name| TensorSpec {
                name: name.to_owned(),
                dtype: "f32".to_owned(),
                shape: vec![1],
            });
            let found = found.map(|name| TensorInfo {
                name: name.to_owned(),
                dtype: TensorType::F32,
                shape: vec![1],
                scale: 0.0,
                zero_point: 0,
            });
            assert_eq!(order(&wanted, &found), expected);
        };
        check(["Identity", "Identity_1"], [0, 1]);
        check(["Identity_1", "Identity"], [1, 0]);
        check(["Identity_1", "other"], [0, 1]);
        check(["", ""], [0, 1]);
    }
}
