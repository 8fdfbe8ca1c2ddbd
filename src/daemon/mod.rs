//! `handloom run`: the daemon. Its start reads like a list; what goes on then is in the files beside this one:
//! [`supervisor`] runs the job on the main thread, [`desk`] obeys commands, [`control`] speaks MQTT and systemd,
//! [`camera`] films and [`set`] keeps what it filmed, [`backend`] has what runs the models, [`keeper`] watches the machine, [`copier`] feeds the mirror, [`daemon`] is what they share, [`telemetry`] what the world
//! is told, [`worker_monitor`] what the workers show, [`late`] what waits for a disk with room.

mod backend;
mod camera_session;
mod camera_task;
mod command_handler;
mod control;
mod deferred_writes;
mod mirror_task;
mod options;
mod reload;
mod resource_monitor;
mod state;
mod supervisor;
mod telemetry_publisher;
mod worker_monitor;

use crate::cli::DaemonArgs;
use crate::config::{self, Config, LoadedConfig, Sources};
use crate::daemon::state::Daemon;
use crate::error::hints::Audience;
use crate::error::{CliError, Exit};
use crate::logging;
use crate::storage::ledger::OutboxLimits;
use crate::storage::lock::FolderLock;
use crate::storage::output_dir;
use crate::storage::output_dir::OpenMode;
use crate::storage::{Ledger, StoreError};
use crate::system::clock::uptime;
use crate::system::{Signal, Signals, Watchdog, notify};
use anyhow::anyhow;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Looks for room this often.
const ROOM_LOOK: Duration = Duration::from_secs(1);
/// Who waits for an end looks around so often.
const END_LOOK: Duration = Duration::from_millis(20);
/// The last words wait for the camera's last takes for so long.
const LAST_TAKES: Duration = Duration::from_secs(3);
/// A start without room waits for so long: less than systemd gives it.
const ROOM_PATIENCE: Duration = Duration::from_secs(45);

/// Runs until a signal, or until the job is done when that is what is asked for.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(args: &DaemonArgs) -> Result<Exit, CliError> {
    let sources = Sources::of_process(args.config.config.clone(), args.config.set.clone())?;
    let LoadedConfig {
        config, warnings, ..
    } = config::load(&sources)?;
    logging::set_level(&config.log.level);
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let opened = open(&config.output.path, args.resume.open_mode());
    let (lock, mut ledger) = opened.map_err(|error| Audience::Keys.with_hint(error.into()))?;
    ledger.set_outbox_limits(outbox_limits(&config));
    let daemon = Arc::new(Daemon::new(config, ledger)?);
    daemon.answer_what_was_left()?;

    let io = |what: &'static str| {
        move |e: std::io::Error| CliError::new(Exit::InOut, anyhow!("cannot start {what}: {e}"))
    };
    let line = control::start(&daemon).map_err(io("the control thread"))?;
    let keeper = resource_monitor::start(&daemon).map_err(io("the governor"))?;
    let copier = mirror_task::start(&daemon).map_err(io("the mirror"))?;
    let camera = camera_task::start(&daemon).map_err(io("the camera's thread"))?;
    let signals = {
        let daemon = Arc::clone(&daemon);
        Signals::listen(move |signal| match signal {
            Signal::Stop => daemon.stop(),
            Signal::StopNow => std::process::exit(Exit::Stopped as i32),
            Signal::Reload => reload::reload(&daemon, &sources),
        })
        .map_err(io("the signal thread"))?
    };
    let watchdog = watchdog(&daemon).map_err(io("the watchdog"))?;
    let run_time_limit = args
        .span
        .map(|span| run_time_limit(&daemon, span))
        .transpose();
    let run_time_limit = run_time_limit.map_err(io("the thread that ends it in time"))?;
    notify::ready();
    tracing::info!(device = %daemon.config().device.id, "ready");

    let ended = if daemon.config().dataset.path.as_os_str().is_empty() {
        Ok(supervisor::stand_by(&daemon))
    } else {
        supervisor::supervise(&daemon, args.resume, args.once)
    };
    let ended = match daemon.failure() {
        Some(failure) => Err(failure),
        None => ended,
    };
    let ended = ended.map_err(|failure| Audience::Keys.with_hint(failure));

    daemon.stop();
    // What it writes at the end is told as well; if it hangs, the rest is told.
    let camera = join_within(LAST_TAKES, camera);
    line.end(&daemon, ended.as_ref().err());
    join(camera);
    join([keeper, copier]);
    join(run_time_limit);
    notify::status(&match &ended {
        Ok(Exit::Done) => format!("ended; {}", daemon.telemetry.line()),
        Ok(_) => format!("stopped with work left; {}", daemon.telemetry.line()),
        Err(failure) => format!("ended: {}", failure.display_chain()),
    });
    drop((watchdog, signals, lock));
    ended
}

/// Waits for the end of `threads`.
fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the daemon has panicked");
        }
    }
}

/// Waits for the end of `thread`, but not for longer than `limit`; gives it back then.
fn join_within(limit: Duration, thread: Option<JoinHandle<()>>) -> Option<JoinHandle<()>> {
    let since = Instant::now();
    while thread.as_ref().is_some_and(|t| !t.is_finished()) {
        if since.elapsed() >= limit {
            tracing::warn!(?limit, "the camera does not let go in time");
            return thread;
        }
        thread::sleep(END_LOOK);
    }
    join(thread);
    None
}

/// Ends the process in good order after `span`, unless it ends before.
fn run_time_limit(daemon: &Arc<Daemon>, span: Duration) -> std::io::Result<JoinHandle<()>> {
    let daemon = Arc::clone(daemon);
    let thread = thread::Builder::new().name("curfew".to_owned());
    thread.spawn(move || {
        daemon.wait(span, |tasks| tasks.is_stopping);
        if !daemon.is_stopping() {
            tracing::info!(?span, "the time is over");
            daemon.stop();
        }
    })
}

/// Opens the output folder, also when there is no room for its ledger just now. After a while the process ends after
/// all: a service manager whose patience with starts is longer than that tries again, one with less would give up.
fn open(out: &Path, open_mode: OpenMode) -> Result<(FolderLock, Ledger), StoreError> {
    let since = Instant::now();
    let mut is_told = false;
    loop {
        match output_dir::open(out, open_mode) {
            Err(error) if error.is_full() && since.elapsed() < ROOM_PATIENCE => {
                if !is_told {
                    tracing::warn!(%error, "no room to begin; waiting for it");
                    notify::status("no room on the disk to begin; waiting for it");
                    is_told = true;
                }
                thread::sleep(ROOM_LOOK);
            }
            opened => return opened,
        }
    }
}

/// How many messages may wait; none without a broker.
fn outbox_limits(config: &Config) -> Option<OutboxLimits> {
    config.mqtt.url.as_ref().map(|_| OutboxLimits {
        messages: usize::try_from(config.mqtt.outbox_max_messages).unwrap_or(usize::MAX),
        age_s: config.mqtt.outbox_max_age_h.saturating_mul(3600),
    })
}

/// Pings systemd for as long as no stage is stuck; `None` when it does not watch.
fn watchdog(daemon: &Arc<Daemon>) -> std::io::Result<Option<Watchdog>> {
    let Some(interval) = notify::watchdog_interval() else {
        return Ok(None);
    };
    let daemon = Arc::clone(daemon);
    let healthy = move || match daemon.liveness.stuck(uptime()) {
        Some((stage, since)) => Err(format!(
            "{stage} has made no progress for {} s",
            uptime().saturating_sub(since).as_secs()
        )),
        None => Ok(()),
    };
    Watchdog::start(interval, healthy, notify::ping).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn what_hangs_is_not_waited_for_and_given_back() {
        let (end, ended) = sync_channel::<()>(0);
        let thread = thread::spawn(move || assert!(ended.recv().is_err()));
        let left = join_within(Duration::from_millis(50), Some(thread));
        assert!(left.is_some());
        drop(end);
        assert!(join_within(Duration::from_mins(1), left).is_none());
        assert!(join_within(Duration::ZERO, None).is_none());
    }
}
