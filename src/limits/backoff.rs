//! Exponential backoff: how long to wait before the next attempt. Pure: the caller brings time and randomness.

use std::time::Duration;

/// Shortest delay, so that a mistaken zero does not become a busy loop.
const FLOOR: Duration = Duration::from_millis(10);
/// Longest delay.
const CEILING: Duration = Duration::from_hours(24);

/// Delays between attempts: each is twice the one before, up to a maximum.
///
/// With jitter a delay is stretched by a random part, so that many clients of one server do not come back in step
/// after its restart.
///
/// ```
/// use handloom::limits::backoff::Backoff;
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let mut backoff = Backoff::new(second, 5 * second);
/// let delays: Vec<u64> = (0..4).map(|_| backoff.next_delay(0.0).as_secs()).collect();
/// assert_eq!(delays, [1, 2, 4, 5]);
/// backoff.reset();
/// assert_eq!(backoff.next_delay(0.0), second);
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    /// Longest stretch of a delay, as a part of it.
    jitter: f64,
    failures: u32,
}

impl Backoff {
    /// Delays from `min` to `max`, without jitter. `min` is kept within 10 ms and a day, and `max` is at least `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min: min.clamp(FLOOR, CEILING),
            max: max.min(CEILING),
            jitter: 0.0,
            failures: 0,
        }
    }

    /// The same with delays of `d` to `(1 + jitter) * d`. None is longer than the maximum, unless the minimum is.
    #[must_use]
    pub fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter.max(0.0);
        self
    }

    /// The delay after an attempt that failed. `random` is uniform in [0, 1) and only matters with jitter.
    pub fn next_delay(&mut self, random: f64) -> Duration {
        // Below the maximum by the jitter, which so applies to the longest delays as well.
        let ceiling = self.max.div_f64(1.0 + self.jitter).max(self.min);
        let base = self.min.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        base.min(ceiling)
            .mul_f64(1.0 + self.jitter * random.clamp(0.0, 1.0))
    }

    /// An attempt has succeeded: the next delay is the shortest again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_mins(1);

    #[test]
    fn delays_double_up_to_the_maximum() {
        let mut backoff = Backoff::new(MIN, MAX).with_jitter(0.5);
        let shortest: Vec<f64> = (0..8)
            .map(|_| backoff.next_delay(0.0).as_secs_f64())
            .collect();
        assert_eq!(shortest, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 40.0]);
        assert_eq!(backoff.next_delay(1.0), MAX);
        backoff.reset();
        assert_eq!(backoff.next_delay(0.0), MIN);
    }

    #[test]
    fn odd_settings_give_no_busy_loop() {
        assert_eq!(Backoff::new(Duration::ZERO, MAX).next_delay(0.0), FLOOR);
        assert_eq!(Backoff::new(MIN, Duration::ZERO).next_delay(0.0), MIN);
        let mut long = Backoff::new(Duration::MAX, Duration::MAX).with_jitter(0.5);
        assert!(long.next_delay(0.0) > MAX);
    }

    proptest! {
        #[test]
        fn a_delay_lies_within_its_bounds(
            steps in prop::collection::vec((any::<bool>(), 0.0..1.0_f64), 1..200),
        ) {
            let mut backoff = Backoff::new(MIN, MAX).with_jitter(0.5);
            for (has_succeeded, random) in steps {
                if has_succeeded {
                    backoff.reset();
                }
                let is_first = backoff.failures == 0;
                let delay = backoff.next_delay(random);
                prop_assert!(MIN <= delay && delay <= MAX, "{delay:?}");
                prop_assert!(!is_first || delay < MIN.mul_f64(1.5), "{delay:?}");
            }
        }
    }
}
