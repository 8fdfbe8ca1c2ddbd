//! The daemon's camera: a thread that films, keeps the takes that were asked for, and tells how it stands. The job
//! goes on beside it; a camera that is away holds up nothing.

use super::outbox_limits;
use crate::camera::{Camera, CameraAddress, CameraCounts, CaptureTimeouts, DropPolicy};
use crate::daemon::camera_session::CameraSession;
use crate::daemon::state::{Daemon, PendingCommand, held};
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::Unavailable;
use crate::messages::payloads::{CameraHealth, JobPhase};
use crate::recording::fallback_detector::FallbackDetector;
use crate::recording::latency_stats::LatencyStats;
use crate::recording::session;
use crate::recording::take_store::{TakeOptions, TakeStore};
use crate::recording::{CaptureSettings, TakeProvenance};
use crate::sequence::recording_plan::{RecordRequest, RecordingPlan};
use crate::sequence::sign_recorder::SignRecorder;
use crate::storage::mirror::Listing;
use crate::system::Stage;
use crate::system::clock::{now_utc, uptime};
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
        let mut asks = held(&self.asks);
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
        *held(&self.asks) = Some(VecDeque::new());
    }

    /// From here on nothing is taken; gives what waits.
    fn close(&self) -> VecDeque<CameraRequest> {
        self.is_over.store(true, Ordering::Release);
        *held(&self.health) = None;
        held(&self.asks).take().unwrap_or_default()
    }

    /// What waits, which waits no longer.
    fn drain(&self) -> VecDeque<CameraRequest> {
        held(&self.asks)
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Whether there is a camera, though it may be away.
    pub(super) fn is_open(&self) -> bool {
        held(&self.asks).is_some()
    }

    /// The oldest thing that was asked for.
    pub(super) fn asked(&self) -> Option<CameraRequest> {
        held(&self.asks).as_mut()?.pop_front()
    }

    /// What a mirror shall hold of the takes; `None` while files are written.
    pub(super) fn files(&self) -> Option<Listing> {
        held(&self.files).clone()
    }

    /// Keeps that; gives what was kept before.
    pub(super) fn set_files(&self, files: Option<Listing>) -> Option<Listing> {
        std::mem::replace(&mut *held(&self.files), files)
    }

    /// Keeps how the camera is doing.
    pub(super) fn set_health(&self, health: CameraHealth) {
        *held(&self.health) = Some(health);
    }

    /// How the camera is doing; `None` without one.
    pub(super) fn health(&self) -> Option<CameraHealth> {
        held(&self.health).clone()
    }
}

/// Starts the thread, if there is a camera; it ends with the daemon.
pub(super) fn start(daemon: &Arc<Daemon>) -> io::Result<Option<JoinHandle<()>>> {
    let Some((place, capture_settings)) = daemon.config().capture() else {
        return Ok(None);
    };
    daemon.camera.open();
    daemon.camera.set_health(CameraHealth::default());
    let daemon = Arc::clone(daemon);
    let stage = daemon.liveness.stage("the camera", SILENCE);
    let work = move || {
        let mut told: Option<String> = None;
        while !daemon.is_stopping() {
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
                Err(failure) if failure.error.is::<Unavailable>() => {
                    daemon.fail(failure);
                    break;
                }
                Err(failure) => Audience::TakesKeys.story(&failure),
            };
            if told.as_ref() != Some(&reason) {
                let action = "the camera is tried again until it goes well; the job goes on";
                daemon.fault("camera", reason.clone(), action);
            }
            daemon
                .telemetry
                .camera(Some((JobPhase::Degraded, Some(reason.clone()))));
            told = Some(reason);
            refuse(&daemon, daemon.camera.drain());
            daemon.wait(RETRY, |tasks| tasks.is_stopping);
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
fn refuse(daemon: &Daemon, asks: VecDeque<CameraRequest>) {
    for ask in asks {
        if let CameraRequest::Record(task, _) | CameraRequest::Undo(task) = ask
            && !daemon.is_stopping()
        {
            daemon.answer(
                &task,
                Err("the camera cannot be used; see state".to_owned()),
                &[],
            );
        }
    }
}

/// One session, from the models to the end of the daemon.
fn film(
    daemon: &Daemon,
    place: &CameraAddress,
    capture_settings: &CaptureSettings,
    stage: &Stage,
) -> Result<(), CliError> {
    let config = daemon.config();
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
    let backend = daemon.backend(tell, &|| daemon.is_stopping())?;
    stage.busy(uptime());
    if has_measured {
        daemon.telemetry.camera(None);
    }
    daemon.accelerator(&backend.choice());
    let graphs = backend.graphs()?;
    let renewed = || daemon.pool.renewed();
    let mut eye = FallbackDetector::new(&backend, &graphs, capture_settings.detector, &renewed)?;
    let settings = capture_settings.settings(&backend);
    let common = TakeOptions::of(capture_settings, -1, "train");
    let (mut store, _) = TakeStore::open(&config.takes_path(), settings.clone(), common)?;
    store.set_outbox_limits(outbox_limits(&config));
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
