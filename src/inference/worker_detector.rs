//! The models in the hands of one who looks for hands: a worker of a job, or a camera.

use crate::hand::{Detector, DetectorOptions, Model};
use crate::inference::backend_handle::BackendHandle;
use crate::inference::{BackendError, LoadedModels, SharedDevice};
use crate::selection::CPU;
use std::sync::Arc;

/// A detector, and what runs its models.
pub struct WorkerDetector<'a> {
    /// It.
    pub detector: Detector<Box<dyn Model + Send + 'a>>,
    /// The name of what runs the models.
    pub backend: Arc<str>,
    /// The device that they run on, if others use it, too.
    device: Option<Arc<SharedDevice>>,
    graphs: &'a LoadedModels<'a>,
    options: DetectorOptions,
}

impl<'a> WorkerDetector<'a> {
    /// On what `engine` has chosen; `graphs` are its own.
    ///
    /// # Errors
    /// When an interpreter cannot be made.
    pub fn new(
        backend: &BackendHandle,
        graphs: &'a LoadedModels<'a>,
        options: DetectorOptions,
    ) -> Result<Self, BackendError> {
        let device = backend.device().cloned();
        let [palm, hand] = match &device {
            Some(device) => shared(device),
            None => own(graphs)?,
        };
        Ok(Self {
            detector: Detector::new(palm, hand, options),
            backend: Arc::from(backend.name()),
            device,
            graphs,
            options,
        })
    }

    /// Why the device that they run on was given up, once it was.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.device.as_ref().and_then(|device| device.lost())
    }

    /// Whether the process ends and their device was not waited for.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.device
            .as_ref()
            .is_some_and(|device| device.is_abandoned())
    }

    /// Goes on with the CPU.
    ///
    /// # Errors
    /// When an interpreter cannot be made.
    pub fn fall_back(&mut self) -> Result<(), BackendError> {
        let [palm, hand] = own(self.graphs)?;
        self.detector = Detector::new(palm, hand, self.options);
        self.backend = Arc::from(CPU);
        self.device = None;
        Ok(())
    }

    /// Goes on with the device of `engine`; nothing changes where that has none.
    pub fn take_up(&mut self, backend: &BackendHandle) {
        if let Some(device) = backend.device() {
            let [palm, hand] = shared(device);
            self.detector = Detector::new(palm, hand, self.options);
            self.backend = Arc::from(backend.name());
            self.device = Some(Arc::clone(device));
        }
    }
}

fn own<'a>(graphs: &'a LoadedModels<'a>) -> Result<[Box<dyn Model + Send + 'a>; 2], BackendError> {
    let pair = graphs.open()?;
    Ok([pair.palm.model, pair.hand.model])
}

fn shared<'a>(device: &Arc<SharedDevice>) -> [Box<dyn Model + Send + 'a>; 2] {
    device
        .models()
        .map(|model| Box::new(model) as Box<dyn Model + Send>)
}
