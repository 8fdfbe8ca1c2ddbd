//! The open backend: the model files, what runs them for all detectors, and the detectors.

use super::backend_request::{ChosenBackend, identity};
use super::choose::{SelectionContext, SelectionError, choose_backend, unavailable};
use super::{
    BackendError, BackendRequest, BackendSpec, BoxedModel, LoadedModels, ModelFiles, ModelPaths,
    SharedDevice, lock, model_files,
};
use crate::hand::{Detector, DetectorOptions};
use crate::selection::{BackendPreference, CPU, published_error, reduced_precision};
use serde_json::{Value, json};
use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex};

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
    files: ModelFiles,
    request: BackendRequest,
    chosen: ChosenBackend,
    /// The models that each detector opens for itself: those of a CPU backend, or the fallback for a shared device.
    own: LoadedModels,
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
    /// Reads the models, chooses a backend and opens it. When the chosen backend does not open, the CPU runs the models,
    /// unless the backend is required.
    ///
    /// # Errors
    /// Fails when a model or a required accelerator cannot be used, or the context says that the caller stopped.
    pub fn open(
        request: &BackendRequest,
        models: &ModelPaths,
        context: &mut SelectionContext<'_>,
    ) -> Result<Self, SelectionError> {
        let files = ModelFiles::load(models).map_err(BackendError::from)?;
        // The CPU is the fallback of every backend: check it first.
        let mut own = LoadedModels::load(&BackendSpec::Cpu, &files)?;
        own.open()?;
        let mut chosen = choose_backend(request, models, &files, context)?;
        let spec = &chosen.spec;
        let opened = if spec.is_shared() {
            // A camera works beside the workers.
            let seats = context.workers + 1;
            SharedDevice::open(spec, &files, seats, request.timeout, context.shutdown)
                .map(|device| Some(Arc::new(device)))
        } else if *spec == BackendSpec::Cpu {
            Ok(None)
        } else {
            LoadedModels::load(spec, &files)
                .and_then(|models| models.open().map(|_| own = models))
                .map(|()| None)
                .map_err(|error| error.to_string())
        };
        let device = match opened {
            Ok(device) => device,
            Err(_) if context.shutdown.is_set() => return Err(SelectionError::Stopped),
            Err(reason) => {
                let name = &chosen.choice.name;
                let reason = format!("{name} was chosen, but does not open any more: {reason}");
                let preference = request.in_force();
                if matches!(preference, BackendPreference::Require(_)) {
                    let is_resumed = request.is_resumed();
                    return Err(unavailable(&preference, is_resumed, &reason, [].iter()));
                }
                let refused = std::mem::take(&mut chosen.choice.refused);
                chosen = ChosenBackend::cpu(&reason);
                (chosen.choice.refused, chosen.choice.is_second_best) = (refused, true);
                None
            }
        };
        Ok(Self {
            files,
            request: request.clone(),
            chosen,
            own,
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

    /// Whether no other backend may run the models once this one does: results of several backends are mixed on
    /// request only.
    #[must_use]
    pub fn is_required(&self) -> bool {
        !matches!(self.request.preference, BackendPreference::Prefer(_))
    }

    pub(super) fn device(&self) -> Option<&Arc<SharedDevice>> {
        self.device.as_ref()
    }

    /// Why the shared device failed for good, once it has.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.device.as_ref().and_then(|device| device.lost())
    }

    /// Opens the models that a detector has for itself: those of a CPU backend, or the fallback for a shared device.
    pub(super) fn own_models(&self) -> Result<[BoxedModel; 2], BackendError> {
        Ok(self.own.open()?.models)
    }

    /// The event that reports the chosen backend and the reason.
    #[must_use]
    pub fn choice(&self) -> BackendEvent {
        BackendEvent::Chosen {
            name: self.chosen.choice.name.clone(),
            reason: self.chosen.choice.explanation(),
            is_second_best: self.chosen.choice.is_second_best,
        }
    }

    /// Events of the device since the last call, by any caller. The loss of a required device is not an event: the error that
    /// ends the work names it.
    #[must_use]
    pub fn events(&self) -> Vec<BackendEvent> {
        let Some(device) = &self.device else {
            return Vec::new();
        };
        let (times, reason) = device.reopened();
        let lost = device.lost().filter(|_| !self.is_required());
        let mut reported = lock(&self.reported);
        let is_reopened = times > std::mem::replace(&mut reported.reopened, times);
        let was_lost = std::mem::replace(&mut reported.is_lost, lost.is_some());
        drop(reported);
        let name = || self.name().to_owned();
        let reopened = is_reopened.then(|| BackendEvent::Reopened {
            name: name(),
            times,
            reason,
        });
        let lost = lost.filter(|_| !was_lost);
        let lost = lost.map(|reason| BackendEvent::Lost {
            name: name(),
            reason,
        });
        reopened.into_iter().chain(lost).collect()
    }

    /// Everything about the backend that decides the numbers of the results, for comparison between runs.
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
        let is_pinned = runtime
            .as_ref()
            .is_some_and(|(_, sha256)| model_files::is_pinned_runtime(sha256));
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
            "name": choice.name, "reason": choice.explanation(), "wish": self.request.preference.to_string(),
            "refused": choice.refused, "opened_as": spec, "files": files,
            "precision": reduced_precision(&choice.name), "published_error": published_error(&choice.name),
            "measured_error": choice.agreement,
            "runtime": runtime_name, "library_sha256": runtime.map(|r| r.1), "library_is_pinned": is_pinned,
        })
    }
}

/// The hand detector of one worker of a job or of a camera, and what runs its models.
pub struct WorkerDetector<'a> {
    /// The detector.
    pub detector: Detector<BoxedModel>,
    /// Name of the backend that runs the models.
    pub backend: Arc<str>,
    /// The shared device that runs them; `None` for models of its own.
    device: Option<Arc<SharedDevice>>,
    handle: &'a BackendHandle,
    options: DetectorOptions,
}

impl<'a> WorkerDetector<'a> {
    /// A detector on `handle`.
    ///
    /// # Errors
    /// Fails when an interpreter cannot be made.
    pub fn new(handle: &'a BackendHandle, options: DetectorOptions) -> Result<Self, BackendError> {
        let device = handle.device().cloned();
        let [palm, hand] = match &device {
            Some(device) => device.models()?,
            None => handle.own_models()?,
        };
        Ok(Self {
            detector: Detector::new(palm, hand, options),
            backend: Arc::from(handle.name()),
            device,
            handle,
            options,
        })
    }

    /// Why the device failed for good, once it has.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.device.as_ref().and_then(|device| device.lost())
    }

    /// Whether the process shuts down and the device was not waited for.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        let device = self.device.as_ref();
        device.is_some_and(|device| device.is_abandoned())
    }

    /// Continues on the CPU.
    ///
    /// # Errors
    /// Fails when an interpreter cannot be made.
    pub fn fall_back(&mut self) -> Result<(), BackendError> {
        let [palm, hand] = self.handle.own_models()?;
        self.detector = Detector::new(palm, hand, self.options);
        self.backend = Arc::from(CPU);
        self.device = None;
        Ok(())
    }

    /// Continues on the device of `backend`; changes nothing when it has none.
    ///
    /// # Errors
    /// Fails when an interpreter cannot be made.
    pub fn switch_to(&mut self, backend: &BackendHandle) -> Result<(), BackendError> {
        if let Some(device) = backend.device() {
            let [palm, hand] = device.models()?;
            self.detector = Detector::new(palm, hand, self.options);
            self.backend = Arc::from(backend.name());
            self.device = Some(Arc::clone(device));
        }
        Ok(())
    }
}
