//! One way to load and to open the models, for all backends.

use super::cpu::{CpuLoadedModel, CpuModel};
use super::delegate::{DelegateLoadedModel, DelegateModel, NodeCounts};
use super::delegate_library::{DelegateError, DelegateSpec};
use super::litert::{LiteRt, LiteRtError, LiteRtModel, LiteRtTarget};
use crate::hand::Model;
use crate::inference::model_files::{ModelFile, ModelFileError, ModelFiles};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How a backend is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendSpec {
    /// TFLite's XNNPACK kernels.
    Cpu,
    /// LiteRT, whose library is loaded at run time.
    LiteRt(LiteRtTarget),
    /// A TFLite delegate plugin.
    Delegate(DelegateSpec),
}

impl BackendSpec {
    /// Whether all workers share one device; on the CPU each has an interpreter of its own.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Cpu | Self::LiteRt(LiteRtTarget::Cpu))
    }
}

/// Why a backend cannot run a model.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A model file cannot be used.
    #[error(transparent)]
    Model(ModelFileError),
    /// The delegate cannot be used.
    #[error(transparent)]
    Delegate(DelegateError),
    /// LiteRT cannot be used.
    #[error(transparent)]
    LiteRt(LiteRtError),
}

impl From<ModelFileError> for BackendError {
    fn from(error: ModelFileError) -> Self {
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

impl From<LiteRtError> for BackendError {
    fn from(error: LiteRtError) -> Self {
        match error {
            LiteRtError::Model(error) => Self::Model(error),
            error => Self::LiteRt(error),
        }
    }
}

/// A model loaded for a backend, shared by all workers; each opens an interpreter of its own.
pub enum LoadedModel<'a> {
    /// See [`BackendSpec::Cpu`].
    Cpu(CpuLoadedModel<'a>),
    /// See [`BackendSpec::LiteRt`].
    LiteRt {
        /// The library.
        runtime: Arc<LiteRt>,
        /// The model file.
        file: &'a ModelFile,
        /// Processor that runs the model.
        target: LiteRtTarget,
    },
    /// See [`BackendSpec::Delegate`].
    Delegate(Box<DelegateLoadedModel>),
}

/// A model ready to run.
pub struct OpenModel<'a> {
    /// The interpreter.
    pub model: Box<dyn Model + Send + 'a>,
    /// Number of nodes that a delegate runs; `None` for other backends.
    pub nodes: Option<NodeCounts>,
}

impl<'a> LoadedModel<'a> {
    /// Loads `file`, or the model that the delegate of `spec` brings instead.
    ///
    /// # Errors
    /// When the model cannot be read or parsed, or a library cannot be loaded.
    pub fn load(spec: &BackendSpec, file: &'a ModelFile) -> Result<Self, BackendError> {
        Ok(match spec {
            BackendSpec::Cpu => Self::Cpu(CpuLoadedModel::new(file)?),
            BackendSpec::LiteRt(target) => Self::LiteRt {
                runtime: Arc::new(LiteRt::load(None)?),
                file,
                target: *target,
            },
            BackendSpec::Delegate(spec) => {
                Self::Delegate(Box::new(DelegateLoadedModel::load(spec, file)?))
            }
        })
    }

    /// Makes an interpreter. Some delegates must be opened on the thread that runs them.
    ///
    /// # Errors
    /// When runtime or delegate refuse the model, or its tensors differ from the manifest.
    pub fn open(&'a self) -> Result<OpenModel<'a>, BackendError> {
        Ok(match self {
            Self::Cpu(graph) => OpenModel {
                model: Box::new(CpuModel::new(graph)?),
                nodes: None,
            },
            Self::LiteRt {
                runtime,
                file,
                target,
            } => OpenModel {
                model: Box::new(LiteRtModel::new(runtime, file, *target)?),
                nodes: None,
            },
            Self::Delegate(graph) => {
                let model = DelegateModel::open(graph)?;
                OpenModel {
                    nodes: Some(model.nodes()),
                    model: Box::new(model),
                }
            }
        })
    }
}

/// Both models, loaded for one backend.
pub struct LoadedModels<'a> {
    palm: LoadedModel<'a>,
    hand: LoadedModel<'a>,
}

/// Both models, ready to run.
pub struct ModelPair<'a> {
    /// The palm model.
    pub palm: OpenModel<'a>,
    /// The hand model.
    pub hand: OpenModel<'a>,
}

impl<'a> LoadedModels<'a> {
    /// Loads both models.
    ///
    /// # Errors
    /// See [`LoadedModel::load`].
    pub fn load(spec: &BackendSpec, bundle: &'a ModelFiles) -> Result<Self, BackendError> {
        let palm = LoadedModel::load(spec, &bundle.palm)?;
        let hand = match &palm {
            // One library for both.
            LoadedModel::LiteRt {
                runtime, target, ..
            } => LoadedModel::LiteRt {
                runtime: Arc::clone(runtime),
                file: &bundle.hand,
                target: *target,
            },
            _ => LoadedModel::load(spec, &bundle.hand)?,
        };
        Ok(Self { palm, hand })
    }

    /// Opens both models.
    ///
    /// # Errors
    /// See [`LoadedModel::open`].
    pub fn open(&'a self) -> Result<ModelPair<'a>, BackendError> {
        Ok(ModelPair {
            palm: self.palm.open()?,
            hand: self.hand.open()?,
        })
    }
}

/// How much of both models a delegate runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateCoverage {
    /// Human-readable node counts.
    pub text: String,
    /// Whether the CPU runs a part.
    pub is_partial: bool,
    /// Whether the CPU runs everything.
    pub is_empty: bool,
}

impl<'a> ModelPair<'a> {
    /// The palm and the hand model.
    #[must_use]
    pub fn into_models(self) -> [Box<dyn Model + Send + 'a>; 2] {
        [self.palm.model, self.hand.model]
    }

    /// How much a delegate runs; `None` for other backends.
    #[must_use]
    pub fn coverage(&self) -> Option<DelegateCoverage> {
        let (palm, hand) = (self.palm.nodes?, self.hand.nodes?);
        Some(DelegateCoverage {
            text: format!("{palm} of the palm model and {hand} of the hand model"),
            is_partial: palm.taken < palm.total || hand.taken < hand.total,
            is_empty: palm.taken + hand.taken == 0,
        })
    }
}
