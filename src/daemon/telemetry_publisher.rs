//! Telemetry: every thread reports here what it knows of job, camera and workers; the control thread makes messages of
//! it, at most one a second on each channel.

use crate::daemon::control::PROGRESS_INTERVAL;
use crate::daemon::telemetry_state::{CameraPhase, TelemetryState};
use crate::dataset::acceptance::StateCounts;
use crate::messages::payloads::{
    ClipName, Envelope, JobPhase, Progress, StateReport, Status, StatusName, VERSION,
};
use crate::messages::topics;
use crate::mqtt::{Counters, PublisherInputs, QoS, Retained, TransientMessage};
use crate::system::clock::{timestamp, uptime};
use crate::system::lock_ignoring_poison;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// Transient messages that wait for the connection at most; the next one is dropped.
const TRANSIENT_MAX: usize = 16;

/// The publishing ends.
pub(super) struct TelemetryPublisher {
    /// The ledger's outbox has something new.
    pub(super) wake: Arc<Notify>,
    /// The state may have changed: call [`Self::publish`].
    pub(super) changed: Notify,
    state: watch::Sender<Option<Vec<u8>>>,
    progress: watch::Sender<Option<Vec<u8>>>,
    transient: mpsc::Sender<TransientMessage>,
    counters: Arc<Counters>,
    /// Last number of each channel.
    seqs: Mutex<BTreeMap<&'static str, u64>>,
    known: Mutex<TelemetryState>,
    published: Mutex<Published>,
}

/// The last contents: what has not changed is not published again.
#[derive(Default)]
struct Published {
    state: Option<StateReport>,
    progress: Option<Progress>,
}

impl TelemetryPublisher {
    /// Both ends: the receiving one is for the connection. `counters` counts the messages that are dropped.
    pub(super) fn new(counters: Arc<Counters>) -> (Arc<Self>, PublisherInputs) {
        let (state, latest_state) = watch::channel(None);
        let (progress, latest_progress) = watch::channel(None);
        let (transient, receiver) = mpsc::channel(TRANSIENT_MAX);
        let publisher = Arc::new(Self {
            wake: Arc::default(),
            changed: Notify::new(),
            state,
            progress,
            transient,
            counters,
            seqs: Mutex::default(),
            known: Mutex::default(),
            published: Mutex::default(),
        });
        let retained = |channel, value, min_interval| Retained {
            channel,
            value,
            min_interval,
        };
        let status = Arc::clone(&publisher);
        let inputs = PublisherInputs {
            retained: vec![
                retained(topics::STATE, latest_state, Duration::ZERO),
                retained(topics::PROGRESS, latest_progress, PROGRESS_INTERVAL),
            ],
            transient: receiver,
            wake: Arc::clone(&publisher.wake),
            status: Arc::new(move |name| status.status(name)),
        };
        (publisher, inputs)
    }

    /// The job enters another phase.
    pub(super) fn phase(&self, phase: JobPhase, reason: Option<String>) {
        tracing::info!(state = phase.name(), reason, "job");
        self.change(|known| (known.phase, known.reason) = (Some(phase), reason));
    }

    /// The camera does something else.
    pub(super) fn camera(&self, camera: CameraPhase) {
        self.change(|known| known.camera = camera);
    }

    /// Another number of workers may work.
    pub(super) fn set_workers(&self, workers: usize, workers_max: usize, throttles: Vec<String>) {
        self.change(|known| {
            if known.set_workers(workers, workers_max, throttles) {
                tracing::info!(workers, reason = known.throttle_reason(), "workers");
            }
        });
    }

    /// Another backend runs the models.
    pub(super) fn backend(&self, name: &str, reason: &str) {
        self.change(|known| known.backend = (name.to_owned(), reason.to_owned()));
    }

    /// A run of the job begins.
    pub(super) fn begin(&self, run: &str, total: usize, done: usize) {
        self.change(|known| known.begin(run, total, done));
    }

    /// A clip is recorded. It is published with the next second's messages.
    pub(super) fn clip(&self, clip: ClipName, counts: &StateCounts) {
        lock_ignoring_poison(&self.known).add_clip(uptime(), clip, counts);
    }

    /// The counts of a finished job.
    pub(super) fn counts(&self, counts: &StateCounts) {
        self.change(|known| known.counts.clone_from(counts));
    }

    fn change(&self, change: impl FnOnce(&mut TelemetryState)) {
        change(&mut lock_ignoring_poison(&self.known));
        self.changed.notify_one();
    }

    /// Name of the job's run, if there is one.
    pub(super) fn run(&self) -> Option<String> {
        lock_ignoring_poison(&self.known).run.clone()
    }

    /// State and progress in one line.
    pub(super) fn summary(&self) -> String {
        lock_ignoring_poison(&self.known).summary()
    }

    /// Publishes `state` where it has changed. Called on [`Self::changed`].
    pub(super) fn publish_state(&self) {
        let mut published = lock_ignoring_poison(&self.published);
        let state = lock_ignoring_poison(&self.known).state();
        if published.state.as_ref() != Some(&state) {
            let message = self.message(topics::STATE, &state);
            self.state.send_replace(Some(message));
            published.state = Some(state);
        }
    }

    /// Publishes `state` and `progress` where they have changed. Called once a second.
    pub(super) fn publish(&self) {
        self.publish_state();
        let mut published = lock_ignoring_poison(&self.published);
        let progress = lock_ignoring_poison(&self.known).progress();
        if let Some(progress) = progress
            && published.progress.as_ref() != Some(&progress)
        {
            let message = self.message(topics::PROGRESS, &progress);
            self.progress.send_replace(Some(message));
            published.progress = Some(progress);
        }
    }

    /// Publishes a message that is kept nowhere: without a connection it is dropped and counted.
    pub(super) fn send(&self, channel: &'static str, payload: Vec<u8>, qos: QoS) {
        let message = TransientMessage {
            channel,
            payload,
            qos,
        };
        if self.transient.try_send(message).is_err() {
            self.count_dropped();
        }
    }

    /// Counts a message that was dropped on its way to the connection.
    pub(super) fn count_dropped(&self) {
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// A message of a channel that is not kept in the ledger, with the channel's next number.
    pub(super) fn message(&self, channel: &'static str, body: &impl Serialize) -> Vec<u8> {
        let seq = {
            let mut seqs = lock_ignoring_poison(&self.seqs);
            let seq = seqs.entry(channel).or_default();
            *seq += 1;
            *seq
        };
        let stamp = timestamp();
        let envelope = Envelope {
            v: VERSION,
            ts: stamp.ts,
            clock_synced: stamp.clock_synced,
            seq,
            body,
        };
        serde_json::to_vec(&envelope).unwrap_or_else(|error| {
            tracing::error!(channel, %error, "a message cannot be serialized; please report this");
            Vec::new()
        })
    }

    /// A message of `status`.
    fn status(&self, status: StatusName) -> Vec<u8> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.message(topics::STATUS, &Status { status, version })
    }
}
