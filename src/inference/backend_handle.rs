//! The open backend: the model files, and what runs them for all detectors.

use super::choose::{ChosenBackend, SelectionContext, SelectionError, choose_backend, identity};
use super::{
    BackendError, BackendRequest, BackendSpec, LoadedModels, ModelFiles, ModelPaths, SharedDevice,
    model_files,
};
use crate::selection::{BackendPreference, CPU};
use serde_json::{Value, json};
use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex, PoisonError};

/// What happens to the backend that runs the models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendEvent {
    /// The backend was chosen.
    Chosen {
        /// Name of the backend.
        name: String,
        /// Human-readable reason.
        reason: String,
        /// Whether the user requested another backend.
        is_second_best: bool,
    },
    /// The device failed and was opened again; no result is lost.
    Reopened {
        /// Name of the backend.
        name: String,
        /// How often so far.
        times: usize,
        /// The last failure.
        reason: String,
    },
    /// The device failed for good; the CPU takes over.
    Lost {
        /// Name of the backend.
        name: String,
        /// Human-readable reason.
        reason: String,
    },
}

impl BackendEvent {
    /// What was done about it, for a user or operator.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Chosen { .. } => "the CPU runs the models",
            Self::Reopened { .. } => "the frames in hand were processed again; nothing is lost",
            Self::Lost { .. } => {
                "the CPU runs the models until the next job, after a hang until the next start; \
                 the manifest lists the clips and takes that it processed"
            }
        }
    }
}

impl Display for BackendEvent {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Chosen { name, reason, .. } => {
                write!(f, "Running the models on {name}: {reason}")
            }
            Self::Reopened {
                name,
                times,
                reason,
            } => write!(
                f,
                "{name} failed and was opened again, {times} times so far: {reason}"
            ),
            Self::Lost { name, reason } => write!(f, "{name} is given up: {reason}"),
        }
    }
}

/// The model files, and the backend that runs them.
pub struct BackendHandle {
    files: Arc<ModelFiles>,
    request: BackendRequest,
    chosen: ChosenBackend,
    /// The accelerator that all detectors share; `None` for backends on the CPU.
    device: Option<Arc<SharedDevice>>,
    reported: Mutex<ReportedEvents>,
}

/// Which events of the device [`BackendHandle::events`] has returned.
#[derive(Default)]
struct ReportedEvents {
    reopened: usize,
    is_lost: bool,
}

impl BackendHandle {
    /// Reads the models, chooses a backend and opens it for `seats` detectors in parallel. When the chosen backend does
    /// not open, the CPU runs the models, unless the backend is required.
    ///
    /// # Errors
    /// When a model or a required accelerator cannot be used, or the context says that the caller stopped.
    pub fn open(
        request: &BackendRequest,
        models: &ModelPaths,
        seats: usize,
        context: &mut SelectionContext<'_>,
    ) -> Result<Self, SelectionError> {
        let files = Arc::new(ModelFiles::load(models)?);
        // The CPU is the fallback of every backend: check it first.
        LoadedModels::load(&BackendSpec::Cpu, &files)?.open()?;
        let mut chosen = choose_backend(request, models, &files, context)?;
        let spec = &chosen.spec;
        let opened = if spec.is_shared() {
            SharedDevice::open(spec, &files, seats, request.timeout, context.shutdown)
                .map(|device| Some(Arc::new(device)))
        } else if *spec == BackendSpec::Cpu {
            Ok(None)
        } else {
            LoadedModels::load(spec, &files)
                .and_then(|models| models.open().map(|_| None))
                .map_err(|error| error.to_string())
        };
        let device = match opened {
            Ok(device) => device,
            Err(_) if context.shutdown.is_set() => return Err(SelectionError::Stopped),
            Err(reason) => {
                let name = &chosen.choice.name;
                let reason = format!("{name} was chosen, but does not open any more: {reason}");
                if matches!(request.preference, BackendPreference::Require(_)) {
                    return Err(SelectionError::Unavailable(reason));
                }
                chosen.fall_back(reason);
                None
            }
        };
        Ok(Self {
            files,
            request: request.clone(),
            chosen,
            device,
            reported: Mutex::default(),
        })
    }

    /// The model files.
    #[must_use]
    pub fn files(&self) -> &ModelFiles {
        &self.files
    }

    /// The name of the chosen backend.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.chosen.choice.name
    }

    /// Whether no other backend may run the models.
    #[must_use]
    pub fn is_required(&self) -> bool {
        matches!(self.request.preference, BackendPreference::Require(_))
    }

    pub(super) fn device(&self) -> Option<&Arc<SharedDevice>> {
        self.device.as_ref()
    }

    /// Why the shared device failed for good, once it has.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.device.as_ref().and_then(|device| device.lost())
    }

    /// The models that each detector opens for itself: those of a CPU backend, or the fallback for a shared device.
    ///
    /// # Errors
    /// When they cannot be loaded any more.
    pub fn loaded_models(&self) -> Result<LoadedModels<'_>, BackendError> {
        let spec = match &self.device {
            Some(_) => &BackendSpec::Cpu,
            None => &self.chosen.spec,
        };
        LoadedModels::load(spec, &self.files)
    }

    /// The event that says what was chosen, and why.
    #[must_use]
    pub fn choice(&self) -> BackendEvent {
        BackendEvent::Chosen {
            name: self.chosen.choice.name.clone(),
            reason: self.chosen.choice.reason.clone(),
            is_second_best: self.chosen.choice.is_second_best,
        }
    }

    /// Events of the device since the last call, by any caller. The loss of a required device is not an event: the error that
    /// ends the work names it.
    #[must_use]
    pub fn events(&self) -> Vec<BackendEvent> {
        let mut events = Vec::new();
        let Some(device) = &self.device else {
            return events;
        };
        let (times, failure) = device.reopened();
        let lost = device.lost().filter(|_| !self.is_required());
        let (is_reopened, is_lost) = {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            let new = (
                times > reported.reopened,
                lost.is_some() && !std::mem::replace(&mut reported.is_lost, lost.is_some()),
            );
            reported.reopened = times;
            new
        };
        let name = self.name().to_owned();
        if is_reopened {
            events.push(BackendEvent::Reopened {
                name: name.clone(),
                times,
                reason: failure,
            });
        }
        if let Some(reason) = lost.filter(|_| is_lost) {
            events.push(BackendEvent::Lost { name, reason });
        }
        events
    }

    /// What of the backend decides the numbers of the results, for comparison between runs.
    #[must_use]
    pub fn identity(&self) -> Value {
        identity(&self.request, &self.chosen)
    }

    /// The `backend` object of `run.json`.
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
            .is_some_and(|(_, sha256)| pinned.contains(sha256));
        if !is_pinned {
            tracing::warn!(
                ?runtime,
                "the TFLite library is not the pinned one; landmarks may differ in the last digits"
            );
        }
        // LiteRT brings its own runtime, whose hash is among the files.
        let runtime_name = match spec {
            BackendSpec::LiteRt(_) => None,
            _ => Some("TensorFlow Lite C, XNNPACK, 1 thread"),
        };
        let runtime = runtime.filter(|_| runtime_name.is_some());
        json!({
            "name": choice.name, "reason": choice.reason, "wish": self.request.preference.to_string(),
            "refused": choice.refused, "opened_as": spec, "files": files,
            "runtime": runtime_name, "library_sha256": runtime.map(|r| r.1), "library_is_pinned": is_pinned,
        })
    }
}

impl ChosenBackend {
    /// Replaces the backend with the CPU.
    fn fall_back(&mut self, reason: String) {
        self.spec = BackendSpec::Cpu;
        self.files.clear();
        CPU.clone_into(&mut self.choice.name);
        self.choice.reason = reason;
        self.choice.is_second_best = true;
    }
}
