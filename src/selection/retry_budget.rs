//! How often a backend that fails is given another chance. Pure: it counts runs, not time.

use std::time::Duration;

/// Chances in a row.
const CHANCES: usize = 3;
/// So many good runs earn a chance back: an hour or so of work. A device that fails more often than that is no help.
const RUNS_PER_CHANCE: usize = 100_000;
/// The pause before the device is opened again; longer each time, for a bus that has to find it anew.
const PAUSES: [Duration; CHANCES] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

/// Says when a device has failed too often.
#[derive(Clone, Debug, Default)]
pub struct RetryBudget {
    used: usize,
    good: usize,
}

impl RetryBudget {
    /// A run went well.
    pub fn good(&mut self) {
        self.good += 1;
        if self.good >= RUNS_PER_CHANCE {
            self.good = 0;
            self.used = self.used.saturating_sub(1);
        }
    }

    /// A run, or opening the device, failed. Gives the pause before another try, `None` when there is to be none.
    pub fn bad(&mut self) -> Option<Duration> {
        self.good = 0;
        let pause = PAUSES.get(self.used).copied();
        self.used = (self.used + 1).min(CHANCES);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_are_borne_and_no_fourth() {
        let mut patience = RetryBudget::default();
        assert!(patience.bad().is_some());
        assert!(patience.bad() > Some(PAUSES[0]));
        patience.good();
        assert!(patience.bad().is_some());
        assert_eq!(patience.bad(), None);
        assert_eq!(patience.bad(), None);
    }

    #[test]
    fn good_work_earns_chances_back() {
        let mut patience = RetryBudget::default();
        while patience.bad().is_some() {}
        (1..RUNS_PER_CHANCE).for_each(|_| patience.good());
        assert_eq!(patience.clone().bad(), None);
        patience.good();
        assert!(patience.bad().is_some());
        assert_eq!(patience.bad(), None);
        // One that fails again and again never gets out of its debt.
        for _ in 0..1000 {
            (0..RUNS_PER_CHANCE / 2).for_each(|_| patience.good());
            assert_eq!(patience.bad(), None);
        }
    }
}
