//! The line kept up: connect, serve until it breaks, wait, again. One attempt, and what comes of it, is `connect`'s.

use super::backoff::{Backoff, STABLE_AFTER};
use super::connect::{SubscriptionMode, connect_and_serve};
use super::connection::ConnectionEnd;
use super::outbox::{Inbox, Outbox};
use super::settings::Settings;
use crate::messages::StatusName;
use crate::mqtt::error::MqttError;
use std::collections::HashSet;
use std::future::{self, Future, poll_fn};
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::select;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep};

/// Distinct troubles that are remembered as told.
const REPORTED_MAX: usize = 16;

/// Makes the payload of `status`; the caller has clock and counter.
pub type StatusEncoder = Arc<dyn Fn(StatusName) -> Vec<u8> + Send + Sync>;

/// What the daemon gives to the line.
pub struct PublisherInputs {
    /// Of these the latest counts; it is published again on every CONNACK.
    pub retained: Vec<Retained>,
    /// Sent while there is a connection, dropped and counted while there is none.
    pub transient: mpsc::Receiver<TransientMessage>,
    /// `notify_one` says that the outbox has something new.
    pub wake: Arc<Notify>,
    /// The client's own channel.
    pub status: StatusEncoder,
}

/// A channel whose latest message the broker keeps for those who come later.
pub struct Retained {
    /// Last level of its topic.
    pub channel: &'static str,
    /// `None`: nothing to say yet.
    pub value: watch::Receiver<Option<Vec<u8>>>,
    /// Least time between two messages.
    pub min_interval: Duration,
}

/// A message that may be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransientMessage {
    /// Last level of its topic.
    pub channel: &'static str,
    /// As it is published.
    pub payload: Vec<u8>,
    /// How hard to try while there is a connection.
    pub delivery: Delivery,
}

/// MQTT's quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// `QoS` 0.
    AtMostOnce,
    /// `QoS` 1.
    AtLeastOnce,
}

/// What happened since start, for `health`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Attempts to connect.
    pub attempts: AtomicU64,
    /// Accepted ones.
    pub connects: AtomicU64,
    /// Attempts that the broker refused in its CONNACK.
    pub refused: AtomicU64,
    /// Whether there is a connection now.
    pub connected: AtomicBool,
    /// Letters that the broker acknowledged.
    pub delivered: AtomicU64,
    /// Messages that were dropped: loose ones without a connection or beyond its pace, and what is too large.
    pub dropped: AtomicU64,
    /// Commands that the inbox took.
    pub received: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps the line up until `stop` turns true or its sender is gone; then flushes the outbox, says `stopped`, and
/// returns within seconds. Changed `settings` end the connection cleanly and begin another.
pub async fn run(
    settings: watch::Receiver<Settings>,
    inputs: PublisherInputs,
    outbox: Arc<dyn Outbox>,
    inbox: Arc<dyn Inbox>,
    counters: Arc<Counters>,
    stop: watch::Receiver<bool>,
) {
    let mut state = ClientState {
        channels: inputs.retained.into_iter().map(Channel::new).collect(),
        transient: Some(inputs.transient),
        wake: inputs.wake,
        status: inputs.status,
        outbox,
        inbox,
        counters,
        settings,
        stop,
    };
    loop {
        let settings = state.settings.borrow_and_update().clone();
        match keep_up(&mut state, &settings).await {
            ConnectionEnd::Stopped => return,
            // To the same place without a pause: its broker has seen us leave cleanly.
            ConnectionEnd::Changed | ConnectionEnd::Lost { .. } => {}
        }
    }
}

/// Connects again and again with the same settings.
async fn keep_up(state: &mut ClientState, settings: &Settings) -> ConnectionEnd {
    let mut backoff = Backoff::new(settings.reconnect_min, settings.reconnect_max);
    let mut reported = HashSet::new();
    let mut subscription = SubscriptionMode::Open;
    loop {
        let (error, connected_for) = match connect_and_serve(state, settings, subscription).await {
            ConnectionEnd::Lost {
                error,
                connected_for,
            } => (error, connected_for),
            end => return end,
        };
        if connected_for >= STABLE_AFTER {
            reported.clear();
        }
        subscription = subscription.after(&error, connected_for);
        backoff.lasted(connected_for);
        let pause = backoff.delay(random());
        tell(settings, &error, pause, &mut reported);
        if let Err(end) = state.while_disconnected(settings, sleep(pause)).await {
            return end;
        }
    }
}

/// Each trouble aloud once, until a connection has held.
fn tell(settings: &Settings, error: &MqttError, pause: Duration, reported: &mut HashSet<String>) {
    let (broker, reason) = (settings.broker(), error.to_string());
    let pause_s = pause.as_secs_f64();
    let is_new = reported.len() < REPORTED_MAX && reported.insert(reason.clone());
    if is_new && !matches!(error, MqttError::Reconnecting) {
        tracing::warn!(broker, reason, pause_s, "no connection to the broker");
    } else {
        tracing::debug!(broker, reason, pause_s, "no connection to the broker");
    }
}

/// Uniform in [0, 1): the standard library's hasher is seeded by the system.
fn random() -> f64 {
    let bits = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0);
    f64::from(bits) / 2_f64.powi(32)
}

/// All that outlives a connection.
pub(super) struct ClientState {
    pub(super) channels: Vec<Channel>,
    /// `None`: the sender is gone.
    pub(super) transient: Option<mpsc::Receiver<TransientMessage>>,
    pub(super) wake: Arc<Notify>,
    pub(super) status: StatusEncoder,
    pub(super) outbox: Arc<dyn Outbox>,
    pub(super) inbox: Arc<dyn Inbox>,
    pub(super) counters: Arc<Counters>,
    pub(super) settings: watch::Receiver<Settings>,
    pub(super) stop: watch::Receiver<bool>,
}

impl ClientState {
    /// Does `work` without a connection: loose messages are dropped, and stop and change end it.
    pub(super) async fn while_disconnected<T>(
        &mut self,
        settings: &Settings,
        work: impl Future<Output = T>,
    ) -> Result<T, ConnectionEnd> {
        let mut work = pin!(work);
        loop {
            select! {
                biased;
                () = stopping(&mut self.stop) => return Err(ConnectionEnd::Stopped),
                () = changing(&mut self.settings, settings) => return Err(ConnectionEnd::Changed),
                done = &mut work => return Ok(done),
                _ = next_transient(&mut self.transient) => Counters::add(&self.counters.dropped),
            }
        }
    }
}

/// A retained channel and what the line owes it.
pub(super) struct Channel {
    pub(super) name: &'static str,
    pub(super) value: watch::Receiver<Option<Vec<u8>>>,
    pub(super) min_interval: Duration,
    /// Whether the value's sender is still there.
    pub(super) open: bool,
    /// The latest is not published yet in this connection.
    pub(super) dirty: bool,
    /// One is published and not acknowledged yet.
    pub(super) waiting: bool,
    /// Not before.
    pub(super) next: Instant,
}

impl Channel {
    fn new(retained: Retained) -> Self {
        Self {
            name: retained.channel,
            value: retained.value,
            min_interval: retained.min_interval,
            open: true,
            dirty: true,
            waiting: false,
            next: Instant::now(),
        }
    }
}

/// Ends when the caller wants to stop, or has gone away without saying so.
pub(super) async fn stopping(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Ends when the settings differ from `current`.
pub(super) async fn changing(settings: &mut watch::Receiver<Settings>, current: &Settings) {
    while settings.changed().await.is_ok() {
        if *settings.borrow_and_update() != *current {
            return;
        }
    }
    future::pending::<()>().await;
}

/// The next loose message; never ends once the sender is gone.
pub(super) async fn next_transient(
    transient: &mut Option<mpsc::Receiver<TransientMessage>>,
) -> TransientMessage {
    if let Some(receiver) = transient {
        if let Some(message) = receiver.recv().await {
            return message;
        }
        *transient = None;
    }
    future::pending().await
}

/// Ends when a channel has a new value, or none to come: its position, and whether there is one.
pub(super) async fn any_changed(channels: &mut [Channel]) -> (usize, bool) {
    let mut waits: Vec<_> = channels
        .iter_mut()
        .enumerate()
        .filter(|(_, channel)| channel.open)
        .map(|(at, channel)| (at, Box::pin(channel.value.changed())))
        .collect();
    poll_fn(|context| {
        for (at, wait) in &mut waits {
            if let Poll::Ready(changed) = wait.as_mut().poll(context) {
                return Poll::Ready((*at, changed.is_ok()));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn randomness_fills_its_range() {
        let all: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(all.iter().all(|r| (0.0..1.0).contains(r)));
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            assert!(
                all.iter().any(|r| (low..low + 0.1).contains(r)),
                "none from {low}"
            );
        }
    }

    #[test]
    fn a_trouble_is_told_once() {
        let settings = Settings::new("pi", "b", 1);
        let mut reported = HashSet::new();
        for error in [MqttError::NoAnswer, MqttError::Silent, MqttError::NoAnswer] {
            tell(&settings, &error, STABLE_AFTER, &mut reported);
        }
        assert_eq!(reported.len(), 2);
        for n in 0..100 {
            tell(
                &settings,
                &MqttError::ConnectionLost(n.to_string()),
                STABLE_AFTER,
                &mut reported,
            );
        }
        assert_eq!(reported.len(), REPORTED_MAX);
    }
}
