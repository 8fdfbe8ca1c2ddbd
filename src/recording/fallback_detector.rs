//! The hand detector of a camera. When the shared device fails for good, it continues on the CPU from the same frame on,
//! and returns to the device once it was opened again.

use super::session::HandSource;
use crate::error::{CliError, Exit};
use crate::frame::RgbFrame;
use crate::hand::{DetectorOptions, Hand, ModelError, Tracker};
use crate::inference::{BackendError, BackendEvent, BackendHandle, SelectionError, WorkerDetector};
use std::sync::Arc;

/// The hand detector of one camera.
pub struct FallbackDetector<'a> {
    backend: &'a BackendHandle,
    worker: WorkerDetector<'a>,
    has_fallen_back: bool,
    /// Returns a backend that was opened after the device was lost.
    reopened: &'a dyn Fn() -> Option<Arc<BackendHandle>>,
    /// That backend, once it is in use.
    successor: Option<Arc<BackendHandle>>,
}

impl<'a> FallbackDetector<'a> {
    /// A detector on `backend`. After the device is lost, `reopened` is called before each frame and may return a backend
    /// that was opened since.
    pub(crate) fn new(
        backend: &'a BackendHandle,
        options: DetectorOptions,
        reopened: &'a dyn Fn() -> Option<Arc<BackendHandle>>,
    ) -> Result<Self, BackendError> {
        let worker = WorkerDetector::new(backend, options)?;
        Ok(Self {
            backend,
            worker,
            has_fallen_back: false,
            reopened,
            successor: None,
        })
    }

    fn backend(&self) -> &BackendHandle {
        self.successor.as_deref().unwrap_or(self.backend)
    }

    /// Returns to the device once it was opened again, if its results may be mixed with the earlier ones.
    fn return_to_device(&mut self, tracker: &mut Tracker) -> Result<(), BackendError> {
        let reopened = (self.reopened)();
        if let Some(backend) = reopened.filter(|b| b.identity() == self.backend.identity()) {
            tracing::info!(name = backend.name(), "camera uses the accelerator again");
            self.worker.switch_to(&backend)?;
            self.successor = Some(backend);
            self.has_fallen_back = false;
            *tracker = Tracker::default();
        }
        Ok(())
    }
}

impl HandSource for FallbackDetector<'_> {
    type Error = CliError;

    fn find_hands(
        &mut self,
        tracker: &mut Tracker,
        image: &RgbFrame,
    ) -> Result<Vec<Hand>, CliError> {
        if self.has_fallen_back {
            self.return_to_device(tracker)?;
        }
        let hands = self.worker.detector.track(tracker, image);
        match (hands, self.worker.lost()) {
            (Err(error), _) if self.worker.is_abandoned() => Err(error.into()),
            (Err(_), Some(reason)) if self.backend().is_required() => {
                Err(SelectionError::lost(&reason).into())
            }
            // The same image again: no frame is lost with the device.
            (Err(_), Some(_)) => {
                self.worker.fall_back()?;
                self.has_fallen_back = true;
                *tracker = Tracker::default();
                Ok(self.worker.detector.track(tracker, image)?)
            }
            (hands, _) => Ok(hands?),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.worker.is_abandoned()
    }

    fn backend(&self) -> &str {
        &self.worker.backend
    }

    fn backend_events(&mut self) -> Vec<BackendEvent> {
        self.backend().events()
    }
}

impl From<ModelError> for CliError {
    fn from(error: ModelError) -> Self {
        Self::new(Exit::Bug, error)
    }
}
