//! What the world is told of the job: kept here by whoever knows something new, made into messages once a second.

use crate::daemon::state::held;
use crate::dataset::acceptance::StateCounts;
use crate::job::stamp;
use crate::messages::payloads::{
    ClipName, Envelope, JobPhase, Progress, StateReport, Status, StatusName, VERSION,
};
use crate::messages::rate::Rate;
use crate::mqtt::{Delivery, TransientMessage};
use crate::system::clock::uptime;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, mpsc, watch};

/// Messages that wait for the connection without being kept; the next one is dropped.
const TRANSIENT_MAX: usize = 16;

/// The messages' source.
pub(super) struct TelemetryPublisher {
    /// The outbox has something new.
    pub(super) wake: Arc<Notify>,
    /// The state may have changed.
    pub(super) news: Notify,
    state: watch::Sender<Option<Vec<u8>>>,
    progress: watch::Sender<Option<Vec<u8>>>,
    transient: mpsc::Sender<TransientMessage>,
    transient_receiver: Mutex<Option<mpsc::Receiver<TransientMessage>>>,
    dropped: AtomicU64,
    seqs: Mutex<BTreeMap<&'static str, u64>>,
    view: Mutex<TelemetryState>,
}

/// What is known of the job.
#[derive(Default)]
struct TelemetryState {
    phase: Option<JobPhase>,
    reason: Option<String>,
    run: Option<String>,
    /// What runs the models, and why; empty until that is known.
    backend: (String, String),
    workers: usize,
    workers_max: usize,
    holds: Vec<String>,
    camera: Option<(JobPhase, Option<String>)>,
    total: usize,
    done: usize,
    tally: StateCounts,
    clip: Option<ClipName>,
    rate: Rate,
    clips_per_min: Option<f64>,
    told_state: Option<StateReport>,
    told_progress: Option<Progress>,
}

impl TelemetryState {
    fn state(&self) -> StateReport {
        let base = self.phase.unwrap_or(JobPhase::Idle);
        let held = || Some(self.holds.join("; ")).filter(|holds| !holds.is_empty());
        // What holds the workers back changes the state only where they would work.
        let (state, reason) = match base {
            JobPhase::Scanning | JobPhase::Processing if self.workers == 0 => {
                (JobPhase::Paused, held())
            }
            JobPhase::Processing if !self.holds.is_empty() => (JobPhase::Degraded, held()),
            // A job that comes later would not begin: say so before it does.
            JobPhase::Idle if self.workers == 0 => (base, join(self.reason.clone(), held())),
            other => (other, self.reason.clone()),
        };
        let (state, reason) = self.with_camera(state, reason);
        StateReport {
            state,
            reason,
            run: self.run.clone(),
            backend: self.backend.0.clone(),
            backend_reason: self.backend.1.clone(),
            workers: self.workers,
            workers_max: self.workers_max,
        }
    }

    /// A camera that films is worth a word where the job rests, one that does not always.
    fn with_camera(&self, state: JobPhase, reason: Option<String>) -> (JobPhase, Option<String>) {
        match &self.camera {
            Some((JobPhase::Degraded, why)) => {
                let why = why.as_ref().map(|why| format!("camera: {why}"));
                let state = match state {
                    JobPhase::Error | JobPhase::Paused => state,
                    _ => JobPhase::Degraded,
                };
                (state, join(reason, why))
            }
            Some((phase, why)) if state == JobPhase::Idle => (*phase, why.clone().or(reason)),
            _ => (state, reason),
        }
    }

    fn progress(&self) -> Option<Progress> {
        let run = self.run.clone()?;
        // As it was with the last clip: the pace of a job that rests says nothing.
        let clips_per_min = self.clips_per_min.filter(|_| self.done < self.total);
        #[expect(clippy::cast_precision_loss, reason = "a number of clips")]
        let left = self.total.saturating_sub(self.done) as f64;
        let round = |v: f64| (v * 10.0).round() / 10.0;
        Some(Progress {
            run,
            total: self.total,
            done: self.done,
            states: self
                .tally
                .iter()
                .map(|(state, n)| (state.name().to_owned(), *n))
                .collect(),
            clips_per_min: clips_per_min.map(round),
            eta_s: clips_per_min
                .filter(|rate| *rate > 0.0)
                .map(|rate| (left / rate * 60.0).round()),
            clip: self.clip.clone(),
        })
    }
}

/// Two reasons for one thing.
fn join(one: Option<String>, other: Option<String>) -> Option<String> {
    let both: Vec<String> = one.into_iter().chain(other).collect();
    (!both.is_empty()).then(|| both.join("; "))
}

impl TelemetryPublisher {
    /// Knows nothing yet.
    pub(super) fn new() -> Self {
        let (transient, transient_receiver) = mpsc::channel(TRANSIENT_MAX);
        Self {
            wake: Arc::default(),
            news: Notify::new(),
            state: watch::Sender::new(None),
            progress: watch::Sender::new(None),
            transient,
            transient_receiver: Mutex::new(Some(transient_receiver)),
            dropped: AtomicU64::new(0),
            seqs: Mutex::default(),
            view: Mutex::default(),
        }
    }

    /// The ends for the connection: state, progress, and what may be lost. The last can be had once.
    #[allow(clippy::type_complexity, reason = "three ends of three channels")]
    pub(super) fn ends(
        &self,
    ) -> Option<(
        watch::Receiver<Option<Vec<u8>>>,
        watch::Receiver<Option<Vec<u8>>>,
        mpsc::Receiver<TransientMessage>,
    )> {
        let transient = held(&self.transient_receiver).take()?;
        Some((self.state.subscribe(), self.progress.subscribe(), transient))
    }

    /// The job is in another phase.
    pub(super) fn phase(&self, phase: JobPhase, reason: Option<String>) {
        tracing::info!(state = phase.name(), reason, "job");
        let mut view = held(&self.view);
        (view.phase, view.reason) = (Some(phase), reason);
        drop(view);
        self.news.notify_one();
    }

    /// What the camera does; `None` without one.
    pub(super) fn camera(&self, camera: Option<(JobPhase, Option<String>)>) {
        held(&self.view).camera = camera;
        self.news.notify_one();
    }

    /// What holds the workers back has changed.
    pub(super) fn hold(&self, workers: usize, workers_max: usize, holds: Vec<String>) {
        let mut view = held(&self.view);
        if workers != view.workers {
            // The pace of other circumstances says nothing of what comes.
            view.rate = Rate::default();
            view.clips_per_min = None;
        }
        if view.holds != holds {
            let reason = (!holds.is_empty()).then(|| holds.join("; "));
            tracing::info!(workers, reason, "workers");
        }
        (view.workers, view.workers_max, view.holds) = (workers, workers_max, holds);
        drop(view);
        self.news.notify_one();
    }

    /// Something else runs the models.
    pub(super) fn backend(&self, name: &str, reason: &str) {
        held(&self.view).backend = (name.to_owned(), reason.to_owned());
        self.news.notify_one();
    }

    /// A run of the job begins.
    pub(super) fn begin(&self, run: &str, total: usize, known: usize) {
        let mut view = held(&self.view);
        view.run = Some(run.to_owned());
        (view.total, view.done) = (total, known);
        view.rate = Rate::default();
        view.clips_per_min = None;
        drop(view);
        self.news.notify_one();
    }

    /// A clip is recorded.
    pub(super) fn clip(&self, clip: ClipName, tally: &StateCounts) {
        let mut view = held(&self.view);
        view.done += 1;
        view.tally.clone_from(tally);
        view.clip = Some(clip);
        view.rate.note(uptime());
        view.clips_per_min = view.rate.per_min(uptime());
    }

    /// The counts are complete.
    pub(super) fn tally(&self, tally: &StateCounts) {
        held(&self.view).tally.clone_from(tally);
        self.news.notify_one();
    }

    /// Names the job, if there is one.
    pub(super) fn run(&self) -> Option<String> {
        held(&self.view).run.clone()
    }

    /// Makes messages of what is new; to be called each second and on [`TelemetryPublisher::news`].
    pub(super) fn tell(&self, and_progress: bool) {
        let mut view = held(&self.view);
        let state = view.state();
        if view.told_state.as_ref() != Some(&state) {
            self.state.send_replace(Some(self.message("state", &state)));
            view.told_state = Some(state);
        }
        if !and_progress {
            return;
        }
        let progress = view.progress();
        if let Some(progress) = progress
            && view.told_progress.as_ref() != Some(&progress)
        {
            self.progress
                .send_replace(Some(self.message("progress", &progress)));
            view.told_progress = Some(progress);
        }
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        let view = held(&self.view);
        let state = view.state();
        let mut line = state.state.name().to_owned();
        if let Some(progress) = view.progress() {
            line = format!("{line} {} of {} clips", progress.done, progress.total);
            if let Some(rate) = progress.clips_per_min {
                line = format!("{line}, {rate} clips/min");
            }
            if let Some(eta_s) = progress.eta_s {
                line = format!("{line}, {} min left", (eta_s / 60.0).ceil());
            }
        }
        if let Some(reason) = state.reason {
            line = format!("{line}: {reason}");
        }
        line
    }

    /// A message that nobody keeps.
    pub(super) fn send(&self, channel: &'static str, payload: Vec<u8>, delivery: Delivery) {
        let message = TransientMessage {
            channel,
            payload,
            delivery,
        };
        if self.transient.try_send(message).is_err() {
            self.count_dropped();
        }
    }

    /// Counts a message that was dropped here.
    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that were dropped here.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// The message `body` of a channel that is not kept in the ledger, with the channel's next number.
    pub(super) fn message(&self, channel: &'static str, body: &impl Serialize) -> Vec<u8> {
        let seq = {
            let mut seqs = held(&self.seqs);
            let seq = seqs.entry(channel).or_default();
            *seq += 1;
            *seq
        };
        let stamp = stamp();
        let envelope = Envelope {
            v: VERSION,
            ts: stamp.ts,
            clock_synced: stamp.clock_synced,
            seq,
            body,
        };
        serde_json::to_vec(&envelope).unwrap_or_else(|error| {
            tracing::error!(channel, %error, "a message cannot be written; please report this");
            Vec::new()
        })
    }

    /// The message for `status`.
    pub(super) fn status(&self, status: StatusName) -> Vec<u8> {
        self.message(
            "status",
            &Status {
                status,
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
        )
    }
}
