//! A subscriber that never publishes: its own thread keeps a connection and passes on messages. It uses a clean session
//! and a random client id, so that it disturbs no other client of the broker.

use super::client::RECONNECT_JITTER;
use super::connect::{base_options, open_client, transport};
use super::port_probe;
use super::settings::Settings;
use crate::limits::backoff::Backoff;
use crate::messages::payloads::PAYLOAD_MAX;
use crate::messages::topics;
use crate::mqtt::error::MqttError;
use crossbeam_channel::{Receiver, Sender, bounded};
use rumqttc::{Packet, QoS, SubscribeFilter, SubscribeReasonCode};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// Maximum number of messages that wait for the reader; then the connection waits.
const WAITING_MAX: usize = 1024;
/// Larger messages end the connection. Handloom's are far smaller. The limit keeps foreign ones from filling the memory,
/// and is high enough that a retained one does not end every connection.
const PACKET_MAX: usize = 16 * 1024 * 1024;
/// Shortest and longest delay between two attempts to connect.
const RECONNECT_MIN: Duration = Duration::from_secs(1);
const RECONNECT_MAX: Duration = Duration::from_secs(45);

/// What the subscriber reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connected, and the broker agreed to the subscription.
    Connected,
    /// Not connected, and why; it tries again.
    Disconnected(String),
    /// Connected, but the broker refuses the subscription, and why; it tries again.
    SubscriptionDenied(String),
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// Its content.
        payload: Vec<u8>,
        /// Whether the broker retained it, rather than a device sending it now.
        is_retained: bool,
    },
}

/// The subscriber's thread; it ends when this value is dropped.
pub struct Subscriber {
    events: Receiver<Event>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Subscribes to `topics` at the broker of `settings`, with their login and certificates. `role` is a short word that
    /// begins the client id.
    ///
    /// # Errors
    /// Fails when the system refuses a thread or an event queue.
    pub fn start(role: &'static str, settings: &Settings, topics: Vec<String>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (sender, events) = bounded(WAITING_MAX);
        let (stop, stopped) = oneshot::channel();
        let settings = settings.clone();
        let thread = thread::Builder::new()
            .name("subscriber".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = listen(role, &settings, &topics, &sender) => {}
                        // Requested, or the sender is dropped.
                        _ = stopped => {}
                    }
                });
                // A name server that does not answer must not delay the end.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            events,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The events, in order.
    #[must_use]
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Releases a thread that waits for room.
        self.events = crossbeam_channel::never();
        // Dropping the sender ends the thread.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook.
            thread.join().ok();
        }
    }
}

/// Connects, passes messages on, waits, connects again; ends when the receiver is dropped.
async fn listen(role: &str, settings: &Settings, topics: &[String], sender: &Sender<Event>) {
    let mut backoff = Backoff::new(RECONNECT_MIN, RECONNECT_MAX).with_jitter(RECONNECT_JITTER);
    loop {
        let Some((mut error, was_connected)) = session(role, settings, topics, sender).await else {
            return;
        };
        if !was_connected
            && error.is_unexplained()
            && let Some(protocol) = port_probe::identify(settings).await
        {
            error = MqttError::WrongPort(protocol);
        }
        let event = match error {
            MqttError::SubscriptionDenied(_) => Event::SubscriptionDenied(error.to_string()),
            error => Event::Disconnected(error.to_string()),
        };
        if sender.send(event).is_err() {
            return;
        }
        if was_connected {
            backoff.reset();
        }
        tokio::time::sleep(backoff.next_delay(fastrand::f64())).await;
    }
}

/// Serves one connection. Returns why it ended and whether its topics were subscribed to; `None` when the receiver is
/// dropped.
async fn session(
    role: &str,
    settings: &Settings,
    topics: &[String],
    sender: &Sender<Event>,
) -> Option<(MqttError, bool)> {
    let transport = match transport(settings).await {
        Ok(transport) => transport,
        Err(error) => return Some((error, false)),
    };
    // At most 23 characters, with `role`: a broker may refuse longer ones.
    let id = format!("{role}-{:016x}", fastrand::u64(..));
    let mut options = base_options(settings, id, transport);
    options
        .set_clean_session(true)
        .set_max_packet_size(PACKET_MAX, PACKET_MAX);
    let (client, mut connection) = open_client(settings, options, 10);
    let (mut is_accepted, mut is_connected) = (false, false);
    loop {
        let event = match connection.poll().await {
            Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => {
                is_accepted = true;
                let filter = |topic: &String| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce);
                if client
                    .try_subscribe_many(topics.iter().map(filter))
                    .is_err()
                {
                    return Some((MqttError::QueueFull, false));
                }
                continue;
            }
            Ok(rumqttc::Event::Incoming(Packet::SubAck(ack))) => {
                let mut answers = topics.iter().zip(&ack.return_codes);
                if let Some((topic, _)) =
                    answers.find(|(_, code)| **code == SubscribeReasonCode::Failure)
                {
                    return Some((MqttError::SubscriptionDenied(topic.clone()), false));
                }
                is_connected = true;
                Event::Connected
            }
            Ok(rumqttc::Event::Incoming(Packet::Publish(publish))) => {
                // The reader refuses longer ones, so their rest need not wait in the channel.
                let length = publish.payload.len().min(PAYLOAD_MAX + 1);
                Event::Message {
                    topic: publish.topic,
                    payload: publish.payload[..length].to_vec(),
                    is_retained: publish.retain,
                }
            }
            Ok(_) => continue,
            Err(error) if is_accepted => return Some((error.into(), is_connected)),
            Err(error) => return Some((MqttError::of_attempt(error, settings), false)),
        };
        sender.send(event).ok()?;
    }
}

/// Filters for the channels of `device`, or of all devices. Each channel is named: commands and snapshots, which are
/// large images of people, are not subscribed to.
#[must_use]
pub fn fleet(device: Option<&str>) -> Vec<String> {
    let channels = topics::CHANNELS.iter().filter(|c| **c != topics::SNAPSHOT);
    channels
        .map(|channel| topics::topic(device.unwrap_or("+"), channel))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_and_commands_are_not_subscribed_to() {
        let topics = fleet(None);
        assert_eq!(topics.len(), topics::CHANNELS.len() - 1);
        assert!(
            topics
                .iter()
                .all(|t| t.starts_with("handloom/+/") && !t.ends_with("snapshot"))
        );
        assert_eq!(fleet(Some("pi"))[0], "handloom/pi/status");
    }
}
