//! What a connection hands to the library, never more than its queue holds.

use super::{Connection, Outcome, later};
use crate::messages::{StatusName, topics};
use crate::mqtt::client::{Counters, Delivery, Loose};
use crate::mqtt::error::Trouble;
use crate::mqtt::inflight::Kind;
use crate::mqtt::outbox::Letter;
use rumqttc::{Publish, QoS};
use tokio::time::Instant;

/// Loose messages under way at most.
const LOOSE_MAX: usize = 16;
/// Largest packet that is sent.
pub(in crate::mqtt) const OUTGOING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Of that, for topic and header.
const HEADER_BYTES_MAX: usize = 1024;

impl Connection<'_> {
    pub(super) fn send_values(&mut self, now: Instant) -> Result<(), Outcome> {
        for at in 0..self.desk.channels.len() {
            let channel = &mut self.desk.channels[at];
            if !channel.dirty || channel.waiting || channel.next > now {
                continue;
            }
            channel.dirty = false;
            let Some(payload) = channel.value.borrow_and_update().clone() else {
                continue;
            };
            channel.waiting = true;
            channel.next = later(now, channel.least);
            let topic = topics::topic(&self.settings.device, channel.name);
            self.publish(Kind::Channel(at), topic, QoS::AtLeastOnce, true, payload)?;
        }
        Ok(())
    }

    pub(super) fn send_letter(&mut self, letter: Letter) -> Result<(), Outcome> {
        let topic = topics::topic(&self.settings.device, &letter.channel);
        let bytes = letter.payload.len();
        if bytes + HEADER_BYTES_MAX > OUTGOING_BYTES_MAX {
            tracing::error!(topic, bytes, "a message is too large to be sent: dropped");
            Counters::add(&self.desk.counters.dropped);
            self.letters.delivered(letter.id);
            return Ok(());
        }
        let kind = Kind::Letter(letter.id);
        self.publish(kind, topic, QoS::AtLeastOnce, false, letter.payload)
    }

    pub(super) fn send_loose(&mut self, loose: Loose) -> Result<(), Outcome> {
        let fits = loose.payload.len() + HEADER_BYTES_MAX <= OUTGOING_BYTES_MAX;
        if !fits || self.flight.loose() >= LOOSE_MAX || !self.is_sending() {
            Counters::add(&self.desk.counters.dropped);
            return Ok(());
        }
        let qos = match loose.delivery {
            Delivery::AtMostOnce => QoS::AtMostOnce,
            Delivery::AtLeastOnce => QoS::AtLeastOnce,
        };
        let topic = topics::topic(&self.settings.device, loose.channel);
        self.publish(Kind::Loose, topic, qos, false, loose.payload)
    }

    pub(super) fn ack(&mut self, message: &Publish) -> Result<(), Outcome> {
        let sent = self.client.try_ack(message);
        sent.map_err(|_| self.lost(Trouble::Full))
    }

    pub(super) fn say(&mut self, status: StatusName, kind: Kind) -> Result<(), Outcome> {
        let topic = topics::topic(&self.settings.device, topics::STATUS);
        let payload = (self.desk.status)(status);
        self.publish(kind, topic, QoS::AtLeastOnce, true, payload)
    }

    pub(super) fn publish(
        &mut self,
        kind: Kind,
        topic: String,
        qos: QoS,
        retain: bool,
        payload: Vec<u8>,
    ) -> Result<(), Outcome> {
        let handed = self.client.try_publish(topic, qos, retain, payload);
        handed.map_err(|_| self.lost(Trouble::Full))?;
        self.flight.queue(kind);
        Ok(())
    }
}
