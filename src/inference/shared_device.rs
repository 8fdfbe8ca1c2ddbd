//! One accelerator for all workers. A thread owns the device and runs the requests of the workers from a bounded queue.
//!
//! * A failed run is never used: the device is opened again and the request repeated, as often as the retry budget
//!   allows. After that the device is lost, and every worker gets an error.
//! * Workers give up a driver that hangs. Nothing can end its thread but the end of the process, which opens no other
//!   device.
//! * When the process shuts down, nobody waits for a device that is being opened.

use super::backend::{BackendError, BackendSpec, BoxedModel, DelegateCoverage, LoadedModels};
use super::cpu::{CpuLoadedModel, CpuModel};
use super::device_thread::{InferenceRequest, device_thread};
use super::lock;
use super::model_files::{ModelFiles, ModelRole, ModelSpec};
use super::tensors::copy_output;
use crate::hand::{Model, ModelError};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How often a waiting caller checks the device.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long a caller waits for a busy device when the process shuts down.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);
/// How long closing the device may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a driver hangs in this process. What it holds may never be released.
static IS_HUNG: AtomicBool = AtomicBool::new(false);

/// Set once the process shuts down. A device that is being opened is then abandoned. Clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct ShutdownFlag(Arc<AtomicBool>);

impl ShutdownFlag {
    /// Sets the flag for all clones.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An open device with both models, and the thread that runs it.
pub(super) struct SharedDevice {
    queue: Option<Sender<InferenceRequest>>,
    state: Arc<Mutex<DeviceState>>,
    shutdown: ShutdownFlag,
    closed: Receiver<()>,
    specs: [ModelSpec; 2],
    /// The palm model, where each worker runs it on the CPU.
    palm: Option<CpuLoadedModel>,
    /// How much of the models a delegate runs; `None` for other backends.
    pub(super) coverage: Option<DelegateCoverage>,
}

/// What device thread and workers share.
#[derive(Debug, Default)]
pub(super) struct DeviceState {
    /// When the current run started, and when it counts as hung.
    pub(super) busy: Option<Range<Instant>>,
    /// Why the device is lost.
    pub(super) lost: Option<String>,
    /// Whether the process shuts down and did not wait for the device.
    is_abandoned: bool,
    /// How often the device was opened again.
    pub(super) reopened: usize,
    /// The last failure.
    pub(super) failure: String,
}

impl DeviceState {
    /// Marks the device as lost. Returns the reason: the first one is kept.
    pub(super) fn lose(&mut self, reason: &str) -> String {
        self.lost.get_or_insert_with(|| reason.to_owned()).clone()
    }
}

impl SharedDevice {
    /// Opens the device on a thread of its own, for at most `workers` waiting requests. Once `shutdown` is set, nobody
    /// waits for the device, now or later.
    ///
    /// # Errors
    /// Returns a human-readable reason when the device does not open within `timeout` or the process shuts down.
    pub(super) fn open(
        spec: &BackendSpec,
        files: &ModelFiles,
        workers: usize,
        timeout: Duration,
        shutdown: &ShutdownFlag,
    ) -> Result<Self, String> {
        if IS_HUNG.load(Ordering::Relaxed) {
            let reason =
                "an accelerator's driver hangs in this process; restart handloom to try again";
            return Err(reason.to_owned());
        }
        let palm = match spec {
            BackendSpec::Delegate(spec) if spec.leaves_palm_to_cpu() => {
                let palm = LoadedModels::load_palm(files).map_err(|error| error.to_string())?;
                Some(palm)
            }
            _ => None,
        };
        let (queue, requests) = bounded(workers.max(1));
        let (close_sender, closed) = bounded(1);
        let (open_sender, opened) = bounded(1);
        let state = Arc::new(Mutex::default());
        let thread = {
            let (spec, files, state) = (spec.clone(), files.clone(), Arc::clone(&state));
            move || {
                device_thread(&spec, &files, &requests, &state, &open_sender);
                // The owner of the device may be gone.
                close_sender.send(()).ok();
            }
        };
        Builder::new()
            .name("accelerator".to_owned())
            .spawn(thread)
            .map_err(|error| format!("cannot start its thread: {error}"))?;
        let since = Instant::now();
        let coverage = loop {
            let left = timeout.saturating_sub(since.elapsed());
            match opened.recv_timeout(left.min(POLL_INTERVAL)) {
                Ok(opened) => break opened?,
                Err(RecvTimeoutError::Timeout) if shutdown.is_set() => {
                    return Err("the process shuts down".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    IS_HUNG.store(true, Ordering::Relaxed);
                    let timeout = timeout.as_secs();
                    return Err(format!("it did not open within {timeout} s"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("its thread panicked; please report this".to_owned());
                }
            }
        };
        Ok(Self {
            queue: Some(queue),
            state,
            shutdown: shutdown.clone(),
            closed,
            specs: [files.palm.spec.clone(), files.hand.spec.clone()],
            palm,
            coverage,
        })
    }

    /// Why the device is lost, once it is.
    pub(super) fn lost(&self) -> Option<String> {
        lock(&self.state).lost.clone()
    }

    /// Whether the process shuts down and did not wait for the device.
    pub(super) fn is_abandoned(&self) -> bool {
        lock(&self.state).is_abandoned
    }

    /// How often the device failed and was opened again, and the last failure.
    pub(super) fn reopened(&self) -> (usize, String) {
        let state = lock(&self.state);
        (state.reopened, state.failure.clone())
    }

    /// The palm and the hand model, for one worker.
    ///
    /// # Errors
    /// Fails when an interpreter of a palm model on the CPU cannot be made.
    pub(super) fn models(self: &Arc<Self>) -> Result<[BoxedModel; 2], BackendError> {
        let shared = |role| -> BoxedModel {
            Box::new(SharedModel {
                input: vec![0.0; self.specs[role as usize].input.elements()],
                outputs: Vec::new(),
                device: Arc::clone(self),
                role,
            })
        };
        let palm = match &self.palm {
            Some(palm) => Box::new(CpuModel::open(palm)?),
            None => shared(ModelRole::Palm),
        };
        Ok([palm, shared(ModelRole::Hand)])
    }
}

impl Drop for SharedDevice {
    fn drop(&mut self) {
        self.queue = None;
        if !IS_HUNG.load(Ordering::Relaxed)
            && !self.is_abandoned()
            && self.closed.recv_timeout(CLOSE_TIMEOUT) == Err(RecvTimeoutError::Timeout)
        {
            tracing::warn!("the accelerator does not close; it is left open");
        }
    }
}

/// One model of the device, for one worker.
struct SharedModel {
    device: Arc<SharedDevice>,
    role: ModelRole,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
}

impl SharedModel {
    /// Fails when the device is lost, when its current run takes too long, or when the process shuts down meanwhile.
    fn check_device(&self) -> Result<(), ModelError> {
        let mut state = lock(&self.device.state);
        if let Some(reason) = &state.lost {
            return Err(ModelError(reason.clone()));
        }
        let now = Instant::now();
        match state.busy.clone() {
            Some(busy) if busy.end < now => {
                IS_HUNG.store(true, Ordering::Relaxed);
                let reason = state.lose("it hung: a run exceeded its time limit");
                Err(ModelError(reason))
            }
            Some(busy) if self.device.shutdown.is_set() && busy.start + SHUTDOWN_GRACE < now => {
                state.is_abandoned = true;
                Err(ModelError("abandoned: the process shuts down".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn thread_panicked(&self) -> ModelError {
        let reason = "its thread panicked; please report this";
        ModelError(lock(&self.device.state).lose(reason))
    }

    /// Puts a request into the queue, or takes its input back.
    fn send(&mut self, mut request: InferenceRequest) -> Result<(), ModelError> {
        let queue = self.device.queue.as_ref();
        let queue = queue.ok_or_else(|| self.thread_panicked())?;
        loop {
            let (returned, error) = match queue.send_timeout(request, POLL_INTERVAL) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(request)) => (request, self.check_device().err()),
                Err(SendTimeoutError::Disconnected(request)) => {
                    (request, Some(self.thread_panicked()))
                }
            };
            if let Some(error) = error {
                self.input = returned.input;
                return Err(error);
            }
            request = returned;
        }
    }
}

impl Model for SharedModel {
    fn input(&mut self) -> &mut [f32] {
        &mut self.input
    }

    fn invoke(&mut self) -> Result<(), ModelError> {
        self.outputs.clear();
        self.check_device()?;
        let length = self.input.len();
        let (reply, replied) = bounded(1);
        let request = InferenceRequest {
            role: self.role,
            input: std::mem::take(&mut self.input),
            reply,
        };
        self.send(request)?;
        let error = loop {
            match replied.recv_timeout(POLL_INTERVAL) {
                Ok(reply) => {
                    self.input = reply.input;
                    self.outputs = reply.outputs?;
                    return Ok(());
                }
                Err(RecvTimeoutError::Disconnected) => break self.thread_panicked(),
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(error) = self.check_device() {
                        break error;
                    }
                }
            }
        };
        // The input stays with the thread that hangs or panicked.
        self.input = vec![0.0; length];
        Err(error)
    }

    fn output(&self, index: usize, out: &mut [f32]) -> Result<(), ModelError> {
        copy_output(index, self.outputs.get(index).map(Vec::as_slice), out)
    }
}
