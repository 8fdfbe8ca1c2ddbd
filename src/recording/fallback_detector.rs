//! A camera's eye: follows hands on whatever runs the models, and when that is lost on the CPU, from that frame on, until
//! somebody has opened it anew.

use super::session::HandSource;
use crate::error::CliError;
use crate::frame::RgbFrame;
use crate::hand::{DetectorOptions, Hand, Tracker};
use crate::inference::{BackendError, LoadedModels};
use crate::inference::{BackendEvent, BackendHandle, Unavailable, WorkerDetector};
use std::sync::Arc;

/// The detector of one camera.
pub struct FallbackDetector<'a> {
    backend: &'a BackendHandle,
    tools: WorkerDetector<'a>,
    /// The device was lost, and the CPU follows the hands.
    has_fallen_back: bool,
    /// Asked then for an engine that was opened since.
    renewed: &'a dyn Fn() -> Option<Arc<BackendHandle>>,
    /// That one, once it is in use.
    anew: Option<Arc<BackendHandle>>,
}

impl<'a> FallbackDetector<'a> {
    /// On what `engine` has chosen; `graphs` are its own. When its device is lost, `renewed` gives what another has opened
    /// in its place.
    ///
    /// # Errors
    /// When an interpreter cannot be made.
    pub fn new(
        backend: &'a BackendHandle,
        graphs: &'a LoadedModels<'a>,
        options: DetectorOptions,
        renewed: &'a dyn Fn() -> Option<Arc<BackendHandle>>,
    ) -> Result<Self, BackendError> {
        let tools = WorkerDetector::new(backend, graphs, options)?;
        Ok(Self {
            backend,
            tools,
            has_fallen_back: false,
            renewed,
            anew: None,
        })
    }

    fn backend(&self) -> &BackendHandle {
        self.anew.as_deref().unwrap_or(self.backend)
    }

    /// Goes back to the device once another has opened it, if its numbers may stand beside those from before.
    fn look_for_device(&mut self, tracker: &mut Tracker) {
        let renewed = (self.renewed)();
        if let Some(backend) = renewed.filter(|e| e.identity() == self.backend.identity()) {
            tracing::info!(name = backend.name(), "follows the hands again");
            self.tools.take_up(&backend);
            self.anew = Some(backend);
            self.has_fallen_back = false;
            *tracker = Tracker::default();
        }
    }
}

impl HandSource for FallbackDetector<'_> {
    type Error = CliError;

    fn find_hands(
        &mut self,
        tracker: &mut Tracker,
        picture: &RgbFrame,
    ) -> Result<Vec<Hand>, CliError> {
        if self.has_fallen_back {
            self.look_for_device(tracker);
        }
        let found = self.tools.detector.track(tracker, picture);
        match (found, self.tools.lost()) {
            (Err(error), _) if self.tools.is_abandoned() => Err(error.into()),
            (Err(_), Some(reason)) if self.backend().is_required() => {
                Err(Unavailable::lost(&reason).into())
            }
            // The same picture again: no frame is lost with the device.
            (Err(_), Some(_)) => {
                self.tools.fall_back()?;
                self.has_fallen_back = true;
                *tracker = Tracker::default();
                Ok(self.tools.detector.track(tracker, picture)?)
            }
            (found, _) => Ok(found?),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.tools.is_abandoned()
    }

    fn backend(&self) -> &str {
        &self.tools.backend
    }

    fn backend_events(&mut self, report: &mut dyn FnMut(&BackendEvent<'_>)) {
        self.backend().events(report);
    }
}
