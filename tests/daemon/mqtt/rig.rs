//! The line with all that a daemon would give it, run in a thread.

use handloom::messages::payloads::VERSION;
use handloom::messages::{Envelope, Status, topics};
use handloom::mqtt::{
    ConnectionNotice, Counters, Inbox, Outbox, PendingMessage, PublisherInputs, QoS, Retained,
    Settings, TransientMessage, run,
};
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

pub(crate) const DEVICE: &str = "pi-1";

/// Settings with short pauses.
pub(crate) fn settings(port: u16) -> Settings {
    let mut settings = Settings::new(DEVICE, "127.0.0.1", port);
    settings.reconnect_min = Duration::from_millis(100);
    settings.reconnect_max = Duration::from_millis(200);
    settings.connect_timeout = Duration::from_secs(1);
    settings
}

pub(crate) fn topic(channel: &str) -> String {
    topics::topic(DEVICE, channel)
}

/// An outbox in memory.
#[derive(Default)]
pub(crate) struct Shelf {
    letters: Mutex<BTreeMap<i64, PendingMessage>>,
    /// Ids in the order in which they were removed.
    pub(crate) removed: Mutex<Vec<i64>>,
    /// What an operator was told.
    pub(crate) notices: Mutex<Vec<ConnectionNotice>>,
    /// Calls fail while this is set.
    pub(crate) jammed: AtomicBool,
}

impl Shelf {
    pub(crate) fn put(&self, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            let letter = PendingMessage {
                id,
                channel: topics::BATCH.to_owned(),
                payload: id.to_string().into(),
            };
            self.letters.lock().unwrap().insert(id, letter);
        }
    }

    pub(crate) fn insert(&self, message: PendingMessage) {
        self.letters.lock().unwrap().insert(message.id, message);
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.letters.lock().unwrap().keys().copied().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.letters.lock().unwrap().is_empty()
    }

    fn jam(&self) -> Result<(), String> {
        if self.jammed.load(Ordering::SeqCst) {
            return Err("jammed".to_owned());
        }
        Ok(())
    }
}

impl Outbox for Shelf {
    fn after(&self, id: i64, limit: usize) -> Result<Vec<PendingMessage>, String> {
        self.jam()?;
        let letters = self.letters.lock().unwrap();
        let after = letters.range(id.saturating_add(1)..);
        Ok(after.take(limit).map(|(_, l)| l.clone()).collect())
    }

    fn delivered(&self, ids: &[i64]) -> Result<(), String> {
        self.jam()?;
        let mut letters = self.letters.lock().unwrap();
        letters.retain(|id, _| !ids.contains(id));
        self.removed.lock().unwrap().extend(ids);
        Ok(())
    }

    fn report(&self, notice: ConnectionNotice) {
        self.notices.lock().unwrap().push(notice);
    }
}

/// A command as it came: name, payload, retained.
pub(crate) type Command = (String, Vec<u8>, bool);

/// An inbox in memory.
#[derive(Default)]
pub(crate) struct Tray {
    pub(crate) commands: Mutex<Vec<Command>>,
    /// Calls fail while this is set.
    pub(crate) jammed: AtomicBool,
    /// Calls that failed.
    pub(crate) failed: AtomicU64,
    /// Time that a call takes.
    pub(crate) slow: Mutex<Duration>,
}

impl Inbox for Tray {
    fn receive(&self, command: &str, payload: &[u8], retained: bool) -> Result<(), String> {
        let slow = *self.slow.lock().unwrap();
        thread::sleep(slow);
        if self.jammed.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err("jammed".to_owned());
        }
        let command = (command.to_owned(), payload.to_vec(), retained);
        self.commands.lock().unwrap().push(command);
        Ok(())
    }
}

/// Runs until it is dropped or [`Rig::stop`]ped.
pub(crate) struct Rig {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) tray: Arc<Tray>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) state: watch::Sender<Option<Vec<u8>>>,
    pub(crate) progress: watch::Sender<Option<Vec<u8>>>,
    pub(crate) transient: mpsc::Sender<TransientMessage>,
    pub(crate) settings: watch::Sender<Settings>,
    wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    /// Gives the time that it spent computing.
    thread: Option<JoinHandle<Duration>>,
}

impl Rig {
    pub(crate) fn start(settings: Settings) -> Self {
        let shelf = Arc::new(Shelf::default());
        Self::start_with(settings, shelf)
    }

    pub(crate) fn start_with(settings: Settings, shelf: Arc<Shelf>) -> Self {
        let tray = Arc::new(Tray::default());
        let counters = Arc::new(Counters::default());
        let wake = Arc::new(Notify::new());
        let (state, state_out) = watch::channel(Some(b"state 0".to_vec()));
        let (progress, progress_out) = watch::channel(None);
        let (transient, transient_out) = mpsc::channel(8);
        let (settings, settings_out) = watch::channel(settings);
        let (stop, stop_out) = watch::channel(false);
        let seq = AtomicU64::new(0);
        let inputs = PublisherInputs {
            retained: vec![
                Retained::new(topics::STATE, state_out, Duration::ZERO),
                Retained::new(topics::PROGRESS, progress_out, Duration::from_millis(300)),
            ],
            transient: transient_out,
            wake: wake.clone(),
            status: Arc::new(move |status| {
                let body = Status {
                    status,
                    version: "0".to_owned(),
                };
                let envelope = Envelope {
                    v: VERSION,
                    ts: "2026-01-31T12:00:00.000Z".to_owned(),
                    clock_synced: true,
                    seq: seq.fetch_add(1, Ordering::SeqCst) + 1,
                    body,
                };
                serde_json::to_vec(&envelope).unwrap()
            }),
        };
        let line = run(
            settings_out,
            inputs,
            shelf.clone(),
            tray.clone(),
            counters.clone(),
            stop_out,
        );
        let thread = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(line);
            let spent = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
            let spent_ns = spent.split(' ').next().unwrap().parse().unwrap();
            Duration::from_nanos(spent_ns)
        });
        Self {
            shelf,
            tray,
            counters,
            state,
            progress,
            transient,
            settings,
            wake,
            stop,
            thread: Some(thread),
        }
    }

    /// Puts letters into the outbox and says so.
    pub(crate) fn write(&self, ids: impl IntoIterator<Item = i64>) {
        self.shelf.put(ids);
        self.wake.notify_one();
    }

    /// `health` at `QoS` 0 or `snapshot` at `QoS` 1; whether there was room for it.
    pub(crate) fn drop_in(&self, qos: QoS, payload: &[u8]) -> bool {
        let channel = match qos {
            QoS::AtMostOnce => topics::HEALTH,
            _ => topics::SNAPSHOT,
        };
        let transient = TransientMessage {
            channel,
            payload: payload.to_vec(),
            qos,
        };
        self.transient.try_send(transient).is_ok()
    }

    pub(crate) fn connects(&self) -> u64 {
        self.counters.connects.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.counters.dropped.load(Ordering::SeqCst)
    }

    /// Stops it and waits for its end; the time that it spent computing.
    pub(crate) fn stop(&mut self) -> Duration {
        self.stop.send_replace(true);
        let thread = self.thread.take();
        thread.map_or(Duration::ZERO, |t| t.join().unwrap())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
