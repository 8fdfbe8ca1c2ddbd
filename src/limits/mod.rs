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

/// What may limit the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resource {
    /// The temperature, °C.
    #[default]
    Heat,
    /// Available memory, MiB.
    Memory,
    /// Free space, MiB.
    Disk,
}

/// Why fewer workers may work than could. Its [`Display`] gives the reason and what to do about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Throttle {
    /// What limits the workers.
    pub resource: Resource,
    /// The newest value.
    pub value: f64,
    /// The threshold.
    pub limit: f64,
    /// The value at which workers come back.
    pub resume: f64,
    /// Workers that the resource allows.
    pub workers: usize,
}

impl Throttle {
    /// The component in a fault.
    pub(crate) fn component(&self) -> &'static str {
        match self.resource {
            Resource::Heat => "heat",
            Resource::Memory => "memory",
            Resource::Disk => "disk",
        }
    }
}

impl Display for Throttle {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (component, allowed) = (self.component(), allowed(self.workers));
        let (value, limit, resume) = (self.value, self.limit, self.resume);
        match self.resource {
            Resource::Heat => write!(
                f,
                "{component}: {value:.1} °C, {limit:.1} are allowed, so {allowed}; cool the device, workers come back \
                 below {resume:.1} °C"
            ),
            Resource::Memory => write!(
                f,
                "{component}: {value} MiB available, {limit} are needed, so {allowed}; stop other programs or set fewer \
                 workers, workers come back above {resume} MiB"
            ),
            Resource::Disk => write!(
                f,
                "{component}: {value} MiB free, {limit} are kept in reserve; free some space, work continues above \
                 {resume} MiB"
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

/// The result of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Workers that may work; 0 is a pause.
    pub workers: usize,
    /// All throttles in force.
    pub throttles: Vec<Throttle>,
    /// Throttles that began with this step.
    pub began: Vec<Throttle>,
    /// Throttles that ended with this step, with the values that ended them.
    pub ended: Vec<Throttle>,
}

/// Turns samples into a number of workers.
#[derive(Clone, Debug)]
pub struct ResourceLimiter {
    limits: ResourceLimits,
    gauges: [Gauge; 3],
    throttles: Vec<Throttle>,
}

impl ResourceLimiter {
    /// A limiter that throttles nothing yet.
    pub(crate) fn new(limits: ResourceLimits) -> Self {
        Self {
            limits,
            gauges: [Resource::Heat, Resource::Memory, Resource::Disk].map(|resource| Gauge {
                resource,
                ..Gauge::default()
            }),
            throttles: Vec::new(),
        }
    }

    /// Sets other limits for the next step. What is throttled stays so until its second threshold is reached.
    pub(crate) fn set_limits(&mut self, limits: ResourceLimits) {
        self.limits = limits;
    }

    /// Processes `sample`, taken at `now` by a monotonic clock.
    pub(crate) fn step(&mut self, now: Duration, sample: &Sample) -> Decision {
        let max = self.limits.workers_max;
        let mut decision = Decision {
            workers: max,
            ..Decision::default()
        };
        let values = [
            // NaN and infinity are no values.
            sample.temperature_c.filter(|t| t.is_finite()),
            sample.memory_available_mib.map(float),
            sample.disk_free_mib.map(float),
        ];
        for (gauge, value) in self.gauges.iter_mut().zip(values) {
            let resource = gauge.resource;
            let (limit, resume) = self.limits.thresholds(resource);
            if let Some(value) = value {
                gauge.value = Some(value);
                gauge.step(now, zone(resource, value, limit, resume), max);
            }
            // A disabled limit throttles nothing, whatever it did before.
            let is_disabled = resource != Resource::Heat && limit == 0.0;
            let limits = |cap: &usize| !is_disabled && (*cap == 0 || *cap < max);
            gauge.cap = gauge.cap.filter(limits);
            let Some(value) = gauge.value else {
                continue;
            };
            let throttle = Throttle {
                resource,
                value,
                limit,
                resume,
                workers: gauge.cap.unwrap_or(max),
            };
            let was_throttled = self.throttles.iter().any(|t| t.resource == resource);
            if let Some(cap) = gauge.cap {
                decision.workers = decision.workers.min(cap);
                decision.throttles.push(throttle.clone());
            }
            match (was_throttled, gauge.cap) {
                (false, Some(_)) => decision.began.push(throttle),
                (true, None) => decision.ended.push(throttle),
                _ => {}
            }
        }
        self.throttles.clone_from(&decision.throttles);
        decision
    }
}

impl ResourceLimits {
    /// Beyond the first the workers become fewer, beyond the second they come back.
    fn thresholds(&self, resource: Resource) -> (f64, f64) {
        match resource {
            Resource::Heat => (self.temperature_max_c, self.temperature_resume_c),
            Resource::Memory => (float(self.memory_min_mib), float(self.memory_resume_mib)),
            Resource::Disk => (float(self.disk_reserve_mib), float(self.disk_resume_mib)),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer MiB than 2^53")]
fn float(mib: u64) -> f64 {
    mib as f64
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

fn zone(resource: Resource, value: f64, limit: f64, resume: f64) -> Zone {
    let (is_bad, is_worst, is_good) = match resource {
        Resource::Heat => (
            value > limit,
            value >= limit + PAUSE_ABOVE_C,
            value < resume,
        ),
        Resource::Memory => (value < limit, value <= limit / 2.0, value >= resume),
        Resource::Disk => (value < limit, true, value >= resume),
    };
    match (is_bad, is_worst, is_good) {
        (true, true, _) => Zone::Worst,
        (true, false, _) => Zone::Bad,
        (false, _, true) => Zone::Good,
        (false, _, false) => Zone::Between,
    }
}

/// A resource with its cap on the workers, which moves down and up by one.
#[derive(Clone, Debug, Default)]
struct Gauge {
    resource: Resource,
    /// The newest known value.
    value: Option<f64>,
    /// `None`: no cap.
    cap: Option<usize>,
    zone: Zone,
    /// When the value entered this zone, or the last step up in it.
    since: Duration,
    /// The last step down.
    down_at: Option<Duration>,
}

impl Gauge {
    fn step(&mut self, now: Duration, zone: Zone, max: usize) {
        if zone != self.zone {
            self.zone = zone;
            self.since = now;
        }
        let cap = self.cap.unwrap_or(max).min(max);
        let elapsed = |at: Duration| now.saturating_sub(at);
        let is_down_due = self.down_at.is_none_or(|at| elapsed(at) >= DOWN_EVERY);
        match zone {
            Zone::Worst => (self.cap, self.down_at) = (Some(0), Some(now)),
            Zone::Bad if is_down_due && cap > 1 => {
                (self.cap, self.down_at) = (Some(cap - 1), Some(now));
            }
            // Room on the disk is there at once.
            Zone::Good if self.resource == Resource::Disk => self.cap = None,
            Zone::Good if self.cap.is_some() && elapsed(self.since) >= UP_EVERY => {
                (self.cap, self.since) = (Some(cap + 1), now);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
