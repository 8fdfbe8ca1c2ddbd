//! The control thread: a small tokio runtime for the MQTT connection and the ticks of telemetry. It neither decodes
//! nor infers, and makes no call that may block.

use crate::daemon::{Daemon, cannot_start, spawn};
use crate::error::CliError;
use crate::messages::payloads::{Health, JobPhase};
use crate::messages::topics;
use crate::mqtt::{self, PublisherInputs, QoS};
use crate::storage::StoreError;
use crate::system::clock::uptime;
use crate::system::{Liveness, Stage, notify};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Shortest time between two `progress` messages.
pub(super) const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Number of ticks between two `health` messages.
const HEALTH_TICKS: u64 = 10;
/// Number of ticks between two updates of the line that `systemctl status` shows.
const STATUS_TICKS: u64 = 5;
/// Longest time without a tick before the watchdog counts the thread as stuck.
const STALL_LIMIT: Duration = Duration::from_mins(1);

/// Starts the thread. The connection, if the config names a broker, publishes `inputs`.
pub(super) fn start(
    daemon: &Arc<Daemon>,
    inputs: PublisherInputs,
    liveness: &Liveness,
) -> Result<thread::JoinHandle<()>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot_start("control"))?;
    let stage = liveness.stage("the control thread", STALL_LIMIT);
    let daemon = Arc::clone(daemon);
    spawn("control", move || {
        let stop = daemon.control_stop.subscribe();
        let ticks = run_ticks(&daemon, &stage, stop.clone());
        let connection = async {
            if let Some(settings) = &daemon.broker {
                let settings = settings.subscribe();
                let inbox = Arc::new(Arc::clone(&daemon));
                let counters = Arc::clone(&daemon.counters);
                mqtt::run(settings, inputs, daemon.clone(), inbox, counters, stop).await;
            }
        };
        runtime.block_on(async { tokio::join!(connection, ticks) });
    })
}

/// Publishes what has changed, every second.
async fn run_ticks(daemon: &Arc<Daemon>, stage: &Stage, mut stop: watch::Receiver<bool>) {
    let mut clock = interval(PROGRESS_INTERVAL);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut n, mut frames, mut since) = (0_u64, daemon.monitor.frames(), Instant::now());
    let mut sampling: Option<JoinHandle<()>> = None;
    loop {
        select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = daemon.telemetry.changed.notified() => {
                daemon.telemetry.publish_state();
                continue;
            }
            _ = clock.tick() => {}
        }
        stage.busy(uptime());
        daemon.telemetry.publish();
        if n.is_multiple_of(STATUS_TICKS) {
            notify::status(&daemon.telemetry.summary());
        }
        if n.is_multiple_of(HEALTH_TICKS) && daemon.broker.is_some() {
            let (now, processed) = (Instant::now(), daemon.monitor.frames());
            let rate = frames_per_s(processed - frames, now - since);
            (frames, since) = (processed, now);
            // Reading the ledger may block on the disk: at most one sample is under way, and the ticks continue.
            if sampling.as_ref().is_none_or(JoinHandle::is_finished) {
                let daemon = Arc::clone(daemon);
                sampling = Some(spawn_blocking(move || {
                    let message = daemon
                        .telemetry
                        .message(topics::HEALTH, &daemon.health(rate));

                    daemon
                        .telemetry
                        .send(topics::HEALTH, message, QoS::AtMostOnce);
                }));
            }
        }
        n += 1;
    }
}

impl Daemon {
    /// Publishes the final state, writes the waiting messages to the outbox, and ends the control thread.
    pub(super) fn end_control(&self, failure: Option<&CliError>) {
        let (phase, reason) = match failure {
            Some(failure) => (JobPhase::Error, failure.display_chain()),
            None => (JobPhase::Idle, "stopped".to_owned()),
        };
        self.telemetry.phase(phase, Some(reason));
        self.telemetry.publish();
        self.outbox.flush();
        self.control_stop.send_replace(true);
    }

    /// The content of `health`. Waits for the ledger, so it may block.
    fn health(&self, frames_per_s: f64) -> Health {
        let status = self.resources();
        let (sensors, disk_free_mib) = (status.sensors, status.disk_free_mib);
        drop(status);
        let ledger = self.ledger.lock();
        let count = |n: Result<u64, StoreError>| n.unwrap_or_default();
        let has_mirror = self.config().output.mirror.is_some();
        Health {
            uptime_s: uptime().as_secs(),
            sensors,
            disk_free_mib,
            workers: self.control.workers(),
            frames_per_s,
            queue: self.control.waiting(),
            outbox: count(ledger.pending_message_count()),
            outbox_dropped: count(ledger.dropped_count()),
            telemetry_dropped: self.counters.dropped.load(Ordering::Relaxed),
            set_aside: self.counters.set_aside.load(Ordering::Relaxed),
            connects: self.counters.connects.load(Ordering::Relaxed),
            mirror_waiting: self.mirror.waiting().filter(|_| has_mirror),
            camera: self.camera.lock().health.clone(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of frames")]
fn frames_per_s(frames: u64, time: Duration) -> f64 {
    (frames as f64 / time.as_secs_f64().max(1e-3) * 10.0).round() / 10.0
}
