//! One accelerator for all workers: a thread owns the device and runs what the workers send through a bounded queue.
//!
//! A run that fails is never used: the device is opened again and the same input run again, as often as [`RetryBudget`]
//! allows; then the device is lost for good and every worker is told. A driver that hangs is given up by the workers;
//! its thread is left where it is, for nothing can end it but the end of the process, which opens no other device. When
//! the process ends nobody waits for a device that is being opened.

use super::backend::{BackendSpec, DelegateCoverage, LoadedModels, ModelPair};
use crate::hand::{Model, ModelError};
use crate::inference::model_files::{ModelFiles, ModelRole, ModelSpec};
use crate::inference::shutdown_flag::ShutdownFlag;
use crate::selection::RetryBudget;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};
use std::time::{Duration, Instant};

/// A device that runs a model for longer than this hangs.
const RUN_LIMIT: Duration = Duration::from_secs(15);
/// From the first failure of a run to its result, however often the device is opened again: less than any watchdog of
/// the workers waits.
const RECOVERY_LIMIT: Duration = Duration::from_secs(90);
/// Who waits looks around so often.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// At the end of the process nobody waits longer for what the device is doing.
const END_LIMIT: Duration = Duration::from_secs(1);
/// The thread may take so long to let go of the device.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Whether a driver hangs in this process: what it holds may never come free.
static IS_HUNG: AtomicBool = AtomicBool::new(false);

/// A device with both models open, and the thread that runs it.
#[derive(Debug)]
pub struct SharedDevice {
    queue: Option<Sender<InferenceRequest>>,
    condition: Arc<DeviceStatus>,
    ending: ShutdownFlag,
    ended: Receiver<()>,
    specs: [ModelSpec; 2],
    coverage: Option<DelegateCoverage>,
}

/// What the workers know of the device.
#[derive(Debug)]
struct DeviceStatus {
    now: Mutex<DeviceState>,
}

#[derive(Debug)]
struct DeviceState {
    /// From when to when what it is doing may take.
    busy: Option<Range<Instant>>,
    /// Why it was given up.
    lost: Option<String>,
    /// Whether the process ends and does not wait for it.
    is_abandoned: bool,
    /// How often it was opened again, and what the last failure was.
    reopened: usize,
    failure: String,
}

struct InferenceRequest {
    role: ModelRole,
    input: Vec<f32>,
    reply: Sender<InferenceReply>,
}

struct InferenceReply {
    input: Vec<f32>,
    outputs: Result<Vec<Vec<f32>>, ModelError>,
}

impl DeviceStatus {
    fn now(&self) -> MutexGuard<'_, DeviceState> {
        // Plain values, whole at any time.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn busy(&self, time: Range<Instant>) {
        self.now().busy = Some(time);
    }

    fn idle(&self) {
        self.now().busy = None;
    }

    /// Gives the device up, unless that was done; the reason that counts is the first.
    fn lose(&self, reason: String) -> String {
        self.now().lost.get_or_insert(reason).clone()
    }
}

impl SharedDevice {
    /// Opens the device on a thread of its own; `workers` may wait for it at a time. From the beginning of `ending` on
    /// nobody waits for it to open, then or later.
    ///
    /// # Errors
    /// In words, when it cannot be opened within `patience`, or the process ends.
    pub fn open(
        spec: &BackendSpec,
        bundle: &Arc<ModelFiles>,
        workers: usize,
        patience: Duration,
        ending: &ShutdownFlag,
    ) -> Result<Self, String> {
        if IS_HUNG.load(Ordering::Relaxed) {
            let reason =
                "an accelerator's driver hangs in this process; start it anew to try again";
            return Err(reason.to_owned());
        }
        let (queue, jobs) = bounded(workers.max(1));
        let (end, ended) = bounded(1);
        let (tell, told) = bounded(1);
        let condition = Arc::new(DeviceStatus {
            now: Mutex::new(DeviceState {
                busy: None,
                lost: None,
                is_abandoned: false,
                reopened: 0,
                failure: String::new(),
            }),
        });
        let specs = [bundle.palm.spec.clone(), bundle.hand.spec.clone()];
        let thread = {
            let (spec, bundle) = (spec.clone(), Arc::clone(bundle));
            let condition = Arc::clone(&condition);
            move || {
                serve(&spec, &bundle, &jobs, &condition, &tell);
                // Whoever opened the device may be gone.
                end.send(()).ok();
            }
        };
        Builder::new()
            .name("accelerator".to_owned())
            .spawn(thread)
            .map_err(|error| format!("no thread for it: {error}"))?;
        let since = Instant::now();
        let coverage = loop {
            let left = patience.saturating_sub(since.elapsed());
            match told.recv_timeout(left.min(POLL_INTERVAL)) {
                Ok(opened) => break opened?,
                Err(RecvTimeoutError::Timeout) if ending.is_set() => {
                    return Err("the process ends".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    IS_HUNG.store(true, Ordering::Relaxed);
                    let limit = patience.as_secs();
                    return Err(format!("it did not open within {limit} s"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("its thread died; please report this".to_owned());
                }
            }
        };
        Ok(Self {
            queue: Some(queue),
            condition,
            ending: ending.clone(),
            ended,
            specs,
            coverage,
        })
    }

    /// How much of both models it runs; `None` where there is no saying.
    #[must_use]
    pub fn coverage(&self) -> Option<&DelegateCoverage> {
        self.coverage.as_ref()
    }

    /// Why it was given up, once it was.
    #[must_use]
    pub fn lost(&self) -> Option<String> {
        self.condition.now().lost.clone()
    }

    /// Whether the process ends and something was not waited for.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.condition.now().is_abandoned
    }

    /// How often it failed and was opened again, and what failed the last time.
    #[must_use]
    pub fn reopened(&self) -> (usize, String) {
        let now = self.condition.now();
        (now.reopened, now.failure.clone())
    }

    /// The palm and the hand model, for one worker.
    #[must_use]
    pub fn models(self: &Arc<Self>) -> [SharedModel; 2] {
        [ModelRole::Palm, ModelRole::Hand].map(|role| SharedModel::new(self, role))
    }
}

impl Drop for SharedDevice {
    fn drop(&mut self) {
        self.queue = None;
        if !IS_HUNG.load(Ordering::Relaxed)
            && !self.is_abandoned()
            && self.ended.recv_timeout(CLOSE_LIMIT) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("the accelerator does not let go; it is left as it is");
        }
    }
}

/// A worker's way to one model of the device.
#[derive(Debug)]
pub struct SharedModel {
    device: Arc<SharedDevice>,
    role: ModelRole,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
}

impl SharedModel {
    fn new(device: &Arc<SharedDevice>, role: ModelRole) -> Self {
        let spec = &device.specs[usize::from(role == ModelRole::Hand)];
        Self {
            input: vec![0.0; spec.input.shape.iter().product()],
            outputs: Vec::new(),
            device: Arc::clone(device),
            role,
        }
    }

    /// Gives the device up when what it does takes longer than it may, and leaves it when the process ends meanwhile.
    fn hold_against_the_clock(&self) -> Result<(), ModelError> {
        let condition = &self.device.condition;
        let now = condition.now();
        let (lost, busy) = (now.lost.clone(), now.busy.clone());
        drop(now);
        let clock = Instant::now();
        match (lost, busy) {
            (Some(reason), _) => Err(ModelError(reason)),
            (None, Some(busy)) if busy.end < clock => {
                IS_HUNG.store(true, Ordering::Relaxed);
                let reason = "it hung: a run did not come back in time";
                Err(ModelError(condition.lose(reason.to_owned())))
            }
            (None, Some(busy)) if self.device.ending.is_set() && busy.start + END_LIMIT < clock => {
                condition.now().is_abandoned = true;
                Err(ModelError("it is left: the process ends".to_owned()))
            }
            (None, _) => Ok(()),
        }
    }
}

impl Model for SharedModel {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        self.outputs.clear();
        let died = || {
            let reason = "its thread died; please report this";
            ModelError(self.device.condition.lose(reason.to_owned()))
        };
        self.hold_against_the_clock()?;
        let queue = self.device.queue.as_ref().ok_or_else(died)?;
        let length = self.input.len();
        let (give, take) = bounded(1);
        let mut job = InferenceRequest {
            role: self.role,
            input: std::mem::take(&mut self.input),
            reply: give,
        };
        loop {
            let (back, error) = match queue.send_timeout(job, POLL_INTERVAL) {
                Ok(()) => break,
                Err(SendTimeoutError::Timeout(job)) => match self.hold_against_the_clock() {
                    Ok(()) => (job, None),
                    Err(error) => (job, Some(error)),
                },
                Err(SendTimeoutError::Disconnected(job)) => (job, Some(died())),
            };
            if let Some(error) = error {
                self.input = back.input;
                return Err(error);
            }
            job = back;
        }
        let error = loop {
            match take.recv_timeout(POLL_INTERVAL) {
                Ok(reply) => {
                    self.input = reply.input;
                    self.outputs = reply.outputs?;
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => break died(),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.hold_against_the_clock() {
                        break error;
                    }
                }
            }
        };
        // The input stays with the thread that hangs or died.
        self.input = vec![0.0; length];
        Err(error)
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        let values = self.outputs.get(index);
        let values = values.filter(|values| values.len() == out.len());
        let none = || {
            ModelError(format!(
                "there is no output {index} of {} values",
                out.len()
            ))
        };
        out.copy_from_slice(values.ok_or_else(none)?);
        Ok(())
    }
}

/// How opening the device went: how much of the models it runs.
type OpenOutcome = Result<Option<DelegateCoverage>, String>;

/// The device's thread: opens it, says how that went, and runs jobs until nobody sends any.
fn serve(
    spec: &BackendSpec,
    bundle: &ModelFiles,
    jobs: &Receiver<InferenceRequest>,
    condition: &DeviceStatus,
    tell: &Sender<OpenOutcome>,
) {
    let opened = LoadedModels::load(spec, bundle).map_err(|error| error.to_string());
    let graphs = match opened {
        Ok(graphs) => graphs,
        Err(reason) => {
            tell.send(Err(reason)).ok();
            return;
        }
    };
    let mut pair = match open(&graphs, bundle) {
        Ok(pair) => {
            tell.send(Ok(pair.coverage())).ok();
            Some(pair)
        }
        Err(reason) => {
            tell.send(Err(reason)).ok();
            return;
        }
    };
    let mut patience = RetryBudget::default();
    for InferenceRequest { role, input, reply } in jobs {
        let outputs = run(
            &graphs,
            &mut pair,
            &mut patience,
            condition,
            (role, &input, bundle),
        );
        condition.idle();
        // A worker that has lost its patience is gone.
        reply.send(InferenceReply { input, outputs }).ok();
    }
}

/// Opens the device and runs each model once: some compile them only then.
fn open<'a>(graphs: &'a LoadedModels<'a>, bundle: &ModelFiles) -> Result<ModelPair<'a>, String> {
    let mut pair = graphs.open().map_err(|error| error.to_string())?;
    // One that runs nothing is refused by its claim, and would be run in vain.
    if pair.coverage().is_some_and(|coverage| coverage.is_empty) {
        return Ok(pair);
    }
    for (model, spec) in [
        (&mut pair.palm.model, &bundle.palm.spec),
        (&mut pair.hand.model, &bundle.hand.spec),
    ] {
        let input = vec![0.0; spec.input.shape.iter().product()];
        run_once(model, spec, &input).map_err(|error| error.to_string())?;
    }
    Ok(pair)
}

/// Runs one job, on a device opened again if need be.
fn run<'a>(
    graphs: &'a LoadedModels<'a>,
    pair: &mut Option<ModelPair<'a>>,
    patience: &mut RetryBudget,
    condition: &DeviceStatus,
    (role, input, bundle): (ModelRole, &[f32], &ModelFiles),
) -> Result<Vec<Vec<f32>>, ModelError> {
    let within = |limit| {
        let now = Instant::now();
        now..now + limit
    };
    let mut recovery: Option<Range<Instant>> = None;
    loop {
        if let Some(reason) = condition.now().lost.clone() {
            *pair = None;
            return Err(ModelError(reason));
        }
        let failed = if let Some(pair) = pair {
            condition.busy(recovery.clone().unwrap_or_else(|| within(RUN_LIMIT)));
            let (model, spec) = match role {
                ModelRole::Palm => (&mut pair.palm.model, &bundle.palm.spec),
                ModelRole::Hand => (&mut pair.hand.model, &bundle.hand.spec),
            };
            match run_once(model, spec, input) {
                Ok(outputs) => {
                    patience.good();
                    return Ok(outputs);
                }
                Err(error) => error.to_string(),
            }
        } else {
            match open(graphs, bundle) {
                Ok(opened) => {
                    condition.now().reopened += 1;
                    *pair = Some(opened);
                    continue;
                }
                Err(reason) => reason,
            }
        };
        // What has failed is not run again, not even for its remains.
        *pair = None;
        condition.now().failure.clone_from(&failed);
        let Some(pause) = patience.bad() else {
            condition.lose(format!(
                "it failed again and again, the last time: {failed}"
            ));
            continue;
        };
        tracing::warn!(
            reason = failed,
            "the accelerator failed; it is opened again"
        );
        // A run that fails only at its limit is late already.
        let recovery = recovery.get_or_insert_with(|| within(RECOVERY_LIMIT));
        condition.busy(recovery.clone());
        thread::sleep(pause);
    }
}

fn run_once(
    model: &mut Box<dyn Model + Send + '_>,
    spec: &ModelSpec,
    input: &[f32],
) -> Result<Vec<Vec<f32>>, ModelError> {
    let to = model.input();
    if to.len() != input.len() {
        return Err(ModelError("the input has another size now".to_owned()));
    }
    to.copy_from_slice(input);
    model.invoke()?;
    let mut outputs = Vec::with_capacity(spec.outputs.len());
    for (index, output) in spec.outputs.iter().enumerate() {
        let mut values = vec![0.0; output.shape.iter().product()];
        model.output(index, &mut values)?;
        outputs.push(values);
    }
    Ok(outputs)
}
