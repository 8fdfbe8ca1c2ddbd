//! Keeps a connection: connect, serve until it is lost, wait, connect again. `connect` makes one attempt.

use super::connect::{SubscriptionMode, connect_and_serve};
use super::connection::{CloseReason, ConnectionEnd};
use super::packet_limit::PacketLimit;
use super::port_probe;
use super::settings::Settings;
use super::{ConnectionNotice, Inbox, Outbox};
use crate::limits::backoff::Backoff;
use crate::messages::StatusName;
use crate::mqtt::error::MqttError;
use crate::untrusted;
use rumqttc::QoS;
use std::collections::HashSet;
use std::future::{self, Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::select;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

/// A connection that lasted this long was a success; a shorter one counts as a failed attempt.
pub(super) const STABLE_AFTER: Duration = Duration::from_secs(5);
/// A delay between two attempts is stretched by up to this part of it, at random.
pub(super) const RECONNECT_JITTER: f64 = 0.5;
/// Distinct errors that are remembered as reported.
const REPORTED_MAX: usize = 16;
/// Connections in a row that the broker ended in good order, and within how long, after which another client is suspected
/// to use the same client id.
const TAKEOVERS_MIN: u32 = 3;
const TAKEOVER_WITHIN: Duration = Duration::from_mins(2);

/// Makes the payload of `status`. The caller has the clock and the message counter.
pub type StatusEncoder = Arc<dyn Fn(StatusName) -> Vec<u8> + Send + Sync>;

/// What the client publishes.
pub struct PublisherInputs {
    /// Channels whose latest message is published, and published again after every CONNACK.
    pub retained: Vec<Retained>,
    /// Published while there is a connection, dropped and counted while there is none.
    pub transient: mpsc::Receiver<TransientMessage>,
    /// `notify_one` wakes the client: the outbox has new messages.
    pub wake: Arc<Notify>,
    /// Makes the messages of `status`, the client's own channel.
    pub status: StatusEncoder,
}

/// A channel whose latest message the broker retains for later subscribers.
pub struct Retained {
    /// Last level of its topic.
    pub(super) channel: &'static str,
    /// The latest payload; `None` before the first.
    pub(super) value: watch::Receiver<Option<Vec<u8>>>,
    /// Shortest time between two messages.
    pub(super) min_interval: Duration,
    /// The latest value is not published yet in this connection.
    pub(super) dirty: bool,
    /// A value is published and not acknowledged yet.
    pub(super) waiting: bool,
    /// Earliest time of the next message.
    pub(super) next: Instant,
}

impl Retained {
    /// Publishes the payloads of `value` on `channel`, at most one each `min_interval`.
    #[must_use]
    pub fn new(
        channel: &'static str,
        value: watch::Receiver<Option<Vec<u8>>>,
        min_interval: Duration,
    ) -> Self {
        Self {
            channel,
            value,
            min_interval,
            dirty: true,
            waiting: false,
            next: Instant::now(),
        }
    }
}

/// A message that may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransientMessage {
    /// Last level of its topic.
    pub channel: &'static str,
    /// The bytes that are published.
    pub payload: Vec<u8>,
    /// Whether the broker acknowledges it.
    pub qos: QoS,
}

/// Counts since the start, for `health`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Attempts to connect.
    pub attempts: AtomicU64,
    /// Attempts that the broker accepted.
    pub connects: AtomicU64,
    /// Attempts that the broker refused in its CONNACK.
    pub refused: AtomicU64,
    /// Whether there is a connection now.
    pub connected: AtomicBool,
    /// Outbox messages that the broker acknowledged.
    pub delivered: AtomicU64,
    /// Dropped messages: transient ones without a connection or with too many in flight, and messages that are too large.
    pub dropped: AtomicU64,
    /// Messages that were left out because they are larger than the broker accepts.
    pub set_aside: AtomicU64,
    /// The smallest size of a message, in bytes, that the broker is known to refuse; 0 while none is known.
    pub packet_limit: AtomicU64,
    /// Commands that the inbox accepted.
    pub received: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps a connection until `stop` turns true or its sender is dropped; then flushes the outbox, publishes `stopped`
/// and returns within seconds. Changed `settings` end the connection cleanly and begin another.
pub async fn run(
    settings: watch::Receiver<Settings>,
    inputs: PublisherInputs,
    outbox: Arc<dyn Outbox>,
    inbox: Arc<dyn Inbox>,
    counters: Arc<Counters>,
    stop: watch::Receiver<bool>,
) {
    let mut state = ClientState {
        inputs,
        outbox,
        inbox,
        counters,
        settings,
        stop,
        limit: PacketLimit::default(),
        are_commands_off: false,
    };
    loop {
        let settings = state.settings.borrow_and_update().clone();
        state.limit = PacketLimit::default();
        state.counters.packet_limit.store(0, Ordering::Relaxed);
        // Changed settings are used without a delay: the connection ended cleanly.
        if let CloseReason::Stopped = keep_up(&mut state, &settings).await {
            return;
        }
    }
}

/// Connects again and again with the same settings, until the client stops or the settings change.
async fn keep_up(state: &mut ClientState, settings: &Settings) -> CloseReason {
    let mut backoff =
        Backoff::new(settings.reconnect_min, settings.reconnect_max).with_jitter(RECONNECT_JITTER);
    let mut reported = HashSet::new();
    let mut subscription = SubscriptionMode::Open;
    let mut takeovers = TakeoverCounter::default();
    loop {
        let Err(end) = connect_and_serve(state, settings, subscription).await;
        let (mut error, connected_for, is_settled) = match end {
            ConnectionEnd::Closed(reason) => return reason,
            ConnectionEnd::Lost {
                error,
                connected_for,
                is_settled,
            } => (error, connected_for, is_settled),
        };
        if connected_for >= STABLE_AFTER {
            reported.clear();
            backoff.reset();
        }
        let before = subscription;
        subscription = subscription.after(&error, connected_for);
        if subscription == SubscriptionMode::Disabled && before != subscription {
            state.are_commands_off = true;
            state.report(ConnectionNotice::CommandsOff(error.to_string()));
        }
        if let Some(count) = takeovers.note(&error, connected_for, is_settled) {
            let client_id = settings.client_id.clone();
            error = MqttError::TakenOver { client_id, count };
            if count == TAKEOVERS_MIN {
                state.report(ConnectionNotice::Problem {
                    reason: error.to_string(),
                    action: "the connection is made again, and takes the session back".to_owned(),
                });
            }
        }
        let mut pause = backoff.next_delay(fastrand::f64());
        if error.is_unexplained() && connected_for.is_zero() && is_unreported(&error, &reported) {
            // The probe replaces an attempt to connect.
            let probe = async {
                sleep(pause).await;
                port_probe::identify(settings).await
            };
            match state.while_disconnected(settings, probe).await {
                Err(reason) => return reason,
                Ok(Some(protocol)) => {
                    reported.insert(error.to_string());
                    error = MqttError::WrongPort(protocol);
                }
                Ok(None) => {}
            }
            pause = backoff.next_delay(fastrand::f64());
        }
        log_lost(settings, &error, pause, &mut reported);
        if let Err(reason) = state.while_disconnected(settings, sleep(pause)).await {
            return reason;
        }
    }
}

/// Counts connections that the broker ended although all was acknowledged and nothing was wrong.
#[derive(Debug, Default, PartialEq, Eq)]
struct TakeoverCounter(u32);

impl TakeoverCounter {
    /// Notes the end of a connection. Returns how many were ended like this, when there are enough to name the cause.
    fn note(
        &mut self,
        error: &MqttError,
        connected_for: Duration,
        is_settled: bool,
    ) -> Option<u32> {
        let is_lost = matches!(error, MqttError::ConnectionLost(_));
        // A refused attempt points to a restarted broker, and a long connection was not taken over.
        if !is_lost || connected_for.is_zero() || connected_for >= TAKEOVER_WITHIN {
            self.0 = 0;
            return None;
        }
        // Messages in flight may be the reason for the end, so that it counts neither way.
        if !is_settled {
            return None;
        }
        self.0 += 1;
        (self.0 >= TAKEOVERS_MIN).then_some(self.0)
    }
}

fn is_unreported(error: &MqttError, reported: &HashSet<String>) -> bool {
    reported.len() < REPORTED_MAX && !reported.contains(&error.to_string())
}

/// Logs each distinct error once as a warning, until a connection was stable.
fn log_lost(
    settings: &Settings,
    error: &MqttError,
    pause: Duration,
    reported: &mut HashSet<String>,
) {
    let (broker, reason) = (settings.broker(), error.to_string());
    let pause_s = pause.as_secs_f64();
    let is_new = is_unreported(error, reported) && reported.insert(reason.clone());
    if is_new && !matches!(error, MqttError::Reconnecting) {
        tracing::warn!(
            target: untrusted::LOG_TARGET,
            broker,
            reason,
            pause_s,
            "no connection to the broker"
        );
    } else {
        tracing::debug!(broker, reason, pause_s, "no connection to the broker");
    }
}

/// What outlives a connection.
pub(super) struct ClientState {
    pub(super) inputs: PublisherInputs,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) limit: PacketLimit,
    /// Whether [`ConnectionNotice::CommandsOff`] was reported last.
    pub(super) are_commands_off: bool,
}

impl ClientState {
    /// Reports to the outbox, on another thread.
    pub(super) fn report(&self, notice: ConnectionNotice) {
        let outbox = Arc::clone(&self.outbox);
        drop(spawn_blocking(move || outbox.report(notice)));
    }

    /// Does `work` without a connection: transient messages are dropped; a stop or changed settings end it.
    pub(super) async fn while_disconnected<T>(
        &mut self,
        settings: &Settings,
        work: impl Future<Output = T>,
    ) -> Result<T, CloseReason> {
        let mut work = pin!(work);
        loop {
            select! {
                biased;
                () = stopping(&mut self.stop) => return Err(CloseReason::Stopped),
                () = changing(&mut self.settings, settings) => return Err(CloseReason::Changed),
                done = &mut work => return Ok(done),
                _ = next_transient(&mut self.inputs.transient) => Counters::add(&self.counters.dropped),
            }
        }
    }
}

/// Returns when the caller stops the client, or has dropped the sender.
pub(super) async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error means that the sender is dropped.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Returns when the settings differ from `current`.
pub(super) async fn changing(settings: &mut watch::Receiver<Settings>, current: &Settings) {
    while settings.changed().await.is_ok() {
        if *settings.borrow_and_update() != *current {
            return;
        }
    }
    future::pending::<()>().await;
}

/// The next transient message; never returns once the sender is dropped.
pub(super) async fn next_transient(
    transient: &mut mpsc::Receiver<TransientMessage>,
) -> TransientMessage {
    match transient.recv().await {
        Some(message) => message,
        None => future::pending().await,
    }
}

/// Returns the position of a channel that has a new value.
pub(super) async fn any_changed(channels: &mut [Retained]) -> usize {
    let mut waits: Vec<_> = channels
        .iter_mut()
        .map(|channel| {
            Box::pin(async {
                if channel.value.changed().await.is_err() {
                    // The sender is dropped: no value follows.
                    future::pending::<()>().await;
                }
            })
        })
        .collect();
    poll_fn(|context| {
        let mut waits = waits.iter_mut();
        let at = waits.position(|wait| wait.as_mut().poll(context).is_ready());
        at.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_reported_once() {
        let settings = Settings::new("pi", "b", 1);
        let mut reported = HashSet::new();
        for error in [MqttError::NoAnswer, MqttError::Silent, MqttError::NoAnswer] {
            log_lost(&settings, &error, STABLE_AFTER, &mut reported);
        }
        assert_eq!(reported.len(), 2);
        for n in 0..100 {
            log_lost(
                &settings,
                &MqttError::ConnectionLost(n.to_string()),
                STABLE_AFTER,
                &mut reported,
            );
        }
        assert_eq!(reported.len(), REPORTED_MAX);
    }

    #[test]
    fn a_session_takeover_differs_from_a_broker_that_ends() {
        let lost = MqttError::ConnectionLost("closed".into());
        let (short, long) = (Duration::from_secs(3), TAKEOVER_WITHIN);
        let mut counter = TakeoverCounter::default();
        assert_eq!(counter.note(&lost, short, true), None);
        assert_eq!(counter.note(&lost, short, true), None);
        assert_eq!(counter.note(&lost, short, false), None);
        assert_eq!(counter.note(&lost, short, true), Some(TAKEOVERS_MIN));
        let refused = MqttError::Unreachable("refused".into());
        for (error, connected_for) in [
            (&refused, Duration::ZERO),
            (&lost, long),
            (&MqttError::Silent, short),
        ] {
            assert_eq!(counter.note(error, connected_for, true), None);
            assert_eq!(counter, TakeoverCounter::default());
        }
    }
}
