//! The governor's thread: looks at the machine, puts the governor's decision in force, says what began and ended.

use crate::config::Config;
use crate::daemon::state::{Daemon, TakesDisk};
use crate::limits::{Governor, GovernorLimits, Sample};
use crate::system::clock::uptime;
use crate::system::{Sensors, disk};
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// A look at the machine takes no longer than this.
const SILENCE: Duration = Duration::from_mins(2);

/// Starts the thread; it ends with the daemon.
pub(super) fn start(daemon: &Arc<Daemon>) -> io::Result<JoinHandle<()>> {
    let daemon = Arc::clone(daemon);
    let mut sensors = Sensors::find();
    let mut governor = Governor::new(limits(&daemon, &daemon.config()));
    // Of the takes' disk alone.
    let mut steward = Governor::new(limits(&daemon, &daemon.config()));
    // Before the first clip: a full disk is noticed before it is written to.
    look(&daemon, &mut sensors, &mut governor);
    look_at_takes(&daemon, &mut steward);
    let stage = daemon.liveness.stage("the governor", SILENCE);
    Builder::new().name("governor".to_owned()).spawn(move || {
        while !daemon.is_stopping() {
            let patience = Duration::from_secs_f64(daemon.config().limits.interval_s);
            daemon.wait(patience, |tasks| tasks.is_stopping);
            stage.busy(uptime());
            look(&daemon, &mut sensors, &mut governor);
            look_at_takes(&daemon, &mut steward);
            daemon.flush_deferred();
            stage.idle();
        }
    })
}

fn limits(daemon: &Daemon, config: &Config) -> GovernorLimits {
    let limits = &config.limits;
    GovernorLimits {
        workers_max: config.workers().min(daemon.threads),
        temperature_max_c: limits.temperature_max_c,
        temperature_resume_c: limits.temperature_resume_c,
        memory_min_mib: limits.memory_min_mib,
        memory_resume_mib: limits.memory_resume_mib,
        disk_reserve_mib: limits.disk_reserve_mib,
        disk_resume_mib: limits.disk_resume_mib,
    }
}

fn look(daemon: &Daemon, sensors: &mut Sensors, governor: &mut Governor) {
    let config = daemon.config();
    let readings = sensors.read();
    let disk_free_mib = match disk::free_mib(&config.output.path) {
        Ok(free) => Some(free),
        Err(error) => {
            tracing::debug!(%error, "free room on the disk is unknown");
            None
        }
    };
    daemon.set_readings(readings, disk_free_mib);
    governor.set_limits(limits(daemon, &config));
    let decision = governor.step(
        uptime(),
        &Sample {
            temperature_c: readings.temperature_c,
            memory_available_mib: readings.memory_available_mib,
            disk_free_mib,
        },
    );
    let change = decision.change.clone();
    let workers = decision.workers;
    daemon.change_holds(|holds| holds.decision = Some(decision));
    for hold in change.began {
        let action = if workers == 0 {
            "the job is paused until that is better"
        } else {
            "the job goes on with fewer workers"
        };
        daemon.fault(hold.component(), hold.to_string(), action);
    }
    for hold in change.ended {
        tracing::info!(component = hold.component(), "no longer held back");
    }
}

/// Watches the reserve of the disk that takes are written to, where it is another than the output's.
fn look_at_takes(daemon: &Daemon, steward: &mut Governor) {
    let config = daemon.config();
    let takes = config.takes_path();
    let is_same = disk::is_same(&config.output.path, &takes).unwrap_or_else(|error| {
        tracing::debug!(%error, "the disk of the takes is unknown");
        true
    });
    if config.camera.device.is_none() || is_same {
        return daemon.set_takes_disk(TakesDisk::Outputs);
    }
    steward.set_limits(limits(daemon, &config));
    let decision = steward.step(
        uptime(),
        &Sample {
            disk_free_mib: disk::free_mib(&takes).ok(),
            ..Sample::default()
        },
    );
    let short = decision.throttles.first().map(ToString::to_string);
    daemon.set_takes_disk(TakesDisk::Own(short));
    for hold in decision.change.began {
        let reason = format!("{hold}; it is the disk of {}", takes.display());
        let action = "takes wait until that is better; the job goes on";
        daemon.fault(hold.component(), reason, action);
    }
    if !decision.change.ended.is_empty() {
        tracing::info!("the takes' disk has room again");
    }
}
