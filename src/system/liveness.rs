//! Signs of life of every stage of the work: which stage is busy and has made no progress for longer than it may.
//!
//! Time comes in as a value, from one clock that never goes back. A beat is one atomic store, cheap enough for every
//! frame.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// In [`Life::beat`]: has nothing to do.
const IDLE: u64 = u64::MAX;

/// The stages of the work. Clones are the same list.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    lives: Arc<Mutex<Vec<Weak<Life>>>>,
}

/// One stage: a thread, or a loop in one. Gone from the list when dropped.
#[derive(Debug)]
pub struct Stage {
    life: Arc<Life>,
}

#[derive(Debug)]
struct Life {
    name: String,
    limit_ms: u64,
    /// Milliseconds of the last sign of life, or [`IDLE`].
    beat: AtomicU64,
}

impl Pulse {
    /// No stage yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A new stage, idle, that may be busy for `limit` without a beat.
    #[must_use]
    pub fn stage(&self, name: &str, limit: Duration) -> Stage {
        let life = Arc::new(Life {
            name: name.to_owned(),
            limit_ms: milliseconds(limit),
            beat: AtomicU64::new(IDLE),
        });
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|life| life.strong_count() > 0);
        lives.push(Arc::downgrade(&life));
        Stage { life }
    }

    /// The stage that is the longest over its limit, and when it last gave a sign of life.
    #[must_use]
    pub fn stuck(&self, now: Duration) -> Option<(String, Duration)> {
        let now = milliseconds(now);
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        let lives = lives.iter().filter_map(Weak::upgrade);
        let over = lives.filter_map(|life| {
            let beat = life.beat.load(Ordering::Relaxed);
            // An idle stage's beat is later than any time.
            let silent = now.saturating_sub(beat);
            (silent > life.limit_ms).then(|| (silent - life.limit_ms, beat, life))
        });
        let (_, beat, life) = over.max_by_key(|(over, ..)| *over)?;
        Some((life.name.clone(), Duration::from_millis(beat)))
    }
}

impl Stage {
    /// Work begins.
    pub fn busy(&self, now: Duration) {
        self.life.beat.store(milliseconds(now), Ordering::Relaxed);
    }

    /// Work goes on. Says nothing of an idle stage, so that a late beat does not make it busy.
    pub fn beat(&self, now: Duration) {
        let now = milliseconds(now);
        let later = |beat: u64| (beat != IDLE).then_some(beat.max(now));
        // An idle stage stays as it is.
        self.life
            .beat
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later)
            .ok();
    }

    /// Waits for work, however long.
    pub fn idle(&self) {
        self.life.beat.store(IDLE, Ordering::Relaxed);
    }
}

/// Less than [`IDLE`].
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
        let pulse = Pulse::new();
        assert_eq!(pulse.stuck(s(1_000)), None);
        let stage = pulse.stage("worker 1", s(10));
        assert_eq!(pulse.stuck(s(1_000)), None, "idle from the start");
        stage.beat(s(1_000));
        assert_eq!(pulse.stuck(s(2_000)), None, "a beat makes nothing busy");
        stage.busy(s(2_000));
        assert_eq!(pulse.stuck(s(2_010)), None, "up to its limit");
        let stuck = |since| Some(("worker 1".to_owned(), s(since)));
        assert_eq!(pulse.stuck(s(2_011)), stuck(2_000));
        stage.beat(s(2_011));
        assert_eq!(pulse.stuck(s(2_021)), None);
        stage.beat(s(2_001));
        assert_eq!(
            pulse.stuck(s(2_022)),
            stuck(2_011),
            "an old beat counts for nothing"
        );
        stage.idle();
        assert_eq!(pulse.stuck(s(9_000)), None);
        stage.busy(s(9_000));
        assert_eq!(pulse.stuck(s(1)), None, "a time before it");
        assert_eq!(pulse.stuck(Duration::MAX), stuck(9_000));
        drop(stage);
        assert_eq!(pulse.stuck(Duration::MAX), None, "gone");
    }

    #[test]
    fn the_longest_over_its_limit_is_named() {
        let pulse = Pulse::new();
        let clip = pulse.stage("clip", s(100));
        let mirror = pulse.clone().stage("mirror", s(10));
        clip.busy(s(0));
        mirror.busy(s(50));
        let name = |now| pulse.stuck(s(now)).map(|(name, _)| name);
        assert_eq!(name(60), None);
        assert_eq!(name(61).as_deref(), Some("mirror"));
        assert_eq!(name(200).as_deref(), Some("mirror"));
        mirror.beat(s(200));
        assert_eq!(name(200).as_deref(), Some("clip"));
    }

    #[test]
    fn a_limit_without_end_is_never_passed() {
        let pulse = Pulse::new();
        let stage = pulse.stage("patient", Duration::MAX);
        stage.busy(s(0));
        assert_eq!(pulse.stuck(Duration::MAX), None);
    }

    #[test]
    fn stages_beat_from_their_threads() {
        let pulse = Pulse::new();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let pulse = pulse.clone();
                scope.spawn(move || {
                    let stage = pulse.stage(&format!("worker {worker}"), s(5));
                    stage.busy(s(0));
                    for second in 0..1_000 {
                        stage.beat(s(second));
                        // Wherever the others are, none has been silent for longer than 5 s at 5 s.
                        assert_eq!(pulse.stuck(s(5)), None);
                    }
                });
            }
        });
        assert!(
            pulse
                .lives
                .lock()
                .unwrap()
                .iter()
                .all(|l| l.strong_count() == 0)
        );
        let _next = pulse.stage("next", s(5));
        assert_eq!(
            pulse.lives.lock().unwrap().len(),
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
            let pulse = Pulse::new();
            let name = |n: usize| format!("stage {n}");
            let stages: Vec<Stage> =
                (0..limits.len()).map(|n| pulse.stage(&name(n), s(limits[n]))).collect();
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
                        stages[n].beat(s(now));
                        last[n] = last[n].map(|_| now);
                    }
                    _ => {
                        stages[n].idle();
                        last[n] = None;
                    }
                }
                let over = |n: usize| Some(now - last[n]?).and_then(|t| t.checked_sub(limits[n]));
                let worst = (0..stages.len()).filter_map(over).filter(|o| *o > 0).max();
                match pulse.stuck(s(now)) {
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
