//! A harness that runs the MQTT client in a thread, with the inputs that a daemon gives it.

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

/// Settings with short reconnect delays.
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
pub(crate) struct MemoryOutbox {
    pending: Mutex<BTreeMap<i64, PendingMessage>>,
    /// Ids in the order in which they were removed.
    pub(crate) removed: Mutex<Vec<i64>>,
    /// Notices for the operator.
    pub(crate) notices: Mutex<Vec<ConnectionNotice>>,
    /// Calls fail while this is set.
    pub(crate) is_failing: AtomicBool,
}

impl MemoryOutbox {
    pub(crate) fn put(&self, ids: impl IntoIterator<Item = i64>) {
        for id in ids {
            let pending_message = PendingMessage {
                id,
                channel: topics::BATCH.to_owned(),
                payload: id.to_string().into(),
            };
            self.pending.lock().unwrap().insert(id, pending_message);
        }
    }

    pub(crate) fn insert(&self, message: PendingMessage) {
        self.pending.lock().unwrap().insert(message.id, message);
    }

    pub(crate) fn ids(&self) -> Vec<i64> {
        self.pending.lock().unwrap().keys().copied().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.lock().unwrap().is_empty()
    }

    fn check_failing(&self) -> Result<(), String> {
        if self.is_failing.load(Ordering::SeqCst) {
            return Err("jammed".to_owned());
        }
        Ok(())
    }
}

impl Outbox for MemoryOutbox {
    fn after(&self, id: i64, limit: usize) -> Result<Vec<PendingMessage>, String> {
        self.check_failing()?;
        let pending = self.pending.lock().unwrap();
        let after = pending.range(id.saturating_add(1)..);
        Ok(after.take(limit).map(|(_, l)| l.clone()).collect())
    }

    fn delivered(&self, ids: &[i64]) -> Result<(), String> {
        self.check_failing()?;
        let mut pending = self.pending.lock().unwrap();
        pending.retain(|id, _| !ids.contains(id));
        self.removed.lock().unwrap().extend(ids);
        Ok(())
    }

    fn report(&self, notice: ConnectionNotice) {
        self.notices.lock().unwrap().push(notice);
    }
}

/// A received command: name, payload, retained.
pub(crate) type Command = (String, Vec<u8>, bool);

/// An inbox in memory.
#[derive(Default)]
pub(crate) struct MemoryInbox {
    pub(crate) commands: Mutex<Vec<Command>>,
    /// Calls fail while this is set.
    pub(crate) is_failing: AtomicBool,
    /// Number of failed calls.
    pub(crate) failed: AtomicU64,
    /// Time that a call takes.
    pub(crate) slow: Mutex<Duration>,
}

impl Inbox for MemoryInbox {
    fn receive(&self, command: &str, payload: &[u8], retained: bool) -> Result<(), String> {
        let slow = *self.slow.lock().unwrap();
        thread::sleep(slow);
        if self.is_failing.load(Ordering::SeqCst) {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err("jammed".to_owned());
        }
        let command = (command.to_owned(), payload.to_vec(), retained);
        self.commands.lock().unwrap().push(command);
        Ok(())
    }
}

/// Runs the client until it is dropped or [`Harness::stop`] is called.
pub(crate) struct Harness {
    pub(crate) outbox: Arc<MemoryOutbox>,
    pub(crate) inbox: Arc<MemoryInbox>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) state: watch::Sender<Option<Vec<u8>>>,
    pub(crate) progress: watch::Sender<Option<Vec<u8>>>,
    pub(crate) transient: mpsc::Sender<TransientMessage>,
    pub(crate) settings: watch::Sender<Settings>,
    wake: Arc<Notify>,
    stop: watch::Sender<bool>,
    /// Returns the thread's CPU time.
    thread: Option<JoinHandle<Duration>>,
}

impl Harness {
    pub(crate) fn start(settings: Settings) -> Self {
        let outbox = Arc::new(MemoryOutbox::default());
        Self::start_with(settings, outbox)
    }

    pub(crate) fn start_with(settings: Settings, outbox: Arc<MemoryOutbox>) -> Self {
        let inbox = Arc::new(MemoryInbox::default());
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
            outbox.clone(),
            inbox.clone(),
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
            outbox,
            inbox,
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

    /// Puts messages into the outbox and wakes the client.
    pub(crate) fn write(&self, ids: impl IntoIterator<Item = i64>) {
        self.outbox.put(ids);
        self.wake.notify_one();
    }

    /// Queues `health` at `QoS` 0 or `snapshot` at `QoS` 1; returns whether the queue had room.
    pub(crate) fn try_send_transient(&self, qos: QoS, payload: &[u8]) -> bool {
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

    /// Stops the client, waits for its end, and returns its CPU time.
    pub(crate) fn stop(&mut self) -> Duration {
        self.stop.send_replace(true);
        let thread = self.thread.take();
        thread.map_or(Duration::ZERO, |t| t.join().unwrap())
    }
}

impl Drop for Harness {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
