//! The control thread: a small tokio runtime for the MQTT connection and the ticks of telemetry. It neither decodes
//! nor infers, and makes no call that may block.

use crate::daemon::command_handler::CommandHandler;
use crate::daemon::health::HealthSources;
use crate::daemon::outbox_writer::{LedgerOutbox, OutboxWriter};
use crate::daemon::telemetry_publisher::{TelemetryPublisher, TelemetryReceivers};
use crate::error::CliError;
use crate::messages::payloads::JobPhase;
use crate::messages::topics;
use crate::mqtt::{self, Counters, Delivery, PublisherInputs, Retained, Settings};
use crate::system::clock::uptime;
use crate::system::{Liveness, Stage, notify};
use std::io;
use std::sync::Arc;
use std::thread::{self, Builder};
use std::time::Duration;
use tokio::select;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Shortest time between two `progress` messages.
const TICK: Duration = Duration::from_secs(1);
/// `health` is published every so many ticks.
const HEALTH_TICKS: u64 = 10;
/// The line of `systemctl status` is renewed every so many ticks.
const STATUS_TICKS: u64 = 5;
/// Longest time without a tick before the watchdog counts the thread as stuck.
const STALL_LIMIT: Duration = Duration::from_mins(1);

/// What the thread serves.
pub(super) struct ControlInputs {
    /// The broker; `None`: no connection is made.
    pub(super) broker: Option<Settings>,
    pub(super) receivers: TelemetryReceivers,
    pub(super) telemetry: Arc<TelemetryPublisher>,
    pub(super) outbox: LedgerOutbox,
    pub(super) commands: CommandHandler,
    pub(super) health: HealthSources,
}

/// The running control thread.
pub(super) struct ControlThread {
    thread: thread::JoinHandle<()>,
    stop: watch::Sender<bool>,
    telemetry: Arc<TelemetryPublisher>,
    broker: BrokerSettings,
}

/// Changes the connection's settings while it runs.
#[derive(Clone)]
pub(super) struct BrokerSettings(Option<watch::Sender<Settings>>);

impl BrokerSettings {
    /// The connection is made again where `settings` are others than before.
    pub(super) fn change(&self, settings: Option<Settings>) {
        if let (Some(sender), Some(settings)) = (&self.0, settings) {
            sender.send_if_modified(|old| {
                let is_new = *old != settings;
                *old = settings;
                is_new
            });
        }
    }
}

impl ControlThread {
    /// Starts the thread.
    pub(super) fn start(inputs: ControlInputs, liveness: &Liveness) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let (sender, settings) = inputs.broker.map(watch::channel).unzip();
        let telemetry = Arc::clone(&inputs.telemetry);
        let ticks = Ticks {
            has_broker: settings.is_some(),
            telemetry: Arc::clone(&telemetry),
            health: Arc::new(inputs.health),
            counters: Arc::clone(&counters),
            stage: liveness.stage("the control thread", STALL_LIMIT),
        };
        let (receivers, outbox, commands) = (inputs.receivers, inputs.outbox, inputs.commands);
        let publisher_inputs = publisher_inputs(receivers, &telemetry);
        let thread = Builder::new().name("control".to_owned()).spawn(move || {
            runtime.block_on(async {
                let connection = async {
                    if let Some(settings) = settings {
                        let (outbox, commands) = (Arc::new(outbox), Arc::new(commands));
                        let stop = stopped.clone();
                        mqtt::run(settings, publisher_inputs, outbox, commands, counters, stop)
                            .await;
                    }
                };
                tokio::join!(connection, ticks.run(stopped.clone()));
            });
        })?;
        Ok(Self {
            thread,
            stop,
            telemetry,
            broker: BrokerSettings(sender),
        })
    }

    /// For a reload.
    pub(super) fn broker_settings(&self) -> BrokerSettings {
        self.broker.clone()
    }

    /// Publishes the final state and what still waits, as far as the broker takes it, and ends the thread.
    pub(super) fn end(self, outbox: &OutboxWriter, failure: Option<&CliError>) {
        let (phase, reason) = match failure {
            Some(failure) => (JobPhase::Error, failure.display_chain()),
            None => (JobPhase::Idle, "stopped".to_owned()),
        };
        self.telemetry.phase(phase, Some(reason));
        self.telemetry.publish();
        outbox.flush();
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the control thread has panicked");
        }
    }
}

fn publisher_inputs(
    receivers: TelemetryReceivers,
    telemetry: &Arc<TelemetryPublisher>,
) -> PublisherInputs {
    let retained = |channel, value, min_interval| Retained {
        channel,
        value,
        min_interval,
    };
    let status = Arc::clone(telemetry);
    PublisherInputs {
        retained: vec![
            retained(topics::STATE, receivers.state, Duration::ZERO),
            retained(topics::PROGRESS, receivers.progress, TICK),
        ],
        transient: receivers.transient,
        wake: Arc::clone(&telemetry.wake),
        status: Arc::new(move |name| status.status(name)),
    }
}

/// What is done every second.
struct Ticks {
    has_broker: bool,
    telemetry: Arc<TelemetryPublisher>,
    health: Arc<HealthSources>,
    counters: Arc<Counters>,
    stage: Stage,
}

impl Ticks {
    async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut clock = interval(TICK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut n, mut frames, mut since) = (0_u64, self.health.frames(), Instant::now());
        let mut sampling: Option<JoinHandle<()>> = None;
        loop {
            select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.telemetry.changed.notified() => {
                    self.telemetry.publish_state();
                    continue;
                }
                _ = clock.tick() => {}
            }
            self.stage.busy(uptime());
            self.telemetry.publish();
            if n.is_multiple_of(STATUS_TICKS) {
                notify::status(&self.telemetry.summary());
            }
            if n.is_multiple_of(HEALTH_TICKS) && self.has_broker {
                let (now, processed) = (Instant::now(), self.health.frames());
                let rate = frames_per_s(processed - frames, now - since);
                (frames, since) = (processed, now);
                // The ledger may wait for the disk: one sample at a time, and the ticks continue.
                if sampling.as_ref().is_none_or(JoinHandle::is_finished) {
                    sampling = Some(self.publish_health(rate));
                }
            }
            n += 1;
        }
    }

    fn publish_health(&self, frames_per_s: f64) -> JoinHandle<()> {
        let telemetry = Arc::clone(&self.telemetry);
        let (health, counters) = (Arc::clone(&self.health), Arc::clone(&self.counters));
        spawn_blocking(move || {
            let health = health.sample(&counters, frames_per_s);
            let message = telemetry.message(topics::HEALTH, &health);
            telemetry.send(topics::HEALTH, message, Delivery::AtMostOnce);
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of frames")]
fn frames_per_s(frames: u64, time: Duration) -> f64 {
    (frames as f64 / time.as_secs_f64().max(1e-3) * 10.0).round() / 10.0
}
