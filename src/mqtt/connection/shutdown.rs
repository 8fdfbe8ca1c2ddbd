//! How a connection ends: what is left is said, then `stopped`, then DISCONNECT, each within its time.

use super::Connection;
use crate::messages::StatusName;
use crate::mqtt::error::MqttError;
use crate::mqtt::inflight::MessageKind;
use std::time::Duration;
use tokio::time::Instant;

/// At the end: for messages and the latest of all channels, for the farewell's PUBACK, for the broker to hang up.
const FLUSH: Duration = Duration::from_secs(2);
const PART: Duration = Duration::from_secs(2);
const LEAVE: Duration = Duration::from_secs(1);

/// How it ended.
pub(in crate::mqtt) enum ConnectionEnd {
    /// As the caller wanted.
    Stopped,
    /// The settings are others now.
    Changed,
    /// By itself.
    Lost {
        /// Why.
        error: MqttError,
        /// How long there was a connection.
        connected_for: Duration,
    },
}

/// How far the end is.
pub(super) enum ConnectionPhase {
    Serving,
    /// Letters and latest values go out, until this at the latest; then, as in the following, the given end.
    Flushing(Instant, CloseReason),
    /// `stopped` is said and waits for its PUBACK.
    AwaitStoppedAck(Instant, CloseReason),
    /// DISCONNECT is said.
    Disconnecting(Instant, CloseReason),
}

/// An end that was asked for.
#[derive(Clone, Copy)]
pub(super) enum CloseReason {
    Stop,
    Change,
}

impl From<CloseReason> for ConnectionEnd {
    fn from(end: CloseReason) -> Self {
        match end {
            CloseReason::Stop => Self::Stopped,
            CloseReason::Change => Self::Changed,
        }
    }
}

impl Connection<'_> {
    pub(super) fn begin_shutdown(&mut self, end: CloseReason) {
        let now = Instant::now();
        self.outbox.notify();
        self.reassert_online_at = None;
        self.reconnect_at = None;
        for channel in &mut self.state.channels {
            // The last word, perhaps not noticed yet, is not to wait for its turn.
            channel.dirty |= channel.value.has_changed().unwrap_or(true);
            channel.next = now;
        }
        self.phase = ConnectionPhase::Flushing(now + FLUSH, end);
    }

    pub(super) fn advance_shutdown(&mut self, now: Instant) -> Result<(), ConnectionEnd> {
        match self.phase {
            ConnectionPhase::Flushing(until, end) => {
                let idle = self.outbox.is_idle()
                    && self.commands.is_idle()
                    && self.in_flight.is_empty()
                    && !self.state.channels.iter().any(|c| c.dirty);
                if idle || until <= now {
                    self.publish_status(StatusName::Stopped, MessageKind::Stopped)?;
                    self.phase = ConnectionPhase::AwaitStoppedAck(now + PART, end);
                }
            }
            ConnectionPhase::AwaitStoppedAck(until, end) if until <= now => self.disconnect(end)?,
            ConnectionPhase::Disconnecting(until, end) if until <= now => return Err(end.into()),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn disconnect(&mut self, end: CloseReason) -> Result<(), ConnectionEnd> {
        self.phase = ConnectionPhase::Disconnecting(Instant::now() + LEAVE, end);
        self.client.try_disconnect().map_err(|_| end.into())
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(
            self.phase,
            ConnectionPhase::Serving | ConnectionPhase::Flushing(..)
        )
    }

    /// While leaving, a broken line is as good as a closed one.
    pub(super) fn lost(&self, error: MqttError) -> ConnectionEnd {
        match self.phase {
            ConnectionPhase::Serving => ConnectionEnd::Lost {
                error,
                connected_for: self.since.elapsed(),
            },
            ConnectionPhase::Flushing(_, end)
            | ConnectionPhase::AwaitStoppedAck(_, end)
            | ConnectionPhase::Disconnecting(_, end) => end.into(),
        }
    }
}
