//! The thread that owns a shared device: it opens the device, runs requests, and opens it again after a failure.

use super::backend::{BackendSpec, DelegateCoverage, LoadedModels, ModelPair};
use super::model_files::{ModelFiles, ModelRole, ModelSpec};
use super::shared_device::DeviceStatus;
use crate::hand::{Model, ModelError};
use crate::selection::RetryBudget;
use crossbeam_channel::{Receiver, Sender};
use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

/// A run that takes longer counts as hung.
const RUN_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit from the first failure of a request to its result, with all retries. Shorter than the watchdogs of the
/// workers.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(90);

/// An input for one of the models.
pub(super) struct InferenceRequest {
    pub(super) role: ModelRole,
    pub(super) input: Vec<f32>,
    pub(super) reply: Sender<InferenceReply>,
}

/// The input of a request, for reuse, and the outputs in the order of the manifest.
pub(super) struct InferenceReply {
    pub(super) input: Vec<f32>,
    pub(super) outputs: Result<Vec<Vec<f32>>, ModelError>,
}

/// How much of the models a delegate runs, or why the device did not open.
pub(super) type OpenOutcome = Result<Option<DelegateCoverage>, String>;

/// Opens the device, sends the outcome to `opened`, and runs requests until no sender is left.
pub(super) fn device_thread(
    spec: &BackendSpec,
    files: &ModelFiles,
    requests: &Receiver<InferenceRequest>,
    status: &DeviceStatus,
    opened: &Sender<OpenOutcome>,
) {
    let models = match LoadedModels::load(spec, files) {
        Ok(models) => models,
        Err(error) => {
            opened.send(Err(error.to_string())).ok();
            return;
        }
    };
    let mut device = Device {
        models: &models,
        files,
        status,
        budget: RetryBudget::default(),
        pair: None,
    };
    match device.open() {
        Ok(coverage) => opened.send(Ok(coverage)).ok(),
        Err(reason) => {
            opened.send(Err(reason)).ok();
            return;
        }
    };
    for InferenceRequest { role, input, reply } in requests {
        let outputs = device.run(role, &input);
        status.set_idle();
        // The worker may have given up.
        reply.send(InferenceReply { input, outputs }).ok();
    }
}

struct Device<'a> {
    models: &'a LoadedModels<'a>,
    files: &'a ModelFiles,
    status: &'a DeviceStatus,
    budget: RetryBudget,
    /// The open models; `None` after a failure.
    pair: Option<ModelPair<'a>>,
}

impl Device<'_> {
    /// Opens the models and runs each once, because some drivers compile them only then.
    fn open(&mut self) -> OpenOutcome {
        let mut pair = self.models.open().map_err(|error| error.to_string())?;
        let coverage = pair.coverage();
        // A delegate that runs no node is refused by its coverage: running it would be in vain.
        if !coverage.as_ref().is_some_and(|coverage| coverage.is_empty) {
            for role in [ModelRole::Palm, ModelRole::Hand] {
                let input = vec![0.0; self.files.spec(role).input.len()];
                run_once(&mut pair, self.files, role, &input).map_err(|error| error.to_string())?;
            }
        }
        self.pair = Some(pair);
        Ok(coverage)
    }

    /// Runs one request. After a failure opens the device again and repeats the request.
    fn run(&mut self, role: ModelRole, input: &[f32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut recovery: Option<Range<Instant>> = None;
        loop {
            if let Some(reason) = self.status.state().lost.clone() {
                self.pair = None;
                return Err(ModelError(reason));
            }
            let failure = if let Some(pair) = &mut self.pair {
                let time = recovery.clone().unwrap_or_else(|| from_now(RUN_TIMEOUT));
                self.status.set_busy(time);
                match run_once(pair, self.files, role, input) {
                    Ok(outputs) => {
                        self.budget.record_success();
                        return Ok(outputs);
                    }
                    Err(error) => error.to_string(),
                }
            } else {
                match self.open() {
                    Ok(_) => {
                        self.status.state().reopened += 1;
                        continue;
                    }
                    Err(reason) => reason,
                }
            };
            // A device that failed is closed before anything else.
            self.pair = None;
            self.status.state().failure.clone_from(&failure);
            let Some(delay) = self.budget.record_failure() else {
                let reason = format!("it failed repeatedly, the last failure: {failure}");
                self.status.lose(&reason);
                continue;
            };
            tracing::warn!(reason = failure, "the accelerator failed; opening it again");
            let recovery = recovery.get_or_insert_with(|| from_now(RECOVERY_TIMEOUT));
            self.status.set_busy(recovery.clone());
            thread::sleep(delay);
        }
    }
}

fn from_now(timeout: Duration) -> Range<Instant> {
    let now = Instant::now();
    now..now + timeout
}

fn run_once(
    pair: &mut ModelPair<'_>,
    files: &ModelFiles,
    role: ModelRole,
    input: &[f32],
) -> Result<Vec<Vec<f32>>, ModelError> {
    let model = match role {
        ModelRole::Palm => &mut pair.palm.model,
        ModelRole::Hand => &mut pair.hand.model,
    };
    let spec: &ModelSpec = files.spec(role);
    let buffer = model.input();
    if buffer.len() != input.len() {
        return Err(ModelError("the size of the input changed".to_owned()));
    }
    buffer.copy_from_slice(input);
    model.invoke()?;
    let outputs = spec.outputs.iter().enumerate();
    outputs
        .map(|(index, output)| {
            let mut values = vec![0.0; output.len()];
            model.output(index, &mut values).map(|()| values)
        })
        .collect()
}
