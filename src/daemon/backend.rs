//! The inference backend that job and camera share: opened once, and every event of it reported once.

use crate::config::{Config, TAKES};
use crate::daemon::Daemon;
use crate::error::CliError;
use crate::inference::{BackendEvent, BackendHandle, SelectionContext};
use crate::selection::CPU;
use crate::storage::{StoreError, output_dir};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Daemon {
    /// Returns the shared backend. Selects and opens it first unless it is open. `on_probe` gets the name of every
    /// accelerator that is measured.
    ///
    /// # Errors
    /// Fails when a required accelerator cannot be used, and when `is_stopped` ends the selection.
    pub(super) fn open_backend(
        &self,
        on_probe: &mut dyn FnMut(&str),
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Arc<BackendHandle>, CliError> {
        let config = self.config();
        // The camera works alone, or beside the workers.
        let workers = if config.has_dataset() {
            self.threads
        } else {
            1
        };
        let mut context = SelectionContext {
            workers,
            on_probe,
            is_stopped,
            shutdown: self.shutdown.device_flag(),
        };
        let known = self.recorded_settings(&config)?;
        let request = config.backend_request().resuming(known.as_ref());
        let models = config.model_paths();
        let backend = self.backends.backend(&request, &models, &mut context)?;
        Ok(backend)
    }

    /// Settings of the earlier results: those of the job unless it starts over, otherwise those of the takes.
    fn recorded_settings(&self, config: &Config) -> Result<Option<Value>, StoreError> {
        if !self.starts_over.load(Ordering::Relaxed)
            && let Some(job) = self.ledger.lock().job()?
        {
            return Ok(Some(job.settings));
        }
        match config.camera.device {
            Some(_) => {
                let named = config.camera.path.as_deref();
                let takes = output_dir::folder_within(&config.output.path, TAKES, named)?;
                output_dir::recorded_settings(&takes)
            }
            None => Ok(None),
        }
    }

    /// Reports an event on log, `state` and `fault`. Job and camera both report the chosen backend; a backend that
    /// the config does not prefer gives one fault only.
    pub(super) fn report_backend(&self, event: &BackendEvent) {
        match event {
            BackendEvent::Chosen {
                name,
                reason,
                is_second_best,
            } => {
                tracing::info!(name, reason, "backend selected");
                self.telemetry.backend(name, reason);
                let fallback = is_second_best.then(|| format!("accelerator: {reason}"));
                if self.gate.set_fallback(fallback) {
                    self.outbox
                        .fault("accelerator", reason.clone(), event.action());
                }
            }
            BackendEvent::Reopened { .. } => {
                self.outbox
                    .fault("accelerator", event.to_string(), event.action());
            }
            BackendEvent::Lost { name, .. } => {
                self.telemetry.backend(CPU, &event.to_string());
                self.outbox
                    .fault("accelerator", event.to_string(), event.action());
                let fallback = format!("accelerator: {name} is given up, the CPU runs the models");
                self.gate.set_fallback(Some(fallback));
            }
        }
    }
}
