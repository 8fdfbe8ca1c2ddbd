//! Commands in one connection: from their arrival, through the inbox one after the other, to their PUBACK.

use super::outbox::Inbox;
use crate::messages::topics;
use crate::mqtt::outbox_publisher::{BlockingCall, finished};
use rumqttc::{Publish, QoS};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Commands that wait for the inbox at most.
const WAITING_MAX: usize = 64;
/// Largest payload of a command.
const BYTES_MAX: usize = 64 * 1024;

/// The account of one connection.
pub(super) struct CommandReceiver {
    inbox: Arc<dyn Inbox>,
    device: String,
    waiting: VecDeque<Publish>,
    current: Option<Publish>,
    receive: Option<BlockingCall<()>>,
}

/// What is to become of a message that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It waits for the inbox.
    Queued,
    /// It is none of ours: the broker may forget it.
    Ignored,
    /// There is no room: the broker is to keep it and send it again.
    KeptByBroker,
    /// There is no room, and the broker keeps none of this kind.
    Dropped,
}

impl CommandReceiver {
    pub(super) fn new(inbox: Arc<dyn Inbox>, device: &str) -> Self {
        Self {
            inbox,
            device: device.to_owned(),
            waiting: VecDeque::new(),
            current: None,
            receive: None,
        }
    }

    /// A message came in.
    pub(super) fn arrived(&mut self, message: &Publish) -> Disposition {
        let (topic, bytes) = (message.topic.as_str(), message.payload.len());
        if topics::command_name(&self.device, topic).is_none() {
            tracing::debug!(topic, "a message that is no command is ignored");
            return Disposition::Ignored;
        }
        if bytes > BYTES_MAX {
            tracing::warn!(topic, bytes, "a command larger than 64 KiB is ignored");
            return Disposition::Ignored;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(message.clone());
            return Disposition::Queued;
        }
        tracing::warn!(topic, "too many commands at once");
        if message.qos == QoS::AtMostOnce {
            Disposition::Dropped
        } else {
            Disposition::KeptByBroker
        }
    }

    /// Gives the inbox the next one.
    pub(super) fn start_next(&mut self) {
        if self.current.is_some() {
            return;
        }
        let Some(command) = self.waiting.pop_front() else {
            return;
        };
        let inbox = Arc::clone(&self.inbox);
        let name = topics::command_name(&self.device, &command.topic)
            .unwrap_or_default()
            .to_owned();
        let (payload, retained) = (command.payload.clone(), command.retain);
        self.current = Some(command);
        self.receive = Some(spawn_blocking(move || {
            inbox.receive(&name, &payload, retained)
        }));
    }

    /// The end of a call to the inbox; never ends while none runs. May be given up and called again.
    pub(super) async fn done(&mut self) -> Result<(), String> {
        finished(&mut self.receive).await
    }

    /// Takes in the end of a call; the command to acknowledge, unless the inbox failed.
    pub(super) fn handle(&mut self, done: Result<(), String>) -> Option<Publish> {
        let command = self.current.take()?;
        match done {
            Ok(()) => Some(command),
            Err(reason) => {
                tracing::error!(topic = command.topic, reason, "cannot take a command");
                None
            }
        }
    }

    /// Whether all that came in is taken.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none()
    }

    /// Lets a call come to its end; how many commands are lost that the broker does not keep.
    pub(super) async fn close(mut self) -> usize {
        if self.receive.is_some()
            && let Err(reason) = finished(&mut self.receive).await
        {
            tracing::error!(reason, "cannot take a command");
        }
        let waiting = self.waiting.iter();
        waiting.filter(|c| c.qos == QoS::AtMostOnce).count()
    }
}
