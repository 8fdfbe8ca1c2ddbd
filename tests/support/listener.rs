//! An MQTT client that records messages across restarts of the broker and can publish.

use rumqttc::{Client, Event, Incoming, MqttOptions, QoS, RecvTimeoutError, SubscribeFilter};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    /// The broker retained the message from before the subscription.
    pub retained: bool,
    pub at: Instant,
}

impl Message {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).unwrap_or(Value::Null)
    }
}

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<Message>>,
    /// Subscriptions that a broker has confirmed.
    subscribed: AtomicUsize,
    over: AtomicBool,
}

/// Stays subscribed until it is dropped.
pub struct Listener {
    client: Client,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Subscribes to `filters` at `QoS` 0: the broker then sends a message at once or never. Returns when subscribed.
    pub fn start(port: u16, filters: &[&str]) -> Self {
        Self::start_with(port, filters, |_| {})
    }

    /// [`Self::start`] with changed client options.
    pub fn start_with(port: u16, filters: &[&str], more: impl FnOnce(&mut MqttOptions)) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut options = MqttOptions::new(format!("listener-{number}"), "127.0.0.1", port);
        options.set_max_packet_size(1 << 23, 1 << 23);
        more(&mut options);
        let (client, mut connection) = Client::new(options, 100);
        let shared = Arc::new(Shared::default());
        let filters: Vec<_> = filters
            .iter()
            .map(|f| SubscribeFilter::new((*f).to_owned(), QoS::AtMostOnce))
            .collect();
        let thread = {
            let (client, shared) = (client.clone(), shared.clone());
            thread::spawn(move || {
                while !shared.over.load(Ordering::Relaxed) {
                    match connection.recv_timeout(Duration::from_millis(20)) {
                        Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => {
                            client.try_subscribe_many(filters.clone()).unwrap();
                        }
                        Ok(Ok(Event::Incoming(Incoming::SubAck(_)))) => {
                            shared.subscribed.fetch_add(1, Ordering::SeqCst);
                        }
                        Ok(Ok(Event::Incoming(Incoming::Publish(publish)))) => {
                            shared.messages.lock().unwrap().push(Message {
                                topic: publish.topic,
                                payload: publish.payload.to_vec(),
                                retained: publish.retain,
                                at: Instant::now(),
                            });
                        }
                        Ok(Ok(_)) | Err(RecvTimeoutError::Timeout) => {}
                        // The library would reconnect without a pause.
                        Ok(Err(_)) => thread::sleep(Duration::from_millis(5)),
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
            })
        };
        let listener = Self {
            client,
            shared,
            thread: Some(thread),
        };
        listener.wait_subscribed(1);
        listener
    }

    /// Number of confirmed subscriptions since the start: one more after each restart of the broker.
    pub fn subscribed(&self) -> usize {
        self.shared.subscribed.load(Ordering::SeqCst)
    }

    /// Waits for `count` confirmed subscriptions.
    #[track_caller]
    pub fn wait_subscribed(&self, count: usize) {
        eventually("a subscription", || self.subscribed() >= count);
    }

    /// All messages received so far.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.messages.lock().unwrap().clone()
    }

    /// The messages received on one topic.
    pub fn on(&self, topic: &str) -> Vec<Message> {
        let mut messages = self.messages();
        messages.retain(|m| m.topic == topic);
        messages
    }

    /// Publishes at `QoS` 1.
    pub fn publish(&self, topic: &str, retained: bool, payload: impl AsRef<[u8]>) {
        self.client
            .publish(topic, QoS::AtLeastOnce, retained, payload.as_ref())
            .unwrap();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        drop(self.client.try_disconnect());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Waits until `holds`; fails after two minutes, since a busy machine is slow.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_mins(2);
    while !holds() {
        assert!(Instant::now() < end, "timed out: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
