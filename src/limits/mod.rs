//! Resource limits: how many workers may work. Fewer when the device is hot or short of memory, none before the disk is
//! full.
//!
//! Each cause has two thresholds (hysteresis). Beyond the first the number of workers goes down, beyond the second it
//! comes back step by step, and between them nothing changes, so that a noisy reading does not switch back and forth.
//! The causes are independent; the one that allows the fewest workers decides. Pure: the caller brings time and samples.

pub mod backoff;

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// While a value stays beyond its threshold, one worker fewer in each interval.
const DOWN_EVERY: Duration = Duration::from_secs(30);
/// While a value is back within its limit, one worker more in each interval.
const UP_EVERY: Duration = Duration::from_mins(1);
/// Above the maximum temperature by this much (°C), all work pauses until the device has cooled.
const PAUSE_ABOVE_C: f64 = 10.0;

/// The thresholds. A pair in the wrong order counts as equal.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceLimits {
    /// Workers when nothing limits them.
    pub workers_max: usize,
    /// Above this temperature (°C) the workers become fewer.
    pub temperature_max_c: f64,
    /// Below this temperature (°C) they come back.
    pub temperature_resume_c: f64,
    /// Below this memory (MiB) the workers become fewer, at half of it none is left. 0 disables the limit.
    pub memory_min_mib: u64,
    /// From this memory (MiB) on they come back.
    pub memory_resume_mib: u64,
    /// Below this free space (MiB) nothing is written. 0 disables the limit.
    pub disk_reserve_mib: u64,
    /// From this free space (MiB) on the work continues.
    pub disk_resume_mib: u64,
}

/// One sample of the sensors. An unknown value changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The hottest sensor, °C.
    pub temperature_c: Option<f64>,
    /// Available memory, MiB.
    pub memory_available_mib: Option<u64>,
    /// Free on the file system of the output folder, MiB.
    pub disk_free_mib: Option<u64>,
}

/// Why fewer workers may work than could. Its [`Display`] gives the reason and what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub enum Throttle {
    /// Too hot.
    Heat {
        /// The newest value, °C.
        temperature_c: f64,
        /// The threshold, °C.
        max_c: f64,
        /// Where workers come back, °C.
        resume_c: f64,
        /// Workers that the heat allows.
        workers: usize,
    },
    /// Too little memory.
    Memory {
        /// The newest value, MiB.
        available_mib: u64,
        /// The threshold, MiB.
        min_mib: u64,
        /// Where work comes back, MiB.
        resume_mib: u64,
        /// Workers that the memory allows.
        workers: usize,
    },
    /// Too little room on the disk.
    Disk {
        /// The newest value, MiB.
        free_mib: u64,
        /// The threshold, MiB.
        reserve_mib: u64,
        /// Where work comes back, MiB.
        resume_mib: u64,
    },
}

impl Throttle {
    /// The component in a fault.
    #[must_use]
    pub fn component(&self) -> &'static str {
        match self {
            Self::Heat { .. } => "heat",
            Self::Memory { .. } => "memory",
            Self::Disk { .. } => "disk",
        }
    }
}

impl Display for Throttle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.component())?;
        match self {
            Self::Heat {
                temperature_c,
                max_c,
                resume_c,
                workers,
            } => write!(
                f,
                "{temperature_c:.1} °C, {max_c:.1} are allowed, so {}; cool the device, workers come back below \
                 {resume_c:.1} °C",
                allowed(*workers)
            ),
            Self::Memory {
                available_mib,
                min_mib,
                resume_mib,
                workers,
            } => write!(
                f,
                "{available_mib} MiB available, {min_mib} are needed, so {}; stop other programs or set fewer workers, \
                 workers come back above {resume_mib} MiB",
                allowed(*workers)
            ),
            Self::Disk {
                free_mib,
                reserve_mib,
                resume_mib,
            } => write!(
                f,
                "{free_mib} MiB free, {reserve_mib} are kept in reserve; free some space, work continues above {resume_mib} MiB"
            ),
        }
    }
}

fn allowed(workers: usize) -> String {
    match workers {
        0 => "work is paused".to_owned(),
        1 => "1 worker is left".to_owned(),
        n => format!("{n} workers are left"),
    }
}

/// Throttles that began or ended with a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThrottleChange {
    /// Began with this step.
    pub began: Vec<Throttle>,
    /// Ended with this step, with the values that ended them.
    pub ended: Vec<Throttle>,
}

/// The result of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Workers that may work; 0 is a pause.
    pub workers: usize,
    /// All throttles in force.
    pub throttles: Vec<Throttle>,
    /// What this step changed.
    pub change: ThrottleChange,
}

/// Turns samples into a number of workers.
#[derive(Clone, Debug)]
pub struct ResourceLimiter {
    limits: ResourceLimits,
    /// The newest known value of each sensor.
    known: Sample,
    heat: StepHysteresis,
    memory: StepHysteresis,
    is_disk_short: bool,
    throttles: Vec<Throttle>,
}

impl ResourceLimiter {
    /// With nothing throttled.
    #[must_use]
    pub fn new(limits: ResourceLimits) -> Self {
        Self {
            limits,
            known: Sample::default(),
            heat: StepHysteresis::default(),
            memory: StepHysteresis::default(),
            is_disk_short: false,
            throttles: Vec::new(),
        }
    }

    /// Sets other limits for the next step. What is throttled stays so until its second threshold is reached.
    pub fn set_limits(&mut self, limits: ResourceLimits) {
        self.limits = limits;
    }

    /// Processes `reading`, taken at `now` by a monotonic clock.
    pub fn step(&mut self, now: Duration, reading: &Sample) -> Decision {
        let limits = &self.limits;
        let max = limits.workers_max;
        // NaN and infinity are no values.
        if let Some(t) = reading.temperature_c.filter(|t| t.is_finite()) {
            self.known.temperature_c = Some(t);
            self.heat.step(now, heat_zone(t, limits), max);
        }
        if let Some(mib) = reading.memory_available_mib {
            self.known.memory_available_mib = Some(mib);
            self.memory.step(now, memory_zone(mib, limits), max);
        }
        if let Some(mib) = reading.disk_free_mib {
            self.known.disk_free_mib = Some(mib);
            if mib < limits.disk_reserve_mib {
                self.is_disk_short = true;
            } else if mib >= limits.disk_resume_mib {
                self.is_disk_short = false;
            }
        }
        // A disabled limit throttles nothing, whatever it did before.
        if limits.memory_min_mib == 0 {
            self.memory.cap = None;
        }
        self.is_disk_short &= limits.disk_reserve_mib > 0;
        self.heat.fit(max);
        self.memory.fit(max);
        self.decide()
    }

    fn decide(&mut self) -> Decision {
        let seen = self.seen();
        let is_held = |hold: &Throttle| match hold {
            Throttle::Heat { .. } => self.heat.cap.is_some(),
            Throttle::Memory { .. } => self.memory.cap.is_some(),
            Throttle::Disk { .. } => self.is_disk_short,
        };
        let (throttles, free): (Vec<Throttle>, Vec<Throttle>) = seen.into_iter().partition(is_held);
        let is_in = |list: &[Throttle], hold: &Throttle| {
            let component = hold.component();
            list.iter().any(|h| h.component() == component)
        };
        let began = throttles
            .iter()
            .filter(|h| !is_in(&self.throttles, h))
            .cloned();
        let change = ThrottleChange {
            began: began.collect(),
            ended: free
                .into_iter()
                .filter(|h| is_in(&self.throttles, h))
                .collect(),
        };
        self.throttles.clone_from(&throttles);
        let disk_cap = self.is_disk_short.then_some(0);
        let caps = [self.heat.cap, self.memory.cap, disk_cap];
        let workers = caps.into_iter().flatten().min();
        Decision {
            workers: workers.map_or(self.limits.workers_max, |w| w.min(self.limits.workers_max)),
            throttles,
            change,
        }
    }

    /// Each cause with a known value as the throttle that it would be.
    fn seen(&self) -> Vec<Throttle> {
        let limits = &self.limits;
        let max = limits.workers_max;
        let heat = self
            .known
            .temperature_c
            .map(|temperature_c| Throttle::Heat {
                temperature_c,
                max_c: limits.temperature_max_c,
                resume_c: limits.temperature_resume_c,
                workers: self.heat.cap.unwrap_or(max),
            });
        let memory = self.known.memory_available_mib;
        let memory = memory.map(|available_mib| Throttle::Memory {
            available_mib,
            min_mib: limits.memory_min_mib,
            resume_mib: limits.memory_resume_mib,
            workers: self.memory.cap.unwrap_or(max),
        });
        let disk = self.known.disk_free_mib.map(|free_mib| Throttle::Disk {
            free_mib,
            reserve_mib: limits.disk_reserve_mib,
            resume_mib: limits.disk_resume_mib,
        });
        [heat, memory, disk].into_iter().flatten().collect()
    }
}

/// Where a value lies between its thresholds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Zone {
    /// Nothing may work.
    Worst,
    Bad,
    #[default]
    Between,
    Good,
}

fn heat_zone(t: f64, limits: &ResourceLimits) -> Zone {
    if t >= limits.temperature_max_c + PAUSE_ABOVE_C {
        Zone::Worst
    } else if t > limits.temperature_max_c {
        Zone::Bad
    } else if t < limits.temperature_resume_c {
        Zone::Good
    } else {
        Zone::Between
    }
}

fn memory_zone(mib: u64, limits: &ResourceLimits) -> Zone {
    if mib < limits.memory_min_mib {
        if mib <= limits.memory_min_mib / 2 {
            Zone::Worst
        } else {
            Zone::Bad
        }
    } else if mib >= limits.memory_resume_mib {
        Zone::Good
    } else {
        Zone::Between
    }
}

/// A cap on the workers that moves down and up by one.
#[derive(Clone, Debug, Default)]
struct StepHysteresis {
    /// `None`: no cap.
    cap: Option<usize>,
    zone: Zone,
    /// When the value entered this zone, or the last step up in it.
    since: Duration,
    /// The last step down.
    down_at: Option<Duration>,
}

impl StepHysteresis {
    fn step(&mut self, now: Duration, zone: Zone, max: usize) {
        if zone != self.zone {
            self.zone = zone;
            self.since = now;
        }
        let now_cap = self.cap.unwrap_or(max).min(max);
        match zone {
            Zone::Worst => self.down(now, 0),
            Zone::Bad => {
                let rested = self.down_at.map(|at| now.saturating_sub(at));
                if rested.is_none_or(|r| r >= DOWN_EVERY) && now_cap > 1 {
                    self.down(now, now_cap - 1);
                }
            }
            Zone::Between => {}
            Zone::Good => {
                if self.cap.is_some() && now.saturating_sub(self.since) >= UP_EVERY {
                    self.cap = Some(now_cap + 1);
                    self.since = now;
                }
            }
        }
    }

    fn down(&mut self, now: Duration, cap: usize) {
        self.cap = Some(cap);
        self.down_at = Some(now);
    }

    /// Drops a cap that does not limit `max`.
    fn fit(&mut self, max: usize) {
        self.cap = self.cap.filter(|cap| *cap < max);
    }
}

#[cfg(test)]
mod tests;
