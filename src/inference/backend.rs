//! What runs the models, by the user's choice: one way to load a model and one to open it, whatever stands behind.

use super::bundle::{BundleError, ModelFile};
use super::cpu::{CpuGraph, CpuModel};
use super::delegate::{DelegateGraph, DelegateModel, Nodes};
use super::library::{DelegateError, DelegateSpec};
use crate::hand::Model;

/// What is to run the models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendSpec {
    /// TFLite's XNNPACK kernels.
    Cpu,
    /// A TFLite delegate plugin.
    Delegate(DelegateSpec),
}

/// Why a backend cannot run a model.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The model is no good.
    #[error(transparent)]
    Model(BundleError),
    /// The delegate is no good.
    #[error(transparent)]
    Delegate(DelegateError),
}

impl From<BundleError> for BackendError {
    fn from(error: BundleError) -> Self {
        Self::Model(error)
    }
}

impl From<DelegateError> for BackendError {
    fn from(error: DelegateError) -> Self {
        match error {
            DelegateError::Model(error) => Self::Model(error),
            error => Self::Delegate(error),
        }
    }
}

/// A model loaded for a backend; shared by all workers, each of which opens its own interpreter.
pub enum Graph<'a> {
    /// See [`BackendSpec::Cpu`].
    Cpu(CpuGraph<'a>),
    /// See [`BackendSpec::Delegate`].
    Delegate(Box<DelegateGraph>),
}

/// A model ready to run.
pub struct Opened<'a> {
    /// It.
    pub model: Box<dyn Model + Send + 'a>,
    /// How much of it an accelerator runs; `None` on the CPU.
    pub nodes: Option<Nodes>,
}

impl<'a> Graph<'a> {
    /// Loads `file`, or the model that `spec` names in its place.
    ///
    /// # Errors
    /// When the model cannot be read or is none, or the delegate's library cannot be loaded.
    pub fn load(spec: &BackendSpec, file: &'a ModelFile) -> Result<Self, BackendError> {
        Ok(match spec {
            BackendSpec::Cpu => Self::Cpu(CpuGraph::new(file)?),
            BackendSpec::Delegate(spec) => {
                Self::Delegate(Box::new(DelegateGraph::load(spec, file)?))
            }
        })
    }

    /// Makes an interpreter. A delegate may want to be opened on the thread that runs it.
    ///
    /// # Errors
    /// When runtime or delegate refuse, or the model is not of the shape that the manifest says.
    pub fn open(&'a self) -> Result<Opened<'a>, BackendError> {
        Ok(match self {
            Self::Cpu(graph) => Opened {
                model: Box::new(CpuModel::new(graph)?),
                nodes: None,
            },
            Self::Delegate(graph) => {
                let model = DelegateModel::open(graph)?;
                Opened {
                    nodes: Some(model.nodes()),
                    model: Box::new(model),
                }
            }
        })
    }
}
