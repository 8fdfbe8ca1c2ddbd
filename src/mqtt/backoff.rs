//! When to try again: exponential, jittered so that a fleet does not come back in step after its broker's restart.
//!
//! Arithmetic alone; the caller brings time and randomness.

use std::time::Duration;

/// A connection that lasted so long was one; a shorter one counts as a failure.
pub const STABLE_AFTER: Duration = Duration::from_secs(5);

/// Jitter stretches a delay by up to this much.
const JITTER: f64 = 0.5;
/// Shortest delay that can be set: a mistaken zero is not to become a spin.
const FLOOR: Duration = Duration::from_millis(10);
/// Longest one.
const CEILING: Duration = Duration::from_hours(24);

/// Delays between attempts to connect.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// The first delay is 1 to 1.5 times `min`, none is longer than `max` (or that, if `max` is smaller).
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min: min.clamp(FLOOR, CEILING),
            max: max.min(CEILING),
            failures: 0,
        }
    }

    /// How long to wait after an attempt failed or a connection ended. `random`: uniform in [0, 1).
    pub fn delay(&mut self, random: f64) -> Duration {
        // Below the maximum by the jitter, which is so kept there, too.
        let ceiling = self.max.div_f64(1.0 + JITTER).max(self.min);
        let base = self.min.saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        base.min(ceiling)
            .mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0))
    }

    /// To be told how long a connection lasted, before its [`Self::delay`].
    pub fn lasted(&mut self, connected_for: Duration) {
        if connected_for >= STABLE_AFTER {
            self.failures = 0;
        }
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
        let mut backoff = Backoff::new(MIN, MAX);
        let min_interval: Vec<f64> = (0..8).map(|_| backoff.delay(0.0).as_secs_f64()).collect();
        assert_eq!(min_interval, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 40.0]);
        assert_eq!(backoff.delay(1.0), MAX);
        backoff.lasted(STABLE_AFTER.mul_f64(0.999));
        assert_eq!(backoff.delay(0.0), Duration::from_secs(40));
        backoff.lasted(STABLE_AFTER);
        assert_eq!(backoff.delay(0.0), MIN);
    }

    #[test]
    fn odd_settings_give_no_spin() {
        assert_eq!(Backoff::new(Duration::ZERO, MAX).delay(0.0), FLOOR);
        assert_eq!(Backoff::new(MIN, Duration::ZERO).delay(0.0), MIN);
        let mut long = Backoff::new(Duration::MAX, Duration::MAX);
        assert!(long.delay(0.0) > MAX);
    }

    proptest! {
        #[test]
        fn attempts_average_at_most_one_a_second(
            cycles in prop::collection::vec(
                (prop_oneof![Just(0.0), 0.0..4.99, 5.0..6.0_f64], 0.0..1.0_f64),
                1..200,
            ),
        ) {
            let mut backoff = Backoff::new(MIN, MAX);
            let mut passed = Duration::ZERO;
            for (attempts, (connected_for, random)) in cycles.into_iter().enumerate() {
                // One attempt is made at the very beginning.
                prop_assert!(attempts as f64 <= passed.as_secs_f64());
                let connected_for = Duration::from_secs_f64(connected_for);
                backoff.lasted(connected_for);
                let delay = backoff.delay(random);
                prop_assert!(MIN <= delay && delay <= MAX, "{delay:?}");
                passed += connected_for + delay;
            }
        }

        #[test]
        fn the_first_delay_is_one_to_one_and_a_half(random in 0.0..1.0_f64) {
            let delay = Backoff::new(MIN, MAX).delay(random);
            prop_assert!(delay >= MIN && delay < MIN.mul_f64(1.5), "{delay:?}");
        }
    }
}
