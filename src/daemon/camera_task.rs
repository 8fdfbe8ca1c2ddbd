//! The thread of the daemon's camera, and what the other threads share with it. The job runs beside it and does not wait
//! for a missing camera.

use crate::camera::{Camera, CameraAddress, CaptureTimeouts, DropPolicy};
use crate::config::TAKES;
use crate::daemon::camera_session::{CameraSession, TakeWriter};
use crate::daemon::job_queue::PendingCommand;
use crate::daemon::{Daemon, spawn};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::SelectionError;
use crate::messages::payloads::{CameraHealth, JobPhase};
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::session::RecordingSession;
use crate::recording::take_store::TakeStore;
use crate::recording::{CaptureSettings, TakeProvenance};
use crate::sequence::recording_plan::{RecordRequest, RecordingPlan};
use crate::sequence::sign_recorder::SignRecorder;
use crate::storage::mirror::Listing;
use crate::storage::output_dir;
use crate::system::clock::{now_utc, uptime};
use crate::system::{Liveness, Stage, lock_ignoring_poison};
use anyhow::anyhow;
use std::collections::VecDeque;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Maximum number of requests that wait for the camera's thread.
const REQUESTS_MAX: usize = 16;
/// A session that failed is started again after this time.
const RETRY_DELAY: Duration = Duration::from_secs(30);
/// Longest time between two heartbeats of the thread: enough for one frame, even if an accelerator is opened again for it.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_mins(4);

/// A request to the camera's thread.
pub(super) enum CameraRequest {
    /// Record takes.
    Record(PendingCommand, RecordRequest),
    /// Discard the last take.
    Undo(PendingCommand),
    /// Stop recording.
    Cancel,
}

/// Shared by the camera's thread and the others.
#[derive(Default)]
pub(super) struct CameraHandle(Mutex<CameraStatus>);

#[derive(Default)]
pub(super) struct CameraStatus {
    /// Requests that wait for the camera's thread; `None` without one.
    pub(super) requests: Option<VecDeque<CameraRequest>>,
    /// Whether the file of a `file:` camera has ended.
    is_over: bool,
    /// Counters for `health`; `None` without a camera.
    pub(super) health: Option<CameraHealth>,
    /// Files of the takes for the mirror; `None` while they are being written.
    pub(super) files: Option<Listing>,
}

impl CameraHandle {
    pub(super) fn lock(&self) -> MutexGuard<'_, CameraStatus> {
        lock_ignoring_poison(&self.0)
    }

    /// Hands `request` to the camera's thread. Returns it with the reason when there is no camera or too many requests
    /// wait.
    pub(super) fn request(
        &self,
        request: CameraRequest,
    ) -> Result<(), (CameraRequest, &'static str)> {
        let status = &mut *self.lock();
        let Some(requests) = &mut status.requests else {
            let why = if status.is_over {
                "the file that stands in for a camera is over; restart the daemon to play it again"
            } else {
                "this device has no camera; see [camera] device in the config"
            };
            return Err((request, why));
        };
        if matches!(request, CameraRequest::Cancel) {
            // One cancel replaces another, so there is always room for it.
            requests.retain(|request| !matches!(request, CameraRequest::Cancel));
        } else if requests.len() >= REQUESTS_MAX {
            return Err((request, "too many commands wait for the camera; try again"));
        }
        requests.push_back(request);
        Ok(())
    }

    /// Accepts requests from here on.
    fn open(&self) {
        let mut status = self.lock();
        status.requests = Some(VecDeque::new());
        status.health = Some(CameraHealth::default());
    }

    /// Accepts no further requests; returns those that wait.
    fn close(&self) -> VecDeque<CameraRequest> {
        let mut status = self.lock();
        (status.is_over, status.health) = (true, None);
        status.requests.take().unwrap_or_default()
    }

    /// Removes and returns the requests that wait.
    fn drain(&self) -> VecDeque<CameraRequest> {
        let mut status = self.lock();
        status.requests.as_mut().map(mem::take).unwrap_or_default()
    }

    /// Removes and returns the oldest request.
    pub(super) fn next_request(&self) -> Option<CameraRequest> {
        self.lock().requests.as_mut()?.pop_front()
    }
}

/// Starts the thread, if the config names a camera. It ends with the daemon.
///
/// # Errors
/// Fails when the thread cannot be started.
pub(super) fn start(
    daemon: &Arc<Daemon>,
    liveness: &Liveness,
) -> Result<Option<JoinHandle<()>>, CliError> {
    let Some((address, capture)) = daemon.config().capture() else {
        return Ok(None);
    };
    daemon.camera.open();
    let daemon = Arc::clone(daemon);
    let stage = liveness.stage("the camera", HEARTBEAT_TIMEOUT);
    let run = move || {
        run_sessions(&daemon, &address, &capture, &stage);
        refuse(&daemon, daemon.camera.close());
        daemon.telemetry.camera(None);
    };
    spawn("camera-task", run).map(Some)
}

/// Runs one session after another until the daemon stops, the file ends or a required accelerator is lost.
fn run_sessions(
    daemon: &Daemon,
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
            Err(failure) if failure.error.is::<SelectionError>() => {
                daemon.report_fatal("accelerator", &failure);
                return daemon.shutdown.request_after(failure);
            }
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

/// Refuses the commands of `requests`; at shutdown they stay unanswered.
fn refuse(daemon: &Daemon, requests: VecDeque<CameraRequest>) {
    if !daemon.shutdown.is_requested() {
        let commands = requests.into_iter().filter_map(|request| match request {
            CameraRequest::Record(command, _) | CameraRequest::Undo(command) => Some(command),
            CameraRequest::Cancel => None,
        });
        let refusal = "the camera cannot be used; see state";
        daemon.outbox.refuse(commands, refusal);
    }
}

/// One session, from the choice of the backend to the last take.
fn run_session(
    daemon: &Daemon,
    address: &CameraAddress,
    capture: &CaptureSettings,
    stage: &Stage,
) -> Result<(), CliError> {
    let config = daemon.config();
    // Probing has time limits of its own.
    stage.idle();
    let mut has_probed = false;
    let on_probe = &mut |name: &str| {
        has_probed = true;
        let reason = format!("measuring whether {name} could run the models");
        let state = (JobPhase::Scanning, Some(reason));
        daemon.telemetry.camera(Some(state));
    };
    let backend = daemon.open_backend(on_probe, &|| daemon.shutdown.is_requested())?;
    stage.busy(uptime());
    if has_probed {
        daemon.telemetry.camera(None);
    }
    daemon.report_backend(&backend.choice());
    let renewed = || daemon.backends.reopened();
    let detector = FallbackDetector::new(&backend, capture.detector, &renewed)?;
    let settings = capture.settings(backend.files(), &backend.identity());
    let named = config.camera.path.as_deref();
    let out = output_dir::folder_within(&config.output.path, TAKES, named)?;
    let mut store = TakeStore::open(&out, settings.clone(), capture, -1, "train")?;
    store.publish_to(daemon.ledger.clone())?;
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
    CameraSession::new(daemon, stage, session, writer, address.to_string()).run()
}
