//! Telemetry: every thread reports the state of job, camera and workers here. The control thread publishes it, at
//! most once a second on each channel.

use crate::daemon::control::PROGRESS_INTERVAL;
use crate::dataset::acceptance::StateCounts;
use crate::messages::payloads::{
    ClipName, Envelope, JobPhase, Progress, ShardName, StateReport, Status, StatusName, VERSION,
};
use crate::messages::rate::Rate;
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

/// Maximum number of transient messages that wait for the connection; further ones are dropped.
const TRANSIENT_MAX: usize = 16;

/// Collects what the threads report, and sends it to the connection.
pub(super) struct TelemetryPublisher {
    /// The ledger's outbox has something new.
    pub(super) wake: Arc<Notify>,
    /// The state may have changed: call [`Self::publish`].
    pub(super) changed: Notify,
    state: watch::Sender<Option<Vec<u8>>>,
    progress: watch::Sender<Option<Vec<u8>>>,
    transient: mpsc::Sender<TransientMessage>,
    counters: Arc<Counters>,
    /// Last sequence number of each channel.
    seqs: Mutex<BTreeMap<&'static str, u64>>,
    known: Mutex<TelemetryState>,
    published: Mutex<Published>,
}

/// The contents published last; an unchanged one is not published again.
#[derive(Default)]
struct Published {
    state: Option<StateReport>,
    progress: Option<Progress>,
}

impl TelemetryPublisher {
    /// Makes the publisher, and the inputs of the connection. `counters` counts the messages that are dropped.
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
        let status = Arc::clone(&publisher);
        let inputs = PublisherInputs {
            retained: vec![
                Retained::new(topics::STATE, latest_state, Duration::ZERO),
                Retained::new(topics::PROGRESS, latest_progress, PROGRESS_INTERVAL),
            ],
            transient: receiver,
            wake: Arc::clone(&publisher.wake),
            status: Arc::new(move |name| status.status(name)),
        };
        (publisher, inputs)
    }

    /// Sets the phase of the job.
    pub(super) fn phase(&self, phase: JobPhase, reason: Option<String>) {
        tracing::info!(state = phase.name(), reason, "job");
        self.change(|known| (known.phase, known.reason) = (Some(phase), reason));
    }

    /// Sets what the camera does.
    pub(super) fn camera(&self, camera: CameraPhase) {
        self.change(|known| known.camera = camera);
    }

    /// Sets what is wrong with the connection to the broker; `None` when nothing is.
    pub(super) fn broker(&self, issue: Option<String>) {
        self.change(|known| known.broker = issue);
    }

    /// Sets how many workers may work, their maximum, and why fewer may work.
    pub(super) fn set_workers(&self, workers: usize, workers_max: usize, throttles: Vec<String>) {
        self.change(|known| {
            if workers != known.workers {
                // The rate of another number of workers is no prediction.
                known.forget_rate();
            }
            let is_new = known.throttles != throttles;
            (known.workers, known.workers_max, known.throttles) = (workers, workers_max, throttles);
            if is_new {
                tracing::info!(workers, reason = known.throttle_reason(), "workers");
            }
        });
    }

    /// Sets the name of the backend that runs the models, and why it was chosen.
    pub(super) fn backend(&self, name: &str, reason: &str) {
        self.change(|known| known.backend = (name.to_owned(), reason.to_owned()));
    }

    /// Notes that a run of the job begins with `total` planned clips, `done` of them recorded before.
    pub(super) fn begin(&self, run: &str, total: usize, done: usize) {
        self.change(|known| {
            known.run = Some(run.to_owned());
            (known.total, known.done) = (total, done);
            known.forget_rate();
        });
    }

    /// Sets the shard that the job makes; `None` for the whole job.
    pub(super) fn shard(&self, shard: Option<ShardName>) {
        self.change(|known| known.shard = shard);
    }

    /// Notes a recorded clip. It is published with the next second's messages.
    pub(super) fn clip(&self, clip: ClipName, counts: &StateCounts) {
        let (now, mut known) = (uptime(), lock_ignoring_poison(&self.known));
        known.done += 1;
        known.counts.clone_from(counts);
        known.clip = Some(clip);
        known.rate.note(now);
        known.clips_per_min = known.rate.per_min(now);
    }

    /// Sets the counts of a finished job.
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

    /// Publishes a transient message. Without a connection it is dropped and counted.
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

/// What the camera does, and why; `None` without a camera.
pub(super) type CameraPhase = Option<(JobPhase, Option<String>)>;

/// What the threads have reported.
#[derive(Default)]
struct TelemetryState {
    phase: Option<JobPhase>,
    reason: Option<String>,
    run: Option<String>,
    shard: Option<ShardName>,
    /// Name of the backend, and why it was chosen; empty until that is known.
    backend: (String, String),
    workers: usize,
    workers_max: usize,
    /// Why fewer workers may work than the maximum.
    throttles: Vec<String>,
    camera: CameraPhase,
    /// What is wrong with the connection to the broker.
    broker: Option<String>,
    total: usize,
    done: usize,
    counts: StateCounts,
    clip: Option<ClipName>,
    rate: Rate,
    clips_per_min: Option<f64>,
}

impl TelemetryState {
    fn forget_rate(&mut self) {
        self.rate = Rate::default();
        self.clips_per_min = None;
    }

    /// All throttles in one text.
    fn throttle_reason(&self) -> Option<String> {
        (!self.throttles.is_empty()).then(|| self.throttles.join("; "))
    }

    /// The content of `state`.
    fn state(&self) -> StateReport {
        let base = self.phase.unwrap_or(JobPhase::Idle);
        // Throttles change the state only where the workers would work.
        let (state, reason) = match base {
            JobPhase::Scanning | JobPhase::Processing if self.workers == 0 => {
                (JobPhase::Paused, self.throttle_reason())
            }
            JobPhase::Processing if !self.throttles.is_empty() => {
                (JobPhase::Degraded, self.throttle_reason())
            }
            // The next job would not begin; that is published before there is one.
            JobPhase::Idle if self.workers == 0 => {
                (base, join(self.reason.clone(), self.throttle_reason()))
            }
            other => (other, self.reason.clone()),
        };
        let (state, reason) = self.with_camera(state, reason);
        let (state, reason) = match &self.broker {
            Some(issue) => (degraded(state), join(reason, Some(issue.clone()))),
            None => (state, reason),
        };
        StateReport {
            state,
            reason,
            run: self.run.clone(),
            backend: self.backend.0.clone(),
            backend_reason: self.backend.1.clone(),
            workers: self.workers,
            workers_max: self.workers_max,
            shard: self.shard.clone(),
        }
    }

    /// A degraded camera always changes the state, a capturing one only where the job is idle.
    fn with_camera(&self, state: JobPhase, reason: Option<String>) -> (JobPhase, Option<String>) {
        match &self.camera {
            Some((JobPhase::Degraded, why)) => {
                let why = why.as_ref().map(|why| format!("camera: {why}"));
                (degraded(state), join(reason, why))
            }
            Some((phase, why)) if state == JobPhase::Idle => (*phase, why.clone().or(reason)),
            _ => (state, reason),
        }
    }

    /// The content of `progress`; `None` before the first run.
    fn progress(&self) -> Option<Progress> {
        let run = self.run.clone()?;
        // The rate at the last clip; a finished job has none.
        let clips_per_min = self.clips_per_min.filter(|_| self.done < self.total);
        #[expect(clippy::cast_precision_loss, reason = "a number of clips")]
        let left = self.total.saturating_sub(self.done) as f64;
        let round = |v: f64| (v * 10.0).round() / 10.0;
        let states = self.counts.iter();
        Some(Progress {
            run,
            total: self.total,
            done: self.done,
            states: states
                .map(|(state, n)| (state.name().to_owned(), *n))
                .collect(),
            clips_per_min: clips_per_min.map(round),
            eta_s: clips_per_min
                .filter(|rate| *rate > 0.0)
                .map(|rate| (left / rate * 60.0).round()),
            clip: self.clip.clone(),
            shard: self.shard.clone(),
        })
    }

    /// State and progress in one line, for the service manager.
    fn summary(&self) -> String {
        let report = self.state();
        let mut line = report.state.name().to_owned();
        if let Some(progress) = self.progress() {
            line = format!("{line} {} of {} clips", progress.done, progress.total);
            if let Some(rate) = progress.clips_per_min {
                line = format!("{line}, {rate} clips/min");
            }
            if let Some(eta_s) = progress.eta_s {
                line = format!("{line}, {} min left", (eta_s / 60.0).ceil());
            }
        }
        if let Some(reason) = report.reason {
            line = format!("{line}: {reason}");
        }
        line
    }
}

/// The phase to publish for `state` under a restriction.
fn degraded(state: JobPhase) -> JobPhase {
    match state {
        JobPhase::Error | JobPhase::Paused => state,
        _ => JobPhase::Degraded,
    }
}

fn join(one: Option<String>, other: Option<String>) -> Option<String> {
    let both: Vec<String> = one.into_iter().chain(other).collect();
    (!both.is_empty()).then(|| both.join("; "))
}
