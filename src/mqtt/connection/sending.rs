//! Messages that a connection hands over to the library, never more than the library's queue holds.

use super::{Connection, ConnectionEnd, later};
use crate::messages::{StatusName, topics};
use crate::mqtt::ConnectionNotice;
use crate::mqtt::PendingMessage;
use crate::mqtt::client::{Counters, TransientMessage};
use crate::mqtt::error::MqttError;
use crate::mqtt::inflight::MessageKind;
use crate::mqtt::packet_limit::PacketSize;
use rumqttc::{Publish, QoS};
use tokio::time::Instant;

/// Maximum number of transient messages in flight.
const TRANSIENT_MAX: usize = 16;
/// Largest packet that is sent, bytes.
pub(in crate::mqtt) const OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Part of a packet that topic and header may take, bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// A message that is not handed over yet.
pub(super) struct HeldMessage {
    pub(super) kind: MessageKind,
    size: PacketSize,
    qos: QoS,
    payload: Vec<u8>,
}

impl Connection<'_> {
    pub(super) fn send_values(&mut self, now: Instant) -> Result<(), ConnectionEnd> {
        for at in 0..self.state.inputs.retained.len() {
            let channel = &mut self.state.inputs.retained[at];
            if !channel.dirty || channel.waiting || channel.next > now {
                continue;
            }
            channel.dirty = false;
            let Some(payload) = channel.value.borrow_and_update().clone() else {
                continue;
            };
            channel.waiting = true;
            channel.next = later(now, channel.min_interval);
            let topic = topics::topic(&self.settings.device, channel.channel);
            let kind = MessageKind::Channel(at);
            self.publish(kind, &topic, QoS::AtLeastOnce, payload)?;
        }
        Ok(())
    }

    pub(super) fn send_outbox_message(
        &mut self,
        message: PendingMessage,
    ) -> Result<(), ConnectionEnd> {
        let topic = topics::topic(&self.settings.device, &message.channel);
        let bytes = message.payload.len();
        if bytes + HEADER_BYTES_MAX > OUTGOING_BYTES_MAX {
            tracing::error!(topic, bytes, "message dropped: it is too large to be sent");
            Counters::add(&self.state.counters.dropped);
            self.outbox.delivered(message.id);
            return Ok(());
        }
        let kind = MessageKind::OutboxMessage(message.id);
        self.publish(kind, &topic, QoS::AtLeastOnce, message.payload)
    }

    pub(super) fn send_transient(
        &mut self,
        transient: TransientMessage,
    ) -> Result<(), ConnectionEnd> {
        let fits = transient.payload.len() + HEADER_BYTES_MAX <= OUTGOING_BYTES_MAX;
        if !fits || self.transient() >= TRANSIENT_MAX || !self.is_sending() {
            Counters::add(&self.state.counters.dropped);
            return Ok(());
        }
        let topic = topics::topic(&self.settings.device, transient.channel);
        let kind = MessageKind::TransientMessage;
        // Without an acknowledgement, this message would not be known as the one that closed the connection.
        let qos = if self.state.limit.is_careful() {
            QoS::AtLeastOnce
        } else {
            transient.qos
        };
        self.publish(kind, &topic, qos, transient.payload)
    }

    pub(super) fn ack(&mut self, message: &Publish) -> Result<(), ConnectionEnd> {
        let sent = self.client.try_ack(message);
        sent.map_err(|_| self.lost(MqttError::QueueFull))
    }

    pub(super) fn publish_status(
        &mut self,
        status: StatusName,
        kind: MessageKind,
    ) -> Result<(), ConnectionEnd> {
        let topic = topics::topic(&self.settings.device, topics::STATUS);
        let payload = (self.state.inputs.status)(status);
        self.publish(kind, &topic, QoS::AtLeastOnce, payload)
    }

    pub(super) fn publish(
        &mut self,
        kind: MessageKind,
        topic: &str,
        qos: QoS,
        payload: Vec<u8>,
    ) -> Result<(), ConnectionEnd> {
        let message = HeldMessage {
            kind,
            size: PacketSize::of(topic, &payload),
            qos,
            payload,
        };
        // These are the smallest messages, and `stopped` ends the connection: they are always sent at once.
        if matches!(kind, MessageKind::Online | MessageKind::Stopped) {
            return self.hand_over(message);
        }
        if self.state.limit.refuses(message.size.bytes) {
            self.set_aside(&message);
            return Ok(());
        }
        let is_first = self.in_flight.is_empty() && self.held.is_empty();
        if self.state.limit.is_careful() && !is_first {
            self.held.push_back(message);
            return Ok(());
        }
        self.hand_over(message)
    }

    /// Hands over the next message that was held back, once nothing is in flight.
    pub(super) fn send_held(&mut self) -> Result<(), ConnectionEnd> {
        if !self.in_flight.is_empty() {
            return Ok(());
        }
        match self.held.pop_front() {
            Some(message) => self.hand_over(message),
            None => Ok(()),
        }
    }

    fn hand_over(&mut self, message: HeldMessage) -> Result<(), ConnectionEnd> {
        let HeldMessage {
            kind,
            size,
            qos,
            payload,
        } = message;
        let retain = !matches!(
            kind,
            MessageKind::OutboxMessage(_) | MessageKind::TransientMessage
        );
        let handed = self.client.try_publish(&size.topic, qos, retain, payload);
        handed.map_err(|_| self.lost(MqttError::QueueFull))?;
        self.in_flight.queue(kind, size);
        Ok(())
    }

    /// Leaves out a message that is larger than the broker accepts. An outbox message stays there: the next process
    /// tries it again.
    fn set_aside(&mut self, message: &HeldMessage) {
        let PacketSize { topic, bytes } = &message.size;
        let is_counted = match message.kind {
            MessageKind::OutboxMessage(id) => self.state.limit.is_uncounted(id),
            MessageKind::Channel(at) => {
                self.state.inputs.retained[at].waiting = false;
                true
            }
            _ => true,
        };
        if is_counted {
            Counters::add(&self.state.counters.set_aside);
        }
        if self.state.limit.is_first_of(topic) {
            self.state.report(ConnectionNotice::Problem {
                reason: format!(
                    "the broker closes the connection at a message of {bytes} bytes on {topic}: it is larger than the broker accepts, or this device may not write there"
                ),
                action: "messages of this size are set aside until the daemon starts again, the others are sent; raise the broker's limit (mosquitto: max_packet_size), or allow the topic".to_owned(),
            });
        }
    }
}
