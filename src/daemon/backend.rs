//! What runs the models, for job and camera alike: one engine, one word about it.

use crate::daemon::state::Daemon;
use crate::error::CliError;
use crate::inference::{BackendEvent, BackendHandle, SelectionContext};
use crate::selection::CPU;
use std::sync::Arc;

impl Daemon {
    /// The engine of all, opened now unless it is. `tell` gets the name of what is measured; it is given up when
    /// `is_stopped`.
    pub(super) fn backend(
        &self,
        tell: &mut dyn FnMut(&str),
        is_stopped: &dyn Fn() -> bool,
    ) -> Result<Arc<BackendHandle>, CliError> {
        let config = self.config();
        let has_job = !config.dataset.path.as_os_str().is_empty();
        // A camera works alone, or beside the workers.
        let workers = if has_job { self.threads } else { 1 };
        let mut context = SelectionContext {
            workers,
            on_probe: tell,
            is_stopped,
            shutdown: &self.ending,
        };
        let (wanted, models) = (config.backend_request(), config.model_paths());
        self.pool
            .backend(&wanted, &models, workers + 1, &mut context)
    }

    /// Tells what there is to tell of it, on log, `state` and `fault`. Job and camera each say what was chosen; that it is
    /// not what was asked for is told once.
    pub(super) fn accelerator(&self, news: &BackendEvent<'_>) {
        match *news {
            BackendEvent::Chosen {
                name,
                reason,
                is_second_best,
            } => {
                tracing::info!(name, reason, "runs the models");
                self.telemetry.backend(name, reason);
                let lesser = is_second_best.then(|| format!("accelerator: {reason}"));
                let mut is_news = false;
                self.change_holds(|holds| {
                    is_news = lesser.is_some() && holds.lesser != lesser;
                    holds.lesser = lesser;
                });
                if is_news {
                    let action = "the CPU runs the models";
                    self.fault("accelerator", reason.to_owned(), action);
                }
            }
            BackendEvent::Reopened {
                name,
                times,
                reason,
            } => self.fault(
                "accelerator",
                format!("{name} failed, {times} times since it was opened: {reason}"),
                "opened again; what it worked on was run again, nothing is lost",
            ),
            BackendEvent::Lost { name, reason } => {
                let given_up = format!("{name} is given up: {reason}");
                self.telemetry.backend(CPU, &given_up);
                let action = "the CPU goes on until the next job, after a hang until the next start; the manifest says which clips and takes are its";
                self.fault("accelerator", given_up, action);
                let reason = format!("accelerator: {name} is given up, the CPU goes on");
                self.change_holds(|holds| holds.lesser = Some(reason));
            }
        }
    }
}
