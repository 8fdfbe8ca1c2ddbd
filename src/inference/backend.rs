//! What runs the models, by the user's choice: one way to load a model and one to open it, whatever stands behind.

use super::cpu::{CpuGraph, CpuModel};
use super::delegate::{DelegateGraph, DelegateModel, Nodes};
use super::library::{DelegateError, DelegateSpec};
use super::litert::{LiteRt, LiteRtError, LiteRtModel, Target};
use crate::hand::Model;
use crate::inference::model_files::{Bundle, BundleError, ModelFile};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is to run the models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendSpec {
    /// TFLite's XNNPACK kernels.
    Cpu,
    /// LiteRT, which is loaded when asked for.
    LiteRt(Target),
    /// A TFLite delegate plugin.
    Delegate(DelegateSpec),
}

impl BackendSpec {
    /// Whether all workers share one device. The CPU is as many as it has cores.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Cpu | Self::LiteRt(Target::Cpu))
    }
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
    /// LiteRT is no good.
    #[error(transparent)]
    LiteRt(LiteRtError),
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

impl From<LiteRtError> for BackendError {
    fn from(error: LiteRtError) -> Self {
        match error {
            LiteRtError::Bundle(error) => Self::Model(error),
            error => Self::LiteRt(error),
        }
    }
}

/// A model loaded for a backend; shared by all workers, each of which opens its own interpreter.
pub enum Graph<'a> {
    /// See [`BackendSpec::Cpu`].
    Cpu(CpuGraph<'a>),
    /// See [`BackendSpec::LiteRt`].
    LiteRt {
        /// The library.
        runtime: Arc<LiteRt>,
        /// The model.
        file: &'a ModelFile,
        /// Where it runs.
        target: Target,
    },
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
            BackendSpec::LiteRt(target) => Self::LiteRt {
                runtime: Arc::new(LiteRt::load(None)?),
                file,
                target: *target,
            },
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
            Self::LiteRt {
                runtime,
                file,
                target,
            } => Opened {
                model: Box::new(LiteRtModel::new(runtime, file, *target)?),
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

/// Both models, loaded for one backend.
pub struct Graphs<'a> {
    palm: Graph<'a>,
    hand: Graph<'a>,
}

/// Both models, ready to run.
pub struct Pair<'a> {
    /// The palm model.
    pub palm: Opened<'a>,
    /// The hand model.
    pub hand: Opened<'a>,
}

impl<'a> Graphs<'a> {
    /// Loads both.
    ///
    /// # Errors
    /// See [`Graph::load`].
    pub fn load(spec: &BackendSpec, bundle: &'a Bundle) -> Result<Self, BackendError> {
        let palm = Graph::load(spec, &bundle.palm)?;
        let hand = match &palm {
            // The library is loaded once.
            Graph::LiteRt {
                runtime, target, ..
            } => Graph::LiteRt {
                runtime: Arc::clone(runtime),
                file: &bundle.hand,
                target: *target,
            },
            _ => Graph::load(spec, &bundle.hand)?,
        };
        Ok(Self { palm, hand })
    }

    /// Opens both.
    ///
    /// # Errors
    /// See [`Graph::open`].
    pub fn open(&'a self) -> Result<Pair<'a>, BackendError> {
        Ok(Pair {
            palm: self.palm.open()?,
            hand: self.hand.open()?,
        })
    }
}

/// How much of both models an accelerator runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// In words.
    pub text: String,
    /// Whether a part is left to the CPU.
    pub is_partial: bool,
    /// Whether all is left to the CPU.
    pub is_empty: bool,
}

impl Pair<'_> {
    /// How much an accelerator runs; `None` where there is no saying.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        let (palm, hand) = (self.palm.nodes?, self.hand.nodes?);
        Some(Claim {
            text: format!("{palm} of the palm model and {hand} of the hand model"),
            is_partial: palm.taken < palm.total || hand.taken < hand.total,
            is_empty: palm.taken + hand.taken == 0,
        })
    }
}
