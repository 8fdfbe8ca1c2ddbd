//! Heartbeats of every stage of the work: which stage is busy and has made no progress for longer than its limit.
//!
//! The caller brings the time, from one monotonic clock. A heartbeat is one atomic store, cheap enough for every frame.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// In [`StageState::heartbeat`]: the stage has nothing to do.
const IDLE: u64 = u64::MAX;

/// The stages of the work. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Liveness {
    stages: Arc<Mutex<Vec<Weak<StageState>>>>,
}

/// One stage: a thread, or a loop in one. Dropping it takes it off the list.
#[derive(Debug)]
pub struct Stage {
    state: Arc<StageState>,
}

#[derive(Debug)]
struct StageState {
    name: String,
    limit_ms: u64,
    /// Time of the last heartbeat in milliseconds, or [`IDLE`].
    heartbeat: AtomicU64,
}

impl Liveness {
    /// A new, idle stage that may be busy for `limit` without a heartbeat.
    #[must_use]
    pub fn stage(&self, name: &str, limit: Duration) -> Stage {
        let state = Arc::new(StageState {
            name: name.to_owned(),
            limit_ms: milliseconds(limit),
            heartbeat: AtomicU64::new(IDLE),
        });
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.retain(|state| state.strong_count() > 0);
        stages.push(Arc::downgrade(&state));
        Stage { state }
    }

    /// The stage that is the longest over its limit, and the time of its last heartbeat.
    #[must_use]
    pub fn stuck(&self, now: Duration) -> Option<(String, Duration)> {
        let now = milliseconds(now);
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        let stages = stages.iter().filter_map(Weak::upgrade);
        let over = stages.filter_map(|state| {
            let heartbeat = state.heartbeat.load(Ordering::Relaxed);
            // An idle stage's beat is later than any time.
            let silent = now.saturating_sub(heartbeat);
            (silent > state.limit_ms).then(|| (silent - state.limit_ms, heartbeat, state))
        });
        let (_, heartbeat, state) = over.max_by_key(|(over, ..)| *over)?;
        Some((state.name.clone(), Duration::from_millis(heartbeat)))
    }
}

impl Stage {
    /// Work begins.
    pub fn busy(&self, now: Duration) {
        self.state
            .heartbeat
            .store(milliseconds(now), Ordering::Relaxed);
    }

    /// Work continues. An idle stage stays idle, so that a late heartbeat does not make it busy.
    pub fn heartbeat(&self, now: Duration) {
        let now = milliseconds(now);
        let later = |heartbeat: u64| (heartbeat != IDLE).then_some(heartbeat.max(now));
        // An idle stage stays as it is.
        self.state
            .heartbeat
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later)
            .ok();
    }

    /// The stage waits for work, however long.
    pub fn idle(&self) {
        self.state.heartbeat.store(IDLE, Ordering::Relaxed);
    }
}

/// `time` in milliseconds, less than [`IDLE`].
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).map_or(IDLE - 1, |ms| ms.min(IDLE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_busy_stage_must_beat() {
        let liveness = Liveness::default();
        assert_eq!(liveness.stuck(s(1_000)), None);
        let stage = liveness.stage("worker 1", s(10));
        assert_eq!(liveness.stuck(s(1_000)), None, "idle from the start");
        stage.heartbeat(s(1_000));
        assert_eq!(liveness.stuck(s(2_000)), None, "a beat makes nothing busy");
        stage.busy(s(2_000));
        assert_eq!(liveness.stuck(s(2_010)), None, "up to its limit");
        let stuck = |since| Some(("worker 1".to_owned(), s(since)));
        assert_eq!(liveness.stuck(s(2_011)), stuck(2_000));
        stage.heartbeat(s(2_011));
        assert_eq!(liveness.stuck(s(2_021)), None);
        stage.heartbeat(s(2_001));
        assert_eq!(
            liveness.stuck(s(2_022)),
            stuck(2_011),
            "an old beat counts for nothing"
        );
        stage.idle();
        assert_eq!(liveness.stuck(s(9_000)), None);
        stage.busy(s(9_000));
        assert_eq!(liveness.stuck(s(1)), None, "a time before it");
        assert_eq!(liveness.stuck(Duration::MAX), stuck(9_000));
        drop(stage);
        assert_eq!(liveness.stuck(Duration::MAX), None, "gone");
    }

    #[test]
    fn the_longest_over_its_limit_is_named() {
        let liveness = Liveness::default();
        let clip = liveness.stage("clip", s(100));
        let mirror = liveness.clone().stage("mirror", s(10));
        clip.busy(s(0));
        mirror.busy(s(50));
        let name = |now| liveness.stuck(s(now)).map(|(name, _)| name);
        assert_eq!(name(60), None);
        assert_eq!(name(61).as_deref(), Some("mirror"));
        assert_eq!(name(200).as_deref(), Some("mirror"));
        mirror.heartbeat(s(200));
        assert_eq!(name(200).as_deref(), Some("clip"));
    }

    #[test]
    fn a_limit_without_end_is_never_passed() {
        let liveness = Liveness::default();
        let stage = liveness.stage("patient", Duration::MAX);
        stage.busy(s(0));
        assert_eq!(liveness.stuck(Duration::MAX), None);
    }

    #[test]
    fn stages_beat_from_their_threads() {
        let liveness = Liveness::default();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let liveness = liveness.clone();
                scope.spawn(move || {
                    let stage = liveness.stage(&format!("worker {worker}"), s(5));
                    stage.busy(s(0));
                    for second in 0..1_000 {
                        stage.heartbeat(s(second));
                        // Wherever the others are, none has been silent for longer than 5 s at 5 s.
                        assert_eq!(liveness.stuck(s(5)), None);
                    }
                });
            }
        });
        assert!(
            liveness
                .stages
                .lock()
                .unwrap()
                .iter()
                .all(|l| l.strong_count() == 0)
        );
        let _next = liveness.stage("next", s(5));
        assert_eq!(
            liveness.stages.lock().unwrap().len(),
            1,
            "the list does not grow"
        );
    }

    proptest! {
        /// Against a plain account of the last sign of life of each stage.
        #[test]
        fn stuck_is_what_was_silent_for_too_long(
            limits in proptest::collection::vec(0..20_u64, 1..5),
            acts in proptest::collection::vec((0..5_usize, 0..3_u8, 0..10_u64), 0..40),
        ) {
            let liveness = Liveness::default();
            let name = |n: usize| format!("stage {n}");
            let stages: Vec<Stage> =
                (0..limits.len()).map(|n| liveness.stage(&name(n), s(limits[n]))).collect();
            let mut last: Vec<Option<u64>> = vec![None; stages.len()];
            let mut now = 0;
            for (n, act, seconds) in acts {
                now += seconds;
                let n = n % stages.len();
                match act {
                    0 => {
                        stages[n].busy(s(now));
                        last[n] = Some(now);
                    }
                    1 => {
                        stages[n].heartbeat(s(now));
                        last[n] = last[n].map(|_| now);
                    }
                    _ => {
                        stages[n].idle();
                        last[n] = None;
                    }
                }
                let over = |n: usize| Some(now - last[n]?).and_then(|t| t.checked_sub(limits[n]));
                let worst = (0..stages.len()).filter_map(over).filter(|o| *o > 0).max();
                match liveness.stuck(s(now)) {
                    None => prop_assert_eq!(worst, None),
                    Some((found, since)) => {
                        let n = (0..stages.len()).find(|n| name(*n) == found).unwrap();
                        prop_assert_eq!(over(n), worst);
                        prop_assert_eq!(Some(since), last[n].map(s));
                    }
                }
            }
        }
    }
}
