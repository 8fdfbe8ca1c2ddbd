//! What a connection hands to the library, never more than its queue holds.

use super::{Connection, ConnectionEnd, later};
use crate::messages::{StatusName, topics};
use crate::mqtt::client::{Counters, Delivery, TransientMessage};
use crate::mqtt::error::MqttError;
use crate::mqtt::inflight::MessageKind;
use crate::mqtt::outbox::OutboxMessage;
use rumqttc::{Publish, QoS};
use tokio::time::Instant;

/// Loose messages under way at most.
const TRANSIENT_MAX: usize = 16;
/// Largest packet that is sent.
pub(in crate::mqtt) const OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of that, for topic and header.
const HEADER_BYTES_MAX: usize = 1024;

impl Connection<'_> {
    pub(super) fn send_values(&mut self, now: Instant) -> Result<(), ConnectionEnd> {
        for at in 0..self.state.channels.len() {
            let channel = &mut self.state.channels[at];
            if !channel.dirty || channel.waiting || channel.next > now {
                continue;
            }
            channel.dirty = false;
            let Some(payload) = channel.value.borrow_and_update().clone() else {
                continue;
            };
            channel.waiting = true;
            channel.next = later(now, channel.min_interval);
            let topic = topics::topic(&self.settings.device, channel.name);
            self.publish(
                MessageKind::Channel(at),
                topic,
                QoS::AtLeastOnce,
                true,
                payload,
            )?;
        }
        Ok(())
    }

    pub(super) fn send_outbox_message(
        &mut self,
        letter: OutboxMessage,
    ) -> Result<(), ConnectionEnd> {
        let topic = topics::topic(&self.settings.device, &letter.channel);
        let bytes = letter.payload.len();
        if bytes + HEADER_BYTES_MAX > OUTGOING_BYTES_MAX {
            tracing::error!(topic, bytes, "a message is too large to be sent: dropped");
            Counters::add(&self.state.counters.dropped);
            self.outbox.delivered(letter.id);
            return Ok(());
        }
        let kind = MessageKind::OutboxMessage(letter.id);
        self.publish(kind, topic, QoS::AtLeastOnce, false, letter.payload)
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
        let qos = match transient.delivery {
            Delivery::AtMostOnce => QoS::AtMostOnce,
            Delivery::AtLeastOnce => QoS::AtLeastOnce,
        };
        let topic = topics::topic(&self.settings.device, transient.channel);
        self.publish(
            MessageKind::TransientMessage,
            topic,
            qos,
            false,
            transient.payload,
        )
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
        let payload = (self.state.status)(status);
        self.publish(kind, topic, QoS::AtLeastOnce, true, payload)
    }

    pub(super) fn publish(
        &mut self,
        kind: MessageKind,
        topic: String,
        qos: QoS,
        retain: bool,
        payload: Vec<u8>,
    ) -> Result<(), ConnectionEnd> {
        let handed = self.client.try_publish(topic, qos, retain, payload);
        handed.map_err(|_| self.lost(MqttError::QueueFull))?;
        self.in_flight.queue(kind);
        Ok(())
    }
}
