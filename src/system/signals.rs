//! Signals: SIGTERM and SIGINT stop, SIGHUP reloads.

use super::OwnedThread;
use std::io;
use std::thread::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// What a signal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The first SIGTERM or SIGINT: stop in good order.
    Stop,
    /// A further SIGTERM or SIGINT: stop at once.
    StopNow,
    /// SIGHUP: read the config again.
    Reload,
}

/// Listens until it is dropped. From then on the signals have no effect at all.
pub struct Signals {
    _worker: OwnedThread<oneshot::Sender<()>>,
}

impl Signals {
    /// Calls `on` for every signal, on a thread of its own and outside of its tokio runtime, so that `on` may block. After
    /// the return none of these signals ends the process by itself. Works inside and outside of a tokio runtime.
    ///
    /// # Errors
    /// Fails when the system provides no thread or no signal handler.
    pub fn listen(mut on: impl FnMut(Signal) + Send + 'static) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let context = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        drop(context);
        let (end, mut ended) = oneshot::channel();
        let thread = Builder::new().name("signals".to_owned());
        let thread = thread.spawn(move || {
            let mut is_stopping = false;
            loop {
                let is_stop = runtime.block_on(async {
                    tokio::select! {
                        _ = terminate.recv() => Some(true),
                        _ = interrupt.recv() => Some(true),
                        _ = hang_up.recv() => Some(false),
                        _ = &mut ended => None,
                    }
                });
                // Outside of the runtime, where calls that block are allowed.
                match (is_stop, is_stopping) {
                    (Some(true), false) => on(Signal::Stop),
                    (Some(true), true) => on(Signal::StopNow),
                    (Some(false), _) => on(Signal::Reload),
                    (None, _) => break,
                }
                is_stopping |= is_stop == Some(true);
            }
        })?;
        Ok(Self {
            _worker: OwnedThread::new(thread, end),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::child;
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::Command;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::time::Duration;

    const WAIT: Duration = Duration::from_mins(1);

    fn listen() -> (Signals, Receiver<Signal>) {
        // As the daemon may do it: a call that tokio allows outside of a runtime only.
        let (signal_sender, mut signals) = tokio::sync::mpsc::channel(1);
        let on = move |signal| signal_sender.blocking_send(signal).unwrap();
        let (event_sender, event_receiver) = sync_channel(8);
        let guard = Signals::listen(on).unwrap();
        std::thread::spawn(move || {
            while let Some(signal) = signals.blocking_recv() {
                event_sender.send(signal).unwrap();
            }
        });
        (guard, event_receiver)
    }

    /// Prints each signal on stdout until the third stop.
    fn event_receiver() {
        let (guard, signals) = listen();
        println!("\n> listening");
        let mut stops = 0;
        while stops < 3 {
            let signal = signals.recv_timeout(WAIT).unwrap();
            stops += usize::from(signal != Signal::Reload);
            println!("> {signal:?}");
        }
        drop(guard);
    }

    fn check(test: &str, steps: &[(&str, &str)]) {
        let mut process = child::Guard(child::command(test).spawn().unwrap());
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let event_sender = output.lines().map(Result::unwrap);
        let mut event_sender =
            event_sender.filter_map(|line| line.strip_prefix("> ").map(str::to_owned));
        assert_eq!(event_sender.next().as_deref(), Some("listening"));
        let id = process.0.id().to_string();
        for (signal, expected) in steps {
            let kill = Command::new("kill").args([signal, id.as_str()]).status();
            assert!(kill.unwrap().success());
            assert_eq!(event_sender.next().as_deref(), Some(*expected), "{signal}");
        }
        assert!(process.0.wait().unwrap().success());
    }

    #[test]
    fn signals_become_calls() {
        if child::is_here() {
            return event_receiver();
        }
        check(
            "system::signals::tests::signals_become_calls",
            &[
                ("-HUP", "Reload"),
                ("-TERM", "Stop"),
                ("-HUP", "Reload"),
                ("-INT", "StopNow"),
                ("-TERM", "StopNow"),
            ],
        );
    }

    #[test]
    fn a_runtime_around_it_does_not_matter() {
        if child::is_here() {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            return runtime.unwrap().block_on(async { event_receiver() });
        }
        check(
            "system::signals::tests::a_runtime_around_it_does_not_matter",
            &[("-INT", "Stop"), ("-TERM", "StopNow"), ("-INT", "StopNow")],
        );
    }
}
