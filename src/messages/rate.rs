//! Clips a minute, over the last minutes.

use std::collections::VecDeque;
use std::time::Duration;

/// Older clips do not count.
const WINDOW: Duration = Duration::from_mins(5);
/// Fewer clips give no rate.
const CLIPS_MIN: usize = 3;
/// A shorter time gives no rate: the first clips of a run may be recorded at the same moment.
const ELAPSED_MIN: Duration = Duration::from_secs(10);
/// Clips that are kept at most.
const CLIPS_MAX: usize = 1000;

/// The times at which the last clips were recorded.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    times: VecDeque<Duration>,
}

impl Rate {
    /// A clip was recorded at `now`, by a monotonic clock.
    pub fn note(&mut self, now: Duration) {
        self.times.push_back(now);
        while self.times.len() > CLIPS_MAX
            || self
                .times
                .front()
                .is_some_and(|first| now.saturating_sub(*first) > WINDOW)
        {
            self.times.pop_front();
        }
    }

    /// Clips a minute; `None` while too few clips or too short a time are known.
    #[must_use]
    pub fn per_min(&self, now: Duration) -> Option<f64> {
        let recent = |t: &&Duration| now.saturating_sub(**t) <= WINDOW;
        let first = self.times.iter().find(recent)?;
        let clips = self.times.iter().filter(recent).count();
        // The first clip starts the measurement.
        let elapsed = now.saturating_sub(*first);
        if clips < CLIPS_MIN || elapsed < ELAPSED_MIN {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
        Some((clips - 1) as f64 / elapsed.as_secs_f64() * 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_that_come_at_once_give_no_rate() {
        let mut rate = Rate::default();
        for n in 0..10 {
            rate.note(Duration::from_millis(n));
        }
        assert_eq!(rate.per_min(Duration::from_millis(9)), None);
        assert_eq!(rate.per_min(Duration::from_millis(9_999)), None);
        assert_eq!(rate.per_min(Duration::from_secs(10)), Some(54.0));
    }

    #[test]
    fn the_pace_is_that_of_the_last_minutes() {
        let second = Duration::from_secs;
        let mut rate = Rate::default();
        assert_eq!(rate.per_min(second(0)), None);
        for n in 0..2 {
            rate.note(second(n));
        }
        assert_eq!(rate.per_min(second(2)), None);
        for n in 2..1000 {
            rate.note(second(n));
        }
        let one_a_second = rate.per_min(second(999)).unwrap();
        assert!((one_a_second - 60.0).abs() < 1e-9, "{one_a_second}");
        // Without a clip it sinks, and is then unknown.
        assert!(rate.per_min(second(1200)).unwrap() < 30.0);
        assert_eq!(rate.per_min(second(1400)), None);
        for n in 0..5000 {
            rate.note(second(2000) + Duration::from_millis(n * 10));
        }
        let fast = rate.per_min(second(2050)).unwrap();
        assert!((fast - 6000.0).abs() < 20.0, "{fast}");
    }
}
