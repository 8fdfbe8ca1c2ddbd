//! What runs the models, by the user's choice: one way to load a model and one to open it, whatever stands behind.

use super::cpu::{CpuLoadedModel, CpuModel};
use super::delegate::{DelegateLoadedModel, DelegateModel, NodeCounts};
use super::delegate_library::{DelegateError, DelegateSpec};
use super::litert::{LiteRt, LiteRtError, LiteRtModel, LiteRtTarget};
use crate::hand::Model;
use crate::inference::model_files::{ModelFile, ModelFileError, ModelFiles};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is to run the models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendSpec {
    /// TFLite's XNNPACK kernels.
    Cpu,
    /// LiteRT, which is loaded when asked for.
    LiteRt(LiteRtTarget),
    /// A TFLite delegate plugin.
    Delegate(DelegateSpec),
}

impl BackendSpec {
    /// Whether all workers share one device. The CPU is as many as it has cores.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Cpu | Self::LiteRt(LiteRtTarget::Cpu))
    }
}

/// Why a backend cannot run a model.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The model is no good.
    #[error(transparent)]
    Model(ModelFileError),
    /// The delegate is no good.
    #[error(transparent)]
    Delegate(DelegateError),
    /// LiteRT is no good.
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

/// A model loaded for a backend; shared by all workers, each of which opens its own interpreter.
pub enum LoadedModel<'a> {
    /// See [`BackendSpec::Cpu`].
    Cpu(CpuLoadedModel<'a>),
    /// See [`BackendSpec::LiteRt`].
    LiteRt {
        /// The library.
        runtime: Arc<LiteRt>,
        /// The model.
        file: &'a ModelFile,
        /// Where it runs.
        target: LiteRtTarget,
    },
    /// See [`BackendSpec::Delegate`].
    Delegate(Box<DelegateLoadedModel>),
}

/// A model ready to run.
pub struct OpenModel<'a> {
    /// It.
    pub model: Box<dyn Model + Send + 'a>,
    /// How much of it an accelerator runs; `None` on the CPU.
    pub nodes: Option<NodeCounts>,
}

impl<'a> LoadedModel<'a> {
    /// Loads `file`, or the model that `spec` names in its place.
    ///
    /// # Errors
    /// When the model cannot be read or is none, or the delegate's library cannot be loaded.
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

    /// Makes an interpreter. A delegate may want to be opened on the thread that runs it.
    ///
    /// # Errors
    /// When runtime or delegate refuse, or the model is not of the shape that the manifest says.
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
    /// Loads both.
    ///
    /// # Errors
    /// See [`LoadedModel::load`].
    pub fn load(spec: &BackendSpec, bundle: &'a ModelFiles) -> Result<Self, BackendError> {
        let palm = LoadedModel::load(spec, &bundle.palm)?;
        let hand = match &palm {
            // The library is loaded once.
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

    /// Opens both.
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

/// How much of both models an accelerator runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegateCoverage {
    /// In words.
    pub text: String,
    /// Whether a part is left to the CPU.
    pub is_partial: bool,
    /// Whether all is left to the CPU.
    pub is_empty: bool,
}

impl ModelPair<'_> {
    /// How much an accelerator runs; `None` where there is no saying.
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
