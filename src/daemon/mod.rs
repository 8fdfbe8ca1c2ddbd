//! `handloom run`: the daemon. [`run`] opens the output, makes the [`Daemon`] and starts its threads.
//!
//! [`Daemon`] holds what the threads share; the modules add its methods:
//!
//! | part | owns |
//! |---|---|
//! | [`shutdown`] | the flag that ends every thread, and the failure that raised it |
//! | [`options`] | the settings as the options of the modules below |
//! | [`shard`] | the folder of the shard that the job makes |
//! | [`reload`] | the replacement of the config on SIGHUP |
//! | [`telemetry`] | what `state` and `progress` publish |
//! | [`outbox_writer`] | faults and replies on their way into the ledger's outbox |
//! | [`job_gate`] | how many workers may work, and why not more |
//! | [`job_queue`] | what the supervisor does next |
//! | [`backend`] | the inference backend that job and camera share |
//! | [`worker_monitor`] | heartbeats of the workers, frames for `snapshot` |
//!
//! | thread | does |
//! |---|---|
//! | main | [`supervisor`] runs the job; [`job_observer`] reports its events, [`job_failure`] explains its failures |
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
mod job_failure;
mod job_gate;
mod job_observer;
mod job_queue;
mod mirror_task;
mod options;
mod outbox_writer;
mod reload;
mod resource_monitor;
mod shard;
mod shutdown;
mod supervisor;
mod telemetry;
mod worker_monitor;

use crate::config::{self, Config, LoadedConfig, Sources};
use crate::daemon::camera_task::CameraHandle;
use crate::daemon::job_gate::JobGate;
use crate::daemon::job_queue::JobQueue;
use crate::daemon::mirror_task::MirrorHandle;
use crate::daemon::outbox_writer::OutboxWriter;
use crate::daemon::resource_monitor::ResourceStatus;
use crate::daemon::shutdown::Shutdown;
use crate::daemon::telemetry::TelemetryPublisher;
use crate::daemon::worker_monitor::WorkerMonitor;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::inference::BackendCache;
use crate::job;
use crate::job::worker_pool::WorkerControl;
use crate::logging;
use crate::mqtt::{Counters, PublisherInputs, Settings};
use crate::storage::attempt::Attempt;
use crate::storage::ledger::{CANCELLED, OutboxLimits, PAUSED};
use crate::storage::lock::FolderLock;
use crate::storage::output_dir::{self, OpenMode};
use crate::storage::{Ledger, SharedLedger, StoreError};
use crate::system::clock::uptime;
use crate::system::{Liveness, Signal, Signals, Watchdog, lock_ignoring_poison, notify};
use anyhow::anyhow;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a full disk is checked for room.
const ROOM_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often a thread that is to end is polled.
const JOIN_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long the shutdown waits for the camera's last takes.
const CAMERA_END_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a start waits for room on the disk: less than systemd allows it.
const START_ROOM_TIMEOUT: Duration = Duration::from_secs(45);
/// A worker may be busy for this much longer than its decoder, which reads a clip three times at most.
const WORKER_STALL_MARGIN: Duration = Duration::from_mins(2);
/// A recorded clip may wait for this much longer for the clips before it.
const RECORDING_STALL_MARGIN: Duration = Duration::from_mins(10);

/// The options of the command line.
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
    /// Time after which to end; `None` runs until a signal.
    pub time_limit: Option<Duration>,
}

/// What the threads of the daemon share.
struct Daemon {
    /// The config in force; a reload replaces it.
    config: Mutex<Arc<Config>>,
    /// The broker's settings, which a reload changes; `None` without a broker.
    broker: Option<watch::Sender<Settings>>,
    ledger: SharedLedger,
    /// Worker threads that the job has at most.
    threads: usize,
    control: Arc<WorkerControl>,
    counters: Arc<Counters>,
    telemetry: Arc<TelemetryPublisher>,
    outbox: OutboxWriter,
    gate: JobGate,
    queue: JobQueue,
    backends: BackendCache,
    /// Whether the job will replace the results in the ledger.
    starts_over: AtomicBool,
    /// The attempt at the shard of the job, until that is whole.
    attempt: Mutex<Option<Attempt>>,
    monitor: WorkerMonitor,
    resources: Mutex<ResourceStatus>,
    mirror: MirrorHandle,
    camera: CameraHandle,
    shutdown: Shutdown,
    /// Ends the control thread, which is the last one because it publishes the final messages of the others.
    control_stop: watch::Sender<bool>,
}

impl Daemon {
    /// Makes the daemon, and the inputs of its connection to the broker.
    fn new(
        config: Config,
        mut ledger: Ledger,
        attempt: Option<Attempt>,
        liveness: &Liveness,
    ) -> Result<(Arc<Self>, PublisherInputs), StoreError> {
        ledger.set_outbox_limits(outbox_limits(&config));
        let is_paused = ledger.metadata(PAUSED)?.is_some();
        let is_cancelled = ledger.metadata(CANCELLED)?.is_some();
        let workers_max = config.workers();
        let threads = workers_max.max(job::cores());
        // Each pass over a clip may begin again twice before its first frame is processed.
        let passes = if config.sequence_spec().needs_times() {
            2
        } else {
            1
        };
        let worker_limit = config.video_options().timeout * 3 * passes + WORKER_STALL_MARGIN;
        let recording_limit = worker_limit + RECORDING_STALL_MARGIN;
        let recording = liveness.stage("the recording of clips", recording_limit);
        let ledger = SharedLedger::new(ledger);
        let control = Arc::new(WorkerControl::new(0));
        let counters = Arc::new(Counters::default());
        let (telemetry, inputs) = TelemetryPublisher::new(Arc::clone(&counters));
        let gate = JobGate::new(
            Arc::clone(&control),
            Arc::clone(&telemetry),
            recording,
            workers_max,
            is_paused,
        );
        let daemon = Self {
            broker: config.broker().map(watch::Sender::new),
            config: Mutex::new(Arc::new(config)),
            threads,
            counters,
            outbox: OutboxWriter::new(ledger.clone(), Arc::clone(&telemetry)),
            gate,
            queue: JobQueue::new(Arc::clone(&control), is_cancelled),
            backends: BackendCache::default(),
            starts_over: AtomicBool::new(false),
            attempt: Mutex::new(attempt),
            monitor: WorkerMonitor::new(liveness, threads, worker_limit),
            resources: Mutex::default(),
            mirror: MirrorHandle::new(),
            camera: CameraHandle::default(),
            shutdown: Shutdown::new(Arc::clone(&control)),
            control_stop: watch::Sender::new(false),
            ledger,
            control,
            telemetry,
        };
        Ok((Arc::new(daemon), inputs))
    }

    /// The config in force.
    fn config(&self) -> Arc<Config> {
        Arc::clone(&lock_ignoring_poison(&self.config))
    }
}

/// Runs the daemon until a signal, until the time limit, or with `once` until the job is done.
///
/// # Errors
/// Returns the exit code and the message for the user.
pub fn run(options: &RunOptions) -> Result<Exit, CliError> {
    let LoadedConfig {
        mut config,
        warnings,
        ..
    } = config::load(&options.sources)?;
    logging::set_level(&config.log.level);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let detected = config
        .resolve_shard()
        .map_err(|error| Audience::Keys.with_hint(error))?;
    if let Some(detected) = detected {
        tracing::info!("shard {detected}");
    }
    let attempt =
        shard::open(&mut config, options.mode).map_err(|error| Audience::Keys.with_hint(error))?;
    let opened = open_output(&config.output.path, options.mode, attempt.is_some());
    let (lock, ledger) = opened.map_err(|error| Audience::Keys.with_hint(error.into()))?;
    let liveness = Liveness::default();
    let (daemon, inputs) = Daemon::new(config, ledger, attempt, &liveness)?;
    let starts_over = options.mode == OpenMode::Fresh;
    daemon.starts_over.store(starts_over, Ordering::Relaxed);
    daemon.outbox.refuse_interrupted()?;

    let control_thread = control::start(&daemon, inputs, &liveness)?;
    let resource_thread = resource_monitor::start(&daemon, &liveness)?;
    let mirror_thread = mirror_task::start(&daemon)?;
    let camera_thread = camera_task::start(&daemon, &liveness)?;
    let signals =
        listen_to_signals(&daemon, options.sources.clone()).map_err(cannot_start("signals"))?;
    let watchdog = start_watchdog(liveness).map_err(cannot_start("watchdog"))?;
    let limit_thread = options
        .time_limit
        .map(|limit| start_time_limit(limit, &daemon))
        .transpose()?;
    notify::ready();
    tracing::info!(device = %daemon.config().device.id, "ready");

    let ended = if daemon.config().has_dataset() {
        daemon.supervise(options)
    } else {
        Ok(daemon.stand_by())
    };
    let ended = daemon.shutdown.take_error().map_or(ended, Err);
    let ended = ended.map_err(|failure| Audience::Keys.with_hint(failure));

    daemon.shutdown.request();
    // The camera's last takes are published as well, unless its thread hangs.
    let camera_thread = join_within(CAMERA_END_TIMEOUT, camera_thread);
    daemon.end_control(ended.as_ref().err());
    join([control_thread]);
    join(camera_thread);
    join([resource_thread, mirror_thread]);
    join(limit_thread);
    let summary = daemon.telemetry.summary();
    notify::status(&match &ended {
        Ok(Exit::Done) => format!("ended; {summary}"),
        Ok(_) => format!("stopped with work left; {summary}"),
        Err(failure) => format!("ended: {}", failure.display_chain()),
    });
    daemon.release_shard();
    drop((watchdog, signals, lock));
    ended
}

/// Starts a thread of the daemon.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, CliError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(cannot_start(name))
}

fn cannot_start(thread: &str) -> impl FnOnce(io::Error) -> CliError {
    move |error| {
        CliError::new(
            Exit::InOut,
            anyhow!("cannot start the thread {thread}: {error}"),
        )
    }
}

/// Opens the output directory, and waits while there is no room for its ledger. After [`START_ROOM_TIMEOUT`] the process
/// ends: systemd starts it again, and would give up a start that takes longer.
fn open_output(
    out: &Path,
    mode: OpenMode,
    is_attempt: bool,
) -> Result<(Option<FolderLock>, Ledger), StoreError> {
    let since = Instant::now();
    let mut is_reported = false;
    loop {
        match output_dir::open_any(out, mode, is_attempt) {
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

fn listen_to_signals(daemon: &Arc<Daemon>, sources: Sources) -> io::Result<Signals> {
    let daemon = Arc::clone(daemon);
    Signals::listen(move |signal| match signal {
        Signal::Stop => daemon.shutdown.request(),
        Signal::StopNow => std::process::exit(Exit::Stopped as i32),
        Signal::Reload => daemon.reload(&sources),
    })
}

/// Starts the thread that pings systemd while no stage is stuck; `None` when systemd does not watch this process.
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

/// Starts a thread that shuts the process down after `limit`.
fn start_time_limit(limit: Duration, daemon: &Arc<Daemon>) -> Result<JoinHandle<()>, CliError> {
    let daemon = Arc::clone(daemon);
    spawn("time limit", move || {
        if !daemon.shutdown.wait(limit) {
            tracing::info!(?limit, "run time limit reached, stopping");
            daemon.shutdown.request();
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
