//! The resource monitor's thread: samples the sensors and the disks, puts the limits into force, reports what begins
//! and ends.

use crate::config::Config;
use crate::daemon::job_gate::JobGate;
use crate::daemon::live_config::LiveConfig;
use crate::daemon::outbox_writer::OutboxWriter;
use crate::daemon::shutdown::Shutdown;
use crate::limits::{Decision, Resource, ResourceLimiter, ResourceLimits, Sample, Throttle};
use crate::system::clock::uptime;
use crate::system::{Liveness, SensorReadings, Sensors, disk, lock_ignoring_poison};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Longest time that sampling may take before the watchdog counts it as stuck.
const STALL_LIMIT: Duration = Duration::from_mins(2);

/// The newest sample, for the other threads.
#[derive(Default)]
pub(super) struct ResourceStatus(Mutex<Newest>);

#[derive(Default)]
struct Newest {
    sensors: SensorReadings,
    disk_free_mib: Option<u64>,
    /// Why the reserve of the output's disk forbids writing, while it does.
    output_disk_short: Option<String>,
    takes_disk: TakesDisk,
}

/// The disk that takes are written to.
#[derive(Default)]
enum TakesDisk {
    #[default]
    Outputs,
    /// Another one, and why its reserve forbids writing, while it does.
    Own(Option<String>),
}

impl ResourceStatus {
    /// The sensors, and MiB free for the output.
    pub(super) fn sensors(&self) -> (SensorReadings, Option<u64>) {
        let newest = lock_ignoring_poison(&self.0);
        (newest.sensors, newest.disk_free_mib)
    }

    /// Why nothing may be written to the output's disk: its reserve is touched.
    pub(super) fn output_disk_short(&self) -> Option<String> {
        lock_ignoring_poison(&self.0).output_disk_short.clone()
    }

    /// Why no take may be written: the reserve of its disk is touched.
    pub(super) fn takes_disk_short(&self) -> Option<String> {
        let newest = lock_ignoring_poison(&self.0);
        match &newest.takes_disk {
            TakesDisk::Own(short) => short.clone(),
            TakesDisk::Outputs => newest.output_disk_short.clone(),
        }
    }
}

/// The thread.
pub(super) struct ResourceMonitor {
    pub(super) status: Arc<ResourceStatus>,
    pub(super) config: LiveConfig,
    /// Worker threads that the job has at most.
    pub(super) threads: usize,
    pub(super) gate: Arc<JobGate>,
    pub(super) outbox: Arc<OutboxWriter>,
    pub(super) shutdown: Shutdown,
}

impl ResourceMonitor {
    /// Takes the first sample, so that a full disk is noticed before the first write, and starts the thread; it ends
    /// with the daemon.
    pub(super) fn start(self, liveness: &Liveness) -> io::Result<JoinHandle<()>> {
        let mut sensors = Sensors::find();
        let limits = || ResourceLimiter::new(self.limits(&self.config.get()));
        let (mut machine, mut takes_disk) = (limits(), limits());
        self.sample_machine(&mut sensors, &mut machine);
        self.sample_takes_disk(&mut takes_disk);
        let stage = liveness.stage("the resource monitor", STALL_LIMIT);
        let thread = Builder::new().name("resources".to_owned());
        thread.spawn(move || {
            let interval = || Duration::from_secs_f64(self.config.get().limits.interval_s);
            while !self.shutdown.wait(interval()) {
                stage.busy(uptime());
                self.sample_machine(&mut sensors, &mut machine);
                self.sample_takes_disk(&mut takes_disk);
                self.outbox.flush();
                stage.idle();
            }
        })
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
        let config = self.config.get();
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
        let mut status = lock_ignoring_poison(&self.status.0);
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
        let config = self.config.get();
        let takes = config.takes_path();
        let is_same = disk::is_same(&config.output.path, &takes).unwrap_or_else(|error| {
            tracing::debug!(%error, "the disk of the takes is unknown");
            true
        });
        if config.camera.device.is_none() || is_same {
            lock_ignoring_poison(&self.status.0).takes_disk = TakesDisk::Outputs;
            return;
        }
        limiter.set_limits(self.limits(&config));
        let sample = Sample {
            disk_free_mib: disk::free_mib(&takes).ok(),
            ..Sample::default()
        };
        let decision = limiter.step(uptime(), &sample);
        lock_ignoring_poison(&self.status.0).takes_disk = TakesDisk::Own(disk_short(&decision));
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
