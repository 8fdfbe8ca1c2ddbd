//! A camera's eye: follows hands on whatever runs the models, and when that is lost on the CPU, from that frame on.

use super::session::Sight;
use crate::commands::accelerator::{AcceleratorNews, Engine, Tools, Unavailable};
use crate::exit::Failure;
use crate::frame::RgbFrame;
use crate::hand::{Hand, Options, Tracker};
use crate::inference::{BackendError, Graphs};

/// The detector of one camera.
pub struct Eye<'a> {
    engine: &'a Engine,
    tools: Tools<'a>,
}

impl<'a> Eye<'a> {
    /// On what `engine` has chosen; `graphs` are its own.
    ///
    /// # Errors
    /// When an interpreter cannot be made.
    pub fn new(
        engine: &'a Engine,
        graphs: &'a Graphs<'a>,
        options: Options,
    ) -> Result<Self, BackendError> {
        let tools = Tools::new(engine, graphs, options)?;
        Ok(Self { engine, tools })
    }
}

impl Sight for Eye<'_> {
    type Error = Failure;

    fn follow(&mut self, tracker: &mut Tracker, picture: &RgbFrame) -> Result<Vec<Hand>, Failure> {
        let found = self.tools.detector.track(tracker, picture);
        match (found, self.tools.lost()) {
            (Err(_), Some(reason)) if self.engine.is_required() => {
                Err(Unavailable::lost(&reason).into())
            }
            // The same picture again: no frame is lost with the device.
            (Err(_), Some(_)) => {
                self.tools.fall_back()?;
                *tracker = Tracker::default();
                Ok(self.tools.detector.track(tracker, picture)?)
            }
            (found, _) => Ok(found?),
        }
    }

    fn backend(&self) -> &str {
        &self.tools.backend
    }

    fn news(&mut self, tell: &mut dyn FnMut(&AcceleratorNews<'_>)) {
        self.engine.news(tell);
    }
}
