//! The daemon's camera: a thread that films, keeps the takes that were asked for, and tells how it stands. The job
//! goes on beside it; a camera that is away holds up nothing.

use crate::camera::{Camera, CameraAddress, CameraCounts, CaptureTimeouts, DropPolicy};
use crate::daemon::backend::Backends;
use crate::daemon::camera_session::CameraSession;
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
use crate::recording::latency_stats::LatencyStats;
use crate::recording::session;
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

/// Commands that wait for the camera's thread.
const ASKS_MAX: usize = 16;
/// A session that could not begin is tried again after so long.
const RETRY: Duration = Duration::from_secs(30);
/// A look at a frame takes no longer than this, an accelerator that is opened again for it included.
const SILENCE: Duration = Duration::from_mins(4);

/// What the camera's thread is asked for.
pub(super) enum CameraRequest {
    /// Take signs.
    Record(PendingCommand, RecordRequest),
    /// Discard the last take.
    Undo(PendingCommand),
    /// Take no more.
    Cancel,
}

/// What the other threads know of the camera.
#[derive(Default)]
pub(super) struct CameraHandle {
    /// What waits for the camera's thread; `None` without one.
    asks: Mutex<Option<VecDeque<CameraRequest>>>,
    /// It filmed, and nothing more comes.
    is_over: AtomicBool,
    health: Mutex<Option<CameraHealth>>,
    /// What a mirror shall hold of the takes.
    files: Mutex<Option<Listing>>,
}

impl CameraHandle {
    /// Hands `ask` to the camera's thread; gives it back with the reason when there is none, or it has enough to do.
    pub(super) fn ask(&self, ask: CameraRequest) -> Result<(), (CameraRequest, &'static str)> {
        let mut asks = lock_ignoring_poison(&self.asks);
        let Some(asks) = &mut *asks else {
            let why = if self.is_over.load(Ordering::Acquire) {
                "the file that stood in for a camera is over; a restart films it again"
            } else {
                "no camera films here; see [camera] device in the config"
            };
            return Err((ask, why));
        };
        if matches!(ask, CameraRequest::Cancel) {
            // There is always room for it: it is the last word on all before it.
            asks.retain(|ask| !matches!(ask, CameraRequest::Cancel));
        } else if asks.len() >= ASKS_MAX {
            return Err((ask, "too many commands wait for the camera; try again"));
        }
        asks.push_back(ask);
        Ok(())
    }

    /// From here on the camera's thread takes what is asked for.
    fn open(&self) {
        *lock_ignoring_poison(&self.asks) = Some(VecDeque::new());
    }

    /// From here on nothing is taken; gives what waits.
    fn close(&self) -> VecDeque<CameraRequest> {
        self.is_over.store(true, Ordering::Release);
        *lock_ignoring_poison(&self.health) = None;
        lock_ignoring_poison(&self.asks).take().unwrap_or_default()
    }

    /// What waits, which waits no longer.
    fn drain(&self) -> VecDeque<CameraRequest> {
        lock_ignoring_poison(&self.asks)
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Whether there is a camera, though it may be away.
    pub(super) fn is_open(&self) -> bool {
        lock_ignoring_poison(&self.asks).is_some()
    }

    /// The oldest thing that was asked for.
    pub(super) fn asked(&self) -> Option<CameraRequest> {
        lock_ignoring_poison(&self.asks).as_mut()?.pop_front()
    }

    /// What a mirror shall hold of the takes; `None` while files are written.
    pub(super) fn files(&self) -> Option<Listing> {
        lock_ignoring_poison(&self.files).clone()
    }

    /// Keeps that; gives what was kept before.
    pub(super) fn set_files(&self, files: Option<Listing>) -> Option<Listing> {
        std::mem::replace(&mut *lock_ignoring_poison(&self.files), files)
    }

    /// Keeps how the camera is doing.
    pub(super) fn set_health(&self, health: CameraHealth) {
        *lock_ignoring_poison(&self.health) = Some(health);
    }

    /// How the camera is doing; `None` without one.
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
            let reason = Audience::Keys.story(&failure);
            self.outbox.fault("accelerator", reason, FATAL_ACTION);
        }
        self.shutdown.request_after(failure);
    }
}

/// Starts the thread, if there is a camera; it ends with the daemon.
pub(super) fn start(
    daemon: CameraContext,
    liveness: &Liveness,
) -> io::Result<Option<JoinHandle<()>>> {
    let Some((place, capture_settings)) = daemon.config.get().capture() else {
        return Ok(None);
    };
    daemon.camera.open();
    daemon.camera.set_health(CameraHealth::default());
    let stage = liveness.stage("the camera", SILENCE);
    let work = move || {
        let mut told: Option<String> = None;
        while !daemon.shutdown.is_requested() {
            let began = uptime();
            stage.busy(began);
            // A bug ends a session, not the daemon's ears.
            let session = AssertUnwindSafe(|| film(&daemon, &place, &capture_settings, &stage));
            let ended = catch_unwind(session).unwrap_or_else(|_| {
                let bug = anyhow!("the camera's thread has panicked; the log says where");
                Err(CliError::new(Exit::Bug, bug))
            });
            stage.idle();
            if uptime().saturating_sub(began) > RETRY {
                // It went well for a while: the same failure is news again.
                told = None;
            }
            let reason = match ended {
                // A file that stands in for a camera is over.
                Ok(()) => break,
                // The process ends while accelerators are measured.
                Err(failure) if failure.exit == Exit::Stopped => break,
                Err(failure) if failure.error.is::<SelectionError>() => {
                    daemon.fail(failure);
                    break;
                }
                Err(failure) => Audience::TakesKeys.story(&failure),
            };
            if told.as_ref() != Some(&reason) {
                let action = "the camera is tried again until it goes well; the job goes on";
                daemon.outbox.fault("camera", reason.clone(), action);
            }
            daemon
                .telemetry
                .camera(Some((JobPhase::Degraded, Some(reason.clone()))));
            told = Some(reason);
            refuse(&daemon, daemon.camera.drain());
            daemon.shutdown.wait(RETRY);
        }
        refuse(&daemon, daemon.camera.close());
        daemon.telemetry.camera(None);
    };
    Builder::new()
        .name("studio".to_owned())
        .spawn(work)
        .map(Some)
}

/// What nobody will carry out gets its last word.
fn refuse(daemon: &CameraContext, asks: VecDeque<CameraRequest>) {
    for ask in asks {
        if let CameraRequest::Record(task, _) | CameraRequest::Undo(task) = ask
            && !daemon.shutdown.is_requested()
        {
            daemon.outbox.reply(
                &task,
                Err("the camera cannot be used; see state".to_owned()),
                &[],
            );
        }
    }
}

/// One session, from the models to the end of the daemon.
fn film(
    daemon: &CameraContext,
    place: &CameraAddress,
    capture_settings: &CaptureSettings,
    stage: &Stage,
) -> Result<(), CliError> {
    let config = daemon.config.get();
    // Measuring has limits of its own.
    stage.idle();
    let mut has_measured = false;
    let tell = &mut |name: &str| {
        has_measured = true;
        let reason = format!("measuring whether {name} could run the models");
        daemon
            .telemetry
            .camera(Some((JobPhase::Scanning, Some(reason))));
    };
    let backend = daemon
        .backends
        .open(tell, &|| daemon.shutdown.is_requested())?;
    stage.busy(uptime());
    if has_measured {
        daemon.telemetry.camera(None);
    }
    daemon.backends.report(&backend.choice());
    let graphs = backend.loaded_models()?;
    let renewed = || daemon.backends.replacement();
    let mut eye = FallbackDetector::new(&backend, &graphs, capture_settings.detector, &renewed)?;
    let settings = capture_settings.settings(&backend);
    let common = TakeOptions::of(capture_settings, -1, "train");
    let (mut store, _) = TakeStore::open(&config.takes_path(), settings.clone(), common)?;
    store.publish_to(daemon.ledger.clone());
    daemon.outbox.notify();
    let origin = TakeProvenance {
        settings: &settings,
        backend: &backend,
        device: place,
        started: &now_utc(),
    };
    let mut set = CameraSession::new(daemon, stage, store, &origin);
    let mut recorder = SignRecorder::new(
        capture_settings.sign_config(),
        RecordingPlan::new(config.camera.keep_unlabelled),
    );
    let filmed = shoot(place, capture_settings, &mut eye, &mut recorder, &mut set);
    let closed = set.finish(&mut recorder, filmed.is_ok());
    if let (Err(_), Err(error)) = (&filmed, &closed) {
        tracing::error!(
            error = error.display_chain(),
            "the last takes were not written"
        );
    }
    let (counts, stats) = filmed?;
    closed?;
    tracing::info!(
        frames = counts.frames,
        dropped = counts.dropped,
        looked_at = stats.seen,
        "the camera is off"
    );
    Ok(())
}

fn shoot(
    place: &CameraAddress,
    capture_settings: &CaptureSettings,
    eye: &mut FallbackDetector<'_>,
    recorder: &mut SignRecorder,
    set: &mut CameraSession<'_>,
) -> Result<(CameraCounts, LatencyStats), CliError> {
    let camera = Camera::start(
        place.opener(capture_settings.want),
        DropPolicy::DropOldest,
        CaptureTimeouts::default(),
    )?;
    session::run(&camera, eye, recorder, set)
}
