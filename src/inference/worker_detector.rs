//! The hand detector of one worker of a job or of a camera, on the shared device or on models of its own.

use super::{BackendError, BackendHandle, BoxedModel, SharedDevice};
use crate::hand::{Detector, DetectorOptions};
use crate::selection::CPU;
use std::sync::Arc;

/// A detector, and what runs its models.
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
    /// When an interpreter cannot be made.
    pub fn new(handle: &'a BackendHandle, options: DetectorOptions) -> Result<Self, BackendError> {
        let device = handle.device().cloned();
        let [palm, hand] = match &device {
            Some(device) => device.models(),
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
    /// When an interpreter cannot be made.
    pub fn fall_back(&mut self) -> Result<(), BackendError> {
        let [palm, hand] = self.handle.own_models()?;
        self.detector = Detector::new(palm, hand, self.options);
        self.backend = Arc::from(CPU);
        self.device = None;
        Ok(())
    }

    /// Continues on the device of `backend`; changes nothing when it has none.
    pub fn switch_to(&mut self, backend: &BackendHandle) {
        if let Some(device) = backend.device() {
            let [palm, hand] = device.models();
            self.detector = Detector::new(palm, hand, self.options);
            self.backend = Arc::from(backend.name());
            self.device = Some(Arc::clone(device));
        }
    }
}
