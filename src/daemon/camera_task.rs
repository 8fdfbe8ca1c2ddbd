//! The thread of the daemon's camera, and what the other threads know of it. The job runs beside it; a camera that is
//! not there holds up nothing.

use crate::camera::{Camera, CameraAddress, CaptureTimeouts, DropPolicy};
use crate::daemon::backend::Backends;
use crate::daemon::camera_session::{CameraSession, TakeWriter};
use crate::daemon::job_failure::FATAL_ACTION;
use crate::daemon::job_queue::PendingCommand;
use crate::daemon::live_config::LiveConfig;
use crate::daemon::mirror_task::MirrorHandle;
use crate::daemon::outbox_writer::OutboxWriter;
use crate::daemon::resource_monitor::ResourceStatus;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::daemon::worker_monitor::WorkerMonitor;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::SelectionError;
use crate::messages::payloads::{CameraHealth, JobPhase};
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::session::{RecordingSession, SessionStatus};
use crate::recording::take_store::{TakeOptions, TakeStore};
use crate::recording::{CaptureSettings, TakeProvenance};
use crate::sequence::recording_plan::{RecordRequest, RecordingPlan};
use crate::sequence::sign_recorder::SignRecorder;
use crate::storage::SharedLedger;
use crate::storage::mirror::Listing;
use crate::system::clock::{now_utc, uptime};
use crate::system::{Liveness, Stage, lock_ignoring_poison};
use anyhow::anyhow;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Requests that wait for the camera's thread.
const REQUESTS_MAX: usize = 16;
/// A session that failed is started again after this time.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Longest time from one sign of life of the thread to the next. One frame takes no longer, an accelerator that is opened
/// again for it included.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_mins(4);

/// A request to the camera's thread.
pub(super) enum CameraRequest {
    /// Record takes.
    Record(PendingCommand, RecordRequest),
    /// Discard the last take.
    Undo(PendingCommand),
    /// Record no more.
    Cancel,
}

/// What the other threads know of the camera.
#[derive(Default)]
pub(super) struct CameraHandle {
    /// Requests that wait for the camera's thread; `None` without one.
    requests: Mutex<Option<VecDeque<CameraRequest>>>,
    /// Whether a file that stands in for the camera is over.
    is_over: AtomicBool,
    health: Mutex<Option<CameraHealth>>,
    /// Files of the takes that the mirror shall hold.
    files: Mutex<Option<Listing>>,
}

impl CameraHandle {
    /// Hands `request` to the camera's thread. Gives it back with the reason when there is no camera or too many requests
    /// wait.
    pub(super) fn request(
        &self,
        request: CameraRequest,
    ) -> Result<(), (CameraRequest, &'static str)> {
        let mut requests = lock_ignoring_poison(&self.requests);
        let Some(requests) = &mut *requests else {
            let why = if self.is_over.load(Ordering::Acquire) {
                "the file that stands in for a camera is over; restart the daemon to play it again"
            } else {
                "this device has no camera; see [camera] device in the config"
            };
            return Err((request, why));
        };
        if matches!(request, CameraRequest::Cancel) {
            // There is always room for it: one cancel stands for all.
            requests.retain(|request| !matches!(request, CameraRequest::Cancel));
        } else if requests.len() >= REQUESTS_MAX {
            return Err((request, "too many commands wait for the camera; try again"));
        }
        requests.push_back(request);
        Ok(())
    }

    /// Accepts requests from here on.
    fn open(&self) {
        *lock_ignoring_poison(&self.requests) = Some(VecDeque::new());
    }

    /// Accepts no request from here on; returns those that wait.
    fn close(&self) -> VecDeque<CameraRequest> {
        self.is_over.store(true, Ordering::Release);
        *lock_ignoring_poison(&self.health) = None;
        lock_ignoring_poison(&self.requests)
            .take()
            .unwrap_or_default()
    }

    /// Removes and returns the requests that wait.
    fn drain(&self) -> VecDeque<CameraRequest> {
        lock_ignoring_poison(&self.requests)
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Whether there is a camera, even if it is unplugged now.
    pub(super) fn is_open(&self) -> bool {
        lock_ignoring_poison(&self.requests).is_some()
    }

    /// Removes and returns the oldest request.
    pub(super) fn next_request(&self) -> Option<CameraRequest> {
        lock_ignoring_poison(&self.requests).as_mut()?.pop_front()
    }

    /// Files of the takes that the mirror shall hold; `None` while they are written.
    pub(super) fn files(&self) -> Option<Listing> {
        lock_ignoring_poison(&self.files).clone()
    }

    /// Sets them; returns the value before.
    pub(super) fn set_files(&self, files: Option<Listing>) -> Option<Listing> {
        std::mem::replace(&mut *lock_ignoring_poison(&self.files), files)
    }

    /// Sets the counters for `health`.
    pub(super) fn set_health(&self, health: CameraHealth) {
        *lock_ignoring_poison(&self.health) = Some(health);
    }

    /// Counters for `health`; `None` without a camera.
    pub(super) fn health(&self) -> Option<CameraHealth> {
        lock_ignoring_poison(&self.health).clone()
    }
}

/// What the camera's thread works with.
pub(super) struct CameraContext {
    pub(super) config: LiveConfig,
    pub(super) ledger: SharedLedger,
    pub(super) backends: Arc<Backends>,
    pub(super) monitor: Arc<WorkerMonitor>,
    pub(super) camera: Arc<CameraHandle>,
    pub(super) mirror: Arc<MirrorHandle>,
    pub(super) resources: Arc<ResourceStatus>,
    pub(super) telemetry: Arc<TelemetryPublisher>,
    pub(super) outbox: Arc<OutboxWriter>,
    pub(super) shutdown: Shutdown,
}

impl CameraContext {
    /// Ends the daemon because of `failure`, which is published once.
    fn fail(&self, failure: CliError) {
        if self.shutdown.claim_reason() {
            let reason = Audience::Keys.display_chain(&failure);
            self.outbox.fault("accelerator", reason, FATAL_ACTION);
        }
        self.shutdown.request_after(failure);
    }
}

/// Starts the thread, if the config names a camera. It ends with the daemon.
///
/// # Errors
/// When the thread cannot be started.
pub(super) fn start(
    daemon: CameraContext,
    liveness: &Liveness,
) -> io::Result<Option<JoinHandle<()>>> {
    let Some((address, capture)) = daemon.config.get().capture() else {
        return Ok(None);
    };
    daemon.camera.open();
    daemon.camera.set_health(CameraHealth::default());
    let stage = liveness.stage("the camera", HEARTBEAT_TIMEOUT);
    let run = move || {
        run_sessions(&daemon, &address, &capture, &stage);
        refuse(&daemon, daemon.camera.close());
        daemon.telemetry.camera(None);
    };
    Builder::new()
        .name("camera-task".to_owned())
        .spawn(run)
        .map(Some)
}

/// Runs one session after another until the daemon stops, the file is over or the accelerator is required and lost.
fn run_sessions(
    daemon: &CameraContext,
    address: &CameraAddress,
    capture: &CaptureSettings,
    stage: &Stage,
) {
    let mut reported: Option<String> = None;
    while !daemon.shutdown.is_requested() {
        let started = uptime();
        stage.busy(started);
        // A bug ends a session, not the daemon.
        let session = AssertUnwindSafe(|| run_session(daemon, address, capture, stage));
        let ended = catch_unwind(session).unwrap_or_else(|_| {
            let bug = anyhow!("the camera's thread has panicked; the log says where");
            Err(CliError::new(Exit::Bug, bug))
        });
        stage.idle();
        if uptime().saturating_sub(started) > RETRY_DELAY {
            // The session worked for a while: the same failure is reported again.
            reported = None;
        }
        let reason = match ended {
            Ok(()) => return,
            // The daemon stops while accelerators are probed.
            Err(failure) if failure.exit == Exit::Stopped => return,
            Err(failure) if failure.error.is::<SelectionError>() => return daemon.fail(failure),
            Err(failure) => Audience::TakesKeys.display_chain(&failure),
        };
        if reported.as_ref() != Some(&reason) {
            let action = "the camera is tried again until it works; the job continues";
            daemon.outbox.fault("camera", reason.clone(), action);
        }
        let state = (JobPhase::Degraded, Some(reason.clone()));
        daemon.telemetry.camera(Some(state));
        reported = Some(reason);
        refuse(daemon, daemon.camera.drain());
        daemon.shutdown.wait(RETRY_DELAY);
    }
}

/// Answers the requests that are not carried out.
fn refuse(daemon: &CameraContext, requests: VecDeque<CameraRequest>) {
    for request in requests {
        if let CameraRequest::Record(task, _) | CameraRequest::Undo(task) = request
            && !daemon.shutdown.is_requested()
        {
            let reason = "the camera cannot be used; see state".to_owned();
            daemon.outbox.reply(&task, Err(reason), &[]);
        }
    }
}

/// One session, from the choice of the backend to the last take.
fn run_session(
    daemon: &CameraContext,
    address: &CameraAddress,
    capture: &CaptureSettings,
    stage: &Stage,
) -> Result<(), CliError> {
    let config = daemon.config.get();
    // Probing has time limits of its own.
    stage.idle();
    let mut has_probed = false;
    let tell = &mut |name: &str| {
        has_probed = true;
        let reason = format!("measuring whether {name} could run the models");
        let state = (JobPhase::Scanning, Some(reason));
        daemon.telemetry.camera(Some(state));
    };
    let backend = daemon
        .backends
        .open(tell, &|| daemon.shutdown.is_requested())?;
    stage.busy(uptime());
    if has_probed {
        daemon.telemetry.camera(None);
    }
    daemon.backends.report(&backend.choice());
    let models = backend.loaded_models()?;
    let renewed = || daemon.backends.replacement();
    let detector = FallbackDetector::new(&backend, &models, capture.detector, &renewed)?;
    let settings = capture.settings(&backend);
    let options = TakeOptions::of(capture, -1, "train");
    let (mut store, _) = TakeStore::open(&config.takes_path(), settings.clone(), options)?;
    store.publish_to(daemon.ledger.clone());
    daemon.outbox.notify();
    let origin = TakeProvenance {
        settings: &settings,
        backend: &backend,
        device: address,
        started: &now_utc(),
    };
    let writer = TakeWriter::new(daemon, store, &origin);
    let plan = RecordingPlan::new(config.camera.keep_unlabelled);
    let recorder = SignRecorder::new(capture.sign_config(), plan);
    let opener = address.opener(capture.want);
    let camera = Camera::start(opener, DropPolicy::DropOldest, CaptureTimeouts::default())?;
    let session = RecordingSession::new(camera, detector, recorder);
    let mut session = CameraSession::new(daemon, stage, session, writer, address.to_string());
    let ended = session.run();
    let closed = session.finish(ended.is_ok());
    if let (Err(_), Err(error)) = (&ended, &closed) {
        tracing::error!(
            error = error.display_chain(),
            "the last takes were not written"
        );
    }
    ended?;
    closed?;
    let SessionStatus { counts, stats, .. } = session.status();
    tracing::info!(
        frames = counts.frames,
        dropped = counts.dropped,
        processed = stats.seen,
        "camera closed"
    );
    Ok(())
}
