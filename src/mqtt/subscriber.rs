//! Listens and never speaks: a thread of its own that keeps a connection and passes on what comes. Its session is
//! clean and its name random, so that it takes no one's place at the broker.

use super::connect::{base_options, transport};
use super::settings::Settings;
use crate::fleet::devices::PAYLOAD_MAX;
use crate::messages::topics;
use crate::mqtt::error::MqttError;
use crossbeam_channel::{Receiver, Sender, bounded};
use rumqttc::{AsyncClient, Packet, QoS, SubscribeFilter, SubscribeReasonCode};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::oneshot;

/// Messages that wait for the reader; when they are that many, the connection waits.
const WAITING_MAX: usize = 1024;
/// Larger messages end the connection. Ours are far smaller, and a stranger's must neither fill the memory nor, kept
/// by the broker, throw us out again and again.
const PACKET_MAX: usize = 16 * 1024 * 1024;
/// First and longest wait between two attempts to connect.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(30);

/// What the subscriber tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connected, and the broker agreed to the subscription.
    Connected,
    /// Not connected, and why; it tries again.
    Disconnected(String),
    /// Connected, but the broker refuses the subscription: what it refuses and the way out; it tries again.
    SubscriptionDenied(String),
    /// A message.
    Message {
        /// Its topic.
        topic: String,
        /// Its content.
        payload: Vec<u8>,
        /// Whether the broker kept it for us, rather than a device sending it now.
        is_retained: bool,
    },
}

/// The thread that listens; it ends with this value.
pub struct Subscriber {
    events: Receiver<Event>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    /// Begins to listen to `topics`, at the broker of `settings` and with their login and certificates, as one of the
    /// `role`s: a short word that begins its name there.
    ///
    /// # Errors
    /// When the system refuses a thread or an event queue.
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
                        // Either word is the end: asked for, or nobody there to ask.
                        _ = stopped => {}
                    }
                });
                // A name server that does not answer must not hold us.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            events,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What comes, in order.
    #[must_use]
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // Frees a thread that waits for room.
        self.events = crossbeam_channel::never();
        // Dropping the sender is the word to stop.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook; there is nothing to add.
            thread.join().ok();
        }
    }
}

/// Connects, passes on, waits, again; ends when nobody reads.
async fn listen(role: &str, settings: &Settings, topics: &[String], sender: &Sender<Event>) {
    let mut wait = WAIT_MIN;
    loop {
        let Some((error, was_connected)) = session(role, settings, topics, sender).await else {
            return;
        };
        let event = match error {
            MqttError::SubscriptionDenied(_) => Event::SubscriptionDenied(error.to_string()),
            error => Event::Disconnected(error.to_string()),
        };
        if sender.send(event).is_err() {
            return;
        }
        if was_connected {
            wait = WAIT_MIN;
        }
        // Jitter, lest a room of viewers falls upon a broker that comes back.
        let [jitter, ..] = random().to_le_bytes();
        tokio::time::sleep(wait.mul_f64(1.0 + f64::from(jitter) / 512.0)).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// One connection to its end: why it ended and whether it was one. `None` when nobody reads.
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
    // With five letters before it 22 characters: a broker may refuse more than 23.
    let id = format!("{role}-{:016x}", random());
    let mut options = base_options(settings, id, transport);
    options
        .set_clean_session(true)
        .set_max_packet_size(PACKET_MAX, PACKET_MAX);
    let (client, mut connection) = AsyncClient::new(options, 10);
    connection
        .network_options
        .set_connection_timeout(settings.connect_timeout.as_secs().max(1));
    let mut is_connected = false;
    loop {
        let event = match connection.poll().await {
            Ok(rumqttc::Event::Incoming(Packet::ConnAck(_))) => {
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
                // The rest of one that is too long to be read need not wait in the channel.
                let length = publish.payload.len().min(PAYLOAD_MAX + 1);
                Event::Message {
                    topic: publish.topic,
                    payload: publish.payload[..length].to_vec(),
                    is_retained: publish.retain,
                }
            }
            Ok(_) => continue,
            Err(error) => return Some((error.into(), is_connected)),
        };
        sender.send(event).ok()?;
    }
}

/// The channels of `device`, or of all. One by one, not `handloom/+/#`: commands are nobody's business here, and
/// snapshots are large pictures of people.
#[must_use]
pub fn fleet(device: Option<&str>) -> Vec<String> {
    let channels = topics::CHANNELS.iter().filter(|c| **c != topics::SNAPSHOT);
    channels
        .map(|channel| topics::topic(device.unwrap_or("+"), channel))
        .collect()
}

/// A number that nobody foresees; the standard library seeds its maps from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_and_commands_are_not_asked_for() {
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
