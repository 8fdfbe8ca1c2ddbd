//! The thread that owns a shared device: it opens the device, runs requests, and opens it again after a failure.

use super::backend::{BackendSpec, DelegateCoverage, LoadedModels, ModelPair};
use super::lock;
use super::model_files::{ModelFiles, ModelRole};
use super::shared_device::DeviceState;
use crate::hand::{Model, ModelError};
use crossbeam_channel::{Receiver, Sender};
use std::ops::Range;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

/// A run that takes longer counts as hung.
const RUN_TIMEOUT: Duration = Duration::from_secs(15);
/// Time limit from the first failure of a request to its result, with all retries. Shorter than the watchdogs of the
/// workers.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(90);

/// Successful runs that restore one retry: about an hour of work. A device that fails more often is of no use.
const RUNS_PER_RETRY: usize = 100_000;
/// Delay before each retry after failures in a row. It grows, so that a bus has time to find the device again.
const RETRY_DELAYS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

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
    state: &Mutex<DeviceState>,
    opened: &Sender<OpenOutcome>,
) {
    let device = LoadedModels::load(spec, files).map_err(|error| error.to_string());
    let mut device = device.map(|models| Device {
        models,
        files,
        state,
        budget: RetryBudget::default(),
        pair: None,
    });
    let outcome = device.as_mut().map_err(|reason| reason.clone());
    let outcome = outcome.and_then(Device::open);
    let is_open = outcome.is_ok();
    opened.send(outcome).ok();
    let Some(mut device) = device.ok().filter(|_| is_open) else {
        return;
    };
    for InferenceRequest { role, input, reply } in requests {
        let outputs = device.run(role, &input);
        lock(state).busy = None;
        // The worker may have given up.
        reply.send(InferenceReply { input, outputs }).ok();
    }
}

struct Device<'a> {
    models: LoadedModels,
    files: &'a ModelFiles,
    state: &'a Mutex<DeviceState>,
    budget: RetryBudget,
    /// The open models; `None` after a failure.
    pair: Option<ModelPair>,
}

impl Device<'_> {
    /// Opens the models and runs each once, because some drivers compile them only then.
    fn open(&mut self) -> OpenOutcome {
        let mut pair = self.models.open().map_err(|error| error.to_string())?;
        let coverage = pair.coverage.clone();
        // A delegate that runs no node is refused by its coverage: running it would be in vain.
        if !coverage.as_ref().is_some_and(|coverage| coverage.is_empty) {
            for role in [ModelRole::Palm, ModelRole::Hand] {
                let input = vec![0.0; self.files.of(role).spec.input.elements()];
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
            if let Some(reason) = lock(self.state).lost.clone() {
                self.pair = None;
                return Err(ModelError(reason));
            }
            let failure = if let Some(pair) = &mut self.pair {
                let time = recovery.clone().unwrap_or_else(|| from_now(RUN_TIMEOUT));
                lock(self.state).busy = Some(time);
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
                        lock(self.state).reopened += 1;
                        continue;
                    }
                    Err(reason) => reason,
                }
            };
            // A device that failed is closed before anything else.
            self.pair = None;
            lock(self.state).failure.clone_from(&failure);
            let Some(delay) = self.budget.record_failure() else {
                let reason = format!("it failed repeatedly, the last failure: {failure}");
                lock(self.state).lose(&reason);
                continue;
            };
            tracing::warn!(reason = failure, "the accelerator failed; opening it again");
            let recovery = recovery.get_or_insert_with(|| from_now(RECOVERY_TIMEOUT));
            lock(self.state).busy = Some(recovery.clone());
            thread::sleep(delay);
        }
    }
}

fn from_now(timeout: Duration) -> Range<Instant> {
    let now = Instant::now();
    now..now + timeout
}

fn run_once(
    pair: &mut ModelPair,
    files: &ModelFiles,
    role: ModelRole,
    input: &[f32],
) -> Result<Vec<Vec<f32>>, ModelError> {
    let model = &mut pair.models[role as usize];
    let buffer = model.input();
    if buffer.len() != input.len() {
        return Err(ModelError("the size of the input changed".to_owned()));
    }
    buffer.copy_from_slice(input);
    model.invoke()?;
    let outputs = files.of(role).spec.outputs.iter().enumerate();
    outputs
        .map(|(index, output)| {
            let mut values = vec![0.0; output.elements()];
            model.output(index, &mut values).map(|()| values)
        })
        .collect()
}

/// Decides when a device has failed too often. Counts runs, not time.
#[derive(Clone, Default)]
struct RetryBudget {
    used: usize,
    runs: usize,
}

impl RetryBudget {
    /// Records a successful run.
    fn record_success(&mut self) {
        self.runs += 1;
        if self.runs >= RUNS_PER_RETRY {
            self.runs = 0;
            self.used = self.used.saturating_sub(1);
        }
    }

    /// Records a failed run or a failure to open. Returns the delay before the next retry, `None` when none is left.
    fn record_failure(&mut self) -> Option<Duration> {
        self.runs = 0;
        let delay = RETRY_DELAYS.get(self.used).copied();
        self.used = (self.used + 1).min(RETRY_DELAYS.len());
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_are_retried_and_no_fourth() {
        let mut budget = RetryBudget::default();
        assert!(budget.record_failure().is_some());
        assert!(budget.record_failure() > Some(RETRY_DELAYS[0]));
        budget.record_success();
        assert!(budget.record_failure().is_some());
        assert_eq!(budget.record_failure(), None);
        assert_eq!(budget.record_failure(), None);
    }

    #[test]
    fn successful_runs_restore_retries() {
        let mut budget = RetryBudget::default();
        while budget.record_failure().is_some() {}
        (1..RUNS_PER_RETRY).for_each(|_| budget.record_success());
        assert_eq!(budget.clone().record_failure(), None);
        budget.record_success();
        assert!(budget.record_failure().is_some());
        assert_eq!(budget.record_failure(), None);
        // A device that keeps failing never regains a retry.
        for _ in 0..1000 {
            (0..RUNS_PER_RETRY / 2).for_each(|_| budget.record_success());
            assert_eq!(budget.record_failure(), None);
        }
    }
}
