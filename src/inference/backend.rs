//! Loads and opens the models, in the same way for every backend.

use super::cpu::{CpuLoadedModel, CpuModel};
use super::delegate::{DelegateLoadedModel, DelegateModel, NodeCounts};
use super::delegate_library::DelegateSpec;
use super::litert::{LiteRt, LiteRtModel, LiteRtTarget};
use super::model_files::{ModelFile, ModelFileError, ModelFiles, ModelRole};
use crate::hand::Model;
use crate::selection::Precision;
use serde::{Deserialize, Serialize};

/// How a backend is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendSpec {
    /// TFLite's XNNPACK kernels.
    Cpu,
    /// The same kernels, with these precisions of the palm and the hand model.
    #[serde(rename = "cpu_reduced")]
    CpuReduced([Precision; 2]),
    /// LiteRT, whose library is loaded at run time.
    LiteRt(LiteRtTarget),
    /// A TFLite delegate plugin.
    Delegate(DelegateSpec),
}

impl BackendSpec {
    /// Whether all workers share one device; on the CPU each has an interpreter of its own.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::LiteRt(LiteRtTarget::Gpu) | Self::Delegate(_))
    }

    /// Whether it computes in fewer than 32 bits, or on models of its own.
    #[must_use]
    pub fn is_reduced(&self) -> bool {
        match self {
            Self::Cpu | Self::LiteRt(LiteRtTarget::Cpu | LiteRtTarget::Gpu) => false,
            Self::CpuReduced(_) | Self::LiteRt(LiteRtTarget::CpuFp16 | LiteRtTarget::CpuInt8) => {
                true
            }
            Self::Delegate(spec) => spec.palm.is_some() || spec.hand.is_some(),
        }
    }
}

/// Why a backend cannot run a model. Each text names a fix.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// A model file cannot be used.
    #[error(transparent)]
    Model(#[from] ModelFileError),
    /// LiteRT is in none of the default folders.
    #[error("{0}")]
    NotInstalled(String),
    /// Its library, its device or its runtime cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// A model ready to run.
pub type BoxedModel = Box<dyn Model + Send>;

/// Both models, loaded for one backend and shared by all workers; each worker opens interpreters of its own.
pub enum LoadedModels {
    /// The palm and the hand model on the CPU.
    Cpu(Box<[CpuLoadedModel; 2]>),
    /// The palm and the hand model on a delegate.
    Delegate(Box<[DelegateLoadedModel; 2]>),
    /// The palm model on the CPU, the hand model on a delegate.
    HandDelegate(Box<(CpuLoadedModel, DelegateLoadedModel)>),
    /// The models on LiteRT.
    LiteRt(Box<(LiteRt, LiteRtTarget, ModelFiles)>),
}

/// Both models, ready to run.
pub struct ModelPair {
    /// The palm and the hand model.
    pub models: [BoxedModel; 2],
    /// How much of them a delegate runs; `None` for other backends.
    pub coverage: Option<DelegateCoverage>,
}

impl LoadedModels {
    /// Loads both models, or those that the delegate of `spec` brings instead.
    ///
    /// # Errors
    /// Fails when a model cannot be read or parsed, or a library cannot be loaded.
    pub fn load(spec: &BackendSpec, files: &ModelFiles) -> Result<Self, BackendError> {
        Ok(match spec {
            BackendSpec::Cpu => {
                let both = [&files.palm, &files.hand];
                let [palm, hand] = both.map(|file| CpuLoadedModel::new(file, Precision::F32));
                Self::Cpu(Box::new([palm?, hand?]))
            }
            BackendSpec::CpuReduced([palm, hand]) => {
                let load = |role, precision| {
                    let file = file_of(files, role, precision)?;
                    CpuLoadedModel::new(&file, precision)
                };
                let palm = load(ModelRole::Palm, *palm)?;
                Self::Cpu(Box::new([palm, load(ModelRole::Hand, *hand)?]))
            }
            BackendSpec::LiteRt(target) => {
                let mut files = files.clone();
                if *target == LiteRtTarget::CpuInt8 {
                    files.hand = files.int8(ModelRole::Hand)?;
                }
                Self::LiteRt(Box::new((LiteRt::load(None)?, *target, files)))
            }
            BackendSpec::Delegate(spec) if spec.leaves_palm_to_cpu() => {
                let hand = DelegateLoadedModel::load(spec, files, ModelRole::Hand)?;
                Self::HandDelegate(Box::new((Self::load_palm(files)?, hand)))
            }
            BackendSpec::Delegate(spec) => {
                let load = |role| DelegateLoadedModel::load(spec, files, role);
                let [palm, hand] = [ModelRole::Palm, ModelRole::Hand].map(load);
                Self::Delegate(Box::new([palm?, hand?]))
            }
        })
    }

    /// Loads the palm model for the CPU.
    pub(super) fn load_palm(files: &ModelFiles) -> Result<CpuLoadedModel, BackendError> {
        Ok(CpuLoadedModel::new(&files.palm, Precision::F32)?)
    }

    /// Makes an interpreter of each model. Some delegates must be opened on the thread that runs them.
    ///
    /// # Errors
    /// Fails when runtime or delegate refuse a model, or its tensors differ from the manifest.
    pub fn open(&self) -> Result<ModelPair, BackendError> {
        Ok(match self {
            Self::Cpu(loaded) => {
                let [palm, hand] = &**loaded;
                let (palm, hand) = (CpuModel::open(palm)?, CpuModel::open(hand)?);
                ModelPair {
                    models: [Box::new(palm), Box::new(hand)],
                    coverage: None,
                }
            }
            Self::Delegate(loaded) => {
                let [palm, hand] = &**loaded;
                let (palm, hand) = (DelegateModel::open(palm)?, DelegateModel::open(hand)?);
                ModelPair {
                    coverage: Some(DelegateCoverage::of(palm.nodes(), hand.nodes())),
                    models: [Box::new(palm), Box::new(hand)],
                }
            }
            Self::HandDelegate(loaded) => {
                let (palm, hand) = &**loaded;
                let (palm, hand) = (CpuModel::open(palm)?, DelegateModel::open(hand)?);
                ModelPair {
                    coverage: Some(DelegateCoverage::of_hand(hand.nodes())),
                    models: [Box::new(palm), Box::new(hand)],
                }
            }
            Self::LiteRt(loaded) => {
                let (runtime, target, files) = &**loaded;
                let open = |file| LiteRtModel::new(runtime, file, *target);
                ModelPair {
                    models: [Box::new(open(&files.palm)?), Box::new(open(&files.hand)?)],
                    coverage: None,
                }
            }
        })
    }
}

/// The file of the model `role` that runs in `precision`.
fn file_of(
    files: &ModelFiles,
    role: ModelRole,
    precision: Precision,
) -> Result<ModelFile, ModelFileError> {
    match precision {
        Precision::Int8 => files.int8(role),
        Precision::F32 | Precision::Fp16 => Ok(files.of(role).clone()),
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

impl DelegateCoverage {
    fn of(palm: NodeCounts, hand: NodeCounts) -> Self {
        Self {
            text: format!("{palm} of the palm model and {hand} of the hand model"),
            is_partial: palm.taken < palm.total || hand.taken < hand.total,
            is_empty: palm.taken + hand.taken == 0,
        }
    }

    /// The coverage of a delegate that runs the hand model only; the CPU runs the palm model.
    fn of_hand(hand: NodeCounts) -> Self {
        Self {
            text: format!("{hand} of the hand model"),
            is_partial: hand.taken < hand.total,
            is_empty: hand.taken == 0,
        }
    }
}
