//! Commands in one connection: received, passed to the inbox one after the other, acknowledged.

use super::Inbox;
use crate::messages::topics;
use crate::mqtt::outbox_publisher::{BlockingCall, finished};
use crate::untrusted::LOG_TARGET;
use rumqttc::{Publish, QoS};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Maximum number of commands that wait for the inbox.
const WAITING_MAX: usize = 64;
/// Largest payload of a command, bytes.
const BYTES_MAX: usize = 64 * 1024;

/// The commands of one connection.
pub(super) struct CommandReceiver {
    inbox: Arc<dyn Inbox>,
    device: String,
    waiting: VecDeque<Publish>,
    current: Option<Publish>,
    receive: Option<BlockingCall<()>>,
}

/// What becomes of a received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disposition {
    /// It waits for the inbox.
    Queued,
    /// It is no command, or too large: it is acknowledged and ignored.
    Ignored,
    /// The queue is full: it is not acknowledged, so the broker sends it again.
    KeptByBroker,
    /// The queue is full, and the broker does not keep messages of `QoS` 0.
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

    /// Queues a received message, or decides what becomes of it.
    pub(super) fn arrived(&mut self, message: &Publish) -> Disposition {
        let (topic, bytes) = (message.topic.as_str(), message.payload.len());
        if topics::command_name(&self.device, topic).is_none() {
            tracing::debug!(target: LOG_TARGET, topic, "message ignored: it is no command");
            return Disposition::Ignored;
        }
        if bytes > BYTES_MAX {
            tracing::warn!(target: LOG_TARGET, topic, bytes, "command ignored: it is larger than 64 KiB");
            return Disposition::Ignored;
        }
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(message.clone());
            return Disposition::Queued;
        }
        tracing::warn!(target: LOG_TARGET, topic, "command not accepted: too many are waiting");
        if message.qos == QoS::AtMostOnce {
            Disposition::Dropped
        } else {
            Disposition::KeptByBroker
        }
    }

    /// Passes the next command to the inbox, unless a call is under way.
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

    /// The command to acknowledge after a call to the inbox has ended, `None` when the call failed. Never returns while
    /// none is under way. Cancel-safe.
    pub(super) async fn next_accepted(&mut self) -> Option<Publish> {
        let done = finished(&mut self.receive).await;
        let command = self.current.take()?;
        if let Err(reason) = done {
            tracing::error!(topic = command.topic, reason, "cannot accept a command");
            return None;
        }
        Some(command)
    }

    /// Whether no command waits.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.current.is_none()
    }

    /// Waits for the call under way. Returns how many waiting commands are lost because the broker does not keep them.
    pub(super) async fn close(mut self) -> usize {
        if self.receive.is_some() {
            // Not acknowledged: the broker sends it again in the next connection.
            self.next_accepted().await;
        }
        let waiting = self.waiting.iter();
        waiting.filter(|c| c.qos == QoS::AtMostOnce).count()
    }
}
