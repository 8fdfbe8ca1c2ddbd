//! Messages that a connection hands over to the library, never more than the library's queue holds.

use super::{Connection, ConnectionEnd, later};
use crate::messages::{StatusName, topics};
use crate::mqtt::PendingMessage;
use crate::mqtt::client::{Counters, TransientMessage};
use crate::mqtt::error::MqttError;
use crate::mqtt::inflight::MessageKind;
use rumqttc::{Publish, QoS};
use tokio::time::Instant;

/// Transient messages in flight at most.
const TRANSIENT_MAX: usize = 16;
/// Largest packet that is sent.
pub(in crate::mqtt) const OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The part of it that topic and header may take.
const HEADER_BYTES_MAX: usize = 1024;

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
            self.publish(kind, topic, QoS::AtLeastOnce, payload)?;
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
        self.publish(kind, topic, QoS::AtLeastOnce, message.payload)
    }

    pub(super) fn send_transient(
        &mut self,
        transient: TransientMessage,
    ) -> Result<(), ConnectionEnd> {
        let fits = transient.payload.len() + HEADER_BYTES_MAX <= OUTGOING_BYTES_MAX;
        if !fits || self.in_flight.transient() >= TRANSIENT_MAX || !self.is_sending() {
            Counters::add(&self.state.counters.dropped);
            return Ok(());
        }
        let topic = topics::topic(&self.settings.device, transient.channel);
        let kind = MessageKind::TransientMessage;
        self.publish(kind, topic, transient.qos, transient.payload)
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
        self.publish(kind, topic, QoS::AtLeastOnce, payload)
    }

    pub(super) fn publish(
        &mut self,
        kind: MessageKind,
        topic: String,
        qos: QoS,
        payload: Vec<u8>,
    ) -> Result<(), ConnectionEnd> {
        let retain = !matches!(
            kind,
            MessageKind::OutboxMessage(_) | MessageKind::TransientMessage
        );
        let handed = self.client.try_publish(topic, qos, retain, payload);
        handed.map_err(|_| self.lost(MqttError::QueueFull))?;
        self.in_flight.queue(kind);
        Ok(())
    }
}
