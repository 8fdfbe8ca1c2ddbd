//! The inference backend that job and camera share: opened once, and every event of it reported once.

use crate::config::Config;
use crate::daemon::job_gate::JobGate;
use crate::daemon::live_config::LiveConfig;
use crate::daemon::outbox_writer::OutboxWriter;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::error::CliError;
use crate::inference::{BackendCache, BackendEvent, BackendHandle, SelectionContext};
use crate::selection::CPU;
use std::sync::Arc;

/// Shared by the supervisor and the camera's thread.
pub(super) struct Backends {
    cache: BackendCache,
    config: LiveConfig,
    /// Worker threads that the job has at most.
    threads: usize,
    gate: Arc<JobGate>,
    outbox: Arc<OutboxWriter>,
    telemetry: Arc<TelemetryPublisher>,
    shutdown: Shutdown,
}

impl Backends {
    pub(super) fn new(
        config: LiveConfig,
        threads: usize,
        gate: Arc<JobGate>,
        outbox: Arc<OutboxWriter>,
        telemetry: Arc<TelemetryPublisher>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            cache: BackendCache::default(),
            config,
            threads,
            gate,
            outbox,
            telemetry,
            shutdown,
        }
    }

    /// The backend, selected and opened now unless it is open. `on_probe` gets the name of every accelerator that is
    /// measured.
    ///
    /// # Errors
    /// When a required accelerator cannot be used, and when `is_stopped` ends the selection.
    pub(super) fn open(
        &self,
        on_probe: &mut dyn FnMut(&str),
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Arc<BackendHandle>, CliError> {
        let config = self.config.get();
        // The camera works alone, or beside the workers.
        let workers = if has_dataset(&config) {
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
        let backend = self
            .cache
            .backend(&request, &models, workers + 1, &mut context)?;
        Ok(backend)
    }

    /// What was opened after the caller's device was lost, if anything was.
    pub(super) fn replacement(&self) -> Option<Arc<BackendHandle>> {
        self.cache.reopened()
    }

    /// Reports an event on log, `state` and `fault`. Job and camera both report what was chosen; that it is not what the
    /// config prefers is one fault.
    pub(super) fn report(&self, event: &BackendEvent) {
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

/// Whether the config names a dataset; without one there is a camera only.
pub(super) fn has_dataset(config: &Config) -> bool {
    !config.dataset.path.as_os_str().is_empty()
}
