//! How a connection ends: the messages that are left, then `stopped`, then DISCONNECT, each within its time limit.

use super::Connection;
use crate::messages::StatusName;
use crate::mqtt::error::MqttError;
use crate::mqtt::inflight::MessageKind;
use std::time::Duration;
use tokio::time::Instant;

/// Time limits: for the messages that are left, for the PUBACK of `stopped`, for the broker to close the connection.
const FLUSH: Duration = Duration::from_secs(2);
const STOPPED_ACK: Duration = Duration::from_secs(2);
const DISCONNECT: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(in crate::mqtt) enum ConnectionEnd {
    /// The client was stopped.
    Stopped,
    /// The settings have changed.
    Changed,
    /// It was lost.
    Lost {
        /// The reason.
        error: MqttError,
        /// How long it lasted.
        connected_for: Duration,
    },
}

/// Serving, or how far the shutdown is. The shutdown's phases hold their deadline and the reason.
pub(super) enum ConnectionPhase {
    Serving,
    /// Outbox messages and latest values are published.
    Flushing(Instant, CloseReason),
    /// `stopped` is published and not acknowledged yet.
    AwaitStoppedAck(Instant, CloseReason),
    /// DISCONNECT is sent.
    Disconnecting(Instant, CloseReason),
}

/// Why a connection is closed.
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
            // The latest value, perhaps not noticed yet, does not wait for its interval.
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
                    self.phase = ConnectionPhase::AwaitStoppedAck(now + STOPPED_ACK, end);
                }
            }
            ConnectionPhase::AwaitStoppedAck(until, end) if until <= now => self.disconnect(end)?,
            ConnectionPhase::Disconnecting(until, end) if until <= now => return Err(end.into()),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn disconnect(&mut self, end: CloseReason) -> Result<(), ConnectionEnd> {
        self.phase = ConnectionPhase::Disconnecting(Instant::now() + DISCONNECT, end);
        self.client.try_disconnect().map_err(|_| end.into())
    }

    pub(super) fn is_sending(&self) -> bool {
        matches!(
            self.phase,
            ConnectionPhase::Serving | ConnectionPhase::Flushing(..)
        )
    }

    /// The end of a connection with `error`. During the shutdown a lost connection counts as a closed one.
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
