//! What was chosen, open and ready: the models, and what runs them for all who ask for a detector.

use super::choose::{ChosenBackend, SelectionContext, Unavailable, identity, resolve, stopped};
use crate::error::{CliError, Exit};
use crate::inference::{
    BackendError, BackendRequest, BackendSpec, LoadedModels, ModelFiles, ModelPaths, SharedDevice,
    model_files,
};
use crate::selection::{BackendPreference, CPU};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// What there is to say of what runs the models.
#[derive(Clone, Copy, Debug)]
pub enum BackendEvent<'a> {
    /// It was chosen, for a reason.
    Chosen {
        /// Its name.
        name: &'a str,
        /// In words.
        reason: &'a str,
        /// Whether another one was asked for.
        is_second_best: bool,
    },
    /// It failed and was opened again; nothing is lost.
    Reopened {
        /// Its name.
        name: &'a str,
        /// How often so far.
        times: usize,
        /// What failed.
        reason: &'a str,
    },
    /// It was given up; the CPU goes on.
    Lost {
        /// Its name.
        name: &'a str,
        /// In words.
        reason: &'a str,
    },
}

/// The models, read and tried, and what runs them.
pub struct BackendHandle {
    bundle: Arc<ModelFiles>,
    wanted: BackendRequest,
    chosen: ChosenBackend,
    /// The accelerator that all share, if it is one that is shared.
    device: Option<Arc<SharedDevice>>,
    told: Mutex<ReportedEvents>,
}

/// What was told of the device, to whomever.
#[derive(Default)]
struct ReportedEvents {
    reopened: usize,
    is_lost: bool,
}

impl BackendHandle {
    /// Reads the models, chooses what runs them, and opens it for `seats` detectors at a time. Where what was chosen does
    /// not open, the CPU runs them.
    ///
    /// # Errors
    /// When a model or a required accelerator cannot be used; [`Exit::Stopped`] when `asker` does not wait any more.
    pub fn open(
        wanted: &BackendRequest,
        models: &ModelPaths,
        seats: usize,
        context: &mut SelectionContext<'_>,
    ) -> Result<Self, CliError> {
        let bundle = Arc::new(ModelFiles::load(models)?);
        // What is left when all else fails.
        LoadedModels::load(&BackendSpec::Cpu, &bundle)?.open()?;
        let mut chosen = resolve(wanted, models, &bundle, context)?;
        let spec = &chosen.spec;
        let opened = if spec.is_shared() {
            SharedDevice::open(spec, &bundle, seats, wanted.timeout, context.shutdown)
                .map(|device| Some(Arc::new(device)))
        } else if *spec == BackendSpec::Cpu {
            Ok(None)
        } else {
            LoadedModels::load(spec, &bundle)
                .and_then(|graphs| graphs.open().map(|_| None))
                .map_err(|error| error.to_string())
        };
        let device = match opened {
            Ok(device) => device,
            Err(_) if context.shutdown.is_set() => return Err(stopped()),
            Err(reason) => {
                let name = &chosen.choice.name;
                let reason = format!("{name} was chosen, but does not open any more: {reason}");
                if matches!(wanted.preference, BackendPreference::Require(_)) {
                    return Err(Unavailable(reason).into());
                }
                chosen.fall_back(reason);
                None
            }
        };
        Ok(Self {
            bundle,
            wanted: wanted.clone(),
            chosen,
            device,
            told: Mutex::default(),
        })
    }

    /// The models.
    #[must_use]
    pub fn bundle(&self) -> &ModelFiles {
        &self.bundle
    }

    /// The name of what runs them.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.chosen.choice.name
    }

    /// Whether nothing else may run them.
    #[must_use]
    pub fn is_required(&self) -> bool {
        matches!(self.wanted.preference, BackendPreference::Require(_))
    }

    /// The accelerator that all share, if there is one.
    pub(super) fn device(&self) -> Option<&Arc<SharedDevice>> {
        self.device.as_ref()
    }

    /// Why the accelerator was given up, once it was.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.device.as_ref().and_then(|device| device.lost())
    }

    /// What each detector opens for itself: all there is, or the CPU's models for when a shared device is lost.
    ///
    /// # Errors
    /// When they cannot be loaded any more.
    pub fn graphs(&self) -> Result<LoadedModels<'_>, BackendError> {
        let own = match &self.device {
            Some(_) => &BackendSpec::Cpu,
            None => &self.chosen.spec,
        };
        LoadedModels::load(own, &self.bundle)
    }

    /// What was chosen, and why.
    #[must_use]
    pub fn choice(&self) -> BackendEvent<'_> {
        BackendEvent::Chosen {
            name: &self.chosen.choice.name,
            reason: &self.chosen.choice.reason,
            is_second_best: self.chosen.choice.is_second_best,
        }
    }

    /// Tells what happened to the accelerator since somebody asked; each thing is told once, whoever asks. Of one that is
    /// required the failure that ends the work says that it is lost.
    pub fn events(&self, tell: &mut dyn FnMut(&BackendEvent<'_>)) {
        let Some(device) = &self.device else {
            return;
        };
        let (times, failure) = device.reopened();
        let lost = device.lost().filter(|_| !self.is_required());
        let (is_reopened, is_lost) = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let news = (
                times > told.reopened,
                lost.is_some() && !std::mem::replace(&mut told.is_lost, lost.is_some()),
            );
            told.reopened = times;
            news
        };
        let name = self.name();
        if is_reopened {
            let reason = &failure;
            tell(&BackendEvent::Reopened {
                name,
                times,
                reason,
            });
        }
        if let Some(reason) = lost.filter(|_| is_lost) {
            let reason = &reason;
            tell(&BackendEvent::Lost { name, reason });
        }
    }

    /// What of it decides the numbers; see [`identity`].
    #[must_use]
    pub fn identity(&self) -> Value {
        identity(&self.wanted, &self.chosen)
    }

    /// For `run.json`.
    #[must_use]
    pub fn record(&self) -> Value {
        let ChosenBackend {
            choice,
            spec,
            files,
        } = &self.chosen;
        let runtime = model_files::loaded_runtime();
        let pinned = model_files::pinned_runtimes().unwrap_or_default();
        let is_pinned = runtime
            .as_ref()
            .is_some_and(|(_, sha)| pinned.contains(sha));
        if !is_pinned {
            tracing::warn!(
                ?runtime,
                "the TFLite library is not the pinned one; landmarks may differ in the last digits"
            );
        }
        // LiteRT brings its own, whose hash is among the files.
        let runtime_name = match spec {
            BackendSpec::LiteRt(_) => None,
            _ => Some("TensorFlow Lite C, XNNPACK, 1 thread"),
        };
        let runtime = runtime.filter(|_| runtime_name.is_some());
        json!({
            "name": choice.name, "reason": choice.reason, "wish": self.wanted.preference.to_string(),
            "refused": choice.refused, "opened_as": spec, "files": files,
            "runtime": runtime_name, "library_sha256": runtime.map(|r| r.1), "library_is_pinned": is_pinned,
        })
    }
}

impl ChosenBackend {
    /// The CPU in its place.
    fn fall_back(&mut self, reason: String) {
        self.spec = BackendSpec::Cpu;
        self.files.clear();
        CPU.clone_into(&mut self.choice.name);
        self.choice.reason = reason;
        self.choice.is_second_best = true;
    }
}

impl Unavailable {
    /// What is required was given up at work.
    #[must_use]
    pub fn lost(reason: &str) -> Self {
        Self(format!(
            "the required accelerator is given up: {reason}; what is recorded stays, the same command goes on when it works again"
        ))
    }
}

impl From<Unavailable> for CliError {
    fn from(error: Unavailable) -> Self {
        Self::new(Exit::Unavailable, error)
    }
}
