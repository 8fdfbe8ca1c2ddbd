//! `handloom run`: the daemon. [`run`] builds its components and starts its threads, in the order of the list there.
//!
//! | component | owns |
//! |---|---|
//! | [`shutdown`] | the flag that ends every thread, and the failure that raised it |
//! | [`options`] | the settings as the options of the modules below |
//! | [`live_config`], [`reload`] | the config in force, and its replacement on SIGHUP |
//! | [`telemetry_publisher`], [`telemetry_state`] | what `state` and `progress` publish |
//! | [`outbox_writer`], [`deferred_writes`] | faults and replies on their way into the ledger's outbox |
//! | [`job_gate`] | how many workers may work, and why not more |
//! | [`job_queue`] | what the supervisor does next |
//! | [`backend`] | the inference backend that job and camera share |
//! | [`worker_monitor`], [`snapshot`] | heartbeats of the workers, frames for `snapshot` |
//! | [`health`] | the content of `health` |
//!
//! | thread | does |
//! |---|---|
//! | main | [`supervisor`] runs the job; [`job_observer`] passes on what happens, [`job_failure`] explains what fails |
//! | control | [`control`]: MQTT and telemetry; [`command_handler`] receives commands |
//! | resources | [`resource_monitor`]: sensors, disks and limits |
//! | mirror | [`mirror_task`]: copies sealed files |
//! | camera | [`camera_task`], [`camera_session`]: captures and records takes |
//! | signals, watchdog | stop, reload, heartbeat |

mod backend;
mod camera_session;
mod camera_task;
mod command_handler;
mod control;
mod deferred_writes;
mod health;
mod job_failure;
mod job_gate;
mod job_observer;
mod job_queue;
mod live_config;
mod mirror_task;
mod options;
mod outbox_writer;
mod reload;
mod resource_monitor;
mod shutdown;
mod snapshot;
mod supervisor;
mod telemetry_publisher;
mod telemetry_state;
mod worker_monitor;

use super::job;
use crate::config::{self, Config, LoadedConfig, Sources};
use crate::daemon::backend::{Backends, has_dataset};
use crate::daemon::camera_task::{CameraContext, CameraHandle};
use crate::daemon::command_handler::CommandHandler;
use crate::daemon::control::{ControlInputs, ControlThread};
use crate::daemon::health::HealthSources;
use crate::daemon::job_gate::JobGate;
use crate::daemon::job_queue::JobQueue;
use crate::daemon::live_config::LiveConfig;
use crate::daemon::mirror_task::{MirrorHandle, MirrorTask};
use crate::daemon::outbox_writer::{LedgerOutbox, OutboxWriter};
use crate::daemon::reload::ConfigReloader;
use crate::daemon::resource_monitor::{ResourceMonitor, ResourceStatus};
use crate::daemon::shutdown::Shutdown;
use crate::daemon::snapshot::SnapshotPublisher;
use crate::daemon::supervisor::{FirstRun, Supervisor};
use crate::daemon::telemetry_publisher::TelemetryPublisher;
use crate::daemon::worker_monitor::WorkerMonitor;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::job::worker_pool::WorkerControl;
use crate::logging;
use crate::storage::SharedLedger;
use crate::storage::ledger::{CANCELLED, OutboxLimits, PAUSED};
use crate::storage::lock::FolderLock;
use crate::storage::output_dir::{self, OpenMode};
use crate::storage::{Ledger, StoreError};
use crate::system::clock::uptime;
use crate::system::{Liveness, Signal, Signals, Watchdog, notify};
use anyhow::anyhow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often a full disk is checked for room.
const ROOM_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the end of a thread is checked for.
const JOIN_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long the end waits for the camera's last takes.
const CAMERA_END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a start waits for room on the disk: less than systemd allows it.
const START_ROOM_TIMEOUT: Duration = Duration::from_secs(45);
/// A worker may be busy for this much longer than its decoder.
const WORKER_STALL_MARGIN: Duration = Duration::from_mins(2);
/// A recorded clip may wait for this much longer for the clips before it.
const RECORDING_STALL_MARGIN: Duration = Duration::from_mins(10);

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Where the config comes from.
    pub sources: Sources,
    /// What to do with results in the output directory.
    pub mode: OpenMode,
    /// Whether to process the clips again that failed before.
    pub retry_failed: bool,
    /// Whether to end when the job is done.
    pub once: bool,
    /// After which time to end; `None`: on a signal.
    pub time_limit: Option<Duration>,
}

/// Runs the daemon until a signal, until the time limit, or with `once` until the job is done.
///
/// # Errors
/// With the exit code and the message for the user.
#[expect(
    clippy::too_many_lines,
    reason = "a list: components, threads, the job, the end"
)]
pub fn run(options: RunOptions) -> Result<Exit, CliError> {
    let LoadedConfig {
        config, warnings, ..
    } = config::load(&options.sources)?;
    logging::set_level(&config.log.level);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let opened = open_output(&config.output.path, options.mode);
    let (lock, mut ledger) = opened.map_err(|error| Audience::Keys.with_hint(error.into()))?;
    ledger.set_outbox_limits(outbox_limits(&config));
    let (is_paused, is_cancelled) = (
        ledger.metadata(PAUSED)?.is_some(),
        ledger.metadata(CANCELLED)?.is_some(),
    );
    let workers_max = config.workers();
    let threads = workers_max.max(job::cores());
    let worker_limit = config.video_options().timeout + WORKER_STALL_MARGIN;
    let broker = config.broker();

    let liveness = Liveness::new();
    let config = LiveConfig::new(config);
    let ledger = SharedLedger::new(ledger);
    let control = Arc::new(WorkerControl::new(0));
    let shutdown = Shutdown::new(Arc::clone(&control));
    let (telemetry, receivers) = TelemetryPublisher::new();
    let telemetry = Arc::new(telemetry);
    let outbox = Arc::new(OutboxWriter::new(ledger.clone(), Arc::clone(&telemetry)));
    let gate = Arc::new(JobGate::new(
        Arc::clone(&control),
        Arc::clone(&telemetry),
        liveness.stage(
            "the recording of clips",
            worker_limit + RECORDING_STALL_MARGIN,
        ),
        workers_max,
        is_paused,
    ));
    let queue = Arc::new(JobQueue::new(
        Arc::clone(&control),
        shutdown.clone(),
        is_cancelled,
    ));
    let monitor = Arc::new(WorkerMonitor::new(&liveness, threads, worker_limit));
    let backends = Arc::new(Backends::new(
        config.clone(),
        threads,
        Arc::clone(&gate),
        Arc::clone(&outbox),
        Arc::clone(&telemetry),
        shutdown.clone(),
    ));
    let resources = Arc::new(ResourceStatus::default());
    let mirror = Arc::new(MirrorHandle::new());
    let camera = Arc::new(CameraHandle::default());
    outbox.refuse_interrupted()?;

    let control_thread = ControlThread::start(
        ControlInputs {
            broker,
            receivers,
            telemetry: Arc::clone(&telemetry),
            outbox: LedgerOutbox(ledger.clone()),
            commands: CommandHandler {
                config: config.clone(),
                ledger: ledger.clone(),
                outbox: Arc::clone(&outbox),
                gate: Arc::clone(&gate),
                queue: Arc::clone(&queue),
                camera: Arc::clone(&camera),
                snapshots: SnapshotPublisher {
                    config: config.clone(),
                    monitor: Arc::clone(&monitor),
                    telemetry: Arc::clone(&telemetry),
                    outbox: Arc::clone(&outbox),
                },
            },
            health: HealthSources {
                config: config.clone(),
                ledger: ledger.clone(),
                control: Arc::clone(&control),
                monitor: Arc::clone(&monitor),
                resources: Arc::clone(&resources),
                mirror: Arc::clone(&mirror),
                camera: Arc::clone(&camera),
                telemetry: Arc::clone(&telemetry),
            },
        },
        &liveness,
    )
    .map_err(cannot_start("the control thread"))?;
    let resource_thread = ResourceMonitor {
        status: Arc::clone(&resources),
        config: config.clone(),
        threads,
        gate: Arc::clone(&gate),
        outbox: Arc::clone(&outbox),
        shutdown: shutdown.clone(),
    }
    .start(&liveness)
    .map_err(cannot_start("the resource monitor"))?;
    let mirror_thread = MirrorTask {
        handle: Arc::clone(&mirror),
        config: config.clone(),
        ledger: ledger.clone(),
        camera: Arc::clone(&camera),
        outbox: Arc::clone(&outbox),
        shutdown: shutdown.clone(),
    }
    .start()
    .map_err(cannot_start("the mirror"))?;
    let camera_thread = camera_task::start(
        CameraContext {
            config: config.clone(),
            ledger: ledger.clone(),
            backends: Arc::clone(&backends),
            monitor: Arc::clone(&monitor),
            camera: Arc::clone(&camera),
            mirror: Arc::clone(&mirror),
            resources: Arc::clone(&resources),
            telemetry: Arc::clone(&telemetry),
            outbox: Arc::clone(&outbox),
            shutdown: shutdown.clone(),
        },
        &liveness,
    )
    .map_err(cannot_start("the camera's thread"))?;
    let reloader = ConfigReloader {
        sources: options.sources,
        config: config.clone(),
        threads,
        gate: Arc::clone(&gate),
        outbox: Arc::clone(&outbox),
        broker: control_thread.broker_settings(),
    };
    let signals = listen_to_signals(shutdown.clone(), reloader)?;
    let watchdog = start_watchdog(liveness).map_err(cannot_start("the watchdog"))?;
    let limit_thread = options
        .time_limit
        .map(|limit| start_time_limit(limit, shutdown.clone()))
        .transpose()
        .map_err(cannot_start("the run time limit"))?;
    notify::ready();
    tracing::info!(device = %config.get().device.id, "ready");

    let has_job = has_dataset(&config.get());
    let supervisor = Supervisor {
        config,
        ledger,
        threads,
        control,
        gate,
        queue,
        backends,
        monitor,
        camera,
        mirror,
        resources,
        telemetry: Arc::clone(&telemetry),
        outbox: Arc::clone(&outbox),
        shutdown: shutdown.clone(),
    };
    let ended = if has_job {
        let first_run = FirstRun {
            mode: options.mode,
            retry_failed: options.retry_failed,
        };
        supervisor.supervise(first_run, options.once)
    } else {
        Ok(supervisor.stand_by())
    };
    let ended = shutdown.take_error().map_or(ended, Err);
    let ended = ended.map_err(|failure| Audience::Keys.with_hint(failure));

    shutdown.request();
    // What the camera writes at the end is published as well; if it hangs, the rest is.
    let camera_thread = join_within(CAMERA_END_TIMEOUT, camera_thread);
    control_thread.end(&outbox, ended.as_ref().err());
    join(camera_thread);
    join([resource_thread, mirror_thread]);
    join(limit_thread);
    notify::status(&match &ended {
        Ok(Exit::Done) => format!("ended; {}", telemetry.summary()),
        Ok(_) => format!("stopped with work left; {}", telemetry.summary()),
        Err(failure) => format!("ended: {}", failure.display_chain()),
    });
    drop((watchdog, signals, lock));
    ended
}

fn cannot_start(what: &'static str) -> impl FnOnce(io::Error) -> CliError {
    move |error| CliError::new(Exit::InOut, anyhow!("cannot start {what}: {error}"))
}

/// Opens the output directory, and waits while there is no room for its ledger. After [`START_ROOM_TIMEOUT`] the process
/// ends: systemd starts it again, and would give up a start that takes longer.
fn open_output(out: &Path, mode: OpenMode) -> Result<(FolderLock, Ledger), StoreError> {
    let since = Instant::now();
    let mut is_reported = false;
    loop {
        match output_dir::open(out, mode) {
            Err(error) if error.is_full() && since.elapsed() < START_ROOM_TIMEOUT => {
                if !is_reported {
                    tracing::warn!(%error, "no room to begin; waiting for it");
                    notify::status("no room on the disk to begin; waiting for it");
                    is_reported = true;
                }
                thread::sleep(ROOM_POLL_INTERVAL);
            }
            opened => return opened,
        }
    }
}

fn listen_to_signals(shutdown: Shutdown, reloader: ConfigReloader) -> Result<Signals, CliError> {
    let on_signal = move |signal| match signal {
        Signal::Stop => shutdown.request(),
        Signal::StopNow => std::process::exit(Exit::Stopped as i32),
        Signal::Reload => reloader.reload(),
    };
    Signals::listen(on_signal).map_err(cannot_start("the signal thread"))
}

/// Pings systemd while no stage is stuck; `None` when systemd does not watch.
fn start_watchdog(liveness: Liveness) -> io::Result<Option<Watchdog>> {
    let Some(interval) = notify::watchdog_interval() else {
        return Ok(None);
    };
    let healthy = move || match liveness.stuck(uptime()) {
        Some((stage, since)) => Err(format!(
            "{stage} has made no progress for {} s",
            uptime().saturating_sub(since).as_secs()
        )),
        None => Ok(()),
    };
    Watchdog::start(interval, healthy, notify::ping).map(Some)
}

/// Ends the process in good order after `limit`, unless it ends before.
fn start_time_limit(limit: Duration, shutdown: Shutdown) -> io::Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name("time limit".to_owned());
    thread.spawn(move || {
        if !shutdown.wait(limit) {
            tracing::info!(?limit, "run time limit reached, stopping");
            shutdown.request();
        }
    })
}

/// Waits for the end of `threads`.
fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the daemon has panicked");
        }
    }
}

/// Waits for the end of `thread` for at most `limit`; returns the thread when it still runs.
fn join_within(limit: Duration, thread: Option<JoinHandle<()>>) -> Option<JoinHandle<()>> {
    let since = Instant::now();
    while thread.as_ref().is_some_and(|t| !t.is_finished()) {
        if since.elapsed() >= limit {
            tracing::warn!(?limit, "the camera's thread does not end in time");
            return thread;
        }
        thread::sleep(JOIN_POLL_INTERVAL);
    }
    join(thread);
    None
}

/// How many messages the outbox may hold; none without a broker.
fn outbox_limits(config: &Config) -> Option<OutboxLimits> {
    config.mqtt.url.as_ref().map(|_| OutboxLimits {
        messages: usize::try_from(config.mqtt.outbox_max_messages).unwrap_or(usize::MAX),
        age_s: config.mqtt.outbox_max_age_h.saturating_mul(3600),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn what_hangs_is_not_waited_for_and_given_back() {
        let (end, ended) = sync_channel::<()>(0);
        let thread = thread::spawn(move || assert!(ended.recv().is_err()));
        let left = join_within(Duration::from_millis(50), Some(thread));
        assert!(left.is_some());
        drop(end);
        assert!(join_within(Duration::from_mins(1), left).is_none());
        assert!(join_within(Duration::ZERO, None).is_none());
    }
}
