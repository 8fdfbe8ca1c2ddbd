//! How many workers may work now: the configured number, less what limits them. Every change is applied and published
//! on `state`.

use crate::daemon::telemetry::TelemetryPublisher;
use crate::job::worker_pool::WorkerControl;
use crate::limits::Decision;
use crate::system::clock::uptime;
use crate::system::{Stage, lock_ignoring_poison};
use std::sync::{Arc, Mutex};

/// Shared by the threads that limit the workers and the one that runs the job.
pub(super) struct JobGate {
    state: Mutex<GateState>,
    control: Arc<WorkerControl>,
    /// Busy while a run is expected to record clips.
    recording: Stage,
    telemetry: Arc<TelemetryPublisher>,
}

/// What limits the workers.
#[derive(Default)]
struct GateState {
    workers_max: usize,
    /// Paused by a command.
    is_paused: bool,
    /// Why nothing can be written.
    no_room: Option<String>,
    /// Why the job runs on another backend than the configured one.
    fallback: Option<String>,
    /// The newest decision of the resource limits.
    decision: Option<Decision>,
    /// Whether a run of the job is under way.
    is_running: bool,
    /// Whether `recording` is busy.
    is_recording: bool,
}

impl GateState {
    fn workers(&self) -> usize {
        if self.is_paused || self.no_room.is_some() {
            0
        } else {
            let decided = self.decision.as_ref().map_or(usize::MAX, |d| d.workers);
            decided.min(self.workers_max)
        }
    }

    fn reasons(&self) -> Vec<String> {
        let paused = self
            .is_paused
            .then(|| "paused by command; send resume to continue".to_owned());
        let throttles = self.decision.iter().flat_map(|d| &d.throttles);
        paused
            .into_iter()
            .chain(self.no_room.clone())
            .chain(self.fallback.clone())
            .chain(throttles.map(ToString::to_string))
            .collect()
    }
}

impl JobGate {
    /// A gate for at most `workers_max` workers, none while `is_paused`. A recorded clip is a heartbeat of
    /// `recording`.
    pub(super) fn new(
        control: Arc<WorkerControl>,
        telemetry: Arc<TelemetryPublisher>,
        recording: Stage,
        workers_max: usize,
        is_paused: bool,
    ) -> Self {
        let gate = Self {
            state: Mutex::new(GateState {
                workers_max,
                is_paused,
                ..GateState::default()
            }),
            control,
            recording,
            telemetry,
        };
        gate.change(|_| {});
        gate
    }

    pub(super) fn set_paused(&self, is_paused: bool) {
        self.change(|state| state.is_paused = is_paused);
    }

    pub(super) fn set_workers_max(&self, workers_max: usize) {
        self.change(|state| state.workers_max = workers_max);
    }

    /// Notes that a run of the job begins or ends.
    pub(super) fn set_running(&self, is_running: bool) {
        self.change(|state| state.is_running = is_running);
    }

    pub(super) fn set_decision(&self, decision: Decision) {
        self.change(|state| state.decision = Some(decision));
    }

    /// Closes the gate because a write found no room. Returns `true` when that is new.
    pub(super) fn close_for_room(&self, reason: String) -> bool {
        self.change(|state| {
            let is_new = state.no_room.is_none();
            state.no_room.get_or_insert(reason);
            is_new
        })
    }

    /// Notes that there is room again, or that nothing is to be written for now.
    pub(super) fn open_for_room(&self) {
        self.change(|state| state.no_room = None);
    }

    /// Sets why the job runs on another backend than the configured one; `None` when it runs on that one. Returns
    /// whether the reason is new.
    pub(super) fn set_fallback(&self, reason: Option<String>) -> bool {
        self.change(|state| {
            let is_new = reason.is_some() && state.fallback != reason;
            state.fallback = reason;
            is_new
        })
    }

    /// A clip was recorded.
    pub(super) fn note_recorded(&self) {
        self.recording.heartbeat(uptime());
    }

    fn change<T>(&self, change: impl FnOnce(&mut GateState) -> T) -> T {
        let mut state = lock_ignoring_poison(&self.state);
        let value = change(&mut state);
        let workers = state.workers();
        self.control.set_workers(workers);
        let is_recording = state.is_running && workers > 0;
        if is_recording != state.is_recording {
            state.is_recording = is_recording;
            if is_recording {
                self.recording.busy(uptime());
            } else {
                self.recording.idle();
            }
        }
        self.telemetry
            .set_workers(workers, state.workers_max, state.reasons());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Resource, Throttle};
    use crate::system::Liveness;
    use std::time::Duration;

    fn gate() -> (JobGate, Arc<WorkerControl>, Liveness) {
        let (control, liveness) = (Arc::new(WorkerControl::new(0)), Liveness::default());
        let stage = liveness.stage("recording", Duration::ZERO);
        let (telemetry, _) = TelemetryPublisher::new(Arc::default());
        let gate = JobGate::new(Arc::clone(&control), telemetry, stage, 4, false);
        (gate, control, liveness)
    }

    #[test]
    fn the_strictest_cause_decides() {
        let (gate, control, _) = gate();
        assert_eq!(control.workers(), 4);
        let throttle = Throttle {
            resource: Resource::Disk,
            value: 1.0,
            limit: 2.0,
            resume: 3.0,
            workers: 0,
        };
        gate.set_decision(Decision {
            workers: 2,
            throttles: vec![throttle],
            ..Decision::default()
        });
        assert_eq!(control.workers(), 2);
        gate.set_workers_max(1);
        assert_eq!(control.workers(), 1);
        gate.set_workers_max(3);
        gate.set_paused(true);
        assert_eq!(control.workers(), 0);
        assert!(gate.close_for_room("full".to_owned()));
        assert!(!gate.close_for_room("full again".to_owned()));
        gate.set_paused(false);
        assert_eq!(control.workers(), 0, "there is no room");
        gate.open_for_room();
        assert_eq!(control.workers(), 2);
    }

    #[test]
    fn a_fallback_is_new_once() {
        let (gate, ..) = gate();
        assert!(!gate.set_fallback(None));
        assert!(gate.set_fallback(Some("a".to_owned())));
        assert!(!gate.set_fallback(Some("a".to_owned())));
        assert!(gate.set_fallback(Some("b".to_owned())));
    }

    #[test]
    fn recording_is_expected_only_of_a_run_with_workers() {
        let (gate, _, liveness) = gate();
        let is_busy = || liveness.stuck(Duration::MAX).is_some();
        assert!(!is_busy());
        gate.set_running(true);
        assert!(is_busy());
        gate.set_paused(true);
        assert!(!is_busy());
        gate.set_paused(false);
        assert!(is_busy());
        gate.set_running(false);
        assert!(!is_busy());
    }
}
