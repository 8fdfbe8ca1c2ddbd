//! The inference backend that job and camera share: opened once, and every event of it reported once.

use crate::daemon::Daemon;
use crate::error::CliError;
use crate::inference::{BackendEvent, BackendHandle, SelectionContext};
use crate::selection::CPU;
use std::sync::Arc;

impl Daemon {
    /// The backend, selected and opened now unless it is open. `on_probe` gets the name of every accelerator that is
    /// measured.
    ///
    /// # Errors
    /// When a required accelerator cannot be used, and when `is_stopped` ends the selection.
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
        let (request, models) = (config.backend_request(), config.model_paths());
        let backend = self.backends.backend(&request, &models, &mut context)?;
        Ok(backend)
    }

    /// Reports an event on log, `state` and `fault`. Job and camera both report the chosen backend; one that the config
    /// does not prefer is one fault.
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
                    let action = "the CPU runs the models";
                    self.outbox.fault("accelerator", reason.clone(), action);
                }
            }
            BackendEvent::Reopened {
                name,
                times,
                reason,
            } => self.outbox.fault(
                "accelerator",
                format!("{name} failed {times} times since it was opened: {reason}"),
                "the accelerator was opened again and the frames in hand were processed again; nothing is lost",
            ),
            BackendEvent::Lost { name, reason } => {
                let lost = format!("{name} is given up: {reason}");
                self.telemetry.backend(CPU, &lost);
                let action = "the CPU runs the models until the next job, after a hang until the next start; the manifest lists the clips and takes that it processed";
                self.outbox.fault("accelerator", lost, action);
                let fallback = format!("accelerator: {name} is given up, the CPU runs the models");
                self.gate.set_fallback(Some(fallback));
            }
        }
    }
}
