//! What is known of job, camera and workers, and what `state` and `progress` make of it.

use crate::dataset::acceptance::StateCounts;
use crate::messages::payloads::{ClipName, JobPhase, Progress, StateReport};
use crate::messages::rate::Rate;
use std::time::Duration;

/// What the camera does, and why; `None` without a camera.
pub(super) type CameraPhase = Option<(JobPhase, Option<String>)>;

/// Filled by whoever knows something new.
#[derive(Default)]
pub(super) struct TelemetryState {
    pub(super) phase: Option<JobPhase>,
    pub(super) reason: Option<String>,
    pub(super) run: Option<String>,
    /// Name of the backend, and why it was chosen; empty until that is known.
    pub(super) backend: (String, String),
    workers: usize,
    workers_max: usize,
    /// Why fewer workers work than could.
    throttles: Vec<String>,
    pub(super) camera: CameraPhase,
    total: usize,
    done: usize,
    pub(super) counts: StateCounts,
    clip: Option<ClipName>,
    rate: Rate,
    clips_per_min: Option<f64>,
}

impl TelemetryState {
    /// A run begins with `total` planned clips, `done` of them recorded before.
    pub(super) fn begin(&mut self, run: &str, total: usize, done: usize) {
        self.run = Some(run.to_owned());
        (self.total, self.done) = (total, done);
        self.forget_rate();
    }

    /// A clip was recorded at `now`.
    pub(super) fn add_clip(&mut self, now: Duration, clip: ClipName, counts: &StateCounts) {
        self.done += 1;
        self.counts.clone_from(counts);
        self.clip = Some(clip);
        self.rate.note(now);
        self.clips_per_min = self.rate.per_min(now);
    }

    /// Another number of workers may work; returns whether the reasons are others than before.
    pub(super) fn set_workers(
        &mut self,
        workers: usize,
        workers_max: usize,
        throttles: Vec<String>,
    ) -> bool {
        if workers != self.workers {
            // The rate of other workers predicts nothing.
            self.forget_rate();
        }
        let is_new = self.throttles != throttles;
        (self.workers, self.workers_max, self.throttles) = (workers, workers_max, throttles);
        is_new
    }

    fn forget_rate(&mut self) {
        self.rate = Rate::default();
        self.clips_per_min = None;
    }

    /// All throttles in one text.
    pub(super) fn throttle_reason(&self) -> Option<String> {
        (!self.throttles.is_empty()).then(|| self.throttles.join("; "))
    }

    /// The content of `state`.
    pub(super) fn state(&self) -> StateReport {
        let base = self.phase.unwrap_or(JobPhase::Idle);
        // Throttles change the state only where the workers would work.
        let (state, reason) = match base {
            JobPhase::Scanning | JobPhase::Processing if self.workers == 0 => {
                (JobPhase::Paused, self.throttle_reason())
            }
            JobPhase::Processing if !self.throttles.is_empty() => {
                (JobPhase::Degraded, self.throttle_reason())
            }
            // The next job would not begin: that is published before it comes.
            JobPhase::Idle if self.workers == 0 => {
                (base, join(self.reason.clone(), self.throttle_reason()))
            }
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

    /// A degraded camera always changes the state, a capturing one only where the job is idle.
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

    /// The content of `progress`; `None` before the first run.
    pub(super) fn progress(&self) -> Option<Progress> {
        let run = self.run.clone()?;
        // As of the last clip; a finished job has no rate.
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
        })
    }

    /// Both in one line, for the service manager.
    pub(super) fn summary(&self) -> String {
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

fn join(one: Option<String>, other: Option<String>) -> Option<String> {
    let both: Vec<String> = one.into_iter().chain(other).collect();
    (!both.is_empty()).then(|| both.join("; "))
}
