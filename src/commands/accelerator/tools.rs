//! The models in the hands of one who looks for hands: a worker of a job, or a camera.

use super::engine::Engine;
use crate::hand::{Detector, Model, Options};
use crate::inference::{BackendError, Graphs};
use crate::selection::CPU;
use std::sync::Arc;

/// A detector, and what runs its models.
pub struct Tools<'a> {
    /// It.
    pub detector: Detector<Box<dyn Model + Send + 'a>>,
    /// The name of what runs the models.
    pub backend: Arc<str>,
    /// Whether that is a device that others use, too.
    is_shared: bool,
    engine: &'a Engine,
    graphs: &'a Graphs<'a>,
    options: Options,
}

impl<'a> Tools<'a> {
    /// On what `engine` has chosen; `graphs` are its own.
    ///
    /// # Errors
    /// When an interpreter cannot be made.
    pub fn new(
        engine: &'a Engine,
        graphs: &'a Graphs<'a>,
        options: Options,
    ) -> Result<Self, BackendError> {
        let backend = Arc::from(engine.name());
        let models: [Box<dyn Model + Send + 'a>; 2] = match engine.device() {
            Some(device) => device
                .models()
                .map(|m| Box::new(m) as Box<dyn Model + Send>),
            None => own(graphs)?,
        };
        let [palm, hand] = models;
        Ok(Self {
            detector: Detector::new(palm, hand, options),
            backend,
            is_shared: engine.device().is_some(),
            engine,
            graphs,
            options,
        })
    }

    /// Why the device that they run on was given up, once it was.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.engine.lost().filter(|_| self.is_shared)
    }

    /// Goes on with the CPU.
    ///
    /// # Errors
    /// When an interpreter cannot be made.
    pub fn fall_back(&mut self) -> Result<(), BackendError> {
        let [palm, hand] = own(self.graphs)?;
        self.detector = Detector::new(palm, hand, self.options);
        self.backend = Arc::from(CPU);
        self.is_shared = false;
        Ok(())
    }
}

fn own<'a>(graphs: &'a Graphs<'a>) -> Result<[Box<dyn Model + Send + 'a>; 2], BackendError> {
    let pair = graphs.open()?;
    Ok([pair.palm.model, pair.hand.model])
}
