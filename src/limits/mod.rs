//! How many workers the machine bears now: fewer when it is hot or short of memory, none before a disk is full.
//!
//! Each cause has two marks. Beyond the bad one the governor acts, beyond the good one it takes that back step by step,
//! and between them it leaves everything as it is, so that a reading that trembles about a mark changes nothing. The
//! causes do not know each other; the one that allows the fewest workers decides. Time comes in as a value. Pure.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// While a reading stays bad, one worker fewer each so often.
const DOWN_EVERY: Duration = Duration::from_secs(30);
/// While a reading stays good, one worker more each so often.
const UP_EVERY: Duration = Duration::from_mins(1);
/// Above the highest temperature by this much, nothing works until it has cooled.
const PAUSE_ABOVE_C: f64 = 10.0;

/// What the machine shall keep to. Marks in the wrong order count as equal.
#[derive(Clone, Debug, PartialEq)]
pub struct GovernorLimits {
    /// Clips at a time when nothing holds them back.
    pub workers_max: usize,
    /// Above this there are fewer and fewer workers, °C.
    pub temperature_max_c: f64,
    /// Below this they come back, °C.
    pub temperature_resume_c: f64,
    /// Below this there are fewer and fewer workers, at half of it none. 0 switches it off.
    pub memory_min_mib: u64,
    /// From this on they come back.
    pub memory_resume_mib: u64,
    /// Below this nothing is written. 0 switches it off.
    pub disk_reserve_mib: u64,
    /// From this on work goes on.
    pub disk_resume_mib: u64,
}

/// What the sensors say. What is unknown changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The hottest sensor, °C.
    pub temperature_c: Option<f64>,
    /// Memory that could be had, MiB.
    pub memory_available_mib: Option<u64>,
    /// Free on the file system of the output folder, MiB.
    pub disk_free_mib: Option<u64>,
}

/// Why there are fewer workers than there could be. Its [`Display`] says so in words, with the way out.
#[derive(Clone, Debug, PartialEq)]
pub enum Throttle {
    /// Too hot.
    Heat {
        /// The newest reading, °C.
        temperature_c: f64,
        /// The bad mark, °C.
        max_c: f64,
        /// The good mark, °C.
        resume_c: f64,
        /// As many as the heat allows.
        workers: usize,
    },
    /// Too little memory.
    Memory {
        /// The newest reading, MiB.
        available_mib: u64,
        /// The bad mark, MiB.
        min_mib: u64,
        /// The good mark, MiB.
        resume_mib: u64,
        /// As many as the memory allows.
        workers: usize,
    },
    /// Too little room on the disk.
    Disk {
        /// The newest reading, MiB.
        free_mib: u64,
        /// The bad mark, MiB.
        reserve_mib: u64,
        /// The good mark, MiB.
        resume_mib: u64,
    },
}

impl Throttle {
    /// As a fault names it.
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
                "{available_mib} MiB available, {min_mib} are needed, so {}; end other programs or set fewer workers, \
                 workers come back above {resume_mib} MiB",
                allowed(*workers)
            ),
            Self::Disk {
                free_mib,
                reserve_mib,
                resume_mib,
            } => write!(
                f,
                "{free_mib} MiB free, {reserve_mib} are kept in reserve; make room, work goes on above {resume_mib} MiB"
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

/// Holds that came and went with a step, each told once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThrottleChange {
    /// Since this step.
    pub began: Vec<Throttle>,
    /// Until this step, with the readings that ended them.
    pub ended: Vec<Throttle>,
}

/// What shall be from now on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Clips at a time; 0 is a pause.
    pub workers: usize,
    /// All that holds now.
    pub throttles: Vec<Throttle>,
    /// What is new about it.
    pub change: ThrottleChange,
}

/// Turns readings into a number of workers.
#[derive(Clone, Debug)]
pub struct Governor {
    limits: GovernorLimits,
    /// The newest of each that was known.
    known: Sample,
    heat: StepHysteresis,
    memory: StepHysteresis,
    is_disk_short: bool,
    throttles: Vec<Throttle>,
}

impl Governor {
    /// Nothing holds yet.
    #[must_use]
    pub fn new(limits: GovernorLimits) -> Self {
        Self {
            limits,
            known: Sample::default(),
            heat: StepHysteresis::default(),
            memory: StepHysteresis::default(),
            is_disk_short: false,
            throttles: Vec::new(),
        }
    }

    /// Other limits from the next step on; what holds goes on until its good mark is reached.
    pub fn set_limits(&mut self, limits: GovernorLimits) {
        self.limits = limits;
    }

    /// Takes `reading`, made at `now` by a clock that never goes back.
    pub fn step(&mut self, now: Duration, reading: &Sample) -> Decision {
        let limits = &self.limits;
        let max = limits.workers_max;
        // A number that is none is no reading.
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
        // What is switched off holds nothing back, whatever it did before.
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

    /// What each cause with a known reading would be as a hold.
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

/// Where a reading lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Zone {
    /// Nothing may work.
    Worst,
    Bad,
    #[default]
    Between,
    Good,
}

fn heat_zone(t: f64, limits: &GovernorLimits) -> Zone {
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

fn memory_zone(mib: u64, limits: &GovernorLimits) -> Zone {
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

/// A number of workers that goes down and up one by one.
#[derive(Clone, Debug, Default)]
struct StepHysteresis {
    /// `None`: holds nothing back.
    cap: Option<usize>,
    zone: Zone,
    /// When the reading came into this zone, or the last step up in it.
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

    /// What takes nothing from `max` holds nothing back.
    fn fit(&mut self, max: usize) {
        self.cap = self.cap.filter(|cap| *cap < max);
    }
}

#[cfg(test)]
mod tests;
