//! The control thread: a small tokio runtime for MQTT, and the ticks of telemetry. No decoding, no inference, and no
//! call that may block.

use crate::daemon::command_handler::CommandHandler;
use crate::daemon::state::Daemon;
use crate::error::CliError;
use crate::messages::payloads::{Health, JobPhase};
use crate::messages::topics;
use crate::mqtt::{self, Counters, Delivery, PublisherInputs, Retained, Settings};
use crate::system::lock_ignoring_poison;
use crate::system::notify;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, Builder};
use std::time::Duration;
use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// `progress` at most so often, and `state` at least looked at.
const TICK: Duration = Duration::from_secs(1);
/// `health` every so many ticks.
const HEALTH_TICKS: u64 = 10;
/// The line of `systemctl status` every so many ticks.
const STATUS_TICKS: u64 = 5;
/// The control thread may be silent for so long.
const SILENCE: Duration = Duration::from_mins(1);

/// The running control thread.
pub(super) struct ControlThread {
    thread: thread::JoinHandle<()>,
    stop: watch::Sender<bool>,
    settings: Arc<Mutex<Option<watch::Sender<Settings>>>>,
}

/// Starts the thread.
pub(super) fn start(daemon: &Arc<Daemon>) -> io::Result<ControlThread> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = watch::channel(false);
    let counters = Arc::new(Counters::default());
    let settings = daemon.config().broker();
    let (keep, settings) = match settings {
        Some(settings) => {
            let (keep, settings) = watch::channel(settings);
            (Some(keep), Some(settings))
        }
        None => (None, None),
    };
    let (this, keep) = (Arc::clone(daemon), Arc::new(Mutex::new(keep)));
    let sender = Arc::clone(&keep);
    let thread = Builder::new().name("control".to_owned()).spawn(move || {
        runtime.block_on(async {
            let broker = broker(&this, settings, Arc::clone(&counters), stopped.clone());
            tokio::join!(broker, ticks(&this, &sender, &counters, stopped.clone()));
        });
    })?;
    Ok(ControlThread {
        thread,
        stop,
        settings: keep,
    })
}

impl ControlThread {
    /// Says the last words, as far as the broker takes them, and ends the thread.
    pub(super) fn end(self, daemon: &Daemon, failure: Option<&CliError>) {
        match failure {
            Some(failure) => daemon
                .telemetry
                .phase(JobPhase::Error, Some(failure.display_chain())),
            None => daemon
                .telemetry
                .phase(JobPhase::Idle, Some("stopped".to_owned())),
        }
        daemon.telemetry.tell(true);
        daemon.flush_deferred();
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the control thread has panicked");
        }
        drop(self.settings);
    }
}

/// The connection, if a broker is configured.
async fn broker(
    daemon: &Arc<Daemon>,
    settings: Option<watch::Receiver<Settings>>,
    counters: Arc<Counters>,
    stop: watch::Receiver<bool>,
) {
    let (Some(settings), Some((state, progress, transient))) = (settings, daemon.telemetry.ends())
    else {
        return;
    };
    let retained = |channel, value, min_interval| Retained {
        channel,
        value,
        min_interval,
    };
    let this = Arc::clone(daemon);
    let inputs = PublisherInputs {
        retained: vec![
            retained(topics::STATE, state, Duration::ZERO),
            retained(topics::PROGRESS, progress, TICK),
        ],
        transient,
        wake: Arc::clone(&daemon.telemetry.wake),
        status: Arc::new(move |status| this.telemetry.status(status)),
    };
    let desk = || Arc::new(CommandHandler(Arc::clone(daemon)));
    mqtt::run(settings, inputs, desk(), desk(), counters, stop).await;
}

/// Telemetry, until the end.
async fn ticks(
    daemon: &Arc<Daemon>,
    sender: &Mutex<Option<watch::Sender<Settings>>>,
    counters: &Arc<Counters>,
    mut stop: watch::Receiver<bool>,
) {
    let stage = daemon.liveness.stage("the control thread", SILENCE);
    let mut clock = interval(TICK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut n, mut frames, mut since) = (0_u64, daemon.worker_monitor.frames(), Instant::now());
    let mut look: Option<JoinHandle<()>> = None;
    loop {
        select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = daemon.telemetry.news.notified() => {
                daemon.telemetry.tell(false);
                continue;
            }
            _ = clock.tick() => {}
        }
        stage.busy(crate::system::clock::uptime());
        daemon.telemetry.tell(true);
        renew(daemon, sender);
        if n.is_multiple_of(STATUS_TICKS) {
            notify::status(&daemon.telemetry.line());
        }
        if n.is_multiple_of(HEALTH_TICKS) && daemon.config().mqtt.url.is_some() {
            let (now, seen) = (Instant::now(), daemon.worker_monitor.frames());
            let rate = frames_per_s(seen - frames, now - since);
            (frames, since) = (seen, now);
            // The ledger may be at the disk for long; one look at a time, and the ticks go on.
            if look.as_ref().is_none_or(JoinHandle::is_finished) {
                let (this, counters) = (Arc::clone(daemon), Arc::clone(counters));
                look = Some(spawn_blocking(move || {
                    let payload = this
                        .telemetry
                        .message(topics::HEALTH, &health(&this, &counters, rate));
                    this.telemetry
                        .send(topics::HEALTH, payload, Delivery::AtMostOnce);
                }));
            }
        }
        n += 1;
    }
}

/// Hands a changed config to the connection.
fn renew(daemon: &Daemon, sender: &Mutex<Option<watch::Sender<Settings>>>) {
    let sender = crate::daemon::state::held(sender);
    if let (Some(sender), Some(settings)) = (sender.as_ref(), daemon.config().broker()) {
        sender.send_if_modified(|old| {
            let is_new = *old != settings;
            if is_new {
                *old = settings;
            }
            is_new
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of pictures")]
fn frames_per_s(frames: u64, time: Duration) -> f64 {
    (frames as f64 / time.as_secs_f64().max(1e-3) * 10.0).round() / 10.0
}

fn health(daemon: &Daemon, counters: &Counters, frames_per_s: f64) -> Health {
    let (readings, disk_free_mib) = daemon.readings();
    let ledger = lock_ignoring_poison(&daemon.ledger);
    let count = |n: Result<u64, crate::storage::StoreError>| n.unwrap_or_default();
    Health {
        uptime_s: Daemon::uptime_s(),
        temperature_c: readings.temperature_c,
        throttled: readings.throttled,
        load_1min: readings.load_1min,
        memory_available_mib: readings.memory_available_mib,
        memory_resident_mib: readings.memory_resident_mib,
        disk_free_mib,
        workers: daemon.control.workers(),
        frames_per_s,
        queue: daemon.control.waiting(),
        outbox: count(ledger.pending_message_count()),
        outbox_dropped: count(ledger.dropped_count()),
        telemetry_dropped: counters.dropped.load(Ordering::Relaxed) + daemon.telemetry.dropped(),
        connects: counters.connects.load(Ordering::Relaxed),
        mirror_waiting: daemon
            .mirror_waiting()
            .filter(|_| daemon.config().output.mirror.is_some()),
        camera: daemon.camera.health(),
    }
}
