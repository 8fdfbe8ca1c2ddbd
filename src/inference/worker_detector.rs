//! The hand detector of one worker of a job or of a camera, on the shared device or on models of its own.

use super::{BackendError, BackendHandle, LoadedModels, SharedDevice};
use crate::hand::{Detector, DetectorOptions, Model};
use crate::selection::CPU;
use std::sync::Arc;

/// A detector, and what runs its models.
pub struct WorkerDetector<'a> {
    /// The detector.
    pub detector: Detector<Box<dyn Model + Send + 'a>>,
    /// Name of the backend that runs the models.
    pub backend: Arc<str>,
    /// The shared device that runs them; `None` for models of its own.
    device: Option<Arc<SharedDevice>>,
    fallback: &'a LoadedModels<'a>,
    options: DetectorOptions,
}

impl<'a> WorkerDetector<'a> {
    /// A detector on `backend`; `models` are its [`BackendHandle::loaded_models`].
    ///
    /// # Errors
    /// When an interpreter cannot be made.
    pub fn new(
        backend: &BackendHandle,
        models: &'a LoadedModels<'a>,
        options: DetectorOptions,
    ) -> Result<Self, BackendError> {
        let device = backend.device().cloned();
        let [palm, hand] = match &device {
            Some(device) => boxed(device),
            None => models.open()?.into_models(),
        };
        Ok(Self {
            detector: Detector::new(palm, hand, options),
            backend: Arc::from(backend.name()),
            device,
            fallback: models,
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
    /// When an interpreter cannot be made.
    pub fn fall_back(&mut self) -> Result<(), BackendError> {
        let [palm, hand] = self.fallback.open()?.into_models();
        self.detector = Detector::new(palm, hand, self.options);
        self.backend = Arc::from(CPU);
        self.device = None;
        Ok(())
    }

    /// Continues on the device of `backend`; changes nothing when it has none.
    pub fn switch_to(&mut self, backend: &BackendHandle) {
        if let Some(device) = backend.device() {
            let [palm, hand] = boxed(device);
            self.detector = Detector::new(palm, hand, self.options);
            self.backend = Arc::from(backend.name());
            self.device = Some(Arc::clone(device));
        }
    }
}

fn boxed<'a>(device: &Arc<SharedDevice>) -> [Box<dyn Model + Send + 'a>; 2] {
    let boxed = |model| Box::new(model) as Box<dyn Model + Send>;
    device.models().map(boxed)
}
