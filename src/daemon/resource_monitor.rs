//! The resource monitor's thread: samples sensors and disks, applies the limits and reports when one begins or ends.

use crate::config::Config;
use crate::daemon::{Daemon, spawn};
use crate::error::CliError;
use crate::limits::{Decision, Resource, ResourceLimiter, ResourceLimits, Sample, Throttle};
use crate::messages::payloads::SensorReadings;
use crate::system::clock::uptime;
use crate::system::{Liveness, Sensors, disk, lock_ignoring_poison};
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest time that sampling may take before the watchdog counts it as stuck.
const STALL_LIMIT: Duration = Duration::from_mins(2);

/// The newest sample, for the other threads.
#[derive(Default)]
pub(super) struct ResourceStatus {
    pub(super) sensors: SensorReadings,
    /// Free space on the output's disk, MiB.
    pub(super) disk_free_mib: Option<u64>,
    /// Why nothing may be written to the output's disk: its reserve is touched.
    pub(super) output_disk_short: Option<String>,
    /// Whether takes lie on another disk than the output.
    has_takes_disk: bool,
    /// Why nothing may be written to the takes' disk: its reserve is touched.
    takes_disk_short: Option<String>,
}

impl ResourceStatus {
    /// Why no take may be written: the reserve of the takes' disk is touched.
    pub(super) fn takes_disk_short(&self) -> Option<&str> {
        if self.has_takes_disk {
            self.takes_disk_short.as_deref()
        } else {
            self.output_disk_short.as_deref()
        }
    }
}

/// Takes the first sample, so that a full disk is noticed before the first write, and starts the thread; it ends with
/// the daemon.
pub(super) fn start(daemon: &Arc<Daemon>, liveness: &Liveness) -> Result<JoinHandle<()>, CliError> {
    let daemon = Arc::clone(daemon);
    let mut sensors = Sensors::find();
    let limits = || ResourceLimiter::new(daemon.limits(&daemon.config()));
    let (mut machine, mut takes_disk) = (limits(), limits());
    daemon.sample_machine(&mut sensors, &mut machine);
    daemon.sample_takes_disk(&mut takes_disk);
    let stage = liveness.stage("the resource monitor", STALL_LIMIT);
    spawn("resources", move || {
        let interval = || Duration::from_secs_f64(daemon.config().limits.interval_s);
        while !daemon.shutdown.wait(interval()) {
            stage.busy(uptime());
            daemon.sample_machine(&mut sensors, &mut machine);
            daemon.sample_takes_disk(&mut takes_disk);
            daemon.outbox.flush();
            stage.idle();
        }
    })
}

impl Daemon {
    /// The newest sample.
    pub(super) fn resources(&self) -> MutexGuard<'_, ResourceStatus> {
        lock_ignoring_poison(&self.resources)
    }

    fn limits(&self, config: &Config) -> ResourceLimits {
        let limits = &config.limits;
        ResourceLimits {
            workers_max: config.workers().min(self.threads),
            temperature_max_c: limits.temperature_max_c,
            temperature_resume_c: limits.temperature_resume_c,
            memory_min_mib: limits.memory_min_mib,
            memory_resume_mib: limits.memory_resume_mib,
            disk_reserve_mib: limits.disk_reserve_mib,
            disk_resume_mib: limits.disk_resume_mib,
        }
    }

    fn sample_machine(&self, sensors: &mut Sensors, limiter: &mut ResourceLimiter) {
        let config = self.config();
        let readings = sensors.read();
        let disk_free_mib = match disk::free_mib(&config.output.path) {
            Ok(free) => Some(free),
            Err(error) => {
                tracing::debug!(%error, "free room on the disk is unknown");
                None
            }
        };
        limiter.set_limits(self.limits(&config));
        let sample = Sample {
            temperature_c: readings.temperature_c,
            memory_available_mib: readings.memory_available_mib,
            disk_free_mib,
        };
        let decision = limiter.step(uptime(), &sample);
        let mut status = self.resources();
        status.sensors = readings;
        status.disk_free_mib = disk_free_mib;
        status.output_disk_short = disk_short(&decision);
        drop(status);
        let workers = decision.workers;
        self.gate.set_decision(decision.clone());
        let action = if workers == 0 {
            "the job is paused until that is better"
        } else {
            "the job continues with fewer workers"
        };
        for throttle in decision.began {
            self.outbox
                .fault(throttle.component(), throttle.to_string(), action);
        }
        for throttle in decision.ended {
            tracing::info!(component = throttle.component(), "no longer limits the job");
        }
    }

    /// Watches the reserve of the takes' disk where that is not the output's.
    fn sample_takes_disk(&self, limiter: &mut ResourceLimiter) {
        let config = self.config();
        let takes = config.takes_path();
        let is_same = disk::is_same(&config.output.path, &takes).unwrap_or_else(|error| {
            tracing::debug!(%error, "the disk of the takes is unknown");
            true
        });
        if config.camera.device.is_none() || is_same {
            self.resources().has_takes_disk = false;
            return;
        }
        limiter.set_limits(self.limits(&config));
        let sample = Sample {
            disk_free_mib: disk::free_mib(&takes).ok(),
            ..Sample::default()
        };
        let decision = limiter.step(uptime(), &sample);
        let mut status = self.resources();
        status.has_takes_disk = true;
        status.takes_disk_short = disk_short(&decision);
        drop(status);
        for throttle in decision.began {
            let reason = format!("{throttle}; it is the disk of {}", takes.display());
            let action = "takes wait until that is better; the job continues";
            self.outbox.fault(throttle.component(), reason, action);
        }
        if !decision.ended.is_empty() {
            tracing::info!("the takes' disk has room again");
        }
    }
}

fn disk_short(decision: &Decision) -> Option<String> {
    let is_disk = |throttle: &&Throttle| throttle.resource == Resource::Disk;
    let throttle = decision.throttles.iter().find(is_disk);
    throttle.map(ToString::to_string)
}
