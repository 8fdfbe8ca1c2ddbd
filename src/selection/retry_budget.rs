//! How often a failing device is opened again. Counts runs, not time.

use std::time::Duration;

/// Failures in a row after which the device may be opened again.
const RETRIES: usize = 3;
/// Successful runs that restore one retry: about an hour of work. A device that fails more often is of no use.
const RUNS_PER_RETRY: usize = 100_000;
/// Delay before each retry. It grows, so that a bus has time to find the device again.
const RETRY_DELAYS: [Duration; RETRIES] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// Decides when a device has failed too often.
#[derive(Clone, Debug, Default)]
pub struct RetryBudget {
    used: usize,
    runs: usize,
}

impl RetryBudget {
    /// Records a successful run.
    pub fn record_success(&mut self) {
        self.runs += 1;
        if self.runs >= RUNS_PER_RETRY {
            self.runs = 0;
            self.used = self.used.saturating_sub(1);
        }
    }

    /// Records a failed run or a failure to open. Returns the delay before the next retry, `None` when none is left.
    pub fn record_failure(&mut self) -> Option<Duration> {
        self.runs = 0;
        let delay = RETRY_DELAYS.get(self.used).copied();
        self.used = (self.used + 1).min(RETRIES);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_are_retried_and_no_fourth() {
        let mut budget = RetryBudget::default();
        assert!(budget.record_failure().is_some());
        assert!(budget.record_failure() > Some(RETRY_DELAYS[0]));
        budget.record_success();
        assert!(budget.record_failure().is_some());
        assert_eq!(budget.record_failure(), None);
        assert_eq!(budget.record_failure(), None);
    }

    #[test]
    fn successful_runs_restore_retries() {
        let mut budget = RetryBudget::default();
        while budget.record_failure().is_some() {}
        (1..RUNS_PER_RETRY).for_each(|_| budget.record_success());
        assert_eq!(budget.clone().record_failure(), None);
        budget.record_success();
        assert!(budget.record_failure().is_some());
        assert_eq!(budget.record_failure(), None);
        // A device that keeps failing never regains a retry.
        for _ in 0..1000 {
            (0..RUNS_PER_RETRY / 2).for_each(|_| budget.record_success());
            assert_eq!(budget.record_failure(), None);
        }
    }
}
