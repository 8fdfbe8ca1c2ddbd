//! Pings the service manager while every stage makes progress, so that it restarts a service that is stuck.

use super::OwnedThread;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

/// The watchdog's thread; ends when dropped.
pub struct Watchdog {
    _worker: OwnedThread<SyncSender<()>>,
}

impl Watchdog {
    /// Calls `healthy` at once and then each `interval`, and calls `ping` when it returns `Ok`. The first error is logged,
    /// and a recovery. Neither closure may block for long.
    ///
    /// # Errors
    /// Fails when the thread cannot be started.
    pub fn start(
        interval: Duration,
        mut healthy: impl FnMut() -> Result<(), String> + Send + 'static,
        mut ping: impl FnMut() + Send + 'static,
    ) -> io::Result<Self> {
        let (end, ended) = sync_channel::<()>(0);
        let thread = Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut is_stuck = false;
            loop {
                match healthy() {
                    Ok(()) => {
                        if is_stuck {
                            tracing::info!("all stages make progress again");
                        }
                        is_stuck = false;
                        ping();
                    }
                    Err(reason) if !is_stuck => {
                        is_stuck = true;
                        tracing::error!(
                            reason,
                            "no progress: the service manager will restart this service"
                        );
                    }
                    Err(_) => {}
                }
                if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        })?;
        Ok(Self {
            _worker: OwnedThread::new(thread, end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_pings_while_all_is_well_and_ends_with_its_guard() {
        let script = [true, true, false, false, true, false];
        let (events, event_receiver) = sync_channel(64);
        let pinged = events.clone();
        let mut calls = 0;
        let watchdog = Watchdog::start(
            Duration::from_millis(1),
            move || {
                let is_well = script.get(calls).copied().unwrap_or(false);
                calls += 1;
                // Never waits: the end must not hang on a test that has seen enough.
                events.try_send(if is_well { "well" } else { "stuck" }).ok();
                if is_well {
                    Ok(())
                } else {
                    Err("stuck".to_owned())
                }
            },
            move || {
                pinged.try_send("ping").ok();
            },
        )
        .unwrap();
        let next = || event_receiver.recv_timeout(Duration::from_mins(1)).unwrap();
        let seen: Vec<&str> = (0..9).map(|_| next()).collect();
        let expected = [
            "well", "ping", "well", "ping", "stuck", "stuck", "well", "ping", "stuck",
        ];
        assert_eq!(seen, expected);
        drop(watchdog);
        // The thread has ended and dropped its closures, so that the channel ends.
        assert!(event_receiver.iter().all(|what| what == "stuck"));
    }

    #[test]
    fn a_long_interval_does_not_hold_up_the_end() {
        let watchdog = Watchdog::start(Duration::MAX, || Ok(()), || ()).unwrap();
        drop(watchdog);
    }
}
